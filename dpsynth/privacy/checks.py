"""Checks of questions on public facts alone, before anything is paid for or looked at."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.errors import InputError
from dpsynth.privacy.answers import MAX_ERROR, UNIT
from dpsynth.privacy.mechanisms import MAX_SIGMA, MIN_SIGMA, Floats
from dpsynth.privacy.spending.events import Accounting, gaussian_scale, selection_epsilon


def price(rho: float) -> float:
    """Return a price as a float; `InputError` when it is not a positive finite number."""
    if not (math.isfinite(rho) and rho > 0):
        raise InputError(f"rho: found {rho}, expected a positive number.")
    return float(rho)


def noise_scale(sensitivity: float, rho: float) -> float:
    """Return the Gaussian's standard deviation; `InputError` when it is beyond what the lattice was derived for."""
    sigma = gaussian_scale(sensitivity, price(rho))
    if not MIN_SIGMA <= sigma <= MAX_SIGMA / UNIT:
        raise InputError(f"rho: found {rho:g}, which asks for noise of {sigma:g}; expected something in between.")
    return sigma


def selection_scale(sensitivity: float, rho: float, accounting: Accounting) -> float:
    """Return the Gumbel scale of a selection; `InputError` when it is beyond any use."""
    epsilon = selection_epsilon(price(rho), accounting)
    if not 1e-12 <= epsilon <= 1e6:
        raise InputError(f"rho: found {rho:g}, which asks for a selection of epsilon {epsilon:g}.")
    return 2 * sensitivity / epsilon


def queries_fit(queries: Sequence[Query], codec: Codec) -> None:
    """Check queries against the codec; `InputError` names the first that does not fit."""
    for query in queries:
        for name, mapping in zip(query.columns, query.maps, strict=True):
            if name not in codec.columns:
                fault = "is still to be discovered" if name in codec.pending else "is not a modelled column"
                raise InputError(f"query: {name!r} {fault}.")
            if len(mapping) != codec.columns[name].size:
                raise InputError(
                    f"query: the map of {name!r} has {len(mapping)} entries, expected {codec.columns[name].size}."
                )


def numbers(name: str, values: ArrayLike, m: int, low: float, high: float) -> Floats:
    """Return m finite numbers in a range; `InputError` when they are something else."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (m,) or not np.isfinite(array).all() or array.min() < low or array.max() > high:
        raise InputError(f"select: {name} must be {m} numbers from {low:g} to {high:g}.")
    return array


def expectations(queries: Sequence[Query], expected: Sequence[ArrayLike]) -> list[Floats]:
    """Return expected tables as floats; `InputError` when shapes or numbers are out of bounds."""
    tables = [np.asarray(e, dtype=np.float64) for e in expected]
    if [t.shape for t in tables] != [q.shape for q in queries]:
        raise InputError("expected: one array of its query's shape for each query.")
    if not all(np.isfinite(t).all() and np.abs(t).sum() <= MAX_ERROR for t in tables):
        raise InputError(f"expected: finite counts with a sum of at most {MAX_ERROR}.")
    return tables


def describe(start: str, query: Query) -> str:
    """Return the public description of a query."""
    return start + " x ".join(query.columns) if query.columns else "number of rows"
