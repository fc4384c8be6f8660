"""The schema of one wide row a patient, made from a schema of visits."""

from collections.abc import Mapping
from typing import Generic, TypeVar

import numpy as np

from dpsynth.columns.conditions import Condition
from dpsynth.columns.kinds import Boolean, Categorical, Category, Column, Datetime, Numeric
from dpsynth.columns.matching import canonical_text
from dpsynth.schema.computed import learned
from dpsynth.schema.constraints import Constraint, Forbid, Order, Require
from dpsynth.schema.facts import Facts
from dpsynth.schema.visits import Visits

AnyFacts = TypeVar("AnyFacts", bound=Facts)
"""A schema, whatever it can do besides: what comes in goes out flat."""


def at_visit(column: str, visit: Category) -> str:
    """Return the name of a column at a visit in the flat table.

    >>> at_visit("SYSBP", 2)
    'SYSBP@2'
    """
    return f"{column}@{canonical_text(visit)}"


def check_visits(schema: Facts) -> None:
    """Refuse visits that do not fit the columns.

    Raises
    ------
    ValueError
        With the reason.
    """
    visits = schema.visits
    if visits is None:
        return
    if schema.patient is None:
        raise ValueError("visits: needs patient, the column that identifies a patient")
    if schema.images is not None:
        raise ValueError("visits: a cohort with images has one row a patient; leave visits or images out")
    column = schema.columns[visits.column]
    if not isinstance(column, Categorical) or column.is_discovered or column.missing:
        raise ValueError(
            f"visits: declare {visits.column!r} as categorical with a closed list of values, never missing"
        )
    _check_values(visits, column)
    if visits.column in (*visits.static, *visits.rising):
        raise ValueError(f"visits: {visits.column!r} numbers the visits; it is neither static nor rising")
    both = sorted(set(visits.static) & set(visits.rising))
    if both:
        raise ValueError(f"visits: {both[0]!r} is static; it cannot rise as well")
    for name in visits.rising:
        if not isinstance(schema.columns[name], Numeric | Datetime | Boolean):
            raise ValueError(  # noqa: TRY004  (pydantic collects ValueError)
                f"visits: {name!r} has categories; only numbers, dates and booleans can rise"
            )
    taken = sorted({at_visit(c, v) for c in schema.modelled for v in visits.values} & set(schema.columns))
    if taken:
        raise ValueError(f"visits: the column name {taken[0]!r} is needed for a visit; rename the column")
    flattened(schema)


def _check_values(visits: Visits, column: Categorical) -> None:
    unknown = [value for value in visits.values if value not in column.values]
    if unknown or len(set(map(canonical_text, visits.values))) < len(visits.values):
        raise ValueError(f"visits: values must be different ones of the values of {visits.column!r}")


def flattened(schema: AnyFacts) -> AnyFacts:
    """Return the schema of what is learned: with gaps, without what is derived, with visits of one row a patient.

    It is the schema itself where nothing of this is declared.
    """
    schema = learned(schema)
    return schema if schema.visits is None else _Flat(schema, schema.visits).schema()


class _Flat(Generic[AnyFacts]):
    """The flat schema of a schema with visits.

    Parameters
    ----------
    schema
        The schema of the long table.
    visits
        Its visits.
    """

    def __init__(self, schema: AnyFacts, visits: Visits) -> None:
        self.long = schema
        self.visits = visits
        self.changing = [name for name in schema.modelled if name != visits.column and name not in set(visits.static)]
        self.absent = {(name, visit) for visit in visits.values for name in self._absent(visit)}

    def schema(self) -> AnyFacts:
        """Return the flat schema."""
        long, visits = self.long, self.visits
        static = set(visits.static)
        groups = [name for name in long.fairness.columns if name in static] if long.fairness is not None else []
        # Not validated again: what contradicts nothing in the rows of visits may be empty in those of one visit.
        return type(long).model_construct(
            name=long.name,
            confirmed=long.confirmed,
            description=long.description,
            source=long.source,
            patient=long.patient,
            rows=visits.patients,
            target=long.target if long.target in static else None,
            subgroups=tuple(name for name in long.subgroups if name in static),
            intersections=tuple(names for names in long.intersections if set(names) <= static),
            fairness=long.fairness.model_copy(update={"columns": tuple(groups)}) if long.fairness and groups else None,
            columns=self._columns(),
            constraints=_different(self._constraints()),
            related=self._related(),
        )

    def _columns(self) -> dict[str, Column]:
        long, visits = self.long, self.visits
        columns: dict[str, Column] = {
            name: long.columns[name] for name in long.columns if name == long.patient or name in visits.static
        }
        for visit in visits.values:
            columns[at_visit(visits.column, visit)] = Boolean(description="Whether this visit happened.")
            for name in self.changing:
                if (name, visit) not in self.absent:
                    columns[at_visit(name, visit)] = long.columns[name].model_copy(update={"missing": True})
        return columns

    def _related(self) -> tuple[tuple[str, str], ...]:
        """Pairs of one quantity in consecutive visits, and what the schema names, visit by visit."""
        pairs = []
        for first, second in zip(self.visits.values, self.visits.values[1:], strict=False):
            names = [n for n in self.changing if (n, first) not in self.absent and (n, second) not in self.absent]
            pairs += [(at_visit(name, first), at_visit(name, second)) for name in names]
        for pair in self.long.related:
            for visit in self.visits.values:
                if not any((name, visit) in self.absent or name == self.visits.column for name in pair):
                    first, second = (self._at(name, visit) for name in pair)
                    pairs.append((first, second))
        return tuple(dict.fromkeys(pairs))

    def _at(self, name: str, visit: Category) -> str:
        return name if name in self.visits.static else at_visit(name, visit)

    def _seen(self, visit: Category) -> str:
        return at_visit(self.visits.column, visit)

    def _absent(self, visit: Category) -> list[str]:
        """Columns that the constraints declare missing whenever it is this visit."""
        columns = []
        for constraint in self.long.constraints:
            if not isinstance(constraint, Require) or set(constraint.when) != {self.visits.column}:
                continue
            if self._is_visit(visit, constraint.when[self.visits.column]):
                columns += [n for n, c in constraint.require.items() if c is None and n in self.changing]
        return columns

    def _is_visit(self, visit: Category, condition: Condition) -> bool:
        from dpsynth.columns.conditions import resolve

        column = self.long.columns[self.visits.column]
        assert isinstance(column, Categorical)  # noqa: S101  (`check_visits`)
        meaning = resolve(self.visits.column, column, condition)
        place = np.array([column.values.index(visit)], dtype=np.int64)
        return bool(meaning.holds(place, np.ones(1, dtype=bool))[0])

    def _constraints(self) -> list[Constraint]:
        constraints: list[Constraint] = []
        for visit in self.visits.values:
            seen = self._seen(visit)
            for name in self.changing:
                if (name, visit) in self.absent:
                    continue
                constraints.append(Require(when={seen: False}, require={at_visit(name, visit): None}))
                if not getattr(self.long.columns[name], "missing", False):
                    constraints.append(Forbid(when={seen: True}, forbid={at_visit(name, visit): None}))
            for constraint in self.long.constraints:
                constraints += self._translated(constraint, visit)
        flags = [self._seen(visit) for visit in self.visits.values]
        constraints.append(Forbid(when=dict.fromkeys(flags[:-1], False), forbid={flags[-1]: False}))
        return constraints + self._rising()

    def _rising(self) -> list[Constraint]:
        constraints: list[Constraint] = []
        for name in self.visits.rising:
            column = self.long.columns[name]
            places = [at_visit(name, visit) for visit in self.visits.values if (name, visit) not in self.absent]
            if isinstance(column, Boolean):
                yes = column.labels[1]
                pairs = [(first, later) for i, first in enumerate(places) for later in places[i + 1 :]]
                constraints += [Require(when={first: yes}, require={later: (yes, None)}) for first, later in pairs]
            elif len(places) > 1:
                constraints.append(Order(order=tuple(places)))
        return constraints

    def _translated(self, constraint: Constraint, visit: Category) -> list[Constraint]:
        """Return what a constraint on the rows of a visit says of the flat row: nothing, or one constraint."""
        if isinstance(constraint, Order):
            names = tuple(self._at(n, visit) for n in constraint.order if (n, visit) not in self.absent)
            return [Order(order=names, strict=constraint.strict)] if len(names) > 1 else []
        assert isinstance(constraint, Forbid | Require)  # noqa: S101  (`learned` leaves no others)
        left, right = (self._side(side, visit) for side in constraint.parts())
        forbids = isinstance(constraint, Forbid)
        if left is None or (forbids and right is None) or (not forbids and right == {}):
            return []
        seen: dict[str, Condition] = {self._seen(visit): True}
        if right is None or right == {}:  # `when` alone is what cannot be
            return (
                [Forbid(when=seen, forbid=left)] if left else [Require(when=seen, require={self._seen(visit): False})]
            )
        unseen = self._holds_unseen(left) and (self._holds_unseen(right) if forbids else not self._holds_unseen(right))
        when = {**seen, **left} if unseen or not left else left
        return [Forbid(when=when, forbid=right) if forbids else Require(when=when, require=right)]

    def _side(self, side: Mapping[str, Condition], visit: Category) -> dict[str, Condition] | None:
        """Return the conditions on a visit's columns that are still open; None where one of them cannot hold."""
        conditions: dict[str, Condition] = {}
        for name, condition in side.items():
            if name == self.visits.column:
                holds = self._is_visit(visit, condition)
            elif (name, visit) in self.absent:
                holds = _admits_missing(condition)
            else:
                conditions[self._at(name, visit)] = condition
                continue
            if not holds:
                return None
        return conditions

    def _holds_unseen(self, side: Mapping[str, Condition]) -> bool:
        """Whether conditions can hold for a visit that did not happen, whose columns are missing."""
        static = set(self.visits.static)
        return all(name in static or _admits_missing(condition) for name, condition in side.items())


def _different(constraints: list[Constraint]) -> tuple[Constraint, ...]:
    """Return each constraint once: those on static columns come from every visit."""
    return tuple(item for place, item in enumerate(constraints) if item not in constraints[:place])


def _admits_missing(condition: Condition) -> bool:
    return condition is None or (isinstance(condition, tuple) and None in condition)
