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

from collections.abc import Mapping
from typing import ClassVar, Literal

from dpsynth.models.base import Progress, Synthesizer
from dpsynth.models.plan import Plan
from dpsynth.models.tabular.marginals import one_way
from dpsynth.models.tabular.marginals.fitting import fit_model
from dpsynth.models.tabular.marginals.interactions import Interaction, Pair
from dpsynth.models.tabular.marginals.model import MarginalModel
from dpsynth.models.tabular.marginals.room import Room
from dpsynth.models.tabular.marginals.stage import (
    PROBE,
    STARS,
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

    def __init__(self, *, bins: int | None = None, states: int = 64, cells: int = 400_000) -> None:
        self.bins = bins
        self.states = states
        self.cells = cells

    def fit(self, session: Session, progress: Progress | None = None) -> MarginalModel:
        """Learn a model: count the columns, scan all pairs, refine those that matter, fit once."""
        report = progress or silent
        one_way.discover(session)
        schema, codec = session.schema, session.codec
        rho = session.rho_left
        for_columns = rho * column_share(schema, codec, self.bins)
        report("counting columns", 0.0)
        counts = one_way.measure(session, for_columns, bins=self.bins)
        stage = Stage(schema, codec, counts, session.sensitivity, most=self.states)
        rest, probed = rho - for_columns, {}
        share = stage.best_share(rest, for_columns)
        if share == 0 and stage.weights:
            probed = stage.ask(session, stage.probe(PROBE * rest))
            rest *= 1 - PROBE
            stage.typical = clear_strength(probed)
            share = stage.best_share(rest, for_columns) if stage.typical > 0 else 0.0
        for_groups = stage.for_groups(rest, share)
        again = rest - max(rest * share, for_groups)
        if again > 0:
            counts = one_way.measure_again(session, counts, again)
            stage = Stage(schema, codec, counts, session.sensitivity, typical=stage.typical, most=self.states)
        groups = self._ask_groups(session, stage, for_groups, report)
        for_pairs = rest * share - for_groups if share > 0 else 0.0
        measured = self._ask_pairs(session, stage, for_pairs, groups=groups, probed=probed, report=report)
        states = stage.states.telling(*(interaction.telling for interaction, _ in measured)).maps
        tables = [interaction.measurement(energy, states) for interaction, energy in measured]
        return fit_model(session, stage.counts.coarsened(states), tables, report)

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
        session: Session,
        stage: Stage,
        rho: float,
        *,
        groups: Mapping[Pair, Interaction],
        probed: Mapping[Pair, Interaction],
        report: Progress,
    ) -> list[tuple[Interaction, float]]:
        # Pooled values are posterior means, so the fit has to shrink them no more than their noise.
        measured = [(interaction, 1.0) for interaction in groups.values()]
        if rho <= 0:
            return measured + self._of_probe(stage, groups, probed)
        report("scanning pairs", 0.1)
        with_target = stage.ask(session, stage.with_target(rho))
        scan = stage.ask(session, stage.scan(rho))
        strength = strengths(scan)
        stage.learn({**with_target, **scan})
        room = Room(stage, self.cells)
        room.take([*groups.values(), *with_target.values(), *(scan[pair] for pair in stage.related if pair in scan)])
        others = strength.keys() - set(stage.related)
        ranked = sorted(others, key=lambda pair: (-stage.weights[pair] * strength[pair], pair))
        most = room.fitting(stage.wanted(rho, [*stage.related, *ranked], strength), scan, STARS * len(stage.columns))
        report("refining pairs", 0.2)
        refinement = stage.ask(session, stage.refine(rho, list(most), strength, most))
        kept = {*groups, *with_target, *most, *(pair for pair in ranked if pair not in most and room.holds(scan[pair]))}
        return measured + [m for batch in (with_target, refinement, scan, probed) for m in believed(batch, kept)]

    def _of_probe(
        self, stage: Stage, groups: Mapping[Pair, Interaction], probed: Mapping[Pair, Interaction]
    ) -> list[tuple[Interaction, float]]:
        """Return what the probe saw, the strongest first as far as there is room: it is paid for, and shrunk as all."""
        strength = strengths(probed)
        room = Room(stage, self.cells)
        room.take(list(groups.values()))
        ranked = sorted(strength, key=lambda pair: (-stage.weights[pair] * strength[pair], pair))
        return believed(probed, {pair for pair in ranked if room.holds(probed[pair])})

    def plan(self, schema: Schema, budget: Budget, rows: int) -> Plan:
        """Say what will be asked, from public facts: columns are taken to be spread evenly over their bins."""
        from dpsynth.models.tabular.marginals.planning import blurred, even_one_way, plan_of, public_codec, rho_of

        codec = public_codec(schema)
        rho = rho_of(schema, budget, self.accounting)
        for_columns = rho * column_share(schema, codec, self.bins)
        counts = even_one_way(schema, codec, self.bins, rows, for_columns)
        stage = Stage(schema, codec, counts, schema.max_rows_per_patient, most=self.states)
        rest = rho - for_columns
        share = stage.best_share(rest, for_columns)
        for_groups = stage.for_groups(rest, share)
        for_pairs = rest * share - for_groups if share > 0 else 0.0
        batches = stage.planned(for_pairs, for_groups, PROBE * rest)
        return plan_of(
            self,
            schema,
            budget,
            rows,
            counts,
            items=[stage.item(what, asked) for what, asked in batches.items()],
            pair_error=stage.expected_pair_error(for_pairs if stage.seen(for_pairs) else 0.0),
            blur=blurred(counts) if self.bins is None else 0.0,
            group_noise=stage.group_noise([q for asked in batches.values() for q in asked]),
        )
