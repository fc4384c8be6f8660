"""Faults that a check of data against a schema reports, and shares of each column's rows. All of it is internal.

Counts and places of rows are exact, so they must not leave the house. Values are never among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ColumnShares", "Fault", "at_rows"]


@dataclass(frozen=True)
class Fault:
    """A fault of the data against the schema.

    Attributes
    ----------
    place
        The column, the constraint in words, or the file.
    words
        What was found, what was expected, and what to do.
    is_refused
        Whether a fit would refuse the data for it; else a warning: a fit would go on and change or leave out something.
    rows
        Numbers of the rows, from 0, in the order of the table; empty where it is not about rows.
    lines
        Numbers of the lines of the file, where they are known better than rows, as for damaged lines.
    unit
        What `lines` are numbers of, where not of lines: ``"row"``, from 1, of an index in Parquet.
    count
        How many rows, images or patients it is about.
    """

    place: str
    words: str
    is_refused: bool
    rows: npt.NDArray[np.int64] | None = None
    lines: tuple[int, ...] = ()
    unit: str = "line"
    count: int | None = None


def at_rows(place: str, words: str, mask: npt.NDArray[np.bool_], *, is_refused: bool = False) -> list[Fault]:
    """Return the fault of the rows where `mask` holds; none where it holds nowhere."""
    rows = np.flatnonzero(mask)
    return [Fault(place, words, is_refused, rows, count=len(rows))] if len(rows) else []


@dataclass(frozen=True)
class ColumnShares:
    """Shares of a column's rows, from 0 to 1; None where the kind of column has no such thing.

    Attributes
    ----------
    name, type
        The column, and its declared type.
    missing
        Rows without a value.
    below, above
        Rows with a value below min or above max, which are clipped.
    rounded
        Rows with a number that has more digits than `decimals`.
    other
        Rows with a value off the closed list that `other` maps.
    unreadable
        Rows with a value that the declared type cannot hold; a fit would refuse them.
    """

    name: str
    type: str
    missing: float | None = None
    below: float | None = None
    above: float | None = None
    rounded: float | None = None
    other: float | None = None
    unreadable: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the shares that there are."""
        return {key: value for key, value in vars(self).items() if value is not None and key != "name"}


def share(mask: npt.NDArray[np.bool_]) -> float:
    """Return the share of rows where `mask` holds."""
    return float(np.count_nonzero(mask)) / len(mask) if len(mask) else 0.0


def shortened(numbers: Sequence[int], most: int = 8) -> str:
    """Return numbers in words, the first of them where there are many.

    >>> shortened([3, 4, 9]), shortened(list(range(20)), 3)
    ('3, 4, 9', '0, 1, 2, ...')
    """
    return ", ".join(map(str, numbers[:most])) + (", ..." if len(numbers) > most else "")
