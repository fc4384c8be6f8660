"""Arrow arrays as a schema sees them: typed on the way in, integer steps or positions inside, typed on the way out."""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from dpsynth.columns.arrow import Mask, from_positions, whole
from dpsynth.columns.kinds import COUNTS, Boolean, Categorical, Column, Datetime, Identifier, Numeric
from dpsynth.columns.matching import MISSING, UNKNOWN, Matcher, canonical_text, is_absent
from dpsynth.columns.moments import is_moment, of_arrow, of_counts, of_texts, second_of
from dpsynth.columns.numerals import doubles, is_number
from dpsynth.columns.states import as_text, joined, split
from dpsynth.columns.steps import _FARTHEST, build
from dpsynth.errors import DataError

__all__ = ["has_text", "identifiers", "mixed_moments", "text_of", "typed"]

NO_NUMBER = (
    "If the text means that the value is missing, add it to missing_values; if it is a result such as <5 or not done, "
    "declare it under censored or special of the column. If numbers are written as 1,5 or 1,234, give --decimal , or "
    '--thousands , (in the schema: file: {decimal: ","}).'
)
"""What to do about text in a numeric column."""


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
        numeric: int64 where no digits are declared and none are there, else float64, or a struct of number and state
        where states such as "<5" are declared; categorical and boolean:
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
    if not has_text(array.type):
        _wrong(name, f"values of type {_kind_name(array.type)}", "identifiers", "Give text or numbers.")
    return _blanked(text_of(array), missing_values)


def text_of(array: Any) -> Any:
    """Return the text that each value stands for (`canonical_text`); it depends on no other value of the column."""
    import pyarrow as pa

    array = whole(array)
    if pa.types.is_dictionary(array.type):
        texts = text_of(array.dictionary)
        return texts.take(array.indices)
    if pa.types.is_float16(array.type) or pa.types.is_float32(array.type):
        array = doubles(array)
    if pa.types.is_struct(array.type) and array.type.names == ["number", "state"]:
        return as_text(array, text_of(array.flatten()[0]))
    if _is_text(array.type) or pa.types.is_integer(array.type) or pa.types.is_null(array.type):
        return array.cast(pa.string())
    kinds = (pa.types.is_floating, pa.types.is_temporal, pa.types.is_boolean)
    if not any(is_kind(array.type) for is_kind in kinds):  # Arrow cannot find the different values of every other type
        return pa.array(_texts(array), pa.string())
    encoded = array.dictionary_encode()
    return pa.array(_texts(encoded.dictionary), pa.string()).take(encoded.indices)


def _texts(array: Any) -> list[str | None]:
    values = array.to_pylist()
    return [None if is_absent(value) else canonical_text(value) for value in values]


def _wrong(name: str, what: str, expected: str, todo: str) -> NoReturn:
    raise DataError(f"column {name!r}: found {what}, expected {expected}. {todo}")


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def has_text(kind: Any) -> bool:
    """Return whether values of an Arrow type have a text of their own: no bytes, lists, records, or mixtures."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if isinstance(kind, pa.BaseExtensionType):
        return isinstance(kind, pa.UuidType | pa.Bool8Type | pa.JsonType)
    types = pa.types
    is_bytes = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return not (types.is_nested(kind) or types.is_interval(kind) or any(is_kind(kind) for is_kind in is_bytes))


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
        array = array.dictionary.take(array.indices)
    states = None
    if _is_text(array.type):
        if column.states:
            array, states = split(column, array.cast(pa.string()))
        values = _parsed_numbers(_blanked(array, missing_values))
    elif is_number(array.type) or pa.types.is_null(array.type):
        values = doubles(array)
    else:
        _wrong(name, f"values of type {_kind_name(array.type)}", "numbers", todo)
    if values is None:
        _wrong(
            name,
            "text that is no number",
            "numbers, as the column is declared numeric",
            f"{todo} {NO_NUMBER}",
        )
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    if column.states:
        return joined(values, states)
    return _as_integers(values) if column.decimals == 0 else values


def _parsed_numbers(text: Any) -> Any:
    """Return text as float64, or None where one is no number."""
    import pyarrow as pa

    try:
        return doubles(text.cast(pa.float64()))
    except pa.ArrowInvalid:
        return None


def _as_integers(values: Any) -> Any:
    """Return float64 values as int64 where all of them are whole and small enough; `steps` are the same either way."""
    import pyarrow as pa

    numbers = values.fill_null(0.0).to_numpy(zero_copy_only=False)
    whole = bool(np.all((np.rint(numbers) == numbers) & (np.abs(numbers) <= _FARTHEST)))
    return values.cast(pa.int64()) if whole else values


def _categories(name: str, column: Categorical | Boolean, array: Any, missing_values: Sequence[str]) -> Any:
    import pyarrow as pa

    if not has_text(array.type):
        _wrong(name, f"values of type {_kind_name(array.type)}", "categories", "Give text or numbers.")
    encoded = array if pa.types.is_dictionary(array.type) else _as_words(array).dictionary_encode()
    values = _as_words(encoded.dictionary).to_pylist()
    categories = _found_categories(values, missing_values) if column.is_discovered else column.categories
    matcher = Matcher(column, missing_values, categories)
    lookup = np.array([*(matcher.position(value) for value in values), MISSING], dtype=np.int32)
    lookup[lookup == UNKNOWN] = _stand_in(column)
    indices = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    matched = lookup[indices]
    if (matched == UNKNOWN).any():
        _wrong(
            name,
            "a value that is not in the closed list",
            "one of the declared values",
            "Add it to the schema if it is public knowledge, or say with other: what becomes of such values.",
        )
    return from_positions(matched, categories)


def _as_words(array: Any) -> Any:
    """Return values as text, but booleans as they are: they fit the labels of every boolean column."""
    import pyarrow as pa

    return array if pa.types.is_boolean(array.type) else text_of(array)


def _found_categories(values: Sequence[Any], missing_values: Sequence[str]) -> tuple[str, ...]:
    texts = dict.fromkeys(canonical_text(value).strip() for value in values if not is_absent(value))
    return tuple(text for text in texts if text not in missing_values and text)


def _stand_in(column: Categorical | Boolean) -> int:
    """Return what the position of a value outside the list becomes."""
    if column.other == "missing":
        return MISSING
    return UNKNOWN if column.other == "error" or column.is_discovered else column.categories.index(column.other)


_COUNTED = (
    'A number is no date by itself: declare its format, "%Y%m%d" for numbers like 20080131, excel for days as '
    "spreadsheets count them, unix for seconds since 1970, unix_ms for milliseconds."
)


def _moments(name: str, column: Datetime, array: Any, missing_values: Sequence[str]) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary.take(array.indices)
    if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
        return moments_of(column, of_arrow(array), np.asarray(array.is_null().to_numpy(zero_copy_only=False)))
    if is_number(array.type):
        return _counted(name, column, array)
    if not (_is_text(array.type) or pa.types.is_null(array.type)):
        _wrong(name, f"values of type {_kind_name(array.type)}", "dates", "Give dates, or text in a declared format.")
    return _moments_of_text(name, column, _blanked(text_of(array), missing_values))


def _counted(name: str, column: Datetime, array: Any) -> Any:
    """Return numbers as dates: by what they count, or by the digits that they are written with."""
    if not column.format:
        _wrong(name, "numbers", "dates", _COUNTED)
    if column.format not in COUNTS:
        return _moments_of_text(name, column, text_of(array))
    numbers = doubles(array).to_numpy(zero_copy_only=False)
    if np.isinf(numbers).any():
        _wrong(name, "a number that is infinite", f"dates in the format {column.format}", "Correct the data.")
    return moments_of(column, of_counts(numbers, column.format), np.isnan(numbers))


def _moments_of_text(name: str, column: Datetime, text: Any) -> Any:
    """Return text as dates; each spelling is read once."""
    encoded = text.dictionary_encode()
    seconds = of_texts(encoded.dictionary.to_pylist(), column)
    if seconds is None:
        expected = column.format or column.pattern
        todo = "or the format." if column.format else f"or declare a format. {_COUNTED}"
        _wrong(name, "a value that is no date in the declared form", expected, f"Correct the data, {todo}")
    spellings = moments_of(column, np.array(seconds, dtype=np.int64), np.zeros(len(seconds), dtype=bool))
    return spellings.take(encoded.indices)


def moments_of(column: Datetime, seconds: npt.NDArray[np.int64], missing: Mask) -> Any:
    """Return seconds since 1970 as the column's typed array: timestamp[s], or the days that they lie in."""
    return build(column, seconds if column.clock else seconds // 86_400, missing)


def mixed_moments(name: str, column: Datetime, values: Sequence[Any], missing_values: Sequence[str]) -> Any:
    """Return Python objects of several types as the typed array of a datetime column, each read by itself.

    Parameters
    ----------
    name
        The column's name, for messages.
    column
        Its declaration.
    values
        (rows,) dates and moments of Python, pandas and NumPy; None; anything else is read as its text.
    missing_values
        How a missing value is written in text.

    Raises
    ------
    DataError
        If a text is no date in the declared form.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    whens = np.array([is_moment(value) for value in values], dtype=bool)
    seconds = np.array([second_of(value) if when else 0 for value, when in zip(values, whens, strict=True)], np.int64)
    others = [None if when else value for value, when in zip(values, whens, strict=True)]
    texts = [None if value is None else canonical_text(value) for value in others]
    read = _moments_of_text(name, column, _blanked(pa.array(texts, pa.string()), missing_values))
    return pc.coalesce(moments_of(column, seconds, ~whens), read)


def _kind_name(kind: Any) -> str:
    """Return an Arrow type's name in words; nothing of the data is in it."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return str(kind.extension_name)
    return str(kind).split("[", maxsplit=1)[0].split("<", maxsplit=1)[0]
