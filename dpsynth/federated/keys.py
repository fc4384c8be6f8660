"""Keys of a hospital or a lead: what is secret, what is handed on, and the fingerprint that is read over the telephone.

There are three pairs of keys in one file. **Ed25519** signs messages, **X25519** agrees with every other hospital on
the masks of answers, and **P-256** with a self-signed certificate is for TLS. The fingerprint, which stands in the
study file, is that of the first two (`dpsynth.federated.messages.fingerprint`); the certificate is signed with the
first. So who has compared fingerprints by telephone has pinned all three, and the public keys themselves may come over
any way, also through the lead: nobody can exchange one unseen.

**Privacy contract.** Nothing here is made of patients. The file can be read by its owner alone (mode 0600) and is
refused where others can read it.
"""

import base64
import contextlib
import dataclasses
import hmac
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from dpsynth.atomic import write_error
from dpsynth.errors import FileError, InputError
from dpsynth.federated.certificates import check_certificate, is_of, make_certificate
from dpsynth.federated.messages import fingerprint

__all__ = ["LARGEST_CARD", "PrivateKeys", "PublicKeys", "one_process", "same_fingerprint", "spoken"]

LARGEST_CARD = 4096
"""Bytes of public keys that are read of somebody who is not known yet."""
_TITLE = "dpsynth federation keys 1\n"
_KEY, _SIGNATURE = 32, 64
_LARGEST = 1 << 16
"""No file of keys is larger; what is larger is another file."""
_CERTIFICATE = b"dpsynth certificate 1\n"
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("alfa", "bravo", "charlie", "delta", "echo", "foxtrot"),
)
_SPELT = dict(zip("0123456789abcdef", _WORDS, strict=True))


@dataclasses.dataclass(frozen=True)
class PublicKeys:
    """The public keys of a hospital or a lead.

    Parameters
    ----------
    signing
        Ed25519 public key, 32 bytes.
    masking
        X25519 public key, 32 bytes.
    certificate
        TLS certificate, DER.
    endorsement
        Signature of the certificate with the Ed25519 key, 64 bytes.

    Examples
    --------
    >>> keys = PrivateKeys.make().public
    >>> PublicKeys.from_bytes(keys.to_bytes(), keys.fingerprint, "north") == keys
    True
    >>> len(keys.fingerprint.split(" ")), len(keys.both)
    (10, 64)
    """

    signing: bytes
    masking: bytes
    certificate: bytes
    endorsement: bytes

    @property
    def both(self) -> bytes:
        """The signing key and the masking key, 64 bytes."""
        return self.signing + self.masking

    @property
    def fingerprint(self) -> str:
        """Ten groups of four hexadecimal digits, as they stand in the study file."""
        return fingerprint(self.both)

    def to_bytes(self) -> bytes:
        """Return the keys for `from_bytes` to read."""
        return self.both + self.endorsement + self.certificate

    @classmethod
    def from_bytes(cls, raw: bytes, pinned: str, owner: str) -> Self:
        """Read public keys that came over any way, and believe them if they are those of a fingerprint.

        Parameters
        ----------
        raw
            As `to_bytes`.
        pinned
            The fingerprint in the study file.
        owner
            The name in the study file, for the message.

        Raises
        ------
        InputError
            If they are malformed, of another fingerprint, or the certificate is not signed with the signing key.
        """
        ends = (_KEY, 2 * _KEY, 2 * _KEY + _SIGNATURE)
        keys = cls(raw[: ends[0]], raw[ends[0] : ends[1]], raw[ends[2] : LARGEST_CARD], raw[ends[1] : ends[2]])
        if not ends[2] < len(raw) <= LARGEST_CARD:
            raise InputError(f"public keys of {owner}: are malformed; is the other side of another version of dpsynth?")
        if not same_fingerprint(keys.fingerprint, pinned):
            raise InputError(
                f"public keys of {owner}: have the fingerprint {keys.fingerprint}, but the study file names {pinned}. "
                f"Either {owner} uses another key file than the one whose fingerprint it read out, or somebody on the "
                "way has exchanged the keys. Nothing was sent. Compare fingerprints by telephone."
            )
        try:
            Ed25519PublicKey.from_public_bytes(keys.signing).verify(keys.endorsement, _CERTIFICATE + keys.certificate)
        except InvalidSignature:
            raise InputError(
                f"certificate of {owner}: is not signed with the key of {owner}; somebody on the way has exchanged it."
            ) from None
        check_certificate(keys.certificate, owner)
        return keys


@dataclasses.dataclass(frozen=True, repr=False)
class PrivateKeys:
    """The secret keys of a hospital or a lead; they stay on its computer.

    Parameters
    ----------
    signing
        Ed25519 private key.
    masking
        X25519 private key.
    tls
        P-256 private key.
    certificate
        The certificate of `tls`, DER.

    Examples
    --------
    >>> PrivateKeys.make()
    PrivateKeys(...)
    """

    signing: Ed25519PrivateKey
    masking: X25519PrivateKey
    tls: EllipticCurvePrivateKey
    certificate: bytes

    def __repr__(self) -> str:
        return "PrivateKeys(...)"

    def __reduce__(self) -> Any:
        raise TypeError("private keys are not pickled")

    @classmethod
    def make(cls) -> Self:
        """Draw new keys from the operating system's random numbers."""
        tls, certificate = make_certificate()
        return cls(Ed25519PrivateKey.generate(), X25519PrivateKey.generate(), tls, certificate)

    @property
    def public(self) -> PublicKeys:
        """What is handed to the others."""
        signing, masking = (key.public_key().public_bytes_raw() for key in (self.signing, self.masking))
        return PublicKeys(signing, masking, self.certificate, self.signing.sign(_CERTIFICATE + self.certificate))

    @property
    def tls_pem(self) -> bytes:
        """The TLS key as PEM, not encrypted."""
        return _pem(self.tls)

    def save(self, path: str | Path) -> None:
        """Write the keys to a new file that its owner alone can read.

        Raises
        ------
        FileError
            If the file is there already, or cannot be written.
        """
        path = Path(path)
        text = _TITLE.encode() + b"".join(_pem(key) for key in (self.signing, self.masking, self.tls))
        text += b"certificate: " + base64.b64encode(self.certificate) + b"\n"
        try:
            with _private(path) as file:
                os.write(file, text)
                os.fsync(file)
        except FileExistsError:
            raise FileError(
                f"{path.name}: is there already, and keys are never overwritten: a study that names their fingerprint "
                "needs them. Choose another file with --out, or see the fingerprint of this one with --show."
            ) from None
        except OSError as error:
            raise write_error(path, error) from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the keys of `save`.

        Raises
        ------
        InputError
            If the file cannot be read, is malformed, or can be read by others.
        """
        path = Path(path)
        text = _read(path)
        mode = path.stat().st_mode & 0o777
        if os.name == "posix" and mode & 0o077:
            raise InputError(
                f"{path.name}: can be read by others on this computer (mode {mode:03o}, expected 600). Run `chmod 600 "
                f"{path.name}`; if others may have read it, make new keys and read out the new fingerprint."
            )
        keys = cls._parse(text)
        if keys is None:
            raise InputError(f"{path.name}: is not a file of `dpsynth federate key`, or is cut short.")
        return keys

    @classmethod
    def _parse(cls, text: str) -> Self | None:
        blocks = re.findall(r"-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n", text)
        certificate = re.search(r"\ncertificate: ([A-Za-z0-9+/=]+)\n\Z", text)
        if not text.startswith(_TITLE) or len(blocks) != 3 or certificate is None:
            return None
        try:
            signing, masking, tls = (serialization.load_pem_private_key(block.encode(), None) for block in blocks)
            held = base64.b64decode(certificate[1], validate=True)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return None
        if not (
            isinstance(signing, Ed25519PrivateKey)
            and isinstance(masking, X25519PrivateKey)
            and isinstance(tls, EllipticCurvePrivateKey)
        ):
            return None
        return cls(signing, masking, tls, held) if is_of(held, tls) else None


@contextlib.contextmanager
def one_process(path: str | Path) -> Iterator[None]:
    """Let one process of this computer at a time use a file of keys.

    Two processes with one key would answer one study twice, each without knowing what the other one spent.

    Raises
    ------
    InputError
        If another process uses it.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    lock = FileLock(path.with_name(f"{path.name}.lock"), mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{path.name}: another process on this computer takes part with this key; two with one key are refused. "
            "Stop the other one, or wait for its end."
        ) from None
    except OSError as error:
        raise write_error(Path(lock.lock_file), error) from None
    try:
        yield
    finally:
        lock.release()


def same_fingerprint(first: str, second: str) -> bool:
    """Whether two fingerprints are the same, however they are spaced and capitalised."""
    plain = ["".join(letter for letter in text.lower() if letter.isalnum()) for text in (first, second)]
    return hmac.compare_digest(plain[0].encode(), plain[1].encode())


def spoken(digits: str) -> list[str]:
    """Return the words by which a fingerprint is read over the telephone, one text for each group.

    Parameters
    ----------
    digits
        As `PublicKeys.fingerprint`.

    Examples
    --------
    >>> spoken("25b6 4c19")
    ['two five bravo six', 'four charlie one nine']
    """
    return [" ".join(_SPELT[digit] for digit in group) for group in digits.split()]


def _pem(key: Ed25519PrivateKey | X25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@contextlib.contextmanager
def _private(path: Path) -> Iterator[int]:
    """Open a new file that was never, not for a moment, readable by others; a half-written one is taken away."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
        text = raw.decode("ascii") if len(raw) <= _LARGEST else ""
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror or 'unknown reason'}).") from None
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise InputError(f"{path.name}: is not a file of `dpsynth federate key`.")
    return text
