"""``dpsynth audit``: what it prints, saves and returns, for models, releases, lies and interruptions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from planted_bugs import plants
from typer.testing import CliRunner

import dpsynth
from dpsynth.cli.app import app
from dpsynth.errors import ModelFormatError
from dpsynth.evaluation.audit.outcome import AuditVerdict
from dpsynth.jobs.audit import Auditor, audit_release

SCHEMA = """
name: ward
confirmed: true
columns:
  sex: {type: categorical, values: [female, male]}
  dx: {type: categorical, discover: true, max_values: 4}
  died: {type: boolean, labels: [0, 1]}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with a small public cohort and its schema."""
    frame = pd.DataFrame({"sex": ["female", "male"] * 40, "dx": ["flu"] * 80, "died": [0, 0, 1, 0] * 20})
    frame.to_csv(tmp_path / "ward.csv", index=False)
    (tmp_path / "ward.yaml").write_text(SCHEMA)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def release(place: Path) -> Path:
    """Return a release of that cohort."""
    cohort = dpsynth.Cohort.read("ward.csv", dpsynth.Schema.load("ward.yaml"), public=True)
    return Path(dpsynth.release(dpsynth.fit(cohort, "independent", epsilon=2.0), "release", rows=30))


def command(*words: object) -> Any:
    """Run the command."""
    return CliRunner().invoke(app, ["audit", *map(str, words)])


def test_a_model_is_audited_and_the_audit_is_saved(place: Path) -> None:
    """The table names bound, ceiling and claim, the verdict is in words, and audit.json holds the same."""
    result = command("independent", "--epsilon", 4, "--runs", 20, "--confidence", 0.999999)
    assert result.exit_code == 0, result.output
    for words in ("white-box", "black-box", "ceiling", "claim: epsilon 4", "none found at this power"):
        assert words in result.output
    saved = json.loads((place / "audit.json").read_text())
    assert saved["verdict"] == "none found at this power"
    assert saved["claim"]["epsilon"] == 4
    assert {bound["method"] for attack in saved["attacks"] for bound in attack["bounds"]} == {
        "trade-off curve",
        "Gaussian curve",
    }
    assert all(bound["epsilon"] <= bound["ceiling"] for attack in saved["attacks"] for bound in attack["bounds"])


def test_a_broken_model_is_a_violation_and_exit_code_1(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With noise that repeats, the command says so and returns 1; --json prints what is saved."""
    plants.noise_predictable(monkeypatch)
    result = command("independent", "-e", 4, "-n", 60, "--json")
    assert result.exit_code == 1, result.output
    assert json.loads(result.stdout)["verdict"] == "violation found"
    assert json.loads((place / "audit.json").read_text())["verdict"] == "violation found"


def test_a_release_is_checked_without_data_and_not_attacked(release: Path) -> None:
    """Without a cohort the ledger and rows are checked, the attacks are not run, and nothing else is claimed."""
    result = command(release)
    assert result.exit_code == 0, result.output
    assert "not run: needs a public cohort" in result.output
    assert "its files: consistent" in result.output
    audit = audit_release(release)
    assert (audit.verdict, audit.of_checks) == (AuditVerdict.NOT_RUN, AuditVerdict.CONSISTENT)
    assert [attack.verdict for attack in audit.attacks] == [AuditVerdict.NOT_RUN] * 2
    assert {check.verdict for check in audit.checks} <= {AuditVerdict.CONSISTENT, AuditVerdict.NOT_RUN}


def test_a_release_is_attacked_on_a_public_cohort(release: Path, place: Path) -> None:
    """With a public cohort the release's own model, options and budget are played; discovery makes the claim plain."""
    words = (
        "--cohort",
        "ward.csv",
        "--schema",
        "ward.yaml",
        "--public",
        "--runs",
        10,
        "--canary",
        "crowd",
        "--confidence",
        0.999999,
    )
    result = command(release, *words, "--json")
    assert result.exit_code == 0, result.output
    saved = json.loads((place / "audit.json").read_text())
    assert saved["model"]["name"] == "independent"
    assert saved["claim"] == {"epsilon": 2.0, "delta": 1e-6, "gaussian": False, "mu": None}
    assert {attack["canary"] for attack in saved["attacks"]} == {"crowd"}
    assert len(saved["checks"]) >= 6


def edited(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Return an edit of a JSON file of a release."""

    def act(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        change(value)
        (folder / name).write_text(json.dumps(value))

    return act


def foreign_row(folder: Path) -> None:
    """Put a value into the rows that nobody paid for."""
    path = folder / "data" / "patients.parquet"
    frame = pd.read_parquet(path)
    frame["dx"] = frame["dx"].astype(object)
    frame.loc[0, "dx"] = "Zenker"
    frame.to_parquet(path)


LIES: dict[str, Callable[[Path], None]] = {
    "epsilon below what was spent": edited("privacy.json", lambda s: s.update(epsilon=0.5)),
    "spent understated": edited("privacy.json", lambda s: s.update(epsilon_spent=0.1)),
    "noise overstated": edited("privacy.json", lambda s: s["events"][1].update(scale=1000.0)),
    "an event left out": edited("privacy.json", lambda s: s["events"].pop()),
    "made with a seed": edited("privacy.json", lambda s: s.update(private=False)),
    "discovery hidden": edited("privacy.json", lambda s: s.update(delta_for_discovery=0.0)),
    "another model inside": edited("model/ledger.json", lambda s: s.update(epsilon=9.0)),
    "a value that nobody paid for": foreign_row,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_release_that_lies_is_a_violation(lie: Callable[[Path], None], release: Path) -> None:
    """Each lie in a release's own files is found without any data, with exit code 1."""
    lie(release)
    assert audit_release(release).verdict is AuditVerdict.VIOLATION
    assert command(release).exit_code == 1


def test_a_trade_off_that_promises_too_much_is_a_violation(place: Path) -> None:
    """Points above the curve of the events are found, where the curve is Gaussian."""
    schema = dpsynth.Schema.parse(SCHEMA.replace("  dx: {type: categorical, discover: true, max_values: 4}\n", ""))
    cohort = dpsynth.Cohort.from_pandas(pd.read_csv("ward.csv").drop(columns="dx"), schema, public=True)
    folder = Path(dpsynth.release(dpsynth.fit(cohort, "independent", epsilon=2.0), "plain"))
    assert audit_release(folder).of_checks is AuditVerdict.CONSISTENT
    edited("privacy.json", lambda s: s["trade_off"][3].update(min_false_negative_rate=0.99))(folder)
    refuted = [check.name for check in audit_release(folder).checks if check.verdict is AuditVerdict.VIOLATION]
    assert any("trade-off" in name for name in refuted)


@pytest.mark.parametrize(
    "content", ["[]", "{}", "{", '{"events": 3}', '{"private": true, "events": [{}], "epsilon": "x"}']
)
def test_a_foreign_statement_is_refused(release: Path, content: str) -> None:
    """A privacy.json that is none ends with a message and exit code 2."""
    (release / "privacy.json").write_text(content)
    result = command(release)
    assert result.exit_code == 2, result.output
    assert "privacy.json" in result.output


def test_ctrl_c_judges_what_was_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption ends with exit code 130 and a saved audit that says what was not run."""

    def stop(*_args: object, **_facts: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Auditor, "run", stop)
    result = command("independent", "-e", 1, "-n", 20)
    assert result.exit_code == 130
    assert json.loads((place / "audit.json").read_text())["verdict"] == "not run"


@pytest.mark.parametrize(
    "words",
    [
        ("independent",),
        ("nobody", "-e", 1),
        ("independent", "-e", 1, "--cohort", "ward.csv", "--schema", "ward.yaml"),
        ("independent", "-e", 1, "--cohort", "ward.csv", "--public"),
        ("independent", "-e", 1, "--public"),
        ("independent", "-e", 1, "--runs", 1),
        ("independent", "-e", 1, "--canary", "bird"),
        ("independent", "-e", -1),
        ("independent", "-e", 1, "--out", "ward.csv"),
        (".", "-e", 1),
        (".",),
    ],
)
def test_bad_input_is_refused(words: tuple[object, ...], place: Path) -> None:
    """What is missing, unknown or out of range ends with exit code 2, and nothing is written."""
    result = command(*words)
    assert result.exit_code == 2, result.output
    assert "error:" in result.output
    assert not (place / "audit.json").exists()


def test_no_release_no_audit(tmp_path: Path) -> None:
    """A folder without a privacy statement is no release."""
    with pytest.raises(ModelFormatError, match=r"privacy\.json"):
        audit_release(tmp_path)
