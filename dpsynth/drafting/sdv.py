"""Schemas from and to the metadata of SDV (JSON, METADATA_SPEC_VERSION V1 and SINGLE_TABLE_V1); SDV is not needed.

SDV's metadata name the kind of each column and its keys. They have no bounds, no categories and no word on what may be
missing, because SDV reads those from the data; so a schema from them is a draft with wide placeholders.
"""

from collections.abc import Mapping
from typing import Any

from dpsynth.columns.identifying import meaning_of
from dpsynth.columns.kinds import COUNTS, Boolean, Categorical, Column, Datetime, Identifier, Numeric
from dpsynth.drafting.draft import Draft
from dpsynth.errors import SchemaError, nearest
from dpsynth.schema.open_questions import OPEN
from dpsynth.schema.schema import Schema

__all__ = ["from_sdv", "to_sdv"]

_HEAD = (
    "DRAFT from SDV metadata, which have no bounds, categories or missing states: what stands behind a column as",
    "a `placeholder` must be replaced by public knowledge. Then say in source where it comes from, name target and",
    "subgroups where you have them, and set confirmed: true.",
)
_MOST_VALUES = 100


def from_sdv(
    metadata: Mapping[str, Any], *, table: str | None = None, facts: Mapping[str, Mapping[str, Any]] | None = None
) -> Draft:
    """Turn SDV metadata into a draft schema.

    Parameters
    ----------
    metadata
        What the JSON file holds: one table, or several.
    table
        Which table, where there are several.
    facts
        Public facts that SDV does not have: for each column, fields of the schema such as `{"min": 18, "max": 110}`.
        A field that is given here is no placeholder.

    Returns
    -------
    Draft
        With `confirmed: false`. Identifiers and every kind of personal information (SDV's "pii") become identifiers,
        numbers without facts have the bounds of their representation, categories are to be discovered. The sequence
        key, or the primary key, is the patient; where a primary key is one of several identifiers, or is called after
        a visit or a row, `patient` is left open.

    Raises
    ------
    SchemaError
        If these are no SDV metadata, the table must be named, or a fact does not fit.

    Examples
    --------
    >>> metadata = {"columns": {"age": {"sdtype": "numerical", "computer_representation": "UInt8"}}}
    >>> from_sdv(metadata, facts={"age": {"max": 120}}).schema.columns["age"].max
    120.0
    """
    name, described = _one_table(metadata, table)
    columns = described.get("columns")
    if not isinstance(columns, Mapping) or not all(isinstance(column, Mapping) for column in columns.values()):
        raise SchemaError("SDV metadata: the table has no columns; expected a mapping of name to sdtype.")
    facts = facts or {}
    strangers = [column for column in facts if column not in columns]
    if strangers:
        raise SchemaError(f"facts: there is no column {strangers[0]!r}{nearest(strangers[0], tuple(columns))}.")
    drafted = {column: _from_column(column, fields, facts.get(column, {})) for column, fields in columns.items()}
    document: dict[str, Any] = {"name": name, "columns": {column: fields for column, (fields, _) in drafted.items()}}
    patient = described.get("sequence_key") or described.get("primary_key")
    if isinstance(patient, str):
        document["patient"] = patient
        if patient in columns:
            document["columns"][patient] = {"type": "identifier"}
            is_sequence = described.get("sequence_key") is not None
            document["patient"] = patient if is_sequence or _is_alone(patient, columns) else OPEN
    notes = {column: notes for column, (_, notes) in drafted.items() if column != patient}
    return Draft(Schema.parse(document), notes, _HEAD, "placeholder")


def _is_alone(key: str, columns: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether nothing but the primary key may tell patients apart: it is unique, so it groups no rows."""
    others = [name for name, fields in columns.items() if name != key and fields.get("sdtype") == "id"]
    return not others and meaning_of(key).entity not in ("visit", "row")


def _one_table(metadata: Mapping[str, Any], table: str | None) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(metadata, Mapping):
        raise SchemaError("SDV metadata: expected a JSON object with tables or columns.")
    tables = metadata.get("tables", {table or "table": metadata} if "columns" in metadata else None)
    if not isinstance(tables, Mapping) or not tables:
        raise SchemaError("SDV metadata: neither tables nor columns are there; is this the right file?")
    if table is None and len(tables) > 1:
        raise SchemaError(f"SDV metadata: there are several tables; name one of {', '.join(map(repr, tables))}.")
    name = next(iter(tables)) if table is None else table
    if name not in tables or not isinstance(tables[name], Mapping):
        raise SchemaError(f"SDV metadata: there is no table {name!r}{nearest(name, tuple(tables))}.")
    return name, tables[name]


def _from_column(
    name: str, fields: Mapping[str, Any], facts: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the schema's fields of a column, and which of them are placeholders."""
    guessed: dict[str, Any]
    meaning = meaning_of(name)
    match fields.get("sdtype"):
        case "numerical":
            guessed = {"type": "numeric", **_bounds(str(fields.get("computer_representation", "Float")))}
        case "categorical" if isinstance(fields.get("order"), list):
            guessed = {"type": "categorical", "values": fields["order"], "ordered": True}
        case "categorical" if meaning.is_key and meaning.entity == "person":
            return {"type": "identifier", **facts}, ()
        case "categorical":
            guessed = {"type": "categorical", "discover": True, "max_values": _MOST_VALUES}
        case "boolean":
            guessed = {"type": "boolean"}
        case "datetime":
            guessed = {"type": "datetime", **_period(str(fields.get("datetime_format") or ""))}
        case _:  # id, unknown, and every kind of personal information
            return {"type": "identifier", **facts}, ()
    guessed["missing"] = True
    if facts.get("type", guessed["type"]) != guessed["type"]:
        return {"missing": True, **facts}, () if "missing" in facts else ("missing",)
    if "values" in facts:
        guessed = {field: value for field, value in guessed.items() if field not in ("discover", "max_values")}
    stated = {"type", "format", "ordered", *(["values"] if "ordered" in guessed else []), *facts}
    return {**guessed, **facts}, tuple(field for field in guessed if field not in stated)


def _bounds(representation: str) -> dict[str, Any]:
    """Return the numbers that a representation can hold, as far as a schema takes them."""
    bits = {"8": 8, "16": 16}.get(representation.lstrip("UuInt"), 32)
    if representation.lower().startswith("uint"):
        return {"min": 0, "max": 2**bits - 1}
    if representation.lower().startswith("int"):
        return {"min": -(2 ** (bits - 1)), "max": 2 ** (bits - 1) - 1}
    return {"min": -1_000_000, "max": 1_000_000, "decimals": 3}


def _period(pattern: str) -> dict[str, Any]:
    clock = "%H" in pattern or "%I" in pattern
    period = {"min": "1900-01-01", "max": "2099-12-31T23:59:59" if clock else "2099-12-31"}
    return period if pattern in ("", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S") else {**period, "format": pattern}


def to_sdv(schema: Schema, *, single_table: bool = False) -> dict[str, Any]:
    """Turn a schema into SDV metadata.

    Parameters
    ----------
    schema
        The schema. What SDV has no word for is left out: bounds, categories without an order, missing, constraints.
    single_table
        Write the older form of one table (SINGLE_TABLE_V1) in place of V1.

    Returns
    -------
    dict
        Plain values, ready for JSON. Columns under `drop` are not named.

    Examples
    --------
    >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 120}}}")
    >>> to_sdv(schema)["tables"]["ward"]["columns"]
    {'age': {'sdtype': 'numerical', 'computer_representation': 'Int64'}}
    """
    table: dict[str, Any] = {"columns": {name: _to_column(column) for name, column in schema.columns.items()}}
    if schema.patient is not None:
        table["primary_key" if schema.max_rows_per_patient == 1 else "sequence_key"] = schema.patient
    if single_table:
        return {"METADATA_SPEC_VERSION": "SINGLE_TABLE_V1", **table}
    return {"METADATA_SPEC_VERSION": "V1", "tables": {schema.name: table}, "relationships": []}


def _to_column(column: Column) -> dict[str, Any]:
    match column:
        case Numeric() if not column.states:  # SDV has no word for numbers with text among them
            return {"sdtype": "numerical", "computer_representation": "Float" if column.decimals else "Int64"}
        case Boolean() if all(isinstance(label, bool) for label in column.labels):
            return {"sdtype": "boolean"}
        case Categorical() if column.ordered:
            return {"sdtype": "categorical", "order": list(column.values)}
        case Datetime():
            return {"sdtype": "datetime"} | ({} if column.format in COUNTS else {"datetime_format": column.pattern})
        case Identifier():
            return {"sdtype": "id"}
    return {"sdtype": "categorical"}
