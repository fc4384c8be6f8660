"""Exact inference on a junction tree: log-space belief propagation.

Source: Koller and Friedman (2009), algorithm 10.1 (sum-product message passing, here in logarithms).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpsynth.models.tabular.graphical.junction_tree import Clique, JunctionTree

Array = NDArray[np.float64]

IMPOSSIBLE = -1e30
"""Log potential of a structural zero: below all that others add up to, and finite: no difference is a NaN."""


def log_sum(values: Array, axes: tuple[int, ...]) -> Array:
    """Return the logarithm of the sum of exponentials over `axes`, which are kept with size 1."""
    if not axes:
        return values
    top = values.max(axis=axes, keepdims=True)
    total = np.exp(values - top).sum(axis=axes, keepdims=True)
    return np.asarray(np.log(total) + top)


def shape_in(clique: Clique, columns: Clique, tree: JunctionTree) -> tuple[int, ...]:
    """Shape with which a table over `columns` (in clique order) broadcasts against the clique's table."""
    return tuple(tree.domain[c] if c in columns else 1 for c in clique)


class Route(NamedTuple):
    """How a message goes from one clique to another: axes to sum out, and its shape where it arrives."""

    axes: tuple[int, ...]
    shape: tuple[int, ...]


class Propagator:
    """Belief propagation on one junction tree, planned once and run often.

    Parameters
    ----------
    tree
        The junction tree. Its cliques stand parents first.

    Attributes
    ----------
    up, down
        For each clique the route to its parent, and from its parent.
    """

    def __init__(self, tree: JunctionTree):
        self.tree = tree
        self.shapes = [tuple(tree.domain[c] for c in clique) for clique in tree.cliques]
        self.up = [self._route(i, tree.parents[i]) for i in range(len(tree.cliques))]
        self.down = [self._route(tree.parents[i], i) for i in range(len(tree.cliques))]

    def _route(self, source: int, target: int) -> Route:
        if source < 0 or target < 0:
            return Route((), ())
        here, there = self.tree.cliques[source], self.tree.cliques[target]
        shared = tuple(c for c in here if c in there)
        axes = tuple(i for i, c in enumerate(here) if c not in shared)
        return Route(axes, shape_in(there, shared, self.tree))

    def beliefs(self, potentials: Sequence[Array]) -> tuple[list[Array], float]:
        """Log marginal of each clique, normalised, and the log partition function.

        Parameters
        ----------
        potentials
            Log potential of each clique, of the clique's shape.
        """
        beliefs = [np.array(p, dtype=np.float64) for p in potentials]
        messages: list[Array] = [np.zeros(())] * len(beliefs)
        for i in range(len(beliefs) - 1, 0, -1):
            axes, shape = self.up[i]
            messages[i] = log_sum(beliefs[i], axes)
            beliefs[self.tree.parents[i]] += messages[i].reshape(shape)
        log_partition = float(log_sum(beliefs[0], tuple(range(beliefs[0].ndim))).reshape(()))
        beliefs[0] -= log_partition
        for i in range(1, len(beliefs)):
            axes, shape = self.down[i]
            arriving = log_sum(beliefs[self.tree.parents[i]], axes).reshape(shape)
            beliefs[i] += arriving - messages[i].reshape(shape)
        return beliefs, log_partition

    def zeros(self) -> list[Array]:
        """Log potentials of the uniform distribution."""
        return [np.zeros(shape) for shape in self.shapes]
