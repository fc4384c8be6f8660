"""One column of data against its declaration: every value that does not fit, not only the first.

Values are read by `dpsynth.columns.typed.typed`, which says of a column only that some value is refused. A value is
read by itself, so halving the different values finds all that are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.checking.faults import ColumnShares, Fault, at_rows, share
from dpsynth.columns.arrow import whole
from dpsynth.columns.identifier_values import written_like
from dpsynth.columns.kinds import Boolean, Categorical, Column, Datetime, Identifier, Numeric
from dpsynth.columns.matching import UNKNOWN, Matcher
from dpsynth.columns.steps import steps
from dpsynth.columns.typed import typed
from dpsynth.errors import DataError

__all__ = ["ABOVE", "BELOW", "CheckedColumn", "check_column", "discovered_faults", "outside_words"]

Mask = npt.NDArray[np.bool_]
BELOW, ABOVE = "below min: becomes min", "above max: becomes max"
_MUCH = 0.2
"""From this share on, clipping is likelier a wrong unit than a few extreme patients."""


@dataclass
class CheckedColumn:
    """A column as far as it can be read.

    Attributes
    ----------
    array
        Typed, with null where a value cannot be read; None where nothing can.
    unreadable
        (rows,) where a value cannot be read.
    shares
        What stands in the table of columns.
    faults
        All that does not fit.
    """

    array: Any
    unreadable: Mask
    shares: ColumnShares
    faults: list[Fault] = field(default_factory=list)


def check_column(name: str, column: Column, array: Any, missing_values: Sequence[str]) -> CheckedColumn:
    """Return every fault of a column.

    Parameters
    ----------
    name
        Its name.
    column
        Its declaration.
    array
        The column as it was read, of any Arrow type.
    missing_values
        How a missing value is written.
    """
    array = whole(array)
    rows = len(array)
    relaxed = column if isinstance(column, Identifier) else column.model_copy(update={"missing": True})
    try:
        typed(name, relaxed, array.slice(0, 0), missing_values)  # refused for its type, whatever the values
    except DataError as error:
        everything = np.ones(rows, dtype=bool)
        shares = ColumnShares(name, column.type, unreadable=1.0)
        return CheckedColumn(None, everything, shares, [Fault(name, _without_name(error), is_refused=True)])
    unreadable, words = _unreadable(name, relaxed, array, missing_values)
    read = typed(name, relaxed, _blanked_at(array, unreadable), missing_values)
    missing = np.asarray(read.is_null().to_numpy(zero_copy_only=False)) & ~unreadable
    faults = at_rows(name, words, unreadable, is_refused=True)
    faults += _missing_faults(name, column, missing)
    measured = _measured(name, column, read, array, missing_values)
    shares = ColumnShares(name, column.type, missing=share(missing), unreadable=share(unreadable), **measured.shares)
    return CheckedColumn(read, unreadable, shares, [*faults, *measured.faults])


def _missing_faults(name: str, column: Column, missing: Mask) -> list[Fault]:
    if isinstance(column, Identifier) or column.missing:
        return []
    words = "a value is missing. Declare missing: true, or fill the gap"
    if isinstance(column, Categorical) and column.other == "missing":
        words = "a value is missing, or off the list and other: missing. Declare missing: true"
    return at_rows(name, words, missing, is_refused=True)


def _unreadable(name: str, column: Column, array: Any, missing_values: Sequence[str]) -> tuple[Mask, str]:
    """Return where a value cannot be read, and why in words."""
    different, indices = _different(array)
    reasons: list[str] = []

    def is_read(part: Any) -> bool:
        try:
            typed(name, column, part, missing_values)
        except DataError as error:
            reasons.append(_without_name(error))
            return False
        return True

    refused = np.zeros(len(different) + 1, dtype=bool)
    refused[:-1] = _refused(is_read, different)
    return refused[indices], reasons[-1] if reasons else ""


def _different(array: Any) -> tuple[Any, npt.NDArray[np.int64]]:
    """Return the different values of a column, and for each row the place of its own (past the end: none is there)."""
    import pyarrow as pa

    if not pa.types.is_dictionary(array.type):
        try:
            array = array.dictionary_encode()
        except (pa.ArrowNotImplementedError, pa.ArrowTypeError):  # a type that Arrow cannot compare: row by row
            return array, np.arange(len(array), dtype=np.int64)
    indices = array.indices.fill_null(len(array.dictionary)).to_numpy(zero_copy_only=False)
    return array.dictionary, indices.astype(np.int64)


def _refused(is_read: Callable[[Any], bool], values: Any) -> Mask:
    """Return which values are refused: a part that is read has none, a part that is not is halved."""
    refused = np.zeros(len(values), dtype=bool)
    waiting = [(0, len(values))] if len(values) else []
    while waiting:
        start, stop = waiting.pop()
        if is_read(values.slice(start, stop - start)):
            continue
        if stop - start == 1:
            refused[start] = True
            continue
        middle = (start + stop) // 2
        waiting += [(start, middle), (middle, stop)]
    return refused


def _blanked_at(array: Any, mask: Mask) -> Any:
    """Return the column with null where `mask` holds."""
    import pyarrow as pa

    if not mask.any():
        return array
    rows = np.arange(len(array), dtype=np.int64)
    return array.take(pa.array(rows, mask=mask))


def _without_name(error: DataError) -> str:
    """Return a message of the reader without the column's name, which stands beside it already."""
    words = str(error).rstrip(".")
    return words.partition(": ")[2] if words.startswith("column ") else words


@dataclass
class _ColumnFaults:
    shares: dict[str, float] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def add(self, more: "_ColumnFaults") -> None:
        self.shares |= more.shares
        self.faults += more.faults


def _measured(name: str, column: Column, read: Any, array: Any, missing_values: Sequence[str]) -> _ColumnFaults:
    if isinstance(column, Numeric | Datetime):
        return _outside(name, column, read)
    if isinstance(column, Categorical | Boolean) and column.other != "error":
        return _mapped(name, column, array, missing_values)
    if isinstance(column, Categorical) and column.is_discovered:
        texts = [str(value) for value in read.dictionary.to_pylist()]
        return _ColumnFaults(faults=discovered_faults(name, column, texts, len(texts)))
    return _ColumnFaults()


def discovered_faults(name: str, column: Categorical, texts: Sequence[str], distinct: int) -> list[Fault]:
    """Return whether the values of a column that is to be discovered are identifiers, or more than may be found.

    Parameters
    ----------
    name
        The column's name.
    column
        Its declaration.
    texts
        Its different values, or some of them.
    distinct
        How many there are.
    """
    kind = written_like(texts, share=0.5)
    faults = []
    if kind:
        words = f"its values look like {kind}. Declare type: identifier, or drop it; a fit that finds them stops"
        faults.append(Fault(name, words, is_refused=True))
    if column.max_values is not None and distinct > column.max_values:
        words = f"has {distinct} different values, more than max_values: the rarer ones stay unknown"
        faults.append(Fault(name, words, is_refused=False))
    return faults


def _outside(name: str, column: Numeric | Datetime, read: Any) -> _ColumnFaults:
    """Return what lies outside the bounds; special values have none."""
    values, missing = steps(column, read)
    special = set(column.atoms) if isinstance(column, Numeric) else set[int]()
    ordinary = ~missing & ~np.isin(values, np.array(sorted(special), dtype=np.int64))
    below, above = ordinary & (values < column.first), ordinary & (values > column.last)
    both = share(below) + share(above)
    measured = _ColumnFaults({"below": share(below), "above": share(above)})
    measured.faults += at_rows(name, outside_words(BELOW, both), below)
    measured.faults += at_rows(name, outside_words(ABOVE, both), above)
    if isinstance(column, Numeric):
        measured.add(_rounded(name, column, read, values, ordinary & ~below & ~above))
    return measured


def outside_words(words: str, both: float) -> str:
    """Return what to say of values outside of the bounds, of which there is this share on both sides together."""
    return words + (". Are the bounds in the unit of the data?" if both >= _MUCH else "")


def _rounded(name: str, column: Numeric, read: Any, values: npt.NDArray[np.int64], inside: Mask) -> _ColumnFaults:
    """Return what loses digits, and where that changes a value by more than a hundredth of the range, or of itself."""
    numbers = read.flatten()[0] if column.states else read
    exact = numbers.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
    change = np.where(inside, np.abs(exact - values / 10.0**column.decimals), 0.0)
    lost = change > 1e-6 * 10.0**-column.decimals
    limit = 0.1 * np.abs(exact) if column.scale == "log" else (column.max - column.min) / 100
    words = f"has more digits than decimals: {column.decimals} and is rounded by more than a tenth of its value"
    if column.scale == "linear":
        words = f"has more digits than decimals: {column.decimals} and is rounded by more than 1 % of the range"
    return _ColumnFaults({"rounded": share(lost)}, at_rows(name, words, lost & (change > limit)))


def _mapped(name: str, column: Categorical | Boolean, array: Any, missing_values: Sequence[str]) -> _ColumnFaults:
    """Return what is off the closed list and mapped."""
    different, indices = _different(array)
    matcher = Matcher(column, missing_values)
    unknown = np.array([*(matcher.position(value) == UNKNOWN for value in different.to_pylist()), False])
    mask = unknown[indices]
    words = f"off the closed list: becomes {column.other!r}, as other says"
    return _ColumnFaults({"other": share(mask)}, at_rows(name, words, mask))
