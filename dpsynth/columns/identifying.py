"""What a column's name says of whom or what it identifies.

Names are public; nothing here looks at a value.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from dpsynth.columns.identifier_words import (
    CODES,
    COUNTED,
    DIRECT,
    FILLERS,
    LISTS,
    NUMBERS,
    PLACES,
    STEMS,
    STRONG,
    WORDS,
)

__all__ = ["RANKS", "NameMeaning", "by_name", "meaning_of"]

RANKS = ("person", "record", "key", "direct", "visit", "row")
"""Entities that may stand for a patient, likeliest first; others (places, staff, families) never do.

A `key` has a name that says nothing, and values that hardly repeat or are numbered."""

_KEYED = ("person", "record", "visit", "row")
_LETTERS = str.maketrans({"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ß": "ss", "æ": "ae", "Æ": "Ae"})
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+|\d+")
_ENDINGS = ("nummer", "number", "kennung", "code", "uuid", "guid", "num", "key", "nr", "no", "id")
_BEGINNINGS = ("numero", "codigo", "codice", "code", "num", "cod", "id", "nr", "no")


@dataclass(frozen=True)
class NameMeaning:
    """What a column's name says.

    Attributes
    ----------
    entity
        What the column tells apart: one of `RANKS`, or ``"group"``, ``"staff"``, ``"place"``, ``"code"``; empty where
        the name does not say.
    is_key
        Whether the name says that the column identifies: ``patient_id`` does, ``patient_age`` does not.
    is_certain
        Whether it says so with a word for an identifier, so that any values may stand in it.
    """

    entity: str = ""
    is_key: bool = False
    is_certain: bool = False


@cache
def meaning_of(name: str) -> NameMeaning:
    """Return what a column's name says that it identifies, in the languages of Europe.

    Parameters
    ----------
    name
        The name as the file has it: ``PatNr``, ``numéro_patient``, ``visit_occurrence_id``.

    Examples
    --------
    >>> meaning_of("PatNr").entity, meaning_of("visit_occurrence_id").entity, meaning_of("potilas_tunnus").entity
    ('person', 'visit', 'person')
    >>> meaning_of("patient_age").is_key, meaning_of("num_visits").is_key, meaning_of("drug_name").is_key
    (False, False, False)
    """
    words = _words(name)
    counts = len(words) == 1 or (bool(words) and words[0] in NUMBERS)
    if not words or (counts and any(word in COUNTED for word in words)):
        return NameMeaning()
    entities = [_entity(word) for word in words]
    strong = any(word in STRONG or _is_compound(word, entity) for word, entity in zip(words, entities, strict=True))
    numbered = any(word in NUMBERS for word in words) and max(map(len, words)) > 1  # `N0P` is no patient number
    entity = _chosen(entities, id_first=words[0] in STRONG | NUMBERS)
    if any(word in LISTS or (word in CODES and entity not in ("person", "group", "staff")) for word in words):
        return NameMeaning("code")
    if entity in _KEYED:
        plain = max(map(len, words)) > 2 and all(
            thing or word in FILLERS for word, thing in zip(words, entities, strict=True)
        )
        return NameMeaning(entity, strong or numbered or plain, strong or numbered)
    if entity:
        certain = strong or entity == "direct"
        return NameMeaning(entity, certain or entity == "staff", certain)
    is_number = strong or words[-1] in ("nr", "no", "key", "nummer")
    return NameMeaning("record", True, True) if is_number else NameMeaning()


def by_name(columns: Iterable[str]) -> list[str]:
    """Return columns in the order in which their names suggest that they tell patients apart, likeliest first."""
    return sorted(columns, key=lambda name: _rank(meaning_of(name).entity))


def _rank(entity: str) -> float:
    return RANKS.index(entity) if entity in RANKS else len(RANKS) if entity else RANKS.index("record") + 0.5


def _words(name: str) -> list[str]:
    """Return the words of a name: split at marks, digits and capitals, accents folded, in small letters."""
    letters = unicodedata.normalize("NFKD", name.translate(_LETTERS))
    plain = "".join(mark for mark in letters if not unicodedata.combining(mark))
    return [word.casefold().replace("\u03c2", "\u03c3") for word in _PARTS.findall(plain) if not word.isdigit()]


def _entity(word: str) -> str:
    """Return what one word speaks of; also where an ending or a beginning makes it a compound, such as ``patid``."""
    entity = _plain_entity(word)
    if entity or word in STRONG | NUMBERS:
        return entity
    rests = [word.removesuffix(ending) for ending in _ENDINGS if word.endswith(ending)]
    rests += [word.removeprefix(beginning) for beginning in _BEGINNINGS if word.startswith(beginning)]
    return next((thing for rest in rests if (thing := _plain_entity(rest))), "")


def _plain_entity(word: str) -> str:
    for entity, words in WORDS.items():
        if word in words:
            return entity
    for entity, stems in STEMS.items():
        if word.startswith(stems):
            return entity
    if word in PLACES:
        return "place"
    return "direct" if word in DIRECT else ""


def _is_compound(word: str, entity: str) -> bool:
    """Return whether one word holds both what is identified and that it is: ``patid``, ``Fallnummer``, ``mrn``."""
    return bool(entity) and word.endswith(_ENDINGS) and entity not in ("direct", "place")


def _chosen(entities: Sequence[str], *, id_first: bool) -> str:
    """Return the entity of a name: its last one in ``patient_visit_id``, its first in ``id_visite_patient``."""
    things = [entity for entity in entities if entity]
    keys = [entity for entity in things if entity != "place"]
    if "place" in things and (not keys or set(keys) == {"direct"}):
        return "place"
    if "direct" in things or not keys:
        return "direct" if keys else ""
    return keys[0] if id_first else keys[-1]
