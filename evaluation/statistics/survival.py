"""Statistics of times to an event, with weights of patients, so that bootstrap draws are rows of one array.

A patient is seen from `entry` to `time`; then there was an event, or they were censored. All functions take
(draws, patients) weights and return one result a draw. Sources: Kaplan and Meier 1958, Aalen and Johansen 1978,
Harrell 1982, Uno 2011, Graf 1999.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.table import Floats

__all__ = ["FollowUp", "brier_parts", "concordance", "restricted_mean", "survival_curve"]

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class FollowUp:
    """The times of patients.

    Parameters
    ----------
    time : ndarray, shape (patients,)
        When the observation ended.
    event : ndarray of bool, shape (patients,)
        Whether by the event.
    other : ndarray of bool, shape (patients,), optional
        Whether by a competing event, after which the event cannot be.
    entry : ndarray, shape (patients,), optional
        When the observation began; 0 where left out.
    """

    time: Floats
    event: Bools
    other: Bools | None = None
    entry: Floats | None = None

    def __len__(self) -> int:
        return len(self.time)

    @cached_property
    def begins(self) -> Floats:
        """When each observation began."""
        return np.full(len(self.time), -np.inf) if self.entry is None else self.entry

    @cached_property
    def any_event(self) -> Bools:
        """Whether an event of any kind ended the observation."""
        return self.event if self.other is None else self.event | self.other

    def take(self, rows: NDArray[np.intp]) -> "FollowUp":
        """Return the times of some patients."""
        other = None if self.other is None else self.other[rows]
        entry = None if self.entry is None else self.entry[rows]
        return FollowUp(self.time[rows], self.event[rows], other, entry)


def _at_risk(times: FollowUp, weights: Floats, moments: Floats) -> Floats:
    """Return (draws, moments) the weight of patients under observation just before each moment."""
    left = _up_to(times.time, weights, moments, inclusive=False)
    entered = _up_to(times.begins, weights, moments, inclusive=False)
    return entered - left


def _up_to(values: Floats, weights: Floats, moments: Floats, *, inclusive: bool) -> Floats:
    """Return (draws, moments) the weight of values below (or at) each moment."""
    order = np.argsort(values, kind="stable")
    sums = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights[:, order], axis=1)], axis=1)
    places = np.searchsorted(values[order], moments, side="right" if inclusive else "left")
    result: Floats = sums[:, places]
    return result


def _hazards(times: FollowUp, weights: Floats, moments: Floats, event: Bools) -> Floats:
    """Return (draws, moments) the share of those at risk who have the event at each moment."""
    at = np.zeros((len(weights), len(moments)))
    places = np.searchsorted(moments, times.time[event])
    for draw, row in enumerate(weights[:, event]):
        at[draw] = np.bincount(places, row, minlength=len(moments))
    risk = _at_risk(times, weights, moments)
    return np.divide(at, risk, out=np.zeros_like(at), where=risk > 1e-9)


def survival_curve(times: FollowUp, weights: Floats, grid: Floats) -> Floats:
    """Return (draws, grid) the share without the event at each time: Kaplan and Meier's.

    With competing events it is 1 less the share that had the event by then, by Aalen and Johansen.
    """
    moments = np.unique(times.time[times.any_event])
    if not len(moments):
        return np.ones((len(weights), len(grid)))
    hazard = _hazards(times, weights, moments, times.any_event)
    alive = np.cumprod(1 - hazard, axis=1)
    if times.other is not None:
        before = np.concatenate([np.ones((len(weights), 1)), alive[:, :-1]], axis=1)
        alive = 1 - np.cumsum(before * _hazards(times, weights, moments, times.event), axis=1)
    steps = np.concatenate([np.ones((len(weights), 1)), alive], axis=1)
    curve: Floats = steps[:, np.searchsorted(moments, grid, side="right")]
    return curve


def restricted_mean(times: FollowUp, weights: Floats, horizon: float) -> Floats:
    """Return (draws,) the mean time without the event up to the horizon: the area under the curve."""
    knots = np.unique(np.concatenate([[0.0], times.time[times.any_event & (times.time < horizon)], [horizon]]))
    curve = survival_curve(times, weights, knots[:-1])
    area: Floats = (curve * np.diff(knots)).sum(axis=1)
    return area


def censoring(times: FollowUp, grid: Floats, *, before: bool = False) -> Floats:
    """Return (grid,) the share still uncensored at each time, or just before it, by Kaplan and Meier."""
    turned = FollowUp(times.time, ~times.any_event, entry=times.entry)
    at = np.nextafter(grid, -np.inf) if before else grid
    curve: Floats = survival_curve(turned, np.ones((1, len(times))), at)[0]
    return curve


def concordance(
    times: FollowUp, risks: Floats, weights: Floats, *, horizon: float | None = None, reference: FollowUp | None = None
) -> Floats:
    """Return (draws,) the chance that, of two patients, the one with the earlier event has the higher risk.

    Parameters
    ----------
    times : FollowUp
    risks : ndarray, shape (patients,)
        Higher for earlier events.
    weights : ndarray, shape (draws, patients)
    horizon : float, optional
        Uno's: only events before it count, each weighed by the inverse squared chance not to be censored by then.
        Harrell's where left out.
    reference : FollowUp
        For Uno's, of whom that chance is taken; `times` where left out.
    """
    scale = np.ones(len(times))
    first = times.event.copy()
    if horizon is not None:
        first &= times.time < horizon
        free = censoring(reference or times, times.time, before=True)
        scale = np.divide(1.0, free**2, out=np.zeros(len(times)), where=free > 0)
    earlier = np.flatnonzero(first)
    own, own_risk = times.time[earlier][:, None], risks[earlier][:, None]
    later = (times.time[None, :] > own) | ((times.time[None, :] == own) & ~times.any_event[None, :])
    comparable = later & (times.begins[None, :] < own)
    if times.other is not None:  # who had another event can no longer have this one: they outlive everybody
        comparable |= times.other[None, :] & (times.begins[None, :] < own)
    right = comparable * ((own_risk > risks[None, :]) + 0.5 * (own_risk == risks[None, :]))
    left = weights[:, earlier] * scale[earlier]
    total = np.einsum("di,dj,ij->d", left, weights, comparable.astype(np.float32), optimize=True)
    good = np.einsum("di,dj,ij->d", left, weights, right.astype(np.float32), optimize=True)
    result: Floats = np.divide(good, total, out=np.full(len(weights), np.nan), where=total > 0)
    return result


def brier_parts(times: FollowUp, curves: Floats, grid: Floats, reference: FollowUp) -> Floats:
    """Return (patients,) each patient's integrated Brier score; its mean over patients is the cohort's.

    Parameters
    ----------
    times : FollowUp
    curves : ndarray, shape (patients, grid)
        Predicted chance to be without the event at each time.
    grid : ndarray, shape (grid,)
    reference : FollowUp
        Of whom the chance not to be censored is taken.
    """
    free_own = censoring(reference, times.time, before=True)
    free = censoring(reference, grid)
    gone = (times.time[:, None] <= grid) & times.event[:, None]
    lost = (times.time[:, None] <= grid) & ~times.event[:, None]
    if times.other is not None:  # without the event, and known to be
        lost &= ~times.other[:, None]
    seen = ~gone & ~lost
    weight_gone = np.divide(1.0, free_own, out=np.zeros(len(times)), where=free_own > 0)[:, None]
    weight_seen = np.divide(1.0, free, out=np.zeros(len(grid)), where=free > 0)[None, :]
    score = gone * curves**2 * weight_gone + seen * (1 - curves) ** 2 * weight_seen
    area: Floats = np.trapezoid(score, grid, axis=1) / (grid[-1] - grid[0])
    return area
