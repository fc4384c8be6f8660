"""Cohorts with several visits a patient: one wide row for the model, long rows again for the reader.

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

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dpsynth.cohort.computed import learned_rows, restored
from dpsynth.columns.kinds import Categorical, Column, Identifier
from dpsynth.columns.matching import canonical_text

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.schema.schema import Schema

from dpsynth.schema.computed import learned
from dpsynth.schema.flat import at_visit, flattened
from dpsynth.schema.visits import Positions, Visits


def flatten(cohort: "Cohort") -> "Cohort":
    """Return the cohort as it is learned: one row a patient where there are visits (see `dpsynth.cohort.computed`).

    Privacy contract: a patient's row is a function of this patient's rows (see the module's text), and nothing is
    raised or said that depends on values. It is still exact: a private cohort stays private.
    """
    import dataclasses

    import pyarrow as pa

    cohort = learned_rows(cohort)
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
    from dpsynth.columns.arrow import positions

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
    first = np.full(at.shape[1], -1, dtype=np.int64)
    for want in (there, np.ones_like(there)):
        for rows in at:
            good = (first < 0) & (rows >= 0)
            good[good] = want[rows[good]]
            first[good] = rows[good]
    return first


def _one_array(column: Any) -> Any:
    from dpsynth.columns.arrow import whole

    return whole(column)


def _taken(column: Any, rows: Positions) -> Any:
    import pyarrow as pa

    return column.take(pa.array(rows, mask=rows < 0))


def _flags(seen: npt.NDArray[np.bool_]) -> Any:
    from dpsynth.columns.arrow import from_positions

    return from_positions(seen.astype(np.int32), (False, True))


def unfold(table: Any, schema: "Schema") -> Any:
    """Return a schema's own table from one of flat rows: with visits a row for each that happened, in order of time.

    Parameters
    ----------
    table
        A pyarrow table of the flat schema's modelled columns.
    schema
        The declared schema.

    Returns
    -------
    pyarrow.Table
        The schema's columns without identifiers; with visits that of the patient, counted from 1, stands among them.
    """
    return restored(table if schema.visits is None else _unfolded(table, learned(schema)), schema)


def _unfolded(table: Any, schema: "Schema") -> Any:
    """Return the long table of flat rows: a row for each visit that happened, patient by patient in order of time."""
    import pyarrow as pa

    from dpsynth.columns.arrow import from_positions

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
    from dpsynth.columns.arrow import positions

    indices, categories = positions(column)
    truth = np.array([*(bool(value) for value in categories), False])
    seen: npt.NDArray[np.bool_] = truth[indices]
    return seen


def _of_visits(table: Any, declared: tuple[str, Column], visits: Visits, patients: Positions, places: Positions) -> Any:
    """Return a column's value at each visit; missing where the schema has it at no such visit."""
    import pyarrow as pa

    from dpsynth.columns.typed import typed

    name, column = declared
    names = [at_visit(name, visit) for visit in visits.values]
    there = [_one_array(table[at]) for at in names if at in table.column_names]
    if not there:
        return typed(name, column.model_copy(update={"missing": True}), pa.nulls(len(patients)), ())
    count = table.num_rows
    joined = _one_array(pa.chunked_array(there))
    start = np.cumsum([0, *(count if at in table.column_names else 0 for at in names)])[:-1]
    is_declared = np.array([at in table.column_names for at in names])
    rows = np.where(is_declared[places], start[places] + patients, -1)
    return _taken(joined, rows)
