"""Rows in batches, as they stand in files and in tables of DuckDB: nothing is cast, guessed or put in order on the way.

Values come as Arrow gives them and are typed by `dpsynth.columns.typed.typed`, one by one, like those of a file that
is read at once. No SQL but ``SELECT columns FROM table`` is ever run.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from dpsynth.errors import DataError, FileError, InputError
from dpsynth.files.csvfiles import fitting
from dpsynth.files.csvtables import csv_batches, read_header
from dpsynth.files.tables import column_names, is_text_file, plain_types, wanted_columns
from dpsynth.sources.locating import DUCKDB, Located, locate

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["ROWS", "DuckTable", "Files", "Rows", "arrow_reader"]

ROWS = 2**16
"""Rows of a batch."""
PROBE = 64
"""Rows by which it is told how long the texts of a Parquet file are."""
TEXT = 40
"""Bytes of a cell of a batch, on the average: where texts are longer, a batch has fewer rows."""
CELL = 4
"""Bytes of a cell of a CSV file, at least, to tell how many rows it may have; packed ones are taken to be ten times."""


class Rows(Protocol):
    """Where rows are read from, in batches."""

    @property
    def root(self) -> Path | None:
        """The path that the ledger lies beside, where none of the parts has one; None where there is no path."""
        ...

    @property
    def members(self) -> tuple[Path, ...]:
        """The files that hold the rows."""
        ...

    def check(self, schema: "Schema") -> None:
        """Refuse columns that are not the declared ones; reads no row."""
        ...

    def most(self, columns: int) -> int:
        """Return about how many rows there are at most; private. It may be less where rows are yet to be evaluated."""
        ...

    def batches(self, schema: "Schema", rows: int = ...) -> Iterator[Any]:
        """Yield tables of the declared columns, in the schema's order, not yet checked value by value.

        Parameters
        ----------
        schema
            The declared columns.
        rows
            Rows of a table at most, as far as the source can tell.

        Raises
        ------
        DataError
            If the rows change while they are read.
        """
        ...


@dataclass(frozen=True)
class Files:
    """The rows of Parquet and CSV files.

    Parameters
    ----------
    located
        The files.
    on_damaged
        For a check alone, as in `dpsynth.files.csvtables.typed_csv`: lines of another length are then passed over, and
        columns of CSV files are text.
    """

    located: Located
    on_damaged: Callable[[Any], str] | None = None

    @property
    def root(self) -> Path:
        """The file, or the folder that holds all of them."""
        return self.located.root

    @property
    def members(self) -> tuple[Path, ...]:
        """The files."""
        return self.located.files

    def check(self, schema: "Schema") -> None:
        """Refuse a file that is damaged or whose columns are not the declared ones; reads no row."""
        for number, (file, keys) in enumerate(zip(self.located.files, self.located.keys, strict=True)):
            with _numbered(self.located, number):
                self._columns(file, keys, schema)

    def partition(self, file: Path, keys: dict[str, str | None], schema: "Schema") -> dict[str, str | None]:
        """Return the columns that the names of a file's folders give: declared ones, and those below the root."""
        declared = {*schema.columns, *schema.drop}
        below = set(file.relative_to(self.root).parts) if file != self.root else set()
        return {
            name: value
            for name, value in keys.items()
            if name in declared or any(part.startswith(f"{name}=") for part in below)
        }

    def _columns(self, file: Path, keys: dict[str, str | None], schema: "Schema") -> tuple[list[str], dict[str, Any]]:
        """Return the columns to read from a file, and those that the names of its folders give."""
        names = column_names(file, schema.file, [name for name in schema.columns if name not in keys])
        partition = self.partition(file, keys, schema)
        twice = next((name for name in partition if name in names and name in schema.columns), None)
        if twice is not None:
            raise DataError(
                f"column {twice!r}: stands in the file and in the name of its folder; take it out of one of them."
            )
        wanted = wanted_columns([*names, *(name for name in partition if name not in names)], schema, synthetic=False)
        return [name for name in wanted if name not in partition], {n: v for n, v in partition.items() if n in wanted}

    def most(self, columns: int) -> int:
        """Return about how many rows there are at most."""
        total = 0
        for number, file in enumerate(self.members):
            with _numbered(self.located, number):
                total += _most_rows(file, columns)
        return total

    def batches(self, schema: "Schema", rows: int = ROWS) -> Iterator[Any]:
        """Yield the rows of one file after another.

        Raises
        ------
        FileError, DataError
            If a file is damaged, has other columns, or files change while they are read.
        """
        for number, (file, keys) in enumerate(zip(self.located.files, self.located.keys, strict=True)):
            with _numbered(self.located, number):
                before = _state(file)
                columns, partition = self._columns(file, keys, schema)
                read = partial(_csv, on_damaged=self.on_damaged) if is_text_file(file) else _parquet
                count = 0
                for table in read(file, columns, _without(schema, partition), rows):
                    count += table.num_rows
                    yield _with(table, partition, schema)
                if _state(file) != before or (read is _parquet and count != _footer_rows(file)):
                    raise DataError(f"{file.name}: changed while it was read; read it again when it is at rest.")
        if locate(self.located.path).files != self.members:
            raise DataError(
                f"{self.located.path.name}: files came or went while it was read; read it again when it is at rest."
            )


@contextmanager
def _numbered(located: Located, number: int) -> Iterator[None]:
    """Say of an error which file it is about, by its number: of several files the names may be those of patients."""
    file, count = located.files[number], len(located.files)
    label = f"file {number + 1} of {count} in {located.path.name}, in the order of their names"
    try:
        yield
    except (DataError, FileError) as error:
        if count == 1:
            raise
        words = str(error).removeprefix(f"{file.name}: ").replace(file.name, "it")
        raise type(error)(f"{label}: {words}") from None


def _state(file: Path) -> tuple[int, int]:
    try:
        facts = file.stat()
    except OSError as error:
        raise FileError(f"{file.name}: cannot be read ({error.strerror or 'unknown reason'}).") from None
    return facts.st_size, facts.st_mtime_ns


def _without(schema: "Schema", given: dict[str, Any]) -> "Schema":
    if not given:
        return schema
    return schema.model_copy(update={"columns": {n: c for n, c in schema.columns.items() if n not in given}})


def _with(table: Any, given: dict[str, str | None], schema: "Schema") -> Any:
    """Return a table with what the names of folders say as columns of text, in the schema's order."""
    import pyarrow as pa

    for name, value in given.items():
        table = table.append_column(name, pa.array([value], pa.string()).take(pa.array([0] * table.num_rows)))
    return table.select([name for name in schema.columns if name in set(table.column_names)])


def _damaged(file: Path) -> NoReturn:
    raise DataError(f"{file.name}: is not a whole Parquet file; write it again.") from None


def _parquet(file: Path, columns: Sequence[str], _schema: "Schema", rows: int) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, buffer_size=2**20, pre_buffer=False) as stored:
            rows = min(rows, _fitting_rows(stored, columns, rows * TEXT))
            batches = stored.iter_batches(batch_size=rows, columns=list(columns))
            while (batch := next(batches, None)) is not None:
                yield plain_types(pa.Table.from_batches([batch]).select(list(columns)))
    except (pa.ArrowException, OSError):
        _damaged(file)


def _fitting_rows(stored: Any, columns: Sequence[str], each: int) -> int:
    """Return how many rows fit where a column has so many bytes: told by a few of the first, for long texts."""
    first = next(stored.iter_batches(batch_size=PROBE, columns=list(columns)), None)
    if first is None or not first.num_rows or not columns:
        return ROWS
    return max(1, int(each * len(columns) * first.num_rows // max(first.nbytes, 1)))


def _footer_rows(file: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowException, OSError):
        _damaged(file)


def _csv(
    file: Path,
    columns: Sequence[str],
    schema: "Schema",
    rows: int,
    *,
    on_damaged: Callable[[Any], str] | None,
) -> Iterator[Any]:
    opened = fitting(file, schema.file, columns)
    header = read_header(opened, columns) if on_damaged is None else opened.header()
    for block in csv_batches(opened, header, columns, schema, on_damaged):
        yield from (block.slice(start, rows) for start in range(0, max(block.num_rows, 1), rows))


def _most_rows(file: Path, columns: int) -> int:
    if not is_text_file(file):
        return _footer_rows(file)
    size, _ = _state(file)
    return size * (10 if file.suffix.lower() == ".gz" else 1) // (CELL * columns) + 1


@dataclass(frozen=True)
class DuckTable:
    """The rows of a table or view of a DuckDB file, which is opened to be read only.

    Parameters
    ----------
    file
        The DuckDB file; the ledger lies beside it, one for all of its tables and views, which may hold one another.
    relation
        The table or view, with its schema before a point where it is not ``main``.
    """

    file: Path
    relation: str

    @property
    def root(self) -> Path:
        """The DuckDB file."""
        return self.file

    @property
    def members(self) -> tuple[Path, ...]:
        """The DuckDB file."""
        return (self.file,)

    def names(self) -> list[str]:
        """Return the names of the columns; reads no row."""
        with self._opened() as connection:
            return list(self._asked(lambda: connection.sql(f"SELECT * FROM {self._name} LIMIT 0").columns))  # noqa: S608

    def check(self, schema: "Schema") -> None:
        """Refuse a relation that is not there or whose columns are not the declared ones; reads no row."""
        with self._opened() as connection:
            self._columns(connection, schema)

    def most(self, columns: int) -> int:  # noqa: ARG002  (of the protocol)
        """Return how many rows there are."""
        with self._opened() as connection:
            return self._count(connection)

    def batches(self, schema: "Schema", rows: int = ROWS) -> Iterator[Any]:
        """Yield the rows as DuckDB streams them.

        Raises
        ------
        FileError, DataError
            If the file or the relation cannot be read, or a view gives other rows each time it is asked.
        """
        import pyarrow as pa

        with self._opened() as connection:
            columns = self._columns(connection, schema)
            before, count = self._count(connection), 0
            query = f"SELECT {', '.join(map(_quoted, columns))} FROM {self._name}"  # noqa: S608  (names are quoted)
            reader = self._asked(lambda: arrow_reader(connection.sql(query), rows))
            while (batch := self._asked(lambda: next(reader, None))) is not None:
                count += batch.num_rows
                yield plain_types(pa.Table.from_batches([batch]))
            if not before == count == self._count(connection):
                raise DataError(
                    f"{self.relation}: has another number of rows each time it is asked. A view that draws rows at "
                    "random, or a table that is being written, cannot be read: make a table of it that stays."
                )

    @property
    def _name(self) -> str:
        return ".".join(_quoted(part) for part in self.relation.split("."))

    def _opened(self) -> Any:
        duckdb = _duckdb()
        if not self.file.is_file():
            raise FileError(f"{self.file.name}: is not there; expected a DuckDB file before {DUCKDB}.")
        # A view over files elsewhere would pass by the ledger of those files; no extension is fetched or loaded.
        settings = {
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": "1GB",
            "temp_directory": "",  # what does not fit would be written beside the file, for whoever may read there
            "threads": str(min(2, os.cpu_count() or 1)),
        }
        try:
            return duckdb.connect(str(self.file), read_only=True, config=settings)
        except duckdb.Error:
            raise FileError(
                f"{self.file.name}: cannot be opened as a DuckDB file: another program may be writing it, or its "
                "version of DuckDB is newer. Close it there, or upgrade duckdb."
            ) from None

    def _asked(self, question: Any) -> Any:
        """Return what DuckDB answers; what it says of a fault may hold a value, and is not repeated."""
        import pyarrow as pa

        duckdb = _duckdb()
        try:
            return question()
        except duckdb.InterruptException:
            raise KeyboardInterrupt from None
        except (duckdb.PermissionException, duckdb.IOException):
            kind = "reads files outside of the DuckDB file, whose ledger would not be kept. Name those files themselves"
        except duckdb.CatalogException:
            kind = "is not a table or view of the file. Correct its name (a schema goes before it, with a point)"
        except (duckdb.Error, pa.ArrowException, OSError):
            kind = "cannot be read by DuckDB. Ask for it there, mend the view, or make a table of it"
        raise DataError(f"{self.relation}: {kind}.")

    def _columns(self, connection: Any, schema: "Schema") -> list[str]:
        names = self._asked(lambda: connection.sql(f"SELECT * FROM {self._name} LIMIT 0").columns)  # noqa: S608
        return wanted_columns(list(names), schema, synthetic=False)

    def _count(self, connection: Any) -> int:
        rows = self._asked(lambda: connection.sql(f"SELECT count(*) FROM {self._name}").fetchall())  # noqa: S608
        return int(rows[0][0])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def arrow_reader(relation: Any, rows: int = ROWS) -> Any:
    """Return the batches of a relation of DuckDB; the method has another name before DuckDB 2."""
    return (getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader)(rows)


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise InputError("duckdb: needs the package 'duckdb'; install it with pip install 'dpsynth[sql]'.") from None
    return duckdb
