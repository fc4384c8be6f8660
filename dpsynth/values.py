"""Arrow arrays as a schema sees them: typed on the way in, integer steps or positions inside, typed on the way out."""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from dpsynth.columns import Boolean, Categorical, Category, Column, Datetime, Identifier, Numeric
from dpsynth.errors import DataError
from dpsynth.grid import Lattice
from dpsynth.matching import MISSING, UNKNOWN, Matcher, canonical_text

__all__ = ["build", "identifiers", "positions", "steps", "text_of", "typed", "whole"]

Mask = npt.NDArray[np.bool_]
_FARTHEST = 2**52
"""Steps beyond this are outside every public range, which ends at 2^50; they are clipped to it, not overflowed."""


def typed(name: str, column: Column, array: Any, missing_values: Sequence[str]) -> Any:
    """Return a column of a file as its schema types it.

    Parameters
    ----------
    name
        The column's name, for messages.
    column
        Its declaration.
    array
        A pyarrow Array or ChunkedArray of any type.
    missing_values
        How a missing value is written in text.

    Returns
    -------
    pyarrow.Array
        numeric: int64 where no digits are declared and none are there, else float64; categorical and boolean:
        a dictionary array whose dictionary is the declared list; datetime: date32 or timestamp[s]; identifier:
        text.

    Raises
    ------
    DataError
        If a value is not what was declared. The message has the column and the kind of fault, never the value.
    """
    array = whole(array)
    if isinstance(column, Identifier):
        return identifiers(name, array, missing_values)
    if isinstance(column, Numeric):
        result = _numbers(name, column, array, missing_values)
    elif isinstance(column, Datetime):
        result = _moments(name, column, array, missing_values)
    else:
        result = _categories(name, column, array, missing_values)
    if result.null_count and not column.missing:
        raise DataError(
            f"column {name!r}: a value is missing, and the schema does not say that one may be. "
            "Declare missing: true, or fill the gap in the data."
        )
    return result


def whole(array: Any) -> Any:
    """Return one contiguous array; dictionaries of chunks are unified."""
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = array.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk, or too much text for one array
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array


def identifiers(name: str, array: Any, missing_values: Sequence[str]) -> Any:
    """Return identifiers as text without the blanks around it; null where one is blank or spells a missing value.

    Parameters
    ----------
    name
        The column's name, for messages.
    array
        A pyarrow Array or ChunkedArray; "P1" and "P1 " are one patient, and so are the numbers 7 and 7.0.
    missing_values
        How a missing value is written in text.

    Raises
    ------
    DataError
        If the column holds lists or records.
    """
    import pyarrow as pa

    if pa.types.is_nested(array.type):
        _wrong(name, f"values of type {_kind_name(array.type)}", "identifiers", "Give text or numbers.")
    return _blanked(text_of(array), missing_values)


def text_of(array: Any) -> Any:
    """Return the text that each value stands for (`canonical_text`); it depends on no other value of the column."""
    import pyarrow as pa

    array = whole(array)
    if pa.types.is_dictionary(array.type):
        texts = text_of(array.dictionary)
        return texts.take(array.indices)
    if _is_text(array.type) or pa.types.is_integer(array.type) or pa.types.is_null(array.type):
        return array.cast(pa.string())
    if isinstance(array, pa.ExtensionArray):  # Arrow cannot find its different values
        return pa.array(_texts(array), pa.string())
    encoded = array.dictionary_encode()
    return pa.array(_texts(encoded.dictionary), pa.string()).take(encoded.indices)


def _texts(array: Any) -> list[str | None]:
    values = array.to_pylist()
    return [None if value is None or value != value else canonical_text(value) for value in values]  # noqa: PLR0124  (NaN)


def _wrong(name: str, found: str, expected: str, todo: str) -> NoReturn:
    raise DataError(f"column {name!r}: found {found}, expected {expected}. {todo}")


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _blanked(array: Any, missing_values: Sequence[str]) -> Any:
    """Return text without the blanks around it, and null where it spells a missing value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(array.cast(pa.string()))
    missing = pc.is_in(text, value_set=pa.array(["", *missing_values], pa.string()))
    return pc.if_else(missing, pa.scalar(None, pa.string()), text)


def _numbers(name: str, column: Numeric, array: Any, missing_values: Sequence[str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    todo = "Correct the data, or declare the column with another type."
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if _is_text(kind):
        array, found = _blanked(array, missing_values), "text that is no number"
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        found = "a number that is too large"
    else:
        _wrong(name, f"values of type {_kind_name(kind)}", "numbers", todo)
    try:
        values = array.cast(pa.float64(), safe=False)
    except pa.ArrowInvalid:
        values = None
    if values is None:
        _wrong(
            name,
            found,
            "numbers, as the column is declared numeric",
            f"{todo} If the text means that the value is missing, add it to missing_values.",
        )
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    return _as_integers(values) if column.decimals == 0 else values


def _as_integers(values: Any) -> Any:
    """Return float64 values as int64 where all of them are whole and small enough."""
    import pyarrow as pa

    numbers = values.fill_null(0.0).to_numpy(zero_copy_only=False)
    whole = bool(np.all((np.rint(numbers) == numbers) & (np.abs(numbers) <= _FARTHEST)))
    return values.cast(pa.int64()) if whole else values


def _categories(name: str, column: Categorical | Boolean, array: Any, missing_values: Sequence[str]) -> Any:
    import pyarrow as pa

    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        _wrong(name, f"values of type {_kind_name(kind)}", "categories", "Give text or numbers.")
    if isinstance(array, pa.ExtensionArray):
        array = text_of(array)
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    found = encoded.dictionary.to_pylist()
    categories = _found_categories(found, missing_values) if _discovers(column) else column.categories
    matcher = Matcher(column, missing_values, categories)
    lookup = np.array([*(matcher.position(value) for value in found), MISSING], dtype=np.int32)
    lookup[lookup == UNKNOWN] = _stand_in(column)
    indices = encoded.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
    matched = lookup[indices]
    if (matched == UNKNOWN).any():
        _wrong(
            name,
            "a value that is not in the closed list",
            "one of the declared values",
            "Add it to the schema if it is public knowledge, or say with other: what becomes of such values.",
        )
    return from_positions(matched, categories)


def _discovers(column: Categorical | Boolean) -> bool:
    return isinstance(column, Categorical) and column.discover


def _found_categories(found: Sequence[Any], missing_values: Sequence[str]) -> tuple[str, ...]:
    texts = dict.fromkeys(canonical_text(value).strip() for value in found if value is not None)
    return tuple(text for text in texts if text not in missing_values and text)


def _stand_in(column: Categorical | Boolean) -> int:
    """Return what the position of a value outside the list becomes."""
    if column.other == "missing":
        return MISSING
    return UNKNOWN if column.other == "error" or _discovers(column) else column.categories.index(column.other)


def from_positions(indices: npt.NDArray[np.integer[Any]], categories: Sequence[Category]) -> Any:
    """Return a dictionary array over the categories; a negative position is a missing value."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(
        pa.array(indices.astype(np.int32, copy=False), mask=indices < 0), _dictionary(categories)
    )


def _dictionary(categories: Sequence[Category]) -> Any:
    """Return the categories as one Arrow type: their own where they share one, else text."""
    import pyarrow as pa

    kinds = {type(value) for value in categories}
    if kinds <= {bool} and kinds:
        return pa.array(categories, pa.bool_())
    if kinds <= {int} and kinds:
        return pa.array(categories, pa.int64())
    if kinds <= {int, float} and kinds:
        return pa.array([float(value) for value in categories], pa.float64())
    return pa.array([canonical_text(value) for value in categories], pa.string())


def _moments(name: str, column: Datetime, array: Any, missing_values: Sequence[str]) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    target = pa.timestamp("s") if column.clock else pa.date32()
    if getattr(array.type, "tz", None) is not None:
        _wrong(name, "moments with a time zone", "local moments without one", "Remove the time zone in the data.")
    if _is_text(array.type):
        result = _parsed(_blanked(array, missing_values), column)
    else:
        try:
            result = array.cast(pa.timestamp("s"), safe=False).cast(target, safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            result = None
    if result is None:
        _wrong(name, "a value that is no date in the declared form", column.pattern, "Correct the data, or the format.")
    return result


def _parsed(text: Any, column: Datetime) -> Any:
    """Return text as dates, or None where one of them does not follow the pattern; each spelling is read once."""
    import pyarrow as pa

    encoded = text.dictionary_encode()
    seconds = _patterned(encoded.dictionary, column.format) if column.format else _iso(encoded.dictionary)
    if seconds is None:
        return None
    dictionary = seconds if column.clock else seconds.cast(pa.date32(), safe=False)
    return pa.DictionaryArray.from_arrays(encoded.indices, dictionary).dictionary_decode()


def _iso(text: Any) -> Any:
    """Return ISO dates, with or without a clock time, as timestamp[s], or None where one is none."""
    import pyarrow as pa

    try:
        return text.cast(pa.timestamp("us")).cast(pa.timestamp("s"), safe=False)
    except pa.ArrowInvalid:
        return None


def _patterned(text: Any, pattern: str) -> Any:
    """Return text as timestamp[s], or None where one does not follow the strftime pattern."""
    import pandas as pd
    import pyarrow as pa

    try:
        moments = pd.to_datetime(pd.Series(text.to_pylist(), dtype="str"), format=pattern, errors="coerce")
    except ValueError:  # a pattern that pandas does not know, or time zones
        return None
    if moments.isna().any() or getattr(moments.dt, "tz", None) is not None:
        return None
    return pa.array(moments.to_numpy().astype("datetime64[s]"))


def _kind_name(kind: Any) -> str:
    """Return an Arrow type's name in words; nothing of the data is in it."""
    return str(kind).split("[", maxsplit=1)[0].split("<", maxsplit=1)[0]


def steps(column: Numeric | Datetime, array: Any) -> tuple[Lattice, Mask]:
    """Return the values of a typed column as integer steps, and where they are missing (the step is then 0).

    Parameters
    ----------
    column
        Its declaration: numbers become multiples of 10^-decimals (rounded), moments days or seconds since 1970-01-01.
    array
        What `typed` returned.

    Returns
    -------
    steps, missing
        (rows,) int64 and (rows,) bool.
    """
    import pyarrow as pa

    array = whole(array)
    missing = np.asarray(array.is_null().to_numpy(zero_copy_only=False))
    if isinstance(column, Datetime):
        integers = array.cast(pa.int64() if column.clock else pa.int32())
        return integers.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64), missing
    values = array.fill_null(0).to_numpy(zero_copy_only=False)
    if values.dtype != np.int64 or column.decimals:
        # The division-free form is exact enough: see LARGEST_LATTICE. What is clipped first cannot overflow.
        scale = float(10**column.decimals)
        near = np.clip(values, -_FARTHEST / scale, _FARTHEST / scale)
        values = np.clip(np.rint(near * scale), -_FARTHEST, _FARTHEST).astype(np.int64)
    return values, missing


def positions(array: Any) -> tuple[npt.NDArray[np.int32], tuple[Any, ...]]:
    """Return a typed category column as positions (missing: -1), and the list they point to."""
    array = whole(array)
    indices = array.indices.fill_null(MISSING).to_numpy(zero_copy_only=False)
    return indices, tuple(array.dictionary.to_pylist())


def build(column: Numeric | Datetime, values: Lattice, missing: Mask) -> Any:
    """Return steps as a typed array: the inverse of `steps`.

    Parameters
    ----------
    column
        The declaration.
    values
        (rows,) int64 steps.
    missing
        (rows,) where the value is missing.
    """
    import pyarrow as pa

    if isinstance(column, Datetime):
        return pa.array(values, mask=missing).cast(pa.timestamp("s")) if column.clock else _days(values, missing)
    if column.decimals == 0:
        return pa.array(values, mask=missing)
    # One correctly rounded division of two exact integers gives the double that is nearest to the decimal number.
    return pa.array(values / float(10**column.decimals), mask=missing)


def _days(values: Lattice, missing: Mask) -> Any:
    import pyarrow as pa

    return pa.array(values.astype(np.int32), mask=missing).cast(pa.date32())
