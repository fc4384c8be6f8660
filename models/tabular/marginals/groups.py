"""The groups that a schema's fairness policy names: which tables they need, and how much of a scarce group to believe.

All groups of a table are counted at one price, because a patient is in one of them. So the noise on a group's cell is
the same number of rows for all, and it is *relative* noise that the scarce groups have more of. What a group differs by
from the whole table is therefore pooled partially: the conditional distribution of group g deviates by ``d_g`` with a
prior ``N(0, t^2)``, it is measured with variance ``s_g = (noise / size of g)^2``, and its posterior mean is the part
``t^2 / (t^2 + s_g)`` of what was measured. The spread t of the groups is found by maximum marginal likelihood over all
of them (empirical Bayes), so a group below the noise goes to the whole table's distribution and a large one stays.

Source: Efron and Morris (1975), Data analysis using Stein's estimator and its generalizations, section 2.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dpsynth.models.tabular.marginals.interactions import Interaction
from dpsynth.schema.schema import Schema

__all__ = ["group_columns", "partly_pooled", "pooled_excess", "pooled_table", "present", "smallest_group"]

Array = NDArray[np.float64]

SPREADS = np.concatenate([[0.0], np.geomspace(1e-4, 3.0, 80)])
"""Spreads of the groups' conditional probabilities that are compared."""
RELATIVE = 0.5
"""A group is called represented where the noise on its cells is below this share of them."""


def group_columns(schema: Schema) -> tuple[str, ...]:
    """Columns that the schema's fairness policy names; none without a policy."""
    return schema.fairness.columns if schema.fairness is not None else ()


def present(proportions: Array, noise: Array) -> Array:
    """Return the posterior means of noisy proportions that cannot be negative; they sum to 1 and none is 0.

    With a flat prior on what is not negative each is the mean of a normal variable cut off at 0. A declared group whose
    count the noise made negative so stays in the model with the size that such a count still allows.
    """
    from scipy.stats import norm

    scaled = proportions / noise
    # Far below 0 the ratio of density and tail is taken by logarithms; the mean is about noise / |scaled| there.
    ratio = np.exp(norm.logpdf(scaled) - norm.logcdf(scaled))
    means = np.maximum(proportions + noise * ratio, 1e-3 * noise)
    return np.asarray(means / means.sum())


def pooled_excess(excess: Array, sizes: Array, variance: float) -> Array:
    """Shrink what groups differ by towards nothing, the more the scarcer the group is.

    Parameters
    ----------
    excess : float array, shape (groups, cells)
        Measured joint proportions less those of independence, with margins of 0.
    sizes : float array, shape (groups,)
        Noisy proportion of each group; 0 where the noise made it so.
    variance : float
        Variance of the noise of a cell.

    Returns
    -------
    float array, shape (groups, cells)
        The same with margins of 0, as partly pooled deviations.
    """
    free, noise = excess.shape[1] - 1, np.sqrt(variance)
    filled = sizes > noise
    if not filled.any() or free < 1:
        return np.zeros_like(excess)
    own = variance / np.maximum(sizes, noise) ** 2
    energy = (excess**2).sum(axis=1) / np.maximum(sizes, noise) ** 2
    total = SPREADS[:, None] ** 2 + own[filled]
    likelihood = -0.5 * (free * np.log(total) + energy[filled] / total).sum(axis=1)
    spread = float(SPREADS[int(np.argmax(likelihood))]) ** 2
    kept = np.where(filled, spread / (spread + own), 0.0)[:, None] * excess
    # What the groups lose is shared out by their sizes, so that the margins stay 0.
    return np.asarray(kept - np.outer(sizes / sizes.sum(), kept.sum(axis=0)))


def partly_pooled(interaction: Interaction, column: str, proportions: Array) -> Interaction:
    """Return an interaction whose groups, the states of `column` with these proportions, are partly pooled."""
    axis = interaction.pair.index(column)
    sizes = np.asarray(np.bincount(interaction.groups[axis], proportions), dtype=np.float64)
    excess = interaction.excess if axis == 0 else interaction.excess.T
    pooled = pooled_excess(excess, sizes, interaction.variance)
    pooled = pooled if axis == 0 else pooled.T
    return replace(interaction, values=interaction.values - interaction.excess + pooled, excess=pooled)


def pooled_table(values: Array, variance: float, proportions: tuple[Array, Array], axis: int) -> Array:
    """Return a counted table (proportions) whose groups, along `axis`, are partly pooled; margins are the columns'."""
    alone = np.outer(*proportions)
    excess = values - alone
    for k in (0, 1):
        excess = excess - excess.mean(axis=k, keepdims=True)
    turned = excess if axis == 0 else excess.T
    pooled = pooled_excess(turned, proportions[axis], variance)
    return np.asarray(alone + (pooled if axis == 0 else pooled.T))


def smallest_group(count: float, interaction: float, outcomes: int) -> float:
    """Return the size in rows from which on a group is represented.

    From there on the noise is below half of the group's count, and below half of an evenly filled cell of the group
    with one of the outcomes.

    Parameters
    ----------
    count
        Standard deviation of the noise on the group's count, in rows.
    interaction
        The same of the interaction of group and target in one cell.
    outcomes
        States of the target; 1 where there is none.
    """
    cell = float(np.hypot(count / outcomes, interaction))
    return max(count, outcomes * cell) / RELATIVE
