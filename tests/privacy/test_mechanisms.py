"""Noise: it has the law that is claimed, on integers, without overflow, and nobody can predict it."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import chi2, norm

from dpsynth.errors import DpsynthError
from dpsynth.privacy.mechanisms import BATCH, MAX_SIGMA, SeededNoise, SystemNoise

from .helpers import FALSE_ALARM


def fits(z: np.ndarray, scale: float = 1.0) -> bool:
    """Whether a Kolmogorov-Smirnov test accepts that z is N(0, scale^2); wrong with probability 1e-6.

    By Massart's inequality the distance passes sqrt(ln(2 / alpha) / (2 n)) with probability at most alpha.
    """
    ordered = norm.cdf(np.sort(z.ravel()) / scale)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    distance = max(np.abs(ordered - steps[1:]).max(), np.abs(ordered - steps[:-1]).max())
    return bool(distance < math.sqrt(math.log(2 / FALSE_ALARM) / (2 * len(ordered))))


@pytest.mark.parametrize("noise", [SystemNoise(), SeededNoise(5)])
@pytest.mark.parametrize("sigma", [40.0, 1234.5, 1e7])
def test_the_noise_has_the_claimed_sigma_and_not_two_thirds_or_three_halves(noise: object, sigma: float) -> None:
    """A KS test at the claimed sigma accepts, and one at 2/3 or 3/2 of it refuses."""
    values = np.full(8000, 10**8, dtype=np.int64)
    z = (noise.gaussian(values, sigma) - values) / sigma  # type: ignore[attr-defined]
    assert fits(z)
    assert not fits(z, 2 / 3)
    assert not fits(z, 3 / 2)


def test_rounding_keeps_the_law_where_sigma_is_small() -> None:
    """At sigma 0.7 the integers have the probabilities of a rounded Gaussian (chi-square, false alarm 1e-6)."""
    n = 20_000
    drawn = SystemNoise().gaussian(np.zeros(n, dtype=np.int64), 0.7)
    edges = np.arange(-2, 3)
    expected = np.diff(norm.cdf(np.concatenate([[-np.inf], edges[:-1] + 0.5, [np.inf]]) / 0.7)) * n
    seen = np.bincount(np.clip(drawn, -2, 2) + 2, minlength=5)
    assert ((seen - expected) ** 2 / expected).sum() < chi2.isf(FALSE_ALARM, 4)


def test_large_counts_and_sigmas_do_not_overflow() -> None:
    """A hundred million rows under noise of ten million, and the extremes of the lattice, stay what they are."""
    noise = SystemNoise()
    values = np.array([0, 10**8, -(10**8), 2**40, -(2**40)], dtype=np.int64)
    assert np.abs(noise.gaussian(values, 1e7) - values).max() < 12e7
    assert np.abs(noise.gaussian(values, MAX_SIGMA) - values).max() < 12 * MAX_SIGMA
    assert np.abs(noise.gaussian(values, 0.05) - values).max() <= 1


def test_values_beyond_the_lattice_are_clipped_not_wrapped() -> None:
    """A value of 2^62 becomes about 2^40: a contraction, never a wrap to a negative number."""
    released = SystemNoise().gaussian(np.array([2**62, -(2**62)], dtype=np.int64), 10.0)
    assert np.abs(released - np.array([2**40, -(2**40)])).max() < 200


def test_noise_differs_between_calls_and_within_batches() -> None:
    """No two calls and no two batches of one call share their noise."""
    noise = SystemNoise()
    first, second = (noise.gaussian(np.zeros(BATCH * 2, dtype=np.int64), 1e6) for _ in range(2))
    assert (first != second).mean() > 0.999
    assert (first[:BATCH] != first[BATCH:]).mean() > 0.999


def test_shapes_are_kept_also_of_nothing() -> None:
    """Noise keeps the shape of a table, of a scalar and of an empty array."""
    for noise in (SystemNoise(), SeededNoise(0)):
        for shape in ((), (0,), (2, 3, 4)):
            assert noise.gaussian(np.zeros(shape, dtype=np.int64), 5.0).shape == shape
            assert noise.gaussian(np.zeros(shape, dtype=np.int64), 5.0).dtype == np.int64


def test_the_seeded_noise_repeats_and_says_that_it_is_not_private() -> None:
    """Two generators of one seed agree; the class is stamped."""
    one, two = (SeededNoise(3).gaussian(np.arange(50), 9.0) for _ in range(2))
    assert (one == two).all()
    assert not SeededNoise(3).private
    assert SystemNoise().private


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, 1e-3, 1e12])
def test_noise_beyond_the_derivation_is_refused(sigma: float) -> None:
    """A sigma for which the lattice was not derived raises instead of drawing."""
    for noise in (SystemNoise(), SeededNoise(0)):
        with pytest.raises(DpsynthError):
            noise.gaussian(np.zeros(1, dtype=np.int64), sigma)


@pytest.mark.parametrize("noise", [SystemNoise(), SeededNoise(11)])
def test_the_noisy_maximum_is_the_exponential_mechanism(noise: object) -> None:
    """Picks have probability softmax(score / scale), and not that of twice the scale or half of it."""
    scores, scale, n = np.array([0.0, 4.0, 6.0, 9.0]), 3.0, 4000
    seen = np.bincount([noise.noisy_top_k(scores, scale, 1)[0] for _ in range(n)], minlength=4)  # type: ignore[attr-defined]

    def distance(at: float) -> float:
        expected = softmax(scores / at) * n
        return float(((seen - expected) ** 2 / expected).sum())

    assert distance(scale) < chi2.isf(FALSE_ALARM, 3)
    assert distance(scale / 2) > chi2.isf(FALSE_ALARM, 3)
    assert distance(scale * 2) > chi2.isf(FALSE_ALARM, 3)


def test_the_top_k_are_different_and_best_first() -> None:
    """With noise far below the gaps the picks are the k largest in order."""
    for noise in (SystemNoise(), SeededNoise(0)):
        picks = noise.noisy_top_k(np.array([1.0, 900.0, 500.0, 700.0]), 1e-3, 3)
        assert picks == [1, 3, 2]


def test_the_system_refuses_when_opendp_prices_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    """If opendp's price is not ours, no private number goes in."""
    import opendp.prelude as dp

    real = dp.m.make_gaussian
    monkeypatch.setattr(
        dp.m, "make_gaussian", lambda *space_and_scale: real(*space_and_scale[:2], 2 * space_and_scale[2])
    )
    with pytest.raises(DpsynthError, match="disagree"):
        SystemNoise().gaussian(np.zeros(1, dtype=np.int64), 10.0)


def test_neighbouring_draws_are_uncorrelated() -> None:
    """The lag-1 correlation of 20,000 draws is within its own noise (false alarm 1e-6)."""
    drawn = SystemNoise().gaussian(np.zeros(20_000, dtype=np.int64), 1e4).astype(float)
    lag = np.mean([a * b for a, b in pairwise(drawn / 1e4)])
    assert abs(lag) < norm.isf(FALSE_ALARM / 2) / math.sqrt(len(drawn)) * 1.1
