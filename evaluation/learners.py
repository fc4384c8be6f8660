"""Classifiers and regressors that are trained on one arm and judged on another.

Preprocessing is fitted on the training arm only: what it knows about categories, medians and spreads comes from there.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.evaluation.table import Floats, Ints, Table, Variable

__all__ = [
    "LEARNERS",
    "Prediction",
    "Task",
    "boosting",
    "dense_features",
    "fit_predict",
    "named",
    "one_thread",
    "task_of",
    "threshold",
    "tree_features",
]

#: Most categories of one column that a learner tells apart; the rarer ones of the training arm share a code.
CATEGORIES = 63


@dataclass(frozen=True)
class Task:
    """What is predicted.

    Parameters
    ----------
    target : str
        The column.
    kind : {"binary", "multiclass", "numeric"}
    classes : tuple of str
        Labels of the classes in the schema's order; empty for a number.
    positive : int
        The class whose probability is judged where there are two: the last in the schema's list.
    """

    target: str
    kind: Literal["binary", "multiclass", "numeric"]
    classes: tuple[str, ...] = ()
    positive: int = 1

    def known(self, table: Table) -> Table:
        """Return the rows of `table` whose outcome is known; one that has no magnitude is not ("not done")."""
        blank = table[self.target].blank
        return table.take(np.flatnonzero(~blank)) if blank.any() else table

    def truth(self, table: Table) -> NDArray[Any]:
        """Return the outcome: bool where there are two classes, class codes, or numbers."""
        values = table[self.target].values
        return values == self.positive if self.kind == "binary" else values


def task_of(table: Table, target: str) -> Task:
    """Return the prediction task that the target's public type makes.

    Raises
    ------
    InputError
        If there is no such modelled column, or it has one possible value.
    """
    if target not in table.variables:
        raise InputError(f"target {target!r}: is not a modelled column; the columns are {', '.join(table.names)}.")
    variable = table[target]
    if variable.categories is None:
        return Task(target, "numeric")
    if len(variable.categories) < 2:
        raise InputError(f"target {target!r}: has one possible value, so that there is nothing to predict.")
    kind: Literal["binary", "multiclass"] = "binary" if len(variable.categories) == 2 else "multiclass"
    return Task(target, kind, variable.categories, len(variable.categories) - 1)


def _frequent(values: Ints) -> Ints:
    """Return the codes of the most frequent categories of the training arm."""
    found, counts = np.unique(values[values >= 0], return_counts=True)
    return np.sort(found[np.argsort(-counts, kind="stable")[:CATEGORIES]])


def _positions(values: Ints, known: Ints) -> Ints:
    """Return the place of each value in `known` (ascending), -1 where it is not one of them."""
    if len(known) == 0:
        return np.full(len(values), -1)
    places = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[places] == values, places, -1)


Encoder = Callable[[Table], Floats]


def tree_features(train: Table, target: str) -> tuple[Encoder, list[bool]]:
    """Return an encoder for trees (NaN is missing, categories are codes) and which features are categories.

    Columns without any value in the training arm are left out.
    """
    names = [name for name in train.names if name != target and not train[name].missing.all()]
    known = {name: _frequent(train[name].values) for name in names if not train[name].numeric}

    def encode(table: Table) -> Floats:
        columns = []
        for name in names:
            values = table[name].values
            if name in known:
                places = _positions(values, known[name])
                values = np.where(places < 0, np.where(values < 0, np.nan, len(known[name])), places)
            columns.append(values.astype(np.float64))
        return np.column_stack(columns) if columns else np.zeros((len(table), 1))

    return encode, [name in known for name in names] or [False]


def _dense_number(variable: Variable) -> Callable[[Variable], Floats]:
    """Return a rule from a number to (standardised value, is it missing, is it each of the states written as text).

    Where there is no magnitude the value is the training median; of a state such as "<5" it is the limit.
    """
    states = variable.states
    present = variable.values[~variable.blank]
    middle = float(np.median(present)) if len(present) else 0.0
    spread = float(present.std()) if len(present) else 0.0

    def encode(other: Variable) -> Floats:
        filled = np.where(other.blank, middle, other.values)
        flags = [other.missing, *(other.values == state for state in states)]
        return np.column_stack([(filled - middle) / (spread or 1.0), *(flag.astype(np.float64) for flag in flags)])

    return encode


def _dense_category(variable: Variable) -> Callable[[Variable], Floats]:
    """Return a rule from a category to one indicator for each category that the training arm has, and for missing."""
    known = _frequent(variable.values)

    def encode(other: Variable) -> Floats:
        places = _positions(other.values, known)
        indicators = np.zeros((len(places), len(known) + 1))
        rows = np.flatnonzero(places >= 0)
        indicators[rows, places[rows]] = 1.0
        indicators[other.missing, -1] = 1.0
        return indicators

    return encode


def dense_features(train: Table, target: str) -> Encoder:
    """Return an encoder for linear models: standardised numbers, indicators for categories and for missing."""
    names = [name for name in train.names if name != target]
    rules = {name: (_dense_number if train[name].numeric else _dense_category)(train[name]) for name in names}

    def encode(table: Table) -> Floats:
        blocks = [rule(table[name]) for name, rule in rules.items()]
        return np.hstack(blocks) if blocks else np.zeros((len(table), 1))

    return encode


@dataclass(frozen=True)
class Prediction:
    """What one trained learner says about one table.

    Parameters
    ----------
    scores : ndarray
        Shape (rows,): risk of the positive class, or the predicted number; shape (rows, classes) for several classes,
        with 0 for a class that the training arm does not have.
    guesses : ndarray, shape (rows,)
        Guessed class codes (0/1 where there are two); the predicted number for a number.
    """

    scores: Floats
    guesses: NDArray[Any]


Fitted = Callable[[Table], Prediction]


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which numerical libraries use one thread.

    Cohorts are small: on a busy machine several threads wait for each other many times longer than they work.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn depends on it

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def boosting(categorical: list[bool], seed: int, *, classes: bool = True) -> Any:
    """Return gradient boosting with scikit-learn's defaults that trains on all rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return kind(categorical_features=categorical, early_stopping=False, random_state=seed)


def _gradient_boosting(train: Table, task: Task, seed: int) -> tuple[Any, Encoder]:
    encode, categorical = tree_features(train, task.target)
    return boosting(categorical, seed, classes=task.kind != "numeric"), encode


def _linear(train: Table, task: Task, seed: int) -> tuple[Any, Encoder]:
    from sklearn.linear_model import LogisticRegression, Ridge

    encode = dense_features(train, task.target)
    model = Ridge(random_state=seed) if task.kind == "numeric" else LogisticRegression(max_iter=2000, tol=1e-3)
    return model, encode


LEARNERS: Mapping[str, Callable[[Table, Task, int], tuple[Any, Encoder]]] = {
    "gradient boosting": _gradient_boosting,
    "logistic regression": _linear,
}
"""The learners by name; for a numeric target the second is a ridge regression."""


def named(learner: str, task: Task) -> str:
    """Return what a learner is called: the linear one is a ridge regression where a number is predicted."""
    return "ridge regression" if task.kind == "numeric" and learner == "logistic regression" else learner


def fit_predict(train: Table, task: Task, learner: str, seed: int = 0, *, weights: Floats | None = None) -> Fitted:
    """Train a learner on the rows of `train` whose outcome is known; return what predicts for a table.

    Parameters
    ----------
    train : Table
    task : Task
    learner : str
        A key of `LEARNERS`.
    seed : int
    weights : ndarray, shape (rows,), optional
        Weights of the rows in the training.

    Raises
    ------
    InputError
        If `train` has no row with a known outcome, or all of them have the same.
    """
    if weights is not None:
        weights = weights[~train[task.target].blank]
    train = task.known(train)
    truth = task.truth(train)
    if len(train) == 0 or len(np.unique(truth)) < 2:
        raise InputError(f"the training arm has fewer than two different values of {task.target!r}")
    model, encode = LEARNERS[learner](train, task, seed)
    with one_thread():
        model.fit(encode(train), truth, sample_weight=weights)
    limit = threshold(_risks(model, encode(train)), float(truth.mean())) if task.kind == "binary" else 0.5
    return partial(_predict, model, encode, task, limit)


def threshold(risks: Floats, share: float) -> float:
    """Return the risk above which the training arm has as many alarms as it has patients with the outcome."""
    return float(np.quantile(risks, 1 - share))


def _risks(model: Any, features: Floats) -> Floats:
    with one_thread():
        risks: Floats = model.predict_proba(features)[:, 1]
    return risks


def _predict(model: Any, encode: Encoder, task: Task, limit: float, table: Table) -> Prediction:
    features = encode(table)
    if task.kind == "binary":
        risks = _risks(model, features)
        return Prediction(risks, (risks > limit).astype(np.int64))
    with one_thread():
        found = model.predict(features) if task.kind == "numeric" else model.predict_proba(features)
    if task.kind == "numeric":
        return Prediction(found, found)
    scores = np.zeros((len(table), len(task.classes)))
    scores[:, model.classes_.astype(int)] = found
    return Prediction(scores, scores.argmax(axis=1))
