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
from dpsynth.evaluation.arrays.table import Floats, Ints, Table

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
    codes, counts = np.unique(values[values >= 0], return_counts=True)
    return np.sort(codes[np.argsort(-counts, kind="stable")[:CATEGORIES]])


Encoder = Callable[[Table], Floats]


def tree_features(train: Table, target: str) -> tuple[Encoder, list[bool]]:
    """Return an encoder for trees (NaN is missing, categories are codes) and which features are categories.

    Columns without any value in the training arm are left out. A category that is rare there, or never seen, has a
    code after all others.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OrdinalEncoder

    names = [name for name in train.predictors(target) if not train[name].missing.all()]
    if not names:
        return _nothing, [False]
    numbers, categories = _places(train, names)
    frequent = [_frequent(train[names[place]].values) for place in categories]
    codes = OrdinalEncoder(
        categories=[_or_missing(values) for values in frequent],
        handle_unknown="use_encoded_value",
        unknown_value=max(map(len, frequent), default=0),
        encoded_missing_value=np.nan,
    )
    steps = [("numbers", "passthrough", numbers), ("categories", codes, categories)]
    transformer = ColumnTransformer(steps).fit(_values(train, names))
    order = np.argsort([*numbers, *categories])

    def encode(table: Table) -> Floats:
        features: Floats = transformer.transform(_values(table, names))[:, order]
        return features

    return encode, [not train[name].numeric for name in names]


def dense_features(train: Table, target: str) -> Encoder:
    """Return an encoder for linear models: standardised numbers, indicators for categories and for missing.

    Where a number has no magnitude its value is the training median; of a state such as "<5" it is the limit.
    Indicators say whether it is missing and in which of the states written as text it is.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, RobustScaler, StandardScaler

    names = train.predictors(target)
    if not names:
        return _nothing
    numbers, categories = _places(train, names)
    middle, spread = RobustScaler(with_scaling=False), StandardScaler(with_mean=False)
    scaled = make_pipeline(middle, spread, SimpleImputer(strategy="constant", fill_value=0.0))  # 0 is the median
    states = [np.arange(1.0 + len(train[names[place]].states)) for place in numbers]
    frequent = [_or_missing(_frequent(train[names[place]].values)) for place in categories]
    steps = [
        ("magnitudes", scaled, [len(names) + place for place in numbers if not train[names[place]].blank.all()]),
        ("states", OneHotEncoder(categories=states, handle_unknown="ignore"), [2 * len(names) + p for p in numbers]),
        ("categories", OneHotEncoder(categories=frequent, handle_unknown="ignore"), categories),
    ]
    transformer = ColumnTransformer(steps, sparse_threshold=0).fit(_parts(train, names))

    def encode(table: Table) -> Floats:
        features: Floats = transformer.transform(_parts(table, names))
        return features

    return encode


def _nothing(table: Table) -> Floats:
    """Return the one feature of a table that has no column to learn from."""
    return np.zeros((len(table), 1))


def _places(table: Table, names: list[str]) -> tuple[list[int], list[int]]:
    """Return the places of numbers and those of categories."""
    places = range(len(names))
    return [p for p in places if table[names[p]].numeric], [p for p in places if not table[names[p]].numeric]


def _or_missing(codes: Ints) -> Floats:
    """Return codes of categories, and NaN for missing after them."""
    return np.append(codes.astype(np.float64), np.nan)


def _values(table: Table, names: list[str]) -> Floats:
    """Return numbers, and codes of categories, with NaN for missing, shape (rows, columns)."""
    variables = [table[name] for name in names]
    return np.column_stack([np.where(variable.missing, np.nan, variable.values) for variable in variables])


def _parts(table: Table, names: list[str]) -> Floats:
    """Return for each column its value, its magnitude, and what else it is, shape (rows, 3 * columns).

    The magnitude is NaN in a state that says nothing of it. What else: 0 missing, from 1 on the states written as text
    in their order, -1 none of these.
    """
    magnitudes, others = [], []
    for variable in (table[name] for name in names):
        magnitudes.append(np.where(variable.blank, np.nan, variable.values))
        is_state = [variable.values == state for state in variable.states]
        others.append(np.select([variable.missing, *is_state], range(1 + len(is_state)), -1))
    return np.hstack([_values(table, names), np.column_stack(magnitudes), np.column_stack(others)])


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
        values = model.predict(features) if task.kind == "numeric" else model.predict_proba(features)
    if task.kind == "numeric":
        return Prediction(values, values)
    scores = np.zeros((len(table), len(task.classes)))
    scores[:, model.classes_.astype(int)] = values
    return Prediction(scores, scores.argmax(axis=1))
