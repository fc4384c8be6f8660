"""Pages that are made from the program itself when the site is built: commands, schema fields, notebooks."""

import base64
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from typer.main import get_command

from dpsynth.cli.app import app
from dpsynth.columns.kinds import Boolean, Categorical, Censored, Datetime, Identifier, Numeric
from dpsynth.schema import Schema
from dpsynth.schema.constraints import Forbid, Order, Require
from dpsynth.schema.dialect import FileFormat
from dpsynth.schema.fairness import Fairness
from dpsynth.schema.images import Images
from dpsynth.schema.visits import Visits

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
HOW_TO = (
    "What a schema file may say. `dpsynth schema json-schema` prints the same for editors and validators. "
    "How to write one: [the how-to page](../how-to/schema.md)."
)
FIELDS: dict[str, tuple[type[BaseModel], ...]] = {
    "The file": (Schema, FileFormat),
    "Columns": (Numeric, Censored, Categorical, Boolean, Datetime, Identifier),
    "Constraints": (Forbid, Require, Order),
    "Parts": (Visits, Images, Fairness),
}


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command that can be run, with its full name."""

    def inside(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for inner, one in command.commands.items():
                yield from inside(f"{name} {inner}", one)
        else:
            yield name, command

    return inside("dpsynth", get_command(app))


def cli_page() -> str:
    """Return the reference of the command line."""
    top = get_command(app)
    parts = ["# Command line", _prose(top.help or "")]
    for name, command in commands():
        parts += [f"## {name}", f"```text\n{_usage(name, command)}\n```", _prose(command.help or "")]
        rows = [_row(parameter) for parameter in command.params]
        parts.append("\n".join(["| | what it is | default |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def schema_page() -> str:
    """Return the reference of schema files: every field with the words that stand in the code."""
    parts = [
        "# Schema fields",
        HOW_TO,
    ]
    for title, models in FIELDS.items():
        parts.append(f"## {title}")
        for model in models:
            parts += [f"### {model.__name__}", (model.__doc__ or "").split("\n\n")[0].strip()]
            rows = [_field(field.alias or name, field) for name, field in model.model_fields.items()]
            parts.append("\n".join(["| field | kind | default | meaning |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return an executed notebook as a page, and its figures by file name."""
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text.replace(".ipynb)", ".md)"))
            continue
        parts.append(f"```python\n{text}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(figures)}.png"
                figures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![What the code above draws]({name})")
            elif "text/html" in data:
                parts.append("".join(data["text/html"]).replace("\n\n", "\n"))
            else:
                shown = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```{{.text .output}}\n{shown.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", figures


def pages() -> dict[str, str | bytes]:
    """Return every generated file of the site by its place."""
    made: dict[str, str | bytes] = {"reference/cli.md": cli_page(), "reference/schema.md": schema_page()}
    for path in sorted(NOTEBOOKS.glob("0*.ipynb")):
        made[f"notebooks/{path.stem}.md"], figures = notebook_page(path)
        made |= {f"notebooks/{name}": figure for name, figure in figures.items()}
    return made


def _usage(name: str, command: Any) -> str:
    words = [p.name if p.required else f"[{p.name}]" for p in _arguments(command)]
    needed = [f"{p.opts[0]} {_shape(p)}".strip() for p in command.params if p not in _arguments(command) and p.required]
    return " ".join([name, *words, *needed, "[OPTIONS]"])


def _arguments(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "argument"]


def _shape(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    return str(parameter.metavar or parameter.name.upper())


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name}`"
    elif shape := _shape(parameter):
        names += f" `{shape}`"
    words = (parameter.help or "").replace("|", "\\|").replace("<", "&lt;")
    shown = "needed" if parameter.required else _value(parameter)
    return f"| {names.replace('|', chr(92) + '|')} | {words} | {shown} |"


def _value(parameter: Any) -> str:
    value = parameter.default
    return "" if value in (None, False, "", (), []) or callable(value) else f"`{value}`"


def _prose(text: str) -> str:
    """Return help as Markdown: the indented examples as code."""
    blocks = []
    for block in text.replace("\b", "").strip().split("\n\n"):
        lines = [line.strip() for line in block.strip().splitlines()]
        if lines and all(line.startswith("dpsynth ") for line in lines):
            blocks.append("```text\n" + "\n".join(lines) + "\n```")
        else:
            blocks.append(" ".join(lines))
    return "\n\n".join(blocks)


def _field(name: str, field: Any) -> str:
    return f"| `{name}` | {_kind(field.annotation)} | {_default(field)} | {field.description or ''} |"


def _kind(annotation: Any) -> str:
    """Return what a field may hold, in words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(inner[0])
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(one) for one in inner if one is not type(None)))
    if origin is tuple:
        return "list of " + " and ".join(dict.fromkeys(_kind(one) for one in inner if one is not Ellipsis))
    if origin is dict:
        return "mapping of " + " to ".join(_kind(one) for one in inner)
    plain = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return plain.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: Any) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    return "" if value in (None, "", ()) or isinstance(value, BaseModel) else f"`{json.dumps(value)}`"
