"""What diffusion could add to the moments that it begins with, on FashionMNIST: a loss curve, and private noise.

Moments are fitted at epsilon 10 on the 60,000 training images. The denoising loss of their exact denoiser is taken on
real test images; then the network above it is trained on the training images *without privacy*, and its loss is taken
again and again. Beside it stands how long the mean gradient is in units of the clipping norm, which private noise of
standard deviation ``noise_multiplier / patients of a step`` in each of the parameters has to be small against. With
``--noise`` that noise is added to the gradients, which are not clipped: a stand-in for the private training, not one.

Examples
--------
::

    python benchmarks/image_loss_curve.py --steps 80
    python benchmarks/image_loss_curve.py --steps 120 --batch 512 --noise
"""

import argparse
import math
import time
from pathlib import Path

import images as pictures
import numpy as np
import torch

import dpsynth
from dpsynth.models.image.batch_reading import Reading
from dpsynth.models.image.denoiser.loss import DenoisingLoss
from dpsynth.models.image.denoiser.network import Denoiser
from dpsynth.models.image.denoiser.prior import MixturePrior
from dpsynth.models.image.diffusion import Diffusion
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.training.per_patient import Batch, vmapped
from dpsynth.schema import Schema

BATCH = 128
SHOWN = (10, 20, 40, 80, 160, 320)


def batch(found: pictures.Labelled, rows: np.ndarray) -> Batch:
    """Return images as patients with one image each."""
    return {
        "images": torch.from_numpy(found.pixels[rows][:, None, None].copy()),
        "codes": torch.from_numpy(found.labels[rows][:, None, None].copy()),
        "weights": torch.ones(len(rows), 1),
    }


def begun(train: pictures.Labelled) -> DenoisingLoss:
    """Return the loss of a network above the moments of the training images."""
    moments = dpsynth.fit(pictures.cohort(train), "moments", epsilon=10.0, delta=pictures.DELTA, seed=1).generator
    torch.manual_seed(7)
    parts = moments.mixture.weights.shape[1]
    denoiser = Denoiser((1, 28, 28), (10,), (16, 32), 0.5, len(moments.basis), parts=parts)
    denoiser.prior = MixturePrior.of(moments)
    return DenoisingLoss(denoiser, Reading((0,), 0.0, 255.0), levels=1)


def gradients(loss: DenoisingLoss, train: pictures.Labelled, count: int) -> tuple[float, float]:
    """Return the median norm of an image's gradient, and the norm of the mean of ``count``, in units of it."""
    generator = torch.Generator().manual_seed(9)
    few = loss.prepare(batch(train, np.arange(64))) | loss.randomness(64, generator)
    usual = float(torch.stack([part.squares() for part in vmapped(loss, few)]).sum(0).sqrt().median())
    loss.zero_grad()
    for start in range(0, count, BATCH):
        ready = loss.prepare(batch(train, np.arange(start, start + BATCH))) | loss.randomness(BATCH, generator)
        (loss(ready).sum() / count).backward()
    squares = sum(float(one.grad.square().sum()) for one in loss.parameters() if one.grad is not None)
    loss.zero_grad()
    return usual, math.sqrt(squares) / usual


def main() -> None:
    """Train, and print the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=pictures.DATA)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--noise", action="store_true", help="add the noise of diffusion's default plan at epsilon 10")
    parser.add_argument("--images", type=int, default=500, help="test images of the loss, and of the mean gradient")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    train, test = pictures.read(asked.data, "train"), pictures.read(asked.data, "t10k")
    loss = begun(train)
    held = loss.prepare(batch(test, np.arange(asked.images)))
    held |= loss.randomness(asked.images, torch.Generator().manual_seed(3))
    learned = [one for one in loss.parameters() if one.requires_grad]
    plan = Diffusion().training(Schema.parse(pictures.SCHEMA), Budget(10.0, pictures.DELTA))
    assert plan is not None  # noqa: S101
    usual, mean = gradients(loss, train, BATCH * max(1, asked.images // BATCH))
    size, step = sum(one.numel() for one in learned), plan.sampling_rate * len(train.pixels)
    noise = plan.noise_multiplier * math.sqrt(size) / step
    print(f"{size:,} parameters; median gradient {usual:.3g}; mean gradient {mean:.3f} of it", flush=True)
    print(f"private noise {noise:.3f} of it: {step:,.0f} patients a step, noise multiplier {plan.noise_multiplier:.2f}")
    optimiser, rng, generator = torch.optim.Adam(learned, lr=3e-3), np.random.default_rng(0), torch.Generator()
    began = time.process_time()
    for number in range(asked.steps + 1):
        if number in (0, *SHOWN):
            with torch.no_grad():
                print(
                    f"step {number}: {float(loss(held).mean()):.4f} ({time.process_time() - began:.0f} s)", flush=True
                )
        rows = rng.choice(len(train.pixels), asked.batch, replace=False)
        optimiser.zero_grad()
        loss(loss.prepare(batch(train, rows)) | loss.randomness(asked.batch, generator)).mean().backward()
        if asked.noise:
            for one in learned:
                assert one.grad is not None  # noqa: S101
                one.grad += usual * plan.noise_multiplier / step * torch.randn(one.shape, generator=generator)
        optimiser.step()


if __name__ == "__main__":
    main()
