"""What the joint model tells apart: of each column exactly what a table that was asked about it tells apart.

Bins between which no measured table distinguishes have, given the rest, the same distribution in the maximum-entropy
model; so they are merged to one *state* before the fit, and share its rows as they were counted. A column that hardly
goes with anything has few states, one whose associations deserve it has many, and the junction tree is no larger than
the questions make it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]

__all__ = ["States", "joined"]


def joined(first: Codes, second: Codes) -> Codes:
    """Return the coarsest grouping that tells apart whatever one of two groupings does; orders are kept.

    Examples
    --------
    >>> joined(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2]))
    array([0, 0, 1, 2, 3, 3])
    """
    if not second.any():
        return first
    pairs = first * (int(second.max()) + 1) + second
    return np.asarray(np.unique(pairs, return_inverse=True)[1], dtype=np.int64).reshape(-1)


@dataclass(frozen=True)
class States:
    """The state of each bin of each column.

    Attributes
    ----------
    maps
        For each column the state of each bin, from 0.
    """

    maps: Mapping[str, Codes]

    @property
    def domain(self) -> dict[str, int]:
        """Number of states of each column."""
        return {name: int(codes.max()) + 1 for name, codes in self.maps.items()}

    def telling(self, *groups: Mapping[str, Codes]) -> "States":
        """Return states that also tell apart these groups of bins."""
        maps = dict(self.maps)
        for table in groups:
            for name, codes in table.items():
                maps[name] = joined(maps[name], codes)
        return States(maps)
