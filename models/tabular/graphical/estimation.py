"""Fit a graphical model to noisy marginals: the maximum-entropy distribution within their noise.

With marginals ``M_r``, observed proportions ``y_r`` and slacks ``c_r`` the estimate solves

    minimise over p:   KL(p || uniform) + sum_r |M_r p - y_r|^2 / (2 c_r).

The minimiser is a log-linear model ``p ~ exp(sum_r M_r' l_r)``, and its parameters solve the smooth convex dual

    minimise over l:   log Z(l) - sum_r <l_r, y_r> + sum_r c_r |l_r|^2 / 2,

whose gradient is ``M_r p - y_r + c_r l_r``. With a slack equal to the variance of the noise this is all but the least
squares of Private-PGM, with the least informative distribution among the best; with more slack it is the ridge that
shrinks what the noise alone would explain.

A gradient method needs thousands of steps: the curvature of a cell falls from its probability to its slack, 10^-5 say,
when noise made its count negative. So the dual is minimised block by block (`blocks`), each block exactly, on a walk
through the calibrated tables of the junction tree (`calibration`) that costs no more than one belief propagation.
Before, plain marginals are made to agree where they overlap; after each walk their common potentials are shared out
anew (`measurement.Overlaps`). Where walks converge slowly they are extrapolated (`acceleration`).

Sources: McKenna, Sheldon and Miklau (2019), Graphical-model based estimation and inference for differential
privacy, for the problem; Dudik, Phillips and Schapire (2007), Maximum entropy density estimation with generalized
regularization, for the dual.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from dpsynth.models.tabular.graphical.acceleration import Anderson
from dpsynth.models.tabular.graphical.blocks import Block, CellBlock, JointBlock
from dpsynth.models.tabular.graphical.calibration import CliqueTables
from dpsynth.models.tabular.graphical.junction_tree import Clique, JunctionTree, build
from dpsynth.models.tabular.graphical.measurement import Key, Measurement, Overlaps, centring, merging, pooled
from dpsynth.models.tabular.graphical.propagation import IMPOSSIBLE, Array, Propagator, shape_in
from dpsynth.progress import Progress

__all__ = ["Estimate", "Measurement", "Zero", "centring", "estimate", "merging"]

log = logging.getLogger(__name__)

Zero = tuple[Clique, NDArray[np.bool_]]

JOINT_WORK = 50_000_000
"""Multiplications that one Newton step of a joint block may cost."""
SLOW = 0.3
"""Sweeps are extrapolated where one improves the dual by more than this share of what the one before did."""


@dataclass(frozen=True)
class Estimate:
    """A fitted log-linear model on a junction tree.

    Attributes
    ----------
    tree
        The junction tree; its domain is the model's.
    beliefs
        Log marginal of each clique.
    parameters
        The dual solution by measurement key, for the next warm start.
    dual
        Value of the dual at the solution, in nats, for the measurements made to agree.
    steps
        Walks through the tree that it took.
    """

    tree: JunctionTree
    beliefs: list[Array]
    parameters: dict[Key, Array] = field(repr=False)
    dual: float
    steps: int


class _Problem:
    """The dual, its parameters, and its blocks at their places in the junction tree."""

    def __init__(self, tree: JunctionTree, measurements: Sequence[Measurement], zeros: Sequence[Zero]):
        self.tree = tree
        self.measurements = pooled(measurements)
        self.overlaps = Overlaps(self.measurements)
        self.values = self.overlaps.reconciled()
        self.propagator = Propagator(tree)
        self.base = self.propagator.zeros()
        for columns, impossible in zeros:
            self.base[_home(tree, columns)] += self._lift(columns, np.where(impossible, IMPOSSIBLE, 0.0))
        self.parameters = [np.zeros(v.shape) for v in self.values]
        self.blocks = self._blocks([columns for columns, _ in zeros])
        self.at: list[list[Block]] = [[] for _ in tree.cliques]
        for block in self.blocks:
            self.at[_home(tree, block.columns)].append(block)

    def _lift(self, columns: Clique, table: Array) -> Array:
        """Give a table over columns in any order the shape in which it broadcasts against its home clique."""
        clique = self.tree.cliques[_home(self.tree, columns)]
        ordered = tuple(c for c in clique if c in columns)
        return np.transpose(table, [columns.index(c) for c in ordered]).reshape(shape_in(clique, ordered, self.tree))

    def _blocks(self, zeros: Sequence[Clique]) -> list[Block]:
        """Plain marginals one by one; together what hangs together by an interaction or a structural zero."""
        tied = [*zeros, *(m.columns for m in self.measurements if not m.merged)]
        groups: list[Clique] = []
        for columns in sorted(dict.fromkeys([*zeros, *(m.columns for m in self.measurements)]), key=len, reverse=True):
            group = tuple(c for c in self.tree.domain if c in columns)
            if any(set(t) <= set(group) for t in tied) and not any(set(group) <= set(g) for g in groups):
                groups += [group] if 0 < self._work(group) <= JOINT_WORK else []
        joint = [self._joint(group, self._inside(group)) for group in groups]
        covered = {i for group in groups for i in self._inside(group)}
        alone = [i for i in range(len(self.measurements)) if i not in covered]
        merged = {i for i in alone if self.measurements[i].merged}
        joint += [self._joint(self.measurements[i].columns, [i]) for i in alone if i not in merged]
        cells = [CellBlock(i, self.measurements[i], self.values[i]) for i in alone if i in merged]
        return [*sorted(cells, key=lambda b: len(b.columns)), *joint]

    def _inside(self, group: Clique) -> list[int]:
        return [i for i, m in enumerate(self.measurements) if set(m.columns) <= set(group)]

    def _work(self, group: Clique) -> int:
        """Multiplications that a Newton step over all measurements inside a group would cost."""
        parameters = sum(self.values[i].size for i in self._inside(group))
        return parameters**2 * prod(self.tree.domain[c] for c in group)

    def _joint(self, columns: Clique, members: Sequence[int]) -> JointBlock:
        shape = tuple(self.tree.domain[c] for c in columns)
        return JointBlock(
            columns, shape, members, [self.measurements[i] for i in members], [self.values[i] for i in members]
        )

    def propagate(self) -> tuple[CliqueTables, float]:
        """Tables of the current parameters, and the dual."""
        potentials = [base.copy() for base in self.base]
        dual = 0.0
        for m, values, table in zip(self.measurements, self.values, self.parameters, strict=True):
            potentials[_home(self.tree, m.columns)] += self._lift(m.columns, m.spread(table))
            dual += float((table * (0.5 * m.slack * table - values)).sum())
        beliefs, log_partition = self.propagator.beliefs(potentials)
        if log_partition < 0.5 * IMPOSSIBLE:
            raise ValueError("the structural zeros leave no combination possible")
        return CliqueTables(self.propagator, beliefs), dual + log_partition

    def sweep(self, tables: CliqueTables) -> float:
        """Fit every block once, in place; returns the decrease of the dual."""
        gain = 0.0
        for place in tables.walk():
            clique = self.tree.cliques[place]
            for block in self.at[place]:
                axes = tuple(i for i, c in enumerate(clique) if c not in block.columns)
                factor, less = block.fit(tables.tables[place].sum(axis=axes), self.parameters)
                tables.tables[place] *= factor.reshape(shape_in(clique, block.columns, self.tree))
                gain += less
        return gain + self.overlaps.balance(self.parameters)

    @property
    def flat(self) -> Array:
        """All parameters in one vector."""
        return np.concatenate([table.ravel() for table in self.parameters])

    @flat.setter
    def flat(self, vector: Array) -> None:
        cuts = np.cumsum([table.size for table in self.parameters])[:-1]
        parts = np.split(vector, cuts)
        self.parameters[:] = [part.reshape(v.shape) for part, v in zip(parts, self.values, strict=True)]

    @property
    def weights(self) -> Array:
        """Root of the slack of each parameter: what it costs to change it."""
        return np.concatenate([np.full(m.values.size, np.sqrt(m.slack)) for m in self.measurements])


def _home(tree: JunctionTree, columns: Clique) -> int:
    home = tree.home(columns)
    if home is None:
        raise ValueError(f"no clique of the junction tree holds {columns}; build the tree with them")
    return home


def estimate(
    domain: Mapping[str, int],
    measurements: Sequence[Measurement],
    *,
    zeros: Sequence[Zero] = (),
    warm: Mapping[Key, Array] | None = None,
    tree: JunctionTree | None = None,
    tolerance: float = 1e-4,
    max_steps: int = 1000,
    progress: Progress | None = None,
) -> Estimate:
    """Fit the maximum-entropy model to noisy marginals.

    Parameters
    ----------
    domain
        Size of each column, in column order.
    measurements
        At least one noisy marginal.
    zeros
        Structural zeros: columns and a boolean table, True where a combination cannot occur.
    warm
        `Estimate.parameters` of an earlier fit; parameters of measurements that it does not know start at 0.
    tree
        A junction tree that covers every measurement and every zero; built when absent.
    tolerance
        Stop when a step improves the dual by less than this many nats.
    max_steps
        Walks through the tree at most; reaching it is logged.
    progress
        Told after each step how far the fit is, as far as that can be known.

    Returns
    -------
    Estimate
        The fitted model.

    Raises
    ------
    ValueError
        If the structural zeros leave nothing possible, or a measurement fits neither domain nor tree.
    """
    tree = tree or build(domain, [*(m.columns for m in measurements), *(columns for columns, _ in zeros)])
    problem = _Problem(tree, measurements, zeros)
    for i, m in enumerate(problem.measurements):
        problem.parameters[i] = np.array((warm or {}).get(m.key, problem.parameters[i]))
    tables, dual, steps = _minimised(problem, tolerance, max_steps, progress)
    parameters = {m.key: table for m, table in zip(problem.measurements, problem.parameters, strict=True)}
    return Estimate(tree, tables.beliefs(), parameters, dual, steps)


def _minimised(
    problem: _Problem, tolerance: float, max_steps: int, progress: Progress | None
) -> tuple[CliqueTables, float, int]:
    """Sweep until the dual settles; return the tables, the dual, and the number of steps taken."""
    tables, dual = problem.propagate()
    extrapolation, last = Anderson(), np.inf
    for step in range(1, max_steps + 1):
        start = problem.flat
        gain = problem.sweep(tables)
        slow, last = gain > SLOW * last, gain
        dual -= gain
        if slow and gain > tolerance:
            tables, dual = _extrapolate(problem, extrapolation, start, tables, dual)
        if progress is not None:
            progress("fitting the model", float(1 - 0.7 * np.exp(-step / 10)))
        if gain < tolerance:
            break
    else:
        log.warning("the fit stopped after %d steps before it had converged", max_steps)
    return tables, dual, step


def _extrapolate(
    problem: _Problem, extrapolation: Anderson, start: Array, tables: CliqueTables, dual: float
) -> tuple[CliqueTables, float]:
    """Go where the last sweeps seem to lead, if the dual is lower there."""
    end = problem.flat
    proposal = extrapolation.propose(start, end, problem.weights)
    if proposal is None:
        return tables, dual
    problem.flat = proposal
    fresh, proposed_dual = problem.propagate()
    if not proposed_dual < dual:
        problem.flat = end
        extrapolation.forget()
        return tables, dual
    for block in problem.blocks:
        block.restart()
    return fresh, proposed_dual
