"""Distances between sets of images in a space of features: Fréchet distance and maximum mean discrepancy.

Both from sums over groups of patients, so that leaving one group out (delete-a-group jackknife) costs next to nothing.

Fréchet inception distance: Heusel et al. 2017, eq. 6; kernel inception distance: Bińkowski et al. 2018, section 3, the
unbiased estimate of Gretton et al. 2012, eq. 3. The networks that gave them their names are not used: the features are
those of an extractor that is named beside each number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.table import Floats, Ints
from dpsynth.evaluation.statistics.jackknife import GROUPS, groups_of, variance

__all__ = [
    "Cloud",
    "cubic",
    "frechet",
    "gaussian",
    "jackknifed_fid",
    "jackknifed_mmd",
    "random_convolutions",
    "scale_of",
]

Kernel = Callable[[Floats, Floats], Floats]

FEATURES = 256
PATCH = 5
PLACES = 12
"""Random convolutions: features in all, side of a patch, and most places along a side."""


@dataclass(frozen=True)
class Cloud:
    """Images as points.

    Parameters
    ----------
    points : ndarray, shape (images, features)
    patients : ndarray of int, shape (images,)
    """

    points: Floats
    patients: Ints

    def groups(self, seed: int) -> list[Floats]:
        """Return the points of each jackknife group of patients."""
        places = groups_of(self.patients, seed)
        return [self.points[places == group] for group in range(GROUPS)]


def random_convolutions(images: NDArray[np.float32]) -> Floats:
    """Return what random 5 x 5 filters find in each quarter (eighth of a volume), shape (images, 256).

    Filters are fixed, of zero mean and unit length; a feature is the mean over its part of the rectified answers.

    Parameters
    ----------
    images : ndarray, shape (images, channels, sides)
        In 0 to 1.
    """
    sides = images.shape[2:]
    reach = tuple(min(PATCH, max(1, side - 1)) for side in sides)
    axes = tuple(range(2, images.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(images, reach, axis=axes)
    strides = tuple(slice(None, None, -(-(side - r + 1) // PLACES)) for side, r in zip(sides, reach, strict=True))
    windows = np.moveaxis(windows[(slice(None), slice(None), *strides)], 1, 1 + len(sides))
    filters = FEATURES // 2 ** len(sides)
    weights = np.random.default_rng(0).standard_normal((filters, int(images.shape[1] * np.prod(reach))))
    weights -= weights.mean(axis=1, keepdims=True) if weights.shape[1] > 1 else 0.0
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    flat = windows.reshape(*windows.shape[: 1 + len(sides)], -1)
    answers = np.maximum(flat @ weights.T.astype(np.float32), 0)
    return _pooled(answers, len(sides)).astype(np.float64)


def _pooled(answers: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """Return means over the two halves of each axis, shape (images, parts * filters)."""
    parts = [answers]
    for axis in range(1, dims + 1):
        parts = [half for part in parts for half in np.array_split(part, 2, axis=axis) if half.shape[axis]]
    return np.concatenate([part.mean(axis=tuple(range(1, dims + 1))) for part in parts], axis=1)


def frechet(means: tuple[Floats, Floats], covariances: tuple[Floats, Floats]) -> float:
    """Return the squared Fréchet (2-Wasserstein) distance of two normal distributions.

    ``|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½)``; the last trace from the eigenvalues of ``C1^½ C2 C1^½``.

    Examples
    --------
    >>> frechet((np.zeros(2), np.array([3.0, 4.0])), (np.eye(2), 4 * np.eye(2)))
    27.0
    """
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    between = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariances[1] @ root), 0)).sum()
    shift = ((means[0] - means[1]) ** 2).sum()
    return float(shift + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * between)


Moments = tuple[float, Floats, Floats]


def _moments(parts: list[Floats]) -> list[Moments]:
    return [(float(len(part)), part.sum(axis=0), part.T @ part) for part in parts]


def _normal(moments: list[Moments]) -> tuple[Floats, Floats]:
    """Return mean and unbiased covariance of what several groups hold together."""
    number = sum(moment[0] for moment in moments)
    mean = np.sum([moment[1] for moment in moments], axis=0) / number
    products = np.sum([moment[2] for moment in moments], axis=0)
    return mean, (products - number * np.outer(mean, mean)) / (number - 1)


def jackknifed_fid(left: Cloud, right: Cloud, seed: int) -> tuple[float, float]:
    """Return the Fréchet distance of normal distributions fitted to two clouds, and its jackknife variance."""
    centre = left.points.mean(axis=0)  # the distance does not depend on it, rounding of products does
    sides = [
        _moments([part - centre for part in cloud.groups(seed + place)]) for place, cloud in enumerate((left, right))
    ]
    whole = [_normal(side) for side in sides]

    def distance(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> float:
        return frechet((first[0], second[0]), (first[1], second[1]))

    spread = 0.0
    for place in (0, 1):
        other = whole[1 - place]
        less = [_normal(sides[place][:group] + sides[place][group + 1 :]) for group in range(GROUPS)]
        spread += float(variance(np.array([distance(first, other) for first in less])))
    return distance(*whole), spread


def cubic(left: Floats, right: Floats) -> Floats:
    """Return the kernel of the kernel inception distance, ``(x·y / features + 1)³``."""
    kernel: Floats = (left @ right.T / left.shape[1] + 1) ** 3
    return kernel


def gaussian(scale: float) -> Kernel:
    """Return the kernel ``exp(-|x - y|² / (2 scale²))``."""

    def kernel(left: Floats, right: Floats) -> Floats:
        squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None] - 2 * left @ right.T
        similarities: Floats = np.exp(-np.maximum(squares, 0) / (2 * scale**2))
        return similarities

    return kernel


def scale_of(points: Floats) -> float:
    """Return the median distance between two of the first thousand points."""
    few = points[:1000]
    squares = (few**2).sum(axis=1)[:, None] + (few**2).sum(axis=1)[None] - 2 * few @ few.T
    scale = float(np.sqrt(np.median(np.maximum(squares[np.triu_indices(len(few), 1)], 0))))
    return scale or 1.0


def _blocks(left: list[Floats], right: list[Floats], kernel: Kernel) -> Floats:
    """Return sums of the kernel over pairs of groups, shape (groups, groups); of a group with itself without twins."""
    same = left is right
    sums = np.zeros((len(left), len(right)))
    for i, block in enumerate(left):
        for j, two in enumerate(right):
            if same and j < i:
                sums[i, j] = sums[j, i]
                continue
            values = kernel(block, two)
            sums[i, j] = values.sum(dtype=np.float64) - (np.trace(values) if same and i == j else 0.0)
    return sums


@dataclass(frozen=True)
class _Sums:
    """Sums of a kernel over pairs of groups, and how many points each group has."""

    within: tuple[Floats, Floats]
    between: Floats
    sizes: tuple[Ints, Ints]

    def mmd(self, kept: tuple[NDArray[Any], NDArray[Any]]) -> float:
        """Return the unbiased estimate from these groups of both sides."""
        total = 0.0
        counts = [float(size[groups].sum()) for size, groups in zip(self.sizes, kept, strict=True)]
        for sums, groups, count in zip(self.within, kept, counts, strict=True):
            total += float(sums[np.ix_(groups, groups)].sum()) / (count * (count - 1))
        return total - 2 * float(self.between[np.ix_(*kept)].sum()) / (counts[0] * counts[1])


def jackknifed_mmd(left: Cloud, right: Cloud, kernel: Kernel, seed: int) -> tuple[float, float]:
    """Return the unbiased squared maximum mean discrepancy of two clouds, and its jackknife variance."""
    parts = [cloud.groups(seed + place) for place, cloud in enumerate((left, right))]
    within = [_blocks(part, part, kernel) for part in parts]
    sizes = [np.array([len(group) for group in part]) for part in parts]
    sums = _Sums((within[0], within[1]), _blocks(parts[0], parts[1], kernel), (sizes[0], sizes[1]))
    every = np.arange(GROUPS)
    spread = 0.0
    for place in (0, 1):
        less = [np.delete(every, group) for group in range(GROUPS)]
        values = [sums.mmd((without, every) if place == 0 else (every, without)) for without in less]
        spread += float(variance(np.array(values)))
    return sums.mmd((every, every)), spread
