"""Whether networks that learned from synthetic images recognise real ones.

Learners are trained on synthetic and on real images (the ceiling), the same number of each, and tested on the same
images of real patients; nothing is chosen by how it does on them. A classifier that was fitted elsewhere stands beside
the learner that it names. The bootstrap draws patients, with all their images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.groups import Grouping
from dpsynth.evaluation.arrays.table import Floats, Ints
from dpsynth.evaluation.images.gallery import DRAWS, Gallery
from dpsynth.evaluation.learners.arms import ArmScores
from dpsynth.evaluation.learners.from_outside import ARM
from dpsynth.evaluation.learners.image import image_learners
from dpsynth.evaluation.learners.tabular import Prediction
from dpsynth.evaluation.result import Result, estimate, guarded, not_estimable
from dpsynth.evaluation.statistics.bootstrap import draws_for, percentile, weights
from dpsynth.evaluation.statistics.scores import Ranking, Weights, ratio

__all__ = ["OF_CLASS", "OVERALL", "learned_results"]

OVERALL = ("image_accuracy", "image_balanced_accuracy", "image_auroc")
OF_CLASS = ("class_recall", "class_auroc")


def learned_results(gallery: Gallery, groupings: Sequence[Grouping]) -> list[Result]:
    """Return scores of learners that were trained on each arm, overall, by class and by group, and their changes."""
    results: list[Result] = []
    for learner in image_learners():
        fields: dict[str, Any] = {"subject": learner, "disclosure": gallery.terms.disclosure}
        results += guarded(OVERALL, partial(_of_learner, learner, gallery, groupings), **fields)
    return results


@dataclass(frozen=True)
class _Group:
    """Test images of one group.

    Parameters
    ----------
    label : str
        ``all``, or the group's name.
    rows : ndarray of int
        Places among the images that are examined.
    codes : ndarray of int, shape (rows,)
    number : int
        Patients.
    classes : ndarray of int
        The classes that enter means: each with enough patients.
    ranked : ndarray of int
        Those of them with enough patients outside.
    with_class : ndarray of int
        Patients of every class.
    """

    label: str
    rows: Ints
    codes: Ints
    number: int
    classes: Ints
    ranked: Ints
    with_class: Ints

    @classmethod
    def of(cls, label: str, rows: Ints, gallery: Gallery) -> "_Group":
        """Count the patients of a group."""
        codes, patients = gallery.truth[rows], gallery.examined.patients[rows]
        sizes = range(len(gallery.classes.classes))
        inside = np.array([len(np.unique(patients[codes == code])) for code in sizes], dtype=np.int64)
        outside = np.array([len(np.unique(patients[codes != code])) for code in sizes], dtype=np.int64)
        least = gallery.terms.smallest
        classes = np.flatnonzero(inside >= least)
        ranked = np.flatnonzero((inside >= least) & (outside >= least))
        return cls(label, rows, codes, len(np.unique(patients)), classes, ranked, inside)

    def lacks(self, metric: str, smallest: int) -> str:
        """Return why a metric is not estimable; empty where it is."""
        if self.number < smallest:
            return f"{self.number} patients; needs {smallest}"
        few = {"image_balanced_accuracy": self.classes, "image_auroc": self.ranked}.get(metric)
        return f"fewer than two classes have {smallest} patients here" if few is not None and len(few) < 2 else ""

    def warns(self, metric: str) -> str:
        """Return which classes do not enter a mean."""
        left = int((self.with_class > 0).sum()) - len(self.classes)
        return f"without {left} classes that have too few patients" if left and metric in OVERALL[1:] else ""


def image_scores(group: _Group, prediction: Prediction, times: Weights) -> dict[str, Floats]:
    """Return scores for each draw of weights, each of shape (draws,); those of a class have its code in their name."""
    codes = group.codes
    right = (codes == prediction.guesses).astype(np.float64)
    scores: dict[str, Floats] = {"image_accuracy": ratio(times @ right, times.sum(axis=1))}
    for code in group.classes:
        own = (codes == code).astype(np.float64)
        scores[f"class_recall {code}"] = ratio(times @ (right * own), times @ own)
    for code in group.ranked:
        scores[f"class_auroc {code}"] = Ranking(codes == code, prediction.scores[:, code]).auroc(times)
    for mean, part in (("image_balanced_accuracy", "class_recall"), ("image_auroc", "class_auroc")):
        each = [values for name, values in scores.items() if name.startswith(f"{part} ")]
        if each:
            scores[mean] = np.mean(each, axis=0)
    return scores


def _of_learner(learner: str, gallery: Gallery, groupings: Sequence[Grouping]) -> list[Result]:
    fields: dict[str, Any] = {"subject": learner, "disclosure": gallery.terms.disclosure}
    predictions: dict[str, list[Prediction]] = {}
    results: list[Result] = []
    for arm in gallery.training:
        try:
            predictions[arm] = gallery.predictions(learner, arm)
        except InputError as error:
            results += [not_estimable(metric, str(error), arm=arm, **fields) for metric in OVERALL]
    if direct := gallery.answered(learner):
        predictions[ARM] = direct
    if not predictions:
        return results
    patients, seed = gallery.examined.patients, gallery.terms.seed
    draws = draws_for(len(patients), DRAWS)
    everyone = _Group.of("all", np.arange(len(patients)), gallery)
    results += _of_group(everyone, predictions, weights(gallery.truth, patients, draws, seed), gallery, fields)
    for grouping in groupings:
        codes = grouping.codes(gallery.examined.table)
        times = weights(codes * len(gallery.classes.classes) + gallery.truth, patients, draws, seed)
        for code in np.unique(codes):
            group = _Group.of(grouping.labels[code], np.flatnonzero(codes == code), gallery)
            results += _of_group(group, predictions, times, gallery, fields | {"detail": {"grouping": grouping.name}})
    return results


@dataclass(frozen=True)
class _GroupScores:
    """The scores of every arm in one group of test patients.

    Parameters
    ----------
    scored : dict of str to ArmScores
    level : float
    fields : dict
        What all results of the group share.
    """

    scored: dict[str, ArmScores]
    level: float
    fields: dict[str, Any]

    def results(self, arm: str, metric: str, key: str, lacks: str, **detail: Any) -> list[Result]:
        """Return a score of an arm, and its paired change against the real-trained arm."""
        fields = {**self.fields, "arm": arm, "detail": {**self.fields["detail"], **detail}}
        mine, real = self.scored[arm], self.scored.get("real") if arm != "real" else None
        names = [metric] if real is None else [metric, f"{metric}_change"]
        if lacks:
            return [not_estimable(name, lacks, **fields) for name in names]
        results = [estimate(metric, mine.value[key], interval=mine.interval(key, self.level), **fields)]
        if real is not None:
            drawn = mine.draws[key] - real.draws[key]
            interval = percentile(drawn, mine.covers, self.level, extra=mine.between[key])
            results.append(estimate(names[1], mine.value[key] - real.value[key], interval=interval, **fields))
        return results


def _of_group(
    group: _Group, predictions: Mapping[str, list[Prediction]], times: Weights, gallery: Gallery, fields: dict[str, Any]
) -> list[Result]:
    """Return the scores of each arm in a group, and their changes against the real-trained arm."""
    least = gallery.terms.smallest
    detail = {**fields.get("detail", {}), "images": len(group.rows)}
    fields = {**fields, "group": group.label, "n": group.number, "detail": detail}
    if group.number < least:
        return [
            not_estimable(name, group.lacks(name, least), arm=arm, **fields) for arm in predictions for name in OVERALL
        ]
    judged = _GroupScores(
        {arm: _scored(draws, group, times) for arm, draws in predictions.items()}, gallery.terms.level, fields
    )
    results: list[Result] = []
    for arm, scores in judged.scored.items():
        more = {"trained_images": gallery.trained_images(arm), "draws": scores.count}
        for metric in OVERALL:
            scored = judged.results(arm, metric, metric, group.lacks(metric, least), **more)
            results += [replace(result, reason=result.reason or group.warns(metric)) for result in scored]
        if group.label == "all":
            results += _of_classes(group, arm, judged, gallery)
    return results


def _scored(draws: Sequence[Prediction], group: _Group, times: Weights) -> ArmScores:
    parts = [Prediction(prediction.scores[group.rows], prediction.guesses[group.rows]) for prediction in draws]
    return ArmScores.of(parts, partial(image_scores, group), times[:, group.rows])


def _of_classes(group: _Group, arm: str, judged: _GroupScores, gallery: Gallery) -> list[Result]:
    """Return what is recognised of each class."""
    task, least = gallery.classes, gallery.terms.smallest
    results: list[Result] = []
    for code, name in enumerate(task.classes):
        inside = int(group.with_class[code])
        detail = {"positives": inside, "images": int((group.codes == code).sum())}
        for metric, n in zip(OF_CLASS, (inside, group.number), strict=True):
            lacks = f"{inside} patients of this class; needs {least}" if inside < least else ""
            if metric == "class_auroc" and not lacks and code not in group.ranked:
                lacks = f"fewer than {least} patients of other classes"
            own = replace(judged, fields={**judged.fields, "group": f"{task.target}={name}", "n": n})
            results += own.results(arm, metric, f"{metric} {code}", lacks, **detail)
    return results
