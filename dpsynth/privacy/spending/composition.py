"""Privacy loss of trainings and questions together: sampled Gaussians composed with one full Gaussian.

A step of a private training adds each patient's clipped gradient with probability q and releases the sum with Gaussian
noise. Its pair of worst-case output distributions (add or remove one patient) is known exactly; dp-accounting composes
the discretised privacy losses of all steps, rounded up (Meiser & Mohammadi 2018; Koskela et al. 2020), so that the
epsilon is never below the true one.

**Questions beside a training.** All questions of a run have a total price of at most rho, chosen adaptively. With
``mu = sqrt(2 rho)``, questions and training are together no easier to attack than one mu-Gaussian composed with the
training: by induction over what is asked. Ask a question of price r first; given its answer, the rest has the price
rho - r and the same training, and is dominated, by induction, by one pair that depends on r alone. So the whole is
dominated by the composition of the two (Zhu, Dong & Wang 2022, Theorem 10), and Gaussians of price r and rho - r make
one of price rho. This needs rho and the training to be fixed before the first answer: `Session.open` takes both.
"""

import math
from functools import lru_cache
from typing import Any

from dpsynth.errors import InputError
from dpsynth.privacy.spending.events import Event

INTERVAL = 1e-3
"""Width of the cells in which privacy losses are counted; losses are rounded up to it."""
MIN_DELTA = 1e-10
"""The discretised tails hold about 1e-15; epsilons at smaller deltas would be made of rounding."""


def epsilon_sampled(rho: float, trained: tuple[Event, ...], delta: float) -> float:
    """Return an upper bound on the epsilon of trainings and of questions of total price rho.

    Raises
    ------
    InputError
        When delta is too small for the numerical composition.
    """
    if delta < MIN_DELTA * 0.99:
        raise InputError(f"delta: found {delta:.2g}, expected {MIN_DELTA:g} or more where a network is trained.")
    return float(_accountant(rho, trained).get_epsilon(delta))


def delta_sampled(rho: float, trained: tuple[Event, ...], epsilon: float) -> float:
    """Return an upper bound on the delta at an epsilon."""
    return float(_accountant(rho, trained).get_delta(epsilon))


@lru_cache(maxsize=64)
def _accountant(rho: float, trained: tuple[Event, ...]) -> Any:
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=INTERVAL)
    if rho > 0:  # very small prices are rounded up, where the numbers would overflow
        accountant.compose(GaussianDpEvent(1 / math.sqrt(2 * max(rho, 1e-12))))
    for event in trained:
        step = GaussianDpEvent(event.scale / event.sensitivity)
        accountant.compose(PoissonSampledDpEvent(event.sampling_rate, step), event.count)
    return accountant
