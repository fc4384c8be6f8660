"""What is said before a release is little but noise, and what discovery found: from public facts, before it spends."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import dpsynth
from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.datasets import load_support2
from dpsynth.errors import InputError
from dpsynth.jobs.outlook import GOOD, LIMITS, foresee
from dpsynth.models.registry import make
from dpsynth.privacy.spending.budget import Budget
from dpsynth.schema import Schema


def wide(columns: int, rows: int | None = None, **more: Any) -> Schema:
    """Return a schema of numbers."""
    numbers = {f"c{k}": {"type": "numeric", "min": 0, "max": 100} for k in range(columns)}
    facts = {"name": "wide", "confirmed": True, "columns": {**numbers, **more}}
    return Schema.parse(facts | ({} if rows is None else {"rows": rows}))


def outlook_of(schema: Schema, rows: int, epsilon: float, model: str = "prism") -> Any:
    """Return what is foreseen."""
    return foresee(make(model), schema, Budget(epsilon, 1e-6), rows)


@pytest.mark.parametrize("model", ["prism", "aim", "mst", "independent"])
def test_what_is_fine_is_not_refused(model: str) -> None:
    """The demonstration at epsilon 1 and 0.3, with and without held-out patients, is no noise."""
    schema = load_support2().schema
    for epsilon in (0.3, 1.0):
        assert outlook_of(schema, 9105, epsilon, model) is None
        assert outlook_of(schema, 6374, epsilon, model) is None


NOISE = [("independent", 148, 1000, 1.0, True), ("prism", 30, 700, 1.0, True), ("prism", 5, 50, 1.0, False)]


@pytest.mark.parametrize(("model", "columns", "rows", "epsilon", "may_be_fewer"), NOISE)
def test_what_is_noise_is_foreseen_with_what_helps(
    model: str, columns: int, rows: int, epsilon: float, may_be_fewer: bool
) -> None:
    """Too many columns, too few patients, too little budget: and the epsilon and the columns that are named do help."""
    outlook = outlook_of(wide(columns), rows, epsilon, model)
    assert outlook is not None
    assert outlook.plan.expected_error["1-way"] >= LIMITS["1-way"]
    (better,) = [float(text.split()[1].rstrip(",")) for text in outlook.advice if text.startswith("epsilon")]
    again = dpsynth.plan(wide(columns), epsilon=better, rows=rows, model=model).expected_error["1-way"]
    assert 0.6 * GOOD * LIMITS["1-way"] < again <= GOOD * LIMITS["1-way"]
    fewer = [int(text.split()[4]) for text in outlook.advice if "columns" in text]
    for count in fewer:
        fits = dpsynth.plan(wide(count), epsilon=epsilon, rows=rows, model=model).expected_error["1-way"]
        assert fits <= GOOD * LIMITS["1-way"]
    assert bool(fewer) == may_be_fewer


def test_long_lists_are_named() -> None:
    """Columns with many values are proposed to be merged, the longest first."""
    codes = {"type": "categorical", "values": [f"v{k}" for k in range(60)]}
    outlook = outlook_of(wide(3, code=codes, more={**codes, "values": codes["values"][:30]}), 100, 0.5)
    assert "merged values of 'code', 'more'" in outlook.warning()


def test_images_have_an_outlook() -> None:
    """A few images a label are noise; thousands are not."""
    facts = {"label": {"type": "categorical", "values": list(range(10))}}
    images = {"size": [28, 28], "channels": 1}
    schema = Schema.parse({"name": "x", "confirmed": True, "target": "label", "columns": facts, "images": images})
    assert outlook_of(schema, 100, 1.0, "moments") is not None
    assert outlook_of(schema, 5000, 1.0, "moments") is None
    assert outlook_of(schema, 60_000, 0.3, "moments") is None


def test_a_plan_that_fails_foresees_nothing() -> None:
    """A model of others may plan as it likes."""

    class Rude(type(make("independent"))):  # type: ignore[misc]
        def plan(self, *_: Any) -> Any:
            raise ZeroDivisionError

    assert foresee(Rude(), wide(3), Budget(1.0, 1e-6), 10) is None


# -- before it spends -------------------------------------------------------------------------------------------------


def _place(folder: Path, rows: int, declared: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"c{k}": rng.integers(0, 101, rows) for k in range(5)})
    frame.to_csv(folder / "ward.csv", index=False)
    wide(5, declared).dump(folder / "ward.yaml")
    monkeypatch.chdir(folder)


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.mark.parametrize("command", [("fit",), ("release",), ("release", "--holdout", 0.5)])
def test_the_command_line_stops_before_it_spends(
    command: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 2, nothing in a ledger and nothing written; with --anyway it goes on, and the statement has the warning."""
    _place(tmp_path, 60, 60, monkeypatch)
    asked = (command[0], "ward.csv", "-s", "ward.yaml", "-e", 1, *command[1:], "--out", "out", "-m", "independent")
    before = sorted(path.name for path in tmp_path.iterdir())
    stopped = _run(*asked)
    assert stopped.exit_code == 2
    assert "expects little but noise" in stopped.output
    assert "What would help: epsilon" in stopped.output
    assert "--anyway" in stopped.output
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    if command != ("release", "--holdout", 0.5):
        done = _run(*asked, "--anyway")
        assert done.exit_code == 0, done.output
        assert done.output.count("expects little but noise") == 1
        name = "out/ledger.json" if command[0] == "fit" else "out/release/privacy.json"
        assert "expects little but noise" in json.loads((tmp_path / name).read_text())["warnings"][0]
    if command == ("release",):
        assert "expects little but noise" in (tmp_path / "out/release/README.md").read_text()


def test_a_part_of_the_patients_is_foreseen_as_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With patients held out, the plan is for those that are left."""
    _place(tmp_path, 50, 1000, monkeypatch)
    given = ("release", "ward.csv", "-s", "ward.yaml", "-e", 1, "--holdout", 0.8, "-m", "independent")
    assert "for about 200 rows" in _run(*given).output


def test_without_a_public_number_it_is_told_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The private number decides nothing: the fit goes on, and the warning stands by the model's noisy number."""
    _place(tmp_path, 60, None, monkeypatch)
    done = _run("fit", "ward.csv", "-s", "ward.yaml", "-e", 1, "-m", "independent")
    assert done.exit_code == 0, done.output
    assert "expects little but noise" in done.output
    assert "declare rows in the schema" in done.output


def test_python_stops_too_unless_told_otherwise(tmp_path: Path) -> None:
    """`fit` raises before it opens a ledger; `anyway=True` goes on; public patients are never refused."""
    frame = pd.DataFrame({f"c{k}": np.arange(60) for k in range(5)})
    ledger = tmp_path / "ledger.jsonl"
    with pytest.raises(InputError, match=r"anyway=True"):
        dpsynth.fit(Cohort.from_pandas(frame, wide(5, 60)), "independent", epsilon=1.0, ledger=ledger)
    assert not ledger.exists()
    model = dpsynth.fit(Cohort.from_pandas(frame, wide(5, 60)), "independent", epsilon=1.0, ledger=ledger, anyway=True)
    assert "noise" in model.statement["warnings"][0]
    public = Cohort.from_pandas(frame, wide(5, 60), public=True)
    assert "warnings" in dpsynth.fit(public, "independent", epsilon=1.0).statement


def test_plan_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dpsynth plan` warns, and its JSON has the words."""
    _place(tmp_path, 5, None, monkeypatch)
    assert "expects little but noise" in _run("plan", "ward.yaml", "-n", 60, "-e", 1).output
    shown = json.loads(_run("plan", "ward.yaml", "-n", 60, "-e", 1, "--json").stdout)
    assert "What would help" in shown["outlook"]
    assert json.loads(_run("plan", "ward.yaml", "-n", 60_000, "-e", 1, "--json").stdout)["outlook"] is None


# -- discovery --------------------------------------------------------------------------------------------------------


def _with_words(folder: Path, words: list[str], **column: Any) -> None:
    discovered = {"type": "categorical", "discover": True, "max_values": 5, **column}
    schema = Schema.parse({"name": "x", "confirmed": True, "columns": {"drug": discovered}})
    schema.dump(folder / "drugs.yaml")
    pd.DataFrame({"drug": words}).to_csv(folder / "drugs.csv", index=False)


@pytest.mark.parametrize("model", ["prism", "independent", "mst", "aim"])
def test_discovery_says_what_it_found(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the console, in the statement and on the card: how many values, and the share of all others."""
    monkeypatch.chdir(tmp_path)
    rare = [f"rare {k}" for k in range(600)]
    _with_words(tmp_path, ["aspirin"] * 900 + ["heparin"] * 1500 + rare)
    done = _run("release", "drugs.csv", "-s", "drugs.yaml", "-e", 3, "-m", model, "-n", 100)
    assert done.exit_code == 0, done.output
    facts = json.loads((tmp_path / "release/privacy.json").read_text())["discovered"]["drug"]
    assert facts["values"] == 2
    assert abs(facts["other"] - 0.2) < 0.1
    assert "column 'drug': 2 values were found under the budget; all others are" in done.output
    card = (tmp_path / "release/README.md").read_text()
    assert "2 values were found" in card
    assert "rare" not in card


def test_discovery_that_finds_nothing_is_loud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no value is common enough, the release says so, loudly."""
    monkeypatch.chdir(tmp_path)
    _with_words(tmp_path, [f"rare {k}" for k in range(400)])
    done = _run("release", "drugs.csv", "-s", "drugs.yaml", "-e", 1, "-n", 100, "-m", "independent")
    assert done.exit_code == 0, done.output
    assert "NO VALUE WAS FOUND" in done.output
    assert "NO VALUE WAS FOUND" in (tmp_path / "release/README.md").read_text()


def test_others_that_are_read_as_missing_have_no_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They cannot be told from what is missing, so no share is claimed."""
    monkeypatch.chdir(tmp_path)
    _with_words(tmp_path, ["aspirin"] * 900 + ["x", "y"], other="missing", missing=True)
    done = _run("fit", "drugs.csv", "-s", "drugs.yaml", "-e", 3, "-m", "independent")
    assert "column 'drug': 1 value was found under the budget." in done.output
