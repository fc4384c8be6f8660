"""What a private step costs: gradients of each patient, clipped and summed, beside one plain backward pass.

Every network that ships is taken with the sizes that a user gets, on made-up patients. A plain step is the mean loss of
a microbatch and its gradient. A private one finds each patient's gradient by a backend, clips it and adds it up, as
`dpsynth.privacy.training.dpsgd` does. Both are timed in turn, many times over, in processor seconds of one thread;
said is the median of the ratios of neighbouring pairs, with their quartiles.

Examples
--------
::

    python benchmarks/private_step.py --repeats 15
"""

import argparse
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dpsynth import Schema
from dpsynth.coding.codec import Codec
from dpsynth.datasets import load_support2
from dpsynth.models.image.batch_reading import Reading
from dpsynth.models.image.classifier import convolutions
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.denoiser.loss import DenoisingLoss
from dpsynth.models.image.denoiser.network import Denoiser
from dpsynth.models.image.gan import ImageDiscriminator
from dpsynth.models.image.linear import ImageLikelihood
from dpsynth.models.tabular.deep.diffusion import Denoising
from dpsynth.models.tabular.deep.fitting import BINS, MOST_STATES
from dpsynth.models.tabular.deep.layout import Layout
from dpsynth.models.tabular.deep.tvae import RowAutoencoder
from dpsynth.models.tabular.marginals.planning import even_one_way, public_codec
from dpsynth.privacy.training.dpsgd import Objective, add_clipped, example_batch
from dpsynth.privacy.training.per_patient import backend_of, trainable

HERE = Path(__file__).parent
BACKENDS = ("vmap", "layer", "auto")
SCANS = """
name: scans
confirmed: true
target: label
images: {size: [28, 28]}
columns: {label: {type: categorical, values: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}}
"""


class Critic(Objective):
    """The discriminator of the image GAN on patients' images, without the generator."""

    def __init__(self) -> None:
        super().__init__()
        self.discriminator = ImageDiscriminator((1, 28, 28), (10,), 16)

    def prepare(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return pixels in [0, 1] and codes."""
        return {**batch, "x": batch["images"].float() / 255}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return (patients,) losses."""
        odds = self.discriminator(batch["x"].flatten(0, 1), batch["codes"].flatten(0, 1))
        return torch.nn.functional.softplus(-odds).reshape(batch["x"].shape[:2]).sum(1)


def objectives() -> dict[str, tuple[Objective, dict[str, Any]]]:
    """Return each network with the shape of its patients."""
    codec = Codec(Schema.parse(SCANS))
    reading = Reading.of(codec, Conditions.of(codec, ("label",)))
    scans = {"records": 1, "columns": [10], "images": (1, 28, 28), "pixels": "uint8"}
    schema = load_support2().schema
    table = public_codec(schema)
    layout = Layout.of(table, even_one_way(schema, table, BINS, 9000, 1.0), ("hospdead", "sex", "race"), MOST_STATES)
    codes = [code.size for code in table.columns.values()]
    rows = {"records": 1, "columns": codes, "images": None, "pixels": None}
    return {
        "diffusion (16, 32), folded": (
            DenoisingLoss(Denoiser((1, 28, 28), (10,), (16, 32), coefficients=196), reading, levels=1),
            scans,
        ),
        "diffusion (32, 64), folded": (
            DenoisingLoss(Denoiser((1, 28, 28), (10,), (32, 64), coefficients=196), reading, levels=1),
            scans,
        ),
        "gan, discriminator": (Critic(), scans),
        "classifier, CNN": (ImageLikelihood(convolutions((1, 28, 28), 10), reading, 10), scans),
        "tvae, MLP": (RowAutoencoder(layout, 8, 64), rows),
        "tabular-diffusion, MLP": (Denoising(layout, 128, 2, 2), rows),
    }


def clock(what: Callable[[], object]) -> float:
    """Return processor seconds."""
    start = time.process_time()
    what()
    return time.process_time() - start


def ratios(objective: Objective, shape: dict[str, Any], backend: str, patients: int, repeats: int) -> np.ndarray:
    """Return (repeats, 2) seconds of private and plain steps, taken in turn."""
    generator = torch.Generator().manual_seed(0)
    example = objective.prepare(example_batch(patients, **shape))
    batch = example | objective.randomness(patients, generator)
    parameters = trainable(objective)
    ends = np.cumsum([p.numel() for p in parameters.values()])
    places = {name: slice(end - p.numel(), end) for (name, p), end in zip(parameters.items(), ends, strict=True)}
    total, find = torch.zeros(int(ends[-1]), dtype=torch.float64), backend_of(backend, objective)

    def plain() -> None:
        torch.autograd.grad(objective(batch).mean(), list(parameters.values()), allow_unused=True)

    def private() -> None:
        add_clipped(total, find(objective, batch), places, 1.0)

    plain(), private()
    return np.array([(clock(private), clock(plain)) for _ in range(repeats)])


def markdown(table: pd.DataFrame) -> list[str]:
    """Return the lines of a table."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return [f"| {' | '.join(line)} |" for line in lines]


def main() -> None:
    """Time all networks and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--microbatch", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for name, (objective, shape) in objectives().items():
        for patients in asked.microbatch:
            for backend in BACKENDS:
                seconds = ratios(objective, shape, backend, patients, asked.repeats)
                low, middle, high = np.quantile(seconds[:, 0] / seconds[:, 1], [0.25, 0.5, 0.75])
                row = {
                    "network": name,
                    "parameters": sum(p.numel() for p in trainable(objective).values()),
                    "microbatch": patients,
                    "backend": backend,
                    "private, ms": round(1e3 * float(np.median(seconds[:, 0])), 1),
                    "plain, ms": round(1e3 * float(np.median(seconds[:, 1])), 1),
                    "ratio": f"{middle:.2f} ({low:.2f} to {high:.2f})",
                }
                found.append(row)
                print(row, flush=True)
    table = pd.DataFrame(found)
    table.to_csv(asked.results / "private_step.csv", index=False)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    text = [
        "# The cost of a private step",
        "",
        f"By `benchmarks/private_step.py`, commit {commit.strip()}: {asked.repeats} pairs each, one thread, processor",
        "time. *Ratio*: a private step over a plain one, median (quartiles). `auto` is what a user gets.",
        "",
        *markdown(table),
    ]
    (asked.results / "private_step.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
