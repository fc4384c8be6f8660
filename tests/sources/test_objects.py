"""Objects that are scanned: Arrow tables, datasets and readers, DuckDB relations, polars frames; as from files."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pa_dataset
import pytest

import dpsynth
from dpsynth.cohort import Cohort
from dpsynth.errors import DataError, InputError
from dpsynth.jobs.fit import fit
from dpsynth.privacy.spending.ledger_place import ledger_of
from dpsynth.sources.objects import Evaluated, rows_of
from dpsynth.sources.scratch import PREFIX
from sources import scanned_cases as cases
from sources.test_parts import asked_of_tables, same

SECRET = bytes(32)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep temporary files in a folder of the test's own."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


def in_relation(_folder: Path, rows: pd.DataFrame) -> Any:
    """Return a relation of DuckDB that is yet to be evaluated."""
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    connection = duckdb.connect()
    connection.register("visits", cases.arrow(rows))
    return connection.sql("SELECT * FROM visits")


def in_lazy_frame(_folder: Path, rows: pd.DataFrame) -> Any:
    """Return a lazy frame of polars."""
    polars = pytest.importorskip("polars", reason="polars is not installed")
    return polars.from_arrow(cases.arrow(rows)).lazy()


def in_frame(_folder: Path, rows: pd.DataFrame) -> Any:
    """Return a data frame of polars."""
    return in_lazy_frame(_folder, rows).collect()


def in_dataset(folder: Path, rows: pd.DataFrame) -> Any:
    """Return a dataset of Parquet files whose types are one."""
    pa_dataset.write_dataset(cases.arrow(rows), folder, format="parquet", max_rows_per_file=100, max_rows_per_group=50)
    return pa_dataset.dataset(folder)


def in_reader(_folder: Path, rows: pd.DataFrame) -> Any:
    """Return a reader, which gives its batches once."""
    return cases.arrow(rows).to_reader(max_chunksize=50)


OBJECTS: dict[str, Callable[[Path, pd.DataFrame], Any]] = {
    "relation": in_relation,
    "lazy frame": in_lazy_frame,
    "polars frame": in_frame,
    "table": lambda _, rows: cases.arrow(rows),
    "batch": lambda _, rows: cases.arrow(rows).combine_chunks().to_batches()[0],
    "dataset": in_dataset,
    "reader": in_reader,
}


def scanned(source: Any, **facts: Any) -> Any:
    """Return a public cohort that is scanned in 13 parts."""
    return replace(Cohort.scan(source, cases.schema(**facts), public=True), count=cases.PARTS)


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_gives_the_integers_of_memory(kind: str, tmp_path: Path) -> None:
    """Every kind of question is answered as of the same rows in memory."""
    rows = cases.frame()
    whole = asked_of_tables(Cohort.from_pandas(rows, cases.schema(), public=True), cases.schema())
    cohort = scanned(OBJECTS[kind](tmp_path / "data", rows.sample(frac=1, random_state=3)))
    assert same(whole, asked_of_tables(cohort, cohort.schema))


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_is_read_again(kind: str, tmp_path: Path) -> None:
    """Two readings give the same rows, also of a reader, which gives its batches once."""
    cohort = scanned(OBJECTS[kind](tmp_path / "data", cases.frame()))
    one, two = (pa.concat_tables(cohort.rows.batches(cohort.schema, 64)) for _ in range(2))
    assert one.num_rows == len(cases.frame())
    assert one.equals(two)


def test_the_types_of_an_object_are_kept(tmp_path: Path) -> None:
    """Integers, dates and categories of a relation are read by the schema, not cast by the engine."""
    rows = cases.frame()
    typed = cases.arrow(rows)
    typed = typed.set_column(typed.column_names.index("died"), "died", typed["died"].cast(pa.int8()))
    typed = typed.set_column(typed.column_names.index("seen"), "seen", typed["seen"].cast(pa.date32()))
    typed = typed.set_column(typed.column_names.index("unit"), "unit", typed["unit"].dictionary_encode())
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    polars = pytest.importorskip("polars", reason="polars is not installed")
    connection = duckdb.connect()
    whole = asked_of_tables(Cohort.from_pandas(rows, cases.schema(), public=True), cases.schema())
    for source in (connection.from_arrow(typed), polars.from_arrow(typed).lazy(), typed):
        assert same(whole, asked_of_tables(scanned(source), cases.schema()))


def test_a_relation_that_draws_is_evaluated_once(tmp_path: Path) -> None:
    """A relation that gives other rows each time is evaluated once, so that all readings are of the same patients."""
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    connection = duckdb.connect()
    connection.register("visits", cases.arrow(cases.frame()))
    cohort = scanned(connection.sql("SELECT * FROM visits USING SAMPLE 100 ROWS (reservoir)"))
    one, two = (pa.concat_tables(cohort.rows.batches(cohort.schema)) for _ in range(2))
    assert one.equals(two)


def test_a_relation_that_is_evaluated_again_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what was kept of the first evaluation, a relation that draws gives other rows: the test above can fail.

    Two samples of 100 of 458 rows are the same with a chance below 1e-100.
    """
    own = Evaluated._keep

    def again(self: Evaluated) -> None:
        self._scratch, self._rows = None, 0
        own(self)

    monkeypatch.setattr(Evaluated, "_keep", again)
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    connection = duckdb.connect()
    connection.register("visits", cases.arrow(cases.frame()))
    rows = rows_of(connection.sql("SELECT * FROM visits USING SAMPLE 100 ROWS (reservoir)"))
    one, two = (pa.concat_tables(rows.batches(cases.schema())) for _ in range(2))
    assert not one.equals(two)


def test_an_object_needs_a_named_ledger(tmp_path: Path) -> None:
    """Where rows come from cannot be told of a relation; a dataset of files has the ledger of its files."""
    private = Cohort.scan(in_relation(tmp_path, cases.frame()), cases.schema())
    with pytest.raises(InputError, match=r"^ledger: .* object"):
        fit(private, "independent", epsilon=1.0)
    model = fit(private, "independent", epsilon=1.0, ledger=tmp_path / "ward.ledger.jsonl", seed=1)
    assert model.schema.name == "ward"
    files = Cohort.scan(in_dataset(tmp_path / "data", cases.frame()), cases.schema())
    book = ledger_of(files)
    assert book is not None
    assert book.path == tmp_path / "data.ledger.jsonl"


@pytest.mark.parametrize("kind", ["relation", "lazy frame", "reader"])
def test_what_an_engine_says_is_not_told(kind: str, tmp_path: Path, temporary: Path) -> None:
    """A cast that fails holds a value in its message, which is not repeated; nothing stays on the disk."""
    rows = cases.arrow(cases.frame())

    def failing() -> Iterator[Any]:
        yield rows.to_batches()[0]
        raise ValueError("not done")

    if kind == "relation":
        source = in_relation(tmp_path, cases.frame()).select("* REPLACE (trop::INTEGER AS trop)")
    elif kind == "lazy frame":
        polars = pytest.importorskip("polars", reason="polars is not installed")
        source = in_lazy_frame(tmp_path, cases.frame()).with_columns(polars.col("trop").cast(polars.Int64))
    else:
        source = pa.RecordBatchReader.from_batches(rows.schema, failing())
    with pytest.raises(DataError, match="cannot be evaluated") as caught:
        scanned(source).parts(2, SECRET)
    assert "not done" not in str(caught.value)
    assert not list(temporary.glob(PREFIX + "*"))


@pytest.mark.parametrize(("source", "words"), [(3, "type int"), (pd.DataFrame(), r"Cohort\.from_pandas")])
def test_other_objects_are_refused(source: Any, words: str) -> None:
    """An object that cannot be scanned is named by its type, with what is expected."""
    with pytest.raises(InputError, match=words):
        dpsynth.scan(source, cases.schema())


def test_undeclared_columns_of_an_object_are_refused() -> None:
    """Columns are checked before anything is evaluated."""
    rows = cases.arrow(cases.frame()).append_column("more", pa.array(np.zeros(len(cases.frame()))))
    with pytest.raises(DataError, match="column 'more': is in the data and not declared"):
        Cohort.scan(rows, cases.schema())


def test_an_object_without_rows_is_refused() -> None:
    """A table without rows has no patients."""
    with pytest.raises(DataError, match="no rows"):
        scanned(cases.arrow(cases.frame()).slice(0, 0).to_reader()).parts(2, SECRET)


def test_what_was_evaluated_is_gone_with_the_process(temporary: Path) -> None:
    """Rows that were kept of a reader are gone when the process ends."""
    code = f"""
import tempfile; tempfile.tempdir = {str(temporary)!r}
import pyarrow as pa, dpsynth, glob
schema = dpsynth.Schema.parse("{{name: w, columns: {{x: {{type: boolean}}}}}}")
cohort = dpsynth.Cohort.scan(pa.table({{"x": [True, False]}}).to_reader(), schema)
print(sum(b.num_rows for b in cohort.rows.batches(schema)), len(glob.glob({str(temporary)!r} + "/*")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "1"]
    assert not list(temporary.iterdir())
