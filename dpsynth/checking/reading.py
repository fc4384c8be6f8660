"""A table as it stands in its file, read as far as it can be: columns, damaged lines, and the line of each row."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpsynth.checking.faults import Fault
from dpsynth.errors import DataError, nearest
from dpsynth.files.csvfiles import fitting
from dpsynth.files.tables import column_names, is_text_file, read_table
from dpsynth.schema.dialect import FileFormat, is_total
from dpsynth.schema.schema import Schema

__all__ = ["DAMAGED", "StoredTable", "damaged_fault", "line_numbers", "names_faults", "stored_fault", "stored_table"]

DAMAGED = "lines with more or fewer cells than the header has names. Quote cells that hold a comma"


@dataclass
class StoredTable:
    """What a file holds of the declared columns.

    Attributes
    ----------
    table
        The declared columns that are there, as they stand in the file; None where it cannot be read.
    faults
        Columns that are not there, not declared or there twice, and damaged lines.
    damaged
        How many lines were passed over.
    """

    table: Any = None
    faults: list[Fault] = field(default_factory=list)
    damaged: int = 0


def stored_table(path: Path, schema: Schema) -> StoredTable:
    """Read the declared columns of a CSV or Parquet file, whatever else is wrong with it.

    Raises
    ------
    FileError, DataError
        If it cannot be read at all.
    """
    names = column_names(path, schema.file, schema.columns)
    stored = StoredTable(faults=names_faults(path.name, names, schema))
    wanted = [name for name in schema.columns if names.count(name) == 1]
    if not wanted:
        return stored
    damaged: list[int] = []

    def pass_over(row: Any) -> str:
        damaged.append(row.number)
        return "skip"

    # Every column of a CSV file is read as text: what a value means is checked later, value by value.
    columns = {name: schema.columns[name] for name in wanted}
    part = schema.model_copy(update={"columns": columns, "drop": tuple({*names} - {*wanted})})
    if is_text_file(path) or len(set(names)) == len(names):
        stored.table = read_table(path, part, on_damaged=pass_over)
    stored.damaged = len(damaged)
    if damaged:
        stored.faults.append(damaged_fault(path.name, path, damaged, schema.file))
    return stored


def damaged_fault(label: str, path: Path, damaged: Sequence[int], form: FileFormat) -> Fault:
    """Return the fault of lines of another length.

    Parameters
    ----------
    label
        What to call the file.
    path
        The file.
    damaged
        The numbers of the lines, or of the rows, as the reader gave them.
    form
        How the file is written.
    """
    return Fault(label, DAMAGED, True, lines=_damaged_lines(path, damaged, form), count=len(damaged))


def names_faults(file: str, names: Sequence[str], schema: Schema) -> list[Fault]:
    """Return what is wrong with the names of a file's columns: not declared, not there, or there twice.

    Parameters
    ----------
    file
        What to call the file.
    names
        The names in its header.
    schema
        The schema.
    """
    declared = {*schema.columns, *schema.drop}
    if not declared & {*names}:  # the first line may be a row of values, which no message may hold
        words = "none of its columns is declared in the schema: is this the right file, with a header?"
        return [Fault(file, words, is_refused=True)]
    undeclared = [name for name in dict.fromkeys(names) if name not in declared]
    absent = [name for name in schema.columns if name not in names]
    repeated = [_shown(name, names, declared) for name in dict.fromkeys(names) if names.count(name) > 1]
    declare = "Declare it under columns, or name it under drop"
    faults = [Fault(name, "stands twice in the header. Rename one of the two", is_refused=True) for name in repeated]
    faults += [
        Fault(name, f"is declared and not in the data{nearest(name, tuple(undeclared))}", is_refused=True)
        for name in absent
    ]
    faults += [
        Fault(name, f"is in the data and not declared{nearest(name, tuple(absent))}. {declare}", is_refused=True)
        for name in undeclared
    ]
    return faults


def _shown(name: str, names: Sequence[str], declared: Container[str]) -> str:
    """Return a name that stands twice, or only where it does: what the schema does not have may be a value."""
    if name in declared:
        return name
    return f"columns {' and '.join(str(place + 1) for place, other in enumerate(names) if other == name)}"


def line_numbers(path: Path, rows: int, form: FileFormat) -> list[int] | None:
    """Return for each row of a CSV file the number of the line that it begins on; None where they cannot be told.

    Parameters
    ----------
    path
        The file.
    rows
        Rows of the table that was read from it: where another count is found, lines cannot be told.
    form
        How the file is written.
    """
    records = _records(path, form)
    if records is None:
        return None
    width = records[0][1]
    lines = [line for line, cells in records[1:] if cells == width]
    return lines if len(lines) == rows else None


def _damaged_lines(path: Path, numbers: Sequence[int], form: FileFormat) -> tuple[int, ...]:
    """Return the lines with a wrong number of cells; the numbers of the rows where lines cannot be told."""
    records = _records(path, form) or []
    lines = tuple(line for line, cells in records[1:] if cells != records[0][1])
    return lines if len(lines) == len(numbers) else tuple(numbers)


def _records(path: Path, form: FileFormat) -> list[tuple[int, int]] | None:
    """Return line and number of cells of each record of a CSV file that a fit reads; None where it is none."""
    if not is_text_file(path):
        return None
    records: list[tuple[int, int]] = []
    try:
        file = fitting(path, form, ())
        before = file.above
        for line, cells in file.records():
            width = records[0][1] if records else 0
            is_blank = len(cells) == width > 1 and not any(cell.strip() for cell in cells)
            if cells and not is_blank and not is_total(cells[0], file.form.totals):
                records.append((before + 1, len(cells)))
            before = line
    except DataError:
        return None
    return records or None


def _undecodable_lines(path: Path) -> tuple[int, ...]:
    """Return the lines of a text file that are not UTF-8."""

    def is_text(line: bytes) -> bool:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return True

    with path.open("rb") as file:
        return tuple(number for number, line in enumerate(file, 1) if not is_text(line))


def stored_fault(path: Path, error: DataError) -> Fault:
    """Return the fault of a file that cannot be read at all, with the lines that are not UTF-8."""
    words = str(error).rstrip(".")
    lines = _undecodable_lines(path) if "not text in UTF-8" in words or "that is not UTF-8" in words else ()
    return Fault(path.name, words.removeprefix(f"{path.name}: "), True, lines=lines, count=len(lines) or None)
