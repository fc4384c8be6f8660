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

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpsynth.errors import InputError

__all__ = [
    "Bound",
    "Curve",
    "Errors",
    "bound_of",
    "ceiling",
    "clopper_pearson",
    "curve_bound",
    "dp_curve",
    "gaussian_bound",
    "gaussian_curve",
    "gaussian_epsilon",
    "gaussian_mu",
    "guess",
    "one_run",
    "one_run_p",
    "p_value",
]

Floats = NDArray[np.float64]
Curve = Callable[[Floats], Floats]
"""A trade-off curve: the least false negative rate for each false positive rate."""
Choice = Callable[[Floats, int, Floats, int], Floats]
"""How good thresholds look, from false positives of n runs and false negatives of m."""

CANDIDATES = 200
CELLS = 32
UNSURE = 1e-5
LARGEST = 200.0
ASSUMPTION = "the mechanism's trade-off curve is Gaussian"
CLOPPER_PEARSON, CURVE, GAUSSIAN, ONE_RUN = "Clopper-Pearson", "trade-off curve", "Gaussian curve", "one run"


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
