"""The delete-a-group jackknife over patients, for statistics of two cohorts.

Patients are put into ten groups of equal size at random; the statistic with each group left out in turn gives its
variance, and Student's t with nine degrees of freedom the interval. Unlike the bootstrap it does not draw a patient
twice, which would inflate distances between tables of counts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.table import Floats, Table
from dpsynth.evaluation.result import Interval

__all__ = ["GROUPS", "groups_of", "interval", "leave_out", "two_sample", "variance"]

GROUPS = 10


def groups_of(patients: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return for each row the group of its patient: random, of equal numbers of patients."""
    order = np.random.default_rng(seed).permutation(int(patients.max()) + 1)
    return order[patients] % GROUPS


def leave_out(by_group: Floats) -> Floats:
    """Return counts with each group left out, shape (groups, cells); a group that is everything leaves the whole."""
    total = by_group.sum(axis=0)
    left = total - by_group
    counts: Floats = np.where(left.sum(axis=1, keepdims=True) > 0, left, total)
    return counts


def variance(left_out: Floats) -> Any:
    """Return the jackknife variance of a statistic from its leave-one-out values (last axis)."""
    centred = left_out - left_out.mean(axis=-1, keepdims=True)
    return (centred**2).sum(axis=-1) * (GROUPS - 1) / GROUPS


def interval(value: float, spread: float, level: float, *, low: float = -np.inf, high: float = np.inf) -> Interval:
    """Return the interval of a statistic with jackknife variance `spread`, inside the statistic's range."""
    from scipy.stats import t

    reach = float(t.ppf(0.5 + level / 2, GROUPS - 1)) * spread**0.5
    covers = ("patients of both cohorts",)
    return Interval(max(low, value - reach), min(high, value + reach), level, covers, "delete-a-group jackknife")


Statistic = Callable[[Table, Table], Floats]


def two_sample(reference: Table, others: Sequence[Table], statistic: Statistic, seed: int) -> tuple[Floats, Floats]:
    """Return statistics of a reference and another cohort (mean over its draws), and their jackknife variances.

    Parameters
    ----------
    reference : Table
    others : sequence of Table
        Draws of the other cohort.
    statistic : callable
        From (reference, other) to an array of shape (k,); NaN where there is none.
    seed : int

    Returns
    -------
    tuple of ndarray, shape (k,)
    """
    value = np.mean([statistic(reference, other) for other in others], axis=0)
    mine = [np.mean([statistic(part, other) for other in others], axis=0) for part in _parts(reference, seed)]
    theirs = [
        variance(np.stack([statistic(reference, part) for part in _parts(other, seed + place)], axis=-1))
        for place, other in enumerate(others, start=1)
    ]
    return value, variance(np.stack(mine, axis=-1)) + np.sum(theirs, axis=0) / len(others) ** 2


def _parts(table: Table, seed: int) -> list[Table]:
    """Return the table with each group of patients left out; the whole where a group is everything."""
    groups = groups_of(table.patients, seed)
    return [
        table.take(np.flatnonzero(groups != group)) if (groups != group).any() else table for group in range(GROUPS)
    ]
