"""Classifiers of images that are trained on one arm and judged on another; sized so that two cores suffice.

A learner may have several heads, one for each column that it tells from an image. The last hidden layer of the small
network also serves as an encoder in which cohorts are compared.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Floats, Ints
from dpsynth.evaluation.learners.lesson import (
    BATCH,
    RATE,
    STEPS,
    ImageFit,
    Lesson,
    Pixels,
    _gpu,
    _shrunk_sides,
    _torch,
    unit,
)
from dpsynth.evaluation.learners.perceptrons import HIDDEN, fit_mlp

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Sequential

__all__ = ["CNN", "MLP", "Network", "densenet", "fit_cnn", "image_learners", "small_cnn"]


CNN = "small CNN"
MLP = "MLP on pixels"


def image_learners() -> Mapping[str, ImageFit]:
    """Return the learners by name; a DenseNet too where there are a GPU and MONAI."""
    learners: dict[str, ImageFit] = {CNN: fit_cnn, MLP: fit_mlp}
    if _gpu() and importlib.util.find_spec("monai") is not None:
        learners["DenseNet121"] = lambda lesson, seed: fit_cnn(lesson, seed, densenet)
    return learners


def small_cnn(channels: int, sides: tuple[int, ...], outputs: int) -> "Sequential":
    """Return an encoder with 128 features and a linear head.

    A convolution of 4 with stride 2, one of 3, then halving and a further one of 3 until no side is above 7; each with
    batch normalisation, 16 and then 32 channels. Two sides or three.
    """
    torch = _torch()
    nn = torch.nn
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[len(sides)]
    norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[len(sides)]
    pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[len(sides)]

    def block(before: int, after: int, **shape: int) -> list[Any]:
        return [conv(before, after, bias=False, **shape), norm(after), nn.ReLU()]

    larger = tuple(max(side, 4) for side in sides)
    layers: list[Any] = [] if larger == sides else [nn.Upsample(size=larger)]
    layers += block(channels, 16, kernel_size=4, stride=2, padding=1)
    layers += block(16, 32, kernel_size=3, padding=1)
    left = [side // 2 for side in larger]
    while True:
        layers += [pool(2, ceil_mode=True), *block(32, 32, kernel_size=3, padding=1)]
        left = [-(-side // 2) for side in left]
        if max(left) <= 7:
            break
    width = 32 * int(np.prod(left))
    encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, HIDDEN), nn.ReLU())
    whole: Sequential = nn.Sequential(encoder, nn.Linear(HIDDEN, outputs))
    return whole


def densenet(channels: int, sides: tuple[int, ...], outputs: int) -> "Sequential":
    """Return MONAI's DenseNet121 with a hidden layer of 128 features and a linear head; small images are enlarged."""
    from monai.networks.nets import DenseNet121

    nn = _torch().nn
    larger = tuple(max(side, 32) for side in sides)
    body = DenseNet121(spatial_dims=len(sides), in_channels=channels, out_channels=HIDDEN)
    whole: Sequential = nn.Sequential(
        nn.Sequential(nn.Upsample(size=larger), body, nn.ReLU()), nn.Linear(HIDDEN, outputs)
    )
    return whole


@dataclass(frozen=True)
class Network:
    """A trained network.

    Parameters
    ----------
    net : torch.nn.Sequential
        Encoder and head.
    span : (float, float)
    sizes : tuple of int
    """

    net: "Sequential"
    span: tuple[float, float]
    sizes: tuple[int, ...]

    def scores(self, pixels: Pixels) -> list[Floats]:
        """Return for each head the probabilities of its codes, shape (images, codes)."""
        torch = _torch()

        def heads(batch: "Tensor") -> "Tensor":
            parts = self.net(batch).double().split(self.sizes, dim=1)
            probabilities: Tensor = torch.cat([part.softmax(dim=1) for part in parts], dim=1)
            return probabilities

        return np.split(self._through(heads, pixels), np.cumsum(self.sizes)[:-1], axis=1)

    def features(self, pixels: Pixels) -> Floats:
        """Return the last hidden layer, shape (images, 128)."""
        return self._through(self.net[0], pixels)

    def _through(self, part: Any, pixels: Pixels) -> Floats:
        torch = _torch()
        device = next(self.net.parameters()).device
        with torch.inference_mode():
            features = [
                part(torch.from_numpy(unit(pixels[at : at + 512], self.span)).to(device)).double().cpu().numpy()
                for at in range(0, len(pixels), 512)
            ]
        return np.concatenate(features)


def fit_cnn(lesson: Lesson, seed: int, build: "Callable[..., Sequential]" = small_cnn) -> Network:
    """Train a network by AdamW with one cycle of the learning rate; the last step is what is used.

    Parameters
    ----------
    lesson : Lesson
    seed : int
        Of initial weights and order of images; the caller's random state is not touched.
    build : callable
        From channels, sides and outputs to an encoder and a head.

    Raises
    ------
    InputError
        If torch is not installed, or there are fewer than two images.
    """
    torch = _torch()
    if len(lesson.pixels) < 2:
        raise InputError("the training arm has fewer than two images")
    sides = _shrunk_sides(lesson.pixels.shape[2:])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(lesson.pixels.shape[1], sides, sum(lesson.sizes)).to("cuda" if _gpu() else "cpu")
        _train(net, lesson, seed)
    return Network(net.eval(), lesson.span, lesson.sizes)


def _train(net: "Sequential", lesson: Lesson, seed: int) -> None:
    torch = _torch()
    rng, images = np.random.default_rng(seed), len(lesson.pixels)
    size = min(BATCH, images)
    steps = max(STEPS, lesson.epochs * images // size)
    optimiser = torch.optim.AdamW(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.2)
    device = next(net.parameters()).device
    order, place = rng.permutation(images), 0
    for _ in range(steps):
        if place + size > images:
            order, place = rng.permutation(images), 0
        chosen = order[place : place + size]
        place += size
        batch = torch.from_numpy(unit(lesson.pixels[chosen], lesson.span)).to(device)
        codes = torch.from_numpy(lesson.codes[chosen]).to(device)
        optimiser.zero_grad()
        _loss(net(batch).split(lesson.sizes, dim=1), codes).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    _settle(net, lesson, rng.permutation(images), device)


def _settle(net: "Sequential", lesson: Lesson, order: Ints, device: Any) -> None:
    """Take the statistics of batch normalisation from the last weights: running ones lag behind a short training."""
    torch = _torch()
    norms = [layer for layer in net.modules() if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over batches
    with torch.no_grad():
        for at in range(0, min(len(order), 8 * BATCH) - 1, BATCH):
            net(torch.from_numpy(unit(lesson.pixels[order[at : at + BATCH]], lesson.span)).to(device))


def _loss(heads: "tuple[Tensor, ...]", codes: "Tensor") -> "Tensor":
    """Return the sum over heads of the mean cross entropy of the codes that are known."""
    functional = _torch().nn.functional
    total = heads[0].sum() * 0
    for place, head in enumerate(heads):
        labelled = codes[:, place] >= 0
        if labelled.any():
            total = total + functional.cross_entropy(head[labelled], codes[labelled, place])
    return total
