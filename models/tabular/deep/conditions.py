"""The conditions of a network: the schema's target and subgroups, with their paid joint distribution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.query import Query
from dpsynth.models.tabular.marginals.binning import Bins, simplex
from dpsynth.models.tabular.marginals.one_way import OneWay
from dpsynth.privacy.session import Session
from dpsynth.schema.schema import Schema

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

MOST_STATES = 6
"""States of one condition, about; more are merged."""
MOST_CELLS = 64
"""Cells of the joint table of all conditions; a condition that would make more is left to the network."""


@dataclass(frozen=True)
class ConditionTable:
    """The joint distribution of the conditions, as a noisy count told it.

    Attributes
    ----------
    columns
        Names, an axis each.
    table
        Probabilities; for no columns the number 1.
    sigma
        Noise on each cell, in rows; 0 for no columns.
    """

    columns: tuple[str, ...]
    table: Array
    sigma: float

    def draw(
        self, n: int, bins: Bins, masks: Mapping[str, NDArray[np.bool_]], rng: np.random.Generator
    ) -> dict[str, Codes]:
        """Draw the states of n rows, only those that masks of fine codes allow; none where they allow nothing."""
        weights = self.table
        for axis, name in enumerate(self.columns):
            if name in masks:
                allowed = bins.evidence(name, masks[name])
                weights = weights * allowed.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
        flat = weights.ravel()
        if flat.sum() <= 0:
            return {}
        cells = rng.choice(len(flat), n, p=flat / flat.sum())
        return dict(zip(self.columns, np.unravel_index(cells, self.table.shape), strict=True)) if self.columns else {}

    def share(self, bins: Bins, shares: Mapping[str, Array]) -> float:
        """Return the probability of a condition on some of the columns, given the share of each fine code."""
        table = self.table
        for name in reversed(self.columns):
            kept = bins.evidence(name, shares[name]) if name in shares else np.ones(table.shape[-1])
            table = table @ kept
        return float(table)


def condition_columns(schema: Schema, sizes: Mapping[str, int], wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the target and the subgroups that a joint table has room for.

    Parameters
    ----------
    schema
        Names the target and the subgroups.
    sizes
        States that each column would have as a condition.
    wanted
        Other columns instead.
    """
    names = [schema.target, *schema.subgroups] if wanted is None else list(wanted)
    kept: list[str] = []
    for name in dict.fromkeys(n for n in names if n is not None and n in sizes):
        if prod(sizes[k] for k in [*kept, name]) <= MOST_CELLS:
            kept.append(name)
    kept = kept[: max(len(sizes) - 1, 0)]  # a network must have something to write
    return tuple(name for name in sizes if name in kept)


def measure(session: Session, counts: OneWay, bins: Bins, columns: tuple[str, ...], rho: float) -> ConditionTable:
    """Count the conditions' joint table. Formal guarantee: costs at most `rho`, in one `Session.count`."""
    if not columns:
        return ConditionTable((), np.ones(()), 0.0)
    (answer,) = session.count([Query(columns, tuple(bins.maps[name] for name in columns))], [rho])
    table = simplex(answer.counts.astype(float).ravel() / counts.rows).reshape(answer.counts.shape)
    return ConditionTable(columns, table, answer.sigma)
