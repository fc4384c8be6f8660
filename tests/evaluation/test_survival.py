"""Outcomes in time: the statistics agree with other packages', and the judge tells what a cohort keeps of follow-up."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth.cohort import Cohort
from dpsynth.errors import SchemaError
from dpsynth.evaluation.arrays.groups import grouping
from dpsynth.evaluation.arrays.table import tables
from dpsynth.evaluation.judge import evaluate
from dpsynth.evaluation.learners.survival import TimeTask
from dpsynth.evaluation.metrics import survival as judged
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.report.page import render_internal, render_public
from dpsynth.evaluation.results import Results
from dpsynth.evaluation.statistics.survival import FollowUp, brier_parts, concordance, restricted_mean, survival_curve
from dpsynth.schema import Schema
from dpsynth.schema.flat import flattened

pytest.importorskip("sksurv")
pytest.importorskip("lifelines")

WARD = """
name: ward
confirmed: true
target: {time: months, event: status, censored: alive}
subgroups: [sex]
columns:
  age: {type: numeric, min: 18, max: 99}
  dose: {type: numeric, min: 0, max: 9}
  sex: {type: categorical, values: [female, male]}
  months: {type: numeric, min: 0, max: 120, decimals: 1}
  status: {type: categorical, values: [alive, dead]}
"""


def followed(n: int, seed: int, *, hazard: float = 0.05, competing: bool = False) -> pd.DataFrame:
    """Return patients whose hazard doubles with 15 years of age, and does not hang on the dose."""
    rng = np.random.default_rng(seed)
    age, dose = rng.integers(30, 90, n), rng.integers(0, 10, n)
    event = rng.exponential(1 / (hazard * 2 ** ((age - 60) / 15)))
    other = rng.exponential(40, n) if competing else np.full(n, np.inf)
    censored = np.minimum(rng.uniform(5, 80, n), 120)
    time = np.minimum(np.minimum(event, other), censored).round(1)
    status = np.where(time >= censored.round(1), "alive", np.where(event <= other, "dead", "moved"))
    sex = np.where(rng.random(n) < 0.5, "female", "male")
    return pd.DataFrame({"age": age, "dose": dose, "sex": sex, "months": time, "status": status})


def cohort(frame: pd.DataFrame, text: str = WARD, **kind: bool) -> Cohort:
    """Return a cohort of these patients."""
    return Cohort.from_pandas(frame, Schema.parse(text), **(kind or {"public": True}))


# -- statistics -------------------------------------------------------------------------------------------------------


def times(n: int = 300) -> tuple[FollowUp, np.ndarray]:
    """Return continuous follow-up without ties, and risks."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    event, censored = rng.exponential(np.exp(-x) * 10), rng.exponential(12, n)
    return FollowUp(np.minimum(event, censored), event <= censored), x + rng.normal(size=n)


def test_curves_and_restricted_means_are_those_of_lifelines() -> None:
    """Kaplan and Meier's curve, with late entries too, and the area under it."""
    from lifelines import KaplanMeierFitter
    from lifelines.utils import restricted_mean_survival_time

    follow, _ = times()
    grid, alike = np.linspace(0.5, 15, 30), np.ones((1, len(follow)))
    for entry in (None, follow.time * np.random.default_rng(1).random(len(follow)) * 0.5):
        late = FollowUp(follow.time, follow.event, entry=entry)
        other = KaplanMeierFitter().fit(follow.time, follow.event, entry=entry)
        assert np.allclose(survival_curve(late, alike, grid)[0], other.survival_function_at_times(grid))
        if entry is None:
            mean = restricted_mean_survival_time(other, t=12.0)
            assert np.isclose(restricted_mean(late, alike, 12.0)[0], mean)


def test_competing_events_are_counted_as_by_aalen_and_johansen() -> None:
    """The share that had the event by each time, where another event may come before it."""
    from lifelines import AalenJohansenFitter

    follow, _ = times()
    other = ~follow.event & (np.random.default_rng(2).random(len(follow)) < 0.5)
    grid = np.linspace(0.5, 15, 30)
    codes = np.where(follow.event, 1, np.where(other, 2, 0))
    fitter = AalenJohansenFitter(calculate_variance=False).fit(follow.time, codes, event_of_interest=1)
    theirs = fitter.cumulative_density_.iloc[:, 0]
    mine = 1 - survival_curve(FollowUp(follow.time, follow.event, other), np.ones((1, len(follow))), grid)[0]
    assert np.allclose(mine, [theirs[theirs.index <= moment].iloc[-1] for moment in grid])


def test_scores_are_those_of_scikit_survival() -> None:
    """Harrell's and Uno's C and the integrated Brier score; a patient with weight two counts as two patients."""
    from sksurv.metrics import concordance_index_censored, concordance_index_ipcw, integrated_brier_score
    from sksurv.util import Surv

    follow, risks = times()
    alike = np.ones((1, len(follow)))
    outcome = Surv.from_arrays(follow.event, follow.time)
    harrell = concordance_index_censored(follow.event, follow.time, risks)[0]
    assert np.isclose(concordance(follow, risks, alike)[0], harrell)
    uno = concordance_index_ipcw(outcome, outcome, risks, tau=12.0)[0]
    assert np.isclose(concordance(follow, risks, alike, horizon=12.0)[0], uno)
    grid = np.linspace(0.5, 15, 30)
    curves = np.exp(-grid[None, :] / (10 * np.exp(-risks))[:, None])
    assert np.isclose(
        brier_parts(follow, curves, grid, follow).mean(), integrated_brier_score(outcome, outcome, curves, grid)
    )
    twice = np.random.default_rng(3).integers(0, 3, (1, len(follow))).astype(float)
    rows = np.repeat(np.arange(len(follow)), twice[0].astype(int))
    spread = follow.take(rows)
    assert np.allclose(survival_curve(follow, twice, grid), survival_curve(spread, np.ones((1, len(rows))), grid))
    whole = concordance_index_censored(spread.event, spread.time, risks[rows])[0]
    assert np.isclose(concordance(follow, risks, twice)[0], whole, atol=2e-3)  # copies of one patient are tied


# -- schema -----------------------------------------------------------------------------------------------------------


def test_a_target_in_time_is_read_and_written_as_one() -> None:
    """The event is the target; the time is withheld from its models and goes with every column."""
    schema = Schema.parse(WARD)
    assert (schema.target, schema.withheld) == ("status", ("months",))
    assert "target: {time: months, event: status, censored: alive}" in schema.to_yaml()
    assert Schema.parse(schema.to_yaml()) == schema
    assert set(flattened(schema).related) == {("months", name) for name in ("age", "dose", "sex", "status")}
    assert tables({"real": cohort(followed(50, 0))})["real"].predictors("status") == ["age", "dose", "sex"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("{time: month, event: status}", r"target\.time: there is no column 'month'.*'months'"),
        ("{time: sex, event: status}", r"target\.time: 'sex' is not a number"),
        ("{time: months, event: age}", r"target\.event: 'age' is neither boolean nor a closed list"),
        ("{time: months, event: status, entry: months}", "different columns"),
        ("{time: months, event: status, censored: gone}", r"target\.censored"),
        ("{time: months}", r"target\.event: is required"),
        ("{time: months, event: status, tau: 5}", r"target\.tau: unknown field"),
    ],
)
def test_a_fault_of_a_target_in_time_is_named(target: str, message: str) -> None:
    """Each fault is refused when the schema is read."""
    with pytest.raises(SchemaError, match=message):
        Schema.parse(WARD.replace("{time: months, event: status, censored: alive}", target))


def test_the_time_is_no_predictor_even_where_it_is_named() -> None:
    """A schema that names the time as a predictor is refused."""
    with pytest.raises(SchemaError, match="never predicts"):
        Schema.parse(WARD + "predictors: [months, age]")


# -- judge ------------------------------------------------------------------------------------------------------------


def results_of(synthetic: Cohort, test: Cohort, train: Cohort) -> Results:
    """Return the results on follow-up."""
    arrays = tables({"test": test, "real": train, "synthetic": synthetic})
    groups = [grouping(arrays["test"], "sex")]
    arms = {arm: [arrays[arm]] for arm in ("real", "synthetic")}
    return Results(judged.survival_results(test.schema, arrays["test"], arms, groups, Protocol()))


def value(results: Results, metric: str, **where: Any) -> Any:
    """Return the only result of a metric."""
    (result,) = results.select(metric, **where)
    return result


def test_a_cohort_like_the_patients_agrees_and_one_that_dies_twice_as_soon_does_not() -> None:
    """Curves, restricted means, log-rank test, ranking and hazard ratios tell the two apart."""
    train, test = cohort(followed(900, 1)), cohort(followed(600, 2))
    good = results_of(cohort(followed(900, 3), synthetic=True), test, train)
    bad = results_of(cohort(followed(900, 4, hazard=0.2), synthetic=True), test, train)
    assert all(result.ok for result in good)
    near, far = (value(r, "rmst_difference", arm="synthetic") for r in (good, bad))
    assert near.interval.low < 0 < near.interval.high
    assert far.interval.high < 0
    assert value(good, "logrank_p", arm="synthetic").number > 1e-6
    assert value(bad, "logrank_p", arm="synthetic").number < 1e-6
    cox = value(good, "c_harrell", arm="synthetic", subject="Cox regression")
    assert 0.55 < cox.number < 0.75
    assert abs(value(good, "c_change", subject="Cox regression").number) < 0.03
    ages = {r.arm: r for r in good.select("cox_coefficient") if r.subject == "age (per SD)"}
    for result in ages.values():  # 17.3 years, a doubling in 15
        assert result.interval.low < np.log(2) / 15 * 17.3 < result.interval.high or abs(result.number - 0.8) < 0.25
    worse = [abs(r.number) for r in bad.select("survival_calibration", arm="synthetic")]
    fine = [abs(r.number) for r in good.select("survival_calibration", arm="synthetic")]
    assert min(worse) > max(fine)
    assert {r.group for r in good.select("group_rmst_difference")} == {"sex=female", "sex=male"}


def test_each_competing_event_is_judged_by_itself() -> None:
    """With two ways out there are two curves and two models, named by the event."""
    text = WARD.replace("[alive, dead]", "[alive, dead, moved]")
    sides = [cohort(followed(500, seed, competing=True), text) for seed in (1, 2)]
    synthetic = cohort(followed(500, 3, competing=True), text, synthetic=True)
    results = results_of(synthetic, sides[1], sides[0])
    assert [r.subject for r in results.select("rmst", arm="synthetic")] == ["dead", "moved"]
    assert value(results, "c_harrell", arm="synthetic", subject="dead, Cox regression").number > 0.55
    assert len(TimeTask.of(sides[0].schema, tables({"a": sides[0]})["a"])) == 2


def test_few_events_and_absent_packages_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is estimated of a handful of events; without the packages the reason names the extra."""
    rare = followed(200, 1, hazard=1e-5)
    results = results_of(cohort(rare, synthetic=True), cohort(rare), cohort(rare))
    assert not any(result.ok for result in results)
    assert "events" in value(results, "rmst").reason or "the event" in value(results, "rmst").reason
    monkeypatch.setattr(judged, "available", lambda: False)
    frame = followed(200, 1)
    reasons = {r.reason for r in results_of(cohort(frame, synthetic=True), cohort(frame), cohort(frame))}
    assert any("dpsynth[survival]" in reason for reason in reasons)


def test_the_page_shows_the_curves_inside_and_nothing_of_them_outside() -> None:
    """The internal page has the figure; of private patients the public one has no number of follow-up."""
    frames = [followed(300, seed) for seed in (1, 2, 3)]
    train, test = (cohort(frame, public=False) for frame in frames[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluation = evaluate(test, cohort(frames[2], synthetic=True), real_train=train)
    page = render_internal(evaluation)
    assert "share without the event" in page
    assert "survival forest" in page
    public = render_public(evaluation.public())
    assert "Does follow-up agree?" in public
    assert "share without the event" not in public
    assert not list(evaluation.public().results.select(section="survival"))
