"""Who is held out is secret, kept in internal/ alone, and the same when a run is taken up or judged again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles import Double, registered, ward
from typer.testing import CliRunner, Result

from dpsynth import Cohort, Schema
from dpsynth.cli.app import app
from dpsynth.errors import InputError
from dpsynth.evaluation import Coins, split
from dpsynth.jobs import publish as publishing


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture
def unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the evaluation at the end of a release, which takes seconds."""
    monkeypatch.setattr("dpsynth.jobs.publish.evaluate", lambda *_args, **_facts: None)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with ward.csv and ward.yaml."""
    ward(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def _done(*args: object) -> Result:
    done = _run(*args)
    assert done.exit_code == 0, done.output
    return done


def _cohort() -> Cohort:
    return Cohort.read("ward.csv", Schema.load("ward.yaml"))


def test_the_sides_are_kept_in_internal_alone(place: Path) -> None:
    """The file is the owner's alone, repeats the division, and its secret stands in no other file."""
    _done("release", "ward.csv", "-s", "ward.yaml", "-e", 1, "-m", "double", "--holdout", 0.3)
    path = place / "internal/split.json"
    assert path.stat().st_mode & 0o777 == 0o600
    secret = json.loads(path.read_text())["secret"].encode()
    others = [file for file in place.rglob("*") if file.is_file() and file != path]
    assert len(others) > 8
    assert not [file for file in others if secret in file.read_bytes()]
    kept, results = Coins.read(path), json.loads((place / "internal/results.json").read_text())["results"]
    tested = next(one["n"] for one in results if one["metric"] == "auroc")
    assert len(split(_cohort(), key=kept)[1]) == tested


def test_the_sides_are_kept_where_judging_fails(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was paid for can still be judged by those that were held out."""

    def stopped(*_args: object, **_facts: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dpsynth.jobs.publish.evaluate", stopped)
    with pytest.raises(KeyboardInterrupt):
        publishing.publish(_cohort(), place, Double(), epsilon=1.0, holdout=0.3)
    assert [path.name for path in (place / "internal").iterdir()] == ["split.json"]
    assert _done("evaluate", "--real", "ward.csv", "--synthetic", "release", "--split", "internal/split.json")


def test_another_release_holds_the_same_patients_out(place: Path, unjudged: None) -> None:
    """With --split, and without a share of its own; another share is refused before anything is spent."""
    _done("release", "ward.csv", "-s", "ward.yaml", "-e", 1, "-m", "double", "--holdout", 0.3)
    again = ("release", "ward.csv", "-s", "ward.yaml", "-e", 1, "-m", "double", "--split", "internal/split.json")
    _done("ledger", "raise-limit", "ward.csv", "--epsilon", 9, "--reason", "another model")
    _done(*again, "--out", "second")
    first, second = (
        json.loads((folder / "split.json").read_text()) for folder in (place / "internal", place / "second/internal")
    )
    assert first == second
    refused = _run(*again, "--holdout", 0.2, "--out", "third")
    assert refused.exit_code == 2
    assert "share of 0.3" in refused.output
    assert not (place / "third").exists()


def test_an_evaluation_takes_the_sides_of_the_run(place: Path, unjudged: None) -> None:
    """With --split the whole table is given, and those that were held out test."""
    _done("release", "ward.csv", "-s", "ward.yaml", "-e", 1, "-m", "double", "--holdout", 0.3)
    asked = ("evaluate", "--real", "ward.csv", "--synthetic", "release", "--split", "internal/split.json")
    found = json.loads(_done(*asked, "--json").stdout)
    _, test = split(_cohort(), key=Coins.read("internal/split.json"))
    auroc = next(one for one in found["results"] if (one["metric"], one["arm"]) == ("auroc", "real"))
    assert auroc["n"] == len(test)
    refused = _run(*asked, "--train", "ward.csv")
    assert refused.exit_code == 2
    assert "--split" in refused.output


def test_halves_are_kept_beside_the_page(place: Path) -> None:
    """Without training patients the halves are secret and kept: given again, every number is the same."""
    _done("fit", "ward.csv", "-s", "ward.yaml", "-e", 1, "-m", "double")
    _done("sample", "model", "-n", 200, "--out", "fake.csv")
    asked = ("evaluate", "--real", "ward.csv", "--synthetic", "fake.csv", "-s", "ward.yaml")
    _done(*asked, "--out", "one.html")
    assert (place / "one.split.json").stat().st_mode & 0o777 == 0o600
    _done(*asked, "--split", "one.split.json", "--out", "two.html")
    first, second = (json.loads((place / f"{name}.json").read_text())["results"] for name in ("one", "two"))
    assert first == second
    assert not (place / "two.split.json").exists()


def test_augment_tests_on_those_that_a_run_held_out(place: Path, unjudged: None) -> None:
    """Then the model has not seen them, and no note says that it may have; a fit keeps new sides in a new file."""
    _done("release", "ward.csv", "-s", "ward.yaml", "-e", 1, "-m", "double", "--holdout", 0.3)
    asked = ("augment", "ward.csv", "-s", "ward.yaml", "-g", "sex == 'male'", "--amount", 40)
    assert "look better than they are" in _done(*asked, "--model-folder", "release").output
    done = _done(*asked, "--model-folder", "release", "--split", "internal/split.json")
    assert "look better than they are" not in done.output
    missing = _run(*asked, "--model-folder", "release", "--split", "internal/typo.json")
    assert missing.exit_code == 2
    assert "is not there" in missing.output
    _done("ledger", "raise-limit", "ward.csv", "--epsilon", 9, "--reason", "another model")
    _done(*asked, "-e", 1, "-m", "double", "--split", "sides.json")
    assert Coins.read("sides.json").share == 0.3


@pytest.mark.parametrize("stop", ["before the fit", "after the fit"])
def test_a_run_that_is_taken_up_holds_the_same_patients_out(
    place: Path, unjudged: None, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    """The sides lie beside the checkpoint's folder; a run whose sides are lost is not taken up with others."""
    asked: dict[str, Any] = {"epsilon": 1.0, "holdout": 0.3, "checkpoint": place / "runs/one"}

    def stopped(*_args: object, **_facts: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dpsynth.jobs.publish." + ("fit" if stop == "before the fit" else "bundle"), stopped)
        with pytest.raises(KeyboardInterrupt):
            publishing.publish(_cohort(), place / "out", Double(), **asked)
    kept = place / "runs/one.split.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    before = json.loads(kept.read_text())
    made = publishing.publish(_cohort(), place / "out", Double(), **asked)
    after = json.loads((made.release.parent / "internal/split.json").read_text())
    assert (before["secret"] == after["secret"]) is (stop == "after the fit")
    kept.unlink()
    with pytest.raises(InputError, match=r"one\.split\.json"):
        publishing.publish(_cohort(), place / "again", Double(), **asked)
