"""Differences between groups: changes against the real-trained model, their differences, and gaps of rates."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.table import Floats, Ints
from dpsynth.evaluation.learners.tabular import Prediction
from dpsynth.evaluation.metrics.fairness import GROUP_MAIN, Judged, main_score
from dpsynth.evaluation.result import Result, estimate, not_estimable
from dpsynth.evaluation.statistics.bootstrap import percentile

__all__ = ["change_results", "changes", "gap_results", "holm", "parity_results", "with_holm"]

PERMUTED = 4_000_000
#: The arms whose difference is a change.
PAIR = ("real", "synthetic")


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for multiplicity by Holm's step-down method (Holm 1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(value) for value in adjusted]


def change_results(judged: Judged) -> list[Result]:
    """Return each group's change against the real-trained model, its difference from that of all others, and a test.

    The difference in differences of each group has a two-sided p value from its bootstrap standard error (`p` in
    `detail`); `with_holm` adjusts these over all groupings. The largest is tested by permutation of the groups.
    """
    results = changes(judged)
    return [*results, _largest(judged, results)] if results else []


def changes(judged: Judged) -> list[Result]:
    """Return the same without the test of the largest, which takes time."""
    if not set(PAIR) <= set(judged.trained):
        return []
    return [result for place in range(len(judged.cells)) for result in _changes(judged, place)]


def _changes(judged: Judged, place: int) -> list[Result]:
    metric, cell, terms = GROUP_MAIN[judged.exam.task.kind], judged.cells[place], judged.exam.terms
    fields: dict[str, Any] = {"n": cell.patients, "group": cell.label, "disclosure": terms.disclosure}
    fields |= {"subject": judged.trained["real"].learner}
    if place not in judged.estimable(metric):
        reason = cell.lacks(metric, terms.smallest) or "there is no score in this group"
        return [not_estimable(name, reason, **fields) for name in ("group_change", "did")]
    real, synthetic = judged.scores["real"][place], judged.scores["synthetic"][place]
    detail: dict[str, Any] = {"grouping": judged.grouping.name, "of": metric}
    detail |= {"positives": cell.positives} if judged.exam.task.kind == "binary" else {}
    change = synthetic.value[metric] - real.value[metric]
    drawn = synthetic.draws[metric] - real.draws[metric]
    interval = percentile(drawn, synthetic.covers, terms.level, extra=synthetic.between[metric])
    results = [estimate("group_change", change, interval=interval, detail=detail, reason=cell.warns(), **fields)]
    rest = np.setdiff1d(np.arange(len(judged.exam.test)), cell.rows)
    nobody = not_estimable("did", "there are no other patients to compare with", **fields)
    if len(rest) == 0 or not _both_classes(judged, rest):
        return [*results, nobody]
    others = {arm: judged.score(judged.trained[arm], rest, only_main=True) for arm in PAIR}
    elsewhere = others["synthetic"].value[metric] - others["real"].value[metric]
    if not np.isfinite(elsewhere):
        return [*results, nobody]
    drawn = drawn - (others["synthetic"].draws[metric] - others["real"].draws[metric])
    extra = synthetic.between[metric] + others["synthetic"].between[metric]
    interval = percentile(drawn, synthetic.covers, terms.level, extra=extra)
    detail = detail | {"p": _p_value(change - elsewhere, drawn, extra)}
    return [*results, estimate("did", change - elsewhere, interval=interval, detail=detail, **fields)]


def _both_classes(judged: Judged, rows: Ints) -> bool:
    return judged.exam.task.kind != "binary" or len(np.unique(judged.exam.truth[rows])) == 2


def _p_value(value: float, drawn: Floats, extra: float) -> float:
    from scipy.stats import norm

    error = float(np.sqrt(np.nanvar(drawn) + extra))
    return 1.0 if error == 0 else float(2 * norm.sf(abs(value) / error))


def with_holm(results: Sequence[Result]) -> list[Result]:
    """Return results with the p values of all differences in differences adjusted together (`p_holm`)."""
    places = [place for place, result in enumerate(results) if result.metric == "did" and result.ok]
    adjusted = dict(zip(places, holm([results[place].detail["p"] for place in places]), strict=True))
    return [
        replace(result, detail={**result.detail, "p_holm": adjusted[place]}) if place in adjusted else result
        for place, result in enumerate(results)
    ]


def _largest(judged: Judged, results: Sequence[Result]) -> Result:
    """Return the largest difference in differences, with its p value when the groups are shuffled among patients.

    The null: among patients with the same outcome, the group says nothing about how the two models rank them.
    """
    terms = judged.exam.terms
    fields: dict[str, Any] = {"group": judged.grouping.name, "disclosure": terms.disclosure}
    fields |= {"subject": judged.trained["real"].learner}
    differences = [result for result in results if result.metric == "did" and result.ok]
    if len(differences) < 2:
        return not_estimable("largest_did", "needs two groups that can be estimated", n=len(differences), **fields)
    worst = max(differences, key=lambda result: abs(result.number))
    rounds = int(np.clip(PERMUTED // len(judged.exam.test), 99, 999))
    null = _null(judged, [result.group for result in differences], rounds)
    p = (1 + int((null >= abs(worst.number) - 1e-12).sum())) / (rounds + 1)
    detail = {"grouping": judged.grouping.name, "worst": worst.group, "p_permutation": p, "permutations": rounds}
    return estimate("largest_did", worst.number, interval=worst.interval, n=len(differences), detail=detail, **fields)


def _null(judged: Judged, labels: list[str], rounds: int) -> Floats:
    """Return the largest absolute difference in differences for each shuffle, shape (rounds,)."""
    exam, metric = judged.exam, GROUP_MAIN[judged.exam.task.kind]
    codes = np.array([judged.grouping.labels.index(label) for label in labels])
    shuffled = _shuffles(judged.grouping.codes(exam.test), exam.strata, exam.test.patients, rounds, exam.terms.seed)
    largest = np.zeros(rounds)
    for code in codes:
        inside = shuffled == code
        gaps = [_change(judged, metric, side.astype(np.float32)) for side in (inside, ~inside)]
        largest = np.fmax(largest, np.abs(gaps[0] - gaps[1]))
    return largest


def _change(judged: Judged, metric: str, times: NDArray[np.float32]) -> Floats:
    """Return the change of the main score of the mean over draws, for weights that pick patients."""
    exam = judged.exam
    scores: dict[str, Floats] = {}
    for arm in PAIR:
        draws: list[Prediction] = list(judged.trained[arm].predictions)
        scores[arm] = np.mean([main_score(exam.task, exam.truth, part, times)[metric] for part in draws], axis=0)
    change: Floats = scores["synthetic"] - scores["real"]
    return change


def _shuffles(codes: Ints, strata: Ints, patients: Ints, rounds: int, seed: int) -> Ints:
    """Return group codes shuffled among patients of the same outcome, shape (rounds, rows)."""
    rng = np.random.default_rng(seed)
    first = np.unique(patients, return_index=True)[1]
    stratum = np.zeros(len(first), dtype=np.int64)
    np.maximum.at(stratum, patients, strata)
    mine = np.tile(codes[first], (rounds, 1))
    for value in np.unique(stratum):
        members = np.flatnonzero(stratum == value)
        mine[:, members] = rng.permuted(mine[:, members], axis=1)
    shuffled: Ints = mine[:, patients]
    return shuffled


def gap_results(judged: Judged) -> list[Result]:
    """Return for each arm the worst group's main score and the gap between the best and the worst group."""
    metric, terms = GROUP_MAIN[judged.exam.task.kind], judged.exam.terms
    places = judged.estimable(metric)
    results: list[Result] = []
    for arm, scores in judged.scores.items():
        fields = _fields_of_arm(judged, arm, places)
        if not places:
            results.append(not_estimable("worst_group", "no group is large enough", **fields))
        if len(places) < 2:
            results.append(not_estimable("gap", "fewer than two groups are large enough", **fields))
            continue
        values = np.array([scores[place].value[metric] for place in places])
        drawn = np.array([scores[place].draws[metric] for place in places])
        lowest, ends = np.argmin(values), np.min(drawn, axis=0)
        detail = {"of": metric, "worst": judged.cells[places[int(lowest)]].label}
        covers = scores[0].covers
        interval = percentile(ends, covers, terms.level)
        results.append(estimate("worst_group", values[lowest], interval=interval, detail=detail, **fields))
        gap = percentile(np.ptp(drawn, axis=0), covers, terms.level)
        results.append(estimate("gap", np.ptp(values), interval=gap, detail=detail, **fields))
    return results


def parity_results(judged: Judged) -> list[Result]:
    """Return equalised odds and demographic parity differences of each arm, of a binary target.

    The first is the larger of the ranges of true and of false positive rates over groups (Hardt et al. 2016), the
    second the range of the shares that are alarmed. Groups in which a rate is not estimable are left out; `n` is the
    number of groups. The interval is that of the largest difference in each bootstrap draw: it lies high where groups
    are small.
    """
    if judged.exam.task.kind != "binary":
        return []
    results = _parity(judged, "equalized_odds", ("tpr", "fpr"))
    return results + _parity(judged, "demographic_parity", ("selected",))


def _parity(judged: Judged, metric: str, rates: tuple[str, ...]) -> list[Result]:
    places = judged.estimable(metric)
    results: list[Result] = []
    for arm, scores in judged.scores.items():
        fields = _fields_of_arm(judged, arm, places)
        if len(places) < 2:
            results.append(not_estimable(metric, "fewer than two groups are large enough", **fields))
            continue
        groups = [judged.cells[place].rows for place in places]
        value = np.mean([_range(judged.exam.truth, part, groups, rates) for part in judged.trained[arm].predictions])
        spread = [np.ptp([scores[place].draws[rate] for place in places], axis=0) for rate in rates]
        interval = percentile(np.max(spread, axis=0), scores[0].covers, judged.exam.terms.level)
        results.append(estimate(metric, float(value), interval=interval, **fields))
    return results


def _range(truth: NDArray[np.bool_], prediction: Prediction, groups: Sequence[Ints], rates: Sequence[str]) -> float:
    """Return the largest range over groups of a share of alarms: among those with, without the outcome, or all."""
    counted = {"tpr": truth, "fpr": ~truth, "selected": np.ones(len(truth), dtype=bool)}
    alarms = [[prediction.guesses[rows][counted[rate][rows]].mean() for rows in groups] for rate in rates]
    return float(np.ptp(alarms, axis=1).max())


def _fields_of_arm(judged: Judged, arm: str, places: Sequence[int]) -> dict[str, Any]:
    """Return what a result that compares groups of one arm says of itself."""
    fields: dict[str, Any] = {"n": len(places), "arm": arm, "group": judged.grouping.name}
    return fields | {"disclosure": judged.exam.terms.disclosure, "subject": judged.trained[arm].learner}
