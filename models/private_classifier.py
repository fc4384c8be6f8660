"""What the private classifiers of tables and of images do alike: the outcome, its likelihood, the session, the result.

They are the direct baseline: is a synthetic cohort worth its noise? A classifier that learned from the patients
themselves at the same epsilon answers one question only, and is the yardstick for all that are trained on synthetic
patients.
"""

import abc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpsynth.coding.codec import Codec
from dpsynth.cohort.cohort import Cohort
from dpsynth.columns.kinds import Boolean, Categorical
from dpsynth.errors import InputError
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.tables.discovery import delta_for_discovery
from dpsynth.privacy.training.dpsgd import Objective
from dpsynth.privacy.training.per_patient import Batch
from dpsynth.schema.schema import Schema

__all__ = ["FittedClassifier", "Likelihood", "checked_target", "classes_of", "opened"]


class FittedClassifier(abc.ABC):
    """A fitted classifier: weights of a private training, and a public map from patients to what it reads.

    Privacy contract: predicting, for whatever patients, is post-processing.

    Attributes
    ----------
    target
        The outcome.
    classes
        Its values, in the order of the probabilities' columns.
    statement
        The session's privacy statement.
    """

    def __init__(self, codec: Codec, statement: dict[str, Any], target: str, network: nn.Module) -> None:
        self.target = target
        self.classes = codec.columns[target].labels[: classes_of(codec, target)]
        self.statement = statement
        self._network = network

    @abc.abstractmethod
    def predict_proba(self, cohort: Cohort) -> NDArray[np.float64]:
        """Return (records, classes) probabilities for the records of a cohort; the outcome is not read."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.target!r}: {len(self.classes)} classes>"


class Likelihood(Objective):
    """The negative log-likelihood of a patient's outcome; records without a known outcome weigh nothing."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network = network
        self._classes = classes

    @abc.abstractmethod
    def log_odds(self, batch: Batch) -> Tensor:
        """Return (patients, records, classes) what the network says of a prepared batch."""

    def outcomes(self, codes: Tensor) -> Tensor:
        """Return (patients, records, classes) outcomes as one-hot, all 0 where it is missing."""
        return nn.functional.one_hot(codes, self._classes + 1)[..., : self._classes].float()

    def forward(self, batch: Batch) -> Tensor:
        """Return (patients,) losses."""
        logs = torch.log_softmax(self.log_odds(batch), dim=-1)
        return (-(batch["outcome"] * logs).sum(-1) * batch["weights"]).sum(1)


def classes_of(codec: Codec, target: str) -> int:
    """Return how many values an outcome has, the missing state left out."""
    code = codec.columns[target]
    return code.size if code.missing is None else code.missing


def checked_target(schema: Schema, target: str | None) -> str:
    """Return the outcome that is to be learned; default: the schema's.

    Raises
    ------
    InputError
        If there is none, or it is not boolean or with a closed list of categories, or patients have visits.
    """
    name = schema.target if target is None else target
    if name is None:
        raise InputError("target: there is none; name one (target=), or in the schema.")
    column = schema.columns.get(name)
    if name not in schema.modelled or not isinstance(column, Boolean | Categorical):
        raise InputError(f"target {name!r}: expected a boolean column, or one with categories.")
    if column.is_discovered:
        raise InputError(f"target {name!r}: its values would have to be discovered; list them in the schema.")
    if schema.visits is not None:
        raise InputError(f"target {name!r}: the schema declares visits; a private classifier learns from single rows.")
    return name


def opened(
    cohort: Cohort,
    budget: Budget,
    *,
    sampling_rate: float,
    steps: int,
    questions: float,
    ledger: str | Path | Ledger | None,
    **facts: Any,
) -> Session:
    """Open a session for one training. Formal guarantee: that of `Session.open`.

    Parameters
    ----------
    cohort, budget
        The private cohort and all that may be spent.
    sampling_rate, steps, questions
        As for `TrainingPlan.within`.
    ledger
        Where it is kept; default: beside the cohort's file.
    **facts
        Further arguments of `Session.open`.
    """
    plan = TrainingPlan.within(
        budget,
        sampling_rate=sampling_rate,
        steps=steps,
        questions=questions,
        reserved_delta=delta_for_discovery(budget, cohort.schema),
    )
    return Session.open(cohort, budget, ledger=ledger, training=plan, **facts)
