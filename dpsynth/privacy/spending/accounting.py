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

A private training (`dpsynth.privacy.spending.training_plan`) has no price that adds: a Gaussian on a Poisson sample of
the patients, repeated, is composed numerically with one Gaussian that stands for all questions, see
`dpsynth.privacy.spending.composition`. It is fixed before the first question is asked, and only ``gaussian``
accounting knows it.

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
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from dpsynth.errors import InputError
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Accounting, Event, total_delta, total_price, trainings

SLACK = 1e-7
ROUNDING = 1e-9


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
        from dpsynth.privacy.spending.composition import epsilon_sampled

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
