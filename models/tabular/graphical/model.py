"""A fitted graphical model: its marginals, its records, and both under a condition."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dpsynth.models.tabular.graphical.junction_tree import Clique, JunctionTree
from dpsynth.models.tabular.graphical.propagation import IMPOSSIBLE, Array, Propagator, shape_in

Codes = NDArray[np.int64]


class GraphicalModel:
    """A distribution over a discrete domain, as calibrated beliefs on a junction tree.

    Parameters
    ----------
    tree
        The junction tree.
    beliefs
        Log marginal of each clique, each normalised and consistent with its neighbours.
    """

    def __init__(self, tree: JunctionTree, beliefs: Sequence[Array]):
        self.tree = tree
        self.beliefs = list(beliefs)

    @property
    def domain(self) -> Mapping[str, int]:
        """Size of each column, in column order."""
        return self.tree.domain

    def marginal(self, columns: Sequence[str]) -> Array:
        """Probabilities of the combinations of `columns`, in their order; also where no clique holds them all.

        Columns that no clique holds together are joined along the tree by variable elimination: only the asked
        columns and the separators that are still open are carried.
        """
        home = self.tree.home(columns)
        if home is not None:
            return _take(np.exp(self.beliefs[home]), self.tree.cliques[home], tuple(columns))
        wanted = set(columns)
        carried: dict[int, tuple[Clique, Array]] = {}
        keep = self._subtree(wanted)
        for i in sorted(keep, reverse=True):
            table, names = self._conditional(i, is_root=self.tree.parents[i] not in keep)
            for child in (j for j in keep if self.tree.parents[j] == i):
                below, message = carried.pop(child)
                table, names = _multiply(table, names, message, below)
            open_columns = self.tree.separators[i] if self.tree.parents[i] in keep else ()
            staying = tuple(c for c in names if c in wanted or c in open_columns)
            carried[i] = (staying, _take(table, names, staying))
        names, table = carried[min(keep)]
        return _take(table, names, tuple(columns))

    def _subtree(self, wanted: set[str]) -> set[int]:
        """Cliques of a connected part of the tree that together hold the `wanted` columns."""
        keep = set(range(len(self.tree.cliques)))
        while True:
            inner = {self.tree.parents[i] for i in keep} - {-1}
            leaf = next((i for i in sorted(keep - inner, reverse=True) if self._spare(i, keep, wanted)), None)
            if leaf is None:
                return self._trim_root(keep, wanted)
            keep.remove(leaf)

    def _spare(self, leaf: int, keep: set[int], wanted: set[str]) -> bool:
        if len(keep) == 1:
            return False
        return not (wanted & set(self.tree.cliques[leaf])) - set(self.tree.separators[leaf])

    def _trim_root(self, keep: set[int], wanted: set[str]) -> set[int]:
        while len(keep) > 1:
            root = min(keep)
            children = [i for i in keep if self.tree.parents[i] == root]
            if len(children) != 1 or (wanted & set(self.tree.cliques[root])) - set(self.tree.separators[children[0]]):
                return keep
            keep = keep - {root}
        return keep

    def _conditional(self, i: int, *, is_root: bool) -> tuple[Array, Clique]:
        """Return the clique's table given its separator (the joint table for the root)."""
        clique = self.tree.cliques[i]
        table = np.exp(self.beliefs[i])
        if is_root:
            return table, clique
        axes = tuple(k for k, c in enumerate(clique) if c not in self.tree.separators[i])
        total = table.sum(axis=axes, keepdims=True)
        return np.divide(table, total, out=np.zeros_like(table), where=total > 0), clique

    def given(self, evidence: Mapping[str, Array]) -> tuple["GraphicalModel", float]:
        """Return the model under a condition, and the condition's probability.

        Parameters
        ----------
        evidence
            For each column the probability that a record with each code meets the condition.

        Returns
        -------
        tuple
            The conditional model and the probability of the condition; where that is 0 the model is useless.
        """
        potentials = [self._log_conditional(i) for i in range(len(self.beliefs))]
        for column, chance in evidence.items():
            with np.errstate(divide="ignore"):
                logs = np.maximum(np.log(np.asarray(chance, dtype=np.float64)), IMPOSSIBLE)
            i = next(k for k, clique in enumerate(self.tree.cliques) if column in clique)
            potentials[i] = potentials[i] + logs.reshape(shape_in(self.tree.cliques[i], (column,), self.tree))
        beliefs, log_chance = Propagator(self.tree).beliefs(potentials)
        return GraphicalModel(self.tree, beliefs), float(np.exp(log_chance))

    def _log_conditional(self, i: int) -> Array:
        table, _ = self._conditional(i, is_root=i == 0)
        with np.errstate(divide="ignore"):
            return np.asarray(np.maximum(np.log(table), IMPOSSIBLE))

    def sample(self, n: int, rng: np.random.Generator) -> dict[str, Codes]:
        """Draw `n` records whose counts keep as close to the model's expectation as whole records can.

        Clique by clique, each group of records with the same separator gets the whole part of its expected
        counts and a systematic draw of the remainders, then a random order within the group.
        """
        drawn: dict[str, Codes] = {}
        for i, clique in enumerate(self.tree.cliques):
            separator = self.tree.separators[i]
            new = tuple(c for c in clique if c not in separator)
            if new:
                self._extend(drawn, i, new, n, rng)
        order = rng.permutation(n)
        return {column: drawn[column][order] for column in self.domain}

    def _extend(self, drawn: dict[str, Codes], i: int, new: Clique, n: int, rng: np.random.Generator) -> None:
        separator = self.tree.separators[i]
        table = _take(np.exp(self.beliefs[i]), self.tree.cliques[i], separator + new)
        split = len(separator)
        groups = np.zeros(n, dtype=np.int64)
        if separator:
            groups = np.ravel_multi_index([drawn[c] for c in separator], table.shape[:split])
        flat = table.reshape(int(np.prod(table.shape[:split])), -1)
        present, member = np.unique(groups, return_inverse=True)
        sizes = np.bincount(member, minlength=len(present))
        cells = np.repeat(
            np.tile(np.arange(flat.shape[1]), len(present)), _whole_counts(flat[present], sizes, rng).ravel()
        )
        by_group = np.lexsort((rng.random(n), member))
        codes = np.empty(n, dtype=np.int64)
        codes[by_group] = cells
        for column, values in zip(new, np.unravel_index(codes, table.shape[split:]), strict=True):
            drawn[column] = values  # noqa: PERF403 - it fills the caller's dictionary


def _whole_counts(weights: Array, sizes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Integer counts, a row of `weights` each, that sum to `sizes` and whose mean is proportional to the weights."""
    total = weights.sum(axis=1, keepdims=True)
    blank = total[:, 0] <= 0
    if blank.any():
        weights = np.where(blank[:, None], 1.0, weights)
        total = weights.sum(axis=1, keepdims=True)
    ends = np.cumsum(weights, axis=1) * (sizes[:, None] / total)
    ends[:, -1] = sizes
    ends = np.floor(ends + rng.random((len(sizes), 1)))
    ends[:, -1] = sizes
    ends = np.minimum(ends, sizes[:, None])
    return np.asarray(np.diff(ends, axis=1, prepend=0), dtype=np.int64)


def _take(table: Array, names: Clique, wanted: Clique) -> Array:
    """Sum a table over `names` down to `wanted`, in the order of `wanted`."""
    axes = tuple(i for i, c in enumerate(names) if c not in wanted)
    left = tuple(c for c in names if c in wanted)
    return np.asarray(np.transpose(table.sum(axis=axes), [left.index(c) for c in wanted]))


def _multiply(table: Array, names: Clique, other: Array, other_names: Clique) -> tuple[Array, Clique]:
    joined = names + tuple(c for c in other_names if c not in names)
    sizes = dict(zip(other_names, other.shape, strict=True))
    turned = other.transpose(sorted(range(other.ndim), key=lambda axis: joined.index(other_names[axis])))
    left = table.reshape(*table.shape, *(1 for _ in joined[len(names) :]))
    return left * turned.reshape([sizes.get(c, 1) for c in joined]), joined
