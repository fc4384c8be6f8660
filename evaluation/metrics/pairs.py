"""Errors of the associations between columns, for each arm."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from dpsynth.evaluation.arrays.bins import Binned
from dpsynth.evaluation.metrics.marginals import Draws
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Result, estimate, not_estimable
from dpsynth.evaluation.statistics import jackknife
from dpsynth.evaluation.statistics.association import (
    AssociationError,
    Associations,
    association_error,
    associations,
    frequent,
)

__all__ = ["pair_results"]


def pair_results(reference: Binned, arms: Draws, ordered: dict[str, int], terms: Protocol) -> list[Result]:
    """Return the mean absolute error of Cramér's V and of Spearman's rank correlation over pairs, for each arm.

    Parameters
    ----------
    reference : Binned
    arms : mapping of str to sequence of Binned
    ordered : dict of str to int
        For columns whose cells are in order, how many.
    terms : Protocol
    """
    pairs = list(combinations(reference.codes, 2))
    if not pairs:
        reason = "the cohort has one column"
        return [
            not_estimable(metric, reason, arm=arm, disclosure=terms.disclosure)
            for metric in ("association_error", "spearman_error")
            for arm in arms
        ]
    cells = frequent(reference)
    base = associations(reference, pairs, ordered, cells, terms.seed)
    results = []
    for arm, draws in arms.items():
        synthetic = [
            associations(draw, pairs, ordered, cells, terms.seed + 1 + place) for place, draw in enumerate(draws)
        ]
        detail = _matrices(list(reference.codes), base, synthetic) if arm == "synthetic" else {}
        results += [
            _error(
                "association_error", association_error(base.v, [draw_of.v for draw_of in synthetic]), terms, arm, detail
            ),
            _error(
                "spearman_error", association_error(base.rho, [draw_of.rho for draw_of in synthetic]), terms, arm, {}
            ),
        ]
    return results


def _error(metric: str, error: AssociationError | None, terms: Protocol, arm: str, detail: Mapping[str, Any]) -> Result:
    fields: dict[str, Any] = {"arm": arm, "disclosure": terms.disclosure}
    if error is None:
        return not_estimable(metric, "no pair of columns has an association among the real patients", **fields)
    interval = jackknife.interval(error.value, error.variance, terms.level, low=0.0)
    return estimate(metric, error.value, interval=interval, n=int(error.pairs.sum()), detail=detail, **fields)


def _matrices(names: list[str], base: Associations, draws: Sequence[Associations]) -> dict[str, Any]:
    """Return V of every pair, real and synthetic (mean of draws), as lists for the upper triangle."""
    synthetic = np.mean([np.nan_to_num(draw.v[:, 0]) for draw in draws], axis=0)
    return {"columns": names, "real": np.round(base.v[:, 0], 4), "synthetic": np.round(synthetic, 4)}
