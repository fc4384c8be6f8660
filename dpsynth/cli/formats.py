"""Options that say how a CSV file is written, shared by every command that reads a table."""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dpsynth.schema import Schema

__all__ = ["formatted", "reads_tables"]

_PANEL = "How CSV files are written; default: as the schema's `file:` says"
_OPTIONS: dict[str, Any] = {
    "separator": Annotated[
        str | None, typer.Option("--separator", help='Between cells, such as ";" or tab.', rich_help_panel=_PANEL)
    ],
    "decimal": Annotated[
        str | None, typer.Option("--decimal", help="Before decimals: . or a comma.", rich_help_panel=_PANEL)
    ],
    "thousands": Annotated[
        str | None, typer.Option("--thousands", help="Between groups of three digits.", rich_help_panel=_PANEL)
    ],
    "encoding": Annotated[
        str | None,
        typer.Option("--encoding", help="Such as latin-1, windows-1252 or utf-16.", rich_help_panel=_PANEL),
    ],
    "skip": Annotated[
        int | None, typer.Option("--skip", help="Lines above the header, such as a title.", rich_help_panel=_PANEL)
    ],
    "totals": Annotated[
        list[str] | None,
        typer.Option(
            "--totals", help="First cell of lines that are no patients; may be repeated.", rich_help_panel=_PANEL
        ),
    ],
}


def reads_tables(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a file's format in place of its parameter `form`, a dict of those that are given.

    Parameters
    ----------
    command
        A command with a keyword parameter `form`.
    """
    own = inspect.signature(command)
    kept = [parameter for parameter in own.parameters.values() if parameter.name != "form"]
    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        options = {name: kwargs.pop(name, None) for name in _OPTIONS}
        command(*args, form={name: value for name, value in options.items() if value not in (None, [])}, **kwargs)

    vars(run).pop("__wrapped__", None)
    run.__signature__ = own.replace(parameters=[*kept, *extra])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*kept, *extra)}
    return run


def formatted(schema: "Schema", form: dict[str, Any]) -> "Schema":
    """Return a schema with the format of files that is given on the command line.

    Raises
    ------
    InputError
        If an option has no meaning; the message names it.
    """
    if not form:
        return schema
    from dpsynth.detecting import given_format

    return schema.model_copy(update={"file": given_format(form, schema.file)})
