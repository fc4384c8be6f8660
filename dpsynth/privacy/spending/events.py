"""The events of a run: what was asked, with which noise, and what each costs."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

Accounting = Literal["gaussian", "zcdp"]


Kind = Literal["gaussian", "selection", "sampled_gaussian"]


KINDS = ("gaussian", "selection", "sampled_gaussian")


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


def _mu_squared(event: Event, accounting: Accounting) -> float:
    """Twice the price of one event: mu^2 in Gaussian DP, 2 rho in zCDP."""
    if event.kind == "gaussian":
        return (event.sensitivity / event.scale) ** 2
    # Gumbel noise of scale b on scores that one patient moves by D either way (not monotone) is the exponential
    # mechanism with eps = 2 D / b.
    epsilon = 2 * event.sensitivity / event.scale
    return selection_mu(epsilon) ** 2 if accounting == "gaussian" else epsilon**2 / 4
