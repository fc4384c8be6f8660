"""Whether data keep a schema: all faults at once, how much of each column they touch, and in which rows.

Everything here is internal: exact counts of private data. Values of patients are in none of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.checking.columns import CheckedColumn, check_column
from dpsynth.checking.faults import ColumnShares, Fault, at_rows
from dpsynth.checking.reading import StoredTable, line_numbers, stored_fault, stored_table
from dpsynth.checking.units import check_dropped, check_units, check_visit_rows
from dpsynth.columns.kinds import Identifier
from dpsynth.errors import DataError, DpsynthError
from dpsynth.schema.computed import rules
from dpsynth.schema.constraints import describe
from dpsynth.schema.derived import words_of
from dpsynth.schema.schema import Schema

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

__all__ = ["DataCheck", "check_constraints", "check_data", "counts_faults", "patient_faults"]

_UNEQUAL = "does not hold, and synthetic rows will keep it. Correct the data or the formula"
_BROKEN = "is broken, and synthetic rows will keep it. Correct the data, or take the constraint out"
INTERNAL = "exact counts of private data: internal, not to be published"
_MOST_PLACES = 1000
"""Rows that a fault lists in JSON; how many there are is said in full."""


@dataclass(frozen=True)
class DataCheck:
    """The result of a check of data against a schema.

    Attributes
    ----------
    file
        The name of the file or folder.
    rows
        Rows that could be read.
    columns
        Of each declared column that is there, which shares are missing, clipped, mapped or unreadable.
    constraints
        Rows that break each constraint, described in words.
    faults
        All faults, those that a fit would refuse first.
    lines
        For each row the line of the file; None where rows are counted from 1.

    Notes
    -----
    Privacy contract: exact, without noise; it must not be released. It holds no value.
    """

    file: str
    rows: int
    columns: tuple[ColumnShares, ...]
    constraints: dict[str, int]
    faults: tuple[Fault, ...]
    lines: list[int] | None = None

    @property
    def is_refused(self) -> bool:
        """Whether a fit would refuse the data."""
        return any(fault.is_refused for fault in self.faults)

    @property
    def unit(self) -> str:
        """What places are numbers of: lines of the file, or rows."""
        return "row" if self.lines is None else "line"

    def places(self, fault: Fault) -> Sequence[int]:
        """Return where a fault lies: lines of the file where they can be told, else rows from 1."""
        if fault.lines or fault.rows is None:
            return fault.lines[:_MOST_PLACES]
        rows = fault.rows[:_MOST_PLACES].tolist()
        return [self.lines[row] if self.lines is not None else row + 1 for row in rows]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON; at most 1,000 rows of each fault are listed."""
        return {
            "internal": INTERNAL,
            "file": self.file,
            "rows": self.rows,
            "refused": self.is_refused,
            "columns": {column.name: column.to_dict() for column in self.columns},
            "constraints": self.constraints,
            "faults": [self._fault(fault) for fault in self.faults],
        }

    def _fault(self, fault: Fault) -> dict[str, Any]:
        kind = "refused" if fault.is_refused else "warning"
        facts = {"kind": kind, "place": fault.place, "fault": fault.words, "count": fault.count}
        places = self.places(fault)
        unit = fault.unit if fault.lines else self.unit
        return facts | ({f"{unit}s": list(places)} if places else {})


def check_data(path: str | Path, schema: Schema) -> DataCheck:
    """Check a table, an image set or a folder of images against a schema, and return everything that does not fit.

    Parameters
    ----------
    path
        What `dpsynth.Cohort.read` reads.
    schema
        The schema; it need not be confirmed.

    Returns
    -------
    DataCheck
        Internal: exact counts and numbers of rows, but no value.

    Raises
    ------
    FileError
        If the path cannot be read at all.

    Notes
    -----
    Privacy contract: reads every row without noise and spends nothing. What it returns stays in the house.
    """
    from dpsynth.checking.images import check_image_files, table_of

    path = Path(path)
    stored, home = _stored(path, schema, table_of(path, schema))
    table = stored.table
    faults = [*stored.faults, *check_dropped(schema), *patient_faults(schema)]
    if table is not None and table.num_rows == 0:
        faults.append(Fault(path.name, "has no rows; expected at least one", is_refused=True))
    if table is None or table.num_rows == 0:
        return DataCheck(path.name, 0, (), {}, tuple(faults))
    checked = {
        name: check_column(name, schema.columns[name], table[name], schema.missing_values)
        for name in table.column_names
    }
    faults += [fault for column in checked.values() for fault in column.faults]
    typed = {name: column.array for name, column in checked.items() if column.array is not None}
    faults += check_units(schema, typed, table.num_rows)
    broken, more = check_constraints(schema, checked)
    faults += [*more, *_visits(schema, checked), *counts_faults(schema, table.num_rows)]
    faults += check_image_files(path, schema)
    faults += _as_a_fit_reads(path, schema, faults)
    needs_lines = home is not None and any(fault.rows is not None for fault in faults)
    lines = line_numbers(home, table.num_rows, schema.file) if home is not None and needs_lines else None
    shares = tuple(column.shares for column in checked.values())
    ordered = sorted(faults, key=lambda fault: not fault.is_refused)
    return DataCheck(path.name, table.num_rows, shares, broken, tuple(ordered), lines)


def _stored(path: Path, schema: Schema, table: Path | None) -> tuple[StoredTable, Path | None]:
    """Return the table of a path as it stands, and the file that it stands in; an archive has none."""
    from dpsynth.files.folder import is_image_folder
    from dpsynth.files.read import read_source

    try:
        if table is None:
            rows, _ = read_source(path, schema, part=None, synthetic=False)
            return StoredTable(rows), None
        if table.stem == "index" and is_image_folder(table.parent):  # its images are checked by themselves
            columns = {**schema.columns, "image": Identifier()}
            stored = stored_table(table, schema.model_copy(update={"columns": columns}))
            if stored.table is not None and "image" in stored.table.column_names:
                stored.table = stored.table.drop_columns(["image"])
            return stored, table
        return stored_table(table, schema), table
    except DataError as error:
        return StoredTable(faults=[stored_fault(table or path, error)]), None


def check_constraints(schema: Schema, checked: dict[str, CheckedColumn]) -> tuple[dict[str, int], list[Fault]]:
    """Count the rows that break each constraint; rows with a value that cannot be read are left aside."""
    from dpsynth.cohort.computed import differing
    from dpsynth.cohort.rows import broken_rows

    counts: dict[str, int] = {}
    faults: list[Fault] = []
    kept: list[tuple[str, Sequence[str], str, Callable[[Any], Any]]] = [
        (describe(constraint), constraint.columns, _BROKEN, partial(broken_rows, constraint=constraint))
        for constraint in rules(schema)
    ]
    kept += [
        (words_of(name, item), (name, *item.formula.names, *item.when), _UNEQUAL, partial(differing, name=name))
        for name, item in schema.derived.items()
    ]
    for words, names, todo, broken in kept:
        columns = [checked.get(name) for name in names]
        read = [column for column in columns if column is not None and column.array is not None]
        if len(read) < len(columns):
            continue
        mask = broken(_cohort(schema, checked, names))
        mask &= ~np.logical_or.reduce([column.unreadable for column in read])
        counts[words] = int(mask.sum())
        faults += at_rows(words, todo, mask)
    return counts, faults


def _cohort(schema: Schema, checked: dict[str, CheckedColumn], names: Sequence[str]) -> "Cohort":
    """Return the cohort of some columns as far as they can be read."""
    import pyarrow as pa

    from dpsynth.cohort.cohort import Cohort

    return Cohort(schema, pa.table({name: checked[name].array for name in dict.fromkeys(names)}))


def _visits(schema: Schema, checked: dict[str, CheckedColumn]) -> list[Fault]:
    """Return the rows that visits leave out, where the columns that they need can be read."""
    if schema.visits is None or schema.patient is None:
        return []
    names = [schema.patient, schema.visits.column, *schema.visits.static]
    if any(name not in checked or checked[name].array is None for name in names):
        return []
    return check_visit_rows(_cohort(schema, checked, names))


def patient_faults(schema: Schema) -> list[Fault]:
    """Return whether a column whose values are to be discovered is one that tells patients apart."""
    from dpsynth.schema.open_questions import discovered_patients

    return [Fault(name, words, is_refused=True) for name, words in discovered_patients(schema).items()]


def counts_faults(schema: Schema, rows: int) -> list[Fault]:
    """Return whether the public number of rows is that of the data."""
    if schema.rows in (None, rows):
        return []
    return [Fault("rows", f"is {schema.rows} in the schema, and the data have {rows} rows", is_refused=False)]


def _as_a_fit_reads(path: Path, schema: Schema, faults: Sequence[Fault]) -> list[Fault]:
    """Return what a fit's own reading refuses, where nothing was found that it would: so nothing passes unsaid."""
    from dpsynth.cohort.cohort import Cohort

    if any(fault.is_refused for fault in faults):
        return []
    try:
        Cohort.read(path, schema)
    except DpsynthError as error:
        return [Fault(path.name, str(error).rstrip("."), is_refused=True)]
    return []
