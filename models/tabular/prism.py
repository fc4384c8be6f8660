"""PRISM, pairwise residual interactions by staged measurement: the default for tables, and our own.

What published mechanisms leave on the table on small cohorts, and what this one does about it:

1. *Only the interaction of a pair is worth paying for.* Columns are counted alone, once and well; of a pair only the
   part with zero margins is asked (`Session.interactions`), which costs a row ``sqrt((1 - 1/a)(1 - 1/b))`` instead
   of 1: half the noise on 2 x 2 groups, a third less against a binary target.
2. *As coarse as is best.* Fewer groups blur an association, more groups add noise. Both errors are known beforehand
   (`interactions.resolve`), so each pair is asked at the resolution where their sum is least for this n and budget.
   The joint model has the states that some answer tells apart (`states`), so that a large cohort is not held back by
   a number of states; values without an order are merged by what they go with (`profiles`).
3. *Scan, then refine.* A scan asks all ordinary pairs coarsely; the pairs that it finds strong, and those with the
   schema's target or subgroups, are then asked as finely as they deserve. The scan is kept as a measurement.
4. *Noise is not fitted.* A pair's energy S, the squared interaction above what noise explains, pooled over the pairs
   by empirical Bayes, sets how far the fit shrinks it: slack ``sigma^2 / S`` (`graphical.estimation`). Where there is
   no signal the model goes to independence.
5. *What noise hides is not looked for.* Where a scan at this budget would show noise instead of associations, what it
   and the refinement would have cost goes to the pairs with the target
   (`dpsynth.models.tabular.marginals.stage.Stage.seen`).
6. *Scarce groups are promised.* Tables of the schema's fairness policy (its columns with the target and each other)
   are always asked, group by group, at their floor of the budget, and scarce groups are pooled partially (`groups`).
7. *A parity has no pairs.* Where it costs next to nothing, all triples or those with the target are scanned; what
   stands out beside the pairs is refined and goes into the model (`triples`), and so are the target's with the columns
   that tell it most.
8. *Bins are cut for the target.* Columns of many cells are cut where the target changes, not only where patients are
   halved; where noise would hide a clear threshold this is not asked (`target_cuts`).
9. *All that was measured is used.* Records are nudged until they agree with the pairs that the junction tree could not
   hold, as far as noise lets these be believed (`nudging`).
10. *What is public is used*, where noise is larger than its distance, if a prior is named (`prior`).

The budget, in closed form: expected L1 error ``sum w_i c_i sigma_i`` of tables with ``c_i`` free cells and weights
``w_i``, under ``sum 1 / (2 sigma_i^2) = rho``, is least for ``rho_i`` proportional to ``(w_i c_i)^(2/3)`` (Lagrange).
A column's own counts enter all d - 1 of its pairs, so its weight is d - 1. What the pairs may cost is settled after
the columns were counted a first time, when the number of rows is known: where the noise would drown a typical
association, a part of it goes into counting the columns once more. Without a target that may be all of it, which keeps
PRISM from losing to independent columns; a small probe first sees whether pairs are much stronger than that. With a
target half stays.

Every question is Gaussian, so the exact Gaussian accounting holds although later questions depend on earlier answers.
Related work: AIM (McKenna et al. 2022) for adaptivity, ResidualPlanner (Xiao et al. 2023) for the residual basis.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from dpsynth.cohort.cohort import Cohort
from dpsynth.models.base import Progress, Synthesizer
from dpsynth.models.plan import Plan
from dpsynth.models.tabular.marginals import one_way, target_cuts, triples
from dpsynth.models.tabular.marginals.fitting import fit_model
from dpsynth.models.tabular.marginals.interactions import Interaction, Pair, energies
from dpsynth.models.tabular.marginals.model import MarginalModel
from dpsynth.models.tabular.marginals.nudging import BELIEVED
from dpsynth.models.tabular.marginals.one_way import OneWay
from dpsynth.models.tabular.marginals.prior import SCHEMA, Prior, declared, read_prior
from dpsynth.models.tabular.marginals.room import Room
from dpsynth.models.tabular.marginals.stage import (
    PROBE,
    STARS,
    TYPICAL,
    Stage,
    believed,
    clear_strength,
    column_share,
    strengths,
)
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.progress import silent
from dpsynth.schema.schema import Schema

FOR_TRIPLES = 0.5
"""Share of the junction tree's cells that triples may fill; the pairs that hold the columns together get the rest."""

Measured = list[tuple[Interaction, float]]
"""Answers for the fit, each with the energy that is believed of it."""


ROUNDING = 1e-9
"""Less than this part of the budget is what rounding leaves of it: nothing is asked for that."""


class Prism(Synthesizer):
    """Pairwise residual interactions by staged measurement.

    Parameters
    ----------
    bins : int, optional
        How many bins a column with many ordered cells is counted in; default: as many as the noise is best for.
    states : int, default 64
        In how many groups a column is asked for beside another one, at most; how many it is, noise and rows decide.
    cells : int, default 400000
        Size limit of the junction tree, in cells: memory and time grow with it.
    nudge : bool, default True
        Whether drawn records are nudged to the measured pairs that the tree does not hold, where noise leaves more
        than half of them; some seconds a draw.
    prior : str, Path or Cohort, optional
        A public table of the same columns, or ``"schema"``: used where noise is larger than its distance from the
        patients. It is read in the clear, costs nothing, and the privacy statement tells of it.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: ward, target: died, columns: {sex: {type: categorical, values: [f, m]}, died: {type: boolean}}}"
    ... )
    >>> plan = Prism(bins=8).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]
    ['columns', 'pairs with the target']
    """

    name: ClassVar[str] = "prism"
    accounting: ClassVar[Literal["gaussian", "zcdp"]] = "gaussian"
    summary: ClassVar[str] = "the default: columns well, all pairs coarsely, then the pairs that matter finely"
    citation: ClassVar[str] = "dpsynth; derived in the docstring of dpsynth.models.tabular.prism"
    produces = MarginalModel

    def __init__(
        self,
        *,
        bins: int | None = None,
        states: int = 64,
        cells: int = 400_000,
        nudge: bool = True,
        prior: str | Path | Cohort | None = None,
    ) -> None:
        self.prior = prior
        self.nudge = nudge
        self.bins = bins
        self.states = states
        self.cells = cells

    def fit(self, session: Session, progress: Progress | None = None) -> MarginalModel:
        """Learn a model: count the columns, scan all pairs, refine those that matter, fit once."""
        report = progress or silent
        one_way.discover(session)
        schema, codec = session.schema, session.codec
        known = None if self.prior is None else read_prior(self.prior, codec)
        rho = session.rho_left
        for_columns = rho * column_share(schema, codec, self.bins)
        report("counting columns", 0.0)
        counts = one_way.measure(session, for_columns, bins=self.bins, cutter=target_cuts.cutter(session, rho))
        stage = self._stage(session, counts, known)
        rest, probed = session.rho_left, {}
        if rest < ROUNDING * rho:
            rest = 0.0
        found, cost = triples.scan(session, stage, rest)
        rest -= cost + found.rho
        share = stage.best_share(rest, for_columns)
        if share == 0 and stage.weights:
            probed = stage.ask(session, stage.probe(PROBE * rest))
            rest *= 1 - PROBE
            stage.typical = clear_strength(probed)
            share = stage.best_share(rest, for_columns) if stage.typical > 0 else 0.0
        for_groups = _promised(stage, rho - for_columns, rest, share)
        again = rest - max(rest * share, for_groups)
        if again > 0:
            counts = one_way.measure_again(session, counts, again)
            stage = self._stage(session, counts, known, stage.typical)
        groups = self._ask_groups(session, stage, for_groups, report)
        for_pairs = rest * share - for_groups if share > 0 else 0.0
        asked = _Asked(session, stage, Room(stage, self.cells), found, known)
        asked.room.take(list(groups.values()))
        # Pooled values are posterior means, so the fit has to shrink them no more than their noise.
        measured = [(interaction, 1.0) for interaction in groups.values()]
        left: dict[Pair, Interaction] = {}
        if for_pairs > 0:
            pairs, left = self._ask_pairs(asked, for_pairs, groups=groups, probed=probed, report=report)
            measured += pairs
        else:
            measured += self._of_probe(asked, groups, probed)
        states = stage.states.telling(*(i.telling for i, _ in measured), *(i.telling for i in left.values()))
        tables = [interaction.measurement(energy, states.maps) for interaction, energy in measured]
        beside = {pair: interaction.over(states.maps) for pair, interaction in left.items()}
        model = fit_model(session, stage.counts.coarsened(states.maps), tables, report, beside)
        if known is not None:
            model.statement = declared(model.statement, known)
        return model

    def _stage(self, session: Session, counts: OneWay, known: Prior | None, typical: float = TYPICAL) -> Stage:
        nearer = counts if known is None else known.columns(counts)
        return Stage(session.schema, session.codec, nearer, session.sensitivity, typical=typical, most=self.states)

    def options(self) -> dict[str, Any]:
        """Return the options as JSON-able values; of a public table that there was one, not where."""
        told = super().options()
        return told if self.prior in (None, SCHEMA) else {**told, "prior": "(a public table)"}

    def _ask_groups(self, session: Session, stage: Stage, rho: float, report: Progress) -> dict[Pair, Interaction]:
        """Ask what the fairness policy names; pairs without the target stay where the junction tree can hold them."""
        if rho <= 0:
            return {}
        report("counting groups", 0.0)
        tables = stage.pooled(stage.ask(session, stage.with_groups(rho)))
        telling = [pair for pair, pooled in tables.items() if pair not in stage.must and pooled.excess.any()]
        room = Room(stage, self.cells)
        room.take([tables[pair] for pair in tables if pair in stage.must])
        return {p: pooled for p, pooled in tables.items() if p in stage.must or (p in telling and room.holds(pooled))}

    def _ask_pairs(
        self,
        asked: "_Asked",
        rho: float,
        *,
        groups: Mapping[Pair, Interaction],
        probed: Mapping[Pair, Interaction],
        report: Progress,
    ) -> tuple[Measured, dict[Pair, Interaction]]:
        """Ask pairs and triples; return what the fit takes, and what records are to agree with beside."""
        session, stage, room = asked.session, asked.stage, asked.room
        report("scanning pairs", 0.1)
        with_target = stage.ask(session, stage.with_target(rho))
        scan = stage.ask(session, stage.scan(rho))
        strength = strengths(scan)
        stage.learn({**with_target, **scan})
        room.take([*with_target.values(), *(scan[pair] for pair in stage.related if pair in scan)])
        measured, extra = self._ask_triples(asked, [scan, with_target])
        others = strength.keys() - set(stage.related)
        ranked = sorted(others, key=lambda pair: (-stage.weights[pair] * strength[pair], pair))
        most = room.fitting(stage.wanted(rho, [*stage.related, *ranked], strength), scan, STARS * len(stage.columns))
        report("refining pairs", 0.2)
        finer = list(most) or (stage.special if extra > 0 else [])
        refinement = stage.ask(session, stage.refine(rho, finer, strength, most, extra))
        room.take([refinement[pair] for pair in finer if pair in refinement])
        kept = {*groups, *with_target, *most, *(pair for pair in ranked if pair not in most and room.holds(scan[pair]))}
        measured += asked.believed((with_target, refinement, scan, probed), kept)
        return measured, self._beside_the_tree(room, scan, kept)

    def _beside_the_tree(
        self, room: Room, scan: Mapping[Pair, Interaction], kept: Container[Pair]
    ) -> dict[Pair, Interaction]:
        """Return the pairs that the tree leaves out, noise leaves more than half of, and its states can tell."""
        if not self.nudge:
            return {}
        posterior = energies(scan)
        clear = [pair for pair in scan if pair not in kept and scan[pair].kept_of(posterior[pair]) >= BELIEVED]
        ranked = sorted(clear, key=lambda pair: (-scan[pair].strength(posterior[pair]), pair))
        return {pair: scan[pair] for pair in ranked if room.tells(scan[pair])}

    def _of_probe(
        self, asked: "_Asked", groups: Mapping[Pair, Interaction], probed: Mapping[Pair, Interaction]
    ) -> Measured:
        """Return what the probe saw, the strongest first as far as there is room: it is paid for, and shrunk as all."""
        measured, _ = self._ask_triples(asked, [])
        strength = strengths(probed)
        ranked = sorted(strength, key=lambda pair: (-asked.stage.weights[pair] * strength[pair], pair))
        nearby = np.inf if asked.known is None else asked.known.pairs(asked.stage, probed)[1]
        if np.isfinite(nearby):
            # The prior tells these pairs more finely than the probe, which says no more than that it is near.
            return measured + asked.public([], nearby)
        kept = {pair for pair in ranked if pair not in groups and asked.room.holds(probed[pair])}
        return measured + asked.believed((probed,), kept)

    def _ask_triples(self, asked: "_Asked", pairs: Sequence[Mapping[Pair, Interaction]]) -> tuple[Measured, float]:
        """Refine the triples that say more than their pairs and that the tree can hold; return what is left over.

        Of the measured pairs the last are those with the target.
        """
        session, stage, room, found = asked.session, asked.stage, asked.room, asked.found
        strength = {triple: seen.strength(seen.energy) for triple, seen in found.beyond(stage, pairs).items()}
        told = triples.products(stage, strengths(pairs[-1])) if found.rho > 0 and pairs else []
        candidates = {t: strength.get(t, stage.typical) for t in (*told, *strength)}
        held = room.fitting_triples(
            {t: triples.telling(stage, t) for t in candidates}, FOR_TRIPLES * self.cells, triples.small
        )
        questions = triples.refined(stage, {triple: candidates[triple] for triple in held}, found.rho)
        if not questions:
            return [], found.rho
        beyond = triples.beyond_pairs(stage, triples.ask_triples(session, stage, questions), pairs)
        room.take(list(beyond.values()))
        return [(beyond[triple], energy) for triple, energy in energies(beyond).items()], 0.0  # type: ignore[arg-type]

    def plan(self, schema: Schema, budget: Budget, rows: int) -> Plan:
        """Say what will be asked, from public facts: columns are taken to be spread evenly over their bins."""
        from dpsynth.models.tabular.marginals.planning import blurred, even_one_way, plan_of, public_codec, rho_of

        codec = public_codec(schema)
        rho = rho_of(schema, budget, self.accounting)
        for_columns = rho * column_share(schema, codec, self.bins)
        counts = even_one_way(schema, codec, self.bins, rows, for_columns)
        stage = Stage(schema, codec, counts, schema.max_rows_per_patient, most=self.states)
        cuts, for_cuts = target_cuts.planned(codec, schema.target, rows, schema.max_rows_per_patient, rho)
        rest = rho - for_columns - for_cuts
        scan = triples.scan_of(stage, rest)
        rest -= scan.rho
        share = stage.best_share(rest, for_columns)
        for_groups = _promised(stage, rho - for_columns, rest, share)
        for_pairs = rest * share - for_groups if share > 0 else 0.0
        batches = stage.planned(for_pairs, for_groups, PROBE * rest)
        return plan_of(
            self,
            schema,
            budget,
            rows,
            counts,
            items=[*cuts, *(stage.item(what, asked) for what, asked in batches.items()), *scan.items(stage)],
            pair_error=stage.expected_pair_error(for_pairs if stage.seen(for_pairs) else 0.0),
            blur=blurred(counts) if self.bins is None else 0.0,
            group_noise=stage.group_noise([q for asked in batches.values() for q in asked]),
        )


def _promised(stage: Stage, whole: float, rest: float, share: float) -> float:
    """Return the price of the groups' tables: their part of the `whole` that tables may cost, also of what is gone."""
    return min(stage.for_groups(whole, share), rest * share if share > 0 else rest)


@dataclass(frozen=True)
class _Asked:
    """What the questions of a fit share: the session, the columns, the room in the tree, triples and a prior."""

    session: Session
    stage: Stage
    room: Room
    found: triples.Found
    known: Prior | None

    def believed(self, batches: Sequence[Mapping[Pair, Interaction]], kept: Container[Pair]) -> Measured:
        """Return the kept pairs with what is believed of them, shrunk to a public prior where that is nearer.

        With such a prior also its pairs that nobody asked, as far as there is room.
        """
        if self.known is None:
            return [m for batch in batches for m in believed(batch, kept)]
        measured: Measured = []
        distances = []
        for batch in batches:
            shrunk, distance = self.known.pairs(self.stage, batch)
            measured += [m for m in shrunk if m[0].pair in kept] or believed(batch, kept)
            distances += [distance] if batch else []
        asked = [pair for batch in batches for pair in batch]
        return measured + self.public(asked, max(distances, default=np.inf))

    def public(self, asked: Sequence[Pair], distance: float) -> Measured:
        """Return a public prior's interactions of pairs that nobody asked, as far as there is room."""
        found = [] if self.known is None else self.known.unasked(self.stage, asked, distance)
        return [m for m in found if self.room.holds(m[0])]
