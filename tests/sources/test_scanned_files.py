"""What is refused of files that are scanned, the ledger that counts for them, and the command line."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.errors import DataError, DpsynthError, FileError, InputError, LedgerError
from dpsynth.files.csvfiles import CsvFile
from dpsynth.files.csvtables import csv_batches, read_header
from dpsynth.files.tables import read_table
from dpsynth.jobs.fit import fit
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.ledger_place import ledger_of
from dpsynth.sources.scanned import scan
from dpsynth.sources.scratch import FRESH, PREFIX, Scratch
from sources import scanned_cases as cases

SECRET = bytes(32)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep temporary files in a folder of the test's own."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of CSV files."""
    return cases.in_csv(tmp_path / "visits", cases.frame(80))


def refused(cohort: Any) -> str:
    """Return why a cohort's rows cannot be read, and see that no temporary file stays."""
    with pytest.raises(DpsynthError) as caught:
        cohort.parts(2, SECRET)
    return str(caught.value)


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_with_other_columns_is_named(folder: Path) -> None:
    """Headers are checked before anything is read or spent; the message has the file and the column."""
    pa_csv.write_csv(cases.arrow(cases.frame(20).drop(columns="lab")), folder / "3.csv")
    with pytest.raises(
        DataError,
        match="file 4 of 4 in visits, in the order of their names: column 'lab': is declared and not in the data",
    ):
        scan(folder, cases.schema())


@pytest.mark.parametrize("cut", [10, 2000])
def test_a_damaged_file_is_named(cut: int, tmp_path: Path, temporary: Path) -> None:
    """A Parquet file that was cut off, or has damaged pages, is refused and nothing stays."""
    folder = cases.in_parquet(tmp_path / "data", cases.frame())
    file = folder / "site 1" / "3.parquet"
    content = file.read_bytes()
    if cut == 10:
        file.write_bytes(content[:-cut])
        with pytest.raises(
            DataError, match="file 4 of 4 in data, in the order of their names: is not a whole Parquet file"
        ):
            scan(folder, cases.schema())
    else:
        file.write_bytes(content[:40] + bytes(cut) + content[40 + cut :])
        assert "file 4 of 4 in data, in the order of their names: is not a whole Parquet file" in refused(
            cases.scanned(folder)
        )
    assert not list(temporary.iterdir())


def test_a_value_off_the_list_is_not_told(folder: Path, temporary: Path) -> None:
    """A value that is not as declared ends the reading with the column's name, without the value."""
    rows = cases.frame(20)
    rows.iloc[3, rows.columns.get_loc("unit")] = "Zenker"
    pa_csv.write_csv(cases.arrow(rows), folder / "9.csv")
    message = refused(cases.scanned(folder))
    assert "column 'unit'" in message
    assert "Zenker" not in message
    assert not list(temporary.iterdir())


def test_names_of_files_are_not_told(folder: Path) -> None:
    """Where there are several files their names may be those of patients: messages tell a file by its number."""
    said = []
    file = folder / "Jane Doe.csv"
    for content in (b"", b"\xff\xfe\x00", b"a,b\n1,2\n", b"PAR1", b"\x1f\x8b", b'id\n"', b"MZ\x00\x00"):
        file.write_bytes(content)
        with pytest.raises(DpsynthError) as caught:
            scan(folder, cases.schema()).parts(2, SECRET)
        said.append(str(caught.value))
    file.rename(folder / "Jane Doe.docx")
    with pytest.raises(FileError) as refusal:
        scan(folder, cases.schema())
    said.append(str(refusal.value))
    assert not [words for words in said if "Jane" in words]
    assert all("file 5 of 5 in visits" in words for words in said[:-1]), said


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """A folder without tables, a pattern without files, and files without rows."""
    with pytest.raises(FileError, match="holds no Parquet and no CSV"):
        scan(tmp_path, cases.schema())
    with pytest.raises(FileError, match="no file has such a name"):
        scan(tmp_path / "*.csv", cases.schema())
    (tmp_path / "a.csv").write_text(",".join(cases.frame(8).columns) + "\n", encoding="utf-8")
    assert "no rows" in refused(cases.scanned(tmp_path))


def test_what_is_no_table_is_not_passed_over(folder: Path) -> None:
    """Other files could hold patients: they are refused by name; words and markers stand beside tables."""
    (folder / "README.md").touch()
    (folder / "_SUCCESS").touch()
    assert len(scan(folder, cases.schema()).members) == 4
    (folder / "more.xlsx").touch()
    with pytest.raises(FileError, match=r"visits: holds a file that ends in \.xlsx"):
        scan(folder, cases.schema())
    (folder / "more.xlsx").unlink()
    pq.write_table(cases.arrow(cases.frame(8)), folder / "copy.parquet")
    with pytest.raises(FileError, match="both Parquet and CSV"):
        scan(folder, cases.schema())
    assert len(scan(folder / "*.csv", cases.schema()).members) == 4


def test_links_are_refused(folder: Path, tmp_path: Path) -> None:
    """Two names of one file would count its patients twice; a link to elsewhere passes by a ledger."""
    shutil.copy(folder / "1.csv", tmp_path / "1.csv")
    (folder / "9.csv").symlink_to(tmp_path / "1.csv")
    with pytest.raises(FileError, match="link to a file elsewhere"):
        scan(folder, cases.schema())
    (folder / "9.csv").unlink()
    (folder / "9.csv").symlink_to(folder / "1.csv")
    with pytest.raises(FileError, match="links to one file"):
        scan(folder, cases.schema())


def test_names_of_folders_are_text_of_declared_columns(tmp_path: Path) -> None:
    """What ``name=value`` says is read as its column is declared; one that is not declared is refused."""
    folder = cases.in_hive(tmp_path / "data", cases.frame())
    (folder / "year=2019").rename(folder / "year=1999")
    assert "column 'year'" in refused(cases.scanned(folder))
    (folder / "year=1999").rename(folder / "ward=3")
    with pytest.raises(DataError, match=r"column '(ward|year)'"):
        scan(folder, cases.schema())


def test_a_file_that_changes_is_refused(folder: Path) -> None:
    """A file that grows while it is read is refused, and so is a folder that gets another file."""
    cohort = cases.scanned(folder)
    batches = cohort.rows.batches(cohort.schema)
    next(batches)
    with (folder / "0.csv").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(
        DataError, match="file 1 of 4 in visits, in the order of their names: changed while it was read"
    ):
        list(batches)
    batches = cohort.rows.batches(cohort.schema)
    next(batches)
    shutil.copy(folder / "0.csv", folder / "9.csv")
    with pytest.raises(DataError, match="visits: files came or went while it was read"):
        list(batches)


def test_images_are_refused(folder: Path) -> None:
    """A cohort with images is read."""
    facts = cases.schema(images={"size": [8, 8]})
    with pytest.raises(InputError, match=r"Cohort\.read"):
        scan(folder, facts)


def test_csv_batches_are_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a CSV file are, together, what is read at once: quotes, blank rows, totals, other decimals."""
    text = 'id;note;x\n1;"a\n;b";1,5\n;;\n2;" ";\n"3";x;2,25\nTotal;;9\n'
    text += "".join(f'{i};"n ""{i}""\n";{i},5\n;;\n' for i in range(10, 400))
    (tmp_path / "ward.csv").write_text(text, encoding="utf-8")
    facts = cases.Schema.parse(
        "{name: w, file: {separator: ';', decimal: ',', totals: [Total]}, drop: [note], columns:"
        " {id: {type: identifier}, x: {type: numeric, min: 0, max: 9, missing: true}}}"
    )
    whole = read_table(tmp_path / "ward.csv", facts)
    monkeypatch.setattr("dpsynth.files.csvtables._BLOCK", 200)
    file = CsvFile.of(tmp_path / "ward.csv", facts.file)
    batches = list(csv_batches(file, read_header(file), ["id", "x"], facts))
    assert len(batches) > 10
    assert whole.num_rows == 393
    assert pa.concat_tables(batches).combine_chunks().equals(whole.combine_chunks())


# -- DuckDB -----------------------------------------------------------------------------------------------------------


def test_duckdb_says_no_value(tmp_path: Path) -> None:
    """A view whose cast fails, one that reads other files, one that draws at random, and none at all."""
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    path = cases.in_duckdb(tmp_path / "data", cases.frame())
    file = str(path).partition("::")[0]
    other = cases.in_parquet(tmp_path / "other", cases.frame(8)) / "site 0" / "0.parquet"
    columns = "id, note, lab, trop, unit, year, dx, seen, died"
    with duckdb.connect(file) as connection:
        connection.execute(f"CREATE VIEW cast_fails AS SELECT {columns}, trop::INTEGER AS age FROM visits")  # noqa: S608
        connection.execute(f"CREATE VIEW elsewhere AS SELECT * FROM '{other}'")  # noqa: S608
        connection.execute("CREATE VIEW drawn AS SELECT * FROM visits WHERE random() < 0.5")
        connection.execute('CREATE SCHEMA "the ward"; CREATE TABLE "the ward"."a""b" AS SELECT * FROM visits')
    message = refused(cases.scanned(Path(f"{file}::cast_fails")))
    assert "cannot be read by DuckDB" in message
    assert "not done" not in message
    with pytest.raises(DataError, match="reads files outside"):
        scan(f"{file}::elsewhere", cases.schema())
    with pytest.raises(DataError, match="not a table or view"):
        scan(f"{file}::nothing", cases.schema())
    assert "another number of rows" in refused(cases.scanned(Path(f"{file}::drawn")))
    assert scan(f'{file}::the ward.a"b', cases.schema()).columns == tuple(cases.schema().columns)
    with pytest.raises(FileError, match="is not there"):
        scan(tmp_path / "no.duckdb::visits", cases.schema())


# -- ledgers ----------------------------------------------------------------------------------------------------------


def spend(path: Path) -> Path:
    """Spend on what a path names; return the ledger that counts."""
    cohort = cases.scanned(path, public=False, count=2)
    limit, delta = (None, 1e-8) if _book(cohort).exists() else (9.0, 1e-6)
    fit(cohort, "independent", epsilon=0.1, delta=delta, limit=limit, anyway=True)
    return _book(cohort).path


def _book(cohort: Any) -> Ledger:
    book = ledger_of(cohort)
    assert book is not None
    return book


def test_one_ledger_for_all_ways_to_the_files(folder: Path, temporary: Path) -> None:
    """A folder, a pattern in it, a file of it, and that file read: one total."""
    book = folder.parent / "visits.ledger.jsonl"
    for path in (folder, folder / "*.csv", folder / "[12].csv", folder / "1.csv"):
        assert spend(path) == book
    assert ledger_of(Cohort.read(folder / "1.csv", cases.schema())).path == book  # type: ignore[union-attr]
    assert len(Ledger(book).runs()) == 4


def test_a_file_that_was_spent_on_goes_on(folder: Path, temporary: Path) -> None:
    """A folder one of whose files has a ledger counts there; two of them have no total."""
    fit(Cohort.read(folder / "1.csv", cases.schema()), "independent", epsilon=0.1, limit=9.0, anyway=True)
    assert spend(folder) == folder / "1.csv.ledger.jsonl"
    shutil.copy(folder / "1.csv.ledger.jsonl", folder / "2.csv.ledger.jsonl")
    with pytest.raises(LedgerError, match="visits: 2 ledgers lie beside it"):
        ledger_of(cases.scanned(folder, public=False))


def test_a_single_file_has_the_ledger_of_reading(tmp_path: Path, temporary: Path) -> None:
    """A file that is scanned counts where the file that is read does."""
    path = cases.in_one_file(tmp_path / "data", cases.frame(60))
    assert spend(path) == ledger_of(Cohort.read(path, cases.schema())).path  # type: ignore[union-attr]


def test_tables_of_a_duckdb_file_share_a_ledger(tmp_path: Path, temporary: Path) -> None:
    """A view may hold what a table holds, so one ledger lies beside the file."""
    path = cases.in_duckdb(tmp_path / "data", cases.frame(60))
    assert spend(path) == tmp_path / "data" / "extract.duckdb.ledger.jsonl"


def test_a_fault_in_the_data_costs_nothing(folder: Path, temporary: Path) -> None:
    """Rows are read after the budget is reserved: where they are refused, nothing counts as spent."""
    content = (folder / "2.csv").read_text(encoding="utf-8")
    (folder / "2.csv").write_text(content.replace('"a"', '"Zenker"'), encoding="utf-8")
    cohort = cases.scanned(folder, public=False)
    with pytest.raises(DataError, match="column 'unit'"):
        fit(cohort, "independent", epsilon=1.0, anyway=True)
    (spent,) = _book(cohort).runs()
    assert spent.events == ()
    assert not list(temporary.iterdir())


# -- temporary files --------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told(folder: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room the message says what to do, and nothing stays."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pa.ipc, "new_stream", full)
    message = refused(cases.scanned(folder))
    assert "No space left on device" in message
    assert "TMPDIR" in message
    assert not list(temporary.iterdir())


def test_an_interrupt_leaves_nothing(folder: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while rows are divided, or encoded, takes the folder with it."""
    cohort = cases.scanned(folder, count=2)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for place in ("dpsynth.sources.divided.part_numbers", "dpsynth.sources.divided.Memory"):
        with monkeypatch.context() as patch:
            patch.setattr(place, interrupted)
            with pytest.raises(KeyboardInterrupt):
                fit(cohort, "independent", epsilon=1.0)
        assert not list(temporary.iterdir())


HELD = """
import sys, time
from dpsynth.sources.scratch import Scratch
scratch = Scratch()
(scratch.folder / "rows-0").write_text("private")
print("held", flush=True)
time.sleep(60)
"""


def test_a_kill_leaves_nothing(temporary: Path) -> None:
    """A run that is killed outright, and can do nothing more, leaves no rows behind."""
    with subprocess.Popen([sys.executable, "-c", HELD], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        (held,) = temporary.glob(PREFIX + "*")
        Scratch().close()
        assert (held / "rows-0").exists()  # another run leaves the folder of one that lives
        process.send_signal(signal.SIGKILL)
        process.wait()
    end = time.monotonic() + 20
    while held.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not list(temporary.iterdir())


def test_what_a_power_cut_leaves_is_removed_by_the_next_run(temporary: Path) -> None:
    """A folder whose lock nobody holds belongs to no run."""
    left = temporary / f"{PREFIX}left"
    left.mkdir()
    (left / "rows-0").write_text("private", encoding="utf-8")
    (left / "lock").touch()
    Scratch().close()
    assert not list(temporary.iterdir())


def test_a_folder_that_is_being_made_is_left(temporary: Path) -> None:
    """A run that has only just made its folder is not robbed of it; links are never followed."""
    young = temporary / f"{FRESH}young"
    young.mkdir()
    (temporary / f"{PREFIX}link").symlink_to(temporary.parent)
    Scratch().close()
    assert young.exists()
    old = time.time() - 3600
    os.utime(young, (old, old))
    Scratch().close()
    assert not young.exists()
    assert temporary.parent.exists()


def test_a_part_with_other_rows_than_were_written_is_refused(folder: Path, temporary: Path) -> None:
    """Row counts that differ between two readings end the run."""
    parts = cases.scanned(folder, count=2).parts(2, SECRET)
    parts._rows[0] += 1
    with pytest.raises(DataError, match="another number of rows"):
        list(parts)
    parts.close()
    with pytest.raises(InputError, match="open another session"):
        list(parts)


# -- the command line -------------------------------------------------------------------------------------------------


def run(*words: str) -> Any:
    """Run a command."""
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def schema_file(tmp_path: Path) -> str:
    """Write the schema."""
    path = tmp_path / "ward.yaml"
    path.write_text(cases.SCHEMA, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("model", ["prism", "independent"])
@pytest.mark.parametrize("place", ["parquet", "pattern", "hive", "duckdb"])
def test_release_from_many_files(place: str, model: str, tmp_path: Path, schema_file: str, temporary: Path) -> None:
    """From a folder, a pattern, hive partitions or a table of DuckDB to a release, which is its own rows' schema."""
    path = cases.PLACES[place](tmp_path / "data", cases.frame())
    out = tmp_path / "study"
    done = run("release", str(path), "-s", schema_file, "-e", "1", "-m", model, "-o", str(out), "-n", "50")
    assert done.exit_code == 0, done.stderr
    assert len(pd.read_csv(out / "release" / "data" / "patients.csv")) == 50
    assert not list(temporary.iterdir())
    shown = run("ledger", "show", str(path), "--json")
    assert len(json.loads(shown.stdout)["runs"]) == 1


def test_fit_and_check_many_files(folder: Path, tmp_path: Path, schema_file: str, temporary: Path) -> None:
    """``fit`` takes a folder; ``schema check --data`` reads all of it and tells faults without values."""
    done = run("fit", str(folder), "-s", schema_file, "-e", "1", "-m", "independent", "-o", str(tmp_path / "model"))
    assert done.exit_code == 0, done.stderr
    checked = run("schema", "check", schema_file, "--data", str(folder / "*.csv"), "--json")
    assert checked.exit_code == 0, checked.stderr
    assert json.loads(checked.stdout)["data"]["rows"] == len(cases.frame(80))
    rows = cases.frame(20)
    rows.iloc[3, rows.columns.get_loc("unit")] = "Zenker"
    pa_csv.write_csv(cases.arrow(rows), folder / "9.csv")
    checked = run("schema", "check", schema_file, "--data", str(folder), "--json")
    assert checked.exit_code == 2
    assert [fault["place"] for fault in json.loads(checked.stdout)["data"]["faults"] if fault["kind"] == "refused"] == [
        "unit"
    ]
    assert "Zenker" not in checked.stdout + checked.stderr
