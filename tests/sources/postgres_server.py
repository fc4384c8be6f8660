"""A PostgreSQL server of the tests' own: in a temporary folder, on a free loopback port, not as root."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from engines import missing

PASSWORD = "s3ntinel/pass@word"  # noqa: S105  (of a server that is gone after the tests)
USER = "steward"
TRIES = 3
SECONDS = 60


class Server:
    """A server that runs.

    Parameters
    ----------
    port
        Its port on localhost, where a password is asked for.
    folder
        Of its socket, where none is.
    """

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder

    def url(self, database: str = "postgres", *, host: str = "", user: str = USER) -> str:
        """Return the address of a database: by the socket, or by a host."""
        if host:
            return f"postgresql://{user}@{host}:{self.port}/{database}"
        return f"postgresql://{user}@:{self.port}/{database}?host={self.folder}"

    def connect(self, database: str = "postgres", **options: Any) -> Any:
        """Return a connection that commits each statement."""
        import psycopg

        return psycopg.connect(self.url(database), autocommit=True, **options)

    def fresh(self, name: str) -> str:
        """Make a database, in the place of one of that name; return its address."""
        with self.connect() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs: of the newest version, where there is one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    named = shutil.which("postgres")
    return found[-1].parent if found else Path(named).parent if named else None


def unprivileged() -> dict[str, Any]:
    """Return how a process is started as a user without rights, where the tests run as root."""
    if os.geteuid():
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Start a server, and stop it afterwards."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        missing("psycopg is not installed")
    programs = binaries()
    if programs is None:
        missing("PostgreSQL is not installed (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="dpsynth-postgres-", dir="/tmp"))
    try:
        terms = unprivileged()
        os.chown(folder, terms.get("user", -1), terms.get("group", -1))
        _made(programs, folder, terms)
        process, port = _started(programs, folder, terms)
        try:
            yield Server(port, folder)
        finally:
            _stopped(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(programs: Path, folder: Path, terms: dict[str, Any]) -> None:
    secret = folder / "password"
    secret.write_text(PASSWORD, encoding="utf-8")
    secret.chmod(0o644)
    words = ["--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
    command = [programs / "initdb", "-D", folder / "data", "-U", USER, f"--pwfile={secret}", *words]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, **terms)


def _started(programs: Path, folder: Path, terms: dict[str, Any]) -> "tuple[subprocess.Popen[bytes], int]":
    for _ in range(TRIES):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = {"listen_addresses": "localhost", "fsync": "off", "unix_socket_directories": folder, "timezone": "UTC"}
        options = [word for name, value in words.items() for word in ("-c", f"{name}={value}")]
        command = [programs / "postgres", "-D", folder / "data", "-p", str(port), *options]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **terms)
        if _answers(Server(port, folder), process):
            return process, port
        _stopped(process)
    raise AssertionError((folder / "log").read_text(encoding="utf-8"))


def _stopped(process: "subprocess.Popen[bytes]") -> None:
    """Stop a server at once, whoever is still connected."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait(SECONDS)


def _answers(server: Server, process: "subprocess.Popen[bytes]") -> bool:
    import psycopg

    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(psycopg.OperationalError):
            server.connect().close()
            return True
        time.sleep(0.1)
    return False


TYPES = {
    "id": "text", "note": "jsonb", "age": "smallint", "lab": "numeric", "trop": "citext", "unit": "unit",
    "year": "int", "dx": "char(9)", "seen": "date", "died": "boolean",
}  # fmt: skip
"""Of the columns of `scanned_cases.frame`: each has a type of its own."""


def filled(url: str, rows: pd.DataFrame, *, table: str = "visits", types: dict[str, str] | None = None) -> str:
    """Make a table of rows of text, with types of its own; return its address."""
    import psycopg

    types = TYPES if types is None else types
    if "note" in rows:
        rows = rows.assign(note='{"words": "free text"}')
    with psycopg.connect(url, autocommit=True) as connection:
        if "unit" in types.values():
            connection.execute("DROP TYPE IF EXISTS unit CASCADE; CREATE TYPE unit AS ENUM ('c', 'a', 'b')")
            connection.execute("CREATE EXTENSION IF NOT EXISTS citext")
        columns = ", ".join(f'"{name}" {types[name]}' for name in rows.columns)
        connection.execute(f"DROP TABLE IF EXISTS {table} CASCADE; CREATE TABLE {table} ({columns})")
        absent = rows.isna() | ((rows == "NA") & [types[name] != "citext" for name in rows.columns])
        with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for row, gaps in zip(rows.itertuples(index=False), absent.to_numpy(), strict=True):
                copy.write_row([None if gap else str(value) for value, gap in zip(row, gaps, strict=True)])
    return f"{url}::{table}"
