"""Cohorts as CSV and Parquet."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.columns import Datetime
from dpsynth.moments import as_written
from dpsynth.values import text_of, whole

if TYPE_CHECKING:
    from dpsynth.cohort import Cohort

__all__ = ["write_csv", "write_parquet"]


def write_parquet(cohort: "Cohort", path: Path) -> None:
    """Write Parquet; the file holds the columns and nothing of the machine or the user."""
    import pyarrow.parquet as pq

    pq.write_table(cohort.plain_table(), path)


def write_csv(cohort: "Cohort", path: Path, *, guard_formulas: bool) -> None:
    """Write CSV in UTF-8: a missing value is an empty cell, a date is written in its declared format."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    columns = {name: _written(cohort, name, guard_formulas=guard_formulas) for name in cohort.columns}
    if len(columns) == 1:  # an empty line would be skipped by whoever reads the file
        columns = {name: array.cast(pa.string()).fill_null("") for name, array in columns.items()}
    quoted = len(columns) == 1 or any(map(_has_marks, columns.values()))
    header = io.StringIO()
    names = [f"'{name}" if guard_formulas and name.startswith(tuple("=+-@")) else name for name in cohort.columns]
    csv.writer(header, lineterminator="\n").writerow(names)
    with path.open("wb") as file:
        file.write(header.getvalue().encode())
        options = pa_csv.WriteOptions(include_header=False, quoting_style="needed" if quoted else "none")
        pa_csv.write_csv(pa.table(columns), file, options)


def _written(cohort: "Cohort", name: str, *, guard_formulas: bool) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    column, array = cohort.schema.columns[name], whole(cohort.table[name])
    if isinstance(column, Datetime):
        return _formatted(array, column)
    if pa.types.is_dictionary(array.type):
        if pa.types.is_string(array.type.value_type) and guard_formulas:
            array = pa.DictionaryArray.from_arrays(array.indices, _guarded(array.dictionary))
        return array.cast(array.type.value_type)
    if pa.types.is_struct(array.type):
        numbers, states = array.flatten()
        return pc.coalesce(_guarded(states) if guard_formulas else states, text_of(numbers))
    return _guarded(array) if guard_formulas and pa.types.is_string(array.type) else array


def _has_marks(array: Any) -> bool:
    """Return whether text holds a character that has a meaning in CSV."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(array.type):
        return False
    return bool(pc.any(pc.match_substring_regex(pc.unique(array), r'[",\r\n]')).as_py())


def _guarded(text: Any) -> Any:
    import pyarrow.compute as pc

    return pc.if_else(pc.match_substring_regex(text, r"^[=+\-@\t\r]"), pc.binary_join_element_wise("'", text, ""), text)


def _formatted(array: Any, column: Datetime) -> Any:
    """Return dates as text; each date is formatted once."""
    import pyarrow as pa

    encoded = array.dictionary_encode()
    texts = [as_written(moment, column) for moment in encoded.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(texts, pa.string())).cast(pa.string())
