"""Whether models learned from the synthetic cohort work on real patients.

TSTR: trained on synthetic, tested on real. TRTR: trained on real (the ceiling). All arms are tested on the same real
patients with the same bootstrap draws, so that differences between arms are paired.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.table import Floats
from dpsynth.evaluation.learners.arms import ArmScores, Exam, Trained
from dpsynth.evaluation.learners.tabular import Prediction, Task
from dpsynth.evaluation.result import Interval, Result, estimate, guarded, not_estimable
from dpsynth.evaluation.statistics.bootstrap import draws_for, percentile, weights
from dpsynth.evaluation.statistics.regression import logistic
from dpsynth.evaluation.statistics.scores import (
    Ranking,
    Weights,
    balanced_accuracy,
    calibration_bins,
    ones,
    ratio,
    weighted_r2,
)

__all__ = ["MAIN", "score", "scored_metrics", "utility"]

#: The metric by which arms are compared.
MAIN = {"binary": "auroc", "multiclass": "auroc", "numeric": "r2"}


def scored_metrics(task: Task) -> tuple[str, ...]:
    """Return the metrics that `score` gives for a task."""
    return ("r2", "mae") if task.kind == "numeric" else ("auroc", "auprc", "balanced_accuracy", "brier")


def score(task: Task, truth: NDArray[Any], prediction: Prediction, times: Weights) -> dict[str, Floats]:
    """Return scores of a prediction for each draw of weights, each of shape (draws,).

    For several classes AUROC and AUPRC are the mean over the classes that the test patients have, each against the
    rest; a class that the training arm lacks has risk 0 for everybody and so AUROC 0.5.
    """
    if task.kind == "numeric":
        mae = ratio(times @ np.abs(truth - prediction.scores), times.sum(axis=1))
        return {"r2": weighted_r2(truth, prediction.scores, times), "mae": mae}
    codes = truth.astype(np.int64)
    if task.kind == "binary":
        columns = [(truth, prediction.scores)]
        squares = (prediction.scores - codes) ** 2
    else:
        columns = [(codes == code, prediction.scores[:, code]) for code in np.unique(codes)]
        squares = ((prediction.scores - np.eye(len(task.classes))[codes]) ** 2).sum(axis=1)
    rankings = [Ranking(label, risk) for label, risk in columns]
    return {
        "auroc": np.mean([ranking.auroc(times) for ranking in rankings], axis=0),
        "auprc": np.mean([ranking.auprc(times) for ranking in rankings], axis=0),
        "balanced_accuracy": balanced_accuracy(codes, prediction.guesses, times),
        "brier": ratio(times @ squares, times.sum(axis=1)),
    }


def utility(trained: Sequence[Trained], exam: Exam) -> list[Result]:
    """Return scores of every learner and arm on the test patients, and their change against the real-trained arm.

    Parameters
    ----------
    trained : sequence of Trained
        The arm ``real`` among them.
    exam : Exam
    """
    if len(np.unique(exam.truth)) < 2:
        reason = f"the test patients have fewer than two different values of {exam.task.target!r}"
        return [_none(metric, reason, model, exam) for model in trained for metric in scored_metrics(exam.task)]
    draws = draws_for(len(exam.test), exam.terms.draws)
    times = weights(exam.strata, exam.test.patients, draws, exam.terms.seed)
    scores = {
        (model.learner, model.arm): ArmScores.of(model.predictions, partial(score, exam.task, exam.truth), times)
        for model in trained
        if model.predictions
    }
    results: list[Result] = []
    for model in trained:
        mine = scores.get((model.learner, model.arm))
        if mine is None:
            results += [_none(metric, model.reason, model, exam) for metric in scored_metrics(exam.task)]
            continue
        results += _score_results(mine, model, exam)
        results += _change(mine, scores.get((model.learner, "real")), model, exam)
        results += _calibration(model, exam)
        results += _trained_real_tested_synthetic(model, exam)
    return results


def _fields(trained: Trained, exam: Exam) -> dict[str, Any]:
    return {"n": len(exam.test), "arm": trained.arm, "subject": trained.learner, "disclosure": exam.terms.disclosure}


def _none(metric: str, reason: str, trained: Trained, exam: Exam) -> Result:
    return not_estimable(metric, reason, **_fields(trained, exam))


def _score_results(mine: ArmScores, trained: Trained, exam: Exam) -> list[Result]:
    detail: dict[str, Any] = {"trained_rows": trained.trained_rows, "draws": mine.count, "task": exam.task.kind}
    detail["features"] = len(exam.test.names) - 1
    if exam.task.kind == "binary":
        detail["positives"] = int(exam.truth.sum())
    return [
        estimate(
            metric, value, interval=mine.interval(metric, exam.terms.level), detail=detail, **_fields(trained, exam)
        )
        for metric, value in mine.value.items()
    ]


def _change(mine: ArmScores, real: ArmScores | None, trained: Trained, exam: Exam) -> list[Result]:
    """Return the paired difference from the real-trained arm in the main metric."""
    if real is None or trained.arm in ("real", "prevalence"):
        return []
    metric = MAIN[exam.task.kind]
    value, drawn = mine.value[metric] - real.value[metric], mine.draws[metric] - real.draws[metric]
    interval = percentile(drawn, mine.covers, exam.terms.level, extra=mine.between[metric])
    return [estimate("change", value, interval=interval, detail={"of": metric}, **_fields(trained, exam))]


def _calibration(trained: Trained, exam: Exam) -> list[Result]:
    """Return calibration in the large and calibration slope of the first draw, with the curve behind them."""
    if exam.task.kind != "binary" or trained.arm == "prevalence":
        return []
    results: list[Result] = []
    for metric in ("calibration_intercept", "calibration_slope"):
        results += guarded(metric, partial(_calibrate, metric, trained, exam), **_fields(trained, exam))
    return results


def _calibrate(metric: str, trained: Trained, exam: Exam) -> Result:
    """Fit the log odds of the outcome on the predicted log odds: intercept with slope 1, or the slope (Cox 1958)."""
    from scipy.special import logit
    from scipy.stats import norm

    risks, labels = trained.predictions[0].scores, exam.truth.astype(np.float64)
    odds = logit(np.clip(risks, 1e-6, 1 - 1e-6))
    column = np.ones((len(labels), 1))
    if metric == "calibration_intercept":
        fit = logistic(column, labels, exam.test.patients, odds)
    elif np.ptp(odds) == 0:
        return _none(metric, "every patient has the same predicted risk", trained, exam)
    else:
        fit = logistic(np.hstack([column, odds[:, None]]), labels, exam.test.patients)
    level = exam.terms.level
    value, reach = float(fit.coefficients[-1]), float(norm.ppf(0.5 + level / 2) * fit.errors[-1])
    interval = Interval(value - reach, value + reach, level, ("test patients",), "Wald, robust for patients")
    detail = {"curve": calibration_bins(exam.truth, risks)} if metric == "calibration_slope" else {}
    return estimate(metric, value, interval=interval, detail=detail, **_fields(trained, exam))


def _trained_real_tested_synthetic(trained: Trained, exam: Exam) -> list[Result]:
    if not trained.on_synthetic:
        return []
    metric, there = MAIN[exam.task.kind], _there(exam)
    fields = _fields(trained, exam) | {"n": len(there.test), "arm": "trained_real_tested_synthetic"}
    if len(np.unique(there.truth)) < 2:
        reason = f"the synthetic cohort has fewer than two different values of {exam.task.target!r}"
        return [not_estimable(metric, reason, **fields)]
    times = weights(there.strata, there.test.patients, draws_for(len(there.test), 200), exam.terms.seed)
    predicted = trained.on_synthetic[0]
    drawn = score(exam.task, there.truth, predicted, times)[metric]
    value = float(score(exam.task, there.truth, predicted, ones(len(there.test)))[metric][0])
    return [estimate(metric, value, interval=percentile(drawn, ("synthetic rows",), exam.terms.level), **fields)]


def _there(exam: Exam) -> Exam:
    """Return the exam with the first synthetic draw in place of the real test patients."""
    return Exam(exam.task, exam.task.known(exam.synthetic[0]), (), exam.terms)
