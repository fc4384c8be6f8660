"""Images in memory: taking rows, the declared form, and that counts of private images are not told."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import pictures, schema_of

from dpsynth.cohort import Cohort
from dpsynth.errors import DataError, InputError, SchemaError
from dpsynth.evaluation.coins import Coins
from dpsynth.evaluation.protocol import split
from dpsynth.files.image_set import ImageSet
from dpsynth.files.pixels import as_declared
from dpsynth.schema import Schema
from dpsynth.schema.images import Images


def cohort(row: list[int], rows: int, *, synthetic: bool = False) -> Cohort:
    """Return a cohort of `rows` rows whose images belong to the given ones."""
    labels = np.random.default_rng(0).choice(["none", "nodule", "mass"], rows)
    table = Cohort.from_pandas(pd.DataFrame({"label": labels}), schema_of(), synthetic=synthetic)
    return replace(table, images=ImageSet(pictures(len(row), 1, 6, 5), np.array(row, np.int64)))


def images_of(cohort: Cohort) -> ImageSet:
    """Return the images of a cohort that has some."""
    assert cohort.images is not None
    return cohort.images


@given(st.lists(st.integers(0, 6), max_size=12).map(sorted), st.lists(st.integers(0, 6), max_size=9))
def test_take_is_a_loop_over_rows(row: list[int], wanted: list[int]) -> None:
    """Rows may repeat, change places and have no image: each brings its own images, in their order."""
    images = ImageSet(pictures(len(row), 1, 2, 2), np.array(row, np.int64))
    expected = [(new, place) for new, old in enumerate(wanted) for place in range(len(row)) if row[place] == old]
    taken = images.take(np.array(wanted, np.int64))
    assert taken.row.tolist() == [new for new, _ in expected]
    assert np.array_equal(taken.pixels, images.pixels[[place for _, place in expected]])


def test_a_cohort_takes_its_images_along() -> None:
    """By numbers and by booleans, table and images stay together."""
    whole = cohort([0, 0, 1, 3], 5)
    part = whole.take([3, 0])
    assert part.to_pandas().label.tolist() == whole.to_pandas().label.iloc[[3, 0]].tolist()
    assert np.array_equal(images_of(part).pixels, images_of(whole).pixels[[3, 0, 1]])
    assert images_of(part).row.tolist() == [0, 1, 1]
    assert images_of(whole.take(np.array([True, False, False, False, True]))).row.tolist() == [0, 0]
    assert len(images_of(whole.take([]))) == 0


def test_no_text_tells_how_many_private_images() -> None:
    """`repr` of a private cohort and of an image set are the same for other numbers of rows and images."""
    few, many = cohort([0], 1), cohort([0, 0, 1], 2)
    assert repr(few) == repr(many) == "Cohort('scans': columns label, images of 6 x 5)"
    assert repr(few.images) == repr(many.images)
    assert "3 images of 6 x 5" in repr(cohort([0, 0, 1], 2, synthetic=True))


WRONG: dict[str, Any] = {
    "floats of 64 bits": (np.zeros((2, 1, 6, 5)), np.arange(2)),
    "no channels": (np.zeros((2, 6, 5), np.uint8), np.arange(2)),
    "too few rows": (np.zeros((2, 1, 6, 5), np.uint8), np.arange(1)),
    "rows that fall": (np.zeros((2, 1, 6, 5), np.uint8), np.array([1, 0])),
    "a negative row": (np.zeros((1, 1, 6, 5), np.uint8), np.array([-1])),
    "rows of 32 bits": (np.zeros((1, 1, 6, 5), np.uint8), np.array([0], np.int32)),
}


@pytest.mark.parametrize(("pixels", "row"), WRONG.values(), ids=WRONG.keys())
def test_an_image_set_is_checked(pixels: Any, row: Any) -> None:
    """Pixels and rows of another form are refused."""
    with pytest.raises(InputError, match="images: expected"):
        ImageSet(pixels, row)


def test_a_cohort_has_the_images_of_its_schema() -> None:
    """Images of another size or type, of rows that are not there, or not declared at all, are refused."""
    table = cohort([0], 1)
    for wrong in (
        ImageSet(pictures(1, 1, 5, 6), np.array([0])),
        ImageSet(pictures(1, 3, 6, 5), np.array([0])),
        ImageSet(pictures(1, 1, 6, 5, dtype=np.float32), np.array([0])),
        ImageSet(pictures(1, 1, 6, 5), np.array([1])),
    ):
        with pytest.raises(InputError, match="images:"):
            replace(table, images=wrong)
    with pytest.raises(InputError, match="declares none"):
        replace(table, schema=table.schema.model_copy(update={"images": None}))


def test_the_split_keeps_images_with_their_rows() -> None:
    """Rows of equal labels are told apart by their images, whatever their order; equal rows have coins of their own."""
    whole, coins = cohort(list(range(200)), 200), Coins.draw()
    train, test = split(whole, 0.3, key=coins)
    assert len(train) + len(test) == 200
    assert abs(len(test) - 60) < 6 * np.sqrt(200 * 0.3 * 0.7)

    def content(part: Cohort) -> set[tuple[str, bytes]]:
        images = images_of(part)
        return {(label, image.tobytes()) for label, image in zip(part.to_pandas().label, images.pixels, strict=True)}

    assert content(train) | content(test) == content(whole)
    assert content(split(whole.take(np.arange(200)[::-1]), 0.3, key=coins)[1]) == content(test)
    twice = split(whole.take(np.repeat(np.arange(200), 2)), 0.3, key=coins)
    assert content(twice[1]) > content(test)
    assert len(content(twice[0]) & content(twice[1])) > 40  # 84 are expected on both sides, with error 7


# -- the declared form ------------------------------------------------------------------------------------------------

LAYOUTS = {
    "grey": ((6, 5), {}, (6, 5)),
    "grey with an axis of channels": ((6, 5, 1), {}, (6, 5)),
    "colour": ((6, 5, 3), {"channels": 3}, (6, 5)),
    "volume": ((4, 6, 5), {"size": (4, 6, 5)}, (4, 6, 5)),
    "volume of two channels": ((4, 6, 5, 2), {"size": (4, 6, 5), "channels": 2}, (4, 6, 5)),
}


@pytest.mark.parametrize(("stored", "declared", "size"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_channels_come_first(stored: tuple[int, ...], declared: Any, size: tuple[int, ...]) -> None:
    """Each layout becomes (images, channels, sides) with the same pixels."""
    images = Images(**{"size": size, **declared})
    arrays = pictures(3, *stored)
    made = as_declared(arrays, images)
    assert made.shape == (3, images.channels, *size)
    assert made.dtype == np.uint8
    expected = arrays if len(stored) == len(size) else np.moveaxis(arrays, -1, 1)
    assert np.array_equal(made.reshape(expected.shape), expected)


def test_values_are_clipped_to_the_range() -> None:
    """Outside values become the nearest bound, and what is no number the least value."""
    values = np.array([[[-2000.0, 40.4, 9e9, np.nan, -np.inf, np.inf]]])
    window = Images(size=(1, 6), range=(-1000, 400))
    assert as_declared(values, window).tolist() == [[[[-1000, np.float32(40.4), 400, -1000, -1000, 400]]]]
    assert as_declared(values, Images(size=(1, 6))).tolist() == [[[[0, 40, 255, 0, 0, 255]]]]


@pytest.mark.parametrize(
    "value",
    [np.array([0x7F800001], np.uint32).view(np.float32)[0], np.longdouble("1e400"), np.float64(-np.inf)],
    ids=["a signalling NaN", "beyond 64 bits", "no end"],
)
def test_odd_pixels_are_converted_without_a_word(value: np.floating[Any]) -> None:
    """No warning of numpy tells that somebody has a pixel that cannot be converted."""
    stored = np.full((2, 4, 4), 7, np.asarray(value).dtype)
    stored.view(np.uint8).reshape(-1)[: value.itemsize] = np.frombuffer(value.tobytes(), np.uint8)
    found = as_declared(stored, Images(size=(4, 4)))
    assert found[0, 0, 0, 0] in (0, 255)
    assert (found.reshape(-1)[1:] == 7).all()


def test_another_size_needs_resize() -> None:
    """Images of another size are refused; with resize they are brought to the declared one."""
    with pytest.raises(DataError, match="resize: true"):
        as_declared(pictures(2, 12, 10), Images(size=(6, 5)))
    assert as_declared(pictures(2, 12, 10), Images(size=(6, 5), resize=True)).shape == (2, 1, 6, 5)


def test_shrinking_takes_the_mean_of_an_area() -> None:
    """By whole factors, shrinking is the mean over blocks; a constant stays constant at any factor."""
    arrays = pictures(2, 12, 10)
    expected = arrays.reshape(2, 6, 2, 5, 2).mean((2, 4))
    made = as_declared(arrays, Images(size=(6, 5), resize=True, range=(0, 300)))
    np.testing.assert_allclose(made[:, 0], expected, rtol=1e-6)
    for size in ((3, 7), (12, 10), (25, 4)):
        assert (as_declared(np.full((1, 12, 10), 77, np.uint8), Images(size=size, resize=True)) == 77).all()


def test_stretching_is_linear_between_centres() -> None:
    """A ramp stays a ramp inside, and its ends keep their values; volumes and colour go along every side."""
    ramp = np.arange(4.0)[None, None] * 10
    made = as_declared(ramp, Images(size=(1, 8), resize=True, range=(0, 50)))[0, 0, 0]
    np.testing.assert_allclose(made, [0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30])
    volume = as_declared(pictures(2, 4, 6, 5), Images(size=(2, 3, 10), resize=True))
    assert volume.shape == (2, 1, 2, 3, 10)
    assert as_declared(pictures(2, 6, 5, 3), Images(size=(3, 3), channels=3, resize=True)).shape == (2, 3, 3, 3)


def test_large_sets_are_converted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result does not depend on how many images are converted at once."""
    images = Images(size=(3, 3), resize=True)
    whole = as_declared(pictures(7, 6, 5), images)
    monkeypatch.setattr("dpsynth.files.pixels._AT_ONCE", 40)
    assert np.array_equal(as_declared(pictures(7, 6, 5), images), whole)


@pytest.mark.parametrize("dtype", [np.complex64, "U3", object], ids=str)
def test_pixels_are_numbers(dtype: Any) -> None:
    """Complex numbers, text and objects are no pixels."""
    with pytest.raises(DataError, match="no real numbers"):
        as_declared(np.zeros((1, 6, 5)).astype(dtype), Images(size=(6, 5)))


# -- the schema -------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "huge": ({"size": [100_000, 100_000]}, "more than"),
    "no image a patient": ({"max_per_patient": 0}, "max_per_patient"),
    "a label that is no column": ({"labels": ["lable"]}, "label"),
    "a label twice": ({"labels": ["label", "label"]}, "twice"),
}


@pytest.mark.parametrize(("fields", "words"), BAD.values(), ids=BAD.keys())
def test_bad_images(fields: dict[str, Any], words: str) -> None:
    """What is declared of images is checked."""
    with pytest.raises(SchemaError, match=words):
        schema_of(**fields)


@pytest.mark.parametrize("name", ["image", "patient"])
def test_columns_of_the_index_are_taken(name: str) -> None:
    """No modelled column may have the name of a column that the index of images adds."""
    column = {name: {"type": "boolean"}}
    with pytest.raises(SchemaError, match="column of the index"):
        schema_of(column)
    assert Schema.parse({"name": "table", "columns": column}).modelled == (name,)
    assert schema_of(patient="patient").patient == "patient"


def test_a_schema_with_images_survives() -> None:
    """All fields of images are written and read again."""
    schema = schema_of(max_per_patient=3, resize=True, labels=["label"], range=[-1000, 400], channels=2)
    assert Schema.parse(schema.to_yaml()) == schema
    assert schema.images is not None
    assert (schema.images.shape, schema.images.dtype) == ((2, 6, 5), "float32")
