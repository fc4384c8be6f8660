"""One small cohort in every place that can be scanned: Parquet and CSV folders, hive partitions, DuckDB."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from dpsynth.schema import Schema
from dpsynth.sources.scanned import ScannedCohort, scan

PARTS = 13
SCHEMA = """
name: ward
confirmed: true
patient: id
max_rows_per_patient: 2
missing_values: [NA]
target: died
drop: [note]
columns:
  id: {type: identifier}
  age: {type: numeric, min: 0, max: 99, missing: true}
  lab: {type: numeric, min: 0.1, max: 50, decimals: 2, scale: log, missing: true}
  trop: {type: numeric, min: 0, max: 9, decimals: 1, censored: {below: "<0.5"}, special: [not done], missing: true}
  unit: {type: categorical, values: [a, b, c]}
  year: {type: categorical, values: [2019, 2020, 2021]}
  dx: {type: categorical, discover: true, max_values: 3}
  seen: {type: datetime, min: "2001-01-01", max: "2009-12-31", missing: true}
  died: {type: boolean, labels: [0, 1]}
"""


def schema(**facts: Any) -> Schema:
    """Return the ward's schema."""
    return Schema.parse(SCHEMA).model_copy(update=facts)


def frame(n: int = 400) -> pd.DataFrame:
    """Return made-up rows as text; a patient has up to five, some of them equal, in any order."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "id": [f"p{i}" for i in rng.integers(0, n // 4, n)],
            "note": "free text",
            "age": rng.integers(0, 120, n).astype(str),
            "lab": rng.lognormal(1, 1, n).round(3).astype(str),
            "trop": rng.choice(["<0.5", "not done", "1.5", "2.25", "NA"], n),
            "unit": rng.choice(["a", "b", "c"], n),
            "year": rng.choice(["2019", "2020", "2021"], n),
            "dx": rng.choice(["flu", "gout", "mumps"], n, p=[0.5, 0.3, 0.2]),
            "seen": [f"200{i % 9 + 1}-03-{1 + i % 28:02}" for i in range(n)],
            "died": rng.choice(["0", "1"], n),
        }
    )
    rows.loc[rng.random(n) < 0.1, "age"] = "NA"
    rows = pd.concat([rows, rows.iloc[::7]], ignore_index=True)
    return rows.sample(frac=1, random_state=1)


def pieces(rows: pd.DataFrame, count: int = 4) -> list[pd.DataFrame]:
    """Return the rows in several pieces; those of a patient are in any of them."""
    return [rows.iloc[i::count] for i in range(count)]


def arrow(rows: pd.DataFrame) -> Any:
    """Return rows as an Arrow table of text."""
    return pa.Table.from_pandas(rows, preserve_index=False)


def in_parquet(folder: Path, rows: pd.DataFrame, *, types: bool = True) -> Path:
    """Write Parquet files, in folders of folders, each file with types of its own, or all of text."""
    for i, piece in enumerate(pieces(rows)):
        place = folder / f"site {i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        table = arrow(piece)
        if types and i == 1:  # integers and true dates, where other files have text
            died = table["died"].cast(pa.int8())
            table = table.set_column(table.column_names.index("died"), "died", died)
            seen = table["seen"].cast(pa.date32())
            table = table.set_column(table.column_names.index("seen"), "seen", seen)
        pq.write_table(table, place / f"{i}.parquet", row_group_size=17)
    return folder


def in_pattern(folder: Path, rows: pd.DataFrame) -> Path:
    """Write Parquet files and name them by a pattern."""
    return in_parquet(folder, rows) / "*" / "*.parquet"


def in_csv(folder: Path, rows: pd.DataFrame) -> Path:
    """Write CSV files, one of them with rows of separators alone."""
    folder.mkdir()
    for i, piece in enumerate(pieces(rows)):
        pa_csv.write_csv(arrow(piece), folder / f"{i}.csv")
    with (folder / "2.csv").open("a", encoding="utf-8") as file:
        file.write("," * (rows.shape[1] - 1) + "\n")
    return folder


def in_hive(folder: Path, rows: pd.DataFrame) -> Path:
    """Write a folder for each year, as other programs do, without the year in the files."""
    for year, group in rows.groupby("year"):
        for i, piece in enumerate(pieces(group, 2)):
            place = folder / f"year={year}"
            place.mkdir(parents=True, exist_ok=True)
            pq.write_table(arrow(piece.drop(columns="year")), place / f"part-{i}.parquet")
    (folder / "_SUCCESS").touch()
    return folder


def in_duckdb(folder: Path, rows: pd.DataFrame, *, relation: str = "visits") -> Path:
    """Write a table of a DuckDB file."""
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    folder.mkdir()
    with duckdb.connect(str(folder / "extract.duckdb")) as connection:
        connection.register("rows", arrow(rows))
        connection.execute(f"CREATE TABLE {relation} AS SELECT * FROM rows")  # noqa: S608  (ours)
    return folder / f"extract.duckdb::{relation}"


def in_one_file(folder: Path, rows: pd.DataFrame) -> Path:
    """Write one CSV file."""
    folder.mkdir()
    rows.to_csv(folder / "ward.csv", index=False)
    return folder / "ward.csv"


PLACES: dict[str, Callable[[Path, pd.DataFrame], Path]] = {
    "parquet": in_parquet,
    "pattern": in_pattern,
    "csv": in_csv,
    "hive": in_hive,
    "duckdb": in_duckdb,
    "one file": in_one_file,
}


def scanned(
    path: Path, facts: Schema | None = None, *, count: int | None = PARTS, public: bool = True
) -> ScannedCohort:
    """Return a cohort that is scanned in so many parts."""
    return replace(scan(path, facts or schema(), public=public), count=count)
