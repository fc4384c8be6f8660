"""Whether a column is an identifier, from its name and its values, and of what: the raw material of a draft schema.

Dates, moments and measurements with decimals are never identifiers. Reads private data without noise: for the person
who writes the schema.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dpsynth.columns.identifier_values import (
    are_moments,
    is_row_number,
    looks_enumerated,
    looks_like_numbers_of_persons,
    written_like,
)
from dpsynth.columns.identifying import RANKS, NameMeaning, meaning_of

__all__ = ["Recognised", "recognised_numbers", "recognised_text"]

_MOST_LISTED = 50
_DIRECT = ("e-mail addresses", "bank accounts (IBAN)", "phone numbers", "links", "addresses of devices")
_SHORT_LIST = 5
_FEW_ROWS = 20
_ORDINAL = 1000  # numbers of visits within a patient are below this


@dataclass(frozen=True)
class Recognised:
    """What kind of identifier a column is.

    Attributes
    ----------
    role
        What it tells apart, one of `dpsynth.columns.identifying.RANKS`; empty where it cannot stand for the patient.
    why
        What it was recognised by, in words.
    """

    role: str
    why: str


def recognised_text(name: str, texts: Sequence[str], rows: int) -> Recognised | None:
    """Return what identifier a column of text is, or None where it is none.

    Parameters
    ----------
    name
        The column's name.
    texts
        Its different values, missing ones left out; no dates.
    rows
        Rows of the table that have one.
    """
    meaning = meaning_of(name)
    kind = written_like(texts)
    if kind in _DIRECT:
        return Recognised("direct", kind)
    if kind:
        return Recognised("person" if kind.startswith("national") else _role(meaning), kind)
    if _says_so(meaning, len(texts), rows, is_ordinal=len(texts) <= _MOST_LISTED):
        return Recognised(_role(meaning), "its name")
    are_keys = len(texts) > _MOST_LISTED or not any(" " in text for text in texts)
    if meaning.is_key and len(texts) > _SHORT_LIST and are_keys:
        return Recognised(_role(meaning), "its name") if _is_specific(meaning, len(texts), rows) else None
    return _enumerated(meaning, texts, rows)


def _enumerated(meaning: NameMeaning, texts: Sequence[str], rows: int) -> Recognised | None:
    kind = looks_enumerated(texts, rows)
    if not kind or (kind == "numbered keys" and meaning.entity in ("code", "place")):
        return None
    if kind.endswith("text"):
        return Recognised("", kind)
    return Recognised("direct" if kind == "names of persons" else _role(meaning) if meaning.entity else "key", kind)


def recognised_numbers(name: str, numbers: npt.NDArray[np.float64], rows: int) -> Recognised | None:
    """Return what identifier a column of numbers is, or None where it is none, such as a measurement.

    Parameters
    ----------
    name
        The column's name.
    numbers
        Its different values, missing ones left out.
    rows
        Rows of the table that have one.
    """
    if not (numbers == np.rint(numbers)).all():
        return None
    meaning, distinct = meaning_of(name), len(numbers)
    counts_rows = is_row_number(numbers, rows)
    is_ordinal = float(np.abs(numbers).max()) <= _ORDINAL
    why = ""
    if _says_so(meaning, distinct, rows, is_ordinal=is_ordinal):
        why = "its name; it counts the rows" if counts_rows else "its name"
    elif counts_rows and rows >= _FEW_ROWS:
        return Recognised(_role(meaning) if meaning.is_key else "row", "it counts the rows")
    elif not are_moments(numbers):
        if meaning.is_key and distinct > _FEW_ROWS and _is_specific(meaning, distinct, rows):
            why = "its name"
        elif looks_like_numbers_of_persons(numbers, rows) and meaning.entity != "code":
            return Recognised(_role(meaning) if meaning.entity else "key", "long numbers of one length")
    return Recognised(_role(meaning), why) if why else None


def _says_so(meaning: NameMeaning, distinct: int, rows: int, *, is_ordinal: bool) -> bool:
    """Return whether a name says by itself that the column identifies; the numbers of visits and rows may be few."""
    if meaning.entity == "staff" and meaning.is_key:
        return True
    if not meaning.is_certain or meaning.entity == "code":
        return False
    if meaning.entity == "place":
        return distinct > _MOST_LISTED
    return meaning.entity not in ("visit", "row") or not (is_ordinal and distinct <= rows / 4)


def _is_specific(meaning: NameMeaning, distinct: int, rows: int) -> bool:
    """Return whether a name such as ``patient`` or ``encounter`` may head a column of keys with so many values."""
    return meaning.entity == "person" or distinct > rows / 4


def _role(meaning: NameMeaning) -> str:
    """Return what an identifier of this name tells apart; `record` where the name does not say."""
    if not meaning.entity:
        return "record"
    return meaning.entity if meaning.entity in RANKS else ""
