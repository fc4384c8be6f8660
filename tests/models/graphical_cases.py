"""Small domains whose full joint table fits in memory, and brute force on it."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from dpsynth.models.tabular.graphical.junction_tree import JunctionTree, build
from dpsynth.models.tabular.graphical.model import GraphicalModel
from dpsynth.models.tabular.graphical.propagation import IMPOSSIBLE, Propagator

settings.register_profile("dpsynth", deadline=None)  # two shared cores: times say nothing
settings.load_profile("dpsynth")

Array = np.ndarray[Any, Any]
NAMES = "abcdef"

domains = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(lambda sizes: dict(zip(NAMES, sizes, strict=False)))


@st.composite
def structures(draw: st.DrawFn) -> tuple[dict[str, int], list[tuple[str, ...]]]:
    """Draw a domain and sets of columns, each in domain order; possibly none, nested or disconnected."""
    domain = draw(domains)
    sets = [c for size in (1, 2, 3) for c in combinations(domain, size)]
    return domain, draw(st.lists(st.sampled_from(sets), max_size=6, unique=True))


@st.composite
def trees(draw: st.DrawFn) -> JunctionTree:
    """Draw a junction tree over a small domain."""
    return build(*draw(structures()))


seeds = st.integers(0, 2**32 - 1)


def lifted(table: Array, columns: Sequence[str], domain: Mapping[str, int]) -> Array:
    """Give a table the shape in which it broadcasts over the full joint table; columns may stand in any order."""
    ordered = [c for c in domain if c in columns]
    moved = np.transpose(table, [list(columns).index(c) for c in ordered])
    return moved.reshape([size if c in columns else 1 for c, size in domain.items()])


def summed(joint: Array, columns: Sequence[str], domain: Mapping[str, int]) -> Array:
    """Sum the joint table down to columns, in their order."""
    left = [c for c in domain if c in columns]
    table = joint.sum(axis=tuple(i for i, c in enumerate(domain) if c not in columns))
    return np.transpose(table, [left.index(c) for c in columns])


def joint_of(tree: JunctionTree, potentials: Sequence[Array]) -> tuple[Array, float]:
    """Multiply potentials out to the full joint distribution; also return the log partition function."""
    logs = np.zeros(tuple(tree.domain.values()))
    for clique, potential in zip(tree.cliques, potentials, strict=True):
        logs = logs + lifted(potential, clique, tree.domain)
    log_partition = float(logsumexp(logs))
    return np.exp(logs - log_partition), log_partition


def random_potentials(tree: JunctionTree, seed: int, *, impossible: float = 0.0, scale: float = 3.0) -> list[Array]:
    """Draw log potentials; each cell is impossible with this probability, but for the cell of all zeros."""
    rng = np.random.default_rng(seed)
    drawn = []
    for clique in tree.cliques:
        shape = tuple(tree.domain[c] for c in clique)
        table = rng.normal(0, scale, shape)
        zeros = rng.random(shape) < impossible
        zeros[(0,) * len(shape)] = False
        drawn.append(np.where(zeros, IMPOSSIBLE, table))
    return drawn


def random_model(tree: JunctionTree, seed: int, *, impossible: float = 0.0) -> tuple[GraphicalModel, Array]:
    """Draw a model; return it with its full joint distribution."""
    potentials = random_potentials(tree, seed, impossible=impossible)
    beliefs, _ = Propagator(tree).beliefs(potentials)
    return GraphicalModel(tree, beliefs), joint_of(tree, potentials)[0]


def indicator(shape: Sequence[int], columns: Sequence[str], domain: Mapping[str, int], measure: Any) -> Array:
    """Matrix from the flat joint table to a summary of the marginal over columns."""
    cells = np.eye(int(np.prod(shape))).reshape((-1, *shape))
    return np.stack([measure(summed(cell, columns, domain)).ravel() for cell in cells], axis=1)


class BruteForce:
    """The dual of an estimate on the full joint table, and its solution by Newton's method.

    Parameters
    ----------
    domain, measurements, zeros
        As `estimate` takes them.
    """

    def __init__(self, domain: Mapping[str, int], measurements: Sequence[Any], zeros: Sequence[Any] = ()) -> None:
        self.shape = tuple(domain.values())
        self.design = np.concatenate([indicator(self.shape, m.columns, domain, m.measure) for m in measurements])
        self.values = np.concatenate([m.values.ravel() for m in measurements])
        self.slack = np.concatenate([np.full(m.values.size, m.slack) for m in measurements])
        self.possible = np.ones(self.shape, dtype=bool)
        for columns, impossible in zeros:
            self.possible &= ~lifted(impossible, columns, domain)

    def chances(self, parameters: Array) -> tuple[Array, float]:
        """Flat joint distribution of the parameters, and the log partition function."""
        logs = np.where(self.possible.ravel(), parameters @ self.design, -np.inf)
        log_partition = float(logsumexp(logs))
        return np.exp(logs - log_partition), log_partition

    def dual(self, parameters: Array) -> float:
        """Value of the dual, in nats."""
        _, log_partition = self.chances(parameters)
        return float(log_partition - parameters @ self.values + 0.5 * (self.slack * parameters) @ parameters)

    def primal(self, joint: Array) -> float:
        """Value of the primal, in nats: KL from uniform over the possible cells, and squared residuals."""
        p = joint.ravel()
        entropy = float(-(p[p > 0] * np.log(p[p > 0])).sum())
        residual = self.design @ p - self.values
        return np.log(self.possible.sum()) - entropy + 0.5 * float((residual**2 / self.slack).sum())

    def solve(self) -> Array:
        """Joint distribution at the optimum: damped Newton on the dual."""
        parameters = np.zeros_like(self.values)
        for _ in range(500):
            p, _ = self.chances(parameters)
            mean = self.design @ p
            gradient = mean - self.values + self.slack * parameters
            hessian = (self.design * p) @ self.design.T - np.outer(mean, mean) + np.diag(self.slack)
            step = -np.linalg.solve(hessian, gradient)
            slope, now, share = float(gradient @ step), self.dual(parameters), 1.0
            if slope > -1e-13:
                break
            while self.dual(parameters + share * step) > now + 1e-4 * share * slope and share > 1e-12:
                share /= 2
            parameters = parameters + share * step
        return self.chances(parameters)[0].reshape(self.shape)
