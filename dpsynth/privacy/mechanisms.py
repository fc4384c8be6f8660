"""Noise mechanisms: integer Gaussian and noisy maximum, from opendp for releases and from a seed for tests.

Everything random that protects a patient is here. `SystemNoise` draws from the operating system through opendp, whose
samplers are exact on integers and rationals: no floating-point number is ever added to a private one.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import DpsynthError

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

LATTICE_BITS = 20
# 2^40 * 2^20 and 40 standard deviations of 2^34 * 2^20 together stay below 2^61: nothing overflows an int64.
MAX_VALUE = 2**40
MAX_SIGMA = 2.0**34
MIN_SIGMA = 2.0**-6
BATCH = 2**14
FEW = 2**53
INVERSE_ERROR = 2.0**-47
UNIFORM_ERROR = 2.0**-51


class Noise(Protocol):
    """The protocol of noise: what the kernel adds to exact answers."""

    private: ClassVar[bool]
    description: ClassVar[str]

    def gaussian(self, values: Integers, sigma: float) -> Integers:
        """Return each value plus Gaussian noise of standard deviation ``sigma``, rounded to an integer."""
        ...

    def noisy_top_k(self, scores: Floats, scale: float, k: int) -> list[int]:
        """Return the positions of the k largest scores after adding Gumbel noise of this scale to each."""
        ...

    def rounded_gaussian(self, values: Floats, sigma: float) -> Floats:
        """Return whole numbers, held as floats, plus Gaussian noise rounded to whole numbers; for long vectors."""
        ...

    def uniform(self, n: int) -> Floats:
        """Return n numbers in [0, 1) that nobody can predict: who is in a Poisson sample."""
        ...

    def generator(self) -> np.random.Generator:
        """Return a generator for choices that need no privacy of their own (noise levels of a training)."""
        ...

    def secret(self) -> bytes:
        """Return 32 bytes that nobody can predict: they choose which rows over the cap are dropped."""
        ...


class LatticeNoise(Noise, Protocol):
    """The protocol of noise that several hospitals share."""

    def on_lattice(self, values: Integers, sigma: float, *, most: int = MAX_VALUE) -> Integers:
        """Return each value plus Gaussian noise in multiples of 2^-20, not rounded: a share of several hospitals."""
        ...


class SystemNoise:
    """Noise of the operating system's entropy: what releases use.

    Privacy contract: `gaussian` with ``sigma = D / sqrt(2 rho)`` on integers of L2 sensitivity D costs rho under both
    accountings (`dpsynth.privacy.spending.accounting` derives what the lattice adds); `noisy_top_k` on scores that one
    patient moves by at most D, in either direction, is k exponential mechanisms with ``eps = 2 D / scale`` each.
    """

    private: ClassVar[bool] = True
    description: ClassVar[str] = "operating system entropy (opendp samplers and rounded normals, exact on integers)"

    def gaussian(self, values: Integers, sigma: float) -> Integers:
        """Return ``values`` plus discrete Gaussian noise on the lattice 2^-20, rounded to integers.

        Values beyond 2^40 are clipped, which moves two neighbours no further apart.
        """
        return rounded_lattice(self.on_lattice(values, sigma))

    def on_lattice(self, values: Integers, sigma: float, *, most: int = MAX_VALUE) -> Integers:
        """Return ``values`` plus discrete Gaussian noise, in multiples of 2^-20; values beyond ``most`` are clipped."""
        import opendp.prelude as dp

        _check_sigma(sigma)
        dp.enable_features("contrib")
        step = float(2**LATTICE_BITS)
        space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
        mechanism: Any = dp.m.make_gaussian(*space, sigma * step)
        _check_price(mechanism.map(step), 1 / (2 * sigma**2))
        fine = np.clip(values.ravel(), -most, most) << LATTICE_BITS
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # opendp leaves Python's lock; every draw is independent
            parts = list(pool.map(mechanism, (part.tolist() for part in _batches(fine))))
        noisy: Integers = np.array([x for part in parts for x in part], dtype=np.int64)
        return noisy.reshape(values.shape)

    def noisy_top_k(self, scores: Floats, scale: float, k: int) -> list[int]:
        """Return k positions by one-shot noisy maximum with Gumbel noise (equal to k exponential mechanisms)."""
        import opendp.prelude as dp

        dp.enable_features("contrib")
        space = dp.vector_domain(dp.atom_domain(T="f64", nan=False)), dp.linf_distance(T="f64")
        mechanism: Any = dp.m.make_noisy_top_k(*space, dp.zero_concentrated_divergence(), k=k, scale=scale)
        _check_price(mechanism.map(1.0), k * (2 / scale) ** 2 / 8)
        return [int(i) for i in mechanism(scores.tolist())]

    def rounded_gaussian(self, values: Floats, sigma: float) -> Floats:
        """Return ``round(values + N(0, sigma^2))`` for whole ``values``: what a gradient of many numbers gets.

        Privacy contract: the law is exactly that of the continuous Gaussian mechanism, rounded. As ``values`` are
        whole, ``values + round(N) = round(values + N)``: rounding is post-processing, and so is whatever a training
        makes of the result (its sum as a float64, the cast of a gradient to float32). Each whole number, however far
        out, can come with a patient and without, each with its own probability; the support has no gap and no end. So
        nothing beyond the Gaussian's own price is charged, to epsilon or to delta.

        opendp's exact sampler takes about 10 microseconds a number, too slow for a network's gradient at every step.
        `_rounded_normals` decides almost every number from 64 bits in floats and the rest exactly.
        """
        if not 1 <= sigma <= MAX_SIGMA:
            raise DpsynthError(f"noise of standard deviation {sigma:g} is outside what was derived for gradients.")
        drawn = np.empty(values.shape)
        for start in range(0, values.size, BATCH):  # the cache holds a batch's steps
            drawn[start : start + BATCH] = _rounded_normals(min(BATCH, values.size - start), sigma)
        return values + drawn

    def uniform(self, n: int) -> Floats:
        """Return n multiples of 2^-53 in [0, 1) from the operating system's entropy."""
        return (_bits(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def generator(self) -> np.random.Generator:
        """Return a generator seeded by the operating system."""
        return np.random.default_rng()

    def secret(self) -> bytes:
        """Return 32 bytes of the operating system's entropy."""
        return os.urandom(32)


class SeededNoise:
    """Repeatable noise for tests: whatever it touches is stamped *not private*."""

    private: ClassVar[bool] = False
    description: ClassVar[str] = "a fixed seed: a test mode that protects nobody"

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def gaussian(self, values: Integers, sigma: float) -> Integers:
        """Return ``values`` plus rounded floating-point normals."""
        _check_sigma(sigma)
        return values + np.rint(self._rng.normal(0, sigma, values.shape)).astype(np.int64)

    def on_lattice(self, values: Integers, sigma: float, *, most: int = MAX_VALUE) -> Integers:
        """Return ``values`` plus rounded floating-point normals, in multiples of 2^-20."""
        fine = np.clip(values, -most, most) << LATTICE_BITS
        return fine + np.rint(self._rng.normal(0, sigma * 2**LATTICE_BITS, values.shape)).astype(np.int64)

    def noisy_top_k(self, scores: Floats, scale: float, k: int) -> list[int]:
        """Return the k largest after floating-point Gumbel noise."""
        noisy = scores + self._rng.gumbel(0, scale, scores.shape)
        return [int(i) for i in np.argsort(-noisy, kind="stable")[:k]]

    def rounded_gaussian(self, values: Floats, sigma: float) -> Floats:
        """Return ``values`` plus rounded floating-point normals."""
        return values + np.rint(self._rng.normal(0, sigma, values.shape))

    def uniform(self, n: int) -> Floats:
        """Return n numbers of the seeded generator."""
        return self._rng.random(n)

    def generator(self) -> np.random.Generator:
        """Return the seeded generator itself."""
        return self._rng

    def secret(self) -> bytes:
        """Return 32 bytes of the seeded generator."""
        return self._rng.bytes(32)


def rounded_lattice(fine: Integers) -> Integers:
    """Return numbers on the lattice 2^-20 rounded to whole ones: post-processing.

    Examples
    --------
    >>> rounded_lattice(np.array([2**20, 3 * 2**19])).tolist()
    [1, 2]
    """
    return np.asarray((fine + 2 ** (LATTICE_BITS - 1)) >> LATTICE_BITS)


def _bits(n: int) -> NDArray[np.uint64]:
    """Return n times 64 bits of the operating system's entropy."""
    return np.frombuffer(os.urandom(8 * n), dtype=np.uint64)


def _rounded_normals(n: int, sigma: float) -> Floats:
    """Return n normals of standard deviation ``sigma``, each rounded to a whole number, as floats.

    The inverse distribution function of a uniform U in (0, 1/2] gives the distance from 0, and one more bit the side.
    63 bits of U would leave holes: 7 standard deviations out neighbouring values of U are whole numbers apart that
    cannot come. So where U is below 2^-11, 64 more bits are drawn, and U is known to 53 bits relative to itself.

    What floats can get wrong, in standard deviations: U within ``3 2^-53`` of itself, which moves the distance by at
    most sqrt(pi / 2) times that (Mills' ratio), less than 2^-51; `ndtri` within 7.2e-16 of its value (as Cephes
    states, and a test repeats), for which ten times as much is left, 2^-47. A number that is closer than both to a half
    is not decided in floats; nor is U below 2^-75. `dpsynth.privacy.rounded_normal` decides them, from all their bits.
    """
    from scipy.special import ndtri

    from dpsynth.privacy.rounded_normal import rounded

    words = _bits(n)
    heads = words >> np.uint64(1)
    few = np.flatnonzero(heads < FEW)
    more = np.frombuffer(os.urandom(8 * len(few)), dtype=np.uint64)
    below = heads.astype(np.float64) + 0.5
    below[few] = heads[few] + (more + 0.5) * 2.0**-64
    distance = -sigma * ndtri(np.minimum(below * 2.0**-64, 0.5))
    whole = np.rint(distance)
    doubtful = 0.5 - np.abs(distance - whole) <= distance * INVERSE_ERROR + sigma * UNIFORM_ERROR
    doubtful[few] |= (heads[few] == 0) & (more < FEW)
    longer = dict(zip(few.tolist(), more.tolist(), strict=True))
    for place in np.flatnonzero(doubtful).tolist():
        head, width = int(heads[place]), 64
        if place in longer:
            head, width = (head << 64) | longer[place], 128
        whole[place] = rounded(head, width, sigma)
    return np.asarray(np.where(words & np.uint64(1), whole, -whole))


def _batches(values: Integers) -> list[Integers]:
    return np.array_split(values, -(-values.size // BATCH) or 1)


def _check_sigma(sigma: float) -> None:
    if not MIN_SIGMA <= sigma <= MAX_SIGMA:
        raise DpsynthError(f"noise of standard deviation {sigma:g} is outside what the lattice was derived for.")


def _check_price(theirs: float, ours: float) -> None:
    """Two derivations of one price must agree before a private number goes in."""
    if not abs(theirs - ours) <= 1e-9 * ours:
        raise DpsynthError("opendp and dpsynth disagree on the price of a question; nothing was asked.")
