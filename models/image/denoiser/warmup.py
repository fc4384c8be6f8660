"""Before a denoiser sees a patient: training on samples of a public model, and what its gradients are then like.

Formal guarantee: nothing here touches a patient; samples are drawn from what was paid for.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpsynth.models.image.batch_reading import Reading
from dpsynth.models.image.denoiser.autoencoder import Autoencoder
from dpsynth.models.image.denoiser.loss import DenoisingLoss
from dpsynth.models.image.denoiser.network import Denoiser
from dpsynth.models.image.model import Floats32
from dpsynth.models.trainer import Schedule, Trainer
from dpsynth.models.weight_average import Average
from dpsynth.privacy.training.per_patient import Batch, vmapped
from dpsynth.progress import Progress

Draw = Callable[[NDArray[np.int64], np.random.Generator], Floats32]
PROBE = 128
"""Generated images on which the norm of gradients is found."""


def warmed(
    denoiser: Denoiser,
    draw: Draw,
    cells: NDArray[np.int64],
    steps: int,
    report: Progress,
    *,
    batch: int = 128,
    learning_rate: float = 2e-3,
    schedule: str = "edm",
    autoencoder: Autoencoder | None = None,
) -> Denoiser:
    """Train a denoiser on samples of a public model, without privacy and without cost; return its averaged weights.

    Parameters
    ----------
    denoiser
        What is trained.
    draw
        Gives images in [0, 1] for codes of the conditions.
    cells
        (combinations, conditions) codes to draw from, evenly.
    steps, batch, learning_rate
        Of Adam; the rate falls to a tenth.
    report
        Told of progress.
    schedule, autoencoder
        As for `DenoisingLoss`.
    """
    rng, generator = np.random.default_rng(8), torch.Generator().manual_seed(8)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reading = Reading(tuple(range(cells.shape[1])), 0.0, 1.0)
    loss = DenoisingLoss(denoiser, reading, levels=1, schedule=schedule, autoencoder=autoencoder)
    loss.to(device).train()

    def mean_loss() -> Tensor:
        codes = cells[rng.integers(len(cells), size=batch)]
        ready = loss.prepare(as_batch(draw(codes, rng), codes)) | loss.randomness(batch, generator)
        losses: Tensor = loss({name: value.to(device) for name, value in ready.items()})
        return losses.mean()

    Trainer(
        torch.optim.Adam(denoiser.parameters(), lr=learning_rate),
        steps=steps,
        schedule=Schedule("line", rise=50),
        average=Average(denoiser, 0.98, first=0, span=10),
        report=report,
        phase="warming up on samples",
        every=1,
    ).minimise(mean_loss)
    return trained(loss)


def trained(loss: DenoisingLoss) -> Denoiser:
    """Return the denoiser of a loss, moved to the CPU."""
    return loss.cpu().denoiser


def usual_norm(
    objective: DenoisingLoss,
    draw: Draw,
    cells: NDArray[np.int64],
    columns: int,
) -> float:
    """Return the median norm of per-patient gradients on samples of a public model: what to clip to, for free."""
    rng = np.random.default_rng(9)
    codes = cells[rng.integers(len(cells), size=PROBE)]
    wide = np.zeros((PROBE, columns), np.int64)
    wide[:, list(objective.reading.places)] = codes
    low, high = objective.reading.low, objective.reading.high
    example = as_batch(low + (high - low) * draw(codes, rng), wide)
    ready = objective.prepare(example) | objective.randomness(PROBE, torch.Generator().manual_seed(9))
    squares = torch.stack([part.squares() for part in vmapped(objective, ready)]).sum(0)
    return max(float(squares.sqrt().median()), 1e-12)


def as_batch(images: NDArray[Any], codes: NDArray[np.int64]) -> Batch:
    """Return made-up patients with one image each, as the kernel gives real ones."""
    return {
        "images": torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))[:, None],
        "codes": torch.from_numpy(codes)[:, None],
        "weights": torch.ones((len(codes), 1)),
    }


def grey(shape: tuple[int, ...]) -> Draw:
    """Return a public stand-in for images where there is no warm-up: smooth noise around grey."""

    def draw(codes: NDArray[np.int64], rng: np.random.Generator) -> Floats32:
        return np.clip(rng.normal(0.5, 0.25, (len(codes), *shape)), 0, 1).astype(np.float32)

    return draw
