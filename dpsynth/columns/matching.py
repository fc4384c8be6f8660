"""Which category a written value means: the one place where text, numbers and booleans meet a closed list."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np

from dpsynth.columns.kinds import Boolean, Categorical, Category
from dpsynth.columns.numerals import shortest

__all__ = ["MISSING", "UNKNOWN", "Matcher", "canonical_text", "is_absent", "number_of"]

MISSING = -1
UNKNOWN = -2

_WIDEST = 2**64
"""Whole numbers below it may be integers in another file or frame, and then read as these do."""
_WORDS = ({"false", "f", "no", "n", "0"}, {"true", "t", "yes", "y", "1"})


def canonical_text(value: Any) -> str:
    """Return the text that a value stands for, whatever the type of its column: 4.0 is "4", a midnight is its day.

    >>> canonical_text(4.0), canonical_text(True), canonical_text("no")
    ('4', 'true', 'no')
    """
    value = _of_python(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _WIDEST else str(shortest(value))
    if isinstance(value, datetime):
        return _moment_text(value)
    return _decimal_text(value) if isinstance(value, Decimal) else str(value)


def _of_python(value: Any) -> Any:
    """Return a NumPy value as Python's; a number of few bits as the double nearest to the text that NumPy shows."""
    if isinstance(value, np.float16 | np.float32 | np.longdouble):
        return float(str(value))
    if isinstance(value, np.datetime64):
        return value.astype("datetime64[us]").item() if np.datetime_data(value.dtype)[0] not in "YM" else str(value)
    return value.item() if isinstance(value, np.bool_ | np.number) else value


def is_absent(value: Any) -> bool:
    """Return whether a single value is None, NaN (of a decimal, too) or not a time."""
    if isinstance(value, Decimal):
        return value.is_nan()
    return value is None or bool(value != value)  # noqa: PLR0124  (only NaN differs from itself)


def _moment_text(value: datetime) -> str:
    """Return a moment in UTC where it has a time zone, which its column may have given it; a midnight as its day."""
    moment = value if value.tzinfo is None else value.astimezone(UTC)
    return str(moment.date()) if moment.tzinfo is None and moment.time() == time.min else str(moment)


def _decimal_text(value: Decimal) -> str:
    """Return a decimal number without the zeros at its end, which tell how many digits its column has."""
    whole, dot, digits = format(value, "f").partition(".")
    digits = digits.rstrip("0")
    text = whole + dot + digits if digits else whole
    return "0" if text == "-0" else text


class Matcher:
    """Finds the position of a written value in a column's public list.

    A value is looked up as it is written, then without the blanks around it, then as a number (the data's ``4.0`` is
    the schema's 4), and for a boolean column as one of the usual words (true, t, yes, y, 1) where the labels are
    true and false or 1 and 0.

    Parameters
    ----------
    column
        The declared column.
    missing_values
        How a missing value is written, besides empty text. A declared category goes before: "NA" may be one.
    categories
        The list to look in, where it is not the column's own (discovered values).
    """

    def __init__(
        self,
        column: Categorical | Boolean,
        missing_values: Iterable[str] = (),
        categories: Sequence[Category] | None = None,
    ) -> None:
        self.categories = tuple(column.categories if categories is None else categories)
        self._texts = {canonical_text(value): index for index, value in enumerate(self.categories)}
        self._numbers = {
            float(value): index
            for index, value in enumerate(self.categories)
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        self._is_boolean = isinstance(column, Boolean)
        self._words = _words(self.categories, is_boolean=self._is_boolean)
        self._missing = frozenset(missing_values) | {""}

    def position(self, value: Any) -> int:
        """Return the position in the list, or MISSING, or UNKNOWN."""
        if is_absent(value):
            return MISSING
        text = canonical_text(value)
        if text in self._texts:
            return self._texts[text]
        if isinstance(value, bool) and self._is_boolean:
            return int(value)
        return self._loosely(text.strip())

    def _loosely(self, text: str) -> int:
        """Return the position of text whose exact spelling is not in the list."""
        for table, key in ((self._texts, text), (self._words, text.casefold())):
            if key in table:
                return table[key]
        if text in self._missing:
            return MISSING
        number = number_of(text) if self._numbers or self._words else None
        if number is None:
            return UNKNOWN
        return self._numbers.get(number, self._words.get(canonical_text(number), UNKNOWN))


def _words(categories: Sequence[Category], *, is_boolean: bool) -> dict[str, int]:
    """Return what else a boolean's labels may be written as, in small letters."""
    if not is_boolean and not any(isinstance(value, bool) for value in categories):
        return {}
    words = {canonical_text(value).casefold(): index for index, value in enumerate(categories)}
    if is_boolean and [canonical_text(value) for value in categories] in (["false", "true"], ["0", "1"]):
        words.update({word: truth for truth in (0, 1) for word in _WORDS[truth]})
    return words


def number_of(text: str) -> float | None:
    """Return the number that text spells, or None where it spells none; 1_000 and digits of other scripts do not.

    >>> number_of("4.0"), number_of("1_000"), number_of("\uff14")
    (4.0, None, None)
    """
    if "_" in text or not text.isascii():
        return None
    try:
        return float(text)
    except ValueError:
        return None
