"""Dates and moments as whole seconds since 1970, each read by itself: text, numbers, Arrow's and Python's types.

What has an offset from UTC, or a time zone, is converted to UTC; what has none is taken as it is written. Parts of a
second are cut off. A number is no date until the schema says how it counts: `format` is then a pattern of digits
(``%Y%m%d``), or one of `COUNTS`.
"""

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.columns.kinds import COUNTS, Datetime

__all__ = ["as_written", "count_of", "is_moment", "of_arrow", "of_counts", "of_texts", "second_of"]

Seconds = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_A_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
_FIRST, _LAST = (1 - _EPOCH) * _A_DAY, (date.max.toordinal() - _EPOCH + 1) * _A_DAY - 1
"""The first and the last second that a date of Python can name; what is beyond lies outside every public range."""
_EXCEL = date(1899, 12, 30).toordinal() - _EPOCH
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_PER_COUNT = {"unix": 1, "unix_ms": 10**3, "unix_us": 10**6, "unix_ns": 10**9}
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)? ?(?:[Zz]|[-+]\d\d(?::?\d\d)?)?)?", re.ASCII
)
_FIELDS = {"Y": "year", "m": "month", "d": "day", "H": "hour", "M": "minute", "S": "second"}
_WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "y": 2, "j": 3}


def is_moment(value: Any) -> bool:
    """Return whether a Python object is a date or a moment (of Python, pandas or NumPy)."""
    return isinstance(value, date) or (isinstance(value, np.datetime64) and _fine(value.dtype))


def _fine(dtype: np.dtype[Any]) -> bool:
    """Return whether values of a NumPy datetime64 type name at least a day."""
    return np.datetime_data(dtype)[0] not in ("generic", "Y", "M")


def second_of(value: Any) -> int:
    """Return the seconds since 1970 of what `is_moment` says yes to.

    >>> second_of(date(1970, 1, 2)), second_of(datetime.fromisoformat("1970-01-01T02:00:00.9+02:00"))
    (86400, 0)
    """
    if isinstance(value, np.datetime64):
        return int(np.clip(value.astype("datetime64[s]").astype(np.int64), _FIRST, _LAST))
    days = int(value.toordinal()) - _EPOCH
    if not isinstance(value, datetime):
        return days * _A_DAY
    offset = value.utcoffset()
    second = days * _A_DAY + int(value.hour) * 3_600 + int(value.minute) * 60 + int(value.second)
    return second if offset is None else second - offset // timedelta(seconds=1)


def of_arrow(array: Any) -> Seconds:
    """Return (rows,) the seconds of an Arrow array of dates or timestamps; 0 where it has null."""
    import pyarrow as pa

    if pa.types.is_date32(array.type):
        days: Seconds = array.cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return np.clip(days * _A_DAY, _FIRST, _LAST)
    per_second = _PER_SECOND["ms" if pa.types.is_date64(array.type) else array.type.unit]
    counts: Seconds = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return np.clip(counts // per_second, _FIRST, _LAST)


def of_counts(numbers: npt.NDArray[np.float64], form: str) -> Seconds:
    """Return (rows,) the seconds of numbers that count days or seconds; 0 for NaN.

    Parameters
    ----------
    numbers
        (rows,) what the column holds.
    form
        One of `COUNTS`.
    """
    present = np.where(np.isnan(numbers), 0.0, numbers)
    with np.errstate(over="ignore"):
        if form == "excel":  # Excel has a 29 February 1900, so that days before it are one off
            seconds = np.rint((present + np.where((present > 0) & (present < 60), _EXCEL + 1, _EXCEL)) * _A_DAY)
        else:
            seconds = np.floor(present / _PER_COUNT[form])
    clipped: Seconds = np.clip(seconds, _FIRST, _LAST).astype(np.int64)
    return clipped


def count_of(second: int, form: str) -> str:
    """Return a moment as the number that one of `COUNTS` writes for it: the inverse of `of_counts`.

    >>> count_of(86_400, "unix_ms"), count_of(0, "excel"), count_of(43_200, "excel")
    ('86400000', '25569', '25569.5')
    """
    if form != "excel":
        return str(second * _PER_COUNT[form])
    days, rest = divmod(second - _EXCEL * _A_DAY, _A_DAY)
    days -= 1 < days < 61
    return str(days) if not rest else f"{days + rest / _A_DAY:.6f}".rstrip("0")


def of_texts(texts: Sequence[str], column: Datetime) -> list[int] | None:
    """Return the seconds of different texts, or None where one of them is no date in the column's form.

    Parameters
    ----------
    texts
        Without blanks around them.
    column
        Its format says how they are written; ISO where it has none.
    """
    read = _reader(column)
    try:
        return [read(text) for text in texts]
    except (ValueError, OverflowError):
        return None


def _reader(column: Datetime) -> Callable[[str], int]:
    if column.format in COUNTS:
        return lambda text: int(of_counts(np.array([_finite(text)]), column.format)[0])
    if column.format:
        return lambda text: _patterned(text, column)
    return _iso


def _finite(text: str) -> float:
    number = float(text) if text.isascii() and "_" not in text else np.nan
    if not np.isfinite(number):
        raise ValueError("no number")
    return number


def _iso(text: str) -> int:
    if not _ISO.fullmatch(text):
        raise ValueError("no ISO date")
    return second_of(datetime.fromisoformat(text.replace(" ", "T", 1).replace(" ", "")))


def _patterned(text: str, column: Datetime) -> int:
    pattern, width = column.format, _width(column.format)
    if "%f" in pattern:
        text = re.sub(r"(\.\d{6})\d+", r"\1", text, flags=re.ASCII)
    if width:
        text = re.sub(r"\.0+$", "", text)  # a whole number in a column of decimal numbers
        text = text if pattern.startswith("%Y") else text.zfill(width)  # a number has no zero in front
        if len(text) != width or not (text.isascii() and text.isdigit()):
            raise ValueError("too few or too many digits")
    moment = _strptime(text, pattern)
    if not column.clock:  # the offset of a day alone, as XML has it, does not move the day
        moment = moment.replace(tzinfo=None)
    return second_of(_in_century(moment, column) if "%y" in pattern else moment)


def _strptime(text: str, pattern: str) -> datetime:
    """Return what Python's strptime does, in a tenth of the time where the pattern has numbers alone."""
    form = _numbers_of(pattern)
    parts = form[1].fullmatch(text) if form is not None else None
    if form is None or parts is None:
        return datetime.strptime(text, pattern)
    return datetime(**dict(zip(form[0], map(int, parts.groups()), strict=True)))  # type: ignore[arg-type]


@cache
def _numbers_of(pattern: str) -> tuple[tuple[str, ...], re.Pattern[str]] | None:
    """Return the fields and the regular expression of a pattern of whole numbers; None for any other pattern."""
    letters = re.findall("%(.)", pattern)
    if len(set(letters)) < len(letters) or not {"Y", "m", "d"} <= set(letters) <= set(_FIELDS):
        return None
    marks = re.split("%.", pattern)
    expression = "".join(
        re.escape(mark) + (rf"(\d{{{_WIDTHS[letter]}}})" if letter else "")
        for mark, letter in zip(marks, [*letters, ""], strict=True)
    )
    return tuple(_FIELDS[letter] for letter in letters), re.compile(expression, re.ASCII)


@cache
def _width(pattern: str) -> int:
    """Return how many digits a pattern of digits alone has; 0 for any other pattern.

    >>> _width("%Y%m%d"), _width("%d.%m.%Y")
    (8, 0)
    """
    directives = re.fullmatch(r"(?:%[YmdHMSyj])+", pattern)
    return sum(_WIDTHS[letter] for letter in pattern[1::2]) if directives else 0


def _in_century(moment: datetime, column: Datetime) -> datetime:
    """Return a moment of a two-digit year in the century that lies in the public range, if one does."""
    for years in (0, -100, 100):
        try:
            other = moment.replace(year=moment.year + years)
        except ValueError:  # 29 February
            continue
        if column.first <= column.lattice(other.replace(tzinfo=None)) <= column.last:
            return other
    return moment


def as_written(moment: date, column: Datetime) -> str:
    """Return a day or a moment without a time zone as the column's format writes it; ISO where it has none."""
    if column.format in COUNTS:
        return count_of(second_of(moment), column.format)
    # Python leaves the zeros of a year before 1000 out, and an offset that is not there.
    pattern = column.pattern.replace("%Y", f"{moment.year:04d}").replace("%z", "+0000").replace("%Z", "UTC")
    return moment.strftime(pattern)
