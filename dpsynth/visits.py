"""Patients with several visits: one wide row a patient for the model, long rows again for the reader.

A long table has a row for each visit of a patient. The schema says which column numbers the visits, which visits there
are, and which columns are static. From that follows, by public facts alone, a *flat* schema with a row a patient: each
static column as it is, each other column once a visit (``SYSBP@2``), and for each visit whether it happened
(``PERIOD@2``). A model learns flat rows; `unfold` makes the rows of the visits from them. So static columns are
constant within a patient, and visits stand in order, by construction.

Sensitivity
-----------
`flatten` maps a set of rows to a set of rows. A patient's flat row, or that there is none, depends on the rows of this
patient alone: visits that the schema does not list are left out; of several rows with one visit the first counts; a
static column takes its first value that is there, in the order of the visits. A patient without any listed visit has no
flat row. So tables that differ by one patient, with all of their rows, become flat tables that differ by at most one
row, whatever the number of visits: one patient moves a count by at most 1, and the flat schema declares
``max_rows_per_patient: 1``. Nothing is checked and nothing said on the way that depends on values. The number of flat
rows is the number of patients (with a listed visit); it is public only where the schema declares `patients`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from dpsynth.columns import Boolean, Categorical, Category, Column, Datetime, Identifier, Numeric
from dpsynth.constraints import Condition, Constraint, Forbid, Order, Require
from dpsynth.matching import canonical_text

if TYPE_CHECKING:
    from dpsynth.cohort import Cohort
    from dpsynth.schema import Schema

__all__ = ["Visits", "at_visit", "check_visits", "flatten", "flattened", "unfold"]

Positions = npt.NDArray[np.int64]


class Visits(BaseModel):
    """How the rows of a patient are to be understood as visits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str = Field(description="Column that says which visit a row is.")
    values: tuple[Category, ...] = Field(min_length=2, description="The visits, in order of time.")
    static: tuple[str, ...] = Field(default=(), description="Columns that are the same in all visits of a patient.")
    rising: tuple[str, ...] = Field(
        default=(), description="Columns that never fall from a visit to a later one, such as age or a diagnosis."
    )
    patients: int | None = Field(
        default=None, ge=1, description="Number of patients, only where it is public knowledge."
    )


def at_visit(column: str, visit: Category) -> str:
    """Return the name of a column at a visit in the flat table.

    >>> at_visit("SYSBP", 2)
    'SYSBP@2'
    """
    return f"{column}@{canonical_text(visit)}"


def check_visits(schema: "Schema") -> None:
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


def flattened(schema: "Schema") -> "Schema":
    """Return the schema of one row a patient; the schema itself where it declares no visits."""
    return schema if schema.visits is None else _Flat(schema, schema.visits).schema()


class _Flat:
    """The flat schema of a schema with visits.

    Parameters
    ----------
    schema
        The schema of the long table.
    visits
        Its visits.
    """

    def __init__(self, schema: "Schema", visits: Visits) -> None:
        self.long = schema
        self.visits = visits
        self.changing = [name for name in schema.modelled if name != visits.column and name not in set(visits.static)]
        self.absent = {(name, visit) for visit in visits.values for name in self._absent(visit)}

    def schema(self) -> "Schema":
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
        found = []
        for first, second in zip(self.visits.values, self.visits.values[1:], strict=False):
            names = [n for n in self.changing if (n, first) not in self.absent and (n, second) not in self.absent]
            found += [(at_visit(name, first), at_visit(name, second)) for name in names]
        for pair in self.long.related:
            for visit in self.visits.values:
                if not any((name, visit) in self.absent or name == self.visits.column for name in pair):
                    first, second = (self._at(name, visit) for name in pair)
                    found.append((first, second))
        return tuple(dict.fromkeys(found))

    def _at(self, name: str, visit: Category) -> str:
        return name if name in self.visits.static else at_visit(name, visit)

    def _seen(self, visit: Category) -> str:
        return at_visit(self.visits.column, visit)

    def _absent(self, visit: Category) -> list[str]:
        """Columns that the constraints declare missing whenever it is this visit."""
        found = []
        for constraint in self.long.constraints:
            if not isinstance(constraint, Require) or set(constraint.when) != {self.visits.column}:
                continue
            if self._is_visit(visit, constraint.when[self.visits.column]):
                found += [n for n, c in constraint.require.items() if c is None and n in self.changing]
        return found

    def _is_visit(self, visit: Category, condition: Condition) -> bool:
        from dpsynth.conditions import resolve

        column = self.long.columns[self.visits.column]
        assert isinstance(column, Categorical)  # noqa: S101  (`check_visits`)
        meaning = resolve(self.visits.column, column, condition)
        place = np.array([column.values.index(visit)], dtype=np.int64)
        return bool(meaning.holds(place, np.ones(1, dtype=bool))[0])

    def _constraints(self) -> list[Constraint]:
        found: list[Constraint] = []
        for visit in self.visits.values:
            seen = self._seen(visit)
            for name in self.changing:
                if (name, visit) in self.absent:
                    continue
                found.append(Require(when={seen: False}, require={at_visit(name, visit): None}))
                if not getattr(self.long.columns[name], "missing", False):
                    found.append(Forbid(when={seen: True}, forbid={at_visit(name, visit): None}))
            for constraint in self.long.constraints:
                found += self._translated(constraint, visit)
        flags = [self._seen(visit) for visit in self.visits.values]
        found.append(Forbid(when=dict.fromkeys(flags[:-1], False), forbid={flags[-1]: False}))
        return found + self._rising()

    def _rising(self) -> list[Constraint]:
        found: list[Constraint] = []
        for name in self.visits.rising:
            column = self.long.columns[name]
            places = [at_visit(name, visit) for visit in self.visits.values if (name, visit) not in self.absent]
            if isinstance(column, Boolean):
                yes = column.labels[1]
                pairs = [(first, later) for i, first in enumerate(places) for later in places[i + 1 :]]
                found += [Require(when={first: yes}, require={later: (yes, None)}) for first, later in pairs]
            elif len(places) > 1:
                found.append(Order(order=tuple(places)))
        return found

    def _translated(self, constraint: Constraint, visit: Category) -> list[Constraint]:
        """Return what a constraint on the rows of a visit says of the flat row: nothing, or one constraint."""
        if isinstance(constraint, Order):
            names = tuple(self._at(n, visit) for n in constraint.order if (n, visit) not in self.absent)
            return [Order(order=names, strict=constraint.strict)] if len(names) > 1 else []
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
        found: dict[str, Condition] = {}
        for name, condition in side.items():
            if name == self.visits.column:
                known = self._is_visit(visit, condition)
            elif (name, visit) in self.absent:
                known = _admits_missing(condition)
            else:
                found[self._at(name, visit)] = condition
                continue
            if not known:
                return None
        return found

    def _holds_unseen(self, side: Mapping[str, Condition]) -> bool:
        """Whether conditions can hold for a visit that did not happen, whose columns are missing."""
        static = set(self.visits.static)
        return all(name in static or _admits_missing(condition) for name, condition in side.items())


def _different(constraints: list[Constraint]) -> tuple[Constraint, ...]:
    """Return each constraint once: those on static columns come from every visit."""
    return tuple(item for place, item in enumerate(constraints) if item not in constraints[:place])


def _admits_missing(condition: Condition) -> bool:
    return condition is None or (isinstance(condition, tuple) and None in condition)


def flatten(cohort: "Cohort") -> "Cohort":
    """Return the cohort with one row a patient; the cohort itself where its schema declares no visits.

    Privacy contract: a patient's row is a function of this patient's rows (see the module's text), and nothing is
    raised or said that depends on values. It is still exact: a private cohort stays private.
    """
    import dataclasses

    import pyarrow as pa

    visits = cohort.schema.visits
    if visits is None:
        return cohort
    schema = flattened(cohort.schema)
    patients = cohort.patients()
    at = _first_rows(cohort, visits, patients)
    kept = np.flatnonzero((at >= 0).any(axis=0))
    at = at[:, kept]
    arrays: dict[str, Any] = {}
    for name in schema.columns:
        if name in cohort.columns:
            column = _one_array(cohort.table[name])
            arrays[name] = _taken(column, _first_there(column, at))
    for place, visit in enumerate(visits.values):
        arrays[at_visit(visits.column, visit)] = _flags(at[place] >= 0)
        for name in cohort.columns:
            if at_visit(name, visit) in schema.columns and name != visits.column:
                arrays[at_visit(name, visit)] = _taken(_one_array(cohort.table[name]), at[place])
    table = pa.table({name: arrays[name] for name in schema.columns if name in arrays})
    return dataclasses.replace(cohort, schema=schema, table=table)


def _first_rows(cohort: "Cohort", visits: Visits, patients: Positions) -> Positions:
    """Return (visits, patients) the first row of each patient at each visit, -1 where there is none."""
    from dpsynth.values import positions

    indices, categories = positions(cohort.table[visits.column])
    texts = [canonical_text(value) for value in visits.values]
    places = [texts.index(canonical_text(value)) if canonical_text(value) in texts else -1 for value in categories]
    place = np.array([*places, -1], dtype=np.int64)[indices]
    count = int(patients.max()) + 1 if len(patients) else 0
    at = np.full((len(visits.values), count), -1, dtype=np.int64)
    for visit in range(len(visits.values)):
        rows = np.flatnonzero(place == visit)[::-1]
        at[visit, patients[rows]] = rows  # of several the last write stays, which is the first row
    return at


def _first_there(column: Any, at: Positions) -> Positions:
    """Return (patients,) the first row, in the order of visits, that has a value; else the first row at all."""
    there = ~np.asarray(column.is_null())
    found = np.full(at.shape[1], -1, dtype=np.int64)
    for want in (there, np.ones_like(there)):
        for rows in at:
            good = (found < 0) & (rows >= 0)
            good[good] = want[rows[good]]
            found[good] = rows[good]
    return found


def _one_array(column: Any) -> Any:
    from dpsynth.values import whole

    return whole(column)


def _taken(column: Any, rows: Positions) -> Any:
    import pyarrow as pa

    return column.take(pa.array(rows, mask=rows < 0))


def _flags(seen: npt.NDArray[np.bool_]) -> Any:
    from dpsynth.values import from_positions

    return from_positions(seen.astype(np.int32), (False, True))


def unfold(table: Any, schema: "Schema") -> Any:
    """Return the long table of flat rows: a row for each visit that happened, patient by patient in order of time.

    Parameters
    ----------
    table
        A pyarrow table of the flat schema's modelled columns.
    schema
        The schema of the long table.

    Returns
    -------
    pyarrow.Table
        The schema's columns without identifiers but the patient's, which counts the synthetic patients from 1.
    """
    import pyarrow as pa

    from dpsynth.values import from_positions

    visits = schema.visits
    assert visits is not None  # noqa: S101  (there is nothing to unfold without)
    seen = np.stack([_seen(table[at_visit(visits.column, visit)]) for visit in visits.values])
    patients, places = np.nonzero(seen.T)
    arrays: dict[str, Any] = {}
    for name, column in schema.columns.items():
        if name == schema.patient:
            arrays[name] = pa.array(patients + 1)
        elif name == visits.column:
            assert isinstance(column, Categorical)  # noqa: S101  (`check_visits`)
            own = np.array([column.values.index(visit) for visit in visits.values], dtype=np.int32)
            arrays[name] = from_positions(own[places], column.values)
        elif name in visits.static:
            arrays[name] = _one_array(table[name]).take(pa.array(patients))
        elif not isinstance(column, Identifier):
            arrays[name] = _of_visits(table, (name, column), visits, patients, places)
    return pa.table(arrays)


def _seen(column: Any) -> npt.NDArray[np.bool_]:
    from dpsynth.values import positions

    indices, categories = positions(column)
    truth = np.array([*(bool(value) for value in categories), False])
    found: npt.NDArray[np.bool_] = truth[indices]
    return found


def _of_visits(table: Any, declared: tuple[str, Column], visits: Visits, patients: Positions, places: Positions) -> Any:
    """Return a column's value at each visit; missing where the schema has it at no such visit."""
    import pyarrow as pa

    from dpsynth.values import typed

    name, column = declared
    names = [at_visit(name, visit) for visit in visits.values]
    there = [_one_array(table[one]) for one in names if one in table.column_names]
    if not there:
        return typed(name, column.model_copy(update={"missing": True}), pa.nulls(len(patients)), ())
    count = table.num_rows
    joined = _one_array(pa.chunked_array(there))
    start = np.cumsum([0, *(count if one in table.column_names else 0 for one in names)])[:-1]
    known = np.array([one in table.column_names for one in names])
    rows = np.where(known[places], start[places] + patients, -1)
    return _taken(joined, rows)
