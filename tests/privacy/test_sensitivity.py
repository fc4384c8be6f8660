"""Sensitivity: enumerated over neighbours, both directions, patients with one row and with three.

The kernel claims, for one patient with at most ``cap`` rows, how far each answer can move. Here every small dataset and
every patient is tried; the claim must hold and must be reached (a claim twice as large would waste the budget).
"""

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp

from dpsynth.coding.query import Query
from dpsynth.cohort import Cohort
from dpsynth.privacy.answers import SCORE_MARGIN, UNIT, PrivateAnswers
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Accounting
from dpsynth.schema import Schema

from .helpers import Recorder

CAPS = [1, 3]
CELLS = list(itertools.product([0, 1], [0, 1, 2]))
PAIR = Query(("x", "y"), (np.arange(2), np.arange(3)))
ONE = Query(("y",), (np.array([0, 0, 1]),))
QUERIES = [PAIR, ONE]
EXPECTED = [np.array([[2.0, 0.0, 1.25], [0.0, 1.0, 0.5]]), np.array([1.5, 9.75])]


def schema(cap: int) -> Schema:
    """Two tiny columns and a patient."""
    return Schema.parse(
        {
            "name": "tiny",
            "confirmed": True,
            "patient": "id",
            "max_rows_per_patient": cap,
            "columns": {
                "id": {"type": "identifier"},
                "x": {"type": "categorical", "values": [0, 1]},
                "y": {"type": "categorical", "values": [0, 1, 2]},
            },
        }
    )


def cohort(cap: int, base: list[tuple[int, int]], extra: list[tuple[int, int]]) -> Cohort:
    """Others with a row each, and one patient with the extra rows."""
    rows = [(f"o{i}", x, y) for i, (x, y) in enumerate(base)] + [("patient", x, y) for x, y in extra]
    frame = pd.DataFrame(rows, columns=["id", "x", "y"])
    return Cohort.from_pandas(frame, schema(cap), public=True)


def released(cap: int, data: Cohort, accounting: Accounting = "gaussian") -> tuple[Recorder, Session]:
    """Ask every kind of question with no noise and note what the noise would have been added to."""
    recorder = Recorder()
    session = Session.open(data, Budget(1, 1e-6), accounting=accounting, answers=PrivateAnswers(data, cap, recorder))
    session.count([PAIR], [0.001])
    session.interactions([PAIR], [0.001])
    session.marginal_errors(QUERIES, EXPECTED, 0.001)
    session.select(QUERIES, EXPECTED, [0.5, -1.0], 0.001, weights=[0.25, 0.8])
    return recorder, session


def neighbours(cap: int) -> list[tuple[Recorder, Recorder]]:
    """Return what is released without and with a patient, over datasets and patients with 1 to cap rows."""
    rng = np.random.default_rng(cap)
    patients = [e for n in range(1, cap + 1) for e in itertools.combinations_with_replacement(CELLS, n)]
    pairs = []
    for size in (1, 2, 5):
        base = [CELLS[i] for i in rng.integers(0, len(CELLS), size)]
        without = released(cap, cohort(cap, base, []))[0]
        pairs += [(without, released(cap, cohort(cap, base, list(extra)))[0]) for extra in patients]
    return pairs


@pytest.fixture(scope="module", params=CAPS)
def world(request: pytest.FixtureRequest) -> tuple[int, list[tuple[Recorder, Recorder]], list[Any]]:
    """Return a cap, its neighbours, and the events that the session debited."""
    cap = request.param
    return cap, neighbours(cap), released(cap, cohort(cap, CELLS, []))[1].events


def moves(pairs: list[tuple[Recorder, Recorder]], question: int) -> list[float]:
    """Return how far each neighbour moved what noise is added to, in L2."""
    return [float(np.linalg.norm(b.before[question] - a.before[question])) for a, b in pairs]


def test_a_marginal_moves_by_at_most_the_cap(world: Any) -> None:
    """Counts: the claimed L2 sensitivity is the cap; it holds and is reached by rows in one cell."""
    cap, pairs, events = world
    assert events[0].sensitivity == cap
    assert max(moves(pairs, 0)) == pytest.approx(cap)


def test_an_interaction_moves_by_at_most_what_is_claimed(world: Any) -> None:
    """Interactions: cap sqrt((1 - 1/2)(1 - 1/3)) in L2, in the units in which noise is added; reached."""
    cap, pairs, events = world
    assert events[1].sensitivity == pytest.approx(cap * math.sqrt(1 / 3))
    assert max(moves(pairs, 1)) / PAIR.size == pytest.approx(events[1].sensitivity)


def test_errors_move_by_at_most_what_is_claimed(world: Any) -> None:
    """L1 errors of two marginals: cap sqrt(2) in L2, exactly, in units of 1/256; reached."""
    cap, pairs, events = world
    assert events[2].sensitivity == pytest.approx(cap * math.sqrt(2))
    assert max(moves(pairs, 2)) / UNIT == pytest.approx(events[2].sensitivity)


def test_scores_move_up_and_down_by_at_most_what_is_claimed(world: Any) -> None:
    """Selection scores move by cap max(w) in both directions: they are not monotone, so the factor 1/2 is needed."""
    cap, pairs, events = world
    assert events[3].sensitivity == pytest.approx(cap * 0.8, abs=2 * SCORE_MARGIN)
    changes = np.array([b.scores[0] - a.scores[0] for a, b in pairs])
    assert np.abs(changes).max() <= events[3].sensitivity
    assert changes.max() == pytest.approx(cap * 0.8)
    assert changes.min() == pytest.approx(-cap * 0.8)


@pytest.mark.parametrize("accounting", ["gaussian", "zcdp"])
@pytest.mark.parametrize("cap", CAPS)
def test_the_selection_is_as_private_as_it_was_priced(cap: int, accounting: Accounting) -> None:
    """The exact pick probabilities of neighbours, both ways, keep the range that was paid for, and need half of it.

    The exponential mechanism is priced as eps-bounded-range: log-probability ratios of two picks differ by at most eps.
    """
    rho = 0.02
    base = [(0, 0), (0, 1), (1, 2)]
    expected = [np.zeros(3), np.full(3, 9.0)]  # a row raises the first error and lowers the second
    queries = [Query(("y",), (np.arange(3),)), Query(("y",), (np.array([0, 1, 2]),))]
    spread = []
    for extra in itertools.product([(0, 0)], repeat=cap):
        logs = []
        for rows in ([], list(extra)):
            data, recorder = cohort(cap, base, rows), Recorder()
            session = Session.open(
                data, Budget(1, 1e-6), accounting=accounting, answers=PrivateAnswers(data, cap, recorder)
            )
            session.select(queries, expected, [0, 0], rho)
            scores = recorder.scores[0] / recorder.scales[0][0]
            logs.append(scores - logsumexp(scores))
        spread.append(np.ptp(logs[1] - logs[0]))
    paid = 2 * session.events[0].sensitivity / session.events[0].scale
    assert session.events[0].price(accounting) == pytest.approx(rho)
    assert max(spread) <= paid
    assert max(spread) == pytest.approx(paid, rel=1e-5)  # one that was priced as monotone (eps / 2) would break here


@pytest.mark.parametrize("cap", CAPS)
def test_every_question_uses_the_same_cap(cap: int) -> None:
    """The noise that each question is answered with is its claimed sensitivity over sqrt(2 rho)."""
    recorder, session = released(cap, cohort(cap, CELLS, []))
    count, interaction, errors, selection = session.events
    assert recorder.sigmas[0] == count.scale == pytest.approx(cap / math.sqrt(0.002))
    assert recorder.sigmas[1] / PAIR.size == pytest.approx(interaction.scale)
    assert interaction.scale == pytest.approx(cap * math.sqrt(1 / 3) / math.sqrt(0.002))
    assert recorder.sigmas[2] / UNIT == pytest.approx(errors.scale)
    assert errors.scale == pytest.approx(cap * math.sqrt(2) / math.sqrt(0.002))
    assert recorder.scales[0] == (selection.scale, 1)
    assert session.rho - session.rho_left == pytest.approx(0.004)


@pytest.mark.parametrize("cap", CAPS)
def test_rows_over_the_cap_never_reach_a_count(cap: int) -> None:
    """A patient with ten rows counts as one with cap rows, whichever of them were kept."""
    base = [(0, 0), (1, 1)]
    without = released(cap, cohort(cap, base, []))[0]
    crowded = released(cap, cohort(cap, base, CELLS[:5] * 2))[0]
    assert (crowded.before[0] - without.before[0]).sum() == cap
    assert np.linalg.norm(crowded.before[0] - without.before[0]) <= cap


@pytest.mark.parametrize("cap", CAPS)
def test_a_session_drops_rows_over_the_cap_of_its_schema(cap: int) -> None:
    """Opened the way users open it, one patient with 600 rows counts as cap rows to within 40 sigma."""
    session = Session.open(cohort(cap, [], CELLS * 100), Budget(100, 1e-6))
    rows = session.count([Query((), ())], [session.rho])[0]
    assert rows.sigma < 0.1 * cap
    assert abs(int(rows.counts) - cap) <= 40 * rows.sigma


def test_without_a_patient_column_a_row_is_a_patient() -> None:
    """The sensitivity is 1 where the schema says that a row is a patient."""
    facts = {"name": "tiny", "confirmed": True, "columns": {"x": {"type": "categorical", "values": [0, 1]}}}
    data = Cohort.from_pandas(pd.DataFrame({"x": [0, 1, 1]}), Schema.parse(facts), public=True)
    assert Session.open(data, Budget(1, 1e-6)).sensitivity == 1
