"""Related columns lie together within their bins: the copula finds the correlation and changes no column."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from mechanism_cases import cohort_of, fitted

from dpsynth.models.tabular.marginals.coupling import Link, _link, coupled

RNG = np.random.default_rng(0)


def _binned(correlation: float, bins: int, n: int = 200_000) -> tuple[Any, Any]:
    """Return bins and normal scores of two columns."""
    normal = RNG.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], n)
    ranks = normal.argsort(axis=0).argsort(axis=0) / n
    return (ranks * bins).astype(np.int64), normal


@pytest.mark.parametrize("correlation", [-0.7, 0.3, 0.9])
@pytest.mark.parametrize("bins", [4, 8])
def test_the_correlation_follows_from_the_table(correlation: float, bins: int) -> None:
    """Of binned normal columns the table gives the correlation back, within .02 of 200,000 rows."""
    found, _ = _binned(correlation, bins)
    table = np.zeros((bins, bins))
    np.add.at(table, (found[:, 0], found[:, 1]), 1 / len(found))
    link = _link("a", table)
    assert link is not None
    assert link.correlation == pytest.approx(correlation, abs=0.02)


def _places(link: Link, bins: tuple[Any, Any]) -> tuple[Any, Any]:
    found = coupled({"b": link}, {"a": bins[0], "b": bins[1]}, RNG)
    return found["a"], found["b"]


def test_coupling_gives_the_correlation_of_the_values() -> None:
    """In four bins, values placed by the copula have nearly the whole rank correlation; placed apart they lose it."""
    bins, normal = _binned(0.9, 4, 40_000)
    table = np.zeros((4, 4))
    np.add.at(table, (bins[:, 0], bins[:, 1]), 1 / len(bins))
    link = _link("a", table)
    assert link is not None
    first, second = _places(link, (bins[:, 0], bins[:, 1]))
    values = bins + np.column_stack([first, second])
    apart = bins + RNG.random(bins.shape)
    whole, together, loose = (pd.DataFrame(v).corr("spearman").iloc[0, 1] for v in (normal, values, apart))
    assert abs(together - whole) < 0.02
    assert loose < whole - 0.05


def test_no_column_changes() -> None:
    """In each bin the places are evenly spread: every tenth of a bin has a tenth of its rows, and all lie in [0, 1)."""
    bins, _ = _binned(0.8, 4, 4_000)
    ends = np.linspace(0, 1, 5)
    _, places = _places(Link("a", 0.8, (ends, ends)), (bins[:, 0], bins[:, 1]))
    assert 0 <= places.min() <= places.max() < 1
    for code in range(4):
        mine = places[bins[:, 1] == code]
        counts = np.bincount((mine * 10).astype(int), minlength=10)
        assert np.abs(counts - len(mine) / 10).max() <= 1


def test_states_without_order_are_placed_at_random() -> None:
    """Missing and special states (behind the ordered bins) take part in nothing and break nothing."""
    bins = (RNG.integers(0, 6, 3_000), RNG.integers(0, 6, 3_000))
    ends = np.linspace(0, 1, 5)
    _, places = _places(Link("a", 0.9, (ends, ends)), bins)
    assert np.isfinite(places).all()
    assert 0 <= places.min() <= places.max() < 1


@pytest.mark.parametrize("table", [np.zeros((3, 3)), np.array([[0.5, 0.5], [0.0, 0.0]])])
def test_tables_without_association_have_no_link(table: Any) -> None:
    """A table without mass, or of one row, gives no link."""
    assert _link("a", table) is None


def test_related_columns_of_a_model_go_together() -> None:
    """With `related`, two nearly equal numbers are drawn nearly equal; without, only their bins agree."""
    rng = np.random.default_rng(1)
    level = rng.normal(50, 12, 4_000)
    values = {name: np.clip(np.rint(level + rng.normal(0, 1, 4_000)), 0, 100) for name in ("before", "after")}
    columns = {name: {"type": "numeric", "min": 0, "max": 100} for name in values}
    columns["site"] = {"type": "boolean"}
    values["site"] = rng.random(4_000) < 0.5
    found = {}
    for related in ([], [["before", "after"]]):
        _, model = fitted("prism", cohort_of(columns, values, related=related), 10.0)
        drawn = model.sample(4_000, seed=0).to_pandas()
        found[bool(related)] = float((drawn["before"] - drawn["after"]).std())
    assert found[True] < 0.7 * found[False]
    assert found[True] < 5
