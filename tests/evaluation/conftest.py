"""Evaluations that several tests look at."""

import pytest

from dpsynth.evaluation import Evaluation, evaluate
from dpsynth.evaluation.metrics.released import ReleasedCounts

from .helpers import STATEMENT, ward


@pytest.fixture(scope="session")
def private() -> Evaluation:
    """Return the evaluation of a cohort of private patients, with a privacy statement and released counts."""
    released = [ReleasedCounts(("sex",), [310, 290], 12.0, [300, 300], ("f", "m"))]  # type: ignore[arg-type]
    return evaluate(
        ward(400, 2),
        [ward(500, seed, effect=0.6, synthetic=True) for seed in (3, 4)],
        real_train=ward(600),
        arms={"floor": ward(500, 5, effect=0.0, synthetic=True)},
        released=released,
        statement=STATEMENT,
    )


@pytest.fixture(scope="session")
def open_data() -> Evaluation:
    """Return the evaluation of a cohort of public patients, scored from two files alone."""
    return evaluate(ward(500, public=True), ward(300, 1, synthetic=True))
