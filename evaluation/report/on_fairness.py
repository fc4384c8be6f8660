"""The part of the page on groups of patients."""

import math

from dpsynth.evaluation.catalogue import ARMS, METRICS, SHORT
from dpsynth.evaluation.protocol import Margins
from dpsynth.evaluation.report import figures
from dpsynth.evaluation.report.parts import Figure, Section, kept, nothing
from dpsynth.evaluation.report.text import TextTable, number, percent, shown
from dpsynth.evaluation.result import Result, Status
from dpsynth.evaluation.results import Results

__all__ = ["fairness"]


_GROUP_SCORES = (
    "group_auroc",
    "group_auprc",
    "tpr",
    "fpr",
    "ppv",
    "calibration_error",
    "group_balanced_accuracy",
    "group_accuracy",
    "group_r2",
    "group_mae",
)


def fairness(results: Results, margins: Margins, *, withheld: bool = True) -> Section:
    """Return the part on groups of patients."""
    mine = results.select(section="fairness")
    if not len(mine):
        return Section("fairness", "For whom?", ["Nothing was checked: no subgroup was named."])
    words = []
    if len(mine.select("group_change")):
        words.append(
            "Groups are judged on the same test patients and by the same bootstrap draws, stratified by group and "
            f"outcome. A rate needs ten patients of its kind; below that it is not estimable. The dashed line is the "
            f"margin chosen beforehand ({margins.loss:g})."
        )
    elif len(mine.select("share")) and withheld:
        words.append(
            "How models learned from the cohort do in each group may not be shown here: it would touch private data "
            "without noise. What may be is how many rows of the cohort each group has, beside counts that the budget "
            "paid for where there are any."
        )
    else:
        words.append(nothing("no model was judged in a group", withheld=withheld))
    drawn = kept([_group_changes(mine, margins), _representation(mine)])
    tables = kept([_shares(mine), _tests(mine)])
    more = kept([_gaps(mine), *(_group_table(mine, arm) for arm in ("real", "synthetic", "dp_classifier"))])
    return Section("fairness", "For whom?", words, drawn, tables, more)


def _shares(results: Results) -> TextTable | None:
    counted = {result.group for result in results.select("representation")}
    others = [result for result in results.select("share") if result.ok and result.group not in counted]
    rows = [(result.group, number(result.n), percent(result.number)) for result in others]
    caption = "Groups in the synthetic cohort" + (" whose real counts were not paid for" if counted else "")
    return TextTable(caption, ("Group", "Rows", "Share"), rows) if rows else None


def _ratio(result: Result) -> str:
    """Return a log ratio of shares as a ratio."""
    if not result.ok or result.interval is None:
        return shown(result)
    value, low, high = (
        number(math.exp(each), 2) for each in (result.number, result.interval.low, result.interval.high)
    )
    return f"{value} ({low} to {high})"


def _sizes(result: Result) -> tuple[str, str, str, str]:
    if "real_rows" not in result.detail:
        return number(result.n), "n/a", "n/a", "n/a"
    real, synthetic = number(result.detail["real_rows"]), number(result.detail["synthetic_rows"])
    return real, percent(result.detail["real_share"]), synthetic, percent(result.detail["synthetic_share"])


def _representation(results: Results) -> Figure | None:
    ratios = list(results.select("representation"))
    if not ratios:
        return None
    rows = [(result.group, *_sizes(result), _ratio(result)) for result in ratios]
    rows += [
        (f"slope of the log ratio over groups of {result.group}", "", "", "", "", shown(result))
        for result in results.select("representation_slope")
    ]
    head = ("Group", "Real rows", "Real share", "Synthetic rows", "Synthetic share", "Synthetic over real share")
    caption = "Above 1: the group is larger in the cohort than among real patients."
    if len(results.select("representation_slope")):
        caption += " A slope below 0 means that small groups grow, above 0 that they shrink."
    if any(result.detail.get("source") for result in ratios):
        caption += " Real rows are the noisy counts that the budget paid for; the intervals are those of their noise."
    drawing = figures.scatter(ratios, "representation")
    return Figure(
        "representation", "Does each group have its share?", caption, [("", drawing)], TextTable("", head, rows)
    )


def _group_changes(results: Results, margins: Margins) -> Figure | None:
    changes = list(results.select("group_change"))
    if not changes:
        return None
    others = {result.group: result for result in results.select("did")}
    rows = []
    for change in changes:
        did = others.get(change.group)
        p = "n/a" if did is None or not did.ok else number(did.detail.get("p_holm"))
        positives = number(change.detail.get("positives")) if change.ok else "n/a"
        rows.append((change.group, number(change.n), positives, shown(change), "n/a" if did is None else shown(did), p))
    head = ("Group", "n", "with outcome", "Change", "Difference from all other patients", "p (Holm)")
    drawing = figures.paired_forest(
        changes,
        "changes",
        title="Change in each group",
        label="synthetic-trained less real-trained",
        margin=margins.loss,
    )
    missing = sum(result.status is Status.NOT_ESTIMABLE for result in changes)
    caption = (
        "How much worse (left) or better (right) a model trained on the cohort does in each group than one trained on "
        f"real patients. {missing} of {len(changes)} groups cannot be estimated; the table says why."
    )
    table = TextTable("Change against the real-trained model, by group", head, rows)
    return Figure("changes", "What training on the cohort costs each group", caption, [("", drawing)], table)


def _tests(results: Results) -> TextTable | None:
    rows = []
    for result in results.select("largest_did"):
        p = number(result.detail.get("p_permutation")) if result.ok else "n/a"
        rows.append(
            (
                result.group,
                result.detail.get("worst", "n/a") if result.ok else "n/a",
                shown(result),
                p,
                number(result.n),
            )
        )
    head = ("Grouping", "Group", "Difference in differences", "p (permutation)", "Groups")
    caption = "The group that loses or gains most against all others, tested by shuffling groups among patients"
    return TextTable(caption, head, rows) if rows else None


def _gaps(results: Results) -> TextTable | None:
    rows = []
    direct = ["dp_classifier"] if len(results.select("gap", arm="dp_classifier")) else []
    more = [SHORT[arm] for arm in direct]
    for metric in ("worst_group", "gap", "equalized_odds", "demographic_parity"):
        for grouping in dict.fromkeys(result.group for result in results.select(metric)):
            gaps = {result.arm: result for result in results.select(metric, group=grouping)}
            cells = [_gap(gaps.get(arm)) for arm in ("real", "synthetic", *direct)]
            first = next(iter(gaps.values()))
            rows.append((f"{METRICS[metric].title}, {grouping}", *cells, number(first.n)))
    head = ("Metric, grouping", "Trained on real patients", "Trained on the cohort", *more, "Groups")
    caption = "Gaps between groups. Intervals of a largest gap lie high where groups are small."
    return TextTable(caption, head, rows) if rows else None


def _gap(result: Result | None) -> str:
    if result is None:
        return "not computed"
    worst = f"; {result.detail['worst']}" if result.ok and result.metric == "worst_group" else ""
    return f"{shown(result)}{worst}"


def _group_table(results: Results, arm: str) -> TextTable | None:
    scores = results.select(_GROUP_SCORES, arm=arm)
    metrics = [metric for metric in _GROUP_SCORES if len(scores.select(metric))]
    rows = []
    for group in dict.fromkeys(result.group for result in scores):
        mine = {result.metric: result for result in scores.select(group=group)}
        first = next(iter(mine.values()))
        sizes = (number(first.n), number(first.detail.get("positives")))
        rows.append((group, *sizes, *(shown(mine[metric]) if metric in mine else "n/a" for metric in metrics)))
    head = ("Group", "n", "with outcome", *(METRICS[metric].title for metric in metrics))
    return TextTable(f"Scores by group: {ARMS[arm]}", head, rows) if rows else None
