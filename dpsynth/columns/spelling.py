"""Categories of a schema file stay as they are spelled: 1E50 is a code of ICD-11 there and no number, and so is 250.00.

YAML and JSON type a plain scalar before anybody knows what column it belongs to. So a number that is spelled in another
way than numbers usually are keeps its spelling until the whole document is read. In a list of categories, and in what
refers to one, such a spelling makes all numbers of the list text; everywhere else it is the number.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["Spelled", "number", "resolved", "spelling"]


class Spelled:
    """A number that is spelled in an unusual way, such as 1E5, 250.00 or +5.

    Parameters
    ----------
    text
        As it stands in the file.
    value
        The number.
    """

    def __init__(self, text: str, value: float) -> None:
        self.text = text
        self.value = value


def number(text: str) -> int | float | Spelled:
    """Return the number that text of YAML or JSON spells; with its spelling, where that is unusual.

    >>> number("4.0"), number("250"), number("1E5").text
    (4.0, 250, '1E5')
    """
    digits = text.lstrip("+-")
    value: int | float = int(text) if digits.isdigit() else float(text)
    return value if str(value) == text else Spelled(text, value)


def spelling(value: Any) -> str:
    """Return a category as a schema file spells it: 428.0 is "428.0".

    >>> spelling(428.0), spelling(True), spelling("E11.9")
    ('428.0', 'true', 'E11.9')
    """
    return str(value).lower() if isinstance(value, bool) else str(value)


def resolved(document: Any) -> Any:
    """Return a document without `Spelled` numbers.

    Parameters
    ----------
    document
        What a schema file holds, as far as it is one.
    """
    if not isinstance(document, Mapping):
        return _plain(document)
    columns = document.get("columns")
    coded = {name for name, column in columns.items() if _is_coded(column)} if isinstance(columns, Mapping) else set()
    return {key: _part(key, value, coded) for key, value in document.items()}


def _is_coded(column: Any) -> bool:
    """Return whether one of a column's categories is spelled as no number usually is."""
    if not isinstance(column, Mapping):
        return False
    lists = [column.get(field) for field in ("values", "labels")]
    return any(isinstance(value, Spelled) for values in lists if isinstance(values, list) for value in values)


def _part(key: str, value: Any, coded: set[str]) -> Any:
    """Return one field of a schema; what belongs to a coded column is taken as text."""
    if key == "columns" and isinstance(value, Mapping):
        return {name: _column(column) if name in coded else _plain(column) for name, column in value.items()}
    if key == "constraints":
        return _of_columns(value, coded)
    if key == "visits" and isinstance(value, Mapping) and value.get("column") in coded:
        return {field: _texts(item) if field == "values" else _plain(item) for field, item in value.items()}
    return _plain(value)


def _column(column: Mapping[str, Any]) -> dict[str, Any]:
    fields = ("values", "labels", "other")
    return {field: _texts(item) if field in fields else _plain(item) for field, item in column.items()}


def _of_columns(value: Any, coded: set[str]) -> Any:
    """Return conditions and listed combinations with those on coded columns as text."""
    if isinstance(value, Mapping) and isinstance(value.get("columns"), list) and isinstance(value.get("values"), list):
        return {**_plain(value), "values": [_listed(row, value["columns"], coded) for row in value["values"]]}
    if isinstance(value, Mapping):
        return {key: _texts(item) if key in coded else _of_columns(item, coded) for key, item in value.items()}
    return [_of_columns(item, coded) for item in value] if isinstance(value, list) else _plain(value)


def _listed(row: Any, names: list[Any], coded: set[str]) -> Any:
    """Return one combination of values, each as its column has it."""
    if not isinstance(row, list):
        return _plain(row)
    return [_texts(item) if name in coded else _plain(item) for item, name in zip(row, [*names, *row], strict=False)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Spelled) else value


def _texts(value: Any) -> Any:
    """Return numbers as the text that they are spelled with."""
    if isinstance(value, Mapping):
        return {key: _texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    if isinstance(value, Spelled):
        return value.text
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
