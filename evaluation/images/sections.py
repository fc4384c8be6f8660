"""Whether synthetic images can stand for those of patients: what one learns from them, how far and how they look."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dpsynth.evaluation.arrays.groups import Grouping
from dpsynth.evaluation.arrays.table import Floats, Table
from dpsynth.evaluation.images.consistency import consistency_results
from dpsynth.evaluation.images.distances import distance_results
from dpsynth.evaluation.images.gallery import Gallery
from dpsynth.evaluation.images.pictures import Pictures, pictures
from dpsynth.evaluation.images.samples import sample_results
from dpsynth.evaluation.images.utility import OVERALL, learned_results
from dpsynth.evaluation.learners.tabular import task_of
from dpsynth.evaluation.protocol import Progress, Protocol
from dpsynth.evaluation.result import Result, not_estimable

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

__all__ = ["image_results", "shown_images"]


def image_results(
    cohorts: "Mapping[str, Sequence[Cohort]]",
    tables: Mapping[str, Sequence[Table]],
    target: str | None,
    groupings: Sequence[Grouping],
    *,
    terms: Protocol,
    say: Progress,
    answers: Mapping[str, Sequence[Floats]],
) -> list[Result]:
    """Return what can be said of images; nothing where the real patients have none.

    Parameters
    ----------
    cohorts : mapping of str to sequence of Cohort
        ``test`` and ``train``, one of each, ``synthetic`` and further arms.
    tables : mapping of str to sequence of Table
        Of the same cohorts.
    target : str or None
        The outcome, whose classes are to be recognised.
    groupings : sequence of Grouping
    terms : Protocol
    say : callable
    answers : mapping of str to sequence of ndarray
        For a learner of images what classifiers beside it say of the test images.
    """
    of_arms = {
        arm: [pictures(images, table) for images, table in zip(draws, tables[arm], strict=True)]
        for arm, draws in cohorts.items()
    }
    there = {arm: [images for images in each if images is not None] for arm, each in of_arms.items()}
    if not there["test"] or not there["train"]:
        return []
    if not there["synthetic"]:
        reason = "the synthetic cohort has no images"
        return [not_estimable(metric, reason, disclosure=terms.disclosure) for metric in OVERALL]
    arms = {arm: each for arm, each in there.items() if each and arm not in ("test", "train")}
    task = task_of(tables["test"][0], target) if target is not None else None
    classes = task if task is not None and task.kind != "numeric" else None
    gallery = Gallery(there["test"][0], there["train"][0], arms, classes, terms, say, answers)
    return [
        *learned_results(gallery, groupings),
        *consistency_results(gallery, groupings),
        *distance_results(gallery),
        *sample_results(there["synthetic"][0], target, groupings, terms),
    ]


def shown_images(
    synthetic: "Cohort", table: Table, target: str | None, groupings: Sequence[Grouping], terms: Protocol
) -> list[Result]:
    """Return the grids of a synthetic cohort's images: what may be said of them without any real patient."""
    images: Pictures | None = pictures(synthetic, table)
    return sample_results(images, target, groupings, terms)
