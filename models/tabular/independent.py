"""Independent columns: the floor that every other mechanism has to beat."""

from typing import ClassVar, Literal

from dpsynth.models.base import Plan, Progress, Synthesizer
from dpsynth.models.tabular import one_way
from dpsynth.models.tabular.fitting import fit_model
from dpsynth.models.tabular.marginal_model import MarginalModel
from dpsynth.privacy.budget import Budget
from dpsynth.privacy.session import Session
from dpsynth.progress import silent
from dpsynth.schema import Schema


class Independent(Synthesizer):
    """Count each column once; rows are drawn column by column, with the schema's constraints and nothing else.

    Parameters
    ----------
    bins
        How many bins a column with many ordered cells is counted in.
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
        known = one_way.measure(session, session.rho_left, bins=self.bins)
        return fit_model(session, known, [], report)

    def plan(self, schema: Schema, budget: Budget, rows: int) -> Plan:
        """Say what will be asked, from public facts: columns are taken to be spread evenly over their bins."""
        from dpsynth.models.tabular.planning import even_one_way, plan_of, public_codec, rho_of

        rho = rho_of(schema, budget, self.accounting)
        known = even_one_way(schema, public_codec(schema), self.bins, rows, rho)
        return plan_of(self, schema, budget, rows, known, items=[], pair_error=None)
