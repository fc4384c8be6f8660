"""What a condition on a column means: for a schema (is it possible?), for codes, and for the rows of a cohort."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from dpsynth.columns import Boolean, Categorical, Column, Datetime, Identifier, Numeric
from dpsynth.constraints import Condition, Constraint, Forbid, Order, Range, Require, describe
from dpsynth.grid import Grid, Lattice
from dpsynth.matching import Matcher
from dpsynth.states import FIRST_STATE, spelling_key

if TYPE_CHECKING:
    from dpsynth.cohort import Cohort

__all__ = ["Meaning", "Pair", "broken_rows", "check_constraints", "implication_rows", "resolve", "rows_where"]

Mask = npt.NDArray[np.bool_]
_OPEN = 2**62
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
    start, end = (-_OPEN if bounds[0] is None else bounds[0]), (_OPEN if bounds[1] is None else bounds[1])
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


def broken_rows(cohort: "Cohort", constraint: Constraint) -> Mask:
    """Return (rows,) where a cohort breaks a constraint; numbers are compared at their declared decimals."""
    if isinstance(constraint, Order):
        return _unordered_rows(cohort, constraint)
    left, right = constraint.parts()
    held = [{name: _row_mask(cohort, name, condition) for name, condition in side.items()} for side in (left, right)]
    return implication_rows(constraint, *(list(side.values()) for side in held))


def rows_where(cohort: "Cohort", conditions: Mapping[str, Any]) -> Mask:
    """Return (rows,) where all conditions, as a person or a file writes them, hold; exact, so internal.

    Raises
    ------
    ValueError
        If a column is not there, or a condition cannot hold for any of its values.
    """
    from dpsynth.schema import nearest

    for name in conditions:
        if name not in cohort.schema.modelled:
            raise ValueError(f"there is no column {name!r}{nearest(name, cohort.schema.columns)}")
    parsed = TypeAdapter(dict[str, Condition]).validate_python(dict(conditions))
    return reduce(np.logical_and, [_row_mask(cohort, name, condition) for name, condition in parsed.items()])


def implication_rows(constraint: Forbid | Require, left: Sequence[Mask], right: Sequence[Mask]) -> Mask:
    """Return where a forbidden combination occurs, or a required one does not, from the masks of both sides.

    The masks of a side are of one shape, or of shapes that spread over each other.
    """
    then = reduce(np.logical_and, right)
    held: Mask = reduce(np.logical_and, left) & (then if isinstance(constraint, Forbid) else ~then)
    return held


def _row_mask(cohort: "Cohort", name: str, condition: Condition) -> Mask:
    from dpsynth.values import positions

    column, array = cohort.schema.columns[name], cohort.table[name]
    if isinstance(column, Numeric | Datetime):
        values, missing, comparable = _clipped(column, array)
        meaning = resolve(name, column, condition)
    elif isinstance(column, Categorical | Boolean):
        indices, categories = positions(array)
        values, missing, comparable = indices.astype(np.int64), indices < 0, np.ones(len(indices), dtype=bool)
        meaning = resolve(name, column, condition, matcher=Matcher(column, categories=categories))
    else:
        raise TypeError(name)
    return np.where(missing, meaning.missing, meaning.holds(values, comparable))


def _clipped(column: Numeric | Datetime, array: Any) -> tuple[Lattice, Mask, Mask]:
    """Return (rows,) steps as they are encoded, where they are missing, and where they have a magnitude."""
    from dpsynth.values import steps

    values, missing = steps(column, array)
    atoms = column.atoms if isinstance(column, Numeric) else ()
    inside = np.clip(values, column.first, column.last)
    named = np.isin(values, np.array(atoms, dtype=np.int64)) & (inside != values)
    return np.where(named, values, inside), missing, ~named


def _unordered_rows(cohort: "Cohort", constraint: Order) -> Mask:
    broken = np.zeros(cohort.table.num_rows, dtype=bool)
    seen: list[tuple[Numeric | Datetime, Lattice, Mask]] = []
    for name in constraint.order:
        column = cohort.schema.columns[name]
        if not isinstance(column, Numeric | Datetime):
            raise TypeError(name)
        values, missing, comparable = _clipped(column, cohort.table[name])
        absent = missing | ~comparable
        for before, least, without in seen:
            pair = Pair(before, column, strict=constraint.strict)
            broken |= (pair.least_after(least) > values) & ~absent & ~without
        seen.append((column, values, absent))
    return broken


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
        one, two = self._units
        return -(-(steps * one + self.strict) // two)

    def most_before(self, steps: Any) -> Any:
        """Return the greatest step of the first column that may stand before steps of the second."""
        days, clock = self._of_days
        if days:
            day = (steps if clock else steps // _A_DAY) - self.strict
            return day * _A_DAY + _A_DAY - 1 if clock else day
        one, two = self._units
        return (steps * two - self.strict) // one

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


def check_constraints(columns: Mapping[str, Column], constraints: Sequence[Constraint]) -> None:
    """Refuse constraints that name what is not there, or that contradict each other.

    Raises
    ------
    ValueError
        With the place and the reason.
    """
    from dpsynth.contradictions import check_contradictions
    from dpsynth.schema import nearest

    for index, constraint in enumerate(constraints):
        for name in constraint.columns:
            if name not in columns:
                raise ValueError(f"constraints.{index}: there is no column {name!r}{nearest(name, columns)}")
        if isinstance(constraint, Order):
            _check_order(index, columns, constraint)
            continue
        for side in constraint.parts():
            for name, condition in side.items():
                try:
                    resolve(name, columns[name], condition)
                except ValueError as fault:
                    raise ValueError(f"constraints.{index}: {fault}") from None
    _check_cycles([constraint for constraint in constraints if isinstance(constraint, Order)])
    check_contradictions(columns, [constraint for constraint in constraints if not isinstance(constraint, Order)])


def _check_order(index: int, columns: Mapping[str, Column], constraint: Order) -> None:
    kinds = {type(columns[name]) for name in constraint.order}
    if len(kinds) > 1 or not kinds <= {Numeric, Datetime}:
        raise ValueError(f"constraints.{index}: order is between numeric columns, or between datetime columns")
    reached: list[tuple[Numeric | Datetime, int]] = []
    for name in constraint.order:
        column = columns[name]
        assert isinstance(column, Numeric | Datetime)  # noqa: S101  (checked above; narrows the type)
        pairs = [(Pair(before, column, strict=constraint.strict), least) for before, least in reached]
        if any(pair.widest > _OPEN // 2 for pair, _ in pairs):
            raise ValueError(f"constraints.{index}: {name!r} has too many decimals to be compared with the others")
        reached.append((column, max([column.first, *(pair.least_after(least) for pair, least in pairs)])))
        if reached[-1][1] > column.last:
            raise ValueError(f"constraints.{index}: {describe(constraint)} cannot hold within the columns' bounds")


def _check_cycles(orders: Sequence[Order]) -> None:
    after: dict[str, set[str]] = {}
    for constraint in orders:
        for before, name in zip(constraint.order, constraint.order[1:], strict=False):
            after.setdefault(before, set()).add(name)
    for start in after:
        reached, waiting = set[str](), [start]
        while waiting:
            new = after.get(waiting.pop(), set()) - reached
            if start in new:
                raise ValueError(f"constraints: the orders contradict each other: {start!r} would stand before itself")
            reached |= new
            waiting.extend(new)
