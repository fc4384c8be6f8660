"""Networks that draw images from latent normals and conditions; they see no patient, only what was paid for.

Conditions enter as embeddings, one for each column, that are added: a scarce combination shares each of its parts with
richer ones. Images grow from a quarter of their sides in two steps of convolutions whose channels are laid out in space
(sub-pixel convolutions, Shi et al. 2016), for pictures and volumes alike. To images that are not large one linear layer
adds the coarse picture, which convolutions alone learn slowly. Norms are group norms, by image.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpsynth.coding.codec import Codec
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.model import Floats32, ImageGenerator, ImageModel, Parts, declared_images

BATCH = 1024
"""Images that are computed at once."""
LARGEST = 1024
"""Widths that a file may ask for."""
GROUPS = 4
LINEAR = 8192
"""Values of an image up to which a linear layer adds to the convolutions."""


class Growing(nn.Module):
    """A generator: latent normals and codes of the conditions in, images in [0, 1] out.

    Parameters
    ----------
    shape
        Channels, then two or three sides.
    sizes
        The number of codes of each condition.
    latent
        Latent normals of an image.
    hidden
        Units of the two layers in front of the convolutions.
    width
        Channels of the first convolution; a multiple of 8.
    """

    def __init__(
        self, shape: Sequence[int], sizes: Sequence[int], *, latent: int = 32, hidden: int = 256, width: int = 32
    ) -> None:
        super().__init__()
        self.settings = {"latent": latent, "hidden": hidden, "width": width}
        self.latent, self.shape = latent, tuple(shape)
        sides = self.shape[1:]
        self._coarse = (width, *(math.ceil(side / 4) for side in sides))
        parts = 2 ** len(sides)  # places that one becomes when every side doubles
        self.given = nn.ModuleList([nn.Embedding(size, hidden) for size in sizes])
        self.first = nn.Linear(latent, hidden)
        self.body = nn.Sequential(
            nn.GroupNorm(GROUPS, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.GroupNorm(GROUPS, hidden),
            nn.SiLU(),
        )
        self.coarse = nn.Linear(hidden, math.prod(self._coarse))
        self.direct = nn.Linear(hidden, math.prod(self.shape)) if math.prod(self.shape) <= LINEAR else None
        self.middle = _stage(width, width // 2 * parts, len(sides))
        self.last = _stage(width // 2, shape[0] * parts, len(sides))

    def forward(self, latent: Tensor, codes: Tensor) -> Tensor:
        """Return (rows, channels, sides) images for (rows, latent) normals and (rows, columns) codes."""
        hidden = self.first(latent)
        for column, embedding in enumerate(self.given):
            hidden = hidden + embedding(codes[:, column])
        hidden = self.body(hidden)
        x = self.coarse(hidden).reshape(len(latent), *self._coarse)
        x = _doubled(self.last(_doubled(self.middle(x))))
        for axis, side in enumerate(self.shape[1:], start=2):
            x = x.narrow(axis, (x.shape[axis] - side) // 2, side)
        if self.direct is not None:
            x = x + self.direct(hidden).reshape(x.shape)
        return torch.sigmoid(x)


def _stage(inputs: int, outputs: int, dimensions: int) -> nn.Sequential:
    convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
    return nn.Sequential(nn.GroupNorm(GROUPS, inputs), nn.SiLU(), convolution(inputs, outputs, 3, padding=1))


def _doubled(x: Tensor) -> Tensor:
    """Lay 2^d channels out as one of twice the sides."""
    sides = x.shape[2:]
    d = len(sides)
    split = x.reshape(len(x), -1, *(2,) * d, *sides)
    order = [0, 1, *(axis for place in range(d) for axis in (2 + d + place, 2 + place))]
    return split.permute(order).reshape(len(x), -1, *(2 * side for side in sides))


def fresh(shape: Sequence[int], sizes: Sequence[int], *, seed: int = 0, **settings: int) -> Growing:
    """Return a network with first weights from a public seed, whatever torch's global state is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Growing(shape, sizes, **settings)


class NetworkGenerator:
    """Images from a trained network.

    Parameters
    ----------
    network
        What draws them.
    """

    def __init__(self, network: Growing) -> None:
        self.network = network

    def draw(self, codes: NDArray[np.int64], rng: np.random.Generator) -> Floats32:
        """Return images in [0, 1]."""
        images = np.empty((len(codes), *self.network.shape), np.float32)
        for start in range(0, len(codes), BATCH):
            part = slice(start, start + BATCH)
            images[part] = self._draw(codes[part], rng)
        return images

    @torch.no_grad()
    def _draw(self, codes: NDArray[np.int64], rng: np.random.Generator) -> Floats32:
        device = next(self.network.parameters()).device
        normal = rng.standard_normal((len(codes), self.network.latent), dtype=np.float32)
        images = self.network(torch.from_numpy(normal).to(device), torch.from_numpy(codes).to(device))
        return np.asarray(images.cpu().numpy(), dtype=np.float32)

    def to_parts(self) -> Parts:
        """Return sizes and weights."""
        arrays = {name: value.detach().cpu().numpy() for name, value in self.network.state_dict().items()}
        return dict(self.network.settings), arrays

    @classmethod
    def from_parts(
        cls, shape: tuple[int, ...], conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Self:
        """Check the parts, which come from a file, and build the generator."""
        settings = {name: int(config[name]) for name in ("latent", "hidden", "width")}
        if not all(1 <= value <= LARGEST for value in settings.values()):
            raise ValueError("a network is larger than any of ours")
        if settings["hidden"] % GROUPS or settings["width"] % (2 * GROUPS):
            raise ValueError("widths do not divide into groups")
        with torch.device("meta"):  # sizes of a file take no memory before the weights are known to be there
            network = Growing(shape, conditions.sizes, **settings)
        load_weights(network, arrays)
        return cls(network)


def load_weights(network: nn.Module, arrays: dict[str, NDArray[Any]]) -> None:
    """Put arrays of a file in the place of a network's weights; `ValueError` when they do not fit it."""
    if set(arrays) != set(network.state_dict()):
        raise ValueError("weights are missing, or are those of another network")
    weights = {}
    for name, value in network.state_dict().items():
        array = arrays[name]
        if array.shape != tuple(value.shape) or not np.isfinite(array).all():
            raise ValueError("weights do not fit the network")
        weights[name] = torch.from_numpy(array.astype(np.float32))
    network.load_state_dict(weights, assign=True)


class NetworkModel(ImageModel):
    """A table, and a network that draws images in one pass."""

    kind: ClassVar[str] = "image-generator"

    @classmethod
    def read_generator(
        cls, codec: Codec, conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> ImageGenerator:
        """Build the generator from its parts."""
        return NetworkGenerator.from_parts(declared_images(codec.schema).shape, conditions, config, arrays)
