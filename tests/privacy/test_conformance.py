"""Noise conformance: what a session releases differs from the truth by the noise that it claims, for every question.

The cohort is public here. A z-score is (released - exact) / claimed sigma; a Kolmogorov-Smirnov test accepts it at the
claimed sigma and refuses 2/3 and 3/2 of it.
"""

from typing import Any

import numpy as np
import pytest

from dpsynth.coding.query import Query
from dpsynth.privacy.answers import scaled_interaction
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget

from .helpers import exact, fine, ward
from .test_mechanisms import fits

QUESTIONS = 4000


@pytest.fixture(scope="module", params=[1, 3])
def opened(request: pytest.FixtureRequest) -> tuple[Any, Session]:
    """Return a cohort with up to 1 or 3 rows a patient, opened at epsilon 1."""
    cohort = ward(900, cap=request.param)
    return cohort, Session.open(cohort, Budget(1, 1e-6))


def conforms(z: np.ndarray) -> bool:
    """Whether z-scores fit the claimed sigma and neither 2/3 nor 3/2 of it."""
    return fits(z) and not fits(z, 2 / 3) and not fits(z, 3 / 2)


def test_counts(opened: tuple[Any, Session]) -> None:
    """4,000 noisy cells of one batch, with two different prices, have their claimed noise."""
    cohort, session = opened
    query = fine(session, "sex", "unit")
    rhos = [session.rho / QUESTIONS, session.rho / 2 / QUESTIONS] * (QUESTIONS // 12)
    truth = exact(cohort, session, [query])[0]
    z = [(a.counts - truth) / a.sigma for a in session.count([query] * len(rhos), rhos)]
    assert conforms(np.concatenate(z))


def test_interactions(opened: tuple[Any, Session]) -> None:
    """Noisy interactions have the noise of their smaller sensitivity."""
    cohort, session = opened
    query = fine(session, "sex", "unit")
    n = QUESTIONS // 6
    truth = scaled_interaction(exact(cohort, session, [query])[0]) / query.size
    answers = session.interactions([query] * n, [session.rho / 8 / n] * n)
    assert conforms(np.concatenate([(a.values - truth) / a.sigma for a in answers]))


def test_errors(opened: tuple[Any, Session]) -> None:
    """Noisy L1 errors have the noise of their joint sensitivity."""
    cohort, session = opened
    query = fine(session, "sex", "unit")
    expected = np.array([[100.3, 20.1, 0.0], [7.7, 300.9, 55.55]])
    truth = np.abs(exact(cohort, session, [query])[0] - expected).sum()
    found = session.marginal_errors([query] * QUESTIONS, [expected] * QUESTIONS, session.rho / 8)
    assert conforms((np.array(found) - truth) / session.events[-1].scale)


def test_the_number_of_rows(opened: tuple[Any, Session]) -> None:
    """A query without columns is the number of rows, with its claimed noise."""
    cohort, session = opened
    query = Query((), ())
    answers = session.count([query] * QUESTIONS, [session.rho / 8 / QUESTIONS] * QUESTIONS)
    assert all(a.counts.shape == () for a in answers)
    assert conforms(np.array([(a.counts - len(cohort)) / a.sigma for a in answers]))
