"""Broken variants of private training, as seen in published libraries. Needs torch."""

from typing import Any

import numpy as np
import pytest

from dpsynth.privacy import dpsgd, patients
from dpsynth.privacy.dpsgd import Gradients
from dpsynth.privacy.training import TrainingPlan

Patch = pytest.MonkeyPatch


def gradients_unclipped(patch: Patch) -> None:
    """Sum gradients as they are."""
    clip = dpsgd.add_clipped
    patch.setattr(dpsgd, "add_clipped", lambda total, parts, places, _norm: clip(total, parts, places, 1e9))


def clipping_norm_doubled(patch: Patch) -> None:
    """Clip at twice the norm that is accounted."""
    clip = dpsgd.add_clipped
    patch.setattr(dpsgd, "add_clipped", lambda total, parts, places, norm: clip(total, parts, places, 2 * norm))


def images_clipped_one_by_one(patch: Patch) -> None:
    """Clip each image instead of each patient: a patient with k images counts k times."""
    begin = patients.Patients.__init__
    patch.setattr(
        patients.Patients,
        "__init__",
        lambda self, who, rows, codes, images: begin(self, np.arange(len(who)), rows, codes, images),
    )


def noise_skipped_in_the_last_batch(patch: Patch) -> None:
    """Leave the last step without noise."""
    noised, steps = Gradients._noised, {"done": 0}

    def skipping(self: Any, total: Any) -> Any:
        steps["done"] += 1
        return total if steps["done"] == self._plan.steps else noised(self, total)

    patch.setattr(Gradients, "_noised", skipping)


def noise_averaged_over_draws(patch: Patch) -> None:
    """Draw noise several times and take the mean, which is smaller."""
    noised = Gradients._noised
    patch.setattr(Gradients, "_noised", lambda self, total: sum(noised(self, total) for _ in range(4)) / 4)


def shuffled_instead_of_poisson(patch: Patch) -> None:
    """Take batches of a fixed size from a shuffled list, and account them as Poisson samples."""

    def shuffled(self: Any, count: int, _uniform: Any) -> Any:
        rng, size = np.random.default_rng(), round(count * self.sampling_rate)
        for _ in range(self.steps):
            yield rng.permutation(count)[:size]

    patch.setattr(TrainingPlan, "draws", shuffled)


def divided_by_the_drawn_count(patch: Patch) -> None:
    """Divide by how many patients were drawn: the exact number scales the released gradient."""
    clipped = Gradients._clipped

    def counting(self: Any, chosen: Any) -> Any:
        self._normaliser = max(1, len(chosen))
        return clipped(self, chosen)

    patch.setattr(Gradients, "_clipped", counting)


def batch_norm_allowed(patch: Patch) -> None:
    """Take networks whose layers mix patients."""
    patch.setattr(dpsgd, "_check_layers", lambda _objective: None)
