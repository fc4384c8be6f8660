"""Constraints of a schema: combinations that it forbids or requires, and orders of columns."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from dpsynth.columns import Category, Number
from dpsynth.matching import canonical_text

if TYPE_CHECKING:
    from dpsynth.cohort import Cohort

__all__ = ["Condition", "Constraint", "Forbid", "Order", "Range", "Require", "constraint_violations", "describe"]


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


def constraint_violations(cohort: "Cohort") -> dict[str, int]:
    """Count the rows of a cohort that break each constraint of its schema.

    Numbers are compared as they are encoded: at the declared decimals, clipped to the public range.

    Parameters
    ----------
    cohort
        A cohort. For a real one the counts are exact and therefore internal: they must not be released.

    Returns
    -------
    dict
        For each constraint, described in words, the number of rows that break it; in the schema's order.

    Notes
    -----
    Privacy contract: reads every row and adds no noise.
    """
    from dpsynth.conditions import broken_rows

    return {
        describe(constraint): int(broken_rows(cohort, constraint).sum()) for constraint in cohort.schema.constraints
    }
