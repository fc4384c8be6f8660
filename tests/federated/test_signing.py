"""Messages are believed once, in time, from pinned senders, for one study and one receiver."""

import dataclasses
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpsynth.federated.signing import WINDOW, Guard, Head, MessageRefused, head_length, sign
from federated.network import HOSPITALS, STRANGER, STUDY

NOW = 1_800_000_000.0


def _guard(now: float = NOW) -> Guard:
    guard = Guard(STUDY, "lead", clock=lambda: now)
    guard.pin("north", HOSPITALS["north"].public)
    guard.pin("south", HOSPITALS["south"].public)
    return guard


def _signed(**fields: object) -> bytes:
    """Return head and signature of a message, as a guard gets them."""
    settled = {"study": STUDY, "kind": "poll", "sender": "north", "receiver": "lead", "clock": lambda: NOW}
    return sign(fields.pop("keys", HOSPITALS["north"]), **(settled | fields))[1][8:]


def _code(raw: bytes, guard: Guard | None = None, **options: str) -> str:
    with pytest.raises(MessageRefused) as refused:
        (guard or _guard()).open(raw, **options)
    return refused.value.code


def test_a_message_is_believed() -> None:
    """A head that a pinned sender signed comes back as it was signed."""
    head = _guard().open(_signed(question=7, body=b"abc"))
    assert (head.sender, head.kind, head.question, head.size) == ("north", "poll", 7, 3)


FIELDS = [field.name for field in dataclasses.fields(Head)]


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_can_be_changed(field: str) -> None:
    """Whatever part of a signed head is changed on the way, the message is refused as forged."""
    raw = _signed()
    facts = json.loads(raw[:-64])
    changed = {
        **dict.fromkeys(("study", "digest"), "0" * 64),
        **dict.fromkeys(("process", "relay", "reply_to", "nonce"), "f" * 32),
        **dict.fromkeys(("question", "time", "size"), 1 + facts["time"]),
        **dict.fromkeys(("kind", "sender", "receiver"), "south"),
    }
    facts[field] = changed[field]
    again = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
    assert _code(again + raw[-64:]) == "forged"


def test_another_key_is_not_believed() -> None:
    """A message that says north and is signed with another key is forged, also with another hospital's own."""
    assert _code(_signed(keys=STRANGER)) == "forged"
    assert _code(_signed(keys=HOSPITALS["south"])) == "forged"


def test_a_sender_who_is_not_pinned_is_unknown() -> None:
    """Nobody else is believed, however the message is signed."""
    assert _code(_signed(keys=STRANGER, sender="stranger")) == "unknown"


def test_a_message_belongs_to_one_study_and_one_receiver() -> None:
    """What was signed for another study, or for another reader, is refused; so is a reply to something else."""
    assert _code(_signed(study="0" * 64)) == "study"
    assert _code(_signed(receiver="south")) == "receiver"
    assert _code(_signed(reply_to="0" * 32)) == "reply"
    assert _code(_signed(), reply_to="0" * 32) == "reply"


def test_a_message_is_believed_once() -> None:
    """The same message again is a replay; the same words signed anew are not."""
    guard, raw = _guard(), _signed()
    guard.open(raw)
    assert _code(raw, guard) == "replayed"
    guard.open(_signed())


@pytest.mark.parametrize("late", [-WINDOW - 1, WINDOW + 1])
def test_time_has_a_window(late: float) -> None:
    """A message from too long ago, or from the future, is refused, and the words name both clocks' difference."""
    raw = _signed(clock=lambda: NOW + late)
    assert _code(raw) == "stale"
    with pytest.raises(MessageRefused, match=r"301 s (behind|ahead of)"):
        _guard().open(raw)
    _guard().open(_signed(clock=lambda: NOW + late / 1.01))


def test_what_is_forgotten_is_stale() -> None:
    """A nonce is forgotten only when its message would be refused for its time."""
    now = NOW
    guard = Guard(STUDY, "lead", clock=lambda: now)
    guard.pin("north", HOSPITALS["north"].public)
    ahead = _signed(clock=lambda: NOW + WINDOW - 1)
    guard.open(ahead)
    for later in (WINDOW, 2 * WINDOW - 2, 2 * WINDOW + 1, 3 * WINDOW):
        now = NOW + later
        assert _code(ahead, guard) in ("replayed", "stale")
        guard.open(_signed(clock=lambda now=now: now))
    assert len(guard._seen["north"]) < 5


def test_a_refused_message_is_not_remembered() -> None:
    """A forger cannot use up the nonce of a message that is still on its way."""
    guard, raw = _guard(), _signed()
    assert _code(raw[:-1] + bytes([raw[-1] ^ 1]), guard) == "forged"
    guard.open(raw)


@given(st.binary(max_size=300))
def test_bytes_are_no_message(raw: bytes) -> None:
    """Arbitrary bytes are refused with words, never with a fault."""
    assert _code(raw) in ("malformed", "unknown")


_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from([*FIELDS, "more"]), _VALUES) | _VALUES)
def test_json_is_no_message(facts: object) -> None:
    """JSON of another form is refused with words: fields that are missing, more, or of another type."""
    with pytest.raises(MessageRefused) as refused:
        Head.parse(json.dumps(facts).encode())
    assert refused.value.code == "malformed"


@pytest.mark.parametrize(
    "change",
    [{"question": True}, {"question": -1}, {"size": 2**63}, {"time": 1.5}, {"nonce": "g" * 32}, {"digest": "0" * 63}],
    ids=str,
)
def test_one_field_of_another_form(change: dict[str, object]) -> None:
    """One field that is not of its form is enough, with everything else in order."""
    facts = json.loads(_signed()[:-64])
    Head.parse(json.dumps(facts).encode())
    with pytest.raises(MessageRefused, match="malformed"):
        Head.parse(json.dumps(facts | change).encode())


def test_the_start_of_a_message_is_checked() -> None:
    """Another beginning, a cut one and a head of more than 4 KB are refused before anything is read."""
    assert head_length(struct.pack(">4sI", b"DPS1", 100)) == 164
    for start in (b"<html>..", b"DPS1", b"", struct.pack(">4sI", b"DPS1", 0), struct.pack(">4sI", b"DPS1", 4097)):
        with pytest.raises(MessageRefused):
            head_length(start)
