"""How close the synthetic cohort's tables, columns and rows are to those of real patients."""

from dpsynth.evaluation.bins import Binned
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.results import Interval, Result, estimate
from dpsynth.evaluation.tvd import cliques, distance

__all__ = ["mean_tvd"]


def mean_tvd(reference: Binned, other: Binned, order: int, terms: Protocol, *, arm: str, words: str) -> Result:
    """Return the mean k-way TVD of `other` against `reference` with its interval; `n` is the number of marginals.

    Parameters
    ----------
    reference, other : Binned
    order : int
        Columns of a marginal.
    terms : Protocol
    arm : str
    words : str
        How the bins were made.
    """
    sets, whole = cliques(list(reference.codes), order, terms.marginals, terms.seed)
    found = distance(reference, other, sets, terms.seed)
    low, high = found.ends(terms.level)
    which = f"all {len(sets)} marginals" if whole else f"a public random subset of {len(sets)} marginals"
    return estimate(
        f"tvd_{order}way",
        found.value,
        interval=Interval(low, high, terms.level, ("patients of both cohorts",), "delete-a-group jackknife"),
        n=len(sets),
        arm=arm,
        disclosure=terms.disclosure,
        detail={"bins": words, "marginals": which, "reference_rows": len(reference), "rows": len(other)},
    )
