"""Records that agree with every measured pair: what the junction tree had to leave out is put in by nudging the draw.

A tree holds the pairs that fit in it; the others were measured too. Records are drawn from the tree and then swept,
column by column. Given the rest of a record the tree draws the column from p; wanted is ``q ~ p prod (t / c)^b`` over
the tables with the column, t what a table should be, c what it is, b one over their number. A record keeps its value
with probability ``min(1, q / p)`` and else draws from ``(q - p)+``: the maximal coupling, which moves as few as can be,
and none where the tables agree. What is impossible under the tree (structural zeros) has p = 0 and stays so.

What a table should be. The pairs that the tree holds and the columns alone keep what was drawn. Of a pair that it left
out ``e`` is the measured interaction less the tree's, f free cells with noise of variance v; its energy S is pooled by
empirical Bayes over all of them, and the table should be the tree's and ``S / (S + f v)`` of e. Pairs of which less
than `BELIEVED` is believed are left alone: so where noise is large nothing is nudged.

Sources: Zhang et al. (2021), PrivSyn, section 4.4, for updating records until they agree; den Hollander (2012),
Probability theory: the coupling method, section 2.4, for the maximal coupling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dpsynth.models.tabular.graphical.estimation import centring
from dpsynth.models.tabular.graphical.model import GraphicalModel
from dpsynth.models.tabular.marginals.interactions import Interaction, Pair, energies

__all__ = ["Wanted", "nudged", "wanted"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

BELIEVED = 0.5
"""Share of a table's difference that must be believed for it to be nudged: more signal than noise."""
SWEEPS = 15
"""Rounds over the columns; 15 to 20 were enough in a sketch on SUPPORT2."""
STEP = 2.0
"""Largest logarithm of a ratio of what a cell should be to what it is."""
FEWEST = 1000
"""Rows of a draw from which on it is nudged: the tables of fewer are mostly chance."""


@dataclass(frozen=True)
class Wanted:
    """What the table of a pair should be.

    Attributes
    ----------
    pair
        The columns.
    groups
        For each the group of each of its states.
    table
        Proportions of the groups; non-negative, sums to 1.
    """

    pair: Pair
    groups: tuple[Codes, Codes]
    table: Array


def wanted(graph: GraphicalModel, measured: Mapping[Pair, Interaction]) -> list[Wanted]:
    """Return what measured pairs that the tree does not hold should be. Post-processing: costs nothing."""
    left_out = {pair: i for pair, i in measured.items() if graph.tree.home(pair) is None}
    tables = graph.pairs() if left_out else {}
    own, differences = {}, {}
    for pair, interaction in left_out.items():
        own[pair] = _merged(tables[pair], interaction.groups)
        centre = [centring(size) for size in own[pair].shape]
        differences[pair] = replace(interaction, excess=interaction.values - centre[0] @ own[pair] @ centre[1])
    posterior = energies(differences)
    found = []
    for pair, difference in differences.items():
        believed = posterior[pair] / (posterior[pair] + difference.freedom * difference.variance)
        if believed >= BELIEVED:
            table = np.maximum(own[pair] + believed * difference.excess, 0)
            found.append(Wanted(pair, difference.groups, table / table.sum()))
    return found


def _merged(table: Array, groups: tuple[Codes, Codes]) -> Array:
    merged = np.zeros((int(groups[0].max()) + 1, int(groups[1].max()) + 1))
    np.add.at(merged, np.ix_(*groups), table)
    return merged


class _Table:
    """A table that records should have: what it should be, and which of its cells each record is in."""

    def __init__(self, columns: tuple[str, ...], groups: Sequence[Codes], table: Array) -> None:
        self.columns = columns
        self._groups = groups
        self._logs = np.log(np.maximum(table, 1e-9))

    def pull(self, column: str, drawn: Mapping[str, Codes]) -> Array:
        """Return for each record and each state of the column the log ratio of what its cell should be to what it is.

        Returns
        -------
        float array, shape (records or 1, states)
        """
        codes = [g[drawn[c]] for c, g in zip(self.columns, self._groups, strict=True)]
        flat = np.ravel_multi_index(codes, self._logs.shape)
        counts = np.bincount(flat, minlength=self._logs.size).reshape(self._logs.shape)
        ratio = np.clip(self._logs - np.log(np.maximum(counts, 0.5) / len(flat)), -STEP, STEP)
        axis = self.columns.index(column)
        by_state = np.moveaxis(ratio, axis, -1)[..., self._groups[axis]]
        return np.asarray(by_state[codes[1 - axis]] if len(codes) == 2 else by_state[None, :])


def nudged(
    graph: GraphicalModel, drawn: Mapping[str, Codes], tables: Sequence[Wanted], rng: np.random.Generator
) -> dict[str, Codes]:
    """Return the records, moved as little as makes them agree with the wanted tables.

    Parameters
    ----------
    graph
        The model that they were drawn from.
    drawn
        (rows,) states of each column.
    tables
        What pairs should be.
    rng
        Source of randomness.
    """
    moved = {name: codes.copy() for name, codes in drawn.items()}
    columns = sorted({name for table in tables for name in table.pair}, key=list(moved).index)
    pulls = [_Table(table.pair, table.groups, table.table) for table in tables]
    pulls += _held(graph, drawn, set(columns))
    for _ in range(SWEEPS):
        for column in rng.permutation(columns).tolist():
            mine = [table for table in pulls if column in table.columns]
            with np.errstate(over="ignore"):
                logs = _conditional(graph, column, moved)
                wish = logs + sum(table.pull(column, moved) for table in mine) / len(mine)
            moved[column] = _coupled(moved[column], _chances(logs), _chances(wish), rng)
    return moved


def _held(graph: GraphicalModel, drawn: Mapping[str, Codes], columns: set[str]) -> list[_Table]:
    """Return the tables that stay as they were drawn: the moving columns alone, and the pairs that a clique holds."""
    sets = [(name,) for name in drawn if name in columns]
    cliques = [[c for c in drawn if c in clique] for clique in graph.tree.cliques]
    pairs = {(a, b): None for clique in cliques for i, a in enumerate(clique) for b in clique[i + 1 :]}
    held = []
    for names in (*sets, *(pair for pair in pairs if columns & set(pair))):
        shape = tuple(graph.domain[c] for c in names)
        counts = np.bincount(np.ravel_multi_index([drawn[c] for c in names], shape), minlength=int(np.prod(shape)))
        held.append(_Table(names, [np.arange(k) for k in shape], counts.reshape(shape) / counts.sum()))
    return held


def _conditional(graph: GraphicalModel, column: str, drawn: Mapping[str, Codes]) -> Array:
    """Return the log of what the tree gives each state of a column given the rest of each record, up to a constant."""
    total: Array = np.zeros((1, graph.domain[column]))
    for i, clique in enumerate(graph.tree.cliques):
        if column not in clique:
            continue
        # The table given its separator has all that the clique says; above, where the column is new, it is in none.
        axes = tuple(k for k, c in enumerate(clique) if c not in graph.tree.separators[i])
        logs = graph.beliefs[i]
        if column in graph.tree.separators[i]:
            top = logs.max(axis=axes, keepdims=True)
            logs = logs - (np.log(np.exp(logs - top).sum(axis=axes, keepdims=True)) + top)
        others = [c for c in clique if c != column]
        turned = np.moveaxis(logs, clique.index(column), -1).reshape(-1, graph.domain[column])
        shape = [graph.domain[c] for c in others]
        total = total + (turned[np.ravel_multi_index([drawn[c] for c in others], shape)] if others else turned)
    return np.asarray(np.maximum(total, -1e30))


def _chances(logs: Array) -> Array:
    chances = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


def _coupled(codes: Codes, before: Array, after: Array, rng: np.random.Generator) -> Codes:
    """Return codes drawn from `after` of which as many as can be are those drawn from `before`."""
    rows = np.arange(len(codes))
    before, after = (np.broadcast_to(table, (len(codes), table.shape[1])) for table in (before, after))
    own = before[rows, codes]
    kept = rng.random(len(codes)) * own <= after[rows, codes]
    moving = np.flatnonzero(~kept)
    lacking = np.cumsum(np.maximum(after[moving] - before[moving], 0), axis=1)
    ends = lacking[:, -1]
    drawn = (lacking < (rng.random(len(moving)) * ends)[:, None]).sum(axis=1)
    moved = codes.copy()
    moved[moving] = np.where(ends > 0, np.minimum(drawn, after.shape[1] - 1), codes[moving])
    return np.asarray(moved)
