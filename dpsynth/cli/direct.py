"""``dpsynth evaluate --direct``: a DP classifier that is trained on the patients, and what it costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.cli.common import note
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.evaluation.learners.from_outside import Classifier
    from dpsynth.privacy.spending.budget import Budget
    from dpsynth.privacy.spending.ledger import Ledger
    from dpsynth.progress import Progress

__all__ = ["Yardstick"]


@dataclass(frozen=True)
class Yardstick:
    """A direct classifier as the command line describes it: what to train, at which budget, kept in which ledger.

    Attributes
    ----------
    kind
        See `dpsynth.jobs.yardstick.dp_classifier`.
    budget
        The whole budget of its training.
    ledger
        Where it is kept; default: beside the training patients' file.
    label
        Its name there.
    decided
        Whether a person gave the epsilon; else it is the release's word alone.
    """

    kind: str
    budget: "Budget"
    ledger: Path | None
    label: str
    decided: bool

    @classmethod
    def of(cls, kind: str, terms: Mapping[str, Any], statement: Mapping[str, Any] | None) -> "Yardstick":
        """Return the yardstick with the budget that the release states or, without a release, the command line.

        Parameters
        ----------
        kind : str
            See `dpsynth.jobs.yardstick.dp_classifier`.
        terms : mapping
            The options ``epsilon``, ``delta``, ``ledger`` and ``label``; None where not given.
        statement : mapping or None
            The privacy statement of the release.

        Raises
        ------
        InputError
            If the kind is unknown, torch is not there, or there is no budget or two different ones.
        """
        from dpsynth.jobs.yardstick import dp_classifier

        dp_classifier(kind)
        budget, label = _budget(terms, statement or {}), terms["label"] or f"direct {kind}"
        return cls(kind, budget, terms["ledger"], label, decided=terms["epsilon"] is not None)

    def trained(self, task: Mapping[str, Any], report: "Progress") -> "Classifier":
        """Check everything, say what will be spent and where, train, and say what the patients' total is.

        Parameters
        ----------
        task : mapping
            Arguments of `dpsynth.evaluate` that say what is judged, with `train`.
        report : callable
            Told of the progress.

        Returns
        -------
        Classifier
            Trained on the patients of `train`, whose ledger holds its whole budget from now on.

        Raises
        ------
        InputError, SchemaError, DataError, BudgetExceeded, LedgerError
            Before anything is spent.
        """
        from dpsynth.evaluation.judge import check
        from dpsynth.jobs.yardstick import dp_classifier
        from dpsynth.privacy.spending.ledger_place import ledger_of

        train: Cohort = task["train"]
        book = ledger_of(train, self.ledger)
        maker = dp_classifier(self.kind, task["target"], ledger=book, label=self.label, progress=report)
        check(**{**task, "target": maker.check(train)}, images=maker.of_images)
        self._check_origin(book)
        note(self._announced(train, book))
        classifier = maker(train, self.budget)
        if book is not None:
            note(f"{book.path.name}: {_total(book)}.")
        return classifier

    def _check_origin(self, book: "Ledger | None") -> None:
        """Refuse to spend on a release's word alone where no run on these patients is known: it may be another's."""
        if book is not None and not self.decided and not book.runs():
            raise InputError(
                f"--epsilon: {book.path.name} knows no run on these patients: only the release says that it was made "
                f"from them. Name their ledger (--ledger), or decide yourself (--epsilon {self.budget.epsilon:g})."
            )

    def _announced(self, train: "Cohort", book: "Ledger | None") -> str:
        """Return what will be spent and where."""
        if book is None:
            return f"--direct {self.kind}: is trained on public patients; nothing here is covered by epsilon."
        on = "the training patients" if train.source is None else train.source.name
        return (
            f"--direct {self.kind}: spends epsilon {self.budget.epsilon:g}, delta {self.budget.delta:g} of its own on "
            f"{on}, kept in {book.path.name} ({_total(book)})."
        )


def _total(book: "Ledger") -> str:
    """Return what all runs on a dataset have spent together."""
    spent, limit = book.spent(), book.limit
    if limit is None:
        return "no earlier run"
    return (
        f"{spent.runs} run{'s' if spent.runs != 1 else ''} so far, together epsilon {spent.epsilon:.4g} at delta "
        f"{spent.delta:g}; the limit is epsilon {limit.epsilon:g}"
    )


def _budget(terms: Mapping[str, Any], statement: Mapping[str, Any]) -> "Budget":
    """Return the budget of the release, which the command line may repeat and not change; else the command line's."""
    from dpsynth.privacy.spending.budget import Budget, default_delta

    epsilon, delta = terms["epsilon"], terms["delta"]
    if "epsilon" in statement and "delta" in statement:
        stated = Budget(statement["epsilon"], statement["delta"])
        for name, value in {"epsilon": epsilon, "delta": delta}.items():
            if value not in (None, getattr(stated, name)):
                raise InputError(
                    f"--{name} {value:g}: the release states {name} {getattr(stated, name):g}, and a yardstick has the "
                    "same budget; leave it out."
                )
        return stated
    if epsilon is None:
        raise InputError(
            "--epsilon: is needed for --direct, because the synthetic rows come without a privacy statement; give the "
            "epsilon that they were made with."
        )
    return Budget(epsilon, default_delta() if delta is None else delta)
