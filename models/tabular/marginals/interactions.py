"""Noisy interactions of pairs of columns: at which resolution to ask, and how much of the answer to believe.

A pair is asked in groups of bins. Few groups blur the association, many groups add noise; both errors are known in
advance, up to the strength of the association, so the resolution is chosen before anything is spent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.query import Query
from dpsynth.models.tabular.graphical.estimation import Measurement, centring, merging
from dpsynth.models.tabular.marginals.binning import group
from dpsynth.privacy.session import Session

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Pair = tuple[str, str]

MEAN_ABSOLUTE = float(np.sqrt(2 / np.pi))
"""Mean of |Z| for a standard normal Z."""
GROUPS = (2, 3, 4, 5, 6, 8)
KEPT = {2: 0.637, 3: 0.793, 4: 0.861, 5: 0.897, 6: 0.919, 8: 0.945}
"""Share of a normal variable's variance between k groups of equal mass: ``k sum_j (phi(q_j) - phi(q_j+1))^2``."""
SURVIVING = 0.25
"""Share of a table's noise that the fit's shrinkage leaves: .12, .25, .5 and 1 were tried on NMES and SUPPORT2."""
FAINT = 1e-12
"""Energy that is taken for none."""


@dataclass(frozen=True)
class Column:
    """Bins of a column from which groups are formed: their proportions and their order.

    Attributes
    ----------
    proportions
        Probability of each bin.
    ordered
        How many of the first bins are ordered.
    """

    proportions: Array
    ordered: int

    @property
    def size(self) -> int:
        """Number of bins."""
        return len(self.proportions)

    def groups(self, size: int) -> Codes:
        """About `size` groups of the bins; two groups are halves, whatever the states."""
        if size == 2 and self.ordered:
            return _halves(self.proportions)
        alone = self.size - self.ordered if self.ordered else 0
        return group(self.proportions, self.ordered, size + alone)

    def options(self) -> dict[int, tuple[int, float]]:
        """For each size that may be asked for: how many groups come out, and the share of variance that they keep."""
        best = {}
        for size in GROUPS:
            count = int(self.groups(size).max()) + 1
            best[size] = count, 1.0 if count >= self.size else KEPT[size]
            if count >= self.size:
                break
        return best


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
    a: Column, b: Column, strength: float, sigma: float, *, whole: tuple[bool, bool] = (False, False)
) -> Resolution:
    """Choose the groups for a pair whose association has this strength (total variation) under noise `sigma`.

    Parameters
    ----------
    a, b
        The columns.
    strength
        Expected total variation distance from independence.
    sigma
        Standard deviation of a cell's noise as a proportion, before it shrinks by the share that interactions cost.
    whole
        For each column whether it is asked state by state, whatever that costs.
    """
    options = [
        ((c.size, (c.size, 1.0)),) if w else tuple(c.options().items()) for c, w in zip((a, b), whole, strict=True)
    ]
    return _resolve(options[0], options[1], round(strength, 4), float(f"{sigma:.3g}"))


Options = tuple[tuple[int, tuple[int, float]], ...]


@cache
def _resolve(first: Options, second: Options, strength: float, sigma: float) -> Resolution:
    best = Resolution((2, 2), 1, np.inf)
    for size_a, (cells_a, kept_a) in first:
        for size_b, (cells_b, kept_b) in second:
            if min(cells_a, cells_b) < 2:
                continue
            kept = float(np.sqrt(kept_a * kept_b))
            noise = SURVIVING * table_noise(cells_a, cells_b, sigma)
            error = float(risk(strength * kept, noise)) + strength * (1 - kept)
            if error < best.error:
                best = Resolution((size_a, size_b), (cells_a - 1) * (cells_b - 1), error)
    return best


def table_noise(cells_a: int, cells_b: int, sigma: float) -> float:
    """Return the expected total variation that the noise makes of an interaction.

    The price gives each cell the noise ``sigma r`` with ``r = sqrt((1 - 1/a)(1 - 1/b))``; without its margins a cell
    keeps the share ``r`` of that again.
    """
    return 0.5 * MEAN_ABSOLUTE * (cells_a - 1) * (cells_b - 1) * sigma


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
    """

    pair: Pair
    groups: tuple[Codes, Codes]
    values: Array
    excess: Array
    variance: float
    kept: float

    @property
    def freedom(self) -> int:
        """Number of free cells."""
        return int(np.prod([n - 1 for n in self.values.shape]))

    @property
    def energy(self) -> float:
        """Unbiased estimate of the squared norm of the true excess; negative where noise alone would give more."""
        return float((self.excess**2).sum()) - self.freedom * self.variance

    def measurement(self, energy: float) -> Measurement:
        """Return the measurement for the fit, shrunk for a true excess of this energy."""
        operators = tuple(centring(int(g.max()) + 1) @ merging(g, int(g.max()) + 1) for g in self.groups)
        return Measurement(self.pair, self.values, self.variance / max(energy, FAINT), operators)

    def strength(self, energy: float) -> float:
        """Total variation from independence that this energy amounts to, corrected for what the groups blur."""
        return 0.5 * float(np.sqrt(max(energy, 0) * self.values.size)) / self.kept


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
        excess = values - centre_a @ np.outer(*alone) @ centre_b
        options = [columns[c].options() for c in pairs[i]]
        kept = float(np.sqrt(np.prod([o.get(s, (0, 1.0))[1] for o, s in zip(options, sizes[i], strict=True)])))
        interactions[pairs[i]] = Interaction(pairs[i], (a, b), values, excess, (answer.sigma / rows) ** 2, kept)
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
