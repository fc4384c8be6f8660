"""Listed combinations that stand in a public CSV file beside the schema."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpsynth.errors import SchemaError, nearest

__all__ = ["with_listed"]

LARGEST = 2**24
"""Bytes of such a file at most."""


def with_listed(document: Any, folder: Path) -> Any:
    """Return the fields of a schema file with the combinations of named CSV files in place of the names.

    Parameters
    ----------
    document
        What a schema file holds, as far as it is one.
    folder
        Where the schema file lies; names of files are relative to it.

    Raises
    ------
    SchemaError
        If a file cannot be read, or lacks a column.
    """
    constraints = document.get("constraints") if isinstance(document, Mapping) else None
    if not isinstance(constraints, list):
        return document
    return {**document, "constraints": [_read(item, folder, place) for place, item in enumerate(constraints)]}


def _read(constraint: Any, folder: Path, place: int) -> Any:
    listed = constraint.get("combinations") if isinstance(constraint, Mapping) else None
    if not isinstance(listed, Mapping) or not isinstance(listed.get("values"), str):
        return constraint
    names = listed.get("columns")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return constraint
    rows = _rows(folder / listed["values"], names, f"constraints.{place}.combinations")
    return {**constraint, "combinations": {**listed, "values": rows}}


def _rows(path: Path, names: list[str], place: str) -> list[list[str]]:
    try:
        if path.stat().st_size > LARGEST:
            raise SchemaError(f"{place}: {path.name} is far larger than a list of combinations; give the list alone.")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            absent = [name for name in names if name not in header]
            if absent:
                more = nearest(absent[0], tuple(header))
                raise SchemaError(f"{place}: {path.name} has no column {absent[0]!r}{more}; its first line names them.")
            rows = [[(row[name] or "").strip() for name in names] for row in reader]
    except OSError as error:
        raise SchemaError(f"{place}: {path.name} cannot be read ({error.strerror or 'unknown reason'}).") from None
    except (UnicodeDecodeError, csv.Error):
        raise SchemaError(f"{place}: {path.name} is not a CSV file in UTF-8 with commas.") from None
    return [row for row in rows if all(row)]
