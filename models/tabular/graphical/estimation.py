"""Fit a graphical model to noisy marginals: the maximum-entropy distribution within their noise.

With marginals ``M_r``, observed proportions ``y_r`` and slacks ``c_r`` the estimate solves

    minimise over p:   KL(p || uniform) + sum_r |M_r p - y_r|^2 / (2 c_r).

The minimiser is a log-linear model ``p ~ exp(sum_r M_r' l_r)``, and its parameters solve the smooth convex dual

    minimise over l:   log Z(l) - sum_r <l_r, y_r> + sum_r c_r |l_r|^2 / 2,

whose gradient is ``M_r p - y_r + c_r l_r``: one belief propagation a step. It is solved by L-BFGS with a line
search in variables scaled by the diagonal of the Hessian, until the dual no longer improves. The slack is the
variance of the noise times a pseudo-count ``tau``: with ``tau`` small this is Private-PGM's least squares with
the least-informative solution among the best; with ``tau`` near the inverse energy of the true interaction it is
the ridge that shrinks what the noise alone would explain.

Sources: McKenna, Sheldon and Miklau (2019), Graphical-model based estimation and inference for differential
privacy, for the problem; Dudik, Phillips and Schapire (2007), Maximum entropy density estimation with generalized
regularization, for the dual.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.models.tabular.graphical.junction_tree import Clique, JunctionTree, build
from dpsynth.models.tabular.graphical.propagation import IMPOSSIBLE, Array, Propagator, shape_in

log = logging.getLogger(__name__)

Zero = tuple[Clique, NDArray[np.bool_]]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Measurement:
    """A noisy linear summary of a marginal.

    Attributes
    ----------
    columns
        Columns of the marginal, in domain order.
    values
        Observed proportions, of the measured shape; they need be neither non-negative nor sum to 1.
    slack
        Variance that the fit allows each cell, in squared proportions; positive.
    operators
        For each column a matrix (measured codes x model codes) that is applied along its axis, or None for the
        identity: `merging` makes those of coarser codes, `centring` those of an interaction without margins.
    """

    columns: Clique
    values: Array
    slack: float
    operators: tuple[Array | None, ...] | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What the measurement is of, for warm starts: equal keys have parameters of equal meaning."""
        shapes = tuple(None if o is None else o.tobytes() for o in self.operators or ())
        return self.columns, self.values.shape, shapes

    def measure(self, marginal: Array) -> Array:
        """Return the summary of a marginal over the model's codes."""
        return _apply(self.operators, marginal, lambda o: o)

    def spread(self, parameters: Array) -> Array:
        """Adjoint of `measure`: log potential over the model's codes."""
        return _apply(self.operators, parameters, lambda o: o.T)

    def second_moment(self, marginal: Array) -> Array:
        """Return the expected square of each statistic under a marginal: about the diagonal of the dual's Hessian."""
        return _apply(self.operators, marginal, lambda o: o * o)


def _apply(operators: tuple[Array | None, ...] | None, table: Array, form: Callable[[Array], Array]) -> Array:
    for axis, operator in enumerate(operators or ()):
        if operator is None:
            continue
        matrix = form(operator)
        if axis == table.ndim - 1:
            table = table @ matrix.T
        elif axis == table.ndim - 2:
            table = matrix @ table
        else:
            table = np.moveaxis(np.tensordot(matrix, table, axes=(1, axis)), 0, axis)
    return table


def merging(codes: NDArray[np.integer[Any]], size: int) -> Array:
    """Operator that adds up the model codes of each of `size` coarser codes."""
    operator = np.zeros((size, len(codes)))
    operator[codes, np.arange(len(codes))] = 1.0
    return operator


def centring(size: int) -> Array:
    """Projection that removes the mean of an axis; on every axis it leaves the interaction, whose margins are 0."""
    return np.asarray(np.eye(size) - 1 / size)


@dataclass(frozen=True)
class Fit:
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
        Value of the dual at the solution, in nats.
    steps
        Belief propagations that it took.
    """

    tree: JunctionTree
    beliefs: list[Array]
    parameters: dict[tuple[object, ...], Array] = field(repr=False)
    dual: float
    steps: int


EMPTY = -20.0
"""Lowest log potential of a counted cell: exp(-20) is nothing beside any other cell."""


class _Objective:
    """The dual and its gradient, in scaled variables."""

    def __init__(self, tree: JunctionTree, measurements: Sequence[Measurement], zeros: Sequence[Zero]):
        self.measurements = measurements
        self.propagator = Propagator(tree)
        places: dict[Clique, int] = {m.columns: _home(tree, m.columns) for m in measurements}
        self.marginals = {
            columns: (home, _axes(tree.cliques[home], columns), shape_in(tree.cliques[home], columns, tree))
            for columns, home in places.items()
        }
        self.base = self.propagator.zeros()
        for columns, impossible in zeros:
            home = _home(tree, columns)
            self.base[home] += (IMPOSSIBLE * impossible).reshape(shape_in(tree.cliques[home], columns, tree))
        self.cuts = np.cumsum([0, *(m.values.size for m in measurements)])
        self.values = np.concatenate([m.values.ravel() for m in measurements])
        self.slack = np.concatenate([np.full(m.values.size, m.slack) for m in measurements])
        self.scale = np.ones_like(self.values)
        self.beliefs: list[Array] = []
        self.steps = 0

    def split(self, flat: Array) -> list[Array]:
        """Cut a flat vector of parameters into the measurements' tables."""
        pairs = zip(self.cuts[:-1], self.cuts[1:], self.measurements, strict=True)
        return [flat[a:b].reshape(m.values.shape) for a, b, m in pairs]

    def potentials(self, parameters: Array) -> list[Array]:
        """Log potential of each clique."""
        tables: dict[Clique, Array] = {}
        for m, table in zip(self.measurements, self.split(parameters), strict=True):
            spread = m.spread(table)
            tables[m.columns] = tables[m.columns] + spread if m.columns in tables else spread
        made = [base.copy() for base in self.base]
        for columns, table in tables.items():
            home, _, shape = self.marginals[columns]
            made[home] += table.reshape(shape)
        return made

    def model_marginals(self) -> dict[Clique, Array]:
        """Marginals of the current beliefs, one for each set of measured columns."""
        chances = [np.exp(belief) for belief in self.beliefs]
        return {columns: chances[home].sum(axis=axes) for columns, (home, axes, _) in self.marginals.items()}

    def __call__(self, scaled: Array) -> tuple[float, Array]:
        parameters = scaled * self.scale
        self.beliefs, log_partition = self.propagator.beliefs(self.potentials(parameters))
        self.steps += 1
        marginals = self.model_marginals()
        expected = np.concatenate([m.measure(marginals[m.columns]).ravel() for m in self.measurements])
        dual = log_partition - parameters @ self.values + 0.5 * (self.slack * parameters) @ parameters
        return float(dual), (expected - self.values + self.slack * parameters) * self.scale

    def lowest(self) -> Array:
        """Lower bounds of the scaled parameters: a cell that noise made negative need not be chased below nothing."""
        plain = [np.full(m.values.size, EMPTY if m.operators is None else -np.inf) for m in self.measurements]
        return np.asarray(np.concatenate(plain) / self.scale)

    def precondition(self) -> None:
        """Scale each parameter by the inverse root of its diagonal Hessian at the current beliefs."""
        marginals = self.model_marginals()
        curvature = np.concatenate([m.second_moment(marginals[m.columns]).ravel() for m in self.measurements])
        self.scale = 1 / np.sqrt(curvature + self.slack)


def _home(tree: JunctionTree, columns: Clique) -> int:
    home = tree.home(columns)
    if home is None:
        raise ValueError(f"no clique of the junction tree holds {columns}; build the tree with them")
    return home


def _axes(clique: Clique, columns: Clique) -> tuple[int, ...]:
    return tuple(i for i, c in enumerate(clique) if c not in columns)


def estimate(
    domain: Mapping[str, int],
    measurements: Sequence[Measurement],
    *,
    zeros: Sequence[Zero] = (),
    warm: Mapping[tuple[object, ...], Array] | None = None,
    tree: JunctionTree | None = None,
    tolerance: float = 1e-4,
    max_steps: int = 1000,
    progress: Progress | None = None,
) -> Fit:
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
        `Fit.parameters` of an earlier fit; parameters of measurements that it does not know start at 0.
    tree
        A junction tree that covers every measurement and every zero; built when absent.
    tolerance
        Stop when a step improves the dual by less than this many nats.
    max_steps
        Belief propagations at most; reaching it is logged.
    progress
        Told after each step how far the fit is, as far as that can be known.

    Returns
    -------
    Fit
        The fitted model.
    """
    from scipy.optimize import Bounds, minimize

    tree = tree or build(domain, [*(m.columns for m in measurements), *(columns for columns, _ in zeros)])
    objective = _Objective(tree, measurements, zeros)
    start = np.concatenate([_start(m, warm or {}).ravel() for m in measurements])
    dual, _ = objective(start)
    objective.precondition()
    scaled = np.maximum(start / objective.scale, objective.lowest())
    options = {
        "maxcor": 20,
        "maxfun": max_steps,
        "maxiter": max_steps,
        "ftol": tolerance / max(abs(dual), 1),
        "gtol": 0,
    }
    told = (
        None if progress is None else lambda _x: progress("fitting the model", 1 - 0.7 * np.exp(-objective.steps / 150))
    )
    bounds = Bounds(objective.lowest(), np.inf)
    solved = minimize(objective, scaled, jac=True, method="L-BFGS-B", bounds=bounds, callback=told, options=options)
    if objective.steps >= max_steps:
        log.warning("the fit stopped after %d steps before it had converged", objective.steps)
    dual, _ = objective(solved.x)
    found = objective.split(solved.x * objective.scale)
    parameters = {m.key: table for m, table in zip(measurements, found, strict=True)}
    return Fit(tree, objective.beliefs, parameters, dual, objective.steps)


def _start(measurement: Measurement, warm: Mapping[tuple[object, ...], Array]) -> Array:
    known = warm.get(measurement.key)
    return np.zeros(measurement.values.shape) if known is None else known
