"""The notebooks run from their sources, and the executed ones are made from these sources."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
SOURCES = sorted(NOTEBOOKS.glob("0*.py"))
MOST_BYTES = 600_000


def _cells(source: Path) -> list[tuple[str, str]]:
    """Read a percent script: the kind and the text of each cell."""
    cells = []
    for block in re.split(r"^# %%", source.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        head, _, text = block.partition("\n")
        if head.strip() == "[markdown]":
            cells.append(("markdown", "\n".join(line.removeprefix("#")[1:] for line in text.strip().splitlines())))
        else:
            cells.append(("code", text.strip()))
    return cells


def _executed(source: Path) -> list[dict[str, object]]:
    return json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]  # type: ignore[no-any-return]


def test_all_six_are_there() -> None:
    """The notebooks that the documentation names exist."""
    assert [source.name[:2] for source in SOURCES] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_notebook_runs(source: Path, tmp_path: Path) -> None:
    """A source runs from top to bottom at small size, in an empty folder, and no warning is raised."""
    given = {"DPSYNTH_NOTEBOOK_SMALL": "1", "DPSYNTH_NOTEBOOKS": str(NOTEBOOKS), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(source)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, **given, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_the_executed_notebook_is_of_this_source(source: Path) -> None:
    """The cells of the notebook are those of its source, word for word: run ``notebooks/execute.py`` after a change."""
    found = [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in _executed(source)]  # type: ignore[arg-type]
    assert found == _cells(source)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_the_executed_notebook_shows_what_came_out(source: Path) -> None:
    """Every code cell was run in order, none ended in an error, figures are there, and the file is small."""
    code = [cell for cell in _executed(source) if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]  # type: ignore[attr-defined]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    assert source.with_suffix(".ipynb").stat().st_size < MOST_BYTES


def test_a_change_of_a_source_is_seen(tmp_path: Path) -> None:
    """The comparison of sources fails where a word differs."""
    changed = tmp_path / SOURCES[0].name
    changed.write_text(SOURCES[0].read_text(encoding="utf-8").replace("hospital", "clinic", 1), encoding="utf-8")
    assert _cells(changed) != _cells(SOURCES[0])
