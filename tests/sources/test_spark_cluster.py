"""Patients on a Spark cluster of two executors: the same integers as elsewhere, also when a machine is lost."""

import base64
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.cohort import Cohort
from dpsynth.privacy.tables.counting import contingency
from dpsynth.sources.memory import Memory
from dpsynth.sources.parts import Part
from dpsynth.sources.scanned import ScannedCohort, scan
from sources import scanned_cases as cases
from sources import spark_cases
from sources.test_parts import CAP, asked_of_tables, marginals, same

pytestmark = spark_cases.MARKS
SECRET = bytes(range(100, 132))
VALUES = {"dx": ["flu", "gout", "mumps"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of all that Spark writes."""
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def spark(place: Path) -> Iterator[Any]:
    """Give a cluster of two executors with a core each, that this process is the driver of."""
    with spark_cases.session("local-cluster[2,1,1024]", place) as session:
        yield session


@pytest.fixture(scope="module")
def table(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return many rows a patient in Parquet, in any order."""
    folder = tmp_path_factory.mktemp("data") / "visits"
    folder.mkdir()
    rows = cases.frame().sample(frac=1, random_state=3).reset_index(drop=True)
    for number, piece in enumerate(cases.pieces(rows)):
        cases.pq.write_table(cases.arrow(piece), folder / f"{number}.parquet")
    return spark.read.parquet(str(folder))


def test_a_cluster_gives_the_integers_of_all_sources(table: Any, tmp_path: Path) -> None:
    """Every kind of question: memory, a Parquet folder, DuckDB and Spark, in 13 parts, with one secret."""
    rows, facts = cases.frame(), cases.schema()
    whole = asked_of_tables(Cohort.from_pandas(rows, facts, public=True), facts, teachers=False)
    assert len(whole) > 50
    places = {
        "parquet": cases.scanned(cases.in_parquet(tmp_path / "parquet", rows)),
        "duckdb": cases.scanned(cases.in_duckdb(tmp_path / "duckdb", rows)),
        "spark": on_spark(table, count=cases.PARTS),
    }
    for name, cohort in places.items():
        assert same(whole, asked_of_tables(cohort, facts, teachers=False)), name


def on_spark(table: Any, *, count: int = 3) -> ScannedCohort:
    """Return a table as a cohort in so many parts."""
    return replace(scan(table, cases.schema(), public=True), count=count)


class Slowly:
    """Counts a part after it said that it began, and waited."""

    def __init__(self, folder: Path, queries: list[Query]) -> None:
        self.folder, self.queries = folder, queries

    def __call__(self, part: Part) -> list[Any]:
        """Wait, so that a machine can be lost meanwhile."""
        (self.folder / f"began-{os.getpid()}").touch()
        time.sleep(0.5)
        return contingency(part.codes, part.rows, self.queries)


def executors() -> list[int]:
    """Return the processes of the executors that this test's own Spark has started."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], check=True, capture_output=True, text=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}

    def is_ours(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    backends = [int(pid) for pid, _, *words in rows if words and "CoarseGrainedExecutorBackend" in words[0]]
    return [pid for pid in backends if is_ours(pid)]


def test_a_lost_executor_gives_the_same_rows(table: Any, tmp_path: Path, by_value: None) -> None:
    """An executor that is killed while it counts is replaced, reads again, and the sums are those of memory."""
    facts = cases.schema()
    memory = Memory(Cohort.from_pandas(cases.frame(), facts, public=True), CAP, SECRET)
    codec = Codec(facts, discovered=VALUES)
    memory.use(codec)
    parts = on_spark(table, count=4).parts(CAP, SECRET)
    parts.use(codec)
    queries = [q for q in marginals(codec) if len(q.columns) < 3]
    before, answer = executors(), []
    assert len(before) == 2
    asking = threading.Thread(target=lambda: answer.append(parts.total(Slowly(tmp_path, queries))))
    asking.start()
    end = time.monotonic() + 60
    while not list(tmp_path.glob("began-*")) and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(before[0], signal.SIGKILL)
    asking.join(120)
    assert same(answer[0], memory.total(lambda part: contingency(part.codes, part.rows, queries)))
    assert before[0] not in executors()
    parts.close()


@pytest.fixture
def by_value() -> Iterator[None]:
    """Send functions of this file to the executors as they are, since they cannot import it."""
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_nothing_but_sums_comes_to_the_driver(spark: Any, table: Any, place: Path) -> None:
    """What is collected is as large for three times the rows; no identifier, secret or value is in it or in a log."""
    sizes = []
    marked = cases.frame().assign(id=lambda rows: "MARKED-" + rows["id"].str.cat(rows["note"]))
    for repeats in (1, 3):
        frame = spark.createDataFrame(pd.concat([marked] * repeats, ignore_index=True).astype(str))
        path = place / f"marked-{repeats}"
        frame.write.parquet(str(path))
        with spark_cases.watched() as came:
            parts = on_spark(spark.read.parquet(str(path))).parts(CAP, SECRET)
            codec = Codec(cases.schema(), discovered=VALUES)
            parts.use(codec)
            (rows,) = parts.total(lambda part: [np.array([part.rows])])
            parts.values("dx")
            parts.close()
        assert int(rows[0]) > 100
        assert came
        assert not any(b"MARKED-" in payload for payload in came)
        sizes.append(sum(map(len, came)))
    assert sizes[1] < sizes[0] + 50
    logged = b"".join(file.read_bytes() for file in (place / "events").rglob("*") if file.is_file())
    logged += b"".join(file.read_bytes() for file in (place / "home").glob("work/*/*/std*"))
    assert b"dpsynth-" in logged  # the group of our jobs
    for trace in (SECRET, SECRET.hex().encode(), base64.b64encode(SECRET)[:-2], repr(SECRET).encode(), b"MARKED-p"):
        assert trace not in logged
