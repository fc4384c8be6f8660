"""The noise of trainings is exactly a rounded normal: no whole number is left out, however far from 0."""

import math
import os

import mpmath
import numpy as np
import pytest
from scipy.special import log_ndtr, ndtri

from dpsynth.privacy import mechanisms
from dpsynth.privacy.mechanisms import INVERSE_ERROR, SystemNoise

from .helpers import FALSE_ALARM

BITS = 1024
SIGMAS = [1.0, 0.5 * 2**26, 2.0**26, 3.7 * 2**26, 2.0**34]


class Entropy:
    """Bits of a chosen U in (0, 1/2], in place of the operating system's; the lowest bit of the first word is 0."""

    def __init__(self, chance: mpmath.mpf) -> None:
        self._bits = int(mpmath.floor(mpmath.ldexp(chance, BITS)))
        self._left = BITS

    def __call__(self, size: int) -> bytes:
        """Return the next bits; the first word holds 63 of U and the side, which is 0."""
        first = self._left == BITS
        self._left -= 8 * size
        taken = (self._bits >> self._left) & ((1 << 8 * size) - 1)
        return (taken << 1 if first and size else taken).to_bytes(size, "little")


def drawn(monkeypatch: pytest.MonkeyPatch, chance: mpmath.mpf, sigma: float) -> int:
    """Return the distance from 0 of the noise that is drawn when U is ``chance``."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "urandom", Entropy(chance))
        return -int(SystemNoise().rounded_gaussian(np.zeros(1), sigma)[0])


def below(whole: float, sigma: float) -> mpmath.mpf:
    """Return the chance of a normal below ``-whole / sigma``."""
    return mpmath.ncdf(-mpmath.mpf(whole) / mpmath.mpf(sigma))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_no_whole_number_is_left_out(monkeypatch: pytest.MonkeyPatch, sigma: float) -> None:
    """Whole numbers in a row, out to 30 standard deviations, come each: some U in the middle of its cell gives it."""
    with mpmath.workprec(2 * BITS):
        for distance in (0.001, 1, 6.5, 7.1, 7.6, 9, 12, 14, 30):
            first = round(distance * sigma) + 1
            for whole in range(first, first + 3):
                middle = (below(whole - 0.5, sigma) + below(whole + 0.5, sigma)) / 2
                assert drawn(monkeypatch, middle, sigma) == whole


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_number_changes_exactly_where_it_has_to(monkeypatch: pytest.MonkeyPatch, sigma: float) -> None:
    """At one part in 2^50 to 2^300 beside the end of a cell, the number is that of the right cell."""
    with mpmath.workprec(2 * BITS):
        for distance in (0.0, 0.3, 1.7, 4.2, 7.3, 12.5):
            whole = round(distance * sigma)
            end = below(whole + 0.5, sigma)
            for bits in (50, 64, 80, 150, 300):
                apart = mpmath.ldexp(1, -bits) * (below(whole + 0.4, sigma) - end if bits == 50 else end)
                assert drawn(monkeypatch, end + apart, sigma) == whole
                assert drawn(monkeypatch, end - apart, sigma) == whole + 1


def test_the_inverse_is_as_exact_as_is_assumed() -> None:
    """`ndtri` is right to a tenth of what is left for its errors, over all that is asked of it in floats."""
    rng = np.random.default_rng(1)
    chances = [*(0.5 * rng.random(150)), *(0.5 - 2.0 ** -rng.uniform(2, 50, 40)), *(2.0 ** -rng.uniform(1, 76, 150))]
    with mpmath.workprec(200):
        for chance in chances:
            float_root = mpmath.mpf(float(ndtri(chance)))
            slope = mpmath.npdf(float_root)
            error = (mpmath.ncdf(float_root) - mpmath.mpf(float(chance))) / slope  # one Newton step is enough
            assert abs(error) <= INVERSE_ERROR / 10 * abs(float_root)


def fits_tail(distances: np.ndarray, sigma: float, log_chance: float) -> bool:
    """Whether distances fit a normal, given that it is out where it has this chance a side (Kolmogorov, 1e-6)."""
    ordered = np.sort(np.exp(log_ndtr(-distances / sigma) - log_chance))
    steps = np.arange(len(ordered) + 1) / len(ordered)
    distance = max(np.abs(ordered - steps[1:]).max(), np.abs(ordered - steps[:-1]).max())
    return bool(distance < math.sqrt(math.log(2 / FALSE_ALARM) / (2 * len(ordered))))


@pytest.mark.parametrize(("bits", "count"), [(18, 1000), (52, 20_000), (63, 200_000)])
def test_the_tail_has_the_law_of_a_normal(monkeypatch: pytest.MonkeyPatch, bits: int, count: int) -> None:
    """Given the first bits of a tail (or of none), all else fits the normal, and not one 2 % wider or narrower."""
    sigma = 3.0 * 2**26
    real = mechanisms._bits
    monkeypatch.setattr(mechanisms, "_bits", lambda n: real(n) >> np.uint64(63 - bits))
    noise = SystemNoise().rounded_gaussian(np.zeros(count), sigma)
    log_chance = (bits - 64) * math.log(2)
    assert (noise == np.rint(noise)).all()
    assert fits_tail(np.abs(noise), sigma, log_chance)
    assert not fits_tail(np.abs(noise), sigma * 1.03, log_chance)
    assert not fits_tail(np.abs(noise), sigma / 1.03, log_chance)
    assert abs((noise > 0).mean() - 0.5) < 2.45 / math.sqrt(count)  # 4.9 standard deviations
    assert len(np.unique(noise)) > 0.99 * count


def test_noise_of_a_training_is_the_rounded_normal_at_small_scale() -> None:
    """At sigma 1 the whole numbers have the chances of a rounded normal (chi-square, false alarm 1e-6)."""
    from scipy.stats import chi2, norm

    count = 40_000
    seen = np.bincount(np.clip(SystemNoise().rounded_gaussian(np.zeros(count), 1.0), -3, 3).astype(int) + 3)
    edges = np.array([-np.inf, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, np.inf])
    expected = np.diff(norm.cdf(edges)) * count
    assert ((seen - expected) ** 2 / expected).sum() < chi2.isf(FALSE_ALARM, 6)
