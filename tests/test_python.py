"""From Python: tables of several libraries, conditions as text, what shows itself in a notebook, and what is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import dpsynth
from dpsynth.cohort import Cohort
from dpsynth.errors import InputError, SchemaError
from dpsynth.models.base import Model
from dpsynth.schema import Schema

WARD = """
name: ward
confirmed: true
target: died
columns:
  age: {type: numeric, min: 0, max: 99}
  sex: {type: categorical, values: [female, male]}
  died: {type: boolean}
"""


def ward(n: int = 400) -> pd.DataFrame:
    """Return a small table."""
    rng = np.random.default_rng(0)
    age = rng.integers(20, 95, n)
    sex = np.where(rng.random(n) < 0.5, "female", "male")
    return pd.DataFrame({"age": age, "sex": sex, "died": rng.random(n) < age / 150})


def polars_frame(frame: pd.DataFrame) -> object:
    """Return the table as one of polars."""
    polars = pytest.importorskip("polars")
    return polars.DataFrame({name: frame[name].tolist() for name in frame.columns})


def lazy_frame(frame: pd.DataFrame) -> object:
    """Return the table as one of polars that is yet to be evaluated."""
    return polars_frame(frame).lazy()  # type: ignore[attr-defined]


KINDS = {
    "pandas": lambda frame: frame,
    "polars": polars_frame,
    "lazy": lazy_frame,
    "arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "batch": lambda frame: pa.RecordBatch.from_pandas(frame, preserve_index=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_any_library_is_the_same_cohort(kind: str) -> None:
    """Cohort(data, schema), Cohort.of and a draft read the same values, whatever holds them."""
    schema, frame = Schema.parse(WARD), ward()
    data = KINDS[kind](frame)
    expected = Cohort.from_pandas(frame, schema)
    for cohort in (Cohort(data, schema), Cohort.of(data, schema)):
        assert cohort.table.to_pydict() == expected.table.to_pydict()
        assert not cohort.public
    drafted = dpsynth.draft(data, name="ward")
    assert drafted.modelled == ("age", "sex", "died")
    assert not drafted.confirmed
    assert drafted == dpsynth.draft(frame, name="ward")


def test_a_path_is_drafted_and_read_too(tmp_path: Path) -> None:
    """The same functions take the path of a file."""
    ward().to_csv(tmp_path / "ward.csv", index=False)
    assert dpsynth.draft(tmp_path / "ward.csv").modelled == ("age", "sex", "died")
    assert len(Cohort(tmp_path / "ward.csv", Schema.parse(WARD))) == 400


def test_a_ledger_may_be_named_with_the_cohort(tmp_path: Path) -> None:
    """A cohort from memory keeps its ledger; every run counts there, and without one nothing is fitted."""
    schema = Schema.parse(WARD)
    cohort = Cohort(ward(), schema, ledger=tmp_path / "ward.jsonl")
    for run in (1, 2):
        dpsynth.fit(cohort, "independent", epsilon=0.5, delta=1e-6, limit=1.1, anyway=True)
        from dpsynth.privacy.spending.ledger import Ledger

        assert len(Ledger(tmp_path / "ward.jsonl").runs()) == run
    with pytest.raises(InputError, match="ledger"):
        dpsynth.fit(Cohort(ward(), schema), "independent", epsilon=0.5, delta=1e-6, anyway=True)


def test_data_with_a_schema_are_fitted_at_once(tmp_path: Path) -> None:
    """fit(frame, schema=...) is fit(Cohort(frame, schema)); without a schema the message says what to give."""
    path = tmp_path / "w.jsonl"
    schema = Schema.parse(WARD)
    model = dpsynth.fit(ward(), "independent", epsilon=1, delta=1e-6, schema=schema, ledger=path, anyway=True)
    assert len(model.sample(7)) == 7
    with pytest.raises(InputError, match=r"DataFrame.*schema="):
        dpsynth.fit(ward(), epsilon=1)
    with pytest.raises(InputError, match="found list"):
        dpsynth.fit([1, 2], epsilon=1, schema=schema)


@pytest.fixture(scope="module")
def model() -> Model:
    """Return a model of public patients."""
    return dpsynth.fit(Cohort(ward(), Schema.parse(WARD), public=True), "independent", epsilon=1.0, delta=1e-6)


def test_conditions_are_written_as_on_the_command_line(model: Model) -> None:
    """Text and mapping draw the same rows; `or` is named."""
    text = model.sample(50, where="sex == 'male' and age >= 60", seed=1)
    mapping = model.sample(50, where={"sex": "male", "age": {"min": 60}}, seed=1)
    assert text.table.equals(mapping.table)
    with pytest.raises(InputError, match=r"or is not read.*COLUMN in \[A, B\]"):
        model.sample(5, where="sex == 'male' or sex == 'female'")
    with pytest.raises(InputError, match="not understood"):
        model.sample(5, where="sex = 'male'")


def test_a_sample_remembers_its_statement(model: Model) -> None:
    """An evaluation of a drawn cohort knows its epsilon without being told."""
    drawn = model.sample(300, seed=1)
    assert drawn.statement == model.statement
    evaluation = dpsynth.evaluate(Cohort(ward(), Schema.parse(WARD), public=True), drawn)
    assert evaluation.statement["epsilon"] == 1.0


def test_objects_show_themselves_and_private_ones_show_no_row(model: Model) -> None:
    """Schema, cohort and model have HTML for a notebook; that of a private cohort has public facts alone."""
    schema = Schema.parse(WARD)
    assert "not confirmed" in schema.changed(confirmed=False)._repr_html_()
    private = Cohort(ward().assign(age=83), schema)._repr_html_()
    assert "83" not in private
    assert "400" not in private
    assert "<table" in model.sample(5)._repr_html_()
    assert "independent" in model._repr_html_()
    nasty = schema.changed(name="<script>")
    assert "<script>" not in nasty._repr_html_()
    assert "<script>" not in Cohort(ward(), nasty)._repr_html_()


def test_what_the_documentation_names_is_listed() -> None:
    """dir(dpsynth) has every public name; that of a schema has its own names and none of pydantic's."""
    assert set(dir(dpsynth)) >= {
        "Budget",
        "Cohort",
        "Schema",
        "draft",
        "evaluate",
        "fit",
        "load",
        "plan",
        "release",
        "scan",
    }
    names = dir(Schema.parse(WARD))
    assert {"changed", "columns", "to_yaml", "modelled"} <= set(names)
    assert not {"model_dump", "parse_obj", "construct", "dict"} & set(names)


def test_a_schema_is_changed_and_checked_anew() -> None:
    """Fields and columns are replaced, taken out and added; what does not fit is refused as in a file."""
    schema = Schema.parse(WARD)
    changed = schema.changed(columns={"sex": None, "dose": {"type": "numeric", "min": 0, "max": 9}}, target=None)
    assert changed.modelled == ("age", "died", "dose")
    assert changed.target is None
    with pytest.raises(SchemaError, match="target: there is no column 'dead'"):
        schema.changed(target="dead")
