"""Noisy linear summaries of marginals, and what can be said of several of them before any fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.models.tabular.graphical.junction_tree import Clique
from dpsynth.models.tabular.graphical.propagation import Array

Key = tuple[object, ...]


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
    def key(self) -> Key:
        """What the measurement is of, for warm starts: equal keys have parameters of equal meaning."""
        shapes = tuple(None if o is None else o.tobytes() for o in self.operators or ())
        return self.columns, self.values.shape, shapes

    @property
    def plain(self) -> bool:
        """Whether it is the marginal itself, cell by cell."""
        return all(o is None for o in self.operators or ())

    @property
    def merged(self) -> bool:
        """Whether it is the marginal cell by cell, where a cell may be of several codes."""
        return all(
            o is None or (bool(((o == 0) | (o == 1)).all()) and bool((o.sum(axis=0) == 1).all()))
            for o in self.operators or ()
        )

    def measure(self, marginal: Array) -> Array:
        """Return the summary of a marginal over the model's codes."""
        return _apply(self.operators, marginal, lambda o: o)

    def spread(self, parameters: Array) -> Array:
        """Return the log potential over the model's codes: the adjoint of `measure`."""
        return _apply(self.operators, parameters, lambda o: o.T)


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
    """Return the operator that adds up the model codes of each of `size` coarser codes."""
    operator = np.zeros((size, len(codes)))
    operator[codes, np.arange(len(codes))] = 1.0
    return operator


def centring(size: int) -> Array:
    """Return the projection that removes the mean of an axis; on every axis it leaves the interaction."""
    return np.asarray(np.eye(size) - 1 / size)


def pooled(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Average repeated measurements of the same thing by their precision; the fit to the average is the same."""
    repeats: dict[Key, list[Measurement]] = {}
    for m in measurements:
        repeats.setdefault(m.key, []).append(m)
    return [_average(same) if len(same) > 1 else same[0] for same in repeats.values()]


def _average(same: Sequence[Measurement]) -> Measurement:
    precision = sum(1 / m.slack for m in same)
    values = np.sum([m.values / m.slack for m in same], axis=0) / precision
    return Measurement(same[0].columns, values, 1 / precision, same[0].operators)


@dataclass(frozen=True)
class Share:
    """Where a set of columns stands in one of the marginals that hold it."""

    index: int
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    cells: int
    variance: float

    def effect(self, table: Array) -> Array:
        """Return the part of a summed table that belongs to the set of columns and to no smaller one."""
        for axis in range(table.ndim):
            table = table - table.mean(axis=axis, keepdims=True)
        return table


class Overlaps:
    """Sets of columns that several plain measurements have in common, and what follows from it.

    Split a marginal T_r into effects, one for each set S of its columns: ``|T_r|^2 = sum_S |e_S(T_r)|^2 / n``, with n
    the number of cells over the other columns of r. So all that the measurements say about S is the average of its
    effects by the precisions ``1 / (c_r n)``, and least squares does not change when each measurement gets this
    average as its own. Then no parameters are wasted on contradictions that no distribution could resolve.

    Parameters
    ----------
    measurements
        What is measured; only plain marginals are looked at.

    Source: Xiao et al. (2023), An optimal and scalable matrix mechanism for noisy marginals (residual basis).
    """

    def __init__(self, measurements: Sequence[Measurement]):
        self.measurements = measurements
        shares_of: dict[Clique, list[Share]] = {}
        for i, m in enumerate(measurements):
            for columns, share in _shares(i, m) if m.plain else ():
                shares_of.setdefault(columns, []).append(share)
        self._common = [shares for shares in shares_of.values() if len(shares) > 1]

    def reconciled(self) -> list[Array]:
        """Return the measured values, with plain marginals that agree where they overlap and sum to 1."""
        values = [m.values + (1 - m.values.sum()) / m.values.size if m.plain else m.values for m in self.measurements]
        for shares in self._common:
            effects = [s.effect(values[s.index].sum(axis=s.axes)) for s in shares]
            weights = [1 / s.variance for s in shares]
            mean = np.tensordot(weights, effects, axes=1) / sum(weights)
            for s, effect in zip(shares, effects, strict=True):
                values[s.index] = values[s.index] + ((mean - effect) / s.cells).reshape(s.shape)
        return values

    def balance(self, parameters: list[Array]) -> float:
        """Share out potentials that several measurements could carry, at the least cost; the model stays the same.

        Returns
        -------
        float
            Decrease of the dual, in nats.
        """
        saved = 0.0
        for shares in self._common:
            effects = [s.effect(parameters[s.index].mean(axis=s.axes)) for s in shares]
            weights = np.array([1 / s.variance for s in shares])
            whole = np.sum(effects, axis=0)
            for s, effect, weight in zip(shares, effects, weights / weights.sum(), strict=True):
                fair = weight * whole
                parameters[s.index] = parameters[s.index] + (fair - effect).reshape(s.shape)
                saved += 0.5 * s.variance * float((effect**2).sum() - (fair**2).sum())
        return saved


def _shares(index: int, m: Measurement) -> list[tuple[Clique, Share]]:
    places = range(len(m.columns))
    shares = []
    for kept in (c for size in range(1, len(m.columns) + 1) for c in combinations(places, size)):
        axes = tuple(a for a in places if a not in kept)
        shape = tuple(m.values.shape[a] if a in kept else 1 for a in places)
        cells = prod(m.values.shape[a] for a in axes)
        shares.append((tuple(m.columns[a] for a in kept), Share(index, axes, shape, cells, m.slack * cells)))
    return shares
