"""Networks for rows: small, without anything that mixes patients."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

LARGEST = 4096
"""Hidden units or latent numbers that a file may ask for."""
BATCH = 8192
"""Rows that are computed at once."""


class MLP(nn.Module):
    """Linear layers with SiLU between them.

    Parameters
    ----------
    inputs, hidden, outputs, depth
        Sizes, and the number of hidden layers.
    normalised
        Put a LayerNorm behind each hidden layer.
    direct
        How many of the last inputs, the conditions, reach the outputs by a linear layer of their own as well: what the
        groups differ in is then learned first, which under noise may be all that is learned.
    """

    def __init__(
        self, inputs: int, hidden: int, outputs: int, *, depth: int = 2, normalised: bool = False, direct: int = 0
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = inputs
        for _ in range(depth):
            layers += [nn.Linear(width, hidden), *([nn.LayerNorm(hidden)] if normalised else []), nn.SiLU()]
            width = hidden
        self.last = nn.Linear(width, outputs)
        self.layers = nn.Sequential(*layers)
        self.direct = nn.Linear(direct, outputs, bias=False) if direct else None
        if self.direct is not None:
            nn.init.zeros_(self.direct.weight)
        self.sizes = {"hidden": hidden, "depth": depth, "normalised": normalised, "direct": direct}

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (..., outputs)."""
        outputs: Tensor = self.last(self.layers(inputs))
        if self.direct is not None:
            outputs = outputs + self.direct(inputs[..., inputs.shape[-1] - self.direct.in_features :])
        return outputs


class Discriminator(nn.Module):
    """A critic of rows and their conditions: a network of both, and what each condition makes of each feature.

    The second is linear in the products of conditions and features, so that how the conditions' groups differ is seen
    before a network would have learned it. Source: Miyato and Koyama (2018), cGANs with projection discriminator.

    Parameters
    ----------
    width, given
        Numbers of a row, and of its conditions.
    hidden
        Units of each of the two hidden layers.
    seed
        Of the first weights.
    """

    def __init__(self, width: int, conditions: int, hidden: int, seed: int) -> None:
        super().__init__()
        self.network = fresh(seed, width + conditions, hidden, 1, depth=2)
        self.projection = nn.Linear(width, max(conditions, 1), bias=False)
        nn.init.zeros_(self.projection.weight)

    def forward(self, rows: Tensor, conditions: Tensor) -> Tensor:
        """Return (...,) log-odds that rows are patients'."""
        odds: Tensor = self.network(torch.cat([rows, conditions], dim=-1))[..., 0]
        if conditions.shape[-1]:
            odds = odds + (self.projection(rows) * conditions).sum(-1)
        return odds


def seeded(seed: int) -> torch.Generator:
    """Return a generator for randomness that protects nobody: first weights, latent vectors of a generator."""
    return torch.Generator().manual_seed(seed)


def fresh(seed: int, inputs: int, hidden: int, outputs: int, **options: Any) -> MLP:
    """Return a network with first weights from a public seed, whatever torch's global state is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MLP(inputs, hidden, outputs, **options)


def saved(network: nn.Module) -> dict[str, NDArray[Any]]:
    """Return a network's weights as arrays."""
    return {f"net.{name}": value.detach().cpu().numpy() for name, value in network.state_dict().items()}


def restored(sizes: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], inputs: int, outputs: int) -> MLP:
    """Return the network of a file; `ValueError` when it does not fit what is known of it."""
    hidden, depth = int(sizes["hidden"]), int(sizes["depth"])
    direct = int(sizes["direct"])
    if not (1 <= hidden <= LARGEST and 0 <= depth <= 16 and 0 <= direct <= inputs):
        raise ValueError("a network is larger than any of ours")
    network = MLP(inputs, hidden, outputs, depth=depth, normalised=bool(sizes["normalised"]), direct=direct)
    weights = {}
    for name, value in network.state_dict().items():
        array = arrays[f"net.{name}"]
        if array.shape != tuple(value.shape) or not np.isfinite(array).all():
            raise ValueError("weights do not fit the network")
        weights[name] = torch.from_numpy(array.astype(np.float32))
    network.load_state_dict(weights)
    return network


def normal(rng: np.random.Generator, *shape: int) -> Tensor:
    """Return standard normals from NumPy's generator, so that a draw is repeatable."""
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def gumbel(generator: torch.Generator, *shape: int) -> Tensor:
    """Return standard Gumbel noise."""
    return -torch.log(-torch.log(torch.rand(*shape, generator=generator).clamp(1e-10, 1 - 1e-7)))
