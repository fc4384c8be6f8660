"""Patients in files larger than memory: the same integers as in memory, and nothing left behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy.helpers import Tape
from strategies import any_codes, schemas

import dpsynth
from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.jobs.fit import fit
from dpsynth.models.tabular.deep.tvae import TVAE
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.training.dpsgd import Objective
from dpsynth.privacy.training.per_patient import BACKENDS
from dpsynth.schema import Schema
from dpsynth.sources import divided
from dpsynth.sources.divided import Divided
from dpsynth.sources.memory import Memory
from dpsynth.sources.scratch import PREFIX
from sources import scanned_cases as cases
from sources.test_parts import CAP, asked_of_tables, opened, same

SECRET = bytes(range(32))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep temporary files in a folder of the test's own, and see that nothing is left there."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    yield place
    assert not list(place.glob(PREFIX + "*"))


def in_memory(rows: pd.DataFrame, facts: Schema | None = None) -> Cohort:
    """Return the same rows in memory."""
    return Cohort.from_pandas(rows, facts or cases.schema(), public=True)


@pytest.mark.parametrize("place", cases.PLACES)
def test_a_scan_gives_the_integers_of_memory(place: str, tmp_path: Path) -> None:
    """Every kind of question is answered by equal integers, in 13 parts, with more rows of a patient than the cap."""
    rows = cases.frame()
    whole = asked_of_tables(in_memory(rows), cases.schema())
    cohort = cases.scanned(cases.PLACES[place](tmp_path / "data", rows))
    assert same(whole, asked_of_tables(cohort, cohort.schema))


def test_rows_that_are_patients_give_the_integers_of_memory(tmp_path: Path) -> None:
    """Where each row is a patient, nothing but the parts differs."""
    facts = cases.schema(patient=None, max_rows_per_patient=1)
    rows = cases.frame()
    cohort = cases.scanned(cases.in_parquet(tmp_path / "data", rows), facts)
    assert same(asked_of_tables(in_memory(rows, facts), facts), asked_of_tables(cohort, facts))


@given(schemas(), st.integers(0, 2**31))
@settings(max_examples=10)
def test_any_schema_gives_the_codes_of_memory(tmp_path_factory: Any, drawn: Schema, seed: int) -> None:
    """Rows of any schema have the codes of memory, from three CSV files in three parts as from one file."""
    folder, rng, codec = tmp_path_factory.mktemp("any"), np.random.default_rng(seed), Codec(drawn)
    cohort = codec.decode(any_codes(codec, 40, rng), rng)
    cohort.write(folder / "whole.csv")
    (folder / "rows").mkdir()
    for i in range(3):
        cohort.take(np.arange(i, len(cohort), 3)).write(folder / "rows" / f"{i}.csv")
    whole = Cohort.read(folder / "whole.csv", drawn, public=True)
    parts = cases.scanned(folder / "rows", drawn, count=3)
    assert _coded_rows(whole, codec) == _coded_rows(parts, codec)


def test_visits_are_flattened_part_by_part(tmp_path: Path) -> None:
    """A patient's visits may stand in different files, and become the same flat row."""
    text = cases.SCHEMA.replace("max_rows_per_patient: 2\n", "visits: {column: year, values: [2019, 2020, 2021]}\n")
    text = text.replace("  dx: {type: categorical, discover: true, max_values: 3}\n", "").replace(
        "[note]", "[note, dx]"
    )
    facts = Schema.parse(text)
    rows = cases.frame().drop_duplicates(["id", "year"])
    cohort = cases.scanned(cases.in_csv(tmp_path / "data", rows), facts)
    whole, parts = (_coded_rows(source, Codec(facts)) for source in (in_memory(rows, facts), cohort))
    assert len(whole) == rows["id"].nunique()
    assert whole == parts


def _coded_rows(source: Any, codec: Codec) -> list[tuple[int, ...]]:
    """Return the coded rows of a source, sorted: which patient is where is another matter."""
    parts = source.parts(CAP, SECRET) if hasattr(source, "parts") else Memory(source, CAP, SECRET)
    parts.use(codec)
    rows = [row for part in parts for row in zip(*(part.codes[name].tolist() for name in part.codes), strict=True)]
    getattr(parts, "close", lambda: None)()
    return sorted(rows)


def test_training_reads_the_parts(tmp_path: Path) -> None:
    """A network that learns from a scanned cohort takes the same clipped gradients, in units of 2^-26."""
    rows = cases.frame(120)
    cohort = cases.scanned(cases.in_parquet(tmp_path / "data", rows))

    whole, parts = gradients(in_memory(rows), 60), gradients(cohort, 60)
    for one, other in zip(whole, parts, strict=True):
        assert np.abs(np.asarray(one)).max() > 0
        assert np.abs(np.asarray(one) - np.asarray(other)).max() < 2**8  # 32-bit rounding, as patients are padded


def gradients(source: Any, expected: int) -> list[Any]:
    """Take two steps with everybody; return the sums that noise was added to."""
    torch.manual_seed(0)
    answers, noise, codec = opened(source, source.schema)
    objective, plan = Numbers(len(codec.shape)), TrainingPlan(1.0, 2, 1.0)
    list(answers.gradients(objective, plan, records="rows", expected=expected, backend=BACKENDS["loop"]))
    answers.close()
    return noise.before[-2:]


class Numbers(Objective):
    """A linear layer of the codes, taken for numbers, with a weighted square loss."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.network = torch.nn.Linear(columns, 2)

    def prepare(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return codes as floats."""
        return {"x": batch["codes"].float() / 64, "weights": batch["weights"]}

    def randomness(self, _patients: int, _generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return nothing."""
        return {}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean over a patient's records."""
        return ((self.network(batch["x"]) - 1).square().mean(-1) * batch["weights"]).sum(1)


def test_tvae_is_fitted_on_a_scan(tmp_path: Path) -> None:
    """DP-SGD on rows that stay in files ends with a model that draws rows."""
    cohort = cases.scanned(cases.in_parquet(tmp_path / "data", cases.frame()), count=3)
    model = fit(cohort, TVAE(hidden=8, latent=2, steps=3), epsilon=5.0, seed=1)
    assert len(model.sample(10)) == 10


def test_a_fit_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    """While a session is open its folder is its owner's alone; when it is closed the folder is gone."""
    cohort = cases.scanned(cases.in_parquet(tmp_path / "data", cases.frame()))
    with Session.open(cohort, Budget(1, 1e-6)):
        (folder,) = temporary.glob(PREFIX + "*")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    assert fit(cohort, "prism", epsilon=1.0, seed=1).schema.name == "ward"


@pytest.mark.parametrize("model", ["prism", "independent"])
def test_a_fit_with_the_same_noise_is_the_same(model: str, tmp_path: Path) -> None:
    """From memory and from files, in another order, a seeded fit draws the same rows."""
    rows = cases.frame()
    cohort = cases.scanned(cases.in_hive(tmp_path / "data", rows.sample(frac=1, random_state=2)))
    models = [fit(source, model, epsilon=2.0, seed=4) for source in (in_memory(rows), cohort)]
    whole, parts = (fitted.sample(100, seed=5).table for fitted in models)
    assert whole.equals(parts)


@pytest.mark.parametrize("place", ["parquet", "csv", "hive", "duckdb"])
def test_one_more_patient_moves_nobody_else(place: str, tmp_path: Path) -> None:
    """A patient with unusual values and many rows moves no other's part, cap or codes."""
    rows = cases.frame()
    new = rows.iloc[:40].assign(id="p999", age="1e300", lab="0.123456789", dx="Zenker", trop="<0.5", unit="c")
    one = _of_patients(cases.scanned(cases.PLACES[place](tmp_path / "one", rows)))
    two = _of_patients(
        cases.scanned(cases.PLACES[place](tmp_path / "two", pd.concat([new.iloc[:20], rows, new.iloc[20:]])))
    )
    assert len(two) == len(one) + 1
    assert len(two.pop(next(iter(set(two) - set(one))))[1]) == CAP
    assert two == one


def _of_patients(cohort: Any) -> dict[int, tuple[int, list[tuple[int, ...]]]]:
    """Return the part and the coded rows of each patient, by the secret number that does not tell who it is."""
    parts = cohort.parts(CAP, SECRET)
    parts.use(Codec(cohort.schema, discovered={"dx": ["flu", "gout", "mumps"]}))
    patients: dict[int, tuple[int, list[tuple[int, ...]]]] = {}
    for place, part in zip(parts._rows, parts, strict=True):
        numbers = part.identities()
        codes = list(zip(*(part.codes[name].tolist() for name in part.codes), strict=True))
        for patient, row in zip(part.patients, codes, strict=True):
            patients.setdefault(int(numbers[patient]), (place, []))[1].append(row)
    parts.close()
    return {number: (place, sorted(rows)) for number, (place, rows) in patients.items()}


def test_codes_are_small_and_mapped(tmp_path: Path) -> None:
    """Codes lie on disk in one byte or two; nothing is written where they are read."""
    cohort = cases.scanned(cases.in_parquet(tmp_path / "data", cases.frame()))
    parts = cohort.parts(CAP, SECRET)
    parts.use(Codec(cohort.schema))
    for part in parts:
        assert {code.dtype for code in part.codes.values()} <= {np.dtype(np.uint8), np.dtype(np.uint16)}
        assert not any(code.flags.writeable for code in part.codes.values())
    assert repr(parts) == "Divided(...)"
    with pytest.raises(TypeError):
        parts.__reduce__()
    parts.close()


def test_a_release_from_a_tape_is_the_same_for_neighbours(tmp_path: Path) -> None:
    """With the answers of a tape a model of a scanned cohort is byte-identical for neighbours, files and messages."""
    models = []
    for rows in (cases.frame(), pd.concat([cases.frame(), cases.frame().iloc[:9].assign(id="p999", dx="Zenker")])):
        cases.in_parquet(tmp_path / "data", rows)
        cohort = cases.scanned(tmp_path / "data")
        with Session.open(cohort, Budget(1, 1e-6), answers=Tape()) as session:
            cohort.parts(CAP, SECRET).close()  # reading the rows says nothing
            fitted = dpsynth.models.make("independent").fit(session)
        fitted.save(tmp_path / f"model {len(models)}")
        models.append({p.name: p.read_bytes() for p in (tmp_path / f"model {len(models)}").iterdir()})
    assert models[0] == models[1]


# -- planted bugs: each is caught by a check above --------------------------------------------------------------------


def equal_to_memory(folder: Path) -> bool:
    """Return whether a scan gives the integers of memory, in another order of rows than memory has."""
    rows = cases.frame()
    cohort = cases.scanned(cases.in_parquet(folder, rows.sample(frac=1, random_state=5)))
    try:
        return same(asked_of_tables(in_memory(rows), cases.schema()), asked_of_tables(cohort, cohort.schema))
    except dpsynth.DpsynthError:
        return False


def test_the_check_of_equal_integers_passes(tmp_path: Path) -> None:
    """Without a bug the check that the planted bugs must fail passes."""
    assert equal_to_memory(tmp_path / "data")


def test_a_cap_by_the_order_of_rows_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeping the first rows of a patient that are read gives other integers than the keyed numbers."""
    own = divided.Memory._kept_rows

    def first(self: Memory, cohort: Cohort, cap: int) -> Any:
        if len(cohort) > 300:
            return own(self, cohort, cap)  # memory itself
        return np.flatnonzero(pd.Series(cohort.patients()).groupby(cohort.patients()).cumcount() < cap)

    monkeypatch.setattr(divided.Memory, "_kept_rows", first)
    assert not equal_to_memory(tmp_path / "data")


def test_a_division_that_splits_a_patient_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dividing rows by their place keeps more rows of a patient than the cap."""
    monkeypatch.setattr(
        divided,
        "part_numbers",
        lambda table, _schema, _secret, count, start: np.arange(start, start + len(table)) % count,
    )
    assert not equal_to_memory(tmp_path / "data")


def test_fresh_randomness_in_a_second_reading_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part whose cap is drawn anew each time it is read has other rows in the second reading."""
    own, draw = Divided._memory, np.random.default_rng(0)

    def fresh(self: Divided, part: int) -> Memory:
        self._secret = draw.bytes(32)
        return own(self, part)

    monkeypatch.setattr(Divided, "_memory", fresh)
    assert not equal_to_memory(tmp_path / "data")
