"""What a column of a file might be, guessed from its values: the raw material of a draft schema.

Everything here reads private data without noise. What it returns is for the person who writes the schema and must not
be released; `dpsynth.drafting.draft` marks it so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.columns.identifying import meaning_of
from dpsynth.drafting.code_guessing import named_as_codes, numbers_of
from dpsynth.drafting.date_guessing import guess_counted, guess_written
from dpsynth.drafting.recognising import Recognised, recognised_numbers, recognised_text

__all__ = ["Guess", "guess", "nice_above", "nice_below"]

_NICE = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
_BOOLEANS = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"))
_MOST_LISTED = 50
_LARGEST = 2**40
_FEW_CODES = 5


@dataclass
class Guess:
    """Fields of a column as a schema has them, and what a person must check about each."""

    fields: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    repeats: int = 1  # rows of the most frequent value, where the column is an identifier
    distinct: int = 0  # how many different values it then has
    role: str = ""  # what it then tells apart, if it may stand for the patient
    is_incomplete: bool = False  # whether a row has none


def guess(name: str, texts: Sequence[str], counts: npt.NDArray[np.int64], *, missing: bool) -> Guess:
    """Return what a column might be.

    Parameters
    ----------
    name
        Its name.
    texts
        Its different values as text, missing ones left out.
    counts
        How many rows have each.
    missing
        Whether one is missing.
    """
    guessed = _guess_kind(name, texts, counts)
    guessed.is_incomplete = missing
    if guessed.fields["type"] != "identifier" and missing:
        guessed.fields["missing"] = True
        guessed.notes.append("missing")
    return guessed


def _guess_kind(name: str, texts: Sequence[str], counts: npt.NDArray[np.int64]) -> Guess:
    if not texts:
        return Guess({"type": "categorical", "discover": True, "max_values": 10}, ["everything (no value is there)"])
    numbers = numbers_of(name, texts)
    if numbers is not None and set(numbers.tolist()) == {0, 1}:
        return Guess({"type": "boolean", "labels": [0, 1]}, ["labels"])
    if numbers is not None:
        return _counted(name, texts, numbers) or _guess_numeric(name, texts, numbers, counts)
    spellings = {text.casefold() for text in texts}
    for labels in _BOOLEANS:
        if spellings == set(labels) and len(texts) == len(labels):
            return _boolean(texts, labels)
    dates = guess_written(texts)
    return Guess(dict(dates.fields), dates.notes) if dates is not None else _guess_text(name, texts, counts)


def _counted(name: str, texts: Sequence[str], numbers: npt.NDArray[np.float64]) -> Guess | None:
    """Return the guess that numbers are dates or codes, as far as their spelling and the column's name say so."""
    dates = guess_counted(name, texts, numbers)
    if dates is not None:
        return Guess(dict(dates.fields), dates.notes)
    if not named_as_codes(name) or len(texts) <= _FEW_CODES:
        return None
    if len(texts) <= _MOST_LISTED:
        return Guess({"type": "categorical", "values": sorted(texts)}, ["type (by its name)", "values"])
    return Guess(
        {"type": "categorical", "discover": True, "max_values": int(nice_above(len(texts)))},
        ["type (by its name)", "discover (a public list is better: finding the values costs budget)", "max_values"],
    )


def _boolean(texts: Sequence[str], labels: tuple[str, str]) -> Guess:
    if labels[0] == "false":
        return Guess({"type": "boolean"})
    return Guess(
        {"type": "boolean", "labels": sorted(texts, key=lambda text: labels.index(text.casefold()))}, ["labels"]
    )


def _identifier(recognised: Recognised, counts: npt.NDArray[np.int64]) -> Guess:
    return Guess({"type": "identifier"}, [f"type ({recognised.why})"], int(counts.max()), len(counts), recognised.role)


def _guess_numeric(
    name: str, texts: Sequence[str], numbers: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> Guess:
    whole = bool((numbers == np.rint(numbers)).all())
    identifier = recognised_numbers(name, numbers, int(counts.sum()))
    if identifier is None and float(np.abs(numbers).max()) > _LARGEST:
        identifier = Recognised("", "numbers too large to be modelled")
    if identifier is not None:
        return _identifier(identifier, counts)
    meaning = meaning_of(name)  # concept numbers, and numbers of hospitals or visits, are codes
    most = _MOST_LISTED if meaning.is_certain or meaning.entity == "code" else _FEW_CODES
    if whole and len(numbers) <= most:
        values = sorted({int(number) for number in numbers})
        return Guess({"type": "categorical", "values": values}, ["type", "values"])
    low, high = nice_below(float(numbers.min())), nice_above(float(numbers.max()))
    fields: dict[str, Any] = {"type": "numeric", "min": low, "max": high}
    notes = ["min", "max"]
    is_log = 0 < low <= high / 100
    decimals = 0 if whole else _decimals(texts, low / 10 if is_log else (high - low) / 1000)
    if decimals:
        fields["decimals"] = decimals
        notes.append("decimals")
    if is_log:
        fields["scale"] = "log"
        notes.append("scale")
    return Guess(fields, notes)


def _decimals(texts: Sequence[str], step: float) -> int:
    """Return how many digits after the point are written, but not more than a step of this size needs."""
    written = max(len(text.partition(".")[2]) if "e" not in text.casefold() else 6 for text in texts)
    needed = max(0, math.ceil(-math.log10(step))) if step > 0 else written
    return min(written, needed, 6)


def nice_above(value: float) -> float:
    """Return the least number of one or two digits that is at least `value`.

    >>> nice_above(101.8), nice_above(0), nice_above(-3.3)
    (120, 0, -3)
    """
    if value <= 0:
        return -nice_below(-value) if value else 0
    power = _power_below(value)
    return _tidy(next((step * power for step in _NICE if step * power >= value * (1 - 1e-12)), 10 * power))


def nice_below(value: float) -> float:
    """Return the greatest number of one or two digits that is at most `value`.

    >>> nice_below(18.04), nice_below(0), nice_below(-3.3)
    (15, 0, -4)
    """
    if value <= 0:
        return -nice_above(-value) if value else 0
    power = _power_below(value)
    return _tidy(next((step * power for step in reversed(_NICE) if step * power <= value * (1 + 1e-12)), 0))


def _power_below(value: float) -> float:
    """Return the power of ten at or below a positive number."""
    return 10.0 ** max(-300, math.floor(math.log10(value)))


def _tidy(value: float) -> float:
    """Return 120.00000000000001 as 120: two digits are all that a nice number has."""
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() else short


def _guess_text(name: str, texts: Sequence[str], counts: npt.NDArray[np.int64]) -> Guess:
    identifier = recognised_text(name, texts, int(counts.sum()))
    if identifier is not None:
        return _identifier(identifier, counts)
    if len(texts) <= _MOST_LISTED:
        return Guess({"type": "categorical", "values": sorted(texts)}, ["values"])
    return Guess(
        {"type": "categorical", "discover": True, "max_values": int(nice_above(len(texts)))},
        ["discover (a public list is better: finding the values costs budget)", "max_values"],
    )
