"""Patients in PostgreSQL: the same integers as in memory, whatever the types of its columns."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy.helpers import Tape

import dpsynth
from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.columns.matching import canonical_text
from dpsynth.errors import DataError, DpsynthError
from dpsynth.jobs.fit import fit
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.schema import Schema
from dpsynth.sources import divided
from dpsynth.sources import postgres as source
from dpsynth.sources.divided import Divided
from dpsynth.sources.memory import Memory
from dpsynth.sources.postgres_types import _decimal
from dpsynth.sources.scanned import ScannedCohort, scan
from dpsynth.sources.scratch import PREFIX
from sources import scanned_cases as cases
from sources.postgres_server import Server, filled
from sources.test_parts import CAP, asked_of_tables, same

SECRET = bytes(range(32))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep temporary files in a folder of the test's own, and see that nothing is left there."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    yield place
    assert not list(place.glob(PREFIX + "*"))


@pytest.fixture
def server(postgres: Server) -> str:
    """Return the address of a database in which nothing is made."""
    return postgres.url()


@pytest.fixture
def database(postgres: Server) -> str:
    """Return the address of an empty database."""
    return postgres.fresh("ward")


def scanned(address: str, facts: Schema | None = None, **options: Any) -> ScannedCohort:
    """Return a public cohort that is scanned in 13 parts."""
    cohort = scan(address, facts or cases.schema(), public=True, **options)
    return ScannedCohort(cohort.schema, cohort.rows, public=True, count=cases.PARTS)


def in_memory(rows: pd.DataFrame, facts: Schema | None = None) -> Cohort:
    """Return the same rows in memory."""
    return Cohort.from_pandas(rows, facts or cases.schema(), public=True)


def integers(cohort: Any) -> list[Any]:
    """Return the answers to every kind of question."""
    return asked_of_tables(cohort, cohort.schema)


# -- equal integers ---------------------------------------------------------------------------------------------------


def test_a_scan_gives_the_integers_of_memory(database: str) -> None:
    """Ten columns of ten types, more rows of a patient than the cap, in another order: equal integers."""
    rows = cases.frame()
    whole = integers(in_memory(rows))
    assert same(whole, integers(scanned(filled(database, rows.sample(frac=1, random_state=3)))))


def test_a_query_gives_the_integers_of_memory(database: str) -> None:
    """A query with a comment, a join and a semicolon is read as it is."""
    rows = cases.frame()
    filled(database, rows)
    query = """-- the ward; all of it
        WITH unit AS (SELECT DISTINCT unit FROM visits) /* a ; /* nested */ */
        SELECT v.* FROM visits v JOIN unit USING (unit); -- done"""
    assert same(integers(in_memory(rows)), integers(scanned(database, query=query)))


@given(
    st.lists(
        st.tuples(
            st.decimals(allow_nan=False, allow_infinity=False, places=None),
            st.dates(),
            st.datetimes(),
            st.times(),
            st.uuids(),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(width=32, allow_nan=False),
            st.floats(allow_nan=False),
            st.booleans(),
            st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")),
        ),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=15, deadline=None)
def test_values_are_those_that_were_written(postgres: Server, rows: list[tuple[Any, ...]]) -> None:
    """What PostgreSQL was given comes back as the same value of Python, whatever the type, extremes among them."""
    kinds = ["numeric", "date", "timestamp", "time", "uuid", "int8", "float4", "float8", "bool", "text"]
    with postgres.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS any_values; DROP TABLE IF EXISTS of_types")
        connection.execute(f"CREATE TABLE any_values ({', '.join(f'c{i} {kind}' for i, kind in enumerate(kinds))})")
        for row in rows:
            connection.execute(f"INSERT INTO any_values VALUES ({', '.join(['%s'] * len(row))})", row)  # noqa: S608
    columns = {f"c{i}": {"type": "identifier"} for i in range(len(kinds))}
    facts = Schema.parse({"name": "any", "columns": columns | {"age": {"type": "numeric", "min": 0, "max": 9}}})
    cohort = scan(postgres.url(), facts, query="SELECT *, 1 AS age FROM any_values")
    (table,) = cohort.rows.batches(facts)
    for i, kind in enumerate(kinds):
        expected = [row[i] for row in rows]
        if kind == "numeric":
            assert [Decimal(text) for text in table["c0"].to_pylist()] == expected
            assert table["c0"].to_pylist() == [canonical_text(value) for value in expected]
        elif kind in ("time", "uuid"):
            assert table[f"c{i}"].to_pylist() == [str(value) for value in expected]
        else:
            assert table[f"c{i}"].to_pylist() == expected


EXTREMES = """
SELECT * FROM (VALUES
    ('NaN'::numeric, 'NaN'::float8, 'infinity'::date, 'infinity'::timestamp, '24:00'::time, 'ab'::char(5), 1::int2),
    ('Infinity', '-Infinity', '-infinity', '-infinity', '00:00', '', 2),
    (-0.00, 1e300, '0044-03-15 BC', '0044-03-15 BC', '08:30:00.5', '  a', 3),
    (1e20, '-0', '9999-12-31', '294276-12-31', '23:59:59.999999', NULL, NULL),
    (0.000100, 0.1, '10000-01-01', '1969-12-31 23:59:59.9', NULL, 'é', 4)
) AS v (n, f, d, ts, t, c, i)"""


def test_extremes_are_read_by_themselves(server: str) -> None:
    """NaN, infinities, years BC and beyond 9999, 24:00, blanks that fill up: each is one value like any other."""
    names = ["n", "f", "d", "ts", "t", "c", "i"]
    columns = {name: {"type": "identifier"} for name in names if name != "i"}
    facts = Schema.parse({"name": "any", "columns": columns | {"i": {"type": "numeric", "min": 0, "max": 9}}})
    (table,) = scan(server, facts, query=EXTREMES).rows.batches(facts)
    texts = [table[name] for name in names]
    assert texts[0].to_pylist() == [None, "inf", "0", "100000000000000000000", "0.0001"]
    assert str(texts[1].to_pylist()) == "[nan, -inf, 1e+300, -0.0, 0.1]"
    assert [str(value) for value in texts[2].to_pylist()] == [
        "9999-12-31", "0001-01-01", "0001-01-01", "9999-12-31", "9999-12-31",
    ]  # fmt: skip
    assert [str(value)[:10] for value in texts[3].to_pylist()] == [
        "9999-12-31", "0001-01-01", "0001-01-01", "9999-12-31", "1969-12-31",
    ]  # fmt: skip
    assert texts[4].to_pylist() == ["24:00:00", "00:00:00", "08:30:00.500000", "23:59:59.999999", None]
    assert texts[5].to_pylist() == ["ab", "", "  a", None, "é"]
    assert texts[6].to_pylist() == [1, 2, 3, None, 4]


def test_a_moment_with_a_zone_is_in_utc(server: str) -> None:
    """Whatever the session's time zone, a moment is the same one."""
    facts = Schema.parse(
        {"name": "any", "columns": {"seen": {"type": "datetime", "min": "2000-01-01", "max": "2030-01-01 00:00"}}}
    )
    for zone in ("Asia/Tokyo", "UTC"):
        address = f"{server}&options=-c%20timezone%3D{zone}"
        (table,) = scan(address, facts, query="SELECT timestamptz '2020-01-01 23:30:00+02' AS seen").rows.batches(facts)
        assert str(table["seen"].cast(pa.timestamp("s", "UTC"))[0]) == "2020-01-01 21:30:00+00:00"


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("'{}'::json", "json"), ("'{}'::jsonb", "jsonb"), ("ARRAY[1]", "integer[]"), ("'\\x00'::bytea", "bytea"),
        ("interval '1 day'", "interval"), ("int4range(1, 2)", "int4range"), ("ROW(1)", "record"),
        ("point '1,2'", "point"),
        ("'1'::money", "money"), ("inet '::1'", "inet"), ("B'1'", "bit"), ("timetz '08:00+02'", "time with time zone"),
        ("'<a/>'::xml", "xml"), ("to_tsvector('a')", "tsvector"),
    ],
)  # fmt: skip
def test_what_has_no_single_value_is_refused_by_name(sql: str, kind: str, server: str) -> None:
    """The message has the column and the type, before a row is read; under drop it is left unread."""
    text = "{name: any, drop: [], columns: {age: {type: numeric, min: 0, max: 9}, odd: {type: identifier}}}"
    query = f"SELECT 1 AS age, {sql} AS odd"
    with pytest.raises(DataError) as caught:
        scan(server, Schema.parse(text), query=query)
    assert f"column 'odd': is of type {kind}" in str(caught.value)
    dropped = Schema.parse("{name: any, drop: [odd], columns: {age: {type: numeric, min: 0, max: 9}}}")
    (table,) = scan(server, dropped, query=query).rows.batches(dropped)
    assert table.to_pydict() == {"age": [1]}


def test_many_rows_come_in_batches_that_fit(server: str) -> None:
    """No batch is larger than was asked for, to the next thousand, and none is lost."""
    facts = Schema.parse("{name: any, columns: {age: {type: numeric, min: 0, max: 9}}}")
    cohort = scan(server, facts, query="SELECT i AS age FROM generate_series(1, 5000) i")
    sizes = [table.num_rows for table in cohort.rows.batches(facts, 1024)]
    assert sizes == [1024, 1024, 1024, 1024, 904]
    empty = scan(server, facts, query="SELECT i AS age FROM generate_series(1, 0) i", public=True)
    with pytest.raises(DataError, match="has no rows"):
        empty.parts(CAP, SECRET)


# -- one patient more -------------------------------------------------------------------------------------------------


def test_one_more_patient_moves_nobody_else(database: str) -> None:
    """A patient with unusual values and many rows moves no other's part, cap or codes."""
    rows = cases.frame()
    new = rows.iloc[:40].assign(id="p999", age="999", lab="0.1234567890123456789", dx="Zenker", trop="<0.5", unit="c")
    one = _of_patients(scanned(filled(database, rows)))
    two = _of_patients(scanned(filled(database, pd.concat([new.iloc[:20], rows, new.iloc[20:]]))))
    assert len(two) == len(one) + 1
    assert len(two.pop(next(iter(set(two) - set(one))))[1]) == CAP
    assert two == one


def _of_patients(cohort: Any) -> dict[int, tuple[int, list[tuple[int, ...]]]]:
    """Return the part and the coded rows of each patient, by the secret number that does not tell who it is."""
    parts = cohort.parts(CAP, SECRET)
    parts.use(Codec(cohort.schema, discovered={"dx": ["flu", "gout", "mumps"]}))
    patients: dict[int, tuple[int, list[tuple[int, ...]]]] = {}
    for place, part in zip(parts._rows, parts, strict=True):
        numbers = part.identities()
        codes = list(zip(*(part.codes[name].tolist() for name in part.codes), strict=True))
        for patient, row in zip(part.patients, codes, strict=True):
            patients.setdefault(int(numbers[patient]), (place, []))[1].append(row)
    parts.close()
    return {number: (place, sorted(rows)) for number, (place, rows) in patients.items()}


ODD = ["'NaN'", "'Infinity'", "1e-300", "123456789012345678901234567890.5", "NULL", "-0.00001", "7"]


@pytest.mark.parametrize("odd", ODD)
def test_one_more_value_moves_no_other(odd: str, server: str) -> None:
    """Whatever one row holds, the values of all others are read as before: numbers, text and moments."""
    query = """SELECT n::{kind} AS x, n::text AS t, to_timestamp(n::float8) AS m FROM (VALUES
        (0.04::numeric), (0.0450), (3), (NULL), (1.5)) AS v (n)"""
    facts = Schema.parse(
        "{name: any, drop: [m], columns: {x: {type: numeric, min: 0, max: 9, missing: true}, t: {type: identifier}}}"
    )
    for kind in ("numeric", "real", "double precision"):
        if kind == "real" and odd in ODD[2:4]:
            continue
        text = query.format(kind=kind)
        (before,) = scan(server, facts, query=text).rows.batches(facts)
        (after,) = scan(server, facts, query=f"{text} UNION ALL SELECT {odd}, 'odd', now()").rows.batches(facts)
        before, after = (divided.typed_batch(table, facts) for table in (before, after))
        assert str(before["x"].cast(pa.float64()).to_pylist()) == str(after["x"][:5].cast(pa.float64()).to_pylist())
        assert before["t"].to_pylist() == after["t"][:5].to_pylist()


def test_a_release_from_a_tape_is_the_same_for_neighbours(database: str, tmp_path: Path) -> None:
    """With the answers of a tape a model of a table is byte-identical for neighbours."""
    models = []
    for rows in (cases.frame(), pd.concat([cases.frame(), cases.frame().iloc[:9].assign(id="p999", dx="Zenker")])):
        cohort = scanned(filled(database, rows))
        with Session.open(cohort, Budget(1, 1e-6), answers=Tape()) as session:
            cohort.parts(CAP, SECRET).close()  # reading the rows says nothing
            fitted = dpsynth.models.make("independent").fit(session)
        fitted.save(tmp_path / f"model {len(models)}")
        models.append({p.name: p.read_bytes() for p in (tmp_path / f"model {len(models)}").iterdir()})
    assert models[0] == models[1]


@pytest.mark.parametrize("model", ["prism", "independent"])
def test_a_fit_with_the_same_noise_is_the_same(model: str, database: str) -> None:
    """From memory and from a table, in another order, a seeded fit draws the same rows."""
    rows = cases.frame()
    cohort = scanned(filled(database, rows.sample(frac=1, random_state=2)))
    whole, parts = (fit(s, model, epsilon=2.0, seed=4).sample(100, seed=5).table for s in (in_memory(rows), cohort))
    assert whole.equals(parts)


# -- snapshots --------------------------------------------------------------------------------------------------------


def test_rows_that_come_while_it_is_read_are_not_seen(database: str, postgres: Server) -> None:
    """Counting and streaming are of one snapshot, however many rows are written between them."""
    cohort = scanned(filled(database, cases.frame()))
    count = cohort.rows.most(9)
    with postgres.connect("ward") as connection:
        connection.execute("INSERT INTO visits SELECT * FROM visits")
    assert sum(table.num_rows for table in cohort.rows.batches(cohort.schema)) == count == len(cases.frame())


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM visits WHERE id = 'p7'", "UPDATE visits SET lab = lab + 1 WHERE id = 'p7'", "DROP TABLE visits"],
)
def test_a_table_that_changes_between_two_readings_is_refused(change: str, database: str, postgres: Server) -> None:
    """As many rows are not enough: a row that was changed is found, too."""
    cohort = scanned(filled(database, cases.frame()))
    for _ in range(2):
        list(cohort.rows.batches(cohort.schema))
    with postgres.connect("ward") as connection:
        connection.execute(change)
    with pytest.raises(DataError, match=r"before in this run|is not there"):
        list(cohort.rows.batches(cohort.schema))


def test_rows_that_are_drawn_anew_are_refused(database: str) -> None:
    """A query that draws rows gives others each time."""
    filled(database, cases.frame())
    cohort = scanned(database, query="SELECT * FROM visits WHERE random() < 0.5")
    with pytest.raises(DataError, match=r"another number of rows each time|before in this run"):
        _ = [list(cohort.rows.batches(cohort.schema)) for _ in range(2)]


def test_no_connection_stays(database: str, postgres: Server) -> None:
    """When rows were read, when reading was given up, and when nothing was read at all."""
    cohort = scanned(filled(database, cases.frame()))
    list(cohort.rows.batches(cohort.schema))
    reading = cohort.rows.batches(cohort.schema, 100)
    next(reading)
    reading.close()
    cohort.rows._rows.most(9)
    cohort.rows._rows.most(9)
    del cohort, reading
    with postgres.connect() as connection:
        (count,) = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = 'ward'").fetchone()
    assert count == 0


# -- planted bugs: each is caught by a check above --------------------------------------------------------------------


def equal_to_memory(database: str) -> bool:
    """Return whether a scan gives the integers of memory, in another order of rows than memory has."""
    rows = cases.frame()
    cohort = scanned(filled(database, rows.sample(frac=1, random_state=5)))
    try:
        return same(integers(in_memory(rows)), integers(cohort))
    except DpsynthError:
        return False


def test_the_check_of_equal_integers_passes(database: str) -> None:
    """Without a bug the check that the planted bugs must fail passes."""
    assert equal_to_memory(database)


def test_a_cap_by_the_order_of_rows_is_caught(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeping the first rows of a patient that are read gives other integers than the keyed numbers."""
    own = divided.Memory._kept_rows

    def first(self: Memory, cohort: Cohort, cap: int) -> Any:
        if len(cohort) > 300:
            return own(self, cohort, cap)  # memory itself
        return np.flatnonzero(pd.Series(cohort.patients()).groupby(cohort.patients()).cumcount() < cap)

    monkeypatch.setattr(divided.Memory, "_kept_rows", first)
    assert not equal_to_memory(database)


def test_a_division_that_splits_a_patient_is_caught(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dividing rows by their place keeps more rows of a patient than the cap."""
    monkeypatch.setattr(
        divided,
        "part_numbers",
        lambda table, _schema, _secret, count, start: np.arange(start, start + len(table)) % count,
    )
    assert not equal_to_memory(database)


def test_fresh_randomness_in_a_second_reading_is_caught(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part whose cap is drawn anew each time it is read has other rows in the second reading."""
    own, draw = Divided._memory, np.random.default_rng(0)

    def fresh(self: Divided, part: int) -> Memory:
        self._secret = draw.bytes(32)
        return own(self, part)

    monkeypatch.setattr(Divided, "_memory", fresh)
    assert not equal_to_memory(database)


@pytest.mark.parametrize("cast", ["lab::numeric(9, 1)", "lab::int::numeric"])
def test_a_cast_in_sql_is_caught(cast: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that the server casts on the way is rounded as another engine would not round it."""
    own = source.quoted
    monkeypatch.setattr(source, "quoted", lambda name: f"{cast} AS lab" if name == "lab" else own(name))
    assert not equal_to_memory(database)


def test_a_second_snapshot_is_caught(database: str, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streaming from a snapshot of its own sees the rows that came after they were counted."""
    own = source.Query._snapshot
    monkeypatch.setattr(source.Query, "_snapshot", lambda self, _snapshot=None: own(self))
    with pytest.raises(DataError, match="another number of rows"):
        test_rows_that_come_while_it_is_read_are_not_seen(database, postgres)


@pytest.mark.parametrize(("encoding", "text"), [("LATIN1", "é"), ("WIN1252", "€"), ("SQL_ASCII", "plain")])
def test_any_encoding_of_the_database_is_read(encoding: str, text: str, postgres: Server) -> None:
    """Names and values are UTF-8 here, whatever they are there."""
    with postgres.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS other WITH (FORCE)")
        connection.execute(f"CREATE DATABASE other ENCODING '{encoding}' TEMPLATE template0")
    with postgres.connect("other") as connection:
        connection.execute("SET client_encoding = 'UTF8'")
        connection.execute(f"""CREATE TABLE t AS SELECT '{text}'::text AS "{text}", 1 AS age""")
    columns = {text: {"type": "identifier"}, "age": {"type": "numeric", "min": 0, "max": 9}}
    facts = Schema.parse({"name": "any", "columns": columns})
    (table,) = scan(postgres.url("other") + "::t", facts).rows.batches(facts)
    assert table.to_pydict() == {text: [text], "age": [1]}


def test_the_digits_of_a_numeric_are_read_from_the_manual() -> None:
    """Digits to base 10000, by hand: 12345.678, 0.00001234, -10000 and zero."""
    cases_by_hand = {
        "0003 0001 0000 0003 0001 0929 1a7c": "12345.678",
        "0001 fffe 0000 0008 04d2": "0.00001234",
        "0001 0001 4000 0000 0001": "-10000",
        "0000 0000 0000 0000": "0",
    }
    assert {text: _decimal(bytes.fromhex(text)) for text in cases_by_hand} == cases_by_hand
