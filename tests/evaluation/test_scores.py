import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from dpsynth.evaluation.learners.arms import ArmScores
from dpsynth.evaluation.statistics.bootstrap import draws_for, percentile, weights
from dpsynth.evaluation.statistics.scores import Ranking, balanced_accuracy, calibration_bins, ones, ratio, weighted_r2

rows = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=40)


@given(rows)
def test_ranking_scores_are_scikit_learns_with_weights_and_ties(drawn: list[tuple[bool, int, int]]) -> None:
    """AUROC and average precision agree for any weights (0 to 3) and ties; where one class is gone both are NaN."""
    labels, scores, times = (np.array(column) for column in zip(*drawn, strict=True))
    ranking = Ranking(labels, scores.astype(float))
    both = times[labels].sum() > 0 and times[~labels].sum() > 0
    found = ranking.auroc(times[None].astype(float))[0], ranking.auprc(times[None].astype(float))[0]
    if not both:
        assert np.isnan(found[0])
        return
    assert found[0] == pytest.approx(metrics.roc_auc_score(labels, scores, sample_weight=times))
    assert found[1] == pytest.approx(metrics.average_precision_score(labels, scores, sample_weight=times))


def test_many_draws_at_once_are_each_draw_alone() -> None:
    """Vectorising over draws changes nothing; single precision weights are counts and exact."""
    rng = np.random.default_rng(0)
    labels, scores = rng.random(60) < 0.4, np.round(rng.random(60), 1)
    times = rng.integers(0, 4, (7, 60)).astype(np.float32)
    together = Ranking(labels, scores).auroc(times)
    alone = [Ranking(labels, scores).auroc(row[None].astype(float))[0] for row in times]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_balanced_accuracy_and_r2_are_scikit_learns() -> None:
    """With weights."""
    rng = np.random.default_rng(1)
    truth, guess, times = rng.integers(0, 3, 80), rng.integers(0, 3, 80), rng.integers(1, 4, 80)
    expected = metrics.balanced_accuracy_score(truth, guess, sample_weight=times)
    assert balanced_accuracy(truth, guess, times[None].astype(float))[0] == pytest.approx(expected)
    values, guesses = rng.normal(size=80), rng.normal(size=80)
    expected = metrics.r2_score(values, guesses, sample_weight=times)
    assert weighted_r2(values, guesses, times[None].astype(float))[0] == pytest.approx(expected)


def test_a_constant_outcome_has_no_r2() -> None:
    """NaN: there is no variance to explain."""
    assert np.isnan(weighted_r2(np.ones(5), np.zeros(5), ones(5))[0])
    assert np.isnan(ratio(np.ones(1), np.zeros(1))[0])


def test_calibration_bins_by_hand() -> None:
    """Two halves in order of risk."""
    found = calibration_bins(np.array([True, False, True, True]), np.array([0.1, 0.2, 0.8, 0.9]), bins=2)
    assert found["predicted"] == pytest.approx([0.15, 0.85])
    assert found["observed"] == [0.5, 1.0]
    assert found["n"] == [2, 2]


def test_bootstrap_weights_keep_the_size_of_each_stratum() -> None:
    """A group of three is three in every draw."""
    strata = np.array([0] * 50 + [1] * 3 + [2] * 7)
    times = weights(strata, np.arange(60), 100, seed=0)
    for code, size in ((0, 50), (1, 3), (2, 7)):
        assert set(times[:, strata == code].sum(axis=1)) == {size}


def test_bootstrap_draws_patients_with_all_of_their_rows() -> None:
    """Rows of one patient have one weight."""
    patients = np.repeat(np.arange(20), 3)
    times = weights(np.zeros(60, dtype=int), patients, 50, seed=0)
    assert np.all(times.reshape(50, 20, 3) == times.reshape(50, 20, 3)[:, :, :1])


def test_the_bootstrap_error_of_a_mean_is_the_textbook_one() -> None:
    """Within 10 % for 4,000 draws (z below 5 for the spread of a variance estimate)."""
    values = np.random.default_rng(2).normal(size=200)
    times = weights(np.zeros(200, dtype=int), np.arange(200), 4000, seed=1)
    means = times @ values / 200
    assert means.std() == pytest.approx(values.std() / np.sqrt(200), rel=0.1)


def test_the_bootstrap_interval_covers_the_auroc_of_the_population() -> None:
    """Over 200 samples the 95 % interval holds Phi(1 / sqrt 2) = 0.76 in 85 % or more; by chance less has p < 1e-6."""
    rng, inside = np.random.default_rng(3), 0
    for seed in range(200):
        labels = np.arange(160) < 60
        scores = rng.normal(labels.astype(float), 1)
        drawn = Ranking(labels, scores).auroc(weights(labels.astype(int), np.arange(160), 300, seed))
        interval = percentile(drawn, ())
        assert interval is not None
        inside += interval.low <= 0.7602 <= interval.high
    assert inside >= 170


def test_variance_between_synthetic_draws_widens_the_interval() -> None:
    """Three times the variance makes the interval sqrt(4) = 2 times as wide; no finite draw makes none."""
    drawn = np.random.default_rng(4).normal(size=2000)
    narrow, wide = percentile(drawn, ()), percentile(drawn, (), extra=3 * float(drawn.var()))
    assert narrow is not None
    assert wide is not None
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2)
    assert percentile(np.array([np.nan]), ()) is None


def test_fewer_draws_for_large_cohorts() -> None:
    """Memory is bounded, and 200 draws are the least."""
    assert (draws_for(1000), draws_for(50_000), draws_for(10**7)) == (1000, 400, 200)


def test_the_interval_of_a_share_stays_between_0_and_1() -> None:
    """Also where the drawing of cohorts stretches it; that of an error or a change may go where it likes."""
    draws = np.random.default_rng(0).uniform(0.8, 1.0, 500)
    names = ("auroc", "tpr", "mae")
    scores = ArmScores(*(dict.fromkeys(names, each) for each in (0.9, draws, 0.04)), 3)  # type: ignore[arg-type]
    for name in names:
        found = scores.interval(name, 0.95)
        assert found is not None
        assert found.low < 0.75
        assert (found.high == 1.0) is (name != "mae")
