"""Unordered values merged by what they go with: diagnoses, wards and drugs have no order, but they have company.

The *profile* of a value is what the rows with it have in common beyond all rows: for each table that was asked value by
value, the excess over independence divided by the value's share. A scarce value's profile is mostly noise, so each is
shrunk towards that of all rows by how much of it noise explains (empirical Bayes: the spread t^2 of profiles is what is
left of their energy after the noise). Values are then merged pair by pair where that costs least of the variance
between profiles (Ward). Everything is computed from answers that were paid for.

Source: Ward (1963), Hierarchical grouping to optimize an objective function.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Merges = dict[int, tuple[Codes, float]]

__all__ = ["merges", "shrunk_profiles"]


def shrunk_profiles(shares: Array, tables: Sequence[tuple[Array, float]]) -> Array:
    """Return the profile of each value, as far as noise does not explain it.

    Parameters
    ----------
    shares : float array, shape (values,)
        Share of each value in the rows.
    tables
        For each partner the measured excess over independence, of shape (values, groups of the partner), with margins
        of 0, and the variance of the noise of a cell.

    Returns
    -------
    float array, shape (values, groups of all partners)
        Profiles; 0 is that of all rows.
    """
    parts = []
    safe = np.maximum(shares, 1e-12)
    for excess, variance in tables:
        profile = excess / safe[:, None]
        noise = variance * (excess.shape[1] - 1) / safe**2
        energy = (profile**2).sum(axis=1)
        # Each value weighs as much as its profile is known.
        weights = 1 / noise**2
        spread = max(float(weights @ (energy - noise) / weights.sum()), 0.0)
        parts.append(profile * (spread / (spread + noise))[:, None])
    return np.concatenate(parts, axis=1)


def merges(shares: Array, profiles: Array, sizes: Sequence[int]) -> Merges:
    """Merge values whose profiles are alike, and return the groups at each size with the share of variance they keep.

    Examples
    --------
    >>> shares, profiles = np.array([0.4, 0.3, 0.2, 0.1]), np.array([[1.0], [-1.0], [0.9], [-1.1]])
    >>> codes, kept = merges(shares, profiles, [2])[2]
    >>> codes.tolist(), round(kept, 2)
    ([0, 1, 0, 1], 1.0)
    """
    count = len(shares)
    weight, centre = np.maximum(shares, 1e-12), profiles.copy()
    codes, alive = np.arange(count), np.ones(count, dtype=bool)
    total = float(weight @ ((centre - weight @ centre / weight.sum()) ** 2).sum(axis=1))
    lost, cuts = 0.0, {}
    for left in range(count - 1, 1, -1):
        places = np.flatnonzero(alive)
        mass, points = weight[places], centre[places]
        square = (points**2).sum(axis=1)
        apart = np.maximum(square[:, None] + square - 2 * points @ points.T, 0)
        cost = apart * np.outer(mass, mass) / (mass[:, None] + mass)
        # Where nothing tells values apart the scarcest are merged first.
        cost = cost + 1e-12 * np.add.outer(mass, mass)
        cost[np.diag_indices(len(places))] = np.inf
        i, j = sorted(places[k] for k in np.unravel_index(int(np.argmin(cost)), cost.shape))
        lost += float(cost.min())
        centre[i] = (weight[i] * centre[i] + weight[j] * centre[j]) / (weight[i] + weight[j])
        weight[i] += weight[j]
        alive[j] = False
        codes[codes == j] = i
        if left in sizes:
            kept = max(1 - lost / total, 0.0) if total > 0 else 0.0
            cuts[left] = np.unique(codes, return_inverse=True)[1].astype(np.int64), kept
    return cuts
