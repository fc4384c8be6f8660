"""PRISM, pairwise residual interactions by staged measurement: the default for tables, and our own.

What published mechanisms leave on the table on small cohorts, and what this one does about it:

1. *Only the interaction of a pair is worth paying for.* Columns are counted alone, once and well; of a pair only the
   part with zero margins is asked (`Session.interactions`), which costs a row ``sqrt((1 - 1/a)(1 - 1/b))`` instead
   of 1: half the noise on 2 x 2 groups, a third less against a binary target.
2. *As coarse as is best.* Fewer groups blur an association, more groups add noise. Both errors are known beforehand
   (`interactions.resolve`), so each pair is asked at the resolution where their sum is least for this n and budget.
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
the columns were counted, when the number of rows is known: where the noise would drown a typical association, a part
of it goes into counting the columns once more. Without a target that may be all of it, which keeps PRISM from losing
to independent columns; a small probe first sees whether pairs are much stronger than that. With a target half stays.

Every question is Gaussian, so the exact Gaussian accounting holds although later questions depend on earlier answers.
Related work: AIM (McKenna et al. 2022) for adaptivity, ResidualPlanner (Xiao et al. 2023) for the residual basis.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from dpsynth.cohort.cohort import Cohort
from dpsynth.models.base import Progress, Synthesizer
from dpsynth.models.plan import Plan
from dpsynth.models.tabular.graphical import junction_tree
from dpsynth.models.tabular.graphical.estimation import Measurement
from dpsynth.models.tabular.marginals import one_way, target_cuts, triples
from dpsynth.models.tabular.marginals.fitting import fit_model
from dpsynth.models.tabular.marginals.interactions import Interaction, Pair
from dpsynth.models.tabular.marginals.model import MarginalModel
from dpsynth.models.tabular.marginals.one_way import OneWay
from dpsynth.models.tabular.marginals.prior import SCHEMA, Prior, declared, read_prior
from dpsynth.models.tabular.marginals.stage import (
    PROBE,
    STARS,
    TYPICAL,
    Stage,
    clear_strength,
    column_share,
    measurements,
    strengths,
)
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.progress import silent
from dpsynth.schema.schema import Schema

Columns = TypeVar("Columns", bound=tuple[str, ...])

PATIENCE = 3
"""Candidates in a row that may be too large for the junction tree, as a multiple of the number of columns."""

FOR_TRIPLES = 0.5
"""Share of the junction tree's cells that triples may fill; the pairs that hold the columns together get the rest."""


class Prism(Synthesizer):
    """Pairwise residual interactions by staged measurement.

    Parameters
    ----------
    bins : int, default 16
        How many bins a column with many ordered cells is counted in.
    states : int, default 8
        How many of them the joint model tells apart, at most; the others are shared out as they were counted.
    cells : int, default 100000
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
        bins: int = 16,
        states: int = 8,
        cells: int = 100_000,
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
        rest, probed, heard = session.rho_left, {}, np.inf
        found, cost = triples.scan(session, stage, rest)
        rest -= cost + found.rho
        share = stage.best_share(rest, for_columns)
        if share == 0 and stage.weights:
            probed = stage.ask(session, stage.probe(PROBE * rest))
            rest *= 1 - PROBE
            stage.typical = clear_strength(probed)
            heard = np.inf if known is None else known.pairs(stage, probed)[1]
            share = stage.best_share(rest, for_columns) if stage.typical > 0 else 0.0
        for_groups = _promised(stage, rho - for_columns, rest, share)
        again = rest - max(rest * share, for_groups)
        if again > 0:
            counts = one_way.measure_again(session, counts, again)
            stage = self._stage(session, counts, known, stage.typical)
        groups = self._ask_groups(session, stage, for_groups, report)
        for_pairs = rest * share - for_groups if share > 0 else 0.0
        measured, left = self._ask_pairs(
            session,
            stage,
            for_pairs,
            groups=groups,
            probed=probed,
            found=found,
            known=known,
            heard=heard,
            report=report,
        )
        model = fit_model(session, stage.counts, measured, report, left)
        if known is not None:
            model.statement = declared(model.statement, known)
        return model

    def _stage(self, session: Session, counts: OneWay, known: Prior | None, typical: float = TYPICAL) -> Stage:
        merged = counts.merged(session.codec, self.states)
        merged = merged if known is None else known.columns(merged)
        return Stage(session.schema, session.codec, merged, session.sensitivity, typical)

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
        kept = {*stage.must, *self._affordable(stage, stage.must, telling)}
        return {pair: pooled for pair, pooled in tables.items() if pair in kept}

    def _ask_pairs(
        self,
        session: Session,
        stage: Stage,
        rho: float,
        *,
        groups: Mapping[Pair, Interaction],
        probed: Mapping[Pair, Interaction],
        found: triples.Found,
        known: Prior | None,
        heard: float,
        report: Progress,
    ) -> tuple[list[Measurement], Mapping[Pair, Interaction]]:
        """Ask pairs and triples; return the measurements for the fit, and what was asked of each ordinary pair."""
        # Pooled values are posterior means, so the fit has to shrink them no more than their noise.
        measured = [interaction.measurement(1.0) for interaction in groups.values()]
        if rho <= 0:
            measured += self._ask_triples(session, stage, found, [], [*stage.must, *groups])[0]
            return measured + self._public(stage, known, heard, [*stage.must, *(m.columns for m in measured)]), {}
        report("scanning pairs", 0.1)
        with_target = stage.ask(session, stage.with_target(rho))
        scan = stage.ask(session, stage.scan(rho))
        strength = strengths(scan)
        must = [*stage.must, *groups]
        beyond, extra = self._ask_triples(session, stage, found, [scan, with_target], must)
        measured += beyond
        must += [m.columns for m in beyond]
        others = strength.keys() - set(stage.related)
        ranked = sorted(others, key=lambda pair: (-stage.weights[pair] * strength[pair], pair))
        refined = [*stage.related, *self._affordable(stage, must, ranked)[: STARS * len(stage.columns)]]
        report("refining pairs", 0.2)
        finer = refined or (stage.special if extra > 0 else [])
        refinement = stage.ask(session, stage.refine(rho, finer, strength, extra))
        kept = [*must, *refined]
        kept += self._affordable(stage, kept, [pair for pair in ranked if pair not in set(refined)])
        batches = (with_target, refinement, scan, probed)
        if known is None:
            measured += [m for batch in batches for m in measurements(batch, set(kept))]
        else:
            measured += self._beside(stage, known, batches, kept)
        return measured, scan if self.nudge else {}

    def _beside(
        self, stage: Stage, known: Prior, batches: Sequence[Mapping[Pair, Interaction]], kept: Sequence[tuple[str, ...]]
    ) -> list[Measurement]:
        """Return measurements shrunk to the public prior where that is nearer, and its pairs that nobody asked."""
        measured, distances = [], []
        for batch in batches:
            shrunk, distance = known.pairs(stage, batch)
            measured += [m for m in shrunk if m.columns in set(kept)] or measurements(batch, set(kept))
            distances += [distance] if batch else []
        asked = [pair for batch in batches for pair in batch]
        return measured + self._public(stage, known, max(distances, default=np.inf), kept, asked)

    def _public(
        self,
        stage: Stage,
        known: Prior | None,
        distance: float,
        kept: Sequence[Sequence[str]],
        asked: Sequence[Pair] = (),
    ) -> list[Measurement]:
        """Return the prior's pairs that nobody asked and that the junction tree can hold."""
        found = {} if known is None else {m.columns: m for m in known.unasked(stage, asked, distance)}
        return [found[pair] for pair in self._affordable(stage, kept, list(found))]

    def _ask_triples(
        self,
        session: Session,
        stage: Stage,
        found: triples.Found,
        pairs: Sequence[Mapping[Pair, Interaction]],
        must: Sequence[Sequence[str]],
    ) -> tuple[list[Measurement], float]:
        """Refine the triples that say more than their pairs and that the tree can hold; return what is left over.

        Of the measured pairs the last are those with the target.
        """
        beyond = found.beyond(stage, pairs)
        strength = {triple: seen.strength(seen.energy) for triple, seen in beyond.items()}
        told = triples.products(stage, strengths(pairs[-1])) if found.rho > 0 and pairs else []
        candidates = [t for t in dict.fromkeys([*told, *strength]) if triples.small(stage, t)]
        held = self._affordable(stage, must, candidates, FOR_TRIPLES * self.cells)
        strength = {triple: strength.get(triple, stage.typical) for triple in held}
        questions = triples.refined(stage, strength, found.rho)
        if not questions:
            return [], found.rho
        asked = triples.beyond_pairs(stage, triples.ask_triples(session, stage, questions), pairs)
        return triples.triple_measurements(asked), 0.0

    def _affordable(
        self, stage: Stage, must: Sequence[Sequence[str]], ranked: Sequence[Columns], limit: float | None = None
    ) -> list[Columns]:
        """Return the best ranked pairs or triples that the junction tree can hold beside what it must."""
        most = self.cells if limit is None else limit
        chosen: list[Columns] = []
        refused = 0
        for pair in ranked:
            if junction_tree.cells(stage.domain, [*must, *chosen, pair]) <= most:
                chosen.append(pair)
                refused = 0
            else:
                refused += 1
            if refused > PATIENCE * len(stage.columns):
                break
        return chosen

    def plan(self, schema: Schema, budget: Budget, rows: int) -> Plan:
        """Say what will be asked, from public facts: columns are taken to be spread evenly over their bins."""
        from dpsynth.models.tabular.marginals.planning import even_one_way, plan_of, public_codec, rho_of

        codec = public_codec(schema)
        rho = rho_of(schema, budget, self.accounting)
        for_columns = rho * column_share(schema, codec, self.bins)
        counts = even_one_way(schema, codec, self.bins, rows, for_columns)
        stage = Stage(schema, codec, counts.merged(codec, self.states), schema.max_rows_per_patient)
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
            group_noise=stage.group_noise([q for asked in batches.values() for q in asked]),
        )


def _promised(stage: Stage, whole: float, rest: float, share: float) -> float:
    """Return the price of the groups' tables: their part of the `whole` that tables may cost, also of what is gone."""
    return min(stage.for_groups(whole, share), rest * share if share > 0 else rest)
