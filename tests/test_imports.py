"""The floors of the house: imports point down only, and what is heavy is loaded where it is used."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"dpsynth": ROOT / "dpsynth", "dpsynth.models": ROOT / "models", "dpsynth.evaluation": ROOT / "evaluation"}
# from the ground to the roof; a module imports from its own room and from lower rows, never from beside or above
ROWS = (
    ("errors",),
    ("progress", "atomic"),
    ("columns",),
    ("schema",),
    ("files",),
    ("cohort",),
    ("drafting",),
    ("checking",),
    ("datasets",),
    ("coding",),
    ("sources",),
    ("privacy",),
    ("models", "evaluation", "federated"),
    ("publishing",),
    ("jobs",),
    ("cli",),
    ("__main__",),
)
HEIGHTS = {room: height for height, row in enumerate(ROWS) for room in row}
WORDS = {"release", "fit", "plan", "evaluate", "load"}


def _modules() -> Iterator[tuple[str, Path]]:
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(part for part in parts if part != "__init__"))), path


MODULES = dict(_modules())
ROOMS = {name for name, path in MODULES.items() if path.name == "__init__.py"}


def _imported(path: Path) -> Iterator[str]:
    """Yield what a file imports, also in functions and for types alone: modules, and names as ``module.name``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _module(target: str) -> str:
    """Return the module of ours that an imported name lives in; empty for what is not ours."""
    while target and target not in MODULES:
        target = target.rpartition(".")[0]
    return target


def _edges() -> dict[str, set[str]]:
    """Return for each module the modules of ours that it imports; the names of `dpsynth` itself are for users."""
    found = {name: {_module(target) for target in _imported(path)} - {name, ""} for name, path in MODULES.items()}
    return {name: targets - {"dpsynth"} for name, targets in found.items() if name != "dpsynth"}


EDGES = _edges()


def _room(name: str) -> str:
    """Return the room of a module, which stands after ``dpsynth.``."""
    return name.split(".")[1]


def _circle(edges: dict[str, set[str]]) -> list[str]:
    """Return a circle of modules that import each other, the first also last; empty where there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def _runs_up(name: str, target: str) -> bool:
    """Whether an import leaves its room for one that is not below."""
    return _room(name) != _room(target) and HEIGHTS[_room(target)] >= HEIGHTS[_room(name)]


@pytest.mark.parametrize("name", EDGES)
def test_imports_point_down(name: str) -> None:
    """No module imports from a room beside or above its own, lazily or for types neither."""
    assert [target for target in EDGES[name] if _runs_up(name, target)] == []


def test_there_is_no_circle() -> None:
    """No two files import each other, also not over others, lazily or for types."""
    assert _circle(EDGES) == []


def test_only_jobs_join_models_and_evaluation() -> None:
    """A file outside of the jobs imports models or evaluation, never both; the kernel knows neither."""
    both = {
        name for name, targets in EDGES.items() if {"models", "evaluation"} <= {_room(target) for target in targets}
    }
    assert {_room(name) for name in both} == {"jobs"}, both


def test_private_modules_stay_in_their_room() -> None:
    """Nothing imports a module, a package or a name with a leading underscore from another room."""
    for name in EDGES:
        taken = [t for t in _imported(MODULES[name]) if t.startswith("dpsynth.") and _room(t) != _room(name)]
        hidden = [target for target in taken if any(part.startswith("_") for part in target.split(".")[1:])]
        assert [target for target in hidden if target != "dpsynth.__version__"] == [], name


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_a_room_says_what_lives_there(name: str) -> None:
    """Every folder of code is a package with a docstring, and no package has the name of a function of ours."""
    assert ast.get_docstring(ast.parse(MODULES[name].read_text(encoding="utf-8")))
    assert name.rpartition(".")[2] not in WORDS


def test_every_folder_with_code_is_a_package() -> None:
    """No module lies in a folder without ``__init__.py``, and every package is among those that are installed."""
    assert {path.parent for path in MODULES.values()} == {MODULES[name].parent for name in ROOMS}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(project["tool"]["setuptools"]["packages"]) == ROOMS


def test_the_ground_stands_on_nothing() -> None:
    """The error classes, progress and whole files import no other room of ours."""
    assert EDGES["dpsynth.errors"] == set()
    assert EDGES["dpsynth.progress"] | EDGES["dpsynth.atomic"] <= {"dpsynth.errors"}


def test_the_rule_can_fail() -> None:
    """An import that runs up or beside, and a circle over three files, are seen."""
    assert _runs_up("dpsynth.columns.grid", "dpsynth.schema.schema")
    assert _runs_up("dpsynth.models.base", "dpsynth.evaluation.judge")
    assert not _runs_up("dpsynth.jobs.fit", "dpsynth.models.base")
    assert set(_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
    assert len(EDGES) > 300
    assert sum(map(len, EDGES.values())) > 1000


def _run(code: str, *args: str) -> str:
    done = subprocess.run([sys.executable, *args, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


BLOCK = "import sys; sys.modules.update(dict.fromkeys(['torch', 'opacus', 'sdv', 'diffusers', 'monai']))\n"


DEEP = ("ctgan", "diffusion", "gan", "judged-moments", "mean-embedding", "pate-gan", "tabular-diffusion", "tvae")


def test_tables_need_no_torch() -> None:
    """With torch and its kin blocked, dpsynth imports and every synthesizer that is not a network loads."""
    code = (
        "import dpsynth.models.tabular as _; from dpsynth.models import available, synthesizer\n"
        f"print([synthesizer(name).name for name in available() if name not in {DEEP}])"
    )
    assert "independent" in _run(BLOCK + code)


@pytest.mark.parametrize("name", DEEP)
def test_networks_say_that_they_need_torch(name: str) -> None:
    """Without torch a network's name ends in words that name the missing package, and a plan of others still works."""
    code = (
        "from dpsynth.errors import InputError; from dpsynth.models import synthesizer\n"
        f"try:\n    synthesizer({name!r})\nexcept InputError as error:\n    print(error)"
    )
    assert "needs the package 'torch'" in _run(BLOCK + code)


HEAVY = {"numpy", "pandas", "pyarrow", "pydantic", "sklearn", "scipy", "matplotlib", "opendp", "dp_accounting", "torch"}


@pytest.mark.parametrize(
    "code", ["import dpsynth", "from dpsynth.cli.app import app"], ids=["import dpsynth", "dpsynth.cli"]
)
def test_start_loads_nothing_heavy(code: str) -> None:
    """Neither ``import dpsynth`` nor building the command line imports the heavy packages."""
    loaded = _run(f"{code}\nimport sys; print(*sys.modules)").split()
    assert not HEAVY & set(loaded)


def test_help_is_quick() -> None:
    """``dpsynth --help`` takes less than half a second of processor time (best of three: machines are busy)."""
    code = "import sys; sys.argv = ['dpsynth', '--help']; from dpsynth.cli import main; main()"
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd="/")
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.5
