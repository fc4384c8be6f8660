"""Rows of a table, a view or a query of PostgreSQL, streamed by binary COPY from a snapshot that only reads.

What is asked is ``COPY (SELECT columns FROM …) TO STDOUT (FORMAT BINARY)``; no value is cast, sorted or compared by the
server. Values are read by their types in the catalogue (`dpsynth.sources.postgres_types`).
"""

import os
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.errors import DataError
from dpsynth.files.tables import wanted_columns
from dpsynth.sources.copy_binary import ROWS, Reader, batches_of
from dpsynth.sources.database import Database, quoted
from dpsynth.sources.postgres_faults import driver, told
from dpsynth.sources.postgres_types import PgType, reader_of
from dpsynth.sources.relations import Relations, relations_of

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["Query"]

SECONDS = "15"
"""How long a connection may take to be made, where PGCONNECT_TIMEOUT or the address does not say."""
_BEGIN = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL client_encoding = 'UTF8'",
    "SET LOCAL standard_conforming_strings = on",
)
_ALONE = "SET LOCAL max_parallel_workers_per_gather = 0"
"""Locks of the server's helpers end before the transaction does, and what they read could not be told afterwards."""
_TYPES = """
    SELECT t.oid, t.typname, n.nspname, t.typtype, format_type(t.oid, NULL)
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE t.oid = ANY(%s)
"""


@dataclass(frozen=True)
class Query:
    """The rows that a query gives, or a table or view.

    Parameters
    ----------
    database
        Names it.

    Notes
    -----
    Privacy contract: no message holds a value, nor what the server says of a fault. Every reading is of one snapshot;
    where the rows are read again, they must be the same ones.
    """

    database: Database
    _known: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def root(self) -> Path | None:
        """None: the ledger lies beside no file."""
        return None

    @property
    def members(self) -> tuple[Path, ...]:
        """No files."""
        return ()

    @property
    def relation(self) -> str:
        """What messages call it."""
        return self.database.name

    @property
    def relations(self) -> Relations:
        """The tables that hold the rows, by which the ledger is found; the server is asked once."""
        if "relations" not in self._known:
            with self._snapshot() as connection:
                self._described(connection)
        found: Relations = self._known["relations"]
        return found

    def names(self) -> list[str]:
        """Return the names of the columns; reads no row."""
        with self._snapshot() as connection:
            return [name for name, _ in self._described(connection)]

    def check(self, schema: "Schema") -> None:
        """Refuse what is no query, or whose columns are not the declared ones; reads no row."""
        with self._snapshot() as connection:
            self._readers(connection, schema)

    def most(self, columns: int) -> int:  # noqa: ARG002  (of the protocol)
        """Return how many rows there are, of the snapshot that is read next."""
        if "held" not in self._known:
            self._known["held"] = held = self._counted()
            weakref.finalize(self, held.stack.close)
        return int(self._known["held"].count)

    def batches(self, schema: "Schema", rows: int = ROWS) -> Iterator[Any]:
        """Yield the rows as the server streams them.

        The server counts them first, on one connection, whose snapshot the streaming one takes over.

        Raises
        ------
        FileError
            If the connection is lost.
        DataError
            If the query fails, gives other rows each time it is asked, or reads further tables in a function.
        """
        import pyarrow as pa

        count, seen = 0, 0
        held = self._known.pop("held", None) or self._counted()
        with held.stack, self._snapshot(held.snapshot) as connection:
            held.stack.close()
            connection.execute(_ALONE)
            readers = self._readers(connection, schema)
            for columns, number in self._streamed(connection, readers, rows):
                count, seen = count + len(columns[0]), (seen + number) % 2**64
                yield pa.table(dict(zip(readers, columns, strict=True)))
            if not schema.dataset:
                self._note(relations_of(lambda command: connection.execute(command).fetchall()))
        if count != held.count:
            raise DataError(
                f"{self.database.name}: gives another number of rows each time it is asked. A query that draws rows at "
                "random, or reads another server's table that is being written, cannot be read: make a table of it."
            )
        if self._known.setdefault(tuple(readers), (count, seen)) != (count, seen):
            raise DataError(
                f"{self.database.name}: is not what it was when it was read before in this run: rows came, went or "
                "were changed. Run it again on a table that is at rest, such as an extract."
            )

    def _counted(self) -> "_Held":
        """Export a snapshot, and count the rows in it."""
        with ExitStack() as stack:
            connection = stack.enter_context(self._snapshot())
            self._described(connection)
            command = f"SELECT count(*) FROM ({self.database.sql}\n) AS rows"  # noqa: S608  (one statement, that reads)
            (count,) = connection.execute(command, binary=True).fetchone()
            (snapshot,) = connection.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
            return _Held(stack.pop_all(), str(snapshot), int(count))

    def _streamed(self, connection: Any, readers: dict[str, Reader], rows: int) -> Iterator[tuple[list[Any], int]]:
        columns = ", ".join(map(quoted, readers))
        command = f"COPY (SELECT {columns} FROM ({self.database.sql}\n) AS rows) TO STDOUT (FORMAT BINARY)"  # noqa: S608
        with told(self.database.name), connection.cursor() as cursor, cursor.copy(command) as messages:
            yield from batches_of(messages, list(readers.values()), rows)

    def _snapshot(self, snapshot: str | None = None) -> AbstractContextManager[Any]:
        return _reading(self.database, snapshot)

    def _readers(self, connection: Any, schema: "Schema") -> dict[str, Reader]:
        """Return what reads each declared column, in the schema's order."""
        types = self._described(connection)
        wanted = wanted_columns([name for name, _ in types], schema, synthetic=False)
        return {name: reader_of(name, kind) for name in wanted for column, kind in types if column == name}

    def _described(self, connection: Any) -> list[tuple[str, PgType]]:
        """Return the columns and their types, which the server tells without reading a row, and note the tables."""
        command = f"SELECT * FROM ({self.database.sql}\n) AS rows LIMIT 0"  # noqa: S608  (one statement, that reads)
        facts = (
            connection.execute(command, binary=True).description or ()
        )  # binary: one statement, or the server refuses
        rows = connection.execute(_TYPES, ([fact.type_code for fact in facts],)).fetchall()
        types = {int(oid): PgType(*names) for oid, *names in rows}
        self._note(relations_of(lambda command: connection.execute(command).fetchall()))
        return [(fact.name, types[fact.type_code]) for fact in facts]

    def _note(self, relations: Relations) -> None:
        if self._known.setdefault("relations", relations) != relations:
            raise DataError(
                f"{self.database.name}: does not read the tables that it read before, or a function in it reads more "
                "of them, so which ledger counts cannot be told. Name tables with their schemas, or name the dataset "
                "(dataset: in the schema)."
            )


@contextmanager
def _reading(database: Database, snapshot: str | None) -> Iterator[Any]:
    """Give a connection in a transaction that can only read, of its own snapshot or of one that was exported."""
    with told(database.name):
        connection = _connected(database)
        try:
            connection.execute(_BEGIN[0])
            if snapshot is not None:
                connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            for command in _BEGIN[1:]:
                connection.execute(command)
            yield connection
        finally:
            connection.close()


def _connected(database: Database) -> Any:
    options = {} if database.password is None else {"password": database.password}
    if "connect_timeout=" not in database.address and "PGCONNECT_TIMEOUT" not in os.environ:
        options["connect_timeout"] = SECONDS
    with told(database.name, connecting=True):
        return driver().connect(
            database.address, autocommit=True, prepare_threshold=None, application_name="dpsynth", **options
        )


@dataclass(frozen=True)
class _Held:
    """An exported snapshot, which lives until its stack is closed, and how many rows the query has in it."""

    stack: ExitStack
    snapshot: str
    count: int
