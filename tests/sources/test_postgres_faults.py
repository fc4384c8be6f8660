"""What is refused of a database, what its faults say, where its password is not, and which ledger counts."""

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import dpsynth
from dpsynth.cli.app import app
from dpsynth.errors import DataError, DpsynthError, FileError, InputError, LedgerError
from dpsynth.jobs.fit import fit
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.ledger_place import ledger_of
from dpsynth.sources.database import database_of, without_password
from dpsynth.sources.query_text import one_query
from dpsynth.sources.scanned import scan
from dpsynth.sources.scratch import PREFIX
from sources import scanned_cases as cases
from sources.postgres_server import PASSWORD, Server, filled

QUOTED = PASSWORD.replace("/", "%2F").replace("@", "%40")
VALUE = "Zenker"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep temporary files in a folder of the test's own, and see that nothing is left there; no password is known."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setenv("PGPASSWORD", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    yield place
    assert not list(place.glob(PREFIX + "*"))


@pytest.fixture
def database(postgres: Server) -> str:
    """Return the address of a database with a table of visits."""
    address = postgres.fresh("faults")
    filled(address, cases.frame(60))
    return address


@pytest.fixture
def schema_file(tmp_path: Path) -> str:
    """Write the schema."""
    path = tmp_path / "ward.yaml"
    path.write_text(cases.SCHEMA, encoding="utf-8")
    return str(path)


def run(*words: str) -> Any:
    """Run a command."""
    return CliRunner().invoke(app, list(words))


def do(address: str, *commands: str) -> None:
    """Run commands in a database."""
    import psycopg

    with psycopg.connect(address, autocommit=True) as connection:
        for command in commands:
            connection.execute(command)


def spend(address: str, *, facts: dict[str, Any] | None = None, **options: Any) -> Path:
    """Spend on a table or a query; return the ledger that counts."""
    cohort = scan(address, cases.schema(**(facts or {})), **options)
    book = ledger_of(cohort)
    assert book is not None
    if not book.exists():
        book.raise_limit(dpsynth.Budget(9, 1e-6), reason="several runs")
    run = book.reserve(dpsynth.Budget(0.1, 1e-8), accounting="gaussian", rho=1e-3, patient_column="id")
    book.commit(run, [])
    return book._target()


def refusal(address: str, **options: Any) -> str:
    """Return why rows cannot be read, at once or when they are."""
    with pytest.raises(DpsynthError) as caught:
        scan(address, cases.schema(), public=True, **options).parts(2, bytes(32))
    shown = "".join(traceback.format_exception(caught.value))
    assert VALUE not in shown
    assert PASSWORD not in shown
    assert "psycopg.errors" not in shown
    assert caught.value.exit_code == 2
    return str(caught.value)


# -- queries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DROP TABLE visits", "begins with another word"),
        ("SELECT 1; DROP TABLE visits", "more than one statement"),
        ("SELECT 1) TO STDOUT; DROP TABLE visits; COPY (SELECT 1", "bracket is closed"),
        ("SELECT (1", "bracket is not closed"),
        ("SELECT 1\0", "not the text of a query"),
        ("SELECT 'a", "quotation mark is not closed"),
        ("SELECT 1 /* a /* b */", "comment is not closed"),
        ("-- nothing\n;", "holds no query"),
        ("EXPLAIN SELECT 1", "begins with another word"),
        ("COPY visits TO PROGRAM 'sh'", "begins with another word"),
        ("SELECT * FROM visits WHERE id = $1", "place for a parameter"),
    ],
)
def test_what_is_not_one_query_is_refused(text: str, words: str) -> None:
    """Nothing is sent to the server."""
    with pytest.raises(InputError, match=words):
        one_query(text, "cohort.sql")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ';' || $$;$$ || $a$;$a$ AS a, \";\" -- ;\n FROM v /* ; /* ; */ */",
        "WITH a AS (SELECT 1) TABLE a",
        "(VALUES (E'\\';'), (U&'d;')) ",
        "SELECT a$b$c, a$1 FROM v",
    ],
)
def test_semicolons_in_words_end_no_query(text: str) -> None:
    """Strings, names, dollar quotes and comments hold what they like; what follows the statement's own is cut."""
    assert one_query(f"{text}; -- done;\n;", "cohort.sql") == text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (
            "WITH gone AS (DELETE FROM visits RETURNING *) SELECT * FROM gone",
            "does not do",
        ),
        ("SELECT * FROM visits WHERE nextval('counted') > 0", "read only"),
        ("SELECT * FROM visits FOR UPDATE", "read only"),
        ("SELECT * FROM visits WHERE set_config('transaction_read_only', 'off', false) = 'off'", "read only"),
        ("SELECT * FROM nothing", "is not there"),
        ("SELECT * FROM visits WHERE weight > 3", "columns is not there"),
        ("SELECT * FROM visits WHERE", "is not SQL"),
        ("SELECT *, 1 AS id FROM visits", "stands twice"),
        ("SELECT id FROM visits", "is declared and not in the data"),
        ("SELECT *, 1 AS weight FROM visits", "is in the data and not declared"),
        ("SELECT *, 1/0 AS age FROM visits", "fails at a value.*SQLSTATE 22012"),
    ],
)
def test_a_query_that_cannot_be_read_is_refused(query: str, words: str, database: str) -> None:
    """It writes nothing, and the message says what to do."""
    do(database, "CREATE SEQUENCE counted")
    assert re.search(words, refusal(database, query=query))
    whole = scan(f"{database}::visits", cases.schema()).rows.batches(cases.schema())
    assert sum(table.num_rows for table in whole) == len(cases.frame(60))


def test_a_value_in_the_servers_message_is_not_told(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A cast that fails, and a function that raises a patient's name: the code alone is shown, nothing is logged."""
    columns = "id, note, age, trop, unit, year, dx, seen, died"
    do(
        database,
        f"UPDATE visits SET id = '{VALUE}' WHERE ctid = (SELECT max(ctid) FROM visits)",  # noqa: S608
        f"CREATE VIEW fails AS SELECT {columns}, id::numeric AS lab FROM visits",  # noqa: S608  (ours)
        "CREATE FUNCTION tell(id text) RETURNS numeric LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE NOTICE 'patient %', id; RAISE WARNING 'patient %', id; "
        f"IF id = '{VALUE}' THEN RAISE EXCEPTION 'patient %', id; END IF; RETURN 1; END $$",
    )
    with caplog.at_level(logging.DEBUG):
        assert "SQLSTATE 22P02" in refusal(f"{database}::fails")
        told = refusal(database, query=f"SELECT {columns}, tell(id) AS lab FROM visits")  # noqa: S608  (ours)
    assert "SQLSTATE P0001" in told
    assert VALUE not in caplog.text


def test_a_relation_is_named_as_the_catalogue_has_it(database: str) -> None:
    """Names with capitals, points and quotation marks; a view, a materialised view and a partitioned table."""
    do(
        database,
        'CREATE SCHEMA "The Ward"; CREATE VIEW "The Ward"."a.b""c" AS SELECT * FROM visits',
        "CREATE MATERIALIZED VIEW kept AS SELECT * FROM visits",
        "CREATE TABLE parts (LIKE visits) PARTITION BY LIST (year)",
        "CREATE TABLE parts_2019 PARTITION OF parts FOR VALUES IN (2019)",
    )
    for relation in ('The Ward."a.b""c"', "kept", "public.parts", "parts_2019"):
        assert scan(f"{database}::{relation}", cases.schema()).columns == tuple(cases.schema().columns)
    assert "is not there" in refusal(f"{database}::Visits")
    for address in (database, f"{database}::a.b.c"):
        assert "database:" in refusal(address) or "relation:" in refusal(address)


# -- connections ------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_told(postgres: Server, database: str) -> None:
    """No such host, port, database or user: a message, and exit code 2."""
    assert "cannot be reached" in refusal("postgresql://steward@localhost:1/ehr::visits")
    assert "no such database" in refusal(postgres.url("nowhere") + "::visits")
    address = postgres.url("faults", host="localhost", user="nobody") + "::visits"
    assert "let this user in" in refusal(address.replace("nobody@", f"nobody:{QUOTED}@"))


def test_no_privilege_is_told(database: str) -> None:
    """A user who may not read the table is told so, before a row is read."""
    do(database, "DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN")
    try:
        assert "may not read" in refusal(database.replace("steward@", "guest@") + "::visits")
        do(database, "GRANT SELECT ON visits TO guest")
        assert scan(database.replace("steward@", "guest@") + "::visits", cases.schema()).relations is not None
    finally:
        do(database, "DROP OWNED BY guest; DROP ROLE guest")


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg the message says what to install."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "pip install 'dpsynth[sql]'" in refusal("postgresql://localhost/ehr::visits")


def _ended(address: str, how: str) -> None:
    """End the reading query, as soon as there is one."""
    import psycopg

    active = "application_name = 'dpsynth' AND state = 'active' AND query LIKE '%%pg_sleep%%' AND query LIKE %s"
    with psycopg.connect(address, autocommit=True) as connection:
        ended: list[Any] = []
        while not ended:
            time.sleep(0.05)
            ended = connection.execute(
                f"SELECT {how}(pid) FROM pg_stat_activity WHERE {active}",  # noqa: S608  (ours)
                ("COPY%",),
            ).fetchall()


@pytest.mark.parametrize(
    ("how", "words"), [("pg_terminate_backend", "connection.*was lost"), ("pg_cancel_backend", "was cancelled")]
)
def test_a_connection_that_ends_while_rows_are_read(how: str, words: str, database: str, ledgers: Path) -> None:
    """A lost connection or a cancelled query: a message, nothing spent, nothing left."""
    query = "SELECT v.* FROM visits v, generate_series(1, 9) s WHERE pg_sleep(0.002) IS NOT NULL"
    cohort = scan(database, cases.schema(), query=query)
    ending = threading.Thread(target=_ended, args=(database, how))
    ending.start()
    with pytest.raises(DpsynthError, match=words) as caught:
        fit(cohort, "independent", epsilon=1.0, anyway=True)
    ending.join()
    assert caught.value.exit_code == 2
    (spent,) = ledger_of(cohort).runs()  # type: ignore[union-attr]
    assert spent.events == ()


def test_a_statement_timeout_is_told(database: str) -> None:
    """The server's own limit ends the query."""
    query = "SELECT * FROM visits WHERE pg_sleep(0.02) IS NOT NULL"
    assert "statement_timeout" in refusal(f"{database}&options=-c%20statement_timeout%3D200", query=query)


# -- passwords --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://u:p@h/d", ("postgresql://u@h/d", "p")),
        ("postgresql://u:p%40/q@h:1/d::a.b", ("postgresql://u@h:1/d::a.b", "p@/q")),
        ("postgres://u@h/d?password=p&sslmode=require", ("postgres://u@h/d?sslmode=require", "p")),
        ("postgresql:///d?user=u&password=p", ("postgresql:///d?user=u", "p")),
        ("postgresql://u:p@[::1]:5/d::t", ("postgresql://u@[::1]:5/d::t", "p")),
        ("postgresql://h:5432/d::t", ("postgresql://h:5432/d::t", None)),
        ("postgresql://h:1,g:2/d", ("postgresql://h:1,g:2/d", None)),
    ],
)
def test_a_password_is_taken_out_of_an_address(address: str, expected: tuple[str, str | None]) -> None:
    """However it is written there."""
    assert without_password(address) == expected
    assert expected[1] is None or f"{expected[1]}@" not in repr(database_of(expected[0].partition("::")[0], "SELECT 1"))


def _written(*folders: Path) -> bytes:
    return b"".join(path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file())


@pytest.mark.usefixtures("database", "ledgers")
def test_a_password_is_nowhere(
    postgres: Server, tmp_path: Path, schema_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works in an address, and is in no output, error, model, release, ledger or traceback, whatever goes wrong."""
    monkeypatch.setenv("DPSYNTH_DEBUG", "1")
    good = postgres.url("faults", host="localhost").replace("steward@", f"steward:{QUOTED}@")
    bad = good.replace("steward:", "nobody:")
    terms = ("-s", schema_file, "-e", "1", "-m", "independent")
    (tmp_path / "broken.sql").write_text("SELECT 1/0 AS id FROM visits", encoding="utf-8")
    said = []
    for code, words in (
        (0, ("fit", f"{good}::visits", *terms, "-o", str(tmp_path / "model"))),
        (0, ("release", f"{good}::visits", *terms, "-o", str(tmp_path / "out"), "-n", "50", "--limit", "9")),
        (0, ("schema", "check", schema_file, "--data", f"{good}::visits")),
        (0, ("ledger", "show", f"{good}::visits")),
        (2, ("fit", f"{bad}::visits", *terms)),
        (2, ("fit", f"{good}::nothing", *terms)),
        (2, ("fit", good, "--query", str(tmp_path / "broken.sql"), *terms)),
        (2, ("fit", good, *terms)),
        (2, ("fit", good, good, *terms)),
        (2, ("fit", f"{good}::visits", "-s", good, "-e", "1")),
        (2, ("fit", f"{good}::visits", "-s", schema_file, "-e", good)),
        (2, ("plan", good, "-e", "1")),
        (2, ("plan", f"postgresql://u:{PASSWORD}@h", "-e", "1")),
        (2, ("evaluate", good)),
        (2, (good,)),
        (2, ("audit", "prism", "--cohort", good, "--schema", schema_file, "--public", "-e", "1")),
        (2, ("fit", f"{good}&password={QUOTED}&sslpassword={QUOTED}::visits", *terms)),
    ):
        done = run(*words)
        assert done.exit_code == code or words[0] == "release", (words[:1], done.output)
        said.append(done.output + done.stderr + str(done.exception))
    held = "".join(said).encode() + _written(tmp_path)
    assert b"dpsynth" in held
    assert PASSWORD.encode() not in held
    assert QUOTED.encode() not in held


def test_the_usual_places_of_a_password_work(
    database: str, postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGPASSWORD, a password file, and a service file, as for PostgreSQL's own programs."""
    address = postgres.url("faults", host="localhost")
    monkeypatch.delenv("PGPASSWORD")
    with pytest.raises(FileError):
        scan(f"{address}::visits", cases.schema())
    (tmp_path / "pass").write_text(f"localhost:*:*:steward:{PASSWORD}\n", encoding="utf-8")
    (tmp_path / "pass").chmod(0o600)
    (tmp_path / "services").write_text(
        f"[ehr]\nhost=localhost\nport={postgres.port}\nuser=steward\ndbname=faults\npassword={PASSWORD}\n",
        encoding="utf-8",
    )
    for name, value, used in (
        ("PGPASSWORD", PASSWORD, address),
        ("PGPASSFILE", str(tmp_path / "pass"), address),
        ("PGSERVICEFILE", str(tmp_path / "services"), "postgresql:///?service=ehr"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert scan(f"{used}::visits", cases.schema()).columns == tuple(cases.schema().columns)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGSERVICE", "ehr")
    assert scan("postgresql://::visits", cases.schema()).columns == tuple(cases.schema().columns)


# -- ledgers ----------------------------------------------------------------------------------------------------------


def test_one_ledger_for_all_ways_to_a_table(
    database: str, postgres: Server, ledgers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts, a socket, a search path, a query, a view, a copy that is refreshed, a join: one total."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    do(
        database,
        "CREATE VIEW seen_lately AS SELECT * FROM visits WHERE year > 2000",
        "CREATE VIEW nested AS SELECT * FROM seen_lately",
        "CREATE MATERIALIZED VIEW kept AS SELECT * FROM nested",
        "CREATE TABLE icd AS SELECT 'flu'::text AS word",
    )
    hosts = [postgres.url("faults", host=host) for host in ("localhost", "127.0.0.1")]
    ways: list[tuple[str, str | None]] = [(f"{host}::visits", None) for host in hosts]
    ways += [(f"{database}::{name}", None) for name in ("visits", "public.visits", "nested", "kept")]
    ways += [
        (database, query)
        for query in (
            "SELECT * FROM visits",
            "TABLE public.visits -- all",
            "SELECT v.* FROM visits AS v WHERE false OR v.year < 3000",
            "SELECT v.* FROM visits v LEFT JOIN icd ON v.dx = word",
            "SELECT * FROM visits WHERE EXISTS (SELECT FROM icd)",
            "WITH a AS (SELECT * FROM kept) SELECT * FROM a",
        )
    ]
    books = {spend(address, query=query) for address, query in ways}
    assert len(books) == 1
    assert len(Ledger(books.pop()).runs()) == len(ways)
    shown = run("ledger", "show", f"{hosts[0]}::public.visits", "--json")
    assert len(json.loads(shown.stdout)["runs"]) == len(ways)


def test_a_partition_is_its_table(database: str, ledgers: Path) -> None:
    """Whoever spent on a partition spent on the table."""
    do(
        database,
        "CREATE TABLE parts (LIKE visits) PARTITION BY LIST (year)",
        *(f"CREATE TABLE parts_{year} PARTITION OF parts FOR VALUES IN ({year})" for year in (2019, 2020, 2021)),
        "INSERT INTO parts SELECT * FROM visits",
    )
    assert spend(f"{database}::parts_2019") == spend(f"{database}::parts") == spend(f"{database}::parts_2021")


def test_a_table_that_is_made_anew_goes_on(database: str, ledgers: Path) -> None:
    """A nightly load that drops and makes the table has the ledger of the one before; another table has its own."""
    book = spend(f"{database}::visits")
    filled(database, cases.frame(70))
    do(database, "CREATE TABLE other AS SELECT * FROM visits")
    assert spend(f"{database}::visits") == book
    assert spend(f"{database}::other") != book


def test_tables_that_were_spent_on_apart_have_no_total(database: str, ledgers: Path) -> None:
    """A query over two tables with a ledger each is refused, whatever name it is given."""
    do(database, "CREATE TABLE copied AS SELECT * FROM visits")
    spend(f"{database}::visits")
    spend(f"{database}::copied")
    query = "SELECT * FROM visits UNION ALL SELECT * FROM copied"
    for facts in ({}, {"dataset": "ward"}):
        with pytest.raises(LedgerError, match="no total"):
            spend(database, query=query, facts=facts)


def test_a_name_joins_what_cannot_be_told(database: str, postgres: Server, ledgers: Path, tmp_path: Path) -> None:
    """A dataset's name leads from a copy, a function, another server and a file to one ledger; it never parts one."""
    named = {"dataset": "Ward 3"}
    do(
        database,
        "CREATE TABLE copied AS SELECT * FROM visits",
        "CREATE FUNCTION taken() RETURNS SETOF visits LANGUAGE plpgsql AS "
        "$$ BEGIN RETURN QUERY SELECT * FROM visits; END $$",
    )
    with pytest.raises(InputError, match="dataset: the query reads no table"):
        spend(database, query="SELECT * FROM taken()")
    book = spend(f"{database}::visits", facts=named)
    assert spend(f"{database}::visits") == book
    assert spend(f"{database}::copied", facts={"dataset": " ward 3"}) == book
    assert spend(database, query="SELECT * FROM taken()", facts=named) == book
    path = cases.in_one_file(tmp_path / "file", cases.frame(60))
    cohort = dpsynth.Cohort.read(path, cases.schema(**named))
    fit(cohort, "independent", epsilon=0.1, delta=1e-8, anyway=True)
    assert ledger_of(dpsynth.Cohort.read(path, cases.schema()))._target() == book  # type: ignore[union-attr]
    assert len(Ledger(book).runs()) == 5
    do(database, "CREATE TABLE third AS SELECT * FROM visits")
    assert spend(f"{database}::third") != book
    with pytest.raises(LedgerError, match="no total"):
        spend(f"{database}::third", facts=named)
    assert spend(f"{database}::visits", facts={"dataset": "another"}) == book


@pytest.mark.parametrize("kind", ["VOLATILE", "STABLE PARALLEL SAFE"])
def test_a_function_that_reads_further_tables_is_refused(kind: str, database: str, ledgers: Path) -> None:
    """The server's locks tell at the end what a function read, also in helpers; nothing was spent by then."""
    do(
        database,
        "CREATE TABLE hidden AS SELECT * FROM visits",
        "CREATE FUNCTION age_of(text) RETURNS smallint LANGUAGE plpgsql AS "
        "$$ BEGIN RETURN (SELECT max(age) FROM hidden); END $$",
        f"ALTER FUNCTION age_of(text) {kind}",
    )
    query = "SELECT id, note, age_of(id) AS age, lab, trop, unit, year, dx, seen, died FROM visits"
    settings = ("leader_participation=off", "setup_cost=0", "tuple_cost=0")
    names = [*(f"parallel_{setting}" for setting in settings), "min_parallel_table_scan_size=0"]
    options = "".join(f"%20-c%20{name.replace('=', '%3D')}" for name in names)
    cohort = scan(f"{database}&options={options.removeprefix('%20')}", cases.schema(), query=query)
    with pytest.raises(DataError, match="a function in it reads more"):
        fit(cohort, "independent", epsilon=1.0, anyway=True)
    (spent,) = ledger_of(cohort).runs()  # type: ignore[union-attr]
    assert spent.events == ()


def test_a_ledger_that_is_named_counts_from_then_on(database: str, ledgers: Path, tmp_path: Path) -> None:
    """A ledger elsewhere is found again by every way to the table; another one is refused."""
    cohort = scan(f"{database}::visits", cases.schema())
    fit(cohort, "independent", epsilon=0.1, limit=9.0, ledger=tmp_path / "ours.jsonl", anyway=True)
    assert spend(database, query="SELECT * FROM public.visits") == tmp_path / "ours.jsonl"
    with pytest.raises(InputError, match="which would forget it"):
        fit(cohort, "independent", epsilon=0.1, ledger=tmp_path / "theirs.jsonl", anyway=True)
    shutil.rmtree(ledgers)
    with pytest.raises(InputError, match="DPSYNTH_LEDGERS"):
        ledger_of(cohort)


def test_ledgers_lie_with_the_users_own_files(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no folder is named they are the user's own, which nobody else may read."""
    monkeypatch.delenv("DPSYNTH_LEDGERS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    book = spend(f"{database}::visits")
    assert book.parent == tmp_path / "state" / "dpsynth" / "datasets"
    assert book.parent.stat().st_mode & 0o777 == 0o700
    assert book.name.startswith("faults.public.visits-")


def test_who_may_not_ask_for_the_server_names_the_dataset(database: str, ledgers: Path) -> None:
    """Where a server does not say which it is, hosts cannot be told apart."""
    do(database, "DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN; GRANT SELECT ON visits TO guest")
    do(database, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public")
    address = database.replace("steward@", "guest@") + "::visits"
    try:
        with pytest.raises(InputError, match="does not say which it is"):
            spend(address)
        assert spend(address, facts={"dataset": "ward"}).name.startswith("dataset.ward-")
    finally:
        do(database, "GRANT EXECUTE ON FUNCTION pg_control_system() TO public", "DROP OWNED BY guest; DROP ROLE guest")


def test_first_runs_at_once_share_a_ledger(database: str, ledgers: Path) -> None:
    """First runs on tables that overlap, at the same time: one ledger, with every run that was not refused."""
    do(database, "CREATE TABLE icd AS SELECT 'flu'::text AS word")
    queries = ["SELECT v.* FROM visits v LEFT JOIN icd ON dx = word", "TABLE visits"]
    cohorts = [scan(database, cases.schema(), query=query) for query in queries * 2]
    books = [ledger_of(cohort) for cohort in cohorts]
    done: list[str] = []

    def reserve(book: Ledger) -> None:
        with contextlib.suppress(InputError, LedgerError):
            terms: dict[str, Any] = {"accounting": "gaussian", "rho": 1e-8, "patient_column": "id"}
            done.append(book.reserve(dpsynth.Budget(0.1, 1e-7), **terms))

    threads = [threading.Thread(target=reserve, args=(book,)) for book in books]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done
    for cohort in cohorts:
        if len(done) < len(books):  # one that was refused finds the ledger when it is begun again
            reserve(ledger_of(cohort))  # type: ignore[arg-type]
        assert {run.run for run in ledger_of(cohort).runs()} == set(done)  # type: ignore[union-attr]


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["prism", "independent"])
def test_release_from_a_query(model: str, database: str, tmp_path: Path, ledgers: Path, schema_file: str) -> None:
    """From the file of a query to a release of its own rows, and one run in the ledger."""
    query = tmp_path / "cohort.sql"
    query.write_text("-- the ward\nSELECT * FROM visits WHERE year >= 2019;\n", encoding="utf-8")
    words = (database, "--query", str(query))
    done = run("release", *words, "-s", schema_file, "-e", "1", "-m", model, "-o", str(tmp_path / "o"), "-n", "50")
    assert done.exit_code == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "o" / "release" / "data" / "patients.csv")) == 50
    assert len(json.loads(run("ledger", "show", *words, "--json").stdout)["runs"]) == 1
    checked = run("schema", "check", schema_file, "--data", *words, "--json")
    assert checked.exit_code == 0, checked.stderr
    assert json.loads(checked.stdout)["data"]["rows"] == len(cases.frame(60))


def test_a_name_on_the_command_line(database: str, tmp_path: Path, ledgers: Path, schema_file: str) -> None:
    """``--dataset`` is that of the schema, and finds the ledger without a database."""
    terms = ("-s", schema_file, "-e", "1", "-m", "independent", "-o", str(tmp_path / "model"))
    done = run("fit", f"{database}::visits", "--dataset", "ward 3", *terms)
    assert done.exit_code == 0, done.stderr
    for words in (("--dataset", "Ward 3"), (f"{database}::visits",)):
        assert len(json.loads(run("ledger", "show", *words, "--json").stdout)["runs"]) == 1


def test_faults_of_a_table_are_checked(database: str, schema_file: str) -> None:
    """``schema check --data`` tells what a fit would refuse, without values."""
    do(database, "ALTER TABLE visits ALTER unit TYPE text", f"UPDATE visits SET unit = '{VALUE}' WHERE id = 'p1'")  # noqa: S608
    checked = run("schema", "check", schema_file, "--data", f"{database}::visits", "--json")
    assert checked.exit_code == 2
    assert "unit" in checked.stdout
    assert VALUE not in checked.stdout + checked.stderr


def test_a_query_for_a_file_is_refused(tmp_path: Path, schema_file: str) -> None:
    """``--query`` belongs to a database."""
    done = run("fit", str(tmp_path / "ward.csv"), "--query", "cohort.sql", "-s", schema_file, "-e", "1")
    assert done.exit_code == 2
    assert "--query: is for a database" in done.stderr


SLOW = "SELECT v.* FROM visits v, generate_series(1, 900) s WHERE pg_sleep(0.01) IS NOT NULL"


@pytest.mark.usefixtures("ledgers")
def test_ctrl_c_ends_the_query_and_leaves_nothing(
    database: str, tmp_path: Path, schema_file: str, temporary: Path
) -> None:
    """While the server works, Ctrl-C ends with 130; its query is ended too, and what was reserved is given back."""
    (tmp_path / "slow.sql").write_text(SLOW, encoding="utf-8")
    words = ["fit", database, "--query", str(tmp_path / "slow.sql"), "-s", schema_file, "-e", "1", "--anyway"]
    command = [sys.executable, "-m", "dpsynth", *words, "-o", str(tmp_path / "model")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PGPASSWORD": ""}) as process:
        _until(lambda: _working(database) > 0)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    _until(lambda: _working(database) == 0)
    (spent,) = ledger_of(scan(f"{database}::visits", cases.schema())).runs()  # type: ignore[union-attr]
    assert spent.events == ()
    assert not list(temporary.glob(PREFIX + "*"))


def _working(address: str) -> int:
    import psycopg

    with psycopg.connect(address) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dpsynth' AND state = 'active' "
            "AND query LIKE '%generate_series(1, 900)%' AND query NOT LIKE '%LIMIT 0'"
        ).fetchall()[0]
    return int(count)


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_schema_is_drafted_from_a_table(database: str, tmp_path: Path) -> None:
    """``schema draft`` of a table, and of a query, names the columns; what has no single value is refused by name."""
    done = run("schema", "draft", f"{database}::public.visits")
    assert done.exit_code == 2
    assert "column 'note': is of type jsonb" in done.stderr
    query = tmp_path / "cohort.sql"
    query.write_text("SELECT id, age, unit, died FROM visits", encoding="utf-8")
    done = run("schema", "draft", database, "--query", str(query), "-o", str(tmp_path / "draft.yaml"))
    assert done.exit_code == 0, done.stderr
    drafted = dpsynth.Schema.load(tmp_path / "draft.yaml")
    assert drafted.name == "cohort"
    assert set(drafted.columns) == {"id", "age", "unit", "died"}
    assert drafted.columns["unit"].type == "categorical"


def test_patients_are_held_out_of_a_table(database: str, tmp_path: Path, ledgers: Path, schema_file: str) -> None:
    """A release is judged by patients of the table whom the model never saw."""
    words = ("-s", schema_file, "-e", "1", "-m", "independent", "--holdout", "0.3", "-o", str(tmp_path / "study"))
    done = run("release", f"{database}::visits", *words)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "study" / "internal").is_dir()


def test_a_query_may_be_given_as_text(database: str, ledgers: Path) -> None:
    """A SELECT on the command line, or in the name of a file with blanks in it."""
    shown = run("ledger", "show", database, "--query", "SELECT * FROM visits; -- all")
    assert "there is no such ledger" in shown.stderr
    shown = run("ledger", "show", database, "--query", "no such file.sql")
    assert shown.exit_code == 2
    assert "begins with another word" in shown.stderr


def test_a_cohort_that_is_read_is_in_no_database(schema_file: str) -> None:
    """`Cohort.read` and ``evaluate`` say what to do instead, and show no address."""
    with pytest.raises(InputError, match=r"Cohort\.scan") as caught:
        dpsynth.Cohort.read(f"postgresql://steward:{QUOTED}@db", cases.schema())
    assert QUOTED not in str(caught.value)
    words = ("--real", f"postgresql://steward:{QUOTED}@db/ehr::visits", "--synthetic", "a.csv", "-s", schema_file)
    done = run("evaluate", *words)
    assert done.exit_code == 2
    assert "database: a table of a database" in done.stderr


# -- planted bugs: each is caught by a check above --------------------------------------------------------------------


def test_a_servers_text_that_is_shown_is_caught(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message with what the server says fails the check for values."""
    do(database, f"CREATE VIEW fails AS SELECT v.*, '{VALUE}'::text::int AS x FROM visits v")  # noqa: S608  (ours)
    from dpsynth.sources import postgres, postgres_faults

    @contextlib.contextmanager
    def shown(name: str, *, connecting: bool = False) -> Iterator[None]:
        try:
            yield
        except postgres_faults.driver().Error as error:
            raise DataError(str(error)) from None

    refusal(f"{database}::fails")
    monkeypatch.setattr(postgres, "told", shown)
    with pytest.raises(AssertionError):
        refusal(f"{database}::fails")


def test_a_password_that_stays_in_the_address_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not taken out of the command line, a message on the command line shows it."""
    words = ("fit", "ward.csv", f"postgresql://u:{PASSWORD}@h/d", "-s", "ward.yaml", "-e", "1")
    assert PASSWORD not in run(*words).stderr
    monkeypatch.setattr("dpsynth.cli.databases._without_password", lambda word: word)
    assert PASSWORD in run(*words).stderr


def test_a_ledger_by_the_address_is_caught(
    database: str, postgres: Server, ledgers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the host part of what tells a server, two names of it would have two ledgers."""
    from dpsynth.sources import postgres as source

    own = source.Query.relations.fget  # type: ignore[attr-defined]
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    hosts = [postgres.url("faults", host=host) + "::visits" for host in ("localhost", "127.0.0.1")]
    assert len({spend(host) for host in hosts}) == 1
    by_host = property(lambda self: replace(own(self), server=self.database.address))
    monkeypatch.setattr(source.Query, "relations", by_host)
    assert len({spend(host) for host in hosts}) == 2
