"""Synthetic patients for a scarce group: fit or take a model, add its patients, and see what a classifier gains.

How many to add is chosen by a rehearsal one level down, in a world that is synthetic throughout: a cohort is drawn from
the model as if it were the real one, a second model is fitted to it at the same epsilon, its patients of the group are
added in several amounts, and classifiers are tested on further patients of the first model. No real patient takes part,
so nothing is spent and no test patient is used twice.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dpsynth.cohort import Cohort
from dpsynth.conditions import rows_where
from dpsynth.errors import InputError
from dpsynth.models.base import Model, Progress, Synthesizer, synthesizer
from dpsynth.progress import silent
from dpsynth.workflow import default_model, fit

if TYPE_CHECKING:
    from dpsynth.evaluation.results import Result, Results
    from dpsynth.models.drawing import Support

__all__ = ["AMOUNTS", "Augmentation", "Choice", "augment", "rehearse"]

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
NOT_COVERED = (
    "A model that is trained on real patients too is not covered by epsilon: publish neither it nor these numbers. "
    "Only the arms 'synthetic only' and 'balanced synthetic' are trained on what the budget paid for, on as many rows "
    "as the model says that there are."
)
SEEN = (
    "The model was given, and no separate test patients: if it was fitted on these patients too, the arms with "
    "synthetic patients look better than they are. Test on patients that the model has not seen (--test, or --split)."
)


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
class Augmentation:
    """Results of adding synthetic patients of a group to the training of classifiers; internal.

    Parameters
    ----------
    results : Results
        AUROC and paired differences by learner, arm and part of the test patients.
    group : str
        The group's name.
    choice : Choice
        How many synthetic patients were added and why.
    added : int
        Synthetic patients that the arms added: those of the choice, or the group's size where the choice is none.
    support : Support or None
        Training patients of the group, by the model, and the noise.
    statement : mapping
        The model's privacy statement.
    notes : tuple of str
        What a reader must know.
    """

    results: "Results"
    group: str
    choice: Choice
    added: int
    support: "Support | None"
    statement: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def changes(self, arm: str, part: str) -> "list[Result]":
        """Return the changes in AUROC against training on the real patients alone, of each learner.

        Parameters
        ----------
        arm : str
            One of `dpsynth.evaluation.augmentation.ARMS`.
        part : str
            The group's name, or ``"others"``.
        """
        return list(self.results.select("group_change", arm=arm, group=part))

    @property
    def verdict(self) -> str:
        """One sentence: whether the synthetic patients help the group, by every learner's interval."""
        from dpsynth.evaluation.augmentation import WITH_SYNTHETIC

        changes = [change for change in self.changes(WITH_SYNTHETIC, self.group) if change.ok and change.interval]
        if not changes:
            return f"{self.group}: too few test patients to say whether synthetic patients help."
        ends = "; ".join(
            f"{change.subject} {change.number:+.3f} ({change.interval.low:+.3f} to {change.interval.high:+.3f})"
            for change in changes
            if change.interval is not None
        )
        signs = {_sign(change) for change in changes}
        if signs == {1}:
            return f"{self.group}: {self.added:,} synthetic patients help. Change in AUROC: {ends}."
        if signs == {-1}:
            return f"{self.group}: {self.added:,} synthetic patients do harm. Change in AUROC: {ends}."
        return f"{self.group}: {self.added:,} synthetic patients do not clearly help. Change in AUROC: {ends}."

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {
            "group": self.group,
            "disclosure": "internal",
            "verdict": self.verdict,
            "recommended": self.choice.amount,
            "rehearsed": self.choice.rehearsed,
            "rehearsal": {"scores": {str(n): s for n, s in self.choice.scores.items()}, "error": self.choice.error},
            "added": self.added,
            "support": dataclasses.asdict(self.support) if self.support is not None else None,
            "notes": list(self.notes),
            "epsilon": self.statement.get("epsilon"),
            "private": self.statement.get("private") is True,
            "results": self.results.to_dicts(),
        }


def _sign(change: "Result") -> int:
    """Return 1 where an interval lies above 0, -1 below, else 0."""
    ends = change.interval
    return 0 if ends is None else int(ends.low > 0) - int(ends.high < 0)


def augment(
    cohort: Cohort,
    group: Mapping[str, Any],
    *,
    label: str = "",
    target: str | None = None,
    model: Model | str | Synthesizer | None = None,
    epsilon: float | None = None,
    test: Cohort | None = None,
    holdout: float | None = None,
    split: str | Path | None = None,
    amount: int | None = None,
    seed: int = 0,
    run_label: str = "",
    progress: Progress | None = None,
    **settings: Any,
) -> Augmentation:
    """Compare classifiers trained with and without synthetic patients of a scarce group, on held-out real patients.

    Parameters
    ----------
    cohort : Cohort
        Real patients to train on, and to hold some out of where `test` is not given.
    group : mapping
        The group as a condition: ``{"race": "black"}``.
    label : str
        The group's name in the results; default: the condition.
    target : str, optional
        The outcome, of two values; default: the schema's.
    model : Model, str or Synthesizer, optional
        A fitted model, or what to fit to the training patients at `epsilon`; default: as for `dpsynth.workflow.fit`.
    epsilon : float, optional
        The budget of the fit, debited in the cohort's ledger; needed unless the model is fitted.
    test : Cohort, optional
        Real patients to test on.
    holdout : float, optional
        Share of patients that are tested on where `test` is not given; default 0.3.
    split : path, optional
        The ``split.json`` of an earlier run: test on those that it held out. Where a model is fitted, a file that is
        not there keeps the new sides.
    amount : int, optional
        Synthetic patients to add; default: chosen by rehearsal.
    seed : int
        Of draws, learners and bootstrap; never of the noise.
    run_label : str
        A name for the fit in the ledger.
    progress : callable, optional
        Called with a phase and the share of it that is done.
    **settings
        Further arguments of `dpsynth.workflow.fit`.

    Returns
    -------
    Augmentation
        Internal: it touches real patients without noise.

    Raises
    ------
    InputError
        If an argument is unknown or missing, or the group has no training patient.
    SchemaError, BudgetExceeded, LedgerError
        As `dpsynth.workflow.fit`.

    Examples
    --------
    >>> from dpsynth.auditing import demo_cohort
    >>> cohort = demo_cohort()
    >>> fitted = fit(cohort, "independent", epsilon=1.0)
    >>> group = {"ca": "metastatic"}
    >>> augmentation = augment(cohort, group, target="hospdead", model=fitted, amount=50)  # a minute  # doctest: +SKIP
    >>> augmentation.verdict  # doctest: +SKIP
    """
    task = _task(cohort, group, target, label=label, seed=seed, progress=progress)
    if model is None:
        model = default_model(cohort.schema, without_images=settings.get("without_images", False))
    _check_arguments(model, epsilon, amount, settings)
    train, exam = _sides(cohort, test, holdout, split, fits=not isinstance(model, Model))
    task.check(train)
    notes = [NOT_COVERED]
    if isinstance(model, Model):
        fitted = model
        notes += [SEEN] if test is None and split is None else []
    else:
        fitted = fit(train, model, epsilon=float(epsilon or 0), label=run_label, progress=progress, **settings)
    return _augmentation(fitted, train, exam, task, amount=amount, notes=notes)


def _augmentation(
    model: Model, train: Cohort, exam: Cohort, task: "_Task", *, amount: int | None, notes: list[str]
) -> Augmentation:
    """Choose how many patients to add, and compare classifiers with and without them."""
    support = model.support(task.group)
    if support is not None and support.scarce:
        notes.append(
            f"By the model the group has {support.rows:,.0f} training patients under a noise of {support.noise:,.0f}: "
            "its synthetic patients are guessed from other patients."
        )
    choice = _chosen(model, task, amount)
    added = choice.amount or max(round(_size(model, task.group, support)), 1)
    if choice.amount == 0:
        notes.append(f"The rehearsal recommends to add none; the arms show what {added:,} would do.")
    results = _judged(model, train, exam, task, added)
    return Augmentation(results, task.label, choice, added, support, model.statement, tuple(notes))


def _check_arguments(
    model: Model | str | Synthesizer, epsilon: float | None, amount: int | None, settings: Mapping[str, Any]
) -> None:
    """Refuse, before a fit, what it or what follows it could not do."""
    if not isinstance(model, Model) and epsilon is None:
        raise InputError("epsilon: is needed to fit a model; or give a fitted one (--model-folder).")
    if amount is not None and amount < 1:
        raise InputError(f"amount: found {amount}, expected 1 or more patients to add.")
    if amount is None:
        _check_again(model, settings)


def _sides(
    cohort: Cohort, test: Cohort | None, holdout: float | None, kept: str | Path | None, *, fits: bool
) -> tuple[Cohort, Cohort]:
    """Return training and test patients: as they are given, as they were kept, or by new coins."""
    from dpsynth.evaluation.coins import Coins
    from dpsynth.evaluation.protocol import split

    if test is not None:
        if kept is not None or holdout is not None:
            raise InputError("test: the test patients are given; leave split and holdout out.")
        return cohort, test
    if kept is None:
        return split(cohort, holdout)
    if Path(kept).is_file() or not fits:
        return split(cohort, holdout, key=Coins.read(kept))
    coins = Coins.draw().bound(cohort, 0.3 if holdout is None else holdout)
    sides = split(cohort, key=coins)
    coins.write(kept)
    return sides


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
        from dpsynth.evaluation.augmentation import binary_task
        from dpsynth.evaluation.table import tables

        binary_task(tables({"train": cohort})["train"], self.target)
        inside = self.members(cohort)
        if inside.all() or not inside.any():
            raise InputError("group: all or none of the training patients are of it; name another group.")


def _task(
    cohort: Cohort, group: Mapping[str, Any], target: str | None, *, label: str, seed: int, progress: Progress | None
) -> _Task:
    outcome = _checked(cohort, group, target)
    return _Task(group, label or _words(group), outcome, seed, progress or silent)


def _check_again(model: Model | str | Synthesizer, settings: Mapping[str, Any]) -> None:
    """Refuse, before a fit, a model that a rehearsal could not fit again by its statement, which names no folder."""
    if isinstance(model, Model):
        maker = synthesizer(model.statement["model"]["name"])
        options = model.statement["model"]["options"]
    else:
        maker = synthesizer(model) if isinstance(model, str) else type(model)
        options = settings if isinstance(model, str) else vars(model)
    folders = sorted(name for name in maker.folders if options.get(name))
    if folders:
        raise InputError(
            "amount: is needed, because a rehearsal would fit the model again and its statement does not say where "
            f"{folders[0]} lies; name how many synthetic patients to add."
        )


def _chosen(model: Model, task: _Task, amount: int | None) -> Choice:
    if amount is not None:
        return Choice(amount, {}, 0.0, rehearsed=False)
    return rehearse(model, task.group, task.target, seed=task.seed, progress=task.say)


def _words(group: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} == {value!r}" for name, value in group.items())


def _checked(cohort: Cohort, group: Mapping[str, Any], target: str | None) -> str:
    """Return the outcome, after refusing what cannot be compared."""
    schema = cohort.schema
    outcome = target or schema.target
    if outcome is None:
        raise InputError("target: is needed; name the outcome (--target, target=), or in the schema.")
    if schema.visits is not None:
        raise InputError("augment: patients with visits have several rows; augment a table with one row a patient.")
    if not group or outcome in group:
        raise InputError("group: expected a condition on columns other than the target, such as race == 'black'.")
    try:
        rows_where(cohort.take([]), group)
    except ValueError as fault:
        raise InputError(f"group: {fault}.") from None
    return outcome


def _size(model: Model, group: Mapping[str, Any], support: "Support | None") -> float:
    """Return the size of the group in a cohort like the training one, by the model alone."""
    if support is not None:
        return support.rows
    rows = min(model.rows, MOST)
    return float(rows_where(model.sample(rows, seed=0), group).mean()) * model.rows


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
    from dpsynth.evaluation.arms import join
    from dpsynth.evaluation.augmentation import binary_task
    from dpsynth.evaluation.bootstrap import weights
    from dpsynth.evaluation.learners import LEARNERS, fit_predict
    from dpsynth.evaluation.scores import Ranking, ones
    from dpsynth.evaluation.table import tables

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


def _rows(model: Model) -> int:
    """Return how many rows a purely synthetic arm has, by the model: how many there really are is private."""
    return max(model.rows, 1)


def _judged(model: Model, train: Cohort, exam: Cohort, task: _Task, added: int) -> "Results":
    """Train all arms on each draw and test them on real patients."""
    from dpsynth.evaluation.augmentation import AugmentationExam, Drawn, arms_of, augmentation, binary_task
    from dpsynth.evaluation.protocol import Protocol
    from dpsynth.evaluation.results import Disclosure
    from dpsynth.evaluation.table import tables

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
