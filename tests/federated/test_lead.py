"""A question that a hospital does not answer well ends, and the message names the hospital."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpsynth.errors import BudgetExceeded, InputError
from dpsynth.federated.lead import HospitalFailed, Lead, Refused
from dpsynth.federated.messages import Answer, Question, digest
from dpsynth.federated.transport import InProcess
from dpsynth.privacy.resuming import Checkpoint
from dpsynth.privacy.session import Session
from dpsynth.privacy.tables.counting import fine_query
from dpsynth.schema.schema import Schema
from federated.helpers import FACTS, PRICE, SCHEMA, SHAPE, Federation

SEX = fine_query(["sex"], SHAPE)


class Faulty:
    """A hospital whose answers to questions for sums are changed on the way, so many times."""

    def __init__(self, hospital: Any, change: Callable[[bytes, bytes], bytes], times: int = 10) -> None:
        self.hospital, self.change, self.times = hospital, change, times

    def answer(self, message: bytes) -> bytes:
        """Answer, and change the answer."""
        answer: bytes = self.hospital.answer(message)
        if Question.from_bytes(message).number < 2 or self.times == 0:
            return answer
        self.times -= 1
        return self.change(message, answer)


def left(_question: bytes, _answer: bytes) -> bytes:
    """Leave while the question is answered."""
    raise ConnectionError("gone")


def cut(_question: bytes, answer: bytes) -> bytes:
    """Send half."""
    return answer[: len(answer) // 2]


def of_another_form(question: bytes, answer: bytes) -> bytes:
    """Answer with one number too many."""
    whole = Answer.from_bytes(answer)
    arrays = [np.zeros(3, np.uint64)]
    return Answer(whole.study, whole.number, "west", digest(question), arrays).to_bytes()


def to_another_question(_question: bytes, answer: bytes) -> bytes:
    """Answer what was not asked."""
    whole = Answer.from_bytes(answer)
    return Answer(whole.study, whole.number, "west", "0" * 64, whole.arrays).to_bytes()


def in_anothers_name(question: bytes, answer: bytes) -> bytes:
    """Answer as north."""
    whole = Answer.from_bytes(answer)
    return Answer(whole.study, whole.number, "north", digest(question), whole.arrays).to_bytes()


def floats(_question: bytes, answer: bytes) -> bytes:
    """Answer numbers that are no whole ones."""
    return answer.replace(b'"<u8"', b'"<f8"')


def failing(federation: Federation, change: Callable[[bytes, bytes], bytes], times: int = 10) -> Session:
    """Begin, and let west fail from then on."""
    hospitals = dict(federation.hospitals)
    hospitals["west"] = Faulty(hospitals["west"], change, times)  # type: ignore[assignment]
    federation.transport = InProcess(hospitals)
    federation.lead = Lead(federation.study, federation.transport, federation.folder / "lead")
    return federation.session()


@pytest.mark.parametrize("change", [left, cut, of_another_form, to_another_question, in_anothers_name, floats])
def test_a_bad_answer_ends_the_question_and_names_the_hospital(
    change: Callable[[bytes, bytes], bytes], tmp_path: Path
) -> None:
    """Nothing comes of the others' answers; the message says west."""
    with failing(Federation(tmp_path), change) as session, pytest.raises(HospitalFailed, match="west"):
        session.count([SEX], [PRICE])


def test_a_late_hospital_is_named(tmp_path: Path) -> None:
    """What has not answered in time is as good as gone."""
    import threading

    gone = threading.Event()

    def late(_question: bytes, answer: bytes) -> bytes:
        gone.wait(5)
        return answer

    federation = Federation(tmp_path, seconds=0.5)
    session = failing(federation, late)
    try:
        with session, pytest.raises(HospitalFailed, match=r"'west': did not answer within 0\.5 seconds"):
            session.count([SEX], [PRICE])
    finally:
        gone.set()


def test_asked_anew_it_is_a_new_question_that_everybody_pays(tmp_path: Path) -> None:
    """West fails twice; lead and hospitals have then paid three times, under three numbers, and the sum is right."""
    federation = Federation(tmp_path, asked_anew=0.4)
    with failing(federation, cut, times=2) as session:
        before = session.rho_left
        (answer,) = session.count([SEX], [PRICE])
        assert abs(answer.counts.sum() - sum(map(len, federation.cohorts.values()))) < 12 * answer.sigma
        assert session.rho_left == pytest.approx(before - PRICE)
        assert [event.count for event in session.events] == [3]
        for hospital in federation.hospitals.values():
            assert [event.count for event in hospital.session.events] == [3]
    numbers = sorted(path.stem for path in (tmp_path / "north" / "run").glob("*.answer"))
    assert numbers == [f"{n:08d}" for n in range(5)]


def test_asking_anew_ends_where_the_study_keeps_no_more_for_it(tmp_path: Path) -> None:
    """West fails for good: the lead stops at the agreed share, and hospitals have paid no more than that."""
    federation = Federation(tmp_path, asked_anew=0.3)
    with failing(federation, cut) as session, pytest.raises(BudgetExceeded, match="asked_anew"):
        session.count([SEX], [PRICE])
    north = federation.hospitals["north"].session
    assert north.rho - north.rho_left <= 0.3 * north.rho + PRICE + 1e-9


def test_a_refusal_is_not_asked_anew(tmp_path: Path) -> None:
    """What a hospital refuses it refuses again; its words come through."""
    federation = Federation(tmp_path, asked_anew=0.4)
    with federation.session() as session:
        for hospital in federation.hospitals.values():
            hospital.close()
        with pytest.raises(Refused, match="'north' refused: question: the run has ended"):
            session.count([SEX], [PRICE])
        assert [event.count for event in session.events] == [1]


def test_a_lead_that_was_stopped_goes_on_and_spends_nothing_twice(tmp_path: Path) -> None:
    """Killed after the hospitals had answered, before it wrote the sum down: it gets the same answers again."""
    federation = Federation(tmp_path)
    session = federation.session()
    (first,) = session.count([SEX], [PRICE])
    died = fine_query(["died"], SHAPE)
    (second,) = session.count([died], [PRICE])
    (tmp_path / "session" / "00001.npz").unlink()  # as if it had been stopped before the answer was written
    federation.lead = Lead(federation.study, federation.transport, tmp_path / "lead")
    again = federation.session()
    assert again.count([SEX], [PRICE])[0].counts.tolist() == first.counts.tolist()
    assert again.count([died], [PRICE])[0].counts.tolist() == second.counts.tolist()
    for hospital in federation.hospitals.values():
        assert [event.count for event in hospital.session.events] == [1, 1]
    again.count([fine_query(["age"], SHAPE)], [PRICE])
    assert len(federation.hospitals["west"].session.events) == 3


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda s: s.select([SEX], [[1, 1]], [0.0], PRICE), "in place of 'aim' and 'mst'"),
        (lambda s: s.marginal_errors([SEX], [[1, 1]], PRICE), "'prism'"),
    ],
)
def test_what_is_no_sum_is_refused_with_what_to_use_instead(ask: Any, words: str, tmp_path: Path) -> None:
    """No hospital is asked, and none has paid."""
    federation = Federation(tmp_path)
    with federation.session() as session, pytest.raises(InputError, match=words):
        ask(session)
    assert all(not hospital.session.events for hospital in federation.hospitals.values())


def test_values_to_discover_are_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    """A schema with discover: true does not open a session over hospitals."""
    facts = {**FACTS, "columns": {**FACTS["columns"], "dx": {"type": "categorical", "discover": True, "max_values": 3}}}
    federation = Federation(tmp_path)
    with pytest.raises(InputError, match="List the values"):
        Session.over_hospitals(Schema.parse(facts), federation.study.budget, federation.lead)


def test_one_seeded_hospital_makes_the_whole_not_private(tmp_path: Path) -> None:
    """West's noise comes from a seed: the statement of the joint session says that nobody is protected."""
    federation = Federation(tmp_path)
    federation.hospitals["west"] = federation.opened("west", seed=1, folder=tmp_path / "seeded")
    federation.lead = Lead(federation.study, InProcess(federation.hospitals), tmp_path / "lead")
    with federation.session() as session:
        assert not session.private
        assert "not private" in session.statement()["guarantee"]
        assert "fixed seed" in session.statement()["randomness"]


def test_a_session_without_a_hospital_is_not_private_by_itself(tmp_path: Path) -> None:
    """Before every hospital has said that its noise is genuine, nothing counts as private."""
    federation = Federation(tmp_path)
    session = Session.over_hospitals(
        SCHEMA, federation.study.budget, federation.lead, checkpoint=Checkpoint(tmp_path / "s")
    )
    assert not session.private
