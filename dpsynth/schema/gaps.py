"""Columns that are declared to stand after, before, above or below another: what lies between is learned.

Admission and discharge are learned as the admission and the time between, so a stay has its length, the stays' lengths
go with what they go with, and no row breaks the order. What lies between is a whole number of steps, like every number
(`dpsynth.columns.grid`): days, or seconds where the column has a clock time; of numbers 10^-decimals.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.columns.kinds import Column, Datetime, Numeric, seconds_of
from dpsynth.columns.states import FIRST_STATE
from dpsynth.schema.constraints import Constraint, Order, Require

__all__ = ["Gap", "gaps_of", "with_bounds"]

Steps = npt.NDArray[np.int64]
_A_DAY = 86_400
_EVEN = 128
"""A gap of more values than this is cut finely where it is short: on a log scale, with 0 by itself."""


@dataclass(frozen=True)
class Gap:
    """A column and the one that it stands after, before, above or below.

    Attributes
    ----------
    name, column
        The column.
    base_name, base
        The other one.
    base_is_gap
        Whether the other one stands beside a third.
    """

    name: str
    column: Numeric | Datetime
    base_name: str
    base: Numeric | Datetime
    base_is_gap: bool = False

    @property
    def sign(self) -> int:
        """1 where the column stands after or above the other, -1 where before or below."""
        upward = self.column.after if isinstance(self.column, Datetime) else self.column.above
        return 1 if upward is not None else -1

    @property
    def order(self) -> Order:
        """The order that it keeps."""
        names = (self.base_name, self.name)
        return Order(order=names if self.sign > 0 else names[::-1])

    @property
    def decimals(self) -> int:
        """Digits after the point of what lies between."""
        return max(c.decimals if isinstance(c, Numeric) else 0 for c in (self.column, self.base))

    def _unit(self, column: Numeric | Datetime) -> int:
        return 10 ** (self.decimals - column.decimals) if isinstance(column, Numeric) else 1

    def _of_base(self, steps: Any) -> Any:
        """Return steps of the other column in the unit of what lies between."""
        if isinstance(self.base, Datetime) and isinstance(self.column, Datetime):
            if self.base.clock and not self.column.clock:
                return steps // _A_DAY
            return steps * _A_DAY if self.column.clock and not self.base.clock else steps
        return steps * self._unit(self.base)

    @cached_property
    def widest(self) -> int:
        """The greatest gap: `within`, else what the bounds of both leave."""
        column = self.column
        if isinstance(column, Datetime):
            if column.within is not None:
                seconds = seconds_of(column.within)
                return seconds if column.clock else -(-seconds // _A_DAY)
        elif column.within is not None:
            return int(np.ceil(column.within * 10**self.decimals - 1e-9))
        near = self._of_base(self.base.first if self.sign > 0 else self.base.last)
        far = (column.last if self.sign > 0 else column.first) * self._unit(column)
        return int(self.sign * (far - near))

    @property
    def _own(self) -> tuple[str, ...]:
        """Words for the column's own special values and states, in the order of its atoms."""
        return _words(self.column)

    @property
    def absent(self) -> tuple[Any, ...]:
        """The values with which the other column, as it is learned, is no number and no date; None for missing."""
        missing = (None,) if self.base.missing else ()
        if isinstance(self.base, Datetime):
            return missing
        if self.base_is_gap:
            return (*missing, *_words(self.base))
        return (*missing, *self.base.numbers, *(state.text for state in self.base.states))

    @property
    def apart(self) -> str:
        """The word for a value beside which the other column has none."""
        return f"without {self.base_name}"

    @cached_property
    def learned(self) -> Numeric:
        """The column of what lies between, as a model learns it."""
        column, widest = self.column, self.widest
        words = ((self.apart,) if self.absent else ()) + self._own
        logged = widest > _EVEN
        unit = column.unit if isinstance(column, Numeric) else ("seconds" if column.clock else "days")
        scale = 10**self.decimals
        return Numeric(
            description=f"Between {self.base_name} and {self.name}.",
            min=1 / scale if logged else 0,
            max=widest / scale,
            decimals=self.decimals,
            unit=unit,
            missing=column.missing,
            special=((0,) if logged else ()) + words,
            scale="log" if logged else "linear",
        )

    def _place(self, word: str) -> int:
        return FIRST_STATE + [state.text for state in self.learned.states].index(word)

    def between(self, base: tuple[Steps, Any], own: tuple[Steps, Any]) -> tuple[Steps, Any]:
        """Return (rows,) steps of what lies between, and where it is missing.

        Parameters
        ----------
        base, own
            Steps of the other column and of this one, and where each is missing.

        Notes
        -----
        Privacy contract: a row's result depends on this row alone.
        """
        steps = self.sign * (own[0] * self._unit(self.column) - self._of_base(base[0]))
        steps = np.clip(steps, 0, self.widest)
        absent = base[1] | self._special(self.base, base[0])
        if absent.any():
            steps = np.where(absent, self._place(self.apart) if self.absent else 0, steps)
        if isinstance(self.column, Numeric):
            for atom, word in zip(self.column.atoms, self._own, strict=True):
                steps = np.where(own[0] == atom, self._place(word), steps)
        return steps, own[1]

    @staticmethod
    def _special(column: Numeric | Datetime, steps: Steps) -> Any:
        atoms = column.atoms if isinstance(column, Numeric) else ()
        return np.isin(steps, np.array(atoms, dtype=np.int64))

    def values(self, base: tuple[Steps, Any], between: tuple[Steps, Any]) -> tuple[Steps, Any]:
        """Return (rows,) steps of the column, and where it is missing, from the other column and what lies between.

        A value without its other one is that of another drawn row which has both.
        """
        steps, missing = between
        is_state = steps >= FIRST_STATE
        absent = base[1] | self._special(self.base, base[0])
        whole = ~is_state & ~absent & ~missing
        own = self._of_base(base[0]) + self.sign * np.where(is_state, 0, steps)
        unit = self._unit(self.column)
        own = np.clip(-(-own // unit) if self.sign > 0 else own // unit, self.column.first, self.column.last)
        alone = steps == self._place(self.apart) if self.absent else np.zeros(len(steps), dtype=bool)
        apart = ~missing & (alone | (absent & ~is_state))
        if apart.any():
            donors = own[whole] if whole.any() else np.arange(self.column.first, self.column.last + 1)[:1_000_000]
            own = np.where(apart, donors[np.random.default_rng(len(own)).integers(len(donors), size=len(own))], own)
        if isinstance(self.column, Numeric):
            for atom, word in zip(self.column.atoms, self._own, strict=True):
                own = np.where(steps == self._place(word), atom, own)
        return own, missing

    def rules(self) -> list[Constraint]:
        """Return what holds of what lies between: it has a value only where the other column has one."""
        if not self.absent:
            return []
        base = self.absent if len(self.absent) > 1 else self.absent[0]
        own = (self.apart, *self._own, *((None,) if self.column.missing else ()))
        return [
            Require(when={self.base_name: base}, require={self.name: own if len(own) > 1 else own[0]}),
            Require(when={self.name: self.apart}, require={self.base_name: base}),
        ]


def _words(column: Numeric | Datetime) -> tuple[str, ...]:
    """Return words for a column's special values and states, in the order of its atoms."""
    if isinstance(column, Datetime):
        return ()
    return (*(f"is {number:g}" for number in column.numbers), *(f"is {state.text}" for state in column.states))


def gaps_of(columns: Mapping[str, Column]) -> list[Gap]:
    """Return the columns that stand beside others, each after the one that it stands beside.

    Raises
    ------
    ValueError
        If the other column is not there, of another kind, or stands beside this one; or the bounds leave no room.
    """
    from dpsynth.errors import nearest

    waiting = {n: c for n, c in columns.items() if isinstance(c, Numeric | Datetime) and c.beside is not None}
    for name, column in waiting.items():
        other = columns.get(str(column.beside))
        if other is None:
            raise ValueError(
                f"columns.{name}: there is no column {column.beside!r}{nearest(str(column.beside), columns)}"
            )
        if type(other) is not type(column):
            kind = "a date" if isinstance(column, Datetime) else "a number"
            raise ValueError(f"columns.{name}: {column.beside!r} is not {kind}, as {name!r} is; name another column")
    gaps: list[Gap] = []
    while waiting:
        ready = [name for name, column in waiting.items() if column.beside not in waiting]
        if not ready:
            raise ValueError(f"columns.{next(iter(waiting))}: would stand before itself; name another column")
        for name in ready:
            column = waiting.pop(name)
            other = columns[str(column.beside)]
            assert isinstance(other, Numeric | Datetime)  # noqa: S101  (checked above)
            gap = Gap(name, column, str(column.beside), other, str(column.beside) in {gap.name for gap in gaps})
            if gap.widest < 1:
                raise ValueError(f"columns.{name}: the bounds leave no room beside {gap.base_name!r}; widen them")
            gaps.append(gap)
    return gaps


def with_bounds(columns: Any) -> Any:
    """Return the columns of a schema file, with the bounds that follow from `within` where none are given."""
    if not isinstance(columns, Mapping):
        return columns
    filled = dict(columns)
    for _ in filled:
        before = dict(filled)
        for name, fields in before.items():
            filled[name] = _bounded(fields, filled)
        if filled == before:
            break
    return filled


def _bounded(fields: Any, columns: Mapping[str, Any]) -> Any:
    sides = {"after": 1, "above": 1, "before": -1, "below": -1}
    if not isinstance(fields, Mapping) or {"min", "max"} <= set(fields):
        return fields
    side = next((side for side in sides if fields.get(side) is not None), None)
    base = columns.get(fields[side]) if side is not None else None
    if side is None or not isinstance(base, Mapping) or not {"min", "max"} <= set(base):
        return fields
    try:
        low, high = _reach(base, fields.get("within"), sides[side])
    except (ValueError, TypeError, OverflowError):
        low, high = base["min"], base["max"]  # so that `within` alone is found at fault
    return {**fields, **({"min": low} if low is not None else {}), **({"max": high} if high is not None else {})} | {
        bound: fields[bound] for bound in ("min", "max") if bound in fields
    }


def _reach(base: Mapping[str, Any], within: Any, sign: int) -> tuple[Any, Any]:
    """Return the least and the greatest value beside a column; None where no `within` says."""
    from datetime import timedelta

    low, high = base["min"], base["max"]
    if isinstance(low, int | float):
        far = None if within is None else (high + within if sign > 0 else low - within)
        return (low, far) if sign > 0 else (far, high)
    whole = Datetime(min=low, max=high, format=base.get("format", ""))
    if within is None:
        return (low, None) if sign > 0 else (None, high)
    length = timedelta(seconds=seconds_of(within))
    if not whole.clock:
        length = timedelta(days=-(-seconds_of(within) // _A_DAY))
    return (low, whole.max + length) if sign > 0 else (whole.min - length, high)
