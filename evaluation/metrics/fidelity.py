"""How close the synthetic cohort is to real patients: its tables of counts, its columns and its rows.

Cohorts of the same number of rows are compared with a *reference* of real patients: the arm ``real`` are *other* real
patients and shows what chance alone makes of each distance.
"""

from collections.abc import Mapping, Sequence

from dpsynth.evaluation.arrays.bins import BinKind, JudgingBins
from dpsynth.evaluation.arrays.table import Table
from dpsynth.evaluation.metrics.marginals import tvd_results
from dpsynth.evaluation.metrics.pairs import pair_results
from dpsynth.evaluation.metrics.row_distances import (
    missing_results,
    neighbour_results,
    number_results,
    two_sample_results,
)
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Result

__all__ = ["fidelity"]


def fidelity(
    reference: Table, arms: Mapping[str, Sequence[Table]], terms: Protocol, bins: BinKind = "quantile"
) -> list[Result]:
    """Return all results on fidelity.

    Parameters
    ----------
    reference : Table
        Real patients that the synthetic cohort was not fitted on.
    arms : mapping of str to sequence of Table
        ``real`` (other real patients), ``synthetic`` and further arms; several draws of each where there are.
    terms : Protocol
    bins : {"quantile", "public"}
        Cells of numbers for tables of counts: cut from the reference, or from the schema.
    """
    rows = min([terms.rows_counted, *(len(draw) for draws in arms.values() for draw in draws)])
    reference = reference.at_most(terms.rows_counted, terms.seed)
    same = {arm: [draw.at_most(rows, terms.seed) for draw in draws] for arm, draws in arms.items()}
    rule = JudgingBins.of(reference, bins)
    binned = {arm: [rule.apply(draw) for draw in draws] for arm, draws in same.items()}
    cells = rule.apply(reference)
    return [
        *tvd_results(cells, binned, rule, reference, terms),
        *pair_results(cells, binned, rule.ordered(reference), terms),
        *number_results(reference, same, terms),
        *missing_results(reference, same, terms),
        *two_sample_results(reference, same, terms),
        *neighbour_results(reference, same, terms),
    ]
