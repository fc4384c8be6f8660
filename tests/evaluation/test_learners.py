import numpy as np
import pytest

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Table, Variable, tables
from dpsynth.evaluation.learners.tabular import LEARNERS, dense_features, fit_predict, task_of, tree_features

from .helpers import categories, cohort, frame, numbers, ward


def joined(one: Table, two: Table) -> Table:
    """Return the columns of two tables side by side."""
    return Table({**one.variables, **two.variables}, one.patients)


def test_the_task_follows_from_the_schema() -> None:
    """Two classes, several, or a number; the positive class is the last in the list."""
    table = tables({"x": ward(60)})["x"]
    assert (task_of(table, "died").kind, task_of(table, "died").positive) == ("binary", 1)
    assert task_of(table, "stage").kind == "multiclass"
    assert task_of(table, "age").kind == "numeric"
    with pytest.raises(InputError, match="'id': is not a modelled column"):
        task_of(table, "id")
    with pytest.raises(InputError, match="one possible value"):
        task_of(categories(x=[0, 0]), "x")


def test_features_know_the_training_arm_only() -> None:
    """Medians, spreads and categories are the training arm's; what it never saw is all zeros, or one unknown code."""
    train = joined(numbers(x=[0.0, 2, 4, np.nan]), categories(c=[0, 1, 0, 1]))
    test = joined(numbers(x=[np.nan, 2, 100, 0]), categories(c=[2, -1, 0, 1]))
    dense = dense_features(train, "y")(test)
    np.testing.assert_allclose(dense[:, 0], (np.array([2.0, 2, 100, 0]) - 2) / np.std([0, 2, 4]))
    assert dense[:, 1].tolist() == [1, 0, 0, 0]
    assert dense[0, 2:].tolist() == [0, 0, 0]
    assert dense[1, 2:].tolist() == [0, 0, 1]
    encode, kinds = tree_features(train, "y")
    found = encode(test)
    assert kinds == [False, True]
    assert found[0, 1] == 2
    assert np.isnan(found[1, 1])
    assert np.isnan(found[0, 0])


def test_rare_categories_share_a_code_of_trees() -> None:
    """Of 70 categories the 63 most frequent have codes of their own; the rest, and what is new, share the next."""
    train = categories(c=[code for code in range(70) for _ in range(70 - code)], d=[0] * 2485)
    test = categories(c=[0, 62, 63, 69, 71, -1], d=[0, 1, -1, 0, 0, 0])
    encode, kinds = tree_features(train, "y")
    codes = encode(test)
    assert kinds == [True, True]
    assert codes[:5, 0].tolist() == [0, 62, 63, 63, 63]
    assert np.isnan(codes[5, 0])
    assert codes[0, 1] == 0
    assert np.isnan(codes[2, 1])


def test_features_of_trees_keep_the_order_of_the_columns() -> None:
    """Numbers and categories by turns, as the table has them."""
    train = joined(joined(categories(a=[0, 1]), numbers(b=[5.0, 6])), categories(c=[1, 0]))
    encode, kinds = tree_features(train, "y")
    assert kinds == [True, False, True]
    assert encode(train).tolist() == [[0, 5, 1], [1, 6, 0]]


def test_the_target_is_no_feature() -> None:
    """Neither encoder looks at it."""
    train = joined(numbers(x=[0.0, 1]), categories(y=[0, 1]))
    assert dense_features(train, "y")(train).shape == (2, 2)
    assert tree_features(train, "y")[0](train).shape == (2, 1)


@pytest.mark.parametrize("learner", list(LEARNERS))
@pytest.mark.parametrize("target", ["died", "stage", "age", "crea", "admitted"])
def test_every_learner_predicts_every_kind_of_target(learner: str, target: str) -> None:
    """Risks are in [0, 1] and of several classes add up to 1; missing values are no obstacle."""
    table = tables({"x": ward(150)})["x"]
    task = task_of(table, target)
    found = fit_predict(table, task, learner)(table)
    assert np.isfinite(found.scores).all()
    if task.kind != "numeric":
        assert 0 <= found.scores.min() <= found.scores.max() <= 1
    if task.kind == "multiclass":
        np.testing.assert_allclose(found.scores.sum(axis=1), 1)


@pytest.mark.parametrize("learner", list(LEARNERS))
def test_a_class_that_the_training_arm_lacks_has_risk_zero(learner: str) -> None:
    """The other classes keep their places."""
    data = frame(300)
    table = tables({"x": cohort(data[data["stage"] != "two"]), "y": ward(20)})["x"]
    found = fit_predict(table, task_of(table, "stage"), learner)(table)
    assert found.scores.shape == (len(table), 3)
    assert found.scores[:, 1].max() == 0
    assert set(found.guesses) <= {0, 2}


@pytest.mark.parametrize("learner", list(LEARNERS))
def test_one_class_or_one_value_cannot_be_learned(learner: str) -> None:
    """A constant or all-missing target is refused with a reason that names the target only."""
    for values in ([1, 1, 1, 1], [-1, -1, -1, -1], [-1, 1, 1, -1]):
        table = Table(
            {"x": Variable("x", np.arange(4.0)), "y": Variable("y", np.array(values), ("n", "y"))}, np.arange(4)
        )
        with pytest.raises(InputError, match="fewer than two different values of 'y'"):
            fit_predict(table, task_of(table, "y"), learner)


@pytest.mark.parametrize("learner", list(LEARNERS))
def test_an_all_missing_column_is_no_obstacle(learner: str) -> None:
    """Numbers or categories without any value carry nothing, and nothing breaks."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    table = Table(
        {
            "x": Variable("x", labels + rng.normal(0, 0.1, 80)),
            "empty": Variable("empty", np.full(80, np.nan)),
            "none": Variable("none", np.full(80, -1), ("a", "b")),
            "y": Variable("y", labels, ("n", "y")),
        },
        np.arange(80),
    )
    found = fit_predict(table, task_of(table, "y"), learner)(table)
    assert ((found.scores > 0.5) == labels.astype(bool)).mean() > 0.9


@pytest.mark.parametrize("learner", list(LEARNERS))
def test_a_cohort_of_the_target_alone_can_be_predicted_by_its_prevalence(learner: str) -> None:
    """One column: everybody has the same risk, the share with the outcome."""
    table = categories(y=[0, 1, 1, 1] * 20)
    found = fit_predict(table, task_of(table, "y"), learner)(table)
    np.testing.assert_allclose(found.scores, 0.75, atol=0.01)


def test_alarms_are_as_many_as_patients_with_the_outcome_in_the_training_arm() -> None:
    """The threshold is the training arm's, within ties."""
    table = tables({"x": ward(400)})["x"]
    task = task_of(table, "died")
    found = fit_predict(table, task, "logistic regression")(table)
    assert found.guesses.sum() == pytest.approx(task.truth(table).sum(), abs=2)
