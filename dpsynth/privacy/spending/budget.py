"""The total (epsilon, delta) that a run may spend."""

import math
from dataclasses import dataclass

from dpsynth.errors import InputError

MIN_EPSILON = 1e-4
MAX_EPSILON = 100.0
MIN_DELTA = 1e-30  # below, the float conversion to epsilon is no longer good to 1e-7
MAX_DELTA = 1e-2


@dataclass(frozen=True)
class Budget:
    """The total (epsilon, delta) that a run may spend: differential privacy for adding or removing one patient.

    Parameters
    ----------
    epsilon
        Privacy loss bound, in ``[0.0001, 100]``. Above about 10 the guarantee says little.
    delta
        Probability that the bound does not hold, in ``[1e-30, 0.01)``; see `default_delta`.

    Raises
    ------
    InputError
        When a number is not finite or outside its range.

    Examples
    --------
    >>> Budget(1, 1e-6)
    Budget(epsilon=1.0, delta=1e-06)
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        epsilon = _number("epsilon", self.epsilon, f"a number in [{MIN_EPSILON:g}, {MAX_EPSILON:g}]")
        delta = _number("delta", self.delta, f"a number in [{MIN_DELTA:g}, {MAX_DELTA:g})")
        if not MIN_EPSILON <= epsilon <= MAX_EPSILON:
            remedy = (
                "larger ones protect nobody" if epsilon > MAX_EPSILON else "smaller ones drown every answer in noise"
            )
            raise InputError(
                f"epsilon: found {epsilon:g}, expected a number in [{MIN_EPSILON:g}, {MAX_EPSILON:g}]; {remedy}."
            )
        if not MIN_DELTA <= delta < MAX_DELTA:
            raise InputError(
                f"delta: found {delta:g}, expected a number in [{MIN_DELTA:g}, {MAX_DELTA:g}); it is the chance that "
                f"the guarantee fails, {default_delta():g} unless you have a reason."
            )
        object.__setattr__(self, "epsilon", epsilon)
        object.__setattr__(self, "delta", delta)


def default_delta() -> float:
    """Return the public rule for delta: one in a million, whatever the cohort.

    A rule that used the number of patients, such as ``1 / n``, would release it.

    Returns
    -------
    float
        A probability: 1e-6.

    Examples
    --------
    >>> default_delta()
    1e-06
    """
    return 1e-6


def _number(name: str, value: object, expected: str) -> float:
    """Return an option as a finite float."""
    if isinstance(value, bool | str | bytes):
        raise InputError(f"{name}: found {type(value).__name__}, expected {expected}.")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name}: found {type(value).__name__}, expected {expected}.") from None
    if not math.isfinite(number):
        raise InputError(f"{name}: found {number}, expected {expected}.")
    return number
