"""The one training loop: an optimiser with a schedule, a running average of weights, and reports of progress.

Every network of a model is stepped by a `Trainer`: on noisy gradients that `Session.train` has left in its parameters
(`update`), or on a loss of what is public or was paid for (`descend`). Nothing here touches a patient.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dpsynth.models.weight_average import Average
from dpsynth.progress import Progress

__all__ = ["CONSTANT", "Schedule", "Trainer"]


@dataclass(frozen=True)
class Schedule:
    """How a learning rate changes along a training.

    Parameters
    ----------
    shape
        ``"constant"``, or how it falls: along a half ``"cosine"`` or a straight ``"line"``.
    floor
        The share of the rate at which it ends.
    rise
        Steps over which it rises to the full rate first.

    Examples
    --------
    >>> Schedule("line", floor=0.1).factor(50, 100)
    0.55
    """

    shape: Literal["constant", "cosine", "line"] = "constant"
    floor: float = 0.1
    rise: int = 0

    def factor(self, step: int, steps: int) -> float:
        """Return by what the learning rate is multiplied in a step, counted from 0."""
        risen = min(1.0, (step + 1) / self.rise) if self.rise else 1.0
        if self.shape == "cosine":
            return risen * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * step / steps)) / 2)
        return risen * (1 - (1 - self.floor) * step / steps) if self.shape == "line" else risen


CONSTANT = Schedule()


class Trainer:
    """Training loop: steps an optimiser along a schedule, averages weights, reports progress.

    Parameters
    ----------
    optimiser
        Of the network's parameters, at its full learning rate.
    steps
        All steps of the training; 0 where nobody knows.
    schedule
        How the learning rate changes.
    average
        The running average of the weights that is kept; None to keep the last weights.
    report, phase
        Told of the progress of this phase, every `every` steps.
    every
        Steps between two reports.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        *,
        steps: int = 0,
        schedule: Schedule = CONSTANT,
        average: Average | None = None,
        report: Progress | None = None,
        phase: str = "training",
        every: int = 20,
    ) -> None:
        self._optimiser, self._steps, self._schedule, self._average = optimiser, steps, schedule, average
        self._report, self._phase, self._every = report, phase, every
        self._rates = [group["lr"] for group in optimiser.param_groups]

    @property
    def state(self) -> dict[str, Any]:
        """What goes on from step to step besides the network's weights, for a checkpoint."""
        return {"optimiser": self._optimiser} | ({} if self._average is None else {"average": self._average})

    def update(self, step: int) -> None:
        """Take one step, counted from 0, with the gradients that are in the parameters."""
        if self._steps:
            factor = self._schedule.factor(step, self._steps)
            for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
                group["lr"] = rate * factor
        self._optimiser.step()
        if self._average is not None:
            self._average.update()
        if self._report is not None and step % self._every == 0:
            self._report(self._phase, step / self._steps)

    def descend(self, loss: Tensor, step: int = 0) -> None:
        """Take one step down a loss; networks of other optimisers get no gradient of it."""
        weights = [weight for group in self._optimiser.param_groups for weight in group["params"]]
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
            weight.grad = gradient
        self.update(step)

    def minimise(self, loss: Callable[[], Tensor]) -> None:
        """Take all steps down a loss that is drawn anew for each, and `finish`."""
        for step in range(self._steps):
            self.descend(loss(), step)
        self.finish()

    def finish(self) -> None:
        """Put the average in the place of the last weights, and report the end of the phase."""
        if self._average is not None:
            self._average.finish()
        if self._report is not None:
            self._report(self._phase, 1.0)
