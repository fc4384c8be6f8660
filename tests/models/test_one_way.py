"""One-way counts: they cost what was said, know their own noise, and bins follow the public facts."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from privacy.helpers import Recorder
from scipy.stats import chi2

from dpsynth.cohort import Cohort
from dpsynth.models.tabular.marginals import binning, one_way
from dpsynth.models.tabular.marginals.one_way import OneWay
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.schema import Schema

FALSE_ALARM = 1e-6
FACTS: dict[str, Any] = {
    "name": "ward",
    "confirmed": True,
    "columns": {
        "age": {"type": "numeric", "min": 0, "max": 99, "missing": True, "special": [-1]},
        "sex": {"type": "categorical", "values": ["f", "m"]},
        "unit": {"type": "categorical", "values": ["a", "b", "c"], "missing": True},
        "one": {"type": "categorical", "values": ["only"]},
    },
}


def cohort(size: int = 4000, **facts: Any) -> Cohort:
    """Return made-up patients; `facts` add to or replace those of the schema."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": np.clip(rng.normal(60, 15, size).round(), 0, 99),
            "sex": rng.choice(["f", "m"], size),
            "unit": rng.choice(["a", "b", "c"], size, p=[0.6, 0.3, 0.1]),
            "one": "only",
        }
    )
    frame.loc[::10, "age"] = np.nan
    frame.loc[1::20, "age"] = -1
    frame.loc[::7, "unit"] = None
    return Cohort.from_pandas(frame, Schema.parse({**FACTS, **facts}), public=True)


def opened(data: Cohort, *, seed: int | None = 0) -> Session:
    """Open a session with repeatable noise, or with none where `seed` is None."""
    if seed is None:
        return Session.open(data, Budget(1, 1e-6), answers=PrivateAnswers(data, 1, Recorder()))
    return Session.open(data, Budget(1, 1e-6), seed=seed)


def exact(data: Cohort, session: Session, known: OneWay) -> dict[str, Any]:
    """Return the shares of the bins without noise."""
    codes = session.codec.encode(data)
    sizes = known.bins.shape
    return {name: np.bincount(known.bins.maps[name][codes[name]], minlength=sizes[name]) / len(data) for name in sizes}


@pytest.mark.parametrize("share", [0.1, 0.73, 1.0])
def test_measuring_costs_exactly_what_was_said(share: float) -> None:
    """Shapes and counts together; measuring again costs its own price."""
    session = opened(cohort())
    known = one_way.measure(session, share * session.rho / 2, bins=8)
    assert session.rho - session.rho_left == pytest.approx(share * session.rho / 2)
    one_way.measure_again(session, known, share * session.rho / 4)
    assert session.rho - session.rho_left == pytest.approx(share * session.rho * 3 / 4)


def test_without_noise_the_shares_are_exact() -> None:
    """Bins partition the codes, proportions are those of the data, special and missing states have their own bin."""
    data = cohort()
    session = opened(data, seed=None)
    known = one_way.measure(session, session.rho, bins=8)
    for name, expected in exact(data, session, known).items():
        np.testing.assert_allclose(known.proportions[name], expected, atol=1e-9)
    code = session.codec.columns["age"]
    ages = known.bins.maps["age"]
    assert 8 <= known.bins.shape["age"] - 2 <= 10
    for alone in range(code.ordered, code.size):
        assert (ages == ages[alone]).sum() == 1
    assert known.rows == pytest.approx(4000)


def test_the_claimed_variance_is_the_noise() -> None:
    """Squared errors of all bins over 60 sessions, in claimed variances: chi-square, both sides, 1e-6."""
    data = cohort()
    z = []
    for seed in range(60):
        session = opened(data, seed=seed)
        known = one_way.measure(session, session.rho / 2, bins=8)
        known = one_way.measure_again(session, known, session.rho / 4)
        for name, expected in exact(data, session, known).items():
            look = known.looks[name]
            z.append((look.counts - len(data) * expected) / np.sqrt(look.variance))
    squares = np.concatenate(z) ** 2
    assert chi2.ppf(FALSE_ALARM / 2, len(squares)) < squares.sum() < chi2.isf(FALSE_ALARM / 2, len(squares))


def test_proportions_are_distributions_and_their_variance_is_that_of_the_looks() -> None:
    """Non-negative, sum to 1; the variance is the looks' in squared proportions."""
    session = opened(cohort(50))
    known = one_way.measure(session, session.rho / 50, bins=8)
    for name, table in known.proportions.items():
        assert table.min() >= 0
        assert table.sum() == pytest.approx(1)
        assert known.variance[name] == pytest.approx(known.looks[name].variance.mean() / known.rows**2)
    for column, codes in known.bins.maps.items():
        within = np.bincount(codes, known.bins.weights[column])
        np.testing.assert_allclose(within, 1)


def test_a_declared_number_of_rows_is_used_and_another_is_estimated() -> None:
    """The estimate averages the sums of all columns: it is within 6 of its standard deviations."""
    declared = opened(cohort(rows=4000))
    assert one_way.measure(declared, declared.rho, bins=8).rows == 4000
    session = opened(cohort())
    known = one_way.measure(session, session.rho, bins=8)
    precision = sum(1 / look.variance.sum() for look in known.looks.values())
    assert abs(known.rows - 4000) < 6 / np.sqrt(precision)


def test_a_tiny_table_has_at_least_one_row() -> None:
    """Noise can make every count negative; the estimate stays a number of rows."""
    for seed in range(20):
        session = opened(cohort(1), seed=seed)
        known = one_way.measure(session, session.rho / 1000, bins=8)
        assert known.rows >= 1
        assert all(table.sum() == pytest.approx(1) for table in known.proportions.values())


def test_merging_adds_up_and_leaves_other_states_alone() -> None:
    """Proportions of merged bins add up, fine codes keep their share of the column, special and missing stay alone."""
    session = opened(cohort())
    known = one_way.measure(session, session.rho, bins=16)
    merged = known.merged(session.codec, 4)
    for name in known.bins.shape:
        before = known.proportions[name][known.bins.maps[name]] * known.bins.weights[name]
        after = merged.proportions[name][merged.bins.maps[name]] * merged.bins.weights[name]
        np.testing.assert_allclose(after, before, atol=1e-8)
    code = session.codec.columns["age"]
    assert merged.bins.shape["age"] == 4 + code.size - code.ordered
    ages = merged.bins.maps["age"]
    assert all((ages == ages[state]).sum() == 1 for state in range(code.ordered, code.size))
    assert merged.variance["age"] > known.variance["age"]
    assert merged.variance["sex"] == pytest.approx(known.variance["sex"])


CONSTRAINT = {"constraints": [{"when": {"sex": "m"}, "forbid": {"age": {"min": 70}}}]}


def test_bins_do_not_straddle_a_constraint() -> None:
    """Where a forbidden range begins, a bin begins, before and after merging: the model can keep the zero."""
    rng = np.random.default_rng(0)
    ages = rng.integers(0, 70, 2000)
    frame = pd.DataFrame({"age": ages, "sex": rng.choice(["f", "m"], 2000), "unit": "a", "one": "only"})
    data = Cohort.from_pandas(frame, Schema.parse({**FACTS, **CONSTRAINT}), public=True)
    session = opened(data)
    known = one_way.measure(session, session.rho, bins=8)
    columns, table = session.codec.forbidden()[0]
    for state in (known, known.merged(session.codec, 4), known.merged(session.codec, 2)):
        zeros = state.bins.impossible(columns, table)
        cut = int(session.codec.where({"age": {"min": 70}})["age"].argmax())
        assert state.bins.maps["age"][cut] > state.bins.maps["age"][cut - 1]
        assert zeros.any()


def test_discovery_takes_its_share_and_only_where_it_is_declared() -> None:
    """All columns to discover share one part of the budget; without any, nothing is spent."""
    session = opened(cohort())
    one_way.discover(session)
    assert session.rho_left == pytest.approx(session.rho)
    facts = {**FACTS["columns"], "unit": {"type": "categorical", "discover": True, "max_values": 5, "missing": True}}
    open_list = opened(cohort(columns=facts))
    one_way.discover(open_list)
    assert not open_list.to_discover
    assert open_list.rho - open_list.rho_left == pytest.approx(one_way.DISCOVERY_SHARE * open_list.rho)
    known = one_way.measure(open_list, open_list.rho_left, bins=8)
    assert known.proportions["unit"].sum() == pytest.approx(1)


@pytest.mark.parametrize("ordered", [False, True])
def test_ten_thousand_categories_are_counted(ordered: bool) -> None:
    """Ordered or not, in seconds; every category keeps its place."""
    values = [f"v{i:05}" for i in range(10_000)]
    column = {"type": "categorical", "values": values, "ordered": ordered}
    schema = Schema.parse({"name": "many", "confirmed": True, "columns": {"code": column}})
    rng = np.random.default_rng(0)
    data = Cohort.from_pandas(pd.DataFrame({"code": rng.choice(values[:50], 3000)}), schema, public=True)
    session = opened(data)
    known = one_way.measure(session, session.rho, bins=12)
    assert known.proportions["code"].sum() == pytest.approx(1)
    assert known.merged(session.codec, 8).bins.shape["code"] <= 12


LABS = [f"lab {i}" for i in range(10)]


def _narrow() -> Cohort:
    """Return columns whose values lie in a fifth of what the schema allows, each at its own place."""
    rng = np.random.default_rng(0)
    values = {name: rng.normal(60 + 20 * i, 12, 3000).clip(0, 299).round() for i, name in enumerate(LABS)}
    columns = {name: {"type": "numeric", "min": 0, "max": 299} for name in LABS}
    schema = Schema.parse({"name": "labs", "confirmed": True, "rows": 3000, "columns": columns})
    return Cohort.from_pandas(pd.DataFrame(values), schema, public=True)


def _misplaced(seed: int) -> list[float]:
    """Return for each narrow column the largest error of its distribution function, for an eighth of epsilon 0.3."""
    data = _narrow()
    session = Session.open(data, Budget(0.3, 1e-6), seed=seed)
    known = one_way.measure(session, session.rho / 8, bins=16)
    codes = session.codec.encode(data)
    found = []
    for name in LABS:
        real = np.bincount(codes[name], minlength=session.codec.columns[name].size) / len(data)
        maps = known.bins.maps[name]
        released = known.proportions[name][maps] * known.bins.weights[name]
        found.append(float(np.abs(np.cumsum(released - real)).max()))
    return found


def test_noise_does_not_cut_bins_beside_the_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where noise hides a histogram no column is lost, as happens when bins are cut by what noise leaves of it.

    Ten columns, eight sessions; noise is seeded, so the test is deterministic.
    """
    hedged = [error for seed in range(8) for error in _misplaced(seed)]
    monkeypatch.setattr(binning, "HEDGE", 0.0)
    bare = [error for seed in range(8) for error in _misplaced(seed)]
    assert max(hedged) < 0.75 * max(bare)
    assert np.mean(hedged) < np.mean(bare)
