"""Numbers as text, and tables as rows of text: what the page shows and a screen reader reads."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dpsynth.evaluation.result import Interval, Result, Status

__all__ = ["TextTable", "number", "percent", "short", "shown", "with_interval"]


@dataclass(frozen=True)
class TextTable:
    """A table of texts, with a caption and the names of its columns.

    Parameters
    ----------
    caption : str
    head : sequence of str
        The first column holds the rows' names.
    rows : sequence of sequences of str
    wide : bool
        Whether cells hold sentences and may break over lines.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    wide: bool = False


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with a few digits after the point; an integer as it is; ``n/a`` where there is none.

    Examples
    --------
    >>> number(0.81234), number(12345.0), number(-0.0001), number(None), number(3.2e-7)
    ('0.812', '12,345', '-0.000', 'n/a', '3.2e-07')
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 1 or value == 0 else f"{value:g}"
    if abs(value) < 10 ** -(digits + 1):
        return f"{value:.{digits - 1}g}" if abs(value) < 1e-4 else f"{value:.{digits}f}"
    return f"{value:,.{digits}f}" if abs(value) < 1000 else f"{value:,.0f}"


def percent(value: float, digits: int = 1) -> str:
    """Return a share as a percentage.

    Examples
    --------
    >>> percent(0.2585), percent(1.0)
    ('25.9 %', '100.0 %')
    """
    return f"{100 * value:.{digits}f} %"


def with_interval(value: float | None, interval: Interval | None, digits: int = 3) -> str:
    """Return a number with its interval, as in a paper."""
    if interval is None:
        return number(value, digits)
    return f"{number(value, digits)} ({number(interval.low, digits)} to {number(interval.high, digits)})"


def shown(result: Result, digits: int = 3) -> str:
    """Return what a result says: its number, or that there is none and why."""
    if result.status is Status.OK:
        return with_interval(result.value, result.interval, digits)
    word = "not estimable" if result.status is Status.NOT_ESTIMABLE else "failed"
    return f"{word}: {result.reason}"


def short(text: str, length: int = 26) -> str:
    """Return a label that is not longer than `length`; the table behind the figure has it whole."""
    return text if len(text) <= length else text[: length - 1] + "…"
