"""Rows that trade their values of ordered columns until each row keeps the order.

A row whose values break an order is not thrown away: what is missing, what group it is of and how many visits it has
would bend with it. It trades the value of one ordered column with another row that can take its value in exchange. So
every column keeps exactly the values that the model drew, each row keeps its states, and only which of the rows has
which value changes. Partners are looked for among neighbouring ranks first, and further away as long as rows are left
that break the order: what the model knows of a value and the other columns is blurred as little as can be.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["Bounds", "Ladder", "Trade"]

Mask = npt.NDArray[np.bool_]
Lattice = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]
Bounds = Callable[[str, Mapping[str, "Ladder"], Rows], tuple[Lattice, Lattice]]
"""For a column and some rows: what its value must reach and must not exceed, by the row's other columns."""

HALVINGS = 7
"""The first partners are within 2^-7 of a column's ranks."""
ROUNDS = 4
"""Rounds at each distance, at least; as long as they mend something they go on."""
MOST_ROUNDS = 24
WORTHWHILE = 0.1
"""Share of the broken rows that a round must mend to be followed by another at the same distance."""


@dataclass(frozen=True)
class Ladder:
    """One column's rows in the order of their values; trades change who stands on which rung.

    Attributes
    ----------
    value
        (rows,) what is traded: codes, or steps.
    low, high
        (rows,) the least and greatest step that the row's value may be; equal where it is known.
    compared
        (rows,) which rows have a magnitude.
    rung
        (rows,) the place of the row's value, -1 where it is no ordinary value and cannot be traded.
    holder
        (rungs,) the row that stands there.
    values, lowest, highest
        (rungs,) value, low and high of what stands there: they stay, the rows move.
    ends
        Rungs at which groups of rows begin, and the number of rungs; rows trade within their group alone.
    """

    value: Lattice
    low: Lattice
    high: Lattice
    compared: Mask
    rung: Rows
    holder: Rows
    values: Lattice
    lowest: Lattice
    highest: Lattice
    ends: Rows

    @classmethod
    def of(cls, value: Lattice, span: tuple[Lattice, Lattice], compared: Mask, free: Mask, groups: Lattice) -> "Ladder":
        """Put the free rows in order, group by group."""
        low, high = span
        rows = np.flatnonzero(free)
        holder = rows[np.lexsort((low[rows], groups[rows]))]
        rung = np.full(len(low), -1, dtype=np.intp)
        rung[holder] = np.arange(len(holder))
        starts = np.flatnonzero(np.diff(groups[holder], prepend=-1))
        own = [array[holder] for array in (value, low, high)]
        copies = [array.astype(np.int64) for array in (value, low, high)]  # trades write into them
        return cls(*copies, compared, rung, holder, *own, np.append(starts, len(rows)))

    @cached_property
    def _rising(self) -> bool:
        """Whether values rise over the ends of groups too."""
        return bool((np.diff(self.lowest) >= 0).all())

    def between(self, rows: Rows, least: Lattice, most: Lattice) -> tuple[Rows, Rows]:
        """Return for free rows the first rung and the one after the last, in their group, whose values fit between."""
        group = np.searchsorted(self.ends, self.rung[rows], side="right") - 1
        start, end = self.ends[group], self.ends[group + 1]
        if self._rising:
            first = np.searchsorted(self.highest, least, side="left")
            last = np.searchsorted(self.lowest, most, side="right")
            return np.clip(first, start, end), np.clip(last, start, end)
        first, last = start.copy(), start.copy()
        for place in np.unique(group):
            own, part = group == place, slice(self.ends[place], self.ends[place + 1])
            first[own] += np.searchsorted(self.highest[part], least[own], side="left")
            last[own] += np.searchsorted(self.lowest[part], most[own], side="right")
        return first, last

    def trade(self, rows: Rows, partners: Rows) -> None:
        """Let each row and its partner change places."""
        for array in (self.value, self.low, self.high, self.rung):
            array[rows], array[partners] = array[partners], array[rows]
        self.holder[self.rung[rows]], self.holder[self.rung[partners]] = rows, partners

    def copy(self, rows: Rows, rungs: Rows) -> None:
        """Let rows take the value of a rung beside the one who stands there."""
        self.value[rows] = self.values[rungs]
        self.low[rows], self.high[rows] = self.lowest[rungs], self.highest[rungs]


class Trade:
    """Trades between rows until each keeps the order, as far as trades can bring them there.

    Parameters
    ----------
    ladders
        The ordered columns.
    bounds
        What the order leaves of a column in a row.
    rng
        Source of randomness.
    """

    def __init__(self, ladders: Mapping[str, Ladder], bounds: Bounds, rng: np.random.Generator) -> None:
        self.ladders = ladders
        self._bounds = bounds
        self._rng = rng

    def wrong(self, name: str, rows: Rows) -> Mask:
        """Return (rows,) where a column's value is not where the row's other columns leave room for it."""
        ladder = self.ladders[name]
        least, most = self._bounds(name, self.ladders, rows)
        return ladder.compared[rows] & ((ladder.high[rows] < least) | (ladder.low[rows] > most))

    def broken(self, rows: Rows) -> Rows:
        """Return those of the rows that break an order."""
        wrong = np.zeros(len(rows), dtype=bool)
        for name in self.ladders:
            wrong |= self.wrong(name, rows)
        return rows[wrong]

    def run(self, rows: Rows) -> Rows:
        """Trade for the broken ones of the rows, near first; return those that stay broken."""
        left = self.broken(rows)
        for halving in range(HALVINGS, -1, -1):
            left = self.within(left, 0.5**halving)
        return left

    def within(self, left: Rows, reach: float) -> Rows:
        """Trade among rungs at most this share of a ladder apart; return the rows that stay broken."""
        for number in range(MOST_ROUNDS):
            before = len(left)
            if not before:
                break
            for name in self._shuffled():
                self._round(name, left, reach)
                left = self.broken(left)
            if number >= ROUNDS - 1 and before - len(left) <= WORTHWHILE * before:
                break
        return left

    def _shuffled(self) -> Sequence[str]:
        names = list(self.ladders)
        return [names[place] for place in self._rng.permutation(len(names))]

    def _candidates(self, name: str, left: Rows) -> tuple[Rows, Rows, Rows]:
        """Return the rows whose value of the column is wrong, and between which rungs it would be right."""
        ladder = self.ladders[name]
        rows = left[ladder.rung[left] >= 0]
        rows = rows[self.wrong(name, rows)]
        first, last = ladder.between(rows, *self._bounds(name, self.ladders, rows))
        return rows, first, last

    def _round(self, name: str, left: Rows, reach: float) -> None:
        """Let each row with a wrong value ask one partner at random among those whose value would suit it."""
        ladder = self.ladders[name]
        rows, first, last = self._candidates(name, left)
        distance = int(np.ceil(reach * len(ladder.holder)))
        first = np.maximum(first, ladder.rung[rows] - distance)
        last = np.minimum(last, ladder.rung[rows] + distance + 1)
        some = last > first
        rows, first, last = rows[some], first[some], last[some]
        partners = ladder.holder[self._rng.integers(first, last)] if len(rows) else rows
        least, most = self._bounds(name, self.ladders, partners)
        agreed = (ladder.high[rows] >= least) & (ladder.low[rows] <= most)
        rows, partners = _apart(rows[agreed], partners[agreed], len(ladder.low))
        ladder.trade(rows, partners)

    def copied(self, left: Rows) -> Rows:
        """Let rows that no trade mends copy the nearest value that suits them; return the rows that stay broken.

        The column then has one value more of this kind and one less of the other: this is how far it bends.
        """
        for _ in range(len(self.ladders)):
            for name in self._shuffled():
                rows, first, last = self._candidates(name, left)
                some = last > first
                rows, first, last = rows[some], first[some], last[some]
                if len(rows):
                    ladder = self.ladders[name]
                    near = max(len(ladder.holder) >> HALVINGS, 1)
                    start = np.where(ladder.rung[rows] < first, first, np.maximum(last - near, first))
                    ladder.copy(rows, self._rng.integers(start, np.minimum(start + near, last)))
                left = self.broken(left)
        return left


def _apart(rows: Rows, partners: Rows, count: int) -> tuple[Rows, Rows]:
    """Return the pairs in which no row stands twice; of those that share a row the first."""
    order = np.arange(len(rows))
    first = np.full(count, len(rows))
    np.minimum.at(first, rows, order)
    np.minimum.at(first, partners, order)
    alone = (first[rows] == order) & (first[partners] == order)
    return rows[alone], partners[alone]
