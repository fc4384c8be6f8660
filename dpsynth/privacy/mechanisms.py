"""Noise: the integer Gaussian and the noisy maximum, from opendp for releases and from a seed for tests.

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


class Noise(Protocol):
    """What the kernel adds to private numbers."""

    private: ClassVar[bool]
    description: ClassVar[str]

    def gaussian(self, values: Integers, sigma: float) -> Integers:
        """Return each value plus Gaussian noise of standard deviation ``sigma``, rounded to an integer."""
        ...

    def noisy_top_k(self, scores: Floats, scale: float, k: int) -> list[int]:
        """Return the positions of the k largest scores after adding Gumbel noise of this scale to each."""
        ...

    def generator(self) -> np.random.Generator:
        """Return a generator for choices that need no privacy of their own (which rows over the cap are dropped)."""
        ...


class SystemNoise:
    """Noise of the operating system's entropy: what releases use.

    Privacy contract: `gaussian` with ``sigma = D / sqrt(2 rho)`` on integers of L2 sensitivity D costs rho under both
    accountings (`dpsynth.privacy.accounting` derives what the lattice adds); `noisy_top_k` on scores that one patient
    moves by at most D, in either direction, is k exponential mechanisms with ``eps = 2 D / scale`` each.
    """

    private: ClassVar[bool] = True
    description: ClassVar[str] = "operating system entropy (opendp samplers, exact on integers)"

    def gaussian(self, values: Integers, sigma: float) -> Integers:
        """Return ``values`` plus discrete Gaussian noise on the lattice 2^-20, rounded to integers.

        Values beyond 2^40 are clipped, which moves two neighbours no further apart.
        """
        import opendp.prelude as dp

        _check_sigma(sigma)
        dp.enable_features("contrib")
        step = float(2**LATTICE_BITS)
        space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
        mechanism: Any = dp.m.make_gaussian(*space, sigma * step)
        _check_price(mechanism.map(step), 1 / (2 * sigma**2))
        fine = np.clip(values.ravel(), -MAX_VALUE, MAX_VALUE) << LATTICE_BITS
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # opendp leaves Python's lock; every draw is independent
            parts = list(pool.map(mechanism, (part.tolist() for part in _batches(fine))))
        noisy: Integers = np.array([x for part in parts for x in part], dtype=np.int64)
        noisy = (noisy + 2 ** (LATTICE_BITS - 1)) >> LATTICE_BITS
        return noisy.reshape(values.shape)

    def noisy_top_k(self, scores: Floats, scale: float, k: int) -> list[int]:
        """Return k positions by one-shot noisy maximum with Gumbel noise (equal to k exponential mechanisms)."""
        import opendp.prelude as dp

        dp.enable_features("contrib")
        space = dp.vector_domain(dp.atom_domain(T="f64", nan=False)), dp.linf_distance(T="f64")
        mechanism: Any = dp.m.make_noisy_top_k(*space, dp.zero_concentrated_divergence(), k=k, scale=scale)
        _check_price(mechanism.map(1.0), k * (2 / scale) ** 2 / 8)
        return [int(i) for i in mechanism(scores.tolist())]

    def generator(self) -> np.random.Generator:
        """Return a generator seeded by the operating system."""
        return np.random.default_rng()


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

    def noisy_top_k(self, scores: Floats, scale: float, k: int) -> list[int]:
        """Return the k largest after floating-point Gumbel noise."""
        noisy = scores + self._rng.gumbel(0, scale, scores.shape)
        return [int(i) for i in np.argsort(-noisy, kind="stable")[:k]]

    def generator(self) -> np.random.Generator:
        """Return the seeded generator itself."""
        return self._rng


def _batches(values: Integers) -> list[Integers]:
    return np.array_split(values, -(-values.size // BATCH) or 1)


def _check_sigma(sigma: float) -> None:
    if not MIN_SIGMA <= sigma <= MAX_SIGMA:
        raise DpsynthError(f"noise of standard deviation {sigma:g} is outside what the lattice was derived for.")


def _check_price(theirs: float, ours: float) -> None:
    """Two derivations of one price must agree before a private number goes in."""
    if not abs(theirs - ours) <= 1e-9 * ours:
        raise DpsynthError("opendp and dpsynth disagree on the price of a question; nothing was asked.")
