"""Numbers of patients over their visits: right by hand, and only where the schema declares visits."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth import Cohort, Schema
from dpsynth.errors import InputError
from dpsynth.evaluation.metrics.visits import correlation, visit_results
from dpsynth.evaluation.result import Disclosure

DOCUMENT: dict[str, Any] = {
    "name": "clinic",
    "confirmed": True,
    "patient": "id",
    "max_rows_per_patient": 2,
    "columns": {
        "id": {"type": "identifier"},
        "sex": {"type": "categorical", "values": ["f", "m"], "missing": True},
        "lab": {"type": "numeric", "min": -100, "max": 100, "decimals": 3},
        "exam": {"type": "categorical", "values": [1, 2]},
    },
    "visits": {"column": "exam", "values": [1, 2], "static": ["sex"]},
}


def _cohort(frame: pd.DataFrame, **facts: Any) -> Cohort:
    return Cohort.from_pandas(frame, Schema.parse(DOCUMENT), **facts)


def _frame(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    level = rng.normal(0, 3, n)
    parts = [
        pd.DataFrame({"id": np.arange(n), "sex": "f", "lab": np.round(level + rng.normal(0, 1, n), 3), "exam": exam})
        for exam in (1, 2)
    ]
    return pd.concat(parts, ignore_index=True)


def test_correlation_and_change_are_those_of_numpy() -> None:
    """The values are numpy's over the patients with both visits, inside their intervals."""
    frame = _frame()
    frame = frame.drop(frame.index[-20:])
    found = visit_results({"real": _cohort(frame, public=True)})
    wide = frame.pivot_table(index="id", columns="exam", values="lab").dropna()
    one = found.one("visit_correlation")
    assert one.n == len(wide) == 180
    assert one.number == pytest.approx(np.corrcoef(wide[1], wide[2])[0, 1])
    assert one.interval is not None
    assert 0.8 < one.interval.low < one.number < one.interval.high < 1
    assert found.one("visit_rank_correlation").number == pytest.approx(wide[1].corr(wide[2], method="spearman"))
    change = found.one("visit_change")
    assert change.number == pytest.approx((wide[2] - wide[1]).std(ddof=0))
    assert change.detail["mean"] == pytest.approx((wide[2] - wide[1]).mean())


def test_constants() -> None:
    """A patient with two values of a static column is not constant; two missing ones are."""
    frame = _frame(10).astype({"sex": object})
    frame.loc[(frame["id"] == 3) & (frame["exam"] == 2), "sex"] = "m"
    frame.loc[frame["id"] == 4, "sex"] = None
    frame.loc[(frame["id"] == 5) & (frame["exam"] == 1), "sex"] = None
    one = visit_results({"real": _cohort(frame, public=True)}).one("constant_share")
    assert one.number == pytest.approx(0.8)


def test_disclosure_follows_the_cohort() -> None:
    """Numbers of private patients are internal, those of synthetic ones public."""
    frame = _frame(30)
    found = visit_results({"real": _cohort(frame), "synthetic": _cohort(frame, synthetic=True)})
    assert {result.disclosure for result in found.select(arm="real")} == {Disclosure.INTERNAL}
    assert {result.disclosure for result in found.select(arm="synthetic")} == {Disclosure.PUBLIC}


def test_few_patients_and_constant_values() -> None:
    """Too few patients, or values that do not vary, are not estimable."""
    few = visit_results({"real": _cohort(_frame(6), public=True)})
    assert not few.one("visit_correlation").ok
    flat = visit_results({"real": _cohort(_frame(40).assign(lab=1.0), public=True)})
    assert not flat.one("visit_correlation").ok
    assert flat.one("visit_change").number == pytest.approx(0)


def test_weights_are_repetitions() -> None:
    """A weighted correlation is that of the rows repeated by their weights."""
    rng = np.random.default_rng(1)
    pair, times = rng.normal(size=(2, 30)), rng.integers(0, 4, 30)
    expected = np.corrcoef(np.repeat(pair, times, axis=1))[0, 1]
    assert correlation(pair, times[None, :].astype(float))[0] == pytest.approx(expected)


def test_visits_must_be_declared() -> None:
    """A schema without visits is refused."""
    schema = Schema.parse({k: v for k, v in DOCUMENT.items() if k != "visits"})
    with pytest.raises(InputError, match="visits"):
        visit_results({"real": Cohort.from_pandas(_frame(20), schema, public=True)})
