"""The audit in one run: many canaries, each in or out by a coin."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpsynth.evaluation.audit.curves import LARGEST


def _one_run(right: int, guesses: int, canaries: int, delta: float, confidence: float) -> float:
    low, high = 0.0, LARGEST
    if one_run_p(0.0, right, guesses, canaries, delta) >= 1 - confidence:
        return 0.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        refuted = one_run_p(middle, right, guesses, canaries, delta) < 1 - confidence
        low, high = (middle, high) if refuted else (low, middle)
    return low


def one_run_p(epsilon: float, right: int, guesses: int, canaries: int, delta: float) -> float:
    """Return the largest chance of so many right guesses under (epsilon, delta)-DP; arguments as for `one_run`."""
    from scipy.special import expit
    from scipy.stats import binom

    chance = float(expit(epsilon))
    p = float(binom.sf(right - 1, guesses, chance))
    if right:
        just_below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
        p += 2 * canaries * delta * float((just_below / np.arange(1, right + 1)).max())
    return min(1.0, p)


def guess(scores: ArrayLike, put_in: Sequence[bool] | NDArray[np.bool_], guesses: int) -> int:
    """Guess *in* for the highest half of the guesses' scores and *out* for the lowest; return how many are right.

    Parameters
    ----------
    scores
        One a canary, higher where it looks as if it was put in.
    put_in
        The coins.
    guesses
        How many to guess, even and fixed beforehand; the canaries in between are passed over.
    """
    order, half = np.argsort(np.asarray(scores, dtype=np.float64), kind="stable"), guesses // 2
    coins = np.asarray(put_in, dtype=bool)
    return int((~coins[order[:half]]).sum() + coins[order[len(order) - half :]].sum())
