"""Stepping an optimiser on noisy gradients, and first weights that already know the paid margins."""

import torch

from dpsynth.models.tabular.deep.layout import SMALLEST, Layout
from dpsynth.models.tabular.deep.networks import MLP
from dpsynth.models.trainer import Schedule, Trainer
from dpsynth.models.weight_average import Average
from dpsynth.privacy.training.dpsgd import Objective
from dpsynth.privacy.training.per_patient import trainable
from dpsynth.progress import Progress

AVERAGE = 0.95
"""Weight of the past in the running average of the weights."""


def private_trainer(objective: Objective, *, rate: float, steps: int, report: Progress) -> Trainer:
    """Return what steps a network of rows on noisy gradients: Adam, whose rate falls to a tenth along a half cosine.

    Parameters
    ----------
    objective
        What is trained.
    rate
        Adam's rate at the start.
    steps
        All steps.
    report
        Told of the progress.
    """
    return Trainer(
        torch.optim.Adam(trainable(objective).values(), lr=rate),
        steps=steps,
        schedule=Schedule("cosine"),
        average=Average(objective, AVERAGE),
        report=report,
    )


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
