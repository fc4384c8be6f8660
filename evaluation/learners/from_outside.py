"""Classifiers that were fitted elsewhere, as arms of their own.

Is synthesis worth it? A DP classifier that learned from the real patients directly, at the same epsilon, answers one
question; a synthetic cohort answers many. Such a classifier comes as what predicts for a cohort, and is judged on the
same test patients with the same bootstrap draws as the learners that are trained here: those of rows, or of images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Floats, Table
from dpsynth.evaluation.learners.arms import Exam, Trained
from dpsynth.evaluation.learners.image import image_learners
from dpsynth.evaluation.learners.tabular import LEARNERS, Prediction, Task, named, threshold

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

__all__ = ["ARM", "Classifier", "ClassifierAnswers", "answers", "examined", "image_answers"]

ARM = "dp_classifier"


@dataclass(frozen=True)
class Classifier:
    """A classifier (or regressor) that was fitted elsewhere on the real training patients.

    Parameters
    ----------
    predict : callable
        From a `Cohort` of n rows under the schema to what is predicted for each row: P(the last class of the target's
        list), shape (n,), for two classes; a probability per class in the list's order, shape (n, classes), for
        several; the number itself, shape (n,), for a numeric target. Beside a learner of images: a probability per
        class for each image of the cohort, shape (images, classes), also for two classes. It is called with test and
        (for rows) with training patients whose outcomes were shuffled, so that one that reads the outcome gains nothing
        by it.
    beside : str
        The learner that it is shown beside and whose real-trained arm it is compared with: ``logistic regression`` or
        ``gradient boosting``; of images ``small CNN`` or ``MLP on pixels``.
    statement : mapping
        The privacy statement of its fit: what it spent on the training patients, beside what the cohort spent.

    Examples
    --------
    >>> import numpy as np
    >>> by_age = Classifier(lambda cohort: np.asarray(cohort.table["age"], dtype=float) / 110)
    >>> by_age.beside
    'logistic regression'
    """

    predict: "Callable[[Cohort], NDArray[Any]]"
    beside: str = "logistic regression"
    statement: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        learners = LEARNERS if self.beside in LEARNERS else [*LEARNERS, *image_learners()]
        if self.beside not in learners:
            raise InputError(f"classifier: beside is {self.beside!r}, expected {' or '.join(map(repr, learners))}.")

    @property
    def of_images(self) -> bool:
        """Whether it answers for images, not for rows."""
        return self.beside not in LEARNERS

    def about(self) -> dict[str, Any]:
        """Return what the report says of it: beside what it stands, and what it spent, where that is known."""
        spent = {name: self.statement[name] for name in ("epsilon", "delta", "private") if name in self.statement}
        return {"beside": self.beside, **spent}


@dataclass(frozen=True)
class ClassifierAnswers:
    """The predictions of one classifier for all rows of the test and of the training cohort.

    Parameters
    ----------
    beside : str
    test, train : ndarray, shape (rows,) or (rows, classes)
    """

    beside: str
    test: Floats
    train: Floats


def answers(classifier: Classifier, test: "Cohort", train: "Cohort", task: Task, seed: int) -> ClassifierAnswers:
    """Ask a classifier about the rows of test and training patients.

    Raises
    ------
    InputError
        If an answer has the wrong shape, is not finite, or is no probability where one is expected; or if it answers
        for images.
    """
    if classifier.of_images:
        raise InputError(
            f"classifier: {classifier.beside!r} is a learner of images; beside rows it is {' or '.join(LEARNERS)}."
        )
    width = (len(task.classes),) if task.kind == "multiclass" else ()
    return ClassifierAnswers(
        classifier.beside, *(_asked(classifier, cohort, task, (len(cohort), *width), seed) for cohort in (test, train))
    )


def image_answers(
    classifiers: Sequence[Classifier], test: "Cohort", train: "Cohort", task: Task, seed: int
) -> dict[str, list[Floats]]:
    """Ask classifiers about the images of test patients; return for each learner what those beside it say.

    Parameters
    ----------
    classifiers : sequence of Classifier
        Of images.
    test, train : Cohort
        Both with images.
    task : Task
    seed : int

    Returns
    -------
    dict of str to list of ndarray, shape (images, classes)

    Raises
    ------
    InputError
        As for `answers`; or if there are no images, or no classes.
    """
    scores: dict[str, list[Floats]] = {}
    for classifier in classifiers:
        if task.kind == "numeric":
            raise InputError(
                f"classifier: {classifier.beside!r} tells classes; the outcome {task.target!r} is a number."
            )
        if test.images is None or train.images is None:
            raise InputError(f"classifier: {classifier.beside!r} is a learner of images; the real cohorts have none.")
        shape = (len(test.images), len(task.classes))
        scores.setdefault(classifier.beside, []).append(_asked(classifier, test, task, shape, seed))
    return scores


def _asked(classifier: Classifier, cohort: "Cohort", task: Task, shape: tuple[int, ...], seed: int) -> Floats:
    scores = np.asarray(classifier.predict(_shuffled(cohort, task.target, seed)), dtype=np.float64)
    if scores.shape != shape:
        raise InputError(f"classifier: predicts an array of shape {scores.shape}, expected {shape}.")
    if not np.isfinite(scores).all():
        raise InputError("classifier: a prediction is not finite; expected numbers only.")
    if task.kind != "numeric" and not ((scores >= 0) & (scores <= 1)).all():
        raise InputError("classifier: a prediction lies outside 0 to 1; expected probabilities.")
    return scores


def _shuffled(cohort: "Cohort", target: str, seed: int) -> "Cohort":
    """Return the cohort with its outcomes shuffled among the rows."""
    place = cohort.table.column_names.index(target)
    order = np.random.default_rng(seed).permutation(len(cohort))
    mixed = cohort.table.column(target).take(order)
    return replace(cohort, table=cohort.table.set_column(place, cohort.table.field(place), mixed))


def examined(answered: Sequence[ClassifierAnswers], train: Table, exam: Exam) -> list[Trained]:
    """Return an arm for each learner that classifiers stand beside, several fits of one being its draws.

    Parameters
    ----------
    answered : sequence of ClassifierAnswers
    train : Table
        All real training patients: their risks set the threshold of an alarm as for learners trained here.
    exam : Exam
    """
    return [
        Trained(
            ARM,
            named(beside, exam.task),
            tuple(_prediction(answers_of, train, exam) for answers_of in mine),
            len(train),
        )
        for beside in dict.fromkeys(classifier.beside for classifier in answered)
        if (mine := [classifier for classifier in answered if classifier.beside == beside])
    ]


def _prediction(answered: ClassifierAnswers, train: Table, exam: Exam) -> Prediction:
    task, scores = exam.task, answered.test[exam.test.places]
    if task.kind == "numeric":
        return Prediction(scores, scores)
    if task.kind == "multiclass":
        return Prediction(scores, scores.argmax(axis=1))
    labelled = task.known(train)
    limit = threshold(answered.train[labelled.places], float(task.truth(labelled).mean()))
    return Prediction(scores, (scores > limit).astype(np.int64))
