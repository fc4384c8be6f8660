"""Every planted bug of private training is caught by a named test, which passes without it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

pytest.importorskip("torch")
import privacy.test_checkpoint as checkpoints
import privacy.test_dpsgd as training
import privacy.test_exact_floats as exact_floats
import privacy.test_pate as teachers
import privacy.test_per_patient as per_patient
import privacy.test_processes as parts
import privacy.test_sums as sums
from privacy.networks import Squares
from torch import nn

from dpsynth.privacy.training.per_patient import vmapped
from planted_bugs import training_plants as plants


def batch_norm_is_refused() -> None:
    """Offer a network with batch statistics: it is refused with what to use instead."""
    network = Squares(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)))
    per_patient.test_an_objective_that_is_not_right_is_refused(network, vmapped, "GroupNorm")


def a_copy_spends_nothing() -> None:
    """Stop a run, copy it, and go on with both: the second copy is refused."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        checkpoints.test_a_copied_folder_cannot_spend_again(checkpoints.Watch(patch), Path(folder))


def what_is_left_out_counts() -> None:
    """Stop a run and take it up with less: all that was done counts."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        checkpoints.test_a_run_that_does_less_when_taken_up_counts_in_full(checkpoints.Watch(patch), Path(folder))


def a_later_question_is_asked_once() -> None:
    """Stop a run behind the question that follows its training, and take it up twice."""
    with TemporaryDirectory() as folder:
        checkpoints.test_a_question_after_a_training_is_asked_once(Path(folder), 40, lost=False)


def floats_are_exact() -> None:
    """Let a program allow TF32: steps are computed without it."""
    with exact_floats.restored():
        exact_floats.test_floats_are_exact_in_every_step_and_not_between()


CASES: dict[Callable[[pytest.MonkeyPatch], None], Callable[[], None]] = {
    plants.gradients_unclipped: partial(training.test_a_neighbour_moves_the_sum_by_at_most_the_clipping_norm, 1),
    plants.clipping_norm_doubled: partial(training.test_a_neighbour_moves_the_sum_by_at_most_the_clipping_norm, 1),
    plants.images_clipped_one_by_one: partial(training.test_a_neighbour_moves_the_sum_by_at_most_the_clipping_norm, 3),
    plants.noise_skipped_in_the_last_batch: training.test_one_draw_of_noise_a_step_at_the_plans_scale,
    plants.noise_averaged_over_draws: training.test_one_draw_of_noise_a_step_at_the_plans_scale,
    plants.shuffled_instead_of_poisson: training.test_patients_are_drawn_apart_at_the_accounted_rate,
    plants.divided_by_the_drawn_count: training.test_the_gradient_is_divided_by_the_expected_count,
    plants.batch_norm_allowed: batch_norm_is_refused,
    plants.norms_in_32_bits: partial(per_patient.test_rows_that_cancel_are_clipped_too, 1e4),
    plants.floats_as_the_program_set_them: floats_are_exact,
    plants.image_cap_ignored: sums.test_images_over_the_cap_are_dropped,
    plants.votes_counted_as_one: teachers.test_votes_are_paid_before_they_are_asked,
    plants.patient_in_two_parts: partial(parts.test_each_patient_is_in_one_part, 3),
    plants.errors_shared_with_their_text: parts.test_the_others_learn_the_kind_of_an_error_alone,
    plants.blocks_claimed_twice: a_copy_spends_nothing,
    plants.commits_what_was_repeated: what_is_left_out_counts,
    plants.questions_skipped_with_the_training: a_later_question_is_asked_once,
}


@pytest.mark.parametrize(("plant", "test"), CASES.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_a_planted_bug_is_caught(plant: Any, test: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named test passes on our code, and fails when the bug is in it."""
    test()
    plant(monkeypatch)
    with pytest.raises((Exception, pytest.fail.Exception)):
        test()


def test_every_plant_is_used() -> None:
    """No plant of training is left without a test that catches it."""
    made = {name for name, one in vars(plants).items() if getattr(one, "__module__", "") == plants.__name__}
    assert made == {plant.__name__ for plant in CASES}
