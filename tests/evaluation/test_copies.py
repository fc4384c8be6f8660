"""Rows that repeat real patients, beyond what real patients have in common, are against every use."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from dpsynth.cohort import Cohort
from dpsynth.evaluation import Evaluation, Results, evaluate
from dpsynth.evaluation.arrays.table import tables
from dpsynth.evaluation.metrics.copies import copy_results
from dpsynth.evaluation.protocol import Protocol

from .helpers import SCHEMA, cohort, frame, schema

TRAIN, TEST = frame(500), frame(300, 1)
RNG = np.random.default_rng(7)


def jittered(data: pd.DataFrame) -> pd.DataFrame:
    """Return rows of which one number is another."""
    return data.assign(age=np.clip(data["age"] + RNG.integers(-20, 21, len(data)), 18, 98))


def partly(share: float) -> pd.DataFrame:
    """Return new rows of which this share are real ones."""
    count = int(500 * share)
    return pd.concat([TRAIN[:count], frame(500 - count, 9)])


COPIES: dict[str, Callable[[], pd.DataFrame]] = {
    "a verbatim copy": lambda: TRAIN,
    "in another order of rows and columns": lambda: TRAIN.sample(frac=1, random_state=0)[TRAIN.columns[::-1]],
    "in other spellings": lambda: TRAIN.assign(died=TRAIN["died"].astype(bool), age=TRAIN["age"].astype(float)),
    "with a rounded column": lambda: TRAIN.assign(crea=TRAIN["crea"].round(0).clip(lower=0.1)),
    "with a column perturbed": lambda: jittered(TRAIN),
    "with a column shuffled": lambda: TRAIN.assign(age=RNG.permutation(TRAIN["age"])),
    "each row twice": lambda: pd.concat([TRAIN, TRAIN]),
    "drawn with replacement": lambda: TRAIN.sample(2000, replace=True, random_state=0),
    "of the held-out patients": lambda: TEST,
    "a fifth of the rows": lambda: partly(0.2),
}


def compared(synthetic: pd.DataFrame, *real: pd.DataFrame, text: str = SCHEMA) -> Results:
    """Return what is found of copies of training and held-out patients."""
    cohorts = [Cohort.from_pandas(one, schema(text)) for one in real or (TRAIN, TEST)]
    made = Cohort.from_pandas(synthetic, schema(text), synthetic=True)
    found = tables({"train": cohorts[0], "test": cohorts[1], "synthetic": made})
    return Results(copy_results(found["train"], found["test"], [found["synthetic"]], Protocol()))


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES.keys())
def test_a_copy_is_seen(make: Callable[[], pd.DataFrame]) -> None:
    """Whatever the rows were put through."""
    found = compared(make()).one("copies", arm="synthetic")
    assert found.detail["beyond"], found
    assert found.interval is not None
    assert found.interval.low <= found.number <= found.interval.high


CELLS = "name: few\nconfirmed: true\ncolumns:\n" + "\n".join(
    f"  c{place}: {{type: categorical, values: [a, b, c]}}" for place in range(4)
)


def few(rows: int, seed: int) -> pd.DataFrame:
    """Return rows of 81 cells: strangers are equal."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({f"c{place}": rng.choice(list("abc"), rows, p=[0.6, 0.3, 0.1]) for place in range(4)})


@pytest.mark.parametrize("seed", range(5))
def test_other_patients_of_the_same_kind_are_no_copy(seed: int) -> None:
    """New rows of the same distribution, many or few, in tables of many cells and of few; the ends are 1e-4 each."""
    for rows in (60, 500, 3000):
        assert not compared(frame(rows, 20 + seed)).one("copies", arm="synthetic").detail["beyond"]
        found = compared(few(rows, seed), few(400, 31), few(200, 32), text=CELLS)
        assert not found.one("copies", arm="synthetic").detail["beyond"]


def test_patients_who_are_alike_by_nature_are_no_copies() -> None:
    """Where a third of the held-out patients equal a training patient, a cohort may have as many."""
    train, test = frame(400), pd.concat([frame(200, 1), frame(400)[:100]])
    found = compared(pd.concat([frame(300, 2), train[100:200]]), train, test)
    assert found.one("copies", arm="real").number > 0.2
    assert not found.one("copies", arm="synthetic").detail["beyond"]


@pytest.fixture(scope="module")
def copied() -> Evaluation:
    """Return the evaluation of a verbatim copy."""
    return evaluate(cohort(TEST), cohort(TRAIN, synthetic=True), real_train=cohort(TRAIN))


def test_every_use_of_a_copy_is_refused_loudly(copied: Evaluation) -> None:
    """On top of the page, in each answer, for each group, in the twin, and in what can be signed."""
    twin = copied.to_dict()
    assert {one["answer"] for one in twin["verdicts"]} == {"no"}
    assert {one[side] for one in twin["groups"] for side in ("learning", "share")} == {"no"}
    assert "repeats real patients" in twin["warnings"][0]
    page = copied.html()
    assert page.index("Do not release: It repeats real patients") < page.index("What does it protect?</h2>")
    assert "Can be signed" not in page
    assert "far too few" not in page


def test_its_absence_is_no_evidence(copied: Evaluation) -> None:
    """A cohort that repeats nobody has no warning, and no page counts that in its favour."""
    found = evaluate(cohort(TEST), cohort(frame(400, 8), synthetic=True), real_train=cohort(TRAIN))
    assert found.to_dict()["warnings"] == []
    assert "repeats real patients" not in found.html()
    assert not any("repeat" in one["use"] for one in found.to_dict()["verdicts"])
    assert "repeats real" not in copied.html(public=True)


def test_one_row_and_one_column_are_compared_without_a_fault() -> None:
    """Nothing is beyond what is natural there."""
    text = "name: x\nconfirmed: true\ncolumns:\n  a: {type: numeric, min: 0, max: 9}"
    found = compared(pd.DataFrame({"a": [3]}), pd.DataFrame({"a": [3]}), pd.DataFrame({"a": [4]}), text=text)
    assert not found.one("copies", arm="synthetic").detail["beyond"]
