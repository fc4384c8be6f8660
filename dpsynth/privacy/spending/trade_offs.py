"""How well an attacker can do against a run: false negative rates for false positive rates, for the statement."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dpsynth.privacy.spending.accounting import ROUNDING, SLACK, epsilon_at
from dpsynth.privacy.spending.events import Accounting, Event


def trade_off(
    rho: float, accounting: Accounting, *, extra_delta: float = 0.0, trained: Sequence[Event] = ()
) -> list[dict[str, float]]:
    """Return how well an attacker can do: for a false positive rate, the lowest false negative rate.

    The attacker knows all patients but one and tests whether that one is in the data. Without any privacy the false
    negative rate is 0; with perfect privacy the two rates add up to 1.

    Parameters
    ----------
    rho
        The price of all questions together.
    accounting
        ``"gaussian"`` or ``"zcdp"``.
    extra_delta
        What key discovery may spend besides, a probability.
    trained
        Trainings beside the questions.

    Returns
    -------
    list of dict
        For each ``false_positive_rate`` the ``min_false_negative_rate``, both from 0 to 1.

    Examples
    --------
    >>> trade_off(0.005, "gaussian")[3]
    {'false_positive_rate': 0.05, 'min_false_negative_rate': 0.9388}
    """
    rates = np.array([0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5])
    if rho <= 0 and not trained:
        lowest = 1 - rates - extra_delta
    elif accounting == "gaussian" and not trained:
        norm, mu = _norm(), math.sqrt(2 * rho * (1 + ROUNDING))
        lowest = norm.cdf(norm.isf(np.minimum(1.0, rates + extra_delta)) - mu) - extra_delta - SLACK
    else:
        lowest = _from_privacy_curve(rates, rho, accounting, extra_delta, trained)
    return [
        {"false_positive_rate": float(a), "min_false_negative_rate": math.floor(max(0.0, float(b)) * 1e4) / 1e4}
        for a, b in zip(rates, lowest, strict=True)
    ]


def _from_privacy_curve(
    rates: Any, rho: float, accounting: Accounting, extra_delta: float, trained: Sequence[Event]
) -> Any:
    """Return the best of the bounds that each (epsilon, delta) of the curve gives (Wasserman & Zhou 2010)."""
    bounds = [np.zeros_like(rates)]
    for delta in 10.0 ** -np.arange(0.25, 10, 0.25):
        e = epsilon_at(rho, accounting, float(delta), trained)
        kept = 1 - delta - extra_delta
        bounds += [kept - math.exp(e) * rates, math.exp(-e) * (kept - rates)]
    return np.max(bounds, axis=0)


def _norm() -> Any:
    from scipy.stats import norm

    return norm
