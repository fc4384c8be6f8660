"""Conditions on columns: what they mean for a schema, for codes, and for the rows of a cohort."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from dpsynth.columns.grid import Grid, Lattice
from dpsynth.columns.kinds import Boolean, Categorical, Category, Column, Datetime, Identifier, Number, Numeric
from dpsynth.columns.matching import Matcher
from dpsynth.columns.states import FIRST_STATE, spelling_key


class Range(BaseModel):
    """Values from min to max, both included; a bound that is left out is open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: Number | str | None = None
    max: Number | str | None = None

    @model_validator(mode="after")
    def _check(self) -> "Range":
        if self.min is None and self.max is None:
            raise ValueError("a range needs min, max or both")
        return self


def _plain(value: Any) -> Any:
    """Let a Python date stand where YAML has its text."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _plain(bound) for key, bound in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _form(value: Any) -> str:
    if isinstance(value, Range | Mapping):
        return "range"
    return "list" if isinstance(value, list | tuple) else "value"


Condition = Annotated[
    Annotated[Range, Tag("range")]
    | Annotated[tuple[Category | None, ...], Tag("list"), Field(min_length=1)]
    | Annotated[Category | None, Tag("value")],
    Discriminator(_form),
    BeforeValidator(_plain),
]
"""A value, a list of values, a range, or None for a missing value."""


__all__ = ["Meaning", "Pair", "resolve"]

Mask = npt.NDArray[np.bool_]
OPEN_END = 2**62
_A_DAY = 86_400


@dataclass(frozen=True)
class Meaning:
    """A condition in terms of a column's steps or category positions.

    Attributes
    ----------
    ranges
        Inclusive intervals of steps (numeric, datetime) or of positions (ordered categories).
    points
        Steps or positions that hold each by itself; special values outside the public range hold only here.
    missing
        Whether a missing value holds.
    """

    ranges: tuple[tuple[int, int], ...] = ()
    points: tuple[int, ...] = ()
    missing: bool = False

    def holds(self, steps: Lattice, comparable: Mask) -> Mask:
        """Return where single steps (or positions) hold; `comparable` says which have a magnitude."""
        held: Mask = np.isin(steps, np.array(self.points, dtype=np.int64))
        for low, high in self.ranges:
            held |= comparable & (steps >= low) & (steps <= high)
        return held

    def covers(self, grid: Grid, *, partly: bool = False) -> Mask:
        """Return (ordered + specials,) which of a grid's codes lie wholly (or at least partly) in the condition."""
        held: Mask = np.isin(grid.lower, np.array(self.points, dtype=np.int64)) & (grid.lower == grid.upper)
        intervals = [*self.ranges, *((point, point) for point in self.points)]
        for low, high in intervals:
            inside = (grid.upper >= low) & (grid.lower <= high)
            if not partly:
                inside = (grid.lower >= low) & (grid.upper <= high)
            held |= grid.comparable & inside
        return held


def resolve(
    name: str,
    column: Column,
    condition: Condition,
    *,
    matcher: Matcher | None = None,
) -> Meaning:
    """Return what a condition means for a column.

    Parameters
    ----------
    name
        The column's name, for messages.
    column
        The declared column.
    condition
        A value, a list of values, a `Range`, or None for missing.
    matcher
        Where the column's categories were discovered: how to find them.

    Raises
    ------
    ValueError
        If the condition cannot hold for any value that the column may take.
    """
    if isinstance(column, Identifier):
        raise ValueError(f"{name!r} is an identifier and takes part in no condition")  # noqa: TRY004  (pydantic's)
    if isinstance(condition, Range):
        interval = _interval(name, column, condition)
        return Meaning(ranges=(interval,), points=_states_within(column, *interval))
    values = condition if isinstance(condition, tuple) else (condition,)
    if None in values and not column.missing:
        raise ValueError(f"{name!r} is never missing; declare missing: true, or leave the condition out")
    present = [value for value in values if value is not None]
    if isinstance(column, Categorical | Boolean):
        places = tuple(_position(name, column, value, matcher) for value in present)
        return Meaning(points=places, missing=None in values)
    spans = [_span(name, column, value) for value in present]
    return Meaning(
        ranges=tuple((low, high) for low, high in spans if low < high),
        points=tuple(low for low, high in spans if low == high),
        missing=None in values,
    )


def _states_within(column: Column, start: int, end: int) -> tuple[int, ...]:
    """Return the steps of a number's states of which every value that they stand for lies in an interval."""
    states = column.states if isinstance(column, Numeric) else ()
    return tuple(FIRST_STATE + place for place, state in enumerate(states) if state.is_within(start, end))


def _state(column: Numeric | Datetime, value: Any) -> int | None:
    """Return the step of the state that a condition names; None where it names none."""
    if not isinstance(column, Numeric) or not isinstance(value, str):
        return None
    keys = [spelling_key(state.text) for state in column.states]
    return FIRST_STATE + keys.index(spelling_key(value)) if spelling_key(value) in keys else None


def _position(name: str, column: Categorical | Boolean, value: Any, matcher: Matcher | None = None) -> int:
    position = (matcher or Matcher(column)).position(value)
    if position < 0 and not column.is_discovered:
        raise ValueError(f"{name!r} has no such category; name one of its values as they are declared")
    return position  # of a value that was not discovered: UNKNOWN, which no row has


def _span(name: str, column: Numeric | Datetime, value: Any) -> tuple[int, int]:
    """Return the first and last step of a value: the same, but for a whole day in a column with a clock time."""
    state = _state(column, value)
    if state is not None:
        return state, state
    low, high = _bound(name, column, value, up=True), _bound(name, column, value, up=False)
    special = isinstance(column, Numeric) and low in column.atoms
    if low > high or not (special or (low <= column.last and high >= column.first)):
        raise ValueError(f"{name!r} never takes this value: it lies outside min and max, or has too many decimals")
    return low, high


def _interval(name: str, column: Numeric | Categorical | Boolean | Datetime, condition: Range) -> tuple[int, int]:
    if isinstance(column, Boolean) or (isinstance(column, Categorical) and not column.ordered):
        raise ValueError(f"{name!r} has no order, so min and max mean nothing for it; list the values")
    if isinstance(column, Categorical):
        low, high = 0, len(column.values) - 1
        bounds = [None if bound is None else _position(name, column, bound) for bound in _ends(condition)]
    else:
        low, high = column.first, column.last
        bounds = [
            None if bound is None else _bound(name, column, bound, up=up)
            for bound, up in zip(_ends(condition), (True, False), strict=True)
        ]
    start, end = (-OPEN_END if bounds[0] is None else bounds[0]), (OPEN_END if bounds[1] is None else bounds[1])
    if start > end or ((start > high or end < low) and not _states_within(column, start, end)):
        raise ValueError(f"{name!r}: no value that it may take lies in this range")
    return start, end


def _ends(condition: Range) -> tuple[Any, Any]:
    return condition.min, condition.max


def _bound(name: str, column: Numeric | Datetime, value: Any, *, up: bool) -> int:
    try:
        if isinstance(column, Numeric):
            number = float("nan" if isinstance(value, bool) else value)
            return column.ceil(number) if up else column.floor(number)
        return column.lattice(_moment(value, end=column.clock and not up))
    except (ValueError, TypeError, OverflowError, ArithmeticError):
        expected = "a number" if isinstance(column, Numeric) else "an ISO date such as 1989-01-31"
        raise ValueError(f"{name!r}: expected {expected} in the condition") from None


def _moment(value: Any, *, end: bool) -> date:
    """Read an ISO date; as the upper end of a range with a clock time it means the end of that day."""
    if isinstance(value, str) and len(value) > len("1989-01-01"):
        return datetime.fromisoformat(value)
    day = value if isinstance(value, date) else date.fromisoformat(value)
    return datetime.combine(day, datetime.max.time()) if end and not isinstance(day, datetime) else day


@dataclass(frozen=True)
class Pair:
    """Two columns of which the first must not exceed the second: steps of one compared with steps of the other.

    Numbers are compared at the decimals of the finer one. Moments are compared to the second, but a day and a moment
    by their days: a patient who is admitted at 16:36 may be discharged on that day.

    Parameters
    ----------
    first
        The column that comes first: a numeric one, or a datetime.
    second
        The column that comes after it, of the same type.
    strict
        Whether equal values are impossible, too.
    """

    first: Numeric | Datetime
    second: Numeric | Datetime
    strict: bool = False

    def least_after(self, steps: Any) -> Any:
        """Return the least step of the second column that may stand after steps of the first."""
        days, clock = self._of_days
        if days:
            day = (steps // _A_DAY if clock else steps) + self.strict
            return day if clock else day * _A_DAY
        first_unit, second_unit = self._units
        return -(-(steps * first_unit + self.strict) // second_unit)

    def most_before(self, steps: Any) -> Any:
        """Return the greatest step of the first column that may stand before steps of the second."""
        days, clock = self._of_days
        if days:
            day = (steps if clock else steps // _A_DAY) - self.strict
            return day * _A_DAY + _A_DAY - 1 if clock else day
        first_unit, second_unit = self._units
        return (steps * second_unit - self.strict) // first_unit

    @property
    def widest(self) -> int:
        """The farthest bound of the two in the unit that they are compared in, which has to fit in 64 bits."""
        columns = (self.first, self.second)
        ends = [max(abs(column.first), abs(column.last)) for column in columns]
        return max(end * unit for end, unit in zip(ends, self._units, strict=True))

    @property
    def _of_days(self) -> tuple[bool, bool]:
        """Whether the two are compared by their days, and whether the first is the one with a clock time."""
        clocks = [isinstance(column, Datetime) and column.clock for column in (self.first, self.second)]
        return clocks[0] != clocks[1], clocks[0]

    @property
    def _units(self) -> tuple[int, int]:
        """How many of a common small unit one step of each number is."""
        decimals = [column.decimals if isinstance(column, Numeric) else 0 for column in (self.first, self.second)]
        return 10 ** (max(decimals) - decimals[0]), 10 ** (max(decimals) - decimals[1])
