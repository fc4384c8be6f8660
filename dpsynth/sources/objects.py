"""Rows of objects from Python: Arrow tables, datasets and readers, DuckDB relations, and polars frames.

An Arrow table is read where it is. A relation, a lazy frame and a reader stand for work that is still to be done, and
may give other rows each time: they are evaluated once, into a temporary folder that only its owner can read, and every
reading is of what was kept there. Values are not cast on the way.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.errors import DataError, InputError
from dpsynth.files.tables import plain_types, wanted_columns
from dpsynth.sources.reading import ROWS, Rows, arrow_reader
from dpsynth.sources.scratch import Scratch, writing

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["EXPECTED", "Evaluated", "InPlace", "rows_of"]

EXPECTED = (
    "a path or pattern, a pyarrow Table, Dataset or RecordBatchReader, a DuckDB relation, or a polars DataFrame or "
    "LazyFrame"
)


def rows_of(source: Any) -> Rows:
    """Return where the rows of an object are read from; a data frame of pandas is for `dpsynth.Cohort.from_pandas`.

    Parameters
    ----------
    source
        An Arrow table, dataset or reader of batches, a DuckDB relation, a polars frame or lazy frame.

    Raises
    ------
    InputError
        If it is none of these.
    """
    package, kind = type(source).__module__.partition(".")[0], type(source).__name__
    if package == "pyarrow":
        return _of_arrow(source)
    if package in ("duckdb", "_duckdb") and kind == "DuckDBPyRelation":
        return Evaluated("the relation", tuple(source.columns), partial(_of_relation, source))
    if package == "polars" and kind == "DataFrame":
        return InPlace(source.to_arrow())
    if package == "polars" and kind == "LazyFrame":
        return Evaluated("the lazy frame", tuple(_asked("the lazy frame", source.collect_schema)), _sunk(source))
    if package == "pandas":
        raise InputError("scan: found a data frame of pandas, which is in memory; read it with Cohort.from_pandas.")
    raise InputError(f"scan: found an object of type {kind}, expected {EXPECTED}.")


def _of_arrow(source: Any) -> Rows:
    import pyarrow as pa
    import pyarrow.dataset as pa_dataset

    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    if isinstance(source, pa.Table | pa_dataset.Dataset):
        return InPlace(source)
    if isinstance(source, pa.RecordBatchReader):
        return Evaluated("the reader", tuple(source.schema.names), lambda columns, _: _selected(source, columns))
    raise InputError(f"scan: found an object of type {type(source).__name__}, expected {EXPECTED}.")


def _selected(batches: Any, columns: Sequence[str]) -> Iterator[Any]:
    return (batch.select(list(columns)) for batch in batches)


class InPlace:
    """The rows of an Arrow table or dataset, which gives the same ones each time.

    Parameters
    ----------
    source
        The table or dataset. Where a dataset is of files on this machine, their ledger counts.
    """

    def __init__(self, source: Any) -> None:
        self._source = source

    def __repr__(self) -> str:
        return f"InPlace({type(self._source).__name__})"

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    @property
    def root(self) -> Path | None:
        """The file, or the folder that holds all files, of a dataset; None of a table in memory."""
        files = self.members
        if not files:
            return None
        return files[0] if len(files) == 1 else Path(os.path.commonpath([file.parent for file in files]))

    @property
    def members(self) -> tuple[Path, ...]:
        """The files of a dataset on this machine."""
        kind = getattr(getattr(self._source, "filesystem", None), "type_name", "")
        return tuple(Path(file) for file in self._source.files) if kind == "local" else ()

    def names(self) -> list[str]:
        """Return the names of the columns."""
        return list(self._source.schema.names)

    def check(self, schema: "Schema") -> None:
        """Refuse columns that are not the declared ones; reads no row."""
        wanted_columns(list(self._source.schema.names), schema, synthetic=False)

    def most(self, columns: int) -> int:  # noqa: ARG002  (of the protocol)
        """Return how many rows there are."""
        return int(_asked("the dataset", self._source.count_rows)) if self._is_dataset else int(self._source.num_rows)

    def batches(self, schema: "Schema", rows: int = ROWS) -> Iterator[Any]:
        """Yield the rows as they stand."""
        import pyarrow as pa

        columns = wanted_columns(list(self._source.schema.names), schema, synthetic=False)
        if self._is_dataset:
            source = self._source.to_batches(columns=columns, batch_size=rows, batch_readahead=1, fragment_readahead=1)
        else:
            source = iter(self._source.select(columns).to_batches(max_chunksize=rows))
        while (batch := _asked("the dataset", lambda: next(source, None))) is not None:
            yield plain_types(pa.Table.from_batches([batch]))

    @property
    def _is_dataset(self) -> bool:
        return hasattr(self._source, "count_rows")


class Evaluated:
    """Rows that stand for work to be done: it is done once, at the first reading, and kept in a temporary folder.

    Parameters
    ----------
    label
        What a message calls it.
    names
        The names of its columns.
    evaluate
        Returns Arrow batches of the given columns, and may use the given folder; called once.

    Notes
    -----
    Privacy contract: what is kept lies in a folder that only its owner can read, and is gone when the object is, or
    when the process ends or is killed (`dpsynth.sources.scratch`).
    """

    def __init__(
        self, label: str, names: tuple[str, ...], evaluate: Callable[[Sequence[str], Path], Iterator[Any]]
    ) -> None:
        self._label, self._names, self._evaluate = label, names, evaluate
        self._scratch: Scratch | None = None
        self._wanted: list[str] = list(names)
        self._rows = 0

    def __repr__(self) -> str:
        return f"Evaluated({self._label!r})"

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    @property
    def root(self) -> Path | None:
        """None: where the rows come from cannot be told, so their ledger must be named."""
        return None

    @property
    def members(self) -> tuple[Path, ...]:
        """No files."""
        return ()

    def names(self) -> list[str]:
        """Return the names of the columns."""
        return list(self._names)

    def check(self, schema: "Schema") -> None:
        """Refuse columns that are not the declared ones; evaluates nothing."""
        self._wanted = wanted_columns(list(self._names), schema, synthetic=False)

    def most(self, columns: int) -> int:  # noqa: ARG002  (of the protocol)
        """Return how many rows there are; the first call evaluates them."""
        self._keep()
        return self._rows

    def batches(self, schema: "Schema", rows: int = ROWS) -> Iterator[Any]:
        """Yield the rows that were kept; the first call evaluates them.

        Raises
        ------
        DataError
            If they cannot be evaluated; what the engine says of it may hold a value and is not repeated.
        FileError
            If there is no room for them.
        """
        import pyarrow as pa

        self._keep()
        columns = wanted_columns(self._wanted, schema, synthetic=False)
        with pa.OSFile(str(self._file)) as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                for start in range(0, batch.num_rows, rows):
                    yield plain_types(pa.Table.from_batches([batch.slice(start, rows)]).select(columns))

    def _keep(self) -> None:
        """Evaluate the rows, once, and keep them on the disk."""
        if self._scratch is not None:
            return
        self._scratch = Scratch()
        try:
            self._write(self._wanted)
        except BaseException:
            self._scratch.close()
            raise

    @property
    def _file(self) -> Path:
        if self._scratch is None or self._scratch.is_closed:
            raise InputError(f"scan: {self._label} could not be read before; scan it anew.")
        return self._scratch.folder / "rows"

    def _write(self, columns: Sequence[str]) -> None:
        import pyarrow as pa

        batches = _asked(self._label, lambda: iter(self._evaluate(columns, self._file.parent)))
        writer: Any = None
        try:
            while (batch := _asked(self._label, lambda: next(batches, None))) is not None:
                with writing():
                    if writer is None:
                        options = pa.ipc.IpcWriteOptions(compression="lz4")
                        writer = pa.ipc.new_stream(str(self._file), batch.schema, options=options)
                    writer.write(batch)
                self._rows += batch.num_rows
        finally:
            if writer is not None:
                with writing():
                    writer.close()
        if not self._rows:
            raise DataError("the table has no rows; expected at least one.")


def _of_relation(relation: Any, columns: Sequence[str], _folder: Path) -> Iterator[Any]:
    import duckdb

    quoted = [duckdb.ColumnExpression(name) for name in columns]
    return iter(arrow_reader(relation.select(*quoted)))


def _sunk(frame: Any) -> Callable[[Sequence[str], Path], Iterator[Any]]:
    """Return what evaluates a lazy frame without holding all of it: polars streams it into a file of its own."""

    def evaluate(columns: Sequence[str], folder: Path) -> Iterator[Any]:
        import pyarrow.parquet as pq

        file = folder / "streamed"
        with writing():
            frame.select(list(columns)).sink_parquet(file)
        with pq.ParquetFile(file) as stored:
            yield from stored.iter_batches(batch_size=ROWS)
        file.unlink()

    return evaluate


def _asked(label: str, question: Callable[[], Any]) -> Any:
    """Return what an engine answers; what it says of a fault may hold a value, and is not repeated."""
    from dpsynth.errors import DpsynthError

    try:
        return question()
    except DpsynthError:
        raise
    except Exception as error:
        if type(error).__name__ == "InterruptException":
            raise KeyboardInterrupt from None
        kind = type(error).__name__
    raise DataError(f"{label}: cannot be evaluated ({kind}). Ask for it where it was made, and mend it there.")
