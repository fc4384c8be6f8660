"""Noisy tables as a session returns them, with their noise and their price; all of it is public."""

from dataclasses import dataclass

from dpsynth.privacy.mechanisms import Floats, Integers


@dataclass(frozen=True, eq=False)
class NoisyCounts:
    """A marginal's noisy counts: public.

    Parameters
    ----------
    columns
        The marginal's columns.
    counts
        int64 array of the query's shape; entries may be negative.
    sigma
        Standard deviation of the noise in each cell, in rows.
    rho
        What it cost.
    """

    columns: tuple[str, ...]
    counts: Integers
    sigma: float
    rho: float


@dataclass(frozen=True, eq=False)
class NoisyInteraction:
    """A marginal's noisy interaction: public.

    Parameters
    ----------
    columns
        The marginal's columns.
    values
        float64 array of the query's shape, in rows. The exact interaction has margins of 0, the noise has not:
        project it (subtract the means along each axis) before use, which is free.
    sigma
        Standard deviation of the noise in each cell, in rows.
    rho
        What it cost.
    """

    columns: tuple[str, ...]
    values: Floats
    sigma: float
    rho: float
