"""Public fixed features of images: oriented energies on a grid, the same for every cohort; nothing is learned.

Each image is filtered by complex wavelets of eight directions at two scales (Gabor filters without a mean). The moduli,
and the image itself, are averaged over a coarse grid of smooth windows, as in the first order of a scattering
transform (Bruna & Mallat 2013). Square roots, a norm of each group by image, and unit length end it. Volumes are
filtered in each of their three planes; colours are averaged for the filters and kept apart on the grid.
"""

import math
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

DIRECTIONS = 8
SCALES = ((7, 0.96, 0.75 * math.pi, 1), (13, 1.92, 0.375 * math.pi, 2))
"""Size, spread and frequency of the wavelets in pixels, and the stride."""
SLANT = 0.6
GRID = {2: 7, 3: 4}
"""Windows along a side of a picture, and of a volume."""
SMALL = 1e-3


class Energies(nn.Module):
    """Maps (rows, channels, sides) images in [0, 1], two sides or three, to vectors of length 1; has no parameters."""

    def __init__(self) -> None:
        super().__init__()
        for place, (size, spread, frequency, _) in enumerate(SCALES):
            self.register_buffer(f"wavelets{place}", wavelets(size, spread, frequency), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (rows, values) features of (rows, channels, sides) images."""
        grey = x.mean(1)
        planes = list(combinations(range(1, grey.dim()), 2))
        groups = [_pooled(x)]
        for place, (_, _, _, stride) in enumerate(SCALES):
            bank = self.get_buffer(f"wavelets{place}")
            groups.append(torch.cat([_pooled(_moduli(grey, bank, stride, plane)).flatten(1) for plane in planes], 1))
        features = torch.cat([_normed(group) for group in groups], 1)
        unit: Tensor = features / features.norm(dim=1, keepdim=True).clamp_min(SMALL)
        return unit


def wavelets(size: int, spread: float, frequency: float) -> Tensor:
    """Return (2 directions, 1, size, size) real and imaginary parts of Gabor filters without a mean, of L1 norm 1."""
    place = torch.arange(size, dtype=torch.float64) - size // 2
    down, across = torch.meshgrid(place, place, indexing="ij")
    parts = []
    for direction in range(DIRECTIONS):
        angle = torch.tensor(math.pi * direction / DIRECTIONS)
        along = across * angle.cos() + down * angle.sin()
        beside = down * angle.cos() - across * angle.sin()
        window = torch.exp(-(along**2 + (SLANT * beside) ** 2) / (2 * spread**2))
        wave = window * torch.exp(1j * frequency * along)
        wave = wave - window * (wave.sum() / window.sum())
        wave = wave / wave.abs().sum()
        parts += [wave.real, wave.imag]
    return torch.stack(parts)[:, None].float()


def _moduli(grey: Tensor, bank: Tensor, stride: int, plane: tuple[int, int]) -> Tensor:
    """Return (rows, directions, sides) moduli of (rows, sides) images, filtered in the plane of two axes."""
    moved = torch.movedim(grey, plane, (-2, -1))
    reach = bank.shape[-1] // 2
    flat = pad(moved.reshape(-1, 1, *moved.shape[-2:]), (reach,) * 4, mode="replicate")
    moduli = conv2d(flat, bank, stride=stride)
    moduli = moduli.reshape(len(moduli), DIRECTIONS, 2, *moduli.shape[-2:]).square().sum(2).add(1e-8).sqrt()
    moduli = moduli.reshape(*moved.shape[:-2], *moduli.shape[1:])  # (rows, other axes, directions, plane)
    moduli = torch.movedim(moduli, -3, 1)
    return torch.movedim(moduli, (-2, -1), (plane[0] + 1, plane[1] + 1))


def _pooled(maps: Tensor) -> Tensor:
    """Return (rows, maps, grid) averages of (rows, maps, sides) over smooth windows."""
    for axis in range(2, maps.dim()):
        side = maps.shape[axis]
        weights = windows(side, GRID[maps.dim() - 2]).to(maps)
        maps = torch.movedim(torch.movedim(maps, axis, -1) @ weights.T, -1, axis)
    return maps


def windows(side: int, grid: int) -> Tensor:
    """Return (grid, side) overlapping cosine windows that sum to 1 each; no more windows than pixels."""
    count = min(grid, side)
    step = side / count
    centre = (torch.arange(count, dtype=torch.float64) + 0.5) * step - 0.5
    away = (torch.arange(side, dtype=torch.float64) - centre[:, None]).abs() / step
    places = torch.where(away < 1, (math.pi / 2 * away).cos().square(), 0.0)
    return places / places.sum(1, keepdim=True)


def _normed(group: Tensor) -> Tensor:
    """Return (rows, values) square roots, centred and scaled by image."""
    roots = group.clamp_min(0).sqrt().flatten(1)
    apart = roots - roots.mean(1, keepdim=True)
    return apart / (apart.square().mean(1, keepdim=True).sqrt() + SMALL)
