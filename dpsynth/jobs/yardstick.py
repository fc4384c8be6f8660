"""DP classifiers that are trained on the patients themselves: the yardstick that tells whether synthesis is worth it.

It answers one question, and a synthetic cohort many; at the same epsilon it is the yardstick for all classifiers that
are trained on synthetic patients. It spends a budget of its own on its training patients, kept in their ledger like
that of every other run.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.progress import Progress

if TYPE_CHECKING:
    from dpsynth.evaluation.learners.from_outside import Classifier
    from dpsynth.models.private_classifier import FittedClassifier

__all__ = ["KINDS", "OF_IMAGES", "Direct", "dp_classifier"]

KINDS = {
    "logistic": "logistic regression",
    "mlp": "gradient boosting",
    "linear": "MLP on pixels",
    "cnn": "small CNN",
}
"""Kinds of DP classifiers, and the learner beside which each is shown."""
OF_IMAGES = ("linear", "cnn")


@dataclass(frozen=True)
class Direct:
    """Trainer of DP classifiers; made by `dp_classifier`, called with training patients and a budget.

    Attributes
    ----------
    kind, target, ledger, label, progress
        See `dp_classifier`.
    """

    kind: str
    target: str | None
    ledger: str | Path | Ledger | None
    label: str
    progress: Progress | None

    @property
    def of_images(self) -> bool:
        """Whether it learns from images, not from rows."""
        return self.kind in OF_IMAGES

    def check(self, cohort: Cohort) -> str:
        """Refuse what the fit would refuse, before a budget is spent; return the outcome.

        Parameters
        ----------
        cohort : Cohort
            The training patients.

        Returns
        -------
        str
            The outcome that is learned.

        Raises
        ------
        InputError
            If the outcome cannot be learned, or the kind does not fit the cohort.
        SchemaError
            If nobody has confirmed the schema.
        """
        from dpsynth.models.image import classifier as image_classifier
        from dpsynth.models.tabular.deep import classifier

        cohort.schema.check_confirmed()
        learnable = image_classifier.learnable if self.of_images else classifier.learnable
        return learnable(cohort, self.target)

    def __call__(self, cohort: Cohort, budget: Budget) -> "Classifier":
        """Train on patients. Formal guarantee: the classifier is DP with `budget` for one patient more or less.

        Parameters
        ----------
        cohort : Cohort
            The training patients, all of whom are learned from.
        budget : Budget
            The whole budget of the training, kept in the ledger of these patients.

        Returns
        -------
        dpsynth.evaluation.Classifier
            It predicts probabilities of the outcome for a table of rows, or of images.

        Raises
        ------
        InputError, SchemaError
            As for `check`.
        BudgetExceeded, LedgerError
            If the ledger refuses; nothing was looked at.
        """
        from dpsynth.evaluation.learners.from_outside import Classifier

        target = self.check(cohort)
        classifier = self._fitted(cohort, target, budget)
        if len(classifier.classes) == 2 and not self.of_images:
            return Classifier(lambda rows: classifier.predict_proba(rows)[:, 1], KINDS[self.kind], classifier.statement)
        return Classifier(classifier.predict_proba, KINDS[self.kind], classifier.statement)

    def _fitted(self, cohort: Cohort, target: str, budget: Budget) -> "FittedClassifier":
        from dpsynth.models.image.classifier import fit_image_classifier
        from dpsynth.models.tabular.deep.classifier import fit_classifier

        fit: Callable[..., FittedClassifier] = fit_image_classifier if self.of_images else fit_classifier
        terms = {"epsilon": budget.epsilon, "delta": budget.delta, "ledger": self.ledger, "label": self.label}
        return fit(cohort, target, kind=self.kind, progress=self.progress, **terms)


def dp_classifier(
    kind: str = "logistic",
    target: str | None = None,
    *,
    ledger: str | Path | Ledger | None = None,
    label: str = "",
    progress: Progress | None = None,
) -> Direct:
    """Return a function that trains a classifier by DP-SGD on patients, with a budget; needs the extra ``deep``.

    Parameters
    ----------
    kind : str
        Of rows ``"logistic"`` or ``"mlp"``, shown beside logistic regression and gradient boosting; of images
        ``"linear"`` or ``"cnn"``, shown beside the MLP on pixels and the small CNN.
    target : str, optional
        The outcome; default: the schema's.
    ledger, label, progress
        As for `dpsynth.fit`.

    Returns
    -------
    Direct
        To be called with training patients and a budget, see `Direct.__call__`.

    Raises
    ------
    InputError
        If the kind is unknown, or torch is not installed.

    Examples
    --------
    >>> from dpsynth.datasets import load_support2
    >>> from dpsynth.evaluation import evaluate, split
    >>> from dpsynth.privacy.spending.budget import Budget
    >>> train, test = split(load_support2(), 0.3, key="example")
    >>> dp_classifier("logistic", label="yardstick").check(train)
    'hospdead'
    >>> yardstick = dp_classifier("logistic")(train, Budget(1.0, 1e-6))  # doctest: +SKIP
    >>> evaluate(test, synthetic, real_train=train, classifiers=[yardstick])  # doctest: +SKIP
    """
    if kind not in KINDS:
        raise InputError(f"DP classifier {kind!r}: expected {' or '.join(KINDS)}.")
    if importlib.util.find_spec("torch") is None:
        raise InputError("a DP classifier needs the package torch; pip install 'dpsynth[deep]'.")
    return Direct(kind, target, ledger, label, progress)
