"""Exact sums of clipped image features by group, in whole numbers; noise is added before anything leaves.

Sensitivities, for one patient added or removed, whatever the number of their images
-----------------------------------------------------------------------------------
An image i of a patient with m images has features z_i, which are clipped and rounded to a vector of whole numbers.

Sums
    Each image adds a vector of norm at most ``SUM_UNIT / m`` to its group. By the triangle inequality a patient adds
    at most ``SUM_UNIT`` in the L2 norm over all groups together.
Products
    Each image adds the matrix ``z z'`` with ``|z| <= PRODUCT_UNIT / sqrt(m)`` to its group; its Frobenius norm is
    ``|z|^2 <= PRODUCT_UNIT^2 / m``. A patient adds at most ``PRODUCT_UNIT^2``. The matrix is symmetric: only its upper
    triangle is released, entries off the diagonal with noise of ``sigma / sqrt(2)``. In units of each entry's noise the
    squared norm is ``(sum of diagonal^2 + 2 sum of upper^2) / sigma^2``, the Frobenius norm again.

A division sends each image to one part of its group, by that image alone, and the sums are then those of the parts. It
is one more way to say to which group an image adds, so that both bounds are as they were.

Rounding moves a vector of d numbers by at most ``sqrt(d) / 2``; so much is taken off before, together with 2^-12 of the
norm, far more than what float64 arithmetic on one image can add. Features that are not finite count as 0. Whole numbers
below 2^53 are summed exactly in float64, in any order, so no other patient's part moves with a patient's presence.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.privacy.images.features import MAPS, Division, Features

SUM_UNIT = 2**16
PRODUCT_UNIT = 2**10
FLOAT_MARGIN = 2.0**-12
LEVELS = 2**16 - 1
CHUNK = 2**12

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class GroupedImages:
    """Private images and the groups to which they are summed.

    Parameters
    ----------
    pixels
        (images, ...) pixels.
    scale
        The public range of a pixel.
    groups
        (images,) the group of each image, 0 to count - 1.
    shares
        (images,) how many images the patient of each image has.
    count
        Number of groups.
    division
        Of the images of each group, to whose parts they are then summed.
    """

    pixels: NDArray[np.generic]
    scale: tuple[float, float]
    groups: NDArray[np.intp]
    shares: NDArray[np.intp]
    count: int
    division: Division | None = None

    @property
    def cells(self) -> int:
        """Groups, or their parts where they are divided."""
        return self.count if self.division is None else self.count * self.division.parts


def group_sums(images: GroupedImages, features: Features) -> Integers:
    """Return (cells, dimension) sums of the clipped features of each group's images, in units of 1 / `SUM_UNIT`."""
    total = np.zeros((images.cells, features.dimension))
    for part, cells, vectors in _features(images, features):
        np.add.at(total, cells, _rounded(vectors, SUM_UNIT / images.shares[part]))
    return total.astype(np.int64)


def group_products(images: GroupedImages, features: Features) -> Integers:
    """Return (cells, dimension, dimension) sums of ``z z'`` by group, in units of 1 / `PRODUCT_UNIT`^2."""
    total = np.zeros((images.cells, features.dimension, features.dimension))
    for part, cells, vectors in _features(images, features):
        whole = _rounded(vectors, PRODUCT_UNIT / np.sqrt(images.shares[part]))
        for cell in np.unique(cells):
            mine = whole[cells == cell]
            total[cell] += mine.T @ mine
    return total.astype(np.int64)


def packed(products: Integers) -> list[Integers]:
    """Return the diagonals and upper triangles of symmetric matrices: what noise is added to.

    Examples
    --------
    >>> [half.tolist() for half in packed(np.array([[[1, 2], [2, 3]]]))]
    [[[1, 3]], [[2]]]
    """
    d = products.shape[-1]
    same, (i, j) = np.arange(d), np.triu_indices(d, 1)
    return [products[:, same, same], products[:, i, j]]


def product_sigmas(sigma: float) -> tuple[float, float]:
    """Return the noise of both halves of `packed`: entries off the diagonal stand for two, see above."""
    return sigma * PRODUCT_UNIT**2, sigma * PRODUCT_UNIT**2 / math.sqrt(2)


def unpacked(diagonals: Integers, triangles: Integers) -> Floats:
    """Undo `packed`, in units of 1."""
    count, d = diagonals.shape
    same, (i, j) = np.arange(d), np.triu_indices(d, 1)
    matrices = np.zeros((count, d, d))
    matrices[:, same, same] = diagonals
    matrices[:, i, j] = matrices[:, j, i] = triangles
    return matrices / PRODUCT_UNIT**2


def check_features(features: Features, inputs: int) -> None:
    """Refuse code that is not the kernel's, and a map that does not fit or is too long to be rounded."""
    if type(features) not in MAPS:
        raise InputError(f"features: found a {type(features).__name__}, expected Linear or Fourier of the kernel.")
    if features.inputs != inputs:
        raise InputError(f"features: they take {features.inputs} pixels, expected {inputs} as the schema declares.")
    if math.sqrt(features.dimension) / 2 > PRODUCT_UNIT / 2:
        raise InputError(f"features: found {features.dimension}, expected at most {PRODUCT_UNIT**2}.")


def check_division(division: Division, groups: int, inputs: int) -> None:
    """Refuse code that is not the kernel's, and a division that does not fit."""
    if type(division) is not Division:
        raise InputError(f"division: found a {type(division).__name__}, expected a Division of the kernel.")
    if (division.groups, division.inputs) != (groups, inputs):
        raise InputError(
            f"division: found one of {division.groups} groups of images of {division.inputs} pixels, expected {groups} "
            f"groups and {inputs} pixels."
        )


def _features(images: GroupedImages, features: Features) -> Iterator[tuple[slice, NDArray[np.intp], Floats]]:
    """Yield cells and features of one chunk of images after another, from pixels as levels of their public range."""
    for start in range(0, len(images.pixels), CHUNK):
        part = slice(start, start + CHUNK)
        pixels = images.pixels[part]
        levels, top = _levels(pixels.reshape(len(pixels), -1), images.scale)
        cells = images.groups[part]
        if images.division is not None:
            cells = cells * images.division.parts + images.division(levels, top, cells)
        yield part, cells, features(levels, top)


def _levels(flat: NDArray[np.generic], scale: tuple[float, float]) -> tuple[Floats, int]:
    """Return pixels as whole levels, and the level of the range's upper end."""
    if flat.dtype == np.uint8:
        return flat.astype(np.float64), 255
    low, high = scale
    share = (np.nan_to_num(flat.astype(np.float64), nan=low) - low) / (high - low)
    return np.rint(np.clip(share, 0, 1) * LEVELS), LEVELS


def _rounded(vectors: Floats, limits: Floats) -> Floats:
    """Return whole vectors of norm at most ``limits``; features of norm 1 or more reach it."""
    vectors = np.nan_to_num(vectors, nan=0.0, posinf=0.0, neginf=0.0)
    norms = np.sqrt((vectors**2).sum(axis=1))
    room = np.maximum(limits * (1 - FLOAT_MARGIN) - math.sqrt(vectors.shape[1]) / 2, 0.0)
    return np.asarray(np.rint(vectors * (room / np.maximum(norms, 1.0))[:, None]))
