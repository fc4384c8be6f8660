"""Budgets: what may be granted."""

import math

import pytest

from dpsynth.errors import InputError
from dpsynth.privacy.spending.budget import Budget, default_delta


@pytest.mark.parametrize("epsilon", [0, -1, math.inf, math.nan, 101, 1e-9, None, "1", True, [1]])
def test_an_epsilon_that_promises_nothing_is_refused(epsilon: object) -> None:
    """Zero, negative, infinite, absurd and non-numeric epsilons end with a message that names the option."""
    with pytest.raises(InputError, match=r"^epsilon: found"):
        Budget(epsilon, 1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("delta", [0, 1e-40, -1e-9, 0.01, 1, 2, math.nan, math.inf, None, "1e-6", False])
def test_a_delta_that_promises_nothing_is_refused(delta: object) -> None:
    """Zero, one, absurd and non-numeric deltas end with a message that names the option."""
    with pytest.raises(InputError, match=r"^delta: found"):
        Budget(1.0, delta)  # type: ignore[arg-type]


def test_numbers_are_kept_as_floats() -> None:
    """An integer epsilon is the same budget as its float."""
    assert Budget(1, 1e-6) == Budget(1.0, 1e-6)
    assert isinstance(Budget(1, 1e-6).epsilon, float)


def test_the_default_delta_uses_no_data() -> None:
    """The default delta is a constant that a budget accepts."""
    assert Budget(1, default_delta()).delta == 1e-6
