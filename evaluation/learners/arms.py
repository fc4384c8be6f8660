"""Arms: what learners are trained on, and what each of them then says about the same test patients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Floats, Ints, Table, Variable
from dpsynth.evaluation.learners.tabular import LEARNERS, Prediction, Task, fit_predict, named
from dpsynth.evaluation.protocol import Progress, Protocol
from dpsynth.evaluation.result import Interval
from dpsynth.evaluation.statistics.bootstrap import percentile
from dpsynth.evaluation.statistics.scores import Weights, ones

__all__ = ["ArmScores", "Exam", "Trained", "join", "prevalence", "train_all"]

#: Scores between 0 and 1: an interval that is stretched for the drawing of cohorts must not leave them.
SHARES = frozenset(
    {
        *(
            "auroc",
            "auprc",
            "balanced_accuracy",
            "group_auroc",
            "group_auprc",
            "group_accuracy",
            "group_balanced_accuracy",
            "tpr",
            "fpr",
            "ppv",
        ),
        *("image_accuracy", "image_balanced_accuracy", "image_auroc"),
    }
)


@dataclass(frozen=True)
class Exam:
    """What all arms are tested on.

    Parameters
    ----------
    task : Task
    test : Table
        Real patients with a known outcome, none of whom is in a training arm.
    synthetic : tuple of Table
        Draws of the synthetic cohort, for learners trained on real patients.
    terms : Protocol
    """

    task: Task
    test: Table
    synthetic: tuple[Table, ...]
    terms: Protocol

    @cached_property
    def truth(self) -> NDArray[Any]:
        """The outcome of the test patients; see `Task.truth`."""
        return self.task.truth(self.test)

    @cached_property
    def strata(self) -> Ints:
        """The test patients' outcome as codes; all 0 for a number."""
        numeric = self.task.kind == "numeric"
        return np.zeros(len(self.test), dtype=np.int64) if numeric else self.truth.astype(np.int64)


@dataclass(frozen=True)
class Trained:
    """One learner trained on each draw of one arm.

    Parameters
    ----------
    arm, learner : str
    predictions : tuple of Prediction
        About the test patients, one per draw; empty where training was not possible.
    trained_rows : int
        Rows of one draw.
    reason : str
        Why there are no predictions.
    on_synthetic : tuple of Prediction
        The arm ``real`` only: about the rows of each synthetic draw.
    """

    arm: str
    learner: str
    predictions: tuple[Prediction, ...]
    trained_rows: int
    reason: str = ""
    on_synthetic: tuple[Prediction, ...] = ()


@dataclass(frozen=True)
class ArmScores:
    """Scores of one arm: the mean over its draws.

    Parameters
    ----------
    value : dict of str to float
        The mean over draws; NaN where it does not exist.
    draws : dict of str to ndarray, shape (bootstrap draws,)
        The same for each draw of bootstrap weights.
    between : dict of str to float
        Variance of the mean that is due to there being several draws of the cohort; 0 for one draw.
    count : int
        Draws of the cohort.
    """

    value: dict[str, float]
    draws: dict[str, Floats]
    between: dict[str, float]
    count: int

    @classmethod
    def of(
        cls,
        predictions: Sequence[Prediction],
        score: Callable[[Prediction, Weights], Mapping[str, Floats]],
        times: Weights,
    ) -> "ArmScores":
        """Score each prediction with weights of one and with bootstrap weights, and take means."""
        points = [score(prediction, ones(times.shape[1])) for prediction in predictions]
        drawn = [score(prediction, times) for prediction in predictions]
        values = {metric: np.array([float(point[metric][0]) for point in points]) for metric in points[0]}
        count = len(points)
        return cls(
            {metric: float(of_draws.mean()) for metric, of_draws in values.items()},
            {metric: np.mean([draw[metric] for draw in drawn], axis=0) for metric in values},
            {metric: float(of_draws.var(ddof=1)) / count if count > 1 else 0.0 for metric, of_draws in values.items()},
            count,
        )

    @property
    def covers(self) -> tuple[str, ...]:
        """The randomness that an interval covers."""
        return ("test patients", "synthetic draws") if self.count > 1 else ("test patients",)

    def interval(self, metric: str, level: float) -> Interval | None:
        """Return the interval of one score; that of a share or a chance stays within 0 and 1."""
        ends = percentile(self.draws[metric], self.covers, level, extra=self.between[metric])
        if ends is None or metric not in SHARES:
            return ends
        return replace(ends, low=max(ends.low, 0.0), high=min(ends.high, 1.0))


def join(first: Table, second: Table) -> Table:
    """Return the rows of two cohorts together; no patient of one is a patient of the other."""
    variables = {name: _joined(variable, second[name]) for name, variable in first.variables.items()}
    patients = np.concatenate([first.patients, second.patients + int(first.patients.max()) + 1])
    return Table(variables, patients, first.public and second.public)


def _joined(first: Variable, second: Variable) -> Variable:
    public = {key: item for key, item in first.__dict__.items() if key in first.__dataclass_fields__}
    return Variable(**{**public, "values": np.concatenate([first.values, second.values])})


def train_all(arms: Mapping[str, Sequence[Table]], exam: Exam, progress: Progress) -> list[Trained]:
    """Train every learner on every draw of every arm and let it predict for the test patients.

    Parameters
    ----------
    arms : mapping of str to sequence of Table
        Of the same number of rows each (``real+synthetic`` has twice as many).
    exam : Exam
    progress : callable
    """
    jobs = [(learner, arm) for learner in LEARNERS for arm in arms]
    trained = []
    for place, (learner, arm) in enumerate(jobs):
        progress(f"training {learner} on {arm}", place / len(jobs))
        trained.append(_train(arm, arms[arm], learner, exam))
    return trained


def _train(arm: str, draws: Sequence[Table], learner: str, exam: Exam) -> Trained:
    rows, name = len(draws[0]), named(learner, exam.task)
    try:
        fitted = [fit_predict(draw, exam.task, learner, exam.terms.seed) for draw in draws]
    except InputError as error:
        return Trained(arm, name, (), rows, str(error))
    there = tuple(fitted[0](exam.task.known(draw)) for draw in exam.synthetic) if arm == "real" else ()
    return Trained(arm, name, tuple(predict(exam.test) for predict in fitted), rows, on_synthetic=there)


def prevalence(train: Table, exam: Exam) -> Trained:
    """Return the arm that knows only the distribution of the outcome among the real training patients."""
    task, rows = exam.task, len(exam.test)
    truth = task.truth(task.known(train))
    if task.kind == "numeric":
        guesses = np.full(rows, float(truth.mean()))
        prediction = Prediction(guesses, guesses)
    elif task.kind == "binary":
        share = float(truth.mean())
        prediction = Prediction(np.full(rows, share), np.full(rows, int(share > 0.5)))
    else:
        shares = np.bincount(truth, minlength=len(task.classes)) / len(truth)
        prediction = Prediction(np.tile(shares, (rows, 1)), np.full(rows, int(shares.argmax())))
    return Trained("prevalence", "", (prediction,), len(train))
