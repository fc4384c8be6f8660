"""What the cohort is good enough for, and for whom: rules that are stated, applied to intervals, one use at a time.

An answer is *yes* when the whole interval is within the margin that was chosen beforehand, *no* when the whole interval
is beyond it, and *not shown* when it lies on both sides. There is no overall score.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dpsynth.evaluation.catalogue import METRICS
from dpsynth.evaluation.protocol import Margins
from dpsynth.evaluation.report.answers import Answer, at_most, joint, repeated, within
from dpsynth.evaluation.report.for_whom import GroupVerdict, group_verdicts
from dpsynth.evaluation.report.learning import learning, recognising
from dpsynth.evaluation.report.text import number, percent, shown
from dpsynth.evaluation.result import Result
from dpsynth.evaluation.results import Results

__all__ = ["Answer", "GroupVerdict", "UseVerdict", "group_verdicts", "verdicts"]


@dataclass(frozen=True)
class UseVerdict:
    """Whether the cohort is good enough for one use, by which rule, and what that rests on.

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


def _title(result: Result) -> str:
    """Return a result's title; of a change, with the score that changes."""
    of = result.detail.get("of")
    return f"{METRICS[of].title}, synthetic-trained less real-trained" if of in METRICS else result.title


def _said(results: Sequence[Result], *, withheld: bool) -> str:
    parts = [
        f"{_title(result)}{f', {result.subject}' if result.subject else ''}: {shown(result)}" for result in results
    ]
    nothing = "No number that may be shown here says anything about it." if withheld else "There is no number about it."
    return "; ".join(parts) or nothing


def verdicts(results: Results, margins: Margins, target: str | None, *, withheld: bool = True) -> list[UseVerdict]:
    """Return an answer for each use that clinicians and data stewards ask about.

    Parameters
    ----------
    results : Results
        Those that may be shown; a use about which they say nothing is unknown.
    margins : Margins
        Chosen before looking.
    target : str or None
        The outcome.
    withheld : bool
        Whether there may be further results, which may not be shown; else nothing was checked where there is none.
    """
    answers = [
        _rehearse(results, withheld=withheld),
        _tables(results, margins, 1, withheld=withheld),
        _tables(results, margins, 2, withheld=withheld),
        *_differences(results, margins, withheld=withheld),
        _learn(results, margins, target, withheld=withheld),
    ]
    if target is not None:
        answers.append(_risks(results, margins, target, withheld=withheld))
        if len(results.select(section="images")):
            answers.append(_recognise(results, margins, target, withheld=withheld))
    answers += [_directions(results, withheld=withheld), *_groups(results)]
    words = repeated(results)
    if words:
        answers = [replace(verdict, answer=Answer.NO, finding=f"{words} {verdict.finding}") for verdict in answers]
    return [*answers, *_never()]


def _rehearse(results: Results, *, withheld: bool) -> UseVerdict:
    broken = list(results.select("constraint_violations", arm="synthetic"))
    answer, finding = Answer.UNKNOWN, _said(broken, withheld=withheld)
    if broken and broken[0].ok:
        answer, finding = _kept(broken[0], finding)
    return UseVerdict(
        "Teaching, testing software, rehearsing an analysis plan",
        answer,
        "Yes if no synthetic row breaks a constraint of the schema; no if one does.",
        finding,
    )


def _kept(broken: Result, finding: str) -> tuple[Answer, str]:
    """Return whether constraints are kept; nothing was checked where there is none, or none that a row could break."""
    if broken.number > 0:
        return Answer.NO, finding
    constraints, idle = broken.detail.get("constraints", {}), broken.detail.get("idle", [])
    if not constraints:
        return Answer.NOTHING_CHECKED, "Nothing was checked: the schema declares no constraint."
    if len(idle) == len(constraints):
        return Answer.NOTHING_CHECKED, "Nothing was checked: no synthetic row is of those that a constraint speaks of."
    less = f" No row is of those that these speak of: {'; '.join(idle)}." if idle else ""
    return Answer.YES, f"No row breaks a declared constraint.{less}"


def _tables(results: Results, margins: Margins, order: int, *, withheld: bool) -> UseVerdict:
    use = {1: "Describing columns one at a time", 2: "Describing two columns together (cross tables)"}[order]
    excesses = list(results.select(f"tvd_{order}way_excess", arm="synthetic"))
    if not excesses and (withheld or len(results.select("released_tvd"))):
        return _paid_tables(results, margins, use, order, withheld=withheld)
    answer, finding = (
        joint([at_most(result.interval, margins.tvd) for result in excesses]),
        _said(excesses, withheld=withheld),
    )
    why = _nothing_described(results, order) if answer in (Answer.YES, Answer.UNKNOWN) else ""
    if why:
        answer, finding = (Answer.UNKNOWN if why.startswith("Cannot") else Answer.NOTHING_CHECKED), why
    return UseVerdict(
        use,
        answer,
        f"Yes if the mean TVD exceeds that of two samples of real patients by at most {margins.tvd:g}, with its whole "
        "interval"
        + (", and is clearly below that of columns without any relation" if order > 1 else "")
        + ". It is a mean: see the worst columns and pairs.",
        finding,
    )


def _differences(results: Results, margins: Margins, *, withheld: bool) -> list[UseVerdict]:
    """Return whether differences of ordered columns can be described, where there are such columns."""
    excesses = list(results.select("order_difference_excess", arm="synthetic"))
    rule = (
        "Yes if, for every pair that the schema puts in order, the Kolmogorov-Smirnov distance exceeds that of two "
        f"samples of real patients by at most {margins.tvd:g}, with its whole interval; no if one is beyond it."
    )
    answer = joint([at_most(result.interval, margins.tvd) for result in excesses], one_no=True)
    use = "Describing differences of columns in order, such as lengths of stay"
    return [UseVerdict(use, answer, rule, _said(excesses, withheld=withheld))] if excesses else []


def _nothing_described(results: Results, order: int) -> str:
    """Return why a small distance says nothing; empty where it does."""
    columns = [result for result in results.select("tvd_column") if result.ok]
    varied = [result for result in columns if sum(share > 0 for share in result.detail.get("real", (0.5, 0.5))) > 1]
    if columns and len(varied) < order:
        few = "no column has two values" if not varied else "only one column has more than one value"
        return f"Nothing was checked: among the real patients {few}."
    if not len(results.select(f"tvd_{order}way_excess", arm="synthetic")):
        return "Nothing was checked: the cohort has too few columns."
    excess = next(iter(results.select(f"tvd_{order}way_excess", arm="synthetic")))
    floor = excess.detail.get("independent")
    if floor is None or excess.interval is None or excess.interval.high < floor["low"]:
        return ""
    return (
        f"Cannot be told: {shown(excess)} is not clearly closer than columns without any relation, real ones that were "
        f"shuffled, which come to {number(floor['value'])} ({number(floor['low'])} to {number(floor['high'])})."
    )


def _paid_tables(results: Results, margins: Margins, use: str, order: int, *, withheld: bool) -> UseVerdict:
    """Return what released counts can say: a bound of the distance, which can show enough but never too little."""
    paid = [result for result in results.select("released_tvd") if result.ok and result.detail.get("order") == order]
    answer, finding = Answer.UNKNOWN, _said([], withheld=withheld)
    if paid:
        bound = sum(result.detail["at_most"] for result in paid) / len(paid)
        answer = Answer.YES if bound <= margins.tvd else Answer.NOT_SHOWN
        finding = f"Against {len(paid)} released tables: the mean TVD to the patients is at most {number(bound)}."
    return UseVerdict(
        use,
        answer,
        f"Yes if a bound of the mean TVD, from released counts and their known noise, is at most {margins.tvd:g}. Such "
        "a bound can show that the cohort is close enough, but not that it is too far.",
        finding,
    )


def _learn(results: Results, margins: Margins, target: str | None, *, withheld: bool) -> UseVerdict:
    if target is None:
        answer, finding = Answer.NOTHING_CHECKED, "Nothing was checked: no outcome was named."
    else:
        answer, why = learning(results, margins)
        finding = why or _said(list(results.select("change", arm="synthetic")), withheld=withheld)
    return UseVerdict(
        f"Developing a model that predicts {target or 'an outcome'}",
        answer,
        f"Yes if, for every learner, what is learned from the cohort loses at most {margins.loss:g} against what is "
        "learned from real patients, on the same test patients, with the whole interval; no if every learner loses "
        "more. Learners count that learn clearly more from real patients than chance and that margin. It is about "
        "patients as a whole: see for whom, below. Test it on real patients before use.",
        finding,
    )


def _recognise(results: Results, margins: Margins, target: str, *, withheld: bool) -> UseVerdict:
    changes = list(results.select("image_balanced_accuracy_change", arm="synthetic", group="all"))
    answer, why = recognising(results, margins)
    return UseVerdict(
        f"Developing a model that recognises {target} in images",
        answer,
        f"Yes if, for every learner, training on synthetic images loses at most {margins.loss:g} of balanced accuracy "
        "against training on real ones, on the same test patients, with the whole interval; no if every learner loses "
        "more. Learners count that learn clearly more from real images than chance and that margin. Test it on real "
        "images before use.",
        why or _said(changes, withheld=withheld),
    )


def _risks(results: Results, margins: Margins, target: str, *, withheld: bool) -> UseVerdict:
    slopes = list(results.select("calibration_slope", arm="synthetic"))
    intercepts = list(results.select("calibration_intercept", arm="synthetic"))
    reach = margins.calibration
    answers = [within(result.interval, 1 - reach, 1 + reach) for result in slopes]
    answers += [within(result.interval, -reach, reach) for result in intercepts]
    answer, finding = joint(answers, one_no=True), _said([*slopes, *intercepts], withheld=withheld)
    kinds = {result.detail.get("task") for result in results.select(("auroc", "r2"), arm="real")} - {None, "binary"}
    learned, why = learning(results, margins)
    if kinds:
        answer, finding = Answer.NOTHING_CHECKED, _no_risk(target, numeric="numeric" in kinds)
    elif answer is Answer.YES and learned in (Answer.UNKNOWN, Answer.NOTHING_CHECKED):
        answer, finding = learned, why or finding
    return UseVerdict(
        f"Taking predicted risks of {target} at face value",
        answer,
        f"Yes if, for every learner, calibration slope and intercept are within {reach:g} of 1 and of 0, with the "
        "whole interval; no if one of them is outside with its whole interval. Otherwise recalibrate on real patients.",
        finding,
    )


def _no_risk(target: str, *, numeric: bool) -> str:
    kind = "is a number: it has a predicted value, and no risk" if numeric else "has more than two values"
    return f"Nothing was checked: calibration of risks does not exist for {target}, which {kind}."


def _directions(results: Results, *, withheld: bool) -> UseVerdict:
    agreement = list(results.select(("sign_agreement", "interval_overlap")))
    signs = [result for result in agreement if result.metric == "sign_agreement" and result.ok]
    answer, finding = Answer.UNKNOWN, _said(agreement, withheld=withheld)
    if signs:
        answer, finding = (Answer.YES if signs[0].number == 1 else Answer.NO), _signs(results, signs[0])
    elif not agreement and not withheld:
        answer, finding = (
            Answer.NOTHING_CHECKED,
            "Nothing was checked: no regression was named.",
        )
    return UseVerdict(
        "Finding directions of effects to be confirmed in real patients",
        answer,
        "Yes if every coefficient of the pre-specified regression that is clearly off 0 in real patients has the same "
        "sign in the cohort; no if one has not.",
        finding,
    )


def _groups(results: Results) -> list[UseVerdict]:
    """Return that no group was judged, where none was named; groups that were have answers of their own."""
    if not len(results) or len(results.select(("share", "representation", "group_change"))):
        return []
    return [
        UseVerdict(
            "Use in groups of patients",
            Answer.NOTHING_CHECKED,
            "Each group has answers of its own.",
            "Nothing was checked: no subgroup was named.",
        )
    ]


def _signs(results: Results, agreement: Result) -> str:
    """Return how many signs agree, and which of the first draw do not."""
    real, mine = (
        {result.subject: result for result in results.select("coefficient", arm=arm)} for arm in ("real", "synthetic")
    )
    lost = [
        name
        for name, result in real.items()
        if result.interval is not None and not result.interval.low <= 0 <= result.interval.high
        if name in mine and mine[name].ok and mine[name].number * result.number <= 0
    ]
    words = (
        f"Of {agreement.n} coefficients that are clearly off 0 in real patients, {percent(agreement.number, 0)} have "
    )
    return f"{words}the same sign in the cohort. Another sign: {', '.join(lost) or 'none in the first cohort drawn'}."


def _never() -> list[UseVerdict]:
    """Return the uses that no number on such a page can support."""
    return [
        UseVerdict(
            "P values and confidence intervals computed from the synthetic rows as if they were patients",
            Answer.NO,
            "Never: they leave out the noise that privacy costs, and find effects that are not there too often.",
            "Use the released counts with their noise, or ask for the analysis to be run on the real patients.",
        ),
        UseVerdict(
            "Decisions about a patient; statements about a real person",
            Answer.NO,
            "Never: no row is a person, and no synthetic cohort replaces validation in real patients.",
            "No number on this page can change that.",
        ),
    ]
