"""How classifiers trained on the synthetic cohort do in each group of patients, beside the real-trained one.

All groups and arms share the test patients and the bootstrap draws (stratified by group and outcome), so that changes
and differences in differences are paired. A rate is estimable from ten patients of its kind on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.groups import Grouping
from dpsynth.evaluation.arrays.table import Floats, Ints
from dpsynth.evaluation.learners.arms import ArmScores, Exam, Trained
from dpsynth.evaluation.learners.tabular import Prediction, Task
from dpsynth.evaluation.result import Result, estimate, not_estimable
from dpsynth.evaluation.statistics.bootstrap import draws_for, weights
from dpsynth.evaluation.statistics.scores import Ranking, Weights, balanced_accuracy, macro_auroc, ratio, weighted_r2

__all__ = ["GROUP_MAIN", "Cell", "Judged", "group_results", "group_score", "judge"]

#: The score by which groups are compared: of the same kind as that of all patients
#: (`dpsynth.evaluation.metrics.utility.MAIN`). Accuracy would not do: where 94 % have one class, guessing it looks
#: good in every group.
GROUP_MAIN = {"binary": "group_auroc", "multiclass": "group_auroc", "numeric": "group_r2"}
#: Between ten and this many patients with, or without, the outcome an estimate carries a warning.
FEW = 30
#: Of several classes those enter a group's mean AUROC that have as many rows in it.
SMALLEST = 10


def group_score(task: Task, truth: NDArray[Any], prediction: Prediction, times: Weights) -> dict[str, Floats]:
    """Return the scores of one group for each draw of weights, each of shape (draws,); NaN where there is none."""
    if task.kind == "numeric":
        mae = ratio(times @ np.abs(truth - prediction.scores), times.sum(axis=1))
        return {"group_r2": weighted_r2(truth, prediction.scores, times), "group_mae": mae}
    if task.kind == "multiclass":
        return {
            **main_score(task, truth, prediction, times),
            "group_balanced_accuracy": balanced_accuracy(truth, prediction.guesses, times),
            "group_accuracy": ratio(times @ (truth == prediction.guesses).astype(float), times.sum(axis=1)),
        }
    ranking, labels, alarms = Ranking(truth, prediction.scores), truth.astype(float), prediction.guesses.astype(float)
    both, total = times @ (labels * alarms), times.sum(axis=1)
    positives, alarmed = times @ labels, times @ alarms
    return {
        "group_auroc": ranking.auroc(times),
        "group_auprc": ranking.auprc(times),
        "tpr": ratio(both, positives),
        "fpr": ratio(alarmed - both, total - positives),
        "ppv": ratio(both, alarmed),
        "calibration_error": ratio(times @ (labels - prediction.scores), total),
        "selected": ratio(alarmed, total),
    }


def main_score(task: Task, truth: NDArray[Any], prediction: Prediction, times: Weights) -> dict[str, Floats]:
    """Return only the score by which groups are compared: `group_score` would compute the others too."""
    if task.kind == "numeric":
        return {"group_r2": weighted_r2(truth, prediction.scores, times)}
    if task.kind == "multiclass":
        return {"group_auroc": macro_auroc(truth, prediction.scores, times, SMALLEST)}
    return {"group_auroc": Ranking(truth, prediction.scores).auroc(times)}


@dataclass(frozen=True)
class Cell:
    """One group of the test patients: its rows, and how many patients have the outcome.

    Parameters
    ----------
    label : str
    rows : ndarray of int
        The group's rows.
    patients, positives, negatives : int
        Patients; of these with and without the outcome in some row; of several classes with the second most frequent
        and with the most frequent one (0 for a numeric target).
    several : bool
        Whether the outcome has several classes.
    """

    label: str
    rows: Ints
    patients: int
    positives: int
    negatives: int
    several: bool = False

    @classmethod
    def of(cls, label: str, rows: Ints, exam: Exam) -> "Cell":
        """Count the patients of a group."""
        patients = exam.test.patients[rows]
        count = len(np.unique(patients))
        if exam.task.kind == "numeric":
            return cls(label, rows, count, 0, 0)
        truth = exam.truth[rows]
        if exam.task.kind == "multiclass":
            sizes = sorted((len(np.unique(patients[truth == code])) for code in np.unique(truth)), reverse=True)
            return cls(label, rows, count, sizes[1] if len(sizes) > 1 else 0, sizes[0], several=True)
        return cls(label, rows, count, len(np.unique(patients[truth])), len(np.unique(patients[~truth])))

    def lacks(self, metric: str, smallest: int) -> str:
        """Return why a metric is not estimable in this group; empty where it is."""
        both = ("group_auroc", "group_auprc", "group_balanced_accuracy", "group_change", "did", "equalized_odds")
        if metric in both and (self.positives or self.negatives):
            few = min((self.positives, "with"), (self.negatives, "without"))
        elif metric in ("tpr", "fpr"):
            few = (self.positives, "with") if metric == "tpr" else (self.negatives, "without")
        else:
            few = (self.patients, "")
        if few[1] and self.several:
            return f"{few[0]} patients of the second most frequent class; needs {smallest}" if few[0] < smallest else ""
        kind = f" {few[1]} the outcome" if few[1] else ""
        return f"{few[0]} patients{kind}; needs {smallest}" if few[0] < smallest else ""

    def warns(self) -> str:
        """Return a warning where the group is small."""
        few = 0 if self.several else min(self.positives, self.negatives)
        return f"{few} patients with or without the outcome: wide" if 0 < few < FEW else ""


@dataclass(frozen=True)
class Judged:
    """One grouping of the test patients, with the scores of each arm in each group.

    Parameters
    ----------
    grouping : Grouping
    exam : Exam
    cells : tuple of Cell
        The groups that have a test patient.
    trained : dict of str to Trained
        One learner's arms ``real`` and ``synthetic``, those of them that could be trained, and the arm
        ``dp_classifier`` where there is one.
    """

    grouping: Grouping
    exam: Exam
    cells: tuple[Cell, ...]
    trained: dict[str, Trained]

    @cached_property
    def times(self) -> Weights:
        """Bootstrap weights stratified by group and outcome, shape (draws, rows)."""
        exam = self.exam
        strata = self.grouping.codes(exam.test) * (int(exam.strata.max()) + 1) + exam.strata
        return weights(strata, exam.test.patients, draws_for(len(exam.test), exam.terms.draws), exam.terms.seed)

    @cached_property
    def scores(self) -> dict[str, list[ArmScores]]:
        """Scores of each arm in each group."""
        return {arm: [self.score(trained, cell.rows) for cell in self.cells] for arm, trained in self.trained.items()}

    def score(self, trained: Trained, rows: Ints, *, only_main: bool = False) -> ArmScores:
        """Return an arm's scores among these rows."""
        parts = [Prediction(prediction.scores[rows], prediction.guesses[rows]) for prediction in trained.predictions]
        scored = partial(main_score if only_main else group_score, self.exam.task, self.exam.truth[rows])
        return ArmScores.of(parts, scored, self.times[:, rows])

    def estimable(self, metric: str) -> list[int]:
        """Return the places of the groups in which a metric is estimable for every arm."""
        smallest = self.exam.terms.smallest
        return [
            place
            for place, cell in enumerate(self.cells)
            if not cell.lacks(metric, smallest)
            and all(np.isfinite(scores[place].value.get(metric, 0.0)) for scores in self.scores.values())
        ]


def judge(grouping: Grouping, trained: Sequence[Trained], exam: Exam, learner: str) -> Judged:
    """Return a grouping with what is needed to judge one learner's arms in each group, and a DP classifier's."""
    codes = grouping.codes(exam.test)
    cells = tuple(Cell.of(grouping.labels[code], np.flatnonzero(codes == code), exam) for code in np.unique(codes))
    ranked = sorted((item for item in trained if item.predictions), key=lambda item: item.learner != learner)
    arms: dict[str, Trained] = {}
    for item in ranked:
        if item.learner == learner or item.arm == "dp_classifier":
            arms.setdefault(item.arm, item)
    return Judged(
        grouping, exam, cells, {arm: arms[arm] for arm in ("real", "synthetic", "dp_classifier") if arm in arms}
    )


def group_results(judged: Judged) -> list[Result]:
    """Return every score of every arm in every group."""
    results: list[Result] = []
    for arm, scores_of_cells in judged.scores.items():
        for cell, scores in zip(judged.cells, scores_of_cells, strict=True):
            metrics = [metric for metric in scores.value if metric != "selected"]
            results += [_group_result(metric, arm, cell, scores, judged) for metric in metrics]
    return results


def _group_result(metric: str, arm: str, cell: Cell, scores: ArmScores, judged: Judged) -> Result:
    terms = judged.exam.terms
    detail: dict[str, Any] = {"grouping": judged.grouping.name}
    if judged.exam.task.kind == "binary":
        detail |= {"positives": cell.positives, "negatives": cell.negatives}
    fields: dict[str, Any] = {"n": cell.patients, "arm": arm, "group": cell.label, "disclosure": terms.disclosure}
    fields |= {"detail": detail, "subject": judged.trained[arm].learner}
    lacks = cell.lacks(metric, terms.smallest)
    if metric == "ppv" and not lacks:
        lacks = _few_alarms(cell, judged.trained[arm], judged.exam)
    if lacks or not np.isfinite(scores.value[metric]):
        return not_estimable(metric, lacks or "the learner raises no alarm in this group", **fields)
    return estimate(
        metric, scores.value[metric], interval=scores.interval(metric, terms.level), reason=cell.warns(), **fields
    )


def _few_alarms(cell: Cell, trained: Trained, exam: Exam) -> str:
    """Return why there is no positive predictive value: fewer than the smallest number of patients are alarmed."""
    patients = exam.test.patients[cell.rows]
    alarmed = min(len(np.unique(patients[prediction.guesses[cell.rows] > 0])) for prediction in trained.predictions)
    return f"{alarmed} patients alarmed; needs {exam.terms.smallest}" if alarmed < exam.terms.smallest else ""
