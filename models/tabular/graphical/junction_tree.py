"""From a set of cliques to a junction tree: triangulation, maximal cliques, separators.

Graphs are small (a node a column) but are triangulated thousands of times while a mechanism looks for the
cliques that it can afford, so neighbourhoods are Python integers used as bit sets.

Source: Koller and Friedman, Probabilistic Graphical Models (2009), sections 9.4 and 10.4.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import combinations
from math import prod

Clique = tuple[str, ...]


@dataclass(frozen=True)
class JunctionTree:
    """A forest of cliques joined to one tree, with the running intersection property.

    Attributes
    ----------
    domain
        Size of each column, in column order.
    cliques
        Maximal cliques of the triangulated graph, each in column order; every column is in at least one.
        They stand in depth-first order: ``cliques[0]`` is the root and parents come before children.
    parents
        For each clique the index of its parent, -1 for the root.
    """

    domain: Mapping[str, int]
    cliques: tuple[Clique, ...]
    parents: tuple[int, ...]

    @cached_property
    def separators(self) -> tuple[Clique, ...]:
        """Columns that each clique shares with its parent; empty for the root and between unconnected parts."""
        shared = (
            () if parent < 0 else tuple(c for c in clique if c in self.cliques[parent])
            for clique, parent in zip(self.cliques, self.parents, strict=True)
        )
        return tuple(shared)

    @cached_property
    def cells(self) -> int:
        """Cells of all cliques together: memory and time of inference grow with it."""
        return sum(prod(self.domain[c] for c in clique) for clique in self.cliques)

    def home(self, columns: Iterable[str]) -> int | None:
        """Index of the smallest clique that holds all `columns`, or None where none does."""
        wanted = set(columns)
        homes = [i for i, clique in enumerate(self.cliques) if wanted <= set(clique)]
        return min(homes, key=lambda i: prod(self.domain[c] for c in self.cliques[i]), default=None)


def build(domain: Mapping[str, int], cliques: Iterable[Iterable[str]]) -> JunctionTree:
    """Triangulate the graph of `cliques` and join its maximal cliques to a junction tree.

    Parameters
    ----------
    domain
        Size of each column; columns that no clique names become cliques of their own.
    cliques
        Groups of columns that must stand together in one clique of the tree.
    """
    domain = {name: int(size) for name, size in domain.items()}
    names = list(domain)
    maximal = [[names[i] for i in _bits(members)] for members in _maximal_cliques(domain, cliques)]
    return _span(domain, [tuple(members) for members in maximal])


def cells(domain: Mapping[str, int], cliques: Iterable[Iterable[str]]) -> int:
    """Cells of the junction tree that `build` would make, without joining it."""
    sizes = [int(size) for size in domain.values()]
    return sum(prod(sizes[i] for i in _bits(members)) for members in _maximal_cliques(domain, cliques))


def _bits(members: int) -> Iterable[int]:
    while members:
        low = members & -members
        yield low.bit_length() - 1
        members ^= low


def _maximal_cliques(domain: Mapping[str, int], cliques: Iterable[Iterable[str]]) -> list[int]:
    index = {name: i for i, name in enumerate(domain)}
    neighbours = [0] * len(index)
    for clique in cliques:
        for a, b in combinations(clique, 2):
            neighbours[index[a]] |= 1 << index[b]
            neighbours[index[b]] |= 1 << index[a]
    return _eliminate(neighbours, [int(size) for size in domain.values()])


def _eliminate(neighbours: list[int], sizes: list[int]) -> list[int]:
    """Maximal cliques that arise when columns are eliminated, at each step the one that makes the smallest clique.

    The min-weight rule: it keeps the tables small rather than the number of fill edges. A clique can lie only in one of
    those that arose before and hold its own column.
    """
    weights = [prod(sizes[j] for j in _bits(around | 1 << i)) for i, around in enumerate(neighbours)]
    waiting = [(weight, i) for i, weight in enumerate(weights)]
    heapify(waiting)
    holding: list[list[int]] = [[] for _ in neighbours]
    maximal = []
    while waiting:
        weight, i = heappop(waiting)
        if weight != weights[i]:
            continue  # an older weight of this column, or the column is gone
        weights[i] = 0
        around = neighbours[i]
        members = around | 1 << i
        if not any(members & other == members for other in holding[i]):
            maximal.append(members)
        for j in _bits(around):
            holding[j].append(members)
            fresh = around & ~(neighbours[j] | 1 << j)
            neighbours[j] = (neighbours[j] | fresh) & ~(1 << i)
            new = weights[j] // sizes[i] * prod(sizes[m] for m in _bits(fresh))
            if new != weights[j]:
                weights[j] = new
                heappush(waiting, (new, j))
    return maximal


def _span(domain: Mapping[str, int], cliques: list[Clique]) -> JunctionTree:
    """Join cliques by a maximum spanning tree on the number of shared columns (Prim), root first."""
    sets = [set(clique) for clique in cliques]
    order, parents = [0], [-1]
    best = {i: (len(sets[0] & sets[i]), 0) for i in range(1, len(cliques))}
    while best:
        i = max(best, key=lambda j: best[j][0])
        order.append(i)
        parents.append(best.pop(i)[1])
        for j, (weight, _) in best.items():
            shared = len(sets[i] & sets[j])
            if shared > weight:
                best[j] = (shared, i)
    place = {clique: position for position, clique in enumerate(order)}
    return JunctionTree(
        domain,
        tuple(cliques[i] for i in order),
        tuple(-1 if parent < 0 else place[parent] for parent in parents),
    )
