"""Plans of private trainings: what they cost, against published numbers, another accountant and closed forms."""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.accounting import epsilon_at, epsilon_of, rho_for
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Event
from dpsynth.privacy.spending.ledger_records import Run, now
from dpsynth.privacy.spending.trade_offs import trade_off
from dpsynth.privacy.spending.training_plan import TrainingPlan

from .helpers import ward

RATES = st.floats(0.001, 1.0)
NOISES = st.floats(4.0, 40.0)
STEPS = st.integers(1, 100)


def event(rate: float, noise: float, steps: int) -> Event:
    """Return a training's event."""
    return TrainingPlan(rate, steps, noise).event


@pytest.mark.parametrize(
    ("patients", "batch", "steps", "noises"),
    [
        (10_000, 512, 400, (4.02, 1.66, 0.84)),
        (50_000, 1024, 500, (1.93, 0.98, 0.61)),
        (50_000, 4096, 500, (7.03, 2.71, 1.16)),
    ],
)
def test_noise_multipliers_are_those_of_the_literature(
    patients: int, batch: int, steps: int, noises: tuple[float, ...]
) -> None:
    """Plans at epsilon 1, 3 and 10 need at most the noise that Renyi accounting asks, and little less."""
    for epsilon, noise in zip((1, 3, 10), noises, strict=True):
        found = TrainingPlan.within(Budget(epsilon, 1e-5), sampling_rate=batch / patients, steps=steps)
        assert 0.93 * noise < found.noise_multiplier < 1.005 * noise


@pytest.mark.parametrize(
    ("rate", "noise", "steps"), [(0.05, 1.0, 200), (0.02, 2.0, 1000), (0.2, 5.0, 60), (0.01, 0.8, 50)]
)
def test_epsilon_is_that_of_a_second_accountant(rate: float, noise: float, steps: int) -> None:
    """Opacus' accountant, by another method, brackets the epsilon within its own error."""
    from opacus.accountants.analysis.prv import PoissonSubsampledGaussianPRV
    from opacus.accountants.prv import PRVAccountant

    assert PoissonSubsampledGaussianPRV is not None
    accountant = PRVAccountant()
    accountant.history = [(noise, rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = accountant.get_epsilon(1e-5, eps_error=0.01, delta_error=1e-9)
    ours = epsilon_at(0.0, "gaussian", 1e-5, [event(rate, noise, steps)])
    assert abs(ours - theirs) < 0.025 + 0.002 * theirs


@settings(max_examples=8, deadline=None)
@given(noise=NOISES, steps=STEPS)
def test_without_sampling_a_training_is_a_gaussian(noise: float, steps: int) -> None:
    """At a sampling rate of 1 the closed form of the Gaussian holds, from above."""
    exact = epsilon_at(steps / (2 * noise**2), "gaussian", 1e-5)
    ours = epsilon_at(0.0, "gaussian", 1e-5, [event(1.0, noise, steps)])
    assert exact <= ours * (1 + 1e-6)
    assert ours <= exact * 1.01 + 0.01


@settings(max_examples=8, deadline=None)
@given(rate=RATES, noise=NOISES, steps=STEPS, rho=st.floats(0.0, 0.05))
def test_cost_is_monotone(rate: float, noise: float, steps: int, rho: float) -> None:
    """More steps, a higher rate, less noise, more questions and a smaller delta never cost less."""
    base = epsilon_at(rho, "gaussian", 1e-5, [event(rate, noise, steps)])
    worse = [
        epsilon_at(rho, "gaussian", 1e-5, [event(rate, noise, steps + 5)]),
        epsilon_at(rho, "gaussian", 1e-5, [event(min(1.0, rate * 1.2), noise, steps)]),
        epsilon_at(rho, "gaussian", 1e-5, [event(rate, noise * 0.9, steps)]),
        epsilon_at(rho + 0.01, "gaussian", 1e-5, [event(rate, noise, steps)]),
        epsilon_at(rho, "gaussian", 1e-6, [event(rate, noise, steps)]),
    ]
    assert all(other >= base - 1e-3 for other in worse)
    assert base >= epsilon_at(rho, "gaussian", 1e-5)


@pytest.mark.parametrize("epsilon", [0.3, 1, 10])
@pytest.mark.parametrize("questions", [0.0, 0.3, 0.9])
def test_a_plan_spends_its_budget_and_no_more(epsilon: float, questions: float) -> None:
    """Questions and training together cost at most the budget, and at least 99.5 % of it."""
    budget = Budget(epsilon, 1e-6)
    found = TrainingPlan.within(budget, sampling_rate=0.05, steps=100, questions=questions)
    assert found.rho == pytest.approx(questions * rho_for(budget, "gaussian"))
    total = epsilon_at(found.rho, "gaussian", budget.delta, [found.event])
    assert 0.995 * epsilon <= total <= epsilon


def test_a_plan_says_what_is_wrong() -> None:
    """Numbers out of range end with the name of the number and what was expected."""
    for wrong in ({"sampling_rate": 0.0}, {"sampling_rate": 1.5}, {"steps": 0}, {"clipping_norm": math.nan}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            TrainingPlan(**{"sampling_rate": 0.1, "steps": 3, "noise_multiplier": 1.0, **wrong})
    with pytest.raises(InputError, match="delta"):
        TrainingPlan.within(Budget(1, 1e-20), sampling_rate=0.1, steps=3)
    with pytest.raises(InputError, match="no noise"):
        TrainingPlan.within(Budget(0.0001, 1e-9), sampling_rate=1.0, steps=10**6)


def test_a_training_has_no_price_and_needs_gaussian_accounting() -> None:
    """Its cost does not add like a price, so asking for one is a fault; zCDP cannot compose it."""
    one = event(0.1, 1.0, 10)
    with pytest.raises(ValueError, match="price"):
        one.price("gaussian")
    with pytest.raises(InputError, match="gaussian"):
        epsilon_of([one], 1e-5, "zcdp")
    assert Event.from_json(one.to_json()) == one


def test_the_trade_off_of_a_training_is_that_of_its_privacy_curve() -> None:
    """At rate 1 it is the Gaussian's, from below; with a training it is weaker than without."""
    steps, noise = 10, 8.0
    mixed = trade_off(0.0, "gaussian", trained=[event(1.0, noise, steps)])
    exact = trade_off(steps / (2 * noise**2), "gaussian")
    for a, b in zip(mixed, exact, strict=True):
        assert (
            b["min_false_negative_rate"] - 0.03 <= a["min_false_negative_rate"] <= b["min_false_negative_rate"] + 1e-3
        )


def run(accounting: str, rho: float, training: Event | None = None, events: tuple[Event, ...] | None = None) -> Run:
    """Return a run of a ledger."""
    return Run("r", now(), "", Budget(1, 1e-6), accounting, rho, 0.0, "patient", True, training, events)  # type: ignore[arg-type]


def test_runs_with_trainings_are_added_soundly() -> None:
    """Trainings and Gaussian prices of several runs compose as one; an open zCDP run beside them adds its epsilon."""
    from dpsynth.privacy.spending.ledger_totals import total_epsilon

    one = event(0.1, 2.0, 50)
    alone = total_epsilon([run("gaussian", 0.01, one)], 1e-5)
    assert alone == pytest.approx(epsilon_at(0.01, "gaussian", 1e-5, [one]))
    assert total_epsilon([run("gaussian", 0.01, one), run("gaussian", 0.02)], 1e-5) == pytest.approx(
        epsilon_at(0.03, "gaussian", 1e-5, [one])
    )
    two = total_epsilon([run("gaussian", 0.01, one), run("gaussian", 0.0, one)], 1e-5)
    assert two == pytest.approx(epsilon_at(0.01, "gaussian", 1e-5, [one, one]))
    beside = total_epsilon([run("gaussian", 0.01, one), run("zcdp", 0.02)], 1e-5)
    assert beside == pytest.approx(1 + epsilon_at(0.01, "gaussian", 1e-5 - 1e-6, [one]))
    closed = total_epsilon([run("gaussian", 0.01, one), run("zcdp", 0.02, None, ())], 1e-5)
    assert closed == pytest.approx(alone)


def test_a_clipping_norm_that_32_bits_cannot_square_is_refused() -> None:
    """At tiny norms squares of 32-bit gradients underflow, and clipping would not see what it clips."""
    with pytest.raises(InputError, match="clipping_norm"):
        TrainingPlan(0.1, 10, 1.0, clipping_norm=1e-7)


def test_a_plan_of_other_code_is_refused() -> None:
    """A subclass could draw patients otherwise than its event says."""

    class Fixed(TrainingPlan):
        def draws(self, patients: int, uniform: object) -> Iterator[NDArray[np.intp]]:  # noqa: ARG002
            yield np.arange(patients)

    with pytest.raises(InputError, match="found a Fixed, expected a TrainingPlan"):
        Session.open(ward(), Budget(1, 1e-5), training=Fixed(0.01, 10, 5.0))
