"""Trades of ordered values between rows until each row keeps the order of its columns.

A row whose values break an order is not thrown away: what is missing, what group it is of and how many visits it has
would bend with it. It trades the value of one ordered column with another row that can take its value in exchange. So
every column keeps exactly the values that were drawn, each row keeps its states, and only which of the rows has which
value changes. Partners are looked for among neighbouring ranks first, and further away as long as rows are left that
break the order: what the model knows of a value and the other columns is blurred as little as can be.
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
Limits = Sequence[tuple[Lattice, Lattice]]
Room = Callable[[str, Mapping[str, "Ladder"], Rows], Limits]
"""For a column and some rows: what its value must reach and must not exceed, by each of the row's other columns."""

HALVINGS = 7
"""The first partners are within 2^-7 of a column's ranks."""
ROUNDS = 2
"""Rounds at each distance, at least; as long as they mend something they go on."""
MOST_ROUNDS = 24
WORTHWHILE = 0.1
"""Share of the broken rows that a round must mend to be followed by another at the same distance."""
FAR = 1 / 16
"""From this distance on, every other row asks for a value that suits it where there is one, not for any better."""


@dataclass(frozen=True)
class Ladder:
    """One column's rows in the order of their values; trades change who stands on which rung.

    Attributes
    ----------
    value
        (rows,) the steps that are traded.
    compared
        (rows,) which rows have a magnitude.
    rung
        (rows,) the place of the row's value, -1 where it is no ordinary value and cannot be traded.
    holder
        (rungs,) the row that stands there.
    values
        (rungs,) the step there: it stays, the rows move.
    ends
        Rungs at which groups of rows begin, and the number of rungs; rows trade within their group alone.
    """

    value: Lattice
    compared: Mask
    rung: Rows
    holder: Rows
    values: Lattice
    ends: Rows

    @classmethod
    def of(cls, value: Lattice, compared: Mask, free: Mask, groups: Lattice) -> "Ladder":
        """Put the free rows in order, group by group."""
        rows = np.flatnonzero(free)
        holder = rows[np.lexsort((value[rows], groups[rows]))]
        rung = np.full(len(value), -1, dtype=np.intp)
        rung[holder] = np.arange(len(holder))
        starts = np.flatnonzero(np.diff(groups[holder], prepend=-1))
        return cls(value.copy(), compared, rung, holder, value[holder], np.append(starts, len(rows)))

    @cached_property
    def _rising(self) -> bool:
        """Whether values rise over the ends of groups too."""
        return bool((np.diff(self.values) >= 0).all())

    def group(self, rows: Rows) -> tuple[Rows, Rows]:
        """Return for free rows the first rung of their group and the one after its last."""
        group = np.searchsorted(self.ends, self.rung[rows], side="right") - 1
        return self.ends[group], self.ends[group + 1]

    def between(self, rows: Rows, least: Lattice, most: Lattice) -> tuple[Rows, Rows]:
        """Return for free rows the first rung and the one after the last, in their group, whose values fit between."""
        start, end = self.group(rows)
        if self._rising:
            first = np.searchsorted(self.values, least, side="left")
            last = np.searchsorted(self.values, most, side="right")
            return np.clip(first, start, end), np.clip(last, start, end)
        first, last = start.copy(), start.copy()
        for place, stop in np.unique(np.stack([start, end], axis=1), axis=0):
            own, part = start == place, self.values[place:stop]
            first[own] += np.searchsorted(part, least[own], side="left")
            last[own] += np.searchsorted(part, most[own], side="right")
        return first, last

    def trade(self, rows: Rows, partners: Rows) -> None:
        """Let each row and its partner change places."""
        for array in (self.value, self.rung):
            array[rows], array[partners] = array[partners], array[rows]
        self.holder[self.rung[rows]], self.holder[self.rung[partners]] = rows, partners

    def copy(self, rows: Rows, rungs: Rows) -> None:
        """Let rows take the value of a rung beside the one who stands there."""
        self.value[rows] = self.values[rungs]


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

    def _limits(self, name: str, rows: Rows) -> Limits:
        return self._room(name, self.ladders, rows)

    def broken(self, rows: Rows) -> Rows:
        """Return those of the rows that break an order."""
        wrong = np.zeros(len(rows), dtype=bool)
        for name, ladder in self.ladders.items():
            values = ladder.value[rows]
            for least, most in self._limits(name, rows):
                wrong |= ladder.compared[rows] & ((values < least) | (values > most))
        return rows[wrong]

    def run(self, rows: Rows) -> Rows:
        """Trade for the broken ones of the rows, near first; return those that are broken in the end."""
        left = self.broken(rows)
        for halving in range(HALVINGS, -1, -1):
            left = self.within(left, 0.5**halving)
        return left

    def within(self, left: Rows, reach: float) -> Rows:
        """Trade among rungs at most this share of a ladder apart; return the rows that are broken then."""
        names = list(self.ladders)
        for number in range(MOST_ROUNDS):
            before = len(left)
            if not before:
                break
            touched = np.zeros(len(self.ladders[names[0]].value), dtype=bool)
            touched[left] = True
            for place in self._rng.permutation(len(names)):
                touched[self._round(names[place], left, reach)] = True
            left = self.broken(np.flatnonzero(touched))
            if number >= ROUNDS - 1 and before - len(left) <= WORTHWHILE * before:
                break
        return left

    def _wrong(self, name: str, left: Rows) -> tuple[Rows, Mask, Limits]:
        """Return the rows whose value can be traded and is wrong, where it is too great, and the rows' limits."""
        ladder = self.ladders[name]
        rows = left[(ladder.rung[left] >= 0) & ladder.compared[left]]
        limits, values = self._limits(name, rows), ladder.value[rows]
        below, above = (np.zeros(len(rows), dtype=bool) for _ in range(2))
        for least, most in limits:
            below |= values < least
            above |= values > most
        wrong = below | above
        return rows[wrong], above[wrong], [(least[wrong], most[wrong]) for least, most in limits]

    def _round(self, name: str, left: Rows, reach: float) -> Rows:
        """Let each row with a wrong value ask one partner at random; return the partners that agreed."""
        ladder = self.ladders[name]
        rows, above, limits = self._wrong(name, left)
        first, last = self._partners(name, rows, above, limits, reach)
        some = last > first
        rows, limits = rows[some], [(least[some], most[some]) for least, most in limits]
        if not len(rows):
            return rows
        partners = ladder.holder[self._rng.integers(first[some], last[some])]
        theirs = self._limits(name, partners)
        own, other = ladder.value[rows], ladder.value[partners]
        compared = ladder.compared[partners]
        now = _excess(own, limits) + np.where(compared, _excess(other, theirs), 0)
        then = _excess(other, limits) + np.where(compared, _excess(own, theirs), 0)
        rows, partners = _apart(rows[then <= now], partners[then <= now], len(ladder.value))
        ladder.trade(rows, partners)
        return partners

    def _partners(self, name: str, rows: Rows, above: Mask, limits: Limits, reach: float) -> tuple[Rows, Rows]:
        """Return between which rungs one partner of each row is to be looked for.

        Some rows look for a value that suits them, the others for any that is better: trades of these may make room
        where no single trade mends a row.
        """
        ladder = self.ladders[name]
        rung, distance = ladder.rung[rows], max(int(reach * len(ladder.holder)), 1)
        start, end = ladder.group(rows)
        first = np.where(above, np.maximum(rung - distance, start), rung + 1)
        last = np.where(above, rung, np.minimum(rung + distance + 1, end))
        if reach < FAR:
            return first, last
        fitting = ladder.between(rows, *_tightest(limits))
        narrow = np.maximum(first, fitting[0]), np.minimum(last, fitting[1])
        exact = (narrow[1] > narrow[0]) & (self._rng.random(len(rows)) < 1 / 2)
        return np.where(exact, narrow[0], first), np.where(exact, narrow[1], last)

    def copied(self, left: Rows) -> Rows:
        """Let rows that no trade mends copy the nearest value that suits them; return the rows that stay broken.

        The column then has one value more of this kind and one less of the other: this is how far it bends.
        """
        names = list(self.ladders)
        for place in np.concatenate([self._rng.permutation(len(names)) for _ in names]):
            ladder = self.ladders[names[place]]
            rows, _, limits = self._wrong(names[place], left)
            if not len(rows):
                continue
            first, last = ladder.between(rows, *_tightest(limits))
            some = last > first
            rows, first, last = rows[some], first[some], last[some]
            near = max(len(ladder.holder) >> HALVINGS, 1)
            start = np.where(ladder.rung[rows] < first, first, np.maximum(last - near, first))
            ladder.copy(rows, self._rng.integers(start, np.minimum(start + near, last)) if len(rows) else rows)
            left = self.broken(left)
        return left


def _excess(values: Lattice, limits: Limits) -> Lattice:
    """Return by how much values break an order with the rows' other columns, all together."""
    excess = np.zeros(len(values), dtype=np.int64)
    for least, most in limits:
        excess += np.maximum(least - values, 0) + np.maximum(values - most, 0)
    return excess


def _tightest(limits: Limits) -> tuple[Lattice, Lattice]:
    return np.max([least for least, _ in limits], axis=0), np.min([most for _, most in limits], axis=0)


def _apart(rows: Rows, partners: Rows, count: int) -> tuple[Rows, Rows]:
    """Return pairs in which no row stands twice: of those that share a row at most one stays."""
    order = np.arange(len(rows))
    last = np.full(count, -1, dtype=np.intp)
    last[rows] = order
    last[partners] = order  # of several the last write stays
    alone = (last[rows] == order) & (last[partners] == order)
    return rows[alone], partners[alone]
