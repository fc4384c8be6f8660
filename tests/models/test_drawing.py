"""Draws under conditions and in proportions: exact for any model that keeps a mask, refused where they are guesses."""

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from doubles import DoubleModel
from mechanism_cases import ORDINARY, cohort_of, fitted, maker, ordinary, schema_of

from dpsynth.coding.codec import Codec
from dpsynth.errors import InputError
from dpsynth.models import Model
from dpsynth.models.conditional_draws import DrawPart, kept, parts_of

ROWS = ordinary(2_000)


@pytest.fixture(scope="module")
def model() -> Model:
    """Return PRISM on 2,000 ordinary rows."""
    return fitted("prism", cohort_of(ORDINARY, ROWS, target="died"), 3.0)[1]


@pytest.fixture
def uneven() -> DoubleModel:
    """Return independent columns whose cells are wide: ages of ten years, four times as many old as young."""
    codec = Codec(schema_of({"age": {"type": "numeric", "min": 0, "max": 99}, "sex": ORDINARY["sex"]}), cells=10)
    shares = {"age": np.array([1.0] * 5 + [4.0] * 5), "sex": np.array([9.0, 1.0])}
    return DoubleModel(codec, {}, shares, 1_000, 1.0)


def test_proportions_are_met_exactly(model: Model) -> None:
    """Shares that sum to 1 give whole counts and no other value."""
    drawn = model.sample(1_001, proportions={"unit": {"a": 0.25, "d": 0.75}}, seed=0).to_pandas()
    assert drawn["unit"].value_counts().to_dict() == {"d": 751, "a": 250}


def test_shares_below_one_leave_the_rest_to_the_model(model: Model) -> None:
    """The rest holds none of the named values, and the others as the model has them: b is about twice c."""
    drawn = model.sample(4_000, proportions={"unit": {"a": 0.1, None: 0.2}}, seed=0).to_pandas()
    counts = drawn["unit"].value_counts(dropna=False)
    assert counts["a"] == 400
    assert int(drawn["unit"].isna().sum()) == 800
    assert 1.5 < counts["b"] / counts["c"] < 2.7


def test_proportions_of_an_intersection_and_a_condition(model: Model) -> None:
    """A tuple of columns takes tuples of values; `where` holds for all rows."""
    shares = {("sex", "died"): {("female", 1): 0.5, ("male", 0): 0.5}}
    drawn = model.sample(400, where={"age": {"min": 60}}, proportions=shares, seed=0).to_pandas()
    assert drawn.groupby(["sex", "died"]).size().to_dict() == {("female", 1): 200, ("male", 0): 200}
    assert drawn["age"].min() >= 60


def test_proportions_of_ranges(model: Model) -> None:
    """Pairs of conditions and shares may name ranges."""
    pairs = [({"age": {"min": 80}}, 0.5), ({"age": {"max": 30}}, 0.25)]
    age = model.sample(800, proportions=pairs, seed=0).to_pandas()["age"]
    assert [int((age >= 80).sum()), int((age <= 30).sum())] == [400, 200]


@pytest.mark.parametrize(
    ("proportions", "words"),
    [
        ({"unit": {"a": 0.7, "b": 0.4}}, "sum to 1.1"),
        ({"unit": {"a": -0.1}}, "-0.1"),
        ({"unit": {"a": float("nan")}}, "nan"),
        ({"unit": {"a": True}}, "True"),
        ({"unit": {}}, "expected a share"),
        ({"unit": {"a": 0.5}, "sex": {"male": 0.5}}, "2 entries"),
        ({("sex", "died"): {"male": 0.5}}, "tuple of 2 values"),
        ({"unit": {"zebra": 0.5}}, "unit"),
        ({"age": {30: 0.5}, "x": {}}, "2 entries"),
        ([({"age": {"min": 50}}, 0.5), ({"age": {"max": 50}}, 0.5)], "exclude each other"),
        ([({"age": {"min": 50}}, 0.5), ({"sex": "male"}, 0.5)], "exclude each other"),
        ([], "expected pairs"),
        ([({}, 0.5)], "expected pairs"),
    ],
)
def test_proportions_that_cannot_be(model: Model, proportions: Any, words: str) -> None:
    """Shares that are none, overlapping conditions and unknown values are refused in words."""
    with pytest.raises(InputError, match=words):
        model.sample(10, proportions=proportions)


def test_a_column_stands_in_one_of_the_two(model: Model) -> None:
    """A column in `where` and in the proportions is refused."""
    with pytest.raises(InputError, match="stands in where"):
        model.sample(10, where={"sex": "male"}, proportions={"sex": {"female": 1.0}})


def test_ranges_cut_cells_at_their_share(uneven: DoubleModel) -> None:
    """Ages 47 and more: three tenths of the cell 40 to 49, four times that density above, whatever the model.

    Of 8,000 rows 8,000 * 0.3 / 20.3 = 118 fall below 50; the standard deviation is 10.8, and 5.5 of them are allowed.
    """
    age = uneven.sample(8_000, where={"age": {"min": 47}}, seed=0).to_pandas()["age"]
    assert age.min() >= 47
    assert abs(int((age < 50).sum()) - 118) < 60


def test_one_value_of_a_wide_cell(uneven: DoubleModel) -> None:
    """A single value narrows its cell to itself."""
    assert set(uneven.sample(50, where={"age": 73}, seed=0).to_pandas()["age"]) == {73}


def test_the_rest_where_there_is_hardly_any() -> None:
    """A model that draws nothing but what is named cannot fill a rest, and says so in bounded time."""
    codec = Codec(schema_of({"sex": ORDINARY["sex"]}))
    with pytest.raises(InputError, match="let the shares sum to 1"):
        kept(
            codec,
            DrawPart({}, 10, ({"sex": "male"},)),
            lambda size: {"sex": np.ones(size, dtype=np.int64)},
            np.random.default_rng(0),
        )


def test_a_scarce_condition_is_refused_and_can_be_forced() -> None:
    """Three patients under a noise of some dozens are not told from none: refused with both numbers, or forced."""
    values = {**ROWS, "unit": np.array(["d"] * 3 + ["a"] * 1_997)}
    _, found = fitted("prism", cohort_of(ORDINARY, values), 0.1)
    support = found.support({"unit": "d", "sex": "male"})
    assert support.noise > 10
    assert support.scarce == (support.rows < support.noise)
    with patch.object(type(found), "support", return_value=type(support)(3.0, 40.0)):
        with pytest.raises(InputError, match=r"3 training rows .* noise on their number \(40\).*--scarce"):
            found.sample(5, where={"unit": "d"})
        with pytest.raises(InputError, match="too scarce"):
            found.sample(5, proportions={"unit": {"d": 0.5}})
        assert set(found.sample(5, where={"unit": "a"}, scarce=True).to_pandas()["unit"]) == {"a"}


def test_support_is_what_the_model_says(model: Model) -> None:
    """Rows that meet a condition, by the model, are those of the table up to the noise of a few cells."""
    support = model.support({"sex": "female"})
    assert support is not None
    assert abs(support.rows - float((ROWS["sex"] == "female").sum())) < 10 * support.noise
    assert not support.scarce


def test_a_model_that_cannot_tell_draws(uneven: DoubleModel) -> None:
    """Any model has conditions and proportions through `sample_codes` alone."""
    assert uneven.support({"sex": "male"}) is None
    drawn = uneven.sample(100, proportions={"sex": {"male": 0.9, "female": 0.1}}, seed=1).to_pandas()
    assert drawn["sex"].value_counts().to_dict() == {"male": 90, "female": 10}


def test_one_row_keeps_condition_and_constraints() -> None:
    """A single row under a condition keeps it also where codes alone could break a constraint."""
    columns: Mapping[str, Any] = {
        "low": {"type": "numeric", "min": 0, "max": 999},
        "high": {"type": "numeric", "min": 0, "max": 999},
    }
    codec = Codec(schema_of(dict(columns), constraints=[{"order": ["low", "high"]}]), cells=10)
    model = DoubleModel(codec, {}, {name: np.ones(10) for name in columns}, 100, 1.0)
    for seed in range(30):
        row = model.sample(1, where={"low": {"min": 650}}, seed=seed).to_pandas()
        assert len(row) == 1
        assert 650 <= row["low"][0] <= row["high"][0]


def test_whole_rows_sum_to_n() -> None:
    """Whatever the shares, the parts have n rows together and none is empty."""
    codec = Codec(schema_of(ORDINARY))
    for n in (1, 2, 3, 10, 997):
        parts = parts_of(codec, n, {}, {"unit": {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}})
        assert sum(part.rows for part in parts) == n
        assert all(part.rows for part in parts)
        assert max(part.rows for part in parts) - min(part.rows for part in parts) <= 1


def test_makers_share_the_call() -> None:
    """Every mechanism's model takes proportions."""
    cohort = cohort_of(ORDINARY, {name: values[:300] for name, values in ROWS.items()})
    for name in ("independent", "mst"):
        assert maker(name).name == name
        drawn = fitted(name, cohort, 3.0)[1].sample(10, proportions={"sex": {"male": 1.0}}).to_pandas()
        assert set(drawn["sex"]) == {"male"}
