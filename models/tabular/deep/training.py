"""Stepping an optimiser on noisy gradients, and first weights that already know the paid margins."""

import math
from typing import Any

import torch

from dpsynth.models.averages import Average
from dpsynth.models.base import Progress
from dpsynth.models.tabular.deep.layout import SMALLEST, Layout
from dpsynth.models.tabular.deep.networks import MLP
from dpsynth.privacy.dpsgd import Objective
from dpsynth.privacy.per_patient import trainable

REPORTED = 20
"""Steps between two reports of progress."""


class Trainer:
    """An optimiser with a falling rate and a running average of weights, stepped once a private step.

    Parameters
    ----------
    objective
        What is trained.
    rate
        Adam's rate at the start; it falls to a tenth along a half cosine.
    steps
        All steps.
    report
        Told of the progress.
    average
        Weight of the past in the running average of the weights.
    """

    def __init__(
        self, objective: Objective, *, rate: float, steps: int, report: Progress, average: float = 0.95
    ) -> None:
        self._optimiser = torch.optim.Adam(trainable(objective).values(), lr=rate)
        self._rate, self._steps, self._report = rate, steps, report
        self._average = Average(objective, average)

    @property
    def state(self) -> dict[str, Any]:
        """What goes on from step to step besides the objective's weights."""
        return {"optimiser": self._optimiser, "average": self._average}

    def update(self, step: int) -> None:
        """Take one step with the gradients that are there."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate * (0.55 + 0.45 * math.cos(math.pi * step / self._steps))
        self._optimiser.step()
        self._average.update()
        if step % REPORTED == 0:
            self._report("training", step / self._steps)

    def finish(self) -> None:
        """Put the average in the place of the last weights."""
        self._average.finish()
        self._report("training", 1.0)


def with_margins(network: MLP, layout: Layout) -> MLP:
    """Return a network of rows whose outputs start at the paid margins: small weights, biases of log shares."""
    bias = torch.zeros(layout.width)
    for part in layout.parts:
        if part.count:
            shares = torch.from_numpy(layout.state_shares(part)).clamp(min=SMALLEST)
            bias[part.states] = shares.log().float()
    with torch.no_grad():
        network.last.weight.mul_(0.1)
        network.last.bias.copy_(bias)
    return network
