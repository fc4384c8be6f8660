"""A training over several hospitals: what each finds by its own program, and its steps in order.

No message names a network or holds code. The lead sends the noisy sums that the model has asked so far, which are
public; each hospital runs the agreed model, as it has it installed, on them up to its training, and so has the same
network. Of a step it takes nothing from the lead but numbers: weights of the shapes that it expects.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dpsynth.errors import InputError
from dpsynth.federated.messages import Kind, Question
from dpsynth.federated.sums import Asked
from dpsynth.privacy.shares import Words
from dpsynth.privacy.spending.training_plan import TrainingPlan

if TYPE_CHECKING:
    from dpsynth.privacy.training.dpsgd import Objective


@dataclass(frozen=True, eq=False)
class Rehearsed:
    """What a hospital's own program says that a training is about, after the noisy sums that came before it.

    Parameters
    ----------
    objective
        The network with its loss; only its weights come from the lead.
    expected
        Expected number of patients, of all hospitals.
    records, backend
        As for `dpsynth.privacy.session.Session.train`.
    state
        What else the lead sends the numbers of, by name: networks that the objective draws from.
    """

    objective: "Objective"
    expected: float
    records: Any = "rows"
    backend: str = "auto"
    state: Mapping[str, Any] | None = None


class Rehearsal(Protocol):
    """The agreed model, as this hospital has it installed, run on the noisy sums that the lead says were answered."""

    def check(self, asked: Asked, heard: Sequence[Any]) -> None:
        """Refuse a question that the model does not ask after these answers; `InputError` says in what it differs."""
        ...

    def training(self, heard: Sequence[Any]) -> Rehearsed:
        """Return what its training is about after these answers; `InputError` where it asks something else."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


@dataclass(frozen=True)
class Allowed:
    """What the agreed model may ask.

    Parameters
    ----------
    kinds
        Kinds of sums.
    rehearse
        Begins a rehearsal.
    training
        The plan of its training; None where it has none.
    """

    kinds: frozenset[Kind]
    rehearse: Callable[[], Rehearsal]
    training: TrainingPlan | None = None


class Steps:
    """The steps of a training at a hospital, in order; a step that was left out stays so."""

    def __init__(self, rehearsed: Rehearsed, step: Callable[[], Words], steps: int, begun: int) -> None:
        self._parts = {"objective": rehearsed.objective, **(rehearsed.state or {})}
        self._step, self._steps, self.begun, self._next = step, steps, begun, begun

    def check(self, question: Question) -> None:
        """Refuse a step out of order or weights that do not fit, before anything is claimed."""
        number, names = question.facts["step"], question.facts["names"]
        if not isinstance(number, int) or isinstance(number, bool) or not self._next <= number < self._steps:
            raise InputError(
                f"step: expected a number from {self._next} to {self._steps - 1}; each step is taken once."
            )
        expected = weights_of(self._parts)
        if names != list(expected) or len(question.arrays) != len(expected):
            raise InputError("step: expected the weights of the model that was agreed on, by their names.")
        for array, tensor in zip(question.arrays, expected.values(), strict=True):
            if array.shape != tuple(tensor.shape) or not np.isfinite(array).all():
                raise InputError("step: weights do not have the shapes of the model that was agreed on.")

    def load(self, question: Question) -> None:
        """Take the lead's weights."""
        import torch

        with torch.no_grad():
            for array, tensor in zip(question.arrays, weights_of(self._parts).values(), strict=True):
                tensor.copy_(torch.from_numpy(array.copy()))
        self._next = int(question.facts["step"]) + 1

    def step(self) -> Words:
        """Take one step."""
        self.begun += 1
        return self._step()


def weights_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors of networks by name: what the lead sends before each step."""
    return {
        f"{part}.{name}": tensor for part, network in parts.items() for name, tensor in network.state_dict().items()
    }
