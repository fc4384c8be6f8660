"""The plan of a private training: sampling rate, steps, clipping, noise, and what they cost.

A step (DP-SGD, Abadi et al. 2016) draws each *patient* with probability ``sampling_rate``, takes the gradient of the
mean loss over at most so many of their records, clips it once to ``clipping_norm``, and releases the sum over the drawn
patients plus Gaussian noise of standard deviation ``noise_multiplier * clipping_norm``. One patient more or less moves
sum by at most the clipping norm, whatever the number of their records and of the noise levels of a diffusion loss.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.privacy.spending.accounting import epsilon_at, rho_for
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Event

MAX_NOISE = 2.0**8
"""Up to here noise is what was derived, see `dpsynth.privacy.mechanisms.SystemNoise.rounded_gaussian`."""
LEAST_NORM = 1e-6
"""Far below, the squares of 32-bit gradients would underflow, and with them the norms that clipping reads."""
LEAST_NOISE = 0.3
"""Below, the numerical composition is slow and its epsilon far beyond any budget."""


@dataclass(frozen=True)
class TrainingPlan:
    """A private training, fixed before the data is touched; make one with `within`.

    Privacy contract: `event` is the whole cost of ``steps`` calls of the kernel's gradients, which take their sample
    from `draws` and their clipping and noise from here.

    Parameters
    ----------
    sampling_rate
        The chance of each patient to be in a step, in (0, 1]; a public number, never a share of the private row count.
    steps
        Logical steps, at least 1.
    noise_multiplier
        Standard deviation of the noise on the summed gradient, in clipping norms.
    clipping_norm
        The L2 norm to which a patient's gradient is clipped, in (1e-6, 1e6].
    rho
        The price that questions beside the training may have in all.
    microbatch
        Patients whose gradients are held in memory at once; a public matter of speed, without effect on the result.

    Raises
    ------
    InputError
        When a number is out of range.
    """

    sampling_rate: float
    steps: int
    noise_multiplier: float
    clipping_norm: float = 1.0
    rho: float = 0.0
    microbatch: int = 128

    def __post_init__(self) -> None:
        _check("sampling_rate", self.sampling_rate, 0, 1)
        _check("steps", self.steps, 0, 10**7)
        _check("noise_multiplier", self.noise_multiplier, 0, MAX_NOISE)
        _check("clipping_norm", self.clipping_norm, LEAST_NORM, 1e6)
        _check("microbatch", self.microbatch, 0, 2**20)
        if not (math.isfinite(self.rho) and self.rho >= 0):
            raise InputError(f"training: found rho {self.rho}, expected 0 or more.")

    @classmethod
    def within(
        cls,
        budget: Budget,
        *,
        sampling_rate: float,
        steps: int,
        questions: float = 0.0,
        reserved_delta: float = 0.0,
        clipping_norm: float = 1.0,
        microbatch: int = 128,
    ) -> "TrainingPlan":
        """Return the plan with the least noise that a budget pays.

        Parameters
        ----------
        budget
            The total (epsilon, delta) that training and questions together may spend.
        sampling_rate, steps, clipping_norm, microbatch
            As for the plan.
        questions
            Share of the budget's price that is kept for questions, in [0, 1).
        reserved_delta
            The part of the budget's delta that key discovery will spend.

        Returns
        -------
        TrainingPlan
            With the noise multiplier to one part in 5,000, from above.

        Raises
        ------
        InputError
            When a number is out of range, or no noise is large enough.

        Examples
        --------
        >>> plan = TrainingPlan.within(Budget(1.0, 1e-5), sampling_rate=0.0512, steps=400)
        >>> round(plan.noise_multiplier, 2)
        3.96
        """
        if not 0 <= questions < 1:
            raise InputError(f"training: found questions {questions}, expected a share in [0, 1).")
        rho = questions * rho_for(budget, "gaussian", reserved_delta=reserved_delta)

        left = budget.delta - reserved_delta

        def plan(noise: float) -> "TrainingPlan":
            return cls(sampling_rate, steps, noise, clipping_norm, rho, microbatch)

        def excess(log_noise: float) -> float:
            spent = epsilon_at(rho, "gaussian", left, [plan(math.exp(log_noise)).event])
            return math.log(spent / budget.epsilon)

        mu = math.sqrt(2 * ((1 - questions) * rho_for(budget, "gaussian", reserved_delta=reserved_delta)))
        return plan(_least_noise(excess, _guess(mu, plan(1.0))))

    @property
    def event(self) -> Event:
        """What the training costs."""
        return Event(
            "sampled_gaussian",
            "clipped gradients of a Poisson sample of patients",
            self.clipping_norm,
            self.noise_multiplier * self.clipping_norm,
            count=self.steps,
            sampling_rate=self.sampling_rate,
        )

    def draws(self, patients: int, uniform: Callable[[int], NDArray[np.float64]]) -> Iterator[NDArray[np.intp]]:
        """Yield, for each step, the patients in it: each with probability `sampling_rate`, apart from the others.

        Parameters
        ----------
        patients
            How many there are; private.
        uniform
            Returns so many random numbers, uniform in [0, 1).

        Yields
        ------
        array of int
            Positions of the patients in the step, increasing. **Private: internal to the kernel.**

        Examples
        --------
        >>> import numpy as np
        >>> plan = TrainingPlan(sampling_rate=0.5, steps=1, noise_multiplier=1.0)
        >>> next(plan.draws(3, lambda count: np.array([0.9, 0.2, 0.4]))).tolist()
        [1, 2]
        """
        for _ in range(self.steps):
            yield np.flatnonzero(uniform(patients) < self.sampling_rate)


def _guess(mu: float, plan: TrainingPlan) -> float:
    """Return the noise at which many steps would be mu-Gaussian (Bu, Dong, Long & Su 2020, Theorem 5)."""
    return min(MAX_NOISE / 2, 1 / math.sqrt(math.log1p((mu / plan.sampling_rate) ** 2 / plan.steps)))


def _least_noise(excess: Callable[[float], float], guess: float) -> float:
    """Return the least noise multiplier without excess, from above and to one part in 5,000.

    Parameters
    ----------
    excess
        For a log noise the log of the share of the budget that it spends; falls.
    guess
        Where to begin.
    """
    from scipy.optimize import brentq

    low, high, step = math.log(guess), math.log(guess), math.log(1.2)
    while excess(high) > 0:
        low, high, step = high, high + step, 2 * step
        if high >= math.log(MAX_NOISE):
            raise InputError("training: no noise is large enough; ask for fewer steps, a lower rate or more epsilon.")
    while excess(low) <= 0 and low > math.log(LEAST_NOISE):
        low, high, step = low - step, low, 2 * step
    if excess(low) <= 0:
        return math.exp(high)
    logarithm = float(brentq(excess, low, high, xtol=5e-5))
    while excess(logarithm) > 0:
        logarithm += 5e-5
    return math.exp(logarithm)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low < value <= high):
        raise InputError(f"training: found {name} {value:g}, expected a number above {low:g} and up to {high:g}.")
