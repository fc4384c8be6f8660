"""Teachers on disjoint patients: what one patient can change, what is paid, and that nothing of them leaves."""

import pickle
from typing import Any

import numpy as np
import pytest

from dpsynth.errors import BudgetExceeded, DpsynthError, InputError
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.training.teachers import Panel, Teachers
from dpsynth.sources.cap import keyed_numbers
from dpsynth.sources.parts import Part
from privacy.helpers import Recorder, ward

SIZES = {"age": 20, "sex": 2, "unit": 3}


def panel(teachers: int = 7, **facts: Any) -> Panel:
    """Return a panel whose teachers read everything as one-hot."""
    tables = {name: np.eye(size, dtype=np.float32) for name, size in SIZES.items() if name != "sex"}
    return Panel(teachers, tables, {"sex": np.eye(2, dtype=np.float32)}, **facts)


def codes(rows: int, seed: int = 0) -> dict[str, Any]:
    """Return random codes."""
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, size, rows) for name, size in SIZES.items()}


def made(rows: int, seed: int) -> Any:
    """Return made rows as features: one-hot states."""
    found = codes(rows, seed)
    return np.concatenate([np.eye(SIZES[n], dtype=np.float32)[found[n]] for n in ("age", "unit", "sex")], axis=1)


def part(table: dict[str, Any], patients: Any, seed: int = 0) -> list[Part]:
    """Return rows as one part, whose patients are known by their numbers."""
    who, numbers = np.unique(patients, return_inverse=True)
    names = [f"{patient}" for patient in who]

    def identities() -> Any:
        return keyed_numbers(bytes([seed] * 32), "patient", who, names, [b""] * len(who))

    return [Part(table, numbers, None, len(who), identities)]


def rounds(table: dict[str, Any], patients: Any, seed: int) -> tuple[Any, Teachers]:
    """Return the exact votes of four rounds; later made rows do not depend on earlier votes, as given them they may."""
    teachers = Teachers(panel(), part(table, patients, seed))
    return np.concatenate([teachers.votes(made(9, 10 + i), made(30, 20 + i)) for i in range(4)]), teachers


@pytest.mark.parametrize("rows_of_the_last", [1, 2, 25])
@pytest.mark.parametrize("seed", range(5))
def test_a_patient_moves_each_count_by_one(seed: int, rows_of_the_last: int) -> None:
    """Without a patient one teacher differs, all others are the same to the last bit, and no count moves by over 1."""
    patients = np.concatenate([np.repeat(np.arange(40), 2), np.full(rows_of_the_last, 40)])
    table = codes(len(patients), seed)
    kept = patients < 40
    with_them, more = rounds(table, patients, seed)
    without, fewer = rounds({name: column[kept] for name, column in table.items()}, patients[kept], seed)
    assert np.abs(with_them - without).max() <= 1
    different = (more._weights != fewer._weights).any(axis=1)
    assert different.sum() <= 1


def test_the_neighbour_test_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were rows dealt out by their place among all, one patient would move several teachers."""
    patients = np.concatenate([np.arange(40), np.full(60, 40)])
    table = codes(len(patients))
    table["age"][40:], table["unit"][40:] = 3, 1
    kept = patients < 40
    monkeypatch.setattr(
        "dpsynth.privacy.training.teachers._told_apart", lambda ids: np.arange(len(ids), dtype=np.uint64)[::-1]
    )
    _, more = rounds(table, patients, 0)
    _, fewer = rounds({name: column[kept] for name, column in table.items()}, patients[kept], 0)
    assert (more._weights != fewer._weights).any(axis=1).sum() > 1


def test_patients_are_dealt_out_evenly_and_apart() -> None:
    """Each of 7 teachers has its share of 7,000 patients, within 6 standard deviations: a false alarm in 7e7 runs."""
    patients = np.arange(7_000)
    teachers = Teachers(panel(), part(codes(7_000), patients))
    sizes = np.diff(teachers._ends)
    assert sizes.sum() == 7_000
    assert np.abs(sizes - 1000).max() < 6 * np.sqrt(7_000 * (1 / 7) * (6 / 7))


def test_teachers_learn() -> None:
    """Teachers tell patients' rows from made ones by the product of two columns whose margins say nothing."""
    rng = np.random.default_rng(0)
    sex = rng.integers(0, 2, 700)
    table = {"age": np.zeros(700, dtype=int), "sex": sex, "unit": sex}
    teachers = Teachers(panel(), part(table, np.arange(700)))

    def row(sex: int, unit: int) -> Any:
        return np.concatenate([np.eye(20)[0], np.eye(3)[unit], np.eye(2)[sex]]).astype(np.float32)

    shown = np.array([row(s, u) for s in (0, 1) for u in (0, 1)])
    for _ in range(20):
        votes = teachers.votes(shown, shown)
    assert votes.tolist() == [7, 0, 0, 7]


def test_more_teachers_than_patients() -> None:
    """A teacher without patients votes too, and nothing is divided by 0."""
    teachers = Teachers(panel(50), part(codes(3), np.arange(3)))
    assert teachers.votes(made(5, 0), made(5, 1)).min() >= 0


def test_votes_are_paid_before_they_are_asked() -> None:
    """The event has the sensitivity and the noise of the derivation; past the budget nothing is looked at."""
    with Session.open(ward(200), Budget(1.0, 1e-6), seed=0) as session:
        sizes = {name: session.codec.columns[name].size for name in SIZES}
        one = Panel(9, {name: np.eye(size, dtype=np.float32) for name, size in sizes.items()})
        rows = np.zeros((16, one.width))
        votes = session.votes(one, rows, rows, session.rho_left / 2)
        assert votes.shape == (16,)
        (event,) = session.events
        assert (event.kind, event.sensitivity) == ("gaussian", 4.0)
        assert event.scale == pytest.approx(4 / np.sqrt(session.rho))
        session._answers = None  # whoever looks now fails
        with pytest.raises(BudgetExceeded):
            session.votes(one, rows, rows, session.rho_left * 1.01)


def test_the_noise_is_that_of_the_event() -> None:
    """What the noise is called with is the exact votes, whole numbers, and the event's standard deviation."""
    recorder: Any = Recorder()
    recorder.uniform = lambda n: np.random.default_rng(0).random(n)
    with Session.open(ward(200), Budget(1.0, 1e-6), seed=0) as session:
        session._answers._noise = recorder  # type: ignore[union-attr]
        one = Panel(9, {"sex": np.eye(2, dtype=np.float32)})
        votes = session.votes(one, np.eye(2), np.eye(2), session.rho_left)
        assert recorder.sigmas == [session.events[0].scale]
        assert recorder.before[0].dtype == np.int64
        assert votes.tolist() == recorder.before[0].tolist()
        assert 0 <= votes.min() <= votes.max() <= 9


def test_teachers_never_leave() -> None:
    """Their text says nothing, they are not pickled, nothing public of them holds weights, and a session shows none."""
    teachers = Teachers(panel(), part(codes(30), np.arange(30)))
    assert repr(teachers) == "Teachers(...)"
    with pytest.raises(TypeError):
        pickle.dumps(teachers)
    assert {name for name in vars(teachers) if not name.startswith("_")} == {"panel"}
    with Session.open(ward(50), Budget(1.0, 1e-6), seed=0) as session:
        assert not [name for name in dir(session) if "teacher" in name and not name.startswith("_")]


def test_a_fault_inside_tells_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error among private rows comes out without its text and its context."""

    def fails(*_: Any) -> Any:
        raise ValueError("patient Zenker has age 36")

    monkeypatch.setattr(Teachers, "votes", fails)
    with Session.open(ward(50), Budget(1.0, 1e-6), seed=0) as session:
        one = Panel(9, {"sex": np.eye(2, dtype=np.float32)})
        with pytest.raises(DpsynthError, match="asking teachers") as caught:
            session.votes(one, np.eye(2), np.eye(2), session.rho_left)
    assert "Zenker" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"teachers": 0}, "teachers"),
        ({"steps": 0}, "steps"),
        ({"rate": float("nan")}, "rate"),
        ({"tables": {}}, "no features"),
        ({"tables": {"sex": np.array([[np.nan], [1]], dtype=np.float32)}}, "'sex'"),
        ({"tables": {"sex": np.zeros(2, dtype=np.float32)}}, "'sex'"),
    ],
)
def test_odd_panels_are_refused(facts: dict[str, Any], words: str) -> None:
    """A panel out of range is refused before there is a session."""
    with pytest.raises(InputError, match=words):
        Panel(**{"teachers": 3, "tables": {"sex": np.eye(2, dtype=np.float32)}, **facts})


@pytest.mark.parametrize(
    ("rows", "words"),
    [(np.zeros((3, 5)), "expected"), (np.zeros((0, 2)), "expected"), (np.full((3, 2), np.inf), "finite")],
)
def test_odd_rows_are_refused_before_a_debit(rows: Any, words: str) -> None:
    """Rows that do not fit cost nothing."""
    with Session.open(ward(50), Budget(1.0, 1e-6), seed=0) as session:
        one = Panel(9, {"sex": np.eye(2, dtype=np.float32)})
        with pytest.raises(InputError, match=words):
            session.votes(one, np.eye(2), rows, session.rho_left)
        with pytest.raises(InputError, match="modelled"):
            session.votes(Panel(3, {"dx": np.eye(2, dtype=np.float32)}), np.eye(2), np.eye(2), session.rho_left)
        assert session.events == []
