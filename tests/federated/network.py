"""A relay and hospitals over loopback with TLS, and a sender that can be told to misbehave."""

import contextlib
import http.client
import json
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from dpsynth.federated.certificates import greeting_context, pinned_context
from dpsynth.federated.client import Link
from dpsynth.federated.keys import PrivateKeys
from dpsynth.federated.messages import FACTS, Question
from dpsynth.federated.relay import Relay
from dpsynth.federated.signing import Head, sign
from dpsynth.federated.wire import PATH

STUDY = "5a" * 32
NAMES = ("north", "south", "west")
LEAD = PrivateKeys.make()
HOSPITALS = {name: PrivateKeys.make() for name in (*NAMES, "east", "mid")}
STRANGER = PrivateKeys.make()
SECONDS = 20.0
"""Long enough for a busy machine; no test waits for it."""


def question(number: int, numbers: Any = ()) -> bytes:
    """Return a question's bytes."""
    return Question(STUDY, number, "counts", {name: [] for name in sorted(FACTS["counts"])}, numbers).to_bytes()


def relay(names: tuple[str, ...] = NAMES, **options: Any) -> Relay:
    """Return a relay on a free port, in a hurry."""
    fingerprints = {name: HOSPITALS[name].public.fingerprint for name in names}
    settled = {"host": "127.0.0.1", "port": 0, "hold": 0.3, "silence": 5.0, "farewell": 0.2} | options
    return Relay(settled.pop("study", STUDY), settled.pop("keys", LEAD), fingerprints, **settled)


def link(port: int, name: str = "north", **options: Any) -> Link:
    """Return a hospital's link."""
    settled = {"address": f"https://127.0.0.1:{port}", "fingerprint": LEAD.public.fingerprint, "proxy": ""}
    settled |= {"patience": SECONDS, "beat": 0.1, "takeover": SECONDS} | options
    return Link(settled.pop("study", STUDY), settled.pop("keys", HOSPITALS.get(name, STRANGER)), name=name, **settled)


def enter(port: int, name: str = "north", **options: Any) -> None:
    """Let a hospital come to the relay, and go."""
    with link(port, name, **options):
        pass


class Serving(threading.Thread):
    """A hospital in a thread: what it was asked, what it heard of the end, and what it failed with."""

    def __init__(self, port: int, name: str, answer: Callable[[bytes], bytes] | None = None, **options: Any) -> None:
        super().__init__(daemon=True)
        self.asked: list[bytes] = []
        self.name_of, self.end, self.error = name, "", None
        self.answer = answer or (lambda asked: name.encode() + asked)
        self.link = link(port, name, **options)
        self.start()

    def run(self) -> None:
        """Serve until the end."""
        try:
            with self.link as line:
                self.end = line.serve(self._noted)
        except BaseException as error:  # what went wrong is for the test to look at
            self.error = error

    def _noted(self, asked: bytes) -> bytes:
        self.asked.append(asked)
        return self.answer(asked)


@contextlib.contextmanager
def network(names: tuple[str, ...] = NAMES, **options: Any) -> Iterator[tuple[Relay, dict[str, Serving]]]:
    """Give a relay with all its hospitals."""
    with relay(names, **options) as server:
        hospitals = {name: Serving(server.port, name) for name in names}
        server.wait_for_all(seconds=SECONDS)
        yield server, hospitals
    for hospital in hospitals.values():
        hospital.join(SECONDS)


def until(is_so: Callable[[], bool]) -> None:
    """Wait for a fact; fail when it does not come true."""
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


class Rogue:
    """Sends single messages that a program of ours would not."""

    def __init__(self, port: int, name: str = "north") -> None:
        self.port, self.name = port, name
        self.keys = HOSPITALS.get(name, STRANGER)
        self.relay = ""

    def greet(self) -> "Rogue":
        """Show the keys and learn the relay's number."""
        head, _ = self.send("hello", self.keys.public.to_bytes(), certificate=None)
        self.relay = head["relay"]
        return self

    def message(self, kind: str, body: bytes = b"", **fields: Any) -> bytes:
        """Return a signed message."""
        settled = {"study": STUDY, "sender": self.name, "receiver": "lead", "process": "0a" * 16, "relay": self.relay}
        _, prefix = sign(fields.pop("keys", self.keys), kind=kind, body=body, **(settled | fields))
        return prefix + body

    def send(self, kind: str, body: bytes = b"", *, certificate: Any = "own", **fields: Any) -> tuple[dict, dict]:
        """Send a message and return head and facts of the reply."""
        status, raw = self.post(self.message(kind, body, **fields), certificate=certificate)
        assert status == 200, (status, raw)
        return opened(raw)

    def refusal(self, kind: str, body: bytes = b"", **fields: Any) -> str:
        """Return the code with which a message is refused."""
        head, facts = self.send(kind, body, **fields)
        assert head["kind"] == "refused", head
        return str(facts["code"])

    def post(self, message: bytes, *, certificate: Any = "own", path: str = PATH) -> tuple[int, bytes]:
        """Send bytes and return status and bytes of the reply."""
        context = self._context(certificate)
        line = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=SECONDS)
        try:
            line.request("POST", path, body=message)
            response = line.getresponse()
            return response.status, response.read()
        finally:
            line.close()

    def _context(self, certificate: Any) -> ssl.SSLContext:
        if certificate is None:
            return greeting_context()
        keys = self.keys if certificate == "own" else certificate
        return pinned_context(keys.tls_pem, keys.certificate, LEAD.certificate)


def opened(raw: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return head and facts of a reply, not checked."""
    _, length = struct.unpack(">4sI", raw[:8])
    head, body = raw[8 : 8 + length], raw[8 + length + 64 :]
    return json.loads(head), json.loads(body) if body[:1] == b"{" else {}


def head_of(message: bytes) -> Head:
    """Return the head of a message, not checked."""
    length = struct.unpack(">4sI", message[:8])[1]
    return Head.parse(message[8 : 8 + length])
