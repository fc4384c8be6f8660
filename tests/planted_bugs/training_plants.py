"""Broken variants of private training, as seen in published libraries. Needs torch."""

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dpsynth.privacy import network_questions
from dpsynth.privacy.resuming import Kept
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.privacy_filter import Account
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.training import dpsgd, patients
from dpsynth.privacy.training.dpsgd import Gradients
from dpsynth.privacy.training.per_patient import Products
from dpsynth.sources.memory import Memory

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
        unit = self._plan.clipping_norm / (dpsgd.UNIT * 2**self._bits)
        return total.double() * unit if steps["done"] == self._plan.steps else noised(self, total)

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

    def counting(self: Any, patients: Any, chosen: Any) -> Any:
        self._normaliser = max(1, len(chosen))
        return clipped(self, patients, chosen)

    patch.setattr(Gradients, "_clipped", counting)


def batch_norm_allowed(patch: Patch) -> None:
    """Take networks whose layers mix patients."""
    patch.setattr(dpsgd, "_check_layers", lambda _objective: None)


def image_cap_ignored(patch: Patch) -> None:
    """Keep all images of a patient, whatever the schema allows."""
    patch.setattr(Memory, "_kept_images", lambda self: self._cohort.images)


def norms_in_32_bits(patch: Patch) -> None:
    """Find norms from inner products in 32 bits: rows that cancel look short and are not clipped (a fault of ours)."""

    def squares(self: Any) -> Any:
        there, back = self._there, self._back
        inner = (there @ there.transpose(1, 2)).double() * (back @ back.transpose(1, 2)).double()
        return inner.sum((1, 2)).clamp(min=0.0)

    patch.setattr(Products, "squares", squares)


def floats_as_the_program_set_them(patch: Patch) -> None:
    """Take gradients in whatever precision is set: TF32 moves a clipped sum by ten times the margin (ours)."""
    patch.setattr(dpsgd, "exact_floats", nullcontext)


def votes_counted_as_one(patch: Patch) -> None:
    """Price the votes on m rows as if a patient moved one of them."""
    fake = SimpleNamespace(sqrt=lambda _questions: 1.0, isfinite=math.isfinite, prod=math.prod)
    patch.setattr(network_questions, "math", fake)


def patient_in_two_parts(patch: Patch) -> None:
    """Give every process all patients: each is clipped and added once a process."""
    patch.setattr(patients.Patients, "part", lambda self, _number, _count: self)


def errors_shared_with_their_text(patch: Patch) -> None:
    """Send the text of any error to the other processes, which print it (a fault of ours)."""
    patch.setattr("dpsynth.privacy.processes.told", str)


def blocks_claimed_twice(patch: Patch) -> None:
    """Do not ask the ledger whether a block was begun already: copies of a run spend again."""
    patch.setattr(Account, "claim", lambda _self, _before, _after: None)


def questions_skipped_with_the_training(patch: Patch) -> None:
    """Take all that was claimed for steps of the training: a question behind it is asked anew (a fault of ours)."""

    def resume(self: Any) -> int:
        step = self._load() if (self._folder / "training.json").is_file() else 0
        return min(self._steps, step + self.every * self._journal.skip_to(self._claimed))

    patch.setattr(Kept, "resume", resume)


def commits_what_was_repeated(patch: Patch) -> None:
    """Close a run that was taken up with what this call asked, not all that was asked (a fault of ours)."""
    patch.setattr(Session, "_left_out", False)
