"""The questions of PRISM about pairs: which are asked, how finely, and at which price.

What follows here from the counts of the columns and public facts is derived in `dpsynth.models.tabular.prism`.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from types import MappingProxyType

import numpy as np

from dpsynth.coding.codec import Codec
from dpsynth.models.plan import PlanItem
from dpsynth.models.tabular.marginals import one_way
from dpsynth.models.tabular.marginals.groups import group_columns, partly_pooled
from dpsynth.models.tabular.marginals.interactions import (
    CUT,
    MEAN_ABSOLUTE,
    SIZES,
    Array,
    Codes,
    Column,
    Interaction,
    Pair,
    Resolution,
    ask,
    energies,
    resolve,
    table_noise,
)
from dpsynth.models.tabular.marginals.one_way import OneWay
from dpsynth.models.tabular.marginals.states import States
from dpsynth.privacy.session import Session
from dpsynth.schema.schema import Schema

TYPICAL = 0.05
"""Total variation from independence of a typical pair of clinical columns (SUPPORT2 .06, Framingham .05, NMES .05)."""
TARGET_WEIGHT = 10.0
SUBGROUP_WEIGHT = 2.0
RELATED_WEIGHT = 5.0
TARGET_WORTH = 3.0
"""What the error of a pair with the target counts beside that of another, when columns and pairs share the budget."""
FIRST_LOOK = 0.7
"""Part of the columns' share that is spent before it is known how many rows there are, where a target is named."""
NOMINAL_BINS = 16
"""Bins of a column by which the share of the columns is settled, before anything is known of the noise."""
CONSTRAINED = 8
"""Groups of an ordered column of the fairness policy, and states of one that a constraint ties to others, about."""
SPARE = 0.03
"""A coarser table of a pair of weight 1 is taken where it is worse by less than this part of what two samples of so
many rows differ by."""
YARDSTICK = 8
"""Root of the cells of the table on which two samples are compared."""
STARS = 2
"""Ordinary pairs to refine, as a multiple of the number of columns."""
PAIRS_ARE_WORTH = 1.1
"""Rise of the expected two-way error that is accepted for the sake of associations, on which classifiers live."""
PROBE = 0.07
"""Share of what is left that is spent to see whether pairs are worth asking after all, where nobody would expect it."""
SEEN = 0.25
"""Ordinary pairs that deserve less than this share of their part of the budget are not asked."""
CLEAR = 3.5
"""Standard deviations of noise from which on the probe's mean energy is believed."""
WORTH_ASKING = 0.8
"""Without a target, pairs are asked only where that lowers the expected error at least to this share of it. On NMES the
expectation falls to .86 at epsilon .3, where nothing was gained, and to .69 at .5, where 10 % was."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""What part of the pairs' budget may go to pairs; the rest counts the columns once more."""
LEAST_WITH_TARGET = 0.5
"""The least of them where a target is named: a cohort that does not tell its outcome is of no use."""


@dataclass(frozen=True)
class Question:
    """A pair that is asked: how finely, and with which part of the budget."""

    pair: Pair
    resolution: Resolution
    rho: float


class Stage:
    """Questions about pairs, planned from the counts of the columns and public facts.

    Parameters
    ----------
    schema, codec
        Public facts.
    counts
        One-way counts over bins.
    sensitivity
        Rows a patient may have.
    typical
        Total variation from independence that pairs are expected to have.
    most
        In how many groups a column is asked at most.
    """

    def __init__(
        self,
        schema: Schema,
        codec: Codec,
        counts: OneWay,
        sensitivity: float,
        *,
        typical: float = TYPICAL,
        most: int = SIZES[-1],
    ) -> None:
        self.counts = counts
        self.typical = typical
        self.most = most
        self.domain = counts.bins.shape
        self.sensitivity = sensitivity
        self.columns = {
            name: Column(
                counts.proportions[name],
                _ordered(codec, name, self.domain[name]),
                cuts=tuple(int(counts.bins.maps[name][cut]) for cut in counts.cuts.get(name, ())),
            )
            for name in self.domain
        }
        self.target = schema.target
        self.grouping = tuple(name for name in group_columns(schema) if self.domain.get(name, 1) > 1)
        self.floor = schema.fairness.floor if schema.fairness is not None and self.grouping else 0.0
        # A column with one state has no association to pay for.
        self.weights = pair_weights(schema, [name for name, states in self.domain.items() if states > 1])
        named = {*self.grouping, schema.target} if self.grouping else set()
        self.fair = [pair for pair in self.weights if set(pair) <= named]
        with_target = [pair for pair in self.weights if schema.target in pair]
        self.special = [pair for pair in with_target if pair not in self.fair]
        self.ordinary = [pair for pair in self.weights if schema.target not in pair and pair not in self.fair]
        related = {frozenset(pair) for pair in schema.related}
        self.related = [pair for pair in self.ordinary if frozenset(pair) in related]
        self.must = [*with_target, *self.related, *(columns for columns, _ in codec.zeros())]
        self.states = self._least_states(codec)

    def _least_states(self, codec: Codec) -> States:
        """Columns of constraints have states that can tell what is forbidden; the others those that are asked about."""
        tied = {name for columns, _ in codec.forbidden() for name in columns}
        fine = self.counts.states(codec, CONSTRAINED)
        return States({n: fine[n] if n in tied else np.zeros(size, np.int64) for n, size in self.domain.items()})

    def sigma(self, rho: float) -> float:
        """Noise of a cell as a proportion, for a table of sensitivity 1 row that costs `rho`."""
        return float(self.sensitivity / np.sqrt(2 * rho) / self.counts.rows) if rho > 0 else np.inf

    def resolve(self, pair: Pair, strength: float, rho: float, most: tuple[int, int] | None = None) -> Resolution:
        """Best resolution for a pair of this strength at this price."""
        first, second = pair
        return resolve(
            self.columns[first],
            self.columns[second],
            strength,
            self.sigma(rho),
            spare=self._spare / self.weights[pair],
            most=most or (self.most, self.most),
            whole=(self.whole(pair, first), self.whole(pair, second)),
            least=(self._least(pair, first), self._least(pair, second)),
        )

    @property
    def _spare(self) -> float:
        return SPARE * 0.5 * MEAN_ABSOLUTE * YARDSTICK / float(np.sqrt(self.counts.rows))

    def _least(self, pair: Pair, name: str) -> int:
        # Groups that were cut where the target changes are asked as they are: merged by mass they hide it again.
        return CUT if self.target in pair and self.columns[name].cuts else 0

    def whole(self, pair: Pair, name: str) -> int:
        """In how many groups a column of the fairness policy is asked whatever that costs; else 0."""
        if pair not in self.fair or name not in self.grouping:
            return 0
        return CONSTRAINED if self.columns[name].ordered else self.domain[name]

    @cached_property
    def _needs(self) -> "_Needs":
        others = {pair: self.weights[pair] for pair in (*self.special, *self.ordinary)}
        return _Needs.of(others, self.target, len(self.columns))

    @property
    def needs(self) -> float:
        """Sum of (weight x free cells)^(2/3) over the questions about pairs, by which prices are shared out."""
        return self._needs.total

    def fair_share(self) -> float:
        """Share of the pairs' budget for tables of the groups: what they need as any pair, and at least the floor."""
        need = 0.0
        for pair in self.fair:
            freedom = np.prod([self.whole(pair, c) - 1 if c in self.grouping else 1 for c in pair])
            need += float((self.weights[pair] * freedom) ** (2 / 3))
        return max(self.floor, need / (need + self._needs.total)) if self.fair else 0.0

    def for_groups(self, rest: float, share: float) -> float:
        """Price of the groups' tables when pairs get this share of the rest: the floor even where they get none."""
        return rest * (share * self.fair_share() if share > 0 else self.floor if self.fair else 0.0)

    def with_groups(self, rho: float) -> list[Question]:
        """Questions about the pairs with a column of the fairness policy, group by group."""
        return self._questions(rho, self.fair, {})

    def pooled(self, interactions: Mapping[Pair, Interaction]) -> dict[Pair, Interaction]:
        """Return the tables of the groups partly pooled, the strongest first."""
        pooled = {}
        for pair, interaction in interactions.items():
            column = max((c for c in pair if c in self.grouping), key=lambda c: self.domain[c])
            pooled[pair] = partly_pooled(interaction, column, self.counts.proportions[column])
        return dict(sorted(pooled.items(), key=lambda item: -float(np.abs(item[1].excess).sum())))

    def probe(self, rho: float) -> list[Question]:
        """Questions on 2 x 2 groups of every pair, to see whether there is association that this budget could show."""
        price = rho / len(self.weights)
        return [Question(pair, Resolution((2, 2), 1, self.typical), price) for pair in self.weights]

    def seen(self, rho: float) -> float:
        """Share of their part of the pairs' budget that ordinary pairs deserve beside pairs with the target.

        Of a scan that finds associations of strength t (total variation) with noise s, the fit believes the part
        ``t^2 / (t^2 + s^2)``. Paid with the share x of what s^2 was for, the noise is ``s^2 / x``; a scan is worth what
        is believed of it where ``x = t^2 / (t^2 + s^2 / x)``, that is ``x = 1 - s^2 / t^2``, and nothing for s > t.
        """
        if not self.special or not self.ordinary:
            return 1.0
        noise = table_noise(2, 2, self.sigma(rho * self._needs.scan / len(self.ordinary)))
        share = 1 - (noise / self.typical) ** 2
        return share if share >= SEEN else 0.0

    def _shares(self, rho: float) -> tuple[float, float, float]:
        """Parts of the pairs' budget for the target, the scan, and the refinement, in which related pairs are kept."""
        seen, needs = self.seen(rho), self._needs
        related = RELATED_WEIGHT ** (2 / 3) * len(self.related)
        scan = seen * needs.scan
        refine = max(seen, related / (related + STARS * len(self.columns))) * (1 - needs.scan - needs.target)
        return 1 - scan - refine, scan, refine

    def with_target(self, rho: float) -> list[Question]:
        """Questions about the pairs with the target."""
        return self._questions(rho * self._shares(rho)[0], self.special, {})

    def scan(self, rho: float) -> list[Question]:
        """Questions of the scan: every other pair that noise does not hide, at prices for groups of about 2 x 2."""
        share = self._shares(rho)[1]
        if share <= 0:
            return []
        prices = _shared(rho * share, [self.weights[pair] for pair in self.ordinary])
        return [
            Question(pair, self.resolve(pair, self.typical, price), price)
            for pair, price in zip(self.ordinary, prices, strict=True)
        ]

    def refine(
        self,
        rho: float,
        pairs: Sequence[Pair],
        strength: Mapping[Pair, float],
        most: Mapping[Pair, tuple[int, int]] = MappingProxyType({}),
        extra: float = 0.0,
    ) -> list[Question]:
        """Questions of the refinement of `pairs`, with what the scan and the target left of the budget, and `extra`."""
        return self._questions(rho * self._shares(rho)[2] + extra, pairs, strength, most)

    def _questions(
        self,
        rho: float,
        pairs: Sequence[Pair],
        strength: Mapping[Pair, float],
        most: Mapping[Pair, tuple[int, int]] = MappingProxyType({}),
    ) -> list[Question]:
        """Questions at prices by (weight x free cells)^(2/3), in at most so many groups.

        Free cells depend on the resolution and that on the price, so prices are settled in two rounds.
        """
        strengths = [max(strength.get(pair, self.typical), self.typical / 5) for pair in pairs]
        limits = [most.get(pair) for pair in pairs]
        resolutions: list[Resolution] = []
        prices = _shared(rho, [self.weights[pair] for pair in pairs])
        for _ in range(2):
            resolutions = [self.resolve(*entry) for entry in zip(pairs, strengths, prices, limits, strict=True)]
            prices = _shared(rho, [self.weights[p] * r.freedom for p, r in zip(pairs, resolutions, strict=True)])
        return [Question(*entry) for entry in zip(pairs, resolutions, prices, strict=True)]

    def learn(self, interactions: Mapping[Pair, Interaction]) -> None:
        """Merge the values of unordered columns by what they go with, from what was asked of them value by value."""
        tables: dict[str, list[tuple[Array, float]]] = {}
        for pair, table in interactions.items():
            for axis, name in enumerate(pair):
                if table.values.shape[axis] == self.columns[name].size > 2:
                    excess = table.excess if axis == 0 else table.excess.T
                    tables.setdefault(name, []).append((excess, table.variance))
        self.columns = {name: column.profiled(tables.get(name, ())) for name, column in self.columns.items()}

    def wanted(self, rho: float, ranked: Sequence[Pair], strength: Mapping[Pair, float]) -> dict[Pair, Resolution]:
        """How finely each pair would be refined if the best ranked were, at one price each."""
        count = max(min(STARS * len(self.columns), len(ranked)) + len(self.related), 1)
        price = rho * self._shares(rho)[2] / count
        return {pair: self.resolve(pair, strength.get(pair, self.typical), price) for pair in ranked}

    def groups(self, pair: Pair, sizes: tuple[int, int]) -> dict[str, Codes]:
        """For each column of a pair the groups of bins in which it is asked."""
        return {name: self.columns[name].groups(size) for name, size in zip(pair, sizes, strict=True)}

    def ask(self, session: Session, questions: Sequence[Question]) -> dict[Pair, Interaction]:
        """Ask questions about pairs; costs the sum of their prices."""
        pairs = [q.pair for q in questions]
        sizes = [q.resolution.sizes for q in questions]
        prices = [q.rho for q in questions]
        return ask(
            session, self.columns, self.counts.bins.maps, self.counts.rows, pairs=pairs, sizes=sizes, rhos=prices
        )

    def best_share(self, rest: float, spent: float) -> float:
        """Share of the `rest` of the budget that pairs should get when columns were counted for `spent`."""
        if not self.weights:
            return 0.0
        errors = [self._error(rest * share, spent + rest * (1 - share), spent) for share in SHARES]
        if self.target is None and min(errors) > WORTH_ASKING * errors[0]:
            return 0.0
        best = max(s for s, error in zip(SHARES, errors, strict=True) if error <= PAIRS_ARE_WORTH * min(errors))
        return max(best, LEAST_WITH_TARGET) if self.special else best

    def _error(self, for_pairs: float, for_columns: float, spent: float) -> float:
        """Return the expected two-way error: that of two columns' own counts and that of the interaction."""
        variance = np.mean([v * len(self.counts.proportions[c]) ** 2 for c, v in self.counts.variance.items()])
        columns = MEAN_ABSOLUTE * float(np.sqrt(variance * spent / for_columns))
        return float(np.hypot(columns, self.expected_pair_error(for_pairs, TARGET_WORTH)))

    def expected_pair_error(self, rho: float, target_weight: float = 1.0) -> float:
        """Return the expected total variation error of a typical pair's interaction, when pairs may cost `rho`.

        It is the mean over pairs, in which those with the target may count more.
        """
        if rho <= 0 or not self.weights:
            return self.typical
        target, scan, refine = self._shares(rho)
        parts = [(self.special, target, target_weight), (self.ordinary, scan + refine, 1.0)]
        parts = [part for part in parts if part[0]]
        if not parts:
            return self.typical
        errors = [self._mean_error(pairs, rho * share) for pairs, share, _ in parts]
        return float(np.average(errors, weights=[len(pairs) * weight for pairs, _, weight in parts]))

    def _mean_error(self, pairs: Sequence[Pair], rho: float) -> float:
        if rho <= 0:
            return self.typical
        sample = pairs[:: max(1, len(pairs) // 100)]
        errors = [self.resolve(pair, self.typical, rho / len(pairs)).error for pair in sample]
        return float(np.mean(np.minimum(errors, self.typical)))

    def planned(self, for_pairs: float, for_groups: float, for_probe: float) -> dict[str, list[Question]]:
        """Kinds of questions about pairs; only the probe, where typical associations are not worth more."""
        batches = {"groups of the fairness policy": self.with_groups(for_groups) if for_groups > 0 else []}
        if for_pairs <= 0:
            batches |= (
                {"probe of all pairs; more is asked only if it is clear": self.probe(for_probe)} if self.weights else {}
            )
        else:
            scan = self.scan(for_pairs)
            refined = self.ordinary[: STARS * len(self.columns)] if scan else self.related
            batches |= {
                "pairs with the target": self.with_target(for_pairs),
                "other pairs, scanned coarsely": scan,
                "pairs that these find important" if scan else "related pairs": self.refine(for_pairs, refined, {}),
            }
        return {what: questions for what, questions in batches.items() if questions}

    def group_noise(self, questions: Sequence[Question]) -> dict[str, float]:
        """Noise in rows on a cell of each column's interaction with the target, where that is asked.

        The price gives a cell ``sigma r``, ``r = sqrt((1 - 1/a)(1 - 1/b))``; without its margins ``sigma r^2`` is left.
        """
        noise = {}
        for q in questions:
            if self.target in q.pair and q.resolution.error < np.inf:
                groups = [
                    int(self.columns[c].groups(n).max()) + 1 for c, n in zip(q.pair, q.resolution.sizes, strict=True)
                ]
                squared = float(np.prod([1 - 1 / n for n in groups]))
                noise[next(c for c in q.pair if c != self.target)] = self.sigma(q.rho) * self.counts.rows * squared
        return noise

    def item(self, what: str, questions: Sequence[Question]) -> PlanItem:
        """One line of a plan."""
        cells = sum(q.resolution.freedom for q in questions)
        sigma = float(np.median([self.sigma(q.rho) for q in questions])) * self.counts.rows
        return PlanItem(
            what, len(questions), cells, sigma, "free cells of the interactions; noise before they are shrunk"
        )


def pair_weights(schema: Schema, columns: Sequence[str]) -> dict[Pair, float]:
    """Weight of each pair in the workload: pairs with the schema's target or a subgroup column count more."""
    heavy = dict.fromkeys((*schema.subgroups, *group_columns(schema)), SUBGROUP_WEIGHT)
    if schema.target is not None:
        heavy[schema.target] = TARGET_WEIGHT
    related = {frozenset(pair) for pair in schema.related}
    return {
        (a, b): heavy.get(a, 1.0) * heavy.get(b, 1.0) * (RELATED_WEIGHT if {a, b} in related else 1.0)
        for a, b in combinations(columns, 2)
    }


@dataclass(frozen=True)
class _Needs:
    """Sums of (weight x free cells)^(2/3) over the questions about pairs.

    Attributes
    ----------
    total
        The sum over all of them, to hold against the same sum over columns.
    target, scan
        The part of it that the pairs with the target have, and the scan of the others.
    """

    total: float
    target: float
    scan: float

    @classmethod
    def of(cls, weights: Mapping[Pair, float], target: str | None, d: int) -> "_Needs":
        """Add up: a scan asks about 2 x 2 groups (1 free cell), the target 2 x 6 (5), a refinement 4 x 4 (9)."""
        ordinary = [weight for pair, weight in weights.items() if target not in pair]
        scan = sum(weight ** (2 / 3) for weight in ordinary)
        special = sum((5 * weight) ** (2 / 3) for pair, weight in weights.items() if target in pair)
        total = scan + special + min(STARS * d, len(ordinary)) * 9 ** (2 / 3)
        return cls(total, special / total, scan / total) if total else cls(0.0, 0.0, 0.0)


def column_share(schema: Schema, codec: Codec, bins: int | None) -> float:
    """Share of the budget for counting columns, by the closed form."""
    d = len(codec.columns)
    many = set(one_way.many_cells(codec))
    cells = [(bins or NOMINAL_BINS) if name in many else code.size for name, code in codec.columns.items()]
    columns = sum(((d - 1) * c) ** (2 / 3) for c in cells)
    pairs = _Needs.of(pair_weights(schema, list(codec.columns)), schema.target, d).total
    first = FIRST_LOOK if schema.target is not None else 1.0
    return first * columns / (columns + pairs) if pairs else 1.0


def _shared(budget: float, needs: Sequence[float]) -> list[float]:
    shares = np.asarray(needs, dtype=float) ** (2 / 3)
    return [float(x) for x in budget * shares / max(shares.sum(), 1e-300)]


def _ordered(codec: Codec, name: str, bins: int) -> int:
    code = codec.columns[name]
    return bins - (code.size - code.ordered) if code.ordered else 0


def clear_strength(probed: Mapping[Pair, Interaction]) -> float:
    """Return the mean strength of probed pairs where it stands out of the noise, else 0."""
    if not probed:
        return 0.0
    energy = float(np.mean([interaction.energy for interaction in probed.values()]))
    noise = float(
        np.sqrt(sum(2 * interaction.freedom * interaction.variance**2 for interaction in probed.values()))
    ) / len(probed)
    if energy <= CLEAR * noise:
        return 0.0
    return float(np.mean([interaction.strength(energy) for interaction in probed.values()]))


def strengths(measured: Mapping[Pair, Interaction]) -> dict[Pair, float]:
    """Estimated total variation from independence of each measured pair."""
    return {pair: measured[pair].strength(energy) for pair, energy in energies(measured).items()}


def believed(batch: Mapping[Pair, Interaction], kept: Container[Pair]) -> list[tuple[Interaction, float]]:
    """Return the interactions of the pairs that are kept, each with its posterior energy."""
    posterior = energies(batch)
    return [(interaction, posterior[pair]) for pair, interaction in batch.items() if pair in kept]
