"""Which columns of a file are dates, and how they are written, for a draft: only what the reader then reads."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from dpsynth.columns.kinds import Datetime
from dpsynth.columns.moments import of_texts

__all__ = ["DateGuess", "guess_counted", "guess_written"]

_ISO = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M")
_DAYS = (
    *("%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d %m %Y"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%y/%m/%d"),
    *("%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%d.%b.%Y", "%b %d %Y", "%b %d, %Y", "%d%b%Y", "%Y-%b-%d"),
    *("%d %B %Y", "%d-%B-%Y", "%B %d %Y", "%B %d, %Y", "%d. %B %Y", "%d. %b %Y"),
    *("%d %b %y", "%d-%b-%y", "%d%b%y", "%Y%m%d", "%d%m%Y", "%m%d%Y"),
)
_CLOCK = re.compile(
    r"(?P<gap>, |[T :])(?P<hour>\d{1,2}):\d\d(?P<second>:\d\d(?P<part>\.\d+)?)?(?P<half> ?[AaPp][Mm])?"
    r"(?P<zone> ?(?:[Zz]|[-+]\d\d:?\d\d))?",
    re.ASCII,
)
_COMPACT = {"%Y%m%d": 8, "%Y%m%d%H%M": 12, "%Y%m%d%H%M%S": 14}
_PLAUSIBLE = (1850, 2100)
"""Years that a number of eight digits must name to be taken for a date."""
_SAMPLE = 50
_KEY = re.compile(r"(?:^|[^a-z])(?:id|nr|no|num|number|key|code|mrn)(?:$|[^a-z])|[a-z]id$", re.IGNORECASE)
_DATE_NAME = re.compile(r"(?:^|[^a-z])(?:dates?|datum|dat|dob|dod|dt|excel)(?:$|[^a-z])|(?:date|datum)$", re.IGNORECASE)
_TIME_NAME = re.compile(r"time|epoch|unix|stamp|(?:^|[^a-z])(?:ts|ms|at)$", re.IGNORECASE)
_COUNTED = (
    ("unix", 1e8, 4.2e9, _TIME_NAME),
    ("unix_ms", 1e11, 4.2e12, _TIME_NAME),
    ("unix_us", 1e14, 4.2e15, _TIME_NAME),
    ("unix_ns", 1e17, 4.2e18, _TIME_NAME),
    ("excel", 1e4, 7.4e4, _DATE_NAME),
)
"""Format, least and greatest number (from the years 1927 to 2103), and what the name must say."""


@dataclass(frozen=True)
class DateGuess:
    """The fields of a datetime column, and what a person must check about them."""

    fields: dict[str, str]
    notes: list[str]


def guess_written(texts: Sequence[str]) -> DateGuess | None:
    """Return how dates are written, where all texts are dates that are written in one way.

    Parameters
    ----------
    texts
        The column's different values.
    """
    if not all(re.search(r"\d", text) and len(text) >= len("1.1.80") for text in texts):
        return None
    clock = any(":" in text for text in texts)
    for pattern in [*_patterns(texts[0], _ISO), "", *_patterns(texts[0], _DAYS)]:
        guess = _guess(texts, pattern, clock=clock)
        if guess is not None:
            return guess
    return None


def _patterns(text: str, days: Sequence[str]) -> Iterator[str]:
    """Return the patterns that may fit a text: those with its marks between the numbers, and its form of clock."""
    if days is _ISO:
        yield from (pattern for pattern in days if re.match(r"\d{4}-\d\d-\d\d", text, re.ASCII))
        return
    clock = next((match for match in _CLOCK.finditer(text) if match.end() == len(text)), None)
    day = text if clock is None else text[: clock.start()]
    for pattern in days:
        fits = re.sub(r"\w", "", day) == re.sub(r"%?\w", "", pattern)
        if fits and bool(re.search("[A-Za-z]", day)) == bool(re.search("%[bB]", pattern)):
            yield pattern + (_clock_pattern(clock) if clock is not None else "")


def _clock_pattern(clock: re.Match[str]) -> str:
    half, zone = clock["half"] or "", clock["zone"] or ""
    pattern = clock["gap"] + ("%I:%M" if half else "%H:%M") + (":%S" if clock["second"] else "")
    pattern += ".%f" if clock["part"] else ""
    return (
        pattern + (half[:-2] + "%p" if half else "") + (zone[: len(zone) - len(zone.lstrip())] + "%z" if zone else "")
    )


def _guess(texts: Sequence[str], pattern: str, *, clock: bool) -> DateGuess | None:
    """Return the guess that texts follow a pattern (ISO of any form, where it is empty), or None."""
    seconds = _read(texts, pattern, clock=clock)
    if seconds is None:
        return None
    notes = ["min", "max"]
    other = _swapped(pattern)
    if other and _read(texts, other, clock=clock) is not None:
        notes.append("format (day before month, or month before day?)")
    if "%y" in pattern:
        notes.append("format (two-digit years: the century is the one that lies between min and max)")
    fields = _fields(seconds, clock=clock, two_digits="%y" in pattern)
    if pattern not in ("", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"):
        fields["format"] = pattern
    return DateGuess(fields, notes)


def _read(texts: Sequence[str], pattern: str, *, clock: bool) -> list[int] | None:
    end = "T23:59:59" if clock else ""
    column = Datetime.model_validate({"min": "0001-01-01", "max": f"9999-12-31{end}", "format": pattern})
    return of_texts(texts, column) if of_texts(texts[:_SAMPLE], column) is not None else None


def _swapped(pattern: str) -> str:
    """Return the pattern with day and month exchanged, where both are numbers and the year does not come first."""
    if "%d" not in pattern or "%m" not in pattern or pattern.lower().startswith("%y"):
        return ""
    return pattern.replace("%d", "\0").replace("%m", "%d").replace("\0", "%m")


def _fields(seconds: Sequence[int], *, clock: bool, two_digits: bool = False) -> dict[str, str]:
    years = [(date(1970, 1, 1) + timedelta(seconds=second)).year for second in (min(seconds), max(seconds))]
    if two_digits:  # those after this year are of the century before
        here = date.today().year
        every = {(date(1970, 1, 1) + timedelta(seconds=second)).year for second in seconds}
        past = [year - 100 if year > here else year for year in every]
        years = [min(past), max(past)]
    first, last = years
    return {
        "type": "datetime",
        "min": f"{first:04d}-01-01",
        "max": f"{last:04d}-12-31" + ("T23:59:59" if clock else ""),
    }


def guess_counted(name: str, texts: Sequence[str], numbers: npt.NDArray[np.float64]) -> DateGuess | None:
    """Return which dates numbers stand for: 20080131, or what the column's name and their size say together.

    Parameters
    ----------
    name
        The column's name.
    texts
        The different values, as text.
    numbers
        The same as numbers.
    """
    whole = bool((numbers == np.rint(numbers)).all())
    if _KEY.search(name) or (numbers < 0).any():
        return None
    if whole:
        digits = {len(text.partition(".")[0]) for text in texts}
        for pattern, width in _COMPACT.items():
            guess = _guess(texts, pattern, clock="%H" in pattern) if digits == {width} else None
            if guess is not None and _is_plausible(guess):
                return DateGuess(guess.fields, [*guess.notes, "format (are these numbers dates?)"])
    for form, least, most, pattern_of_name in _COUNTED:
        if pattern_of_name.search(name) and least <= numbers.min() and numbers.max() <= most:
            return _of_counts(texts, form, numbers)
    return None


def _is_plausible(guess: DateGuess) -> bool:
    return int(guess.fields["min"][:4]) >= _PLAUSIBLE[0] and int(guess.fields["max"][:4]) <= _PLAUSIBLE[1]


def _of_counts(texts: Sequence[str], form: str, numbers: npt.NDArray[np.float64]) -> DateGuess | None:
    per_day = {"excel": 1, "unix": 86_400, "unix_ms": 86_400 * 10**3, "unix_us": 86_400 * 10**6}
    clock = bool((numbers % per_day.get(form, 86_400 * 10**9) != 0).any())
    seconds = _read(texts, form, clock=clock)
    if seconds is None:
        return None
    fields = {**_fields(seconds, clock=clock), "format": form}
    return DateGuess(fields, ["min", "max", "format (are these numbers dates?)"])
