"""Coders of single columns: cells of a range, or positions in a list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.columns.arrow import from_positions, positions
from dpsynth.columns.conditions import Meaning
from dpsynth.columns.grid import Lattice, build_grid
from dpsynth.columns.kinds import Boolean, Categorical, Category, Datetime, Numeric
from dpsynth.columns.matching import MISSING, UNKNOWN, Matcher, canonical_text
from dpsynth.columns.states import FIRST_STATE
from dpsynth.columns.steps import steps
from dpsynth.errors import DataError

__all__ = ["OTHER", "Coder", "ColumnCode", "GridCoder", "ListCoder", "column_code"]

Mask = npt.NDArray[np.bool_]
_FOREIGN = "the cohort holds a state that this schema does not declare: it was not read under this schema."
OTHER = "other"
"""The label, and the decoded value, of the state that holds all values which were not discovered."""


@dataclass(frozen=True)
class ColumnCode:
    """How one column is coded.

    Attributes
    ----------
    name
        The column.
    size
        Number of codes, all states included.
    ordered
        Codes 0 to ordered - 1 are cells or categories in order; 0 where the categories have none.
    missing
        The code of the missing state (always the last), None where a value is never missing.
    labels
        One text per code, for tables and figures.
    """

    name: str
    size: int
    ordered: int
    missing: int | None
    labels: tuple[str, ...]


class GridCoder:
    """Codes of a numeric or datetime column: its cells, then its special values, then missing.

    Parameters
    ----------
    column
        The declaration.
    cells
        How many cells are wanted.
    edges
        Steps that must begin a cell.
    """

    def __init__(self, column: Numeric | Datetime, cells: int, edges: Iterable[int]) -> None:
        self.column = column
        self.grid = build_grid(column, cells, edges)
        self.ordered = self.grid.ordered
        self.states = self.ordered + len(self.grid.atoms)
        self.missing = self.states if column.missing else None
        self.size = self.states + column.missing

    def labels(self) -> tuple[str, ...]:
        """Return one text per code: the least and greatest value of a cell, or the value itself."""
        texts = [self._texts(ends) for ends in (self.grid.lower, self.grid.upper)]
        cells = [low if low == high else f"{low} to {high}" for low, high in zip(*texts, strict=True)]
        return (*cells, *(["missing"] if self.column.missing else []))

    def _texts(self, ends: Lattice) -> list[str]:
        if isinstance(self.column, Numeric):
            scale, states = 10**self.column.decimals, [state.text for state in self.column.states]
            return [
                f"{int(step) / scale:.{self.column.decimals}f}" if step < FIRST_STATE else states[step - FIRST_STATE]
                for step in ends
            ]
        return [str(moment) for moment in ends.astype("datetime64[s]" if self.column.clock else "datetime64[D]")]

    def encode(self, array: Any) -> Lattice:
        """Return (rows,) codes of a typed array."""
        values, missing = steps(self.column, array)
        codes = self.grid.encode(values)
        if self.missing is not None:
            codes[missing] = self.missing
        elif missing.any():
            raise DataError(_FOREIGN)
        return codes

    def mask(self, meaning: Meaning, *, partly: bool = False) -> Mask:
        """Return (size,) which codes lie wholly (or at least partly) in a condition."""
        held = meaning.covers(self.grid, partly=partly)
        return np.append(held, meaning.missing) if self.column.missing else held

    def share(self, meaning: Meaning) -> npt.NDArray[np.float64]:
        """Return (size,) which share of each code's values lies in a condition, when values are even in their cell."""
        shares = self.mask(meaning).astype(np.float64)
        if len(meaning.ranges) == 1:
            grid, (start, end) = self.grid, meaning.ranges[0]
            low = grid.position_up(np.clip(grid.lower[: grid.ordered], start, None))
            high = grid.position_down(np.clip(grid.upper[: grid.ordered], None, end))
            inside = np.clip(high - low + 1, 0, None) / np.diff(grid.boundaries)
            shares[: grid.ordered] = np.maximum(shares[: grid.ordered], inside)
        return shares


class ListCoder:
    """Codes of a categorical or boolean column: its categories, then missing.

    Parameters
    ----------
    column
        The declaration.
    discovered
        The values found under differential privacy, for a column that is declared `discover: true`.
    """

    def __init__(self, column: Categorical | Boolean, discovered: Sequence[str] | None = None) -> None:
        self.column = column
        self.categories: tuple[Category, ...] = column.categories
        self._stand_in = UNKNOWN
        if discovered is not None:
            others = () if column.other == "missing" or OTHER in discovered else (OTHER,)
            self.categories = (*discovered, *others)
            self._stand_in = MISSING if column.other == "missing" else self.categories.index(OTHER)
        self.matcher = Matcher(column, (), self.categories)
        self.ordered = len(self.categories) if column.ordered else 0
        self.states = len(self.categories)
        self.missing = self.states if column.missing else None
        self.size = self.states + column.missing

    def labels(self) -> tuple[str, ...]:
        """Return one text per code."""
        return (*map(canonical_text, self.categories), *(["missing"] if self.column.missing else []))

    def encode(self, array: Any) -> npt.NDArray[np.int32]:
        """Return (rows,) codes of a typed array."""
        indices, values = positions(array)
        places = np.array([*(self.matcher.position(value) for value in values), MISSING], dtype=np.int32)
        places[places == UNKNOWN] = self._stand_in
        codes = places[indices]  # a missing value has index -1: the last place
        if (codes == UNKNOWN).any() or (self.missing is None and (codes == MISSING).any()):
            raise DataError(_FOREIGN)
        return np.where(codes == MISSING, np.int32(self.states), codes)

    def decode(self, codes: npt.NDArray[Any]) -> Any:
        """Return the typed array of (rows,) codes."""
        return from_positions(np.where(codes == self.states, MISSING, codes.astype(np.int32)), self.categories)

    def mask(self, meaning: Meaning, *, partly: bool = False) -> Mask:  # noqa: ARG002  (a category is never in part)
        """Return (size,) which codes hold in a condition."""
        held = meaning.holds(np.arange(self.states, dtype=np.int64), np.ones(self.states, dtype=bool))
        return np.append(held, meaning.missing) if self.column.missing else held

    def share(self, meaning: Meaning) -> npt.NDArray[np.float64]:
        """Return (size,) 1 for each code that holds in a condition, else 0."""
        return self.mask(meaning).astype(np.float64)


Coder = GridCoder | ListCoder


def column_code(name: str, coder: Coder) -> ColumnCode:
    """Return the facts of a coder."""
    return ColumnCode(name, coder.size, coder.ordered, coder.missing, coder.labels())
