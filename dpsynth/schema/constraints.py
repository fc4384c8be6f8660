"""Constraints of a schema: combinations that it forbids or requires, and orders of columns."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from dpsynth.columns.conditions import Condition, Mask, Range
from dpsynth.columns.matching import canonical_text

__all__ = ["Constraint", "Forbid", "Order", "Require", "describe"]


class _Constraint(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Conditional(_Constraint):
    when: dict[str, Condition] = Field(min_length=1, description="Column and condition; all must hold.")

    def parts(self) -> tuple[dict[str, Condition], dict[str, Condition]]:
        """Return the two sides: when, and what is then forbidden or required."""
        raise NotImplementedError

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the constraint speaks of."""
        return tuple(dict.fromkeys(name for part in self.parts() for name in part))

    @model_validator(mode="after")
    def _check(self) -> "_Conditional":
        left, right = self.parts()
        if set(left) & set(right):
            raise ValueError("a column stands on both sides of a constraint; name it on one side")
        return self


class Forbid(_Conditional):
    """Rows where all of `when` holds never have all of `forbid`."""

    forbid: dict[str, Condition] = Field(min_length=1, description="What never occurs together with `when`.")

    def parts(self) -> tuple[dict[str, Condition], dict[str, Condition]]:
        """Return `when` and `forbid`."""
        return self.when, self.forbid


class Require(_Conditional):
    """Rows where all of `when` holds always have all of `require`."""

    require: dict[str, Condition] = Field(min_length=1, description="What always holds where `when` does.")

    def parts(self) -> tuple[dict[str, Condition], dict[str, Condition]]:
        """Return `when` and `require`."""
        return self.when, self.require


class Order(_Constraint):
    """Numbers or dates that do not fall from each column of the list to the next; missing ones are passed over."""

    order: tuple[str, ...] = Field(min_length=2, description="The columns, least first.")
    strict: bool = Field(default=False, description="Whether equal values are impossible too.")

    @field_validator("order")
    @classmethod
    def _check(cls, order: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(order)) < len(order):
            raise ValueError("a column stands twice in one order; it cannot be before itself")
        return order

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the constraint speaks of."""
        return self.order


def _which(value: Any) -> str:
    if isinstance(value, Mapping):
        return next((key for key in ("forbid", "require", "order") if key in value), "forbid")
    return "require" if isinstance(value, Require) else "order" if isinstance(value, Order) else "forbid"


Constraint = Annotated[
    Annotated[Forbid, Tag("forbid")] | Annotated[Require, Tag("require")] | Annotated[Order, Tag("order")],
    Discriminator(_which),
]


def describe(constraint: Forbid | Require | Order) -> str:
    """Return the constraint in words, from the schema alone.

    >>> describe(Order(order=("admitted", "discharged")))
    'admitted <= discharged'
    >>> describe(Forbid(when={"sex": "male"}, forbid={"pregnant": True}))
    'sex is male: never pregnant is true'
    """
    if isinstance(constraint, Order):
        return (" < " if constraint.strict else " <= ").join(constraint.order)
    left, right = constraint.parts()
    verb = "never" if isinstance(constraint, Forbid) else "always"
    return f"{_side(left)}: {verb} {_side(right)}"


def _side(conditions: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} {_words(condition)}" for name, condition in conditions.items())


def _words(condition: Any) -> str:
    if isinstance(condition, Range):
        bounds = ((condition.min, "from"), (condition.max, "to"))
        return " ".join(f"{word} {_value(bound)}" for bound, word in bounds if bound is not None)
    values = condition if isinstance(condition, tuple) else (condition,)
    return "is " + " or ".join(_value(value) for value in values)


def _value(value: Any) -> str:
    return "missing" if value is None else canonical_text(value)


def implication_rows(constraint: Forbid | Require, left: Sequence[Mask], right: Sequence[Mask]) -> Mask:
    """Return where a forbidden combination occurs, or a required one does not, from the masks of both sides.

    The masks of a side are of one shape, or of shapes that spread over each other.
    """
    then = reduce(np.logical_and, right)
    held: Mask = reduce(np.logical_and, left) & (then if isinstance(constraint, Forbid) else ~then)
    return held
