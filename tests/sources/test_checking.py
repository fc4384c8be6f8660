"""`schema check --data` of a source says what it says of the same rows in one file, place by place."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from dpsynth.checking.check import DataCheck, check_data
from dpsynth.schema import Schema
from dpsynth.sources import checking, distinct, repeats
from dpsynth.sources.checking import check_scanned
from dpsynth.sources.scratch import PREFIX
from sources import scanned_cases as cases

TEXT = (
    cases.SCHEMA
    + """
  chart: {type: identifier}
constraints:
  - {when: {died: 1}, forbid: {unit: c}}
  - {when: {age: {max: 17}}, forbid: {year: 2021}}
"""
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep temporary files in a folder of the test's own."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


def faulty() -> pd.DataFrame:
    """Return rows with every fault that a table can have: out of range, off the list, damaged, of too many rows."""
    rows = cases.frame().reset_index(drop=True)
    rows["chart"] = [f"C{int(name[1:]) // 4:05}" for name in rows["id"]]
    rows.loc[3:140, "age"] = "180"
    rows.loc[7, "age"] = "-4"
    rows.loc[[1, 300], "unit"] = "Zenker"
    rows.loc[[4, 390], "lab"] = "high"
    rows.loc[200, "id"] = None
    rows.loc[11, "seen"] = "yesterday"
    rows.loc[12, "died"] = None
    rows.loc[20:30, "lab"] = "0.1234"
    rows.loc[40, "dx"] = "Anna Zenker"
    return rows


def folder_of(place: Path, rows: pd.DataFrame, kind: str = "csv", count: int = 3) -> Path:
    """Write rows, in their order, as several files."""
    place.mkdir()
    for i, piece in enumerate(np.array_split(np.arange(len(rows)), count)):
        table = cases.arrow(rows.iloc[piece])
        if kind == "csv":
            pa_csv.write_csv(table, place / f"{i}.csv")
        else:
            pq.write_table(table, place / f"{i}.parquet", row_group_size=50)
    return place


def said(checked: DataCheck) -> dict[str, Any]:
    """Return what a check says, in an order of its own; places are numbers of rows."""
    written = replace(checked, lines=None).to_dict()
    written["file"] = ""
    written["faults"] = sorted(written["faults"], key=lambda fault: (fault["place"], fault["fault"]))
    written["columns"] = {
        name: {key: round(value, 9) if isinstance(value, float) else value for key, value in facts.items()}
        for name, facts in written["columns"].items()
    }
    return written


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("rows", [faulty, lambda: faulty().iloc[150:199], cases.frame], ids=["all", "some", "few"])
def test_a_source_is_checked_as_a_file_is(rows: Callable[[], pd.DataFrame], kind: str, tmp_path: Path) -> None:
    """Faults, counts, places, shares and constraints are those of the same rows in one file."""
    table = rows()
    facts = Schema.parse(TEXT if "chart" in table else cases.SCHEMA)
    table.to_csv(tmp_path / "whole.csv", index=False)
    whole = said(check_data(tmp_path / "whole.csv", facts))
    assert said(check_scanned(folder_of(tmp_path / "visits", table, kind), facts)) == whole


def test_many_values_and_files_are_counted_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few values kept in memory and rows in many files on the disk, units and constraints are as exact."""
    monkeypatch.setattr(repeats, "ROWS", 40)
    monkeypatch.setattr("dpsynth.sources.unit_checking.ROWS", 40)
    table, facts = faulty(), Schema.parse(TEXT)
    table.to_csv(tmp_path / "whole.csv", index=False)
    whole = said(check_data(tmp_path / "whole.csv", facts))
    assert said(check_scanned(folder_of(tmp_path / "visits", table), facts)) == whole
    assert any("max_rows_per_patient" in fault["fault"] for fault in whole["faults"])
    assert any(fault["place"] == "chart" and "not protected" in fault["fault"] for fault in whole["faults"])
    assert any(count for count in whole["constraints"].values())


def test_visits_of_a_source_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Visits off the list, twice, and static columns that differ are found across files."""
    monkeypatch.setattr("dpsynth.sources.unit_checking.ROWS", 40)
    text = cases.SCHEMA.replace(
        "max_rows_per_patient: 2\n", "visits: {column: year, values: [2019, 2020], static: [unit]}\n"
    )
    text = text.replace("  dx: {type: categorical, discover: true, max_values: 3}\n", "")
    facts = Schema.parse(text.replace("[note]", "[note, dx]"))
    table = cases.frame()
    table.to_csv(tmp_path / "whole.csv", index=False)
    whole = said(check_data(tmp_path / "whole.csv", facts))
    assert {"year", "unit"} <= {fault["place"] for fault in whole["faults"]}
    assert said(check_scanned(folder_of(tmp_path / "visits", table), facts)) == whole


def test_damaged_files_are_named_and_the_others_read(tmp_path: Path, temporary: Path) -> None:
    """A line of another length, a file that is no text and one with other columns: each is a fault, none ends it."""
    folder = folder_of(tmp_path / "visits", cases.frame(), count=4)
    with (folder / "0.csv").open("a", encoding="utf-8") as file:
        file.write("p1,2\n")
    (folder / "1.csv").write_bytes((folder / "1.csv").read_bytes()[:400] + b"\xff\xfe\xff\n")
    rows = cases.frame(40).rename(columns={"lab": "labs"})
    pa_csv.write_csv(cases.arrow(rows), folder / "2.csv")
    checked = check_scanned(folder, cases.schema())
    found = {(fault.place, fault.words.partition(".")[0]) for fault in checked.faults if fault.is_refused}
    assert ("file 1 of 4 in visits", "lines with more or fewer cells than the header has names") in found
    assert ("lab", "is declared and not in the data (did you mean 'labs'?)") in found
    assert any(place == "file 2 of 4 in visits" and "UTF-8" in words for place, words in found)
    assert checked.rows > 200
    assert not list(temporary.glob(PREFIX + "*"))


def test_a_table_of_duckdb_is_checked_as_a_file_is(tmp_path: Path) -> None:
    """Undeclared and missing columns, and faults of values, of a DuckDB table."""
    table = faulty().rename(columns={"unit": "ward"})
    path = cases.in_duckdb(tmp_path / "data", table)
    table.to_csv(tmp_path / "whole.csv", index=False)
    facts = Schema.parse(TEXT)
    assert said(check_scanned(path, facts)) == said(check_data(tmp_path / "whole.csv", facts))


def test_a_check_holds_no_value(tmp_path: Path) -> None:
    """Names and values of patients are in none of what is said of a source."""
    words = str(check_scanned(folder_of(tmp_path / "visits", faulty()), Schema.parse(TEXT)).to_dict())
    assert not [value for value in ("Zenker", "yesterday", "high'", "C000", "p12") if value in words]


def test_a_fault_that_holds_a_value_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check whose words hold a value is told from one whose do not: the test above can fail."""
    monkeypatch.setattr(checking, "check_column", _telling(checking.check_column))
    words = str(check_scanned(folder_of(tmp_path / "visits", faulty()), Schema.parse(TEXT)).to_dict())
    assert "Zenker" in words


def _telling(own: Callable[..., Any]) -> Callable[..., Any]:
    def check(name: str, column: Any, array: Any, missing: Any) -> Any:
        checked = own(name, column, array, missing)
        texts = {str(value) for value in array.to_pylist()}
        checked.faults = [replace(fault, words=f"{fault.words} {texts}") for fault in checked.faults]
        return checked

    return check


def test_owners_by_row_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A count of rows per patient that looks at each file by itself misses patients whose rows are in several."""
    own = repeats.Repeats.numbers
    monkeypatch.setattr(
        repeats.Repeats, "numbers", lambda self, values, start: own(self, values, start) + np.uint64(start)
    )
    table, facts = cases.frame(), cases.schema()
    table.to_csv(tmp_path / "whole.csv", index=False)
    whole = said(check_data(tmp_path / "whole.csv", facts))
    assert said(check_scanned(folder_of(tmp_path / "visits", table), facts)) != whole


def test_a_sample_of_values_is_fair() -> None:
    """Beyond the limit, values that stay have exact counts, whatever the batches, and their number is estimated.

    The estimate of 20,000 values from 2,000 or more has a relative error of 2.2 % (one standard deviation); 15 % is
    beyond 6.7 of them, a chance below 1e-10.
    """
    import pyarrow as pa

    values = distinct.DistinctValues(most=2000)
    for start in range(0, 60_000, 5000):
        values.add(pa.array([f"v{i % 20_000}" for i in range(start, start + 5000)]))
    kept = values.counts()
    assert 2000 <= len(kept) <= 4000
    assert set(kept.values()) == {3}
    assert abs(values.distinct - 20_000) < 3000
    assert values.rows == 60_000
    assert not values.is_complete
