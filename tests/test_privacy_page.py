"""The page for auditors names what exists: files, functions, tests; and its command runs all of those tests."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
PLACES = sorted(set(re.findall(r"`((?:dpsynth|models|evaluation)/[\w/]+\.py):([\w.]+)`", PAGE)))


def names(path: Path) -> set[str]:
    """Return the functions and classes of a module, and the methods of its classes as ``Class.method``."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


@pytest.mark.parametrize(("file", "name"), [*TESTS, *PLACES])
def test_what_the_page_names_exists(file: str, name: str) -> None:
    """Each test, function and class on the page is where the page says."""
    assert name in names(ROOT / file)


def test_the_command_runs_every_test_that_is_named() -> None:
    """The page's one command runs every test that is named on the page, and all of the kernel's."""
    (command,) = re.findall(r"^pytest (.+)$", PAGE, flags=re.MULTILINE)
    parts = command.split()
    assert all((ROOT / part).exists() for part in parts)
    assert {"tests/privacy", "tests/planted_bugs", "tests/test_tape.py"} <= set(parts)
    assert [file for file, _ in TESTS if not any(file == part or file.startswith(f"{part}/") for part in parts)] == []
    assert len(TESTS) > 80
    assert len(PLACES) > 40


def test_every_guarantee_has_a_place_and_a_test() -> None:
    """No row of the two tables is without where it is enforced and what breaks when it is not."""
    lines = PAGE.split("## The kernel in rings")[0].splitlines()
    heads = {place - 1 for place, line in enumerate(lines) if line.startswith("|---")}
    rows = [line.split("|")[1:-1] for place, line in enumerate(lines) if line.startswith("| ") and place not in heads]
    assert len(heads) == 2
    assert len(rows) > 55
    for _, place, test in rows:
        assert re.search(r"\.py:\w", place), place
        assert "::test_" in test, test


def test_the_results_that_are_named_are_there() -> None:
    """Tables of benchmarks that the page points to exist."""
    for name in re.findall(r"`(benchmarks/[\w/.]+)`", PAGE):
        assert (ROOT / name).is_file(), name


COUNTED = re.findall(r"^\| `((?:dpsynth|evaluation)/[\w/*.]+)` \| ([\d,]+) \|", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize(("place", "said"), COUNTED)
def test_lines_are_counted(place: str, said: str) -> None:
    """The page's numbers of lines are those of the folders, within five in a hundred or twenty lines."""
    files = (ROOT / place).rglob("*.py") if place.endswith("/") else ROOT.glob(place)
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    assert lines > 0
    assert abs(lines - int(said.replace(",", ""))) <= max(20, 0.05 * lines), f"{place} has {lines} lines"


def test_all_rings_and_rooms_with_private_values_are_counted() -> None:
    """Every folder of the kernel is a ring on the page, and so is every room below it that has a cohort's values."""
    rings = {f"dpsynth/privacy/{path.parent.name}/" for path in (ROOT / "dpsynth" / "privacy").glob("*/__init__.py")}
    rooms = {f"dpsynth/{name}/" for name in ("files", "columns", "cohort", "coding", "sources", "drafting", "checking")}
    assert rings | rooms <= {place for place, _ in COUNTED}


@pytest.mark.parametrize("ring", ["", "spending", "tables", "images", "training"])
def test_each_ring_names_all_of_its_modules(ring: str) -> None:
    """The first page of a ring says what it guarantees and trusts, and the reading order has all of its files."""
    folder = ROOT / "dpsynth" / "privacy" / ring
    words = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    if ring:
        assert all(f"**{word}.**" in words for word in ("Guarantees", "Trusts", "Reading order"))
        words = words.split("**Reading order.**")[1]
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules - set(re.findall(r"\w+", words)) == set()
