"""What more patients of a scarce group do to a classifier, for that group and for the others.

Every arm trains the same learners and is tested on the same real patients with the same bootstrap draws, so that its
difference from the real patients alone is paired. The free alternatives stand beside the synthetic patients: repeated
real patients, SMOTE, and weights.

Sources: Chawla et al. (2002), SMOTE: synthetic minority over-sampling technique, section 6.1 (SMOTE-NC).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Floats, Ints, Table, Variable
from dpsynth.evaluation.learners.arms import ArmScores, join
from dpsynth.evaluation.learners.tabular import LEARNERS, Prediction, Task, dense_features, fit_predict, task_of
from dpsynth.evaluation.protocol import Progress, Protocol
from dpsynth.evaluation.result import Result, estimate, not_estimable
from dpsynth.evaluation.results import Results
from dpsynth.evaluation.statistics.bootstrap import draws_for, percentile, weights
from dpsynth.evaluation.statistics.scores import Ranking, Weights

__all__ = [
    "ARMS",
    "REAL",
    "WITH_SYNTHETIC",
    "AugmentationExam",
    "Drawn",
    "arms_of",
    "augmentation",
    "binary_task",
    "smote",
]

REAL = "real only"
WITH_SYNTHETIC = "real + synthetic"
ARMS = (
    REAL,
    WITH_SYNTHETIC,
    "real + repeated",
    "real + SMOTE",
    "real, weighted",
    "synthetic only",
    "balanced synthetic",
)
NEIGHBOURS = 5

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Drawn:
    """The synthetic patients of one draw from the model, in the three ways in which arms use them.

    Parameters
    ----------
    group : Table
        Synthetic patients of the group, as many as are added.
    whole : Table
        Synthetic patients as the model has them.
    balanced : Table
        Synthetic patients, half of them of the group.
    """

    group: Table
    whole: Table
    balanced: Table


@dataclass(frozen=True)
class AugmentationExam:
    """Real test patients, which no arm was trained on, and the group that is to gain.

    Parameters
    ----------
    task : Task
    test : Table
        With known outcomes.
    inside : ndarray of bool, shape (rows,)
        Which rows are of the group.
    label : str
        The group's name.
    terms : Protocol
    """

    task: Task
    test: Table
    inside: Mask
    label: str
    terms: Protocol

    def parts(self) -> dict[str, Ints]:
        """Return the rows of the group, of the others, and all."""
        return {
            self.label: np.flatnonzero(self.inside),
            "others": np.flatnonzero(~self.inside),
            "all": np.arange(len(self.test)),
        }


def binary_task(table: Table, target: str) -> Task:
    """Return the task of a target with two outcomes.

    Raises
    ------
    InputError
        If it has more, or is a number.
    """
    task = task_of(table, target)
    if task.kind != "binary":
        raise InputError(f"target {target!r}: augmentation is judged by AUROC; expected a column with two outcomes.")
    return task


Training = tuple[Table, Floats | None]


def arms_of(train: Table, inside: Mask, drawn: Drawn, task: Task, rng: np.random.Generator) -> dict[str, Training]:
    """Return what each arm trains on: rows, and their weights.

    Parameters
    ----------
    train : Table
        Real training patients.
    inside : ndarray of bool, shape (rows,)
        Which of them are of the group.
    drawn : Drawn
    task : Task
    rng : numpy.random.Generator

    Raises
    ------
    InputError
        If no training patient is of the group.
    """
    amount, own = len(drawn.group), np.flatnonzero(inside)
    if len(own) == 0:
        raise InputError("group: no training patient is of it, so that there is nothing to compare with.")
    repeated = train.take(rng.choice(own, amount)) if amount else train.take(own[:0])
    heavier = np.where(inside, 1 + amount / len(own), 1.0)
    return {
        REAL: (train, None),
        WITH_SYNTHETIC: (_joined(train, drawn.group), None),
        "real + repeated": (_joined(train, repeated), None),
        "real + SMOTE": (_joined(train, smote(train.take(own), task, amount, rng)), None),
        "real, weighted": (train, heavier),
        "synthetic only": (drawn.whole, None),
        "balanced synthetic": (drawn.balanced, None),
    }


def _joined(first: Table, second: Table) -> Table:
    return join(first, second) if len(second) else first


def smote(table: Table, task: Task, count: int, rng: np.random.Generator) -> Table:
    """Return new rows between rows of a table and their nearest neighbours with the same outcome.

    A number lies between the two where both are measured, else it is the row's own; a category is the most frequent one
    among the neighbours. Where an outcome has one row only, the row is repeated.
    """
    table = task.known(table)
    truth = task.truth(table)
    base = rng.integers(len(table), size=count)
    near = np.empty((len(table), NEIGHBOURS), dtype=np.int64)
    features = dense_features(table, task.target)(table)
    for outcome in np.unique(truth):
        rows = np.flatnonzero(truth == outcome)
        near[rows] = rows[_nearest(features[rows])]
    chosen = near[base, rng.integers(NEIGHBOURS, size=count)]
    share = rng.random(count)
    columns = {
        name: _between(variable, base, chosen, near, share) if name != task.target else variable.take(base)
        for name, variable in table.variables.items()
    }
    return Table(columns, np.arange(count), table.public)


def _nearest(features: Floats) -> Ints:
    """Return the nearest other rows of each, (rows, NEIGHBOURS), repeated where there are fewer."""
    from sklearn.neighbors import NearestNeighbors

    others = min(NEIGHBOURS, len(features) - 1)
    if others == 0:
        return np.zeros((len(features), NEIGHBOURS), dtype=np.int64)
    neighbours = NearestNeighbors(n_neighbors=others).fit(features).kneighbors(return_distance=False)
    return np.asarray(np.resize(neighbours.T, (NEIGHBOURS, len(features))).T, dtype=np.int64)


def _between(variable: Variable, base: Ints, chosen: Ints, near: Ints, share: Floats) -> Variable:
    own = variable.take(base)
    public = {key: item for key, item in own.__dict__.items() if key in own.__dataclass_fields__}
    if not variable.numeric:
        return Variable(**{**public, "values": _most_frequent(variable.values[near[base]])})
    other = variable.take(chosen)
    both = own.measured & other.measured
    values = np.where(both, own.values + share * (other.values - own.values), own.values)
    return Variable(**{**public, "values": np.where(both & variable.whole, np.rint(values), values)})


def _most_frequent(codes: Ints) -> Ints:
    """Return the most frequent code of each row, the first of several."""
    times = (codes[:, :, None] == codes[:, None, :]).sum(axis=2)
    return np.asarray(codes[np.arange(len(codes)), times.argmax(axis=1)])


def augmentation(trainings: Sequence[Mapping[str, Training]], exam: AugmentationExam, progress: Progress) -> Results:
    """Train every arm of every draw and test it.

    Parameters
    ----------
    trainings : sequence of mapping
        For each draw what each arm trains on (`arms_of`).
    exam : AugmentationExam
    progress : callable

    Returns
    -------
    Results
        For each learner, arm and part of the patients the AUROC (``group_auroc``), and its paired difference from the
        real patients alone (``group_change``), each with an interval; internal, unless the real patients are public.
    """
    truth = exam.task.truth(exam.test)
    strata = exam.inside.astype(np.int64) * 2 + truth.astype(np.int64)
    draws = draws_for(len(exam.test), exam.terms.draws)
    times = weights(strata, exam.test.patients, draws, exam.terms.seed)
    jobs = [(learner, arm) for learner in LEARNERS for arm in trainings[0]]
    predicted: dict[tuple[str, str], list[Prediction]] = {}
    for place, (learner, arm) in enumerate(jobs):
        progress(f"training {learner} on {arm}", place / len(jobs))
        # Arms without a draw of their own would train the same model each time.
        once = trainings[:1] if arm in (REAL, "real, weighted") else trainings
        predicted[learner, arm] = [_trained(*training[arm], exam, learner) for training in once]
    results: list[Result] = []
    for learner in LEARNERS:
        for label, rows in exam.parts().items():
            arms = {arm: predicted[learner, arm] for arm in trainings[0]}
            results += _part(arms, rows, exam, {"group": label, "subject": learner}, times)
    return Results(results)


def _trained(table: Table, heavier: Floats | None, exam: AugmentationExam, learner: str) -> Prediction:
    return fit_predict(table, exam.task, learner, exam.terms.seed, weights=heavier)(exam.test)


def _auroc(truth: Mask, prediction: Prediction, times: Weights) -> dict[str, Floats]:
    return {"auroc": Ranking(truth, prediction.scores).auroc(times)}


def _part(
    arms: Mapping[str, Sequence[Prediction]], rows: Ints, exam: AugmentationExam, fields: dict[str, Any], times: Weights
) -> list[Result]:
    """Return the scores of all arms among some rows."""
    truth, terms = exam.task.truth(exam.test)[rows], exam.terms
    count = len(np.unique(exam.test.patients[rows]))
    shared: dict[str, Any] = {**fields, "n": count, "disclosure": terms.disclosure}
    few = min(int(truth.sum()), int((~truth).sum()))
    if few < terms.smallest:
        reason = f"{few} patients with or without the outcome; needs {terms.smallest}"
        return [not_estimable(m, reason, arm=arm, **shared) for arm in arms for m in ("group_auroc", "group_change")]
    scored = {
        arm: ArmScores.of(
            [Prediction(p.scores[rows], p.guesses[rows]) for p in predictions], partial(_auroc, truth), times[:, rows]
        )
        for arm, predictions in arms.items()
    }
    results = []
    for arm, mine in scored.items():
        value = mine.value["auroc"]
        results.append(estimate("group_auroc", value, interval=mine.interval("auroc", terms.level), arm=arm, **shared))
        if arm == REAL:
            continue
        real = scored[REAL]
        drawn, extra = mine.draws["auroc"] - real.draws["auroc"], mine.between["auroc"]
        interval = percentile(drawn, mine.covers, terms.level, extra=extra)
        results.append(estimate("group_change", value - real.value["auroc"], interval=interval, arm=arm, **shared))
    return results
