"""Independent columns: the floor that every other mechanism has to beat."""

from typing import ClassVar, Literal

from dpsynth.models.base import Progress, Synthesizer
from dpsynth.models.plan import Plan
from dpsynth.models.tabular.marginals import one_way
from dpsynth.models.tabular.marginals.fitting import fit_model
from dpsynth.models.tabular.marginals.model import MarginalModel
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.progress import silent
from dpsynth.schema.schema import Schema


class Independent(Synthesizer):
    """Count each column once; rows are drawn column by column, with the schema's constraints and nothing else.

    Parameters
    ----------
    bins : int, default 16
        How many bins a column with many ordered cells is counted in.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: ward, target: died, columns: {sex: {type: categorical, values: [f, m]}, died: {type: boolean}}}"
    ... )
    >>> plan = Independent(bins=8).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]
    ['columns']
    """

    name: ClassVar[str] = "independent"
    accounting: ClassVar[Literal["gaussian", "zcdp"]] = "gaussian"
    summary: ClassVar[str] = "each column by itself: the floor that a model must beat"
    citation: ClassVar[str] = "folklore; the baseline of McKenna, Miklau and Sheldon (2021)"
    produces = MarginalModel

    def __init__(self, *, bins: int = 16) -> None:
        self.bins = bins

    def fit(self, session: Session, progress: Progress | None = None) -> MarginalModel:
        """Learn a model: one-way counts with the whole budget."""
        report = progress or silent
        one_way.discover(session)
        report("counting columns", 0.0)
        counts = one_way.measure(session, session.rho_left, bins=self.bins)
        return fit_model(session, counts, [], report)

    def plan(self, schema: Schema, budget: Budget, rows: int) -> Plan:
        """Say what will be asked, from public facts: columns are taken to be spread evenly over their bins."""
        from dpsynth.models.tabular.marginals.planning import even_one_way, plan_of, public_codec, rho_of

        rho = rho_of(schema, budget, self.accounting)
        counts = even_one_way(schema, public_codec(schema), self.bins, rows, rho)
        return plan_of(self, schema, budget, rows, counts, items=[], pair_error=None)
