"""Bootstrap weights over patients, stratified; and intervals from the draws.

The patient is resampled, with all of their rows. Strata (group x label) keep their sizes, so that a small group is in
every draw and its interval is that of its own patients.
"""

import math

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.table import Ints
from dpsynth.evaluation.result import Interval

__all__ = ["draws_for", "percentile", "weights"]

#: Memory of the weights: draws x rows is kept below this number.
LARGEST = 20_000_000


def draws_for(rows: int, wanted: int = 1000) -> int:
    """Return how many draws to make: `wanted`, fewer for many rows, at least 200."""
    return max(200, min(wanted, LARGEST // max(rows, 1)))


def _per_patient(strata: Ints, patients: Ints) -> Ints:
    """Return the stratum of each patient: the largest among their rows."""
    strata_of_patients = np.zeros(int(patients.max()) + 1, dtype=np.int64)
    np.maximum.at(strata_of_patients, patients, strata)
    return strata_of_patients


def weights(strata: Ints, patients: Ints, draws: int, seed: int) -> NDArray[np.floating]:
    """Return bootstrap weights of rows, shape (draws, rows).

    Parameters
    ----------
    strata : ndarray of int, shape (rows,)
        Non-negative stratum of each row; a patient with rows in several is resampled in the highest of them.
    patients : ndarray of int, shape (rows,)
        Dense patient index of each row.
    draws : int
    seed : int
    """
    rng = np.random.default_rng(seed)
    stratum = _per_patient(strata, patients)
    times = np.zeros((draws, len(stratum)), dtype=np.float32)  # counts: exact, and half the memory
    for code in np.unique(stratum):
        members = np.flatnonzero(stratum == code)
        size = (draws, len(members))
        picks = rng.integers(0, len(members), size=size) + np.arange(draws)[:, None] * len(members)
        times[:, members] = np.bincount(picks.ravel(), minlength=picks.size).reshape(size)
    times_of_rows: NDArray[np.floating] = times[:, patients]
    return times_of_rows


def percentile(
    draws: NDArray[np.floating], covers: tuple[str, ...], level: float = 0.95, *, extra: float = 0.0
) -> Interval | None:
    """Return the percentile interval of bootstrap draws; None if they are all NaN.

    Parameters
    ----------
    draws : ndarray, shape (draws,)
        NaN where a draw gave no number; those are left out.
    covers : tuple of str
    level : float
    extra : float
        Variance to be added for randomness that the draws do not hold (such as that between synthetic draws):
        the interval is stretched about its median by sqrt(1 + extra / variance of the draws).
    """
    kept = draws[np.isfinite(draws)].astype(np.float64)
    if len(kept) == 0:
        return None
    low, middle, high = np.quantile(kept, [0.5 - level / 2, 0.5, 0.5 + level / 2])
    variance = float(kept.var())
    if extra > 0 and variance > 0:
        stretch = math.sqrt(1 + extra / variance)
        low, high = middle - (middle - low) * stretch, middle + (high - middle) * stretch
    return Interval(float(low), float(high), level, covers, f"stratified percentile bootstrap, {len(kept)} draws")
