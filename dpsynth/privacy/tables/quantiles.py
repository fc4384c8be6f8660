"""Quantiles from a noisy dyadic tree (Hay et al. 2010, "Boosting the accuracy of differentially private histograms").

Every level of the tree is an ordinary marginal on a public grid; what is made of the noisy levels is post-processing.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.query import Query

Floats = NDArray[np.float64]


def tree_queries(column: str, size: int, ordered: int) -> list[Query]:
    """Return one query a level, leaves first: level l counts runs of ``2^l`` ordered cells.

    Codes that are not ordered (missing, special values) share one last cell that is ignored afterwards.
    """
    codes = np.arange(size, dtype=np.int64)
    levels = (ordered - 1).bit_length() + 1
    return [
        Query((column,), (np.where(codes < ordered, codes >> level, ((ordered - 1) >> level) + 1),))
        for level in range(levels)
    ]


def boundaries(levels: Sequence[NDArray[np.int64]], ordered: int, k: int) -> NDArray[np.int64]:
    """Return the cell boundaries nearest to the quantiles ``1/(k+1), ..., k/(k+1)``.

    Parameters
    ----------
    levels
        Noisy counts of `tree_queries`.
    ordered
        Number of ordered cells.
    k
        Number of quantiles.

    Returns
    -------
    int64 array
        At most k increasing boundaries in ``1 .. ordered - 1``; b stands between cells b - 1 and b. Quantiles that
        fall on the same boundary are merged.
    """
    width = 2 ** (len(levels) - 1)
    tree = [_padded(counts, ((ordered - 1) >> level) + 1, width >> level) for level, counts in enumerate(levels)]
    leaves = np.maximum(_consistent(tree)[:ordered], 0)
    mass = np.concatenate([[0.0], np.cumsum(leaves)])
    wanted = mass[-1] * np.arange(1, k + 1) / (k + 1)
    nearest = np.abs(mass[:, None] - wanted).argmin(axis=0) if mass[-1] > 0 else wanted.astype(np.int64)
    return np.unique(nearest[(nearest > 0) & (nearest < ordered)]).astype(np.int64)


def _padded(counts: NDArray[np.int64], cells: int, width: int) -> Floats:
    """Return the level's ordered cells as floats, with cells that cannot occur filled by zero."""
    return np.concatenate([counts[:cells].astype(np.float64), np.zeros(width - cells)])


def _consistent(tree: Sequence[Floats]) -> Floats:
    """Return the least-squares leaves of a full binary tree (leaves first) with equal noise everywhere."""
    best = [tree[0]]
    for height, counts in enumerate(tree[1:], start=2):
        pairs = best[-1].reshape(-1, 2).sum(axis=1)
        share = 2 ** (height - 1) / (2**height - 1)
        best.append(share * counts + (1 - share) * pairs)
    agreed = best[-1]
    for below in reversed(best[:-1]):
        excess = (agreed - below.reshape(-1, 2).sum(axis=1)) / 2
        agreed = below + np.repeat(excess, 2)
    return agreed
