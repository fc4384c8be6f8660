"""Messages are data: what is anything else, or too long, is refused before something is made of it."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpsynth.errors import InputError
from dpsynth.federated import messages
from dpsynth.federated.messages import MAGIC, MAX_HEADER, VERSION, Answer, Question, digest, fingerprint, peek

STUDY = "0" * 64
FACTS: dict[str, Any] = {"columns": [["sex"]], "sigmas": [9.5], "heard": []}
GOOD = Question(STUDY, 2, "counts", FACTS, [np.array([0, 1])]).to_bytes()


def packed(header: Any, body: bytes = b"", *, magic: bytes = MAGIC, version: int = VERSION) -> bytes:
    """Return bytes with a header of any kind."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return magic + struct.pack("<BI", version, len(text)) + text + body


def header_of(message: bytes) -> dict[str, Any]:
    """Return the header of a message."""
    (length,) = struct.unpack("<I", message[5:9])
    found: dict[str, Any] = json.loads(message[9 : 9 + length])
    return found


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.integers(0, 2**31 - 1))
def test_answers_come_back_as_they_were(numbers: list[int], number: int) -> None:
    """Any whole numbers modulo 2^64."""
    sent = Answer(STUDY, number, "north", digest(GOOD), [np.array(numbers, np.uint64)])
    came = Answer.from_bytes(sent.to_bytes())
    assert came.arrays[0].tolist() == numbers
    assert (came.number, came.hospital, came.question) == (number, "north", digest(GOOD))


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused(noise: bytes) -> None:
    """Never another error than ours."""
    for reader in (Question.from_bytes, Answer.from_bytes, peek):
        with pytest.raises(InputError):
            reader(noise)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_is_another_question(place: int, byte: int) -> None:
    """Never another error than ours, and never the same digest."""
    changed = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    try:
        Question.from_bytes(changed)
    except InputError:
        return
    assert changed == GOOD or digest(changed) != digest(GOOD)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "eval"}, "kind"),
        ({"facts": {**FACTS, "code": "x"}}, "exactly the fields"),
        ({"facts": {"columns": [["sex"]]}}, "exactly the fields"),
        ({"extra": 1}, "no others"),
        ({"number": -1}, "number"),
        ({"number": True}, "number"),
        ({"study": "../../etc"}, "digest"),
        ({"arrays": [{"dtype": "|O", "shape": [2]}]}, "types"),
        ({"arrays": [{"dtype": "<i8", "shape": [-1]}]}, "shape"),
        ({"arrays": [{"dtype": "<i8", "shape": [2**40]}]}, "shape"),
        ({"arrays": [{"dtype": "<i8", "shape": [3]}]}, "cut off"),
        ({"arrays": [{"dtype": "<i8", "shape": [1]}]}, "no array has"),
        ({"type": "answer"}, "fields of question"),
    ],
)
def test_a_header_that_says_something_else_is_refused(changes: dict[str, Any], words: str) -> None:
    """Unknown kinds, fields too many or too few, types that could run code, shapes that do not fit."""
    with pytest.raises(InputError, match=words):
        Question.from_bytes(packed({**header_of(GOOD), **changes}, GOOD[-16:]))


def test_another_version_and_what_is_too_long_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits hold for what is read and for what is sent."""
    with pytest.raises(InputError, match="version"):
        Question.from_bytes(packed(header_of(GOOD), version=2))
    with pytest.raises(InputError, match="too long"):
        Question.from_bytes(packed(b" " * (MAX_HEADER + 1)))
    with pytest.raises(InputError, match="not JSON"):
        Question.from_bytes(packed(b"[" * 100_000))
    monkeypatch.setattr(messages, "MAX_BODY", 8)
    with pytest.raises(InputError, match="more than 8"):
        Question(STUDY, 2, "counts", FACTS, [np.array([0, 1])]).to_bytes()


def test_an_answer_is_whole_numbers_or_a_refusal() -> None:
    """Floats, and a refusal with numbers, are none."""
    with pytest.raises(InputError, match="modulo"):
        Answer(STUDY, 2, "north", "", [np.zeros(2)])
    with pytest.raises(InputError, match="holds no numbers"):
        Answer(STUDY, 2, "north", "", [np.zeros(2, np.uint64)], refusal="no")


def test_fingerprints_tell_keys_apart() -> None:
    """One bit more or less anywhere gives another fingerprint; other lengths are refused."""
    marks = {fingerprint(bytes(n) + bytes([1]) + bytes(63 - n)) for n in range(64)}
    assert len(marks) == 64
    with pytest.raises(InputError, match="64"):
        fingerprint(bytes(32))
