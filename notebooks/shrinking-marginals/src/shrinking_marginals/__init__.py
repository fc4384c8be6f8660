"""Private naive Bayes with partial pooling: a synthesizer for dpsynth in a package of its own."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec, ColumnCode
from dpsynth.coding.query import Query
from dpsynth.errors import InputError
from dpsynth.models import Model, Plan, PlanItem, Synthesizer
from dpsynth.models.base import Progress
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.accounting import rho_for
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.tables.discovery import delta_for_discovery
from dpsynth.schema import Schema

__all__ = ["NaiveBayes", "Shrinking", "pooled"]

Floats = NDArray[np.float64]
DISCOVERY = 0.05
"""Share of the budget for the values of columns that are declared `discover: true`."""


class NaiveBayes(Model):
    """The shares of the target's values, and of each column's bins within them."""

    kind: ClassVar[str] = "shrinking-marginals"

    def __init__(
        self, codec: Codec, statement: dict[str, Any], *, bins: int, total: int, shares: Mapping[str, Floats]
    ) -> None:
        super().__init__(codec, statement)
        self.bins, self.total, self.shares = bins, total, shares

    @property
    def rows(self) -> int:
        """The number of rows, as the noisy counts say."""
        return self.total

    def sample_codes(
        self, n: int, masks: Mapping[str, NDArray[np.bool_]], rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """Draw the target, then each column within it; exact under conditions, since columns are independent then."""
        target = str(self.schema.target)
        fine = {name: self._fine(name, masks) for name in self.shares if name != target}
        odds = self.shares[target] * masks.get(target, np.ones(len(self.shares[target]), bool))
        for table in fine.values():
            odds = odds * table.sum(axis=1)
        if odds.sum() <= 0:
            raise InputError("where: no patient of the model meets all of the conditions; widen them.")
        outcome = rng.choice(len(odds), n, p=odds / odds.sum())
        drawn: dict[str, NDArray[Any]] = {target: outcome}
        for name, table in fine.items():
            drawn[name] = np.empty(n, dtype=np.int64)
            for value in np.unique(outcome):
                rows = outcome == value
                drawn[name][rows] = rng.choice(table.shape[1], rows.sum(), p=table[value] / table[value].sum())
        return drawn

    def _fine(self, name: str, masks: Mapping[str, NDArray[np.bool_]]) -> Floats:
        """Return (values of the target, fine codes): a bin's share, spread evenly over its codes, where it may be."""
        code = self.codec.columns[name]
        bins = binned(code, self.bins)
        table: Floats = (self.shares[name] / np.bincount(bins))[:, bins]
        return table * masks.get(name, np.ones(code.size, bool))

    def to_parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the numbers and the shares."""
        return {"bins": self.bins, "total": self.total}, {f"shares:{name}": s for name, s in self.shares.items()}

    @classmethod
    def from_parts(
        cls, codec: Codec, statement: dict[str, Any], config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Self:
        """Check that shares fit the columns: a file may hold anything."""
        bins, target = int(config["bins"]), str(codec.schema.target)
        outcomes = codec.columns[target].size
        shares = {}
        for name, code in codec.columns.items():
            share = np.asarray(arrays[f"shares:{name}"], dtype=np.float64)
            wanted = (outcomes,) if name == target else (outcomes, int(binned(code, bins).max()) + 1)
            if share.shape != wanted or not np.allclose(share.sum(axis=-1), 1) or (share < 0).any():
                raise ValueError("the shares of a column do not fit it")
            shares[name] = share
        return cls(codec, statement, bins=bins, total=max(int(config["total"]), 1), shares=shares)


class Shrinking(Synthesizer):
    """Count each column within the target's values; where noise is large, pull the shares to those of all patients.

    Parameters
    ----------
    bins
        How many bins a column with ordered cells is counted in, at least 2.
    """

    name: ClassVar[str] = "shrinking"
    accounting: ClassVar[Literal["gaussian", "zcdp"]] = "gaussian"
    summary: ClassVar[str] = "private naive Bayes with partial pooling: an example of a plug-in"
    citation: ClassVar[str] = "an example; the weights are those of James and Stein (1961)"
    produces: ClassVar[type[Model]] = NaiveBayes

    def __init__(self, *, bins: int = 12) -> None:
        if bins < 2:
            raise InputError(f"bins: found {bins}, expected 2 or more.")
        self.bins = bins

    def plan(self, schema: Schema, budget: Budget, rows: int) -> Plan:
        """Say what will be asked: one table a column. No data is needed."""
        _target(schema)
        reserved = delta_for_discovery(budget, schema)
        rho = rho_for(budget, "gaussian", reserved_delta=reserved)
        tables = len(schema.modelled) - 1
        sigma = schema.max_rows_per_patient / np.sqrt(2 * rho / tables)
        item = PlanItem("each column within the target", tables, tables * self.bins * 2, float(sigma), "then pooled")
        error = min(0.4 * self.bins * 2 * float(sigma) / rows, 1.0)
        return Plan(self.name, budget.epsilon, budget.delta, rho, rows, (item,), {"2-way": error}, 1.0)

    def fit(self, session: Session, progress: Progress | None = None) -> NaiveBayes:
        """Ask for one table a column, at equal prices, with the whole budget."""
        target = _target(session.schema)
        pending = list(session.to_discover)
        for name in pending:
            session.discover(name, DISCOVERY * session.rho / len(pending))
        codes = session.codec.columns
        every = np.arange(codes[target].size)
        others = [name for name in codes if name != target]
        queries = [Query((target, name), (every, binned(codes[name], self.bins))) for name in others]
        answers = session.count(queries, [session.rho_left / len(queries)] * len(queries))
        if progress is not None:
            progress("counting", 1.0)
        outcome = np.maximum(np.mean([answer.counts.sum(axis=1) for answer in answers], axis=0), 1.0)
        shares = {target: outcome / outcome.sum()}
        for name, answer in zip(others, answers, strict=True):
            shares[name] = pooled(answer.counts, answer.sigma)
        rows = session.schema.units or round(float(outcome.sum()))
        return NaiveBayes(session.codec, session.statement(), bins=self.bins, total=max(rows, 1), shares=shares)


def pooled(counts: NDArray[Any], sigma: float) -> Floats:
    """Return the shares of noisy counts along the last axis, pulled to those of all rows by what the noise explains.

    The weight of a row's own shares is ``1 - (variance of the noise) / (mean square distance from the shares of all)``,
    and 0 where that is negative.

    >>> pooled(np.array([[40, 60], [4, 6]]), sigma=1e-9).round(2).tolist()
    [[0.4, 0.6], [0.4, 0.6]]
    >>> pooled(np.array([[900, 100], [8, 12]]), sigma=100.0)[1].round(1).tolist()
    [0.9, 0.1]
    """
    there = np.maximum(counts, 0).astype(np.float64) + 1e-6
    size = np.maximum(there.sum(axis=1, keepdims=True), 1.0)
    own, of_all = there / there.sum(axis=1, keepdims=True), there.sum(axis=0) / there.sum()
    distance = np.maximum(((own - of_all) ** 2).mean(axis=1, keepdims=True), 1e-300)
    weight = np.maximum(1 - (sigma / size) ** 2 / distance, 0.0)
    return np.asarray(weight * own + (1 - weight) * of_all)


def binned(code: ColumnCode, bins: int) -> NDArray[np.int64]:
    """Return the bin of each fine code: ordered cells in `bins` bins of equal width, all others by themselves.

    >>> from dpsynth.coding.codec import ColumnCode
    >>> binned(ColumnCode("x", 5, 4, 4, ("a", "b", "c", "d", "missing")), 2).tolist()
    [0, 0, 1, 1, 2]
    """
    count = min(bins, code.ordered)
    cells = np.arange(code.ordered) * count // max(code.ordered, 1)
    return np.concatenate([cells, count + np.arange(code.size - code.ordered)]).astype(np.int64)


def _target(schema: Schema) -> str:
    if schema.target is None:
        raise InputError("target: this model counts columns within the target; name one in the schema.")
    if len(schema.modelled) < 2:
        raise InputError("columns: this model needs a column beside the target.")
    return schema.target
