"""The exact denoiser of the moments model: what a diffusion model begins with, so that it needs no warm-up.

For ``y = x + sigma n`` with ``x`` from a Gaussian of mean ``m`` and covariance ``C``, the expectation of ``x`` given
``y`` is ``m + C (C + sigma^2)^-1 (y - m)``: in the eigenvectors of ``C`` each coordinate shrinks by itself. A network
trained for ever on samples of the moments model would come to this. Frequencies that were not measured have a flat
variance, a public fraction of that of the highest that were.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from dpsynth.models.image.moments import Basis

if TYPE_CHECKING:
    from dpsynth.models.image.moments import MomentsGenerator

TAIL = 0.3
"""Variance of the frequencies that were not measured over that of the highest fifth of those that were."""


class GaussianPrior(nn.Module):
    """Gaussians over low frequencies by condition, and their denoiser; all buffers, nothing to train.

    Parameters
    ----------
    shape
        Channels and sides of an image.
    sizes
        Codes of each condition; one code more stands for "not said", of all conditions at once.
    count
        Coefficients.
    """

    matrix: Tensor
    means: Tensor
    values: Tensor
    vectors: Tensor
    tail: Tensor

    def __init__(self, shape: Sequence[int], sizes: Sequence[int], count: int) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        matrix = torch.from_numpy(Basis(tuple(shape), count).matrix).float()
        size, groups = len(matrix), (sizes[0] if sizes else 1) + 1
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("means", torch.zeros(math.prod(sizes) + 1, size))
        self.register_buffer("values", torch.ones(groups, size))
        self.register_buffer("vectors", torch.eye(size).repeat(groups, 1, 1))
        self.register_buffer("tail", torch.zeros(1))

    @classmethod
    def of(cls, moments: "MomentsGenerator") -> Self:
        """Return the denoiser of a moments model, for pixels in [-1, 1]."""
        prior = cls(moments.basis.shape, moments.conditions.sizes, len(moments.basis))
        scale = torch.from_numpy(moments.radius / moments.basis.weights)
        grey = torch.from_numpy(moments.basis.matrix).sum(1)  # coefficients of an image of ones
        means = 2 * torch.from_numpy(moments.means) * scale - grey
        roots = 2 * torch.from_numpy(moments.roots) * scale[:, None]
        inside = roots @ roots.mT
        groups = len(inside)
        centres = means.reshape(groups, -1, means.shape[1]).mean(1)
        apart = centres - centres.mean(0)
        every = torch.cat([inside, (inside.mean(0) + apart.T @ apart / groups)[None]])
        values, vectors = torch.linalg.eigh(every)
        prior.means.copy_(torch.cat([means, means.mean(0, keepdim=True)]))
        prior.values.copy_(values.clamp_min(1e-8))
        prior.vectors.copy_(vectors)
        highest = torch.diagonal(inside, dim1=1, dim2=2)[:, -max(1, len(scale) // 5) :]
        prior.tail.copy_(TAIL * highest.mean())
        return prior

    def forward(self, noisy: Tensor, sigma: Tensor, codes: Tensor) -> Tensor:
        """Return (rows, channels, sides) expected images for noisy ones, (rows,) levels and (rows, columns) codes."""
        flat, variance = noisy.flatten(1), sigma.square()[:, None]
        coefficients = flat @ self.matrix.T
        rest = flat - coefficients @ self.matrix
        cell, group = self._places(codes)
        mean = _one_hot(cell, len(self.means)) @ self.means
        chosen = _one_hot(group, len(self.values))
        turned = torch.einsum("rk,gkj->rgj", coefficients - mean, self.vectors)
        kept = turned * (self.values / (self.values + variance[:, None])) * chosen[:, :, None]
        coefficients = mean + torch.einsum("rgj,gkj->rk", kept, self.vectors)
        return (coefficients @ self.matrix + rest * (self.tail / (self.tail + variance))).reshape(noisy.shape)

    def _places(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (rows,) combinations, and values of the first condition; the last of each is "not said"."""
        cell = codes.new_zeros(len(codes))
        if not self.sizes:
            return cell, cell
        for column, size in enumerate(self.sizes):
            cell = cell * size + codes[:, column]
        group = codes[:, 0]
        return torch.where(group == self.sizes[0], math.prod(self.sizes), cell), group


def _one_hot(places: Tensor, size: int) -> Tensor:
    """Return (rows, size) floats; written with a comparison, which `vmap` knows."""
    return (places[:, None] == torch.arange(size, device=places.device)).float()
