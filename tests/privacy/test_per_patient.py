"""Per-patient gradients: every backend gives those of plain autograd, whatever the layers and the memory layout."""

import pytest
import torch
from torch import Tensor, nn

from dpsynth.errors import InputError
from dpsynth.privacy.training.dpsgd import Objective, add_clipped, check_on_made_up
from dpsynth.privacy.training.per_patient import BACKENDS, Backend, Dense, Products, by_layer, suited, vmapped

from .networks import ChannelsLast, Squares, convolutions, image_batch, linear

SHAPE = {"records": 2, "columns": [3], "images": (1, 8, 8), "pixels": "uint8"}
NETWORKS = {"linear": linear, "convolutions": convolutions, "channels last": ChannelsLast}


def gradients(backend: Backend, objective: Objective, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return each patient's gradients, read off weighted sums."""
    n = len(batch["weights"])
    rows = [
        {k: g for p in backend(objective, batch) for k, g in p.weighted(one).items()} for one in torch.eye(n).double()
    ]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("backend", ["layer", "vmap"])
@pytest.mark.parametrize(("records", "levels"), [(1, 1), (2, 3)])
def test_a_backend_gives_the_gradients_of_plain_autograd(name: str, backend: str, records: int, levels: int) -> None:
    """Gradients, their norms and their weighted sums are those of one patient at a time."""
    torch.manual_seed(0)
    objective = Squares(NETWORKS[name](), levels=levels)
    batch = objective.prepare(image_batch(5, records)) | objective.randomness(5, torch.Generator().manual_seed(1))
    expected = gradients(BACKENDS["loop"], objective, batch)
    found = gradients(BACKENDS[backend], objective, batch)
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert torch.allclose(found[key], value, rtol=1e-4, atol=1e-7), key
    squares = torch.stack([part.squares() for part in BACKENDS[backend](objective, batch)]).sum(0)
    truth = torch.stack([value.flatten(1).square().sum(1) for value in expected.values()]).sum(0)
    assert torch.allclose(squares, truth, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("backend", ["layer", "vmap"])
def test_a_right_objective_passes_the_check_before_training(name: str, backend: str) -> None:
    """The check on made-up patients accepts every pair of network and backend that is right."""
    objective = Squares(NETWORKS[name]())
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    check_on_made_up(objective, BACKENDS[backend], SHAPE)
    assert all(torch.equal(value, before[key]) for key, value in objective.state_dict().items())
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_a_layer_used_twice_counts_twice() -> None:
    """Shared weights collect the gradients of every call."""
    layer = nn.Linear(64, 64)
    objective = Squares(nn.Sequential(nn.Flatten(), layer, nn.Tanh(), layer))
    batch = objective.prepare(image_batch(4)) | objective.randomness(4, torch.Generator())
    expected, found = (gradients(BACKENDS[name], objective, batch) for name in ("loop", "layer"))
    assert all(torch.allclose(found[key], expected[key], rtol=1e-4, atol=1e-7) for key in expected)


def test_a_frozen_parameter_has_no_gradient() -> None:
    """Parameters that are not trained are left out, and stay as they are."""
    network = linear()
    network[1].requires_grad_(requires_grad=False)
    objective = Squares(network)
    check_on_made_up(objective, by_layer, SHAPE)
    assert not network[1].weight.requires_grad
    assert network[4].weight.requires_grad


def test_gradients_that_are_not_finite_add_nothing() -> None:
    """A patient with factor 0 adds 0 even where their gradient is infinite or not a number."""
    for network in (linear(), convolutions()):
        objective = Squares(network)
        batch = objective.prepare(image_batch(3)) | objective.randomness(3, torch.Generator())
        batch["x"][1] = torch.inf
        factors = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
        for backend in (by_layer, vmapped):
            for part in backend(objective, batch):
                assert all(torch.isfinite(found).all() for found in part.weighted(factors).values())


class Mixing(Squares):
    """Weighs each patient's loss by the mean over the batch."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return losses that look at the other patients."""
        losses = super().forward(batch)
        return losses * losses.mean()


class MixingBefore(Squares):
    """Scales pixels by the batch's largest."""

    def prepare(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return pixels that depend on the other patients."""
        found = super().prepare(batch)
        return {**found, "x": found["x"] / found["x"].max()}


class Loose(nn.Module):
    """A parameter outside any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Scale."""
        return x * self.scale


@pytest.mark.parametrize(
    ("objective", "backend", "word"),
    [
        (Squares(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))), vmapped, "GroupNorm"),
        (
            Squares(nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True))),
            vmapped,
            "GroupNorm",
        ),
        (Squares(nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Dropout(0.5))), by_layer, "randomness"),
        (Mixing(linear()), by_layer, "autograd"),
        (MixingBefore(linear()), by_layer, "prepare"),
        (Squares(Loose()), by_layer, "vmap"),
        (Squares(nn.Flatten()), vmapped, "no parameter"),
    ],
)
def test_an_objective_that_is_not_right_is_refused(objective: Objective, backend: Backend, word: str) -> None:
    """Batch statistics, random layers, patients that see each other and unknown layers end with what to do instead."""
    with pytest.raises(InputError, match=word):
        check_on_made_up(objective, backend, SHAPE)


def test_a_wrong_rule_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients that are silently wrong, as those of Opacus for channels-last activations were, do not pass."""
    from dpsynth.privacy.training import per_patient

    real = per_patient._by_opacus

    def strided(*args: object) -> dict[str, Tensor]:
        return {name: 0.9 * value for name, value in real(*args).items()}

    monkeypatch.setattr(per_patient, "_by_opacus", strided)
    with pytest.raises(InputError, match="autograd"):
        check_on_made_up(Squares(convolutions()), by_layer, SHAPE)


def test_the_fastest_backend_is_chosen_by_the_layers() -> None:
    """Networks whose layers all have a rule go by layer; one with a parameter of its own goes through vmap."""
    assert suited(Squares(linear())) is by_layer
    assert suited(Squares(convolutions())) is by_layer
    assert suited(Squares(Loose())) is vmapped


@pytest.mark.parametrize("size", [1, 1023, 1024, 5000, 2_000_000])
def test_norms_and_sums_of_long_gradients(size: int) -> None:
    """Norms found block by block in 32 bits are within 2^-15 of those in 64, and weighted sums those of one product."""
    generator = torch.Generator().manual_seed(size)
    gradient = torch.randn((3, size), generator=generator) * torch.rand((3, size), generator=generator) ** 8
    factors = torch.tensor([0.3, 1.0, 1e-6], dtype=torch.float64)
    dense = Dense({"weight": gradient})
    norms, wanted = dense.squares().sqrt(), gradient.double().norm(dim=1)
    assert ((norms - wanted).abs() <= 2.0**-15 * wanted).all()
    torch.testing.assert_close(dense.weighted(factors)["weight"], factors @ gradient.double(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4, 1e6, 1e8])
def test_rows_that_cancel_are_clipped_too(scale: float) -> None:
    """A patient with opposite rows, whose gradients are far longer than their sum, adds at most the clipping norm."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn((200, 1, 64), generator=generator) * scale / 8
    there = torch.cat([first, first + torch.randn(first.shape, generator=generator) / 3], dim=1)
    back = torch.randn(first.shape, generator=generator) / 8
    for patient in range(200):
        one = slice(patient, patient + 1)
        part = Products("w", there[one], torch.cat([back[one], -back[one]], dim=1))
        total = torch.zeros(64 * 64, dtype=torch.float64)
        add_clipped(total, [part], {"w": slice(0, total.numel())}, 1.0)
        assert 0 < total.norm() <= 1
