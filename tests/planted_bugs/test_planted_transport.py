"""Every planted bug of the transport is caught by a named test, which passes without it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import federated.test_keys as keys
import federated.test_proxies as proxies
import federated.test_relay as relays
import federated.test_signing as signing
import pytest
from federated import network

from dpsynth.federated import desk, roster, wire
from dpsynth.federated.desk import Desk
from dpsynth.federated.keys import PublicKeys
from dpsynth.federated.relay import Relay
from dpsynth.federated.roster import Roster
from dpsynth.federated.signing import Guard, Head


def _nothing(*_args: Any, **_options: Any) -> None:
    """Check nothing."""


def signatures_unchecked(patch: pytest.MonkeyPatch) -> None:
    """Believe whoever says a name."""
    patch.setattr(Guard, "signed", lambda _self, raw: Head.parse(raw[:-64]))


def replays_believed(patch: pytest.MonkeyPatch) -> None:
    """Remember no nonce."""
    patch.setattr(Guard, "_check_once", _nothing)


def clocks_unchecked(patch: pytest.MonkeyPatch) -> None:
    """Believe messages of any time."""
    patch.setattr(Guard, "_check_time", _nothing)


def studies_mixed(patch: pytest.MonkeyPatch) -> None:
    """Believe messages of other studies, to others, and replies to anything."""
    patch.setattr(Guard, "_check_place", _nothing)


def certificates_unchecked(patch: pytest.MonkeyPatch) -> None:
    """Take messages over a connection of anybody."""
    patch.setattr(Relay, "_check_certificate", _nothing)


def fingerprints_unchecked(patch: pytest.MonkeyPatch) -> None:
    """Believe any public keys."""
    patch.setattr("dpsynth.federated.keys.same_fingerprint", lambda _first, _second: True)


def certificate_not_endorsed(patch: pytest.MonkeyPatch) -> None:
    """Pin the keys, and take any certificate with them."""

    def read(cls: Any, raw: bytes, *_: str) -> PublicKeys:
        return PublicKeys(raw[:32], raw[32:64], raw[128:], raw[64:128])

    patch.setattr(PublicKeys, "from_bytes", classmethod(read))


def bodies_unchecked(patch: pytest.MonkeyPatch) -> None:
    """Take a body as it comes."""

    async def read(file: Any, content: Any, _head: Head, _seconds: float) -> None:
        while piece := await content.read(wire.PIECE):
            file.write(piece)

    patch.setattr(wire, "_read_into", read)


def sizes_unchecked(patch: pytest.MonkeyPatch) -> None:
    """Read bodies of any size."""
    read = wire.read_body

    async def anything(content: Any, head: Head, *, limit: int, **options: Any) -> Any:
        return await read(content, head, limit=2**60 + limit, **options)

    patch.setattr(desk, "read_body", anything)


def question_handed_out_once(patch: pytest.MonkeyPatch) -> None:
    """Forget a question when it has been sent, whether or not it arrived."""
    polled = Desk._polled

    async def once(self: Desk, name: str) -> Any:
        reply = await polled(self, name)
        if reply.kind == "question" and self._open is not None:
            patch.setattr(self, "_is_asked", lambda _name: False)
        return reply

    patch.setattr(Desk, "_polled", once)


def last_answer_counts(patch: pytest.MonkeyPatch) -> None:
    """Let a later answer take the place of the first."""
    answered = Desk._answered

    async def replace(self: Desk, head: Head, content: Any) -> Any:
        if self._open is not None and head.question == self._open.number:
            self._open.answers.pop(head.sender, None)
        return await answered(self, head, content)

    patch.setattr(Desk, "_answered", replace)


def two_processes_let_in(patch: pytest.MonkeyPatch) -> None:
    """Let every process with the key speak for its hospital."""
    patch.setattr(Roster, "_take_over", _nothing)


def silence_unnoticed(patch: pytest.MonkeyPatch) -> None:
    """Never look who has fallen silent."""
    patch.setattr(roster.Roster, "look", _nothing)


def key_readable(patch: pytest.MonkeyPatch) -> None:
    """Write keys as any file is written."""
    import os

    opened = os.open
    patch.setattr("dpsynth.federated.keys.os.open", lambda path, flags, _mode: opened(path, flags, 0o644))


Plant = Callable[[pytest.MonkeyPatch], None]
CASES: list[tuple[Plant, Callable[..., None], tuple[Any, ...]]] = [
    (signatures_unchecked, relays.test_forged_messages_get_nothing_signed, ()),
    (replays_believed, relays.test_a_replay_is_refused, ()),
    (replays_believed, signing.test_a_message_is_believed_once, ()),
    (clocks_unchecked, signing.test_time_has_a_window, (-301,)),
    (studies_mixed, signing.test_a_message_belongs_to_one_study_and_one_receiver, ()),
    (certificates_unchecked, relays.test_a_message_needs_the_hospitals_certificate, ()),
    (certificates_unchecked, relays.test_a_message_needs_its_own_certificate, ()),
    (fingerprints_unchecked, relays.test_a_hospital_demands_the_leads_key, ()),
    (certificate_not_endorsed, keys.test_another_certificate_is_not_endorsed, ()),
    (bodies_unchecked, relays.test_a_body_that_was_changed_is_refused, ()),
    (sizes_unchecked, relays.test_an_oversized_answer_is_not_read, ()),
    (question_handed_out_once, relays.test_a_question_is_kept_until_it_is_answered, ()),
    (last_answer_counts, relays.test_an_answer_counts_once, ()),
    (two_processes_let_in, relays.test_two_processes_with_one_key_are_refused, ()),
    (silence_unnoticed, relays.test_silence_is_noticed_and_return_too, ()),
    (key_readable, keys.test_the_file_is_its_owners_alone, ("folder",)),
]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait long for what a plant prevents."""
    for module in (network, relays, proxies):
        monkeypatch.setattr(module, "SECONDS", 1.0)


@pytest.mark.filterwarnings("ignore")  # what a failing test leaves behind: threads and sockets
@pytest.mark.parametrize(("plant", "test", "arguments"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_bug_is_caught(
    plant: Plant, test: Callable[..., None], arguments: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The named test fails with the plant."""
    given = [tmp_path if argument == "folder" else argument for argument in arguments]
    plant(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(*given)
