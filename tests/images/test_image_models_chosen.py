"""A schema of images never loses them without a word: a model of images is chosen, or the run stops at no cost."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import pictures
from typer.testing import CliRunner, Result

import dpsynth
from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.jobs.audit import Auditor
from dpsynth.jobs.augment import augment
from dpsynth.jobs.fit import DEFAULT_IMAGE_MODEL, default_model
from dpsynth.jobs.sweep import sweep
from dpsynth.schema import Schema

SCHEMA: dict[str, Any] = {
    "name": "scans",
    "confirmed": True,
    "target": "label",
    "columns": {
        "label": {"type": "boolean", "labels": [0, 1]},
        "sex": {"type": "categorical", "values": ["f", "m"]},
    },
    "images": {"size": [6, 5]},
}
ROWS = 400


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with scans.npz and scans.yaml."""
    rng = np.random.default_rng(0)
    labels, sex = rng.integers(0, 2, ROWS), rng.choice(["f", "m"], ROWS)
    np.savez(tmp_path / "scans.npz", train_images=pictures(ROWS, 6, 5), train_labels=labels, train_sex=sex)
    Schema.parse(SCHEMA).dump(tmp_path / "scans.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def _cohort(place: Path, *, public: bool = False) -> Cohort:
    return Cohort.read(place / "scans.npz", Schema.load(place / "scans.yaml"), public=public)


GIVEN = ("-s", "scans.yaml", "-e", 10)


def test_the_default_is_by_the_schema() -> None:
    """Images get a model of images, tables one of tables, and images left out on purpose too."""
    schema = Schema.parse(SCHEMA)
    assert default_model(schema) == DEFAULT_IMAGE_MODEL
    assert default_model(schema, without_images=True) == default_model(schema.model_copy(update={"images": None}))


def test_release_learns_table_and_images(place: Path) -> None:
    """As in the help, without --model: the model is named on the console and in the statement, images are there."""
    done = _run("release", "scans.npz", *GIVEN)
    assert done.exit_code == 0, done.output
    assert f"model: {DEFAULT_IMAGE_MODEL}, because the schema declares images" in done.output
    statement = json.loads((place / "release/privacy.json").read_text())
    assert (statement["model"]["name"], statement["model"]["images"]) == (DEFAULT_IMAGE_MODEL, "learned")
    assert len(list((place / "release/data/images").iterdir())) > ROWS / 2
    ratio = f"noise over contrast is {statement['images']['noise_over_contrast']:.2f}"
    assert ratio in " ".join(done.output.split())
    assert ratio in (place / "release/README.md").read_text()
    drawn = Cohort.read(place / "release/data", Schema.parse(SCHEMA), synthetic=True)
    assert set(drawn.columns) == {"label", "sex"}


@pytest.mark.parametrize("command", ["fit", "release"])
def test_a_model_of_tables_stops_before_it_spends(command: str, place: Path) -> None:
    """Named on a schema of images it is refused, with what to do; said on purpose, it learns the table alone."""
    stopped = _run(command, "scans.npz", *GIVEN, "--model", "prism")
    assert stopped.exit_code == 2
    assert "--without-images" in stopped.output
    assert not list(place.glob("*.ledger.jsonl"))
    done = _run(command, "scans.npz", *GIVEN, "--without-images", "--out", "out")
    assert done.exit_code == 0, done.output
    stated = json.loads(
        (place / {"fit": "out/ledger.json", "release": "out/release/privacy.json"}[command]).read_text()
    )
    assert (stated["model"]["name"], stated["model"]["images"]) == ("prism", "left out on purpose")


def test_plan_and_its_help(place: Path) -> None:
    """`plan` plans what a fit would do, on the command line and in Python."""
    done = _run("plan", "scans.yaml", "--rows", 5000, "--epsilon", 10)
    assert done.exit_code == 0, done.output
    assert "moments" in done.output
    assert "noise in a drawn image" in done.output
    assert _run("plan", "scans.yaml", "-n", 5000, "-e", 10, "-m", "prism").exit_code == 2
    assert _run("plan", "scans.yaml", "-n", 5000, "-e", 10, "--without-images").exit_code == 0
    schema = Schema.load(place / "scans.yaml")
    assert dpsynth.plan(schema, epsilon=10, rows=5000).model == DEFAULT_IMAGE_MODEL
    with pytest.raises(InputError, match="without_images=True"):
        dpsynth.plan(schema, epsilon=10, rows=5000, model="mst")


def test_python(place: Path) -> None:
    """`fit(cohort)` learns the images; a model of tables is refused; a table read alone is no cohort of images."""
    assert dpsynth.fit(_cohort(place), epsilon=10).sample(20).images is not None
    with pytest.raises(InputError, match="would be lost"):
        dpsynth.fit(_cohort(place), "prism", epsilon=10)
    table = Cohort.from_pandas(_cohort(place).to_pandas(), Schema.parse(SCHEMA), public=True)
    with pytest.raises(InputError, match="read from a table"):
        dpsynth.fit(table, epsilon=10)
    assert dpsynth.fit(table, "independent", epsilon=10, without_images=True).sample(20).images is None
    plain = Schema.parse({**SCHEMA, "images": None})
    with pytest.raises(InputError, match="declares no images; leave it out"):
        dpsynth.plan(plain, epsilon=1, rows=100, without_images=True)


def test_augment_sweep_and_audit(place: Path) -> None:
    """They keep the same rule, and stop before the first fit."""
    cohort = _cohort(place, public=True)
    for call in (
        lambda: augment(cohort, {"sex": "f"}, model="prism", epsilon=10.0, amount=5),
        lambda: sweep(cohort, [10.0], models=["prism"]),
        lambda: Auditor(cohort, "prism", epsilon=10.0, runs=8, patients=50),
    ):
        with pytest.raises(InputError, match="would be lost"):
            call()
    (run,) = list(sweep(cohort, [10.0], seeds=1))
    assert run.model == DEFAULT_IMAGE_MODEL
    found = augment(cohort, {"sex": "f"}, epsilon=10.0, amount=5)
    assert found.statement["model"]["name"] == DEFAULT_IMAGE_MODEL
    alone = augment(cohort, {"sex": "f"}, model="independent", epsilon=10.0, without_images=True)
    assert alone.statement["model"]["images"] == "left out on purpose"
