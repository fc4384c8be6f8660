"""A cohort whose rows stay where they are: in files that may be larger than memory, in a database, or on Spark."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.progress import Progress
from dpsynth.schema.schema import Schema
from dpsynth.sources.database import Database, database_of, is_database
from dpsynth.sources.divided import Divided
from dpsynth.sources.locating import is_several, locate, relation_of
from dpsynth.sources.memory_budget import MemoryBudget
from dpsynth.sources.objects import rows_of
from dpsynth.sources.parts import Parts
from dpsynth.sources.postgres import Query
from dpsynth.sources.reading import DuckTable, Files, Rows
from dpsynth.sources.relations import Relations
from dpsynth.sources.sides import Side
from dpsynth.sources.spark import SparkTable, is_on_spark, spark_table
from dpsynth.sources.storing import typed_batch
from dpsynth.sources.watched import Watched

__all__ = ["ScannedCohort", "is_scanned", "open_cohort", "rows_at", "scan"]


@dataclass(frozen=True, eq=False, repr=False)
class ScannedCohort:
    """Patients whose rows are read in batches when a session is opened, and never all at once.

    Make one with `dpsynth.Cohort.scan` or `dpsynth.scan`. It is fitted, released and held out from like a
    `dpsynth.Cohort`, with the same guarantee and, before noise, the same answers to the last integer; it is judged on
    samples that fit into memory.

    Attributes
    ----------
    schema
        What is publicly known about the columns.
    rows
        Where rows are read from.
    public
        Whether the data are public, so that nothing needs to be spent on them.
    memory
        How much memory a run may take.
    side
        The side of a split whose patients it has; None where it has all.
    synthetic
        False: rows that were generated are read, not scanned.
    images
        None: a cohort with images is read, not scanned.

    Notes
    -----
    Privacy contract: `repr` shows the schema's name and the columns. No row is read before a session is opened; each
    session reads them once.
    """

    schema: Schema
    rows: Watched | SparkTable
    public: bool = False
    count: int | None = None
    memory: MemoryBudget = field(default_factory=MemoryBudget)
    side: Side | None = None
    progress: Progress | None = None
    synthetic: bool = field(default=False, init=False)
    images: None = field(default=None, init=False)

    def __repr__(self) -> str:
        kind = "public, " if self.public else ""
        return f"ScannedCohort({self.schema.name!r}: {kind}columns {', '.join(self.columns)})"

    @property
    def source(self) -> Path | None:
        """The file, or the folder that holds all files; None where it cannot be told, and a ledger must be named."""
        return self.rows.root

    @property
    def members(self) -> tuple[Path, ...]:
        """The files that hold the rows, any of which may have been spent on by itself."""
        return self.rows.members

    @property
    def relations(self) -> Relations | None:
        """The tables of a database that hold the rows, by which the ledger is found; None elsewhere."""
        return self.rows.relations

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self.schema.columns)

    @property
    def sums_only(self) -> bool:
        """Whether rows stay on a cluster, so that no network and no teacher can learn from them here."""
        return isinstance(self.rows, SparkTable)

    def parts(self, cap: int, secret: bytes) -> Parts:
        """Read all rows once and return them in parts; for the kernel only.

        Parameters
        ----------
        cap
            Rows of a patient that are kept at most.
        secret
            Chooses which, and the part of each patient.

        Raises
        ------
        FileError, DataError
            If rows cannot be read, or are not what the schema says; no message holds a value.
        """
        if isinstance(self.rows, SparkTable):
            return self.rows.parts(self.schema, cap, secret, count=self.count, cells=self.memory.cells)
        return Divided(
            self.rows,
            self.schema,
            cap,
            secret,
            count=self.count,
            memory=self.memory,
            side=self.side,
            progress=self.progress,
        )

    def pieces(self, *, by_row: bool = False) -> Iterator[Cohort]:
        """Read all rows once and yield them piece by piece, typed and uncapped: internal, not for the kernel.

        Parameters
        ----------
        by_row
            Equal rows are to be in one piece where no column tells patients apart.

        Raises
        ------
        FileError, DataError
            As `parts`; and where rows are on Spark.
        """
        if isinstance(self.rows, SparkTable):
            raise self.rows.stays()
        facts = self.schema.without_counts()
        if self.schema.patient is None and (by_row or self.side is not None):
            yield from self._equal_rows_together(self.rows, facts)
            return
        size = self.memory.batch_rows(len(self.columns))
        for batch in self.rows.batches(self.schema, size, self.progress):
            piece = Cohort(facts, typed_batch(batch, self.schema), source=self.source, public=self.public)
            yield piece if self.side is None else piece.take(self.side.chosen(piece))

    def _equal_rows_together(self, rows: Watched, facts: Schema) -> Iterator[Cohort]:
        side = self.side or Side(lambda cohort: np.zeros(len(cohort)), 1.0, is_held_out=True)
        terms = {"count": self.count, "memory": self.memory, "side": side, "progress": self.progress}
        parts = Divided(rows, facts, 1, secrets.token_bytes(32), **terms)  # type: ignore[arg-type]
        try:
            yield from parts.cohorts()
        finally:
            parts.close()

    def on_side(self, side: Side) -> "ScannedCohort":
        """Return the patients of one side of a split. How many they are is private: a part declares no rows.

        Raises
        ------
        InputError
            If rows are on Spark, where patients are not held out.
        """
        if isinstance(self.rows, SparkTable):
            raise self.rows.stays()
        return replace(self, schema=self.schema.without_counts(), side=side)


def scan(
    source: Any,
    schema: Schema,
    *,
    query: str | Path | None = None,
    public: bool = False,
    memory: str | int | MemoryBudget | None = None,
    spark: Any = None,
) -> ScannedCohort:
    """Name patients whose rows stay where they are: in files larger than memory, in a database, in an object.

    Nothing but headers is read here. `dpsynth.fit` and a `Session` read the rows once, in batches, and keep them
    while they last in a temporary folder that only its owner can read (``TMPDIR``). `dpsynth.Cohort.scan` is the same.

    Parameters
    ----------
    source
        A Parquet or CSV file; a folder of such files, whose own folders may say a column (``year=2020``); a pattern
        such as ``visits/*.parquet``; ``extract.duckdb::visits``, a table or view of a DuckDB file;
        ``postgresql://user@host/database::schema.table``, one of PostgreSQL; with `spark`, a table of its catalogue
        (``ehr.cohort``), or files that it reads (``parquet:/data/visits``). Or an object: a pyarrow Table, Dataset or
        RecordBatchReader, a DuckDB relation (``duckdb.sql("…")``), a polars DataFrame or LazyFrame, a Spark DataFrame.
        What is yet to be evaluated is evaluated once, when rows are first read, and kept while the object lasts.
    schema
        The schema; it must not declare images.
    query
        In place of a table behind the address of a database: a SELECT, or the file that holds one.
    public
        Say that the data are public.
    memory
        How much memory a run may take, such as ``"8GB"``: batches, parts and tables are made to fit.
    spark
        A session of Spark, or a master on which one is begun, such as ``"spark://host:7077"`` or ``"local[4]"``.

    Returns
    -------
    ScannedCohort
        An object without files has no place for a ledger: name one for every run (``ledger=``).

    Raises
    ------
    FileError
        If there is no such file, a folder holds what is no table, or a database cannot be reached.
    DataError
        If the columns are not the declared ones, or a database does not answer the query. Values are checked when rows
        are read.
    InputError
        If the schema declares images, the query is not one SELECT, the object is none that can be scanned, the memory
        is too little, or DuckDB, psycopg, or PySpark with Java, is not installed.

    Notes
    -----
    Privacy contract: rows of one patient may be in any of the files. One ledger counts for a folder, patterns and
    files in it, as far as it can be told; all tables and views of a DuckDB file share one. In
    PostgreSQL one ledger counts for each table, by whatever host, view or query it is read.

    Examples
    --------
    >>> import pyarrow as pa
    >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
    >>> scan(pa.table({"age": [64, 71, 58]}), schema, memory="2GB")
    ScannedCohort('ward': columns age)
    """
    if schema.images is not None:
        raise InputError(
            "images: a cohort with images cannot be scanned; read it with Cohort.read (an .npz or a folder of images), "
            "or take images out of the schema."
        )
    budget = MemoryBudget.of(memory)
    if is_on_spark(source, spark):
        table = spark_table(source, spark, schema)
        table.check(schema)
        return ScannedCohort(schema, table, public, memory=budget)
    rows = _rows(source, query)
    rows.check(schema)
    return ScannedCohort(schema, Watched(rows), public, memory=budget)


def _rows(source: Any, query: str | Path | None) -> Rows:
    """Return where the rows of a source are read from, whatever it is."""
    if isinstance(source, Database) or is_database(source):
        return rows_at(source if isinstance(source, Database) else database_of(source, query))
    if query is not None:
        raise InputError("query: is for a database; give the address of one, postgresql://user@host/database.")
    return rows_at(Path(source)) if isinstance(source, str | PathLike) else rows_of(source)


def open_cohort(
    path: Path | str | Database,
    schema: Schema,
    *,
    memory: str | None = None,
    public: bool = False,
    spark: str | None = None,
) -> Cohort | ScannedCohort:
    """Return the cohort of a path: scanned where it names several files, or is in a database, else read.

    Parameters
    ----------
    path
        What `dpsynth.Cohort.read` or `dpsynth.scan` takes.
    schema
        The schema.
    memory
        How much memory there is: a single file that is too large for it is scanned, too.
    public
        Say that the data are public.
    spark
        The master of a Spark cluster that knows the path, or the table of that name.

    Raises
    ------
    FileError, DataError, InputError
        As `dpsynth.Cohort.read` and `dpsynth.scan`.
    """
    if spark is not None or isinstance(path, str):
        return scan(path, schema, public=public, memory=memory, spark=spark)
    budget = MemoryBudget.of(memory)
    is_large = memory is not None and isinstance(path, Path) and _is_too_large(path, schema, budget)
    if isinstance(path, Database) or is_scanned(path, schema) or is_large:
        return scan(path, schema, public=public, memory=budget)
    return Cohort.read(path, schema, public=public)


def _is_too_large(path: Path, schema: Schema, memory: MemoryBudget) -> bool:
    """Return whether a single table may be too large to be read as a whole, as far as its size tells."""
    from dpsynth.files.archive import is_archive

    if schema.images is not None or not path.is_file() or is_archive(path):
        return False
    columns = len(schema.columns)
    return not memory.holds(rows_at(path).most(columns), columns)


def is_scanned(path: Path | Database, schema: Schema) -> bool:
    """Return whether `open_cohort` scans what a path names."""
    return isinstance(path, Database) or (schema.images is None and is_several(path))


def rows_at(path: Path | Database) -> Rows:
    """Return where the rows are read from that a path, a folder, a pattern, ``file.duckdb::table`` or a database names.

    Raises
    ------
    FileError
        If there is no such file, or a folder holds what is no table.
    """
    if isinstance(path, Database):
        return Query(path)
    table = relation_of(path)
    return Files(locate(path)) if table is None else DuckTable(*table)
