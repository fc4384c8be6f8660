"""What commands share that read a database: its address, without the password in it, its query, a dataset's name."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema
    from dpsynth.sources.database import Database

__all__ = ["DatasetOption", "Discreet", "QueryOption", "named", "source"]

QueryOption = Annotated[
    str | None,
    typer.Option("--query", help="One SELECT that gives the patients, or its file, where DATA is a database."),
]
DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset",
        help="Name of these patients, for their ledger, where it cannot be told whose they are; default: the schema's.",
        show_default=False,
    ),
]
_SCHEMES = ("postgresql://", "postgres://")


class Discreet(typer.core.TyperGroup):
    """Commands that never see a password of an address: it goes where PostgreSQL's own programs look for it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take passwords out of the words of the command line, before anything can show them."""
        return super().parse_args(ctx, [_without_password(word) for word in args])


def _without_password(word: str) -> str:
    start = min((place for scheme in _SCHEMES if (place := word.find(scheme)) >= 0), default=-1)
    if start < 0:
        return word
    from dpsynth.sources.database import without_password

    address, password = without_password(word[start:])
    if password is not None:
        os.environ["PGPASSWORD"] = password
    return word[:start] + address


def source(data: str, query: str | None = None) -> "Path | Database":
    """Return the path that a command was given, or the table or query of a database.

    Raises
    ------
    InputError, FileError
        If a query is given for a file, or a database without a table or a query.
    """
    if data.startswith(_SCHEMES):
        from dpsynth.sources.database import database_of

        return database_of(data, query)
    if query is not None:
        raise InputError("--query: is for a database; give its address, postgresql://user@host/database, as DATA.")
    return Path(data)


def named(schema: "Schema", dataset: str) -> "Schema":
    """Return a schema with the name of the dataset that the command line gives."""
    return schema.model_copy(update={"dataset": dataset}) if dataset else schema
