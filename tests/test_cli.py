"""The command line: help, JSON, files, conditions, exit codes."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from doubles import Double, registered, ward
from typer.testing import CliRunner, Result

import dpsynth
from dpsynth.cli.app import app
from dpsynth.cli.common import parse_options
from dpsynth.columns.written_conditions import parse_conditions
from dpsynth.errors import InputError

COMMANDS = (
    *(
        "plan",
        "fit",
        "sample",
        "release",
        "evaluate",
        "audit",
        "augment",
        "models",
        "doctor",
        "demo",
        "ledger show",
        "ledger raise-limit",
    ),
    *("federate key", "federate join", "federate release", "federate local", "federate demo"),
    *("schema draft", "schema check", "schema json-schema", "schema from-sdv", "schema from-redcap", "schema to-sdv"),
)
README = Path(__file__).parent.parent / "README.md"


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with ward.csv and ward.yaml."""
    ward(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def _done(*args: object) -> Result:
    result = _run(*args)
    assert result.exit_code == 0, result.output
    return result


def _json(*args: object) -> Any:
    return json.loads(_done(*args, "--json").stdout)


def _walk(command: Any, name: str = "") -> Iterator[str]:
    if not hasattr(command, "commands"):
        yield name.strip()
    for key, inner in getattr(command, "commands", {}).items():
        yield from _walk(inner, f"{name} {key}")


def test_the_commands() -> None:
    """The commands are those that these tests know."""
    from typer.main import get_command

    assert sorted(_walk(get_command(app))) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    """Each command has help with an example of itself, and stands in the README."""
    text = _done(*command.split(), "--help").output
    assert f"dpsynth {command}" in text.split("For example:")[1]
    words = command.split()
    row = re.search(rf"\| `dpsynth {words[0]}\b.*", README.read_text(encoding="utf-8"))
    assert row is not None
    assert words[-1] in row[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fills_its_lines(command: str) -> None:
    """A paragraph of help is broken where the terminal ends, not where the source is; its examples are not joined."""
    from typer.main import get_command

    found: Any = get_command(app)
    for word in command.split():
        found = found.commands[word]
    text, examples = found.help.split("For example:")
    assert all("\n" not in paragraph for paragraph in text.strip().split("\n\n"))
    assert all(line.startswith("    dpsynth ") for line in examples.splitlines() if line)


def test_version() -> None:
    """--version prints the version and nothing else."""
    assert _done("--version").stdout == f"{dpsynth.__version__}\n"


def test_no_default_epsilon(place: Path) -> None:
    """A fit, a plan and a release without epsilon are bad input."""
    for command in (
        ("fit", "ward.csv", "-s", "ward.yaml"),
        ("plan", "ward.yaml", "-n", 9),
        ("release", "ward.csv", "-s", "ward.yaml"),
    ):
        result = _run(*command)
        assert result.exit_code == 2
        assert "--epsilon" in result.output
    assert not list(place.glob("*.jsonl"))


def test_plan(place: Path) -> None:
    """A plan gives budget, rows and items, as JSON or as a table, and leaves no ledger."""
    plan = _json("plan", "ward.yaml", "--rows", 9000, "--epsilon", 1)
    assert (plan["epsilon"], plan["delta"], plan["rows"]) == (1.0, 1e-6, 9000)
    assert plan["items"][0]["sigma"] > 0
    assert "noise per cell" in _done("plan", "ward.yaml", "--rows", 9000, "--epsilon", 1).output
    assert not list(place.glob("*.jsonl"))


@pytest.mark.parametrize("rows", [[], ["--rows", 0]], ids=["none", "zero"])
def test_plan_needs_rows(place: Path, rows: list[Any]) -> None:
    """A plan for a schema without a public row count asks for one."""
    assert _run("plan", "ward.yaml", "--epsilon", 1, *rows).exit_code == 2


def test_fit_sample_release(place: Path) -> None:
    """A fitted model can be sampled and released from the command line, and only the fit spends."""
    fitted = _json("fit", "ward.csv", "-s", "ward.yaml", "-e", 1, "--label", "first")
    assert fitted["model"] == "model"
    assert fitted["spent"]["epsilon"] == 1.0
    sampled = _json(
        "sample", "model", "-n", 50, "--where", "age >= 80", "--where", "sex == 'male'", "-o", "old.parquet"
    )
    assert sampled == {"file": "old.parquet", "rows": 50, "private": True}
    old = pd.read_parquet(place / "old.parquet")
    assert (old["age"] >= 80).all()
    assert set(old["sex"]) == {"male"}
    released = _json("release", "model", "--rows", 70)
    assert released["rows"] == 70
    assert pd.read_csv(place / "release/data/patients.csv").shape == (70, 4)
    ledger = _json("ledger", "show", "ward.csv")
    assert [(run["label"], run["state"]) for run in ledger["runs"]] == [("first", "done")]
    assert ledger["spent"]["epsilon"] <= ledger["limit"]["epsilon"] == 1.0


def test_sample_to_the_output_stream(place: Path) -> None:
    """With --out - the output stream holds CSV and nothing else."""
    _done("fit", "ward.csv", "-s", "ward.yaml", "-e", 1)
    text = _done("sample", "model", "-n", 3, "-o", "-").stdout
    assert text.splitlines()[0] == "age,sex,lactate,died"
    assert len(text.splitlines()) == 4
    assert not (place / "synthetic.csv").exists()


def test_release_and_judge(place: Path) -> None:
    """A release with held-out patients writes both folders and prints what was spent, how close and how useful."""
    text = _done("release", "ward.csv", "-s", "ward.yaml", "-e", 1, "--holdout", 0.3, "--out", "study").output
    for words in ("what was spent", "how close", "how useful", "safe to publish", "not to be published"):
        assert words in text
    assert (place / "study/release/privacy.json").is_file()
    assert (place / "study/internal/results.json").is_file()
    judged = _json("evaluate", "--real", "ward.csv", "--synthetic", "study/release", "-s", "ward.yaml")
    assert judged["audience"] == "internal"
    assert judged["privacy"]["epsilon"] == 1
    assert {"tvd_1way", "auroc"} <= {result["metric"] for result in judged["results"]}
    assert (
        "trained on real"
        in _done("evaluate", "--real", "ward.csv", "--synthetic", "study/release", "-s", "ward.yaml").output
    )


@pytest.mark.parametrize(
    "given", [["--epsilon", 1], ["--schema", "ward.yaml"], ["--seed", 1], ["--holdout", 0.2]], ids=str
)
def test_a_model_has_no_budget_to_spend(place: Path, given: list[Any]) -> None:
    """Releasing a saved model refuses what only a fit can use."""
    _done("fit", "ward.csv", "-s", "ward.yaml", "-e", 1)
    result = _run("release", "model", *given)
    assert result.exit_code == 2
    assert given[0] in result.output
    assert not (place / "release").exists()


def test_raising_the_limit(place: Path) -> None:
    """A second fit is refused until the limit is raised with a reason, which the ledger keeps."""
    _done("fit", "ward.csv", "-s", "ward.yaml", "-e", 1)
    refused = _run("fit", "ward.csv", "-s", "ward.yaml", "-e", 1, "-o", "second")
    assert refused.exit_code == 3
    assert "raise-limit" in refused.output
    assert not (place / "second").exists()
    assert _run("ledger", "raise-limit", "ward.csv", "-e", 3, "--reason", " ").exit_code == 2
    assert _json("ledger", "raise-limit", "ward.csv", "-e", 3, "--reason", "board")["limit"]["epsilon"] == 3
    assert "board" in (place / "ward.csv.ledger.jsonl").read_text()
    _done("fit", "ward.csv", "-s", "ward.yaml", "-e", 1, "-o", "second")


def test_an_exhausted_delta_is_shown_as_delta(place: Path) -> None:
    """Finding values spends delta: `ledger show` says what is left and that it ends first; the refusal names it."""
    text = (place / "ward.yaml").read_text(encoding="utf-8")
    found = text.replace("values: [female, male]", "discover: true, max_values: 3")
    assert found != text
    (place / "found.yaml").write_text(found, encoding="utf-8")
    _done("fit", "ward.csv", "-s", "found.yaml", "-e", "1", "--limit", 20, "--delta", "1e-6", "-o", "first")
    shown = _json("ledger", "show", "ward.csv")
    assert shown["delta"] == {"spent": 5e-7, "limit": 1e-6, "left": 5e-7}
    assert (shown["ends_first"], shown["epsilon"]["limit"]) == ("delta", 20)
    assert shown["epsilon"]["left"] > 15
    told = " ".join(_done("ledger", "show", "ward.csv").output.split())
    assert "delta: 5e-07 of 1e-06 spent, 5e-07 left" in told
    assert "Delta ends first" in told
    refused = _run("fit", "ward.csv", "-s", "found.yaml", "-e", "1", "--delta", "1e-6", "-o", "second")
    assert refused.exit_code == 3
    assert "delta is exhausted" in " ".join(refused.output.split())


def test_another_ledger(place: Path) -> None:
    """A ledger that is named is used in place of the one beside the data, which leads to it from then on."""
    _done("fit", "ward.csv", "-s", "ward.yaml", "-e", 1, "--ledger", "ours.jsonl", "--limit", 2)
    shown = _json("ledger", "show", "--ledger", "ours.jsonl")
    assert (shown["ledger"], shown["limit"]["epsilon"]) == ("ours.jsonl", 2)
    assert _json("ledger", "show", "ward.csv") == shown
    assert _json("ledger", "show", "--ledger", "ward.csv.ledger.jsonl") == shown
    _done("fit", "ward.csv", "-s", "ward.yaml", "-e", "0.5", "-o", "second")
    assert len(_json("ledger", "show", "--ledger", "ours.jsonl")["runs"]) == 2
    refused = _run("fit", "ward.csv", "-s", "ward.yaml", "-e", "0.1", "-o", "third", "--ledger", "theirs.jsonl")
    assert refused.exit_code == 2
    assert "would forget it" in " ".join(refused.output.split())
    assert not (place / "theirs.jsonl").exists()
    assert _run("ledger", "show").exit_code == 2


def test_another_ledger_cannot_forget_what_was_spent(place: Path) -> None:
    """Beside a ledger that is there no other one is taken, by name or as a copy; its own name, or a link, is."""
    _done("fit", "ward.csv", "-s", "ward.yaml", "-e", 1, "--limit", 4)
    own = place / "ward.csv.ledger.jsonl"
    (place / "copy.jsonl").write_bytes(own.read_bytes())
    before = own.read_bytes()
    for other in ("other.jsonl", "copy.jsonl"):
        refused = _run("fit", "ward.csv", "-s", "ward.yaml", "-e", 1, "-o", "second", "--ledger", other)
        assert refused.exit_code == 2
        assert "ward.csv.ledger.jsonl beside the data" in refused.output
        assert f"{other} is another file" in refused.output
        assert own.read_bytes() == before
    assert not (place / "other.jsonl").exists()
    (place / "link.jsonl").symlink_to(own)
    _done("fit", "ward.csv", "-s", "ward.yaml", "-e", 1, "-o", "second", "--ledger", "link.jsonl")
    _done("fit", "ward.csv", "-s", "ward.yaml", "-e", 1, "-o", "third", "--ledger", "ward.csv.ledger.jsonl")
    assert len(_json("ledger", "show", "ward.csv")["runs"]) == 3


def test_models() -> None:
    """The list of models names the default and each model's options."""
    listed = _json("models")
    assert listed["default"] == "double"
    assert listed["models"][0]["options"]["floor"]["default"] == 0.0
    assert "double (default)" in _done("models").output


def test_options_reach_the_model(place: Path) -> None:
    """--option reaches the constructor, is stated in the release, and an unknown one is refused before spending."""
    assert _run("fit", "ward.csv", "-s", "ward.yaml", "-e", 1, "--option", "epsilon=50").exit_code == 2
    assert not list(place.glob("*.jsonl"))
    fitted = _json("fit", "ward.csv", "-s", "ward.yaml", "-e", 1, "--option", "floor=2.5")
    assert fitted["spent"]["model"]["options"] == {"floor": 2.5}


@pytest.mark.parametrize("text", ["floor", "=1", "a b=1"])
def test_options_are_checked(text: str) -> None:
    """What is not NAME=VALUE is refused; so is a name that is given twice."""
    with pytest.raises(InputError, match="expected NAME=VALUE"):
        parse_options([text])
    with pytest.raises(InputError, match="twice"):
        parse_options(["a=1", "a=2"])


def test_a_seed_is_loud(place: Path) -> None:
    """A seeded release says on the screen that it is not private."""
    assert "NOT PRIVATE" in _done("release", "ward.csv", "-s", "ward.yaml", "-e", 1, "--seed", 1).output


def test_schema_check(place: Path) -> None:
    """A schema that is fine is shown; with --data the table is checked against it."""
    assert _json("schema", "check", "ward.yaml")["confirmed"] is True
    assert "keeps the schema" in _done("schema", "check", "ward.yaml", "--data", "ward.csv").output


def test_schema_draft(place: Path) -> None:
    """A drafted schema is not confirmed, fits the table that it was drafted from, and is not written over."""
    _done("schema", "draft", "ward.csv", "-o", "draft.yaml")
    assert _json("schema", "check", "draft.yaml", "--data", "ward.csv")["confirmed"] is False
    assert _run("schema", "draft", "ward.csv", "-o", "draft.yaml").exit_code == 2
    assert "confirmed: false" in _done("schema", "draft", "ward.csv").stdout
    assert _run("fit", "ward.csv", "-s", "draft.yaml", "-e", 1).exit_code == 2
    assert not list(place.glob("*.jsonl"))


def test_sdv_metadata(place: Path) -> None:
    """A schema goes to SDV metadata and back as a draft with the same columns."""
    _done("schema", "to-sdv", "ward.yaml", "-o", "metadata.json")
    _done("schema", "from-sdv", "metadata.json", "-o", "again.yaml")
    again = _json("schema", "check", "again.yaml")
    assert again["confirmed"] is False
    assert list(again["columns"]) == ["age", "sex", "lactate", "died"]


def test_json_schema(place: Path) -> None:
    """The printed JSON Schema accepts the ward's schema."""
    import jsonschema
    import yaml

    validator = jsonschema.Draft202012Validator(json.loads(_done("schema", "json-schema").stdout))
    ward = yaml.safe_load((place / "ward.yaml").read_text())
    assert [fault.message for fault in validator.iter_errors(ward)] == []
    assert not validator.is_valid({**ward, "taget": "died"})


PATIENT = "Jane-Doe-1234"


@pytest.mark.parametrize("debug", [False, True])
def test_a_fault_of_ours(place: Path, monkeypatch: pytest.MonkeyPatch, *, debug: bool) -> None:
    """An unexpected error exits 1 without its text, which may hold a patient's value; DPSYNTH_DEBUG=1 shows it."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(PATIENT)

    monkeypatch.setattr(Double, "fit", fail)
    if debug:
        monkeypatch.setenv("DPSYNTH_DEBUG", "1")
    result = _run("fit", "ward.csv", "-s", "ward.yaml", "-e", 1)
    assert result.exit_code == 1
    assert "a fault in dpsynth (RuntimeError)" in result.output
    assert (PATIENT in result.output) is debug


def test_interrupt_of_the_process(place: Path) -> None:
    """Ctrl-C of the real process ends with exit code 130, one line and no traceback, and the ledger holds the run.

    The signal is sent when the fit has begun, and the fit goes on until it comes: a busy machine may take its time.
    """
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import doubles, signal, time\n"
        "from dpsynth.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start tests with it ignored\n"
        "def fit(*_, **__):\n"
        "    print('fitting', flush=True)\n"
        "    time.sleep(300)\n"
        "doubles.Double.fit = fit\n"
        "with doubles.registered(): main()\n"
    )
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", code, here, "fit", "ward.csv", "-s", "ward.yaml", "-e", "1"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "fitting\n", child.communicate()[1]
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=240)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 130, said
    assert said.splitlines()[-1] == "interrupted; what was spent is in the ledger"
    assert "Traceback" not in said
    assert len(_json("ledger", "show", "ward.csv")["runs"]) == 1
    assert not (place / "model").exists()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["age >= 80"], {"age": {"min": 80}}),
        (["age>=80", "age <= 90.5"], {"age": {"min": 80, "max": 90.5}}),
        (["race == 'black'"], {"race": "black"}),
        (['race == "black"'], {"race": "black"}),
        (["race==black"], {"race": "black"}),
        (["edu is missing"], {"edu": None}),
        (["dose in [1, 2.5, 'a,b', true]"], {"dose": [1, 2.5, "a,b", True]}),
        (["`a == b` == 'x'"], {"a == b": "x"}),
        (["'1st visit' <= 2020-01-31"], {"1st visit": {"max": "2020-01-31"}}),
        (["größe (cm) >= -1e3"], {"größe (cm)": {"min": -1000.0}}),
        (["x == nan"], {"x": "nan"}),
        (["main == 3"], {"main": 3}),
    ],
    ids=str,
)
def test_conditions(texts: list[str], expected: dict[str, Any]) -> None:
    """Conditions are read as a person means them."""
    assert parse_conditions(texts) == expected


@pytest.mark.parametrize(
    "texts",
    [
        *(["age > 80"], ["age"], ["__import__('os').system('true')"], ["== 3"], ["x =="], ["x in []"], ["x == 'a"]),
        *(["x == a,b"], ["x = 3"], [""], ["a >= 1; b == 2"], ["a >= high"], ["a == 1", "a == 2"], ["a >= 1", "a >= 2"]),
    ],
    ids=str,
)
def test_conditions_that_are_none(texts: list[str]) -> None:
    """What has none of the forms is refused and never evaluated."""
    with pytest.raises(InputError, match="where"):
        parse_conditions(texts)
