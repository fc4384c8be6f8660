import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from dpsynth.errors import InputError
from dpsynth.evaluation.statistics.regression import linear, logistic


def data(rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features with an intercept, binary labels and a number."""
    rng = np.random.default_rng(seed)
    features = np.column_stack([np.ones(rows), rng.normal(size=rows), rng.random(rows) < 0.4]).astype(float)
    predictor = features @ [-0.5, 1.0, -0.7]
    return features, (rng.random(rows) < 1 / (1 + np.exp(-predictor))).astype(float), predictor + rng.normal(size=rows)


def sandwich(features: np.ndarray, residuals: np.ndarray, curvature: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return the cluster-robust covariance by loops."""
    bread = np.linalg.inv(sum(w * np.outer(x, x) for x, w in zip(features, curvature, strict=True)))
    meat = np.zeros_like(bread)
    for one in np.unique(patients):
        score = sum(features[i] * residuals[i] for i in np.flatnonzero(patients == one))
        meat += np.outer(score, score)
    count = len(np.unique(patients))
    return bread @ meat @ bread * count / (count - 1)


def test_logistic_coefficients_are_scikit_learns_without_penalty() -> None:
    """Newton's method finds the same maximum."""
    features, labels, _ = data()
    expected = LogisticRegression(C=1e10, fit_intercept=False, tol=1e-10, max_iter=5000).fit(features, labels)
    found = logistic(features, labels, np.arange(400))
    np.testing.assert_allclose(found.coefficients, expected.coef_[0], atol=1e-4)


def test_an_offset_is_a_predictor_whose_coefficient_is_one() -> None:
    """With the true predictor as offset, the intercept that is left solves mean(risk) = mean(label)."""
    features, labels, _ = data()
    offset = features @ [0.3, 1.0, -0.7]
    found = logistic(np.ones((400, 1)), labels, np.arange(400), offset)
    risks = 1 / (1 + np.exp(-(offset + found.coefficients[0])))
    assert risks.mean() == pytest.approx(labels.mean(), abs=1e-9)


def test_standard_errors_are_the_sandwich_by_loops_for_patients_with_several_rows() -> None:
    """Both regressions, three rows a patient."""
    features, labels, values = data(120)
    patients = np.repeat(np.arange(40), 3)
    found = logistic(features, labels, patients)
    risks = 1 / (1 + np.exp(-features @ found.coefficients))
    expected = sandwich(features, labels - risks, risks * (1 - risks), patients)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-6)
    fit = linear(features, values, patients)
    np.testing.assert_allclose(fit.coefficients, np.linalg.lstsq(features, values, rcond=None)[0])
    expected = sandwich(features, values - features @ fit.coefficients, np.ones(120), patients)
    np.testing.assert_allclose(fit.covariance, expected, rtol=1e-6)
    assert (fit.rows, fit.patients) == (120, 40)


def test_the_interval_covers_the_true_coefficient() -> None:
    """Over 200 samples 95 % Wald intervals hold the true 1.0 in 85 % or more; by chance less has p < 1e-6."""
    inside = 0
    for seed in range(200):
        features, labels, _ = data(300, seed)
        found = logistic(features, labels, np.arange(300))
        inside += abs(found.coefficients[1] - 1) <= 1.96 * found.errors[1]
    assert inside >= 170


def test_separated_data_have_no_estimate() -> None:
    """A predictor that decides the outcome is said to, not estimated as a huge number."""
    x = np.linspace(-1, 1, 50)
    with pytest.raises(InputError, match="separates"):
        logistic(np.column_stack([np.ones(50), x]), (x > 0).astype(float), np.arange(50))


def test_collinear_predictors_are_refused() -> None:
    """A column that repeats another has no coefficient of its own."""
    features, labels, values = data()
    twice = np.column_stack([features, features[:, 1]])
    for fit in (lambda: logistic(twice, labels, np.arange(400)), lambda: linear(twice, values, np.arange(400))):
        with pytest.raises(InputError, match="depend on each other"):
            fit()
