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

__all__ = ["Ladder", "Room", "Trade"]

Mask = npt.NDArray[np.bool_]
Lattice = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]
Room = Callable[[str, Mapping[str, "Ladder"], Rows], Sequence[tuple[Lattice, Lattice]]]
"""For a column and some rows: what its value must reach and must not exceed, by each of the row's other columns."""

HALVINGS = 7
"""The first partners are within 2^-7 of a column's ranks."""
ROUNDS = 4
"""Rounds at each distance, at least; as long as they mend something they go on."""
MOST_ROUNDS = 24
EXACT = 0.5
"""How often a row asks for a value that suits it where there is one, rather than for any that is better."""
WORTHWHILE = 0.05
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

    def group(self, rows: Rows) -> tuple[Rows, Rows]:
        """Return for free rows the first rung of their group and the one after its last."""
        group = np.searchsorted(self.ends, self.rung[rows], side="right") - 1
        return self.ends[group], self.ends[group + 1]

    def between(self, rows: Rows, least: Lattice, most: Lattice) -> tuple[Rows, Rows]:
        """Return for free rows the first rung and the one after the last, in their group, whose values fit between."""
        start, end = self.group(rows)
        if self._rising:
            first = np.searchsorted(self.highest, least, side="left")
            last = np.searchsorted(self.lowest, most, side="right")
            return np.clip(first, start, end), np.clip(last, start, end)
        first, last = start.copy(), start.copy()
        for place, stop in np.unique(np.stack([start, end], axis=1), axis=0):
            own, part = start == place, slice(place, stop)
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

    By how much a row breaks the order is a convex function of the difference of two values. So where rows can be
    brought to keep it by any exchange of one column's values, exchanges of two of them that lower the sum lead there.

    Parameters
    ----------
    ladders
        The ordered columns.
    room
        What the order leaves of a column in a row.
    rng
        Source of randomness.
    """

    def __init__(self, ladders: Mapping[str, Ladder], room: Room, rng: np.random.Generator) -> None:
        self.ladders = ladders
        self._room = room
        self._rng = rng

    def excess(self, name: str, rows: Rows, low: Lattice, high: Lattice) -> Lattice:
        """Return by how much values of a column, from low to high, would break the order with others of the rows."""
        below, above = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
        for least, most in self._room(name, self.ladders, rows):
            below += np.maximum(least - high, 0)
            above += np.maximum(low - most, 0)
        return np.where(self.ladders[name].compared[rows], below + above, 0)

    def broken(self, rows: Rows) -> Rows:
        """Return those of the rows that break an order."""
        wrong = np.zeros(len(rows), dtype=bool)
        for name, ladder in self.ladders.items():
            wrong |= self.excess(name, rows, ladder.low[rows], ladder.high[rows]) > 0
        return rows[wrong]

    def run(self, rows: Rows) -> Rows:
        """Trade for the broken ones of the rows, near first; return those that are broken in the end."""
        left = self.broken(rows)
        for halving in range(HALVINGS, -1, -1):
            left = self.within(left, 0.5**halving)
        return left

    def within(self, left: Rows, reach: float) -> Rows:
        """Trade among rungs at most this share of a ladder apart; return the rows that are broken then."""
        for number in range(MOST_ROUNDS):
            before = len(left)
            if not before:
                break
            traded = [self._round(name, left, reach) for name in self._shuffled()]
            left = self.broken(np.unique(np.concatenate([left, *traded])))
            if number >= ROUNDS - 1 and before - len(left) <= WORTHWHILE * before:
                break
        return left

    def _shuffled(self) -> Sequence[str]:
        names = list(self.ladders)
        return [names[place] for place in self._rng.permutation(len(names))]

    def _round(self, name: str, left: Rows, reach: float) -> Rows:
        """Let each row with a wrong value ask one partner at random; return the partners that agreed."""
        ladder = self.ladders[name]
        rows, first, last = self._partners(name, left, reach)
        if not len(rows):
            return rows
        partners = ladder.holder[self._rng.integers(first, last)]
        spans = [(ladder.low[which], ladder.high[which]) for which in (rows, partners)]
        now = self.excess(name, rows, *spans[0]) + self.excess(name, partners, *spans[1])
        then = self.excess(name, rows, *spans[1]) + self.excess(name, partners, *spans[0])
        rows, partners = _apart(rows[then <= now], partners[then <= now], len(ladder.low))
        ladder.trade(rows, partners)
        return partners

    def _partners(self, name: str, left: Rows, reach: float) -> tuple[Rows, Rows, Rows]:
        """Return rows with a wrong value, and between which rungs one partner of each is to be looked for.

        Every other row looks for a value that suits it, the others for any that is better: trades of these may make
        room where no single trade mends a row.
        """
        ladder = self.ladders[name]
        rows, fitting, after = self._candidates(name, left)
        rung, distance = ladder.rung[rows], max(int(reach * len(ladder.holder)), 1)
        down, _ = self._directions(name, rows)
        start, end = ladder.group(rows)
        first = np.where(down, np.maximum(rung - distance, start), rung + 1)
        last = np.where(down, rung, np.minimum(rung + distance + 1, end))
        narrow = [np.maximum(first, fitting), np.minimum(last, after)]
        exact = (narrow[1] > narrow[0]) & (self._rng.random(len(rows)) < EXACT)
        first, last = np.where(exact, narrow[0], first), np.where(exact, narrow[1], last)
        some = last > first
        return rows[some], first[some], last[some]

    def _directions(self, name: str, rows: Rows) -> tuple[Mask, Mask]:
        """Return (rows,) where a column's value is too great, and where too small, for one of the row's others."""
        ladder = self.ladders[name]
        down, up = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
        for least, most in self._room(name, self.ladders, rows):
            up |= ladder.high[rows] < least
            down |= ladder.low[rows] > most
        return down & ladder.compared[rows], up & ladder.compared[rows]

    def _candidates(self, name: str, left: Rows) -> tuple[Rows, Rows, Rows]:
        """Return the rows whose value of the column is wrong, and between which rungs it would be right."""
        ladder = self.ladders[name]
        rows = left[ladder.rung[left] >= 0]
        rows = rows[np.logical_or(*self._directions(name, rows))]
        room = self._room(name, self.ladders, rows)
        least = np.max([least for least, _ in room], axis=0)
        most = np.min([most for _, most in room], axis=0)
        first, last = ladder.between(rows, least, most)
        return rows, first, last

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
