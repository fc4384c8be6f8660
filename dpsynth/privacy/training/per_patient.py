"""Per-patient gradients: three ways to compute them, their norms, and their weighted sums.

Three backends give the same numbers. ``loop`` takes one patient after another with plain autograd: the reference.
``vmap`` is right for every network whose forward pass treats patients apart. ``layer`` makes one backward pass to the
outputs of the layers and finishes layer by layer; it needs a rule for each layer and is faster, but for deep networks
of convolutions, whose objectives ask for ``vmap`` (measured in `benchmarks/private_step.py`). Of linear layers
the gradient of a patient is never formed, only its norm (Goodfellow 2015) and the weighted sum of all.

A network flattens a patient's records and noise levels into its batch axis, patient by patient, so that a layer sees N
rows for B patients, N / B of them each, and a patient's gradient is the sum over those rows.

Opacus, whose rules serve the other layers, reads convolution inputs by strides that hold only for contiguous tensors
(1.6: channels-last activations give wrong gradients silently). Activations and output gradients are made contiguous
here, and `dpsynth.privacy.training.dpsgd.check_objective` holds every backend against plain autograd before each
training.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dpsynth.errors import InputError

Batch = dict[str, Tensor]
Grads = dict[str, Tensor]
CANCELLED = 2.0**-40
"""What is added to the square of a norm for what float64 may lose when rows cancel, see `Products.squares`."""
BLOCK = 1024


class GradientPart(Protocol):
    """The per-patient gradients of some of the parameters, for one batch."""

    def squares(self) -> Tensor:
        """Return (patients,) float64 squared L2 norms of these parameters' part of each gradient."""
        ...

    def weighted(self, factors: Tensor) -> Grads:
        """Return for each parameter the float64 sum over patients of factor times gradient; factors are (patients,)."""
        ...


Backend = Callable[[nn.Module, Batch], list[GradientPart]]


class Dense:
    """Per-patient gradients that are held in full.

    Parameters
    ----------
    gradients
        For each parameter (patients, *shape).
    """

    def __init__(self, gradients: Grads) -> None:
        self._gradients = gradients

    def squares(self) -> Tensor:
        """Return squared norms; not finite where a number is not.

        A block of `BLOCK` numbers is summed in the gradient's own floats, blocks in float64: in 32 bits a norm is
        wrong by less than ``BLOCK 2^-25``, relative to it, and the margin of the clipping is eight times that.
        """
        norms = [
            torch.linalg.vector_norm(block, dim=1).double()
            for gradient in self._gradients.values()
            for block in torch.split(gradient.flatten(1), BLOCK, dim=1)
        ]
        return torch.stack(norms).square().sum(0)

    def weighted(self, factors: Tensor) -> Grads:
        """Return weighted sums in float64. A patient with factor 0 adds nothing, whatever their gradient."""
        none = bool((factors == 0).any())
        totals = {}
        for name, gradient in self._gradients.items():
            flat = gradient.flatten(1)
            if none:
                flat = torch.where((factors != 0)[:, None], flat, 0.0)
            blocks = torch.split(flat, 4 * BLOCK, dim=1)  # one stays in the cache
            sums = [factors @ block.double() for block in blocks]
            totals[name] = torch.cat(sums).reshape(gradient.shape[1:])
        return totals


class Products:
    """Per-patient gradients of a linear layer's weight, held as the factors of their sum of products.

    Parameters
    ----------
    name
        The parameter.
    there, back
        (patients, rows, inputs) activations and (patients, rows, outputs) gradients of the outputs.
    """

    def __init__(self, name: str, there: Tensor, back: Tensor) -> None:
        self._name, self._there, self._back = name, there, back

    def squares(self) -> Tensor:
        """Return squared norms, never too small: the sum over pairs of rows of the product of their inner products.

        Rows whose gradients cancel leave little of sums that are large, so 32 bits would not do: a patient with two
        opposite rows of norm 10^4 was seen at less than a third of their norm. In float64, with inner products of up to
        2^11 numbers, a pair is wrong by at most ``2^-41`` times the product of the four norms, and all pairs together
        by that times the square of ``sum |there| |back|``, of which twice as much is added.
        """
        there, back = self._there.double(), self._back.double()
        lengths = there.square().sum(2).sqrt() * back.square().sum(2).sqrt()
        if there.shape[1] == 1:
            return lengths.square().sum(1)
        inner = (there @ there.transpose(1, 2)) * (back @ back.transpose(1, 2))
        return torch.clamp(inner.sum((1, 2)), min=0.0) + CANCELLED * lengths.sum(1).square()

    def weighted(self, factors: Tensor) -> Grads:
        """Return the weighted sum, one matrix product in float64."""
        back = (self._back.double() * factors[:, None, None]).flatten(0, 1)
        if bool((factors == 0).any()):
            back = torch.nan_to_num(back, nan=0.0, posinf=0.0, neginf=0.0)
        there = torch.nan_to_num(self._there.double()).flatten(0, 1)
        return {self._name: back.T @ there}


def trainable(objective: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {name: p for name, p in objective.named_parameters() if p.requires_grad}


def looped(objective: nn.Module, batch: Batch) -> list[GradientPart]:
    """Return per-patient gradients patient by patient with plain autograd: slow, and the reference for the others."""
    parameters = trainable(objective)
    gradients: dict[str, list[Tensor]] = {name: [] for name in parameters}
    for place in range(_patients(batch)):
        loss = objective({name: value[place : place + 1] for name, value in batch.items()}).sum()
        parts = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for (name, parameter), part in zip(parameters.items(), parts, strict=True):
            gradients[name].append(torch.zeros_like(parameter) if part is None else part)
    return [Dense({name: torch.stack(parts) for name, parts in gradients.items()})]


def vmapped(objective: nn.Module, batch: Batch) -> list[GradientPart]:
    """Return per-patient gradients by `torch.func`."""
    from torch.func import functional_call, grad, vmap

    buffers = dict(objective.named_buffers())

    def loss(weights: Grads, patient: Batch) -> Tensor:
        alone = {name: value.unsqueeze(0) for name, value in patient.items()}
        losses: Tensor = functional_call(objective, (weights, buffers), (alone,))
        return losses.sum()

    weights = {name: p.detach() for name, p in trainable(objective).items()}
    return [Dense(vmap(grad(loss), in_dims=(None, 0))(weights, batch))]


def by_layer(objective: nn.Module, batch: Batch) -> list[GradientPart]:
    """Return per-patient gradients layer by layer.

    Raises
    ------
    InputError
        When a trainable parameter belongs to a layer that has no rule.
    """
    layers = _layers(objective)
    with _recorded(layers, objective) as calls:
        losses = objective(batch)
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            losses.sum(), [output for _, _, output in calls], allow_unused=True
        )
    used: dict[str, int] = {}
    for name, _, _ in calls:
        used[name] = used.get(name, 0) + 1
    parts: list[GradientPart] = []
    dense: Grads = {}
    with torch.no_grad():
        for (name, inputs, _), flowing in zip(calls, gradients, strict=True):
            if flowing is None:
                continue
            layer, here = layers[name], inputs.detach().contiguous()
            if isinstance(layer, nn.Linear) and used[name] == 1:
                parts += _linear(name, layer, here, flowing.contiguous(), _patients(batch))
                continue
            for key, gradient in _by_opacus(name, layer, here, flowing.contiguous(), _patients(batch)).items():
                dense[key] = dense[key] + gradient if key in dense else gradient
    return [*parts, Dense(dense)] if dense else parts


def suited(objective: nn.Module) -> Backend:
    """Return the usual backend: by layer where each layer has a rule, else `vmapped`."""
    from opacus.grad_sample import GradSampleModule

    held = [m for m in objective.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
    return by_layer if held and all(type(m) in GradSampleModule.GRAD_SAMPLERS for m in held) else vmapped


BACKENDS: Mapping[str, Backend] = {"layer": by_layer, "loop": looped, "vmap": vmapped}


def backend_of(name: str, objective: nn.Module) -> Backend:
    """Return the backend of that name, ``auto`` being the fastest right one; `InputError` when there is none."""
    if name == "auto":
        return suited(objective)
    if name not in BACKENDS:
        raise InputError(f"backend: found {name!r}, expected auto or one of {', '.join(BACKENDS)}.")
    return BACKENDS[name]


def _patients(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def _layers(objective: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that hold trainable parameters, by name."""
    from opacus.grad_sample import GradSampleModule

    layers = {}
    for name, layer in objective.named_modules():
        if not any(p.requires_grad for p in layer.parameters(recurse=False)):
            continue
        if type(layer) not in GradSampleModule.GRAD_SAMPLERS:
            raise InputError(
                f"objective: there is no rule for the per-patient gradients of {name!r}, a {type(layer).__name__}; use "
                "Linear, convolutions, GroupNorm, LayerNorm or Embedding, or the backend 'vmap'."
            )
        layers[name] = layer
    return layers


@contextmanager
def _recorded(layers: Mapping[str, nn.Module], objective: nn.Module) -> Iterator[list[tuple[str, Tensor, Tensor]]]:
    """Note each call of a layer with its input and output; outputs take gradients, parameters do not."""
    calls: list[tuple[str, Tensor, Tensor]] = []
    trained = list(trainable(objective).values())

    def noting(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def note(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            output = output if output.requires_grad else output.requires_grad_()
            calls.append((name, inputs[0], output))
            return output.clone()  # a later in-place operation does not touch what gradients are taken of

        return note

    handles = [layer.register_forward_hook(noting(name)) for name, layer in layers.items()]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
        for parameter in trained:
            parameter.requires_grad_(True)


def _linear(name: str, layer: nn.Linear, inputs: Tensor, flowing: Tensor, patients: int) -> list[GradientPart]:
    there = inputs.reshape(patients, -1, inputs.shape[-1])
    back = flowing.reshape(patients, -1, flowing.shape[-1])
    start = f"{name}." if name else ""
    weight: list[GradientPart] = [Products(f"{start}weight", there, back)]
    return weight if layer.bias is None else [*weight, Dense({f"{start}bias": back.sum(1)})]


def _by_opacus(name: str, layer: nn.Module, inputs: Tensor, flowing: Tensor, patients: int) -> Grads:
    """Return gradients by the rule of Opacus, row by row, and add the rows of each patient."""
    from opacus.grad_sample import GradSampleModule

    rule: Any = GradSampleModule.GRAD_SAMPLERS[type(layer)]
    for parameter in layer.parameters(recurse=False):  # its rules look whether a parameter is to be trained
        parameter.requires_grad_(True)
    gradients = rule(layer, [inputs], flowing)
    names = {id(p): key for key, p in layer.named_parameters(prefix=name, recurse=False)}
    return {names[id(p)]: part.reshape(patients, -1, *p.shape).sum(1) for p, part in gradients.items()}
