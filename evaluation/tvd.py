"""k-way total variation distance between two cohorts, with an interval by the delete-a-group jackknife.

TVD of two tables of shares p, q is half the sum of abs(p - q). Tables of counts add over groups of patients, so all
leave-one-group-out tables come from one pass over the rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.bins import Binned
from dpsynth.evaluation.table import Floats

__all__ = ["Distance", "cliques", "distance", "mean_tvd", "tvd"]

Clique = tuple[str, ...]

#: Groups of patients of the jackknife; its interval uses Student's t with one degree of freedom less.
GROUPS = 10
#: The largest table that is counted by group as well; above it a marginal adds to the mean but not to the interval.
CELLS_BY_GROUP = 1 << 16


def tvd(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Return the total variation distance of two tables of counts of one shape, in [0, 1].

    Examples
    --------
    >>> tvd(np.array([1.0, 1.0]), np.array([1.0, 3.0]))
    0.25
    """
    return float(0.5 * np.abs(left / left.sum() - right / right.sum()).sum())


def cliques(names: Sequence[str], order: int, limit: int, seed: int = 0) -> tuple[list[Clique], bool]:
    """Return all sets of `order` columns, or a random `limit` of them drawn by `seed`; and whether these are all."""
    total = comb(len(names), order)
    if total <= limit:
        return list(combinations(names, order)), True
    rng = np.random.default_rng(seed)
    found: set[Clique] = set()
    while len(found) < limit:
        picks = np.sort(np.argsort(rng.random((limit, len(names))), axis=1)[:, :order], axis=1)
        found.update(tuple(names[i] for i in row) for row in picks[: limit - len(found)])
    return sorted(found), False


@dataclass(frozen=True)
class Distance:
    """A mean TVD over marginals.

    Parameters
    ----------
    value : float
        The mean, in [0, 1].
    error : float
        Jackknife standard error over patients of both cohorts.
    each : ndarray, shape (marginals,)
        The TVD of each marginal.
    """

    value: float
    error: float
    each: Floats

    def ends(self, level: float = 0.95) -> tuple[float, float]:
        """Return the ends of the interval, inside [0, 1]."""
        from scipy.stats import t

        reach = float(t.ppf(0.5 + level / 2, GROUPS - 1)) * self.error
        return max(0.0, self.value - reach), min(1.0, self.value + reach)


def _groups(data: Binned, seed: int) -> NDArray[np.int64]:
    """Return for each row the jackknife group of its patient: random, of equal numbers of patients."""
    order = np.random.default_rng(seed).permutation(int(data.patients.max()) + 1)
    return order[data.patients] % GROUPS


class _Counter:
    """Counts marginals of one cohort, whole and by jackknife group, keeping the last combined codes for reuse."""

    def __init__(self, data: Binned, seed: int) -> None:
        self.data = data
        self.groups = _groups(data, seed)
        self._prefix: tuple[Clique, NDArray[np.int64]] | None = None

    def _code(self, clique: Clique) -> NDArray[np.int64]:
        """Return the cell of each row in the table of `clique`; neighbours share the code of their first columns."""
        head = clique[:-1]
        if not head:
            return self.data.codes[clique[0]].astype(np.int64)
        if self._prefix is None or self._prefix[0] != head:
            code = self.data.codes[head[0]].astype(np.int64)
            for name in head[1:]:
                code = code * self.data.sizes[name] + self.data.codes[name]
            self._prefix = head, code
        return self._prefix[1] * self.data.sizes[clique[-1]] + self.data.codes[clique[-1]]

    def count(self, clique: Clique) -> Floats:
        """Return counts, shape (groups, cells), or (1, cells) for a large table."""
        cells = int(np.prod([self.data.sizes[name] for name in clique]))
        code = self._code(clique)
        if cells > CELLS_BY_GROUP:
            return np.bincount(code, minlength=cells)[None].astype(np.float64)
        by_group = np.bincount(self.groups * cells + code, minlength=GROUPS * cells)
        return by_group.reshape(GROUPS, cells).astype(np.float64)


def _leave_out(by_group: Floats) -> Floats:
    """Return shares with each group left out, shape (groups, cells); a group that is everything leaves the whole."""
    total = by_group.sum(axis=0)
    left = total - by_group
    sums = left.sum(axis=1, keepdims=True)
    shares: Floats = np.where(sums > 0, left / np.maximum(sums, 1), total / total.sum())
    return shares


def distance(left: Binned, right: Binned, sets: Sequence[Clique], seed: int = 0) -> Distance:
    """Return the mean TVD of two cohorts over marginals, with its jackknife error.

    Parameters
    ----------
    left, right : Binned
        Two cohorts in the same cells; neither is empty.
    sets : sequence of tuple of str
        The marginals.
    seed : int
        Draws the jackknife's groups of patients.
    """
    counters = _Counter(left, seed), _Counter(right, seed + 1)
    each = np.empty(len(sets))
    loo = np.zeros((2, GROUPS))
    counted = 0
    for place, clique in enumerate(sets):
        tables = [counter.count(clique) for counter in counters]
        whole = [table.sum(axis=0) / table.sum() for table in tables]
        each[place] = 0.5 * np.abs(whole[0] - whole[1]).sum()
        if len(tables[0]) == GROUPS:
            counted += 1
            loo[0] += 0.5 * np.abs(_leave_out(tables[0]) - whole[1]).sum(axis=1)
            loo[1] += 0.5 * np.abs(_leave_out(tables[1]) - whole[0]).sum(axis=1)
    loo /= max(counted, 1)
    spread = ((loo - loo.mean(axis=1, keepdims=True)) ** 2).sum() * (GROUPS - 1) / GROUPS
    return Distance(float(each.mean()), float(np.sqrt(spread)), each)


def mean_tvd(left: Binned, right: Binned, order: int, limit: int = 10_000, seed: int = 0) -> float:
    """Return the mean TVD over all marginals of `order` columns (a random `limit` of them where there are more)."""
    return distance(left, right, cliques(list(left.codes), order, limit, seed)[0], seed).value


def halves(data: Binned, splits: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield row indices of `splits` random divisions of the patients into two halves."""
    count = int(data.patients.max()) + 1
    for split in range(splits):
        mine = np.random.default_rng([seed, split]).permutation(count)[data.patients] < count // 2
        yield np.flatnonzero(mine), np.flatnonzero(~mine)
