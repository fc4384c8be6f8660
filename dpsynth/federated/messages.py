"""What travels between a lead and hospitals: questions and answers as data with a version; no message holds code.

The order of a run, which `dpsynth.federated.lead.Lead` follows and `dpsynth.federated.hospital.Hospital` insists on:

====== ============= ============================================== ==================================================
number kind          the lead sends                                 a hospital answers
====== ============= ============================================== ==================================================
0      ``open``      nothing beyond the study's digest              its 64 bytes of public keys, 32 fresh ones, a flag
1      ``begin``     every hospital's answer to ``open``            nothing: it has checked the keys and can mask
2 ...  `SUMS`        columns, maps, noise, the noisy sums so far    masked whole numbers modulo 2^64
...    ``train``     the noisy sums so far                          nothing: it has the network, of its own program
...    ``step``      weights                                        masked whole numbers modulo 2^64
last   ``end``       nothing                                        nothing: its ledger says what was spent
====== ============= ============================================== ==================================================

For whoever carries the bytes (`Transport`), both are opaque: ``Hospital.answer(question) -> answer`` is called with
what the lead sent, and the lead gets back the bytes of each hospital by its name in the study. An answer is idempotent
by the number of its question: the same bytes asked again get the same bytes back. `peek` reads study and number of
either.

A message is ``MAGIC``, a version byte, the length of the header, the header (JSON in UTF-8), and the raw little-endian
bytes of the arrays that the header names. Whatever is longer than `MAX_HEADER` and `MAX_BODY`, of another version, with
an unknown kind, field or type of number, or with bytes too many or too few, is refused before anything is made of it.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError

MAGIC = b"DPSF"
VERSION = 1
MAX_HEADER = 2**22
MAX_BODY = 2**29
MAX_ARRAYS = 2**16
MAX_NUMBER = 2**31
DTYPES = ("<u8", "<i8", "<f8", "<f4", "|u1")
"""The types of numbers that a message may hold."""

Kind = Literal[
    "open", "begin", "counts", "interactions", "image_sums", "image_products", "images_per_row", "train", "step", "end"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
SUMS: tuple[Kind, ...] = ("counts", "interactions", "image_sums", "image_products", "images_per_row")
"""Questions that are paid one by one; each is answered by a sum over patients."""
FACTS: dict[Kind, frozenset[str]] = {
    "open": frozenset(),
    "begin": frozenset({"hospitals"}),
    "counts": frozenset({"heard", "columns", "sigmas"}),
    "interactions": frozenset({"heard", "columns", "sigmas"}),
    "image_sums": frozenset({"heard", "columns", "sigmas", "features"}),
    "image_products": frozenset({"heard", "columns", "sigmas", "features"}),
    "images_per_row": frozenset({"heard", "sigmas"}),
    "train": frozenset({"heard"}),
    "step": frozenset({"step", "names"}),
    "end": frozenset(),
}
"""The fields of each kind, beside its arrays; none may be missing and none may be added."""


class Transport(Protocol):
    """What carries a question to every hospital of a study and brings their answers back."""

    def ask(self, question: bytes, *, seconds: float) -> dict[str, bytes]:
        """Return the answers that came within so many seconds, by the hospital's name in the study.

        Parameters
        ----------
        question
            `Question.to_bytes`; the same for every hospital.
        seconds
            How long to wait for the last of them.

        Returns
        -------
        dict of str to bytes
            A hospital that did not answer in time, or left, is not in it; the lead then ends the question and names it.
        """
        ...


@dataclass(frozen=True, eq=False)
class Question:
    """What the lead asks of every hospital.

    Parameters
    ----------
    study
        `dpsynth.federated.study.Study.digest`: 64 hexadecimal digits.
    number
        From 0, one more for each question, also for one that is asked anew.
    kind
        One of `KINDS`.
    facts
        Exactly the fields of `FACTS`, JSON-able.
    arrays
        Numbers that belong to it: maps of columns, tables of features, weights; then the noisy sums so far, of which
        the field ``heard`` says how many arrays each answer had (-1: a single one).

    Raises
    ------
    InputError
        When a field is missing, unknown or out of range.

    Examples
    --------
    >>> facts = {"columns": [["sex"]], "sigmas": [9.5], "heard": []}
    >>> asked = Question("0" * 64, 2, "counts", facts, (np.array([0, 1]),))
    >>> again = Question.from_bytes(asked.to_bytes())
    >>> again.kind, again.facts["columns"], again.arrays[0].tolist()
    ('counts', [['sex']], [0, 1])
    """

    study: str
    number: int
    kind: Kind
    facts: Mapping[str, Any] = field(default_factory=dict)
    arrays: Sequence[NDArray[Any]] = ()

    def __post_init__(self) -> None:
        _check_head(self.study, self.number)
        if self.kind not in KINDS:
            raise InputError(f"question: found the kind {str(self.kind)[:40]!r}, expected one of {', '.join(KINDS)}.")
        if not isinstance(self.facts, Mapping) or set(self.facts) != FACTS[self.kind]:
            raise InputError(f"question {self.kind!r}: expected exactly the fields {sorted(FACTS[self.kind])}.")

    @property
    def parts(self) -> "tuple[list[NDArray[Any]], list[Any]]":
        """The question's own arrays, and the noisy sums so far, as a lead's session had them.

        Raises
        ------
        InputError
            When arrays are missing.
        """
        lengths, arrays = self.facts.get("heard", []), list(self.arrays)
        if not (isinstance(lengths, list) and all(_is_length(n, len(arrays)) for n in lengths)):
            raise InputError("question: expected how many arrays each earlier answer has.")
        first = len(arrays) - sum(map(abs, lengths))
        if first < 0:
            raise InputError("question: an earlier answer is missing.")
        place, heard = first, []
        for length in lengths:
            part = arrays[place : place + abs(length)]
            heard.append(part[0] if length < 0 else part)
            place += abs(length)
        return arrays[:first], heard

    def to_bytes(self) -> bytes:
        """Return the message."""
        header = {"study": self.study, "number": self.number, "kind": self.kind, "facts": dict(self.facts)}
        return _packed({"type": "question", **header}, self.arrays)

    @classmethod
    def from_bytes(cls, message: bytes) -> "Question":
        """Read what `to_bytes` wrote; `InputError` when it is anything else."""
        header, arrays = _unpacked(message, "question", {"study", "number", "kind", "facts"})
        return cls(header["study"], header["number"], header["kind"], header["facts"], arrays)


@dataclass(frozen=True, eq=False)
class Answer:
    """What one hospital answers: masked whole numbers, or why it does not.

    Parameters
    ----------
    study, number
        Of the question.
    hospital
        Its name in the study.
    question
        `digest` of the question's bytes.
    arrays
        uint64, masked.
    refusal
        Why nothing is answered, in words without any patient's value; empty where something is.
    """

    study: str
    number: int
    hospital: str
    question: str
    arrays: Sequence[NDArray[Any]] = ()
    refusal: str = ""

    def __post_init__(self) -> None:
        _check_head(self.study, self.number)
        if not all(
            isinstance(text, str) and len(text) <= 2000 for text in (self.hospital, self.question, self.refusal)
        ):
            raise InputError("answer: expected hospital, question and refusal as short texts.")
        if self.refusal and len(self.arrays):
            raise InputError("answer: a refusal holds no numbers.")
        if any(np.asarray(array).dtype.str not in ("<u8", "|u1") for array in self.arrays):
            raise InputError("answer: expected whole numbers modulo 2^64.")

    def to_bytes(self) -> bytes:
        """Return the message."""
        header = {"study": self.study, "number": self.number, "hospital": self.hospital, "question": self.question}
        return _packed({"type": "answer", **header, "refusal": self.refusal}, self.arrays)

    @classmethod
    def from_bytes(cls, message: bytes) -> "Answer":
        """Read what `to_bytes` wrote; `InputError` when it is anything else."""
        header, arrays = _unpacked(message, "answer", {"study", "number", "hospital", "question", "refusal"})
        return cls(arrays=arrays, **{name: header[name] for name in header if name != "type"})


def digest(message: bytes) -> str:
    """Return SHA-256 of a message in hexadecimal digits."""
    return hashlib.sha256(message).hexdigest()


def peek(message: bytes) -> tuple[str, int]:
    """Return study and number of a question or an answer; `InputError` when it is neither."""
    header, _ = _header(message)
    _check_head(header.get("study"), header.get("number"))
    return header["study"], header["number"]


def fingerprint(public_keys: bytes) -> str:
    """Return how a hospital's public keys are read out over the telephone.

    Parameters
    ----------
    public_keys
        64 bytes: the Ed25519 key that signs messages, then the X25519 key that masks are made with, both raw.

    Returns
    -------
    str
        The first 160 bits of SHA-256 in groups of four hexadecimal digits.

    Raises
    ------
    InputError
        When there are not 64 bytes.

    Examples
    --------
    >>> fingerprint(bytes(64))[:14]
    '25b6 4119 9e00'
    """
    if len(public_keys) != 64:
        raise InputError(f"key: found {len(public_keys)} bytes, expected 64: a signing key and a masking key.")
    digits = hashlib.sha256(b"dpsynth hospital key 1" + public_keys).hexdigest()[:40]
    return " ".join(digits[i : i + 4] for i in range(0, 40, 4))


def lengths_of(heard: Sequence[Any]) -> tuple[list[int], list[NDArray[Any]]]:
    """Return noisy sums as a message has them: how many arrays each has (-1: a single one), and all arrays."""
    lengths = [-1 if isinstance(answer, np.ndarray) else len(answer) for answer in heard]
    arrays = [array for answer in heard for array in ([answer] if isinstance(answer, np.ndarray) else answer)]
    return lengths, [np.asarray(array) for array in arrays]


def _is_length(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -1 <= value <= most


def _check_head(study: Any, number: Any) -> None:
    if not (isinstance(study, str) and len(study) == 64 and set(study) <= set("0123456789abcdef")):
        raise InputError("message: expected a study's digest of 64 hexadecimal digits.")
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < MAX_NUMBER:
        raise InputError(f"message: expected a question number from 0 to {MAX_NUMBER - 1}.")


def _packed(header: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> bytes:
    plain = [_little(array) for array in arrays]
    shapes = [{"dtype": array.dtype.str, "shape": list(array.shape)} for array in plain]
    text = json.dumps({**header, "arrays": shapes}, allow_nan=False, separators=(",", ":")).encode()
    body = b"".join(array.tobytes() for array in plain)
    if len(text) > MAX_HEADER or len(body) > MAX_BODY:
        raise InputError(
            f"message: it has {len(text) + len(body):,} bytes, more than {MAX_BODY:,}; ask about fewer or coarser "
            "columns at once."
        )
    return MAGIC + struct.pack("<BI", VERSION, len(text)) + text + body


def _little(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in the byte order and one of the types of a message."""
    array = np.asarray(array, order="C")
    kind = "<i8" if array.dtype.kind == "i" else array.dtype.newbyteorder("<").str
    if kind not in DTYPES:
        raise InputError(f"message: found numbers of type {array.dtype}, expected one of {', '.join(DTYPES)}.")
    return array.astype(kind, copy=False)


def _header(message: bytes) -> tuple[dict[str, Any], int]:
    """Return the header and where the body begins."""
    start = len(MAGIC) + 5
    if len(message) < start or message[: len(MAGIC)] != MAGIC:
        raise InputError("message: this is no message of a dpsynth federation.")
    version, length = struct.unpack("<BI", message[len(MAGIC) : start])
    if version != VERSION:
        raise InputError(f"message: found version {version}, expected {VERSION}; use the same dpsynth everywhere.")
    if length > MAX_HEADER or len(message) > start + length + MAX_BODY or len(message) < start + length:
        raise InputError("message: it is cut off or too long.")
    try:
        header = json.loads(message[start : start + length].decode())
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise InputError("message: its header is not JSON.") from None
    if not isinstance(header, dict):
        raise InputError("message: its header is not an object.")
    return header, start + length


def _unpacked(message: bytes, kind: str, fields: set[str]) -> tuple[dict[str, Any], tuple[NDArray[Any], ...]]:
    header, place = _header(message)
    if header.get("type") != kind or set(header) != {"type", "arrays", *fields}:
        raise InputError(f"message: expected the fields of {kind} and no others.")
    shapes = header.pop("arrays")
    if not isinstance(shapes, list) or len(shapes) > MAX_ARRAYS:
        raise InputError("message: expected a list of arrays.")
    arrays = []
    for facts in shapes:
        dtype, shape = _checked_shape(facts)
        size = math.prod(shape) * dtype.itemsize
        if size > len(message) - place:
            raise InputError("message: an array is cut off.")
        arrays.append(np.frombuffer(message, dtype, math.prod(shape), place).reshape(shape))
        place += size
    if place != len(message):
        raise InputError("message: there are bytes that no array has.")
    return header, tuple(arrays)


def _checked_shape(facts: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    if not (isinstance(facts, dict) and set(facts) == {"dtype", "shape"} and facts["dtype"] in DTYPES):
        raise InputError(f"message: expected arrays of the types {', '.join(DTYPES)}.")
    shape = facts["shape"]
    if not (isinstance(shape, list) and len(shape) <= 32):
        raise InputError("message: expected the shape of an array.")
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= MAX_BODY for n in shape):
        raise InputError("message: expected the shape of an array.")
    return np.dtype(facts["dtype"]), tuple(shape)
