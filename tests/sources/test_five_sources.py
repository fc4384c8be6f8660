"""Where patients are changes no answer: memory, Parquet, DuckDB, PostgreSQL and Spark give the same integers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dpsynth
from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.datasets import load_support2
from dpsynth.privacy.tables.counting import contingency, fine_query
from dpsynth.schema import Schema
from dpsynth.sources.memory import Memory
from dpsynth.sources.scanned import ScannedCohort, scan
from sources import scanned_cases as cases
from sources import spark_cases
from sources.postgres_server import Server, filled
from sources.test_parts import CAP, asked_of_tables, same
from sources.test_scanned import gradients

pytestmark = spark_cases.MARKS
SECRET = bytes(range(32))
SEVERAL = """
name: examinations
confirmed: true
patient: RANDID
max_rows_per_patient: 2
missing_values: [""]
target: CVD
columns:
  RANDID: {type: identifier}
  SEX: {type: categorical, values: [1, 2]}
  AGE: {type: numeric, min: 20, max: 100}
  SYSBP: {type: numeric, min: 50, max: 300, decimals: 1, cuts: [120, 140]}
  CIGPDAY: {type: numeric, min: 0, max: 100, special: [0], missing: true}
  educ: {type: categorical, discover: true, max_values: 5}
  PERIOD: {type: categorical, values: [1, 2, 3], ordered: true}
  HDLC: {type: numeric, min: 5, max: 250, scale: log, missing: true}
  CVD: {type: boolean, labels: [0, 1]}
"""
POSTGRES = {pa.int64(): "bigint", pa.int16(): "smallint", pa.float64(): "double precision", pa.string(): "varchar"}


@dataclass(frozen=True)
class Table:
    """Rows of text with their schema, and the type of each column where the place has types."""

    facts: Schema
    rows: pd.DataFrame
    types: dict[str, pa.DataType]

    def shuffled(self, seed: int) -> pd.DataFrame:
        """Return the rows in another order."""
        return self.rows.sample(frac=1, random_state=seed)


def support2(columns: list[str] | None = None, *, discover: str | None = None) -> Table:
    """Return the 9,105 patients of SUPPORT2: all columns, or some, the values of one of them not listed."""
    declared = load_support2().schema.to_dict()
    names = columns or [*declared["columns"]]
    facts = {key: declared[key] for key in ("name", "confirmed", "patient", "missing_values")}
    listed = {name: declared["columns"][name] for name in names}
    if discover is not None:
        listed[discover] = {"type": "categorical", "discover": True, "max_values": 20}
    file = Path(dpsynth.__file__).parent / "datasets" / "support2.csv"
    rows = pd.read_csv(file, usecols=names, dtype=str, keep_default_na=False, na_values=["", "NA"])[names]
    numbers = [name for name in names if listed[name]["type"] == "numeric"]
    types = {name: pa.float64() if name in numbers else pa.string() for name in names}
    return Table(Schema.parse(facts | {"columns": listed}), rows, types | {"sno": pa.int64()})


def examinations() -> Table:
    """Return made-up examinations, up to three a patient and some of them twice, as in the Framingham Heart Study."""
    rng = np.random.default_rng(0)
    whose = np.repeat(np.arange(700), rng.integers(1, 4, 700))
    n = len(whose)
    rows = pd.DataFrame({"RANDID": whose * 7 + 2448, "SEX": 1 + whose % 2, "AGE": rng.integers(32, 82, n)}).astype(str)
    rows["SYSBP"] = rng.normal(136, 22, n).clip(83, 295).round(1).astype(str)
    rows["CIGPDAY"] = pd.Series(rng.choice([0, 0, 20, 30, 43], n)).astype(str).mask(rng.random(n) < 0.1)
    rows["educ"] = rng.choice(["1", "2", "3", "4"], n, p=[0.4, 0.3, 0.2, 0.1])
    rows["PERIOD"] = (pd.Series(whose).groupby(whose).cumcount() + 1).astype(str)
    rows["HDLC"] = pd.Series(rng.integers(10, 190, n)).astype(str).where(rows["PERIOD"] == "3")
    rows["CVD"] = (whose % 4 == 0).astype(int).astype(str)
    types = dict.fromkeys(rows, pa.int16()) | {"RANDID": pa.int64(), "SYSBP": pa.float64(), "educ": pa.string()}
    return Table(Schema.parse(SEVERAL), pd.concat([rows, rows.iloc[::9]], ignore_index=True), types)


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give a session of Spark in one process of two cores."""
    with spark_cases.session("local[2]", tmp_path_factory.mktemp("spark")) as session:
        yield session


@pytest.fixture
def places(postgres: Server, spark: Any, tmp_path: Path) -> Callable[[Table], dict[str, ScannedCohort]]:
    """Return what writes a table to four places, each with an order of rows of its own, and scans them in 13 parts."""

    def placed(table: Table) -> dict[str, ScannedCohort]:
        facts = table.facts
        file = tmp_path / "spark.parquet"
        rows = cases.arrow(table.shuffled(4))
        pq.write_table(rows.cast(pa.schema([(name, table.types[name]) for name in rows.column_names])), file)
        types = {name: POSTGRES[kind] for name, kind in table.types.items()}
        sources = {
            "Parquet folder": scan(
                cases.in_parquet(tmp_path / "parquet", table.shuffled(1), types=False), facts, public=True
            ),
            "DuckDB": scan(cases.in_duckdb(tmp_path / "duck", table.shuffled(2)), facts, public=True),
            "PostgreSQL": scan(filled(postgres.fresh("five"), table.shuffled(3), types=types), facts, public=True),
            "Spark": scan(f"parquet:{file}", facts, public=True, spark=spark),
        }
        return {name: replace(cohort, count=cases.PARTS) for name, cohort in sources.items()}

    return placed


def in_memory(table: Table) -> Cohort:
    """Return a table in memory."""
    return Cohort.from_pandas(table.rows, table.facts, public=True)


def some_of_support2() -> Table:
    """Return numbers, lists, one that is to be discovered, and a boolean of SUPPORT2."""
    return support2(["sno", "age", "sex", "hospdead", "dzgroup", "income", "crea", "urine"], discover="dzgroup")


@pytest.mark.parametrize("make", [some_of_support2, examinations])
def test_every_question_has_equal_answers(
    make: Callable[[], Table], places: Callable[[Table], dict[str, ScannedCohort]]
) -> None:
    """Values, counts, interactions, errors and scores on five sources; votes of teachers on those that allow them."""
    table = make()
    facts = table.facts
    whole = {teachers: asked_of_tables(in_memory(table), facts, teachers=teachers) for teachers in (False, True)}
    assert len(whole[True]) > len(whole[False]) > 40
    for name, cohort in places(table).items():
        teachers = name != "Spark"  # patients do not leave a cluster for them
        assert same(whole[teachers], asked_of_tables(cohort, facts, teachers=teachers)), name


def test_gradients_are_equal(places: Callable[[Table], dict[str, ScannedCohort]]) -> None:
    """Sums of clipped gradients are equal integers wherever DP-SGD is allowed, which is everywhere but on Spark."""
    table = support2(["sno", "age", "sex", "hospdead", "crea"])
    table = replace(table, rows=table.rows.head(300))
    whole = gradients(in_memory(table), 300)
    assert np.abs(whole[0]).max() > 0
    for name, cohort in places(table).items():
        if name != "Spark":
            assert same(whole, gradients(cohort, 300)), name


def test_all_columns_of_support2_are_equal(places: Callable[[Table], dict[str, ScannedCohort]]) -> None:
    """Each of the 31 columns by itself and with the next, of all patients."""
    table = support2()
    codec = Codec(table.facts)
    names = [*codec.shape]
    queries = [fine_query(columns, codec.shape) for columns in [*((name,) for name in names), *pairwise(names)]]
    memory = Memory(in_memory(table), CAP, SECRET)
    memory.use(codec)
    whole = memory.total(lambda part: contingency(part.codes, part.rows, queries))
    assert [int(counts.sum()) for counts in whole] == [9105] * len(queries)
    for name, cohort in places(table).items():
        parts: Any = cohort.parts(CAP, SECRET)
        parts.use(codec)
        assert same(whole, parts.total(lambda part: contingency(part.codes, part.rows, queries))), name
        parts.close()
