"""A table on Spark: of the catalogue, of files that Spark reads, or a DataFrame; and whose ledger counts for it.

Nothing is cast, guessed or put in order on the way: columns are selected, and their values typed one by one on the
executors, like those of a file that is read at once.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from dpsynth.errors import DataError, InputError
from dpsynth.files.tables import wanted_columns
from dpsynth.sources.relations import Relations
from dpsynth.sources.spark_parts import SparkParts
from dpsynth.sources.spark_session import asking, check_classic, is_frame, is_session, session_at

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["SparkTable", "is_on_spark", "spark_table"]

FORMAT = re.compile(r"(?P<format>[a-z][a-z0-9]{1,9}):(?!//)(?P<path>.+)")
FILES = ("parquet", "csv", "orc", "delta")
WORDS = ("boolean", "string", "char", "varchar", "date", "timestamp", "timestamp_ntz")
TYPES = (*WORDS, "tinyint", "smallint", "int", "bigint", "float", "double", "decimal")
"""Names of Spark's types whose values the codec reads; all others are refused."""


@dataclass(frozen=True, eq=False, repr=False)
class SparkTable:
    """The rows of a table on Spark; keeps the protocol `dpsynth.sources.reading.Rows`, but gives no row away.

    Parameters
    ----------
    session
        The session of Spark.
    label
        What the table is called in messages.
    frame
        Returns the table as Spark has it now.
    root
        The file or folder of this machine beside which the ledger lies, if there is one.
    members
        The files of this machine that hold its rows.
    relations
        What its ledger is known by where its files are elsewhere; None for a DataFrame, whose ledger the steward names.
    is_text
        Whether it is read from CSV files, in which one without any value is no patient.
    """

    session: Any
    label: str
    frame: Callable[[], Any]
    root: Path | None = None
    members: tuple[Path, ...] = ()
    relations: Relations | None = None
    is_text: bool = False

    def check(self, schema: "Schema") -> None:
        """Refuse columns that are not the declared ones, or of a type without a reading; reads no row.

        Raises
        ------
        DataError, InputError
            Naming the column, what was found and what to do.
        """
        if self.is_text:
            _check_form(schema)
        with asking(self.session, self.label):
            frame = self.frame()
            kinds = {field.name: field.dataType for field in frame.schema.fields}
            deterministic = bool(frame._jdf.queryExecution().analyzed().deterministic())  # noqa: SLF001
            names = list(frame.columns)
        for name in wanted_columns(names, schema, synthetic=False):
            _check_type(name, kinds[name])
        if not deterministic:
            raise DataError(
                f"{self.label}: draws at random, or does what differs each time that it is read. Make a table of it "
                "that stays, and name that."
            )

    def most(self, columns: int) -> int:  # noqa: ARG002  (of the protocol)
        """Return how many rows there are; private."""
        with asking(self.session, self.label):
            return int(self.frame().count())

    def batches(self, *_: Any) -> Iterator[Any]:
        """Refuse: rows are read where they are."""
        raise self.stays()

    def stays(self) -> InputError:
        """Return the refusal of what needs rows on this machine."""
        return InputError(
            f"{self.label}: rows of a table on Spark are not brought to this machine. What needs them here, such as "
            "held-out patients and the judging of a release, takes an extract in files."
        )

    def parts(self, schema: "Schema", cap: int, secret: bytes, *, count: int | None, cells: int) -> SparkParts:
        """Return the patients in parts; for the kernel only.

        Parameters
        ----------
        schema
            The declared schema.
        cap
            Rows of a patient that are kept at most.
        secret
            Chooses which, and the part of each patient.
        count
            How many parts; by default as many as it takes.
        cells
            Cells of exact tables that the kernel may keep.
        """
        return SparkParts(self, schema, cap, secret, count=count, cells=cells)


def is_on_spark(data: object, spark: object) -> bool:
    """Return whether patients are on Spark: a DataFrame is given, or where to find the table that is named."""
    return spark is not None or is_frame(data)


def spark_table(data: Any, spark: Any, schema: "Schema") -> SparkTable:
    """Return a DataFrame, or what a name means on a session or a master, as a table; see `dpsynth.scan`."""
    if not is_frame(data):
        return _of_name(str(data), spark, schema)
    if spark is not None:
        raise InputError("spark: a DataFrame knows its session; leave spark out.")
    return _of_frame(data)


def _of_frame(frame: Any) -> SparkTable:
    """Return a DataFrame as a table; the steward names its ledger.

    Raises
    ------
    InputError
        If it is one of Spark Connect.
    """
    check_classic(frame.sparkSession)
    return SparkTable(frame.sparkSession, "DataFrame", lambda: frame)


def _of_name(name: str, spark: Any, schema: "Schema") -> SparkTable:
    """Return a table of the catalogue, or files that Spark reads, as a table.

    Parameters
    ----------
    name
        ``catalogue.database.table`` or a part of it; or ``parquet:/data/visits``, ``csv:…``, ``orc:…``, ``delta:…``.
    spark
        A session of Spark, or the master on which one is begun (``local[4]``, ``spark://host:7077``).
    schema
        Says how CSV files are written.

    Raises
    ------
    InputError, DataError
        If Spark is not to be had, or has no such table.
    """
    if not (isinstance(spark, str) or is_session(spark)):
        raise InputError("spark: expected a session of Spark, or a master such as 'spark://host:7077' or 'local[4]'.")
    session = session_at(spark) if isinstance(spark, str) else spark
    check_classic(session)
    form = FORMAT.fullmatch(name)
    if form is None and "/" in name:
        raise InputError(f"{name}: say in which format Spark reads it, such as parquet:{name} or csv:{name}.")
    if form is not None and form["format"] not in FILES:
        raise InputError(f"{name}: found the format {form['format']!r}, expected {', '.join(FILES)}; or name a table.")
    is_text = form is not None and form["format"] == "csv"
    frame = _named(session, name) if form is None else _loaded(session, form["format"], form["path"], schema)
    with asking(session, name):
        files = _files(frame())
        if not files and form is None:
            files = _in_catalogue(session, name)
    if isinstance(files, Relations):
        return SparkTable(session, name, frame, relations=files, is_text=is_text)
    if not files:
        raise DataError(f"{name}: the folder holds no file with rows; give one that does.")
    named = Path((form["path"] if form else "").removeprefix("file:"))
    root = named if form and named.exists() else _whole(Path(os.path.commonpath([file.parent for file in files])))
    return SparkTable(session, name, frame, root, files, is_text=is_text)


def _named(session: Any, name: str) -> Callable[[], Any]:
    def frame() -> Any:
        if session.catalog.tableExists(name):
            session.catalog.refreshTable(name)  # else files that came since are not seen
        return session.table(name)

    return frame


def _loaded(session: Any, form: str, path: str, schema: "Schema") -> Callable[[], Any]:
    options: dict[str, Any] = {}
    if form == "csv":
        options = {"header": True, "inferSchema": False, "multiLine": True, "escape": '"', "mode": "FAILFAST"}
        options |= {"sep": schema.file.separator, "encoding": schema.file.encoding}
    return lambda: session.read.format(form).options(**options).load(path)


def _check_form(schema: "Schema") -> None:
    """Refuse what Spark's reader of CSV files does not know."""
    plain = type(schema.file)(separator=schema.file.separator, encoding=schema.file.encoding)
    if schema.file != plain:
        raise InputError(
            "file: Spark reads CSV files with a header, a separator and an encoding; for other decimals, thousands, "
            "totals or lines above the header scan the files without Spark, or make Parquet of them."
        )


def _check_type(name: str, kind: Any) -> None:
    """Refuse a column whose values have no reading."""
    found = kind.simpleString()
    if re.split(r"[( ]", found)[0] not in TYPES:
        raise DataError(
            f"column {name!r}: found values of Spark's type {found.split('<')[0]}, expected text, numbers, booleans or "
            "dates. Write each value as text, or name the column under drop."
        )


def _files(frame: Any) -> tuple[Path, ...] | Relations:
    """Return the files of this machine that hold a table's rows, or folders elsewhere; nothing where there are none."""
    uris = [urlsplit(uri) for uri in dict.fromkeys(frame.inputFiles())]
    if all(uri.scheme in ("", "file") for uri in uris):
        return tuple(Path(unquote(uri.path)) for uri in uris)
    folders = {(f"{uri.scheme}://{uri.netloc}", str(_whole(Path(unquote(uri.path)).parent))) for uri in uris}
    (server, *others) = sorted({server for server, _ in folders})
    return Relations(server, "files", tuple(sorted(("".join(others), folder) for _, folder in folders)))


def _whole(folder: Path) -> Path:
    """Return the folder of a table, above the folders that say a column (``year=2020``)."""
    return next((f for f in (folder, *folder.parents) if "=" not in f.name), folder)


def _in_catalogue(session: Any, name: str) -> Relations:
    """Return the whole name of a table without files, and the metastore that knows it, where one is named."""
    table = session.catalog.getTable(name)
    settings = ("spark.hadoop.hive.metastore.uris", "hive.metastore.uris", f"spark.sql.catalog.{table.catalog}.uri")
    server = next((uri for setting in settings if (uri := session.conf.get(setting, ""))), "")
    names = [part.lower() for part in (*(table.namespace or ()), table.name)]  # Spark's names have no case
    return Relations(server, (table.catalog or "").lower(), ((".".join(names[:-1]), names[-1]),))
