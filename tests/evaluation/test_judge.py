import json
import re

import numpy as np
import pandas as pd
import pytest

from dpsynth.errors import DataError, InputError
from dpsynth.evaluation import Disclosure, Evaluation, PublicResults, Status, describe, evaluate, first_look
from dpsynth.evaluation.catalogue import METRICS
from dpsynth.evaluation.metrics.released import ReleasedCounts
from dpsynth.schema import Schema

from .helpers import cohort, frame, ward


def test_every_part_has_results(private: Evaluation) -> None:
    """Fidelity, checks, utility, inference and fairness, and nothing failed."""
    assert {one.section for one in private} == {"fidelity", "check", "utility", "inference", "fairness"}
    assert [result for result in private if result.status is Status.FAILED] == []
    assert set(private.to_frame()["arm"]) >= {"real", "synthetic", "floor", "real+synthetic", "prevalence"}


def test_numbers_that_touch_private_patients_are_internal(private: Evaluation) -> None:
    """What is public of a private cohort's evaluation comes from the synthetic rows and from released counts only."""
    metrics = {result.metric for result in private if result.disclosure is Disclosure.PUBLIC}
    assert metrics == {"rows", "constraint_violations", "share", "released_tvd", "within_noise"}
    assert {result.arm for result in private if result.disclosure is Disclosure.PUBLIC} == {"synthetic"}


def test_numbers_of_public_patients_are_public(open_data: Evaluation) -> None:
    """Public data has nothing to hide."""
    assert {result.disclosure for result in open_data} == {Disclosure.PUBLIC}
    assert len(open_data.public()) == len(open_data)


def test_a_cohort_is_between_floor_and_ceiling(private: Evaluation) -> None:
    """A cohort with six tenths of the effect learns more than one without and no more than real patients, by AUROC."""
    found = private.results.select("auroc", subject="logistic regression")
    value = {result.arm: result.number for result in found}
    assert value["floor"] < value["synthetic"] <= value["real"] + 0.02
    excess = {result.arm: result.number for result in private.results.select("tvd_2way_excess")}
    assert excess["floor"] > 0


def test_two_runs_with_one_seed_agree() -> None:
    """Every number, every interval."""
    one, two = (evaluate(ward(120, 2), ward(100, 1, synthetic=True), real_train=ward(100), seed=3) for _ in range(2))
    assert one.json() == two.json()


def test_two_files_are_enough(open_data: Evaluation) -> None:
    """Without training patients one half of the real ones takes their place, and the other half is tested on."""
    tested = open_data.results.one("auroc", arm="real", subject="gradient boosting")
    assert tested.n is not None
    assert 200 < tested.n < 300
    assert tested.detail["trained_rows"] <= 300


def test_a_patient_with_several_rows_is_one_patient() -> None:
    """Groups count patients, and the evaluation of a cohort with several rows a patient runs."""
    text = """
name: visits
confirmed: true
patient: id
max_rows_per_patient: 3
target: y
subgroups: [g]
columns:
  id: {type: identifier}
  g: {type: categorical, values: [a, b]}
  x: {type: numeric, min: -5, max: 5, decimals: 2}
  y: {type: boolean, labels: [0, 1]}
"""

    def visits(patients: int, seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        y = np.repeat(rng.integers(0, 2, patients), 3)
        x = np.clip(np.round(y + rng.normal(size=3 * patients), 2), -5, 5)
        g = np.repeat(rng.choice(["a", "b"], patients), 3)
        return pd.DataFrame({"id": np.repeat([f"p{i}" for i in range(patients)], 3), "g": g, "x": x, "y": y})

    synthetic = cohort(visits(100, 2).drop(columns="id"), text, synthetic=True)
    found = evaluate(cohort(visits(100, 0), text), synthetic, real_train=cohort(visits(100, 1), text))
    assert [result for result in found if result.status is Status.FAILED] == []
    assert sum(result.n or 0 for result in found.results.select("group_auroc", arm="real")) == 100


HARD = {
    "a class is missing": frame(300, 1).assign(died=0),
    "a column is all missing": frame(300, 1).assign(crea=np.nan, race=None),
    "a column is constant": frame(300, 1).assign(age=50, sex="f"),
    "a category is missing": frame(300, 1).assign(stage="two"),
    "three rows": frame(3, 1),
    "one row": frame(1, 1),
}


@pytest.mark.parametrize("case", list(HARD))
def test_hard_cohorts_give_reasons_and_no_failures(case: str) -> None:
    """Whatever the synthetic cohort lacks, the evaluation ends, and what cannot be estimated says why."""
    found = evaluate(ward(150, 2), cohort(HARD[case], synthetic=True), real_train=ward(150))
    assert [(result.metric, result.reason) for result in found if result.status is Status.FAILED] == []
    assert len(found.html()) > 10_000


@pytest.mark.parametrize("case", ["a class is missing", "a column is all missing", "a column is constant"])
def test_hard_patients_give_reasons_and_no_failures(case: str) -> None:
    """The same among the real patients."""
    data = HARD[case]
    found = evaluate(cohort(data.head(150)), ward(150, synthetic=True), real_train=cohort(data.tail(150)))
    assert [(result.metric, result.reason) for result in found if result.status is Status.FAILED] == []


def test_a_cohort_of_one_column() -> None:
    """Pairs do not exist, and the evaluation says so."""
    text = "{name: w, confirmed: true, target: died, columns: {died: {type: boolean, labels: [0, 1]}}}"
    parts = [cohort(frame(200, seed)[["died"]], text, synthetic=seed == 2) for seed in (0, 1, 2)]
    found = evaluate(parts[0], parts[2], real_train=parts[1])
    assert [result for result in found if result.status is Status.FAILED] == []
    assert not len(found.results.select("tvd_2way"))
    assert found.results.one("association_error", arm="synthetic").status is Status.NOT_ESTIMABLE


def test_without_target_and_subgroups_the_rest_is_judged() -> None:
    """No outcome, no groups: fidelity stands."""
    text = "{name: w, confirmed: true, columns: {age: {type: numeric, min: 0, max: 120}}}"
    parts = [cohort(frame(150, seed)[["age"]], text) for seed in (0, 1)]
    found = evaluate(parts[0], parts[1])
    assert {one.section for one in found} == {"fidelity", "check"}


def test_what_does_not_fit_is_refused() -> None:
    """An unknown target, group or arm, and a cohort of another schema."""
    real, fake = ward(60), ward(60, 1, synthetic=True)
    with pytest.raises(InputError, match="target 'shoe'"):
        evaluate(real, fake, target="shoe")
    with pytest.raises(InputError, match="subgroup 'shoe'"):
        evaluate(real, fake, subgroups=["shoe"])
    with pytest.raises(InputError, match="'ceiling' is unknown"):
        evaluate(real, fake, arms={"ceiling": fake})
    other = cohort(frame(60)[["age"]], "{name: w, confirmed: true, columns: {age: {type: numeric, min: 0, max: 120}}}")
    with pytest.raises(DataError, match="has no such column"):
        evaluate(real, other)


def test_no_message_of_the_evaluation_holds_a_value(private: Evaluation) -> None:
    """Reasons speak of counts and columns; none of them quotes a cell."""
    cells = {"2020-", "2021-"} | {f"{value:.1f}" for value in frame(400, 2)["crea"].dropna().unique() if value > 0}
    assert not [result.reason for result in private if any(cell in result.reason for cell in cells)]


def test_progress_is_told_from_start_to_end() -> None:
    """Shares rise from 0 to 1."""
    told: list[tuple[str, float]] = []
    evaluate(ward(80), ward(60, 1, synthetic=True), progress=lambda phase, share: told.append((phase, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_a_release_describes_itself_without_real_patients() -> None:
    """Everything in it is public."""
    released = [ReleasedCounts(("sex",), np.array([50, 50]), 5.0, np.array([52, 48]))]
    found = describe(ward(100, synthetic=True), released=released)
    assert isinstance(found.results, PublicResults)
    assert "released_tvd" in {result.metric for result in found}
    assert len(found.html(public=True)) > 5_000


def test_the_first_look_has_tables_and_classifiers() -> None:
    """Mean TVD of one, two and three columns, and AUROC of two learners, for real and synthetic."""
    found = first_look(ward(300), ward(200, 2), ward(300, 1, synthetic=True), "died")
    assert {result.disclosure for result in found} == {Disclosure.INTERNAL}
    for order in (1, 2, 3):
        assert found.one(f"tvd_{order}way", arm="synthetic").interval is not None
    for learner in ("gradient boosting", "logistic regression"):
        assert found.one("auroc", arm="real", subject=learner).number > 0.6
        assert found.one("auroc", arm="synthetic", subject=learner).n == 200
    public = first_look(ward(200, public=True), ward(100, 2, public=True), ward(200, 1, synthetic=True))
    assert {result.disclosure for result in public} == {Disclosure.PUBLIC}


def test_the_first_look_of_another_target_says_so() -> None:
    """A number is judged by the full evaluation only; one class is not estimable."""
    found = first_look(ward(100), ward(100, 2), ward(100, 1, synthetic=True), "age")
    assert {result.status for result in found.select("auroc")} == {Status.NOT_ESTIMABLE}
    dead = cohort(frame(100, 1).assign(died=1), synthetic=True)
    found = first_look(ward(100), ward(100, 2), dead, "died")
    assert {result.status for result in found.select("auroc", arm="synthetic")} == {Status.NOT_ESTIMABLE}


def test_duplicates_and_impossible_rows_are_counted() -> None:
    """Seven rows of the fitted patients again, and three that the schema forbids."""
    data = frame(200)
    fake = frame(100, 1)
    fake.loc[:6] = data.loc[:6]
    fake.loc[10:12, ["stage", "age"]] = ["one", 100]
    found = evaluate(ward(150, 2), cohort(fake, synthetic=True), real_train=cohort(data)).results
    assert found.one("duplicates", arm="synthetic").number == 7
    broken = found.one("constraint_violations", arm="synthetic")
    assert broken.number == pytest.approx(0.03)
    assert list(broken.detail["constraints"].values()) == [3]


def test_no_distance_to_a_patient_is_sold_as_privacy(private: Evaluation) -> None:
    """Repeated rows are a count without a better side, internal, and said to be no measure of privacy; nothing is near.

    No metric and no page speaks of the closest or nearest record: sets that pass such a test fall to attacks.
    """
    repeated = METRICS["duplicates"]
    assert (repeated.section, repeated.direction) == ("check", "none")
    assert "not a measure of privacy" in repeated.about
    found = private.results.select("duplicates")
    assert len(found)
    assert all(result.disclosure is Disclosure.INTERNAL for result in found)
    said = " ".join(f"{metric.key} {metric.title} {metric.about}" for metric in METRICS.values())
    for text in (said, private.html(), private.html(public=True)):
        assert not re.search(r"(closest|nearest)[ _-](record|patient|row)|\b(dcr|nndr)\b", text, re.IGNORECASE)


def test_the_json_is_the_frame(private: Evaluation) -> None:
    """One entry per result, in order."""
    rows = json.loads(private.json())["results"]
    assert [row["metric"] for row in rows] == private.to_frame()["metric"].tolist()


def test_the_schema_of_discovered_values_is_no_obstacle() -> None:
    """A column whose values are found under DP: the cohort may call the rest other."""
    schema = Schema.parse(
        "{name: w, confirmed: true, columns: {dx: {type: categorical, discover: true, max_values: 3}, "
        "x: {type: numeric, min: 0, max: 9}}}"
    )
    rng = np.random.default_rng(0)

    def made(values: list[str], **facts: bool) -> pd.DataFrame:
        return pd.DataFrame({"dx": rng.choice(values, 80), "x": rng.integers(0, 10, 80)})

    from dpsynth.cohort import Cohort

    real = Cohort.from_pandas(made(["flu", "gout", "yaws"]), schema)
    fake = Cohort.from_pandas(made(["flu", "other"]), schema, synthetic=True)
    found = evaluate(real, fake).results
    assert found.one("tvd_column", subject="dx").number > 0.3
