"""Options that say how a file is written, shared by every command that reads a table."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["confirmed_schema", "formatted", "reads_tables", "takes_options"]

Options = TypeVar("Options")

_PANEL = "How files are written; default: as the schema's `file:` says"
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
    "sheet": Annotated[
        str | None,
        typer.Option("--sheet", help="Sheet of an Excel file; default: the first.", rich_help_panel=_PANEL),
    ],
}


def takes_options(options: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Give a command one option of the command line for each field of a dataclass, and the dataclass as its argument.

    Parameters
    ----------
    options : type
        A keyword-only dataclass whose fields are annotated as the parameters of a typer command.

    Returns
    -------
    callable
        A decorator of a command that takes such a dataclass.
    """
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=field.type,
        )
        for field in dataclasses.fields(options)  # type: ignore[arg-type]
    ]

    def decorated(command: Callable[[Options], None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            command(options(**values))

        return _with_parameters(run, parameters)

    return decorated


def reads_tables(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a file's format in place of its parameter `form`, a dict of those that are given.

    Parameters
    ----------
    command : callable
        A command with a keyword parameter `form`.
    """
    own = [parameter for parameter in inspect.signature(command).parameters.values() if parameter.name != "form"]
    of_files = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        options = {name: kwargs.pop(name, None) for name in _OPTIONS}
        command(*args, form={name: value for name, value in options.items() if value not in (None, [])}, **kwargs)

    return _with_parameters(run, [*own, *of_files])


def _with_parameters(command: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> Callable[..., None]:
    """Return a command that shows typer these parameters in place of its own."""
    vars(command).pop("__wrapped__", None)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def confirmed_schema(path: Path, form: dict[str, Any]) -> "Schema":
    """Read the schema of a command that fits models: a person must have confirmed it, before any patient is read.

    Raises
    ------
    InputError, SchemaError
        If it cannot be read, is not a schema, or nobody has confirmed it; or an option of the format has no meaning.
    """
    from dpsynth.schema.schema import Schema

    schema = formatted(Schema.load(path), form)
    schema.check_confirmed()
    return schema


def formatted(schema: "Schema", form: dict[str, Any]) -> "Schema":
    """Return a schema with the format of files that is given on the command line.

    Raises
    ------
    InputError
        If an option has no meaning; the message names it.
    """
    if not form:
        return schema
    from dpsynth.files.detecting import given_format

    return schema.model_copy(update={"file": given_format(form, schema.file)})
