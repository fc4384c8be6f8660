"""Interactions of three columns: how far a patient moves them, enumerated over neighbours, and what noise they get."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from dpsynth.coding.query import Query
from dpsynth.cohort import Cohort
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.schema import Schema

from .helpers import Recorder

SIZES = {"x": 2, "y": 2, "z": 3}
CELLS = list(itertools.product(*(range(size) for size in SIZES.values())))
TRIPLE = Query(tuple(SIZES), tuple(np.arange(size) for size in SIZES.values()))
NORM = math.sqrt((1 - 1 / 2) * (1 - 1 / 2) * (1 - 1 / 3))
PRICE = 0.001
Rows = list[tuple[int, ...]]


def asked(cap: int, others: Rows, patient: Rows) -> tuple[Recorder, Session]:
    """Ask the interaction of others with a row each and one patient; note what the noise would have been added to."""
    columns = {name: {"type": "categorical", "values": list(range(size))} for name, size in SIZES.items()}
    facts = {
        "name": "tiny",
        "confirmed": True,
        "patient": "id",
        "max_rows_per_patient": cap,
        "columns": {"id": {"type": "identifier"}, **columns},
    }
    rows = [(f"o{i}", *cell) for i, cell in enumerate(others)] + [("patient", *cell) for cell in patient]
    data = Cohort.from_pandas(pd.DataFrame(rows, columns=["id", *SIZES]), Schema.parse(facts), public=True)
    recorder = Recorder()
    session = Session.open(data, Budget(1, 1e-6), answers=PrivateAnswers(data, cap, recorder))
    session.interactions([TRIPLE], [PRICE])
    return recorder, session


@pytest.mark.parametrize("cap", [1, 2])
def test_a_triple_moves_by_at_most_what_is_claimed(cap: int) -> None:
    """A patient's 1 to cap rows move the interaction by cap sqrt(1/2 1/2 2/3) in L2 at most; rows in one cell do."""
    others = [CELLS[i] for i in np.random.default_rng(cap).integers(0, len(CELLS), 4)]
    without, session = asked(cap, others, [])
    patients = [rows for n in range(1, cap + 1) for rows in itertools.combinations_with_replacement(CELLS, n)]
    moves = [
        float(np.linalg.norm(asked(cap, others, list(rows))[0].before[0] - without.before[0])) / TRIPLE.size
        for rows in patients
    ]
    assert session.events[0].sensitivity == pytest.approx(cap * NORM)
    assert max(moves) == pytest.approx(cap * NORM)


@pytest.mark.parametrize("cap", [1, 3])
def test_a_triple_is_asked_with_the_noise_of_its_sensitivity(cap: int) -> None:
    """The noise is cap sqrt(1/2 1/2 2/3) / sqrt(2 rho); the ledger's event says the same and the price is paid."""
    recorder, session = asked(cap, [CELLS[0]], [])
    event = session.events[0]
    assert recorder.sigmas[0] / TRIPLE.size == pytest.approx(cap * NORM / math.sqrt(2 * PRICE))
    assert (event.kind, event.what) == ("gaussian", "interaction of x x y x z")
    assert event.sensitivity == pytest.approx(cap * NORM)
    assert event.scale == pytest.approx(cap * NORM / math.sqrt(2 * PRICE))
    assert session.rho - session.rho_left == pytest.approx(PRICE)
