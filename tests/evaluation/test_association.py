import numpy as np
import pytest
from scipy import stats

from dpsynth.evaluation.arrays.bins import JudgingBins
from dpsynth.evaluation.statistics.association import association_error, associations, cramers_v, frequent, spearman
from dpsynth.evaluation.statistics.jackknife import GROUPS

from .helpers import categories


def table(seed: int, rows: int = 300, strength: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Return two columns of codes that go together."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, rows)
    y = np.where(rng.random(rows) < strength, x % 3, rng.integers(0, 3, rows))
    return x, y


def test_cramers_v_is_bergsmas_from_scipys_chi_square() -> None:
    """V with bias correction equals the formula applied to scipy's statistic."""
    x, y = table(0)
    counts = np.zeros((4, 3))
    np.add.at(counts, (x, y), 1)
    chi2 = stats.chi2_contingency(counts, correction=False).statistic
    n, r, c = len(x), 4, 3
    phi2 = max(0.0, chi2 / n - (r - 1) * (c - 1) / (n - 1))
    least = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    assert cramers_v(counts) == pytest.approx(np.sqrt(phi2 / least))


def test_cramers_v_of_independent_columns_is_near_zero_and_of_equal_ones_is_one() -> None:
    """The bias correction takes away what chance makes."""
    rng = np.random.default_rng(1)
    independent = np.zeros((5, 5))
    np.add.at(independent, (rng.integers(0, 5, 2000), rng.integers(0, 5, 2000)), 1)
    assert cramers_v(independent) < 0.06
    assert cramers_v(np.diag([10.0, 20, 30])) == pytest.approx(1, abs=1e-6)


def test_a_constant_column_has_no_association() -> None:
    """NaN, not 0: there is nothing to associate; empty rows and columns do not count as cells in use."""
    assert np.isnan(cramers_v(np.array([[5.0, 7.0], [0.0, 0.0]])))
    assert np.isnan(spearman(np.array([[5.0], [7.0]])))
    padded = np.zeros((4, 5))
    padded[:2, :3] = [[3, 4, 5], [6, 1, 2]]
    assert cramers_v(padded) == pytest.approx(cramers_v(padded[:2, :3]))


def test_spearman_from_counts_is_scipys_on_the_codes() -> None:
    """Ties at mid-ranks, as scipy has them; also for several tables at once."""
    tables = []
    expected = []
    for seed in (0, 1):
        x, y = table(seed)
        counts = np.zeros((4, 3))
        np.add.at(counts, (x, y), 1)
        tables.append(counts)
        expected.append(stats.spearmanr(x, y).statistic)
    np.testing.assert_allclose(spearman(np.stack(tables)), expected)


def test_associations_leave_out_each_group_and_unordered_columns() -> None:
    """The first value is that of the whole cohort; rank correlations are for ordered columns only."""
    x, y = table(2)
    data = JudgingBins("public", {}).apply(categories(x=x, y=y, z=x))
    found = associations(data, [("x", "y"), ("x", "z")], {"x": 4, "y": 3}, frequent(data))
    assert found.v.shape == (2, GROUPS + 1)
    assert found.rho[0, 0] == pytest.approx(stats.spearmanr(x, y).statistic)
    assert np.isnan(found.rho[1]).all()
    assert np.ptp(found.v[0]) > 0


def test_rank_correlation_leaves_out_missing_values() -> None:
    """Missing is no rank."""
    x, y = table(3)
    x = x.copy()
    x[:50] = -1
    data = JudgingBins("public", {}).apply(categories(x=x, y=y))
    found = associations(data, [("x", "y")], {"x": 4, "y": 3}, frequent(data))
    assert found.rho[0, 0] == pytest.approx(stats.spearmanr(x[50:], y[50:]).statistic)


def test_an_association_that_a_constant_column_destroys_counts_as_lost() -> None:
    """Where the other cohort has none, its association is 0; where the reference has none, the pair is left out."""
    reference = np.array([[0.4] * (GROUPS + 1), [np.nan] * (GROUPS + 1)])
    error = association_error(reference, [np.full((2, GROUPS + 1), np.nan)])
    assert error is not None
    assert error.value == pytest.approx(0.4)
    assert error.pairs.tolist() == [True, False]
    assert association_error(np.full((2, GROUPS + 1), np.nan), [reference]) is None


def test_one_patient_who_misses_two_values_makes_no_association() -> None:
    """Without its rule V of two independent columns would be 0.5 and more for one joint gap among 1,000 patients."""
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 2, 1000), rng.integers(0, 2, 1000)
    x[0] = y[0] = -1
    data = JudgingBins("public", {}).apply(categories(x=x, y=y))
    every = {name: np.arange(3) for name in "xy"}
    assert associations(data, [("x", "y")], {}, every).v[0, 0] > 0.5
    assert associations(data, [("x", "y")], {}, frequent(data)).v[0, 0] < 0.1
