"""Values drawn inside the cells of codes, so that the schema's constraints hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.coding.ordering import Ladder, Trade
from dpsynth.columns.coders import GridCoder
from dpsynth.columns.conditions import Meaning, Pair
from dpsynth.columns.grid import Lattice
from dpsynth.schema.constraints import Order

__all__ = ["OrderedColumns", "draw"]

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
_OPEN = 2**61


@dataclass
class _Box:
    """Per row, the least and greatest step that a column may take."""

    low: Lattice
    high: Lattice
    free: Mask  # rows in an ordinary cell; the others are special values, or missing
    compared: Mask  # rows that have a magnitude


def draw(coder: GridCoder, codes: npt.NDArray[Any], rng: np.random.Generator, limit: Meaning | None = None) -> Lattice:
    """Return (rows,) steps, uniform in each code's cell; a missing value's step is 0.

    Parameters
    ----------
    coder
        The column.
    codes
        (rows,) codes.
    rng
        Where the randomness comes from.
    limit
        A condition of one range; cells that it cuts are drawn from the part inside.
    """
    box = _box(coder, codes, limit)
    return _uniform(coder, box, rng)


def _box(coder: GridCoder, codes: npt.NDArray[Any], limit: Meaning | None) -> _Box:
    grid = coder.grid
    low, high = np.append(grid.lower, 0)[codes], np.append(grid.upper, 0)[codes]
    free = codes < grid.ordered
    compared = np.append(grid.comparable, False)[codes]
    if limit is not None and len(limit.ranges) == 1:
        start, end = limit.ranges[0]
        inside = free & (high >= start) & (low <= end)
        low, high = np.where(inside, np.maximum(low, start), low), np.where(inside, np.minimum(high, end), high)
    return _Box(low, high, free, compared)


def _uniform(coder: GridCoder, box: _Box, rng: np.random.Generator) -> Lattice:
    """Draw a step between low and high, both included, that is no special value."""
    grid = coder.grid
    start, end = grid.position_up(box.low), grid.position_down(box.high)
    positions = rng.integers(np.where(box.free, start, 0), np.where(box.free, end, 0), endpoint=True)
    return np.where(box.free, grid.step(positions), box.low)


class OrderedColumns:
    """The columns that the schema's orders connect: whether codes leave room for the order, and values that keep it.

    Parameters
    ----------
    coders
        The numeric and datetime columns by name.
    orders
        The schema's orders; together they have no cycle.
    """

    def __init__(self, coders: Mapping[str, GridCoder], orders: Sequence[Order]) -> None:
        self.coders = coders
        self.before: dict[str, dict[str, bool]] = {}  # column -> the columns that must not exceed it, strictly or not
        for order in orders:
            for index, name in enumerate(order.order):
                # All pairs, not neighbours alone: a column in the middle may be missing.
                for first in order.order[:index]:
                    pairs = self.before.setdefault(name, {})
                    pairs[first] = pairs.get(first, False) or order.strict
        self.names = _sorted_names(self.before)
        self.after: dict[str, dict[str, bool]] = {}
        for name, pairs in self.before.items():
            for first, strict in pairs.items():
                self.after.setdefault(first, {})[name] = strict

    def feasible(self, codes: Mapping[str, npt.NDArray[Any]], limits: Mapping[str, Meaning]) -> Mask:
        """Return (rows,) whether some values in the rows' cells keep every order between the columns of `codes`."""
        boxes = self._boxes(codes, limits)
        possible = np.ones(len(next(iter(codes.values()))), dtype=bool)
        for name in boxes:
            self._raise_low(name, boxes, {other: boxes[other].low for other in self.before.get(name, {})})
            box, grid = boxes[name], self.coders[name].grid
            box.low = np.where(box.free, grid.step(grid.position_up(box.low)), box.low)
            possible &= (box.low <= box.high) | ~box.compared
        return possible

    def arranged(
        self,
        codes: Mapping[str, npt.NDArray[Any]],
        kinds: Mapping[str, npt.NDArray[np.int64]],
        rng: np.random.Generator,
        limits: Mapping[str, Meaning],
    ) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Lattice], Rows]:
        """Return the ordered columns' codes and steps, traded until rows keep every order, and the rows that do not.

        Each row keeps its states (missing, and special values), and each column its steps, which are spread evenly over
        the cells; but rows that no trade mends copy the nearest step that suits them, or break the order still. Where
        every row's cells leave room for the order the codes stay, and trades are between the rows of a cell.

        Parameters
        ----------
        codes
            For each column (rows,) codes.
        kinds
            For columns that further constraints speak of, which codes are alike to them; rows trade within a kind.
        rng
            Where the randomness comes from.
        limits
            Conditions that cut cells.
        """
        kept = {name: codes[name] for name in self.names if name in codes}
        if not kept:
            return {}, {}, np.zeros(0, dtype=np.intp)
        feasible = bool(self.feasible(kept, limits).all())
        ladders = {}
        for name, column in kept.items():
            box = _box(self.coders[name], column, limits.get(name))
            groups = column if feasible else kinds[name][column] if name in kinds else np.zeros_like(column)
            steps = _uniform(self.coders[name], box, rng)
            ladders[name] = Ladder.of(steps, box.compared, box.free, groups.astype(np.int64))
        trade = Trade(ladders, self._room, rng)
        every = np.arange(len(next(iter(kept.values()))))
        steps_of = {name: ladder.value for name, ladder in ladders.items()}
        if feasible:
            return kept, steps_of, trade.within(trade.broken(every), 1.0)
        left = trade.copied(trade.run(every))
        return {name: self._codes(name, column, ladders[name]) for name, column in kept.items()}, steps_of, left

    def _codes(self, name: str, codes: npt.NDArray[Any], ladder: Ladder) -> npt.NDArray[Any]:
        return np.where(ladder.rung >= 0, self.coders[name].grid.encode(ladder.value), codes).astype(codes.dtype)

    def renew(
        self,
        codes: Mapping[str, npt.NDArray[Any]],
        rows: Rows,
        steps: Mapping[str, Lattice],
        *,
        rng: np.random.Generator,
        limits: Mapping[str, Meaning],
    ) -> None:
        """Draw the steps of some rows anew, in place, from what the order leaves of their codes' cells."""
        drawn = self._narrowed({name: codes[name][rows] for name in steps}, rng, limits)
        for name, column in drawn.items():
            steps[name][rows] = column

    def _room(self, name: str, ladders: Mapping[str, Ladder], rows: Rows) -> list[tuple[Lattice, Lattice]]:
        """Return what a column's value must reach and must not exceed in some rows, by each other column's ladder."""
        none = np.zeros(len(rows), dtype=np.int64)
        room = []
        for first, strict in self.before.get(name, {}).items():
            other = ladders[first]
            least = self._pair(first, name, strict).least_after(other.value[rows])
            room.append((np.where(other.compared[rows], least, -_OPEN), none + _OPEN))
        for last, strict in self.after.get(name, {}).items():
            other = ladders[last]
            most = self._pair(name, last, strict).most_before(other.value[rows])
            room.append((none - _OPEN, np.where(other.compared[rows], most, _OPEN)))
        return room

    def _narrowed(
        self, codes: Mapping[str, npt.NDArray[Any]], rng: np.random.Generator, limits: Mapping[str, Meaning]
    ) -> dict[str, Lattice]:
        """Return steps drawn one column after the other from what the order leaves of its cell."""
        boxes = self._boxes(codes, limits)
        drawn: dict[str, Lattice] = {}
        for name in boxes:
            self._raise_low(name, boxes, drawn)
            drawn[name] = _uniform(self.coders[name], boxes[name], rng)
        return drawn

    def _boxes(self, codes: Mapping[str, npt.NDArray[Any]], limits: Mapping[str, Meaning]) -> dict[str, _Box]:
        """Return the rows' boxes, each lowered to what the columns after it leave."""
        boxes = {name: _box(self.coders[name], codes[name], limits.get(name)) for name in self.names if name in codes}
        for name in reversed(boxes):
            for first, strict in self.before.get(name, {}).items():
                room = self._pair(first, name, strict).most_before(boxes[name].high)
                both = boxes[name].compared & boxes[first].compared
                boxes[first].high = np.where(both, np.minimum(boxes[first].high, room), boxes[first].high)
        for name, box in boxes.items():
            grid = self.coders[name].grid
            box.high = np.where(box.free, grid.step(grid.position_down(box.high)), box.high)
        return boxes

    def _raise_low(self, name: str, boxes: Mapping[str, _Box], reached: Mapping[str, Lattice]) -> None:
        box = boxes[name]
        for first, strict in self.before.get(name, {}).items():
            least = self._pair(first, name, strict).least_after(reached[first])
            both = box.compared & boxes[first].compared
            box.low = np.where(both, np.maximum(box.low, least), box.low)

    def _pair(self, first: str, name: str, strict: bool) -> Pair:
        return Pair(self.coders[first].column, self.coders[name].column, strict=strict)


def _sorted_names(before: Mapping[str, Mapping[str, bool]]) -> tuple[str, ...]:
    """Return the columns so that each stands after those that must not exceed it."""
    waiting = dict.fromkeys([name for pair in before.items() for name in (*pair[1], pair[0])])
    order: list[str] = []
    while waiting:
        ready = [name for name in waiting if not set(before.get(name, {})) & set(waiting)]
        order.extend(ready)
        for name in ready:
            del waiting[name]
    return tuple(order)
