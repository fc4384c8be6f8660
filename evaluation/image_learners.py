"""Classifiers of images that are trained on one arm and judged on another; sized so that two cores suffice.

A learner may have several heads, one for each column that it tells from an image. The last hidden layer of the small
network also serves as an encoder in which cohorts are compared.
"""

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.evaluation.learners import one_thread
from dpsynth.evaluation.table import Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Sequential

__all__ = [
    "CNN",
    "FLAT",
    "MLP",
    "Fitted",
    "Lesson",
    "Network",
    "densenet",
    "fit_cnn",
    "fit_mlp",
    "image_learners",
    "small_cnn",
    "unit",
]

Pixels = NDArray[Any]

CNN = "small CNN"
MLP = "MLP on pixels"

BATCH = 128
RATE = 2e-3
SEEN = 120_000
"""Images of 28 x 28 that one training goes through, each several times; fewer where images are larger."""
EPOCHS = (4, 20)
STEPS = 120
"""Least number of steps of the network: few images are seen more often."""
POSITIONS = {2: 64 * 64, 3: 28**3}
"""Larger images are brought to fewer pixels by means over blocks."""
FLAT = 32 * 32
HIDDEN = 128


@dataclass(frozen=True)
class Lesson:
    """The images and labels that a learner is trained on.

    Parameters
    ----------
    pixels : ndarray, shape (images, channels, sides)
    span : (float, float)
        Public range of a pixel.
    codes : ndarray of int, shape (images, heads)
        What each head has to tell; -1 where it is unknown.
    sizes : tuple of int
        Number of codes of each head.
    """

    pixels: Pixels
    span: tuple[float, float]
    codes: Ints
    sizes: tuple[int, ...]

    @property
    def epochs(self) -> int:
        """How often each image is seen."""
        positions = int(np.prod(_shrunk_sides(self.pixels.shape[2:])))
        seen = SEEN * min(1.0, 28 * 28 / positions)
        return int(np.clip(round(seen / len(self.pixels)), *EPOCHS))


class Fitted(Protocol):
    """A trained learner."""

    def scores(self, pixels: Pixels) -> list[Floats]:
        """Return for each head the probabilities of its codes, shape (images, codes)."""
        ...


ImageFit = Callable[[Lesson, int], Fitted]


def image_learners() -> Mapping[str, ImageFit]:
    """Return the learners by name; a DenseNet too where there are a GPU and MONAI."""
    learners: dict[str, ImageFit] = {CNN: fit_cnn, MLP: fit_mlp}
    if _gpu() and importlib.util.find_spec("monai") is not None:
        learners["DenseNet121"] = lambda lesson, seed: fit_cnn(lesson, seed, densenet)
    return learners


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise InputError("needs the package torch; pip install 'dpsynth[deep]'.") from None
    return torch


def _gpu() -> bool:
    return importlib.util.find_spec("torch") is not None and bool(_torch().cuda.is_available())


def unit(pixels: Pixels, span: tuple[float, float], positions: int | None = None) -> NDArray[np.float32]:
    """Return pixels in 0 to 1, images with more than `positions` pixels made smaller by means over blocks.

    Examples
    --------
    >>> unit(np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4), (0, 16), positions=4)[0, 0].tolist()
    [[0.15625, 0.28125], [0.65625, 0.78125]]
    """
    scaled = (pixels.astype(np.float32) - np.float32(span[0])) / np.float32(span[1] - span[0])
    sides = _shrunk_sides(pixels.shape[2:], positions)
    for axis, side in enumerate(sides, start=2):
        before = scaled.shape[axis]
        if side < before:
            edges = np.arange(side) * before // side
            counts = np.diff([*edges, before])
            sums = np.add.reduceat(scaled, edges, axis=axis)
            scaled = sums / counts.reshape([-1 if a == axis else 1 for a in range(scaled.ndim)]).astype(np.float32)
    return scaled


def _shrunk_sides(sides: tuple[int, ...], positions: int | None = None) -> tuple[int, ...]:
    """Return sides divided by the least whole number with which there are at most `positions` pixels."""
    limit, factor = positions or POSITIONS[len(sides)], 1
    while np.prod([-(-side // factor) for side in sides]) > limit:
        factor += 1
    return tuple(-(-side // factor) for side in sides)


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


@dataclass(frozen=True)
class _Perceptrons:
    """A perceptron for each head.

    Parameters
    ----------
    models : tuple
        scikit-learn classifiers; the only code itself where the training arm has one.
    """

    models: tuple[Any, ...]
    span: tuple[float, float]
    sizes: tuple[int, ...]

    def scores(self, pixels: Pixels) -> list[Floats]:
        """Return for each head the probabilities of its codes, shape (images, codes)."""
        probabilities = [np.zeros((len(pixels), size)) for size in self.sizes]
        flat = _flat(pixels, self.span)
        for scores, model in zip(probabilities, self.models, strict=True):
            if isinstance(model, int):
                scores[:, model] = 1.0
                continue
            with one_thread():
                scores[:, model.classes_.astype(int)] = model.predict_proba(flat)
        return probabilities


def _flat(pixels: Pixels, span: tuple[float, float]) -> NDArray[np.float32]:
    parts = [unit(pixels[at : at + 4096], span, FLAT) for at in range(0, len(pixels), 4096)]
    return np.concatenate(parts).reshape(len(pixels), -1)


def fit_mlp(lesson: Lesson, seed: int) -> _Perceptrons:
    """Train scikit-learn's perceptron with one hidden layer on pixels.

    Raises
    ------
    InputError
        If no image has a known code.
    """
    flat = _flat(lesson.pixels, lesson.span)
    return _Perceptrons(
        tuple(_perceptron(flat, codes, lesson.epochs, seed) for codes in lesson.codes.T), lesson.span, lesson.sizes
    )


def _perceptron(flat: NDArray[np.float32], codes: Ints, epochs: int, seed: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    labelled = codes >= 0
    values = np.unique(codes[labelled])
    if len(values) < 2:
        if len(values) == 0:
            raise InputError("the training arm has no image with a known value")
        return int(values[0])
    model = MLPClassifier((HIDDEN,), max_iter=epochs, batch_size=min(BATCH, int(labelled.sum())), random_state=seed)
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is the rule
        return model.fit(flat[labelled], codes[labelled])
