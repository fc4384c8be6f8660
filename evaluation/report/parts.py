"""What a part of the page is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dpsynth.evaluation.catalogue import ARMS, METRICS
from dpsynth.evaluation.learners.from_outside import ARM
from dpsynth.evaluation.report.text import TextTable, number, shown
from dpsynth.evaluation.results import Results

__all__ = ["PAID", "Figure", "Section", "arms_of", "by_arm", "direct", "kept", "nothing", "own_budget"]

_WITHHELD = (
    "No number of this part may be shown here: all of them would touch private data without noise. Whoever holds the "
    "data may have them in an internal report."
)


def nothing(reason: str, *, withheld: bool) -> str:
    """Return what a part without numbers says: they may not be shown here, or why there are none."""
    return _WITHHELD if withheld else f"Nothing was checked: {reason}."


PAID = (
    "Numbers that touched private data without noise may not be shown here. What may be is how far the cohort is from "
    "counts that the budget paid for."
)


@dataclass(frozen=True)
class Figure:
    """One figure, or several small ones, with the table behind it.

    Parameters
    ----------
    key : str
        Unique on the page.
    title, caption : str
    drawings : list of (heading, SVG)
    table : TextTable
    small : bool
        Whether the drawings are small and stand side by side.
    """

    key: str
    title: str
    caption: str
    drawings: list[tuple[str, str]]
    table: TextTable
    small: bool = False


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Parameters
    ----------
    key, title : str
    words : list of str
        Paragraphs.
    figures : list of Figure
    tables : list of TextTable
        Tables that stand open.
    more : list of TextTable
        Tables that are folded away.
    """

    key: str
    title: str
    words: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[TextTable] = field(default_factory=list)
    more: list[TextTable] = field(default_factory=list)


def arms_of(results: Results) -> list[str]:
    """Return the arms of these results in the catalogue's order."""
    present = {result.arm for result in results}
    return [arm for arm in ARMS if arm in present]


def by_arm(
    results: Results,
    metrics: Sequence[str],
    caption: str,
    names: Mapping[str, str] = ARMS,
    *,
    absent: str = "not computed",
    first: Sequence[str] = (),
) -> TextTable | None:
    """Return a table with a row per metric and a column per arm, those of `first` before the others."""
    scores = results.select([metric for metric in metrics if metric in METRICS])
    arms = sorted(arms_of(scores), key=lambda arm: arm not in first)
    rows = []
    for metric in metrics:
        mine = {result.arm: shown(result) for result in scores.select(metric)}
        if mine:
            n = next((result.n for result in scores.select(metric) if result.n is not None), None)
            rows.append((METRICS[metric].title, *(mine.get(arm, absent) for arm in arms), number(n)))
    return TextTable(caption, ("Metric", *(names[arm] for arm in arms), "n"), rows) if rows else None


T = TypeVar("T")


def kept(items: Sequence[T | None]) -> list[T]:
    """Return the items that are there."""
    return [item for item in items if item is not None]


def direct(results: Results, about: Mapping[str, Any]) -> str:
    """Return what a part says of the arm of DP classifiers, whether it is there or not."""
    words = "A DP classifier that is trained directly on the real patients at the same epsilon"
    if len(results.select(arm=ARM)):
        there = f"{words} shows how well this question alone can be answered at that price without synthesis."
        return f"{there} {own_budget(about)}".rstrip()
    if about.get("classifiers"):  # it stands in another part
        return ""
    return f"{words}, the yardstick for whether synthesis is worth it, was not given."


def own_budget(about: Mapping[str, Any]) -> str:
    """Return what DP classifiers spent on the patients, beside what the cohort spent; empty where it is unknown."""
    budgeted = [
        classifier for classifier in about.get("classifiers", ()) if "epsilon" in classifier and "delta" in classifier
    ]
    if not budgeted:
        return ""
    if about.get("real_data") == "public":
        return "It was trained on public patients: no budget was spent on it."
    budgets = "; ".join(
        dict.fromkeys(f"epsilon {classifier['epsilon']:g}, delta {classifier['delta']:g}" for classifier in budgeted)
    )
    each = "It" if len(budgeted) == 1 else f"Each of {len(budgeted)} such classifiers"
    return (
        f"{each} spent a budget of its own ({budgets}), which the cohort's epsilon does not cover; the ledger of the "
        "patients adds up what was spent."
    )
