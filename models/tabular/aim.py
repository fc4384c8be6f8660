"""AIM: an adaptive and iterative mechanism.

Source: McKenna, Mullins, Sheldon and Miklau (2022), AIM: an adaptive and iterative mechanism for differentially private
synthetic data, PVLDB 15(11), algorithms 1 to 4. The steps stand in the paper's order. Two faults of published
implementations are not repeated: the score is not monotone, so the exponential mechanism keeps its factor 1/2, and
the patient cap scales the sensitivity of selection and of measurement alike; both are in `Session`.

Ours differ from the paper's choices in this: candidates are answered from a large sample of the model with nearly
exact counts, the schema's target and subgroups may weigh more in the workload, and the tables that a fairness policy
promises are counted before the first round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import prod
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.query import Query
from dpsynth.models.base import Progress, Synthesizer
from dpsynth.models.plan import Plan, PlanItem
from dpsynth.models.tabular.graphical.estimation import Estimate, Measurement, estimate
from dpsynth.models.tabular.graphical.junction_tree import Clique, JunctionTree
from dpsynth.models.tabular.graphical.model import GraphicalModel
from dpsynth.models.tabular.marginals import one_way
from dpsynth.models.tabular.marginals.fitting import (
    count_tables,
    fit_model,
    one_way_measurements,
    state_query,
    zeros_of,
)
from dpsynth.models.tabular.marginals.groups import group_columns, pooled_table
from dpsynth.models.tabular.marginals.model import MarginalModel
from dpsynth.models.tabular.marginals.one_way import OneWay
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.progress import silent
from dpsynth.schema.schema import Schema

Array = NDArray[np.float64]

COLUMNS = 0.25
"""Share of the budget for the one-way counts that the first model is made of (line 5 of algorithm 4)."""
SELECT = 0.1
"""Share of a round's budget for the selection (alpha is 0.9 in the paper)."""
EXPECTED_ABSOLUTE = float(np.sqrt(2 / np.pi))
TARGET_WEIGHT = 3.0
RELATED_WEIGHT = 3.0


class AIM(Synthesizer):
    """Adaptive and iterative mechanism.

    Parameters
    ----------
    bins : int, default 16
        How many bins a column with many ordered cells is counted in.
    states : int, default 8
        How many of them pairs are counted in, at most.
    rounds : int, default 16
        Rounds at the first noise level, as a multiple of the number of columns; annealing makes them fewer.
    cells : int, default 100000
        Size limit of the junction tree when the whole budget is spent; in proportion before.
    sample : int, default 20000
        Rows of the sample that answers the candidates.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: ward, target: died, columns: {sex: {type: categorical, values: [f, m]}, died: {type: boolean}}}"
    ... )
    >>> plan = AIM(rounds=8).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]
    ['columns', 'pairs, if as many rounds as columns are run']
    """

    name: ClassVar[str] = "aim"
    accounting: ClassVar[Literal["gaussian", "zcdp"]] = "gaussian"
    asks_sums: ClassVar[bool] = False
    summary: ClassVar[str] = "rounds of choosing the worst modelled pair and measuring it: thorough, slower"
    citation: ClassVar[str] = "McKenna, Mullins, Sheldon and Miklau (2022), PVLDB 15(11)"
    produces = MarginalModel

    def __init__(
        self, *, bins: int = 16, states: int = 8, rounds: int = 16, cells: int = 100_000, sample: int = 20_000
    ) -> None:
        self.bins = bins
        self.states = states
        self.rounds = rounds
        self.cells = cells
        self.sample = sample

    def fit(self, session: Session, progress: Progress | None = None) -> MarginalModel:
        """Learn a model: one-way counts, then rounds of select, measure, estimate, anneal until all is spent."""
        report = progress or silent
        one_way.discover(session)
        total = session.rho_left
        report("counting columns", 0.0)
        alone = len(session.codec.columns) == 1
        counts = one_way.measure(session, total if alone else COLUMNS * total, bins=self.bins)
        counts = counts.merged(session.codec, self.states)
        measured = [] if alone else _Rounds(self, session, counts, total, report).run()
        return fit_model(session, counts, measured, report)

    def plan(self, schema: Schema, budget: Budget, rows: int) -> Plan:
        """Say what will be asked, from public facts: columns are taken to be spread evenly over their bins."""
        from dpsynth.models.tabular.marginals.planning import even_one_way, noise_items, plan_of, public_codec, rho_of

        rho, codec = rho_of(schema, budget, self.accounting), public_codec(schema)
        counts = even_one_way(schema, codec, self.bins, rows, COLUMNS * rho)
        states = counts.merged(codec, self.states)
        d = len(states.proportions)
        if d == 1:
            return plan_of(self, schema, budget, rows, counts, items=[], pair_error=None)
        names, price = _promised(schema, (1 - COLUMNS) * rho)
        share = (1 - SELECT) * ((1 - COLUMNS) * rho - len(names) * price)
        tables, error = noise_items(schema, states, "pairs, if as many rounds as columns are run", d, share)
        noise = dict.fromkeys(names, schema.max_rows_per_patient / float(np.sqrt(2 * price))) if names else {}
        items = [PlanItem("groups of the fairness policy", len(names), 0, noise[names[0]])] if names else []
        return plan_of(self, schema, budget, rows, counts, items=[*items, tables], pair_error=error, group_noise=noise)


@dataclass
class _Rounds:
    options: AIM
    session: Session
    counts: OneWay
    total: float
    report: Progress
    measured: list[Measurement] = field(default_factory=list)

    def run(self) -> list[Measurement]:
        """Algorithm 4, lines 7 to 15: what was measured besides the first one-way counts."""
        session, counts = self.session, self.counts
        domain, zeros = counts.bins.shape, zeros_of(session.codec, counts)
        candidates = [*((c,) for c in domain), *combinations(domain, 2)]
        weights = workload_weights(session.schema, candidates)
        queries = {r: state_query(counts, r) for r in candidates}
        rho = (1 - COLUMNS) * self.total / (self.options.rounds * len(domain))
        base = one_way_measurements(counts)
        self.measured += self._groups()
        fit = estimate(domain, [*base, *self.measured], zeros=zeros)
        while session.rho_left > 1e-9 * self.total:
            rho = session.rho_left if session.rho_left < 2 * rho else rho
            self.report("measuring the worst modelled pairs", 1 - session.rho_left / self.total)
            answers = self._answers(fit, candidates)
            small = self._affordable(fit.tree, candidates)
            chosen = self._select(queries, answers, {r: weights[r] for r in small}, rho)
            self.measured += count_tables(session, counts, [chosen], [(1 - SELECT) * rho])
            measured = [*base, *self.measured]
            fit = estimate(domain, measured, zeros=zeros, warm=fit.parameters)
            rho = self._anneal(fit, chosen, answers[chosen], rho)
        return self.measured

    def _groups(self) -> list[Measurement]:
        """Count the tables of the fairness policy's groups with the target, and pool scarce groups partially."""
        schema, counts = self.session.schema, self.counts
        names, price = _promised(schema, (1 - COLUMNS) * self.total)
        tables = [tuple(c for c in counts.proportions if c in (name, schema.target)) for name in names]
        if not tables:
            return []
        self.report("counting groups", 0.0)
        measured = []
        for m in count_tables(self.session, counts, tables, [price] * len(tables)):
            proportions = (counts.proportions[m.columns[0]], counts.proportions[m.columns[1]])
            axis = int(m.columns[0] == schema.target)
            measured.append(replace(m, values=pooled_table(m.values, m.slack, proportions, axis)))
        return measured

    def _noise(self, rho: float) -> float:
        """Return the expected absolute noise of a cell that is measured in a round of this budget, in rows."""
        return EXPECTED_ABSOLUTE * self.session.sensitivity / float(np.sqrt(2 * (1 - SELECT) * rho))

    def _select(
        self,
        queries: Mapping[Clique, Query],
        answers: Mapping[Clique, Array],
        weights: Mapping[Clique, float],
        rho: float,
    ) -> Clique:
        """Algorithm 2: the exponential mechanism on weighted L1 error less the error that the noise would make."""
        penalties = [self._noise(rho) * answers[r].size for r in weights]
        place = self.session.select(
            [queries[r] for r in weights],
            [answers[r] for r in weights],
            penalties,
            SELECT * rho,
            weights=list(weights.values()),
        )
        return list(weights)[place[0]]

    def _anneal(self, fit: Estimate, chosen: Clique, before: Array, rho: float) -> float:
        """Algorithm 3: twice the budget a round once a measurement moves the model by less than its noise.

        The paper doubles the measurement's precision and the selection's epsilon, that is the budget fourfold.
        """
        after = self.counts.rows * GraphicalModel(fit.tree, fit.beliefs).marginal(chosen)
        moved = float(np.abs(after - before).sum())
        return 4 * rho if moved <= self._noise(rho) * before.size else rho

    def _answers(self, fit: Estimate, candidates: Sequence[Clique]) -> dict[Clique, Array]:
        """Count in a sample of the model what it says of each candidate, in rows."""
        graph = GraphicalModel(fit.tree, fit.beliefs)
        # Post-processing needs no entropy: one seed makes a fit repeatable given the session's answers.
        drawn = graph.sample(self.options.sample, np.random.default_rng(0))
        domain, scale = graph.domain, self.counts.rows / self.options.sample
        answers = {}
        for r in candidates:
            shape = tuple(domain[c] for c in r)
            cells = np.ravel_multi_index([drawn[c] for c in r], shape)
            counts = np.bincount(cells, minlength=prod(shape)).astype(np.float64)
            answers[r] = scale * counts.reshape(shape)
        return answers

    def _affordable(self, tree: JunctionTree, candidates: Sequence[Clique]) -> list[Clique]:
        """Candidates that keep the junction tree under the limit that the spent share of the budget allows."""
        limit = self.options.cells * max(1 - self.session.rho_left / self.total, 0.05)
        sizes = {column: _joining_costs(tree, column) for column in tree.domain}
        return [
            r for r in candidates if tree.cells + (0.0 if len(r) == 1 else sizes[r[0]][r[1]]) <= max(limit, tree.cells)
        ]


def _promised(schema: Schema, for_pairs: float) -> tuple[tuple[str, ...], float]:
    """Columns that are counted with the target for the fairness policy, and the price of each table."""
    if schema.fairness is None or schema.target is None or schema.fairness.floor == 0:
        return (), 0.0
    names = group_columns(schema)
    return names, schema.fairness.floor * for_pairs / len(names)


def _joining_costs(tree: JunctionTree, column: str) -> dict[str, float]:
    """Cells that are added when `column` joins each other column in a clique: it is carried along the tree's path."""
    grow = tree.domain[column] - 1
    costs = [0.0 if column in clique else np.inf for clique in tree.cliques]
    sizes = [prod(tree.domain[c] for c in clique) for clique in tree.cliques]
    for _ in range(2):
        for i, parent in reversed(list(enumerate(tree.parents))):
            if parent >= 0 and column not in tree.cliques[parent]:
                costs[parent] = min(costs[parent], costs[i] + grow * sizes[parent])
        for i, parent in enumerate(tree.parents):
            if parent >= 0 and column not in tree.cliques[i]:
                costs[i] = min(costs[i], costs[parent] + grow * sizes[i])
    best = dict.fromkeys(tree.domain, np.inf)
    for clique, cost in zip(tree.cliques, costs, strict=True):
        for other in clique:
            best[other] = min(best[other], cost)
    return best


def workload_weights(schema: Schema, candidates: Sequence[Clique]) -> dict[Clique, float]:
    """Weight of each candidate, at most 1: what the workload of all pairs has of its columns, more with the target."""
    columns = {c for r in candidates for c in r}
    heavy = {schema.target: TARGET_WEIGHT} | dict.fromkeys((*schema.subgroups, *group_columns(schema)), 1.0)
    related = {frozenset(pair) for pair in schema.related}
    pairs = {
        p: float(np.max([heavy.get(c, 1.0) for c in p])) * (RELATED_WEIGHT if frozenset(p) in related else 1.0)
        for p in combinations(sorted(columns), 2)
    }
    raw = {r: sum(w * len(set(r) & set(p)) for p, w in pairs.items() if set(r) & set(p)) for r in candidates}
    most = max(raw.values())
    return {r: w / most for r, w in raw.items()}
