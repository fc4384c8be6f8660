"""Sessions: pay first, look then, and tell nothing that was not paid for."""

import contextlib
import json
import logging
import pickle
import re
import socket
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpsynth.coding.query import Query
from dpsynth.cohort import Cohort
from dpsynth.errors import BudgetExceeded, DpsynthError, InputError, LedgerError, SchemaError
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.mechanisms import SystemNoise
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.accounting import epsilon_of
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Accounting
from dpsynth.privacy.spending.ledger import Ledger

from .helpers import Recorder, Tape, fine, ward, ward_frame, ward_schema

ONE = Budget(1, 1e-6)
SEX = Query(("sex",), (np.arange(2),))


class Guarded(dict[str, Any]):
    """Codes that note every look at them."""

    looks = 0

    def __getitem__(self, key: str) -> Any:
        Guarded.looks += 1
        return super().__getitem__(key)


def guard(session: Session) -> None:
    """Replace the private codes by ones that note every look, and the noise by one that may not be drawn."""
    Guarded.looks = 0
    memory = session._answers._parts  # type: ignore[union-attr]
    memory._codes = Guarded(memory._codes)


def asks() -> dict[str, Callable[[Session, float], Any]]:
    """Return one call of every kind of question, by name."""
    table = [np.zeros(2), np.zeros(2)]
    return {
        "count": lambda s, rho: s.count([SEX, SEX], [rho / 2, rho / 2]),
        "interactions": lambda s, rho: s.interactions([SEX], [rho]),
        "select": lambda s, rho: s.select([SEX, SEX], table, [0, 0], rho, k=2),
        "marginal_errors": lambda s, rho: s.marginal_errors([SEX, SEX], table, rho),
        "quantiles": lambda s, rho: s.quantiles("age", 3, rho),
    }


@pytest.mark.parametrize("accounting", ["gaussian", "zcdp"])
@pytest.mark.parametrize("name", asks())
def test_a_question_past_the_budget_is_refused_and_reads_nothing(name: str, accounting: Accounting) -> None:
    """Just above what is left raises BudgetExceeded (exit 3), looks at no code and debits nothing; just below works."""
    session = Session.open(ward(), ONE, accounting=accounting)
    ask = asks()[name]
    ask(session, session.rho * 0.4)
    guard(session)
    left = session.rho_left
    with pytest.raises(BudgetExceeded) as caught:
        ask(session, left * 1.0001)
    assert Guarded.looks == 0
    assert session.rho_left == left
    assert caught.value.exit_code == 3
    ask(session, left)
    assert session.rho_left <= session.rho * 2e-9


def test_the_guard_would_see_a_look() -> None:
    """The test above can fail: a question that is paid for is noted."""
    session = Session.open(ward(), ONE)
    guard(session)
    session.count([SEX], [session.rho])
    assert Guarded.looks > 0


def test_one_query_too_many_stops_the_whole_call() -> None:
    """A call is paid as a whole: the first queries are not answered when the last cannot be paid."""
    session = Session.open(ward(), ONE)
    guard(session)
    with pytest.raises(BudgetExceeded):
        session.count([SEX] * 3, [session.rho * 0.4] * 3)
    assert Guarded.looks == 0
    assert session.events == []


@pytest.mark.parametrize("accounting", ["gaussian", "zcdp"])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 10.0])
def test_what_is_spent_is_at_most_what_was_asked(accounting: Accounting, epsilon: float) -> None:
    """Whatever mix of questions uses a budget up, its events compose to no more than the epsilon that was asked."""
    session = Session.open(ward(), Budget(epsilon, 1e-6), accounting=accounting)
    for ask in asks().values():
        ask(session, session.rho / 5)
    spent = epsilon_of(session.events, 1e-6, accounting)
    assert epsilon * (1 - 1e-5) - 1e-6 < spent <= epsilon * (1 + 1e-12)
    assert session.statement()["epsilon_spent"] <= epsilon + 1e-6


@pytest.mark.parametrize("rho", [0.0, -1.0, float("nan"), float("inf"), 1e9, 1e-300])
def test_a_price_that_is_none_is_refused(rho: float) -> None:
    """Zero, negative, infinite and underflowing prices end with a message and cost nothing."""
    session = Session.open(ward(), ONE)
    for ask in asks().values():
        with pytest.raises((InputError, BudgetExceeded)):
            ask(session, rho)
    assert session.events == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.count([SEX], [0.001, 0.001]),
        lambda s: s.count([Query(("nobody",), (np.arange(2),))], [0.001]),
        lambda s: s.count([Query(("id",), (np.arange(2),))], [0.001]),
        lambda s: s.count([Query(("sex",), (np.arange(3),))], [0.001]),
        lambda s: s.interactions([Query((), ())], [0.001]),
        lambda s: s.interactions([Query(("sex",), (np.zeros(2, dtype=int),))], [0.001]),
        lambda s: s.select([], [], [], 0.001),
        lambda s: s.select([SEX], [np.zeros(2)], [0], 0.001, k=2),
        lambda s: s.select([SEX], [np.zeros(3)], [0], 0.001),
        lambda s: s.select([SEX], [np.array([0, np.nan])], [0], 0.001),
        lambda s: s.select([SEX], [np.zeros(2)], [np.inf], 0.001),
        lambda s: s.select([SEX], [np.zeros(2)], [0], 0.001, weights=[0]),
        lambda s: s.select([SEX], [np.zeros(2)], [0, 0], 0.001),
        lambda s: s.marginal_errors([SEX], [], 0.001),
        lambda s: s.marginal_errors([SEX], [np.full(2, 1e12)], 0.001),
    ],
)
def test_a_malformed_question_costs_nothing(ask: Callable[[Session], Any]) -> None:
    """Wrong columns, maps, shapes and numbers are refused before anything is paid or read."""
    session = Session.open(ward(), ONE)
    guard(session)
    with pytest.raises(InputError):
        ask(session)
    assert session.events == []
    assert Guarded.looks == 0


def test_no_errors_are_measured_of_nothing() -> None:
    """An empty list of marginals has an empty answer that is free."""
    session = Session.open(ward(), ONE)
    assert session.marginal_errors([], [], 0.001) == []
    assert session.events == []


def test_a_closed_session_answers_nothing() -> None:
    """After the with block every question is refused, whatever is left."""
    with Session.open(ward(), ONE) as session:
        pass
    guard(session)
    for ask in asks().values():
        with pytest.raises(BudgetExceeded, match="closed"):
            ask(session, 0.001)
    assert Guarded.looks == 0


def test_an_unconfirmed_schema_is_refused_before_the_ledger(tmp_path: Path) -> None:
    """Without a person's confirmation nothing is reserved and nothing read."""
    facts = {**ward_schema().model_dump(mode="json", exclude_unset=True), "confirmed": False}
    cohort = Cohort.from_pandas(ward_frame(), ward_schema().parse(facts))
    with pytest.raises(SchemaError, match="confirmed"):
        Session.open(cohort, ONE, ledger=Ledger(tmp_path / "l.jsonl"))
    assert list(tmp_path.iterdir()) == []


# -- the ledger of a session ------------------------------------------------------------------------------------------


def test_a_public_cohort_needs_no_ledger_and_a_private_frame_needs_one(tmp_path: Path) -> None:
    """The refusal says what to pass; with a ledger the private frame is opened."""
    assert Session.open(ward(public=True), ONE).statement()["earlier_releases"]["runs"] is None
    with pytest.raises(InputError, match="ledger=Ledger"):
        Session.open(ward(public=False), ONE)
    Session.open(ward(public=False), ONE, ledger=Ledger(tmp_path / "l.jsonl")).close()


def test_a_private_file_has_its_ledger_beside_it(tmp_path: Path) -> None:
    """The reservation is on the disk when open returns, and the commit when the block ends."""
    ward_frame().to_csv(tmp_path / "ward.csv", index=False)
    cohort = Cohort.read(tmp_path / "ward.csv", ward_schema())
    ledger = Ledger(tmp_path / "ward.csv.ledger.jsonl")
    with Session.open(cohort, ONE) as session:
        assert ledger.spent().epsilon == pytest.approx(1)
        session.count([SEX], [session.rho / 4])
        assert ledger.spent().open_runs == 1
    assert ledger.spent().open_runs == 0
    assert ledger.spent().epsilon == pytest.approx(session.statement()["epsilon_spent"], abs=1e-5)
    with pytest.raises(BudgetExceeded), Session.open(cohort, ONE):
        pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interrupted_run_commits_what_it_debited(error: type[BaseException], tmp_path: Path) -> None:
    """Ctrl-C or a fault after data was touched leaves the debited events in the ledger, no less and no more."""
    ledger = Ledger(tmp_path / "l.jsonl")
    with (  # noqa: PT012  (the interrupt must come inside)
        pytest.raises(error),
        Session.open(ward(public=False), ONE, ledger=ledger) as session,
    ):
        session.count([SEX], [session.rho / 4])
        raise error
    run = ledger.runs()[0]
    assert run.closed
    assert list(run.events or ()) == session.events
    assert run.price("gaussian") == pytest.approx(session.rho / 4)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_fault_inside_the_noise_leaves_its_question_spent(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The debit stands before the data is looked at, so an interrupt in the middle of an answer cannot undo it."""

    def broken(*_: Any) -> Any:
        raise error("male")

    monkeypatch.setattr(SystemNoise, "gaussian", broken)
    ledger = Ledger(tmp_path / "l.jsonl")
    with (
        pytest.raises((error, DpsynthError)),
        Session.open(ward(public=False), ONE, ledger=ledger) as session,
    ):
        session.count([SEX], [session.rho / 4])
    assert ledger.runs()[0].price("gaussian") == pytest.approx(session.rho / 4)


def test_a_fault_while_opening_commits_that_nothing_was_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the cohort cannot be taken in, the reservation is closed with no events."""
    monkeypatch.setattr(PrivateAnswers, "use", lambda *_: 1 / 0)
    ledger = Ledger(tmp_path / "l.jsonl")
    with pytest.raises(ZeroDivisionError):
        Session.open(ward(public=False), ONE, ledger=ledger)
    assert ledger.spent().epsilon == 0
    assert ledger.runs()[0].closed


def test_nothing_is_read_when_the_ledger_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that cannot be trusted stops the session before the cohort is touched."""
    (tmp_path / "l.jsonl").write_text("{}\n")
    monkeypatch.setattr(Cohort, "take", lambda *_: pytest.fail("the cohort was read"))
    monkeypatch.setattr(Cohort, "patients", lambda *_: pytest.fail("the cohort was read"))
    with pytest.raises(LedgerError):
        Session.open(ward(public=False), ONE, ledger=Ledger(tmp_path / "l.jsonl"))


def test_a_ledger_lost_at_the_end_counts_the_reservation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the commit cannot be written the error is raised; amid another error it is logged, and that one goes on."""
    ledger = Ledger(tmp_path / "l.jsonl")
    session = Session.open(ward(public=False), ONE, ledger=ledger)
    text = ledger.path.read_text()
    ledger.path.write_text(text + "x")
    with pytest.raises(LedgerError):
        session.close()
    ledger.path.write_text(text)
    assert ledger.spent().epsilon == pytest.approx(1)
    ledger.raise_limit(Budget(9, 1e-6), reason="test")
    with (  # noqa: PT012  (the fault must come inside)
        pytest.raises(KeyError),
        caplog.at_level(logging.WARNING),
        Session.open(ward(public=False), ONE, ledger=ledger),
    ):
        ledger.path.write_text("x")
        raise KeyError
    assert "reservation" in caplog.text


# -- test modes -------------------------------------------------------------------------------------------------------


def test_a_seed_repeats_everything_and_is_stamped_not_private(tmp_path: Path) -> None:
    """Two seeded sessions answer alike, say that they are not private, and the ledger and later statements know."""
    answers = []
    ledger = Ledger(tmp_path / "l.jsonl")
    for budget in (Budget(1, 1e-6), Budget(0.5, 1e-6)):
        with contextlib.suppress(BudgetExceeded), Session.open(ward(public=False), budget, ledger=ledger, seed=7) as s:
            answers.append(s.count([SEX], [0.001])[0].counts.tolist())
            assert not s.private
            assert s.statement()["private"] is False
            assert s.statement()["guarantee"].startswith("not private")
    assert ledger.spent().test_runs == 2
    assert answers[0] == answers[1]
    ledger.raise_limit(Budget(9, 1e-6), reason="test")
    with Session.open(ward(public=False), ONE, ledger=ledger) as session:
        assert "fixed seed" in session.statement()["earlier_releases"]["note"]


def test_two_private_sessions_answer_differently() -> None:
    """Without a seed no noise repeats, and the session says that it is private."""
    query = [SEX] * 20
    one, two = (Session.open(ward(), ONE) for _ in range(2))
    assert one.private
    first, second = (s.count(query, [s.rho / 20] * 20) for s in (one, two))
    assert any((a.counts != b.counts).any() for a, b in zip(first, second, strict=True))


# -- what it tells ----------------------------------------------------------------------------------------------------


def test_the_row_count_is_only_known_where_it_is_declared() -> None:
    """`rows` is the schema's, or what the caller says of a part; never the length of the table."""
    assert Session.open(ward(321), ONE).rows is None
    assert Session.open(ward(321, rows=400), ONE).rows == 400
    assert Session.open(ward(321, rows=400), ONE, train_rows=300).rows == 300
    told = json.dumps(Session.open(ward(321, rows=400), ONE).statement())
    assert "321" not in told
    assert "number of rows" in told


def test_the_statement_says_all_that_the_design_asks() -> None:
    """Epsilon, delta, definition, neighbours, unit, cap, accountant, events, trade-off, limits, noise, versions."""
    with Session.open(ward(cap=3, rows=500), ONE) as session:
        session.count([fine(session, "sex", "unit"), SEX, SEX], [session.rho / 4] * 3)
        facts = json.loads(json.dumps(session.statement(), allow_nan=False))
    assert (facts["epsilon"], facts["delta"]) == (1.0, 1e-6)
    assert 0 < facts["epsilon_spent"] <= 1
    assert (facts["unit"], facts["patient_column"]) == ("patient", "id")
    assert "column 'id'" in facts["neighbours"]
    assert "column 'id'" in facts["guarantee"]
    assert facts["max_rows_per_patient"] == 3
    assert facts["accountant"]["version"]
    assert [e["what"] for e in facts["events"]] == ["counts of sex x unit", "counts of sex"]
    assert [e["count"] for e in facts["events"]] == [1, 2]
    assert sum(e["rho"] for e in facts["events"]) == pytest.approx(0.75 * session.rho)
    assert {"definition", "neighbours", "trade_off", "not_protected", "randomness", "libraries"} <= set(facts)
    assert any("rows" in line for line in facts["not_protected"])


def test_the_statement_names_no_path_user_host_or_label(tmp_path: Path) -> None:
    """Nothing of the machine, the file or the run's label is in what is released."""
    ward_frame().to_csv(tmp_path / "hidden-name.csv", index=False)
    cohort = Cohort.read(tmp_path / "hidden-name.csv", ward_schema())
    with Session.open(cohort, ONE, label="secret label") as session:
        told = json.dumps(session.statement())
    for word in (str(tmp_path), "hidden-name", "secret label", socket.gethostname(), str(Path.home())):
        assert word not in told
    assert not re.search(r"[0-9a-f]{32}", told)


def test_private_objects_show_and_pickle_nothing() -> None:
    """The representation of a session and its answers holds no data, and neither can be pickled."""
    session = Session.open(ward(321), ONE)
    assert "321" not in repr(session) + repr(session._answers)
    for thing in (session, session._answers):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


def test_a_foreign_error_in_the_kernel_carries_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that mentions a patient's value becomes a generic message without cause, context or inner frames."""
    session = Session.open(ward(), ONE)
    monkeypatch.setattr("dpsynth.privacy.answers.contingency", lambda *_: int("Jane Doe"))
    for ask in asks().values():
        with pytest.raises(DpsynthError, match="withheld") as caught:
            ask(session, session.rho / 10)
        error = caught.value
        assert "Jane" not in str(error)
        assert error.__cause__ is None
        assert error.__context__ is None
        assert "_bincounts" not in str(caught.traceback)


# -- tape -------------------------------------------------------------------------------------------------------------


def adversarial() -> dict[str, Any]:
    """Return neighbours of one cohort that a careless kernel would tell apart, by what is special about them."""
    base = ward_frame(120, per_patient=3, discover=True)
    frames = {"base": base}
    for name, change in {
        "new category": {"dx": "a disease that nobody else has"},
        "first extreme": {"age": 1e9},
        "first missing": {"age": np.nan},
    }.items():
        frame = base.copy()
        for column, value in change.items():
            frame.loc[frame.index[:3], column] = value
        frames[name] = frame
    frames["one patient less"] = base.iloc[3:]
    crowd = base.copy()
    crowd["id"] = "one patient has every row"
    frames["one patient with many rows"] = crowd
    return frames


@pytest.mark.parametrize("name", [n for n in adversarial() if n != "base"])
def test_with_a_tape_in_place_of_the_data_nothing_differs(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers, codec, statement, refusals and logs are byte-identical for neighbours when every answer is fixed."""
    told = []
    for which in ("base", name):
        cohort = Cohort.from_pandas(adversarial()[which], ward_schema(cap=3, discover=True))
        ledger = Ledger(tmp_path / f"{which}.jsonl")
        with (
            caplog.at_level(logging.DEBUG, logger="dpsynth"),
            Session.open(cohort, ONE, ledger=ledger, answers=Tape()) as session,
        ):
            seen: list[Any] = [session.discover("dx", session.rho / 10), repr(session), session.codec.shape]
            seen += [repr(ask(session, session.rho / 10)) for ask in asks().values()]
            for ask in asks().values():
                with pytest.raises(BudgetExceeded) as caught:
                    ask(session, session.rho)
                seen.append(str(caught.value))
            seen.append(session.statement())
        told.append(json.dumps(seen, default=str) + caplog.text)
        caplog.clear()
    assert told[0] == told[1]


@pytest.mark.parametrize("name", adversarial())
def test_every_neighbour_opens_and_answers(name: str) -> None:
    """The same neighbours go through the real kernel without an error that would tell them apart."""
    cohort = Cohort.from_pandas(adversarial()[name], ward_schema(cap=3, discover=True), public=True)
    session = Session.open(cohort, Budget(3, 1e-6))
    session.discover("dx", session.rho / 10)
    for ask in asks().values():
        ask(session, session.rho / 10)
    assert session.rho_left == pytest.approx((9 - len(asks())) / 10 * session.rho, abs=1e-9)


def test_an_empty_cohort_after_the_split_still_answers() -> None:
    """A cohort of no rows (its one patient removed) answers with noise alone."""
    cohort = ward(1).take(np.array([], dtype=np.int64))
    session = Session.open(cohort, ONE)
    for ask in asks().values():
        ask(session, session.rho / 10)
    assert session.rho_left == pytest.approx((10 - len(asks())) / 10 * session.rho, abs=1e-9)


def test_no_warning_leaves_the_kernel(caplog: pytest.LogCaptureFixture) -> None:
    """A warning or log record while private values are read tells that somebody has such a value: none gets out."""

    class Loud(Recorder):
        def gaussian(self, values: np.ndarray, sigma: float) -> np.ndarray:
            warnings.warn("a value of a patient", RuntimeWarning, stacklevel=1)
            np.float64(1e308) * np.asarray([1e308])
            logging.getLogger("foreign").error("a value of a patient")
            return super().gaussian(values, sigma)

    cohort = ward()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        session = Session.open(cohort, ONE, answers=PrivateAnswers(cohort, 1, Loud()))
        session.count([SEX], [session.rho])
    assert found == []
    assert caplog.records == []
    logging.getLogger("foreign").error("outside, a program hears of its own")
    assert len(caplog.records) == 1


def test_threads_that_look_at_once_leave_the_process_as_it_was() -> None:
    """One begins while another looks, and ends after it: logging and warnings are then as they were before both."""
    from threading import Barrier, Thread

    from dpsynth.privacy.quiet import quiet

    begun, both, ended = (Barrier(2, timeout=30) for _ in range(3))

    def first() -> None:
        with quiet():
            begun.wait()
            both.wait()
        ended.wait()

    before, filters = logging.root.manager.disable, list(warnings.filters)
    thread = Thread(target=first)
    thread.start()
    begun.wait()
    with quiet():
        both.wait()
        ended.wait()
        assert logging.root.manager.disable >= logging.CRITICAL  # the other has ended, and this one still looks
    thread.join()
    assert logging.root.manager.disable == before
    assert list(warnings.filters) == filters


def test_rows_without_the_declared_patient_are_refused(tmp_path: Path) -> None:
    """Rows whose patients are not known would each be taken for one: refused, and nothing is reserved."""
    frame = ward_frame(30).drop(columns="id")
    cohort = Cohort.from_pandas(frame, ward_schema(), synthetic=True)
    with pytest.raises(InputError, match="no column 'id'"):
        Session.open(cohort, ONE, ledger=Ledger(tmp_path / "l.jsonl"))
    assert not (tmp_path / "l.jsonl").exists()
    assert Session.open(replace(cohort, public=True), ONE).rho_left > 0
