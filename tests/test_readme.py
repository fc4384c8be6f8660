"""The README says what is so: its commands exist, its example runs, and CI runs its test command."""

import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from typer.main import get_command

from dpsynth.cli.app import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in fences if name == language]


def test_the_two_commands() -> None:
    """The README's first two jobs are one line each: install and demo, install and test."""
    lines = [block.strip() for block in _blocks("")]
    assert "pip install . && dpsynth demo" in lines
    assert 'pip install -e ".[all,test]" && pytest' in lines


def test_ci_runs_the_command_of_the_readme() -> None:
    """The pattern by which .ci/run looks for the test command finds it in the README."""
    pattern = re.search(r"grep -m1 -oE '([^']+)'", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert pattern is not None
    found = subprocess.run(
        ["grep", "-m1", "-oE", pattern[1], "README.md"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == 'pip install -e ".[all,test]" && pytest'


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python example is about 20 lines and makes a release, as it stands."""
    (example,) = _blocks("python")
    assert len(example.splitlines()) <= 24
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102  (our own README)
    assert set(names["women"].to_pandas()["sex"]) == {"female"}  # type: ignore[attr-defined]
    assert list(pd.read_parquet("release/data/patients.parquet").columns) == ["age", "sex", "died"]


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^(?:\| `)?dpsynth [a-z].*", README, flags=re.MULTILINE))))
def test_commands_exist(line: str) -> None:
    """Every command that the README names exists, with the options that it is shown with."""
    words = line.split("#", maxsplit=1)[0].strip("| `").split("`")[0].split()
    command = get_command(app)
    while (inner := getattr(command, "commands", {}).get(words[1] if len(words) > 1 else "")) is not None:
        command = inner
        words = words[1:]
    assert command is not get_command(app)
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options, line
