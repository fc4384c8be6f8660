import json

import numpy as np
import pytest

from dpsynth.evaluation import Disclosure, DisclosureError, Interval, PublicResults, Result, Results, Status
from dpsynth.evaluation.catalogue import ARMS, METRICS
from dpsynth.evaluation.result import estimate, failed, guarded, jsonable, not_estimable

PUBLIC, INTERNAL = Disclosure.PUBLIC, Disclosure.INTERNAL


def test_a_number_that_is_not_finite_becomes_failed_and_never_a_number() -> None:
    """NaN and infinity are results without a number, with a reason."""
    for value in (float("nan"), float("inf")):
        result = estimate("auroc", value, n=3, arm="real")
        assert (result.status, result.value, result.arm, result.n) == (Status.FAILED, None, "real", 3)
        assert result.reason


@pytest.mark.parametrize(
    "fields",
    [
        {"value": None},
        {"value": float("nan")},
        {"value": 0.0, "status": Status.FAILED, "reason": "x"},
        {"value": None, "status": Status.NOT_ESTIMABLE},
        {"value": None, "status": Status.FAILED, "reason": "x", "interval": Interval(0, 1)},
    ],
)
def test_a_result_has_a_number_or_a_reason_and_not_both(fields: dict[str, object]) -> None:
    """Status, value and reason cannot contradict each other."""
    with pytest.raises(ValueError, match="auroc"):
        Result("auroc", **fields)  # type: ignore[arg-type]


def test_an_unknown_metric_is_refused() -> None:
    """The catalogue knows every metric."""
    with pytest.raises(ValueError, match="unknown metric"):
        Result("quality_score", 1.0)


@pytest.mark.parametrize(("low", "high", "level"), [(1, 0, 0.95), (0, float("nan"), 0.95), (0, 1, 1.0)])
def test_an_interval_has_finite_ends_in_order(low: float, high: float, level: float) -> None:
    """An interval that is not one is refused."""
    with pytest.raises(ValueError, match="interval"):
        Interval(low, high, level)


def test_results_are_internal_unless_said_otherwise() -> None:
    """The default of disclosure is the safe one, for every way to make a result."""
    made = [Result("auroc", 1.0), estimate("auroc", 1.0), not_estimable("auroc", "x"), failed("auroc", "x")]
    assert {result.disclosure for result in made} == {INTERNAL}


def test_public_results_cannot_hold_an_internal_one() -> None:
    """The type of what may be published fails closed, and names the metric."""
    mixed = [estimate("rows", 3, disclosure=PUBLIC), estimate("auroc", 0.5)]
    with pytest.raises(DisclosureError, match="auroc"):
        PublicResults(mixed)
    kept = Results(mixed).public()
    assert isinstance(kept, PublicResults)
    assert [result.metric for result in kept] == ["rows"]


def test_public_results_stay_public_only_through_public() -> None:
    """Adding to public results gives plain results, which the public renderer refuses."""
    public = Results([estimate("rows", 3, disclosure=PUBLIC)]).public()
    grown = public + Results([estimate("auroc", 0.5)])
    assert not isinstance(grown, PublicResults)


def test_a_metric_that_raises_is_shown_as_failed_without_the_librarys_message() -> None:
    """An error of one metric becomes a failed result; the message, which may hold a value, is not in it."""

    def broken() -> Result:
        raise RuntimeError("patient 4711 has crea 9.9")

    (result,) = guarded("auroc", broken, arm="synthetic", group="sex=f", disclosure=PUBLIC)
    assert (result.status, result.group, result.disclosure) == (Status.FAILED, "sex=f", PUBLIC)
    assert "4711" not in result.reason
    assert "RuntimeError" in result.reason


def test_selection_finds_results_by_metric_and_field() -> None:
    """`select` filters, `one` insists on exactly one."""
    results = Results([estimate("auroc", 0.8, arm="real"), estimate("auroc", 0.7), estimate("brier", 0.1)])
    assert len(results.select("auroc")) == 2
    assert results.one("auroc", arm="synthetic").number == 0.7
    assert len(results.select(("auroc", "brier"), arm="synthetic")) == 2
    with pytest.raises(KeyError, match="2 results"):
        results.one("auroc")


def test_the_frame_and_the_json_have_a_row_per_result() -> None:
    """A result without a number has a missing value in the frame and null in the JSON, never 0."""
    results = Results([estimate("auroc", 0.8, interval=Interval(0.7, 0.9), n=10), not_estimable("brier", "few")])
    frame = results.to_frame()
    assert frame["value"].isna().tolist() == [False, True]
    assert frame.loc[0, ["low", "high", "n"]].tolist() == [0.7, 0.9, 10]
    rows = json.loads(results.json())
    assert [row["value"] for row in rows] == [0.8, None]
    assert rows[1]["reason"] == "few"


def test_json_has_no_nan_even_in_details() -> None:
    """What JSON cannot hold becomes null, at any depth."""
    found = jsonable({"a": np.array([1.0, np.nan]), "b": (np.float64(2), {"c": float("inf")}), 3: np.int64(4)})
    assert found == {"a": [1.0, None], "b": [2.0, {"c": None}], "3": 4}


def test_results_show_themselves_escaped_in_a_notebook() -> None:
    """A column's name cannot become markup."""
    shown = Results([estimate("tvd_column", 0.1, subject="<script>")])._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_every_metric_says_what_it_is() -> None:
    """No entry of the catalogue is empty, and titles are unique within a section."""
    assert all(metric.title and metric.about.endswith(".") for metric in METRICS.values())
    titles = [(result.section, result.title) for result in METRICS.values()]
    assert len(set(titles)) == len(titles)
    assert {"real", "synthetic", "floor", "noiseless", "dp_classifier", "prevalence"} <= set(ARMS)
