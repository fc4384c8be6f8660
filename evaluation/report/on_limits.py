"""The part of the page on what is not there, what the cohort must not be used for, and what the metrics say."""

from collections.abc import Mapping

from dpsynth.evaluation.catalogue import ARMS, METRICS
from dpsynth.evaluation.report.parts import Section
from dpsynth.evaluation.report.text import TextTable
from dpsynth.evaluation.result import Result, Status
from dpsynth.evaluation.results import Results

__all__ = ["failures", "glossary", "unsupported"]


_BETTER = {
    "higher": "higher is better",
    "lower": "lower is better",
    "zero": "0 is ideal",
    "one": "1 is ideal",
    "none": "a description",
}


def unsupported(*, images: bool) -> list[str]:
    """Return the uses that no result on the page could make safe."""
    return [
        "Linking rows with other data to learn about real people: no row is a person.",
        "Rare combinations: counts of a few patients are mostly noise at any epsilon that protects them.",
        f"Time series, free text{'' if images else ', images'}: not part of this cohort.",
        "Calling counts of equal rows, or distances to the nearest real row, a measure of privacy.",
    ]


def failures(results: Results, *, withheld: bool) -> Section:
    """Return the part on what could not be computed, and on what the cohort must not be used for."""
    grouped: dict[tuple[str, str], dict[str, list[str]]] = {}
    for status, word in ((Status.FAILED, "failed"), (Status.NOT_ESTIMABLE, "not estimable")):
        for result in results.select(status=status):
            grouped.setdefault((_place(result), word), {}).setdefault(result.reason, []).append(result.title)
    rows = [(place, word, _reasons(reasons)) for (place, word), reasons in grouped.items()]
    head = ("Where", "Status", "What, and why")
    tables = [TextTable("Numbers that are not there, and why", head, rows, wide=True)] if rows else []
    words = [] if rows or withheld else ["Every metric that was asked for has a number."]
    if withheld:
        words.append(
            "Whatever touched private data without noise is not on this page, and so neither is which of those numbers "
            "could not be computed. The internal report has both."
        )
    return Section("limits", "Known failures and unsupported uses", words, [], tables)


def _reasons(reasons: Mapping[str, list[str]]) -> str:
    return ". ".join(f"{', '.join(dict.fromkeys(titles))}: {reason}" for reason, titles in reasons.items())


def _place(result: Result) -> str:
    return result.group if result.group != "all" else result.subject or ARMS[result.arm]


def glossary(results: Results) -> TextTable:
    """Return what each metric on the page says, and which way is better."""
    used = {result.metric for result in results}
    rows = [(item.title, item.about, _BETTER[item.direction]) for key, item in METRICS.items() if key in used]
    return TextTable("What the metrics say", ("Metric", "What it says", "Direction"), rows, wide=True)
