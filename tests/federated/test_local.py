"""Hospitals' own releases put together, and the demonstration."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.errors import InputError
from dpsynth.federated.study import Study
from dpsynth.jobs import federate
from dpsynth.jobs.fit import fit
from dpsynth.jobs.local_releases import fit_local, gather_releases
from dpsynth.jobs.release import release
from federated.helpers import NAMES, SCHEMA, Federation, cohorts_of, keys_of, study_of


def released(folder: Path, *, epsilon: float = 1.0, seed: int | None = None) -> dict[str, Path]:
    """Let each hospital release by itself."""
    paths = {}
    for name, cohort in cohorts_of(public=True).items():
        model = fit(cohort, "independent", epsilon=epsilon, anyway=True, seed=seed)
        paths[name] = release(model, folder / name, rows=30)
    return paths


def test_releases_are_put_together_with_what_they_guarantee(tmp_path: Path) -> None:
    """Rows of all, and a statement for a patient at a hospital."""
    paths = released(tmp_path)
    rows = gather_releases(study_of(keys_of()), paths, tmp_path / "together")
    assert len(rows) == 90
    facts = json.loads((tmp_path / "together" / "privacy.json").read_text())
    assert (facts["epsilon"], facts["unit"]) == (1.0, "patient at a hospital")
    assert set(facts["releases"]) == set(NAMES)
    assert (tmp_path / "together" / "patients.csv").is_file()


@pytest.mark.parametrize(("terms", "words"), [({"epsilon": 2.0}, "at most 1"), ({"seed": 1}, "not private")])
def test_releases_that_protect_less_than_agreed_are_refused(terms: dict[str, Any], words: str, tmp_path: Path) -> None:
    """One of a larger epsilon, and one of a fixed seed."""
    with pytest.raises(InputError, match=words):
        gather_releases(study_of(keys_of()), released(tmp_path, **terms), tmp_path / "together")
    assert not (tmp_path / "together").exists()


def test_a_release_that_is_missing_is_named(tmp_path: Path) -> None:
    """All hospitals of the study and no others."""
    with pytest.raises(InputError, match="west"):
        gather_releases(study_of(keys_of()), {"north": tmp_path, "south": tmp_path}, tmp_path / "together")


def test_the_command_puts_releases_together(tmp_path: Path) -> None:
    """``dpsynth federate local``, and what it refuses."""
    paths = released(tmp_path)
    study = tmp_path / "study.yaml"
    study_of(keys_of()).dump(study)
    pairs = [f"{name}={path}" for name, path in paths.items()]
    done = CliRunner().invoke(app, ["federate", "local", str(study), *pairs, "--out", str(tmp_path / "t")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "t" / "patients.parquet").is_file()
    twice = CliRunner().invoke(app, ["federate", "local", str(study), pairs[0], pairs[0], "--out", str(tmp_path / "u")])
    assert twice.exit_code == 2
    bare = CliRunner().invoke(app, ["federate", "local", str(study), "north", "--out", str(tmp_path / "u")])
    assert bare.exit_code == 2


def test_each_hospital_alone_has_a_model_and_rows(tmp_path: Path) -> None:
    """As many rows as each hospital's own noisy count says."""
    study = study_of(keys_of(), model="independent")
    ledgers = {name: tmp_path / f"{name}.jsonl" for name in NAMES}
    alone = fit_local(study, cohorts_of(), ledgers=ledgers)
    assert len(alone.synthetic) == sum(model.rows for model in alone.models.values())
    assert all(path.is_file() for path in ledgers.values())


def test_the_demonstration_releases_and_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hospitals of a small cohort, in the place of SUPPORT2, with the judging left out."""
    cohort = next(iter(cohorts_of(public=True).values()))
    monkeypatch.setattr("dpsynth.datasets.load_support2", lambda: cohort)
    results = SimpleNamespace(select=lambda name, **_: [SimpleNamespace(value={"auroc": 0.7}.get(name, 0.1))])
    monkeypatch.setattr(federate, "evaluate", lambda *_, **__: SimpleNamespace(results=results))
    command = ["federate", "demo", "--model", "independent", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert [row["auroc"] for row in said["judged"]] == [0.7] * 3
    facts = json.loads((tmp_path / "release" / "privacy.json").read_text())
    assert facts["hospitals"]["number"] == 5
    assert facts["private"] is True


def test_a_study_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The digest is that of everything in the file, and of nothing else."""
    study = study_of(keys_of(), asked_anew=0.1, max_hospitals_per_patient=2, options={"bins": 8})
    study.dump(tmp_path / "study.yaml")
    again = Study.load(tmp_path / "study.yaml")
    assert again.digest == study.digest
    assert {study_of(keys_of(), epsilon=e).digest for e in (1.0, 1.0, 2.0)} != {study.digest}
    SCHEMA.dump(tmp_path / "ward.yaml")
    text = (tmp_path / "study.yaml").read_text()
    start, end = text.index("schema:"), text.index("hospitals:")
    (tmp_path / "apart.yaml").write_text(text[:start] + "schema: ward.yaml\n" + text[end:])
    assert Study.load(tmp_path / "apart.yaml").digest == study.digest


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"names": ("north",)}, "hospitals"),
        ({"names": ("north", "south"), "colluding": 0}, "each must add all"),
        ({"colluding": 3}, "at most 2"),
        ({"max_hospitals_per_patient": 4}, "more than the 3"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"asked_anew": 0.9}, "asked_anew"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_study_that_protects_nobody_is_refused(terms: dict[str, Any], words: str, tmp_path: Path) -> None:
    """The message names the field."""
    with pytest.raises(InputError, match=words):
        Federation(tmp_path, **terms)
