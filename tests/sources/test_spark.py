"""A table on Spark in one process of two cores: what is read, what is refused, whose ledger counts, and plants."""

import datetime as dt
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from privacy.helpers import Tape
from typer.testing import CliRunner

import dpsynth
from dpsynth.cli.app import app
from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.errors import DataError, DpsynthError, InputError
from dpsynth.jobs.fit import fit
from dpsynth.jobs.publish import publish
from dpsynth.models.tabular.deep.pate_gan import PATEGAN
from dpsynth.models.tabular.deep.tvae import TVAE
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.ledger_place import ledger_of
from dpsynth.privacy.tables.counting import contingency, fine_query
from dpsynth.schema import Schema
from dpsynth.sources import spark_parts, spark_session, spark_work
from dpsynth.sources.memory import Memory
from dpsynth.sources.parts import Part
from dpsynth.sources.scanned import ScannedCohort, scan
from sources import scanned_cases as cases
from sources import spark_cases
from sources.test_parts import CAP, same

pytestmark = spark_cases.MARKS
SECRET = bytes(range(32))
VALUES = {"dx": ["flu", "gout", "mumps"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of all that Spark writes."""
    return tmp_path_factory.mktemp("local")


@pytest.fixture(scope="module")
def spark(place: Path) -> Iterator[Any]:
    """Give a session in one process of two cores."""
    from pyspark import cloudpickle

    with spark_cases.session("local[2]", place) as session:
        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # executors cannot import tests
        yield session
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def visits(spark: Any) -> Any:
    """Give a table ``visits`` of the catalogue, of many rows a patient in any order."""
    rows = cases.frame().sample(frac=1, random_state=3).reset_index(drop=True)
    spark.createDataFrame(rows.astype(str)).write.saveAsTable("visits")
    return spark.table("visits")


def on_spark(table: Any, facts: Schema | None = None, *, count: int | None = 3, **options: Any) -> ScannedCohort:
    """Return a table as a cohort in so many parts."""
    return replace(scan(table, facts or cases.schema(), public=True, **options), count=count)


def in_memory(rows: pd.DataFrame, facts: Schema | None = None) -> Cohort:
    """Return the same rows in memory."""
    return Cohort.from_pandas(rows, facts or cases.schema(), public=True)


def coded_tables(source: Any, codec: Codec, columns: list[tuple[str, ...]], cap: int = CAP) -> list[Any]:
    """Return exact tables of a source."""
    parts = source.parts(cap, SECRET) if hasattr(source, "parts") else Memory(source, cap, SECRET)
    parts.use(codec)
    queries = [fine_query(names, codec.shape) for names in columns]
    total = parts.total(lambda part: contingency(part.codes, part.rows, queries))
    getattr(parts, "close", lambda: None)()
    return total


def of_one(codec: Codec) -> list[tuple[str, ...]]:
    """Return each column by itself, and with the next."""
    names = list(codec.shape)
    return [*((name,) for name in names), *pairwise(names)]


# -- equal integers ---------------------------------------------------------------------------------------------------


TYPED = """
name: typed
confirmed: true
patient: id
max_rows_per_patient: 2
columns:
  id: {type: identifier}
  b: {type: boolean}
  i8: {type: numeric, min: -99, max: 99, missing: true}
  i16: {type: categorical, values: [1, 2, 3]}
  i32: {type: numeric, min: 0, max: 9}
  f32: {type: numeric, min: 0, max: 1, decimals: 2}
  f64: {type: numeric, min: 0, max: 9, decimals: 3, missing: true}
  dec: {type: numeric, min: 0, max: 9, decimals: 2}
  text: {type: categorical, values: [a, b]}
  padded: {type: categorical, values: [x, yy]}
  day: {type: datetime, min: "2000-01-01", max: "2009-12-31", missing: true}
  ltz: {type: datetime, min: "2000-01-01 00:00:00", max: "2009-12-31 23:59:59"}
  ntz: {type: datetime, min: "2000-01-01 00:00:00", max: "2009-12-31 23:59:59"}
"""
SPELLED = (
    "id bigint, b boolean, i8 tinyint, i16 smallint, i32 int, f32 float, f64 double, dec decimal(12, 4), text string, "
    "padded char(4), day date, ltz timestamp, ntz timestamp_ntz"
)


def test_types_of_spark_are_read_as_those_of_parquet(spark: Any, place: Path) -> None:
    """Numbers, decimals, text, dates and moments, in a zone far away, have the codes of the same Parquet in memory."""
    when = [dt.datetime(2000 + i % 10, 3, 1 + i % 28, i % 24, 30, tzinfo=dt.UTC) for i in range(60)]
    rows = [
        (
            *(i % 20, i % 3 == 0, None if i % 7 == 0 else i, i % 3 + 1, i % 10, np.float32(i / 60).item()),
            *(None if i % 11 == 0 else i / 7, Decimal(i) / 8, "ab"[i % 2], ["x", "yy"][i % 2]),
            *(None if i % 9 == 0 else when[i].date(), when[i], when[i].replace(tzinfo=None)),
        )
        for i in range(60)
    ]
    spark.sql(f"CREATE TABLE typed ({SPELLED}) USING parquet")
    spark.createDataFrame(rows, SPELLED.replace("char(4)", "string")).write.insertInto("typed")
    facts = Schema.parse(TYPED)
    codec = Codec(facts)
    cohort = _read(place / "warehouse" / "typed", facts)
    table = on_spark("typed", facts, spark=spark)
    assert same(coded_tables(cohort, codec, of_one(codec)), coded_tables(table, codec, of_one(codec)))
    assert len({tuple(t.ravel()) for t in coded_tables(table, codec, [("ltz",), ("f32",)])}) == 2
    spark.sql("DROP TABLE typed")


def _read(folder: Path, facts: Schema) -> Cohort:
    """Read a folder of Parquet at once, without the engine that is tested."""
    whole = pq.ParquetDataset(folder).read()
    pq.write_table(whole, folder.parent / "whole.parquet")
    return Cohort.read(folder.parent / "whole.parquet", facts, public=True)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("binary", "X'00'"),
        ("array", "array(1)"),
        ("map", "map('a', 1)"),
        ("struct", "named_struct('a', 1)"),
        ("interval", "INTERVAL '1' DAY"),
        ("interval", "INTERVAL '1' YEAR"),
        ("variant", "parse_json('1')"),
        ("void", "NULL"),
    ],
)
def test_types_without_a_reading_are_refused(kind: str, value: str, spark: Any) -> None:
    """Columns of bytes, lists, records, variants and intervals are refused by name and type; dropped ones are not."""
    frame = spark.sql(f"SELECT 1 AS y, {value} AS x")
    facts = "{name: w, columns: {y: {type: boolean}, x: {type: categorical, values: [a]}}}"
    with pytest.raises(DataError, match=f"column 'x': found values of Spark's type {kind}"):
        scan(frame, Schema.parse(facts))
    scan(frame, Schema.parse("{name: w, drop: [x], columns: {y: {type: boolean}}}"))


def test_rows_that_are_patients_stay_where_they_are(visits: Any) -> None:
    """Where each row is a patient nothing is moved, and integers are those of memory."""
    facts = cases.schema(patient=None, max_rows_per_patient=1)
    codec = Codec(facts, discovered=VALUES)
    whole, cohort = in_memory(cases.frame(), facts), on_spark(visits, facts)
    assert same(coded_tables(whole, codec, of_one(codec), 1), coded_tables(cohort, codec, of_one(codec), 1))


def test_csv_and_visits_have_the_integers_of_memory(spark: Any, tmp_path: Path) -> None:
    """Visits in CSV files, with quotes and rows of separators alone, become the flat rows of memory."""
    text = cases.SCHEMA.replace("max_rows_per_patient: 2\n", "visits: {column: year, values: [2019, 2020, 2021]}\n")
    text = text.replace("  dx: {type: categorical, discover: true, max_values: 3}\n", "").replace(
        "[note]", "[note, dx]"
    )
    facts = Schema.parse(text)
    rows = cases.frame().drop_duplicates(["id", "year"]).assign(note='a "b"\nc, d')
    folder = cases.in_csv(tmp_path / "data", rows)
    codec = Codec(facts)
    cohort = on_spark(f"csv:{folder}", facts, spark=spark, count=2)
    assert same(coded_tables(in_memory(rows, facts), codec, of_one(codec)), coded_tables(cohort, codec, of_one(codec)))
    other = facts.model_copy(update={"file": facts.file.model_copy(update={"decimal": ","})})
    with pytest.raises(InputError, match="other decimals"):
        scan(f"csv:{folder}", other, spark=spark)


# -- refusals and faults ----------------------------------------------------------------------------------------------


def read(cohort: ScannedCohort) -> None:
    """Read all rows, as a session does."""
    coded_tables(cohort, Codec(cohort.schema, discovered=VALUES), [("age",)])


def test_what_is_not_there_is_told(spark: Any, tmp_path: Path) -> None:
    """A table, a path and a format that there are not; a path without a format; a thing that is no session."""
    with pytest.raises(DataError, match=r"nothing.at_all: there is no such table"):
        scan("nothing.at_all", cases.schema(), spark=spark)
    with pytest.raises(DataError, match="no such path"):
        scan(f"parquet:{tmp_path}/nothing", cases.schema(), spark=spark)
    with pytest.raises(InputError, match=r"say in which format .* parquet:/data/x"):
        scan("/data/x", cases.schema(), spark=spark)
    with pytest.raises(InputError, match="found the format 'avro'"):
        scan("avro:/data/x", cases.schema(), spark=spark)
    with pytest.raises(InputError, match="expected a session of Spark"):
        scan("visits", cases.schema(), spark=7)
    with pytest.raises(InputError, match="the session that is open in this process is on 'local"):
        scan("visits", cases.schema(), spark="spark://nowhere:7077")
    with pytest.raises(InputError, match="Spark Connect"):
        scan("visits", cases.schema(), spark="sc://nowhere")


def test_a_table_that_draws_at_random_is_refused(spark: Any, visits: Any) -> None:
    """A view with rand(), and a sample without a seed, is refused before anything is reserved."""
    spark.sql("CREATE OR REPLACE TEMP VIEW drawn AS SELECT * FROM visits WHERE rand() < 0.5")
    with pytest.raises(DataError, match="drawn: draws at random"):
        scan("drawn", cases.schema(), spark=spark)
    from pyspark.sql.functions import udf

    def drawn(_: str) -> str:
        return str(np.random.default_rng().integers(0, 9))

    cohort = on_spark(visits.withColumn("age", udf(drawn, "string", useArrow=False)("age")))
    parts = cohort.parts(CAP, SECRET)
    codec = Codec(cohort.schema, discovered=VALUES)
    parts.use(codec)
    parts._pieces = parts._divided()  # as where executors were lost
    parts.use(codec)
    with pytest.raises(DataError, match="has other rows each time"):
        parts.total(_rows)
    parts.close()


def test_a_table_that_changes_is_refused(spark: Any, visits: Any) -> None:
    """Rows that come between the first count and the reading end the run."""
    visits.write.saveAsTable("growing")
    cohort = replace(scan("growing", cases.schema(), spark=spark), count=2)
    own = spark_parts.SparkParts._divided

    def grown(self: Any) -> Any:
        visits.limit(20).write.insertInto("growing")
        return own(self)

    with patch.object(spark_parts.SparkParts, "_divided", grown), pytest.raises(DataError, match="growing: has other"):
        cohort.parts(CAP, SECRET)
    parts = cohort.parts(CAP, SECRET)
    parts.close()
    with pytest.raises(InputError, match="open another session"):
        parts.total(_rows)
    spark.sql("DROP TABLE growing")


def _rows(part: Part) -> list[Any]:
    return [np.array([part.rows])]


@pytest.mark.parametrize("cause", ["closed list", "cast", "function"])
def test_no_fault_says_a_value(cause: str, visits: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """A value off the list, a cast of a view that fails, and a fault of ours on an executor: no text holds a value."""
    from pyspark.sql.functions import expr

    frame = visits.withColumn("unit", expr("'Zenker'")) if cause == "closed list" else visits
    if cause == "cast":
        frame = visits.withColumn("age", expr("cast(concat('Zenker', id) as int)"))
    cohort = on_spark(frame)

    def fails(part: Part) -> list[Any]:
        raise ValueError(f"Zenker {part.patients[:1]}")

    with pytest.raises(DpsynthError) as caught:
        _asked(cohort, fails if cause == "function" else _rows)
    expected = {"closed list": "column 'unit'", "cast": "CAST_INVALID_INPUT", "function": "counting (ValueError)"}
    assert expected[cause] in str(caught.value)
    said = "".join(capfd.readouterr())
    assert "Zenker" not in str(caught.value) + said


def _asked(cohort: ScannedCohort, function: Callable[[Part], list[Any]]) -> None:
    parts = cohort.parts(CAP, SECRET)
    try:
        parts.use(Codec(cohort.schema, discovered=VALUES))
        parts.total(function)
    finally:
        parts.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", [TVAE(hidden=8, latent=2, steps=3), PATEGAN(rounds=2)], ids=["dp-sgd", "teachers"])
def test_models_that_need_patients_here_are_refused(model: Any, visits: Any, tmp_path: Path) -> None:
    """DP-SGD and teachers are refused before the ledger is made; held-out patients are, too."""
    cohort = replace(on_spark(visits), public=False)
    book = tmp_path / "l.jsonl"
    with pytest.raises(InputError, match="stay on the cluster"):
        fit(cohort, model, epsilon=1.0, ledger=book, anyway=True)
    with pytest.raises(InputError, match="held-out"):
        publish(cohort, tmp_path / "out", epsilon=1.0, holdout=0.2, ledger=book)
    assert not book.exists()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without PySpark the extra is named, without Java what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    if spark_cases.is_installed():
        with pytest.raises(InputError, match=r"needs Java 17 .* default-jre-headless"):
            spark_session.session_at("local[1]")
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(InputError, match=r"pip install 'dpsynth\[spark\]'"):
        spark_session.session_at("local[1]")


def test_an_interrupt_ends_the_job_and_leaves_nothing(visits: Any, place: Path) -> None:
    """Ctrl-C while executors count: no job goes on, and no rows are left on their disks."""
    cohort = on_spark(visits, count=2)
    codec = Codec(cohort.schema, discovered=VALUES)
    tracker = cohort.rows.session.sparkContext.statusTracker()
    parts = cohort.parts(CAP, SECRET)
    parts.use(codec)
    parts.total(_rows)
    moved = spark_parts._shuffles(parts._pieces)
    assert left(place, moved)

    def waits(part: Part) -> list[Any]:
        time.sleep(30)
        return _rows(part)

    def interrupt() -> None:
        end = time.monotonic() + 30
        while not tracker.getActiveJobsIds() and time.monotonic() < end:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        parts.total(waits)
    parts.close()
    assert time.monotonic() - began < 29
    end = time.monotonic() + 20
    while tracker.getActiveJobsIds() and time.monotonic() < end:  # the tracker learns a little later that a job ended
        time.sleep(0.05)
    assert not tracker.getActiveJobsIds()
    while left(place, moved) and time.monotonic() < end + 20:  # and its block managers, to remove what it kept
        time.sleep(0.05)
    assert not left(place, moved)


def left(place: Path, moved: list[int]) -> list[Path]:
    """Return the files of rows and of codes on the disks of executors."""
    rows = [file for number in moved for file in place.glob(f"local/**/shuffle_{number}_*.data")]
    return [*rows, *place.glob("local/**/rdd_*")]


# -- neighbours and the tape ------------------------------------------------------------------------------------------


def test_one_more_patient_moves_nobody_else(spark: Any, place: Path) -> None:
    """A patient with unusual values and many rows moves no other's part, cap or codes."""
    rows = cases.frame()
    new = rows.iloc[:40].assign(id="p999", age="1e300", lab="0.123456789", dx="Zenker", trop="<0.5", unit="c")
    one, two = (_by_digest(spark, frame) for frame in (rows, pd.concat([new.iloc[:20], rows, new.iloc[20:]])))
    more = two - one
    assert more.sum() == CAP
    assert (more >= 0).all()
    assert (more > 0).sum() <= CAP


def _by_digest(spark: Any, rows: pd.DataFrame) -> Any:
    """Return how many kept rows have each of many digests of all codes: who is read otherwise is in another cell."""
    cohort = on_spark(spark.createDataFrame(rows.astype(str).reset_index(drop=True)))
    parts = cohort.parts(CAP, SECRET)
    parts.use(Codec(cohort.schema, discovered=VALUES))

    def counted(part: Part) -> list[Any]:
        whole = np.stack([part.codes[name].astype(np.int64) for name in part.codes])
        weights = np.random.default_rng(0).integers(1, 2**40, len(whole))
        return [np.bincount(weights @ whole % 4096, minlength=4096)]

    total = parts.total(counted)[0]
    parts.close()
    return total


def test_a_release_from_a_tape_is_the_same_for_neighbours(spark: Any, tmp_path: Path) -> None:
    """With the answers of a tape a model of a table on Spark is byte-identical for neighbours."""
    models = []
    for rows in (cases.frame(), pd.concat([cases.frame(), cases.frame().iloc[:9].assign(id="p999", dx="Zenker")])):
        cohort = on_spark(spark.createDataFrame(rows.astype(str).reset_index(drop=True)))
        with Session.open(cohort, Budget(1, 1e-6), answers=Tape()) as session:
            read(cohort)  # reading the rows says nothing
            fitted = dpsynth.models.make("independent").fit(session)
        fitted.save(tmp_path / f"model {len(models)}")
        models.append({p.name: p.read_bytes() for p in (tmp_path / f"model {len(models)}").iterdir()})
    assert models[0] == models[1]


# -- ledgers and the command line -------------------------------------------------------------------------------------


def run(*words: str) -> Any:
    """Run a command."""
    return CliRunner().invoke(app, list(words))


def test_fit_and_release_from_the_catalogue(visits: Any, place: Path, tmp_path: Path) -> None:
    """``fit --spark`` and ``release --spark``: one ledger for the table and for its files, read in any way."""
    schema = tmp_path / "ward.yaml"
    schema.write_text(cases.SCHEMA, encoding="utf-8")
    terms = ("--spark", "local[2]", "-s", str(schema), "-e", "1", "-m", "independent")
    done = run("fit", "default.visits", *terms, "--limit", "9", "-o", str(tmp_path / "model"))
    assert done.exit_code == 0, done.stderr
    files = place / "warehouse" / "visits"
    done = run("release", f"parquet:{files}", *terms, "-o", str(tmp_path / "study"), "-n", "50", "--delta", "1e-8")
    assert done.exit_code == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "study" / "release" / "data" / "patients.csv")) == 50
    shown = run("ledger", "show", str(files), "--json")
    assert len(json.loads(shown.stdout)["runs"]) == 2
    assert (
        ledger_of(scan(files, cases.schema())).path
        == ledger_of(scan("visits", cases.schema(), spark=visits.sparkSession)).path
    )  # type: ignore[union-attr]
    missing = run("fit", "no_such", *terms, "-o", str(tmp_path / "other"))
    assert missing.exit_code == 2
    assert "there is no such table" in missing.stderr


def test_a_frame_needs_a_named_ledger(visits: Any, tmp_path: Path) -> None:
    """Of a DataFrame nobody can tell which table it is: the steward names the ledger, or the dataset."""
    cohort = replace(on_spark(visits), public=False)
    with pytest.raises(InputError, match="ledger"):
        fit(cohort, "independent", epsilon=1.0)
    fit(cohort, "independent", epsilon=1.0, ledger=tmp_path / "ward.ledger.jsonl", anyway=True)
    assert len(Ledger(tmp_path / "ward.ledger.jsonl").runs()) == 1


def test_a_fault_in_the_data_costs_nothing(visits: Any, tmp_path: Path) -> None:
    """Rows are read after the budget is reserved: where they are refused, nothing counts as spent."""
    from pyspark.sql.functions import lit

    cohort = replace(on_spark(visits.withColumn("unit", lit("Zenker"))), public=False)
    with pytest.raises(DataError, match="column 'unit'"):
        fit(cohort, "independent", epsilon=1.0, ledger=tmp_path / "l.jsonl", anyway=True)
    (spent,) = Ledger(tmp_path / "l.jsonl").runs()
    assert spent.events == ()


def test_places_elsewhere_have_keys(spark: Any) -> None:
    """Files of another machine are known by their folder, above hive partitions; local ones by their paths."""
    from dpsynth.sources.spark import _files

    class Listed:
        def __init__(self, *uris: str) -> None:
            self.uris = uris

        def inputFiles(self) -> tuple[str, ...]:  # noqa: N802  (Spark's)
            return self.uris

    found = _files(Listed("hdfs://nn/ehr/visits/year=2020/a.parquet", "hdfs://nn/ehr/visits/year=2021/b.parquet"))
    assert found.keys == (("hdfs://nn", "files", "", "/ehr/visits"),)
    assert _files(Listed("file:///data/a%20b/x.parquet")) == (Path("/data/a b/x.parquet"),)
    assert _files(Listed()) == ()


# -- planted bugs: each is caught by a check above --------------------------------------------------------------------


def equal_to_memory(table: Any) -> bool:
    """Return whether a table on Spark has the integers of memory, in another order of rows than memory has."""
    facts = cases.schema()
    codec = Codec(facts, discovered=VALUES)
    cohort = on_spark(table)
    try:
        return same(
            coded_tables(in_memory(cases.frame()), codec, of_one(codec)), coded_tables(cohort, codec, of_one(codec))
        )
    except DpsynthError:
        return False


def first_rows(rows: Any, work: Any, codec: Codec) -> Iterator[Any]:
    """Keep the first rows of a patient that are met."""

    def first(_: Memory, cohort: Cohort, cap: int) -> Any:
        return np.flatnonzero(pd.Series(cohort.patients()).groupby(cohort.patients()).cumcount() < cap)

    with patch.object(Memory, "_kept_rows", first):
        yield from list(spark_work.coded_parts(rows, work, codec))


def by_place(batches: Any, work: Any) -> Iterator[Any]:
    """Divide rows by their place."""
    with patch.object(
        spark_work, "part_numbers", lambda table, _schema, _secret, count, _start: np.arange(len(table)) % count
    ):
        yield from list(spark_work.pieces(batches, work))


class Fresh:
    """A secret that is drawn anew each time it is asked for."""

    @property
    def value(self) -> bytes:
        """Return other bytes."""
        return os.urandom(32)


def fresh_randomness(rows: Any, work: Any, codec: Codec) -> Iterator[Any]:
    """Draw which rows are kept anew at each reading."""
    yield from spark_work.coded_parts(rows, replace(work, secret=Fresh()), codec)


PLANTS: dict[str, Callable[..., Any]] = {
    "coded_parts": first_rows,
    "pieces": by_place,
    "coded_parts ": fresh_randomness,
}


def test_the_check_of_equal_integers_passes(visits: Any) -> None:
    """Without a bug the check that the planted bugs must fail passes."""
    assert equal_to_memory(visits)


@pytest.mark.parametrize("name", PLANTS, ids=lambda name: PLANTS[name].__name__)
def test_a_planted_bug_is_caught(name: str, visits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cap by the order of rows, a division that splits a patient, fresh randomness: other integers than memory's."""
    monkeypatch.setattr(spark_parts, name.strip(), PLANTS[name])
    assert not equal_to_memory(visits)


def collected(cohort: ScannedCohort) -> int:
    """Return how many bytes come to the driver for a count of one column."""
    with spark_cases.watched() as came:
        read(cohort)
    return sum(map(len, came))


def test_a_value_that_is_collected_is_caught(spark: Any, visits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes that are brought to the driver and summed there grow with the rows; sums do not."""
    from pyspark.sql.functions import concat, lit

    others = [visits.withColumn("id", concat(visits["id"], lit(more))) for more in "abc"]
    larger = others[0].unionByName(others[1]).unionByName(others[2])
    sums = collected(on_spark(visits))
    assert abs(collected(on_spark(larger)) - sums) < 200
    own = spark_parts.SparkParts._summed

    def here(self: Any, partials: Any) -> Any:
        self._coded.map(lambda part: part.codes).collect()
        return own(self, partials)

    monkeypatch.setattr(spark_parts.SparkParts, "_summed", here)
    assert collected(on_spark(larger)) - sums > 2000
