"""Softmax regression on public features of images, trained by DP-SGD: a private judge of what an image shows.

The features are `dpsynth.models.image.energies`. They are whitened with the main directions of the features of
*generated* images, drawn from a model that was paid for, and the weights descend along noisy gradients.
"""

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpsynth.models.image.batch_reading import Reading
from dpsynth.models.image.conditions import MAX_CODES, Conditions
from dpsynth.models.image.energies import Energies
from dpsynth.models.private_classifier import Likelihood, classes_of
from dpsynth.models.trainer import Trainer
from dpsynth.privacy.session import Session
from dpsynth.privacy.training.per_patient import Batch
from dpsynth.progress import Progress

__all__ = ["ImageLikelihood", "Whitened", "train_linear"]

MADE = 6000
"""Generated images whose features are whitened."""
DIRECTIONS = 256
WHITENING = 0.4
"""A direction's scale is its variance to minus this power: 0.5 would whiten in full and lift noise."""
CONSTANT = 0.3
"""The feature that stands for a bias, beside features of norm 1."""
BATCH = 500

Draw = Callable[[NDArray[np.int64], np.random.Generator], NDArray[np.float32]]


class ImageLikelihood(Likelihood):
    """The likelihood of the outcomes of a patient's images."""

    def __init__(self, network: nn.Module, reading: Reading, classes: int) -> None:
        super().__init__(network, classes)
        self._reading = reading

    def prepare(self, batch: Batch) -> Batch:
        """Return pixels in [0, 1], outcomes and weights."""
        outcome = self.outcomes(self._reading.codes(batch)[..., 0])
        return {"x": self._reading.images(batch), "outcome": outcome, "weights": batch["weights"]}

    def log_odds(self, batch: Batch) -> Tensor:
        """Return (patients, images, classes) log-odds."""
        x = batch["x"]
        odds: Tensor = self.network(x.flatten(0, 1))
        return odds.reshape(*x.shape[:2], -1)


class Whitened(nn.Module):
    """Fixed features of images, projected and scaled, and one linear layer.

    Parameters
    ----------
    energies
        The public features.
    centre, projection
        (dimension,) and (dimension, directions), from generated images.
    classes
        Outputs.
    """

    def __init__(self, energies: Energies, centre: Tensor, projection: Tensor, classes: int) -> None:
        super().__init__()
        self._energies = energies
        self.register_buffer("_centre", centre)
        self.register_buffer("_projection", projection)
        self.odds = nn.Linear(projection.shape[1] + 1, classes, bias=False)
        nn.init.zeros_(self.odds.weight)
        self.register_buffer("_total", torch.zeros_like(self.odds.weight))  # of weights along a training

    def learned(self) -> dict[str, NDArray[Any]]:
        """Return what makes it again, see `of_learned`."""
        return {
            "centre": self.get_buffer("_centre").numpy(),
            "projection": self.get_buffer("_projection").numpy(),
            "weights": self.odds.weight.detach().numpy(),
        }

    @classmethod
    def of_learned(cls, arrays: dict[str, NDArray[Any]], shape: tuple[int, ...]) -> Self:
        """Return the network with these numbers, of images of a shape; they come from a file and are checked."""
        energies = Energies()
        centre, projection, weights = (arrays[name].astype(np.float32) for name in ("centre", "projection", "weights"))
        length = energies(torch.zeros(1, *shape)).shape[1]
        if centre.shape != (length,) or projection.ndim != 2 or len(projection) != length or weights.ndim != 2:
            raise ValueError("the judge does not fit the images")
        if weights.shape[1] != projection.shape[1] + 1 or not 1 <= len(weights) <= MAX_CODES:
            raise ValueError("the judge's weights do not fit its features")
        if not all(np.isfinite(part).all() for part in (centre, projection, weights)):
            raise ValueError("the judge's numbers are not finite")
        network = cls(energies, torch.from_numpy(centre), torch.from_numpy(projection), len(weights))
        with torch.no_grad():
            network.odds.weight.copy_(torch.from_numpy(weights))
        return network

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Return (rows, directions + 1) features of norm 1 of (rows, channels, sides) images."""
        scores = (self._energies(x) - self.get_buffer("_centre")) @ self.get_buffer("_projection")
        scores = scores / scores.norm(dim=1, keepdim=True).clamp_min(1e-6)
        constant = torch.full_like(scores[:, :1], CONSTANT)
        return torch.cat([scores, constant], 1) / math.sqrt(1 + CONSTANT**2)

    def forward(self, x: Tensor) -> Tensor:
        """Return (rows, classes) log-odds."""
        odds: Tensor = self.odds(self.features(x))
        return odds


def train_linear(
    session: Session, target: str, draw: Draw, cells: NDArray[np.int64], *, patients: float, report: Progress
) -> Whitened:
    """Whiten with generated images, and train under the session's plan. Formal guarantee: that of `Session.train`.

    Momentum of .9 and the mean of the weights of the last half of the steps: the noise of single steps
    averages out.

    Parameters
    ----------
    session
        Opened with a plan of the training.
    target
        The outcome.
    draw, cells
        What makes images, and (cells, columns) codes to make them of, as many of each; post-processing of what was
        paid for.
    patients
        About how many patients have images: public, or paid for.
    report
        Told of progress.
    """
    plan = session.training
    assert plan is not None  # noqa: S101  (the session was opened with one)
    network = _whitened(draw, cells, classes_of(session.codec, target))
    report("whitening", 1.0)
    optimiser = torch.optim.SGD([network.odds.weight], lr=30.0, momentum=0.9)
    trainer = Trainer(optimiser, steps=plan.steps, report=report, every=1)

    def update(step: int) -> None:
        trainer.update(step)
        if step >= plan.steps // 2:
            network.get_buffer("_total").add_(network.odds.weight.detach())

    reading = Reading.of(session.codec, Conditions.of(session.codec, (target,)))
    objective = ImageLikelihood(network, reading, network.odds.out_features)
    session.train(objective, update, expected=patients, records="images", backend="layer", state=trainer.state)
    trainer.finish()
    with torch.no_grad():
        network.odds.weight.copy_(network.get_buffer("_total") / (plan.steps - plan.steps // 2))
    return network


def _whitened(draw: Draw, cells: NDArray[np.int64], classes: int) -> Whitened:
    """Return the network with the whitening of generated images' features."""
    rng = np.random.default_rng(0)
    energies = Energies()
    codes = cells[np.arange(MADE) % len(cells)]
    parts = [draw(codes[start : start + BATCH], rng) for start in range(0, MADE, BATCH)]
    with torch.no_grad():
        features = torch.cat([energies(torch.from_numpy(part)) for part in parts]).double()
    centre = features.mean(0)
    values, vectors = torch.linalg.eigh((features - centre).T @ (features - centre) / MADE)
    values, vectors = values[-DIRECTIONS:], vectors[:, -DIRECTIONS:]
    scales = values.clamp_min(1e-6 * float(values[-1])) ** -WHITENING
    return Whitened(energies, centre.float(), (vectors * scales).float(), classes)
