"""A cohort whose rows stay where they are: in files that may be larger than memory, or in a table of DuckDB."""

from dataclasses import dataclass, field
from pathlib import Path

from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.schema.schema import Schema
from dpsynth.sources.divided import Divided
from dpsynth.sources.locating import is_several, locate, relation_of
from dpsynth.sources.reading import DuckTable, Files, Rows

__all__ = ["ScannedCohort", "is_scanned", "open_cohort", "rows_at", "scan"]


@dataclass(frozen=True, eq=False, repr=False)
class ScannedCohort:
    """Patients whose rows are read in batches when a session is opened, and never all at once.

    Make one with `dpsynth.scan`. It is fitted and released like a `dpsynth.Cohort`, with the same guarantee and,
    before noise, the same answers to the last integer; it cannot be held out from, cut or judged.

    Attributes
    ----------
    schema
        What is publicly known about the columns.
    rows
        Where rows are read from.
    public
        Whether the data are public, so that nothing needs to be spent on them.
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
    rows: Rows
    public: bool = False
    count: int | None = None
    synthetic: bool = field(default=False, init=False)
    images: None = field(default=None, init=False)

    def __repr__(self) -> str:
        kind = "public, " if self.public else ""
        return f"ScannedCohort({self.schema.name!r}: {kind}columns {', '.join(self.columns)})"

    @property
    def source(self) -> Path:
        """The file, or the folder that holds all files."""
        return self.rows.root

    @property
    def members(self) -> tuple[Path, ...]:
        """The files that hold the rows, any of which may have been spent on by itself."""
        return self.rows.members

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self.schema.columns)

    def parts(self, cap: int, secret: bytes) -> Divided:
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
        return Divided(self.rows, self.schema, cap, secret, count=self.count)


def scan(path: str | Path, schema: Schema, *, public: bool = False) -> ScannedCohort:
    """Name patients whose rows stay where they are: in files larger than memory, or in a DuckDB file.

    Nothing but headers is read here. `dpsynth.fit` and a `Session` read the rows once, in batches, and keep them
    while they last in a temporary folder that only its owner can read (``TMPDIR``).

    Parameters
    ----------
    path
        A Parquet or CSV file; a folder of such files, whose own folders may say a column (``year=2020``); a pattern
        such as ``visits/*.parquet``; or ``extract.duckdb::visits``, a table or view of a DuckDB file.
    schema
        The schema; it must not declare images.
    public
        Say that the data are public.

    Raises
    ------
    FileError
        If there is no such file, or a folder holds what is no table.
    DataError
        If the columns are not the declared ones. Values are checked when rows are read.
    InputError
        If the schema declares images, or DuckDB is not installed.

    Notes
    -----
    Privacy contract: rows of one patient may be in any of the files. One ledger counts for a folder, patterns and
    files in it, as far as it can be told; all tables and views of a DuckDB file share one.
    """
    path = Path(path)
    if schema.images is not None:
        raise InputError(
            "images: a cohort with images cannot be scanned; read it with Cohort.read (an .npz or a folder of images), "
            "or take images out of the schema."
        )
    rows = rows_at(path)
    rows.check(schema)
    return ScannedCohort(schema, rows, public)


def open_cohort(path: Path, schema: Schema) -> Cohort | ScannedCohort:
    """Return the cohort of a path: scanned where it names several files or a table of DuckDB, else read.

    Raises
    ------
    FileError, DataError, InputError
        As `dpsynth.Cohort.read` and `dpsynth.scan`.
    """
    return scan(path, schema) if is_scanned(path, schema) else Cohort.read(path, schema)


def is_scanned(path: Path, schema: Schema) -> bool:
    """Return whether `open_cohort` scans what a path names."""
    return schema.images is None and is_several(path)


def rows_at(path: Path) -> Rows:
    """Return where the rows are read from that a path, a folder, a pattern or ``file.duckdb::table`` names.

    Raises
    ------
    FileError
        If there is no such file, or a folder holds what is no table.
    """
    table = relation_of(path)
    return Files(locate(path)) if table is None else DuckTable(*table)
