"""The cells of a numeric or datetime column, on the lattice of the values that it can take.

Every value of such a column is an integer number of steps: multiples of 10^-decimals, days, or seconds. A cell is a run
of neighbouring steps, so a value that is drawn inside a cell and rounded stays inside it, and no cell is empty.
Special values are taken out of the lattice first: what is left is numbered without gaps (a *position*), and the cells
are runs of positions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dpsynth.columns.kinds import Datetime, Numeric

__all__ = ["Grid", "build_grid"]

Lattice = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells and special values of one column; built from public facts only.

    Attributes
    ----------
    first, last
        The least and greatest step of the public range.
    atoms
        The special values as steps, in declared order; they may lie outside the range.
    boundaries
        (ordered + 1,) positions: cell j holds the positions boundaries[j] to boundaries[j + 1] - 1.
    """

    first: int
    last: int
    atoms: tuple[int, ...]
    boundaries: Lattice

    @property
    def ordered(self) -> int:
        """The number of cells."""
        return len(self.boundaries) - 1

    @cached_property
    def inner(self) -> Lattice:
        """The special values inside the range, sorted."""
        return np.array(sorted(atom for atom in self.atoms if self.first <= atom <= self.last), dtype=np.int64)

    @cached_property
    def _skips(self) -> Lattice:
        # The i-th inner special value s_i pushes every position from s_i - first - i on by one more step.
        return self.inner - self.first - np.arange(len(self.inner), dtype=np.int64)

    def position_up(self, steps: Lattice) -> Lattice:
        """Return the position of each step, or of the next ordinary one above where it is special."""
        return steps - self.first - np.searchsorted(self.inner, steps, side="left")

    def position_down(self, steps: Lattice) -> Lattice:
        """Return the position of each step, or of the next ordinary one below where it is special."""
        return self.position_up(steps + 1) - 1

    def step(self, positions: Lattice) -> Lattice:
        """Return the step at each position."""
        return positions + self.first + np.searchsorted(self._skips, positions, side="right")

    def encode(self, steps: Lattice) -> Lattice:
        """Return the code of each step: its cell (clipped to the range), or its special value's code."""
        # A step outside the range belongs to the cell at its end, also where the end itself is a special value.
        positions = np.clip(self.position_up(steps), 0, self.boundaries[-1] - 1)
        codes = np.searchsorted(self.boundaries, positions, side="right") - 1
        for index, atom in enumerate(self.atoms):
            codes[steps == atom] = self.ordered + index
        return codes

    @cached_property
    def lower(self) -> Lattice:
        """(ordered + specials,) least step of each code."""
        return np.concatenate([self.step(self.boundaries[:-1]), np.array(self.atoms, dtype=np.int64)])

    @cached_property
    def upper(self) -> Lattice:
        """(ordered + specials,) greatest step of each code."""
        return np.concatenate([self.step(self.boundaries[1:] - 1), np.array(self.atoms, dtype=np.int64)])

    @cached_property
    def comparable(self) -> npt.NDArray[np.bool_]:
        """(ordered + specials,) whether a code is a magnitude: a cell, or a special value inside the range.

        A special value outside the range (999 for unknown) is a name; it has no order and lies in no range.
        """
        named = [not self.first <= atom <= self.last for atom in self.atoms]
        return ~np.array([False] * self.ordered + named, dtype=bool)


def build_grid(column: Numeric | Datetime, cells: int, edges: Iterable[int] = ()) -> Grid:
    """Cut a column's public range into cells.

    Parameters
    ----------
    column
        The declared column.
    cells
        How many cells are wanted. A column that can take at most twice as many values has one cell for each, so that
        its cells are alike; a log scale over a coarse lattice has fewer, because no cell is empty.
    edges
        Further steps that must begin a cell (from the schema's constraints).

    Returns
    -------
    Grid
        The cells. Every one of the column's `cuts` and of `edges` begins a cell; the edge that a cut replaces is
        the nearest one, so the number of cells grows only when there are more cuts than edges.
    """
    atoms = _atoms(column)
    blank = Grid(column.first, column.last, atoms, np.zeros(1, dtype=np.int64))
    count = column.last - column.first + 1 - len(blank.inner)
    base = _even_edges(column, blank, count, cells)
    wanted = [column.ceil(cut) for cut in column.cuts] if isinstance(column, Numeric) else []
    fixed = blank.position_up(np.array([*wanted, *edges], dtype=np.int64))
    return Grid(column.first, column.last, atoms, _with_edges(base, fixed))


def _atoms(column: Numeric | Datetime) -> tuple[int, ...]:
    return column.atoms if isinstance(column, Numeric) else ()


def _even_edges(column: Numeric | Datetime, grid: Grid, count: int, cells: int) -> Lattice:
    """Return edges (as positions) that are even on the column's scale: cells differ by density only, not by width."""
    if isinstance(column, Numeric) and column.scale == "log" and count > cells:
        steps = np.ceil(np.geomspace(column.first, column.last + 1, cells + 1)[1:-1]).astype(np.int64)
        inner = grid.position_up(steps)
        return np.unique(np.concatenate([[0], inner[(inner > 0) & (inner < count)], [count]]))
    width = 1 if count <= 2 * cells else -(-count // cells)
    return np.unique(np.append(np.arange(0, count, width, dtype=np.int64), count))


def _with_edges(base: Lattice, fixed: Lattice) -> Lattice:
    """Move the nearest free edge onto each fixed one, or add it where none is free."""
    keep = np.unique(fixed[(fixed > 0) & (fixed < base[-1])])
    free = [edge for edge in base[1:-1] if edge not in set(keep.tolist())]
    for edge in keep[~np.isin(keep, base)]:
        if free:
            free.pop(int(np.argmin(np.abs(np.array(free) - edge))))
    return np.unique(np.concatenate([[0], np.array(free, dtype=np.int64), keep, base[-1:]])).astype(np.int64)


def cell_widths(column: Numeric | Datetime, grid: Grid) -> npt.NDArray[np.float64]:
    """Return (ordered,) the share of each cell if values were spread evenly on the column's scale; sums to 1."""
    if isinstance(column, Numeric) and column.scale == "log":
        low, high = grid.lower[: grid.ordered] - 0.5, grid.upper[: grid.ordered] + 0.5
        widths = np.log(high / low)
    else:
        widths = np.diff(grid.boundaries).astype(np.float64)
    return np.asarray(widths / widths.sum())


def edge_values(column: Numeric | Datetime, steps: Sequence[int] | Lattice) -> npt.NDArray[np.float64]:
    """Return steps as numbers in the column's unit (datetimes: days or seconds since 1970-01-01)."""
    scale = 10**column.decimals if isinstance(column, Numeric) else 1
    return np.asarray(steps, dtype=np.float64) / scale
