"""``dpsynth schema``: write, check and convert schema files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpsynth.cli.checked import show_check
from dpsynth.cli.common import (
    ForceOption,
    JsonOption,
    SchemaArgument,
    SourceArgument,
    check_file,
    emit,
    guarded,
    note,
    table,
)
from dpsynth.cli.databases import QueryOption, source
from dpsynth.cli.formats import formatted, reads_tables
from dpsynth.errors import DataError

if TYPE_CHECKING:
    from dpsynth.checking.check import DataCheck
    from dpsynth.schema.schema import Schema
    from dpsynth.sources.database import Database

app = typer.Typer(no_args_is_help=True, help="Write, check and convert schema files: what is public about a table.")

OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write; default: the output stream.", show_default=False)
]


@app.command()
@guarded
@reads_tables
def draft(
    data: SourceArgument,
    *,
    query: QueryOption = None,
    out: OutOption = None,
    force: ForceOption = False,
    form: dict[str, Any],
) -> None:
    """Write a first schema for a table, marked `confirmed: false`.

    It is a form to fill in: every bound and category must come from public knowledge before you set `confirmed: true`,
    because a schema is published with the release.

    For example:

        dpsynth schema draft ward.csv --out ward.yaml

        dpsynth schema draft "visits/*.parquet" -o ward.yaml

        dpsynth schema draft postgresql://steward@db/ehr::ward.visits -o ward.yaml

        dpsynth schema draft export.csv --separator ";" --decimal , --encoding windows-1252 -o ward.yaml
    """
    from dpsynth.drafting.draft import draft as make_draft
    from dpsynth.schema.open_questions import question
    from dpsynth.sources.database import Database
    from dpsynth.sources.drafting import draft_scanned
    from dpsynth.sources.locating import is_several

    place = source(data, query)
    if isinstance(place, Database) or is_several(place):
        drafted = draft_scanned(place, form=form)
    else:
        drafted = make_draft(place, form=form)
    _write(drafted.to_yaml(), out, force=force)
    for line in drafted.file_notes:
        note(f"{place.name}: {line}.")
    if out is not None:
        note(f"{out}: a draft, read from private data and as confidential. Put in what is publicly known in its place,")
        note("then set confirmed: true.")
        if drafted.schema.open:
            note(f"open: {question(drafted.schema)}. Until then it cannot be confirmed.")


@app.command()
@guarded
@reads_tables
def check(
    schema: SchemaArgument,
    *,
    data: Annotated[
        str | None,
        typer.Option("--data", help="List what in this table, folder, pattern or database does not keep the schema."),
    ] = None,
    query: QueryOption = None,
    json: JsonOption = False,
    form: dict[str, Any],
) -> None:
    """Check a schema file, and a table against it. Spends nothing.

    With --data everything that does not fit is listed: what a fit would refuse, and what it would clip, map or leave
    out, with numbers of rows or lines and without values. The list is internal: exact counts of private data. Exits 2
    where a fit would refuse the data, 0 where there are warnings alone.

    For example:

        dpsynth schema check ward.yaml

        dpsynth schema check ward.yaml --data ward.csv --json
    """
    from dpsynth.schema.schema import Schema

    loaded = formatted(Schema.load(schema), form)
    if loaded.confirmed and data is None:
        loaded.check_confirmed()
    checked = None
    if data is not None:
        checked = _checked(source(data, query), loaded)
    if json:
        written = loaded.to_dict()
        images = {"images": written["images"]} if loaded.images is not None else {}
        facts = {"name": loaded.name, "confirmed": loaded.confirmed, "open": list(loaded.open)}
        emit({**facts, "columns": written["columns"], **images, **({"data": checked.to_dict()} if checked else {})})
    else:
        _show(loaded)
        if checked is not None:
            show_check(checked)
        _say_what_is_left(loaded)
    if checked is not None and checked.is_refused:
        raise typer.Exit(DataError.exit_code)


def _checked(data: "Path | Database", schema: "Schema") -> "DataCheck":
    """Check a table as a whole; many files, or a table of a database, in one pass."""
    from dpsynth.checking.check import check_data
    from dpsynth.sources.checking import check_scanned
    from dpsynth.sources.database import Database
    from dpsynth.sources.scanned import is_scanned

    if isinstance(data, Database) or is_scanned(data, schema):
        return check_scanned(data, schema)
    return check_data(data, schema)


def _say_what_is_left(schema: "Schema") -> None:
    """Say what must be done before the schema can be used."""
    from dpsynth.schema.open_questions import question

    if schema.open:
        note(f"open: {question(schema)}.")
    if not schema.confirmed:
        note("not confirmed: set confirmed: true once every bound and category is checked to be public knowledge.")


@app.command("json-schema")
@guarded
def json_schema() -> None:
    """Print the JSON Schema of schema files, for editors and validators.

    For example:

        dpsynth schema json-schema > dpsynth.schema.schema.json
    """
    from dpsynth.schema.schema import Schema

    emit(Schema.json_schema())


@app.command("from-sdv")
@guarded
def from_sdv(
    metadata: Annotated[Path, typer.Argument(help="SDV metadata, JSON.")],
    out: OutOption = None,
    force: ForceOption = False,
) -> None:
    """Turn SDV metadata into a draft schema. SDV need not be installed.

    For example:

        dpsynth schema from-sdv metadata.json --out ward.yaml
    """
    from dpsynth.atomic import read_json
    from dpsynth.drafting.sdv import from_sdv as convert

    _write(convert(read_json(metadata)).to_yaml(), out, force=force)


@app.command("from-redcap")
@guarded
def from_redcap(
    dictionary: Annotated[Path, typer.Argument(help="Data dictionary of a REDCap project, CSV.")],
    *,
    labels: Annotated[
        bool, typer.Option("--labels", help="The export holds labels of choices, not their raw codes.")
    ] = False,
    out: OutOption = None,
    force: ForceOption = False,
) -> None:
    """Turn a REDCap data dictionary into a draft schema of the project's export. Reads no data.

    Categories, labels and limits come from the dictionary; a checkbox becomes a boolean column for
    each choice, as REDCap exports it; fields flagged as identifiers are never modelled.

    For example:

        dpsynth schema from-redcap dictionary.csv --out study.yaml
    """
    from dpsynth.drafting.redcap import from_redcap as convert

    _write(convert(dictionary, labels=labels).to_yaml(), out, force=force)


@app.command("to-sdv")
@guarded
def to_sdv(schema: SchemaArgument, out: OutOption = None, force: ForceOption = False) -> None:
    """Turn a schema into SDV metadata. SDV need not be installed.

    For example:

        dpsynth schema to-sdv ward.yaml --out metadata.json
    """
    import json

    from dpsynth.drafting.sdv import to_sdv as convert
    from dpsynth.schema.schema import Schema

    _write(json.dumps(convert(Schema.load(schema)), indent=2, ensure_ascii=False) + "\n", out, force=force)


def _write(text: str, out: Path | None, *, force: bool) -> None:
    from dpsynth.atomic import whole_file

    if out is None:
        typer.echo(text, nl=False)
        return
    check_file(out, force=force)
    with whole_file(out) as partial:
        partial.write_text(text, encoding="utf-8")


def _show(schema: "Schema") -> None:
    from dpsynth.publishing.card import describe

    rows = [
        (name, column.type, describe(column), "yes" if getattr(column, "missing", False) else "no")
        for name, column in schema.columns.items()
    ]
    state = "confirmed" if schema.confirmed else "not confirmed"
    table(
        f"{schema.name}: {state}, {len(schema.modelled)} modelled columns",
        ("column", "type", "values", "missing"),
        rows,
        caption=f"images of {' x '.join(map(str, schema.images.size))}" if schema.images is not None else None,
    )
