"""What the cohort is good enough for, and for whom: rules that are stated, applied to intervals, one use at a time.

An answer is *yes* when the whole interval is within the margin that was chosen beforehand, *no* when the whole interval
is beyond it, and *not shown* when it lies on both sides. There is no overall score.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dpsynth.evaluation.catalogue import METRICS
from dpsynth.evaluation.protocol import Margins
from dpsynth.evaluation.report.text import number, percent, shown
from dpsynth.evaluation.results import Interval, Result, Results

__all__ = ["Answer", "GroupVerdict", "Verdict", "group_verdicts", "verdicts"]


class Answer(StrEnum):
    """What the numbers say about one use."""

    YES = "yes"
    NO = "no"
    NOT_SHOWN = "not shown"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """One use of the cohort.

    Parameters
    ----------
    use : str
    answer : Answer
    rule : str
        When the answer is yes, and when no.
    finding : str
        The numbers that decide.
    """

    use: str
    answer: Answer
    rule: str
    finding: str


@dataclass(frozen=True)
class GroupVerdict:
    """One group of patients.

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


def _joint(answers: Sequence[Answer], *, one_no: bool = False) -> Answer:
    """Return yes (or no) where all say so, unknown where none says anything; with `one_no`, one no decides."""
    if one_no and Answer.NO in answers:
        return Answer.NO
    known = [answer for answer in answers if answer is not Answer.UNKNOWN]
    if not known:
        return Answer.UNKNOWN
    return known[0] if len(set(known)) == 1 else Answer.NOT_SHOWN


def _title(one: Result) -> str:
    """Return a result's title; of a change, with the score that changes."""
    of = one.detail.get("of")
    return f"{METRICS[of].title}, synthetic-trained less real-trained" if of in METRICS else one.title


def _said(results: Sequence[Result]) -> str:
    parts = [f"{_title(one)}{f', {one.subject}' if one.subject else ''}: {shown(one)}" for one in results]
    return "; ".join(parts) or "No number that may be shown here says anything about it."


def verdicts(results: Results, margins: Margins, target: str | None) -> list[Verdict]:
    """Return an answer for each use that clinicians and data stewards ask about.

    Parameters
    ----------
    results : Results
        Those that may be shown; a use about which they say nothing is unknown.
    margins : Margins
        Chosen before looking.
    target : str or None
        The outcome.
    """
    found = [_rehearse(results), _tables(results, margins, 1), _tables(results, margins, 2)]
    if target is not None:
        found += [_learn(results, margins, target), _risks(results, margins, target)]
        found += [_recognise(results, margins, target)] if len(results.select(section="images")) else []
    return [*found, _directions(results), *_never()]


def _rehearse(results: Results) -> Verdict:
    broken = list(results.select("constraint_violations", arm="synthetic"))
    answer = Answer.UNKNOWN
    finding = _said(broken)
    if broken and broken[0].ok:
        answer = Answer.YES if broken[0].number == 0 else Answer.NO
        finding = "No row breaks a declared constraint." if answer is Answer.YES else finding
        finding = "The schema declares no constraint, so that none is broken." if broken[0].reason else finding
    return Verdict(
        "Teaching, testing software, rehearsing an analysis plan",
        answer,
        "Yes if no synthetic row breaks a constraint of the schema; no if one does.",
        finding,
    )


def _tables(results: Results, margins: Margins, order: int) -> Verdict:
    use = {1: "Describing columns one at a time", 2: "Describing two columns together (cross tables)"}[order]
    found = list(results.select(f"tvd_{order}way_excess", arm="synthetic"))
    if not found:
        return _paid_tables(results, margins, use, order)
    return Verdict(
        use,
        _joint([at_most(one.interval, margins.tvd) for one in found]),
        f"Yes if the mean TVD exceeds that of two samples of real patients by at most {margins.tvd:g}, with its whole "
        "interval. It is a mean: see the worst columns and pairs.",
        _said(found),
    )


def _paid_tables(results: Results, margins: Margins, use: str, order: int) -> Verdict:
    """Return what released counts can say: a bound of the distance, which can show enough but never too little."""
    paid = [one for one in results.select("released_tvd") if one.ok and one.detail.get("order") == order]
    answer, finding = Answer.UNKNOWN, _said([])
    if paid:
        bound = sum(one.detail["at_most"] for one in paid) / len(paid)
        answer = Answer.YES if bound <= margins.tvd else Answer.NOT_SHOWN
        finding = f"Against {len(paid)} released tables: the mean TVD to the patients is at most {number(bound)}."
    return Verdict(
        use,
        answer,
        f"Yes if a bound of the mean TVD, from released counts and their known noise, is at most {margins.tvd:g}. Such "
        "a bound can show that the cohort is close enough, but not that it is too far.",
        finding,
    )


def _learn(results: Results, margins: Margins, target: str) -> Verdict:
    found = list(results.select("change", arm="synthetic"))
    return Verdict(
        f"Developing a model that predicts {target}",
        _joint([within(one.interval, -margins.loss, math.inf) for one in found]),
        f"Yes if, for every learner, what is learned from the cohort loses at most {margins.loss:g} against what is "
        "learned from real patients, on the same test patients, with the whole interval; no if every learner loses "
        "more. It is about patients as a whole: see for whom, below. Test it on real patients before use.",
        _said(found),
    )


def _recognise(results: Results, margins: Margins, target: str) -> Verdict:
    found = list(results.select("image_balanced_accuracy_change", arm="synthetic", group="all"))
    return Verdict(
        f"Developing a model that recognises {target} in images",
        _joint([within(one.interval, -margins.loss, math.inf) for one in found]),
        f"Yes if, for every learner, training on synthetic images loses at most {margins.loss:g} of balanced accuracy "
        "against training on real ones, on the same test patients, with the whole interval; no if every learner loses "
        "more. Test it on real images before use.",
        _said(found),
    )


def _risks(results: Results, margins: Margins, target: str) -> Verdict:
    slopes = list(results.select("calibration_slope", arm="synthetic"))
    intercepts = list(results.select("calibration_intercept", arm="synthetic"))
    reach = margins.calibration
    answers = [within(one.interval, 1 - reach, 1 + reach) for one in slopes]
    answers += [within(one.interval, -reach, reach) for one in intercepts]
    return Verdict(
        f"Taking predicted risks of {target} at face value",
        _joint(answers, one_no=True),
        f"Yes if, for every learner, calibration slope and intercept are within {reach:g} of 1 and of 0, with the "
        "whole interval; no if one of them is outside with its whole interval. Otherwise recalibrate on real patients.",
        _said([*slopes, *intercepts]),
    )


def _directions(results: Results) -> Verdict:
    found = list(results.select(("sign_agreement", "interval_overlap")))
    signs = [one for one in found if one.metric == "sign_agreement" and one.ok]
    answer = Answer.UNKNOWN
    if signs:
        answer = Answer.YES if signs[0].number == 1 else Answer.NO
    return Verdict(
        "Finding directions of effects to be confirmed in real patients",
        answer,
        "Yes if every coefficient of the pre-specified regression that is clearly off 0 in real patients has the same "
        "sign in the cohort; no if one has not.",
        _signs(results, signs[0]) if signs else _said(found),
    )


def _signs(results: Results, agreement: Result) -> str:
    """Return how many signs agree, and which of the first draw do not."""
    real, mine = ({one.subject: one for one in results.select("coefficient", arm=arm)} for arm in ("real", "synthetic"))
    lost = [
        name
        for name, one in real.items()
        if one.interval is not None and not one.interval.low <= 0 <= one.interval.high
        if name in mine and mine[name].ok and mine[name].number * one.number <= 0
    ]
    words = (
        f"Of {agreement.n} coefficients that are clearly off 0 in real patients, {percent(agreement.number, 0)} have "
    )
    return f"{words}the same sign in the cohort. Another sign: {', '.join(lost) or 'none in the first cohort drawn'}."


def _never() -> list[Verdict]:
    """Return the uses that no number on such a page can support."""
    return [
        Verdict(
            "P values and confidence intervals computed from the synthetic rows as if they were patients",
            Answer.NO,
            "Never: they leave out the noise that privacy costs, and find effects that are not there too often.",
            "Use the released counts with their noise, or ask for the analysis to be run on the real patients.",
        ),
        Verdict(
            "Decisions about a patient; statements about a real person",
            Answer.NO,
            "Never: no row is a person, and no synthetic cohort replaces validation in real patients.",
            "No number on this page can change that.",
        ),
    ]


def group_verdicts(results: Results, margins: Margins) -> list[GroupVerdict]:
    """Return for each group whether models learned from the cohort hold up in it, and whether it has its share."""
    changes = {one.group: one for one in results.select("group_change")}
    shares = {one.group: one for one in results.select("representation")}
    reach = math.log(margins.share)
    found = []
    for group in dict.fromkeys([*shares, *changes]):
        change, ratio = changes.get(group), shares.get(group)
        found.append(
            GroupVerdict(
                group,
                Answer.UNKNOWN if change is None else within(change.interval, -margins.loss, math.inf),
                Answer.UNKNOWN if ratio is None else within(ratio.interval, -reach, reach),
                "n/a" if change is None else shown(change),
                "n/a" if ratio is None else _as_ratio(ratio),
                None if change is None else change.n,
                larger=ratio is not None and ratio.ok and ratio.number > 0,
                combined=any(" & " in one.detail.get("grouping", "") for one in (change, ratio) if one is not None),
            )
        )
    return found


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
