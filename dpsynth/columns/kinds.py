"""Column types of a schema: what is public about the values of each."""

import math
import re
from collections.abc import Sequence
from datetime import date, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_serializer,
    field_validator,
    model_validator,
)

from dpsynth.columns.states import FIRST_STATE, State, as_texts, check_states, limit_of

__all__ = [
    "COUNTS",
    "Boolean",
    "Categorical",
    "Category",
    "Censored",
    "Column",
    "Datetime",
    "Identifier",
    "Number",
    "Numeric",
    "seconds_of",
]

Category = StrictStr | StrictBool | StrictInt | StrictFloat
"""A category as YAML types it: text, true or false, an integer or a decimal."""

LARGEST_LATTICE = 2**50
"""Numbers are handled as integers in units of 10^-decimals; up to 2^50 a double holds them with a rounding
error of at most 2^50 * 2^-52 = 1/4 unit, so rounding gives the same integer back."""

_LARGEST_INTEGER = 2**63 - 1
_EPOCH = date(1970, 1, 1).toordinal()
_CLOCK = re.compile(r"%[HIMSfpcXT]")
_UNITS = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": 86_400,
    "week": 604_800,
    "month": 2_678_400,
    "year": 31_622_400,
}
_LENGTH = re.compile(rf"(\d{{1,9}}(?:\.\d{{1,6}})?) ?({'|'.join(_UNITS)})s?", re.IGNORECASE)
COUNTS = ("excel", "unix", "unix_ms", "unix_us", "unix_ns")
"""Formats of numbers that are dates: days as spreadsheets count them, and seconds or parts of them since 1970, UTC."""


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number, found true or false")  # noqa: TRY004  (pydantic collects ValueError)
    return value


Number = Annotated[float, BeforeValidator(_no_boolean), Field(allow_inf_nan=False)]
"""A finite number; true and false are not numbers."""


class _Kind(BaseModel):
    """Base class of all column types."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = Field(default="", description="What the column means, in words.")

    @property
    def is_discovered(self) -> bool:
        """Whether the values are found under differential privacy, out of the budget; only categories can be."""
        return False


class _Valued(_Kind):
    missing: bool = Field(default=False, description="Whether a value may be missing; missing is a state of its own.")


class Censored(BaseModel):
    """Results that a test gives as a limit, as they are written: `below: "<5"`, `above: [">300", ">1000"]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    below: Annotated[tuple[StrictStr, ...], BeforeValidator(as_texts)] = Field(
        default=(), description="How a result below the test's limit is written; several limits as a list."
    )
    above: Annotated[tuple[StrictStr, ...], BeforeValidator(as_texts)] = Field(
        default=(), description="How a result above the test's limit is written; several limits as a list."
    )

    @model_validator(mode="after")
    def _check(self) -> "Censored":
        for side, texts, is_below in (("below", self.below, True), ("above", self.above, False)):
            limits = [limit for limit in map(limit_of, texts) if limit is not None]
            if any(limit.is_below != is_below for limit in limits):
                raise ValueError(f"{side}: a limit has the sign of the other side; write it under the other one")
        return self

    @field_serializer("below", "above")
    def _one_or_list(self, texts: tuple[str, ...]) -> str | list[str]:
        return texts[0] if len(texts) == 1 else list(texts)


class Numeric(_Valued):
    """Numbers between public bounds; what lies outside is clipped to them."""

    type: Literal["numeric"] = "numeric"
    min: Number = Field(description="Least value, from public knowledge.")
    max: Number = Field(description="Greatest value, from public knowledge.")
    decimals: int = Field(default=0, ge=0, le=12, description="Digits after the point that generated values have.")
    unit: str = Field(default="", description="Unit of measurement.")
    special: tuple[Number | StrictStr, ...] = Field(
        default=(),
        description="Values that are states of their own, such as 0, 999 or not done; they may lie outside the bounds.",
    )
    censored: Censored | None = Field(
        default=None, description="Results below or above a limit of the test, such as <5 and >300; each a state."
    )
    scale: Literal["linear", "log"] = Field(default="linear", description="How the range is cut into cells.")
    cuts: tuple[Number, ...] = Field(default=(), description="Clinical thresholds; each is the edge of a cell.")
    above: str | None = Field(
        default=None, min_length=1, description="A column that this one is never below; what lies between is learned."
    )
    below: str | None = Field(
        default=None, min_length=1, description="A column that this one is never above; what lies between is learned."
    )
    within: Number | None = Field(default=None, description="How far it is from that column at most.", gt=0)

    @model_validator(mode="after")
    def _check(self) -> "Numeric":
        if self.min > self.max:
            raise ValueError("min is greater than max")
        _check_beside(("above", self.above), ("below", self.below), within=self.within is not None)
        if self.scale == "log" and self.min <= 0:
            raise ValueError("scale: log needs a min above 0; raise min, or declare 0 as special")
        if max(abs(self.min), abs(self.max), *map(abs, self.numbers)) * 10**self.decimals > LARGEST_LATTICE:
            raise ValueError("the bounds are too wide for so many decimals; give fewer decimals or another unit")
        self._check_special()
        if any(not self.min < cut <= self.max for cut in self.cuts):
            raise ValueError("each of cuts must be above min and at most max")
        return self

    def _check_special(self) -> None:
        inside = {self.ceil(value) for value in self.numbers}
        if len(inside) < len(self.numbers) or any(self.ceil(value) != self.floor(value) for value in self.numbers):
            raise ValueError("special values must differ and have no more digits than decimals says")
        ordinary = self.last - self.first + 1 - sum(self.first <= value <= self.last for value in inside)
        if ordinary < 1:
            raise ValueError("no number with these decimals lies between min and max (special values aside)")
        check_states(self.states)

    @property
    def beside(self) -> str | None:
        """The column that it is declared to be above or below."""
        return self.above or self.below

    @property
    def numbers(self) -> tuple[float, ...]:
        """The special values that are numbers."""
        return tuple(value for value in self.special if not isinstance(value, str))

    @property
    def states(self) -> tuple[State, ...]:
        """The states that are written as text: limits, then words, as declared."""
        censored = self.censored or Censored()
        words = tuple(value for value in self.special if isinstance(value, str))
        below = [self._state(text, is_below=True) for text in censored.below]
        above = [self._state(text, is_below=False) for text in censored.above]
        return (*below, *above, *map(self._state, words))

    def _state(self, text: str, *, is_below: bool | None = None) -> State:
        """Return a state with the steps that it stands for; a limit without a number is the column's own bound.

        Below a limit that lies above `min`, values reach down to `min`; below any other one they are unbounded.
        """
        limit = limit_of(text)
        if limit is None and is_below is None:
            return State(text)
        if limit is None:
            ends = (-FIRST_STATE, self.first - 1) if is_below else (self.last + 1, FIRST_STATE)
            return State(text, *ends, is_below=is_below)
        number = str(limit.number)
        if limit.is_below:
            high = self.ceil(number) - 1 if limit.is_strict else self.floor(number)
            return State(text, self.first if high >= self.first else -FIRST_STATE, high, is_below=True)
        low = self.floor(number) + 1 if limit.is_strict else self.ceil(number)
        return State(text, low, self.last if low <= self.last else FIRST_STATE, is_below=False)

    @property
    def atoms(self) -> tuple[int, ...]:
        """The steps of the special numbers, then those of the states (from `FIRST_STATE` on)."""
        return (*map(self.floor, self.numbers), *(FIRST_STATE + place for place in range(len(self.states))))

    def floor(self, value: float | str) -> int:
        """Return the greatest multiple of 10^-decimals that is at most `value`, as an integer multiple."""
        return int((_exact(value) * 10**self.decimals).to_integral_value(ROUND_FLOOR))

    def ceil(self, value: float | str) -> int:
        """Return the least multiple of 10^-decimals that is at least `value`, as an integer multiple."""
        return int((_exact(value) * 10**self.decimals).to_integral_value(ROUND_CEILING))

    @property
    def first(self) -> int:
        """The least value, in units of 10^-decimals."""
        return self.ceil(self.min)

    @property
    def last(self) -> int:
        """The greatest value, in units of 10^-decimals."""
        return self.floor(self.max)


class Categorical(_Valued):
    """Values from a closed public list, or from a list that is discovered under differential privacy."""

    type: Literal["categorical"] = "categorical"
    values: tuple[Category, ...] = Field(default=(), description="The closed list of values.")
    discover: bool = Field(default=False, description="Find the values under differential privacy, out of the budget.")
    max_values: int | None = Field(default=None, ge=1, le=1_000_000, description="Most values that may be discovered.")
    other: Category = Field(
        default="error", description="What becomes of a value outside the list: error, missing, or one of the values."
    )
    ordered: bool = Field(default=False, description="Whether the values stand in a meaningful order.")

    @model_validator(mode="after")
    def _check(self) -> "Categorical":
        if self.discover:
            self._check_discovered()
        elif not self.values:
            raise ValueError("give the list of values, or discover: true with max_values")
        elif self.max_values is not None:
            raise ValueError("max_values belongs to discover: true; a closed list has its own length")
        if self.other == "missing" and not self.missing:
            raise ValueError("other: missing needs missing: true")
        if not self.discover and self.other not in ("error", "missing") and self.other not in self.values:
            raise ValueError("other must be error, missing, or one of values")
        _check_categories(self.values)
        return self

    @property
    def is_discovered(self) -> bool:
        """Whether the values are found under differential privacy, in place of a closed list."""
        return self.discover

    def _check_discovered(self) -> None:
        if self.values:
            raise ValueError("a column has either a list of values or discover: true, not both")
        if self.max_values is None:
            raise ValueError("discover: true needs max_values, a public limit on how many values are kept")
        if self.ordered:
            raise ValueError("discovered values have no order; leave ordered out")

    @property
    def categories(self) -> tuple[Category, ...]:
        """The closed list of values; empty where they are discovered."""
        return self.values


class Boolean(_Valued):
    """Two values: the one that means false and the one that means true, as they stand in the data."""

    type: Literal["boolean"] = "boolean"
    labels: tuple[Category, Category] = Field(
        default=(False, True), description="How false and true are written, in this order; such as [0, 1]."
    )

    @field_validator("labels")
    @classmethod
    def _check(cls, labels: tuple[Category, Category]) -> tuple[Category, Category]:
        _check_categories(labels)
        return labels

    @property
    def categories(self) -> tuple[Category, ...]:
        """The two labels: false, true."""
        return self.labels

    @property
    def other(self) -> Category:
        """A value that is neither label is an error."""
        return "error"

    @property
    def ordered(self) -> bool:
        """Two values have no order to speak of."""
        return False


def _as_moment(value: Any) -> Any:
    """Read ISO text as a date, or as a datetime where it has a clock time."""
    if isinstance(value, date):
        return value
    if not isinstance(value, str):
        raise ValueError("expected an ISO date such as 1989-01-31")  # noqa: TRY004  (pydantic collects ValueError)
    try:
        return date.fromisoformat(value) if len(value) == len("1989-01-01") else datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("expected an ISO date such as 1989-01-31, or 1989-01-31T23:59:00") from None


Moment = Annotated[datetime | date, BeforeValidator(_as_moment)]


class Datetime(_Valued):
    """Dates, or dates with a clock time to the second, between public bounds; what lies outside is clipped."""

    type: Literal["datetime"] = "datetime"
    min: Moment = Field(description="First date or moment, ISO.")
    max: Moment = Field(description="Last date or moment, ISO.")
    format: str = Field(
        default="",
        description=(
            "How it is written: strftime, such as %d.%m.%Y, or %Y%m%d for numbers like 20080131; excel for days as "
            "spreadsheets count them; unix, unix_ms, unix_us or unix_ns for seconds or parts of them since 1970. "
            "ISO where left out. Offsets (Z, +02:00) are converted to UTC."
        ),
    )
    after: str | None = Field(
        default=None, min_length=1, description="A date that this one never precedes; the time between is learned."
    )
    before: str | None = Field(
        default=None, min_length=1, description="A date that this one never follows; the time between is learned."
    )
    within: StrictStr | None = Field(
        default=None, description="How much time lies between at most: 60 days, 36 hours, 5 years."
    )

    @model_validator(mode="after")
    def _check(self) -> "Datetime":
        _check_beside(("after", self.after), ("before", self.before), within=self.within is not None)
        if self.within is not None:
            seconds_of(self.within)
        if any(isinstance(value, datetime) and value.tzinfo is not None for value in (self.min, self.max)):
            raise ValueError("min and max must have no time zone")
        if self.first > self.last:
            raise ValueError("min is after max")
        if self.format and "%" not in self.format and self.format not in COUNTS:
            raise ValueError(f"format must be a strftime pattern such as %d.%m.%Y, or one of {', '.join(COUNTS)}")
        return self

    @field_serializer("min", "max")
    def _iso(self, value: date) -> str:
        return value.isoformat()

    @property
    def beside(self) -> str | None:
        """The column that it is declared to be after or before."""
        return self.after or self.before

    @property
    def clock(self) -> bool:
        """Whether values carry a time of day; they are then kept to the second, otherwise to the day."""
        if "%" in self.format:
            return _CLOCK.search(self.format) is not None
        return isinstance(self.min, datetime) or isinstance(self.max, datetime)

    @property
    def pattern(self) -> str:
        """The strftime pattern of the values; ISO where they are numbers."""
        if "%" in self.format:
            return self.format
        return "%Y-%m-%dT%H:%M:%S" if self.clock else "%Y-%m-%d"

    def lattice(self, value: date) -> int:
        """Return days (or seconds, where there is a clock time) since 1970-01-01."""
        days = value.toordinal() - _EPOCH
        if not self.clock:
            return days
        time = value.time() if isinstance(value, datetime) else datetime.min.time()
        return days * 86_400 + time.hour * 3_600 + time.minute * 60 + time.second

    @property
    def first(self) -> int:
        """The first moment, in days or seconds since 1970-01-01."""
        return self.lattice(self.min)

    @property
    def last(self) -> int:
        """The last moment, in days or seconds since 1970-01-01."""
        return self.lattice(self.max)


def seconds_of(text: str) -> int:
    """Return a length of time in seconds, rounded up; a month has 31 days and a year 366, as it is a bound.

    Raises
    ------
    ValueError
        If the text is no length of time above 0.

    Examples
    --------
    >>> seconds_of("60 days") // 86_400
    60
    """
    match = _LENGTH.fullmatch(text.strip())
    if match is None or not Decimal(match[1]):
        raise ValueError("within is a number above 0 and a unit, such as 60 days, 36 hours or 5 years")
    seconds = (Decimal(match[1]) * _UNITS[match[2].lower()]).to_integral_value(ROUND_CEILING)
    if seconds > LARGEST_LATTICE // 8:
        raise ValueError("within is too long; give a shorter time")
    return int(seconds)


def _check_beside(first: tuple[str, str | None], second: tuple[str, str | None], *, within: bool) -> None:
    if first[1] is not None and second[1] is not None:
        raise ValueError(f"a column has either {first[0]} or {second[0]}, not both")
    if within and first[1] is None and second[1] is None:
        raise ValueError(f"within belongs to {first[0]} or {second[0]}; name the column")


class Identifier(_Kind):
    """A column that names a person, an encounter or a file: never modelled and never released."""

    type: Literal["identifier"] = "identifier"


Column = Annotated[Numeric | Categorical | Boolean | Datetime | Identifier, Field(discriminator="type")]


def _exact(value: float | str) -> Decimal:
    """Return the decimal number that a person sees: 0.1 is one tenth."""
    return Decimal(str(value))


def _check_categories(values: Sequence[Category]) -> None:
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise ValueError("a category cannot be infinite or not a number")
    if any(isinstance(value, int) and abs(value) > _LARGEST_INTEGER for value in values):
        raise ValueError("a category has too many digits for an integer; write it as text, in quotes")
    texts = [str(value).strip().casefold() if isinstance(value, bool) else str(value).strip() for value in values]
    if "" in texts:
        raise ValueError("a category cannot be empty text; declare missing: true instead")
    if len(set(texts)) < len(texts) or len(set(values)) < len(values):
        raise ValueError("two of the values cannot be told apart when they are written as text")
