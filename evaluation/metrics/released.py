"""Counts that the budget paid for: intervals from their known noise, and how far the synthetic cohort is from them.

All of this is post-processing of what is released anyway, so it may be published.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.table import Floats
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Disclosure, Result, estimate, guarded, not_estimable

__all__ = ["ReleasedCounts", "count_intervals", "released_results"]


@dataclass(frozen=True)
class ReleasedCounts:
    """A table of noisy counts of real patients beside the synthetic cohort's counts in the same cells.

    Parameters
    ----------
    columns : tuple of str
    counts : ndarray
        Counts with independent rounded Gaussian noise.
    sigma : float
        Standard deviation of the noise on each cell, in rows.
    synthetic : ndarray
        The synthetic cohort's counts, same shape.
    labels : tuple of str
        A name per cell in C order; may be empty.
    """

    columns: tuple[str, ...]
    counts: NDArray[Any]
    sigma: float
    synthetic: NDArray[Any]
    labels: tuple[str, ...] = ()


def count_intervals(
    counts: NDArray[Any], sigma: float, level: float = 0.95, *, population: bool = False
) -> tuple[Floats, Floats]:
    """Return intervals of the exact counts behind noisy ones.

    Parameters
    ----------
    counts : ndarray of any shape
        Released counts, each with independent rounded Gaussian noise.
    sigma : float
        Its standard deviation, in rows.
    level : float
    population : bool
        Cover the expected count of the population that the patients are a sample of: the variance of a Poisson count
        is added to that of the noise. Otherwise the interval is of the count among these patients.

    Returns
    -------
    tuple of ndarray
        Lower and upper ends, in rows, never below 0. For one count named before looking, not for the largest of many.

    Notes
    -----
    Privacy contract: works on released counts only, so the intervals are post-processing and may be published.

    Examples
    --------
    >>> low, high = count_intervals(np.array([100]), sigma=10.0)
    >>> round(float(low[0]), 1), round(float(high[0]), 1)
    (80.4, 119.6)
    """
    from scipy.stats import norm

    noisy = np.asarray(counts, dtype=np.float64)
    variance = sigma**2 + (np.maximum(noisy, 1.0) if population else 0.0)
    reach = norm.ppf(0.5 + level / 2) * np.sqrt(variance)
    low: Floats = np.maximum(0.0, noisy - reach)
    high: Floats = np.maximum(0.0, noisy + reach)
    return low, high


def released_results(released: Sequence[ReleasedCounts], terms: Protocol) -> list[Result]:
    """Return for each released table its TVD to the synthetic cohort, and the share of cells that agree within noise.

    Notes
    -----
    Privacy contract: touches no private value; the results are public whatever `terms` say.
    """
    results: list[Result] = []
    for table in released:
        subject = " x ".join(table.columns)
        metrics = ("released_tvd", "within_noise")
        compute = partial(_results, table, subject, terms)
        results += guarded(metrics, compute, subject=subject, disclosure=Disclosure.PUBLIC)
    return results


def _results(table: ReleasedCounts, subject: str, terms: Protocol) -> list[Result]:
    """Compare in shares of the noisy total.

    `noise_alone` in `detail` is the mean TVD that the noise makes of equal tables, `at_most` a bound of the TVD between
    the synthetic cohort and the exact counts by the triangle inequality, which the noise breaks with probability 0.02.
    """
    counts, mine = (np.asarray(side, dtype=np.float64).ravel() for side in (table.counts, table.synthetic))
    fields: dict[str, Any] = {"subject": subject, "disclosure": Disclosure.PUBLIC, "n": len(counts)}
    total = counts.sum()
    if total <= 0 or mine.sum() <= 0:
        reason = "the noisy counts add up to nothing"
        return [not_estimable(metric, reason, **fields) for metric in ("released_tvd", "within_noise")]
    scaled = mine / mine.sum() * total
    low, high = count_intervals(counts, table.sigma, terms.level)
    gap = 0.5 * np.abs(counts - scaled).sum() / total
    noise_alone, bound = _noise(len(counts), table.sigma, total)
    detail = {"sigma": table.sigma, "noise_alone": noise_alone, "labels": list(table.labels)}
    detail |= {"at_most": min(1.0, gap + bound), "order": len(table.columns)}
    detail |= {"counts": counts, "low": low, "high": high, "synthetic": np.round(scaled, 2)}
    inside = (low - 0.5 <= scaled) & (scaled <= high + 0.5)
    return [
        estimate("released_tvd", gap, detail=detail, **fields),
        estimate("within_noise", inside.mean(), **fields),
    ]


def _noise(cells: int, sigma: float, total: float) -> tuple[float, float]:
    """Return the mean TVD that noise makes of two equal tables of `total` rows, and a bound of it that holds in 98 %.

    In each cell E|N(0, sigma)| = sigma sqrt(2/pi), with variance sigma^2 (1 - 2/pi). The exact number of rows differs
    from the noisy total by N(0, sigma sqrt(cells)), which moves the shares by as much over the total. Both are bounded
    at 2.33 standard deviations (one-sided 1 %); for few cells the half-normal sum has a longer tail than the normal
    one, which the slack of the triangle inequality covers.
    """
    mean = 0.5 * cells * sigma * np.sqrt(2 / np.pi) / total
    reach = 2.33 * sigma * np.sqrt(cells) / total
    return float(mean), float(mean + 0.5 * reach * (np.sqrt(1 - 2 / np.pi) + 1))
