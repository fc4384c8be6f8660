"""Questions that a draft leaves open, which a person must answer before the schema can be confirmed."""

from collections.abc import Mapping
from typing import Any

from dpsynth.columns.identifying import by_name, meaning_of
from dpsynth.columns.kinds import Identifier
from dpsynth.schema.facts import Facts

__all__ = ["OPEN", "answers", "check_answered", "discovered_patients", "opened", "question"]

OPEN = "?"
"""What stands in a schema file in place of an answer."""


def opened(values: Any) -> Any:
    """Return the fields of a schema file with each ``?`` taken out and its field named under `open`."""
    if not isinstance(values, Mapping):
        return values
    if values.get("patient") == OPEN:
        return {**values, "patient": None, "open": ("patient",)}
    if values.get("open") and values.get("patient") is not None:
        return {**values, "open": ()}
    return values


def answers(schema: Facts) -> list[str]:
    """Return the columns that may answer which one tells patients apart, likeliest first, by their names alone."""
    return by_name(name for name, column in schema.columns.items() if isinstance(column, Identifier))


def question(schema: Facts) -> str:
    """Return the open question of a schema with its possible answers, in words."""
    names = answers(schema)
    columns = f"{', '.join(map(repr, names))}, or " if names else ""
    return (
        f"patient: is open (?): which column tells patients apart? Answer with {columns}null if each row is another "
        "patient"
    )


def check_answered(schema: Facts) -> None:
    """Refuse to confirm a schema with an open question.

    Raises
    ------
    ValueError
        Naming the question with its answers.
    """
    if schema.open:
        raise ValueError(f"{question(schema)}. A schema with an open question cannot be confirmed")


def discovered_patients(schema: Facts) -> dict[str, str]:
    """Return columns that are called after the patient and are to be discovered, with what is wrong and what to do.

    They would publish the identifiers of patients with many rows, where another column was taken for the patient.
    """
    words = (
        "by its name it tells patients apart, and discover: true would publish its values. Declare it as type: "
        "identifier (and as patient, if that is what it tells apart), name it under drop, or, if its values are public "
        "categories, list them under values"
    )
    return {name: words for name in schema.to_discover if _tells_patients_apart(name)}


def _tells_patients_apart(name: str) -> bool:
    meaning = meaning_of(name)
    return meaning.is_key and meaning.entity == "person"
