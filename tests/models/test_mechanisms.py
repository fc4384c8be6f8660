"""Every mechanism works on awkward tables, keeps constraints, draws under conditions and survives its file."""

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mechanism_cases import NAMES, ORDINARY, cohort_of, fitted, maker, ordinary

from dpsynth.cohort import Cohort
from dpsynth.cohort.rows import constraint_violations
from dpsynth.errors import InputError
from dpsynth.models import Model, load_model
from dpsynth.privacy.spending.accounting import epsilon_of
from dpsynth.privacy.spending.budget import Budget

ROWS = ordinary()
ONLY = {"type": "categorical", "values": ["only"]}
CODES = {"type": "categorical", "values": [f"c{i}" for i in range(10_000)]}
DX = {"type": "categorical", "discover": True, "max_values": 5}
DATE = {"type": "datetime", "min": "1989-01-01", "max": "1995-12-31"}


def _first(n: int) -> dict[str, Any]:
    return {name: values[:n] for name, values in ROWS.items()}


def _one(column: str) -> Cohort:
    return cohort_of({column: ORDINARY[column]}, {column: ROWS[column]})


def _with(columns: dict[str, Any], values: dict[str, Any], **facts: Any) -> Cohort:
    return cohort_of({**ORDINARY, **columns}, {**ROWS, **values}, **facts)


def _patients(ids: list[str]) -> Cohort:
    return _with({"id": {"type": "identifier"}}, {"id": ids}, patient="id", max_rows_per_patient=3)


def _all_missing() -> Cohort:
    columns = {name: {**column, "missing": True} for name, column in ORDINARY.items()}
    return cohort_of(columns, {name: pd.Series([None] * 50, dtype=object) for name in columns})


def _dates() -> Cohort:
    rng = np.random.default_rng(5)
    start = pd.Timestamp("1989-01-01")
    days = {name: start + pd.to_timedelta(rng.integers(0, 2000, 400), "D") for name in ("in", "out")}
    return _with({"in": DATE, "out": {**DATE, "missing": True}}, days)


def _odd_names() -> Cohort:
    names = ["a b", "1'\"x", "größe, é", "belief.0", "__class__"]
    columns = dict(zip(names, ORDINARY.values(), strict=True))
    return cohort_of(columns, dict(zip(names, ROWS.values(), strict=True)), target="belief.0")


AWKWARD: dict[str, Callable[[], Cohort]] = {
    "one number": lambda: _one("age"),
    "one boolean": lambda: _one("died"),
    "one row": lambda: cohort_of(ORDINARY, _first(1), target="died"),
    "two rows": lambda: cohort_of(ORDINARY, _first(2), target="died"),
    "a constant column": lambda: _with({"k": ONLY}, {"k": ["only"] * 400}, target="died"),
    "a constant target": lambda: _with({"k": ONLY}, {"k": ["only"] * 400}, target="k"),
    "nothing but constants": lambda: cohort_of({"k": ONLY, "l": ONLY}, {"k": ["only"] * 40, "l": ["only"] * 40}),
    "a column all missing": lambda: _with({}, {"lab": [np.nan] * 400}),
    "a table all missing": _all_missing,
    "one patient with every row": lambda: _patients(["p"] * 400),
    "three rows a patient": lambda: _patients([f"p{i // 3}" for i in range(400)]),
    "odd names": _odd_names,
    "dates": _dates,
    "values to discover": lambda: _with({"dx": DX}, {"dx": ["flu", "gout"] * 200}, target="dx"),
    "nothing to be discovered": lambda: cohort_of({**ORDINARY, "dx": DX}, {**_first(5), "dx": list("abcde")}),
    "no target": lambda: cohort_of(ORDINARY, ROWS),
    "target and subgroups": lambda: cohort_of(ORDINARY, ROWS, target="died", subgroups=["sex", "unit"]),
}


@pytest.mark.parametrize("case", AWKWARD)
@pytest.mark.parametrize("name", NAMES)
def test_awkward_tables(name: str, case: str) -> None:
    """A table at the edge of what a schema allows spends its budget and gives rows that the schema accepts."""
    cohort = AWKWARD[case]()
    session, model = fitted(name, cohort)
    assert 0.99 <= epsilon_of(session.events, 1e-6, session.accounting) <= 1 + 1e-9
    drawn = model.sample(100, seed=0)
    modelled = [column for column in cohort.columns if column != "id"]
    assert list(drawn.columns) == modelled
    assert len(Cohort.from_pandas(drawn.to_pandas(), drawn.schema, synthetic=True)) == 100


@pytest.mark.parametrize("rows", [1, 400])
@pytest.mark.parametrize("case", AWKWARD)
@pytest.mark.parametrize("name", NAMES)
def test_plans_of_awkward_tables(name: str, case: str, rows: int) -> None:
    """The plan for such a table has finite numbers, whatever the row count."""
    plan = maker(name).plan(AWKWARD[case]().schema, Budget(1.0, 1e-6), rows)
    assert all(0 <= error <= 1 for error in plan.expected_error.values())
    assert all(np.isfinite(item.sigma) and item.tables >= 1 for item in plan.items)


@pytest.mark.parametrize("epsilon", [0.1, 10.0])
@pytest.mark.parametrize("name", NAMES)
def test_little_and_much_budget(name: str, epsilon: float) -> None:
    """At both ends of the budgets that people use the model draws rows, and knows the row count as the noise allows."""
    _, model = fitted(name, cohort_of(ORDINARY, ROWS, target="died"), epsilon)
    assert len(model.sample(50, seed=0)) == 50
    assert abs(model.rows - 400) <= (400 if epsilon < 1 else 20)


@pytest.mark.parametrize("name", NAMES)
def test_ten_thousand_categories(name: str) -> None:
    """A column of 10,000 categories beside another of them takes seconds and less than 1 GiB, not 10^8 cells."""
    codes = [f"c{i % 700}" for i in range(400)]
    columns = {"a": CODES, "b": CODES, "sex": ORDINARY["sex"]}
    cohort = cohort_of(columns, {"a": codes, "b": codes[::-1], "sex": ROWS["sex"]}, target="a")
    tracemalloc.start()
    started = time.perf_counter()
    try:
        _, model = fitted(name, cohort)
        assert len(model.sample(100, seed=0)) == 100
        assert tracemalloc.get_traced_memory()[1] < 2**30
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - started < 30


RULES = [
    {"when": {"sex": "male"}, "forbid": {"unit": "d"}},
    {"when": {"unit": "a", "sex": "female"}, "require": {"died": 1}},
    {"when": {"age": {"min": 90}}, "forbid": {"unit": ["b", None]}},
    {"order": ["age", "later"]},
]


@pytest.mark.parametrize("epsilon", [0.3, 3.0])
@pytest.mark.parametrize("name", NAMES)
def test_constraints_hold(name: str, epsilon: float) -> None:
    """What the schema forbids never occurs among 2,000 drawn rows, although the data are full of it."""
    later = {"later": {"type": "numeric", "min": 18, "max": 110, "missing": True}}
    values = {"later": np.random.default_rng(4).integers(18, 111, 400)}
    _, model = fitted(name, _with(later, values, target="died", constraints=RULES), epsilon)
    broken = constraint_violations(model.sample(2_000, seed=0))
    assert len(broken) == 4
    assert set(broken.values()) == {0}


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Model:
    """Return each mechanism's model of the ordinary ward."""
    found: Model = fitted(request.param, cohort_of(ORDINARY, ROWS, target="died"), 3.0)[1]
    return found


CONDITIONS: list[tuple[dict[str, Any], Callable[[pd.DataFrame], pd.Series]]] = [
    ({"unit": "b"}, lambda t: t.unit == "b"),
    ({"age": {"min": 80}, "sex": "male"}, lambda t: (t.age >= 80) & (t.sex == "male")),
    ({"lab": None}, lambda t: t.lab.isna()),
    ({"unit": ["a", None], "died": 1}, lambda t: (t.unit.isna() | (t.unit == "a")) & (t.died == 1)),
]


@pytest.mark.parametrize("place", range(len(CONDITIONS)))
def test_where_is_exact(model: Model, place: int) -> None:
    """Every row that is drawn under a condition meets it, and there are as many as were asked for."""
    where, meets = CONDITIONS[place]
    drawn = model.sample(500, where=where, seed=0).to_pandas()
    assert len(drawn) == 500
    assert meets(drawn).all()


def test_where_keeps_the_rest(model: Model) -> None:
    """A condition that always holds changes no distribution."""
    free = model.sample(4_000, seed=0).to_pandas()
    bound = model.sample(4_000, where={"age": {"min": 18}}, seed=1).to_pandas()
    for column in ("sex", "unit", "died"):
        a, b = (t[column].astype(str).value_counts(normalize=True) for t in (free, bound))
        assert float(a.sub(b, fill_value=0).abs().max()) < 0.02


@pytest.mark.parametrize(
    ("where", "words"),
    [({"unit": "zebra"}, "unit"), ({"nobody": 1}, "nobody"), ({"age": {"min": 200}}, "age"), ({"sex": None}, "sex")],
)
def test_where_that_cannot_be(model: Model, where: dict[str, Any], words: str) -> None:
    """A condition on what the schema does not have is refused with a message that names the column."""
    with pytest.raises(InputError, match=words):
        model.sample(5, where=where, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_where_against_a_constraint(name: str) -> None:
    """A condition that the schema's constraints exclude is refused, in words, and nothing is drawn."""
    rules = [{"when": {"sex": "male"}, "forbid": {"unit": "d"}}]
    _, found = fitted(name, cohort_of(ORDINARY, ROWS, constraints=rules))
    with pytest.raises(InputError, match="where"):
        found.sample(5, where={"sex": "male", "unit": "d"}, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_where_that_hardly_occurs(name: str) -> None:
    """A condition that the model gives next to no chance is refused: the rows would be made of rounding."""
    values = {"sex": ["female"] * 400, "unit": ["a"] * 400, "died": [0] * 400}
    _, found = fitted(name, cohort_of({c: ORDINARY[c] for c in values}, values), 10.0)
    with pytest.raises(InputError, match="scarce"):
        found.sample(5, where={"sex": "male", "unit": "d", "died": 1}, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_seeded_fit_is_repeatable(name: str) -> None:
    """In test mode the same seed gives the same model, to the last bit."""
    cohort = cohort_of(ORDINARY, ROWS, target="died")
    first, second = (fitted(name, cohort, seed=7)[1].to_parts() for _ in range(2))
    assert first[0] == second[0]
    assert all(first[1][key].tobytes() == second[1][key].tobytes() for key in first[1])


def test_the_file_gives_the_same_rows(model: Model, tmp_path: Path) -> None:
    """A model that was saved and loaded draws the same rows from the same seed, free and under a condition."""
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    for where in (None, {"sex": "male", "age": {"min": 70}}):
        first, second = (m.sample(200, where=where, seed=5).table for m in (model, again))
        assert first.equals(second)
    assert again.rows == model.rows
    assert again.statement == model.statement


def test_draws_differ_without_a_seed(model: Model) -> None:
    """Two draws without a seed are not the same rows."""
    assert not model.sample(200).table.equals(model.sample(200).table)


def test_one_row(model: Model) -> None:
    """One row can be drawn, under a condition too."""
    assert len(model.sample(1, seed=0)) == 1
    assert len(model.sample(1, where={"unit": "d"}, seed=0)) == 1
