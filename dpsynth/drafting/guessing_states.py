"""States beside the numbers of a column, found for a draft: limits of a test, words, and values with a peak of rows.

Everything here reads private data without noise; see `dpsynth.drafting.guess`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.columns.states import NUMBER, Limit, limit_of, spelling_key
from dpsynth.drafting.guess import Guess

__all__ = ["BLANKS", "guess_with_states"]

BLANKS = (".", "-", "--", "—", "n/a", "#N/A", "#N/V")
"""How files write a missing number, besides the usual ways."""
_MOST_STATES = 12
_FEWEST_NUMBERS = 6
_PEAK = 0.15
"""Share of rows from which one value of a column may be a state of its own."""
_MOST_PEAKS = 2
_STEEPER = 4
"""How many times as many rows it then has as the next value."""
_NUMBER = re.compile(NUMBER)
_WITH_UNIT = re.compile(rf"({NUMBER})\s*[^\d\s.,:/-][^\d]*")

GuessNumbers = Callable[[Sequence[str], npt.NDArray[np.int64]], Guess]


def guess_with_states(texts: Sequence[str], counts: npt.NDArray[np.int64], guessed: GuessNumbers) -> Guess:
    """Return what a column might be, with limits, words and peaks beside its numbers as states.

    Parameters
    ----------
    texts
        Its different values as text, missing ones left out.
    counts
        How many rows have each.
    guessed
        Returns what a column with given values and counts might be, states aside.
    """
    is_number = np.array([bool(_NUMBER.fullmatch(text)) for text in texts], dtype=bool)
    words = [text for text, number in zip(texts, is_number, strict=True) if not number]
    if words and not _are_states(words, is_number, counts):
        guess = guessed(texts, counts)
        units = sum(bool(_WITH_UNIT.fullmatch(word)) for word in words)
        if guess.fields["type"] != "identifier" and units + is_number.sum() > len(texts) / 2:
            guess.notes.append("numbers with a unit or % behind them? Take it out of the data and declare numeric")
        return guess
    numbers = [text for text, number in zip(texts, is_number, strict=True) if number]
    peaks, rest = _peaks(numbers, counts[is_number])
    guess = guessed([numbers[place] for place in rest], counts[is_number][rest])
    if guess.fields["type"] != "numeric":
        return guessed(texts, counts)
    return _with(guess, words, peaks)


def _are_states(words: Sequence[str], is_number: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64]) -> bool:
    """Return whether a few words, or limits, stand beside many numbers."""
    if is_number.sum() < _FEWEST_NUMBERS or len({spelling_key(word) for word in words}) > _MOST_STATES:
        return False
    others = [word for word in words if limit_of(word) is None]
    return bool(len(others) < is_number.sum() and 4 * counts[is_number].sum() > counts.sum())


def _peaks(numbers: Sequence[str], counts: npt.NDArray[np.int64]) -> tuple[list[float], list[int]]:
    """Return one or two numbers that far more rows have than any other one, and the places of the others.

    Where more than two are so, measurements are rounded to few values, and none of them is a state.
    """
    total = int(counts.sum())
    high = [place for place in range(len(numbers)) if counts[place] >= _PEAK * total]
    others = [place for place in range(len(numbers)) if counts[place] < _PEAK * total]
    steep = _STEEPER * max((int(counts[place]) for place in others), default=0)
    peaks = [place for place in high if counts[place] >= steep]
    if len(high) > _MOST_PEAKS or len(others) < _FEWEST_NUMBERS:
        peaks = []
    rest = [place for place in range(len(numbers)) if place not in peaks]
    return sorted(float(numbers[place]) for place in peaks), rest


def _with(guess: Guess, words: Sequence[str], peaks: Sequence[float]) -> Guess:
    """Add states to the fields of a numeric column, and what a person should check about them."""
    limits: dict[Any, tuple[str, Limit]] = {}
    others: dict[Any, str] = {}
    for word in words:
        limit = limit_of(word)
        if limit is None:
            others.setdefault(spelling_key(word), word)
        else:
            limits.setdefault(spelling_key(word), (word, limit))
    whole = [int(peak) if peak.is_integer() else peak for peak in peaks]
    if whole or others:
        guess.fields["special"] = [*whole, *others.values()]
        guess.notes.append("special (a state of its own each" + (": many rows have this number)" if whole else ")"))
    if any(_WITH_UNIT.fullmatch(word) for word in words):
        guess.notes.append("one of them is a number with a unit: correct the data")
    below = [word for word, limit in limits.values() if limit.is_below]
    above = [word for word, limit in limits.values() if not limit.is_below]
    if below or above:
        sides = {"below": below, "above": above}
        guess.fields["censored"] = {
            side: texts[0] if len(texts) == 1 else texts for side, texts in sides.items() if texts
        }
        guess.notes.append("censored (limits of the test: take them from its manual)")
    _widen(guess, whole)
    return guess


def _widen(guess: Guess, peaks: Sequence[float]) -> None:
    """Give enough decimals for the special numbers, which must have no more than the column says."""
    written = [len(str(peak).partition(".")[2]) for peak in peaks if isinstance(peak, float)]
    if written and max(written) > guess.fields.get("decimals", 0):
        guess.fields["decimals"] = max(written)
