import numpy as np
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from dpsynth.evaluation.arrays.table import Table, tables
from dpsynth.evaluation.learners.arms import Exam, Trained, join, prevalence, train_all
from dpsynth.evaluation.learners.tabular import Prediction, task_of
from dpsynth.evaluation.metrics.utility import score, utility
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Status
from dpsynth.evaluation.results import Results
from dpsynth.evaluation.statistics.scores import ones

from .helpers import cohort, frame, ward

TERMS = Protocol(draws=200)


def quiet(_phase: str, _share: float) -> None:
    """Take no notice of progress."""


def study(target: str = "died", synthetic: list[Table] | None = None, rows: int = 400) -> Results:
    """Train on real and synthetic patients and test on others."""
    found = tables({"test": ward(rows, 2), "real": ward(rows), "synthetic": ward(rows, 1, effect=0.3)})
    draws = synthetic or [found["synthetic"]]
    task = task_of(found["test"], target)
    exam = Exam(task, task.known(found["test"]), tuple(draws), TERMS)
    arms = {"real": [found["real"]], "synthetic": draws, "real+synthetic": [join(found["real"], draws[0])]}
    return Results(utility([*train_all(arms, exam, quiet), prevalence(found["real"], exam)], exam))


def test_binary_scores_are_scikit_learns() -> None:
    """AUROC, AUPRC, balanced accuracy and Brier of one prediction."""
    rng = np.random.default_rng(0)
    table = tables({"x": ward(200)})["x"]
    task = task_of(table, "died")
    truth, risks = task.truth(table), rng.random(200)
    found = score(task, truth, Prediction(risks, (risks > 0.4).astype(int)), ones(200))
    expected = {
        "auroc": metrics.roc_auc_score(truth, risks),
        "auprc": metrics.average_precision_score(truth, risks),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, risks > 0.4),
        "brier": metrics.brier_score_loss(truth, risks),
    }
    assert {name: value[0] for name, value in found.items()} == pytest.approx(expected)


def test_scores_of_several_classes_are_scikit_learns_one_against_the_rest() -> None:
    """Macro AUROC and AUPRC; the Brier score adds up over classes."""
    rng = np.random.default_rng(1)
    table = tables({"x": ward(200)})["x"]
    task = task_of(table, "stage")
    truth = task.truth(table)
    risks = rng.dirichlet(np.ones(3), 200)
    found = score(task, truth, Prediction(risks, risks.argmax(axis=1)), ones(200))
    onehot = np.eye(3)[truth]
    assert found["auroc"][0] == pytest.approx(metrics.roc_auc_score(truth, risks, multi_class="ovr"))
    assert found["auprc"][0] == pytest.approx(metrics.average_precision_score(onehot, risks))
    assert found["brier"][0] == pytest.approx(((risks - onehot) ** 2).sum(axis=1).mean())


def test_scores_of_a_number_are_scikit_learns() -> None:
    """R² and mean absolute error."""
    rng = np.random.default_rng(2)
    table = tables({"x": ward(200)})["x"]
    task = task_of(table, "age")
    truth, guesses = task.truth(table), rng.normal(60, 10, 200)
    found = score(task, truth, Prediction(guesses, guesses), ones(200))
    assert found["r2"][0] == pytest.approx(metrics.r2_score(truth, guesses))
    assert found["mae"][0] == pytest.approx(metrics.mean_absolute_error(truth, guesses))


def test_every_arm_is_scored_and_compared_with_the_real_one() -> None:
    """Real patients teach best here, the change is the difference of the two AUROC, and both learners are there."""
    results = study()
    for learner in ("gradient boosting", "logistic regression"):
        real, synthetic = (results.one("auroc", arm=arm, subject=learner) for arm in ("real", "synthetic"))
        change = results.one("change", arm="synthetic", subject=learner)
        assert change.number == pytest.approx(synthetic.number - real.number)
        assert real.interval is not None
        assert real.interval.covers == ("test patients",)
        assert results.one("auroc", arm="trained_real_tested_synthetic", subject=learner).ok
        assert results.one("calibration_slope", arm="real", subject=learner).detail["curve"]["n"]
    assert results.one("auroc", arm="prevalence").number == 0.5


def test_calibration_of_true_risks_is_zero_and_one() -> None:
    """Each patient's own risk: both intervals hold the ideal; risks that are too extreme have a low slope."""
    rng = np.random.default_rng(3)
    odds = rng.normal(size=3000)
    labels = (rng.random(3000) < 1 / (1 + np.exp(-odds))).astype(int)
    table = tables({"x": cohort(frame(3000).assign(died=labels))})["x"]
    exam = Exam(task_of(table, "died"), table, (), TERMS)
    trained = [
        Trained("real", "true", (Prediction(1 / (1 + np.exp(-odds)), labels),), 1),
        Trained("synthetic", "true", (Prediction(1 / (1 + np.exp(-3 * odds)), labels),), 1),
    ]
    results = Results(utility(trained, exam))
    for metric, ideal in (("calibration_intercept", 0), ("calibration_slope", 1)):
        interval = results.one(metric, arm="real").interval
        assert interval is not None
        assert interval.low - 0.05 < ideal < interval.high + 0.05
    assert results.one("calibration_slope", arm="synthetic").number == pytest.approx(1 / 3, abs=0.05)


def test_several_draws_widen_the_interval_and_are_said() -> None:
    """Three draws: the mean is judged, and the interval covers the drawing of synthetic rows."""
    draws = list(tables({str(seed): ward(300, seed, effect=0.5) for seed in (5, 6, 7)}).values())
    result = study(synthetic=draws).one("auroc", arm="synthetic", subject="gradient boosting")
    assert result.interval is not None
    assert result.interval.covers == ("test patients", "synthetic draws")
    assert result.detail["draws"] == 3


def test_a_cohort_where_everybody_died_teaches_nothing() -> None:
    """Its scores are not estimable, with the reason; the other arms have theirs."""
    constant = tables({"x": cohort(frame(300, 1).assign(died=1))})["x"]
    results = study(synthetic=[constant])
    mine = results.select(("auroc", "brier"), arm="synthetic")
    assert {result.status for result in mine} == {Status.NOT_ESTIMABLE}
    assert all("fewer than two different values of 'died'" in result.reason for result in mine)
    assert results.one("auroc", arm="real", subject="gradient boosting").ok
    assert results.one("auroc", arm="trained_real_tested_synthetic", subject="gradient boosting").reason


def test_a_class_that_the_cohort_lacks_is_ranked_like_a_coin() -> None:
    """Three classes, one of them gone: its AUROC is 0.5, and the arm is scored all the same."""
    data = frame(400, 1)
    less = tables({"x": cohort(data[data["stage"] != "three"]), "y": ward(9)})["x"]
    result = study("stage", synthetic=[less]).one("auroc", arm="synthetic", subject="gradient boosting")
    assert 0.3 < result.number < 0.7


def test_test_patients_with_one_outcome_are_not_estimable() -> None:
    """Nobody can be ranked; no number is made up."""
    table = tables({"x": cohort(frame(100).assign(died=0)), "y": ward(100)})
    exam = Exam(task_of(table["x"], "died"), table["x"], (table["y"],), TERMS)
    results = utility(train_all({"real": [table["y"]], "synthetic": [table["y"]]}, exam, quiet), exam)
    assert {result.status for result in results} == {Status.NOT_ESTIMABLE}


def test_a_number_is_judged_by_r2_and_its_change() -> None:
    """Ridge regression takes the place of logistic regression; no calibration is claimed."""
    results = study("age")
    assert results.one("r2", arm="real", subject="ridge regression").ok
    assert results.one("change", arm="synthetic", subject="ridge regression").detail["of"] == "r2"
    assert not len(results.select("calibration_slope"))


def test_calibration_is_that_of_an_unpenalised_regression() -> None:
    """Slope: scikit-learn's coefficient of the predicted log odds; intercept: where mean risk is the observed share."""
    rng = np.random.default_rng(6)
    odds = rng.normal(size=800)
    labels = (rng.random(800) < 1 / (1 + np.exp(-0.6 * odds - 0.4))).astype(int)
    table = tables({"x": cohort(frame(800).assign(died=labels))})["x"]
    exam = Exam(task_of(table, "died"), table, (), TERMS)
    results = Results(utility([Trained("real", "x", (Prediction(1 / (1 + np.exp(-odds)), labels),), 1)], exam))
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(odds[:, None], labels)
    assert results.one("calibration_slope").number == pytest.approx(fit.coef_[0, 0], abs=1e-4)
    shift = results.one("calibration_intercept").number
    assert (1 / (1 + np.exp(-odds - shift))).mean() == pytest.approx(labels.mean(), abs=1e-6)
