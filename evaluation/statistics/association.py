"""How far pairs of columns go together: Cramér's V and Spearman's rank correlation, from tables of counts.

Both come from the same cells as the TVD, so that leave-one-group-out values are vectorised. V counts missing as a cell,
but leaves out cells that hold less than 1 % of the reference's rows, or fewer than five: V gives a cell the more weight
the rarer it is, and one patient who misses two values at once would make a strong association. The rank correlation
leaves out missing and special values and ranks cells, not values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.bins import Binned
from dpsynth.evaluation.arrays.table import Floats
from dpsynth.evaluation.statistics.jackknife import GROUPS, leave_out, variance
from dpsynth.evaluation.statistics.scores import ratio
from dpsynth.evaluation.statistics.tvd import Counter

__all__ = ["Associations", "association_error", "associations", "cramers_v", "frequent", "spearman"]

#: Share of rows below which a cell is left out of V.
RARE = 0.01


def cramers_v(tables: Floats) -> Floats:
    """Return Cramér's V with bias correction (Bergsma 2013, eq. 5-8) of tables of counts.

    Parameters
    ----------
    tables : ndarray, shape (..., rows, columns)

    Returns
    -------
    ndarray, shape (...)
        In [0, 1]; NaN where a margin has fewer than two cells in use, because then there is nothing to associate.
    """
    total = tables.sum(axis=(-2, -1))
    rows, columns = tables.sum(axis=-1), tables.sum(axis=-2)
    expected = rows[..., :, None] * columns[..., None, :]
    squares = np.divide(tables**2, expected, out=np.zeros_like(tables, dtype=np.float64), where=expected > 0)
    phi2 = squares.sum(axis=(-2, -1)) - 1
    r, c = (rows > 0).sum(axis=-1), (columns > 0).sum(axis=-1)
    n1 = np.maximum(total - 1, 1)
    phi2 = np.maximum(0, phi2 - (r - 1) * (c - 1) / n1)
    r, c = r - (r - 1) ** 2 / n1, c - (c - 1) ** 2 / n1
    least = np.minimum(r, c) - 1
    association: Floats = np.sqrt(ratio(phi2, np.where(least > 1e-12, least, 0.0)))
    return np.minimum(association, 1.0)


def spearman(tables: Floats) -> Floats:
    """Return Spearman's rank correlation of tables of counts with ordered rows and columns, ties at mid-ranks.

    Parameters
    ----------
    tables : ndarray, shape (..., rows, columns)

    Returns
    -------
    ndarray, shape (...)
        In [-1, 1]; NaN where a margin has fewer than two cells in use.
    """
    x, y = (_centred_ranks(tables.sum(axis=axis)) for axis in (-1, -2))
    cross = np.einsum("...ij,...i,...j->...", tables, x, y)
    spread = (tables.sum(axis=-1) * x**2).sum(axis=-1) * (tables.sum(axis=-2) * y**2).sum(axis=-1)
    return ratio(cross, np.sqrt(spread))


def _centred_ranks(counts: Floats) -> Floats:
    """Return the mid-rank of each cell, less the mean rank."""
    ranks: Floats = np.cumsum(counts, axis=-1) - counts / 2 - counts.sum(axis=-1, keepdims=True) / 2
    return ranks


@dataclass(frozen=True)
class Associations:
    """Associations of all pairs of one cohort.

    Parameters
    ----------
    v, rho : ndarray, shape (pairs, groups + 1)
        The whole cohort first, then with each group of patients left out; NaN where there is none.
    """

    v: Floats
    rho: Floats


Pairs = Sequence[tuple[str, str]]


def frequent(data: Binned) -> dict[str, NDArray[np.int64]]:
    """Return for each column the cells that hold at least 1 % of the rows, and five rows."""
    counts = {name: np.bincount(code, minlength=data.sizes[name]) for name, code in data.codes.items()}
    return {name: np.flatnonzero(count >= max(5, RARE * len(data))) for name, count in counts.items()}


def associations(
    data: Binned, pairs: Pairs, ordered: Mapping[str, int], cells: Mapping[str, NDArray[np.int64]], seed: int = 0
) -> Associations:
    """Return the associations of `pairs` of columns.

    Parameters
    ----------
    data : Binned
    pairs : sequence of pairs of str
    ordered : dict of str to int
        For columns whose cells are in order, how many: special values and missing come after them.
    cells : mapping of str to ndarray
        The cells that V looks at: `frequent` of the reference.
    seed : int
        Draws the jackknife's groups of patients.
    """
    counter = Counter(data, seed)
    v, rho = np.full((len(pairs), GROUPS + 1), np.nan), np.full((len(pairs), GROUPS + 1), np.nan)
    for place, (left, right) in enumerate(pairs):
        by_group = counter.count((left, right))
        if len(by_group) != GROUPS:
            continue
        tables = np.concatenate([by_group.sum(axis=0)[None], leave_out(by_group)])
        tables = tables.reshape(GROUPS + 1, data.sizes[left], data.sizes[right])
        v[place] = cramers_v(tables[:, cells[left]][:, :, cells[right]])
        if left in ordered and right in ordered:
            rho[place] = spearman(tables[:, : ordered[left], : ordered[right]])
    return Associations(v, rho)


@dataclass(frozen=True)
class AssociationError:
    """The mean absolute difference of an association over pairs.

    Parameters
    ----------
    value, variance : float
        The mean, and its jackknife variance over patients of both cohorts.
    pairs : ndarray of bool
        Which pairs are in it: those for which the reference has an association.
    """

    value: float
    variance: float
    pairs: NDArray[np.bool_]


def association_error(reference: Floats, others: Sequence[Floats]) -> AssociationError | None:
    """Return the mean absolute difference of associations from a reference; None where no pair has one.

    Parameters
    ----------
    reference, others : ndarray, shape (pairs, groups + 1)
        `v` or `rho` of `Associations`, of several draws of the other cohort. An association that the other cohort
        cannot have, because a column is constant in it, counts as 0.
    """
    kept = np.asarray(np.isfinite(reference).all(axis=1))
    if not kept.any():
        return None
    base = reference[kept]
    filled = [np.nan_to_num(other[kept], nan=0.0) for other in others]
    value = float(np.mean([np.abs(base[:, 0] - other[:, 0]).mean() for other in filled]))
    mine = np.mean([np.abs(base[:, 1:] - other[:, :1]).mean(axis=0) for other in filled], axis=0)
    theirs = [float(variance(np.abs(base[:, :1] - other[:, 1:]).mean(axis=0))) for other in filled]
    return AssociationError(value, float(variance(mine)) + sum(theirs) / len(filled) ** 2, kept)
