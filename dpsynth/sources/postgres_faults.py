"""What is told of a fault of PostgreSQL: its SQLSTATE and our own words.

The server's own text is never told: that of a failed cast, a broken constraint or a function's RAISE holds values of
patients, and that of a failed connection what stood in the address.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dpsynth.errors import DataError, DpsynthError, FileError, InputError

__all__ = ["driver", "told"]

_CONNECTING = {
    "database .* does not exist": "the server has no such database. Correct its name",
    "authentication failed|no password|no pg_hba.conf entry|role .* (does not exist|is not permitted)": "the server "
    "does not let this user in. Correct the user or the password (PGPASSWORD, ~/.pgpass, a service file), or have the "
    "server's rules for hosts (pg_hba.conf) changed",
    "definition of service .* not found|service file": "there is no such service. Correct its name, or the service "
    "file (PGSERVICEFILE)",
    "too many|remaining connection slots": "the server takes no more connections. Try again later",
    "starting up|shutting down|recovery mode": "the server is starting or stopping. Try again later",
}
"""By what is said of a connection that was not made, for which the driver has no SQLSTATE."""
_ASKING = {
    "42P01": "one of its tables is not there, or not on the search path. Correct its name, with the schema before it",
    "3F000": "one of its schemas is not there. Correct the name",
    "42501": "this user may not read one of its tables, or use one of its functions or schemas. Have SELECT granted",
    "42703": "one of its columns is not there. Correct the query",
    "42601": "is not SQL that the server understands. Try it in psql",
    "25001": "would change how it is read, and everything is read only here. Leave that out",
    "25006": "changes something, and everything is read only here. Leave out what writes, locks or counts up",
    "22021": "holds text that is not in the database's own encoding. Have it corrected there",
    "57014": "was cancelled, by somebody or by the server's statement_timeout. Have the time raised for this user, or "
    "make a table of the query",
    "40001": "was in the way of the server's own work (a standby that follows its primary). Run it again, or read from "
    "the primary",
    "0A000": "asks for something that this server does not do in a read-only snapshot",
}
_CLASSES = {
    "22": "fails at a value: a cast or a calculation in it, or in one of its views, does not hold for every row. Take "
    "the column as it is, and declare in the schema how it is read",
    "23": "fails at a value that a domain or a constraint does not allow. Take the column as it is",
    "42": "cannot be asked as it is written. Try it in psql",
    "53": "needs more memory, disk or connections than the server has. Try again later, or make a table of it",
    "P0": "fails in a function of its own. Try it in psql",
}
_LOST = ("08", "57P", "25P03", "")
"""States of a connection that was closed by the server, or has gone."""


@contextmanager
def told(name: str, *, connecting: bool = False) -> Iterator[None]:
    """Turn a fault of PostgreSQL into our own error, without the server's text.

    Parameters
    ----------
    name
        What the table or the query is called.
    connecting
        Whether the connection is only being made.

    Raises
    ------
    FileError
        If the database cannot be reached, or the connection is lost.
    DataError
        If the query fails.
    """
    psycopg = driver()
    try:
        yield
    except DpsynthError:
        raise
    except psycopg.Error as error:
        raise _unconnected(str(error)) if connecting else _error(name, error.sqlstate or "") from None


def _unconnected(said: str) -> DpsynthError:
    default = "cannot be reached. Correct host, port, database and user, or start the server"
    words = next((words for pattern, words in _CONNECTING.items() if re.search(pattern, said)), default)
    return FileError(f"database: {words}. Nothing was read.")


def _error(name: str, state: str) -> DpsynthError:
    code = f" (SQLSTATE {state})" if state else ""
    if state in _ASKING:
        return DataError(f"{name}: {_ASKING[state]}{code}.")
    if state.startswith(_LOST[:-1]) or not state:
        return FileError(f"{name}: the connection to the database was lost while it was read{code}. Run it again.")
    words = _CLASSES.get(state[:2], "cannot be read by PostgreSQL. Try it in psql")
    return DataError(f"{name}: {words}{code}. What the server says of it may hold values and is not shown.")


def driver() -> Any:
    """Return psycopg.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import psycopg
    except ImportError:
        raise InputError("psycopg: is needed for a database; install it with pip install 'dpsynth[sql]'.") from None
    logging.getLogger("psycopg").addFilter(_discreet)
    return psycopg


def _discreet(record: logging.LogRecord) -> bool:
    """Take what the server says of a fault out of what the driver logs."""
    told = record.args if isinstance(record.args, tuple) else ()
    record.args = tuple(type(fact).__name__ if isinstance(fact, Exception) else fact for fact in told) or record.args
    record.exc_info = None
    return True
