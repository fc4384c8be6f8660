"""From noisy one-way counts to bins: post-processing, which costs no budget.

A model works on *bins*; a bin is a set of fine codes of the codec. Ordered columns are cut where a smoothed noisy
histogram has equal mass, so that what is dense is cut finely; every other state keeps a bin of its own. Inside a
bin the same histogram says how the fine codes share the bin's mass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpsynth.models.tabular.graphical.shuffling import shuffled_by_group

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

FINEST = 256
"""Cells that are smoothed one by one; the time grows with their third power."""
CLEAR = 4.0
"""Standard deviations from which on a cell is taken for a spike of its own."""
PASSES = 4
"""How often spikes are looked for."""
HEDGE = 1.5
"""What noise may have hidden in a histogram, in standard deviations of the sum of its cells' noise."""
HEDGED = 0.5
"""Share of a histogram that is taken for hidden, at most."""


@dataclass(frozen=True)
class Bins:
    """How the fine codes of each column are grouped.

    Attributes
    ----------
    maps
        For each column the bin of each fine code.
    weights
        For each column the probability of each fine code within its bin.
    """

    maps: Mapping[str, Codes]
    weights: Mapping[str, Array]
    shape: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", {name: int(codes.max()) + 1 for name, codes in self.maps.items()})

    def refine(
        self,
        column: str,
        bins: Codes,
        mask: NDArray[np.bool_] | None,
        rng: np.random.Generator,
        places: Array | None = None,
    ) -> Codes:
        """Draw fine codes for rows whose bins are known.

        Parameters
        ----------
        column
            The column.
        bins
            (rows,) the bin of each row.
        mask
            (codes,) the codes that are allowed; None for all.
        rng
            Source of randomness.
        places
            (rows,) where in its bin each row lies, in [0, 1); by default evenly spread, so that shares are met as
            closely as whole rows can.
        """
        places = self.places(column, bins, rng) if places is None else places
        weights = self.weights[column] if mask is None else self.weights[column] * mask
        codes = np.argsort(self.maps[column], kind="stable")
        codes = codes[weights[codes] > 0]
        own = self.maps[column][codes]
        sums = np.cumsum(weights[codes] / totals(own, weights[codes])[own])
        # Where each bin's codes begin and end; a bin without any takes a neighbour's, and only a mask makes such bins.
        first, end = (np.searchsorted(own, np.arange(self.shape[column]), side) for side in ("left", "right"))
        low, high = np.concatenate([[0.0], sums])[np.stack([first, end])]
        target = low[bins] + places * (high - low)[bins]
        chosen = np.clip(np.searchsorted(sums, target, side="right"), first[bins], end[bins] - 1)
        return np.asarray(codes[np.maximum(chosen, 0)], dtype=np.int64)

    def places(self, column: str, bins: Codes, rng: np.random.Generator) -> Array:
        """Return where in its bin each row lies: evenly spread among the rows of a bin, in random order."""
        return _stratified(bins, self.shape[column], rng)

    def impossible(self, columns: Sequence[str], table: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the combinations of bins of which every combination of fine codes is impossible.

        Parameters
        ----------
        columns
            The table's columns.
        table
            True where a combination of fine codes cannot occur.
        """
        for axis, column in enumerate(columns):
            merged = np.ones((self.shape[column], *np.delete(table.shape, axis)), dtype=bool)
            np.logical_and.at(merged, self.maps[column], np.moveaxis(table, axis, 0))
            table = np.moveaxis(merged, 0, axis)
        return table

    def evidence(self, column: str, mask: NDArray[np.bool_] | Array) -> Array:
        """Probability that a row of each bin has a code that the mask allows (or, of shares, allows in part)."""
        return totals(self.maps[column], self.weights[column] * mask, self.shape[column])


def _stratified(bins: Codes, count: int, rng: np.random.Generator) -> Array:
    """One number in [0, 1) a row, evenly spread among the rows of each bin and in random order."""
    sizes = np.bincount(bins, minlength=count)
    rank = np.arange(len(bins)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    spread = np.empty(len(bins))
    spread[shuffled_by_group(bins, count, rng)] = (rank + rng.random(len(bins))) / np.repeat(sizes, sizes)
    return spread


def totals(codes: Codes, mass: Array, size: int = 0) -> Array:
    """Return the mass of each code, of at least `size` codes."""
    return np.asarray(np.bincount(codes, mass, minlength=size), dtype=np.float64)


def simplex(values: Array, total: float = 1.0) -> Array:
    """Euclidean projection on the non-negative vectors that sum to `total`.

    Source: Duchi et al. (2008), Efficient projections onto the l1-ball, figure 1.
    """
    descending = np.sort(values)[::-1]
    excess = (np.cumsum(descending) - total) / np.arange(1, len(values) + 1)
    threshold = excess[np.flatnonzero(descending > excess)[-1]]
    return np.asarray(np.maximum(values - threshold, 0.0))


def smooth(counts: Array, sigma: float, widths: Array) -> Array:
    """Shrink the noise of an ordered histogram by a regularity that the noisy counts themselves choose.

    The density ``f`` (counts over widths) is a smooth part with prior ``exp(-|D f|^2 / 2 a^2)`` on its second
    differences, plus spikes of variance ``b^2`` a cell (people write 20, not 19). The noise is known; a and b maximise
    the marginal likelihood (empirical Bayes), and the posterior mean is returned. Spikes that are far out of the
    others' law stay as they are and do not count for a and b.

    Parameters
    ----------
    counts
        Noisy counts.
    sigma
        Standard deviation of their noise.
    widths
        Share of each cell under an even spread.

    Source: Wahba (1990), Spline models for observational data, sections 1.5 and 4.8.
    """
    size = len(counts)
    if size < 8:
        return counts
    if size > FINEST:
        return _smooth_coarsely(counts, sigma, widths)
    difference = np.diff(np.eye(size), n=2, axis=0)
    # In noise units; the small ridge makes the prior proper and leaves level and slope all but free.
    prior = np.asarray(np.linalg.inv(difference.T @ difference + 1e-8 * np.eye(size)), dtype=np.float64)
    scaled: Array = np.asarray(counts / sigma, dtype=np.float64)
    shares = widths * size
    sizes = [0.0, *(0.3 * 4.0 ** np.arange(1 + np.log2(1 + np.abs(scaled).max())))]
    clear = np.zeros(size, dtype=bool)
    for _ in range(PASSES):
        smoothed = max((_posterior(scaled, prior, shares, b, clear) for b in sizes), key=lambda p: p.evidence)
        outside = np.abs(scaled - smoothed.even) > CLEAR * smoothed.noise
        if not (outside & ~clear).any():
            break
        clear |= outside
    return smoothed.mean * sigma


def _smooth_coarsely(counts: Array, sigma: float, widths: Array) -> Array:
    """Smooth blocks of neighbouring cells, whose number bounds the time; of single cells keep what is no noise."""
    blocks = np.arange(len(counts)) * FINEST // len(counts)
    root = np.sqrt(np.bincount(blocks))  # noise of a block's sum over that of a cell
    shares = totals(blocks, widths)
    coarse = root * smooth(totals(blocks, counts) / root, sigma, shares / root / (shares / root).sum())
    even = (coarse / shares)[blocks] * widths
    return np.asarray(np.where(np.abs(counts - even) > CLEAR * sigma, counts, even))


def hedged(mass: Array, sigma: float, widths: Array) -> Array:
    """Spread evenly over an ordered histogram what noise may have hidden in it.

    Where noise is large the projection on the non-negative leaves most cells empty and a few with all of the mass.
    Bins that are cut by these alone miss the patients, who then fall in one wide bin. So a part of the mass, `HEDGE`
    standard deviations of the noise of the sum of the cells, is spread over all of them. It vanishes with the noise.

    Parameters
    ----------
    mass
        Non-negative mass of each cell, in rows.
    sigma
        Standard deviation of the noise of a cell as it was counted, in rows.
    widths
        Share of each cell under an even spread.

    Returns
    -------
    float array
        Positive masses with the same sum.
    """
    total = float(mass.sum())
    part = min(HEDGE * sigma * float(np.sqrt(len(mass))) / max(total, 1.0), HEDGED)
    return np.asarray((1 - part) * mass + part * total * widths / widths.sum())


class _Posterior(NamedTuple):
    """Log marginal likelihood, posterior mean, its smooth part, and the deviation of cells from that."""

    evidence: float
    mean: Array
    even: Array
    noise: Array


def _posterior(scaled: Array, prior: Array, widths: Array, spike: float, clear: NDArray[np.bool_]) -> _Posterior:
    """Posterior for one size of spikes and the best smoothness; cells that are `clear` say nothing of the others."""
    # Given the spikes, noise in noise units has variance 1 + b w^2; divided by it the rest is diagonal in one basis.
    noise = np.sqrt(1 + spike * widths**2)
    wide = np.where(clear, 1e6 * noise, noise)
    values, vectors = np.linalg.eigh(prior * np.outer(widths / wide, widths / wide))
    waves = vectors.T @ (scaled / wide)
    scales = np.clip(values, 0, None) * np.geomspace(1e-7, 1e12, 58)[:, None]
    evidence = -0.5 * (waves**2 / (1 + scales) + np.log1p(scales)).sum(axis=1)
    best = int(np.argmax(evidence))
    even = wide * (vectors @ (scales[best] / (1 + scales[best]) * waves))
    mean = even + (1 - 1 / wide**2) * (scaled - even)
    return _Posterior(float(evidence[best] - np.log(wide).sum()), mean, even, noise)


def group(mass: Array, ordered: int, size: int, cuts: Sequence[int] = ()) -> Codes:
    """Merge states to about `size` groups of equal mass.

    The first `ordered` states are merged with their neighbours only; states behind them (special values, missing)
    keep a group of their own. Without order, states are merged by falling mass.

    Parameters
    ----------
    mass
        Non-negative mass of each state.
    ordered
        How many of the first states are ordered.
    size
        Number of groups that is wanted.
    cuts
        Ordered states that must begin a group.

    Returns
    -------
    int array
        The group of each state; every group number up to the largest is used.
    """
    if len(mass) <= size:
        return np.arange(len(mass))
    if not ordered:
        return _group_unordered(mass, size)
    alone = len(mass) - ordered
    codes = _equal_mass(mass[:ordered], max(size - alone, 2))
    starts = np.isin(np.arange(ordered), list(cuts))
    codes = np.cumsum((np.diff(codes, prepend=0) > 0) | starts)
    codes -= codes[0]
    return np.concatenate([codes, codes[-1] + 1 + np.arange(alone)])


def _equal_mass(mass: Array, size: int) -> Codes:
    if len(mass) <= size:
        return np.arange(len(mass))
    middle = (np.cumsum(mass) - mass / 2) / max(float(mass.sum()), 1e-300)
    return np.minimum((middle * size).astype(np.int64), size - 1)


def _group_unordered(mass: Array, size: int) -> Codes:
    """Keep the largest states alone and put the rest in one group; or two groups of about equal mass for `size` 2."""
    order = np.argsort(-mass, kind="stable")
    codes = np.empty(len(mass), dtype=np.int64)
    if size == 2:
        halves = (np.cumsum(mass[order]) - mass[order] / 2 >= float(mass.sum()) / 2).astype(np.int64)
        halves[0], halves[-1] = 0, 1
        codes[order] = halves
        return codes
    codes[order] = np.minimum(np.arange(len(mass)), size - 1)
    return codes
