"""Answers, and when a *yes* is earned: by a whole interval, and where there was something to lose."""

from collections.abc import Sequence
from enum import StrEnum

from dpsynth.evaluation.catalogue import METRICS
from dpsynth.evaluation.report.text import number, shown
from dpsynth.evaluation.result import Interval, Result
from dpsynth.evaluation.results import Results

__all__ = ["Answer", "at_most", "joint", "not_above_floor", "repeated", "within"]

#: What a model that knows nothing scores, where that does not depend on the outcome.
CHANCE = {"auroc": 0.5, "r2": 0.0, "group_auroc": 0.5, "group_r2": 0.0}


class Answer(StrEnum):
    """The possible answers to the question whether the cohort is good enough for a use."""

    YES = "yes"
    NO = "no"
    NOT_SHOWN = "not shown"
    UNKNOWN = "unknown"
    NOTHING_CHECKED = "nothing checked"


def at_most(interval: Interval | None, margin: float) -> Answer:
    """Return whether a number whose interval this is stays at most `margin`."""
    if interval is None:
        return Answer.UNKNOWN
    if interval.high <= margin:
        return Answer.YES
    return Answer.NO if interval.low > margin else Answer.NOT_SHOWN


def within(interval: Interval | None, low: float, high: float) -> Answer:
    """Return whether a number whose interval this is lies between `low` and `high`."""
    if interval is None:
        return Answer.UNKNOWN
    if low <= interval.low and interval.high <= high:
        return Answer.YES
    return Answer.NO if interval.high < low or interval.low > high else Answer.NOT_SHOWN


def joint(answers: Sequence[Answer], *, one_no: bool = False) -> Answer:
    """Return yes where all say so, no where all that say anything do; with `one_no`, one no decides.

    Examples
    --------
    >>> joint([Answer.YES, Answer.UNKNOWN]), joint([Answer.NO, Answer.UNKNOWN]), joint([])
    (<Answer.NOT_SHOWN: 'not shown'>, <Answer.NO: 'no'>, <Answer.UNKNOWN: 'unknown'>)
    """
    if one_no and Answer.NO in answers:
        return Answer.NO
    told = {answer for answer in answers if answer is not Answer.UNKNOWN}
    if not told:
        return Answer.UNKNOWN
    if told == {Answer.NO}:
        return Answer.NO
    return Answer.YES if set(answers) == {Answer.YES} else Answer.NOT_SHOWN


def not_above_floor(real: Result | None, margin: float, *, chance: float | None = None, floor: Results) -> str:
    """Return why a cohort could lose nothing here, empty where the ceiling is clearly above the floor.

    Clearly: the whole interval of what is learned from real patients lies above the floor by more than the margin that
    the cohort may lose. Else a cohort from which nothing can be learned would pass.

    Parameters
    ----------
    real : Result or None
        The score of what was trained on real patients: the ceiling.
    margin : float
        What the cohort may lose.
    chance : float, optional
        The score of knowing nothing; default: that of the metric.
    floor : Results
        Scores of the arm ``floor``, where there is one.
    """
    if real is None or real.interval is None:
        return "what is learned from real patients has no score here"
    lowest = CHANCE[real.metric] if chance is None else chance
    lowest = max([lowest, *(result.number for result in floor if result.ok)])
    if real.interval.low > lowest + margin:
        return ""
    learner = f" of {real.subject}" if real.subject else ""
    return (
        f"{METRICS[real.metric].title}{learner} trained on real patients is {shown(real)}, not clearly above "
        f"{number(lowest, 2)}, what knowing nothing gives, by more than the margin of {margin:g}"
    )


def repeated(results: Results) -> str:
    """Return that the cohort repeats real patients, in words, where it does beyond what these have in common."""
    for result in results.select("copies", arm="synthetic"):
        if result.ok and result.detail.get("beyond"):
            return str(result.detail["words"])
    return ""
