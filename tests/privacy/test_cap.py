"""Rows over the cap: dropped uniformly, at random, fast, and one patient at a time."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from dpsynth.privacy.answers import kept_rows
from dpsynth.privacy.mechanisms import SystemNoise

from .helpers import FALSE_ALARM


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 4))
def test_every_patient_keeps_the_smaller_of_the_cap_and_all_rows(patients: list[int], cap: int) -> None:
    """No patient keeps more than cap rows, none loses a row without need, and rows stay in order."""
    array = np.array(patients, dtype=np.int64)
    kept = kept_rows(array, cap, SystemNoise().generator())
    assert (np.diff(kept) > 0).all()
    for patient in set(patients):
        assert (array[kept] == patient).sum() == min(cap, patients.count(patient))


def test_the_rows_that_stay_are_uniform() -> None:
    """Of five rows, each is among the two kept in 2/5 of 5,000 patients (false alarm 1e-6)."""
    n = 5000
    kept = kept_rows(np.repeat(np.arange(n), 5), 2, SystemNoise().generator())
    seen = np.bincount(kept % 5, minlength=5)
    low, high = binom.ppf([FALSE_ALARM / 10, 1 - FALSE_ALARM / 10], n, 0.4)
    assert ((low <= seen) & (seen <= high)).all()


def test_which_rows_stay_is_not_repeated() -> None:
    """Two draws for the same cohort keep different rows: the choice is the operating system's."""
    patients = np.repeat(np.arange(200), 4)
    one, two = (kept_rows(patients, 1, SystemNoise().generator()) for _ in range(2))
    assert (one != two).any()


def test_another_patient_does_not_change_which_rows_stay() -> None:
    """With the same draws for the others, a patient more leaves their kept rows as they were."""
    patients = np.repeat(np.arange(50), 3)
    one = kept_rows(patients, 1, np.random.default_rng(4))
    two = kept_rows(np.concatenate([patients, [50, 50]]), 1, np.random.default_rng(4))
    assert set(one) <= set(two)
    assert len(two) == len(one) + 1


@pytest.mark.parametrize("cap", [1, 3])
def test_a_million_rows_take_seconds(cap: int) -> None:
    """A million rows are capped in well under ten seconds."""
    patients = np.random.default_rng(0).integers(0, 400_000, 1_000_000)
    start = time.perf_counter()
    kept_rows(patients, cap, SystemNoise().generator())
    assert time.perf_counter() - start < 10
