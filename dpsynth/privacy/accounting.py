"""Prices of events, and the (epsilon, delta) of all of them together.

Currency
--------
Every event has a price ``rho`` under one of two accountings; prices add over a run and over runs, also when
later questions depend on earlier answers.

``zcdp``
    zero-concentrated DP (Bun & Steinke 2016). A Gaussian release costs ``D^2 / (2 sigma^2)``, a selection by the
    exponential mechanism with parameter ``eps`` costs ``eps^2 / 8`` (Cesar & Rogers 2021, Lemma 3.2).
``gaussian``
    Gaussian DP (Dong, Roth & Su 2022): ``rho`` stands for ``mu^2 / 2``, so a Gaussian release has the same price,
    and the conversion to (epsilon, delta) is exact instead of a bound: the same budget buys a third more.
    Adaptively chosen prices still add (Smith & Thakurta 2022). A selection costs more, see `selection_mu`.

A private training (`dpsynth.privacy.training`) has no price that adds: a Gaussian on a Poisson sample of the patients,
repeated, is composed numerically with one Gaussian that stands for all questions, see `dpsynth.privacy.sampled`. It is
fixed before the first question is asked, and only ``gaussian`` accounting knows it.

Derivations
-----------
**Selection in Gaussian DP.** Let the exponential mechanism's privacy loss lie in an interval ``[t - eps, t]`` for a
pair of neighbours P, Q (it is eps-bounded-range). For any event S, ``P(S) <= e^t Q(S)`` and, for its complement,
``P(S') >= e^(t - eps) Q(S')``; so the odds ratio of P(S) to Q(S) is at most ``e^eps``. With ``g = Phi^-1 o logistic``,
whose slope ``logistic'(x) / phi(g(x))`` is even and falls with ``|x|``, a window of width eps gains the most when it
is centred: ``Phi^-1(P(S)) - Phi^-1(Q(S)) <= 2 g(eps / 2)``. That is mu-GDP with ``mu = 2 Phi^-1(logistic(eps / 2))``,
about 0.627 eps. A test compares this with a grid of pairs.

**The lattice.** `mechanisms.SystemNoise` adds the discrete Gaussian on the lattice ``h Z``, ``h = 2^-20``, and rounds
to integers. Rounding is post-processing. Under ``zcdp`` the discrete Gaussian has exactly the price of the continuous
one (Canonne, Kamath & Steinke 2020, Theorem 14). Under ``gaussian`` we compare its probability at the lattice point x
with that of a continuous Gaussian rounded to the lattice. Their ratio is, by the integral over the cell around x,
``E[exp(-u^2 / 2 sigma^2) cosh(x u / sigma^2)]`` for u uniform on [-h/2, h/2] (the normalisers agree to a factor
``1 + 4 exp(-2 pi^2 sigma^2 / h^2)``), so its logarithm lies in ``[-(h/sigma)^2 / 24, t^2 (h/sigma)^2 / 8]`` for
``|x| <= t sigma``. Only the cells in which two neighbours differ enter the likelihood ratio, at most k of them in a
marginal for patients with at most k rows. As that marginal costs ``rho = k^2 / (2 sigma^2)``, the logarithms of all
questions together are at most ``sum k t^2 h^2 / (8 sigma^2) <= t^2 h^2 rho_total / 4 = eta``, *whatever the number of
questions*. In an interaction all ``s = prod(m_i)`` cells differ (axes of ``m_i >= 2`` cells), but its noise is drawn in
units of 1/s, so each gives at most ``t^2 h^2 / (8 s^2 sigma^2)``; it costs ``rho = k^2 prod(1 - 1/m_i) / (2 sigma^2)``,
and the s cells together give ``t^2 h^2 rho / (4 k^2 prod(m_i - 1))``, no more than the same bound. Replacing both
worlds costs ``2 eta`` in epsilon and ``e^eta`` in delta. With t = 20 and ``rho_total <= epsilon <= 100`` this is
``2 eta <= 1.9e-8``; the tails beyond t sigma weigh ``2 exp(-200)`` a cell, and even times ``e^100`` and 1e12 touched
cells they stay below 1e-30. `SLACK` = 1e-7 is taken off epsilon and (as a factor) off delta before anything is granted.
Prices are raised by 1e-9 of themselves before they are converted, for the rounding of floats.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np

from dpsynth.errors import InputError
from dpsynth.privacy.budget import Budget

Accounting = Literal["gaussian", "zcdp"]
Kind = Literal["gaussian", "selection", "sampled_gaussian"]
KINDS = ("gaussian", "selection", "sampled_gaussian")

SLACK = 1e-7
ROUNDING = 1e-9


@dataclass(frozen=True)
class Event:
    """One kind of question that was asked of the private data; all fields are public.

    Parameters
    ----------
    kind
        ``"gaussian"`` (a vector of numbers with integer Gaussian noise), ``"selection"`` (exponential mechanism) or
        ``"sampled_gaussian"`` (a step of a training: a clipped sum over a Poisson sample of patients, with noise).
    what
        A public description.
    sensitivity
        How far one patient can move the answer: L2 norm, or the largest score change for ``selection``.
    scale
        Standard deviation of the Gaussian noise, or the scale of the Gumbel noise.
    count
        How often this very question was asked; the steps of a training.
    delta
        Probability, of each, that the event's own bound fails (key discovery).
    sampling_rate
        The chance of each patient to be in a step of a training; 1 for everything else.

    Examples
    --------
    >>> rows = Event("gaussian", "number of rows", sensitivity=1.0, scale=10.0, count=2)
    >>> round(rows.price("gaussian"), 3)
    0.01
    """

    kind: Kind
    what: str
    sensitivity: float
    scale: float
    count: int = 1
    delta: float = 0.0
    sampling_rate: float = 1.0

    @property
    def sampled(self) -> bool:
        """Whether it is a training, which is composed numerically and has no price."""
        return self.kind == "sampled_gaussian"

    def price(self, accounting: Accounting) -> float:
        """Return the price rho of all ``count`` of them; `ValueError` for a training, whose cost does not add.

        Parameters
        ----------
        accounting
            ``"gaussian"`` or ``"zcdp"``.

        Returns
        -------
        float
            In units of rho: half of mu^2 in Gaussian DP, rho in zCDP.

        Raises
        ------
        ValueError
            For a training.

        Examples
        --------
        >>> rows = Event("gaussian", "number of rows", sensitivity=1.0, scale=10.0, count=2)
        >>> round(rows.price("zcdp"), 3)
        0.01
        """
        if self.sampled:
            raise ValueError("a training has no price that adds; use epsilon_of")
        return self.count * _mu_squared(self, accounting) / 2

    def to_json(self) -> dict[str, Any]:
        """Return the event as JSON-able facts.

        Returns
        -------
        dict
            What `from_json` reads.
        """
        return {
            "kind": self.kind,
            "what": self.what,
            "sensitivity": self.sensitivity,
            "scale": self.scale,
            "count": self.count,
            "delta": self.delta,
            **({"sampling_rate": self.sampling_rate} if self.sampled else {}),
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Parameters
        ----------
        facts
            A record of a ledger or of a privacy statement.

        Returns
        -------
        Event
            Checked.

        Raises
        ------
        KeyError, TypeError, ValueError
            When it is something else.

        Examples
        --------
        >>> rows = Event("gaussian", "number of rows", sensitivity=1.0, scale=10.0, count=2)
        >>> Event.from_json(rows.to_json()) == rows
        True
        """
        kind = facts["kind"]
        if kind not in KINDS:
            raise ValueError("unknown kind of event")
        numbers = [float(facts[name]) for name in ("sensitivity", "scale", "delta")]
        count = int(facts["count"])
        rate = float(facts["sampling_rate"]) if kind == "sampled_gaussian" else 1.0
        if not all(math.isfinite(x) and x >= 0 for x in numbers) or numbers[1] == 0 or count < 1 or not 0 < rate <= 1:
            raise ValueError("numbers out of range")
        return cls(kind, str(facts["what"]), numbers[0], numbers[1], count, numbers[2], rate)


def grouped(events: Iterable[Event]) -> list[Event]:
    """Return the events with identical ones merged, in the order of first appearance.

    Parameters
    ----------
    events
        What was asked.

    Returns
    -------
    list of Event
        Each with the sum of the counts.

    Examples
    --------
    >>> rows = Event("gaussian", "number of rows", sensitivity=1.0, scale=10.0)
    >>> [event.count for event in grouped([rows, rows])]
    [2]
    """
    totals: dict[tuple[Any, ...], int] = {}
    for e in events:
        key = (e.kind, e.what, e.sensitivity, e.scale, e.delta, e.sampling_rate)
        totals[key] = totals.get(key, 0) + e.count
    return [Event(k[0], k[1], k[2], k[3], n, k[4], k[5]) for k, n in totals.items()]


def total_price(events: Iterable[Event], accounting: Accounting) -> float:
    """Return the price of all questions together: prices add, also adaptively. Trainings have none, see `trainings`.

    Parameters
    ----------
    events
        What was asked.
    accounting
        ``"gaussian"`` or ``"zcdp"``.

    Returns
    -------
    float
        In units of rho.

    Examples
    --------
    >>> rows = Event("gaussian", "number of rows", sensitivity=1.0, scale=10.0, count=2)
    >>> round(total_price([rows, rows], "gaussian"), 3)
    0.02
    """
    return math.fsum(e.price(accounting) for e in events if not e.sampled)


def trainings(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return the events that are composed numerically.

    Parameters
    ----------
    events
        What was asked.

    Returns
    -------
    tuple of Event
        Those of kind ``"sampled_gaussian"``.
    """
    return tuple(e for e in events if e.sampled)


def total_delta(events: Iterable[Event]) -> float:
    """Return the events' own deltas together: they add.

    Parameters
    ----------
    events
        What was asked.

    Returns
    -------
    float
        A probability.

    Examples
    --------
    >>> total_delta([Event("gaussian", "values of dx", 1.0, 10.0, delta=1e-7)])
    1e-07
    """
    return math.fsum(e.count * e.delta for e in events)


def gaussian_scale(sensitivity: float, rho: float) -> float:
    """Return the standard deviation that makes a release of this L2 sensitivity cost ``rho``.

    Parameters
    ----------
    sensitivity
        How far one patient can move the answer, in the L2 norm.
    rho
        The price, positive.

    Returns
    -------
    float
        In the unit of the sensitivity.

    Examples
    --------
    >>> gaussian_scale(1.0, 0.005)
    10.0
    """
    return sensitivity / math.sqrt(2 * rho)


def selection_epsilon(rho: float, accounting: Accounting) -> float:
    """Return the exponential mechanism's parameter that costs ``rho``.

    Parameters
    ----------
    rho
        The price, positive.
    accounting
        ``"gaussian"`` or ``"zcdp"``.

    Returns
    -------
    float
        The epsilon of the exponential mechanism; its Gumbel noise has scale ``2 sensitivity / epsilon``.

    Examples
    --------
    >>> round(selection_epsilon(0.02, "zcdp"), 3)
    0.4
    """
    from scipy.special import log_ndtr

    if accounting == "zcdp":
        return math.sqrt(8 * rho)
    half = math.sqrt(2 * rho) / 2  # mu / 2, and selection_mu solved for eps, in a form without cancellation
    if half < 1:
        return 4 * math.atanh(math.erf(half / math.sqrt(2)))
    return 2 * float(log_ndtr(half) - log_ndtr(-half))


def selection_mu(epsilon: float) -> float:
    """Return the mu for which an exponential mechanism with this parameter is mu-GDP (derived above).

    Parameters
    ----------
    epsilon
        The parameter of the exponential mechanism, positive.

    Returns
    -------
    float
        The inverse of `selection_epsilon`: the price is half of its square.

    Examples
    --------
    >>> round(selection_mu(selection_epsilon(0.02, "gaussian")) ** 2 / 2, 6)
    0.02
    """
    from scipy.special import erfinv, ndtri_exp

    if epsilon < 1:
        return 2 * math.sqrt(2) * float(erfinv(math.tanh(epsilon / 4)))
    return -2 * float(ndtri_exp(-np.logaddexp(0, epsilon / 2)))


@lru_cache(maxsize=256)
def rho_for(
    budget: Budget, accounting: Accounting, *, reserved_delta: float = 0.0, trained: tuple[Event, ...] = ()
) -> float:
    """Return the price that a budget can pay.

    Parameters
    ----------
    budget
        The total (epsilon, delta) that may be spent.
    accounting
        ``"gaussian"`` or ``"zcdp"``.
    reserved_delta
        The part of the budget's delta that key discovery will spend, a probability.
    trained
        Trainings that the budget pays, too; the price is then found to one part in a thousand.

    Returns
    -------
    float
        The largest rho whose (epsilon, delta) stays within the budget, lattice and rounding included.

    Raises
    ------
    InputError
        When nothing of delta is left for questions.

    Examples
    --------
    >>> round(rho_for(Budget(1.0, 1e-6), "gaussian"), 4)
    0.028
    """
    if not 0 <= reserved_delta < budget.delta:
        raise InputError("delta: key discovery would spend all of it; leave some for the counts.")
    delta = budget.delta - reserved_delta
    low, high = (1e-6, 1.0) if trained else (1e-18, 1.0)
    if trained and epsilon_at(low, accounting, delta, trained) > budget.epsilon:
        return 0.0
    while epsilon_at(high, accounting, delta, trained) < budget.epsilon:
        high *= 2
    while high > low * (1 + (1e-3 if trained else 1e-12)):
        middle = math.sqrt(low * high)
        if epsilon_at(middle, accounting, delta, trained) <= budget.epsilon:
            low = middle
        else:
            high = middle
    return low


def epsilon_at(rho: float, accounting: Accounting, delta: float, trained: Sequence[Event] = ()) -> float:
    """Return the epsilon of a total price, and of trainings beside it, at a delta; lattice and rounding included.

    Parameters
    ----------
    rho
        The price of all questions together.
    accounting
        ``"gaussian"`` or ``"zcdp"``.
    delta
        A probability.
    trained
        Trainings beside the questions.

    Returns
    -------
    float
        Infinite where delta is 0 and something was asked.

    Examples
    --------
    >>> budget = Budget(1, 1e-6)
    >>> round(epsilon_at(rho_for(budget, "gaussian"), "gaussian", budget.delta), 4)
    1.0
    """
    if rho <= 0 and not trained:
        return 0.0
    if not delta > 0:
        return math.inf
    priced, delta = rho * (1 + ROUNDING), delta * (1 - SLACK)
    if trained:
        from dpsynth.privacy.sampled import epsilon_sampled

        _check_sampled(accounting)
        return epsilon_sampled(priced, tuple(trained), delta) + SLACK
    if accounting == "zcdp":
        return _zcdp_epsilon(priced, delta) + SLACK
    from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

    with np.errstate(divide="ignore"):  # far from the answer its log of a difference may be that of 0: that is right
        return float(get_epsilon_gaussian(1 / math.sqrt(2 * priced), delta)) + SLACK


def epsilon_of(events: Sequence[Event], delta: float, accounting: Accounting, *, extra_delta: float = 0.0) -> float:
    """Return the epsilon of all events together.

    Parameters
    ----------
    events
        What was asked.
    delta
        The whole delta: the events' own deltas (key discovery) come out of it.
    accounting
        ``"gaussian"`` or ``"zcdp"``.
    extra_delta
        What else comes out of it.

    Returns
    -------
    float
        Infinite when nothing of delta is left.

    Examples
    --------
    >>> rows = Event("gaussian", "number of rows", sensitivity=1.0, scale=10.0, count=2)
    >>> epsilon_of([rows], 1e-6, "gaussian") < epsilon_of([rows, rows], 1e-6, "gaussian") < 1
    True
    """
    left = delta - total_delta(events) - extra_delta
    return epsilon_at(total_price(events, accounting), accounting, left, trainings(events))


def _zcdp_epsilon(rho: float, delta: float) -> float:
    from dp_accounting import ZCDpEvent
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(orders=_orders(rho, delta))
    accountant.compose(ZCDpEvent(rho))
    return float(accountant.get_epsilon(delta))


def _orders(rho: float, delta: float) -> list[float]:
    """Return Renyi orders around ``1 + sqrt(log(1 / delta) / rho)``, the best one of the plain conversion.

    Every order gives a bound; these are close enough that the best of them costs less than 1e-4 of epsilon.
    """
    middle = math.sqrt(-math.log(delta) / rho)
    return [1 + middle * 1.015**i for i in range(-100, 101)]


def _check_sampled(accounting: Accounting) -> None:
    if accounting != "gaussian":
        raise InputError(f"accounting: found {accounting!r}, expected 'gaussian', which a private training needs.")


def _mu_squared(event: Event, accounting: Accounting) -> float:
    """Twice the price of one event: mu^2 in Gaussian DP, 2 rho in zCDP."""
    if event.kind == "gaussian":
        return (event.sensitivity / event.scale) ** 2
    # Gumbel noise of scale b on scores that one patient moves by D either way (not monotone) is the exponential
    # mechanism with eps = 2 D / b.
    epsilon = 2 * event.sensitivity / event.scale
    return selection_mu(epsilon) ** 2 if accounting == "gaussian" else epsilon**2 / 4
