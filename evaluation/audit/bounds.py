"""Lower bounds on epsilon as pure functions of an attack's scores.

An attack scores runs of two worlds: ``out``, fitted without the canary, and ``inside``, with it; a higher score says
*inside*. A threshold makes a test of it, with a false positive rate (out, called inside) and a false negative rate. A
mechanism with trade-off curve f (Dong, Roth & Su 2022) has ``FNR >= f(FPR)`` for every test, so rates below the curve
refute it. Every bound holds with its confidence over the runs, whatever the attack; a bad attack only shows less.

Which bound to take: `curve_bound` for (epsilon, delta) claims; `gaussian_bound` is far tighter, but what it refutes is
a Gaussian curve, so its epsilon holds only for mechanisms that are Gaussian; `clopper_pearson` is the older, looser
form of the first; `one_run` needs one fit with many canaries.

The ceiling of a bound is its value if the attack had made no error: what so many runs could show at most.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dpsynth.errors import InputError
from dpsynth.evaluation.audit.curves import LARGEST, Curve, Floats, dp_curve, gaussian_curve, gaussian_epsilon
from dpsynth.evaluation.audit.error_counts import Choice, Errors, _errors, _held_out, _scores, _separation
from dpsynth.evaluation.audit.one_run import _one_run

__all__ = ["Bound", "bound_of", "ceiling", "clopper_pearson", "curve_bound", "gaussian_bound", "one_run", "p_value"]


CELLS = 32
UNSURE = 1e-5
ASSUMPTION = "the mechanism's trade-off curve is Gaussian"
CLOPPER_PEARSON, CURVE, GAUSSIAN, ONE_RUN = "Clopper-Pearson", "trade-off curve", "Gaussian curve", "one run"


@dataclass(frozen=True)
class Bound:
    """A lower bound on epsilon, and what it is worth.

    Parameters
    ----------
    method
        Which bound.
    epsilon
        With probability ``confidence`` at most the epsilon at ``delta`` of the mechanism; 0 shows nothing.
    ceiling
        What it would be without any error of the attack.
    confidence, delta
        See above.
    runs
        Runs (or guesses) that it stands on, of both worlds.
    mu
        The lower bound on mu where a Gaussian curve was inverted.
    assumes
        What must hold for ``epsilon`` to be a bound; empty where nothing must.
    errors
        The counts behind it.
    """

    method: str
    epsilon: float
    ceiling: float
    confidence: float
    delta: float
    runs: int
    mu: float | None = None
    assumes: str = ""
    errors: Errors | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the bound as JSON-able values."""
        return asdict(self)


# -- curves -----------------------------------------------------------------------------------------------------------


# -- two worlds -------------------------------------------------------------------------------------------------------


def clopper_pearson(out: ArrayLike, inside: ArrayLike, *, delta: float, confidence: float = 0.95) -> Bound:
    """Bound epsilon by upper limits on both error rates (Jagielski, Ullman & Oprea 2020).

    The threshold is chosen on the first half of each world's runs, the errors are counted on the second.

    Parameters
    ----------
    out, inside : array_like of float, shape (runs,)
        Scores of independent runs, in the order in which they were made; at least 2 of each.
    delta : float
        The claim's delta.
    confidence : float
        Each rate gets half of what is left.

    Returns
    -------
    Bound
    """
    errors = _held_out(*_scores(out, inside), _sure_epsilon(delta, confidence))
    return bound_of(CLOPPER_PEARSON, errors, delta=delta, confidence=confidence)


def curve_bound(
    out: ArrayLike, inside: ArrayLike, *, delta: float, confidence: float = 0.95, threshold: float | None = None
) -> Bound:
    """Bound epsilon by the largest (epsilon, delta) curve that the runs refute.

    Parameters
    ----------
    out, inside, delta, confidence
        As for `clopper_pearson`.
    threshold : float, optional
        A threshold that was fixed before the runs were made: all runs are then counted. Else as `clopper_pearson`.

    Returns
    -------
    Bound
    """
    errors = _errors(out, inside, threshold, _sure_epsilon(delta, confidence))
    return bound_of(CURVE, errors, delta=delta, confidence=confidence)


def gaussian_bound(
    out: ArrayLike, inside: ArrayLike, *, delta: float, confidence: float = 0.95, threshold: float | None = None
) -> Bound:
    """Bound mu by the largest Gaussian curve that the runs refute, and say which epsilon that is at delta.

    Where the claim itself is a Gaussian curve, ``mu`` refutes it without any assumption. ``epsilon`` is a bound only
    for a mechanism whose curve is Gaussian (all of its questions are Gaussian counts). Arguments as `curve_bound`.
    """
    errors = _errors(out, inside, threshold, _sure_separation(confidence))
    return bound_of(GAUSSIAN, errors, delta=delta, confidence=confidence)


def bound_of(method: str, errors: Errors, *, delta: float, confidence: float = 0.95) -> Bound:
    """Return a two-world bound from counts of errors; counts of tests that were fixed beforehand may be added up.

    Parameters
    ----------
    method : str
        ``"Clopper-Pearson"``, ``"trade-off curve"`` or ``"Gaussian curve"``.
    errors : Errors
        Of a test that was fixed before these runs were made.
    delta, confidence : float
        As for `clopper_pearson`.

    Raises
    ------
    InputError
        If the method is unknown.
    """
    most = ceiling(method, errors.out, errors.inside, delta=delta, confidence=confidence)
    settings: Any = {"ceiling": most, "confidence": confidence, "delta": delta, "runs": errors.out + errors.inside}
    if method != GAUSSIAN:
        return Bound(method, _shown(method, errors, delta, confidence), **settings, errors=errors)
    mu = _inverted(errors, gaussian_curve, confidence)
    epsilon = gaussian_epsilon(mu, delta)
    return Bound(method, epsilon, **settings, mu=mu, assumes=ASSUMPTION, errors=errors)


def p_value(errors: Errors, curve: Curve, *, unsure: float = UNSURE) -> float:
    """Return the probability, under the worst mechanism that keeps the curve, of errors as few as these.

    The test counts as *few* what separates the worlds at least as well in ``S = Phi^-1(1 - FPR) - Phi^-1(FNR)`` (with
    1/2 added to each count). S falls with both counts, so among all rates on or above the curve the worst lie on it;
    the supremum over the false positive rate is taken cell by cell, with the lower end of both rates in each cell, so
    that it is never too small.

    Parameters
    ----------
    errors : Errors
        Of a test that was fixed before these runs were made.
    curve : callable
        What is claimed.
    unsure : float
        The false positive rate is looked for in its interval of this error, which is added to p (Berger & Boos 1994).

    Returns
    -------
    float
        In [0, 1].
    """
    from scipy.special import bdtr, ndtr, ndtri
    from scipy.stats import binom

    low, high = _interval(errors.false_positives, errors.out, unsure)
    first, last = int(binom.ppf(1e-12, errors.out, low)), int(binom.isf(1e-12, errors.out, high))
    x = np.arange(max(first - 1, 0), min(last + 1, errors.out) + 1)
    reach = ndtr(-ndtri((x + 0.5) / (errors.out + 1)) - _separation(errors))
    most = np.floor(reach * (errors.inside + 1) - 0.5 + 1e-9)

    grid = np.linspace(low, high, CELLS + 1)
    missed = np.clip(curve(grid[1:]), 0.0, 1.0)[:, None]
    below = np.where(most < 0, 0.0, bdtr(np.maximum(most, 0)[None], errors.inside, missed))
    few = (binom.pmf(x[None], errors.out, grid[:-1, None]) * below).sum(axis=1)
    return float(min(1.0, few.max() + unsure + 2e-12))


def ceiling(method: str, out: int, inside: int = 0, *, delta: float, confidence: float = 0.95) -> float:
    """Return the largest epsilon that a method could show with this many counted runs of each world, all right.

    Parameters
    ----------
    method : str
        ``"Clopper-Pearson"``, ``"trade-off curve"``, ``"Gaussian curve"`` or ``"one run"``.
    out, inside : int
        Counted runs of each world (without the half on which a threshold was chosen). For one run: ``out`` guesses
        among ``inside`` canaries.
    delta, confidence : float
        As for the bound.

    Examples
    --------
    >>> round(ceiling("one run", 100, 1000, delta=1e-5), 2)
    3.47
    """
    if method == ONE_RUN:
        return _one_run(out, out, inside or out, delta, confidence)
    return _shown(method, Errors(0, out, 0, inside or out), delta, confidence)


def _shown(method: str, errors: Errors, delta: float, confidence: float) -> float:
    if method == CLOPPER_PEARSON:
        return _clopper_pearson(errors, delta, confidence)
    if method == CURVE:
        return _inverted(errors, lambda e: dp_curve(e, delta), confidence)
    if method == GAUSSIAN:
        return gaussian_epsilon(_inverted(errors, gaussian_curve, confidence), delta)
    raise InputError(f"audit: method {method!r} is not known.")


def _sure_epsilon(delta: float, confidence: float) -> Choice:
    """Return how good thresholds look for an (epsilon, delta) bound: by the limits of both rates, not the rates."""
    error = (1 - confidence) / 2
    return lambda x, n, y, m: _ratio(_upper(x, n, error), _upper(y, m, error), delta)


def _sure_separation(confidence: float) -> Choice:
    """Return how good thresholds look for a Gaussian bound: what the limits of both rates leave of mu."""
    from scipy.special import ndtri

    error = (1 - confidence) / 2
    return lambda x, n, y, m: np.asarray(-ndtri(_upper(x, n, error)) - ndtri(_upper(y, m, error)))


def _upper(count: Floats | int, n: int, error: float) -> Floats:
    """Return the Clopper-Pearson upper limit of a rate, wrong with probability ``error``."""
    from scipy.stats import beta

    k = np.asarray(count, dtype=np.float64)
    return np.where(k >= n, 1.0, beta.isf(error, k + 1, np.maximum(n - k, 1e-300)))


def _interval(count: int, n: int, error: float) -> tuple[float, float]:
    """Return the two-sided Clopper-Pearson interval of a rate."""
    return 1 - float(_upper(n - count, n, error / 2)), float(_upper(count, n, error / 2))


def _ratio(fpr: Floats, fnr: Floats, delta: float) -> Floats:
    """Return the epsilon that two error rates refute, by the better of the two sides of the curve."""
    with np.errstate(divide="ignore"):
        from_alarms = np.log(np.maximum(1 - fnr - delta, 0) / fpr)
        other = np.log(np.maximum(1 - fpr - delta, 0) / fnr)
    return np.maximum(from_alarms, other)


def _clopper_pearson(errors: Errors, delta: float, confidence: float) -> float:
    error = (1 - confidence) / 2
    fpr, fnr = _upper(errors.false_positives, errors.out, error), _upper(errors.false_negatives, errors.inside, error)
    return max(0.0, float(_ratio(fpr, fnr, delta)))


def _inverted(errors: Errors, family: Callable[[float], Curve], confidence: float) -> float:
    """Return the largest parameter whose curve is refuted, rounded down; 0 where none is.

    Curves fall with the parameter, so p-values rise with it.
    """

    def refuted(parameter: float) -> bool:
        return p_value(errors, family(parameter), unsure=min(UNSURE, (1 - confidence) / 100)) < 1 - confidence

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 0.5
    while refuted(high) and high < LARGEST:
        low, high = high, 2 * high
    while high - low > 5e-4 * max(high, 1.0):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


# -- one run ----------------------------------------------------------------------------------------------------------


def one_run(right: int, guesses: int, canaries: int, *, delta: float, confidence: float = 0.95) -> Bound:
    """Bound epsilon from one fit with many canaries (Steinke, Nasr & Jagielski 2023, main theorem).

    Each canary was put in by its own fair coin. The attack guessed for ``guesses`` of them, a number fixed beforehand.
    Under (epsilon, delta)-DP, with W binomial (guesses, e^eps / (1 + e^eps)), the chance of v or more right guesses is
    at most ``P[W >= v] + 2 m delta max_i P[v > W >= v - i] / i``.

    Parameters
    ----------
    right
        Guesses that were right.
    guesses, canaries
        How many were guessed, of how many.
    delta, confidence : float
        As for `clopper_pearson`.

    Returns
    -------
    Bound

    Raises
    ------
    InputError
        If the numbers are not in order.
    """
    if not 0 <= right <= guesses <= canaries or guesses < 1:
        raise InputError(f"one run: found {right} right of {guesses} guesses of {canaries} canaries.")
    return Bound(
        ONE_RUN,
        _one_run(right, guesses, canaries, delta, confidence),
        ceiling(ONE_RUN, guesses, canaries, delta=delta, confidence=confidence),
        confidence,
        delta,
        guesses,
    )
