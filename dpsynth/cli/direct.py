"""``dpsynth evaluate --direct``: a DP classifier that is trained on the patients, and what it costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.cli.common import note
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.cohort import Cohort
    from dpsynth.evaluation.classifiers import Classifier
    from dpsynth.models.base import Progress
    from dpsynth.privacy.budget import Budget
    from dpsynth.privacy.ledger import Ledger

__all__ = ["Yardstick"]


@dataclass(frozen=True)
class Yardstick:
    """What the command line asks of a direct classifier.

    Attributes
    ----------
    kind
        See `dpsynth.direct.dp_classifier`.
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
        """Return what is asked, with the budget that the release states or, without one, the command line.

        Raises
        ------
        InputError
            If the kind is unknown, torch is not there, or there is no budget or two different ones.
        """
        from dpsynth.direct import dp_classifier

        dp_classifier(kind)
        budget, label = _budget(terms, statement or {}), terms["label"] or f"direct {kind}"
        return cls(kind, budget, terms["ledger"], label, decided=terms["epsilon"] is not None)

    def trained(self, asked: Mapping[str, Any], report: "Progress") -> "Classifier":
        """Check everything, say what will be spent and where, train, and say what the patients' total is.

        Parameters
        ----------
        asked
            What `dpsynth.evaluate` will be asked, with `train`.
        report
            Told of the progress.

        Raises
        ------
        InputError, SchemaError, DataError, BudgetExceeded, LedgerError
            Before anything is spent.
        """
        from dpsynth.direct import dp_classifier
        from dpsynth.evaluation.judge import check
        from dpsynth.privacy.account import ledger_of

        train: Cohort = asked["train"]
        book = ledger_of(train, self.ledger)
        maker = dp_classifier(self.kind, asked["target"], ledger=book, label=self.label, progress=report)
        check(**{**asked, "target": maker.check(train)}, images=maker.of_images)
        self._check_origin(book)
        note(self._announced(train, book))
        found = maker(train, self.budget)
        if book is not None:
            note(f"{book.path.name}: {_total(book)}.")
        return found

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
    from dpsynth.privacy.budget import Budget, default_delta

    epsilon, delta = terms["epsilon"], terms["delta"]
    if "epsilon" in statement and "delta" in statement:
        stated = Budget(statement["epsilon"], statement["delta"])
        for name, given in {"epsilon": epsilon, "delta": delta}.items():
            if given not in (None, getattr(stated, name)):
                raise InputError(
                    f"--{name} {given:g}: the release states {name} {getattr(stated, name):g}, and a yardstick has the "
                    "same budget; leave it out."
                )
        return stated
    if epsilon is None:
        raise InputError(
            "--epsilon: is needed for --direct, because the synthetic rows come without a privacy statement; give the "
            "epsilon that they were made with."
        )
    return Budget(epsilon, default_delta() if delta is None else delta)
