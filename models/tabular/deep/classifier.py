"""The direct baseline: a classifier of one outcome that is trained by DP-SGD on the patients themselves.

Its features are public: each column as one-hot cells of its public range, with cut points of the schema, special values
and the missing state. Nothing is standardised by the data. What it shares with the one for images stands in
`dpsynth.models.private_classifier`.

Hyperparameters are fixed. They were chosen on SUPPORT2, which is public, once and for all; choosing them anew on
private patients would cost budget that is not accounted for here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.models.private_classifier import FittedClassifier, Likelihood, checked_target, classes_of, opened
from dpsynth.models.tabular.deep.fitting import rate_for
from dpsynth.models.tabular.deep.networks import fresh
from dpsynth.models.tabular.deep.training import private_trainer
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.training.per_patient import Batch
from dpsynth.progress import Progress, silent

CELLS = 16
"""Cells of a number's public range."""
FIRST = 0.01
"""By what the first weights of the last layer are multiplied: the odds start near even."""
COUNTED = 0.02
"""Share of the budget for the number of rows, where it is not public."""


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters, tuned on SUPPORT2.

    Attributes
    ----------
    hidden
        Units of the one hidden layer; 0 for logistic regression.
    steps, rate
        Steps of the training, and Adam's rate.
    """

    hidden: int
    steps: int
    rate: float


RECIPES: dict[str, Recipe] = {"logistic": Recipe(0, 200, 0.02), "mlp": Recipe(16, 200, 0.01)}


class PrivateClassifier(FittedClassifier):
    """A fitted classifier of rows."""

    def __init__(
        self, codec: Codec, statement: dict[str, Any], target: str, features: "OneHotFeatures", network: nn.Module
    ):
        super().__init__(codec, statement, target, network)
        self._codec = codec
        self._features = features

    def predict_proba(self, cohort: Cohort) -> NDArray[np.float64]:
        """Return (rows, classes) probabilities for the rows of a cohort; the outcome is not read.

        Raises
        ------
        InputError
            If the cohort does not have a column that was learned from.
        """
        codes = self._codec.encode(cohort, self._features.columns)
        with torch.no_grad():
            odds = self._network(self._features.of(codes)).double()
        return np.asarray(torch.softmax(odds, dim=-1).numpy(), dtype=np.float64)


def fit_classifier(
    cohort: Cohort,
    target: str | None = None,
    *,
    epsilon: float,
    delta: float,
    kind: str = "logistic",
    ledger: str | Path | Ledger | None = None,
    label: str = "",
    seed: int | None = None,
    progress: Progress | None = None,
) -> PrivateClassifier:
    """Train a classifier on private patients. Formal guarantee: (epsilon, delta)-DP for one patient more or less.

    Parameters
    ----------
    cohort
        The private cohort; its schema must be confirmed by a person.
    target
        The outcome, boolean or with a closed list of categories; default: the schema's.
    epsilon, delta
        The whole budget.
    kind
        ``"logistic"``, or ``"mlp"`` with one hidden layer.
    ledger, label, seed
        As for `dpsynth.fit`.
    progress
        Called with a phase and the share of it that is done.

    Raises
    ------
    InputError
        If the target is not one that can be learned, or the kind is unknown.
    BudgetExceeded, LedgerError
        If the ledger refuses; nothing was looked at.

    Examples
    --------
    >>> from dpsynth.datasets import load_support2
    >>> model = fit_classifier(load_support2(), epsilon=1.0, delta=1e-6)  # doctest: +SKIP
    >>> model.predict_proba(load_support2())[:, 1]  # doctest: +SKIP
    """
    wanted = learnable(cohort, target)
    if kind not in RECIPES:
        raise InputError(f"kind: found {kind!r}, expected one of {', '.join(RECIPES)}.")
    recipe = RECIPES[kind]
    with opened(
        cohort,
        Budget(epsilon, delta),
        sampling_rate=rate_for(cohort.schema.rows),
        steps=recipe.steps,
        questions=0.0 if cohort.schema.rows is not None else COUNTED,
        ledger=ledger,
        label=label,
        seed=seed,
        cells=CELLS,
    ) as session:
        return _learned(session, wanted, recipe, progress or silent)


def learnable(cohort: Cohort, target: str | None) -> str:
    """Return the outcome, of a cohort that such a classifier can learn from.

    Raises
    ------
    InputError
        If the outcome cannot be learned, or there is no column to learn it from.
    """
    wanted = checked_target(cohort.schema, target)
    withheld = cohort.schema.withheld if wanted == cohort.schema.target else ()
    if set(Codec(cohort.schema).columns) <= {wanted, *withheld}:
        raise InputError(f"target {wanted!r}: there is no column beside it to learn from.")
    return wanted


def _learned(session: Session, target: str, recipe: Recipe, report: Progress) -> PrivateClassifier:
    features = OneHotFeatures(session.codec, target)
    network = fresh(1, features.width, recipe.hidden, features.classes, depth=int(recipe.hidden > 0))
    with torch.no_grad():
        network.last.weight.mul_(FIRST)
        network.last.bias.zero_()
    objective = RowLikelihood(network, features)
    trainer = private_trainer(objective, rate=recipe.rate, steps=recipe.steps, report=report)
    session.train(objective, trainer.update, expected=_patients(session))
    trainer.finish()
    return PrivateClassifier(session.codec, session.statement(), target, features, network)


def _patients(session: Session) -> float:
    """Return about how many patients there are: a scale for gradients, public or paid for."""
    rows = session.rows
    if rows is None:
        rows = int(session.count([Query((), ())], [session.rho_left])[0].counts.item())
    return max(rows / session.sensitivity, 1.0)


class OneHotFeatures:
    """One-hot cells of every column but the target, as a public function of fine codes.

    Columns whose values are still to be discovered are left out.
    """

    def __init__(self, codec: Codec, target: str) -> None:
        self.classes = classes_of(codec, target)
        withheld = codec.schema.withheld if target == codec.schema.target else ()
        self.columns = [name for name in codec.columns if name != target and name not in withheld]
        self._sizes = [codec.columns[name].size for name in self.columns]
        self._places = [list(codec.columns).index(name) for name in self.columns]
        self.target_place = list(codec.columns).index(target)
        self.width = sum(self._sizes)

    def of(self, codes: Mapping[str, NDArray[Any]]) -> Tensor:
        """Return (rows, width) features of the codes of a cohort."""
        return self._one_hot([torch.from_numpy(codes[name].astype(np.int64)) for name in self.columns])

    def of_batch(self, codes: Tensor) -> Tensor:
        """Return (..., width) features of (..., columns) codes."""
        return self._one_hot([codes[..., place] for place in self._places])

    def _one_hot(self, codes: list[Tensor]) -> Tensor:
        parts = [nn.functional.one_hot(c, size) for c, size in zip(codes, self._sizes, strict=True)]
        return torch.cat(parts, dim=-1).float()


class RowLikelihood(Likelihood):
    """The likelihood of the outcomes of a patient's rows."""

    def __init__(self, network: nn.Module, features: OneHotFeatures) -> None:
        super().__init__(network, features.classes)
        self._features = features

    def prepare(self, batch: Batch) -> Batch:
        """Return features, outcomes and weights."""
        outcome = self.outcomes(batch["codes"][..., self._features.target_place])
        return {"rows": self._features.of_batch(batch["codes"]), "outcome": outcome, "weights": batch["weights"]}

    def log_odds(self, batch: Batch) -> Tensor:
        """Return (patients, rows, classes) log-odds."""
        odds: Tensor = self.network(batch["rows"])
        return odds
