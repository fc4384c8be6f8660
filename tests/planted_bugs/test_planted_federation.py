"""Every planted bug of the federation is caught by a named test, which passes without it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import federated.test_hospital as hospitals
import federated.test_masks as masks
import federated.test_shares as shares
import federated.test_view as views
import pytest

from planted_bugs import federated_plants as plants


@dataclass(frozen=True)
class Case:
    """A plant, and the test that catches it, bound to the arguments that it is run with."""

    plant: Callable[[pytest.MonkeyPatch], None]
    test: Callable[..., None]
    arguments: Callable[[Path], tuple[Any, ...]] = lambda _folder: ()

    def run(self, folder: Path) -> None:
        """Run the test in a fresh folder."""
        folder.mkdir()
        self.test(*self.arguments(folder))


def within(folder: Path) -> tuple[Path]:
    """Return the folder alone."""
    return (folder,)


def patched(test: Callable[..., None]) -> Callable[[Path], None]:
    """Return a test with a monkeypatch of its own, which is undone at its end."""

    def run(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            test(folder, patch)

    return run


CASES = [
    Case(
        plants.share_forgotten,
        shares.test_the_noise_of_those_who_do_not_collude_is_what_was_paid_for,
        lambda _: (3, 1),
    ),
    Case(
        plants.share_of_one_in_n_squared,
        shares.test_the_noise_of_those_who_do_not_collude_is_what_was_paid_for,
        lambda _: (5, 2),
    ),
    Case(plants.share_as_if_nobody_colluded, views.test_the_leads_view_is_as_private_as_claimed, lambda _: (1,)),
    Case(plants.masks_do_not_cancel, masks.test_masks_cancel_in_the_sum_of_all),
    Case(plants.masks_repeated, masks.test_no_stream_is_used_twice),
    Case(plants.masks_of_the_study_alone, masks.test_no_stream_is_used_twice),
    Case(plants.keys_not_pinned, hospitals.test_a_key_that_was_changed_on_the_way_is_found, within),
    Case(
        plants.answer_in_the_clear,
        hospitals.test_what_a_hospital_sends_is_uniform_whatever_its_patients_are,
        within,
    ),
    Case(
        plants.debit_after_the_answer,
        patched(hospitals.test_the_ledger_has_the_claim_before_the_answer_is_there),
        within,
    ),
    Case(plants.sums_wrap, shares.test_nothing_wraps_at_the_largest_answers),
    Case(
        plants.clip_forgotten,
        patched(shares.test_answers_beyond_the_range_are_clipped_and_do_not_wrap),
        within,
    ),
    Case(plants.price_of_the_lead, shares.test_the_price_at_a_hospital_is_that_of_the_noise_that_is_left, within),
    Case(
        plants.asked_twice_is_free,
        hospitals.test_a_hostile_lead_is_refused_and_nothing_is_spent,
        lambda folder: (hospitals.asks_twice, "asking anew", folder),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.plant.__name__)
def test_the_planted_bug_is_caught(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The test passes on our code and fails on the plant."""
    case.run(tmp_path / "honest")
    with monkeypatch.context() as patch:
        case.plant(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            case.run(tmp_path / "planted")


def test_every_plant_is_used() -> None:
    """No plant of the federation is left without a test that catches it."""
    made = {name for name, one in vars(plants).items() if getattr(one, "__module__", "") == plants.__name__}
    assert made - {"Anything"} == {case.plant.__name__ for case in CASES}
