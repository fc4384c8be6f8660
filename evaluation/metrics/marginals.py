"""k-way TVD of each arm from the reference patients, beside other real patients, overall and column by column."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dpsynth.evaluation.arrays.bins import Binned, JudgingBins
from dpsynth.evaluation.arrays.table import Floats, Table
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Result, estimate
from dpsynth.evaluation.statistics.tvd import Clique, MeanTVD, cliques, distance

__all__ = ["Draws", "mean_tvd", "tvd_results"]

Draws = Mapping[str, Sequence[Binned]]


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
    sets, whole = cliques(list(reference.codes), order, terms.marginals_for(len(reference)), terms.seed)
    mean = distance(reference, [other], sets, terms.seed)
    return _tvd_result(mean, order, terms, arm, _about(reference, [other], sets, whole=whole) | {"bins": words})


def _about(reference: Binned, others: Sequence[Binned], sets: Sequence[Clique], *, whole: bool) -> dict[str, Any]:
    which = f"all {len(sets)} marginals" if whole else f"a public random subset of {len(sets)} marginals"
    return {"marginals": which, "reference_rows": len(reference), "rows": len(others[0]), "draws": len(others)}


def _tvd_result(mean: MeanTVD, order: int, terms: Protocol, arm: str, detail: Mapping[str, Any]) -> Result:
    return estimate(
        f"tvd_{order}way",
        mean.value,
        interval=mean.interval(terms.level),
        n=len(mean.each),
        arm=arm,
        disclosure=terms.disclosure,
        detail=detail,
    )


def tvd_results(reference: Binned, arms: Draws, bins: JudgingBins, shown: Table, terms: Protocol) -> list[Result]:
    """Return mean TVD of one, two and three columns for each arm, its excess over ``real``, and TVD column by column.

    Parameters
    ----------
    reference : Binned
    arms : mapping of str to sequence of Binned
        ``real`` (other real patients) and at least one other arm; draws of each.
    bins : JudgingBins
    shown : Table
        The reference before binning, for labels.
    terms : Protocol
    """
    results: list[Result] = []
    for order in range(1, min(3, len(reference.codes)) + 1):
        sets, whole = cliques(list(reference.codes), order, terms.marginals_for(len(reference)), terms.seed)
        means = {arm: distance(reference, draws, sets, terms.seed) for arm, draws in arms.items()}
        shuffled = _independent(arms["real"][0], terms.seed)
        floor = distance(reference, [shuffled], sets, terms.seed) if order == 2 else None
        for arm, mean in means.items():
            detail = _about(reference, arms[arm], sets, whole=whole) | {"bins": bins.words}
            results.append(_tvd_result(mean, order, terms, arm, detail | _worst(mean, means["real"], sets)))
            if arm != "real":
                results.append(_excess(mean, means["real"], order, terms, arm, floor=floor))
    return results + _columns(reference, arms, bins, shown, terms)


def _worst(mean: MeanTVD, real: MeanTVD, sets: Sequence[Clique], count: int = 15) -> dict[str, Any]:
    """Return the marginals in which the cohort differs most from the reference beyond what real patients do."""
    places = np.argsort(-(mean.each - real.each), kind="stable")[:count]
    return {
        "worst": [
            {"columns": list(sets[i]), "tvd": round(float(mean.each[i]), 5), "real": round(float(real.each[i]), 5)}
            for i in places
        ]
    }


def _independent(real: Binned, seed: int) -> Binned:
    """Return real patients each of whose columns is shuffled: equal one by one, with nothing between columns."""
    rng = np.random.default_rng(seed)
    return replace(real, codes={name: rng.permutation(codes) for name, codes in real.codes.items()})


def _excess(
    mean: MeanTVD, real: MeanTVD, order: int, terms: Protocol, arm: str, *, floor: MeanTVD | None = None
) -> Result:
    """Return by how much a distance exceeds that of real patients; `detail` has the same of independent columns."""
    value, interval = mean.less(real, terms.level)
    fields: dict[str, Any] = {"n": len(mean.each), "arm": arm, "disclosure": terms.disclosure}
    if floor is not None:
        lowest, ends = floor.less(real, terms.level)
        fields["detail"] = {"independent": {"value": lowest, "low": ends.low, "high": ends.high}}
    return estimate(f"tvd_{order}way_excess", value, interval=interval, **fields)


def _columns(reference: Binned, arms: Draws, bins: JudgingBins, shown: Table, terms: Protocol) -> list[Result]:
    """Return the TVD of each column of the synthetic arm, with both histograms."""
    results = []
    for name in reference.codes:
        synthetic, real = (distance(reference, arms[arm], [(name,)], terms.seed) for arm in ("synthetic", "real"))
        results.append(
            estimate(
                "tvd_column",
                synthetic.value,
                interval=synthetic.interval(terms.level),
                n=len(reference),
                subject=name,
                disclosure=terms.disclosure,
                detail={
                    "bins": bins.words,
                    "labels": bins.labels(shown[name]),
                    "real": np.round(_histogram([reference], name), 5),
                    "synthetic": np.round(_histogram(arms["synthetic"], name), 5),
                    "real_halves": real.value,
                },
            )
        )
    return results


def _histogram(draws: Sequence[Binned], name: str) -> Floats:
    """Return the share of rows in each cell, the mean over draws."""
    counts = [np.bincount(draw.codes[name], minlength=draw.sizes[name]) / len(draw) for draw in draws]
    average: Floats = np.mean(counts, axis=0)
    return average
