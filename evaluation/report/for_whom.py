"""Whether models learned from the cohort hold up in each group of patients, and whether the group has its share."""

import math
from dataclasses import dataclass

from dpsynth.evaluation.protocol import Margins
from dpsynth.evaluation.report.answers import Answer, not_above_floor, repeated, within
from dpsynth.evaluation.report.learning import learning
from dpsynth.evaluation.report.text import number, percent, shown
from dpsynth.evaluation.result import Result
from dpsynth.evaluation.results import Results

__all__ = ["GroupVerdict", "group_verdicts"]


@dataclass(frozen=True)
class GroupVerdict:
    """What a model of the cohort is worth for one group of patients, and whether the group has its share.

    Parameters
    ----------
    group : str
    learning, share : Answer
        Whether a model learned from the cohort holds up in the group, and whether the group has its share of rows.
    change, representation : str
        The numbers that decide.
    n : int or None
        Test patients of the group.
    larger : bool
        Whether the group's share is larger in the cohort than among real patients.
    combined : bool
        Whether the group is a combination of several columns' groups.
    """

    group: str
    learning: Answer
    share: Answer
    change: str
    representation: str
    n: int | None
    larger: bool = False
    combined: bool = False


def group_verdicts(results: Results, margins: Margins) -> list[GroupVerdict]:
    """Return for each group whether models learned from the cohort hold up in it, and whether it has its share.

    No group holds up where the whole does not, where a model of real patients is not clearly better than knowing
    nothing, or where the cohort repeats real patients.
    """
    changes = {result.group: result for result in results.select("group_change")}
    shares = {result.group: result for result in results.select("representation")}
    overall, _ = learning(results, margins)
    copied = bool(repeated(results))
    verdicts = []
    for group in dict.fromkeys([*shares, *changes]):
        change, ratio = changes.get(group), shares.get(group)
        held = Answer.UNKNOWN if change is None else _holds_up(change, results, margins, overall)
        share = _has_share(ratio, margins)
        verdicts.append(
            GroupVerdict(
                group,
                Answer.NO if copied else held,
                Answer.NO if copied else share,
                "n/a" if change is None else shown(change),
                "n/a" if ratio is None else _as_ratio(ratio),
                None if change is None else change.n,
                larger=ratio is not None and ratio.ok and ratio.number > 0,
                combined=any(
                    " & " in result.detail.get("grouping", "") for result in (change, ratio) if result is not None
                ),
            )
        )
    return verdicts


def _holds_up(change: Result, results: Results, margins: Margins, overall: Answer) -> Answer:
    answer = within(change.interval, -margins.loss, math.inf)
    if answer is not Answer.YES:
        return answer
    of = change.detail.get("of", "group_auroc")
    scores = results.select(of, group=change.group)
    if not_above_floor(next(iter(scores.select(arm="real")), None), margins.loss, floor=scores.select(arm="floor")):
        return Answer.UNKNOWN
    return answer if overall is Answer.YES else Answer.NOT_SHOWN


def _has_share(ratio: Result | None, margins: Margins) -> Answer:
    if ratio is None:
        return Answer.UNKNOWN
    if ratio.ok and ratio.detail.get("real_share") == 1 == ratio.detail.get("synthetic_share"):
        return Answer.NOTHING_CHECKED  # the group is everybody, whatever the cohort
    reach = math.log(margins.share)
    return within(ratio.interval, -reach, reach)


def _as_ratio(result: Result) -> str:
    """Return a log ratio of shares as a ratio, with both shares."""
    if result.interval is None:
        return shown(result)
    detail = result.detail
    ends = _exp(result.interval.low), _exp(result.interval.high)
    whose = detail.get("source", "real")
    shares = f"{percent(detail['real_share'])} of {whose}, {percent(detail['synthetic_share'])} of synthetic"
    return f"{_exp(result.number)} times ({ends[0]} to {ends[1]}): {shares}"


def _exp(value: float) -> str:
    return number(math.exp(value), 2)
