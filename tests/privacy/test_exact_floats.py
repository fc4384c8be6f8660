"""While private gradients are taken floats are IEEE single precision and convolutions deterministic; afterwards not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from torch import nn

from dpsynth.errors import InputError
from dpsynth.privacy.mechanisms import SeededNoise
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.training.dpsgd import Gradients, Objective, check_objective, example_batch
from dpsynth.privacy.training.exact_floats import (
    EXACT,
    LEAVES,
    PARENTS,
    _inexact,
    _matmul_precision,
    _new,
    _read,
    exact_floats,
)
from dpsynth.privacy.training.patients import Patients
from dpsynth.privacy.training.per_patient import looped

b = torch.backends


def _everything() -> dict[str, Any]:
    names = (*EXACT, *_new((*PARENTS, *LEAVES)))
    return {name: _read(name) for name in names} | {
        "precision": _matmul_precision(),
        "autocast": torch.is_autocast_enabled("cpu"),
    }


def _older() -> None:
    b.cuda.matmul.allow_tf32 = True
    b.cudnn.allow_tf32 = True
    b.cudnn.benchmark = True


def _global() -> None:
    b.fp32_precision = "tf32"


def _mixed() -> None:
    torch.set_float32_matmul_precision("high")
    b.cudnn.conv.fp32_precision = "tf32"
    b.cudnn.rnn.fp32_precision = "ieee"
    b.mkldnn.matmul.fp32_precision = "bf16"


def _high() -> None:
    torch.set_float32_matmul_precision("high")


def _medium() -> None:
    torch.set_float32_matmul_precision("medium")


def _autocast() -> None:
    torch.set_autocast_enabled("cpu", True)


SETTINGS: list[Callable[[], None]] = [lambda: None, _older, _high, _medium, _global, _mixed, _autocast]


@contextmanager
def restored() -> Iterator[None]:
    """Leave torch as it was found."""
    before = _everything()
    try:
        yield
    finally:
        for name in reversed(_new(PARENTS)):
            _owner(name).fp32_precision = "none"
        b.cuda.matmul.allow_tf32, b.cudnn.allow_tf32 = False, True
        b.cudnn.benchmark, b.cudnn.deterministic = before["cudnn.benchmark"], before["cudnn.deterministic"]
        torch.set_float32_matmul_precision("highest")
        torch.set_autocast_enabled("cpu", False)
        for name in _new(LEAVES):
            _owner(name).fp32_precision = before[name]


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    with restored():
        yield


def _owner(name: str) -> Any:
    owner = b
    for part in name.split(".")[:-1]:
        owner = getattr(owner, part)
    return owner


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.__name__)
def test_floats_are_exact_inside_and_as_they_were_outside(setting: Callable[[], None]) -> None:
    """Whichever way a program had set torch, by its older names, the newer ones, or both."""
    if setting in (_global, _mixed) and not _new(LEAVES):
        pytest.skip("an older torch")
    setting()
    before = _everything()
    with exact_floats():
        assert all(_inexact().values()), _inexact()
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
    assert _everything() == before
    with pytest.raises(RuntimeError, match="stopped"), exact_floats():
        raise RuntimeError("stopped")
    assert _everything() == before


class Watched(Objective):
    """A linear loss that notes, in each forward pass, whether floats are exact, and may set something."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.meanwhile = meanwhile
        self.seen: list[bool] = []

    def forward(self, batch: Any) -> Any:
        """Return a loss a patient."""
        self.seen.append(all(_inexact().values()))
        self.meanwhile()
        return self.layer(batch["weights"].float()[:, :1])[:, 0]


def _gradients(objective: Objective) -> Gradients:
    people = Patients(np.arange(6), np.arange(6), {"x": np.zeros(6, np.int64)}, None)
    return Gradients(objective, [people], TrainingPlan(1.0, 3, 1.0), SeededNoise(0), expected=6, backend=looped)


def test_floats_are_exact_in_every_step_and_not_between() -> None:
    """The loss of private patients is computed in exact floats; the program's own update in its own."""
    _older()
    objective = Watched()
    between = [all(_inexact().values()) for _ in _gradients(objective)]
    assert objective.seen == [True] * len(objective.seen)
    assert len(objective.seen) >= 3
    assert between == [False] * 3


@pytest.mark.parametrize("setting", [_older, _high, _medium, _global, _autocast], ids=lambda setting: setting.__name__)
def test_a_network_that_sets_precision_is_refused(setting: Callable[[], None]) -> None:
    """In a step, before anything of it is released, and when the objective is checked on made-up patients."""
    if setting is _global and not _new(LEAVES):
        pytest.skip("an older torch")
    objective = Watched(setting)
    if setting is _global:
        objective.meanwhile = lambda: _write_leaves("tf32")
    with pytest.raises(InputError, match="expected IEEE floats"):
        next(iter(_gradients(objective)))
    assert objective.layer.weight.grad is None
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(InputError, match="expected IEEE floats"):
        check_objective(objective, looped, example_batch(3, 1, [2], None, None), generator)


def _write_leaves(value: str) -> None:
    for name in _new(LEAVES):
        _owner(name).fp32_precision = value
