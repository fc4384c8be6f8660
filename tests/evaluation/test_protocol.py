from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.evaluation.protocol import _identities, split
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


ONE_MORE: dict[str, tuple[dict[str, Any], list[Any], Any]] = {
    "the first missing number": ({"type": "numeric", "min": 0, "max": 99, "missing": True}, list(range(99)), None),
    "the first number with digits": ({"type": "numeric", "min": 0, "max": 99}, list(range(99)), 40.5),
    "a huge number": ({"type": "numeric", "min": 0, "max": 99}, list(range(99)), 1e300),
    "the first missing boolean": ({"type": "boolean", "missing": True}, [True, False], None),
    "the first missing code": ({"type": "categorical", "values": [1, 2, 3], "missing": True}, [1, 2, 3], None),
    "the first missing word": ({"type": "categorical", "values": ["a", "b"], "missing": True}, ["a", "b"], None),
    "a value that nobody else has": (
        {"type": "categorical", "discover": True, "max_values": 4},
        ["b", "c"],
        "a",
    ),
    "the first missing date": (
        {"type": "datetime", "min": "2000-01-01", "max": "2020-01-01", "missing": True},
        ["2001-01-01", "2003-02-03"],
        None,
    ),
}
"""A column, what is in it, and what one more patient has there."""


@pytest.mark.parametrize(("column", "values", "more"), ONE_MORE.values(), ids=ONE_MORE.keys())
@pytest.mark.parametrize("place", [0, 300], ids=["first", "last"])
def test_one_more_row_moves_no_other(column: dict[str, Any], values: list[Any], more: Any, place: int) -> None:
    """Without a patient column: 300 rows stay on their side, whatever one more row has and wherever it stands."""
    schema = Schema.parse({"name": "w", "columns": {"x": column, "row": {"type": "numeric", "min": 0, "max": 300}}})
    cells = [values[number % len(values)] for number in range(300)]
    fewer = pd.DataFrame({"x": cells, "row": range(300)})
    wider = [*cells[:place], more, *cells[place:]]
    number = [*range(place), 300, *range(place, 300)]
    sides = [
        set(split(Cohort.from_pandas(frame, schema), 0.3)[1].to_pandas()["row"])
        for frame in (fewer, pd.DataFrame({"x": wider, "row": number}))
    ]
    assert 30 < len(sides[0]) < 150
    assert sides[0] ^ sides[1] <= {300}


def test_one_more_identifier_moves_no_other_patient() -> None:
    """Identifiers that are numbers: one with digits, or text, leaves every other patient on their side."""
    sides = [
        set(split(Cohort.from_pandas(pd.DataFrame({"id": ids, "x": 0.5}), Schema.parse(VISITS)), 0.3)[1].to_pandas().id)
        for ids in ([*range(200)], [*range(200), 7.5], [*range(200), "P7"], [float(number) for number in range(200)])
    ]
    assert all(sides[0] ^ other <= {"7.5", "P7"} for other in sides[1:])
    assert len(sides[0]) > 20


def test_equal_values_are_equal_rows_in_any_type() -> None:
    """0 and -0.0 are one value, and so are 4 and 4.0 in another file: their rows have one side."""
    schema = Schema.parse({"name": "w", "columns": {"x": {"type": "numeric", "min": 0, "max": 9, "missing": True}}})
    of = [_identities(Cohort.from_pandas(pd.DataFrame({"x": values}), schema)) for values in ([0, 4], [-0.0, 4.0])]
    assert of[0].tolist() == of[1].tolist()
    assert of[0][0] != of[0][1]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, 3.0])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    """The test share lies between 0 and 1."""
    with pytest.raises(InputError, match="between 0 and 1"):
        split(ward(30), share)


def test_one_patient_cannot_be_divided() -> None:
    """The message says what to do in place."""
    with pytest.raises(InputError, match="separate files"):
        split(visits(1), 0.5)
