"""Small networks for the tests of private training, and patients to train them on."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from dpsynth.cohort import Cohort
from dpsynth.files.image_set import ImageSet
from dpsynth.privacy.training.dpsgd import Objective
from dpsynth.schema import Schema

SCANS = """
name: scans
confirmed: true
patient: id
max_rows_per_patient: {cap}
images: {{size: [8, 8], max_per_patient: {cap}}}
columns:
  id: {{type: identifier}}
  label: {{type: categorical, values: [a, b, c]}}
"""


class Squares(Objective):
    """Any network of images with a weighted square loss; ``levels`` copies of each image stand for noise levels."""

    def __init__(self, network: nn.Module, *, levels: int = 1) -> None:
        super().__init__()
        self.network = network
        self.levels = levels

    def prepare(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return floats of pixels."""
        return {"x": batch["images"].float() / 255, "weights": batch["weights"]}

    def randomness(self, patients: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return one level a patient and copy."""
        return {"level": torch.rand((patients, self.levels), generator=generator)}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the mean over records and levels."""
        x, level = batch["x"], batch["level"]
        patients, records = x.shape[:2]
        shown = x[:, :, None] * level[:, None, :, None, None, None]
        found = self.network(shown.flatten(0, 2)).flatten(1)
        each = (found - 1).square().mean(1).reshape(patients, records, -1).mean(2)
        return (each * batch["weights"]).sum(1)


def convolutions() -> nn.Module:
    """Return convolutions with group norms."""
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 3, stride=2))


def linear() -> nn.Module:
    """Return linear layers with a layer norm."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.LayerNorm(16), nn.SiLU(inplace=True), nn.Linear(16, 3))


class ChannelsLast(nn.Module):
    """A convolution after activations that lie channels-last, as attention blocks leave them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the second convolution of a transposed and restored first one."""
        tokens = self.first(x).flatten(2).transpose(1, 2).contiguous()  # (batch, places, channels)
        return self.second(tokens.transpose(1, 2).reshape(len(x), 8, *x.shape[2:]))


def image_batch(patients: int, records: int = 1, *, seed: int = 0) -> dict[str, Tensor]:
    """Return made-up patients with so many 8 x 8 images each."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (patients, records, 1, 8, 8), generator=rng, dtype=torch.uint8)
    return {"images": images, "weights": torch.full((patients, records), 1 / records)}


def scans(patients: int, *, cap: int = 1, seed: int = 0, extra: int = 0, public: bool = True, **more: Any) -> Cohort:
    """Return a cohort with up to ``cap`` images a patient; ``extra`` more come last, with ``cap`` white ones."""
    rng = np.random.default_rng(seed)
    owners = [p for p in range(patients) for _ in range(int(rng.integers(1, cap + 1)))]
    pixels = rng.integers(0, 256, (len(owners), 1, 8, 8)).astype(np.uint8)
    labels = rng.choice(list("abc"), len(owners), p=[0.6, 0.3, 0.1])
    owners += [patients + p for p in range(extra) for _ in range(cap)]
    white = np.full((extra * cap, 1, 8, 8), 255, np.uint8)
    frame = pd.DataFrame({"id": [f"p{o}" for o in owners], "label": [*labels, *["c"] * extra * cap]})
    images = ImageSet(np.concatenate([pixels, white]), np.arange(len(owners), dtype=np.int64))
    schema = Schema.parse(SCANS.format(cap=cap))
    table = Cohort.from_pandas(frame, schema, public=public)
    return Cohort(schema, table.table, public=public, images=images, **more)
