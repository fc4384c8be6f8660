"""Rows over the cap: dropped uniformly, by a keyed hash, fast, and one patient at a time."""

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.privacy.mechanisms import SystemNoise
from dpsynth.sources.cap import kept_positions, keyed_numbers
from dpsynth.sources.memory import Memory

from .helpers import FALSE_ALARM, ward_frame, ward_schema


def kept(patients: Any, cap: int, secret: bytes) -> Any:
    """Return the kept positions of rows that are all different."""
    array = np.asarray(patients, dtype=np.int64)

    def numbers(rows: Any) -> Any:
        names = [f"p{patient}" for patient in array[rows]]
        return keyed_numbers(secret, "row", array[rows], names, [int(row).to_bytes(8, "big") for row in rows])

    return kept_positions(array, cap, numbers)


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 4))
def test_every_patient_keeps_the_smaller_of_the_cap_and_all_rows(patients: list[int], cap: int) -> None:
    """No patient keeps more than cap rows, none loses a row without need, and rows stay in order."""
    places = kept(patients, cap, bytes(32))
    assert (np.diff(places) > 0).all()
    for patient in set(patients):
        assert (np.asarray(patients)[places] == patient).sum() == min(cap, patients.count(patient))


def test_the_rows_that_stay_are_uniform() -> None:
    """Of five rows, each is among the two kept in 2/5 of 5,000 patients (false alarm 1e-6)."""
    n = 5000
    seen = np.bincount(kept(np.repeat(np.arange(n), 5), 2, SystemNoise().secret()) % 5, minlength=5)
    low, high = binom.ppf([FALSE_ALARM / 10, 1 - FALSE_ALARM / 10], n, 0.4)
    assert ((low <= seen) & (seen <= high)).all()


def test_which_rows_stay_is_secret() -> None:
    """Two runs keep different rows, and a run that reads again keeps the same: the secret is the operating system's."""
    patients = np.repeat(np.arange(200), 4)
    first, second = SystemNoise().secret(), SystemNoise().secret()
    assert (kept(patients, 1, first) != kept(patients, 1, second)).any()
    assert (kept(patients, 1, first) == kept(patients, 1, first)).all()


def test_another_patient_does_not_change_which_rows_stay() -> None:
    """A patient more leaves the others' kept rows as they were."""
    patients = np.repeat(np.arange(50), 3)
    few, more = kept(patients, 1, bytes(32)), kept(np.concatenate([patients, [50, 50]]), 1, bytes(32))
    assert set(few) <= set(more)
    assert len(more) == len(few) + 1


def coded(frame: pd.DataFrame, cap: int) -> list[tuple[int, ...]]:
    """Return the codes of the kept rows, sorted."""
    cohort = Cohort.from_pandas(frame, ward_schema(cap=cap), public=True)
    memory = Memory(cohort, cap, b"s" * 32)
    memory.use(Codec(cohort.schema))
    (part,) = memory
    return sorted(zip(*(array.tolist() for array in part.codes.values()), strict=True))


def test_the_order_of_rows_does_not_change_which_stay() -> None:
    """Shuffled rows, equal ones among them, are capped to the same rows."""
    frame = ward_frame(400, per_patient=5)
    frame = pd.concat([frame, frame.iloc[:40]])  # patients with equal rows
    assert coded(frame, 2) == coded(frame.sample(frac=1, random_state=1), 2)


def test_a_type_of_a_column_does_not_change_which_stay() -> None:
    """A patient whose age is no whole number turns a column of integers into floats, and moves no other's rows."""
    frame = ward_frame(400, per_patient=5).assign(age=lambda f: f.age.fillna(50).astype(int))
    extra = pd.DataFrame({"id": ["new"], "age": [41.5], "sex": ["male"], "unit": ["a"]})
    few, more = coded(frame, 2), coded(pd.concat([frame, extra]), 2)
    assert len(more) == len(few) + 1
    assert not set(map(repr, few)) - set(map(repr, more))


def test_equal_rows_are_capped_too() -> None:
    """A patient with five equal rows keeps two of them."""
    frame = ward_frame(1).loc[[0] * 5]
    assert len(coded(frame, 2)) == 2


@pytest.mark.parametrize("cap", [1, 3])
def test_a_million_rows_take_seconds(cap: int) -> None:
    """A million rows are capped in well under ten seconds of processor time."""
    patients = np.random.default_rng(0).integers(0, 400_000, 1_000_000)
    start = time.process_time()
    kept(patients, cap, bytes(32))
    assert time.process_time() - start < 10
