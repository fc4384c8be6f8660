"""Differences of columns that a schema puts in order, such as length of stay, are judged beside chance."""

import numpy as np
import pandas as pd
import pytest

from dpsynth.cohort import Cohort
from dpsynth.evaluation import Results, Status, evaluate
from dpsynth.evaluation.arrays.table import tables
from dpsynth.evaluation.metrics.orders import order_pairs, order_results
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.report import json_schema
from dpsynth.schema import Schema

TEXT = """
name: stays
confirmed: true
columns:
  admitted: {type: datetime, min: 2020-01-01, max: 2021-12-31}
  operated: {type: datetime, min: 2020-01-01, max: 2021-12-31, missing: true}
  left: {type: datetime, min: 2020-01-01, max: 2021-12-31}
constraints:
  - order: [admitted, operated, left]
  - order: [admitted, left]
"""
FACTS = Schema.parse(TEXT)


def stays(rows: int, seed: int, *, longer: float = 1.0, **facts: bool) -> Cohort:
    """Return stays of about a week, or so many times longer; the dates apart look alike."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 600, rows)
    length = np.minimum(rng.geometric(1 / (7 * longer), rows), 100)
    operated = first + rng.integers(0, 2, rows) * (length // 2)
    day = pd.Timestamp("2020-01-01")
    dates = {"admitted": first, "operated": operated, "left": first + length}
    frame = pd.DataFrame({name: day + pd.to_timedelta(days, unit="D") for name, days in dates.items()})
    frame["operated"] = frame["operated"].where(rng.random(rows) < 0.6)
    return Cohort.from_pandas(frame, FACTS, **facts)


def judged(synthetic: Cohort) -> Results:
    """Return the differences' distances from two halves of real patients."""
    found = tables({"test": stays(400, 1), "train": stays(500, 2), "synthetic": synthetic})
    arms = {"real": [found["train"]], "synthetic": [found["synthetic"]]}
    return Results(order_results(found["test"], arms, order_pairs(FACTS), Protocol()))


def test_neighbours_in_each_order_are_pairs() -> None:
    """Each pair once."""
    assert order_pairs(FACTS) == [("admitted", "operated"), ("operated", "left"), ("admitted", "left")]


def test_a_longer_stay_is_seen_and_an_equal_one_is_not() -> None:
    """The distance is that of SciPy, its excess over chance lies around 0 or clearly above; its ends are in order."""
    from scipy.stats import ks_2samp

    for longer, beyond in ((1.0, False), (2.0, True)):
        made = stays(500, 3, longer=longer, synthetic=True)
        results = judged(made)
        one = results.one("order_difference", arm="synthetic", subject="admitted to left")
        days = [(frame["left"] - frame["admitted"]).dt.days for frame in (stays(400, 1).to_pandas(), made.to_pandas())]
        assert one.number == pytest.approx(ks_2samp(*days).statistic)
        assert one.detail["drawn"][1] == pytest.approx(np.median(days[1]))
        excess = results.one("order_difference_excess", subject="admitted to left")
        assert excess.interval is not None
        assert bool(excess.interval.low > 0.05) is beyond
        chance = results.one("order_difference", arm="real", subject="admitted to left")
        assert excess.number == pytest.approx(one.number - chance.number)
    assert results.one("order_difference", arm="synthetic", subject="admitted to operated").n is not None


def test_too_few_rows_with_both_values_are_not_estimable() -> None:
    """The reason counts, and quotes nothing."""
    results = judged(stays(12, 5, synthetic=True))
    assert {result.status for result in results.select(arm="synthetic")} == {Status.NOT_ESTIMABLE}


def test_the_page_and_its_twin_judge_the_length_of_stay() -> None:
    """A use of its own: no where stays are twice as long, with medians in days beside it."""
    import jsonschema

    found = evaluate(stays(400, 1), stays(500, 3, longer=2.0, synthetic=True), real_train=stays(500, 2))
    twin = found.to_dict()
    jsonschema.validate(twin, json_schema())
    answers = {one["use"]: one["answer"] for one in twin["verdicts"]}
    assert answers["Describing differences of columns in order, such as lengths of stay"] == "no"
    page = found.html()
    assert "Differences of columns that the schema puts in order" in page
    assert "admitted to left" in page
