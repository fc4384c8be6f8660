"""The memory that a person grants is kept: by batches, parts and tables, by samples, and by the rows of a release."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import dpsynth
from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.jobs import release as releasing
from dpsynth.jobs.fit import fit
from dpsynth.jobs.publish import publish
from dpsynth.sources import divided
from dpsynth.sources.memory_budget import LEAST, MemoryBudget
from dpsynth.sources.scanned import ScannedCohort, open_cohort
from sources import scanned_cases as cases
from sources.test_parts import asked_of_tables, same

MEASURED = """
import sys, dpsynth
from dpsynth.coding.codec import Codec

def peak():  # ru_maxrss would count the process that this one was forked from
    with open("/proc/self/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

schema = dpsynth.Schema.load(sys.argv[2])
parts = dpsynth.scan(sys.argv[1], schema, public=True, memory=sys.argv[3]).parts(1, bytes(32))
parts.use(Codec(schema))
print(sum(part.rows for part in parts), peak())
parts.close()
"""


ROWS, COLUMNS, LENGTH = 8_000, 200, 800


def wide(folder: Path) -> Path:
    """Write a Parquet file of text whose values, read at once, take more than the memory that is granted."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    texts = pa.array([f"value {i} ".ljust(LENGTH, "x") for i in range(4)])
    rows = pa.table({f"c{i}": texts.take(pa.array(rng.integers(0, 4, ROWS // 4))) for i in range(COLUMNS)})
    with pq.ParquetWriter(folder / "rows.parquet", rows.schema) as writer:
        for _ in range(4):
            writer.write_table(rows)
    values = ", ".join(texts.to_pylist())
    listed = "\n".join(f"  c{i}: {{type: categorical, values: [{values}]}}" for i in range(COLUMNS))
    (folder.parent / "wide.yaml").write_text(f"name: wide\nconfirmed: true\ncolumns:\n{listed}\n", encoding="utf-8")
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_the_budget_is_kept(tmp_path: Path) -> None:
    """Rows whose text takes 1.28 GB in one batch are read, divided and coded under 1 GiB."""
    assert ROWS < 2**16
    assert ROWS * COLUMNS * LENGTH > LEAST
    command = [sys.executable, "-c", MEASURED, str(wide(tmp_path / "rows")), str(tmp_path / "wide.yaml"), "1GiB"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows, peak = map(int, done.stdout.split())
    assert rows == ROWS
    assert peak < LEAST


@pytest.mark.parametrize(
    ("words", "total"),
    [("8GB", 8 * 10**9), ("1.5 GiB", 3 * 2**29), ("2000MB", 2 * 10**9), (2**31, 2**31), ("4g", 2**32)],
)
def test_a_budget_is_read(words: Any, total: int) -> None:
    """Numbers with decimal and binary units, and bytes."""
    assert MemoryBudget.of(words).total == total


@pytest.mark.parametrize("words", ["lots", "8 apples", "-1GB", "", "0.5GB", 10**6])
def test_a_budget_that_cannot_be_kept_is_refused(words: Any) -> None:
    """What cannot be read, and what is too little, is refused with what to give."""
    with pytest.raises(InputError, match=r"memory: found .*(expected|too little)"):
        MemoryBudget.of(words)


def test_too_many_columns_or_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even a few rows, or a part of the patients, fit, the message says so before rows are read."""
    with pytest.raises(InputError, match="memory: too little for 100000 columns"):
        MemoryBudget.of("1GiB").batch_rows(100_000)
    monkeypatch.setattr(divided, "MOST_PARTS", 0)
    with pytest.raises(InputError, match="memory: too little for this table"):
        dpsynth.scan(cases.in_csv(tmp_path / "data", cases.frame()), cases.schema()).parts(2, bytes(32))


def test_the_budget_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small batches, many parts and next to no kept tables the integers are those of memory."""
    monkeypatch.setattr(MemoryBudget, "batch_rows", lambda _self, _columns: 7)
    monkeypatch.setattr(MemoryBudget, "part_bytes", 900)
    monkeypatch.setattr(MemoryBudget, "cells", 100)
    rows = cases.frame()
    whole = asked_of_tables(Cohort.from_pandas(rows, cases.schema(), public=True), cases.schema())
    cohort = dpsynth.scan(cases.in_csv(tmp_path / "data", rows), cases.schema(), public=True)
    assert same(whole, asked_of_tables(cohort, cohort.schema))
    parts = cohort.parts(2, bytes(32))
    assert len(parts._rows) > 10
    parts.close()


def test_a_file_that_may_not_fit_is_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --memory a single file is read where it fits, and scanned where it may not."""
    file = cases.in_one_file(tmp_path / "data", cases.frame())
    assert isinstance(open_cohort(file, cases.schema(), memory="2GB"), Cohort)
    monkeypatch.setattr(MemoryBudget, "holds", lambda _self, _rows, _columns: False)
    assert isinstance(open_cohort(file, cases.schema(), memory="2GB"), ScannedCohort)
    assert isinstance(open_cohort(file, cases.schema()), Cohort)
    cohort = Cohort.read(file, cases.schema(), public=True)
    with pytest.raises(InputError, match=r"memory: 2GB is too little .*Cohort\.scan"):
        fit(cohort, "independent", epsilon=1.0, memory="2GB")


def test_memory_is_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--memory` of fit and release: kept, and refused before anything is spent where it is too little."""
    monkeypatch.chdir(tmp_path)
    cases.in_csv(tmp_path / "visits", cases.frame(600))
    cases.schema().dump(tmp_path / "ward.yaml")
    for command in ("fit", "release"):
        terms = [command, "visits", "-s", "ward.yaml", "-e", "1", "-m", "independent", "--anyway", "--limit", "9"]
        done = CliRunner().invoke(app, [*terms, "--memory", "100MB"])
        assert done.exit_code == 2
        assert "memory: found '100MB', which is too little" in done.stderr
        assert not (tmp_path / "visits.ledger.jsonl").exists()
    done = CliRunner().invoke(app, [*terms, "--memory", "2GB"])
    assert done.exit_code == 0, done.stderr


@pytest.fixture
def model() -> Any:
    """Return a model of the ward."""
    cohort = Cohort.from_pandas(cases.frame(2000), cases.schema(), public=True)
    return fit(cohort, "independent", epsilon=5.0, seed=1)


def test_a_long_release_is_written_piece_by_piece(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet and CSV hold the same rows, as many as asked for, and the statement says how many."""
    monkeypatch.setattr(releasing, "AT_ONCE", 300)
    largest: list[int] = []
    own = type(model).sample
    monkeypatch.setattr(type(model), "sample", lambda self, n, **terms: largest.append(n) or own(self, n, **terms))
    dpsynth.release(model, tmp_path / "release", rows=1000, seed=3)
    assert largest == [300, 300, 300, 100]
    data = tmp_path / "release" / "data"
    rows = Cohort.read(data / "patients.parquet", model.schema, synthetic=True)
    again = Cohort.read(data / "patients.csv", model.schema, synthetic=True)
    assert len(rows) == 1000
    assert rows.to_pandas().astype(str).equals(again.to_pandas().astype(str))
    assert json.loads((tmp_path / "release" / "privacy.json").read_text())["release"]["rows"] == 1000
    dpsynth.release(model, tmp_path / "again", rows=1000, seed=3)
    assert (tmp_path / "again/data/patients.csv").read_bytes() == (data / "patients.csv").read_bytes()


def test_pieces_of_a_long_release_are_not_copies(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece is another draw, with a seed and without."""
    monkeypatch.setattr(releasing, "AT_ONCE", 200)
    for seed in (None, 7):
        pieces = [piece.table for piece in releasing.draw(model, 600, seed=seed).pieces()]  # type: ignore[union-attr]
        assert len(pieces) == 3
        assert not any(one.equals(two) for one, two in pairwise(pieces))


def test_a_publication_says_how_many_rows_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source's release that is drawn in pieces has all of its rows."""
    monkeypatch.setattr(MemoryBudget, "sampled_rows", lambda _self, _columns, most: min(most, 250))
    cohort = dpsynth.scan(cases.in_csv(tmp_path / "data", cases.frame()), cases.schema(), public=True)
    published = publish(cohort, tmp_path, "independent", epsilon=1.0, rows=700)
    assert published.rows == 700
    assert len(published.synthetic) == 250
    written = pa_csv.read_csv(published.release / "data" / "patients.csv")
    assert written.num_rows == 700
    assert isinstance(pd.read_parquet(published.release / "data" / "patients.parquet"), pd.DataFrame)
