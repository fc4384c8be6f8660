"""Scores of predictions as functions of row weights, so that one call scores all draws of a bootstrap.

Weights have shape (draws, rows); every function returns shape (draws,). Weights of one give the usual score. A draw in
which a score does not exist gives NaN.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.table import Floats

__all__ = ["Ranking", "Weights", "balanced_accuracy", "calibration_bins", "macro_auroc", "ones", "ratio", "weighted_r2"]

Weights = NDArray[np.floating]


def ones(rows: int) -> Floats:
    """Return the weights of the sample itself, shape (1, rows)."""
    return np.ones((1, rows))


def ratio(top: Weights, bottom: Weights) -> Floats:
    """Return `top` / `bottom`, NaN where `bottom` is 0."""
    ratios: Floats = np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom != 0)
    return ratios


class Ranking:
    """Scores of patients in order, sorted once for all weights.

    Parameters
    ----------
    labels : ndarray of bool, shape (rows,)
    scores : ndarray of float, shape (rows,)
        Higher means more likely. Ties count half.
    """

    def __init__(self, labels: NDArray[np.bool_], scores: Floats) -> None:
        order = np.argsort(scores, kind="stable")
        self._positive, self._negative = order[labels[order]], order[~labels[order]]
        mine, others = scores[self._positive], scores[self._negative]
        # for each positive, how many negatives (and positives) lie strictly below it, and at most at it
        self._below, self._upto = (np.searchsorted(others, mine, side) for side in ("left", "right"))
        self._positives_below = np.searchsorted(mine, mine, "left")

    def _sums(self, weights: Weights) -> tuple[Weights, Weights]:
        """Return the positives' weights, and the running sums of the negatives' with a 0 before them."""
        negative = np.zeros((len(weights), len(self._negative) + 1), dtype=weights.dtype)
        np.cumsum(weights[:, self._negative], axis=1, out=negative[:, 1:])
        return weights[:, self._positive], negative

    def auroc(self, weights: Weights) -> Floats:
        """Return the area under the ROC curve: the weighted Mann-Whitney statistic with ties counted half."""
        positive, negative = self._sums(weights)
        wins = 0.5 * (positive * (negative[:, self._below] + negative[:, self._upto])).sum(axis=1, dtype=np.float64)
        return ratio(wins, positive.sum(axis=1, dtype=np.float64) * negative[:, -1])

    def auprc(self, weights: Weights) -> Floats:
        """Return average precision: the weighted mean over positives of the precision at their own score."""
        positive, negative = self._sums(weights)
        total = positive.sum(axis=1, dtype=np.float64)
        running = np.zeros((len(weights), positive.shape[1] + 1))
        np.cumsum(positive, axis=1, out=running[:, 1:])
        ranked_above = total[:, None] - running[:, self._positives_below]
        false = negative[:, -1:] - negative[:, self._below]
        precision = np.divide(
            ranked_above, ranked_above + false, out=np.zeros_like(ranked_above), where=ranked_above > 0
        )
        return ratio((positive * precision).sum(axis=1), total)


def macro_auroc(labels: NDArray[np.int64], risks: Floats, weights: Weights, least: int = 1) -> Floats:
    """Return the mean AUROC of the classes that have at least `least` rows, each against the rest; NaN without any.

    Parameters
    ----------
    labels : ndarray of int, shape (rows,)
    risks : ndarray of float, shape (rows, classes)
    weights : ndarray, shape (draws, rows)
        A class without weight in a draw is left out of its mean.
    least : int
    """
    codes, counts = np.unique(labels, return_counts=True)
    kept = codes[(counts >= least) & (counts < len(labels))]
    if len(kept) == 0:
        return np.full(len(weights), np.nan)
    each = np.stack([Ranking(labels == code, risks[:, code]).auroc(weights) for code in kept])
    there = np.isfinite(each)
    return ratio(np.where(there, each, 0.0).sum(axis=0), there.sum(axis=0))


def balanced_accuracy(labels: NDArray[np.int64], guesses: NDArray[np.int64], weights: Weights) -> Floats:
    """Return the mean over the classes that occur of the share that is guessed rightly."""
    right = (labels == guesses).astype(np.float64)
    recalls: Floats = np.mean([ratio(weights @ (right * own), weights @ own) for own in _indicators(labels)], axis=0)
    return recalls


def _indicators(labels: NDArray[np.int64]) -> Sequence[Floats]:
    return [(labels == code).astype(np.float64) for code in np.unique(labels)]


def weighted_r2(truth: Floats, guesses: Floats, weights: Weights) -> Floats:
    """Return 1 - (squared error of the guesses) / (squared error of the test patients' mean)."""
    total = weights.sum(axis=1)
    mean = ratio(weights @ truth, total)
    spread = weights @ truth**2 - total * mean**2
    return 1 - ratio(weights @ (truth - guesses) ** 2, np.where(spread > 1e-12 * total, spread, 0.0))


def calibration_bins(labels: NDArray[np.bool_], risks: Floats, bins: int = 10) -> dict[str, list[float]]:
    """Return mean predicted risk, observed share and size of groups of about equal size in order of risk."""
    order = np.argsort(risks, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return {
        "predicted": [float(risks[part].mean()) for part in parts],
        "observed": [float(labels[part].mean()) for part in parts],
        "n": [float(len(part)) for part in parts],
    }
