"""Patients who are held out of a source: the same as in memory, on one side only, and judged by samples that fit."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy.helpers import Tape
from strategies import any_codes, schemas
from typer.testing import CliRunner

import dpsynth
from dpsynth.cli.app import app
from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.errors import DataError, InputError
from dpsynth.evaluation import Coins, split
from dpsynth.jobs import publish as publishing
from dpsynth.jobs.evaluate import evaluate
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.sources import sampling
from dpsynth.sources.memory_budget import MemoryBudget
from dpsynth.sources.scratch import PREFIX
from dpsynth.sources.sides import Side
from sources import scanned_cases as cases
from sources.test_parts import asked_of_tables, same

COINS = Coins.of_text("fixed")
SHARE = 0.3


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep temporary files in a folder of the test's own."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


def facts(unit: str) -> Any:
    """Return the ward's schema with a patient column, or with a patient a row."""
    return cases.schema() if unit == "patient" else cases.schema(patient=None, max_rows_per_patient=1)


def rows_of(*cohorts: Any) -> list[Counter[tuple[str, ...]]]:
    """Return the rows of cohorts, counted."""
    return [
        Counter(zip(*(map(_written, cohort.table[name].to_pylist()) for name in cohort.columns), strict=True))
        for cohort in cohorts
    ]


def _written(value: Any) -> str:
    """Return a value as text; 4 and 4.0 are one."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def read(cohort: Any) -> Any:
    """Return all rows of a source."""
    (whole,) = sampling.sampled(cohort, most=10**9)
    return whole


@pytest.mark.parametrize("unit", ["patient", "row"])
@pytest.mark.parametrize("place", ["parquet", "csv", "duckdb"])
def test_the_sides_are_those_of_memory(place: str, unit: str, tmp_path: Path) -> None:
    """With one secret the same patients, or equal rows, are held out of files as of memory, in any order of rows."""
    rows = cases.frame()
    whole = Cohort.from_pandas(rows, facts(unit), public=True)
    cohort = cases.scanned(cases.PLACES[place](tmp_path / "data", rows.sample(frac=1, random_state=4)), facts(unit))
    sides = split(cohort, SHARE, key=COINS)
    assert rows_of(*map(read, sides)) == rows_of(*split(whole, SHARE, key=COINS))
    assert sides[0].schema.units is None


@given(schemas(), st.integers(0, 2**31))
@settings(max_examples=5, deadline=None)
def test_the_sides_of_any_schema_are_those_of_memory(tmp_path_factory: Any, drawn: Any, seed: int) -> None:
    """Rows of any schema, equal ones among them, are on the sides of memory, from three files in three parts."""
    folder, rng, codec = tmp_path_factory.mktemp("any"), np.random.default_rng(seed), Codec(drawn)
    cohort = codec.decode(any_codes(codec, 30, rng), rng)
    cohort = cohort.take(np.concatenate([np.arange(30), np.arange(0, 30, 3)]))
    cohort.write(folder / "whole.csv")
    (folder / "rows").mkdir()
    for i in range(3):
        cohort.take(np.arange(i, len(cohort), 3)).write(folder / "rows" / f"{i}.csv")
    whole = Cohort.read(folder / "whole.csv", drawn, public=True)
    parts = cases.scanned(folder / "rows", drawn, count=3)
    sides = split(parts, 0.5, key=COINS)
    assert [sum(len(piece) for piece in side.pieces()) for side in sides] == list(
        map(len, split(whole, 0.5, key=COINS))
    )
    assert rows_of(*map(read, sides)) == rows_of(*split(whole, 0.5, key=COINS))


@pytest.mark.parametrize("unit", ["patient", "row"])
def test_a_side_gives_the_integers_of_memory(unit: str, tmp_path: Path) -> None:
    """The kernel is answered of a side as of the same patients in memory."""
    rows = cases.frame()
    train = split(Cohort.from_pandas(rows, facts(unit), public=True), SHARE, key=COINS)[0]
    scanned = split(cases.scanned(cases.in_csv(tmp_path / "data", rows), facts(unit)), SHARE, key=COINS)[0]
    assert same(asked_of_tables(train, facts(unit)), asked_of_tables(scanned, facts(unit)))


def test_the_samples_are_the_sides(tmp_path: Path) -> None:
    """Where both sides fit, the samples that judge are all of their patients, with all of their rows."""
    rows = cases.frame()
    cohort = cases.scanned(cases.in_parquet(tmp_path / "data", rows))
    whole = Cohort.from_pandas(rows, cases.schema(), public=True)
    assert rows_of(*sampling.sampled(cohort, COINS.sides(SHARE))) == rows_of(*split(whole, SHARE, key=COINS))


def one_side_only(folder: Path) -> bool:
    """Return whether each patient is on one side with all of their rows, and nobody is on none."""
    rows = cases.frame()
    cohort = cases.scanned(cases.in_csv(folder, rows))
    train, test = (set(read(side).table["id"].to_pylist()) for side in split(cohort, SHARE, key=COINS))
    return not train & test and train | test == set(rows["id"])


def test_a_patient_is_on_one_side(tmp_path: Path) -> None:
    """The check that the planted bug must fail passes."""
    assert one_side_only(tmp_path / "data")


def test_a_side_by_row_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coins of rows in place of patients put visits of one patient on both sides."""
    draw = np.random.default_rng(0).random(10**6)
    monkeypatch.setattr(Side, "chosen", lambda self, part: (draw[: len(part)] < self.share) == self.is_held_out)
    assert not one_side_only(tmp_path / "data")


@pytest.mark.parametrize("unit", ["patient", "row"])
def test_one_more_patient_moves_nobody_elses_side(unit: str, tmp_path: Path) -> None:
    """A new patient, also one whose row others have too, is on one side; both sides are else what they were."""
    rows = cases.frame()
    new = rows.iloc[:5].assign(id="p999") if unit == "patient" else rows.iloc[:1]
    more = pd.concat([new, rows])
    one, two = (
        rows_of(*map(read, split(cases.scanned(cases.in_csv(tmp_path / name, table), facts(unit)), SHARE, key=COINS)))
        for name, table in {"one": rows, "two": more}.items()
    )
    added = [two[side] - one[side] for side in (0, 1)]
    assert sorted(sum(side.values()) for side in added) == [0, len(new)]
    assert all(not one[side] - two[side] for side in (0, 1))


def test_a_sample_has_whole_patients_and_fits(tmp_path: Path) -> None:
    """A sample has at most as many rows as it may, and of a patient all rows or none."""
    rows = cases.frame(2000)
    cohort = cases.scanned(cases.in_parquet(tmp_path / "data", rows))
    counts = rows["id"].value_counts()
    (drawn,) = sampling.sampled(cohort, most=150)
    here = pd.Series(drawn.table["id"].to_pylist()).value_counts()
    assert 150 - counts.max() <= len(drawn) <= 150
    assert (counts[here.index] == here).all()


def test_which_patients_are_sampled_is_drawn_anew(tmp_path: Path) -> None:
    """Two samples of 10 of 122 patients are not the same ones: their chance to be is below 1e-13."""
    cohort = cases.scanned(cases.in_one_file(tmp_path / "data", cases.frame(500).drop_duplicates("id")))
    one, two = (set(sampling.sampled(cohort, most=10)[0].table["id"].to_pylist()) for _ in range(2))
    assert len(one) == len(two) == 10
    assert one != two


def test_a_sample_keeps_the_memory() -> None:
    """The rows of a sample follow from the budget and the number of columns."""
    assert MemoryBudget.of("1GiB").sampled_rows(50, sampling.MOST) < sampling.MOST
    assert MemoryBudget.of("8GB").sampled_rows(50, sampling.MOST) == sampling.MOST


@pytest.fixture
def unjudged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Leave out the evaluation at the end of a release, and keep what it was to judge."""
    judged: list[Any] = []
    monkeypatch.setattr("dpsynth.jobs.publish.evaluate", lambda *cohorts, **facts: judged.append((cohorts, facts)))
    return judged


def test_a_release_of_a_source_holds_patients_out(tmp_path: Path, temporary: Path, unjudged: list[Any]) -> None:
    """What judges are those that the kept coins hold out; nothing is left on the disk."""
    folder = cases.in_csv(tmp_path / "visits", cases.frame())
    published = publishing.publish(
        dpsynth.scan(folder, cases.schema()), tmp_path, "independent", epsilon=1.0, holdout=SHARE, rows=50
    )
    assert published.internal is not None
    kept = Coins.read(published.internal / "split.json")
    ((test, _), judging), *_ = unjudged
    sides = split(Cohort.from_pandas(cases.frame(), cases.schema()), key=kept)
    assert rows_of(judging["train"], test) == rows_of(*sides)
    assert len(Ledger(tmp_path / "visits.ledger.jsonl").runs()) == 1
    assert not list(temporary.glob(PREFIX + "*"))


def test_rows_that_cannot_be_read_end_the_run_before_it_spends(tmp_path: Path) -> None:
    """The samples that will judge are read first."""
    rows = cases.frame().assign(unit="Zenker")
    cohort = dpsynth.scan(cases.in_csv(tmp_path / "visits", rows), cases.schema())
    with pytest.raises(DataError, match="column 'unit'"):
        publishing.publish(cohort, tmp_path, "independent", epsilon=1.0, holdout=SHARE)
    assert not (tmp_path / "visits.ledger.jsonl").exists()


def test_a_source_that_changes_between_readings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that come after the judges were read end the run, and the ledger holds what it reserved and nothing less."""
    folder = cases.in_parquet(tmp_path / "visits", cases.frame())
    own = publishing.fit

    def changed(*args: Any, **terms: Any) -> Any:
        pq.write_table(cases.arrow(cases.frame(40)), folder / "site 0" / "0.parquet")
        return own(*args, **terms)

    monkeypatch.setattr(publishing, "fit", changed)
    with pytest.raises(DataError, match="visits: is not what it was when it was read before"):
        publishing.publish(
            dpsynth.scan(folder, cases.schema()), tmp_path, "independent", epsilon=1.0, holdout=SHARE, anyway=True
        )
    assert not (tmp_path / "release").exists()
    (run,) = Ledger(tmp_path / "visits.ledger.jsonl").runs()
    assert run.events == ()


def test_a_table_that_grows_between_readings_is_refused(tmp_path: Path) -> None:
    """The number of rows is compared where no file tells: a dataset whose table changes in place."""

    class Growing:
        schema = cases.arrow(cases.frame()).schema

        def __init__(self) -> None:
            self.rows = 0

        def count_rows(self) -> int:
            return 100

        def to_batches(self, columns: list[str], **_options: Any) -> Any:
            self.rows += 100
            return iter(cases.arrow(cases.frame()).select(columns).slice(0, self.rows).to_batches())

    from dpsynth.sources.objects import InPlace
    from dpsynth.sources.watched import Watched

    rows = Watched(InPlace(Growing()))
    assert sum(batch.num_rows for batch in rows.batches(cases.schema())) == 100
    with pytest.raises(DataError, match="the data: is not what it was"):
        list(rows.batches(cases.schema()))


def test_a_release_with_a_split_holds_the_same_patients_out(tmp_path: Path, unjudged: list[Any]) -> None:
    """The split.json of a run in memory holds the same patients out of the folder, and of a table without patients."""
    for unit in ("patient", "row"):
        coins = COINS.bound(Cohort.from_pandas(cases.frame(), facts(unit)), SHARE)
        coins.write(tmp_path / f"{unit}.json")
        source = cases.scanned(cases.in_csv(tmp_path / unit, cases.frame()), facts(unit))
        publishing.publish(
            source, tmp_path, "independent", epsilon=5.0, split=tmp_path / f"{unit}.json", force=True, rows=9
        )
        ((test, _), _) = unjudged[-1]
        assert rows_of(test) == rows_of(split(Cohort.from_pandas(cases.frame(), facts(unit)), key=coins)[1])
    other = cases.scanned(cases.in_csv(tmp_path / "other", cases.frame(80)), facts("row"))
    with pytest.raises(InputError, match="kept for other rows"):
        coins.bound(other, SHARE)


def test_a_side_without_patients_is_refused(tmp_path: Path) -> None:
    """One patient cannot be on two sides."""
    rows = cases.frame(40).assign(id="p1")
    cohort = cases.scanned(cases.in_csv(tmp_path / "data", rows))
    with pytest.raises(InputError, match="too few patients"):
        sampling.sampled(cohort, COINS.sides(SHARE))
    is_held_out = COINS.toss(Cohort.from_pandas(rows, cases.schema()))[0] < SHARE
    empty = split(cohort, SHARE, key=COINS)[0 if is_held_out else 1]
    with pytest.raises(InputError, match="too few patients"):
        empty.parts(2, bytes(32))


def test_a_source_is_judged_by(tmp_path: Path) -> None:
    """`evaluate` takes a source for the real patients, a sample of whom judges, and coins say who of them tests."""
    rows = cases.frame(600)
    source = cases.scanned(cases.in_csv(tmp_path / "visits", rows), public=False)
    synthetic = replace(Cohort.from_pandas(cases.frame(300), cases.schema()), synthetic=True)
    whole = Cohort.from_pandas(rows, cases.schema())
    numbers = [
        evaluate(real, synthetic, split=COINS, seed=1).results.one("rows", arm="real").number
        for real in (source, whole)
    ]
    assert numbers[0] == numbers[1] == len(split(whole, 0.5, key=COINS)[1])


def test_a_source_is_named_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dpsynth evaluate --real folder` says that a sample judges; --direct needs rows in memory."""
    monkeypatch.chdir(tmp_path)
    cases.in_csv(tmp_path / "visits", cases.frame(300))
    cases.schema().dump(tmp_path / "ward.yaml")
    cases.frame(200).to_csv(tmp_path / "fake.csv", index=False)
    command = ["evaluate", "--real", "visits", "--synthetic", "fake.csv", "-s", "ward.yaml"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.stderr
    assert "visits: judged by a sample of its patients" in done.stderr
    assert json.loads(done.stdout)["results"]
    done = CliRunner().invoke(app, [*command, "--train", "visits", "--direct", "logistic", "-e", "1"])
    assert done.exit_code == 2
    assert "one file each" in done.stderr


def test_a_release_on_the_command_line_says_who_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unjudged: list[Any]
) -> None:
    """`dpsynth release folder --holdout` writes both folders and says that samples judge."""
    monkeypatch.chdir(tmp_path)
    cases.in_csv(tmp_path / "visits", cases.frame())
    cases.schema().dump(tmp_path / "ward.yaml")
    monkeypatch.setattr("dpsynth.cli.release.announce", lambda *_args, **_facts: None)
    command = ["release", "visits", "-s", "ward.yaml", "-e", "1", "-m", "independent", "--anyway", "--holdout", "0.3"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    assert "visits: judged by samples of both sides" in done.stderr
    assert (tmp_path / "internal" / "split.json").is_file()
    assert len(unjudged) == 1


def test_nothing_but_answers_of_a_side_is_learned(tmp_path: Path) -> None:
    """With the answers on a tape, models from the training sides of two sources are the same."""
    models = []
    for size, secret in ((400, "one"), (300, "two")):
        folder = cases.in_csv(tmp_path / str(size), cases.frame(size))
        train = split(cases.scanned(folder), SHARE, key=secret)[0]
        with Session.open(train, Budget(1, 1e-6), answers=Tape()) as session:
            train.parts(2, bytes(32)).close()
            fitted = dpsynth.models.make("independent").fit(session)
        fitted.save(tmp_path / f"model {size}")
        models.append({p.name: p.read_bytes() for p in (tmp_path / f"model {size}").iterdir()})
    assert models[0] == models[1]


def test_pieces_are_all_rows(tmp_path: Path) -> None:
    """Read by rows or by equal rows, the pieces are all rows, each once."""
    rows = cases.frame()
    cohort = cases.scanned(cases.in_csv(tmp_path / "data", rows), facts("row"))
    whole = rows_of(Cohort.from_pandas(rows, facts("row")))[0]
    for by_row in (False, True):
        counted: Counter[Any] = Counter()
        for piece in cohort.pieces(by_row=by_row):
            counted += rows_of(piece)[0]
        assert counted == whole
    assert isinstance(read(cohort).table, pa.Table)
