"""Float arithmetic of private gradients: IEEE single precision, and one algorithm whatever the batch.

TF32 keeps 10 bits of a factor's 23. Which algorithm a GPU chooses may depend on the shape of a batch, so on who else is
in it, and a convolution that is computed in TF32 beside one more patient and in FP32 without them moves a clipped sum
by ten times the margin that `dpsynth.privacy.training.dpsgd` keeps for rounding. So while gradients are taken no
product is shortened (TF32, bfloat16 on CPUs, autocast), convolutions are deterministic, and none is chosen by timing.
What a program had set is restored afterwards. A network that sets something else meanwhile is refused.
"""

import contextlib
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import torch

from dpsynth.errors import InputError

PARENTS = ("fp32_precision", "cudnn.fp32_precision", "mkldnn.fp32_precision")
LEAVES = (
    "cuda.matmul.fp32_precision",
    *(f"{library}.{kind}.fp32_precision" for library in ("cudnn", "mkldnn") for kind in ("conv", "rnn")),
    "mkldnn.matmul.fp32_precision",
)
"""The settings of torch 2.9 and later; a leaf that says "none" follows its parents."""
EXACT = {
    "cuda.matmul.allow_tf32": False,
    "cudnn.allow_tf32": False,
    "cudnn.deterministic": True,
    "cudnn.benchmark": False,
}
DEVICES = ("cpu", "cuda")


@contextlib.contextmanager
def exact_floats() -> Iterator[None]:
    """Compute in IEEE single precision, deterministically, within a ``with`` block.

    Raises
    ------
    InputError
        When the settings are not the same at the end of the block: what was computed may be less exact, so it may not
        be used.
    """
    before = _settings()
    try:
        _set(EXACT, "highest", dict.fromkeys(DEVICES, False), dict.fromkeys(_new(LEAVES), "ieee"))
        yield
        changed = [name for name, exact in _inexact().items() if not exact]
        if changed:
            raise InputError(
                f"objective: found {', '.join(changed)} changed while gradients were taken, expected IEEE floats and "
                "deterministic convolutions, for which the bound on a patient's contribution was derived. Do not set "
                "precision in a network or its loss."
            )
    finally:
        _set(*before)


def _inexact() -> dict[str, bool]:
    """Return for each setting whether it is as it has to be."""
    facts = {name: _read(name) == value for name, value in EXACT.items()}
    facts |= {name: _read(name) == "ieee" for name in _new(LEAVES)}
    facts |= {f"autocast of {device}": not torch.is_autocast_enabled(device) for device in DEVICES}
    return facts | {"float32_matmul_precision": _matmul_precision() == "highest"}


def _settings() -> tuple[dict[str, Any], str | None, dict[str, bool], dict[str, str]]:
    """Return what a program has set, a leaf's own setting apart from its parents'."""
    old = {name: value for name in EXACT if (value := _read(name)) is not None}
    precision = _matmul_precision()
    parents = {}
    for name in _new(PARENTS):
        parents[name] = _read(name)
        _write(name, "none")
    leaves = {name: _read(name) for name in _new(LEAVES)}
    autocast = {device: torch.is_autocast_enabled(device) for device in DEVICES}
    return old, precision, autocast, dict(reversed(parents.items())) | leaves  # as they were taken off, backwards


def _set(old: dict[str, Any], precision: str | None, autocast: dict[str, bool], new: dict[str, str]) -> None:
    """Set all; the older settings first, because they write the newer ones too."""
    for name, value in old.items():
        _write(name, value)
    if precision is not None:
        torch.set_float32_matmul_precision(precision)
    for name, value in new.items():
        _write(name, value)
    for device, enabled in autocast.items():
        torch.set_autocast_enabled(device, enabled)


def _new(names: tuple[str, ...]) -> tuple[str, ...]:
    return names if hasattr(torch.backends.cuda.matmul, "fp32_precision") else ()


def _read(name: str) -> Any:
    """Return a setting; None where torch refuses to say, because both of its ways of setting it were used."""
    try:
        return attrgetter(name)(torch.backends)
    except RuntimeError:
        return None


def _write(name: str, value: Any) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(attrgetter(owner)(torch.backends) if owner else torch.backends, attribute, value)


def _matmul_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
