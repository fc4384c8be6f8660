"""Low frequencies of images as weighted coefficients, and the energies of the frequencies that are left out.

Coefficients are those of the orthonormal cosine transform, weighted by ``(1 + frequency)^power`` so that the falling
spectrum of images fills them evenly. What a basis leaves out is drawn as noise whose variance was measured in bands of
frequency: without it images are blurred, and a classifier learns that edges and texture mean nothing.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, idctn

from dpsynth.models.image.model import Floats32
from dpsynth.privacy.images.features import Linear, Squares

Floats = NDArray[np.float64]

__all__ = ["BANDS", "Basis", "Rest"]

POWER = 1.0
BANDS = 6
"""Bands of the frequencies that are left out, each with as many of them."""
ASKED = 256
"""Frequencies left out that are asked of an image at most: one in so many of each band stands for the band."""
CONTRAST = 0.2
"""Standard deviation of pixels, in the frequencies left out, at which an image is clipped to norm 1; public."""


class Basis:
    """The low frequencies of images of one size.

    Parameters
    ----------
    shape
        Channels and sides.
    count
        Coefficients in all; the channels share them.
    """

    def __init__(self, shape: tuple[int, ...], count: int) -> None:
        sides, frequency, order = shape[1:], _frequency(shape[1:]), _order(shape, count)
        self.shape = shape
        self.matrix = np.kron(np.eye(shape[0]), _waves(sides, order))  # (coefficients, values), orthonormal rows
        self.weights = np.tile((1 + frequency[order]) ** POWER, shape[0])

    def __len__(self) -> int:
        return len(self.weights)

    def features(self, radius: float) -> Linear:
        """Return the weighted coefficients, a norm of ``radius`` being 1."""
        return Linear(self.matrix * self.weights[:, None] / radius, np.zeros(self.matrix.shape[1]))

    def flat(self, features: Floats, radius: float) -> Floats:
        """Return (rows, values) images, not yet cut at black and white, with these (rows, coefficients) features."""
        return np.asarray((features * (radius / self.weights)) @ self.matrix)

    def images(self, features: Floats, radius: float) -> Floats32:
        """Return (rows, *shape) images in [0, 1] with these (rows, coefficients) features."""
        return np.clip(self.flat(features, radius), 0, 1).astype(np.float32).reshape(len(features), *self.shape)


class Rest:
    """The frequencies that a basis leaves out, in bands of as many frequencies each; none where it leaves none out.

    Parameters
    ----------
    shape, count
        Those of the basis.
    """

    def __init__(self, shape: tuple[int, ...], count: int) -> None:
        sides = shape[1:]
        left = np.argsort(_frequency(sides), kind="stable")[len(_order(shape, count)) :]
        self.shape = shape
        self.bands = min(BANDS, len(left))
        band = np.arange(len(left)) * self.bands // max(1, len(left))
        self.map = np.full(sides, -1)
        """Band of each frequency, -1 where it is in the basis."""
        self.map.ravel()[left] = band
        places = np.unique(np.linspace(0, len(left) - 1, min(len(left), ASKED // shape[0])).astype(np.int64))
        self._asked, self._band = (left[places], band[places]) if self.bands else (left, band)
        self._each = np.bincount(self._band, minlength=self.bands) * shape[0]
        self._unit = CONTRAST**2 * len(self._asked) * shape[0]

    def features(self) -> Squares:
        """Return the energies of the bands."""
        waves = np.kron(np.eye(self.shape[0]), _waves(self.shape[1:], self._asked))
        return Squares(waves / np.sqrt(self._unit), np.tile(self._band, self.shape[0]))

    def variances(self, energies: Floats) -> Floats:
        """Return (rows, bands) mean squares of a coefficient of each band, from mean `features` of images."""
        return np.asarray(np.maximum(energies, 0) * self._unit / self._each)

    def images(self, variances: Floats, rng: np.random.Generator) -> Floats:
        """Return (rows, values) noise with these (rows, bands) variances of a coefficient."""
        sides = self.shape[1:]
        scales = np.concatenate([np.sqrt(variances), np.zeros((len(variances), 1))], axis=1)[:, self.map]
        drawn = rng.standard_normal((len(variances), *self.shape), dtype=np.float32) * scales[:, None]
        waves = idctn(drawn, axes=tuple(range(2, 2 + len(sides))), norm="ortho")
        return np.asarray(waves.reshape(len(variances), -1))


def _frequency(sides: tuple[int, ...]) -> Floats:
    return np.asarray(np.sqrt(sum(axis.astype(np.float64) ** 2 for axis in np.indices(sides))).ravel())


def _order(shape: tuple[int, ...], count: int) -> NDArray[np.int64]:
    """Return the places of the lowest frequencies, as many as each channel has."""
    return np.argsort(_frequency(shape[1:]), kind="stable")[: max(1, count // shape[0])].astype(np.int64)


def _waves(sides: tuple[int, ...], places: NDArray[np.int64]) -> Floats:
    """Return (frequencies, pixels) orthonormal cosine waves."""
    images = np.ones((len(places), 1))
    for axis, side in enumerate(sides):
        waves = dct(np.eye(side), axis=0, norm="ortho")[np.unravel_index(places, sides)[axis]]
        images = (images[:, :, None] * waves[:, None, :]).reshape(len(places), -1)
    return images
