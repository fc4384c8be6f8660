import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dpsynth.evaluation.arrays.table import Table, Variable
from dpsynth.evaluation.metrics.row_distances import missing_results, number_results
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Status
from dpsynth.evaluation.statistics.column_distances import (
    kolmogorov_smirnov,
    missing_pattern_tvd,
    missing_rates,
    wasserstein,
)

from .helpers import categories, numbers

samples = st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=30).map(np.array)


@given(samples, samples)
def test_ks_is_scipys(left: np.ndarray, right: np.ndarray) -> None:
    """The largest gap of the cumulative curves, ties included."""
    assert kolmogorov_smirnov(left, right) == pytest.approx(stats.ks_2samp(left, right, method="asymp").statistic)


@given(samples, samples)
def test_wasserstein_is_scipys(left: np.ndarray, right: np.ndarray) -> None:
    """The area between the cumulative curves."""
    assert wasserstein(left, right) == pytest.approx(stats.wasserstein_distance(left, right))


def test_missing_patterns_by_hand() -> None:
    """Patterns (x only) 1/2 against 1/4, (none) 1/2 against 1/2, (x and y) 0 against 1/4: a quarter must move."""
    left = numbers(x=[np.nan, np.nan, 1, 1], y=[1, 1, 1, 1])
    right = numbers(x=[np.nan, np.nan, 1, 1], y=[np.nan, 1, 1, 1])
    assert missing_pattern_tvd(left, right) == pytest.approx(0.25)
    assert missing_rates(right).tolist() == [0.5, 0.25]


def test_distances_of_numbers_are_over_the_public_range_and_without_special_values() -> None:
    """A shift by 2 on a range of 20 is 0.1, whatever the code 999 does."""
    left = Variable("x", np.array([1.0, 2, 3, 999] * 20), low=0, high=20, special=(999.0,))
    right = Variable("x", np.array([3.0, 4, 5, np.nan] * 20), low=0, high=20, special=(999.0,))
    one, two = (Table({"x": side}, np.arange(80)) for side in (left, right))
    results = {one.metric: one for one in number_results(one, {"synthetic": [two]}, Protocol())}
    assert results["wasserstein"].number == pytest.approx(0.1)
    assert results["ks"].number == pytest.approx(2 / 3)


def test_a_column_without_any_value_is_left_out_and_named() -> None:
    """An all-missing column has no distance; the others do."""
    left = numbers(x=np.linspace(0, 1, 50), empty=np.full(50, np.nan))
    (first, _) = number_results(left, {"synthetic": [left]}, Protocol())
    assert first.number == 0
    assert np.isnan(first.detail["columns"]["empty"])


def test_no_numeric_column_is_not_estimable() -> None:
    """Not 0: there is nothing to measure."""
    table = categories(x=[0, 1] * 20)
    assert {result.status for result in number_results(table, {"synthetic": [table]}, Protocol())} == {
        Status.NOT_ESTIMABLE
    }


def test_nothing_missing_is_not_estimable() -> None:
    """Patterns of missing values of a complete cohort say nothing."""
    table = numbers(x=np.linspace(0, 1, 30))
    assert {result.status for result in missing_results(table, {"synthetic": [table]}, Protocol())} == {
        Status.NOT_ESTIMABLE
    }
