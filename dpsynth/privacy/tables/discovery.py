"""Discovery of categories: the threshold from which a value may be released, and the part of delta for it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from dpsynth.columns.identifier_values import written_like
from dpsynth.errors import InputError
from dpsynth.privacy.spending.accounting import SLACK
from dpsynth.privacy.spending.budget import Budget
from dpsynth.schema.schema import Schema


def delta_for_discovery(budget: Budget, schema: Schema) -> float:
    """Return the part of the budget's delta that key discovery may spend: half, where a column is to be discovered.

    Parameters
    ----------
    budget
        The whole of what may be spent.
    schema
        The public schema; its columns with ``discover: true`` share the part.

    Returns
    -------
    float
        A probability, in ``[0, budget.delta / 2]``; the rest of delta pays for questions and a training.

    Examples
    --------
    >>> closed = Schema.parse("{name: ward, columns: {sex: {type: categorical, values: [f, m]}}}")
    >>> delta_for_discovery(Budget(1, 1e-6), closed)
    0.0
    """
    return budget.delta / 2 if schema.to_discover else 0.0


def key_threshold(cap: int, sigma: float, delta: float) -> int:
    """Return the noisy count from which a discovered key may be released.

    A patient with at most ``cap`` rows may be the only one with j of the keys, ``1 <= j <= cap``; each of these then
    has a count of at most ``cap - j + 1``. By the union bound one of them reaches T with probability at most
    ``j Phi(-(T - (cap - j + 1)) / sigma)``, which is delta for ``T = cap - j + 1 + sigma Phi^-1(1 - delta / j)``;
    we take the largest over j. Counts are released rounded, so an integer count reaches ``ceil(T + 1/2)`` only where
    the unrounded one reaches T. The lattice changes these probabilities by a factor far below 1 + 1e-7 (`accounting`).

    That delta adds to the Gaussian's. Let M* be the mechanism without the patient's own keys, (eps, delta')-close to
    the other world, and note that ``(1 - delta) M*(S) <= M(S) <= M*(S) + delta``. One direction is immediate:
    ``M(S) <= e^eps M'(S) + delta' + delta``. In the other, ``M'(S) <= e^eps M*(S) + delta'`` and ``M*(S) <= M(S) +
    delta M*(S)``: where ``e^eps M*(S) <= 1`` the excess ``e^eps delta M*(S)`` is at most delta, and elsewhere
    ``e^eps M(S) >= (1 - delta) e^eps M*(S) > 1 - delta``, so the bound exceeds 1 and holds.

    Examples
    --------
    >>> key_threshold(1, 10.0, 1e-6)
    50
    """
    from scipy.stats import norm

    safe = delta * (1 - SLACK)
    highest = max(cap - j + 1 + sigma * float(norm.isf(safe / j)) for j in range(1, cap + 1))
    return math.ceil(highest + 0.5)


def check_publishable(column: str, values: Sequence[Any]) -> None:
    """Refuse discovered values that are written like identifiers: the threshold protects the declared unit alone.

    Where a visit was declared as the patient, a patient with many visits reaches the threshold, and the patient's own
    number would be published. The values were released with noise, so what they look like is public.

    Raises
    ------
    InputError
        Naming the column and how most of its values are written, never a value.
    """
    kind = written_like([str(value) for value in values], share=0.5)
    if kind:
        raise InputError(
            f"column {column!r}: the values found look like {kind}, expected categories. Is the right column named as "
            "patient? Declare this one as type: identifier, name it under drop, or, if its values are public codes, "
            "list them under values. What finding them cost stays spent; nothing was published."
        )


def most_frequent(counts: Sequence[tuple[Any, int]], limit: int) -> list[Any]:
    """Return the values with the largest noisy counts, sorted by value.

    Neither which values are kept nor their order depends on the order in which the data held them.
    """
    kept = sorted(by_value(counts), key=lambda pair: -pair[1])[:limit]
    return [value for value, _ in by_value(kept)]


def by_value(counts: Iterable[tuple[Any, int]]) -> list[tuple[Any, int]]:
    """Return values and their counts in the order of the values."""
    return sorted(counts, key=lambda pair: (type(pair[0]).__name__, str(pair[0])))
