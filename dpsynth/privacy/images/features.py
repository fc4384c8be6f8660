"""Public features of images, of which noisy sums may be asked; each is a table of numbers, never code of a model's.

A feature map takes each image by itself, to the last bit: pixels are whole levels and tables have 20 binary digits, so
that the products are summed exactly in float64, whatever other images are in the same matrix product. Whatever a map
gives is clipped to norm 1 by `dpsynth.privacy.images.sums`, so the sensitivity of a sum does not depend on it.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError

Floats = NDArray[np.float64]

DIGITS = 2.0**20


class Features(Protocol):
    """A public map from an image to a vector."""

    @property
    def inputs(self) -> int:
        """Values of an image."""
        ...

    @property
    def dimension(self) -> int:
        """Length of the vector."""
        ...

    def __call__(self, levels: Floats, top: int) -> Floats:
        """Return (images, dimension) features of images of (images, inputs) whole levels, of which ``top`` is 1."""
        ...


class Linear:
    """Weighted sums of pixels, such as coefficients of a cosine transform: ``matrix (x - offset)``.

    Parameters
    ----------
    matrix
        (dimension, inputs); kept to 20 binary digits after the point.
    offset
        (inputs,) subtracted from each image first, pixels being in [0, 1].
    """

    def __init__(self, matrix: NDArray[np.floating], offset: NDArray[np.floating]) -> None:
        self.matrix = _table(matrix)
        if offset.shape != matrix.shape[1:] or not np.isfinite(offset).all():
            raise InputError("features: the offset does not fit the matrix.")
        self.shift = self.matrix @ offset.astype(np.float64)

    @classmethod
    def of_shift(cls, matrix: NDArray[np.floating], shift: NDArray[np.floating]) -> "Linear":
        """Return the map ``matrix x - shift``: what another one is when its `matrix` and `shift` are handed on.

        Parameters
        ----------
        matrix
            (dimension, inputs).
        shift
            (dimension,).

        Raises
        ------
        InputError
            When they do not fit or are not finite.
        """
        features = cls(matrix, np.zeros(matrix.shape[1:]))
        if shift.shape != matrix.shape[:1] or not np.isfinite(shift).all():
            raise InputError("features: the shift does not fit the matrix.")
        features.shift = shift.astype(np.float64)
        return features

    @property
    def inputs(self) -> int:
        """Values of an image."""
        return int(self.matrix.shape[1])

    @property
    def dimension(self) -> int:
        """Length of the vector."""
        return int(self.matrix.shape[0])

    def __call__(self, levels: Floats, top: int) -> Floats:
        """Return (images, dimension) features."""
        return _exact(levels, self.matrix, top) / top - self.shift


class Fourier:
    """Random Fourier features ``(cos(w x), sin(w x)) / sqrt(m)`` of m frequencies w: norm 1 (Rahimi & Recht 2007).

    Parameters
    ----------
    frequencies
        (m, inputs); kept to 20 binary digits after the point.
    """

    def __init__(self, frequencies: NDArray[np.floating]) -> None:
        self.frequencies = _table(frequencies)

    @property
    def inputs(self) -> int:
        """Values of an image."""
        return int(self.frequencies.shape[1])

    @property
    def dimension(self) -> int:
        """Length of the vector: two for each frequency."""
        return 2 * int(self.frequencies.shape[0])

    def __call__(self, levels: Floats, top: int) -> Floats:
        """Return (images, dimension) features."""
        angles = _exact(levels, self.frequencies, top) / top
        return np.asarray(np.hstack([np.cos(angles), np.sin(angles)]) / np.sqrt(len(self.frequencies)))


class Squares:
    """Sums of squares of weighted sums of pixels, such as the energies of bands of frequencies.

    The weighted sums of an image are clipped to norm 1 first, so that all energies together are at most 1; then so is
    the norm of their vector.

    Parameters
    ----------
    matrix
        (sums, inputs); kept to 20 binary digits after the point.
    band
        (sums,) to which energy each sum belongs, 0 to bands - 1.
    """

    def __init__(self, matrix: NDArray[np.floating], band: NDArray[np.integer]) -> None:
        self.matrix = _table(matrix)
        if band.shape != matrix.shape[:1] or (band < 0).any():
            raise InputError("features: expected one band, 0 or more, for each row of the matrix.")
        self.band = band.astype(np.intp)

    @property
    def inputs(self) -> int:
        """Values of an image."""
        return int(self.matrix.shape[1])

    @property
    def dimension(self) -> int:
        """Length of the vector: the number of bands."""
        return int(self.band.max()) + 1

    def __call__(self, levels: Floats, top: int) -> Floats:
        """Return (images, dimension) features."""
        squares = (_exact(levels, self.matrix, top) / top) ** 2
        energies = np.zeros((len(levels), self.dimension))
        for place, band in enumerate(self.band):  # in one order, so that an image's sums round alike in any company
            energies[:, band] += squares[:, place]
        total = np.zeros(len(levels))
        for band in range(self.dimension):
            total += energies[:, band]
        return np.asarray(energies / np.maximum(total, 1.0)[:, None])


class Ones:
    """The feature that is 1 for every image: its sums are counts."""

    dimension = 1

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs

    def __call__(self, levels: Floats, top: int) -> Floats:  # noqa: ARG002
        """Return (images, 1) ones."""
        return np.ones((len(levels), 1))


MAPS = (Linear, Fourier, Squares, Ones)
"""All maps of which sums may be asked: other code could mix images, or see them."""


class Division:
    """A public division of images: each goes to the part of its group whose score ``a x - b`` is the greatest.

    With ``a = 2 c`` and ``b = |c|^2``, in coefficients of the image, that is the part with the nearest centre c. Which
    part an image goes to depends on that image and its group alone, to the last bit.

    Parameters
    ----------
    scores
        (groups, parts, inputs) the a; kept to 20 binary digits after the point.
    offsets
        (groups, parts) the b, pixels being in [0, 1].
    """

    def __init__(self, scores: NDArray[np.floating], offsets: NDArray[np.floating]) -> None:
        if scores.ndim != 3 or offsets.shape != scores.shape[:2] or not np.isfinite(offsets).all():
            raise InputError("division: the offsets do not fit the scores; expected one for each group and part.")
        self.scores: Floats = _table(scores.reshape(-1, scores.shape[2])).reshape(scores.shape)
        self.offsets = offsets.astype(np.float64)

    @property
    def inputs(self) -> int:
        """Values of an image."""
        return int(self.scores.shape[2])

    @property
    def groups(self) -> int:
        """Groups that are divided."""
        return int(self.scores.shape[0])

    @property
    def parts(self) -> int:
        """Parts of each group."""
        return int(self.scores.shape[1])

    def __call__(self, levels: Floats, top: int, groups: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return (images,) parts of images of (images, inputs) whole levels and (images,) groups."""
        scores = _exact(levels, self.scores.reshape(-1, self.inputs), top) / top - self.offsets.ravel()
        own = scores.reshape(len(levels), self.groups, self.parts)[np.arange(len(levels)), groups]
        return np.asarray(own.argmax(axis=1), dtype=np.intp)


def _table(matrix: NDArray[np.floating]) -> Floats:
    if matrix.ndim != 2 or 0 in matrix.shape or not np.isfinite(matrix).all():
        raise InputError("features: expected an array of two dimensions, finite and not empty.")
    return np.rint(matrix.astype(np.float64) * DIGITS) / DIGITS


def _exact(levels: Floats, table: Floats, top: int) -> Floats:
    """Return ``levels table'``, without rounding: every partial sum is a multiple of 2^-20 below 2^33."""
    if np.abs(table).sum(axis=1).max() * top >= 2**53 / DIGITS:
        raise InputError("features: the numbers of the table are too large; expected sums below 2^33.")
    return levels @ table.T
