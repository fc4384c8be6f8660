"""Exact minimisation of the dual over the parameters of a few measurements, with all others held fixed.

A block sees the model's marginal over its columns only. It changes parameters, and says by which factor the marginal
changes; that factor is all that the rest of the model needs to know.

Source: Dudik, Phillips and Schapire (2007), Maximum entropy density estimation with generalized regularization, for
updates one at a time; with a quadratic penalty a whole table has a closed form, in Wright's omega function.
"""

from collections.abc import Sequence
from math import prod
from typing import Protocol

import numpy as np

from dpsynth.models.tabular.graphical.junction_tree import Clique
from dpsynth.models.tabular.graphical.measurement import Measurement
from dpsynth.models.tabular.graphical.propagation import Array

FLOOR = -140.0
"""Log probability that a cell keeps in the model's tables at least, so that their products do not underflow."""
SETTLED = 1e-9
"""Nats that a block leaves on the table."""
INNER_STEPS = 10
LARGE = 1000
"""Parameters from which on a joint block goes along the scaled gradient instead of solving for Newton's step."""


class Block(Protocol):
    """Some measurements that are fitted together.

    Attributes
    ----------
    columns
        Columns of the marginal that the block sees, in domain order.
    """

    columns: Clique

    def fit(self, marginal: Array, parameters: list[Array]) -> tuple[Array, float]:
        """Minimise the dual over the block's parameters, in place.

        Returns
        -------
        tuple
            Factor of each cell of the marginal, and the decrease of the dual in nats.
        """
        ...

    def restart(self) -> None:
        """Forget what was kept between fits: the model's tables were made anew from the parameters."""
        ...


class _Floor:
    """Keeps cells of a marginal above the floor in the model's tables, and remembers where they truly are."""

    def __init__(self, shape: tuple[int, ...]):
        # Log of a cell's true probability over that in the tables.
        self.sunk = np.zeros(shape)

    def logs(self, marginal: Array) -> Array:
        """Return true log probabilities; minus infinity where a cell is impossible."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(marginal) + self.sunk)

    def factor(self, marginal: Array, logs: Array) -> Array:
        """Return by what the marginal changes when the true log probabilities become `logs`."""
        live = marginal > 0
        self.sunk[live] = np.minimum(logs[live] - FLOOR, 0)
        return np.divide(np.exp(np.maximum(logs, FLOOR)), marginal, out=np.ones_like(marginal), where=live)


class CellBlock:
    """One marginal, over codes or merged codes, solved in closed form.

    The minimum has ``q + c l = y`` with ``q = m exp(l - l_before) / Z`` for the marginal m before and slack c. Cell by
    cell ``q = c omega(y / c - l_before + log(m / c) - log Z)``, since ``omega(z) + log omega(z) = z``; the one number
    Z follows from ``sum q = 1``, a convex equation for Newton's method.

    Parameters
    ----------
    index
        Place of the measurement's parameters in the list.
    measurement
        The measurement.
    values
        Its reconciled values.
    """

    def __init__(self, index: int, measurement: Measurement, values: Array):
        self.columns = measurement.columns
        self._index = index
        self._values = values
        self._slack = measurement.slack
        self._measurement = measurement
        self._floor = _Floor(values.shape)

    def fit(self, marginal: Array, parameters: list[Array]) -> tuple[Array, float]:
        """Minimise the dual over the marginal's parameters."""
        factor, gain = self._fit(self._measurement.measure(marginal), parameters)
        # A code changes by what its cell of merged codes changes by.
        return self._measurement.spread(factor), gain

    def _fit(self, marginal: Array, parameters: list[Array]) -> tuple[Array, float]:
        before, live = parameters[self._index], marginal > 0
        values, slack = self._values, self._slack
        logs = self._floor.logs(marginal)
        start = (values / slack - before + logs - np.log(slack))[live]
        omega, log_partition = _unit_sum(start, slack)
        # Equal, but the difference of large numbers would lose the digits of a probability.
        log_omega = np.where(omega > 1, np.log(np.maximum(omega, 1)), start - log_partition - omega)
        change, after = np.zeros_like(logs), logs.copy()
        after[live] = np.log(slack) + log_omega
        change[live] = after[live] - logs[live] + log_partition
        parameters[self._index] = before + change
        gain = float((change * values).sum()) - log_partition
        gain -= 0.5 * slack * float((change * (2 * before + change)).sum())
        return self._floor.factor(marginal, after), gain

    def restart(self) -> None:
        """Forget what is below the floor."""
        self._floor = _Floor(self._values.shape)


def _unit_sum(start: Array, slack: float) -> tuple[Array, float]:
    """Find z with ``slack * sum(omega(start - z)) = 1`` by Newton's method; returns the omegas and z."""
    from scipy.special import wrightomega

    # The sum is convex and falls, so Newton from the left is monotone; here the largest cell alone has omega 1 / slack.
    shift = float(start.max()) - 1 / slack + np.log(slack)
    for _ in range(100):
        omega = wrightomega(start - shift)
        excess = slack * float(omega.sum()) - 1
        step = excess / (slack * float((omega / (1 + omega)).sum()))
        if abs(excess) < 1e-12 or shift + step == shift:
            break
        shift += step
    return omega, shift


class JointBlock:
    """All measurements that are functions of one marginal, solved together by Newton's method.

    Needed where measurements of the same columns hang together: an interaction and the columns' own counts, or
    columns of which a structural zero makes one a function of the other.

    Parameters
    ----------
    columns
        Columns of the marginal.
    shape
        Its shape.
    indices, measurements, values
        The measurements, places of their parameters in the list, and reconciled values.
    """

    def __init__(
        self,
        columns: Clique,
        shape: tuple[int, ...],
        indices: Sequence[int],
        measurements: Sequence[Measurement],
        values: Sequence[Array],
    ):
        self.columns = columns
        self._shape = shape
        self._indices = list(indices)
        self._design = np.concatenate([_design(m, columns, shape) for m in measurements])
        self._values = np.concatenate([v.ravel() for v in values])
        self._slack = np.concatenate([np.full(v.size, m.slack) for m, v in zip(measurements, values, strict=True)])
        self._cuts = np.cumsum([v.size for v in values])[:-1]
        self._shapes = [v.shape for v in values]
        self._floor = _Floor(shape)

    def fit(self, marginal: Array, parameters: list[Array]) -> tuple[Array, float]:
        """Minimise the dual over the parameters of all measurements of the block."""
        potentials = np.concatenate([parameters[i].ravel() for i in self._indices])
        logs = self._floor.logs(marginal).ravel()
        logs -= np.log(np.exp(logs).sum())
        gain = 0.0
        for _ in range(INNER_STEPS):
            chances = np.exp(logs)
            gradient = self._design @ chances - self._values + self._slack * potentials
            step = self._direction(chances, gradient)
            slope = float(gradient @ step)
            if slope > -SETTLED:
                break
            step, logs, less = self._search(potentials, step, logs, slope)
            potentials = potentials + step
            gain += less
        for i, table, shape in zip(self._indices, np.split(potentials, self._cuts), self._shapes, strict=True):
            parameters[i] = table.reshape(shape)
        return self._floor.factor(marginal, logs.reshape(self._shape)), gain

    def restart(self) -> None:
        """Forget what is below the floor."""
        self._floor = _Floor(self._shape)

    def _direction(self, chances: Array, gradient: Array) -> Array:
        weighted = self._design * chances
        mean = weighted.sum(axis=1)
        if len(mean) > LARGE:
            return np.asarray(-gradient / ((weighted * self._design).sum(axis=1) + self._slack))
        hessian = weighted @ self._design.T - np.outer(mean, mean)
        hessian[np.diag_indices(len(mean))] += self._slack
        return np.asarray(-np.linalg.solve(hessian, gradient))

    def _search(self, parameters: Array, step: Array, logs: Array, slope: float) -> tuple[Array, Array, float]:
        """Halve the step until the dual falls; returns the step, the log chances after it and the decrease."""
        lift = step @ self._design
        for halvings in range(40):
            share = 0.5**halvings
            moved = logs + share * lift
            top = float(moved.max())
            log_partition = top + float(np.log(np.exp(moved - top).sum()))
            part = share * step
            rise = log_partition - float(part @ (self._values - self._slack * (parameters + 0.5 * part)))
            if rise <= 1e-4 * share * slope:
                return part, moved - log_partition, -rise
        return np.zeros_like(step), logs, 0.0


def _design(m: Measurement, columns: Clique, shape: tuple[int, ...]) -> Array:
    """Matrix that takes the flat marginal over `columns` to the measured statistics."""
    size = m.values.size
    places = tuple(n if c in m.columns else 1 for c, n in zip(columns, shape, strict=True))
    rows = np.empty((size, prod(shape)))
    for i, unit in enumerate(np.eye(size)):
        rows[i] = np.broadcast_to(m.spread(unit.reshape(m.values.shape)).reshape(places), shape).ravel()
    return rows
