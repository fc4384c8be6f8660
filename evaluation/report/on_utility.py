"""The part of the page on models that are learned from the cohort."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpsynth.evaluation.catalogue import ARMS, METRICS
from dpsynth.evaluation.report import figures
from dpsynth.evaluation.report.parts import Figure, Section, by_arm, direct, kept, nothing
from dpsynth.evaluation.report.text import TextTable, number, shown
from dpsynth.evaluation.result import Result
from dpsynth.evaluation.results import Results

__all__ = ["utility"]


_SCORES = ("auroc", "auprc", "balanced_accuracy", "brier", "r2", "mae", "calibration_intercept", "calibration_slope")


def utility(results: Results, target: str | None, about: Mapping[str, Any], *, withheld: bool = True) -> Section:
    """Return the part on models that are learned from the cohort; `about` says what classifiers were given."""
    title = "Can one learn from it?"
    if target is None:
        return Section("utility", title, ["Nothing was checked: no outcome was named, so that no model was trained."])
    mine = results.select(section="utility")
    if not len(mine):
        return Section("utility", title, [nothing("no model was trained", withheld=withheld)])
    words = (
        f"Models that predict {target} are trained on each arm, with the same number of rows{_rows(mine)}, and tested "
        f"on the same real patients. Trained on real patients is the ceiling. {_floor(mine)} {direct(mine, about)}"
    )
    paragraphs = [words, *_impossible(mine, target)]
    learners = list(dict.fromkeys(result.subject for result in mine if result.subject))
    drawn = kept([_arms_figure(mine), _calibration_figure(mine, learners)])
    tables = kept([_changes(mine)])
    more = kept([_scores(mine, learner) for learner in learners])
    return Section("utility", title, paragraphs, drawn, tables, more)


def _impossible(results: Results, target: str) -> list[str]:
    """Return which of the usual scores the kind of the outcome rules out."""
    kinds = {result.detail.get("task") for result in results if result.ok}
    if "numeric" in kinds:
        words = (
            f"AUROC, balanced accuracy and calibration of risks do not exist for a numeric outcome: {target} is judged "
            "by the variance that is explained (R²) and by the mean absolute error, in its own unit."
        )
        return [words]
    if "multiclass" in kinds:
        words = (
            f"{target} has more than two values: AUROC is the mean over its classes, each against the rest, and "
            "calibration of risks is judged for two values only."
        )
        return [words]
    return []


def _rows(results: Results) -> str:
    numbers = [
        result.detail["trained_rows"] for result in results.select(arm="synthetic") if "trained_rows" in result.detail
    ]
    return f" ({number(numbers[0])})" if numbers else ""


def _floor(results: Results) -> str:
    if len(results.select(arm="floor")):
        return "Independent columns at the same epsilon are the floor."
    return (
        "The floor (independent columns at the same epsilon) was not given: fitting it to private patients would have "
        "to be paid for as well."
    )


def _ordered(results: Sequence[Result]) -> list[Result]:
    return sorted(results, key=lambda result: list(ARMS).index(result.arm))


def _arms_figure(results: Results) -> Figure | None:
    metric = "auroc" if len(results.select("auroc")) else "r2"
    drawings, rows = [], []
    learners = list(dict.fromkeys(result.subject for result in results.select(metric) if result.subject))
    prevalence = list(results.select(metric, arm="prevalence"))
    for place, learner in enumerate(learners):
        scores = _ordered([*results.select(metric, subject=learner), *prevalence])
        ends = [result for result in scores if result.arm in ("real", "floor")]
        title = f"{METRICS[metric].title} of {learner}, by what it was trained on"
        drawing = figures.forest(scores, f"arms{place}", title=title, label=METRICS[metric].title, lines=ends)
        drawings.append((learner, drawing))
        rows += [(f"{learner}: {ARMS[result.arm]}", shown(result), number(result.n)) for result in scores]
    if not rows:
        return None
    caption = (
        "Intervals cover the drawing of test patients (and of synthetic rows, where several cohorts were drawn), not "
        "another fit. Dashed: ceiling and floor."
    )
    table = TextTable(f"{METRICS[metric].title} by arm", ("Learner and arm", METRICS[metric].title, "n tested"), rows)
    return Figure("arms", "Ceiling, cohort and floor", caption, [item for item in drawings if item[1]], table)


def _calibration_figure(results: Results, learners: list[str]) -> Figure | None:
    drawings, rows = [], []
    for place, learner in enumerate(learners):
        slopes = [
            result
            for result in results.select("calibration_slope", subject=learner)
            if result.arm in ("real", "synthetic")
        ]
        slopes = _ordered([result for result in slopes if result.ok])
        drawings.append(
            (learner, figures.calibration(slopes, f"calibration{place}", title=f"Calibration of {learner}"))
        )
        for slope in slopes:
            curve = slope.detail["curve"]
            triples = zip(curve["predicted"], curve["observed"], curve["n"], strict=True)
            rows += [(f"{learner}, {slope.arm}", number(p), number(o), number(n)) for p, o, n in triples]
    if not rows:
        return None
    head = ("Learner and arm", "Mean predicted risk", "Observed share", "n")
    caption = "Tenths of the test patients in order of predicted risk. On the dashed line risks are right."
    drawings = [item for item in drawings if item[1]]
    return Figure(
        "calibration", "Calibration on real patients", caption, drawings, TextTable("Calibration", head, rows)
    )


def _changes(results: Results) -> TextTable | None:
    rows = [
        (f"{result.subject}: {ARMS[result.arm]}", shown(result), number(result.n))
        for result in results.select("change")
    ]
    of = next((METRICS[result.detail["of"]].title for result in results.select("change") if result.ok), "score")
    caption = f"Change of {of} against the real-trained model, paired on the same test patients"
    return TextTable(caption, ("Learner and arm", "Change", "n tested"), rows) if rows else None


def _scores(results: Results, learner: str) -> TextTable | None:
    mine = Results([*results.select(subject=learner), *results.select(arm="prevalence")])
    return by_arm(mine, _SCORES, f"All scores of {learner}")
