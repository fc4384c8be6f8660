"""Constraints of a schema: combinations that it forbids, requires or lists, orders, booleans that exclude others."""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from dpsynth.columns.conditions import Condition, Mask, Range
from dpsynth.columns.kinds import Boolean, Categorical, Category, Column
from dpsynth.columns.matching import Matcher, canonical_text

__all__ = [
    "AtMostOne",
    "Combinations",
    "Constraint",
    "ExactlyOne",
    "Forbid",
    "Order",
    "Require",
    "describe",
    "expanded",
    "implications",
]


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


class ExactlyOne(_Constraint):
    """Boolean columns of which exactly one is true; a row where one is missing may have none that is."""

    exactly_one: tuple[str, ...] = Field(min_length=2, max_length=16, description="Boolean columns.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the constraint speaks of."""
        return self.exactly_one

    @model_validator(mode="after")
    def _check(self) -> "ExactlyOne":
        _check_different("exactly_one", self.columns)
        return self


class AtMostOne(_Constraint):
    """Boolean columns of which at most one is true."""

    at_most_one: tuple[str, ...] = Field(min_length=2, max_length=64, description="Boolean columns.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the constraint speaks of."""
        return self.at_most_one

    @model_validator(mode="after")
    def _check(self) -> "AtMostOne":
        _check_different("at_most_one", self.columns)
        return self


class Listed(BaseModel):
    """The combinations of values that some columns may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[str, ...] = Field(min_length=2, max_length=8, description="Columns with a closed list of values.")
    values: tuple[tuple[Category, ...], ...] = Field(
        min_length=1, max_length=10_000, description="Each combination as a list; or the name of a CSV file with them."
    )

    @model_validator(mode="after")
    def _check(self) -> "Listed":
        _check_different("combinations", self.columns)
        if any(len(row) != len(self.columns) for row in self.values):
            raise ValueError("each of values has one value for each of columns")
        return self


class Combinations(_Constraint):
    """Columns that have only the listed combinations of values, such as cities and their states."""

    combinations: Listed = Field(description="The columns, and the combinations that there are.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the constraint speaks of."""
        return self.combinations.columns


def _check_different(field: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"{field}: a column is named twice")


KINDS: dict[str, type[_Constraint]] = {
    "forbid": Forbid,
    "require": Require,
    "order": Order,
    "exactly_one": ExactlyOne,
    "at_most_one": AtMostOne,
    "combinations": Combinations,
}
"""Each kind of constraint by the field that tells it."""


def _which(value: Any) -> str | None:
    if isinstance(value, Mapping):
        named = next((key for key in KINDS if key in value), None)
        return named or ("forbid" if "when" in value else None)
    return next((key for key, kind in KINDS.items() if isinstance(value, kind)), None)


Constraint = Annotated[
    Annotated[Forbid, Tag("forbid")]
    | Annotated[Require, Tag("require")]
    | Annotated[Order, Tag("order")]
    | Annotated[ExactlyOne, Tag("exactly_one")]
    | Annotated[AtMostOne, Tag("at_most_one")]
    | Annotated[Combinations, Tag("combinations")],
    Discriminator(
        _which,
        custom_error_type="constraint_kind",
        custom_error_message=f"this is no rule that is known; expected when with forbid or require, or one of "
        f"{', '.join(list(KINDS)[2:])}",
    ),
]


def expanded(columns: Mapping[str, Column], constraints: Sequence[Constraint]) -> list[Forbid | Require | Order]:
    """Return constraints in terms of what is forbidden, required and ordered.

    Parameters
    ----------
    columns
        The declared columns.
    constraints
        Of every kind; those on columns that are not there are left as they are.

    Returns
    -------
    list
        What is never true of a row, in order.

    Raises
    ------
    ValueError
        If a constraint speaks of columns of another kind than it can.
    """
    parts: list[Forbid | Require | Order] = []
    for constraint in constraints:
        if isinstance(constraint, Forbid | Require | Order):
            parts.append(constraint)
        elif isinstance(constraint, Combinations):
            parts += _of_list(columns, constraint.combinations)
        else:
            parts += _of_flags(columns, constraint)
    return parts


def implications(constraints: Iterable[Constraint]) -> list[Forbid | Require]:
    """Return those constraints that forbid or require something."""
    return [constraint for constraint in constraints if isinstance(constraint, Forbid | Require)]


def _of_flags(columns: Mapping[str, Column], constraint: ExactlyOne | AtMostOne) -> list[Forbid | Require | Order]:
    labels = {}
    for name in constraint.columns:
        column = columns[name]
        if not isinstance(column, Boolean):
            raise ValueError(  # noqa: TRY004  (pydantic collects ValueError)
                f"{name!r} is not boolean; {_field(constraint)} is about columns with type: boolean"
            )
        labels[name] = column.labels
    names = constraint.columns
    pairs = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
    parts: list[Forbid | Require | Order] = [
        Forbid(when={first: labels[first][1]}, forbid={second: labels[second][1]}) for first, second in pairs
    ]
    if isinstance(constraint, ExactlyOne):
        none: dict[str, Condition] = {name: labels[name][0] for name in names}
        parts.append(Forbid(when={names[0]: none.pop(names[0])}, forbid=none))
    return parts


def _of_list(columns: Mapping[str, Column], listed: Listed) -> list[Forbid | Require | Order]:
    """Return for each beginning of a listed combination which values cannot follow it; missing ones always may."""
    domains: list[tuple[Category, ...]] = []
    places: list[list[int]] = []
    for index, name in enumerate(listed.columns):
        column = columns[name]
        if not isinstance(column, Boolean | Categorical) or not column.categories:
            raise ValueError(f"{name!r} has no closed list of values; combinations are of columns that have one")
        matcher = Matcher(column)
        places.append([matcher.position(row[index]) for row in listed.values])
        if min(places[-1]) < 0:
            raise ValueError(f"combinations: a value listed for {name!r} is not one of its declared values")
        domains.append(column.categories)
    rows = sorted(set(zip(*places, strict=True)))
    parts: list[Forbid | Require | Order] = []
    for length in range(1, len(domains)):
        following: dict[tuple[int, ...], set[int]] = {}
        for row in rows:
            following.setdefault(row[:length], set()).add(row[length])
        for beginning in sorted(following):
            never = tuple(value for place, value in enumerate(domains[length]) if place not in following[beginning])
            values = [domains[at][place] for at, place in enumerate(beginning)]
            when: dict[str, Condition] = dict(zip(listed.columns, values, strict=False))
            if never:
                parts.append(Forbid(when=when, forbid={listed.columns[length]: never}))
    first, second = listed.columns[:2]
    unlisted = tuple(value for place, value in enumerate(domains[0]) if place not in {row[0] for row in rows})
    return [*parts, Forbid(when={second: domains[1]}, forbid={first: unlisted})] if unlisted else parts


def _field(constraint: Any) -> str:
    return next(key for key, kind in KINDS.items() if isinstance(constraint, kind))


def describe(constraint: Constraint) -> str:
    """Return the constraint in words, from the schema alone.

    >>> describe(Order(order=("admitted", "discharged")))
    'admitted <= discharged'
    >>> describe(Forbid(when={"sex": "male"}, forbid={"pregnant": True}))
    'sex is male: never pregnant is true'
    """
    if isinstance(constraint, Order):
        return (" < " if constraint.strict else " <= ").join(constraint.order)
    if isinstance(constraint, Combinations):
        return f"{' and '.join(constraint.columns)}: one of {len(constraint.combinations.values)} listed combinations"
    if isinstance(constraint, ExactlyOne | AtMostOne):
        return f"{_field(constraint).replace('_', ' ')} of {', '.join(constraint.columns)}"
    left, right = constraint.parts()
    verb = "never" if isinstance(constraint, Forbid) else "always"
    return f"{words_of_conditions(left)}: {verb} {words_of_conditions(right)}"


def words_of_conditions(conditions: Mapping[str, Any]) -> str:
    """Return conditions in words."""
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
