"""The running average of a network's weights: the noise of single steps averages out, and nothing is spent on it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class Average:
    """A running average of a network's weights.

    Parameters
    ----------
    network
        Whose weights.
    past
        Weight of the past in an update.
    first, span
        The past weighs at most ``n / (n + span)`` while updates are few; n counts them from ``first``. A span of 0 has
        the past weigh the same from the start.
    """

    def __init__(self, network: nn.Module, past: float, *, first: int = 1, span: int = 9) -> None:
        self._network, self._past, self._span, self._count = network, past, span, first
        self._kept = [p.detach().clone() for p in network.parameters()]

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights in."""
        share = 1 - min(self._past, self._count / (self._count + self._span))
        self._count += 1
        for kept, parameter in zip(self._kept, self._network.parameters(), strict=True):
            kept.lerp_(parameter, share)

    @torch.no_grad()
    def finish(self) -> None:
        """Put the average in the place of the present weights."""
        for kept, parameter in zip(self._kept, self._network.parameters(), strict=True):
            parameter.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the average as it is, for a checkpoint."""
        return {"count": self._count, "kept": self._kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._count = int(state["count"])
        for kept, weights in zip(self._kept, state["kept"], strict=True):
            kept.copy_(weights)
