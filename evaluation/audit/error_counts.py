"""The errors of an attacker, counted on held-out runs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dpsynth.errors import InputError
from dpsynth.evaluation.audit.curves import Floats

Choice = Callable[[Floats, int, Floats, int], Floats]
"""How good thresholds look, from false positives of n runs and false negatives of m."""


CANDIDATES = 200


@dataclass(frozen=True)
class Errors:
    """The counts of a test's errors in runs without and with the canary.

    Parameters
    ----------
    false_positives, out
        Runs without the canary that were called inside, and all of these runs.
    false_negatives, inside
        Runs with the canary that were called out, and all of these runs.
    """

    false_positives: int
    out: int
    false_negatives: int
    inside: int

    @classmethod
    def at(cls, threshold: float, out: Floats, inside: Floats) -> "Errors":
        """Count the errors of calling a run inside when its score reaches the threshold."""
        return cls(int((out >= threshold).sum()), len(out), int((inside < threshold).sum()), len(inside))


def _scores(out: ArrayLike, inside: ArrayLike) -> tuple[Floats, Floats]:
    worlds = np.asarray(out, dtype=np.float64), np.asarray(inside, dtype=np.float64)
    if any(w.ndim != 1 or len(w) < 2 or np.isnan(w).any() for w in worlds):
        raise InputError("audit: expected two or more scores of each world, none of them NaN.")
    return worlds


def _errors(out: ArrayLike, inside: ArrayLike, threshold: float | None, choice: Choice) -> Errors:
    worlds = _scores(out, inside)
    return _held_out(*worlds, choice) if threshold is None else Errors.at(threshold, *worlds)


def _held_out(out: Floats, inside: Floats, choice: Choice) -> Errors:
    """Choose the threshold on the first half of each world and count the errors on the second."""
    (first, rest), (with_first, with_rest) = ((w[: len(w) // 2], w[len(w) // 2 :]) for w in (out, inside))
    both = np.unique(np.concatenate([first, with_first]))
    candidates = both[np.unique(np.linspace(0, len(both) - 1, CANDIDATES).astype(int))]
    wrong = len(first) - np.searchsorted(np.sort(first), candidates, "left")
    missed = np.searchsorted(np.sort(with_first), candidates, "left")
    best = int(np.argmax(choice(wrong.astype(float), len(first), missed.astype(float), len(with_first))))
    return Errors.at(float(candidates[best]), rest, with_rest)


def _separation(errors: Errors) -> float:
    """Return how far the errors set the worlds apart, in standard deviations of a Gaussian pair."""
    from scipy.special import ndtri

    x, y = errors.false_positives, errors.false_negatives
    return float(-ndtri((x + 0.5) / (errors.out + 1)) - ndtri((y + 0.5) / (errors.inside + 1)))
