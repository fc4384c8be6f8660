"""Files and frames as Arrow tables of the declared columns, with a clear message for each way a file can be wrong."""

import csv
import json
import re
from collections.abc import Container, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from dpsynth.columns import Boolean, Categorical, Datetime, Identifier, Numeric
from dpsynth.errors import DataError, FileError
from dpsynth.matching import canonical_text
from dpsynth.schema import Schema, nearest
from dpsynth.values import is_period, mixed_moments, text_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["column_names", "from_objects", "plain_types", "read_all", "read_frame", "read_header", "read_table"]

_BLOCK = 16 * 2**20
_SIGNATURES = {
    b"PK\x03\x04": "an Excel or zip file",
    b"\x1f\x8b": "a gzip file",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"%PDF": "a PDF file",
    b"$FL2": "an SPSS file",
    b"SQLite": "an SQLite file",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}


def read_table(path: Path, schema: Schema, *, synthetic: bool = False) -> Any:
    """Read the declared columns of a CSV or Parquet file; which of the two it is, its first bytes say.

    Parameters
    ----------
    path
        The file.
    schema
        Its schema.
    synthetic
        Whether identifiers may be left out.

    Returns
    -------
    pyarrow.Table
        The declared columns in the schema's order, not yet checked value by value.

    Raises
    ------
    FileError
        If the file cannot be read.
    DataError
        If it is no such file, or its columns are not the declared ones.
    """
    start = first_bytes(path)
    return (_read_parquet if start.startswith(b"PAR1") else _read_csv)(path, schema, synthetic=synthetic)


def read_all(path: Path) -> Any:
    """Read every column of a CSV file as text, or of a Parquet file as it is, without a schema; raises as above."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not first_bytes(path).startswith(b"PAR1"):
        header = read_header(path)
        _check_unique(header)
        if sum(bool(re.fullmatch(r"[-+\d.,: ]*", name)) for name in header) > len(header) / 2:
            raise DataError(
                f"{path.name}: its first line looks like a row, not like the names of columns; add a header."
            )
        return _parse_csv(path, header, dict.fromkeys(header, pa.string()), [""])
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError):
        raise DataError(f"{path.name}: is not a whole Parquet file; write it again.") from None
    _check_unique(table.column_names)
    return plain_types(table)


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a CSV or Parquet file; raises as `read_table`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not first_bytes(path).startswith(b"PAR1"):
        return read_header(path)
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        raise DataError(f"{path.name}: is not a whole Parquet file; write it again.") from None


def first_bytes(path: Path) -> bytes:
    """Return the beginning of a file, or say why it cannot be a table."""
    if path.is_dir():
        raise FileError(f"{path.name}: is a folder; give a CSV or Parquet file.")
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise FileError(f"{path.name}: cannot be read ({error.strerror or 'unknown reason'}).") from None
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            raise DataError(f"{path.name}: looks like {kind}; expected CSV in UTF-8, or Parquet. Export it as one.")
    if b"\x00" in start and not start.startswith(b"PAR1"):
        raise DataError(f"{path.name}: is a binary file; expected CSV in UTF-8, or Parquet.")
    if not start.strip():
        raise DataError(f"{path.name}: is empty; expected a header line and at least one row.")
    return start


def read_header(path: Path, known: Container[str] = ()) -> list[str]:
    """Return the column names of a CSV file, where `known` are names that it may well have.

    Raises
    ------
    DataError
        If the first line is no header of a comma-separated file in UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except UnicodeDecodeError:
        raise DataError(f"{path.name}: is not text in UTF-8; save it as CSV in UTF-8.") from None
    except csv.Error:
        raise DataError(f"{path.name}: its first line is no header of a CSV file.") from None
    if not header:
        raise DataError(f"{path.name}: its first line is blank; expected the names of the columns.")
    if len(header) == 1 and header[0] not in known and re.search(r"[;\t|]", header[0]):
        raise DataError(f"{path.name}: seems to be separated by {_separator(header[0])}; expected commas.")
    if any(not name for name in header):
        raise DataError(f"{path.name}: a column has no name in the header; name it, and declare or drop it.")
    return header


def _separator(line: str) -> str:
    return next(name for mark, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")) if mark in line)


def _check_unique(names: Sequence[str], known: Container[str] = ()) -> None:
    """Refuse a name that stands twice; it is repeated only where the schema has it, since a file may have no header."""
    place = {name: index for index, name in reversed(list(enumerate(names)))}
    second = next((index for index, name in enumerate(names) if place[name] < index), None)
    if second is not None:
        name = names[second]
        which = f"column {name!r}" if name in known else f"columns {place[name] + 1} and {second + 1}"
        raise DataError(f"{which}: one name stands twice in the header; rename one of the two.")


def wanted_columns(found: Sequence[str], schema: Schema, *, synthetic: bool) -> list[str]:
    """Return the declared columns to read, in the schema's order, and refuse what is undeclared or not there.

    Raises
    ------
    DataError
        Naming the column, with the nearest known name.
    """
    known = {*schema.columns, *schema.drop}
    _check_unique(found, known)
    unknown = [name for name in found if name not in known]
    absent = [name for name in schema.columns if name not in set(found) and not (synthetic and _optional(schema, name))]
    if unknown and not set(found) & known:
        raise DataError("none of the file's columns is declared in the schema: is this the right file, with a header?")
    if absent:
        near = nearest(absent[0], tuple(unknown))
        raise DataError(
            f"column {absent[0]!r}: is declared and not in the data{near}. "
            "Correct the header or the name in the schema, or take the column out of the schema."
        )
    if unknown:
        near = nearest(unknown[0], tuple(schema.columns))
        raise DataError(
            f"column {unknown[0]!r}: is in the data and not declared{near}. "
            "Declare it under columns, or name it under drop to leave it unread."
        )
    return [name for name in schema.columns if name in set(found)]


def _optional(schema: Schema, name: str) -> bool:
    return isinstance(schema.columns[name], Identifier)


def _read_csv(path: Path, schema: Schema, *, synthetic: bool) -> Any:
    header = read_header(path, schema.columns)
    columns = wanted_columns(header, schema, synthetic=synthetic)
    types = {name: _arrow_type(schema, name) for name in columns}
    return _parse_csv(path, header, types, list({*schema.missing_values, ""}))


def _parse_csv(path: Path, header: Sequence[str], types: dict[str, Any], missing_values: list[str]) -> Any:
    """Return the columns that `types` names, read as those types."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    try:
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(block_size=_BLOCK),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                include_columns=list(types), column_types=types, null_values=missing_values, strings_can_be_null=False
            ),
        )
        fault = ""
    except pa.ArrowInvalid as error:
        fault = str(error)  # holds values: only its form is read below
    except OSError as error:
        raise FileError(f"{path.name}: cannot be read ({error.strerror or 'unknown reason'}).") from None
    if fault:
        raise DataError(_csv_fault(path.name, header, fault))
    return table


def _arrow_type(schema: Schema, name: str) -> Any:
    import pyarrow as pa

    kind = schema.columns[name]
    if isinstance(kind, Numeric):
        return pa.string() if kind.states else pa.float64()
    if isinstance(kind, Categorical | Boolean):
        return pa.dictionary(pa.int32(), pa.string())
    return pa.string() if isinstance(kind, Datetime | Identifier) else None


def _csv_fault(file: str, header: Sequence[str], fault: str) -> str:
    """Return what pyarrow found, without the values that its own message repeats."""
    column = re.match(r"In CSV column #(\d+): (.*)", fault, re.DOTALL)
    if column:
        name = header[int(column[1])]
        if "UTF8" in column[2]:
            return f"column {name!r}: holds text that is not UTF-8; save the file as CSV in UTF-8."
        return (
            f"column {name!r}: found text that is no number; the column is declared numeric. Correct the data, declare "
            "another type, or, if the text means that the value is missing, add it to missing_values."
        )
    if "Expected" in fault and "columns" in fault:
        return f"{file}: a row has more or fewer cells than the header has names; correct the file (quote commas)."
    if "UTF8" in fault:
        return f"{file}: is not text in UTF-8; save it as CSV in UTF-8."
    return f"{file}: is not a well-formed CSV file (an unclosed quote, or a cell that is far too large)."


def _read_parquet(path: Path, schema: Schema, *, synthetic: bool) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = wanted_columns(file.schema_arrow.names, schema, synthetic=synthetic)
            table = file.read(columns=columns).select(columns)
    except (pa.ArrowException, OSError):
        raise DataError(f"{path.name}: is not a whole Parquet file; write it again.") from None
    return plain_types(table)


def read_frame(frame: "pd.DataFrame", schema: Schema, *, synthetic: bool = False) -> Any:
    """Return the declared columns of a pandas data frame as an Arrow table; raises as `read_table` does."""
    import pyarrow as pa

    names = [str(name) for name in frame.columns]
    columns = wanted_columns(names, schema, synthetic=synthetic)
    return pa.table({name: _from_series(name, frame.iloc[:, names.index(name)], schema) for name in columns})


def _from_series(name: str, series: "pd.Series[Any]", schema: Schema) -> Any:
    """Return a column for Arrow. No value decides how another is read: objects of several types are read one by one."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(series.dtype, pd.CategoricalDtype):
        codes = series.cat.codes.to_numpy()
        values = _from_series(name, pd.Series(series.cat.categories), schema)
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), values)
    there = series.notna().to_numpy()
    if series.dtype != object or _of_one_type(series[there]):
        try:
            return pa.Array.from_pandas(series)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            pass
    values = [value if known else None for value, known in zip(series, there, strict=True)]
    return from_objects(name, values, schema)


def from_objects(name: str, values: Sequence[Any], schema: Schema) -> Any:
    """Return Python objects for Arrow: dates for a column of dates, text otherwise; each is read by itself.

    Raises
    ------
    DataError
        If one of them is no text, number, boolean, date or time.
    """
    import pyarrow as pa

    if not all(value is None or _is_single(value) for value in values):
        raise DataError(
            f"column {name!r}: found objects, such as lists, bytes or intervals; expected text, numbers or dates. "
            "Write each value as text."
        )
    column = schema.columns[name]
    if isinstance(column, Datetime):
        return mixed_moments(name, column, values, schema.missing_values)
    return pa.array([None if value is None else canonical_text(value) for value in values], pa.string())


def _is_single(value: Any) -> bool:
    """Return whether an object is one value with a text of its own."""
    import pandas as pd

    plain = (str, bool, int, float, Decimal, date, time, timedelta, UUID, pd.Period)
    of_numpy = (np.bool_, np.integer, np.floating, np.str_, np.datetime64, np.timedelta64)
    return isinstance(value, (*plain, *of_numpy))


def _of_one_type(series: "pd.Series[Any]") -> bool:
    """Return whether objects are of one type that Arrow takes over as it is; integers and floats join without loss."""
    kinds = set(map(type, series))
    return kinds <= {int, float} or kinds in ({str}, {bool})


def plain_types(table: Any) -> Any:
    """Return a table without extension types that Arrow does not know: pandas' periods become text, others are refused.

    Whether such a type is known to Arrow depends on what else the process has imported; what is stored does not.

    Raises
    ------
    DataError
        If a column has another unknown type.
    """
    for index, field in enumerate(table.schema):
        if is_period(field.type):
            table = table.set_column(index, field.name, text_of(table[index]))
        elif field.metadata and b"ARROW:extension:name" in field.metadata:
            table = table.set_column(index, field.name, _stored_periods(field, table[index]))
    return table


def _stored_periods(field: Any, array: Any) -> Any:
    """Return the text of pandas' periods from what is stored for them."""
    import pandas as pd
    import pyarrow as pa

    kind = field.metadata[b"ARROW:extension:name"].decode()
    if kind != "pandas.period":
        raise DataError(f"column {field.name!r}: found values of type {kind}, expected text, numbers or dates.")
    frequency = json.loads(field.metadata[b"ARROW:extension:metadata"])["freq"]
    different = array.combine_chunks().dictionary_encode()
    periods = pd.PeriodIndex.from_ordinals(different.dictionary.to_pylist(), freq=frequency)
    return pa.array([str(period) for period in periods], pa.string()).take(different.indices)
