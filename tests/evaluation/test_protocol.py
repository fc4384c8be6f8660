import numpy as np
import pytest

from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.evaluation.protocol import split
from dpsynth.schema import Schema

from .helpers import frame, ward

VISITS = """
name: visits
confirmed: true
patient: id
max_rows_per_patient: 5
columns:
  id: {type: identifier}
  x: {type: numeric, min: 0, max: 1, decimals: 3}
"""


def visits(patients: int = 400, rows: int = 3, seed: int = 0) -> Cohort:
    """Return a cohort with several rows a patient."""
    rng = np.random.default_rng(seed)
    data = frame(patients * rows)[[]].assign(
        id=np.repeat([f"p{i}" for i in range(patients)], rows), x=rng.random(patients * rows)
    )
    return Cohort.from_pandas(data, Schema.parse(VISITS))


def names(cohort: Cohort) -> set[str]:
    """Return the patients of a cohort."""
    return set(cohort.to_pandas()["id"])


def test_no_patient_is_on_both_sides_and_none_is_lost() -> None:
    """All rows of a patient go one way."""
    whole = visits()
    train, test = split(whole, 0.3)
    assert names(train) | names(test) == names(whole)
    assert not names(train) & names(test)
    assert len(train) + len(test) == len(whole)


def test_the_share_of_test_patients_is_as_asked() -> None:
    """400 patients at 30 %: within 5 standard errors of 120."""
    _, test = split(visits(), 0.3)
    assert abs(len(names(test)) - 120) < 5 * np.sqrt(400 * 0.3 * 0.7)


def test_a_patients_side_does_not_depend_on_order_or_on_others() -> None:
    """Shuffling rows, or leaving patients out, moves nobody."""
    whole = visits()
    rows = np.random.default_rng(1).permutation(len(whole))
    expected = names(split(whole, 0.3)[1])
    assert names(split(whole.take(rows), 0.3)[1]) == expected
    some = whole.take(np.arange(600))
    assert names(split(some, 0.3)[1]) == expected & names(some)


def test_another_key_is_another_division() -> None:
    """The key decides; the same key decides the same."""
    whole = visits()
    assert names(split(whole, 0.3, key="a")[1]) == names(split(whole, 0.3, key="a")[1])
    assert names(split(whole, 0.3, key="a")[1]) != names(split(whole, 0.3, key="b")[1])


def test_without_a_patient_column_equal_rows_fall_on_one_side() -> None:
    """So no row of the test patients is a copy of a training row."""
    whole = ward(200)
    twice = whole.take(np.concatenate([np.arange(200), np.arange(200)]))
    train, test = split(twice, 0.5)
    left = set(map(tuple, train.to_pandas().astype(str).to_numpy()))
    right = set(map(tuple, test.to_pandas().astype(str).to_numpy()))
    assert not left & right


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, 3.0])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    """The test share lies between 0 and 1."""
    with pytest.raises(InputError, match="between 0 and 1"):
        split(ward(30), share)


def test_one_patient_cannot_be_divided() -> None:
    """The message says what to do in place."""
    with pytest.raises(InputError, match="separate files"):
        split(visits(1), 0.5)
