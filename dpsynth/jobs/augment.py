"""Synthetic patients for a scarce group: fit or take a model, add its patients, and see what a classifier gains.

How many to add is chosen by a rehearsal one level down, in a world that is synthetic throughout: a cohort is drawn from
the model as if it were the real one, a second model is fitted to it at the same epsilon, its patients of the group are
added in several amounts, and classifiers are tested on further patients of the first model. No real patient takes part,
so nothing is spent and no test patient is used twice.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.cohort.cohort import Cohort
from dpsynth.cohort.rows import rows_where
from dpsynth.errors import InputError
from dpsynth.jobs.fit import default_model, fit
from dpsynth.jobs.rehearse import MOST, Choice, _judged, _Task, _words, rehearse
from dpsynth.models.base import Model, Progress, Synthesizer
from dpsynth.models.registry import synthesizer
from dpsynth.progress import silent

if TYPE_CHECKING:
    from dpsynth.evaluation.result import Result
    from dpsynth.evaluation.results import Results
    from dpsynth.models.conditional_draws import Support

__all__ = ["Augmentation", "augment"]


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
            One of `dpsynth.evaluation.metrics.augmentation.ARMS`.
        part : str
            The group's name, or ``"others"``.
        """
        return list(self.results.select("group_change", arm=arm, group=part))

    @property
    def arms(self) -> tuple[str, ...]:
        """The sets of patients that classifiers were trained on; the real patients alone come first."""
        from dpsynth.evaluation.metrics.augmentation import ARMS

        return ARMS

    @property
    def verdict(self) -> str:
        """One sentence: whether the synthetic patients help the group, by every learner's interval."""
        from dpsynth.evaluation.metrics.augmentation import WITH_SYNTHETIC

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
        A fitted model, or what to fit to the training patients at `epsilon`; default: as for `dpsynth.jobs.fit.fit`.
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
        Further arguments of `dpsynth.jobs.fit.fit`.

    Returns
    -------
    Augmentation
        Internal: it touches real patients without noise.

    Raises
    ------
    InputError
        If an argument is unknown or missing, or the group has no training patient.
    SchemaError, BudgetExceeded, LedgerError
        As `dpsynth.jobs.fit.fit`.

    Examples
    --------
    >>> from dpsynth.jobs.audit import demo_cohort
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
