"""A hospital refuses whatever was not agreed on, in words and before anything is spent."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.federated.hospital import Hospital
from dpsynth.federated.lead import Lead
from dpsynth.federated.masks import Masks
from dpsynth.federated.messages import SUMS, Answer, Question
from dpsynth.federated.run_folder import RunFolder
from dpsynth.federated.steps import Allowed
from dpsynth.federated.study import Study
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.tables.counting import fine_query
from dpsynth.schema.schema import Schema
from federated.helpers import (
    ALLOWED,
    FACTS,
    NAMES,
    PRICE,
    SCHEMA,
    SHAPE,
    AnyOrder,
    Federation,
    counts_question,
    keys_of,
    rows,
    silence,
    study_of,
)


def asks_twice(federation: Federation) -> Question:
    """Ask what was asked, under a new number, to halve the noise by averaging."""
    federation.ask("north", counts_question(federation.study, 2))
    return counts_question(federation.study, 3, after=0)


def asks_twice_at_another_price(federation: Federation) -> Question:
    """Ask what was asked with less noise."""
    federation.ask("north", counts_question(federation.study, 2))
    return counts_question(federation.study, 3, rho=4 * PRICE, after=0)


def asks_otherwise_under_a_used_number(federation: Federation) -> Question:
    """Ask something else under a number whose masks were used."""
    federation.ask("north", counts_question(federation.study, 2))
    return counts_question(federation.study, 2, ["died"])


def asks_out_of_order(federation: Federation) -> Question:
    """Ask under a number that lies behind."""
    federation.ask("north", counts_question(federation.study, 9, after=0))
    return counts_question(federation.study, 4, ["died"], after=1)


def asks_after_answers_that_were_not_given(federation: Federation) -> Question:
    """Ask as if three questions had been answered here."""
    return counts_question(federation.study, 2, after=3)


def asks_past_the_budget(federation: Federation) -> Question:
    """Ask with next to no noise."""
    return counts_question(federation.study, 2, rho=10.0)


def asks_for_another_column(federation: Federation) -> Question:
    """Ask for a column that the schema has not."""
    question = counts_question(federation.study, 2)
    return replace(question, facts={**question.facts, "columns": [["insurance"]]})


def asks_through_a_map_of_one_patient(federation: Federation) -> Question:
    """Ask with a map that does not fit the column's codes."""
    question = counts_question(federation.study, 2)
    return replace(question, arrays=[np.arange(400)])


def asks_what_the_model_does_not(federation: Federation) -> Question:
    """Ask for images of a study of a table."""
    facts = {"columns": [[]], "sigmas": [9.0], "features": {"map": "ones", "inputs": 64}, "heard": []}
    return Question(federation.study.digest, 2, "image_sums", facts)


def asks_of_another_study(federation: Federation) -> Question:
    """Ask in the name of a study with a larger epsilon."""
    other = Study.parse({**federation.study.model_dump(by_alias=True), "epsilon": 50.0})
    return counts_question(other, 2)


def names_other_hospitals_half_way(federation: Federation) -> Question:
    """Begin anew in the middle, with another hospital's keys in the place of one."""
    begin = begin_of(federation)
    return replace(begin, number=2)


def begins_anew(federation: Federation) -> Question:
    """Begin again under the number of the beginning, with other openings."""
    begin = begin_of(federation)
    return replace(begin, arrays=[*begin.arrays[:2], begin.arrays[0]])


def trains_without_a_training(federation: Federation) -> Question:
    """Ask for a step of a training that nobody agreed on."""
    return Question(federation.study.digest, 2, "step", {"step": 0, "names": []})


def asks_without_noise(federation: Federation) -> Question:
    """Ask with a standard deviation that is no number."""
    question = counts_question(federation.study, 2)
    return replace(question, facts={**question.facts, "sigmas": [True]})


HOSTILE: list[tuple[Callable[[Federation], Question], str]] = [
    (asks_twice, "for asking anew"),
    (asks_twice_at_another_price, "another price"),
    (asks_after_answers_that_were_not_given, "here 0 were given"),
    (asks_otherwise_under_a_used_number, "asked before, otherwise"),
    (asks_out_of_order, "their numbers rise"),
    (asks_past_the_budget, "more than is left"),
    (asks_for_another_column, "not a modelled column"),
    (asks_through_a_map_of_one_patient, "has 400 entries"),
    (asks_what_the_model_does_not, "does not ask it"),
    (asks_of_another_study, "another study"),
    (names_other_hospitals_half_way, "`begin` 1"),
    (begins_anew, "asked before, otherwise"),
    (trains_without_a_training, "has no training"),
    (asks_without_noise, "standard deviation"),
]


def begin_of(federation: Federation) -> Question:
    """Return the question `begin` that the lead has sent."""
    openings = [federation.ask(name, Question(federation.study.digest, 0, "open")).arrays[0] for name in NAMES]
    return Question(federation.study.digest, 1, "begin", {"hospitals": list(NAMES)}, openings)


@pytest.mark.parametrize(("attempt", "reason"), HOSTILE, ids=lambda value: getattr(value, "__name__", ""))
def test_a_hostile_lead_is_refused_and_nothing_is_spent(
    attempt: Callable[[Federation], Question], reason: str, tmp_path: Path
) -> None:
    """The refusal says why; the account and the ledger are what they were before the attempt."""
    federation = Federation(tmp_path)
    federation.begun()
    question = attempt(federation)
    north = federation.hospitals["north"]
    ledger = Ledger(tmp_path / "north" / "ledger.jsonl")
    before = (north.session.rho_left, ledger.runs())
    answer = federation.ask("north", question)
    assert reason in answer.refusal
    assert not answer.arrays
    assert (north.session.rho_left, ledger.runs()) == before
    known = int(north.session.rho_left < 0.99 * north.session.rho)
    after = federation.ask("north", counts_question(federation.study, 20, ["age"], after=known))
    assert not after.refusal, "a refusal does not end the run"


@pytest.mark.parametrize(
    "noise", [b"", b"DPSF", b"\x80\x04\x95cposix\nsystem\n", bytes(10_000), b"DPSF\x01\xff\xff\xff\xff{"]
)
def test_what_is_no_message_is_refused(noise: bytes, tmp_path: Path) -> None:
    """Bytes of any kind come back as a refusal, never as an error."""
    north = Federation(tmp_path).hospitals["north"]
    assert Answer.from_bytes(north.answer(noise)).refusal.startswith("message: ")


@pytest.mark.parametrize("kind", SUMS)
def test_nothing_is_answered_before_the_run_has_begun(kind: Any, tmp_path: Path) -> None:
    """Without openings and begin there are no masks, so there is no answer."""
    federation = Federation(tmp_path)
    question = replace(counts_question(federation.study, 2), kind="counts")
    assert "not opened" in federation.ask("north", question).refusal
    federation.ask("north", Question(federation.study.digest, 0, "open"))
    assert "not begun" in federation.ask("north", question).refusal
    assert not (tmp_path / "north" / "ledger.jsonl").exists()


def test_a_key_that_was_changed_on_the_way_is_found(tmp_path: Path) -> None:
    """With another masking key for south, in its opening, north refuses to begin and names south."""
    federation = Federation(tmp_path)
    begin = begin_of(federation)
    forged = np.array(begin.arrays[1])
    forged[32:64] = np.frombuffer(bytes(range(32)), np.uint8)
    answer = federation.ask("north", replace(begin, arrays=[begin.arrays[0], forged, begin.arrays[2]]))
    assert "'south': its keys do not have the fingerprint" in answer.refusal
    assert not (tmp_path / "north" / "ledger.jsonl").exists()


def test_a_run_is_begun_with_all_hospitals_and_ones_own_opening(tmp_path: Path) -> None:
    """A begin without west, or with other fresh bytes than north's own, is refused."""
    federation = Federation(tmp_path)
    begin = begin_of(federation)
    two = replace(begin, facts={"hospitals": list(NAMES[:2])}, arrays=begin.arrays[:2])
    assert "all of them" in federation.ask("north", two).refusal
    stale = np.array(begin.arrays[0])
    stale[64:96] = 0
    assert "not what was said" in federation.ask("north", replace(begin, arrays=[stale, *begin.arrays[1:]])).refusal


def test_the_same_bytes_get_the_same_answer_and_cost_nothing_more(tmp_path: Path) -> None:
    """A question that is sent again, because a poll has died, is answered as before."""
    federation = Federation(tmp_path)
    federation.begun()
    north, message = federation.hospitals["north"], counts_question(federation.study, 2).to_bytes()
    first, left = north.answer(message), north.session.rho_left
    assert north.answer(message) == first
    assert north.session.rho_left == left


def test_what_was_answered_survives_a_restart_and_what_was_lost_stays_lost(tmp_path: Path) -> None:
    """Opened again, north gives the old answer, has paid for it, and does not answer what it had only claimed."""
    federation = Federation(tmp_path, asked_anew=0.4)
    federation.begun()
    north, message = federation.hospitals["north"], counts_question(federation.study, 2).to_bytes()
    first, left = north.answer(message), north.session.rho_left
    lost = counts_question(federation.study, 3, ["died"]).to_bytes()
    (tmp_path / "north" / "run" / "00000003.question").write_bytes(lost)
    again = federation.opened("north")
    assert again.answer(message) == first
    assert again.session.rho_left == pytest.approx(left - PRICE)
    assert "lost" in Answer.from_bytes(again.answer(lost)).refusal
    anew = Answer.from_bytes(again.answer(counts_question(federation.study, 4, ["died"], after=1).to_bytes()))
    assert not anew.refusal
    assert again.session.rho_left == pytest.approx(left - 2 * PRICE)
    (run,) = Ledger(tmp_path / "north" / "ledger.jsonl").runs()
    assert run.units == 3


def test_asking_anew_is_paid_out_of_what_the_study_keeps_for_it(tmp_path: Path) -> None:
    """With a tenth of the budget kept, a question of a twentieth is asked again twice and no third time."""
    federation = Federation(tmp_path, asked_anew=0.1)
    federation.begun()
    price = federation.hospitals["north"].session.rho / 20
    answers = [federation.ask("north", counts_question(federation.study, n, rho=price, after=0)) for n in range(2, 6)]
    assert [bool(answer.refusal) for answer in answers] == [False, False, False, True]
    assert "asking anew" in answers[-1].refusal


def test_the_ledger_has_the_claim_before_the_answer_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the answer is computed, the hospital's ledger holds the reservation and the claim of this question."""
    federation = Federation(tmp_path)
    federation.begun()
    ledger, seen = Ledger(tmp_path / "north" / "ledger.jsonl"), []

    def looking(_masks: Masks, words: Any, **_: Any) -> Any:
        seen.extend(ledger.runs())
        return words

    monkeypatch.setattr(Masks, "hide", looking)
    federation.ask("north", counts_question(federation.study, 2))
    assert [(run.budget, run.units, run.closed) for run in seen] == [(Budget(1.0, 1e-6), 1, False)]


def test_the_limit_of_a_hospitals_own_ledger_holds(tmp_path: Path) -> None:
    """A hospital that has allowed less than the study asks for refuses to begin."""
    federation = Federation(tmp_path)
    (tmp_path / "north").mkdir(exist_ok=True)
    Ledger(tmp_path / "north" / "ledger.jsonl").raise_limit(Budget(0.5, 1e-6), reason="ours")
    assert "0.5" in federation.ask("north", begin_of(federation)).refusal


def test_an_end_closes_the_run_with_what_was_spent(tmp_path: Path) -> None:
    """After end the ledger holds the events, not the reservation, and nothing more is answered."""
    federation = Federation(tmp_path)
    federation.begun()
    federation.ask("north", counts_question(federation.study, 2))
    federation.ask("north", Question(federation.study.digest, 3, "end"))
    (run,) = Ledger(tmp_path / "north" / "ledger.jsonl").runs()
    assert run.closed
    assert run.price("gaussian") == pytest.approx(PRICE)
    assert "has ended" in federation.ask("north", counts_question(federation.study, 4, ["died"])).refusal


def with_column(**column: Any) -> Schema:
    """Return the schema with another column `age`."""
    return Schema.parse({**FACTS, "columns": {**FACTS["columns"], "age": {"type": "numeric", **column}}})


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (with_column(min=0, max=99), "'age'"),
        (Schema.parse({**FACTS, "confirmed": False}), "confirmed"),
        (Schema.parse({**FACTS, "columns": dict(reversed(FACTS["columns"].items()))}), "order"),
        (Schema.parse({**FACTS, "missing_values": ["?"]}), "missing_values"),
    ],
)
def test_a_hospital_answers_by_its_own_confirmed_schema_alone(schema: Schema, reason: str, tmp_path: Path) -> None:
    """A schema that nobody has confirmed, or that says something else than the study, is refused at once."""
    keys = keys_of()
    cohort = Cohort.from_pandas(rows(0), schema)
    with pytest.raises(InputError, match=reason):
        Hospital(study_of(keys), "north", cohort, folder=tmp_path, allowed=ALLOWED, **keys["north"])


def test_what_differs_in_name_and_notes_alone_is_agreed(tmp_path: Path) -> None:
    """A hospital's own name, description, file format and number of rows may differ."""
    keys = keys_of()
    schema = Schema.parse({**FACTS, "name": "our ward", "description": "ours", "rows": 300, "file": {"separator": ";"}})
    hospital = Hospital(
        study_of(keys), "north", Cohort.from_pandas(rows(0), schema), folder=tmp_path, allowed=ALLOWED, **keys["north"]
    )
    assert repr(hospital) == "Hospital('north', study='wards')"


def test_another_key_or_name_than_the_studys_is_refused(tmp_path: Path) -> None:
    """A hospital that the study does not name, or whose key has another fingerprint, does not take part."""
    keys, cohort = keys_of(), Cohort.from_pandas(rows(0), Schema.parse(FACTS))
    terms: dict[str, Any] = {"folder": tmp_path, "allowed": ALLOWED}
    with pytest.raises(InputError, match="no hospital 'east'"):
        Hospital(study_of(keys), "east", cohort, **terms, **keys["north"])
    with pytest.raises(InputError, match="another fingerprint"):
        Hospital(study_of(keys), "north", cohort, **terms, **keys["south"])


def test_the_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    """Its fresh bytes and answers belong to that one."""
    keys, cohort = keys_of(), Cohort.from_pandas(rows(0), Schema.parse(FACTS))
    terms: dict[str, Any] = {"folder": tmp_path, "allowed": ALLOWED, **keys["north"]}
    Hospital(study_of(keys), "north", cohort, **terms)
    with pytest.raises(InputError, match="another study"):
        Hospital(study_of(keys, epsilon=2.0), "north", cohort, **terms)


def test_allowed_kinds_are_the_models(tmp_path: Path) -> None:
    """A model of counts alone does not get interactions."""
    federation = Federation(tmp_path)
    federation.hospitals["north"] = federation.opened("north", allowed=Allowed(frozenset({"counts"}), AnyOrder))
    lead = Lead(federation.study, federation.transport, tmp_path / "other")
    federation.transport._hospitals["north"] = federation.hospitals["north"]
    lead.begin()
    question = replace(counts_question(federation.study, 2), kind="interactions")
    assert "does not ask it" in federation.ask("north", question).refusal


def test_what_a_hospital_sends_is_uniform_whatever_its_patients_are(tmp_path: Path) -> None:
    """1,400 numbers of one answer, without noise: all differ, and their top bits are as often 1 as 0 (1e-9)."""
    federation = Federation(tmp_path)
    federation.begun()
    columns = [["sex", "age"], ["age", "died"], ["sex", "age", "died"], ["age"], ["sex"], ["died"]]
    queries = [fine_query(names, SHAPE) for names in columns]
    facts = {"columns": columns, "sigmas": [50.0] * len(columns), "heard": []}
    question = Question(federation.study.digest, 2, "counts", facts, [m for q in queries for m in q.maps])
    with silence():
        answer = federation.ask("north", question)
    numbers = np.concatenate([array.ravel() for array in answer.arrays])
    assert np.unique(numbers).size == numbers.size > 500
    for bit in range(64):
        ones = int(((numbers >> np.uint64(bit)) & np.uint64(1)).sum())
        assert abs(ones - numbers.size / 2) < 7.5 * math.sqrt(numbers.size) / 2


def test_what_is_sent_hangs_on_patients_through_the_kernel_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tape: with fixed sums in place of the kernel's, hospitals of other patients send the same bytes."""
    federation, sent = Federation(tmp_path / "keys"), []
    monkeypatch.setattr(RunFolder, "fresh", lambda _self: bytes(32))
    monkeypatch.setattr(PrivateAnswers, "_exact", lambda _self, queries: [np.ones(q.shape, np.int64) for q in queries])
    for seed in (1, 2):
        federation.folder = tmp_path / str(seed)
        federation.cohorts = {name: Cohort.from_pandas(rows(seed, 50 * seed), SCHEMA) for name in NAMES}
        federation.hospitals = {name: federation.opened(name) for name in NAMES}
        with silence():
            messages = [begin_of(federation).to_bytes(), *hostile_or_not(federation.study)]
            sent.append([federation.hospitals["north"].answer(message) for message in messages])
    assert sent[0] == sent[1]
    assert any(Answer.from_bytes(answer).arrays for answer in sent[0])
    assert any(Answer.from_bytes(answer).refusal for answer in sent[0])


def hostile_or_not(study: Study) -> list[bytes]:
    """Return questions of which some are answered and some refused."""
    good, again = counts_question(study, 2), counts_question(study, 3, after=0)
    other = replace(good, number=4, facts={**good.facts, "columns": [["insurance"]], "heard": [-1]})
    return [question.to_bytes() for question in (good, again, other, counts_question(study, 5, ["age"], after=1))]
