"""Cohorts as CSV and Parquet."""

import csv
import io
import re
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from dpsynth.columns.arrow import whole
from dpsynth.columns.kinds import Boolean, Categorical, Column, Datetime
from dpsynth.columns.moments import as_written
from dpsynth.columns.spelling import spelling
from dpsynth.columns.typed import text_of
from dpsynth.files.image_set import ImageSet
from dpsynth.schema.dialect import FileFormat
from dpsynth.schema.schema import Schema

__all__ = ["Writable", "append_csv", "csv_header", "write_csv", "write_parquet"]


class Writable(Protocol):
    """A table of patients with its schema, and its images where it has some."""

    @property
    def schema(self) -> Schema:
        """What is publicly known about the columns."""

    @property
    def table(self) -> Any:
        """A pyarrow table of the declared columns."""

    @property
    def images(self) -> ImageSet | None:
        """The images of its rows."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""

    def plain_table(self) -> Any:
        """Return the table with categories as plain values."""

    def patients(self) -> npt.NDArray[np.int64]:
        """Return (rows,) for each row the number of its patient."""

    def __len__(self) -> int: ...


def write_parquet(cohort: Writable, path: Path) -> None:
    """Write Parquet; the file holds the columns and nothing of the machine or the user."""
    import pyarrow.parquet as pq

    pq.write_table(cohort.plain_table(), path)


def write_csv(cohort: Writable, path: Path, *, guard_formulas: bool) -> None:
    """Write CSV with the separator and the decimal mark of the schema's `file`, else commas and points.

    A missing value is an empty cell, a date is written in its declared format. The text is UTF-8; where the schema
    declares another encoding, a byte-order mark says so, which readers and spreadsheets obey.
    """
    with path.open("wb") as file:
        file.write(csv_header(cohort, guard_formulas=guard_formulas))
        append_csv(cohort, file, guard_formulas=guard_formulas)


def csv_header(cohort: Writable, *, guard_formulas: bool) -> bytes:
    """Return the first line of the CSV file of a cohort."""
    form, header = cohort.schema.file, io.StringIO()
    names = [f"'{name}" if guard_formulas and name.startswith(tuple("=+-@")) else name for name in cohort.columns]
    csv.writer(header, delimiter=form.separator, lineterminator="\n").writerow(names)
    return header.getvalue().encode("utf-8" if form.codec == "utf-8" else "utf-8-sig")


def append_csv(cohort: Writable, file: BinaryIO, *, guard_formulas: bool, quoted: bool = False) -> None:
    """Write the rows of a cohort as `write_csv` does, without a header.

    Parameters
    ----------
    cohort
        The rows.
    file
        Open for writing.
    guard_formulas
        As for `dpsynth.Cohort.write`.
    quoted
        Quote all text; else only where some has a mark of CSV.
    """
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    form = cohort.schema.file
    columns = {name: _written(cohort, name, guard_formulas=guard_formulas) for name in cohort.columns}
    if form.decimal != ".":
        columns = {name: _with_decimal(array, form) for name, array in columns.items()}
    if len(columns) == 1:  # an empty line would be skipped by whoever reads the file
        columns = {name: array.cast(pa.string()).fill_null("") for name, array in columns.items()}
    quoted = quoted or len(columns) == 1 or any(_has_marks(array, form.separator) for array in columns.values())
    style = "needed" if quoted else "none"
    options = pa_csv.WriteOptions(include_header=False, quoting_style=style, delimiter=form.separator)
    pa_csv.write_csv(pa.table(columns), file, options)


def _written(cohort: Writable, name: str, *, guard_formulas: bool) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    column, array = cohort.schema.columns[name], whole(cohort.table[name])
    if isinstance(column, Datetime):
        return _formatted(array, column)
    if pa.types.is_dictionary(array.type):
        categories = _spelled(column, array.dictionary)
        if pa.types.is_string(array.type.value_type) and guard_formulas:
            categories = _guarded(categories)
        return categories.take(array.indices)
    if pa.types.is_struct(array.type):
        numbers, states = array.flatten()
        written = pc.replace_substring(text_of(numbers), ".", cohort.schema.file.decimal)
        return pc.coalesce(_guarded(states) if guard_formulas else states, written)
    return _guarded(array) if guard_formulas and pa.types.is_string(array.type) else array


def _spelled(column: Column, dictionary: Any) -> Any:
    """Return the text of categories as the schema spells them: Arrow would write 428.0 as 428."""
    import pyarrow as pa

    if isinstance(column, Categorical | Boolean) and len(column.categories) == len(dictionary):
        return pa.array([spelling(value) for value in column.categories], pa.string())
    return dictionary.cast(pa.string())


def _with_decimal(array: Any, form: FileFormat) -> Any:
    """Return numbers as text with the decimal mark of the file; other columns as they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_floating(array.type):
        return array
    return pc.replace_substring(text_of(array), ".", form.decimal)


def _has_marks(array: Any, separator: str) -> bool:
    """Return whether text holds a character that has a meaning in CSV."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(array.type):
        return False
    return bool(pc.any(pc.match_substring_regex(pc.unique(array), rf'["\r\n{re.escape(separator)}]')).as_py())


def _guarded(text: Any) -> Any:
    import pyarrow.compute as pc

    return pc.if_else(pc.match_substring_regex(text, r"^[=+\-@\t\r]"), pc.binary_join_element_wise("'", text, ""), text)


def _formatted(array: Any, column: Datetime) -> Any:
    """Return dates as text; each date is formatted once."""
    import pyarrow as pa

    encoded = array.dictionary_encode()
    texts = [as_written(moment, column) for moment in encoded.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(texts, pa.string())).cast(pa.string())
