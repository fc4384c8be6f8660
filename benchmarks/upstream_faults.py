"""Faults of libraries that private training is built on, each in a few lines that can be reported, with its numbers.

Nothing here is a claim about other versions than those that are printed. What our own code does about each stands in
the last column; the tests that hold it are named in ``docs/privacy.md``.

Examples
--------
::

    python benchmarks/upstream_faults.py
"""

import argparse
import copy
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

RESULTS = Path(__file__).parent / "results"
Forward = Callable[[nn.Module, Tensor], Tensor]


def by_opacus(network: nn.Module, x: Tensor, forward: Forward) -> dict[str, Tensor]:
    """Return per-sample gradients of the mean square of each sample's output, by the hooks of Opacus."""
    from opacus import GradSampleModule

    hooked = GradSampleModule(copy.deepcopy(network), loss_reduction="sum")
    forward(hooked, x).flatten(1).square().mean(1).sum().backward()
    return {name.removeprefix("_module."): p.grad_sample.detach() for name, p in hooked.named_parameters()}


def by_autograd(network: nn.Module, x: Tensor, forward: Forward) -> dict[str, Tensor]:
    """Return the same gradients, sample by sample with plain autograd on contiguous inputs."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    rows = []
    for one in x.contiguous():
        loss = forward(network, one[None].contiguous()).square().mean()
        rows.append(torch.autograd.grad(loss, parameters))
    return {name: torch.stack(parts) for name, parts in zip(names, zip(*rows, strict=True), strict=True)}


def compared(network: nn.Module, x: Tensor, forward: Forward) -> str:
    """Say for how many parameters the hooks are wrong, by how much, and what that does to clipping at norm 1."""
    with torch.no_grad():
        for parameter in network.parameters():  # zero-initialised layers would hide what is wrong behind them
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    found, right = by_opacus(network, x, forward), by_autograd(network, x, forward)
    least = 1e-5 * float(torch.cat([g.flatten() for g in right.values()]).norm())  # below are gradients that are 0
    errors = {name: float((found[name] - g).norm() / max(float(g.norm()), least)) for name, g in right.items()}
    wrong = [name for name, error in errors.items() if error > 1e-2]
    theirs, true = (torch.cat([g.flatten(1) for g in each.values()], 1).norm(dim=1) for each in (found, right))
    return (
        f"{len(wrong)} of {len(errors)} parameters wrong, relative error up to {max(errors.values()):.2f}; norms seen "
        f"are {float((theirs / true).min()):.2f} to {float((theirs / true).max()):.2f} times the true ones"
    )


def monai_unet() -> nn.Module:
    """Return a small UNet of MONAI with attention."""
    from monai.networks.nets import DiffusionModelUNet

    return DiffusionModelUNet(
        spatial_dims=2,
        in_channels=3,
        out_channels=3,
        channels=(16, 32),
        attention_levels=(False, True),
        num_res_blocks=1,
        num_head_channels=16,
        norm_num_groups=8,
    )


def diffusers_unet() -> nn.Module:
    """Return a small UNet of diffusers with attention."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=16,
    )


def at_level(network: nn.Module, x: Tensor) -> Tensor:
    """Call a UNet of either library at one noise level."""
    found = network(x, torch.full((len(x),), 3))
    return found if isinstance(found, Tensor) else found.sample


def images() -> Tensor:
    """Return four images of noise."""
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def convolution() -> str:
    """Compare a 3 x 3 convolution whose input is channels-last."""
    network = nn.Conv2d(3, 4, 3, padding=1)
    return compared(network, images().to(memory_format=torch.channels_last), lambda m, x: m(x))


def convolution_contiguous() -> str:
    """Compare the same, contiguous: the control."""
    return compared(nn.Conv2d(3, 4, 3, padding=1), images(), lambda m, x: m(x))


def monai_channels_last() -> str:
    """Compare MONAI's DiffusionModelUNet on a channels-last batch."""
    return compared(monai_unet(), images().to(memory_format=torch.channels_last), at_level)


def monai_contiguous() -> str:
    """Compare the same on a contiguous batch: the control."""
    return compared(monai_unet(), images(), at_level)


def diffusers_contiguous() -> str:
    """Compare UNet2DModel of diffusers on a contiguous batch: its attention makes channels-last activations itself."""
    return compared(diffusers_unet(), images(), at_level)


def validator() -> str:
    """Say what the validator of Opacus finds in that network."""
    from opacus.validators import ModuleValidator

    return f"ModuleValidator.validate finds {len(ModuleValidator.validate(diffusers_unet(), strict=False))} errors"


def engine(rows: int) -> tuple[float, float]:
    """Return sampling rate and divisor of an engine over so many rows in batches of 30."""
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    network = nn.Linear(2, 1)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    loader = DataLoader(TensorDataset(torch.zeros(rows, 2)), batch_size=30)
    _, private, sampled = PrivacyEngine().make_private(
        module=network, optimizer=optimiser, data_loader=loader, noise_multiplier=1.0, max_grad_norm=1.0
    )
    return float(sampled.sample_rate), float(private.expected_batch_size)


def rate_of_rows() -> str:
    """Compare sampling rate and divisor of two neighbours."""
    (rate, divisor), (other, another) = engine(90), engine(91)
    return (
        f"90 rows: rate {rate:.4f}, sum divided by {divisor:g}; 91 rows: rate {other:.4f}, divided by {another:g}: one "
        f"row changes every released gradient by a factor of {divisor / another:.2f}, which no accountant charges"
    )


def seeded_noise() -> str:
    """Compare the noise of two steps, torch seeded alike before each, as scripts do that want repeatable results."""
    from opacus.optimizers import DPOptimizer

    drawn = []
    for _ in range(2):
        network = nn.Linear(50, 1, bias=False)
        optimiser = DPOptimizer(
            torch.optim.SGD(network.parameters(), lr=0.0),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            expected_batch_size=1,
        )
        network.weight.grad_sample = torch.zeros(1, 1, 50)
        torch.manual_seed(0)
        optimiser.step()
        drawn.append(network.weight.grad.clone())
    return f"50 numbers of noise, largest difference of the two draws {float((drawn[0] - drawn[1]).abs().max()):g}"


CASES: list[tuple[str, str, Callable[[], str], str]] = [
    ("opacus", "conv rule, channels-last input", convolution, "activations made contiguous; checked before a training"),
    ("opacus", "control: contiguous input", convolution_contiguous, ""),
    ("opacus, monai", "DiffusionModelUNet, channels-last batch", monai_channels_last, "as above"),
    ("opacus, monai", "control: contiguous batch", monai_contiguous, ""),
    ("opacus, diffusers", "UNet2DModel with attention, contiguous batch", diffusers_contiguous, "as above"),
    ("opacus", "validator passes that network", validator, "gradients are compared, layers are not looked up alone"),
    ("opacus", "rate and divisor from the private row count", rate_of_rows, "both are public numbers of the plan"),
    ("opacus", "noise repeats after torch.manual_seed", seeded_noise, "entropy of the operating system; no seed"),
]


def main() -> None:
    """Run every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    versions = ", ".join(f"{name} {version(name)}" for name in ("opacus", "torch", "monai", "diffusers"))
    lines = [
        "# Faults of libraries, reproduced",
        "",
        f"Written by `benchmarks/upstream_faults.py`, with {versions}, on CPU. Per-sample gradients of a square loss",
        "by the hooks of Opacus beside plain autograd, sample by sample, four images of 16 x 16; a parameter is wrong",
        "beyond 1 % of its norm. Where norms are seen too small, clipping bounds nothing.",
        "",
        "| library | case | found | what dpsynth does |",
        "|---|---|---|---|",
    ]
    for library, case, run, ours in CASES:
        found = run()
        print(f"{case}: {found}", flush=True)
        lines.append(f"| {library} | {case} | {found} | {ours} |")
    (asked.results / "upstream_faults.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
