"""Whether the rows of a table are those of the patients that its schema names: who is protected, what is left out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dpsynth.checking.faults import Fault, at_rows
from dpsynth.columns.arrow import whole
from dpsynth.columns.identifier_values import are_moments, looks_enumerated
from dpsynth.columns.identifying import meaning_of
from dpsynth.columns.kinds import Identifier
from dpsynth.schema.schema import Schema

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

__all__ = [
    "beyond_words",
    "check_dropped",
    "check_units",
    "check_visit_rows",
    "grouping_words",
    "looks_measured",
    "may_identify",
]

Positions = npt.NDArray[np.int64]


def check_units(schema: Schema, arrays: Mapping[str, Any], rows: int) -> list[Fault]:
    """Return what is wrong with the column that tells patients apart.

    Parameters
    ----------
    schema
        The schema.
    arrays
        Typed columns by name; identifiers are text.
    rows
        Rows of the table.
    """
    patient = schema.patient
    if patient is None or patient not in arrays:
        owners = np.arange(rows, dtype=np.int64)
        faults = []
    else:
        missing = np.asarray(whole(arrays[patient]).is_null().to_numpy(zero_copy_only=False))
        words = "a row names no patient; expected one in every row"
        faults = at_rows(patient, words, missing, is_refused=True)
        owners = _numbers(arrays[patient])
        faults += _beyond(schema, patient, owners, missing)
    for name in () if schema.open else arrays:  # an open question says it already
        if name != patient and may_identify(schema, name) and not _is_measured(arrays[name], rows):
            faults += _grouping(name, _numbers(arrays[name]), patient, owners)
    return faults


def check_dropped(schema: Schema) -> list[Fault]:
    """Return whether a column that is never read is called after the patient, and the patient's column is not."""
    if schema.patient is not None and meaning_of(schema.patient).entity == "person":
        return []
    unit = f"patient is {schema.patient!r}" if schema.patient is not None else "each row counts as a patient"
    return [
        Fault(name, f"is dropped, and by its name it tells patients apart, while {unit}. Is it the patient?", False)
        for name in schema.drop
        if (meaning := meaning_of(name)).is_key and meaning.entity == "person"
    ]


def may_identify(schema: Schema, name: str) -> bool:
    """Return whether a column may tell patients apart: places, staff, families and names of people do not."""
    meaning = meaning_of(name)
    if isinstance(schema.columns[name], Identifier):
        return meaning.entity in ("person", "record", "visit", "")
    return meaning.is_key and meaning.entity == "person"


def _is_measured(array: Any, rows: int) -> bool:
    """Return whether a column was an identifier for want of another type: prose, moments, numbers with marks."""
    import pyarrow as pa

    array = whole(array)
    different = array.dictionary if pa.types.is_dictionary(array.type) else array.unique().drop_null()
    return looks_measured([str(value) for value in different.to_pylist()], rows)


def looks_measured(texts: Sequence[str], rows: int) -> bool:
    """Return whether different texts, of so many rows, are prose, moments, or numbers with marks."""
    if texts and all(text.isascii() and text.isdigit() and len(text) < 20 for text in texts):
        return are_moments(np.array(texts, dtype=np.float64))
    return looks_enumerated(texts, rows).endswith("text")


def _numbers(array: Any) -> Positions:
    """Return for each row the number of its value; every missing value is another one."""
    import pyarrow as pa

    array = whole(array)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    missing = np.asarray(array.is_null().to_numpy(zero_copy_only=False))
    numbers: Positions = array.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    numbers[missing] = len(array.dictionary) + np.arange(np.count_nonzero(missing))
    return numbers


def _beyond(schema: Schema, patient: str, owners: Positions, missing: npt.NDArray[np.bool_]) -> list[Fault]:
    """Return the rows of patients that have more than the schema lets them have."""
    if schema.visits is not None:
        return []
    most = schema.max_rows_per_patient
    counts = np.bincount(owners)
    mask = (counts[owners] > most) & ~missing
    patients = int(np.count_nonzero(np.bincount(owners[~missing], minlength=1) > most))
    lost = int(np.maximum(counts - most, 0).sum())
    return at_rows(patient, beyond_words(patients, most, int(counts.max()), lost), mask)


def beyond_words(patients: int, most: int, highest: int, lost: int) -> str:
    """Return what to say of patients with more rows than they may have."""
    return (
        f"more rows than max_rows_per_patient: {patients} patients have more than {most}, up to {highest}: a fit "
        f"draws {most} of each and leaves out {lost}"
    )


def _grouping(name: str, groups: Positions, patient: str | None, owners: Positions) -> list[Fault]:
    """Return whether another identifier puts more rows together than the patient does."""
    if len(np.unique(groups)) >= len(np.unique(owners)):
        return []
    pairs = np.unique(np.stack([groups, owners], axis=1), axis=0)
    several = np.bincount(pairs[:, 0])
    words = grouping_words(name, patient, len(np.unique(groups)), len(np.unique(owners)), int(several.max()))
    return at_rows(name, words, several[groups] > 1)


def grouping_words(name: str, patient: str | None, values: int, units: int, most: int) -> str:
    """Return what to say of an identifier that puts more rows together than the patient does."""
    words = f"has {values} values in {units} rows, and each row counts as a patient: one value has up to {most} rows"
    if patient is not None:
        words = f"has {values} values, and {patient!r}, the patient, {units}: one value holds up to {most} of them"
    return f"{words}. If {name!r} tells patients apart, they are not protected: set patient: {name}"


def check_visit_rows(cohort: "Cohort") -> list[Fault]:
    """Return the rows that the visits of a schema leave out or overrule; none where it declares no visits."""
    from dpsynth.columns.arrow import positions
    from dpsynth.columns.matching import canonical_text

    visits = cohort.schema.visits
    if visits is None:
        return []
    indices, categories = positions(cohort.table[visits.column])
    listed = {canonical_text(value) for value in visits.values}
    is_listed = np.array([*(canonical_text(value) in listed for value in categories), False])[indices]
    faults = at_rows(visits.column, "the visit is not one of visits.values: the row is left out", ~is_listed)
    pairs = np.stack([cohort.patients(), indices.astype(np.int64)], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    again = np.ones(len(pairs), dtype=bool)
    again[first] = False
    words = "a patient has this visit twice: the first row counts"
    faults += at_rows(visits.column, words, again & is_listed)
    for name in visits.static:
        mask = _varies(cohort, name) & is_listed
        faults += at_rows(name, "is static and differs within a patient: the first value counts", mask)
    return faults


def _varies(cohort: "Cohort", name: str) -> npt.NDArray[np.bool_]:
    """Return the rows of patients that have several values of a column, missing ones aside."""
    owners, array = cohort.patients(), whole(cohort.table[name])
    there = ~np.asarray(array.is_null().to_numpy(zero_copy_only=False))
    pairs = np.unique(np.stack([owners[there], _numbers(array)[there]], axis=1), axis=0)
    counts = np.bincount(pairs[:, 0], minlength=int(owners.max(initial=0)) + 1)
    varies: npt.NDArray[np.bool_] = (counts[owners] > 1) & there
    return varies
