"""MST: a maximum spanning tree of pairs.

Source: McKenna, Miklau and Sheldon (2021), Winning the NIST contest: a scalable and general approach to differentially
private synthetic data, Journal of Privacy and Confidentiality 11(3), section 4. The budget goes in thirds to the
columns, to choosing the tree and to its pairs. An edge's weight is the L1 distance of the pair from independence; one
patient moves it by the patient cap in either direction, so the exponential mechanism keeps its factor 1/2
(`Session.select`), here and in the published algorithm.
"""

from itertools import combinations
from typing import ClassVar, Literal

import numpy as np

from dpsynth.models.base import Progress, Synthesizer
from dpsynth.models.plan import Plan, PlanItem
from dpsynth.models.tabular.marginals import one_way
from dpsynth.models.tabular.marginals.fitting import count_tables, fit_model, state_query
from dpsynth.models.tabular.marginals.model import MarginalModel
from dpsynth.models.tabular.marginals.one_way import OneWay
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.progress import silent
from dpsynth.schema.schema import Schema

Pair = tuple[str, str]

RIDGE = 50.0
"""Slack of the tree's tables, in variances of their noise. The paper's least squares is 1 and gives a two-way error of
.054 on NMES and .076 on SUPPORT2 at epsilon 1, this .051 and .068 (10 and 200 were tried too)."""


class MST(Synthesizer):
    """Private maximum spanning tree.

    Parameters
    ----------
    bins : int, default 16
        How many bins a column with many ordered cells is counted in.
    states : int, default 16
        How many of them pairs are counted in, at most.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: ward, target: died, columns: {sex: {type: categorical, values: [f, m]}, died: {type: boolean}}}"
    ... )
    >>> plan = MST(bins=8).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]
    ['columns', 'choices of an edge', 'pairs of the tree']
    """

    name: ClassVar[str] = "mst"
    accounting: ClassVar[Literal["gaussian", "zcdp"]] = "gaussian"
    asks_sums: ClassVar[bool] = False
    summary: ClassVar[str] = "a spanning tree of the most dependent pairs: fast, blind to the target"
    citation: ClassVar[str] = "McKenna, Miklau and Sheldon (2021), Journal of Privacy and Confidentiality 11(3)"
    produces = MarginalModel

    def __init__(self, *, bins: int = 16, states: int = 16) -> None:
        self.bins = bins
        self.states = states

    def fit(self, session: Session, progress: Progress | None = None) -> MarginalModel:
        """Learn a model: columns, tree, pairs of the tree, a third of the budget each."""
        report = progress or silent
        one_way.discover(session)
        third = session.rho_left / _parts(len(session.codec.columns))
        report("counting columns", 0.0)
        counts = one_way.measure(session, third, bins=self.bins).merged(session.codec, self.states)
        tree = self._tree(session, counts, third, report)
        report("counting pairs", 0.3)
        measured = count_tables(session, counts, tree, [third / max(len(tree), 1)] * len(tree), ridge=RIDGE)
        return fit_model(session, counts, measured, report)

    def _tree(self, session: Session, counts: OneWay, rho: float, report: Progress) -> list[Pair]:
        """Grow a forest edge by edge, each drawn by the exponential mechanism among those that join two parts."""
        part = {name: i for i, name in enumerate(counts.proportions)}
        candidates = list(combinations(part, 2))
        queries = {pair: state_query(counts, pair) for pair in candidates}
        alone = {(a, b): counts.rows * np.outer(counts.proportions[a], counts.proportions[b]) for a, b in candidates}
        tree: list[Pair] = []
        for edge in range(len(part) - 1):
            report("choosing the tree", edge / len(part))
            joining = [(a, b) for a, b in candidates if part[a] != part[b]]
            chosen = session.select(
                [queries[p] for p in joining],
                [alone[p] for p in joining],
                np.zeros(len(joining)),
                rho / (len(part) - 1),
            )
            a, b = joining[chosen[0]]
            tree.append((a, b))
            part = {name: part[a] if i == part[b] else i for name, i in part.items()}
        return tree

    def plan(self, schema: Schema, budget: Budget, rows: int) -> Plan:
        """Say what will be asked, from public facts: columns are taken to be spread evenly over their bins."""
        from dpsynth.models.tabular.marginals.planning import even_one_way, noise_items, plan_of, public_codec, rho_of

        rho, codec = rho_of(schema, budget, self.accounting), public_codec(schema)
        third = rho / _parts(len(codec.columns))
        counts = even_one_way(schema, codec, self.bins, rows, third)
        states = counts.merged(codec, self.states)
        edges = len(states.proportions) - 1
        items, error = [], None
        if edges:
            pairs, error = noise_items(schema, states, "pairs of the tree", edges, third)
            items = [PlanItem("choices of an edge", edges, 0, 0.0, "exponential mechanism"), pairs]
        return plan_of(self, schema, budget, rows, counts, items=items, pair_error=error)


def _parts(columns: int) -> int:
    """Return in how many parts the budget goes; a column alone has no pairs and gets all of it."""
    return 3 if columns > 1 else 1
