"""Marginals of all pairs of columns: the questions that adaptive mechanisms ask of a model, answered at once."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from dpsynth.models.tabular.graphical.junction_tree import Clique, JunctionTree
from dpsynth.models.tabular.graphical.products import sum_product, take
from dpsynth.models.tabular.graphical.propagation import Array


class Pairs:
    """Joint tables of one column with others, carried through the tree from separator to separator.

    Parameters
    ----------
    tree
        The junction tree.
    beliefs
        Log marginal of each clique, calibrated.
    """

    def __init__(self, tree: JunctionTree, beliefs: Sequence[Array]):
        self._tree = tree
        self._tables = [np.exp(belief) for belief in beliefs]
        self._beside: list[list[int]] = [[] for _ in beliefs]
        for i, parent in enumerate(tree.parents[1:], start=1):
            self._beside[i].append(parent)
            self._beside[parent].append(i)

    def all(self) -> dict[tuple[str, str], Array]:
        """Return the marginal of every pair of columns, both in domain order."""
        tables = {(column, other): table for column in self._tree.domain for other, table in self._of(column)}
        return {pair: tables[pair] for pair in combinations(self._tree.domain, 2)}

    def _of(self, column: str) -> Iterator[tuple[str, Array]]:
        """Walk away from the cliques that hold a column, to all others."""
        cliques = self._tree.cliques
        walk: list[tuple[int, int, Array]] = []
        for i in (i for i, clique in enumerate(cliques) if column in clique):
            yield from ((c, take(self._tables[i], cliques[i], (column, c))) for c in cliques[i] if c != column)
            onwards = [j for j in self._beside[i] if column not in cliques[j]]
            walk += [(i, j, take(self._tables[i], cliques[i], (column, *self._shared(i, j)))) for j in onwards]
        while walk:
            source, i, message = walk.pop()
            shared = self._shared(source, i)
            yield from ((c, self._carry(i, column, message, shared, (c,))) for c in cliques[i] if c not in shared)
            onwards = [j for j in self._beside[i] if j != source]
            walk += [(i, j, self._carry(i, column, message, shared, self._shared(i, j))) for j in onwards]

    def _shared(self, i: int, j: int) -> Clique:
        return tuple(c for c in self._tree.cliques[i] if c in self._tree.cliques[j])

    def _carry(self, i: int, column: str, message: Array, shared: Clique, wanted: Clique) -> Array:
        """Joint table of the column and the `wanted` ones of clique i, from that with the `shared` ones."""
        both = shared + tuple(c for c in wanted if c not in shared)
        table = take(self._tables[i], self._tree.cliques[i], both)
        weight = take(table, both, shared)
        conditional = np.divide(message, weight, out=np.zeros_like(message), where=weight > 0)
        return sum_product([(conditional, (column, *shared)), (table, both)], (column, *wanted))
