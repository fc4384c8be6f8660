"""The arm of a classifier that was fitted elsewhere: judged as those that are trained here."""

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.evaluation import Classifier, Evaluation, evaluate
from dpsynth.evaluation.result import Disclosure
from dpsynth.evaluation.sweep import SweepRun
from dpsynth.evaluation.sweep_metrics import follow

from .helpers import ward

REAL, TRAIN = ward(400, 2), ward(600)


def ages(cohort: Cohort) -> Any:
    """Return the age of each row over a hundred: made-up patients die of it, so that it is a risk."""
    return np.asarray(cohort.to_pandas()["age"], dtype=float) / 100


def judged(*classifiers: Classifier, **given: Any) -> Evaluation:
    """Return an evaluation of a cohort beside classifiers."""
    return evaluate(REAL, ward(300, 3, synthetic=True), real_train=TRAIN, classifiers=classifiers, **given)


@pytest.fixture(scope="module")
def by_age() -> Evaluation:
    """Return the evaluation with one classifier: the age."""
    return judged(Classifier(ages))


def test_a_classifier_is_an_arm_on_the_same_test_patients(by_age: Evaluation) -> None:
    """Its AUROC is scikit-learn's; threshold, change, calibration and groups are as those of other arms."""
    mine = by_age.results.select(arm="dp_classifier")
    truth = np.asarray(REAL.to_pandas()["died"]).astype(int)
    found = mine.one("auroc")
    assert found.number == pytest.approx(metrics.roc_auc_score(truth, ages(REAL)))
    assert (found.subject, found.n, found.disclosure) == ("logistic regression", 400, Disclosure.INTERNAL)
    deaths = np.asarray(TRAIN.to_pandas()["died"]).astype(int).mean()
    alarms = ages(REAL) > np.quantile(ages(TRAIN), 1 - deaths)
    assert mine.one("balanced_accuracy").number == pytest.approx(metrics.balanced_accuracy_score(truth, alarms))
    real = by_age.results.one("auroc", arm="real", subject="logistic regression")
    assert mine.one("change").number == pytest.approx(found.number - real.number)
    assert mine.one("calibration_slope").interval is not None
    women = np.asarray(REAL.to_pandas()["sex"]) == "f"
    expected = metrics.roc_auc_score(truth[women], ages(REAL)[women])
    assert mine.one("group_auroc", group="sex=f").number == pytest.approx(expected)


def test_a_classifier_changes_nothing_for_the_other_arms(by_age: Evaluation) -> None:
    """Every other result is what it is without it."""
    without = judged()
    assert [result.to_dict() for result in by_age if result.arm != "dp_classifier"] == [
        one.to_dict() for one in without
    ]


def test_the_page_shows_the_classifier_and_says_where_there_is_none(by_age: Evaluation, private: Evaluation) -> None:
    """In the forest of arms; without one the page says that this yardstick is missing."""
    assert "DP classifier on real patients, same ε" in by_age.html()
    assert "can be answered at that price without synthesis" in by_age.html()
    assert "the yardstick for whether synthesis is worth it, was not given" in private.html()


def test_a_classifier_that_reads_the_outcome_gains_nothing() -> None:
    """The outcomes that it is shown are shuffled: its AUROC is that of a coin (within 5 standard errors of 0.03)."""
    peeking = judged(Classifier(lambda cohort: np.asarray(cohort.to_pandas()["died"]).astype(float)))
    assert abs(peeking.results.one("auroc", arm="dp_classifier").number - 0.5) < 0.15


def test_several_fits_are_draws_and_learners_are_kept_apart() -> None:
    """Two fits beside one learner have a mean; a classifier beside another learner is an arm of its own there."""
    flat = Classifier(lambda cohort: np.full(len(cohort), 0.3))
    found = judged(Classifier(ages), flat, Classifier(ages, beside="gradient boosting")).results.select("auroc")
    linear = found.one("auroc", arm="dp_classifier", subject="logistic regression")
    boosted = found.one("auroc", arm="dp_classifier", subject="gradient boosting")
    assert linear.number == pytest.approx((boosted.number + 0.5) / 2)
    assert linear.interval is not None
    assert "synthetic draws" in linear.interval.covers


def test_rows_without_a_known_outcome_keep_their_own_prediction() -> None:
    """Predictions follow their rows when some are left out: three classes, some unknown."""

    def race(cohort: Cohort) -> Any:
        given = cohort.to_pandas()["sex"].to_numpy() == "f"
        return np.column_stack([np.where(given, 0.6, 0.2), np.where(given, 0.2, 0.6), np.full(len(given), 0.2)])

    result = judged(Classifier(race), target="race", subgroups=[]).results.one("auroc", arm="dp_classifier")
    frame = REAL.to_pandas()
    known = frame["race"].notna().to_numpy()
    truth = frame["race"][known].map({"a": 0, "b": 1, "c": 2}).astype(int)
    expected = metrics.roc_auc_score(truth, race(REAL)[known], multi_class="ovr")
    assert result.number == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n: np.zeros((n, 2)), "shape"),
        (lambda n: np.full(n, np.nan), "not finite"),
        (lambda n: np.full(n, 1.5), "outside 0 to 1"),
    ],
)
def test_answers_of_another_form_are_refused(answer: Any, words: str) -> None:
    """Before anything is trained, with what was expected."""
    with pytest.raises(InputError, match=words):
        judged(Classifier(lambda cohort: answer(len(cohort))))


def test_an_unknown_learner_is_refused() -> None:
    """With the learners that there are."""
    with pytest.raises(InputError, match="gradient boosting"):
        Classifier(ages, beside="oracle")


def test_a_sweep_follows_the_classifier() -> None:
    """Its score is a measure of its own beside ceiling and floor."""
    results = follow(REAL, TRAIN, ward(300, 3, synthetic=True), classifiers=[Classifier(ages)])
    measures = SweepRun("prism", 1.0, 0, results).measures()
    assert measures["auroc:dp_classifier"] == results.one("auroc", arm="dp_classifier").number
