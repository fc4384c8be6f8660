"""Rehearse an augmentation on public patients: how many synthetic patients help before the real ones are asked."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dpsynth.cohort.cohort import Cohort
from dpsynth.cohort.rows import rows_where
from dpsynth.errors import InputError
from dpsynth.jobs.fit import fit
from dpsynth.models.base import Model, Progress
from dpsynth.progress import silent

if TYPE_CHECKING:
    from dpsynth.evaluation.results import Results

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpsynth.evaluation.results import Results


Mask = npt.NDArray[np.bool_]


AMOUNTS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Amounts that the rehearsal compares, as multiples of the group's size."""


MOST = 20_000
"""Rows of a rehearsed cohort at most."""


EXAMINED = 4_000
"""Synthetic patients of the group that the rehearsal tests on."""


DRAWS = 3
"""Draws from the model whose scores are averaged."""


DRAWN = 300
"""Bootstrap draws of a rehearsal."""


CLEAR = 2.5
"""Standard errors from which on the best of four amounts is called better than none: 5 % of chance findings."""


@dataclass(frozen=True)
class Choice:
    """How many synthetic patients to add, and the scores of the rehearsal that it was chosen by.

    Parameters
    ----------
    amount : int
        Synthetic patients of the group to add.
    scores : mapping of int to float
        For each amount the mean AUROC over learners in the rehearsed group.
    error : float
        Standard error of a difference between two of them.
    rehearsed : bool
        False where a person gave the amount.
    """

    amount: int
    scores: Mapping[int, float]
    error: float
    rehearsed: bool = True


@dataclass(frozen=True)
class _Task:
    """A scarce group, the outcome that is to be predicted in it, the seed of draws, and who is told of the progress."""

    group: Mapping[str, Any]
    label: str
    target: str
    seed: int
    say: Progress

    def members(self, cohort: Cohort) -> Mask:
        """Return which rows are of the group."""
        return rows_where(cohort, self.group)

    def check(self, cohort: Cohort) -> None:
        """Refuse a target that is not of two values, and a group without a patient or without others."""
        from dpsynth.evaluation.arrays.table import tables
        from dpsynth.evaluation.metrics.augmentation import binary_task

        binary_task(tables({"train": cohort})["train"], self.target)
        inside = self.members(cohort)
        if inside.all() or not inside.any():
            raise InputError("group: all or none of the training patients are of it; name another group.")


def _words(group: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} == {value!r}" for name, value in group.items())


def rehearse(
    model: Model, group: Mapping[str, Any], target: str, *, seed: int = 0, progress: Progress | None = None
) -> Choice:
    """Choose how many synthetic patients to add, in a world that is synthetic throughout; spends nothing.

    Parameters
    ----------
    model : Model
        A fitted model.
    group : mapping
        The group as a condition.
    target : str
        The outcome.
    seed : int
        Of draws, learners and bootstrap.
    progress : callable, optional
        Called with a phase and the share of it that is done.

    Returns
    -------
    Choice
        The smallest amount whose AUROC is within a standard error of the best, where the best is clearly above that of
        adding none; else none.
    """
    from dpsynth.models import make

    task = _Task(group, "", target, seed, progress or silent)
    rows = min(model.rows, MOST)
    world = _public(model.sample(rows, seed=task.seed))
    examined = model.sample(EXAMINED, where=task.group, scarce=True, seed=task.seed + 1)
    facts, name = model.statement, model.statement["model"]["name"]
    task.say("rehearsing", 0.0)
    budget = {"epsilon": facts["epsilon"], "delta": facts["delta"]}
    of_table = world.images is None and world.schema.images is not None
    second = fit(world, make(name, **facts["model"]["options"]), without_images=of_table, **budget)
    size = max(int(task.members(world).sum()), 1)
    amounts = sorted({round(share * size) for share in AMOUNTS})
    scores = _rehearsed(second, world, examined, task, amounts)
    means = {n: float(np.mean([auroc for auroc, _ in learners])) for n, learners in scores.items()}
    errors = {
        n: float(np.mean([draws for _, draws in learners], axis=0).std())
        for n, learners in _differences(scores).items()
    }
    best = max(means, key=lambda n: means[n])
    error = max(errors.values(), default=0.0)
    if means[best] - means[0] <= CLEAR * error:
        return Choice(0, means, error)
    return Choice(min(n for n in amounts if n and means[n] >= means[best] - error), means, error)


Scores = dict[int, list[tuple[float, Any]]]


def _rehearsed(second: Model, world: Cohort, examined: Cohort, task: _Task, amounts: Sequence[int]) -> Scores:
    """Return for each amount, by learner, the AUROC in the examined group and its bootstrap draws."""
    from dpsynth.evaluation.arrays.table import tables
    from dpsynth.evaluation.learners.arms import join
    from dpsynth.evaluation.learners.tabular import LEARNERS, fit_predict
    from dpsynth.evaluation.metrics.augmentation import binary_task
    from dpsynth.evaluation.statistics.bootstrap import weights
    from dpsynth.evaluation.statistics.scores import Ranking, ones

    extra = second.sample(max(amounts), where=task.group, scarce=True, seed=task.seed + 2)
    patients = tables({"world": world, "exam": examined, "extra": extra})
    exam = binary_task(patients["exam"], task.target).known(patients["exam"])
    problem = binary_task(exam, task.target)
    truth = problem.truth(exam)
    times = weights(truth.astype(np.int64), exam.patients, DRAWN, task.seed)
    scores: Scores = {}
    for place, amount in enumerate(amounts):
        task.say("rehearsing", place / len(amounts))
        rows = patients["extra"].take(np.arange(amount))
        train = join(patients["world"], rows) if amount else patients["world"]
        scores[amount] = []
        for learner in LEARNERS:
            ranking = Ranking(truth, fit_predict(train, problem, learner, task.seed)(exam).scores)
            scores[amount].append((float(ranking.auroc(ones(len(exam)))[0]), ranking.auroc(times)))
    return scores


def _differences(scores: Scores) -> Scores:
    """Return the scores of each amount less those of adding none, draw by draw."""
    return {
        n: [(auroc - none, draws - drawn) for (auroc, draws), (none, drawn) in zip(learners, scores[0], strict=True)]
        for n, learners in scores.items()
        if n
    }


def _public(cohort: Cohort) -> Cohort:
    """Return synthetic rows as a cohort on which nothing needs to be spent: what they tell was paid for."""
    return dataclasses.replace(cohort, public=True)


def _judged(model: Model, train: Cohort, exam: Cohort, task: _Task, added: int) -> "Results":
    """Train all arms on each draw and test them on real patients."""
    from dpsynth.evaluation.arrays.table import tables
    from dpsynth.evaluation.metrics.augmentation import AugmentationExam, Drawn, arms_of, augmentation, binary_task
    from dpsynth.evaluation.protocol import Protocol
    from dpsynth.evaluation.result import Disclosure

    rows, inside = _rows(model), task.members(train)
    balance = [(task.group, 0.5)]
    cohorts = {"train": train, "test": exam}
    for place in range(DRAWS):
        seed = 100 * task.seed + 10 * place
        cohorts[f"group {place}"] = model.sample(added, where=task.group, scarce=True, seed=seed)
        cohorts[f"whole {place}"] = model.sample(rows, seed=seed + 1)
        cohorts[f"balanced {place}"] = model.sample(rows, proportions=balance, scarce=True, seed=seed + 2)
    patients = tables(cohorts)
    problem = binary_task(patients["test"], task.target)
    public = train.public and exam.public
    terms = Protocol(seed=task.seed, disclosure=Disclosure.PUBLIC if public else Disclosure.INTERNAL)
    labelled = np.flatnonzero(~patients["test"][task.target].missing)
    judged = AugmentationExam(problem, patients["test"].take(labelled), task.members(exam)[labelled], task.label, terms)
    rng = np.random.default_rng(task.seed)
    trainings = []
    for place in range(DRAWS):
        drawn = Drawn(*(patients[f"{kind} {place}"] for kind in ("group", "whole", "balanced")))
        trainings.append(arms_of(patients["train"], inside, drawn, problem, rng))
    return augmentation(trainings, judged, task.say)


def _rows(model: Model) -> int:
    """Return how many rows a purely synthetic arm has, by the model: how many there really are is private."""
    return max(model.rows, 1)
