"""Proxies as hospitals have them: one that tunnels, one that wants a login, one that inspects TLS."""

import base64
import contextlib
import datetime as dt
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Proxy:
    """An HTTP proxy on a free port that knows CONNECT alone; open it with ``with``.

    Parameters
    ----------
    login
        ``user:password`` that it wants.
    status
        What it replies to every CONNECT.
    inspects
        Folder for an authority of its own: it ends TLS and opens one of its own to the other side.
    change
        What it makes of the bytes that an inspected hospital sends.
    """

    def __init__(
        self,
        *,
        login: str = "",
        status: int = 200,
        inspects: Path | None = None,
        change: Callable[[bytes], bytes] = lambda sent: sent,
    ) -> None:
        self._login = base64.b64encode(login.encode()) if login else b""
        self._status, self._change = status, change
        self._server = socket.create_server(("127.0.0.1", 0))
        self._tls = self._ours = None
        self.authority = inspects and inspects / "authority.pem"
        if inspects is not None:
            self._tls = authority_of(inspects)
            self._ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._ours.check_hostname, self._ours.verify_mode = False, ssl.CERT_NONE
        self.tunnels = 0
        self._lines: list[socket.socket] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for line in self._lines:
            close(line)

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        self._lines.append(line)
        try:
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += line.recv(4096)
            status = self._status if not self._login or self._login in asked else 407
            line.sendall(f"HTTP/1.1 {status} -\r\n\r\n".encode())
            if status != 200:
                close(line)
                return
            self.tunnels += 1
            host, port = asked.split()[1].decode().rsplit(":", 1)
            there = socket.create_connection((host, int(port)))
            self._lines.append(there)
            if self._tls is not None and self._ours is not None:
                line, there = self._tls.wrap_socket(line, server_side=True), self._ours.wrap_socket(there)
            self._lines += [line, there]
            carry(line, there, self._change)
        except OSError:
            close(line)


def carry(here: socket.socket, there: socket.socket, change: Callable[[bytes], bytes]) -> None:
    """Carry bytes both ways until one end closes; in one thread, because a TLS socket is not made for two."""
    try:
        while True:
            waiting = [line for line in (here, there) if isinstance(line, ssl.SSLSocket) and line.pending()]
            for line in waiting or select.select([here, there], [], [], 1.0)[0]:
                line.settimeout(0.01)  # a record of TLS may hold no bytes for us
                with contextlib.suppress(TimeoutError):
                    piece = line.recv(65536)
                    if not piece:
                        return
                    target = there if line is here else here
                    target.settimeout(10.0)
                    target.sendall(change(piece) if line is here else piece)
    finally:
        close(here)
        close(there)


def close(line: socket.socket) -> None:
    """Close a socket at both ends."""
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


def authority_of(folder: Path) -> ssl.SSLContext:
    """Make an authority as a house has one, and the context of its proxy; ``authority.pem`` is what computers trust."""
    key, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hospital's authority")])
    now = dt.datetime.now(dt.UTC)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(name).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=1))
        return made.not_valid_after(now + dt.timedelta(days=1))

    root = builder(name, key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    shown = builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")]), own.public_key())
    shown = shown.add_extension(place, critical=False)
    pem = serialization.Encoding.PEM
    (folder / "authority.pem").write_bytes(root.sign(key, hashes.SHA256()).public_bytes(pem))
    (folder / "shown.pem").write_bytes(
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + shown.sign(key, hashes.SHA256()).public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "shown.pem")
    return context
