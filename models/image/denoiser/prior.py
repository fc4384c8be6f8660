"""The exact denoiser of the moments model: what a diffusion model begins with, so that it needs no warm-up.

For ``y = x + sigma n`` with ``x`` from a mixture of Gaussians of means ``m_p``, weights ``w_p`` and one covariance
``C``, the expectation of ``x`` given ``y`` is the mean, over the parts, of ``m_p + C (C + sigma^2)^-1 (y - m_p)``, each
with the chance of its part given ``y``, in proportion to ``w_p exp(-(y - m_p)' (C + sigma^2)^-1 (y - m_p) / 2)``. In
the eigenvectors of ``C`` each coordinate shrinks by itself. A network trained for ever on samples of the moments model
would come to this. Frequencies that are left out shrink by their measured variance; where none was measured, it is a
public fraction of that of the highest that were.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct
from torch import Tensor, nn

from dpsynth.models.image.frequencies import Basis, Rest

if TYPE_CHECKING:
    from dpsynth.models.image.mixtures import MomentsGenerator

TAIL = 0.3
"""Variance of the frequencies that were not measured over that of the highest fifth of those that were."""
NEVER = -1e4
"""Logarithm of the weight of a part that is never drawn."""
SMALL = 1e-8


class MixturePrior(nn.Module):
    """Mixtures of Gaussians by condition, and their denoiser; all buffers, nothing to train.

    Parameters
    ----------
    shape
        Channels and sides of an image.
    sizes
        Codes of each condition; one code more stands for "not said", of all conditions at once: one Gaussian.
    count
        Coefficients.
    parts
        Of each mixture.
    """

    matrix: Tensor
    means: Tensor
    values: Tensor
    vectors: Tensor
    weights: Tensor
    tail: Tensor
    band: Tensor

    def __init__(self, shape: Sequence[int], sizes: Sequence[int], count: int, parts: int = 1) -> None:
        super().__init__()
        self.sizes, rest = tuple(sizes), Rest(tuple(shape), count)
        matrix = torch.from_numpy(Basis(tuple(shape), count).matrix).float()
        size, groups = len(matrix), (sizes[0] if sizes else 1) + 1
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("band", torch.from_numpy(rest.map), persistent=False)
        for axis, side in enumerate(shape[1:]):
            waves = torch.from_numpy(dct(np.eye(side), axis=0, norm="ortho")).float()
            self.register_buffer(f"waves{axis}", waves, persistent=False)
        self.register_buffer("means", torch.zeros(math.prod(sizes) + 1, parts, size))  # in the eigenvectors
        self.register_buffer("values", torch.ones(groups, size))
        self.register_buffer("vectors", torch.eye(size).repeat(groups, 1, 1))
        self.register_buffer("weights", torch.zeros(groups, parts))  # logarithms
        self.register_buffer("tail", torch.zeros(groups, max(1, rest.bands)))

    @classmethod
    def of(cls, moments: "MomentsGenerator") -> Self:
        """Return the denoiser of a moments model, for pixels in [-1, 1]."""
        found, basis = moments.mixture, moments.basis
        prior = cls(basis.shape, moments.conditions.sizes, len(basis), found.weights.shape[1])
        scale = torch.from_numpy(moments.radius / basis.weights)
        grey = torch.from_numpy(basis.matrix).sum(1)  # coefficients of an image of ones
        means = 2 * torch.from_numpy(found.means) * scale - grey
        roots = 2 * torch.from_numpy(found.roots) * scale[:, None]
        weights = torch.from_numpy(found.weights / found.weights.sum(axis=1, keepdims=True))
        prior._set_gaussians(means, roots @ roots.mT, weights)
        if moments.rest is not None:
            rest = 4 * torch.from_numpy(found.rest)
            prior.tail.copy_(torch.cat([rest, rest.mean(0, keepdim=True)]))
        else:
            highest = torch.diagonal(roots @ roots.mT, dim1=1, dim2=2)[:, -max(1, len(scale) // 5) :]
            prior.tail.fill_(float(TAIL * highest.mean()))
        return prior

    def _set_gaussians(self, means: Tensor, inside: Tensor, weights: Tensor) -> None:
        """Take (combinations, parts, coefficients) means, covariances within parts and weights of the parts.

        What is not said is one Gaussian: the mean of the combinations, with the spread within and between.
        """
        groups, (cells, parts, size) = len(inside), means.shape
        chances = weights.repeat_interleave(cells // groups, 0) / cells
        middle = (chances[:, :, None] * means).sum((0, 1))
        apart = (means - middle).flatten(0, 1)
        whole = inside.mean(0) + (chances.reshape(-1, 1) * apart).T @ apart
        values, vectors = torch.linalg.eigh(torch.cat([inside, whole[None]]))
        every = torch.cat([means, middle.expand(1, parts, size)])
        owner = torch.cat([torch.arange(groups).repeat_interleave(cells // groups), torch.tensor([groups])])
        self.means.copy_(every @ vectors[owner])
        self.values.copy_(values.clamp_min(SMALL))
        self.vectors.copy_(vectors)
        self.weights.copy_(torch.cat([weights, torch.ones(1, parts) / parts]).log().clamp_min(NEVER))

    def forward(self, noisy: Tensor, sigma: Tensor, codes: Tensor) -> Tensor:
        """Return (rows, channels, sides) expected images for noisy ones, (rows,) levels and (rows, columns) codes."""
        variance = sigma.square()[:, None]
        cell, group = self._places(codes)
        chosen = _one_hot(group, len(self.values))
        coefficients = noisy.flatten(1) @ self.matrix.T
        turned = (torch.einsum("rk,gkj->rgj", coefficients, self.vectors) * chosen[:, :, None]).sum(1)
        means = (_one_hot(cell, len(self.means)) @ self.means.flatten(1)).reshape(len(noisy), *self.means.shape[1:])
        spread = chosen @ self.values
        apart = turned[:, None] - means  # (rows, parts, coefficients)
        logs = chosen @ self.weights - 0.5 * (apart.square() / (spread + variance)[:, None]).sum(2)
        expected = means + apart * (spread / (spread + variance))[:, None]
        inside = (torch.softmax(logs, 1)[:, :, None] * expected).sum(1)
        back = torch.einsum("rgj,gkj->rk", chosen[:, :, None] * inside[:, None], self.vectors)
        rest = self._shrunk_rest(noisy, variance, chosen @ self.tail)
        return (back @ self.matrix).reshape(noisy.shape) + rest

    def _shrunk_rest(self, noisy: Tensor, variance: Tensor, tail: Tensor) -> Tensor:
        """Return the expected part of images in the frequencies that are left out, of (rows, bands) variances."""
        gains = torch.cat([tail / (tail + variance), torch.zeros_like(variance)], 1)  # the last: in the basis
        places = torch.where(self.band < 0, tail.shape[1], self.band).flatten()
        gain = gains.index_select(1, places).reshape(len(noisy), 1, *self.band.shape)
        return self._turned(self._turned(noisy, back=False) * gain, back=True)

    def _turned(self, x: Tensor, *, back: bool) -> Tensor:
        """Return the cosine transform of images, or the images of a transform, one axis after another."""
        for axis in range(self.band.dim()):
            waves = self.get_buffer(f"waves{axis}")
            x = torch.movedim(torch.movedim(x, axis + 2, -1) @ (waves if back else waves.T), -1, axis + 2)
        return x

    def _places(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (rows,) combinations, and values of the first condition; the last of each is "not said"."""
        cell = codes.new_zeros(len(codes))
        if not self.sizes:
            return cell, cell
        for column, size in enumerate(self.sizes):
            cell = cell * size + codes[:, column]
        group = codes[:, 0]
        return torch.where(group == self.sizes[0], math.prod(self.sizes), cell), group


def of_earlier_versions(arrays: dict[str, NDArray[Any]], bands: int) -> dict[str, NDArray[Any]]:
    """Return the weights of a denoiser, those of one Gaussian a combination as those of a mixture with one part."""
    if "prior.means" not in arrays or "prior.weights" in arrays:
        return arrays
    means, vectors = arrays["prior.means"], arrays["prior.vectors"]
    if (
        means.ndim != 2
        or vectors.ndim != 3
        or means.shape[1:] != vectors.shape[1:2]
        or (len(means) - 1) % (len(vectors) - 1)
    ):
        raise ValueError("the prior does not fit itself")
    groups = len(vectors)
    owner = np.append(np.repeat(np.arange(groups - 1), (len(means) - 1) // (groups - 1)), groups - 1)
    return arrays | {
        "prior.means": np.einsum("ck,ckj->cj", means, vectors[owner])[:, None],
        "prior.weights": np.zeros((groups, 1), np.float32),
        "prior.tail": np.full((groups, max(1, bands)), float(arrays["prior.tail"].ravel()[0]), np.float32),
    }


def _one_hot(places: Tensor, size: int) -> Tensor:
    """Return (rows, size) floats; written with a comparison, which `vmap` knows."""
    return (places[:, None] == torch.arange(size, device=places.device)).float()
