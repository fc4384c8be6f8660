"""What the mechanisms spend: all that was asked for, nothing beyond it, and what their plan said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mechanism_cases import NAMES, ORDINARY, cohort_of, fitted, maker, ordinary, schema_of

import dpsynth
from dpsynth.cohort import Cohort
from dpsynth.models.plan import Plan
from dpsynth.models.tabular.independent import Independent
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.accounting import epsilon_of
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger

DX = {"type": "categorical", "discover": True, "max_values": 5}


def _ward(*, n: int = 400, discover: bool = False, **facts: Any) -> Cohort:
    columns, frame = dict(ORDINARY), ordinary(n)
    if discover:
        columns["dx"] = DX
        frame["dx"] = np.random.default_rng(3).choice(["flu", "gout", "yaws"], n, p=[0.6, 0.39, 0.01])
    return cohort_of(columns, frame, target="died", subgroups=["sex"], **facts)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("discover", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_budget_and_no_more(name: str, discover: bool, epsilon: float) -> None:
    """The events of a fit cost together at most the epsilon that was asked for, and at least 99 % of it."""
    session, _ = fitted(name, _ward(discover=discover), epsilon)
    spent = epsilon_of(session.events, 1e-6, session.accounting)
    assert 0.99 * epsilon <= spent <= epsilon * (1 + 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_one_column_gets_all(name: str) -> None:
    """A table of one column has no pairs to pay for: its counts get the whole budget."""
    session, model = fitted(name, cohort_of({"age": ORDINARY["age"]}, {"age": ordinary()["age"]}))
    assert epsilon_of(session.events, 1e-6, session.accounting) >= 0.99
    assert len(model.sample(20, seed=0)) == 20


@pytest.mark.parametrize("name", NAMES)
def test_the_ledger_has_what_was_asked(name: str, tmp_path: Path) -> None:
    """What the dataset's ledger counts for a run is within the budget that the user named."""
    cohort = Cohort.from_pandas(_ward().to_pandas(), _ward().schema)
    book = Ledger(tmp_path / "ward.ledger.jsonl")
    dpsynth.fit(cohort, maker(name), epsilon=0.5, ledger=book)
    spent = book.spent()
    assert spent.runs == 1
    assert spent.open_runs == 0
    assert 0.99 * 0.5 <= spent.epsilon <= 0.5 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("independent", {"gaussian"}),
        ("mst", {"gaussian", "selection"}),
        ("aim", {"gaussian", "selection"}),
        ("prism", {"gaussian"}),
    ],
)
def test_kinds_of_events(name: str, kinds: set[str]) -> None:
    """Independent and PRISM ask Gaussian questions only; MST and AIM select as well."""
    session, _ = fitted(name, _ward())
    assert {event.kind for event in session.events} == kinds


@pytest.mark.parametrize("name", NAMES)
def test_noise_scales_with_the_patient_cap(name: str) -> None:
    """With three rows a patient every question, counted or selected, has at least 3 times the sensitivity."""
    apart, _ = fitted(name, _ward())
    frame = {"id": [f"p{i // 3}" for i in range(400)], **ordinary()}
    columns = {"id": {"type": "identifier"}, **ORDINARY}
    together, _ = fitted(name, cohort_of(columns, frame, patient="id", max_rows_per_patient=3, target="died"))
    for kind in {event.kind for event in apart.events}:
        least = {s: min(e.sensitivity for e in s.events if e.kind == kind) for s in (apart, together)}
        assert least[together] >= 2.2 * least[apart]  # interactions: 3 x the root of a product of (1 - 1/k)
    assert min(e.sensitivity for e in together.events if e.what.startswith("counts")) == 3


def _plan(name: str, cohort: Cohort, epsilon: float = 1.0) -> Plan:
    return maker(name).plan(cohort.schema, Budget(epsilon, 1e-6), 400)


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_knows_the_noise_of_the_columns(name: str) -> None:
    """The noise that a plan tells for the columns is what the fit asks for, within a factor 2 where it adapts."""
    for cohort in (_ward(), _ward(discover=True)):
        plan = _plan(name, cohort)
        session, _ = fitted(name, cohort)
        columns = [f"counts of {c}" for c in session.codec.columns]
        asked = [e.scale for e in session.events if e.what in columns]
        assert plan.items[0].tables == len(columns)
        factor = 2.0 if name == "prism" else 1.1
        assert plan.items[0].sigma / factor <= float(np.median(asked)) <= plan.items[0].sigma * factor


def test_the_plan_of_mst_is_exact() -> None:
    """MST asks as many choices and pairs as it planned, with the noise that it planned."""
    plan, (session, _) = _plan("mst", _ward()), fitted("mst", _ward())
    choices, pairs = plan.items[1:]
    assert sum(e.count for e in session.events if e.kind == "selection") == choices.tables == 4
    counted = [e for e in session.events if e.kind == "gaussian" and " x " in e.what]
    assert sum(e.count for e in counted) == pairs.tables == 4
    assert [e.scale for e in counted] == pytest.approx([pairs.sigma] * len(counted))


def test_the_plan_of_prism_tells_the_pairs() -> None:
    """PRISM scans as many pairs as it planned and asks about the target as planned."""
    plan, (session, _) = _plan("prism", _ward()), fitted("prism", _ward())
    asked = [e for e in session.events if e.what.startswith("interaction")]
    assert sum(item.tables for item in plan.items[1:]) == sum(e.count for e in asked)
    assert sum(e.count for e in asked if "died" in e.what) == 4


def _wide(**facts: Any) -> Cohort:
    """Return 20 letters, the first of which tells the target in part."""
    rng = np.random.default_rng(0)
    frame: dict[str, Any] = {f"x{i}": rng.choice(list("abcd"), 3000) for i in range(20)}
    frame["died"] = np.where(rng.random(3000) < 0.5, frame["x0"] == "a", rng.random(3000) < 0.3).astype(int)
    letters = {"type": "categorical", "values": list("abcd")}
    columns = {name: letters for name in frame if name != "died"} | {"died": {"type": "boolean", "labels": [0, 1]}}
    return cohort_of(columns, frame, target="died", rows=3000, **facts)


def _asked(session: Session) -> list[str]:
    return [e.what for e in session.events if e.what.startswith("interaction")]


def test_what_noise_hides_is_not_asked() -> None:
    """At epsilon 0.3 all pairs with the target are asked and no other; at 3 all of them. The plan says the same."""
    for epsilon, pairs in ((0.3, 20), (3.0, 20 * 21 // 2)):
        session, _ = fitted("prism", _wide(), epsilon)
        plan = maker("prism").plan(_wide().schema, Budget(epsilon, 1e-6), 3000)
        asked = [what for what in _asked(session) if what.count(" x ") == 1]
        assert sum("died" in what for what in asked) == 20
        assert len(set(asked)) == pairs
        assert sum(item.tables for item in plan.items[1:] if "triples" not in item.what) == len(asked)
        assert ("pairs, scanned" in str(plan.items)) == (epsilon > 1)


def test_triples_are_asked_where_noise_does_not_hide_a_strong_one() -> None:
    """At epsilon 0.3 none is asked; at 3 the 190 with the target, as planned, and what they cost is in the budget."""
    for epsilon, triples in ((0.3, 0), (3.0, 190)):
        session, _ = fitted("prism", _wide(), epsilon)
        plan = maker("prism").plan(_wide().schema, Budget(epsilon, 1e-6), 3000)
        asked = {what for what in _asked(session) if what.count(" x ") == 2}
        assert len(asked) == triples == sum(item.tables for item in plan.items if "triples" in item.what)
        assert all("died" in what for what in asked)
        assert session.rho_left == pytest.approx(0, abs=1e-9 * session.rho)


def test_related_pairs_are_asked_in_any_noise() -> None:
    """Where nothing is scanned the pairs that the schema calls related are asked beside those with the target."""
    cohort = _wide(related=[["x1", "x2"]])
    session, _ = fitted("prism", cohort, 0.3)
    asked = _asked(session)
    assert len(asked) == 21
    assert sum("x1" in what and "x2" in what for what in asked) == 1
    plan = maker("prism").plan(cohort.schema, Budget(0.3, 1e-6), 3000)
    assert [item.tables for item in plan.items[1:]] == [20, 1]


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_is_complete(name: str) -> None:
    """A plan needs no data and has budget, noise, errors that fall with epsilon, time, and is JSON-able."""
    schema = schema_of({**ORDINARY, "dx": DX}, target="died")
    poor, rich = (maker(name).plan(schema, Budget(e, 1e-6), 5_000) for e in (0.1, 10.0))
    for key, error in poor.expected_error.items():
        assert 0 < rich.expected_error[key] <= error <= 1
    assert poor.rho < rich.rho
    assert poor.items[0].sigma > rich.items[0].sigma > 0
    assert poor.expected_seconds > 0
    assert poor.to_dict()["model"] == name
    assert poor.warnings


def test_a_plan_of_another_packages_model() -> None:
    """A model that is not ours uses the shared plan and tells its own expected time."""

    class Foreign(Independent):
        name = "foreign"
        seconds = (100.0, 0.0)

    plan = Foreign().plan(_ward().schema, Budget(1.0, 1e-6), 400)
    assert plan.expected_seconds == pytest.approx(100.0, abs=0.2)


class _Stop:
    """Interrupts a fit at one of its reports."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, _phase: str, _share: float) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def _opened(name: str, cohort: Cohort, book: Ledger) -> Session:
    return Session.open(cohort, Budget(1.0, 1e-6), accounting=maker(name).accounting, ledger=book)


@pytest.mark.parametrize("at", [0, 1, 2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_interrupted(name: str, at: int, tmp_path: Path) -> None:
    """Ctrl-C in any phase ends the fit; the ledger has what was debited by then, and the run is closed."""
    cohort = Cohort.from_pandas(_ward().to_pandas(), _ward().schema)
    book = Ledger(tmp_path / "ward.ledger.jsonl")
    made, session = maker(name), _opened(name, cohort, book)
    with pytest.raises(KeyboardInterrupt), session:
        made.fit(session, _Stop(at))
    events = session.events
    spent = book.spent()
    assert spent.open_runs == 0
    assert bool(events) == (at > 0)
    assert spent.epsilon == pytest.approx(epsilon_of(events, 1e-6, made.accounting) if events else 0.0, rel=1e-6)
