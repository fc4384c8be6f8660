"""Attackers who see every noisy gradient of a private training: one run with many coins, and two worlds. Needs torch.

The attacker knows the weights at each step, all patients but the canaries, the plan, and how gradients are clipped.
The clipping here is written down again, so that a fault of the kernel's is not copied into the attack.
"""

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dpsynth.errors import InputError
from dpsynth.evaluation.audit.canaries import joined
from dpsynth.evaluation.audit.curves import Curve, dp_curve, gaussian_curve
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.mechanisms import SystemNoise
from dpsynth.privacy.spending.composition import delta_sampled
from dpsynth.privacy.training.dpsgd import Gradients, Objective
from dpsynth.privacy.training.patients import Patients, of_rows
from dpsynth.privacy.training.per_patient import Backend, Batch, by_layer, trainable
from dpsynth.sources.memory import Memory

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.coding.codec import Codec
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.privacy.spending.training_plan import TrainingPlan

__all__ = ["GradientCoins", "GradientGame", "Lone", "plan_curve", "ratio"]

Floats = NDArray[np.float64]
TABLES_ONLY = "audit: the attack on gradients reads trainings on rows; this model trains on images."
CHUNK = 64
"""Patients whose activations are held at once."""
EPSILONS = np.concatenate([[0.0], np.geomspace(1e-3, 30.0, 120)])
"""Where a plan's privacy curve is read."""


class GradientCoins(PrivateAnswers):
    """Answers of a cohort in which each canary stands by its own coin, and what the gradients say of the coins.

    A step releases ``S = sum of z_i g_i`` plus noise, where ``g_i`` is the clipped gradient of patient i and ``z_i``
    says whether they were drawn: with the sampling rate q, or q/2 for a canary, whose coin is not known. Taking all z
    for normal with these means and variances gives what S says of each ``z_i`` alone: a precision t and a product h of
    precision and mean. The score of a canary is its log-likelihood ratio, the sum over the steps of
    ``log(1 - q + q exp(h - t / 2))``. Steps are read as they pass; nothing in them is changed.

    Parameters
    ----------
    cohort
        The patients who are in; public, and no patient has more rows than the cap.
    canaries
        (canaries,) rows over the modelled columns, one a canary, in or not.
    put_in
        (canaries,) the coins, which decide who is in and are not used by the attack.
    cap
        The patient cap.

    Attributes
    ----------
    scores
        (canaries,) higher where a canary looks as if it was in.
    steps
        Steps that were seen.
    """

    def __init__(self, cohort: "Cohort", canaries: "pd.DataFrame", put_in: NDArray[np.bool_], cap: int) -> None:
        super().__init__(joined(cohort, canaries[put_in]), cap, SystemNoise())
        self._everybody = Memory(joined(cohort, canaries), cap, SystemNoise().secret())
        self.scores, self.steps = np.zeros(len(canaries)), 0

    @property
    def private(self) -> bool:
        """False: the attacker looks on."""
        return False

    def use(self, codec: "Codec") -> None:
        """Encode the columns that are new in this codec, in the kernel's order."""
        super().use(codec)
        self._everybody.use(codec)

    def gradients(
        self, objective: Objective, plan: "TrainingPlan", *, records: str, expected: float, backend: Backend
    ) -> Iterator[None]:
        """Pass the noisy gradients on and note what they say of the coins."""
        if records != "rows":
            raise InputError(TABLES_ONLY)
        everybody, generator = of_rows(next(iter(self._everybody))), torch.Generator().manual_seed(0)
        canaries = np.arange(len(everybody)) >= len(everybody) - len(self.scores)
        drawn = np.where(canaries, 0.5, 1.0) * plan.sampling_rate
        for _ in super().gradients(objective, plan, records=records, expected=expected, backend=backend):
            grads = [p.grad for p in trainable(objective).values() if p.grad is not None]
            released = torch.cat([g.flatten() for g in grads]) * plan.sampling_rate * expected
            norms = clipped(objective, everybody, plan.clipping_norm, generator)
            told, precision = _told(norms, released, drawn, plan.noise_multiplier * plan.clipping_norm)
            self.scores += _mixed((told - precision / 2)[canaries], plan.sampling_rate)
            self.steps += 1
            yield


def _told(gradient: Tensor, released: Tensor, drawn: Floats, sigma: float) -> tuple[Floats, Floats]:
    """Return what a noisy sum says of each patient's part in it: precision times mean, and precision.

    Parameters
    ----------
    gradient
        (patients, parameters) gradients.
    released
        (parameters,) the sum of those that were drawn, plus noise of standard deviation `sigma`.
    drawn
        (patients,) the chance of each to be drawn.
    """
    variance = np.maximum(drawn * (1 - drawn), 1e-6)
    products = (gradient @ gradient.T).double().numpy() / sigma**2
    covariance = np.linalg.inv(products + np.diag(1 / variance))
    mean = covariance @ (drawn / variance + (gradient @ released).double().numpy() / sigma**2)
    own = np.diag(covariance)
    return mean / own - drawn / variance, 1 / own - 1 / variance


def _mixed(logs: Floats, rate: float) -> Floats:
    """Return ``log(1 - q + q exp(x))``: the likelihood ratio where the canary is drawn at a rate q."""
    return logs if rate == 1 else np.logaddexp(math.log1p(-rate), math.log(rate) + logs)


def clipped(objective: Objective, patients: Patients, clipping_norm: float, generator: torch.Generator) -> Tensor:
    """Return (patients, parameters) clipped gradients; what is not finite is 0.

    The attacker does not know what the kernel drew for a patient (`Objective.randomness`) and draws anew.
    """
    from torch.func import functional_call, grad, vmap

    weights = {name: p.detach() for name, p in trainable(objective).items()}

    def loss(parameters: Mapping[str, Tensor], patient: Batch) -> Tensor:
        alone = {name: value.unsqueeze(0) for name, value in patient.items()}
        loss_of_patient: Tensor = functional_call(objective, dict(parameters), (alone,))
        return loss_of_patient.sum()

    batch = objective.prepare(patients.batch(np.arange(len(patients))))
    batch |= objective.randomness(len(patients), generator)
    each = vmap(grad(loss), in_dims=(None, 0), chunk_size=CHUNK)(weights, batch)
    flat = torch.cat([each[name].flatten(1) for name in weights], dim=1)
    return torch.nan_to_num(flat * (clipping_norm / flat.norm(dim=1, keepdim=True).clamp(min=clipping_norm)))


# -- two worlds -------------------------------------------------------------------------------------------------------


class Lone(Objective):
    """Logistic odds for each code of the first column: a canary with a code of its own is alone in its direction.

    Parameters
    ----------
    codes
        How many codes there are.
    scale
        Factor of the features; half of it is the norm of every gradient while the weights are 0.
    """

    def __init__(self, codes: int, scale: float) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(codes, 1, bias=False)
        torch.nn.init.zeros_(self.layer.weight)
        self._scale = scale

    def prepare(self, batch: Batch) -> Batch:
        """Return scaled one-hot codes."""
        indicators = torch.nn.functional.one_hot(batch["codes"][..., 0], self.layer.in_features).float() * self._scale
        return {"x": indicators, "weights": batch["weights"]}

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of calling everybody a case."""
        odds = self.layer(batch["x"]).squeeze(-1)
        return (torch.nn.functional.softplus(-odds) * batch["weights"]).sum(1)


class GradientGame:
    """The kernel's gradient door in two worlds, as `dpsynth.evaluation.audit.games.Game`; score above 0 says inside.

    The canary's gradient, far above the clipping norm, has the direction of a parameter that nobody else moves. What
    step t shows of it is ``x_t``, in clipping norms: 0 without it; with it 1 where it was drawn; plus noise of standard
    deviation ``s = noise_multiplier``. The score is the log-likelihood ratio, the sum over steps of
    ``log(1 - q + q exp((x_t - 1/2) / s^2))``: no test is better (Neyman & Pearson).

    Parameters
    ----------
    plan
        What is claimed.
    patients
        Patients beside the canary.
    """

    def __init__(self, plan: "TrainingPlan", patients: int = 40) -> None:
        self.plan = plan
        self._patients = patients

    def __call__(self, inside: bool) -> Mapping[str, ArrayLike]:
        """Train once and return the score of the noisy gradients."""
        return {"gradients": ratio(self.shown(inside), self.plan)}

    def shown(self, inside: bool) -> Floats:
        """Return (steps,) what the noisy gradients of one training show of the canary, in clipping norms."""
        order = np.arange(self._patients + inside, dtype=np.int64)
        codes = np.where(order < self._patients, order % 4, 4)
        plan, objective = self.plan, Lone(5, 10 * self.plan.clipping_norm)
        people = Patients(order, order, {"code": codes}, None)
        steps = Gradients(objective, [people], plan, SystemNoise(), expected=self._patients, backend=by_layer)
        scale = plan.sampling_rate * self._patients / plan.clipping_norm
        grads = (objective.layer.weight.grad for _ in steps)
        return np.array([-scale * float(grad[0, 4]) for grad in grads if grad is not None])


def ratio(shown: Floats, plan: "TrainingPlan") -> float:
    """Return the log-likelihood ratio of what the steps show of a canary, with it over without."""
    return math.fsum(_mixed((shown - 0.5) / plan.noise_multiplier**2, plan.sampling_rate))


@lru_cache(maxsize=64)
def plan_curve(plan: "TrainingPlan") -> Curve:
    """Return the trade-off curve that a plan's training claims, without the questions beside it.

    At sampling rate 1 it is Gaussian; else the best of the bounds that each point of its privacy curve gives, which
    lies nowhere above the true one.
    """
    if plan.sampling_rate == 1:
        return gaussian_curve(math.sqrt(plan.steps) / plan.noise_multiplier)
    curves = [dp_curve(float(e), min(1.0, delta_sampled(0.0, (plan.event,), float(e)))) for e in EPSILONS]
    return lambda a: np.max([curve(a) for curve in curves], axis=0)
