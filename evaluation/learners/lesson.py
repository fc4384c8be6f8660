"""A lesson: images with labels that a network learns from, and how it is trained."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Floats, Ints

Pixels = NDArray[Any]


BATCH = 128


RATE = 2e-3


SEEN = 120_000
"""Images of 28 x 28 that one training goes through, each several times; fewer where images are larger."""


EPOCHS = (4, 20)


STEPS = 120
"""Least number of steps of the network: few images are seen more often."""


POSITIONS = {2: 64 * 64, 3: 28**3}
"""Larger images are brought to fewer pixels by means over blocks."""


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


ImageFit = Callable[[Lesson, int], Fitted]
