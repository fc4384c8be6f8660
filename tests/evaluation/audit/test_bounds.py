"""Bounds from scores: never above the truth more often than they say, near it where the attack is good."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from dpsynth.errors import InputError
from dpsynth.evaluation.audit.bounds import (
    Bound,
    ceiling,
    clopper_pearson,
    curve_bound,
    gaussian_bound,
    one_run,
    p_value,
)
from dpsynth.evaluation.audit.curves import dp_curve, gaussian_curve, gaussian_epsilon, gaussian_mu
from dpsynth.evaluation.audit.error_counts import Errors
from dpsynth.evaluation.audit.one_run import guess
from dpsynth.privacy.spending.accounting import SLACK, epsilon_at

FALSE_ALARM = 1e-6
DELTA = 1e-5
TWO_WORLDS: list[Callable[..., Bound]] = [clopper_pearson, curve_bound, gaussian_bound]


def mostly(misses: int, runs: int, error: float = 0.05) -> bool:
    """Whether misses of this many runs fit an error of at most 5 %; wrong with probability 1e-6."""
    return bool(misses <= binom.isf(FALSE_ALARM, runs, error))


@pytest.mark.parametrize("bound", TWO_WORLDS)
@pytest.mark.parametrize("n", [30, 100])
def test_nothing_is_shown_where_there_is_nothing(bound: Callable[..., Bound], n: int) -> None:
    """Scores of equal worlds give a bound above 0 in at most 5 % of 30 audits, also where scores are tied."""
    rng = np.random.default_rng(n)
    for scores in (rng.normal(size=(30, 2, n)), rng.integers(0, 3, (30, 2, n))):
        shown = sum(bound(out, inside, delta=DELTA).epsilon > 0 for out, inside in scores)
        assert mostly(shown, 30)


@pytest.mark.parametrize("bound", [clopper_pearson, curve_bound])
@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_randomised_response_is_bounded_from_below_and_nearly(bound: Callable[..., Bound], epsilon: float) -> None:
    """The bound passes the true epsilon in at most 5 % of 10 audits, and is on average above 0.7 of it."""
    rng, right = np.random.default_rng(1), 1 / (1 + math.exp(-epsilon))
    found = [bound(rng.random(2000) > right, rng.random(2000) < right, delta=0.0).epsilon for _ in range(10)]
    assert mostly(sum(one > epsilon for one in found), 10)
    assert np.mean(found) > 0.7 * epsilon


@pytest.mark.parametrize(("mu", "n"), [(0.25, 3000), (1.0, 500)])
def test_a_gaussian_mechanism_is_bounded_from_below_and_nearly(mu: float, n: int) -> None:
    """With the threshold fixed beforehand at most 5 % of 12 audits pass mu; the mean is above half of it."""
    rng = np.random.default_rng(2)
    found = [
        gaussian_bound(rng.normal(-mu / 2, 1, n), rng.normal(mu / 2, 1, n), delta=DELTA, threshold=0.0)
        for _ in range(12)
    ]
    assert mostly(sum((one.mu or 0) > mu for one in found), 12)
    assert np.mean([one.mu or 0 for one in found]) > 0.5 * mu
    assert all(one.epsilon == gaussian_epsilon(one.mu or 0, DELTA) and one.assumes for one in found)


def test_an_epsilon_bound_of_a_gaussian_mechanism_stays_below_its_curve() -> None:
    """The bound without assumptions keeps below the epsilon at delta of a Gaussian of mu 1.5 in 95 % of 12 audits."""
    rng, truth = np.random.default_rng(3), gaussian_epsilon(1.5, DELTA)
    for bound in (clopper_pearson, curve_bound):
        found = [bound(rng.normal(0, 1, 500), rng.normal(1.5, 1, 500), delta=DELTA).epsilon for _ in range(12)]
        assert mostly(sum(one > truth for one in found), 12)
        assert np.mean(found) > 0.15 * truth


@pytest.mark.parametrize(("curve", "label"), [(gaussian_curve(0.7), "mu"), (dp_curve(0.5, 0.01), "dp")])
def test_the_p_value_is_the_supremum_over_the_curve(curve: Any, label: str) -> None:
    """For 12 runs of each world it is at least that of a plain enumeration over a grid, and at most twice."""
    errors = Errors(3, 12, 2, 12)

    def separation(x: int, y: int) -> float:
        from scipy.special import ndtri

        return float(-ndtri((x + 0.5) / 13) - ndtri((y + 0.5) / 13))

    few = [(x, y) for x in range(13) for y in range(13) if separation(x, y) >= separation(3, 2) - 1e-12]
    exact = 0.0
    for a in np.linspace(0, 1, 201):
        missed = float(np.clip(curve(np.array([a]))[0], 0, 1))
        exact = max(exact, sum(binom.pmf(x, 12, a) * binom.pmf(y, 12, missed) for x, y in few))
    assert exact <= p_value(errors, curve) + 1e-9
    assert p_value(errors, curve) <= 2 * exact, label


def test_a_true_curve_is_refuted_as_seldom_as_stated() -> None:
    """On the curve itself p falls below 0.05 in at most 5 % of 400 audits, and in more than 1 %: it is not wasteful."""
    rng, mu, n = np.random.default_rng(4), 0.5, 200
    curve = gaussian_curve(mu)
    low = 0
    for a in rng.uniform(0.05, 0.6, 400):
        missed = float(curve(np.array([a]))[0])
        errors = Errors(int(rng.binomial(n, a)), n, int(rng.binomial(n, missed)), n)
        low += p_value(errors, curve) < 0.05
    assert mostly(low, 400)
    assert low >= binom.ppf(FALSE_ALARM, 400, 0.03)


def test_a_curve_that_lies_is_refuted() -> None:
    """A mechanism of mu 1 that claims 0.5 is refuted by 1,000 runs of each world, and its own claim is not."""
    rng = np.random.default_rng(5)
    errors = Errors.at(0.0, rng.normal(-0.5, 1, 1000), rng.normal(0.5, 1, 1000))
    assert p_value(errors, gaussian_curve(0.5)) < 2e-5
    assert p_value(errors, gaussian_curve(1.05)) > 0.05


@pytest.mark.parametrize("bound", TWO_WORLDS)
def test_worlds_that_are_set_apart_reach_the_ceiling_and_no_more(bound: Callable[..., Bound]) -> None:
    """Perfect scores show the ceiling; fewer runs have a lower one; infinite scores are scores."""
    found = bound(np.full(200, -math.inf), np.full(200, math.inf), delta=DELTA)
    assert found.epsilon == found.ceiling > 2
    assert found.runs == 200
    assert bound(np.zeros(100), np.ones(100), delta=DELTA).ceiling < found.ceiling


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_more_confidence_shows_less(confidence: float) -> None:
    """Every bound falls when its confidence rises."""
    rng = np.random.default_rng(6)
    out, inside = rng.normal(0, 1, 500), rng.normal(2, 1, 500)
    for bound in TWO_WORLDS:
        assert (
            bound(out, inside, delta=DELTA, confidence=confidence).epsilon
            >= bound(out, inside, delta=DELTA, confidence=1 - (1 - confidence) / 5).epsilon
        )


@pytest.mark.parametrize(("guesses", "most"), [(100, 3.47), (500, 5.09)])
def test_the_published_ceilings_of_one_run(guesses: int, most: float) -> None:
    """100 guesses among 1,000 canaries, all right, show 3.47 at delta 1e-5, and 500 show 5.09."""
    assert ceiling("one run", guesses, 1000, delta=1e-5) == pytest.approx(most, abs=0.005)
    assert one_run(guesses, guesses, 1000, delta=1e-5).epsilon == pytest.approx(most, abs=0.005)


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_one_run_of_randomised_response(epsilon: float) -> None:
    """Of 60 audits with 400 canaries at most 5 % pass epsilon; on average they show most of it; delta only lowers."""
    rng, right = np.random.default_rng(7), 1 / (1 + math.exp(-epsilon))
    shown = [one_run(int(v), 400, 400, delta=0.0).epsilon for v in rng.binomial(400, right, 60)]
    assert mostly(sum(image > epsilon for image in shown), 60)
    assert np.mean(shown) >= 0.7 * epsilon
    assert one_run(350, 400, 400, delta=1e-3).epsilon < one_run(350, 400, 400, delta=0.0).epsilon


def test_one_run_tells_a_gaussian_apart() -> None:
    """A thousand coins behind a Gaussian of mu 1 show more than 0.5, and not more than its epsilon at delta 1e-5."""
    rng = np.random.default_rng(8)
    coins = rng.random(1000) < 0.5
    right = guess(coins + rng.normal(size=1000), coins, 100)
    assert 0.5 < one_run(right, 100, 1000, delta=1e-5).epsilon < gaussian_epsilon(1.0, 1e-5)


def test_guesses_are_the_highest_and_the_lowest() -> None:
    """Right guesses are counted among the extremes only."""
    assert guess([0.0, 9.0, 5.0, 1.0], [False, True, False, True], 2) == 2
    assert guess([0.0, 9.0, 5.0, 1.0], [False, True, False, True], 4) == 2


@settings(max_examples=40, deadline=None)
@given(mu=st.floats(0.01, 5), delta=st.floats(1e-12, 1e-3))
def test_the_closed_form_agrees_with_the_accountant(mu: float, delta: float) -> None:
    """Epsilon of a Gaussian curve by Balle & Wang's formula is the accountant's to 1e-6; and the inverse inverts."""
    epsilon = gaussian_epsilon(mu, delta)
    assert epsilon == pytest.approx(epsilon_at(mu**2 / 2, "gaussian", delta) - SLACK, abs=1e-6 + 1e-5 * epsilon)
    if epsilon > 1e-3:
        assert gaussian_mu(epsilon, delta) == pytest.approx(mu, rel=1e-5)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: clopper_pearson([1.0], [1.0, 2.0], delta=0.0),
        lambda: curve_bound([math.nan, 1.0], [1.0, 2.0], delta=0.0),
        lambda: one_run(5, 4, 10, delta=0.0),
        lambda: one_run(0, 0, 10, delta=0.0),
        lambda: ceiling("guessing", 10, delta=0.0),
    ],
)
def test_scores_that_are_none_are_refused(ask: Callable[[], Any]) -> None:
    """Too few scores, NaN, impossible counts and unknown methods end with a message."""
    with pytest.raises(InputError):
        ask()
