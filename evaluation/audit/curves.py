"""Trade-off curves: what an attacker can at best reach under a claim."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


Curve = Callable[[Floats], Floats]
"""A trade-off curve: the least false negative rate for each false positive rate."""


LARGEST = 200.0


def dp_curve(epsilon: float, delta: float) -> Curve:
    """Return the trade-off curve of (epsilon, delta)-DP (Wasserman & Zhou 2010).

    Examples
    --------
    >>> dp_curve(0.0, 0.0)(np.array([0.25])).tolist()
    [0.75]
    """
    return lambda a: np.maximum(0.0, np.maximum(1 - delta - np.exp(epsilon) * a, np.exp(-epsilon) * (1 - delta - a)))


def gaussian_curve(mu: float) -> Curve:
    """Return the trade-off curve of mu-Gaussian DP: ``Phi(Phi^-1(1 - a) - mu)``."""
    from scipy.special import ndtr, ndtri

    return lambda a: np.asarray(ndtr(-ndtri(a) - mu))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the epsilon at delta of mu-Gaussian DP, by the closed form of Balle & Wang 2018, Theorem 8.

    Examples
    --------
    >>> round(gaussian_epsilon(1 / 4.224679, 1e-6), 4)
    1.0
    """
    from scipy.optimize import brentq

    if mu > 0 and delta <= 0:
        return math.inf
    if mu <= 0 or _gaussian_log_delta(0.0, mu) <= math.log(delta):
        return 0.0
    high = 1.0
    while _gaussian_log_delta(high, mu) > math.log(delta):
        high *= 2
    return float(brentq(lambda e: _gaussian_log_delta(e, mu) - math.log(delta), 0.0, high, xtol=1e-12))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return the mu whose Gaussian curve gives this epsilon at delta: the inverse of `gaussian_epsilon`."""
    from scipy.optimize import brentq

    return float(brentq(lambda mu: gaussian_epsilon(mu, delta) - epsilon, 1e-9, LARGEST, xtol=1e-12))


def _gaussian_log_delta(epsilon: float, mu: float) -> float:
    """Return ``log(Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu))``."""
    from scipy.special import log_ndtr

    positive, negative = float(log_ndtr(mu / 2 - epsilon / mu)), epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    return positive + math.log(-math.expm1(negative - positive)) if negative < positive else -math.inf
