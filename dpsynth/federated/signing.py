"""Messages that are signed: who says what, to whom, in which study, to which question, and when.

TLS alone does not do: a company's proxy that inspects connections ends TLS and opens one of its own, so neither side
sees the other's certificate. So each message, both ways, carries a head that is signed with the sender's pinned Ed25519
key. The head names study, kind, question, sender, receiver, nonce, time, and the length and SHA-256 of the body.

What is refused: a head that is malformed, a sender that is not in the study, a signature of another key, another study
or receiver, a time out of the window, a nonce that was seen before, a body of other length or content. A reply names
the nonce that it replies to, so an old reply never stands for a new one, whatever the clocks say.

**Privacy contract.** Heads hold no patient's value; a body is opaque here. What a body holds is uniform to all but the
sum (see masks), so a reader of the whole traffic learns what the lead learns.
"""

import dataclasses
import hashlib
import json
import secrets
import struct
import time
from collections.abc import Callable
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dpsynth.errors import DpsynthError
from dpsynth.federated.keys import PrivateKeys, PublicKeys

__all__ = [
    "LARGEST_HEAD",
    "Guard",
    "Head",
    "MessageRefused",
    "TransportError",
    "head_length",
    "new_nonce",
    "sign",
]

LARGEST_HEAD = 4096
WINDOW = 300.0
"""Seconds that two clocks may differ, the way of a message included; Kerberos allows as much."""
_MAGIC = b"DPS1"
_START = struct.Struct(">4sI")
_SIGNATURE = 64
_DOMAIN = b"dpsynth message 1\n"
_MANY = 100_000
"""Nonces that are remembered of one sender; ours sends one in some seconds."""
_HEX = frozenset("0123456789abcdef")


class TransportError(DpsynthError, OSError):
    """The lead and a hospital do not reach each other, or one of them has left."""

    exit_code = 1


class MessageRefused(TransportError):  # noqa: N818  (what happened to the message)
    """A message that is not believed.

    Parameters
    ----------
    code
        One word for a program.
    message
        For a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True)
class Head:
    """The signed head of a message.

    Parameters
    ----------
    study
        SHA-256 of the agreed study file, hexadecimal.
    kind
        ``hello``, ``poll``, ``answer``, ... and for replies ``welcome``, ``question``, ``wait``, ...
    question
        Number of the question that it is about; 0 where it is about none.
    sender, receiver
        Names in the study file.
    nonce
        Random, 32 hexadecimal digits.
    time
        Milliseconds since 1970 at the sender's clock.
    process
        Random for each process, so that two with one key are told apart.
    relay
        Random for each start of the relay; empty until it is known.
    reply_to
        The nonce of the message that this one replies to; empty where it is none.
    size, digest
        Length and SHA-256 of the body.
    """

    study: str
    kind: str
    question: int
    sender: str
    receiver: str
    nonce: str
    time: int
    process: str
    relay: str
    reply_to: str
    size: int
    digest: str

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a head.

        Raises
        ------
        MessageRefused
            If it is not JSON, has other fields or fields of another form.
        """
        try:
            fields = json.loads(raw)
            head = cls(**fields)
            head.check_form()
        except (ValueError, TypeError, RecursionError):
            raise MessageRefused("malformed", "a message is malformed; is the other side of another version?") from None
        return head

    def check_form(self) -> None:
        """Raise `ValueError` where a field is of another type, length or alphabet."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not field.type or (field.type is int and not 0 <= value < 1 << 62):
                raise ValueError(field.name)
        if not (len(self.nonce) == 32 and len(self.digest) == len(self.study) == 64):
            raise ValueError("length")
        if not set(self.nonce + self.digest + self.study + self.process + self.relay + self.reply_to) <= _HEX:
            raise ValueError("hexadecimal")


def new_nonce() -> str:
    """Return 128 random bits as hexadecimal digits."""
    return secrets.token_hex(16)


def sign(
    keys: PrivateKeys,
    *,
    study: str,
    kind: str,
    sender: str,
    receiver: str,
    body: bytes = b"",
    question: int = 0,
    process: str = "",
    relay: str = "",
    reply_to: str = "",
    size: int | None = None,
    digest: str | None = None,
    clock: Callable[[], float] = time.time,
) -> tuple[Head, bytes]:
    """Return a head and the bytes that go before the body: mark, length, head, signature.

    Parameters
    ----------
    keys
        The sender's.
    study, kind, sender, receiver, question, process, relay, reply_to
        As in `Head`.
    body
        The body where it is small; of one on disk give `size` and `digest` instead.
    clock
        Seconds since 1970.
    """
    head = Head(
        study=study,
        kind=kind,
        question=question,
        sender=sender,
        receiver=receiver,
        nonce=new_nonce(),
        time=int(clock() * 1000),
        process=process,
        relay=relay,
        reply_to=reply_to,
        size=len(body) if size is None else size,
        digest=hashlib.sha256(body).hexdigest() if digest is None else digest,
    )
    raw = json.dumps(dataclasses.asdict(head), sort_keys=True, separators=(",", ":")).encode()
    return head, _START.pack(_MAGIC, len(raw)) + raw + keys.signing.sign(_DOMAIN + raw)


def head_length(start: bytes) -> int:
    """Return how many bytes of head and signature follow the first eight bytes of a message.

    Raises
    ------
    MessageRefused
        If the bytes begin no message of ours, or the head is too long.
    """
    if len(start) != _START.size:
        raise MessageRefused("malformed", "a message is cut short.")
    magic, length = _START.unpack(start)
    if magic != _MAGIC:
        raise MessageRefused("malformed", "this is no message of dpsynth; a proxy on the way may have written it.")
    if not 0 < length <= LARGEST_HEAD:
        raise MessageRefused("malformed", f"the head of a message has {length} bytes, expected at most {LARGEST_HEAD}.")
    return int(length) + _SIGNATURE


class Guard:
    """Believes messages of a study, of pinned senders, once each.

    Parameters
    ----------
    study
        SHA-256 of the study file, hexadecimal.
    name
        Who reads; messages to others are refused.
    window
        Seconds by which a message's time may differ from the clock here.
    clock
        Seconds since 1970.
    """

    def __init__(
        self,
        study: str,
        name: str,
        *,
        window: float = WINDOW,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._study = study
        self._name = name
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._window = window
        self._clock = clock
        self._seen: dict[str, dict[str, float]] = {}

    def pin(self, name: str, keys: PublicKeys) -> None:
        """Believe messages of a sender that are signed with its key, which was compared with its fingerprint."""
        self._keys[name] = Ed25519PublicKey.from_public_bytes(keys.signing)
        self._seen.setdefault(name, {})

    def open(self, raw: bytes, *, reply_to: str = "") -> Head:
        """Return the head of a message that is signed and believed: `signed`, then `check`."""
        head = self.signed(raw)
        self.check(head, reply_to=reply_to)
        return head

    def check(self, head: Head, *, reply_to: str = "") -> None:
        """Refuse a signed message that belongs elsewhere, is of another time, or came before.

        Parameters
        ----------
        head
            As `signed` returned it.
        reply_to
            The nonce of the message that this one must reply to; empty where it is no reply.

        Raises
        ------
        MessageRefused
            With the code ``study``, ``receiver``, ``reply``, ``stale`` or ``replayed``. What is refused is not
            remembered.
        """
        self._check_place(head, reply_to)
        self._check_time(head)
        self._check_once(head)

    def signed(self, raw: bytes) -> Head:
        """Return the head of a message that its sender did sign, whenever and to whomever.

        Parameters
        ----------
        raw
            Head and signature, without the eight bytes before them.

        Raises
        ------
        MessageRefused
            With the code ``malformed``, ``unknown`` or ``forged``.
        """
        text, signature = raw[:-_SIGNATURE], raw[-_SIGNATURE:]
        head = Head.parse(text)
        key = self._keys.get(head.sender)
        if key is None:
            raise MessageRefused(
                "unknown", "the sender of a message is not in the study file, or has not shown its keys."
            )
        try:
            key.verify(signature, _DOMAIN + text)
        except InvalidSignature:
            raise MessageRefused(
                "forged",
                f"a message says that it is from {head.sender}, and is not signed with the key that the study file "
                f"names for {head.sender}. Compare fingerprints: `dpsynth federate key --show hospital.key`.",
            ) from None
        return head

    def _check_place(self, head: Head, reply_to: str) -> None:
        if head.study != self._study:
            raise MessageRefused(
                "study",
                f"the study file of {head.sender} is not the one of {self._name} (it begins {head.study[:12]} there, "
                f"{self._study[:12]} here). Send the same file to everybody and begin again.",
            )
        if head.receiver != self._name:
            raise MessageRefused("receiver", f"a message of {head.sender} is addressed to another than {self._name}.")
        if head.reply_to != reply_to:
            raise MessageRefused("reply", f"a message of {head.sender} replies to something that was not asked.")

    def _check_time(self, head: Head) -> None:
        difference = head.time / 1000 - self._clock()
        if abs(difference) > self._window:
            way = "ahead of" if difference > 0 else "behind"
            raise MessageRefused(
                "stale",
                f"the clock of {head.sender} is {abs(difference):.0f} s {way} the one of {self._name}, or its message "
                f"was held up; {self._window:.0f} s are allowed. Set both clocks (NTP).",
            )

    def _check_once(self, head: Head) -> None:
        seen = self._seen[head.sender]
        if head.nonce in seen:
            raise MessageRefused("replayed", f"a message of {head.sender} came a second time.")
        if len(seen) >= _MANY:
            raise MessageRefused("replayed", f"{head.sender} sends too many messages.")
        seen[head.nonce] = self._clock()
        self._forget(seen)

    def _forget(self, seen: dict[str, float]) -> None:
        """Forget nonces of messages that would be stale by now: nonces stand in the order in which they came."""
        for nonce, when in list(seen.items())[:2]:
            # a message may be dated one window ahead and is then good for two
            if self._clock() - when > 2 * self._window:
                del seen[nonce]
