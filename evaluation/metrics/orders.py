"""Differences of columns that a schema puts in order, such as length of stay: an order can be kept and they be lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.evaluation.arrays.table import Floats, Table
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Result, estimate, guarded, not_estimable
from dpsynth.evaluation.statistics import jackknife
from dpsynth.evaluation.statistics.column_distances import kolmogorov_smirnov
from dpsynth.schema.computed import rules
from dpsynth.schema.constraints import Order

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["order_pairs", "order_results"]

Pair = tuple[str, str]
Arms = Mapping[str, Sequence[Table]]

#: Rows of each cohort, for each of which groups of patients are left out in turn; and rows with both values at least.
ROWS, SMALLEST = 20_000, 20
METRICS = ("order_difference", "order_difference_excess")


def order_pairs(schema: "Schema") -> list[Pair]:
    """Return each pair of neighbours in the orders that a schema declares, the lesser column first."""
    orders = [constraint.order for constraint in rules(schema) if isinstance(constraint, Order)]
    return list(dict.fromkeys(pair for order in orders for pair in pairwise(order)))


def order_results(reference: Table, arms: Arms, pairs: Sequence[Pair], terms: Protocol) -> list[Result]:
    """Return how far each pair's differences are from those of the reference, by Kolmogorov and Smirnov's distance.

    Parameters
    ----------
    reference : Table
        Real patients that the synthetic cohort was not fitted on.
    arms : mapping of str to sequence of Table
        ``real`` (other real patients: what chance alone makes) and further arms; draws of each.
    pairs : sequence of (str, str)
    terms : Protocol

    Returns
    -------
    list of Result
        ``order_difference`` of each arm, and ``order_difference_excess`` over ``real``; rows with both values count.
    """
    reference = reference.at_most(ROWS, terms.seed)
    less = {arm: [draw.at_most(ROWS, terms.seed) for draw in draws] for arm, draws in arms.items()}
    results: list[Result] = []
    for pair in pairs:
        if not all(name in reference.variables for name in pair):
            continue
        judged = _OrderedPair(reference, less["real"][0], pair, terms)
        for arm, draws in less.items():
            fields = {"arm": arm, "subject": " to ".join(pair), "disclosure": terms.disclosure}
            results += guarded(_wanted(arm), partial(judged.results, draws, fields), **fields)
    return results


def _wanted(arm: str) -> Sequence[str]:
    return METRICS if arm != "real" else METRICS[:1]


def _differences(table: Table, pair: Pair) -> Floats:
    """Return the later value less the earlier one, of rows that have both."""
    first, second = (table[name] for name in pair)
    both = first.measured & second.measured
    differences: Floats = second.values[both] - first.values[both]
    return differences


@dataclass(frozen=True)
class _OrderedPair:
    """One pair among the test patients, beside other real patients."""

    reference: Table
    real: Table
    pair: Pair
    terms: Protocol

    def results(self, draws: Sequence[Table], fields: Mapping[str, Any]) -> list[Result]:
        """Return the distance of an arm's differences, and by how much it exceeds that of other real patients."""
        wanted = _wanted(fields["arm"])
        sizes = [len(_differences(table, self.pair)) for table in (self.reference, self.real, *draws)]
        if min(sizes) < SMALLEST:
            reason = f"{min(sizes)} rows of a cohort have both values; needs {SMALLEST}"
            return [not_estimable(metric, reason, **fields) for metric in wanted]
        level, seed = self.terms.level, self.terms.seed
        value, spread = jackknife.two_sample(self.reference, draws, self.distances, seed)
        ends = jackknife.interval(value[0], spread[0], level, low=0.0, high=1.0)
        quartiles = [self.quartiles(table) for table in (self.reference, draws[0])]
        facts = {**fields, "n": sizes[0], "detail": dict(zip(("real", "drawn"), quartiles, strict=True))}
        results = [estimate(METRICS[0], value[0], interval=ends, **facts)]
        if len(wanted) > 1:
            _, chance = jackknife.two_sample(self.reference, [self.real], self.distances, seed)
            ends = jackknife.interval(value[1], spread[1] + chance[0], level)  # chance: the other patients' own part
            results.append(estimate(METRICS[1], value[1], interval=ends, **facts))
        return results

    def distances(self, left: Table, right: Table) -> Floats:
        """Return the distance of two cohorts' differences, and by how much it exceeds that of other real patients."""
        base = _differences(left, self.pair)
        mine, others = (kolmogorov_smirnov(base, _differences(table, self.pair)) for table in (right, self.real))
        return np.array([mine, mine - others])

    def quartiles(self, table: Table) -> list[float]:
        """Return the quartiles of a cohort's differences."""
        ends: list[float] = np.quantile(_differences(table, self.pair), [0.25, 0.5, 0.75]).tolist()
        return ends
