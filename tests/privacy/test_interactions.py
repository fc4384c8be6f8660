# ruff: noqa: PD011 - `values` of an interaction, not of a data frame
"""Interactions: the kernel's answer is the projection that it claims to be, at the price of its own sensitivity."""

import itertools
import math
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth.coding.query import Query
from dpsynth.cohort import Cohort
from dpsynth.errors import BudgetExceeded
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.schema import Schema

from .helpers import Recorder, exact, ward
from .test_conformance import conforms

SIZES = {"x": 2, "y": 3, "z": 2}
MAPS = {
    "x": np.arange(2),
    "y": np.arange(3),
    "coarse y": np.array([0, 1, 0]),
    "z": np.arange(2),
}
QUERIES = {
    "one column": Query(("y",), (MAPS["y"],)),
    "two columns": Query(("x", "y"), (MAPS["x"], MAPS["y"])),
    "coarse codes": Query(("y", "x"), (MAPS["coarse y"], MAPS["x"])),
    "three columns": Query(("x", "y", "z"), (MAPS["x"], MAPS["y"], MAPS["z"])),
}


def schema(cap: int) -> Schema:
    """Three tiny columns and a patient."""
    columns: dict[str, Any] = {c: {"type": "categorical", "values": list(range(n))} for c, n in SIZES.items()}
    return Schema.parse(
        {
            "name": "tiny",
            "confirmed": True,
            "patient": "id",
            "max_rows_per_patient": cap,
            "columns": {"id": {"type": "identifier"}, **columns},
        }
    )


def cohort(cap: int, rows: list[tuple[Any, ...]]) -> Cohort:
    """Rows of patient, x, y, z."""
    return Cohort.from_pandas(pd.DataFrame(rows, columns=["id", *SIZES]), schema(cap), public=True)


def silent(data: Cohort, cap: int = 1) -> tuple[Session, Recorder]:
    """Open a session that adds no noise."""
    recorder = Recorder()
    return Session.open(data, Budget(1, 1e-6), answers=PrivateAnswers(data, cap, recorder)), recorder


def projected(table: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Apply the Kronecker product of the projections ``I - 11'/k`` to the flat table."""
    matrix = reduce(np.kron, [np.eye(k) - np.full((k, k), 1 / k) for k in table.shape])
    return np.asarray((matrix @ table.ravel()).reshape(table.shape))


@pytest.mark.parametrize("name", QUERIES)
def test_without_noise_the_answer_is_the_projection(name: str) -> None:
    """Exactly the table less its margins, for one to three columns and for coarse codes; every margin is 0."""
    rng = np.random.default_rng(0)
    data = cohort(1, [(f"p{i}", *(int(rng.integers(n)) for n in SIZES.values())) for i in range(40)])
    session, _ = silent(data)
    query = QUERIES[name]
    found = session.interactions([query], [0.001])[0].values
    np.testing.assert_allclose(found, projected(exact(data, session, [query])[0]), atol=1e-12)
    assert all(np.abs(found.sum(axis=axis)).max() < 1e-12 for axis in range(found.ndim))


@pytest.mark.parametrize("cap", [1, 3])
@pytest.mark.parametrize("name", QUERIES)
def test_the_sensitivity_holds_and_is_reached_for_every_shape(name: str, cap: int) -> None:
    """Every patient of 1 to cap rows, added to or removed from a small dataset, in the units of the noise.

    Adding and removing move the answer by the same vector up to its sign, so each pair is both directions.
    """
    query = QUERIES[name]
    rows = list(itertools.product(*(range(n) for n in SIZES.values())))
    others = [("o0", 0, 1, 1), ("o1", 1, 2, 0)]
    with_nobody = silent(cohort(cap, others), cap)
    with_nobody[0].interactions([query], [0.001])
    claimed = with_nobody[0].events[0].sensitivity
    assert claimed == pytest.approx(cap * math.sqrt(math.prod(1 - 1 / k for k in query.shape)))
    moves = []
    for count in range(1, cap + 1):
        for some in itertools.combinations_with_replacement(rows, count):
            session, recorder = silent(cohort(cap, [*others, *(("p", *row) for row in some)]), cap)
            session.interactions([query], [0.001])
            moves.append(np.linalg.norm(recorder.before[0] - with_nobody[1].before[0]) / query.size)
    assert max(moves) == pytest.approx(claimed)


@pytest.mark.parametrize("name", QUERIES)
def test_the_noise_is_the_sensitivity_over_the_root_of_twice_the_price(name: str) -> None:
    """What is answered, what is claimed and what is debited are one number."""
    data = cohort(3, [("a", 0, 0, 0), ("a", 1, 1, 1), ("b", 1, 2, 0)])
    session, recorder = silent(data, 3)
    answer = session.interactions([QUERIES[name]], [0.004])[0]
    event = session.events[0]
    assert answer.sigma == event.scale == pytest.approx(event.sensitivity / math.sqrt(0.008))
    assert recorder.sigmas[0] / QUERIES[name].size == pytest.approx(answer.sigma)
    assert session.rho - session.rho_left == pytest.approx(0.004)


@pytest.mark.parametrize("cap", [1, 3])
def test_noise_conforms_for_a_coarse_pair(cap: int) -> None:
    """Real noise on coarse codes: a KS test accepts the claimed sigma and refuses 2/3 and 3/2 of it."""
    data = ward(900, cap=cap)
    session = Session.open(data, Budget(1, 1e-6))
    ages = session.codec.columns["age"]
    query = Query(("sex", "age"), (np.arange(2), np.arange(ages.size) * 4 // ages.size))
    truth = projected(exact(data, session, [query])[0])
    answers = session.interactions([query] * 500, [session.rho / 500] * 500)
    assert conforms(np.concatenate([((a.values - truth) / a.sigma).ravel() for a in answers]))


def test_a_question_past_the_budget_reads_nothing() -> None:
    """All queries of a call are paid for together or none is asked."""
    session, recorder = silent(cohort(1, [("a", 0, 0, 0), ("b", 1, 1, 1)]))
    share = 0.6 * session.rho
    with pytest.raises(BudgetExceeded):
        session.interactions([QUERIES["two columns"], QUERIES["one column"]], [share, share])
    assert recorder.before == []
    assert session.rho_left == session.rho
    session.interactions([QUERIES["two columns"]], [share])
    with pytest.raises(BudgetExceeded):
        session.interactions([QUERIES["two columns"]], [share])
    assert len(recorder.before) == 1
