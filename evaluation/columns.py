"""Distances of single columns: of numbers beyond their cells, and of what is missing."""

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.table import Floats, Table
from dpsynth.evaluation.tvd import tvd

__all__ = ["kolmogorov_smirnov", "missing_pattern_tvd", "missing_rates", "wasserstein"]


def _curves(left: Floats, right: Floats) -> tuple[Floats, Floats, Floats]:
    """Return all different values and both cumulative shares at them."""
    points = np.unique(np.concatenate([left, right]))
    shares = [np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (left, right)]
    return points, shares[0], shares[1]


def kolmogorov_smirnov(left: Floats, right: Floats) -> float:
    """Return the largest difference of two cumulative distributions, in [0, 1]; neither sample is empty."""
    _, one, two = _curves(left, right)
    return float(np.abs(one - two).max())


def wasserstein(left: Floats, right: Floats) -> float:
    """Return the first Wasserstein distance: the area between two cumulative distributions, in the values' unit."""
    points, one, two = _curves(left, right)
    return float((np.abs(one - two)[:-1] * np.diff(points)).sum())


def missing_rates(table: Table) -> Floats:
    """Return the share of rows that each column misses, shape (columns,)."""
    return np.array([variable.missing.mean() for variable in table.variables.values()])


def _patterns(table: Table) -> NDArray[np.uint8]:
    """Return which columns each row misses, as packed bits, shape (rows, bytes)."""
    return np.packbits(np.column_stack([variable.missing for variable in table.variables.values()]), axis=1)


def missing_pattern_tvd(left: Table, right: Table) -> float:
    """Return the TVD of the sets of columns that are missing together, in [0, 1]."""
    both = np.concatenate([_patterns(left), _patterns(right)])
    places = np.unique(both, axis=0, return_inverse=True)[1].ravel()
    size = int(places.max()) + 1
    one, two = (np.bincount(part, minlength=size) for part in (places[: len(left)], places[len(left) :]))
    return tvd(one.astype(np.float64), two.astype(np.float64))
