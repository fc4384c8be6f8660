"""Interactions of three columns: what no pair can show, such as a parity, and where it is looked for.

In ``y = x1 xor x2`` every pair of columns is independent, so whatever is learned from pairs is chance. The part of a
triple's table whose every margin is 0 is all that pairs leave out, and a row costs ``sqrt(prod(1 - 1/k))`` of it
(`Session.interactions`): .35 of a count on 2 x 2 x 2 groups.

*The scan.* A triple of strength t (total variation) on c cells has an energy of ``(2 t)^2 / c`` at least. Noise of
variance v in each of f free cells gives a squared norm that is v times chi-square of f. Among m triples a norm above
the quantile of ``FALSE / m`` is taken for real; a triple is found nearly always where its energy is ``lambda v`` with
``lambda = a + 8 + sqrt(16 a + 64 + 8 f)``, a the quantile less f (mean and two standard deviations of the non-central
chi-square, solved for lambda). With ``v = (s r)^2 / (2 rho n^2)`` that is the price

    rho = lambda f s^2 / (8 t^2 n^2)        since c r^2 = f for c = prod k and r^2 = prod (1 - 1/k).

It falls with the square of the number of rows. A scan gets the price of `FAINTEST`, at most the part `SCAN` of what
pairs would get, and is not asked at all where that would hide a triple of `STRONG`: of all triples, or else of those
with the target, on as many groups as that allows. So it costs next to nothing where it sees, and nothing where noise
would hide what it looks for.

*The refinement.* What the scan found beyond what the pairs explain (the maximum-entropy table of the three pairs, by
iterative proportional fitting) is asked as finely as its strength deserves, at prices by (weight x free cells)^(2/3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, product
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.query import Query
from dpsynth.models.plan import PlanItem
from dpsynth.models.tabular.marginals.interactions import (
    CUT,
    MEAN_ABSOLUTE,
    SURVIVING,
    Interaction,
    Pair,
    energies,
    risk,
)
from dpsynth.models.tabular.marginals.stage import TARGET_WEIGHT, Stage
from dpsynth.privacy.session import Session

__all__ = [
    "Found",
    "Pattern",
    "Scan",
    "ask_triples",
    "beyond_pairs",
    "clear_triples",
    "refined",
    "scan",
    "scan_of",
    "telling",
]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Triple = tuple[str, ...]
PairBatch = Mapping[Pair, Interaction]

SCAN = 0.05
"""Share of what is left after the columns that a scan may cost, at most."""
FAINTEST = 0.05
"""Total variation of the weakest triple that a scan looks for: that of a typical pair of clinical columns."""
STRONG = 0.15
"""Total variation that a scan must find to be asked: that of a pair of columns which tells a balanced outcome with an
AUROC of .65. A parity has up to .5."""
FALSE = 0.05
"""Chance that a scan of nothing but noise finds anything."""
FINEST = (4, 3, 2)
"""Groups along an axis of the scan that are tried, the finest first."""
CELLS = 50_000
"""Cells of a scan at most: the sampler of the noise takes 10 microseconds for each."""
READ = 3e9
"""Rows times triples of a scan at most: ten seconds of counting."""
SIDE = 5
"""Groups along an axis of a refined triple at most."""
HELD = 256, 512
"""States of a triple's columns together at most, without the target and with it: time of a step of the fit."""
PRODUCTS = 15
"""Triples of the target with two columns that tell it most, which are asked whatever a scan saw of them."""
ROUNDS = 10
"""Rounds of iterative proportional fitting; pairs of clinical columns settle in fewer."""


@dataclass(frozen=True)
class Pattern:
    """A question about three columns.

    Attributes
    ----------
    columns
        In the order of the domain.
    sizes
        Groups that are asked for along each.
    rho
        Its price.
    """

    columns: Triple
    sizes: tuple[int, ...]
    rho: float


@dataclass(frozen=True)
class Scan:
    """A scan of triples: its questions, and what all of them cost.

    Attributes
    ----------
    patterns
        The questions; empty where noise would hide what is looked for.
    """

    patterns: tuple[Pattern, ...] = ()

    @property
    def rho(self) -> float:
        """What the scan costs."""
        return sum(pattern.rho for pattern in self.patterns)

    def items(self, stage: Stage) -> list[PlanItem]:
        """Return the scan's line of a plan, if there is one."""
        if not self.patterns:
            return []
        free = [prod(_count(stage, c, n) - 1 for c, n in zip(p.columns, p.sizes, strict=True)) for p in self.patterns]
        sigma = float(np.median([stage.sigma(pattern.rho) for pattern in self.patterns])) * stage.counts.rows
        note = "for what no pair shows; what stands out is refined with a part of the pairs' budget"
        return [PlanItem("triples, scanned coarsely", len(free), sum(free), sigma, note)]


def scan_of(stage: Stage, rho: float) -> Scan:
    """Return the finest scan that costs at most `SCAN` of `rho`: of all triples, or of those with the target, or none.

    Parameters
    ----------
    stage
        What is known of the columns.
    rho
        What is left of the budget after the columns were counted.
    """
    names = [name for name, column in stage.columns.items() if column.size > 1]
    every = list(combinations(names, 3))
    for triples in (every, [t for t in every if stage.target in t] if stage.target else []):
        if not triples or len(triples) * stage.counts.rows > READ:
            continue
        for side in FINEST:
            scan = Scan(tuple(_scanned(stage, triples, side)))
            share = min(1.0, SCAN * rho / scan.rho) if scan.patterns else 0.0
            enough = 1.0 if side > FINEST[-1] else (FAINTEST / STRONG) ** 2
            if share >= enough and sum(prod(pattern.sizes) for pattern in scan.patterns) <= CELLS:
                return Scan(tuple(replace(pattern, rho=pattern.rho * share) for pattern in scan.patterns))
    return Scan()


def _scanned(stage: Stage, triples: Sequence[Triple], side: int) -> list[Pattern]:
    counts = {name: _count(stage, name, side) for name in stage.columns}
    unit = stage.sensitivity**2 / (8 * (FAINTEST * stage.counts.rows) ** 2)
    patterns = []
    for triple in triples:
        free = prod(counts[name] - 1 for name in triple)
        if free > 0:
            patterns.append(Pattern(triple, (side,) * 3, unit * free * needed(free, len(triples))))
    return patterns


def _groups(stage: Stage, name: str, size: int) -> Codes:
    """Return about `size` groups of a column's states: where it was cut for the target's sake, by its best cuts."""
    column = stage.columns[name]
    if not column.cuts or size > len(column.cuts) + 1:
        return column.groups(max(size, CUT) if column.cuts else size)
    codes = np.searchsorted(np.sort(column.cuts[: size - 1]), np.arange(column.ordered), side="right")
    return np.concatenate([codes, codes[-1] + 1 + np.arange(column.size - column.ordered)])


def _count(stage: Stage, name: str, size: int) -> int:
    return int(_groups(stage, name, size).max()) + 1


def _options(stage: Stage, name: str) -> list[tuple[int, int, float]]:
    """Return for each size that may be asked for: how many groups come out, and the share of variance they keep."""
    column = stage.columns[name]
    options = {size: (count, kept) for size, count, kept in column.options}
    if column.cuts:
        options = {size: (_count(stage, name, size), kept) for size, (_, kept) in options.items()}
    return [(size, count, kept) for size, (count, kept) in options.items() if count > 1]


@cache
def threshold(free: int, triples: int) -> float:
    """Squared norm, in variances of the noise, above which a triple is taken for real among so many."""
    from scipy.stats import chi2

    return float(chi2.isf(FALSE / triples, free))


@cache
def needed(free: int, triples: int) -> float:
    """Energy, in variances of the noise, of a triple that is found but for two standard deviations of bad luck."""
    above = threshold(free, triples) - free
    return above + 8 + sqrt(16 * above + 64 + 8 * free)


def ask_triples(session: Session, stage: Stage, patterns: Sequence[Pattern]) -> dict[Triple, Interaction]:
    """Measure interactions of three columns; their excess is beside independent columns.

    Formal guarantee: one `Session.interactions`, costs the sum of the prices. A patient with at most ``cap`` rows moves
    each answer by at most ``cap sqrt(prod(1 - 1/k))`` (L2), which the session takes for its noise.
    """
    asked = []
    for pattern in patterns:
        groups = tuple(_groups(stage, c, size) for c, size in zip(pattern.columns, pattern.sizes, strict=True))
        if all(g.max() > 0 for g in groups):
            asked.append((pattern, groups))
    maps = stage.counts.bins.maps
    queries = [
        Query(pattern.columns, tuple(g[maps[c]] for c, g in zip(pattern.columns, groups, strict=True)))
        for pattern, groups in asked
    ]
    rows, found = stage.counts.rows, {}
    for (pattern, groups), answer in zip(
        asked, session.interactions(queries, [pattern.rho for pattern, _ in asked]), strict=True
    ):
        values = centred(answer.values / rows)
        alone = _outer([_grouped(stage, c, g) for c, g in zip(pattern.columns, groups, strict=True)])
        shares = [{size: kept for size, _, kept in _options(stage, c)} for c in pattern.columns]
        kept = sqrt(prod(share.get(size, 1.0) for share, size in zip(shares, pattern.sizes, strict=True)))
        found[pattern.columns] = Interaction(
            pattern.columns,  # type: ignore[arg-type]
            groups,  # type: ignore[arg-type]
            values,
            values - centred(alone),
            (answer.sigma / rows) ** 2,
            kept,
            alone,
        )
    return found


def _grouped(stage: Stage, column: str, groups: Codes) -> Array:
    return np.asarray(np.bincount(groups, stage.columns[column].proportions), dtype=np.float64)


def _outer(shares: Sequence[Array]) -> Array:
    table = np.ones(())
    for share in shares:
        table = table[..., None] * share
    return np.asarray(table)


def centred(table: Array) -> Array:
    """Return the interaction of a table: what is left when every margin is taken away."""
    for axis in range(table.ndim):
        table = table - table.mean(axis=axis, keepdims=True)
    return np.asarray(table)


def clear_triples(measured: Mapping[Triple, Interaction], among: int) -> dict[Triple, Interaction]:
    """Return the triples that noise does not explain, of so many that were looked at."""
    return {
        triple: interaction
        for triple, interaction in measured.items()
        if (interaction.excess**2).sum() > threshold(interaction.freedom, among) * interaction.variance
    }


@dataclass(frozen=True)
class Found:
    """What a scan found: triples that noise does not explain beside independent columns, and what is kept for them.

    Attributes
    ----------
    scanned
        Their interactions, the most telling first.
    among
        How many triples were scanned.
    rho
        What is kept back for the refinement.
    """

    scanned: Mapping[Triple, Interaction]
    among: int
    rho: float

    def beyond(self, stage: Stage, batches: Sequence[PairBatch]) -> dict[Triple, Interaction]:
        """Return what is left of them beside the pairs."""
        clear = _ranked(stage, clear_triples(beyond_pairs(stage, self.scanned, batches), self.among))
        return dict(list(clear.items())[: len(stage.columns)])


def products(stage: Stage, strength: Mapping[Pair, float]) -> list[Triple]:
    """Return triples of the target with the two columns whose pairs with it are strongest, by their product."""
    own = {next(c for c in pair if c != stage.target): value for pair, value in strength.items()}
    ranked = sorted(combinations(own, 2), key=lambda pair: (-own[pair[0]] * own[pair[1]], pair))
    order = list(stage.columns)
    return [tuple(sorted((*pair, str(stage.target)), key=order.index)) for pair in ranked[:PRODUCTS]]


def small(states: Mapping[str, int], triple: Triple, target: str | None) -> bool:
    """Whether a fit can take the triple up in the time that there is."""
    return prod(states[c] for c in triple) <= HELD[target in triple]


def telling(stage: Stage, triple: Triple) -> dict[str, Codes]:
    """Return the groups in which a triple of ordinary strength is asked, about."""
    return {name: _groups(stage, name, FINEST[0]) for name in triple}


def scan(session: Session, stage: Stage, rho: float) -> tuple[Found, float]:
    """Scan triples if that is worth it for a cohort that has `rho` left; return what was found and what that cost."""
    questions = scan_of(stage, rho)
    if not questions.patterns:
        return Found({}, 0, 0.0), 0.0
    among = len(questions.patterns)
    clear = clear_triples(ask_triples(session, stage, questions.patterns), among)
    scanned = _ranked(stage, clear)
    return Found(scanned, among, _kept_back(stage, scanned, rho - questions.rho)), questions.rho


def _ranked(stage: Stage, triples: Mapping[Triple, Interaction]) -> dict[Triple, Interaction]:
    def telling(triple: Triple) -> float:
        return -_weight(stage, triple) * triples[triple].strength(triples[triple].energy)

    return {triple: triples[triple] for triple in sorted(triples, key=lambda t: (telling(t), t))}


def _weight(stage: Stage, triple: Triple) -> float:
    return TARGET_WEIGHT if stage.target in triple else 1.0


def _kept_back(stage: Stage, scanned: Mapping[Triple, Interaction], rest: float) -> float:
    """Return the triples' part of the rest: by (weight x free cells)^(2/3), about 3 x 3 groups beside a target of 2."""
    needs = sum(need(stage, triple, (3,) * 3) for triple in list(scanned)[: len(stage.columns)])
    return rest * needs / (needs + stage.needs) if needs else 0.0


def beyond_pairs(
    stage: Stage, triples: Mapping[Triple, Interaction], batches: Sequence[PairBatch]
) -> dict[Triple, Interaction]:
    """Return the triples with their excess beside what the measured pairs of their columns explain.

    Parameters
    ----------
    stage
        What is known of the columns.
    triples
        Measured triples.
    batches
        Measured pairs; of a pair that was measured in several the last counts.
    """
    pairs: dict[Pair, tuple[Interaction, float]] = {}
    for batch in batches:
        posterior = energies(batch)
        pairs |= {pair: (interaction, posterior[pair]) for pair, interaction in batch.items()}
    beyond = {}
    for triple, interaction in triples.items():
        explained = _explained(stage, interaction, pairs)
        beyond[triple] = replace(interaction, excess=interaction.values - centred(explained), alone=explained)
    return beyond


def _pair_table(stage: Stage, interaction: Interaction, energy: float, groups: Sequence[Codes]) -> Array:
    """Return a pair's table over these groups of bins, with as much of its excess as is believed."""
    margins, spread = [], []
    for name, own, wanted in zip(interaction.pair, interaction.groups, groups, strict=True):
        shares = stage.columns[name].proportions
        within = shares / np.maximum(np.bincount(own, shares), 1e-300)[own]
        moved = np.zeros((int(wanted.max()) + 1, int(own.max()) + 1))
        np.add.at(moved, (wanted, own), within)
        spread.append(moved)
        margins.append(np.bincount(wanted, shares))
    excess = spread[0] @ interaction.excess @ spread[1].T
    return np.asarray(np.outer(*margins) + interaction.kept_of(energy) * excess)


def _explained(stage: Stage, interaction: Interaction, pairs: Mapping[Pair, tuple[Interaction, float]]) -> Array:
    """Return the table of a triple's groups with the most entropy for the tables of its pairs."""
    names, groups = interaction.pair, interaction.groups
    table = _outer([_grouped(stage, c, g) for c, g in zip(names, groups, strict=True)])
    known = [(i, j) for i, j in ((0, 1), (0, 2), (1, 2)) if (names[i], names[j]) in pairs]
    if len(known) < 2:
        return table
    margins = []
    for i, j in known:
        merged = np.maximum(_pair_table(stage, *pairs[names[i], names[j]], (groups[i], groups[j])), 1e-9)
        margins.append((3 - i - j, merged / merged.sum()))
    for _ in range(ROUNDS):
        for axis, margin in margins:
            table = table * np.expand_dims(margin / np.maximum(table.sum(axis=axis), 1e-12), axis)
    return np.asarray(table)


def refined(stage: Stage, found: Mapping[Triple, float], rho: float) -> list[Pattern]:
    """Return the questions of the refinement: as finely as each triple's strength deserves for its part of `rho`.

    Triples that would be asked into the noise are left out.

    Parameters
    ----------
    stage
        What is known of the columns.
    found
        Strength (total variation) of the triples that may be asked.
    rho
        What all of it may cost.
    """
    triples, prices = list(found), dict.fromkeys(found, rho / max(len(found), 1))
    sizes: dict[Triple, tuple[int, ...]] = {}
    for _ in range(2):
        choices = {t: _resolution(stage, t, found[t], prices[t]) for t in triples}
        triples = [t for t in triples if choices[t][1] < found[t]]
        sizes = {t: choices[t][0] for t in triples}
        needs = {t: need(stage, t, sizes[t]) for t in triples}
        prices = {t: rho * needs[t] / sum(needs.values()) for t in triples}
    return [Pattern(t, sizes[t], prices[t]) for t in triples]


def need(stage: Stage, triple: Triple, sizes: Sequence[int]) -> float:
    """Return (weight x free cells)^(2/3), by which prices are shared out."""
    free = prod(_count(stage, name, size) - 1 for name, size in zip(triple, sizes, strict=True))
    return float((_weight(stage, triple) * free) ** (2 / 3))


def _resolution(stage: Stage, triple: Triple, strength: float, rho: float) -> tuple[tuple[int, ...], float]:
    """Return the groups with the least expected error, as for pairs, and that error."""
    sigma = stage.sigma(rho)
    options = [[option for option in _options(stage, c) if option[1] <= SIDE] for c in triple]
    best: tuple[tuple[int, ...], float] = ((2,) * 3, np.inf)
    for choice in product(*options):
        kept = sqrt(prod(kept for _, _, kept in choice))
        noise = SURVIVING * 0.5 * MEAN_ABSOLUTE * prod(count - 1 for _, count, _ in choice) * sigma
        error = float(risk(strength * kept, noise)) + strength * (1 - kept)
        if error < best[1]:
            best = tuple(size for size, _, _ in choice), error
    return best
