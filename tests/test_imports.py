"""The floors of the house: imports point down only, and what is heavy is loaded where it is used."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"dpsynth": ROOT / "dpsynth", "dpsynth.models": ROOT / "models", "dpsynth.evaluation": ROOT / "evaluation"}
# the higher, the later in the way of the data; a module may import from its own floor and from lower ones
FLOORS = {
    "dpsynth.__main__": 4,
    "dpsynth.cli": 4,
    "dpsynth.jobs.augment": 3,
    "dpsynth.jobs.audit": 3,
    "dpsynth.jobs.yardstick": 3,
    "dpsynth.jobs.publish": 3,
    "dpsynth.jobs.sweep": 3,
    "dpsynth.jobs.fit": 3,
    "dpsynth.publishing.page": 3,
    "dpsynth.publishing.bundle": 2,
    "dpsynth.jobs.outlook": 2,
    "dpsynth.models": 2,
    "dpsynth.evaluation": 2,
    "dpsynth.errors": 0,
}
GROUND = 1
NEVER = [
    ("dpsynth.evaluation", "dpsynth.models"),
    ("dpsynth.models", "dpsynth.evaluation"),
    ("dpsynth.privacy", "dpsynth.models"),
]


def _modules() -> Iterator[tuple[str, Path]]:
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(part for part in parts if part != "__init__"))), path


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _floor(name: str) -> int:
    return next((height for package, height in FLOORS.items() if _under(name, package)), GROUND)


@pytest.mark.parametrize(("name", "path"), [pytest.param(n, p, id=n) for n, p in _modules() if n != "dpsynth"])
def test_imports_point_down(name: str, path: Path) -> None:
    """No module imports from a higher floor, models and evaluation do not know each other, privacy knows neither."""
    for target in _imported(path):
        if not _under(target, "dpsynth"):
            continue
        assert _floor(target) <= _floor(name), f"{name} imports {target}"
        for above, other in NEVER:
            assert not (_under(name, above) and _under(target, other)), f"{name} imports {target}"


def test_errors_stand_on_nothing() -> None:
    """The error classes import no other module of ours."""
    assert not [name for name in _imported(ROOT / "dpsynth" / "errors.py") if _under(name, "dpsynth")]


def test_the_rule_can_fail() -> None:
    """The floors know a wrong import when they see one."""
    assert (
        _floor("dpsynth.cli.fit")
        > _floor("dpsynth.jobs.fit")
        > _floor("dpsynth.models.base")
        > _floor("dpsynth.schema.schema")
    )


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
