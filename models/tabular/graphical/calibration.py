"""Calibrated clique tables that are rescaled in place: what estimation works on, block by block.

Source: Jensen, Lauritzen and Olesen (1990), Bayesian updating in causal probabilistic networks by local computations:
a clique's table is multiplied by the new over the old marginal of its separator.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from dpsynth.models.tabular.graphical.junction_tree import JunctionTree
from dpsynth.models.tabular.graphical.propagation import IMPOSSIBLE, Array, Propagator

SMALLEST = 1e-290
"""Separators below this are taken for empty: a ratio to them could overflow."""
FAINTEST = -600.0
"""Log probability that a cell keeps in the tables, however small it is, unless it is a structural zero."""


class CliqueTables:
    """Probability tables of the cliques of a junction tree.

    The table of the clique that a `walk` has arrived at is always right; others may still lack what was changed
    elsewhere since they were left.

    Parameters
    ----------
    propagator
        Belief propagation on the tree.
    beliefs
        Log marginal of each clique, calibrated.
    """

    def __init__(self, propagator: Propagator, beliefs: Sequence[Array]):
        self._propagator = propagator
        self.tables = [np.where(b > 0.5 * IMPOSSIBLE, np.exp(np.maximum(b, FAINTEST)), 0.0) for b in beliefs]
        self._separators = [np.ones(())]
        for child in range(1, len(self.tables)):
            self._separators.append(self.tables[child].sum(axis=propagator.up[child].axes))
        self._route = _depth_first(propagator.tree)

    def walk(self) -> Iterator[int]:
        """Go once through the whole tree and back, carrying changes along; each clique is yielded on arrival."""
        yield 0
        for child, down in self._route:
            if down:
                self._pass_down(child)
                yield child
            else:
                self._pass_up(child)

    def beliefs(self) -> list[Array]:
        """Log marginal of each clique, after what is still on its way has been carried down from the root."""
        for child in range(1, len(self.tables)):
            self._pass_down(child)
        with np.errstate(divide="ignore"):
            return [np.maximum(np.log(table / table.sum()), IMPOSSIBLE) for table in self.tables]

    def _pass_down(self, child: int) -> None:
        route = self._propagator.down[child]
        message = self.tables[self._propagator.tree.parents[child]].sum(axis=route.axes)
        self.tables[child] *= self._news(child, message).reshape(route.shape)

    def _pass_up(self, child: int) -> None:
        route = self._propagator.up[child]
        message = self.tables[child].sum(axis=route.axes)
        self.tables[self._propagator.tree.parents[child]] *= self._news(child, message).reshape(route.shape)

    def _news(self, child: int, message: Array) -> Array:
        """Ratio of a separator's new marginal to the old one, which is replaced."""
        old, self._separators[child] = self._separators[child], np.asarray(message)
        return np.divide(message, old, out=np.zeros(old.shape), where=old > SMALLEST)


def _depth_first(tree: JunctionTree) -> list[tuple[int, bool]]:
    """Edges, each named by its child, in the order of a walk from the root and back; True on the way down."""
    children: list[list[int]] = [[] for _ in tree.cliques]
    for i, parent in enumerate(tree.parents):
        if parent >= 0:
            children[parent].append(i)
    route: list[tuple[int, bool]] = []
    stack = [(child, True) for child in children[0]]
    while stack:
        child, down = stack.pop()
        route.append((child, down))
        if down:
            stack.append((child, False))
            stack += [(grandchild, True) for grandchild in children[child]]
    return route
