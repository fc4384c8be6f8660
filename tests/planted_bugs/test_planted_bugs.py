"""Every planted bug is caught by a named test, which passes without it: the tests can fail, each for its reason."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evaluation.test_protocol as protocol
import privacy.test_cap as cap
import privacy.test_discovery as discovery
import privacy.test_ledger as ledgers
import privacy.test_mechanisms as mechanisms
import privacy.test_rounded_normal as rounded_normal
import privacy.test_sensitivity as sensitivity
import privacy.test_session as sessions
import privacy.test_sums as sums
import privacy.test_triple_sensitivity as triples
import pytest
import test_cohort as cohorts
import test_identifying as identifying
import test_neighbour_types as neighbours

from dpsynth.privacy.mechanisms import SystemNoise
from dpsynth.privacy.spending.ledger import Ledger
from planted_bugs import checkers, plants


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


def with_ledger(folder: Path) -> tuple[Ledger]:
    """Return a ledger that is not there yet."""
    return (Ledger(folder / "cohort.csv.ledger.jsonl"),)


CASES = [
    Case(
        plants.sigma_halved,
        mechanisms.test_the_noise_has_the_claimed_sigma_and_not_two_thirds_or_three_halves,
        lambda _: (SystemNoise(), 40.0),
    ),
    Case(plants.noise_predictable, mechanisms.test_noise_differs_between_calls_and_within_batches),
    Case(plants.noise_reused, mechanisms.test_noise_differs_between_calls_and_within_batches),
    Case(plants.noise_in_a_try, checkers.refuses_without_noise),
    Case(plants.noise_not_rounded_to_integers, mechanisms.test_shapes_are_kept_also_of_nothing),
    Case(
        plants.noise_of_63_bits,
        rounded_normal.test_no_whole_number_is_left_out,
        lambda _: (pytest.MonkeyPatch(), 2.0**26),
    ),
    Case(plants.rows_kept_by_a_seed, cap.test_which_rows_stay_is_secret),
    Case(plants.cap_ignored_in_measurement, sensitivity.test_every_question_uses_the_same_cap, lambda _: (3,)),
    Case(
        plants.cap_ignored_in_selection,
        sensitivity.test_the_selection_is_as_private_as_it_was_priced,
        lambda _: (3, "gaussian"),
    ),
    Case(
        plants.selection_as_if_monotone,
        sensitivity.test_the_selection_is_as_private_as_it_was_priced,
        lambda _: (1, "zcdp"),
    ),
    Case(
        plants.rows_over_the_cap_kept, sensitivity.test_a_session_drops_rows_over_the_cap_of_its_schema, lambda _: (3,)
    ),
    Case(plants.parts_of_equal_size, sums.test_the_part_of_an_image_does_not_depend_on_its_neighbours),
    Case(
        plants.images_in_two_parts,
        sums.test_one_patient_moves_sums_and_products_by_at_most_the_unit,
        lambda _: ("linear, long", 1, 4),
    ),
    Case(plants.interaction_norm_squared, sensitivity.test_every_question_uses_the_same_cap, lambda _: (1,)),
    Case(
        plants.triple_priced_as_a_pair, triples.test_a_triple_is_asked_with_the_noise_of_its_sensitivity, lambda _: (1,)
    ),
    Case(
        plants.interaction_of_one_row_each,
        triples.test_a_triple_is_asked_with_the_noise_of_its_sensitivity,
        lambda _: (3,),
    ),
    Case(plants.joint_errors_as_one, sensitivity.test_every_question_uses_the_same_cap, lambda _: (1,)),
    Case(
        plants.spends_without_refusing,
        sessions.test_a_question_past_the_budget_is_refused_and_reads_nothing,
        lambda _: ("count", "gaussian"),
    ),
    Case(
        plants.quantiles_unpaid,
        sessions.test_a_question_past_the_budget_is_refused_and_reads_nothing,
        lambda _: ("quantiles", "gaussian"),
    ),
    Case(plants.discovery_delta_not_charged, discovery.test_delta_is_shared_and_cannot_be_overspent),
    Case(
        plants.ledger_written_afterwards,
        sessions.test_a_private_file_has_its_ledger_beside_it,
        lambda folder: (folder,),
    ),
    Case(plants.tuning_not_counted, ledgers.test_the_first_run_sets_the_limit, with_ledger),
    Case(
        plants.killed_runs_are_free,
        ledgers.test_an_open_reservation_counts_in_full_and_a_commit_frees_the_rest,
        with_ledger,
    ),
    Case(plants.another_ledger_taken, checkers.another_ledger_is_refused, lambda folder: (folder,)),
    Case(plants.ledger_named_once_is_forgotten, checkers.a_named_ledger_is_found, lambda folder: (folder,)),
    Case(plants.patient_columns_added_up, ledgers.test_runs_of_another_patient_column_are_refused, with_ledger),
    Case(
        plants.rows_hashed_by_a_data_frame,
        protocol.test_one_more_row_moves_no_other,
        lambda _: (*protocol.ONE_MORE["the first missing number"], 300),
    ),
    Case(plants.sides_by_content, protocol.test_equal_rows_have_independent_coins),
    Case(plants.coins_that_everybody_knows, protocol.test_a_division_is_secret_unless_it_is_kept_or_named),
    Case(plants.coins_by_place, protocol.test_one_more_equal_row_moves_no_other, lambda _: (0,)),
    Case(
        plants.frames_read_by_column,
        neighbours.test_one_value_more_moves_no_other,
        lambda folder: ("frame of objects", "moments with a zone", folder),
    ),
    Case(
        plants.sheets_read_by_column,
        neighbours.test_one_value_more_moves_no_other,
        lambda folder: ("old Excel", "integers", folder),
    ),
    Case(plants.moments_parsed_as_a_column, cohorts.test_clocks_do_not_depend_on_the_first_row),
    Case(
        plants.decimals_cast_as_a_column,
        neighbours.test_one_value_more_moves_no_other,
        lambda folder: ("Parquet", "decimals", folder),
    ),
    Case(
        plants.singles_with_their_tail,
        neighbours.test_one_value_more_moves_no_other,
        lambda folder: ("npz", "float32", folder),
    ),
    Case(plants.identifiers_with_blanks, cohorts.test_identifiers_are_trimmed, lambda folder: (folder, "csv")),
    Case(
        plants.discovered_identifiers_published,
        identifying.test_discovered_identifiers_are_refused,
        lambda _: (identifying.KEYS[:3],),
    ),
    Case(plants.keys_without_noise, discovery.test_the_noisy_count_decides_and_not_the_exact_one),
    Case(
        plants.threshold_for_another_delta,
        discovery.test_a_patient_alone_with_some_keys_is_seen_with_at_most_delta,
        lambda _: (1, 40.0, 1e-6),
    ),
    Case(plants.errors_carry_values, checkers.errors_say_nothing),
    Case(plants.statement_leaves_events_out, checkers.statement_adds_up),
    Case(plants.statement_understates_epsilon, checkers.statement_adds_up),
    Case(plants.public_page_takes_internal_numbers, checkers.public_page_fails_closed),
    Case(plants.formulas_unguarded, checkers.csv_holds_no_formula, lambda folder: (folder,)),
]


def caught(case: Case, folder: Path) -> bool:
    """Whether the test fails; any other end than its own failure is one too."""
    try:
        case.run(folder)
    except (Exception, pytest.fail.Exception):
        return True
    return False


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.plant.__name__)
def test_a_planted_bug_is_caught(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named test passes on our code, and fails when the bug is in it."""
    case.run(tmp_path / "sound")
    case.plant(monkeypatch)
    assert caught(case, tmp_path / "planted"), f"{case.test.__name__} does not see it"


def test_every_plant_is_used() -> None:
    """No plant is left without a test that catches it."""
    from planted_bugs import test_planted_leaks

    made = {name for name, one in vars(plants).items() if callable(one) and getattr(one, "__doc__", None)}
    ours = {name for name in made if getattr(plants, name).__module__ == plants.__name__ and not name.startswith("_")}
    assert ours == {case.plant.__name__ for case in CASES} | {plant.__name__ for plant in test_planted_leaks.LEAKS}
    assert len(ours) >= 15
