import numpy as np
import pytest

from dpsynth.evaluation.arrays.table import Table
from dpsynth.evaluation.metrics.row_distances import neighbour_results, two_sample_results
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Status
from dpsynth.evaluation.results import Results
from dpsynth.evaluation.statistics.neighbours import embed, prdc

from .helpers import categories, numbers


def by_loops(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """Return precision, recall, density, coverage straight from their definitions."""

    def radius(points: np.ndarray, i: int) -> float:
        return sorted(float(np.linalg.norm(points[i] - points[j])) for j in range(len(points)) if j != i)[k - 1]

    real_radii = [radius(real, i) for i in range(len(real))]
    fake_radii = [radius(fake, j) for j in range(len(fake))]
    gap = [[float(np.linalg.norm(x - y)) for y in fake] for x in real]
    precision = np.mean([any(gap[i][j] <= real_radii[i] for i in range(len(real))) for j in range(len(fake))])
    recall = np.mean([any(gap[i][j] <= fake_radii[j] for j in range(len(fake))) for i in range(len(real))])
    density = np.mean([sum(gap[i][j] <= real_radii[i] for i in range(len(real))) / k for j in range(len(fake))])
    coverage = np.mean([any(gap[i][j] <= real_radii[i] for j in range(len(fake))) for i in range(len(real))])
    return float(precision), float(recall), float(density), float(coverage)


def test_prdc_equals_the_definitions() -> None:
    """Against loops over all pairs of rows."""
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(40, 3)), rng.normal(0.7, 0.6, size=(30, 3))
    found = prdc(real, fake, k=5)
    means = tuple(float(part.mean()) for part in (found.precision, found.recall, found.density, found.coverage))
    assert means == pytest.approx(by_loops(real, fake, 5))


def test_the_same_rows_cover_each_other_wholly() -> None:
    """A copy has precision, recall and coverage 1, also where rows have twins."""
    rows = np.repeat(np.random.default_rng(1).normal(size=(20, 2)), 2, axis=0)
    found = prdc(rows, rows)
    assert found.precision.min() == found.recall.min() == found.coverage.min() == 1


def test_points_far_apart_do_not_cover_each_other() -> None:
    """All four are 0."""
    rng = np.random.default_rng(2)
    found = prdc(rng.normal(size=(30, 2)), rng.normal(100, 1, size=(30, 2)))
    assert found.precision.max() == found.recall.max() == found.density.max() == found.coverage.max() == 0


def test_categories_are_one_apart_and_numbers_are_ranks() -> None:
    """Two different categories have distance 1; a long tail of a number does not stretch it."""
    codes = categories(x=[0, 1, 2, -1])
    points = embed(codes, codes)
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(1)
    assert np.linalg.norm(points[0] - points[3]) == pytest.approx(1)
    tail = numbers(x=[1, 2, 3, 1e9])
    assert embed(tail, tail)[:, 0].tolist() == [0.125, 0.375, 0.625, 0.875]


def test_too_few_rows_are_not_estimable() -> None:
    """Five neighbours need more than five rows; telling cohorts apart needs forty patients."""
    few = numbers(x=[1.0, 2, 3])
    results = neighbour_results(few, {"synthetic": [few]}, Protocol())
    results += two_sample_results(few, {"synthetic": [few]}, Protocol())
    assert {result.status for result in results} == {Status.NOT_ESTIMABLE}
    assert len(results) == 5


def shifted(seed: int, shift: float, rows: int = 400) -> Table:
    """Return a cohort whose column is shifted."""
    return numbers(x=np.random.default_rng(seed).normal(shift, 1, rows))


def test_a_classifier_cannot_tell_equals_apart_and_can_tell_others() -> None:
    """AUROC is near 0.5 for two samples of one population and near Phi(2 / sqrt 2) = 0.92 for a shift of 2."""
    arms = {"real": [shifted(1, 0)], "synthetic": [shifted(2, 2)]}
    results = Results(two_sample_results(shifted(0, 0), arms, Protocol()))
    real, synthetic = (results.one("two_sample_auroc", arm=arm) for arm in ("real", "synthetic"))
    assert real.interval is not None
    assert real.interval.low < 0.5 < real.interval.high
    assert 0.8 < synthetic.number < 0.97
