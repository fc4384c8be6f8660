"""Where in their bins related columns lie together: post-processing of the fitted model.

A graphical model over bins says which bins go together and nothing of where in them the values lie; drawn apart, two
columns of correlation .9 in eight bins each keep less than .85. For pairs that the schema calls related the rest is
filled in by a Gaussian copula. Its correlation is the one under which the mean of ``m_a m_b``, with m the mean normal
score of each bin, is that of the model's own table of the two columns. Links make a forest, each column with at most
one earlier one, in which normal scores are drawn by Gibbs sweeps: given the scores of its neighbours a column's score
is normal, cut off at the ends of the bin that the model drew. Only the order of the rows of a bin is taken from this:
their places stay evenly spread, so that no column changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.models.tabular.graphical.model import GraphicalModel
from dpsynth.models.tabular.marginals.binning import Bins

__all__ = ["Link", "coupled", "links"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

MOST = 0.999
"""Correlation of a copula at most."""
LEAST = 0.1
"""Weaker pairs are drawn apart."""
QUADRATURE = 400
"""Points at which the copula is integrated."""
SWEEPS = 6
"""Gibbs sweeps, the first of them without neighbours."""
HALVINGS = 20
"""Steps of the bisection."""
EDGE = 1e-9
"""Probabilities are kept so far from 0 and 1."""


@dataclass(frozen=True)
class Link:
    """Correlation of a column with an earlier one within their bins.

    Attributes
    ----------
    parent
        The earlier column.
    correlation
        Of the normal scores.
    ends
        For the parent and the column the cumulative probability at the ends of each ordered bin.
    """

    parent: str
    correlation: float
    ends: tuple[Array, Array]


def links(codec: Codec, graph: GraphicalModel, bins: Bins) -> dict[str, Link]:
    """Return for each column that is related to an earlier one its strongest link."""
    ordered = {name: _ordered_bins(codec, bins, name) for name in codec.columns}
    order = list(codec.columns)
    strongest: dict[str, Link] = {}
    for pair in codec.flat.related:
        if not all(ordered.get(name, 0) > 1 for name in pair):
            continue
        parent, child = sorted(pair, key=order.index)
        link = _link(parent, graph.marginal([parent, child])[: ordered[parent], : ordered[child]])
        least = abs(strongest[child].correlation) if child in strongest else LEAST
        if link is not None and abs(link.correlation) > least:
            strongest[child] = link
    return strongest


def _ordered_bins(codec: Codec, bins: Bins, name: str) -> int:
    cells = codec.columns[name].ordered
    return int(bins.maps[name][:cells].max()) + 1 if cells else 0


def _link(parent: str, table: Array) -> Link | None:
    total = float(table.sum())
    if total < EDGE:
        return None
    shares = [table.sum(axis=1 - axis) / total for axis in (0, 1)]
    ends = [np.concatenate([[0.0], np.cumsum(share)]) for share in shares]
    means = [_mean_scores(share, end) for share, end in zip(shares, ends, strict=True)]
    kept = [float(share @ mean**2) for share, mean in zip(shares, means, strict=True)]
    if min(kept) < EDGE:
        return None
    wanted = float(means[0] @ table @ means[1]) / total
    return Link(parent, _correlation(wanted, (means[0], means[1]), (ends[0], ends[1])), (ends[0], ends[1]))


def _correlation(wanted: float, means: tuple[Array, Array], ends: tuple[Array, Array]) -> float:
    """Return the copula's correlation for which the mean product of the bins' scores is `wanted`, by bisection."""
    from scipy.stats import norm

    shares = (np.arange(QUADRATURE) + 0.5) / QUADRATURE
    scores = norm.ppf(shares)
    own = means[0][np.clip(np.searchsorted(ends[0], shares, side="right") - 1, 0, len(means[0]) - 1)]
    cuts = norm.ppf(np.clip(ends[1], 0.0, 1.0))
    low, high = -MOST, MOST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = norm.cdf((cuts[None, :] - middle * scores[:, None]) / np.sqrt(1 - middle**2))
        correlation = float(np.mean(own * (np.diff(below, axis=1) @ means[1])))
        low, high = (middle, high) if correlation < wanted else (low, middle)
    return (low + high) / 2


def _mean_scores(shares: Array, ends: Array) -> Array:
    """Return the mean normal score of each bin: the difference of the densities at its ends over its share."""
    from scipy.stats import norm

    density = norm.pdf(norm.ppf(np.clip(ends, 0, 1)))
    return np.asarray(np.divide(density[:-1] - density[1:], shares, out=np.zeros_like(shares), where=shares > EDGE))


def coupled(coupling: Mapping[str, Link], bins: Mapping[str, Codes], rng: np.random.Generator) -> dict[str, Array]:
    """Return the places of rows within their bins of the linked columns, evenly spread and coupled.

    Parameters
    ----------
    coupling
        Links by column.
    bins
        (rows,) bins of each column.
    rng
        Source of randomness.
    """
    from scipy.stats import norm

    ends: dict[str, Array] = {}
    beside: dict[str, list[tuple[str, float]]] = {}
    for child, link in coupling.items():
        for name, other, own in ((link.parent, child, link.ends[0]), (child, link.parent, link.ends[1])):
            ends.setdefault(name, own)
            beside.setdefault(name, []).append((other, link.correlation))
    inside = {name: bins[name] < len(own) - 1 for name, own in ends.items()}
    scores = {name: np.zeros(len(bins[name])) for name in ends}
    free = {name: rng.random(len(bins[name])) for name in ends}
    for sweep in range(SWEEPS):
        for name, own in ends.items():
            rows = np.flatnonzero(inside[name])
            precision, pull = np.ones(len(rows)), np.zeros(len(rows))
            for other, r in beside[name] if sweep else ():
                counted = inside[other][rows]
                precision += np.where(counted, r * r / (1 - r * r), 0.0)
                pull += np.where(counted, r / (1 - r * r) * scores[other][rows], 0.0)
            mean, spread = pull / precision, 1 / np.sqrt(precision)
            cuts, code = norm.ppf(np.clip(own, 0.0, 1.0)), bins[name][rows]
            low, high = (norm.cdf((cuts[code + k] - mean) / spread) for k in (0, 1))
            share = np.clip(low + rng.random(len(rows)) * (high - low), EDGE, 1 - EDGE)
            scores[name][rows] = free[name][rows] = mean + spread * norm.ppf(share)
    return {name: _evenly(bins[name], free[name], rng) for name in ends}


def _evenly(bins: Codes, raw: Array, rng: np.random.Generator) -> Array:
    """Return evenly spread places in the order of the raw ones, within each bin."""
    order = np.lexsort((rng.random(len(raw)), raw, bins))
    sizes = np.bincount(bins)
    rank = np.empty(len(raw))
    rank[order] = np.arange(len(raw)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.asarray((rank + rng.random(len(raw))) / sizes[bins])
