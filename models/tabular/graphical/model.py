"""A fitted graphical model: its marginals, its records, and both under a condition."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dpsynth.models.tabular.graphical.junction_tree import Clique, JunctionTree
from dpsynth.models.tabular.graphical.pairs import Pairs
from dpsynth.models.tabular.graphical.products import sum_product, take
from dpsynth.models.tabular.graphical.propagation import IMPOSSIBLE, Array, Propagator, shape_in
from dpsynth.models.tabular.graphical.shuffling import shuffled_by_group

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
        """Return the probabilities of the combinations of `columns`, in their order.

        Columns that no clique holds together are joined along the tree by variable elimination: only the asked
        columns and the separators that are still open are carried.
        """
        home = self.tree.home(columns)
        if home is not None:
            return take(np.exp(self.beliefs[home]), self.tree.cliques[home], tuple(columns))
        wanted, keep = set(columns), self._subtree(columns)
        carried: dict[int, list[tuple[Array, Clique]]] = {i: [] for i in keep}
        for i in sorted(keep, reverse=True):
            above = self.tree.separators[i] if self.tree.parents[i] in keep else ()
            table, clique = self._conditional(i, is_root=not above and self.tree.parents[i] not in keep)
            needed = wanted.union(above, *(names for _, names in carried[i]))
            names = tuple(c for c in clique if c in needed)
            operands = [(take(table, clique, names), names), *carried[i]]
            staying = tuple(dict.fromkeys(c for _, some in operands for c in some if c in wanted or c in above))
            if self.tree.parents[i] not in keep:
                return sum_product(operands, tuple(columns))
            carried[self.tree.parents[i]].append((sum_product(operands, staying), staying))
        raise AssertionError("a subtree has a root")

    def _subtree(self, columns: Sequence[str]) -> set[int]:
        """Cliques of a connected part of the tree that together hold the columns, without spare ones at its ends."""
        wanted, cliques = set(columns), [set(clique) for clique in self.tree.cliques]
        keep: set[int] = set()
        for column in columns:
            i = next(k for k, clique in enumerate(cliques) if column in clique)
            while i >= 0 and i not in keep:
                keep.add(i)
                i = self.tree.parents[i]
        root = min(keep)
        while True:  # down from the root, as long as all that is wanted is below
            children = [i for i in keep if self.tree.parents[i] == root]
            if len(children) != 1 or not wanted & cliques[root] <= cliques[children[0]]:
                return keep
            keep.remove(root)
            root = children[0]

    def pairs(self) -> dict[tuple[str, str], Array]:
        """Return the marginals of all pairs of columns, at far less cost than as many calls of `marginal`."""
        return Pairs(self.tree, self.beliefs).all()

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
        table = take(np.exp(self.beliefs[i]), self.tree.cliques[i], separator + new)
        split = len(separator)
        groups = np.zeros(n, dtype=np.int64)
        if separator:
            groups = np.ravel_multi_index([drawn[c] for c in separator], table.shape[:split])
        flat = table.reshape(int(np.prod(table.shape[:split])), -1)
        sizes = np.bincount(groups, minlength=len(flat))
        present = np.flatnonzero(sizes)
        counts = _whole_counts(flat[present], sizes[present], rng)
        cells = np.repeat(np.tile(np.arange(flat.shape[1]), len(present)), counts.ravel())
        by_group = shuffled_by_group(groups, len(flat), rng)
        codes = np.empty(n, dtype=np.int64)
        codes[by_group] = cells
        for column, values in zip(new, np.unravel_index(codes, table.shape[split:]), strict=True):
            drawn[column] = values  # noqa: PERF403 - it fills the caller's dictionary


def _whole_counts(weights: Array, sizes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Integer counts, a row of `weights` each, that sum to `sizes` and whose mean is proportional to the weights.

    Systematic sampling: every count is its expectation rounded up or down.
    """
    sums = np.cumsum(weights, axis=1)
    if (sums[:, -1] <= 0).any():
        sums = np.where(sums[:, -1:] > 0, sums, np.arange(1, weights.shape[1] + 1))
    ends = np.floor(sums * (sizes[:, None] / sums[:, -1:]) + rng.random((len(sizes), 1)))
    # From the last cell with any weight on the sum is exact: rounding must not leave a crumb to cells without.
    ends = np.where(sums >= sums[:, -1:], sizes[:, None], np.minimum(ends, sizes[:, None]))
    return np.asarray(np.diff(ends, axis=1, prepend=0), dtype=np.int64)
