"""Noisy interactions of pairs of columns: at which resolution to ask, and how much of the answer to believe.

A pair is asked in groups of bins. Few groups blur the association, many groups add noise; both errors are known in
advance, up to the strength of the association, so the resolution is chosen before anything is spent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.query import Query
from dpsynth.models.tabular.graphical.estimation import Measurement, centring, merging
from dpsynth.models.tabular.marginals.binning import group
from dpsynth.models.tabular.marginals.profiles import Merges, merges, shrunk_profiles
from dpsynth.privacy.session import Session

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Pair = tuple[str, str]

MEAN_ABSOLUTE = float(np.sqrt(2 / np.pi))
"""Mean of |Z| for a standard normal Z."""
SIZES = (2, 3, 4, 6, 8, 16, 32, 64)
"""Numbers of groups in which a column may be asked for, beside all of its bins; which of them, the noise decides
(`resolve`). From 8 on each halves the groups of the one before, so that a column asked in several has few states."""
CUT = 8
"""Groups from which on a column that was cut for the target's sake is asked with these cuts, and beside it no fewer."""
MOST_CELLS = 4096
"""Cells of a table that is asked, at most: what a fit can solve in the time of the others."""
LEAST_KEPT = 0.1
"""Groups that keep less of an association, such as one value and next to no rows, are corrected for no more."""
JOINT = 200
"""Larger tables enter the fit whole, with the margins of the columns' own counts: its blocks are then solved in closed
form, cell by cell, where the interaction alone needs the equations of all cells together."""
SURVIVING = 0.25
"""Share of a table's noise that the fit's shrinkage leaves: .12 and .5 were tried on the proving ground."""
FAINT = 1e-12
"""Energy that is taken for none."""


def kept_in_order(size: int) -> float:
    """Return the share of an association that so many groups of equal mass of ordered values keep.

    An effect sets in at a threshold that is equally likely at each quantile q. Its variance is ``q (1 - q)``, 1/6 on
    average; a threshold at the part u of one of k groups loses ``u (1 - u) / k``, 1/(6k) on average.

    Examples
    --------
    >>> kept_in_order(2), kept_in_order(8)
    (0.5, 0.875)
    """
    return 1 - 1 / size


def kept_apart(mass: Array, codes: Codes) -> float:
    """Return the share of an association that groups of unordered values keep, when nothing is known of it.

    Each value goes with another column in its own way: effects that are exchangeable, with variance 1 and a mean of 0
    over the rows. Of their variance, ``sum p (1 - p)`` over values with shares p, the means of groups with shares m
    keep ``sum p^2 / m - sum p^2``.

    Examples
    --------
    >>> round(kept_apart(np.array([0.25, 0.25, 0.25, 0.25]), np.array([0, 0, 1, 1])), 3)
    0.333
    """
    shares = mass / max(float(mass.sum()), 1e-300)
    squares = float((shares**2).sum())
    groups = np.bincount(codes, shares)
    between = float((np.bincount(codes, shares**2) / np.maximum(groups, 1e-300)).sum())
    return min((between - squares) / max(1 - squares, 1e-300), 1.0)


Options = tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class Column:
    """Bins of a column from which groups are formed: their proportions and their order.

    Attributes
    ----------
    proportions
        Probability of each bin.
    ordered
        How many of the first bins are ordered.
    merges
        For an unordered column groups by what its values go with, at some sizes, and the share of an association that
        they keep (`profiles`); the others are merged by mass.
    cuts
        Ordered bins that begin a group where a column is asked in `CUT` groups or more, the best first.
    """

    proportions: Array
    ordered: int
    merges: Merges = field(default_factory=dict)
    cuts: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of bins."""
        return len(self.proportions)

    def groups(self, size: int) -> Codes:
        """About `size` groups of the bins; two groups are halves, whatever the states."""
        if size in self.merges:
            return self.merges[size][0]
        if size == 2 and self.ordered:
            return _halves(self.proportions)
        alone = self.size - self.ordered if self.ordered else 0
        if self.cuts and size >= CUT:
            return group(self.proportions, self.ordered, size + alone - len(self.cuts), self.cuts)
        return group(self.proportions, self.ordered, size + alone)

    def profiled(self, tables: Sequence[tuple[Array, float]]) -> "Column":
        """Return the column with values merged by what they go with, by tables that were asked value by value."""
        if self.ordered or not tables:
            return self
        sizes = [size for size in SIZES if size < self.size]
        return replace(self, merges=merges(self.proportions, shrunk_profiles(self.proportions, tables), sizes))

    @cached_property
    def options(self) -> Options:
        """For each size that may be asked for: how many groups come out, and the share of variance that they keep."""
        best = {}
        for size in (*(size for size in SIZES if size < self.size), self.size):
            codes = self.groups(size)
            whole = int(codes.max()) + 1 >= self.size
            best[size] = int(codes.max()) + 1, 1.0 if whole else self.kept(size, codes)
        return tuple((size, count, kept) for size, (count, kept) in best.items())

    def fixed(self, size: int) -> Options:
        """Return the one option of about `size` groups."""
        size = min(size, self.size)
        return ((size, int(self.groups(size).max()) + 1, 1.0),)

    def kept(self, size: int, codes: Codes) -> float:
        """Share of the variance of an association that these groups keep."""
        if size in self.merges:
            return self.merges[size][1]
        return kept_in_order(size) if self.ordered else kept_apart(self.proportions, codes)


def _halves(mass: Array) -> Codes:
    """Two groups of about equal mass along the order."""
    codes = (np.cumsum(mass) - mass / 2 >= mass.sum() / 2).astype(np.int64)
    codes[0], codes[-1] = 0, 1 if len(codes) > 1 else 0
    return np.asarray(codes)


def risk(strength: Array | float, noise: Array | float) -> Array:
    """Error that is left of a signal of this strength when it is measured with this noise and shrunk optimally."""
    return np.asarray(strength * noise / np.sqrt(strength * strength + noise * noise + 1e-300))


@dataclass(frozen=True)
class Resolution:
    """How finely a pair is asked.

    Attributes
    ----------
    sizes
        Groups that are asked for along each column.
    freedom
        Free cells of the interaction that comes out.
    error
        Expected total variation error of the pair after the measurement.
    """

    sizes: tuple[int, int]
    freedom: int
    error: float


def resolve(
    a: Column,
    b: Column,
    strength: float,
    sigma: float,
    *,
    spare: float = 0.0,
    most: tuple[int, int] = (SIZES[-1], SIZES[-1]),
    whole: tuple[int, int] = (0, 0),
    least: tuple[int, int] = (0, 0),
) -> Resolution:
    """Choose the groups for a pair whose association has this strength (total variation) under noise `sigma`.

    Among resolutions that are as good but for `spare` the one with the fewest cells is taken: it leaves room for other
    pairs in the model.

    Parameters
    ----------
    a, b
        The columns.
    strength
        Expected total variation distance from independence.
    sigma
        Standard deviation of a cell's noise as a proportion, before it shrinks by the share that interactions cost.
    spare
        Error by which a coarser table may be worse and is taken.
    most
        For each column how many groups it may be asked in at most; two are always allowed.
    whole
        For each column in how many groups it is asked whatever that costs, or 0.
    least
        For each column in how many groups it is asked at least.
    """
    options = []
    for column, limit, fixed, lowest in zip((a, b), most, whole, least, strict=True):
        fewest = min(lowest, column.size)
        allowed = [o for o in column.options if o[0] >= fewest and (o[0] <= max(limit, fewest, 2) or o[1] <= limit)]
        options.append(tuple(column.fixed(fixed) if fixed else allowed or column.options[:1]))
    return _resolve(options[0], options[1], round(strength, 4), float(f"{sigma:.3g}"), float(f"{spare:.2g}"))


@cache
def _resolve(first: Options, second: Options, strength: float, sigma: float, spare: float) -> Resolution:
    (sizes_a, cells_a, kept_a), (sizes_b, cells_b, kept_b) = (zip(*options, strict=True) for options in (first, second))
    free = np.outer(np.array(cells_a) - 1, np.array(cells_b) - 1)
    kept = np.sqrt(np.outer(kept_a, kept_b))
    errors = risk(strength * kept, SURVIVING * _noise(free, sigma)) + strength * (1 - kept)
    errors[(free < 1) | (np.outer(cells_a, cells_b) > MOST_CELLS)] = np.inf
    if not np.isfinite(errors).any():
        return Resolution((2, 2), 1, np.inf)
    good = np.where(errors <= errors.min() + spare, free, np.iinfo(np.int64).max)
    i, j = np.unravel_index(int(np.argmin(good + errors)), errors.shape)
    return Resolution((int(sizes_a[i]), int(sizes_b[j])), int(free[i, j]), float(errors[i, j]))


def _noise(free: Array | int, sigma: float) -> Any:
    return 0.5 * MEAN_ABSOLUTE * free * sigma


def table_noise(cells_a: int, cells_b: int, sigma: float) -> float:
    """Return the expected total variation that the noise makes of an interaction.

    The price gives each cell the noise ``sigma r`` with ``r = sqrt((1 - 1/a)(1 - 1/b))``; without its margins a cell
    keeps the share ``r`` of that again.
    """
    return float(_noise((cells_a - 1) * (cells_b - 1), sigma))


@dataclass(frozen=True)
class Interaction:
    """A measured interaction of two columns.

    Attributes
    ----------
    pair
        The columns.
    groups
        For each column the group of each bin.
    values
        The measured interaction as proportions, with margins of 0.
    excess
        The measured interaction less that of independent columns.
    variance
        Variance of a cell's noise before its margins were removed.
    kept
        Share of a linear association that the groups keep.
    alone
        What the columns' own counts make of the table: their product.
    """

    pair: Pair
    groups: tuple[Codes, Codes]
    values: Array
    excess: Array
    variance: float
    kept: float
    alone: Array

    @property
    def freedom(self) -> int:
        """Number of free cells."""
        return int(np.prod([n - 1 for n in self.values.shape]))

    @property
    def energy(self) -> float:
        """Unbiased estimate of the squared norm of the true excess; negative where noise alone would give more."""
        return float((self.excess**2).sum()) - self.freedom * self.variance

    @property
    def telling(self) -> dict[str, Codes]:
        """For each column the groups of bins that are told apart."""
        return dict(zip(self.pair, self.groups, strict=True))

    def measurement(self, energy: float, states: Mapping[str, Codes]) -> Measurement:
        """Return the measurement for the fit over states of bins, shrunk for a true excess of this energy."""
        slack = self.variance / max(energy, FAINT)
        merged = [merging(groups, int(groups.max()) + 1) for groups in self.over(states).groups]
        if self.values.size > JOINT:
            return Measurement(self.pair, self.table, slack, tuple(merged))
        operators = tuple(centring(len(operator)) @ operator for operator in merged)
        return Measurement(self.pair, self.values, slack, operators)

    def over(self, states: Mapping[str, Codes]) -> "Interaction":
        """Return the same with the groups of states of bins that tell them apart."""
        groups = [codes[np.unique(states[name], return_index=True)[1]] for name, codes in self.telling.items()]
        return replace(self, groups=tuple(groups))  # type: ignore[arg-type]

    def kept_of(self, energy: float) -> float:
        """Share of the excess that is believed when the true excess has this energy."""
        return energy / (energy + self.freedom * self.variance)

    @property
    def table(self) -> Array:
        """The whole table: the measured excess over what the columns' own counts make of it."""
        return self.excess + self.alone

    def strength(self, energy: float) -> float:
        """Total variation from independence that this energy amounts to, corrected for what the groups blur."""
        return 0.5 * float(np.sqrt(max(energy, 0) * self.values.size)) / max(self.kept, LEAST_KEPT)


def ask(
    session: Session,
    columns: Mapping[str, Column],
    maps: Mapping[str, Codes],
    rows: float,
    *,
    pairs: Sequence[Pair],
    sizes: Sequence[tuple[int, int]],
    rhos: Sequence[float],
) -> dict[Pair, Interaction]:
    """Measure the interactions of pairs. Formal guarantee: one `Session.interactions`, costs at most the sum of `rhos`.

    Parameters
    ----------
    session
        The open session.
    columns
        Proportions of the bins of each column.
    maps
        The bin of each fine code of each column.
    rows
        Estimated number of rows.
    pairs, sizes, rhos
        What to measure, in how many groups, at which price. Pairs with a constant column are left out.
    """
    groups = [
        tuple(columns[c].groups(size) for c, size in zip(p, s, strict=True)) for p, s in zip(pairs, sizes, strict=True)
    ]
    useful = [i for i, (a, b) in enumerate(groups) if a.max() > 0 and b.max() > 0]
    queries = [Query(pairs[i], tuple(g[maps[c]] for c, g in zip(pairs[i], groups[i], strict=True))) for i in useful]
    answers = session.interactions(queries, [rhos[i] for i in useful])
    interactions = {}
    for i, answer in zip(useful, answers, strict=True):
        a, b = groups[i]
        centre_a, centre_b = centring(int(a.max()) + 1), centring(int(b.max()) + 1)
        values = centre_a @ (answer.values / rows) @ centre_b
        alone = [np.bincount(g, columns[c].proportions) for c, g in zip(pairs[i], groups[i], strict=True)]
        product: Array = np.outer(*alone).astype(np.float64)
        excess = values - centre_a @ product @ centre_b
        known = [{size: share for size, _, share in columns[c].options} for c in pairs[i]]
        kept = float(np.sqrt(np.prod([k.get(s, 1.0) for k, s in zip(known, sizes[i], strict=True)])))
        interactions[pairs[i]] = Interaction(
            pairs[i], (a, b), values, excess, (answer.sigma / rows) ** 2, kept, product
        )
    return interactions


def energies(measured: Mapping[Pair, Interaction]) -> dict[Pair, float]:
    """Posterior energy of each interaction: its own estimate shrunk to the mean of all, by empirical Bayes."""
    if not measured:
        return {}
    own = np.array([i.energy for i in measured.values()])
    # Variance of a noisy squared norm: 2 f v^2 from the noise alone, 4 v S from its product with the signal.
    variance = np.array([2 * i.freedom * i.variance**2 + 4 * i.variance * max(i.energy, 0) for i in measured.values()])
    mean = max(float(own.mean()), 0.0)
    spread = max(float(np.mean((own - mean) ** 2 - variance)), FAINT**2)
    posterior = (own * spread + mean * variance) / (spread + variance)
    return {pair: max(float(e), FAINT) for pair, e in zip(measured, posterior, strict=True)}
