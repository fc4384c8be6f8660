from itertools import product

import numpy as np
import pytest

from dpsynth.evaluation.arrays.bins import Binned, JudgingBins
from dpsynth.evaluation.statistics import jackknife
from dpsynth.evaluation.statistics.tvd import cliques, distance, tvd

from .helpers import categories


def binned(table: object) -> Binned:
    """Return a table of categories as cells."""
    return JudgingBins("public", {}).apply(table)  # type: ignore[arg-type]


def cohorts(rows: int = 400) -> tuple[Binned, Binned]:
    """Return two random cohorts of four columns."""
    rng = np.random.default_rng(3)
    made = [
        {
            name: np.concatenate([np.arange(k), rng.integers(0, k, rows - k)])
            for name, k in zip("wxyz", (2, 3, 4, 5), strict=True)
        }
        for _ in range(2)
    ]
    return binned(categories(**made[0])), binned(categories(**made[1]))


def test_tvd_by_hand() -> None:
    """Shares (1/2, 1/2) and (1/4, 3/4) are 1/4 apart; equal tables 0, disjoint ones 1."""
    assert tvd(np.array([1.0, 1.0]), np.array([1.0, 3.0])) == 0.25
    assert tvd(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == 0
    assert tvd(np.array([1.0, 0.0]), np.array([0.0, 5.0])) == 1


@pytest.mark.parametrize("order", [1, 2, 3])
def test_mean_tvd_is_the_mean_over_all_cells_counted_one_by_one(order: int) -> None:
    """The vectorised distance equals a loop over marginals, cells and rows."""
    left, right = cohorts()
    sets, whole = cliques(list(left.codes), order, 1000)
    assert whole
    expected = []
    for clique in sets:
        gap = 0.0
        for cell in product(*(range(left.sizes[name]) for name in clique)):
            shares = [
                np.mean(np.all([side.codes[name] == code for name, code in zip(clique, cell, strict=True)], axis=0))
                for side in (left, right)
            ]
            gap += abs(shares[0] - shares[1]) / 2
        expected.append(gap)
    found = distance(left, [right], sets)
    np.testing.assert_allclose(found.each, expected, atol=1e-12)
    assert found.value == pytest.approx(np.mean(expected))


def test_missing_is_a_cell_of_its_own() -> None:
    """Two cohorts that differ in the share missing only are that far apart."""
    left, right = binned(categories(x=[0, 1, 0, 1])), binned(categories(x=[0, 1, -1, -1]))
    assert distance(left, [right], [("x",)]).value == pytest.approx(0.5)


def test_several_draws_are_averaged() -> None:
    """The distance of two draws is the mean of theirs, and two draws have half the variance of their rows."""
    left, right = cohorts()
    sets, _ = cliques(list(left.codes), 2, 1000)
    one, two = distance(left, [right], sets), distance(left, [right, right], sets)
    assert two.value == pytest.approx(one.value)
    assert two.other < one.other


def test_the_excess_of_a_cohort_over_itself_is_zero() -> None:
    """Less than nothing is left when a cohort is compared with itself as the yardstick."""
    left, right = cohorts()
    found = distance(left, [right], [("w",), ("x",)])
    value, interval = found.less(found)
    assert value == 0
    assert interval.low <= 0 <= interval.high


def test_the_interval_covers_the_distance_of_the_populations() -> None:
    """Over 200 pairs of samples the 95 % interval holds the true TVD (0.2) in 85 % or more; the bound has p < 1e-6."""
    rng, inside = np.random.default_rng(5), 0
    for seed in range(200):
        sides = [binned(categories(x=(rng.random(500) < p).astype(int))) for p in (0.3, 0.5)]
        interval = distance(sides[0], [sides[1]], [("x",)], seed).interval()
        inside += interval.low <= 0.2 <= interval.high
    assert inside >= 170


def test_jackknife_variance_is_that_of_a_mean() -> None:
    """For a mean of group means the jackknife gives the textbook variance of a mean."""
    values = np.random.default_rng(0).normal(size=jackknife.GROUPS)
    left_out = (values.sum() - values) / (jackknife.GROUPS - 1)
    assert jackknife.variance(left_out) == pytest.approx(values.var(ddof=1) / jackknife.GROUPS)


def test_jackknife_groups_keep_a_patient_together() -> None:
    """Rows of one patient fall into one group, and groups have equal numbers of patients."""
    patients = np.repeat(np.arange(50), 3)
    groups = jackknife.groups_of(patients, 1)
    assert all(len(set(groups[patients == one])) == 1 for one in range(50))
    assert np.bincount(groups).tolist() == [15] * jackknife.GROUPS


def test_many_marginals_are_a_stated_random_subset() -> None:
    """A subset has the asked size, no repeats, and depends on the seed only."""
    names = [f"c{i}" for i in range(30)]
    found, whole = cliques(names, 3, 100, seed=4)
    assert (len(found), len(set(found)), whole) == (100, 100, False)
    assert found == cliques(names, 3, 100, seed=4)[0]
    assert found != cliques(names, 3, 100, seed=5)[0]
