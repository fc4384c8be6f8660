"""DP-SGD: the only code that gives a network gradients of private data.

Formal guarantee: before noise, a step of `Gradients` moves by at most ``plan.clipping_norm`` in the L2 norm when one
patient is added or removed. Why, in the order of the code:

- A patient is in the sample or not; nothing else of a batch depends on them (no shuffling, no batch statistics).
- The objective gives one loss a patient, the mean over their records and noise levels. `check_objective` refuses layers
  whose output for one patient depends on another, and holds the backend's gradients against plain ones, patient by
  patient, on made-up patients, each time before a private patient is touched.
- Each patient's gradient is scaled to a norm of at most the clipping norm, less 2^-12 of it. One that is not finite
  counts as 0.
- Sums of a part of the patients are in float64: their rounding, 2^-53 times the number of patients squared, stays far
  within the 2^-12. Each part gives whole numbers, in multiples that are finer than ``clipping_norm / 2^26`` by up to 24
  bits and add up exactly, in any order; the whole sum is rounded to multiples of ``clipping_norm / 2^26``. So it is the
  same however patients are divided, but for a chance of about 2^-22 a number that it falls between two multiples. One
  patient moves the sum of one part; both roundings together move it by less than ``2^-25 sqrt(parameters)`` in two
  worlds together, half of the 2^-12 for the 2^24 parameters that a network may have.
  Finer multiples would make the noise larger in their units, and more of it would have to be decided in exact
  arithmetic (`mechanisms.SystemNoise.rounded_gaussian`).
- Noise is added once a step, by one process, in whole numbers (`mechanisms.SystemNoise.rounded_gaussian`): exactly a
  rounded Gaussian, which leaves no whole number out. The products and casts after it (float64, then the parameter's own
  float32) are one fixed map of whole numbers, so what can come out with a patient can come out without.
- The sum is divided by the *expected* number of patients of a step, a number that is public or was paid for.

Floats are IEEE single precision and convolutions deterministic while gradients are taken
(`dpsynth.privacy.training.exact_floats`). What remains: float32 kernels may round one patient's gradient differently
when another stands beside it in a microbatch, relative to it by about 1e-7. The 2^-12 is there for this, too; a bound
for every network has not been proved, and the privacy statement says so.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpsynth.errors import DpsynthError, InputError
from dpsynth.privacy import processes
from dpsynth.privacy.mechanisms import Noise
from dpsynth.privacy.quiet import WITHHELD, quiet
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.training.exact_floats import exact_floats
from dpsynth.privacy.training.patients import Patients
from dpsynth.privacy.training.per_patient import Backend, Batch, GradientPart, looped, trainable

UNIT = 2.0**26
"""Into how many multiples the clipping norm is divided."""
FINEST = 24
"""The sum of a part is in multiples that are finer by at most so many bits: it adds up as if nothing were rounded."""
ROOM = 62 - 26
"""Bits of a whole number that are left for those and for the number of patients in a step."""
MOST_PARAMETERS = 2**24
FLOAT_MARGIN = 2.0**-12
TOLERANCE = 1e-3
TINY = 1e-7
FAINT = 1e-6
"""A gradient that is 0 but for rounding, such as that of an attention's key bias, may differ by so much of the whole
gradient: over 1,000 parameters together 3e-5 of it, which `FLOAT_MARGIN` holds."""
BATCH_STATISTICS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)  # noqa: SLF001
RANDOM = (nn.modules.dropout._DropoutNd, nn.RReLU)  # noqa: SLF001


class Objective(nn.Module):
    """A network with its loss: what a private training minimises.

    A subclass holds the network as a submodule. `forward` must treat each patient apart and be deterministic: whatever
    is random (noise levels, latent vectors, samples of a generator) comes from `randomness`, as part of the batch.
    """

    def prepare(self, batch: Batch) -> Batch:
        """Return what `forward` takes of a batch, without parameters: floats of pixels, one-hot codes. Default: all."""
        return batch

    def randomness(self, patients: int, generator: torch.Generator) -> Batch:  # noqa: ARG002
        """Return tensors whose first axis is the patients; they are added to the batch. By default there are none."""
        return {}

    def forward(self, batch: Batch) -> Tensor:
        """Return (patients,) losses of a batch: `prepare` of `Patients.batch`, and `randomness`."""
        raise NotImplementedError


def check_objective(objective: Objective, backend: Backend, example: Batch, generator: torch.Generator) -> None:
    """Refuse an objective whose per-patient gradients are not known to be right; touches no private patient.

    Parameters
    ----------
    objective, backend
        What will be trained, and how.
    example
        A batch of made-up patients.
    generator
        For `Objective.randomness`.

    Raises
    ------
    InputError
        When a layer mixes patients or draws at random, buffers change, the losses are not one a patient, or the
        backend's gradients differ from plain ones. The message says what to use.
    """
    with exact_floats():
        _check(objective, backend, example, generator)


def _check(objective: Objective, backend: Backend, example: Batch, generator: torch.Generator) -> None:
    _check_layers(objective)
    size = sum(p.numel() for p in trainable(objective).values())
    if size > MOST_PARAMETERS:
        raise InputError(
            f"objective: found {size:,} parameters, expected at most {MOST_PARAMETERS:,}, up to which the rounding of "
            "sums was derived; use a smaller network."
        )
    patients = len(example["weights"])
    prepared = objective.prepare(example)
    for place in range(patients):
        alone = objective.prepare({name: value[place : place + 1] for name, value in example.items()})
        if any(not torch.equal(value[place : place + 1], alone[name]) for name, value in prepared.items()):
            raise InputError("objective: prepare gives a patient something else beside others than alone.")
    batch = {**prepared, **_moved(objective.randomness(patients, generator), example["weights"].device)}
    before = {name: value.clone() for name, value in objective.named_buffers()}
    losses = objective(batch)
    if losses.shape != (patients,):
        raise InputError(f"objective: its losses have shape {tuple(losses.shape)}, expected one a patient.")
    probed = _perturbed(objective, generator)
    reference, tested = _each(looped(probed, batch), patients), _each(backend(probed, batch), patients)
    if any(not torch.equal(before[name], value) for name, value in objective.named_buffers()):
        raise InputError("objective: a buffer changed in a forward pass; use layers without running statistics.")
    faint = TINY + FAINT * math.sqrt(sum(float(expected.norm()) ** 2 for expected in reference.values()))
    for name, expected in reference.items():
        got = tested.get(name, torch.zeros_like(expected))  # a layer that the loss did not reach
        if (
            got.shape != expected.shape
            or not float((got - expected).norm()) <= TOLERANCE * float(expected.norm()) + faint
        ):
            raise InputError(
                f"objective: the per-patient gradients of {name!r} are not those of plain autograd, so clipping would "
                "not bound a patient's contribution. Use layers that treat patients apart, contiguous activations, or "
                "the backend 'vmap'."
            )


def check_on_made_up(objective: Objective, backend: Backend, shape: Mapping[str, Any]) -> None:
    """Run `check_objective` on made-up patients of a public shape, on the device of the objective."""
    device = next(iter(trainable(objective).values()), torch.zeros(0)).device
    generator = torch.Generator().manual_seed(0)
    check_objective(objective, backend, _moved(example_batch(3, **shape), device), generator)


def _perturbed(objective: Objective, generator: torch.Generator) -> Objective:
    """Return a copy with weights moved at random: layers that begin at 0 would hide what is wrong behind them."""
    probed = copy.deepcopy(objective)
    with torch.no_grad():
        for parameter in trainable(probed).values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator).to(parameter.device))
    return probed


def _each(parts: Sequence[GradientPart], patients: int) -> dict[str, Tensor]:
    """Return (patients, *shape) gradients, read off the weighted sums that a training uses."""
    chosen = torch.eye(patients, dtype=torch.float64)
    rows = [{k: g for part in parts for k, g in part.weighted(factors).items()} for factors in chosen]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _check_layers(objective: nn.Module) -> None:
    for name, layer in objective.named_modules():
        if isinstance(layer, BATCH_STATISTICS):
            raise InputError(
                f"objective: {name!r} is a {type(layer).__name__}, which mixes patients; use GroupNorm or LayerNorm."
            )
        if isinstance(layer, RANDOM) and layer.training and getattr(layer, "p", 1) > 0:
            raise InputError(
                f"objective: {name!r} is a {type(layer).__name__}, which draws at random; leave it out, or draw in "
                "Objective.randomness."
            )
    if not trainable(objective):
        raise InputError("objective: there is no parameter to train.")


class Gradients:
    """Noisy gradients of a cohort under a plan; each may be taken once.

    Parameters
    ----------
    objective
        The network with its loss, on the device where it is to be trained.
    parts
        The private records, part by part; each patient is in one.
    plan
        What was paid for.
    noise
        What is added.
    expected
        Expected number of patients of the cohort: public, or paid for.
    backend
        How per-patient gradients are found.
    """

    def __init__(
        self,
        objective: Objective,
        parts: Sequence[Patients],
        plan: TrainingPlan,
        noise: Noise,
        *,
        expected: float,
        backend: Backend,
    ) -> None:
        self._objective = objective
        self._parts = [patients.part(processes.number(), processes.count()) for patients in parts]
        self._plan = plan
        self._noise = noise
        self._normaliser = plan.sampling_rate * expected
        self._bits = part_bits(self._normaliser)
        self._backend = backend
        self._generator = torch.Generator().manual_seed(int(noise.generator().integers(2**62)))
        self._parameters = trainable(objective)
        ends = np.cumsum([0, *(p.numel() for p in self._parameters.values())]).tolist()
        self._places = {name: slice(*pair) for name, pair in zip(self._parameters, pairwise(ends), strict=True)}
        self._device = next(iter(self._parameters.values())).device
        if processes.count() > 1:
            for parameter in objective.parameters():
                torch.distributed.broadcast(parameter.data, 0)

    def __repr__(self) -> str:
        return "Gradients(...)"

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    def __iter__(self) -> Iterator[None]:
        """Yield once a step, with the noisy mean gradient in each parameter's ``grad``."""
        for total in self._sums():
            hand_over(self._parameters, self._noised(total) / self._normaliser)
            yield

    def whole_sums(self) -> Iterator[NDArray[np.int64]]:
        """Yield once a step the sum of clipped gradients in multiples of ``clipping_norm / UNIT``.

        **Exact: internal to the kernel**, for a hospital that adds its share of the noise (`dpsynth.privacy.shares`).
        """
        for total in self._sums():
            yield self._whole(total).cpu().numpy()

    def _sums(self) -> Iterator[Tensor]:
        """Yield once a step the sum over the drawn patients of all parts and processes."""
        draws = [self._plan.draws(len(patients), self._noise.uniform) for patients in self._parts]
        for chosen in zip(*draws, strict=True):
            if sum(map(len, chosen)) > 2 ** (ROOM - self._bits) // processes.count():
                raise DpsynthError("a step has more patients than sums of gradients were derived for; lower the rate.")
            total = torch.stack([self._clipped(*drawn) for drawn in zip(self._parts, chosen, strict=True)]).sum(0)
            yield self._joined(total)

    def _whole(self, total: Tensor) -> Tensor:
        """Return a sum rounded to whole multiples, exactly."""
        whole: Tensor = (total + (2**self._bits >> 1)) >> self._bits
        return whole

    def _clipped(self, patients: Patients, chosen: NDArray[np.intp]) -> Tensor:
        """Return the sum of the clipped gradients of the chosen patients of a part, in whole multiples.

        Returns
        -------
        Tensor
            (all parameters,) int64, finer by ``self._bits`` than multiples of ``clipping_norm / UNIT``.
        """
        size = sum(p.numel() for p in self._parameters.values())
        total = torch.zeros(size, dtype=torch.float64, device=self._device)
        with exact_floats():
            for start in range(0, len(chosen), self._plan.microbatch):
                part = chosen[start : start + self._plan.microbatch]
                batch = self._objective.prepare(_moved(patients.batch(part), self._device))
                batch |= _moved(self._objective.randomness(len(part), self._generator), self._device)
                add_clipped(total, self._backend(self._objective, batch), self._places, self._plan.clipping_norm)
        return torch.round(total * (UNIT * 2**self._bits / self._plan.clipping_norm)).to(torch.int64)

    def _joined(self, total: Tensor) -> Tensor:
        """Return the sum over all processes, where there are several (each has a share of the patients)."""
        if processes.count() > 1:
            torch.distributed.all_reduce(total)
        return total

    def _noised(self, total: Tensor) -> Tensor:
        """Add noise once, in the first process, which gives the result to the others; return it as it is, in floats."""
        noisy = torch.zeros_like(total, dtype=torch.float64)
        if processes.number() == 0:
            whole = self._whole(total).double().cpu().numpy()
            drawn = self._noise.rounded_gaussian(whole, self._plan.noise_multiplier * UNIT)
            noisy = torch.from_numpy(drawn).to(total.device) * (self._plan.clipping_norm / UNIT)
        if processes.count() > 1:
            torch.distributed.broadcast(noisy, 0)
        return noisy


def hand_over(parameters: Mapping[str, nn.Parameter], flat: Tensor) -> None:
    """Put a flat noisy gradient into each parameter's ``grad``, one after another in their order."""
    place = 0
    for parameter in parameters.values():
        part = flat[place : place + parameter.numel()]
        parameter.grad = part.reshape(parameter.shape).to(parameter.dtype)
        place += parameter.numel()


def part_bits(expected: float) -> int:
    """Return by how many bits the sums of parts are finer, for a public expected number of patients in a step.

    Four times as many patients as expected, and 1,024 at least, leave sums below 2^62.

    Examples
    --------
    >>> part_bits(100), part_bits(4096), part_bits(1e6)
    (24, 22, 14)
    """
    return max(0, min(FINEST, ROOM - math.ceil(math.log2(max(4 * expected, 1024)))))


def add_clipped(
    total: Tensor, parts: Sequence[GradientPart], places: Mapping[str, slice], clipping_norm: float
) -> None:
    """Add the clipped gradients of a microbatch to a flat sum.

    Parameters
    ----------
    total
        (all parameters,) float64, changed in place.
    parts
        Gradients of every patient; together they hold each parameter.
    places
        Where each parameter stands in ``total``.
    clipping_norm
        The largest L2 norm of a patient's contribution; a gradient that is not finite contributes 0.
    """
    if not parts:
        return
    squares = torch.stack([part.squares() for part in parts]).sum(0)
    limit = clipping_norm * (1 - FLOAT_MARGIN)
    factors = torch.where(torch.isfinite(squares), limit / torch.clamp(squares.sqrt(), min=clipping_norm), 0.0)
    for part in parts:
        for name, gradient in part.weighted(factors).items():
            total[places[name]] += gradient.flatten()


def _moved(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def example_batch(
    patients: int, records: int, columns: list[int], images: tuple[int, ...] | None, pixels: str | None
) -> Batch:
    """Return made-up patients of the public shape: codes within their columns' sizes, images of noise."""
    generator = torch.Generator().manual_seed(0)
    shape = (patients, records)
    codes = [torch.randint(size, shape, generator=generator) for size in columns]
    weights = torch.full(shape, 1 / records)
    batch = {
        "codes": torch.stack(codes, dim=-1) if codes else torch.zeros((*shape, 0), dtype=torch.int64),
        "weights": weights,
    }
    if images is not None:
        noise = torch.rand((*shape, *images), generator=generator)
        batch["images"] = (noise * 255).to(torch.uint8) if pixels == "uint8" else noise
    return batch


def shielded_step(steps: Iterator[Any]) -> Any:
    """Take the next noisy gradient. Nothing foreign leaves: it may tell of a patient."""
    try:
        with quiet():
            return next(steps)
    except StopIteration:
        raise DpsynthError("the plan of the training has no further step.") from None
    except DpsynthError:
        raise
    except Exception as error:  # whatever it is, it must not carry private values out
        kind = type(error).__name__
    raise DpsynthError(f"the kernel failed in a training step ({kind}); {WITHHELD}. What was debited stays spent.")
