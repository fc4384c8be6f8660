"""Whether what is learned from the cohort is as good as what is learned from real patients."""

import math

from dpsynth.evaluation.protocol import Margins
from dpsynth.evaluation.report.answers import Answer, joint, not_above_floor, within
from dpsynth.evaluation.result import Result
from dpsynth.evaluation.results import Results

__all__ = ["learning", "recognising"]

NOTHING_TO_LEARN = "Cannot be told: nothing to learn here. "


def learning(results: Results, margins: Margins) -> tuple[Answer, str]:
    """Return whether learners of rows lose at most the margin, and why that cannot be told where it cannot.

    A learner that finds nothing in real patients either can lose nothing: it says no more than a no.
    """
    scores = results.select(("auroc", "r2"), section="utility")
    if len(scores) and all(result.detail.get("features") == 0 for result in scores.select(arm="real")):
        return Answer.NOTHING_CHECKED, "Nothing was checked: there is no other column to learn from."
    answers: list[Answer] = []
    reasons: list[str] = []
    for result in results.select("change", arm="synthetic"):
        mine = scores.select(result.detail.get("of", ("auroc", "r2")), subject=result.subject)
        floor = mine.select(arm="floor")
        _note(result, not_above_floor(_real(mine), margins.loss, floor=floor), margins, answers, reasons)
    return _told(answers, reasons)


def recognising(results: Results, margins: Margins) -> tuple[Answer, str]:
    """Return the same of networks that learn from images, by balanced accuracy."""
    answers: list[Answer] = []
    reasons: list[str] = []
    for result in results.select("image_balanced_accuracy_change", arm="synthetic", group="all"):
        classes = {item.group for item in results.select("class_recall", subject=result.subject, arm="real") if item.ok}
        mine = results.select("image_balanced_accuracy", subject=result.subject, group="all")
        chance, floor = 1 / max(len(classes), 2), mine.select(arm="floor")
        _note(result, not_above_floor(_real(mine), margins.loss, chance=chance, floor=floor), margins, answers, reasons)
    return _told(answers, reasons)


def _real(scores: Results) -> Result | None:
    return next(iter(scores.select(arm="real")), None)


def _note(change: Result, reason: str, margins: Margins, answers: list[Answer], reasons: list[str]) -> None:
    """Add a learner's answer, or why it has none."""
    answer = within(change.interval, -margins.loss, math.inf)
    if reason and answer in (Answer.YES, Answer.NOT_SHOWN):
        reasons.append(reason)
    else:
        answers.append(answer)


def _told(answers: list[Answer], reasons: list[str]) -> tuple[Answer, str]:
    if not answers and reasons:
        return Answer.UNKNOWN, f"{NOTHING_TO_LEARN}{'; '.join(reasons)}."
    return joint(answers), ""
