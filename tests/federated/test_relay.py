"""The relay over loopback with TLS: who is let in, what is believed, and that questions are kept until answered."""

import ssl
import threading
import time

import numpy as np
import pytest

from dpsynth.errors import InputError
from dpsynth.federated.keys import PrivateKeys
from dpsynth.federated.signing import MessageRefused, TransportError
from federated.network import (
    HOSPITALS,
    LEAD,
    NAMES,
    SECONDS,
    STRANGER,
    STUDY,
    Rogue,
    Serving,
    enter,
    network,
    opened,
    question,
    relay,
    until,
)


@pytest.mark.parametrize("count", [3, 5])
def test_every_hospital_answers(count: int) -> None:
    """Each hospital is asked the same bytes once, in order, and the lead gets each one's own answer."""
    names = tuple(HOSPITALS)[:count]
    with network(names) as (server, hospitals):
        for number in range(4):
            asked = question(number)
            answers = server.ask(asked, seconds=SECONDS)
            assert answers == {name: name.encode() + asked for name in names}
    for hospital in hospitals.values():
        assert hospital.asked == [question(number) for number in range(4)]
        assert (hospital.end, hospital.error) == ("the lead has what it asked for.", None)


def test_large_bodies_arrive_whole() -> None:
    """A question and answers of megabytes, in many pieces and on disk, arrive as they were sent."""
    asked = question(3, (np.arange(1_200_000.0),))
    with network() as (server, _):
        answers = server.ask(asked, seconds=SECONDS)
    assert answers == {name: name.encode() + asked for name in NAMES}


def test_a_message_needs_the_hospitals_certificate() -> None:
    """Without a certificate a signed message is refused, and the words say what to do."""
    with relay() as server:
        rogue = Rogue(server.port).greet()
        head, facts = rogue.send("poll", certificate=None)
        assert (head["kind"], facts.get("code")) == ("refused", "certificate")
        assert "without its certificate" in facts["message"]
        assert "--inspected north" in facts["message"]
        assert server.states["north"] == "awaited"


def test_a_message_needs_its_own_certificate() -> None:
    """The certificate of another hospital of the study does not do."""
    with relay() as server:
        Rogue(server.port, "south").greet()
        assert Rogue(server.port).greet().refusal("poll", certificate=HOSPITALS["south"]) == "certificate"


def test_an_unknown_certificate_ends_in_tls() -> None:
    """A certificate that no pinned key signed is not let in, and no message is read."""
    with relay() as server:
        rogue = Rogue(server.port).greet()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            rogue.post(rogue.message("poll"), certificate=STRANGER)


def test_a_relay_lets_in_where_its_lead_says_so() -> None:
    """A hospital that the lead knows to be behind an inspecting proxy may come without a certificate, and no other."""
    with relay(inspected=["north"]) as server:
        assert Rogue(server.port).greet().send("beat", certificate=None)[0]["kind"] == "thanks"
        assert Rogue(server.port, "south").greet().refusal("beat", certificate=None) == "certificate"


def test_a_key_that_is_not_pinned_is_refused() -> None:
    """A hospital that comes with another key than the study's is told both fingerprints."""
    with relay() as server, pytest.raises(MessageRefused) as refused:
        enter(server.port, keys=STRANGER)
    words = str(refused.value)
    assert STRANGER.public.fingerprint in words
    assert HOSPITALS["north"].public.fingerprint in words


def test_a_name_that_is_not_in_the_study_is_refused() -> None:
    """Who is not in the study file is told so, and not who is."""
    with relay() as server, pytest.raises(MessageRefused, match="'stranger' is not in the study") as refused:
        enter(server.port, "stranger", keys=STRANGER)
    assert "south" not in str(refused.value)


def test_a_certificate_of_another_key_is_refused() -> None:
    """The pinned keys with the certificate of somebody else, as a relay might hand them on, are refused."""
    mixed = PrivateKeys(
        HOSPITALS["north"].signing, HOSPITALS["north"].masking, STRANGER.tls, STRANGER.certificate
    ).public
    stolen = HOSPITALS["north"].public.to_bytes()[:128] + mixed.certificate
    with relay() as server:
        rogue = Rogue(server.port)
        status, words = rogue.post(rogue.message("hello", stolen), certificate=None)
    assert status == 403
    assert b"is not signed with the key of north" in words


def test_a_hospital_demands_the_leads_key() -> None:
    """A relay with another key than the study's lead is refused by the hospital, which names both fingerprints."""
    with relay(keys=STRANGER) as server, pytest.raises(InputError, match="fingerprint") as refused:
        enter(server.port)
    assert LEAD.public.fingerprint in str(refused.value)
    assert STRANGER.public.fingerprint in str(refused.value)


def test_a_study_without_fingerprints_has_no_relay() -> None:
    """A hospital without a fingerprint cannot be pinned, so the relay does not start."""
    from dpsynth.federated.relay import Relay

    with pytest.raises(InputError, match="south: no fingerprint"):
        Relay(STUDY, LEAD, {"north": HOSPITALS["north"].public.fingerprint, "south": ""})


def test_another_study_file_is_told() -> None:
    """A hospital whose study file differs from the lead's is told so at once."""
    with relay(study="0" * 64) as server, pytest.raises(MessageRefused, match="study file"):
        enter(server.port)


def test_forged_messages_get_nothing_signed() -> None:
    """A message that another key signed is refused in plain words: the relay signs nothing for strangers."""
    with relay() as server:
        rogue = Rogue(server.port).greet()
        status, words = rogue.post(rogue.message("poll", keys=STRANGER))
        assert status == 403
        assert b"is not signed with the key" in words
        assert words[:4] != b"DPS1"
        assert server.states["north"] == "awaited"


def test_a_replay_is_refused() -> None:
    """The same signed message a second time is refused, over a connection of the hospital's own too."""
    with relay() as server:
        rogue = Rogue(server.port).greet()
        message = rogue.message("beat")
        assert opened(rogue.post(message)[1])[0]["kind"] == "thanks"
        assert opened(rogue.post(message)[1])[1].get("code") == "replayed"


@pytest.mark.parametrize("late", [-400.0, 400.0])
def test_a_time_out_of_the_window_is_refused(late: float) -> None:
    """A message of minutes ago, or ahead, is refused; the hospital hears by how much the clocks differ."""
    with relay() as server:
        rogue = Rogue(server.port).greet()
        head, facts = rogue.send("beat", clock=lambda: time.time() + late)
        assert (head["kind"], facts.get("code")) == ("refused", "stale")
    with relay() as server, pytest.raises(MessageRefused, match=r"the clock of \w+ is (400|399) s"):
        enter(server.port, clock=lambda: time.time() + late)


def test_a_message_to_an_earlier_relay_is_refused() -> None:
    """What was signed for a relay before its restart cannot be sent to the new one."""
    with relay() as server:
        rogue = Rogue(server.port).greet()
        assert rogue.refusal("beat", relay="ab" * 16) == "relay"
        assert rogue.refusal("beat", relay="") == "relay"


def test_an_oversized_answer_is_not_read() -> None:
    """An answer that says that it is too large is refused by its head; one that is larger than it says is cut off."""
    with relay(limit=1000) as server:
        rogue = Rogue(server.port).greet()
        assert rogue.refusal("answer", bytes(1001)) == "large"
        assert rogue.refusal("answer", b"", size=2**50) == "large"
        status, raw = rogue.post(rogue.message("answer", bytes(10)) + bytes(5000))
        assert (status, opened(raw)[1].get("code")) == (200, "body")
        assert rogue.send("answer", bytes(1000))[0]["kind"] == "late"


def test_a_greeting_is_small() -> None:
    """Who is not known yet cannot make the relay read more than a card."""
    with relay() as server:
        rogue = Rogue(server.port)
        status, words = rogue.post(rogue.message("hello", bytes(100_000)), certificate=None)
        assert (status, b"100,000 bytes" in words) == (403, True)


def test_a_body_that_was_changed_is_refused() -> None:
    """An answer of which one bit was changed, or which was cut short, is refused."""
    with relay() as server:
        rogue = Rogue(server.port).greet()
        for change in (lambda sent: sent[:-1] + bytes([sent[-1] ^ 1]), lambda sent: sent[:-1]):
            status, raw = rogue.post(change(rogue.message("answer", b"masked")))
            assert (status, opened(raw)[1].get("code")) == (200, "body")


@pytest.mark.parametrize("raw", [b"", b"DPS1", b"<html>", b"DPS1\0\0\0\x05{}[]}" + bytes(64), b"DPS1\xff\xff\xff\xff"])
def test_malformed_messages_are_refused(raw: bytes) -> None:
    """Bytes that are no message are refused in plain words, and the relay goes on."""
    with relay() as server:
        rogue = Rogue(server.port)
        assert rogue.post(raw, certificate=None)[0] == 403
        assert rogue.post(rogue.message("hello", b"x"), path="/", certificate=None)[0] == 404
        assert rogue.greet().refusal("run this code") == "malformed"
        assert rogue.send("beat")[0]["kind"] == "thanks"


def _asked(server: object, number: int = 0, seconds: float = SECONDS) -> tuple[threading.Thread, dict[str, bytes]]:
    """Ask in a thread; the answers are there when it has ended."""
    answers: dict[str, bytes] = {}
    asking = threading.Thread(target=lambda: answers.update(server.ask(question(number), seconds=seconds)))
    asking.start()
    return asking, answers


def test_a_question_is_kept_until_it_is_answered() -> None:
    """A poll whose reply is lost takes nothing with it: the next poll gets the same question."""
    with relay(("north",)) as server:
        rogue = Rogue(server.port).greet()
        rogue.send("beat")
        asking, answers = _asked(server)
        until(lambda: rogue.send("poll")[0]["kind"] == "question")
        for _ in range(3):
            raw = rogue.post(rogue.message("poll"))[1]
            assert opened(raw)[0]["kind"] == "question"
            assert raw.endswith(question(0))
        rogue.send("answer", b"masked", question=0)
        assert rogue.send("poll")[0]["kind"] == "wait"
        asking.join(SECONDS)
        assert answers == {"north": b"masked"}


def test_a_poll_that_dies_takes_nothing_with_it() -> None:
    """A connection that is cut while it is held, or while a large question is on its way, leaves the question there."""
    with relay(("north",), hold=SECONDS) as server:
        rogue = Rogue(server.port).greet()
        rogue.send("beat")
        for _ in range(3):
            context = rogue._context("own")
            line = context.wrap_socket(_connected(server.port))
            message = rogue.message("poll")
            line.sendall(b"POST /dpsynth/1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(message) + message)
            line.close()
        asking, answers = _asked(server)
        assert opened(rogue.post(rogue.message("poll"))[1])[0]["kind"] == "question"
        rogue.send("answer", b"masked", question=0)
        asking.join(SECONDS)
        assert answers == {"north": b"masked"}


def _connected(port: int) -> object:
    import socket

    return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)


def test_an_answer_counts_once() -> None:
    """The same answer again is thanked for, another one refused, and one to an earlier question is late."""
    with relay(("north", "south")) as server:
        rogue = Rogue(server.port).greet()
        rogue.send("beat")
        asking, answers = _asked(server, 4)
        until(lambda: rogue.send("poll")[0]["kind"] == "question")
        for _ in range(3):
            assert rogue.send("answer", b"masked", question=4)[0]["kind"] == "thanks"
        assert rogue.refusal("answer", b"other", question=4) == "conflict"
        assert rogue.send("answer", b"masked", question=3)[0]["kind"] == "late"
        south = Rogue(server.port, "south").greet()
        south.send("answer", b"of south", question=4)
        asking.join(SECONDS)
        assert answers == {"north": b"masked", "south": b"of south"}


def test_a_late_hospital_is_not_in_the_answers() -> None:
    """Time over, the lead gets what came; who did not answer is missing, and hears the next question."""
    with network() as (server, hospitals):
        released = threading.Event()
        hospitals["west"].answer = lambda _asked: (released.wait(SECONDS), b"late")[1]
        assert server.ask(question(1), seconds=0.5).keys() == {"north", "south"}
        released.set()
        hospitals["west"].answer = lambda _asked: b"in time"
        assert server.ask(question(2), seconds=SECONDS)["west"] == b"in time"


def test_silence_is_noticed_and_return_too() -> None:
    """A hospital that is not heard any more is silent, and here again with its next word."""
    seen: list[tuple[str, str]] = []
    with relay(("north",), silence=0.2, notice=lambda *change: seen.append(change)) as server:
        rogue = Rogue(server.port).greet()
        assert server.states == {"north": "awaited"}
        rogue.send("beat")
        until(lambda: server.states["north"] == "silent")
        rogue.send("beat")
        assert server.states == {"north": "here"} or seen[-1] == ("north", "silent")
    assert seen[:3] == [("north", "here"), ("north", "silent"), ("north", "here")]


def test_a_hospital_at_work_is_not_silent() -> None:
    """Signs of life go on while an answer is computed for longer than silence lasts."""
    seen: list[str] = []
    with network(("north",), silence=0.5, notice=lambda _name, state: seen.append(state)) as (server, hospitals):
        hospitals["north"].answer = lambda _asked: (time.sleep(1.2), b"done")[1]
        assert server.ask(question(1), seconds=SECONDS) == {"north": b"done"}
    assert "silent" not in seen


def test_two_processes_with_one_key_are_refused() -> None:
    """While one process takes part, another with the same key is refused, and the first goes on."""
    with network() as (server, hospitals):
        with pytest.raises(MessageRefused, match="two with one key") as refused:
            enter(server.port, takeover=0.3)
        assert refused.value.code == "twice"
        assert server.ask(question(1), seconds=SECONDS).keys() == set(NAMES)
    assert hospitals["north"].error is None


def test_a_killed_process_makes_way() -> None:
    """After silence another process with the key takes over; the old one, back from its sleep, is refused."""
    with relay(("north",), silence=0.5) as server:
        old = Rogue(server.port).greet()
        old.send("beat")
        new = Serving(server.port, "north")
        assert server.ask(question(1), seconds=SECONDS) == {"north": b"north" + question(1)}
        assert old.refusal("beat") == "replaced"
        assert old.refusal("answer", b"other", question=1) == "replaced"
    new.join(SECONDS)
    assert new.error is None


def test_a_hospital_that_leaves_ends_the_question() -> None:
    """A hospital whose program fails says that it leaves; the lead does not wait for the rest of its time."""

    def fails(asked: bytes) -> bytes:
        raise InputError("the ledger is full")

    with network() as (server, hospitals):
        hospitals["south"].answer = fails
        began = time.monotonic()
        assert "south" not in server.ask(question(1), seconds=SECONDS)
        assert time.monotonic() - began < SECONDS / 2
        assert server.states["south"] == "left"
        hospitals["south"].join(SECONDS)
        again = Serving(server.port, "south")
        until(lambda: server.states["south"] == "here")
        assert server.ask(question(2), seconds=SECONDS).keys() == set(NAMES)
    again.join(SECONDS)
    assert isinstance(hospitals["south"].error, InputError)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyboardInterrupt(), "interrupted at the lead"),
        (InputError("question 3: too large."), "it ended at the lead: question 3: too large."),
        (ZeroDivisionError("a value"), "by a fault"),
    ],
    ids=["interrupted", "refused", "fault"],
)
def test_hospitals_hear_of_the_end(error: BaseException, words: str) -> None:
    """Whatever ends the lead, hospitals end with words, and a fault's own words stay at the lead."""
    with pytest.raises(type(error)), network() as (_, hospitals):
        raise error
    for hospital in hospitals.values():
        hospital.join(SECONDS)
        assert isinstance(hospital.error, TransportError)
        assert words in str(hospital.error)
        assert "a value" not in str(hospital.error)


def test_who_is_missing_is_named() -> None:
    """Waiting for hospitals ends with the names of those who did not come."""
    with relay() as server:
        Rogue(server.port, "south").greet().send("beat")
        with pytest.raises(TransportError, match="north, west"):
            server.wait_for_all(seconds=0.1)


def test_a_taken_port_is_told() -> None:
    """A port that another program has is named, with what to do."""
    with relay() as server, pytest.raises(InputError, match=f"{server.port}: another program listens"):
        relay(port=server.port).__enter__()


def test_a_lead_that_is_not_there_is_told() -> None:
    """A hospital that cannot reach the lead says so, tries for as long as it is told, and gives up with words."""
    with relay() as server:
        port = server.port
    told: list[str] = []
    with pytest.raises(TransportError, match=r"cannot be reached .* Given up"):
        enter(port, patience=0.3, notice=told.append)
    assert len(told) == 1
