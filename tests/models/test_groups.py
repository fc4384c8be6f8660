"""The fairness policy: its tables are always measured at their floor, scarce groups are pooled and never lost."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mechanism_cases import ORDINARY, cohort_of, fitted, maker, ordinary, schema_of

from dpsynth.cohort import Cohort
from dpsynth.errors import SchemaError
from dpsynth.models.tabular.marginals.groups import pooled_excess, pooled_table, present, smallest_group
from dpsynth.models.tabular.marginals.one_way import column_shares
from dpsynth.privacy.spending.accounting import epsilon_of
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Event
from dpsynth.schema import Schema

ROWS = ordinary(1_500)
RARE = 12


def _fairness(floor: float, *columns: str) -> dict[str, Any]:
    return {"target": "died", "fairness": {"columns": list(columns), "floor": floor}}


def _unbalanced(**facts: Any) -> Cohort:
    """Return a cohort whose unit d has a dozen patients of 1,500."""
    unit = np.where(np.arange(1_500) < RARE, "d", np.where(np.arange(1_500) % 3 == 0, "b", "a"))
    return cohort_of(ORDINARY, {**ROWS, "unit": unit}, **facts)


def _price(event: Event) -> float:
    return (event.sensitivity / event.scale) ** 2 / 2 * event.count


@pytest.mark.parametrize("floor", [0.2, 0.6])
def test_tables_of_groups_get_the_floor(floor: float) -> None:
    """PRISM spends at least the floor of the pairs' price on the tables of the groups, and the same budget in all."""
    session, _ = fitted("prism", _unbalanced(**_fairness(floor, "sex", "unit")), 3.0)
    pairs = [e for e in session.events if e.what.startswith("interaction of ") and e.what.count(" x ") == 1]
    named = [e for e in pairs if set(e.what.removeprefix("interaction of ").split(" x ")) <= {"sex", "unit", "died"}]
    assert len(named) == 3
    assert sum(map(_price, named)) >= floor * sum(map(_price, pairs)) * (1 - 1e-9)
    assert session.rho_left >= -1e-12
    assert epsilon_of(session.events, 1e-6, "gaussian") <= 3.0 + 1e-9


@pytest.mark.parametrize("epsilon", [0.01, 0.05])
def test_groups_are_measured_where_nothing_else_is(epsilon: float) -> None:
    """Where the noise drowns every pair, the policy's tables are asked nevertheless."""
    session, _ = fitted("prism", _unbalanced(**_fairness(0.3, "unit")), epsilon)
    assert any("unit" in e.what and "died" in e.what for e in session.events if e.what.startswith("interaction"))
    assert session.rho_left >= -1e-12


def test_aim_counts_the_groups_first() -> None:
    """AIM counts each policy column with the target, at the floor of what is left for pairs."""
    session, _ = fitted("aim", _unbalanced(**_fairness(0.5, "sex", "unit")), 3.0)
    named = [e for e in session.events if e.what in ("counts of sex x died", "counts of unit x died")]
    assert sum(map(_price, named)) >= 0.5 * 0.75 * session.rho * (1 - 1e-6)
    assert session.rho_left >= -1e-12


def test_a_declared_group_is_never_lost() -> None:
    """Under the policy a dozen patients stay in the model at epsilon 0.3; without it noise all but erases them."""
    found = {}
    for name, facts in (("on", _fairness(0.2, "unit")), ("off", {"target": "died"})):
        cohort = _unbalanced(**facts)
        shares = [fitted("prism", cohort, 0.3, seed)[1].support({"unit": "d"}) for seed in range(6)]
        found[name] = [share.rows for share in shares]
    assert min(found["on"]) > RARE / 2 > min(found["off"])
    assert np.mean(found["on"]) < 10 * RARE


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(2, 6), st.floats(1e-4, 0.2), st.integers(0, 10**6))
def test_pooling_keeps_margins_and_never_grows(groups: int, cells: int, noise: float, seed: int) -> None:
    """Margins of what is pooled are 0; a group's deviation is at most its own and what the groups lost together."""
    rng = np.random.default_rng(seed)
    excess = rng.normal(0, noise, (groups, cells))
    excess -= excess.mean(axis=0)
    excess -= excess.mean(axis=1, keepdims=True)
    pooled = pooled_excess(excess, rng.dirichlet(np.ones(groups)), noise**2)
    assert np.allclose(pooled.sum(axis=0), 0, atol=1e-12)
    assert np.allclose(pooled.sum(axis=1), 0, atol=1e-12)
    assert np.abs(pooled).sum() <= 2 * np.abs(excess).sum() + 1e-12


def test_scarce_groups_go_to_the_whole_and_large_ones_stay() -> None:
    """Three large groups that differ keep what they differ by; one below the noise takes the whole table's share."""
    sizes, noise = np.array([0.5, 0.3, 0.199, 0.001]), 0.004
    deviation = np.array([[0.1, -0.1], [-0.2, 0.2], [0.05, -0.05], [0.0, 0.0]])
    excess = deviation * sizes[:, None] + np.array([[0, 0], [0, 0], [0, 0], [noise, -noise]])
    pooled = pooled_excess(excess, sizes, noise**2) / sizes[:, None]
    assert np.abs(pooled[:3] - deviation[:3]).max() < 0.02
    assert np.abs(pooled[3]).max() < 0.02 < np.abs(excess[3] / sizes[3]).max()


def test_pooling_beats_noise_where_groups_are_alike() -> None:
    """Where groups do not differ, pooling leaves less than half of the noise, on the mean of 200 draws."""
    rng, sizes, noise = np.random.default_rng(3), np.array([0.4, 0.3, 0.2, 0.06, 0.04]), 0.01
    raw, left = 0.0, 0.0
    for _ in range(200):
        excess = rng.normal(0, noise, (5, 3))
        excess = excess - excess.mean(axis=0) - excess.mean(axis=1, keepdims=True) + excess.mean()
        raw += float((excess**2).sum())
        left += float((pooled_excess(excess, sizes, noise**2) ** 2).sum())
    assert left < 0.5 * raw


def test_a_counted_table_keeps_its_columns() -> None:
    """A pooled table has the margins of the one-way counts, on either axis."""
    rng = np.random.default_rng(0)
    proportions = (np.array([0.7, 0.2, 0.1]), np.array([0.6, 0.4]))
    table = np.outer(*proportions) + rng.normal(0, 0.01, (3, 2))
    for axis, given_table in ((0, table), (1, table.T)):
        ends = proportions if axis == 0 else proportions[::-1]
        pooled = pooled_table(given_table, 1e-4, ends, axis)
        assert np.allclose(pooled.sum(axis=1 - axis), proportions[0])
        assert np.allclose(pooled.sum(axis=axis), proportions[1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.floats(1e-6, 1.0))
def test_present_is_positive_and_sums_to_one(values: list[float], noise: float) -> None:
    """Whatever the noise made, every state stays and the shares sum to 1."""
    found = present(np.array(values), np.full(len(values), noise))
    assert found.min() > 0
    assert found.sum() == pytest.approx(1)


def test_present_leaves_clear_counts_alone() -> None:
    """Shares of many standard deviations are what they were."""
    shares = np.array([0.5, 0.3, 0.2])
    assert np.allclose(present(shares, np.full(3, 0.01)), shares)


def test_columns_of_the_policy_are_counted_better() -> None:
    """Two of 25 columns get the floor together, the others share the rest; a floor below their part changes nothing."""
    columns = {f"c{i}": {"type": "boolean"} for i in range(25)}
    schema = schema_of(columns, fairness={"columns": ["c0", "c1"], "floor": 0.2})
    shares = column_shares(schema, list(columns))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["c0"] + shares["c1"] == pytest.approx(0.2)
    low = schema_of(columns, fairness={"columns": ["c0", "c1"], "floor": 0.05})
    assert set(column_shares(low, list(columns)).values()) == {1 / 25}


def test_smallest_group_is_twice_the_noise() -> None:
    """With no outcome it is twice the noise on the count; cells of two outcomes need more."""
    assert smallest_group(10, 0, 1) == pytest.approx(20)
    assert smallest_group(10, 30, 2) == pytest.approx(2 * 2 * np.hypot(5, 30))


def _smallest(epsilon: float, name: str = "prism", **facts: Any) -> dict[str, float]:
    columns = {**ORDINARY, **{f"x{i}": {"type": "numeric", "min": 0, "max": 50} for i in range(12)}}
    plan = maker(name).plan(
        schema_of(columns, target="died", subgroups=["unit"], **facts), Budget(epsilon, 1e-6), 5_000
    )
    return dict(plan.to_dict()["smallest_groups"])


@pytest.mark.parametrize("name", ["prism", "aim", "independent", "mst"])
def test_plan_names_the_smallest_group(name: str) -> None:
    """Before anything is spent the plan says which size is represented: smaller for more budget, and for the policy."""
    policy = {"columns": ["unit"], "floor": 0.4}
    assert 0 < _smallest(3.0, name)["unit"] < _smallest(0.5, name)["unit"]
    assert _smallest(1.0, name, fairness=policy)["unit"] < _smallest(1.0, name)["unit"]


@pytest.mark.parametrize(
    ("fairness", "words"),
    [
        ({"columns": ["sexx"]}, "did you mean 'sex'"),
        ({"columns": ["died"]}, "is the target"),
        ({"columns": ["sex", "sex"]}, "named twice"),
        ({"columns": []}, "fairness"),
        ({"columns": ["sex"], "floor": 1.0}, "floor"),
        ({"floor": 0.1}, "columns"),
    ],
)
def test_policies_that_cannot_be(fairness: dict[str, Any], words: str) -> None:
    """A policy names known columns once, not the target, and a floor that leaves something for the others."""
    with pytest.raises(SchemaError, match=words):
        schema_of(ORDINARY, target="died", fairness=fairness)


def test_the_policy_is_in_the_files() -> None:
    """YAML keeps it, and the JSON Schema describes its fields."""
    schema = schema_of(ORDINARY, **_fairness(0.3, "sex"))
    assert Schema.parse(schema.to_yaml()) == schema
    described = Schema.json_schema()["$defs"]["Fairness"]["properties"]
    assert all(described[name]["description"] for name in ("columns", "floor"))
