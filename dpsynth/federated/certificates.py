"""TLS certificates that are pinned, and the TLS 1.3 contexts of the relay and of a hospital.

A certificate here is a box for one public key: self-signed, without an authority, known to the other side beforehand.
So nothing in it is looked up, no name of a host stands in it, and a hospital's computer may move. Each side trusts the
certificates of the study and no others: not those of the operating system, not those of a company.
"""

import datetime as dt
import secrets
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dpsynth.errors import InputError

__all__ = [
    "check_certificate",
    "greeting_context",
    "is_of",
    "make_certificate",
    "pinned_context",
    "server_context",
    "trust",
]

YEARS = 10
"""For how long a certificate is good; a study is over long before, and a key of a study can be made anew."""
_BACKDATED = dt.timedelta(days=2)
"""Clocks of hospitals differ: a certificate that is minutes old is good at a clock that is late."""


def make_certificate() -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """Make a TLS key on P-256 and a certificate that it signs itself.

    Returns
    -------
    tuple
        The private key, and the certificate as DER.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    # OpenSSL finds a trusted certificate by its name, so no two may have the same one
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"dpsynth {secrets.token_hex(16)}")])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + dt.timedelta(days=366 * YEARS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
    )
    certificate = builder.sign(key, hashes.SHA256())
    return key, certificate.public_bytes(serialization.Encoding.DER)


def _usage() -> x509.KeyUsage:
    """Return the uses of the key: it signs handshakes, and no other certificates."""
    names = (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(digital_signature=True, **dict.fromkeys(names, False))


def is_of(certificate: bytes, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether bytes are a certificate, and of this key."""
    try:
        return x509.load_der_x509_certificate(certificate).public_key() == key.public_key()
    except ValueError:
        return False


def check_certificate(certificate: bytes, owner: str) -> None:
    """Refuse bytes that are no certificate, and a certificate that has ended.

    Raises
    ------
    InputError
        With the name of its owner.
    """
    try:
        ends = x509.load_der_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        raise InputError(f"certificate of {owner}: is malformed; make new keys with `dpsynth federate key`.") from None
    if ends < dt.datetime.now(dt.UTC):
        raise InputError(
            f"certificate of {owner}: ended on {ends:%d %B %Y}, or the clock here is wrong. {owner} makes new keys "
            "with `dpsynth federate key`, and the study file names their fingerprint."
        )


def server_context(key: bytes, certificate: bytes) -> ssl.SSLContext:
    """Return the relay's TLS context: 1.3 alone; a certificate that a client shows must be one that `trust` named.

    Parameters
    ----------
    key
        The relay's private TLS key, PEM.
    certificate
        The relay's certificate, DER.

    Notes
    -----
    A first message, in which a hospital shows its public keys, comes without a certificate. The relay itself refuses
    every other message that does.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _present(context, key, certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def trust(context: ssl.SSLContext, certificate: bytes) -> None:
    """Let a context accept one more certificate, DER, in connections from now on."""
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(certificate))


def greeting_context(authority: Path | None = None) -> ssl.SSLContext:
    """Return a hospital's TLS context for its first message, which holds nothing but public keys.

    Parameters
    ----------
    authority
        PEM file with the authority of a proxy that inspects TLS. Without one the other side's certificate is not
        looked at yet: the signed reply names it, and the messages after it go to that one alone.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _load(context, authority)
    return context


def pinned_context(key: bytes, certificate: bytes, trusted: bytes | Path) -> ssl.SSLContext:
    """Return a hospital's TLS context: 1.3 alone, its own certificate shown, the lead's demanded.

    Parameters
    ----------
    key
        The hospital's private TLS key, PEM.
    certificate
        The hospital's certificate, DER.
    trusted
        The lead's certificate, DER; or a PEM file with the authority of a proxy that inspects TLS, which stands
        between the two.

    Raises
    ------
    InputError
        If the file holds no certificate.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    _present(context, key, certificate)
    if isinstance(trusted, bytes):
        context.check_hostname = False  # the certificate itself is known; a name in it would say less
        trust(context, trusted)
    else:
        _load(context, trusted)
    return context


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _present(context: ssl.SSLContext, key: bytes, certificate: bytes) -> None:
    """Let a context show a certificate; Python reads one, and its key, from a file alone."""
    with tempfile.TemporaryDirectory() as folder:  # its owner's alone, and short-lived
        path = Path(folder) / "tls.pem"
        path.touch(mode=0o600)
        path.write_bytes(key + ssl.DER_cert_to_PEM_cert(certificate).encode())
        context.load_cert_chain(path)


def _load(context: ssl.SSLContext, authority: Path) -> None:
    try:
        context.load_verify_locations(cafile=str(authority))
    except OSError:  # SSLError, for what is no certificate, is one
        raise InputError(f"{authority.name}: holds no certificate in PEM form, or cannot be read.") from None
