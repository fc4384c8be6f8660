"""Files and frames as Arrow tables of the declared columns, with a clear message for each way a file can be wrong."""

import json
import re
from collections.abc import Callable, Collection, Container, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from dpsynth.columns.arrow import whole
from dpsynth.columns.kinds import Datetime, Identifier
from dpsynth.columns.matching import canonical_text
from dpsynth.columns.typed import mixed_moments
from dpsynth.errors import DataError, nearest
from dpsynth.files.csvfiles import CsvFile, first_bytes, fitting
from dpsynth.files.csvtables import read_header, read_texts, typed_csv
from dpsynth.files.office import OfficeFile, office_file
from dpsynth.schema.dialect import FileFormat
from dpsynth.schema.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "column_names",
    "from_objects",
    "is_text_file",
    "plain_types",
    "read_all",
    "read_frame",
    "read_header",
    "read_table",
]


def read_table(
    path: Path, schema: Schema, *, synthetic: bool = False, on_damaged: Callable[[Any], str] | None = None
) -> Any:
    """Read the declared columns of a table: CSV, Parquet, Excel, Stata, SAS or SPSS, as its first bytes say.

    Parameters
    ----------
    path
        The file. CSV is read as `schema.file` declares.
    schema
        Its schema.
    synthetic
        Whether identifiers may be left out. Rows without any value are then kept: no person is behind them.
    on_damaged
        Called with each line of a CSV file that has more or fewer cells than the header has names; returns ``"skip"``
        to pass over it. What else is wrong with the header is then passed over, too. Where left out, all of it is an
        error, and columns are typed; else they are text, with numbers in standard notation where they are some.

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
    office = office_file(path, schema.file)
    if office is not None:
        return _read_office(office, schema, synthetic=synthetic)
    if not is_text_file(path):
        return _read_parquet(path, schema, synthetic=synthetic)
    return read_csv(path, schema, synthetic=synthetic, on_damaged=on_damaged)


def is_text_file(path: Path) -> bool:
    """Return whether a table is CSV rather than one with types; raises as `read_table` where it is no table."""
    return office_file(path) is None and not first_bytes(path).startswith(b"PAR1")


def read_all(path: Path, form: FileFormat | None = None, names: Sequence[str] = ()) -> Any:
    """Read every column of a CSV, Excel, Stata, SAS or SPSS file as text, or of a Parquet file, without a schema.

    Parameters
    ----------
    path
        The file.
    form
        How a CSV file is written; the standard way where left out.
    names
        Columns that it must have, where some are known: a file in the standard format that has them is read, too.

    Returns
    -------
    pyarrow.Table
        All columns; numbers of a CSV file in standard notation.

    Raises
    ------
    FileError, DataError
        As `read_table`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    office = office_file(path, form)
    if office is not None:
        return _office_texts(office)
    if not first_bytes(path).startswith(b"PAR1"):
        form = form or FileFormat()
        file = fitting(path, form, names) if names else CsvFile.of(path, form)
        header = read_header(file)
        _check_unique(header)
        if sum(bool(re.fullmatch(r"[-+\d.,: ]*", name)) for name in header) > len(header) / 2:
            raise DataError(
                f"{path.name}: its first line looks like a row, not like the names of columns; add a header."
            )
        return read_texts(file, header)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError):
        raise DataError(f"{path.name}: is not a whole Parquet file; write it again.") from None
    _check_unique(table.column_names)
    return plain_types(table)


def column_names(path: Path, form: FileFormat | None = None, declared: Collection[str] = ()) -> list[str]:
    """Return the names of the columns of a file.

    Parameters
    ----------
    path
        The file.
    form
        How a CSV file is written; the likeliest way where left out.
    declared
        Columns that it may well have.

    Raises
    ------
    FileError, DataError
        As `read_table`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    office = office_file(path, form)
    if office is not None:
        return office.names()
    if not first_bytes(path).startswith(b"PAR1"):
        if form is not None:
            return read_header(fitting(path, form, declared), declared)
        headers = [CsvFile.of(path, FileFormat(separator=mark)).header() for mark in (",", ";", "\t", "|")]
        return max(headers, key=len)
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        raise DataError(f"{path.name}: is not a whole Parquet file; write it again.") from None


def _check_unique(names: Sequence[str], declared: Container[str] = ()) -> None:
    """Refuse a name that stands twice; it is repeated only where the schema has it, since a file may have no header."""
    place = {name: index for index, name in reversed(list(enumerate(names)))}
    second = next((index for index, name in enumerate(names) if place[name] < index), None)
    if second is not None:
        name = names[second]
        which = f"column {name!r}" if name in declared else f"columns {place[name] + 1} and {second + 1}"
        raise DataError(f"{which}: one name stands twice in the header; rename one of the two.")


def wanted_columns(header: Sequence[str], schema: Schema, *, synthetic: bool) -> list[str]:
    """Return the declared columns to read, in the schema's order, and refuse what is undeclared or not there.

    Raises
    ------
    DataError
        Naming the column, with the nearest known name.
    """
    declared = {*schema.columns, *schema.drop}
    _check_unique(header, declared)
    unknown = [name for name in header if name not in declared]
    absent = [
        name for name in schema.columns if name not in set(header) and not (synthetic and _optional(schema, name))
    ]
    if unknown and not set(header) & declared:
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
    return [name for name in schema.columns if name in set(header)]


def _optional(schema: Schema, name: str) -> bool:
    return isinstance(schema.columns[name], Identifier)


def read_csv(path: Path, schema: Schema, *, synthetic: bool, on_damaged: Callable[[Any], str] | None = None) -> Any:
    """Read the declared columns of a CSV file as `schema.file` declares; arguments and errors as for `read_table`."""
    names = [name for name in schema.columns if not (synthetic and _optional(schema, name))]
    file = fitting(path, schema.file, names)
    header = read_header(file, schema.columns)
    if on_damaged is None:
        columns = wanted_columns(header, schema, synthetic=synthetic)
    else:
        columns = [name for name in schema.columns if header.count(name) == 1]
    return typed_csv(file, header, columns, schema, keep_empty=synthetic, on_damaged=on_damaged)


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


def _read_office(file: OfficeFile, schema: Schema, *, synthetic: bool) -> Any:
    """Read the declared columns of a table of Excel, Stata, SAS or SPSS, each cell by itself."""
    import pyarrow as pa

    wanted = wanted_columns(file.names(), schema, synthetic=synthetic)
    columns = file.columns(wanted, keep_empty=synthetic)
    return pa.table({name: from_objects(name, columns[name], schema) for name in wanted})


def _office_texts(file: OfficeFile) -> Any:
    """Return all columns of such a table as text."""
    import pyarrow as pa

    _check_unique(file.names())
    blank = Schema.model_construct(columns={})
    return pa.table({name: from_objects(name, values, blank) for name, values in file.columns().items()})


def read_frame(frame: "pd.DataFrame", schema: Schema, *, synthetic: bool = False) -> Any:
    """Return the declared columns of a pandas data frame as an Arrow table; raises as `read_table` does."""
    import pyarrow as pa

    names = [str(name) for name in frame.columns]
    columns = wanted_columns(names, schema, synthetic=synthetic)
    return pa.table({name: _from_series(name, frame.iloc[:, names.index(name)], schema) for name in columns})


def frame_columns(frame: "pd.DataFrame") -> Any:
    """Return all columns of a pandas data frame as an Arrow table, without a schema; objects become text one by one."""
    import pyarrow as pa

    blank = Schema.model_construct(columns={})
    names = [str(name) for name in frame.columns]
    return plain_types(
        pa.table({name: _from_series(name, frame.iloc[:, place], blank) for place, name in enumerate(names)})
    )


def _from_series(name: str, series: "pd.Series[Any]", schema: Schema) -> Any:
    """Return a column for Arrow. No value decides how another is read: objects of several types are read one by one."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(series.dtype, pd.CategoricalDtype):
        codes = series.cat.codes.to_numpy()
        values = _from_series(name, pd.Series(series.cat.categories), schema)
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), values)
    if series.dtype.kind == "V":  # records and raw bytes
        return from_objects(name, list(series), schema)
    there = series.notna().to_numpy()
    if not isinstance(series.dtype, pd.PeriodDtype) and (series.dtype != object or _of_one_type(series[there])):
        try:
            return pa.Array.from_pandas(series)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            pass
    values = [value if is_present else None for value, is_present in zip(series, there, strict=True)]
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
    column = schema.columns.get(name)
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
        kind, facts = field.type, field.metadata or {}
        if getattr(kind, "extension_name", "") == "pandas.period":
            table = table.set_column(index, field.name, _period_texts(whole(table[index]).storage, kind.freq))
        elif facts.get(b"ARROW:extension:name") == b"pandas.period":
            frequency = json.loads(facts[b"ARROW:extension:metadata"])["freq"]
            table = table.set_column(index, field.name, _period_texts(whole(table[index]), frequency))
        elif b"ARROW:extension:name" in facts:
            name = facts[b"ARROW:extension:name"].decode()
            raise DataError(
                f"column {field.name!r}: found values of type {name}, expected text, numbers or dates. "
                "Write each value as text."
            )
    return table


def _period_texts(ordinals: Any, frequency: str) -> Any:
    """Return the text of pandas' periods, which stand for days or longer or shorter spans, from their numbers."""
    import pandas as pd
    import pyarrow as pa

    different = ordinals.dictionary_encode()
    texts = [str(pd.Period(ordinal=ordinal, freq=frequency)) for ordinal in different.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(different.indices)
