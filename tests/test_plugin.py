"""The example of a plug-in, a package of its own beside the notebooks, is a model like any other."""

import doctest
import importlib
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from doubles import SCHEMA, ward
from typer.testing import CliRunner

import dpsynth
from dpsynth.cli.app import app
from dpsynth.errors import InputError, ModelFormatError
from dpsynth.models import registry

PACKAGE = Path(__file__).parent.parent / "notebooks" / "shrinking-marginals"
FACTS = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register the entry points of the package's own pyproject.toml, as pip would."""
    monkeypatch.syspath_prepend(PACKAGE / "src")
    own = {name: EntryPoint(name, at, registry.GROUP) for name, at in FACTS["entry-points"][registry.GROUP].items()}
    all_of_them = {**registry._registered(), **own}
    with patch("dpsynth.models.registry._registered", lambda: all_of_them):
        yield


def _cohort(folder: Path, rows: int = 4000) -> dpsynth.Cohort:
    data, facts = ward(folder, rows)
    return dpsynth.Cohort.read(data, dpsynth.Schema.load(facts), public=True)


def test_the_command_line_knows_it(tmp_path: Path) -> None:
    """By its entry point it is listed, planned, fitted, saved, and drawn from, with conditions."""
    ward(tmp_path)
    data, facts, model = (str(tmp_path / name) for name in ("ward.csv", "ward.yaml", "model"))
    for command in (
        ["models"],
        ["plan", facts, "--rows", "400", "--epsilon", "1", "--model", "shrinking"],
        ["fit", data, "-s", facts, "-e", "1", "-m", "shrinking", "--option", "bins=4", "--out", model],
        ["sample", model, "-n", "50", "--where", "sex == female and age >= 60", "--out", str(tmp_path / "rows.csv")],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    lines = (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(lines) == 50
    assert all(int(line.split(",")[0]) >= 60 and line.split(",")[1] == "female" for line in lines)


def test_it_spends_the_budget_and_no_more(tmp_path: Path) -> None:
    """A fit spends the whole budget, by the kernel's own count."""
    statement = dpsynth.fit(_cohort(tmp_path), "shrinking", epsilon=1.0, delta=1e-6).statement
    assert 0.99 < statement["epsilon_spent"] <= 1.0


def test_it_learns_what_goes_with_the_target(tmp_path: Path) -> None:
    """Patients who died are older, also among the synthetic: within 3 years (30 standard errors) of the real gap."""
    cohort = _cohort(tmp_path)

    def gap(some: dpsynth.Cohort) -> float:
        ages = some.to_pandas().astype({"age": float}).groupby("died", observed=True)["age"].mean()
        return float(ages.iloc[1] - ages.iloc[0])

    synthetic = dpsynth.fit(cohort, "shrinking", epsilon=10.0, delta=1e-6).sample(40_000)
    assert gap(cohort) > 5
    assert abs(gap(synthetic) - gap(cohort)) < 3


def test_a_saved_model_is_read_again_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    """What is loaded draws the same rows; shares that do not fit a column are refused with words."""
    model = dpsynth.fit(_cohort(tmp_path, 400), "shrinking", epsilon=1.0, delta=1e-6)
    model.save(tmp_path / "model")
    read = dpsynth.load(tmp_path / "model")
    assert read.sample(20, seed=1).to_pandas().equals(model.sample(20, seed=1).to_pandas())
    model.shares["sex"] = np.ones((2, 3)) / 3  # type: ignore[attr-defined]
    model.save(tmp_path / "broken")
    with pytest.raises(ModelFormatError):
        dpsynth.load(tmp_path / "broken")


def test_it_needs_a_target(tmp_path: Path) -> None:
    """Without a target it says what it wants, before anything is spent."""
    schema = dpsynth.Schema.parse(SCHEMA.replace("target: died\n", ""))
    with pytest.raises(InputError, match="name one in the schema"):
        dpsynth.plan(schema, epsilon=1.0, rows=400, model="shrinking")


def test_its_examples_run() -> None:
    """The examples in its docstrings give what they show."""
    assert doctest.testmod(importlib.import_module("shrinking_marginals")) == (0, 4)
    sys.modules.pop("shrinking_marginals")
