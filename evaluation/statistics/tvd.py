"""k-way total variation distance between cohorts, with an interval by the delete-a-group jackknife.

TVD of two tables of shares p, q is half the sum of abs(p - q). Tables of counts add over groups of patients, so all
leave-one-group-out tables come from one pass over the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.bins import Binned
from dpsynth.evaluation.arrays.table import Floats
from dpsynth.evaluation.result import Interval
from dpsynth.evaluation.statistics import jackknife
from dpsynth.evaluation.statistics.jackknife import GROUPS

__all__ = ["Clique", "Counter", "MeanTVD", "cliques", "distance", "tvd"]

Clique = tuple[str, ...]

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
    drawn: set[Clique] = set()
    while len(drawn) < limit:
        picks = np.sort(np.argsort(rng.random((limit, len(names))), axis=1)[:, :order], axis=1)
        drawn.update(tuple(names[i] for i in row) for row in picks[: limit - len(drawn)])
    return sorted(drawn), False


@dataclass(frozen=True)
class MeanTVD:
    """A mean distance of one cohort (or several draws of it) from a reference.

    Parameters
    ----------
    value : float
        The mean over marginals and draws.
    reference : ndarray, shape (groups,)
        The same with each group of the reference's patients left out.
    other : float
        Variance due to the rows of the other cohort.
    each : ndarray, shape (marginals,)
        The mean over draws for each marginal.
    """

    value: float
    reference: Floats
    other: float
    each: Floats

    def interval(self, level: float = 0.95) -> Interval:
        """Return the interval of the distance, inside [0, 1]."""
        spread = float(jackknife.variance(self.reference)) + self.other
        return jackknife.interval(self.value, spread, level, low=0.0, high=1.0)

    def less(self, rival: "MeanTVD", level: float = 0.95) -> tuple[float, Interval]:
        """Return by how much this distance exceeds a rival's from the same reference, with its interval."""
        value = self.value - rival.value
        spread = float(jackknife.variance(self.reference - rival.reference)) + self.other + rival.other
        return value, jackknife.interval(value, spread, level)


class Counter:
    """Counts marginals of one cohort, by jackknife group, keeping the last combined codes for reuse."""

    def __init__(self, data: Binned, seed: int) -> None:
        self.data = data
        self.groups = jackknife.groups_of(data.patients, seed)
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


def _shares(counts: Floats) -> Floats:
    shares: Floats = counts / counts.sum(axis=-1, keepdims=True)
    return shares


def distance(reference: Binned, others: Sequence[Binned], sets: Sequence[Clique], seed: int = 0) -> MeanTVD:
    """Return the mean TVD of a cohort from a reference over marginals.

    Parameters
    ----------
    reference : Binned
    others : sequence of Binned
        Draws of the other cohort, in the same cells; none is empty.
    sets : sequence of tuple of str
        The marginals.
    seed : int
        Draws the jackknife's groups of patients.
    """
    counters = [Counter(data, seed + place) for place, data in enumerate((reference, *others))]
    each = np.zeros((len(others), len(sets)))
    left = np.zeros((2, len(others), GROUPS))
    counted = 0
    for place, clique in enumerate(sets):
        tables = [counter.count(clique) for counter in counters]
        whole = [_shares(table.sum(axis=0)) for table in tables]
        counted += len(tables[0]) == GROUPS
        for draw in range(len(others)):
            each[draw, place] = 0.5 * np.abs(whole[0] - whole[draw + 1]).sum()
            if len(tables[0]) == GROUPS:
                left[0, draw] += 0.5 * np.abs(_shares(jackknife.leave_out(tables[0])) - whole[draw + 1]).sum(axis=1)
                left[1, draw] += 0.5 * np.abs(_shares(jackknife.leave_out(tables[draw + 1])) - whole[0]).sum(axis=1)
    left /= max(counted, 1)
    other = float(jackknife.variance(left[1]).sum()) / len(others) ** 2
    return MeanTVD(float(each.mean()), left[0].mean(axis=0), other, each.mean(axis=0))
