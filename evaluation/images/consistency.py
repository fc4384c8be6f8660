"""Whether synthetic images show what their row of the table says.

A classifier of each condition (the outcome, and each column of subgroups) is trained on images of real patients. What
it finds in the synthetic images stands beside what it finds in those of other real patients: where it finds nothing in
the latter, it says nothing of the former.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.groups import Grouping
from dpsynth.evaluation.arrays.table import Floats, Ints
from dpsynth.evaluation.images.gallery import DRAWS, TESTED, Gallery, codes_of
from dpsynth.evaluation.images.pictures import Pictures
from dpsynth.evaluation.learners.image import CNN, image_learners
from dpsynth.evaluation.learners.lesson import Fitted
from dpsynth.evaluation.result import Result, estimate, guarded, not_estimable
from dpsynth.evaluation.statistics.bootstrap import draws_for, percentile, weights
from dpsynth.evaluation.statistics.scores import ones, ratio

__all__ = ["SIDES", "consistency_results"]

#: Images of real patients that conditions other than the outcome are learned from, all together.
LEARNED = 10_000
SIDES = ("real", "trained_real_tested_synthetic")


@dataclass(frozen=True)
class _Side:
    """Images of one cohort with what was recognised in them.

    Parameters
    ----------
    arm : str
        One of `SIDES`.
    patients, truth, guesses : ndarray of int, shape (images,)
    inside : dict of str to ndarray of bool
        Further groups in which the share recognised is told.
    """

    arm: str
    patients: Ints
    truth: Ints
    guesses: Ints
    inside: dict[str, Any]

    def patients_with(self, code: int) -> int:
        """Return how many patients have an image with this code."""
        return len(np.unique(self.patients[self.truth == code]))


def consistency_results(gallery: Gallery, groupings: Sequence[Grouping]) -> list[Result]:
    """Return for each condition how often it is recognised in images of real patients and in synthetic ones."""
    fields: dict[str, Any] = {"disclosure": gallery.terms.disclosure}
    results: list[Result] = []
    if gallery.task is not None:
        compute = partial(_of_target, gallery, groupings)
        results += guarded("image_consistency", compute, subject=gallery.task.target, **fields)
    target = gallery.task.target if gallery.task is not None else ""
    others = [
        grouping
        for grouping in groupings
        if len(grouping.columns) == 1 and grouping.name != target and len(grouping.labels) > 1
    ]
    if others:
        gallery.say("training on images, to recognise groups", 0.6)
        results += guarded("image_consistency", partial(_of_groups, gallery, others), **fields)
    return results


def _of_target(gallery: Gallery, groupings: Sequence[Grouping]) -> list[Result]:
    task = gallery.classes
    try:
        fitted = gallery.fitted(CNN, "real")[0]
    except InputError:
        fitted = gallery.fitted(_without_networks(), "real")[0]
    sides = []
    for arm, pictures in zip(SIDES, (gallery.examined, _synthetic(gallery).known(task)), strict=True):
        guesses = fitted.scores(pictures.pixels)[0].argmax(axis=1)
        inside: dict[str, Any] = {}
        for grouping in groupings:
            codes = grouping.codes(pictures.table)
            inside |= {label: codes == place for place, label in enumerate(grouping.labels) if (codes == place).any()}
        sides.append(_Side(arm, pictures.patients, codes_of(pictures, task), guesses, inside))
    return _results(task.target, [f"{task.target}={name}" for name in task.classes], sides, gallery)


def _synthetic(gallery: Gallery) -> Pictures:
    return gallery.drawn["synthetic"][0].at_most(TESTED, gallery.terms.seed)


def _without_networks() -> str:
    return next(name for name in image_learners() if name != CNN)


def _of_groups(gallery: Gallery, groupings: Sequence[Grouping]) -> list[Result]:
    """Train one network with a head for each column, and tell how often each is right."""
    train = gallery.train.at_most(LEARNED, gallery.terms.seed)
    codes = np.stack([grouping.codes(train.table) for grouping in groupings], axis=1)
    fitted = _fitted(train, codes, tuple(len(grouping.labels) for grouping in groupings), gallery.terms.seed)
    pictures = dict(zip(SIDES, (gallery.test.at_most(TESTED, gallery.terms.seed), _synthetic(gallery)), strict=True))
    scores = {arm: fitted.scores(part.pixels) for arm, part in pictures.items()}
    results: list[Result] = []
    for place, grouping in enumerate(groupings):
        sides = [
            _Side(arm, part.patients, grouping.codes(part.table), scores[arm][place].argmax(axis=1), {})
            for arm, part in pictures.items()
        ]
        results += _results(grouping.name, list(grouping.labels), sides, gallery)
    return results


def _fitted(train: Pictures, codes: Ints, sizes: tuple[int, ...], seed: int) -> Fitted:
    lesson, learners = train.lesson(codes, sizes), image_learners()
    try:
        return learners[CNN](lesson, seed)
    except InputError:
        return learners[_without_networks()](lesson, seed)


def _results(name: str, labels: list[str], sides: list[_Side], gallery: Gallery) -> list[Result]:
    """Return the mean over values of the share recognised, that of each value, and that of further groups."""
    least = gallery.terms.smallest
    present = [code for code in range(len(labels)) if any((side.truth == code).any() for side in sides)]
    kept = [code for code in present if min(side.patients_with(code) for side in sides) >= least]
    results: list[Result] = []
    for side in sides:
        fields: dict[str, Any] = {"arm": side.arm, "subject": name, "disclosure": gallery.terms.disclosure}
        times = weights(side.truth, side.patients, draws_for(len(side.truth), DRAWS), gallery.terms.seed)
        right = (side.truth == side.guesses).astype(np.float64)
        shares = {code: _share(right, side.truth == code, times) for code in present}
        results.append(_overall(side, kept, [shares[code] for code in kept], gallery, fields))
        for code in present:
            count = side.patients_with(code)
            results.append(_one(shares[code], count, gallery, fields | {"group": labels[code]}))
        for label, inside in side.inside.items():
            count = len(np.unique(side.patients[inside]))
            results.append(_one(_share(right, inside, times), count, gallery, fields | {"group": label}))
    return results


def _share(right: Floats, inside: Any, times: Any) -> tuple[float, Floats]:
    """Return the share recognised among these images, and the same for each draw of weights."""
    own = inside.astype(np.float64)
    whole = ones(len(right))
    return float(ratio(whole @ (right * own), whole @ own)[0]), ratio(times @ (right * own), times @ own)


def _one(share: tuple[float, Floats], count: int, gallery: Gallery, fields: dict[str, Any]) -> Result:
    if count < gallery.terms.smallest:
        reason = f"{count} patients; needs {gallery.terms.smallest}"
        return not_estimable("image_consistency", reason, n=count, **fields)
    interval = percentile(share[1], ("tested images",), gallery.terms.level)
    return estimate("image_consistency", share[0], interval=interval, n=count, **fields)


def _overall(
    side: _Side, kept: list[int], shares: list[tuple[float, Floats]], gallery: Gallery, fields: dict[str, Any]
) -> Result:
    fields = {**fields, "n": len(np.unique(side.patients))}
    if len(kept) < 2:
        reason = f"fewer than two values have {gallery.terms.smallest} patients on both sides"
        return not_estimable("image_consistency", reason, **fields)
    guessing = 1 / len(kept)
    value = float(np.mean([share[0] for share in shares]))
    interval = percentile(np.mean([share[1] for share in shares], axis=0), ("tested images",), gallery.terms.level)
    vague = side.arm == "real" and interval is not None and interval.low <= guessing
    reason = "no better than guessing on real images: says nothing of synthetic ones" if vague else ""
    detail = {"guessing": guessing, "values": len(kept)}
    return estimate("image_consistency", value, interval=interval, reason=reason, detail=detail, **fields)
