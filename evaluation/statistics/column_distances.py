"""Distances of single columns: of numbers beyond their cells, and of what is missing."""

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.table import Floats, Table
from dpsynth.evaluation.statistics.tvd import tvd

__all__ = ["kolmogorov_smirnov", "missing_pattern_tvd", "missing_rates", "wasserstein"]


def kolmogorov_smirnov(left: Floats, right: Floats) -> float:
    """Return the largest difference of two cumulative distributions, in [0, 1]; neither sample is empty.

    Examples
    --------
    >>> kolmogorov_smirnov(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.5
    """
    from scipy.stats import ks_2samp

    return float(ks_2samp(left, right, method="asymp").statistic)  # the p value is not used: the quick one


def wasserstein(left: Floats, right: Floats) -> float:
    """Return the first Wasserstein distance: the area between two cumulative distributions, in the values' unit.

    Examples
    --------
    >>> wasserstein(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    1.0
    """
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(left, right))


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
    counts = [np.bincount(part, minlength=size) for part in (places[: len(left)], places[len(left) :])]
    return tvd(counts[0].astype(np.float64), counts[1].astype(np.float64))
