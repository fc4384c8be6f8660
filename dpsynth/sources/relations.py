"""Which tables hold the rows of a query, as the server itself tells: by them its ledger is found.

Whoever reads a table holds a lock on it until the transaction ends, also where it is named in a view, or in a part of
the query that gives no row. So the locks of the session name every table behind a query, however it is written. A
partition stands for the table that it is part of, and a materialised view for the tables that it was made of, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Relations", "relations_of"]

_TABLES = """
WITH RECURSIVE reached(oid) AS (
    SELECT relation FROM pg_catalog.pg_locks
    WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation'
      AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    UNION
    SELECT more.oid FROM reached CROSS JOIN LATERAL (
        SELECT inhparent FROM pg_catalog.pg_inherits WHERE inhrelid = reached.oid
        UNION ALL
        SELECT refobjid FROM pg_catalog.pg_depend JOIN pg_catalog.pg_rewrite w ON objid = w.oid
        WHERE classid = 'pg_catalog.pg_rewrite'::regclass AND refclassid = 'pg_catalog.pg_class'::regclass
          AND w.ev_class = reached.oid
    ) AS more(oid)
)
SELECT DISTINCT n.nspname, c.relname
FROM reached JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhrelid = c.oid)
"""
_MAY_ASK = "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'execute')"
_SERVER = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"
_DATABASE = "SELECT pg_catalog.current_database()"

Ask = Callable[[str], Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class Relations:
    """The tables behind a query, by whatever host, port, view or text they are reached.

    Attributes
    ----------
    server
        What tells a server's data apart from all others; its replicas have the same. Empty where this user may not ask.
    database
        The database's name.
    tables
        Schema and name of each table, sorted.
    """

    server: str
    database: str
    tables: tuple[tuple[str, str], ...]

    @property
    def is_known(self) -> bool:
        """Whether the tables can be told apart from those of other servers, and there are some."""
        return bool(self.server and self.tables)

    @property
    def keys(self) -> tuple[tuple[str, str, str, str], ...]:
        """Server, database, schema and table of each."""
        return tuple((self.server, self.database, *table) for table in self.tables) if self.is_known else ()


def relations_of(ask: Ask) -> Relations:
    """Return the tables that a transaction has read or planned to read.

    Parameters
    ----------
    ask
        Returns the rows of a query of the catalogue, in that transaction.
    """
    server = str(ask(_SERVER)[0][0]) if ask(_MAY_ASK)[0][0] else ""
    tables = sorted((str(schema), str(table)) for schema, table in ask(_TABLES))
    return Relations(server, str(ask(_DATABASE)[0][0]), tuple(tables))
