"""The documentation is whole: every command, option, schema field and public name stands in it."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import dpsynth
from dpsynth import errors
from dpsynth.schema import Schema

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_tools"))
import architecture  # noqa: E402  (as below)
from generate import cli_page, commands, notebook_page, schema_page  # noqa: E402  (a tool of the site, not installed)

COMMANDS = dict(commands())
CLI, FIELDS = cli_page(), schema_page()
PYTHON = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
CONFIG = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
PAGES = sorted(DOCS.rglob("*.md"))


def _section(name: str) -> str:
    """Return what the reference says of one command."""
    found = re.search(rf"^## {re.escape(name)}$(.*?)(?=^## |\Z)", CLI, flags=re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[1]


def test_every_command_is_found() -> None:
    """The walk finds commands and those inside of groups."""
    assert {"dpsynth fit", "dpsynth schema draft", "dpsynth ledger raise-limit"} <= set(COMMANDS)
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    """A command has a section with its words and an example, and each of its options has words of its own."""
    command: Any = COMMANDS[name]
    section = _section(name)
    assert (command.help or "").strip()
    assert name in (command.help or ""), "no example"
    for parameter in command.params:
        assert len((parameter.help or "").strip()) > 10, parameter.name
        for spelled in parameter.opts if parameter.param_type_name == "option" else [parameter.name]:
            assert f"`{spelled}`" in section or f"`{spelled} " in section, spelled


@pytest.mark.parametrize("name", dpsynth.__all__)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    """What `import dpsynth` gives stands on the page on Python."""
    wanted = rf"^::: dpsynth\.[\w.]*\.{name}$|`dpsynth\.{name}`"
    assert re.search(wanted, PYTHON, flags=re.MULTILINE)


def test_what_the_reference_names_exists() -> None:
    """Each object on the page on Python can be imported, and so can the members that are chosen of it."""
    import importlib

    for path, members in re.findall(
        r"^::: ([\w.]+)\n(?:    options: \{.*?members: \[([^\]]*)\])?", PYTHON, re.MULTILINE
    ):
        module, _, name = path.rpartition(".")
        found = errors if path == errors.__name__ else getattr(importlib.import_module(module), name)
        fields = getattr(found, "model_fields", {})
        for member in filter(None, members.split(", ")):
            assert hasattr(found, member) or member in fields or member in found.__annotations__, f"{path}.{member}"


def test_every_field_of_a_schema_has_words() -> None:
    """The reference of schema files has a row for each field, and none is without a meaning."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", FIELDS, flags=re.MULTILINE)
    assert {name for name, _ in rows} >= set(Schema.model_fields)
    assert [name for name, words in rows if not words.strip() and name != "type"] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_page_is_in_the_navigation(page: Path) -> None:
    """No page is left out, and commands that it shows exist."""
    assert page.relative_to(DOCS).as_posix() in CONFIG
    shown = re.findall(r"^```text\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for line in re.findall(r"^dpsynth [a-z][^#\n]*", "".join(shown), flags=re.MULTILINE):
        words = line.split()
        name = next((one for one in (" ".join(words[:3]), " ".join(words[:2])) if one in COMMANDS), None)
        assert name is not None, line
        options = {spelled for parameter in COMMANDS[name].params for spelled in parameter.opts}
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= options, line


def _schemas() -> list[str]:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return [
        block
        for block in re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
        if "columns:" in block
    ]


def test_schemas_on_the_pages_are_schemas() -> None:
    """What the how-to pages show can be read, but for the one that the page itself says is refused."""
    blocks = _schemas()
    assert len(blocks) >= 3
    for block in blocks:
        document = {"name": "shown", **yaml.safe_load(block)}
        if "-999" in block:
            with pytest.raises(errors.SchemaError, match="special"):
                Schema.parse(document)
        else:
            Schema.parse(document)


def test_a_notebook_becomes_a_page(tmp_path: Path) -> None:
    """Words, code, text and figures of an executed notebook are on its page, and its links lead to pages."""
    page, figures = notebook_page(ROOT / "notebooks" / "01_release_a_table.ipynb")
    assert "(02_judge_it.md)" in page
    assert ".ipynb)" not in page
    assert "import dpsynth" in page
    assert figures
    assert all(f"]({name})" in page and figure.startswith(b"\x89PNG") for name, figure in figures.items())


def test_the_picture_of_the_house_is_of_this_code() -> None:
    """The picture and its table have every room, and the picture was drawn from these imports."""
    folders = {path.parent.name for path in (ROOT / "dpsynth").glob("*/__init__.py")} - {"datasets"}
    rooms = {name for floor in architecture.FLOORS for name in floor}
    assert rooms == folders | {"models", "evaluation"}
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert rooms == set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    assert (DOCS / "architecture.svg").read_text(encoding="utf-8") == architecture.picture()
