"""Logistic and linear regression with standard errors that hold for several rows a patient and a wrong model.

Newton's method (iteratively reweighted least squares) without penalty; covariance by the cluster-robust sandwich
(Huber 1967, White 1980), clusters being patients, with the factor G / (G - 1).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Floats, Ints

__all__ = ["RegressionFit", "linear", "logistic"]

#: A linear predictor beyond this (odds of 1 to 10^13) means that the data separate the outcome.
SEPARATED = 30.0


@dataclass(frozen=True)
class RegressionFit:
    """A fitted regression.

    Parameters
    ----------
    coefficients : ndarray, shape (features,)
    covariance : ndarray, shape (features, features)
    rows, patients : int
    """

    coefficients: Floats
    covariance: Floats
    rows: int
    patients: int

    @property
    def errors(self) -> Floats:
        """Standard errors, shape (features,)."""
        errors: Floats = np.sqrt(np.diag(self.covariance))
        return errors


def _solve(matrix: Floats, right: Floats) -> Floats:
    """Solve a symmetric system, or say which kind of data makes it singular."""
    if np.linalg.matrix_rank(matrix, hermitian=True) < len(matrix):
        raise InputError("the regression's columns depend on each other or one of them is constant")
    solution: NDArray[Any] = np.linalg.solve(matrix, right)
    return solution


def _sandwich(information: Floats, scores: Floats, patients: Ints) -> Floats:
    """Return the cluster-robust covariance from each row's score, shape (rows, features)."""
    count = int(patients.max()) + 1
    by_patient = np.column_stack([np.bincount(patients, weights=column, minlength=count) for column in scores.T])
    bread = _solve(information, np.eye(len(information)))
    covariance: Floats = bread @ (by_patient.T @ by_patient) @ bread * (count / max(count - 1, 1))
    return covariance


def logistic(features: Floats, labels: Floats, patients: Ints, offset: Floats | float = 0.0) -> RegressionFit:
    """Fit the log odds of `labels` as `offset` + `features` @ coefficients.

    Parameters
    ----------
    features : ndarray, shape (rows, features)
        With a column of ones where an intercept is wanted.
    labels : ndarray of 0 and 1, shape (rows,)
    patients : ndarray of int, shape (rows,)
        Dense patient index of each row.
    offset : ndarray, shape (rows,), or float

    Raises
    ------
    InputError
        If the features are collinear, or separate the outcome, so that there is no finite estimate.
    """
    coefficients: NDArray[Any] = np.zeros(features.shape[1])
    loss = _loss(offset + features @ coefficients, labels)
    for _ in range(100):
        risks = _risk(offset + features @ coefficients)
        information = (features * (risks * (1 - risks))[:, None]).T @ features
        step = _solve(information, features.T @ (labels - risks))
        scale, new = 1.0, np.inf
        while scale > 1e-6 and not new <= loss + 1e-10:
            new = _loss(offset + features @ (coefficients + scale * step), labels)
            scale /= 2
        coefficients = coefficients + 2 * scale * step
        loss = new
        if np.abs(offset + features @ coefficients).max() > SEPARATED:
            raise InputError("the regression separates the outcome, so that it has no finite estimate")
        if np.abs(features @ step).max() < 1e-8:
            break
    risks = _risk(offset + features @ coefficients)
    information = (features * (risks * (1 - risks))[:, None]).T @ features
    covariance = _sandwich(information, features * (labels - risks)[:, None], patients)
    return RegressionFit(coefficients, covariance, len(labels), int(patients.max()) + 1)


def _risk(predictor: Floats) -> Floats:
    from scipy.special import expit

    risks: Floats = expit(predictor)
    return risks


def _loss(predictor: Floats, labels: Floats) -> float:
    return float(np.sum(np.logaddexp(0, predictor) - labels * predictor))


def linear(features: Floats, values: Floats, patients: Ints) -> RegressionFit:
    """Fit `values` as `features` @ coefficients by least squares; see `logistic` for parameters and errors."""
    gram = features.T @ features
    coefficients = _solve(gram, features.T @ values)
    residuals = values - features @ coefficients
    covariance = _sandwich(gram, features * residuals[:, None], patients)
    return RegressionFit(coefficients, covariance, len(values), int(patients.max()) + 1)
