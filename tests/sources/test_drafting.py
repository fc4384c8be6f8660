"""`schema draft` of a source is that of the same rows in one file, and fits into memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.datasets import load_support2
from dpsynth.drafting.draft import Draft, draft
from dpsynth.errors import DataError
from dpsynth.sources import distinct, drafting
from dpsynth.sources.drafting import draft_scanned
from dpsynth.sources.scratch import PREFIX
from sources import scanned_cases as cases


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep temporary files in a folder of the test's own."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


def made_up() -> pd.DataFrame:
    """Return rows with identifiers, names, dates, codes, limits of tests and rare words among numbers."""
    n, rng = 600, np.random.default_rng(1)
    rows = pd.DataFrame(
        {
            "row": np.arange(1, n + 1),
            "mrn": [f"MRN{i % 200:05}" for i in range(n)],
            "surname": [f"{a}, {b}" for a, b in zip(rng.choice(["Zenker", "Meyer", "Lang"], n), range(n), strict=True)],
            "seen": [f"{2001 + i % 9}-03-{1 + i % 28:02} 10:{i % 60:02}:00" for i in range(n)],
            "glucose": rng.normal(6, 1, n).round(4).astype(str),
            "icd": [f"{250 + i % 90}.{i % 7}0" for i in range(n)],
            "sex": rng.choice(["f", "m"], n),
            "died": rng.choice(["0", "1"], n),
        }
    )
    rows.loc[7, "glucose"] = "<2"
    rows.loc[8, "glucose"] = "not done"
    rows.loc[9, "glucose"] = "?"
    rows.loc[20:200, "glucose"] = "5.5"
    rows.loc[599, "glucose"] = "99.25"
    return rows


def support2() -> pd.DataFrame:
    """Return SUPPORT2, as real patients are."""
    return load_support2().to_pandas().iloc[:2000]


def as_written(drafted: Draft) -> str:
    """Return a draft's YAML without the name of the cohort."""
    return "\n".join(line for line in drafted.to_yaml().splitlines() if not line.startswith("name:"))


def in_files(folder: Path, rows: pd.DataFrame, *, separator: str = ",", decimal: str = ".") -> Path:
    """Write rows, in their order, as three CSV files."""
    folder.mkdir()
    for i, piece in enumerate(np.array_split(np.arange(len(rows)), 3)):
        rows.iloc[piece].to_csv(folder / f"{i}.csv", index=False, sep=separator, decimal=decimal)
    return folder


@pytest.mark.parametrize("rows", [made_up, support2, cases.frame])
def test_a_draft_of_a_source_is_that_of_a_file(rows: Callable[[], pd.DataFrame], tmp_path: Path) -> None:
    """Columns, bounds, notes, the question and its candidates are those of one file with the same rows."""
    table = rows()
    table.to_csv(tmp_path / "ward.csv", index=False)
    assert as_written(draft_scanned(in_files(tmp_path / "ward", table))) == as_written(draft(tmp_path / "ward.csv"))


def test_a_draft_of_parquet_files_is_that_of_a_file(tmp_path: Path) -> None:
    """Typed columns are read as they stand, also from a table of DuckDB, and from names of folders."""
    table = support2()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), tmp_path / "ward.parquet")
    whole = as_written(draft(tmp_path / "ward.parquet"))
    for i, piece in enumerate(np.array_split(np.arange(len(table)), 3)):
        (tmp_path / "ward").mkdir(exist_ok=True)
        pq.write_table(
            pa.Table.from_pandas(table.iloc[piece], preserve_index=False), tmp_path / "ward" / f"{i}.parquet"
        )
    assert as_written(draft_scanned(tmp_path / "ward")) == whole
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    with duckdb.connect(str(tmp_path / "ward.duckdb")) as connection:
        connection.execute(f"CREATE TABLE visits AS SELECT * FROM '{tmp_path / 'ward.parquet'}'")  # noqa: S608  (ours)
    assert as_written(draft_scanned(tmp_path / "ward.duckdb::visits")) == whole
    assert draft_scanned(tmp_path / "ward.duckdb::visits").schema.name == "visits"


def test_names_of_folders_are_columns_of_a_draft(tmp_path: Path) -> None:
    """What folders below the root say is drafted as a column."""
    drafted = draft_scanned(cases.in_hive(tmp_path / "data", cases.frame()))
    assert drafted.schema.columns["year"].type == "categorical"


def test_other_notation_is_found(tmp_path: Path) -> None:
    """Semicolons and decimal commas are found from the files and put into the schema."""
    table = made_up()[["mrn", "sex", "died", "seen"]].assign(x=np.round(np.random.default_rng(0).normal(6, 1, 600), 2))
    table.loc[::5, "x"] = np.nan
    table.to_csv(tmp_path / "ward.csv", index=False, sep=";", decimal=",")
    whole = draft(tmp_path / "ward.csv")
    drafted = draft_scanned(in_files(tmp_path / "ward", table, separator=";", decimal=","))
    assert drafted.schema.file.decimal == ","
    assert as_written(drafted) == as_written(whole)


def _few(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Keep only so many different values of a column."""
    monkeypatch.setattr(distinct, "MOST", most)
    monkeypatch.setattr(distinct.DistinctValues.__init__, "__defaults__", (most,))


def test_of_very_many_values_a_sample_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    """With 60 values kept of a column, types, roles, bounds, states and exact repeats are those of all rows."""
    table = made_up()
    table.to_csv(tmp_path / "ward.csv", index=False)
    whole = draft(tmp_path / "ward.csv")
    _few(monkeypatch, 60)
    drafted = draft_scanned(in_files(tmp_path / "ward", table))
    for name, column in whole.schema.columns.items():
        assert drafted.schema.columns[name].type == column.type, name
    assert drafted.candidates == whole.candidates
    glucose: Any = drafted.schema.columns["glucose"]
    known: Any = whole.schema.columns["glucose"]
    assert (glucose.min, glucose.max, glucose.special, glucose.censored) == (
        known.min,
        known.max,
        known.special,
        known.censored,
    )
    assert drafting.SAMPLED in drafted.notes["glucose"]
    assert not list(temporary.glob(PREFIX + "*"))


def listed(folder: Path) -> set[str]:
    """Return the names of persons and keys of records that a draft holds."""
    rows = made_up()
    text = draft_scanned(in_files(folder, rows)).to_yaml()
    return {value for value in (*rows["surname"], *rows["mrn"]) if value in text}


def test_a_draft_holds_no_identifier(tmp_path: Path) -> None:
    """Values of identifiers are never written, nor is anything but lists, bounds and states of the other columns."""
    assert not listed(tmp_path / "ward")


def test_a_draft_that_prints_values_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note that quotes a value of its column is found by the test above."""
    own = drafting.guess

    def telling(name: str, texts: Any, counts: Any, *, missing: bool) -> Any:
        guessed = own(name, texts, counts, missing=missing)
        guessed.notes.append(f"such as {texts[0]}")
        return guessed

    monkeypatch.setattr(drafting, "guess", telling)
    assert listed(tmp_path / "ward")


def test_files_with_other_columns_are_refused(tmp_path: Path) -> None:
    """A file with another header is told by its number and the column."""
    folder = in_files(tmp_path / "ward", made_up())
    made_up().rename(columns={"sex": "gender"}).to_csv(folder / "Jane Doe.csv", index=False)
    with pytest.raises(DataError, match=r"column 'gender': is in the first file or in file 4 of 4 in ward"):
        draft_scanned(folder)


def test_a_source_is_drafted_on_the_command_line(tmp_path: Path) -> None:
    """`dpsynth schema draft folder` writes the form to fill in."""
    folder = in_files(tmp_path / "ward", made_up())
    done = CliRunner().invoke(app, ["schema", "draft", str(folder), "-o", str(tmp_path / "ward.yaml")])
    assert done.exit_code == 0, done.stderr
    assert "confirmed: false" in (tmp_path / "ward.yaml").read_text(encoding="utf-8")
    assert "Zenker" not in done.stdout + done.stderr
