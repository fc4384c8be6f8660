"""Games: the attacker who sees every answer shows what is true of sound and of broken mechanisms."""

import math
from collections.abc import Mapping
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
from planted_bugs import plants

from dpsynth.coding.query import Query
from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.evaluation.audit.canaries import CANARIES, canary, capped, planted
from dpsynth.evaluation.audit.games import Seen, play, separator
from dpsynth.evaluation.audit.outcome import Attack, Audit, AuditVerdict, Check, Claim, attacked
from dpsynth.evaluation.audit.witness import Witness
from dpsynth.jobs.audit import ATTACKS, Auditor, demo_cohort
from dpsynth.jobs.fit_game import FitGame
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.schema import Schema

TINY: dict[str, Any] = {
    "name": "tiny",
    "confirmed": True,
    "patient": "id",
    "subgroups": ["x"],
    "columns": {
        "id": {"type": "identifier"},
        "x": {"type": "categorical", "values": ["a", "b"]},
        "y": {"type": "numeric", "min": 0, "max": 4, "missing": True},
        "when": {"type": "datetime", "min": "2001-01-01", "max": "2001-12-31"},
        "died": {"type": "boolean"},
    },
}


def tiny(cap: int = 1, **columns: Any) -> Cohort:
    """Return thirty public patients of a small schema, two rows of the first one."""
    rng, n = np.random.default_rng(0), 31
    schema = Schema.parse({**TINY, "max_rows_per_patient": cap, "columns": {**TINY["columns"], **columns}})
    frame = pd.DataFrame(
        {
            "id": ["p0", *(f"p{i}" for i in range(n - 1))],
            "x": ["b", *["a"] * (n - 1)],
            "y": rng.integers(0, 2, n).astype(float),
            "when": pd.Timestamp("2001-03-01"),
            "died": False,
            **dict.fromkeys(columns, "flu"),
        }
    )
    return Cohort.from_pandas(frame, schema, public=True)


# -- canaries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [1, 3])
def test_canaries_are_worst_cases(cap: int) -> None:
    """The corner has the values of the fewest, the crowd as many rows as the cap, the rare one a small group."""
    base = capped(tiny(cap))
    corner, crowd, rare = (canary(name, base) for name in CANARIES)
    assert corner.rows.iloc[0].to_dict() | {"when": None} == {"x": "b", "y": 4, "when": None, "died": True}
    assert str(corner.rows["when"].iloc[0]).startswith("2001-12-31")
    assert (len(corner.rows), len(crowd.rows), len(rare.rows)) == (1, cap, 1)
    assert rare.rows["x"].iloc[0] == "b"
    for one in (corner, crowd, rare):
        both = planted(base, one)
        assert len(both) == len(base) + len(one.rows)
        assert both.patients().max() == base.patients().max() + 1


def test_no_patient_is_over_the_cap() -> None:
    """Capped cohorts have at most the cap's rows of each patient, and at most so many patients."""
    people = capped(tiny(1), 10).patients()
    assert np.bincount(people).tolist() == [1] * 10
    assert np.bincount(capped(tiny(2)).patients()).max() == 2


def test_private_patients_are_not_audited() -> None:
    """Neither canaries, nor the witness, nor an auditor take a cohort that is not public."""
    base = tiny()
    private = Cohort(base.schema, base.table)
    for ask in (
        lambda: planted(private, canary("corner", base)),
        lambda: Witness(private, base, in_it=False, cap=1),
        lambda: Auditor(private, "independent", epsilon=1.0),
    ):
        with pytest.raises(InputError, match="public"):
            ask()


# -- the witness ------------------------------------------------------------------------------------------------------


def ask_everything(session: Session) -> None:
    """Ask every kind of question about tables once."""
    queries = [Query(("x",), (np.arange(2),)), Query(("died", "x"), (np.arange(2), np.arange(2)))]
    share = session.rho / 5
    for column in session.to_discover:
        session.discover(column, share)
    session.count(queries, [share / 2] * 2)
    session.interactions(queries[1:], [share])
    session.marginal_errors(queries, [np.zeros(q.shape) for q in queries], share)
    session.select(queries, [np.full(q.shape, 3.0) for q in queries], [0, 0], share, k=2)


@pytest.mark.parametrize("cap", [1, 3])
def test_the_likelihood_ratio_is_one(cap: int) -> None:
    """The mean of exp(log ratio) over answers without the canary is 1, for every kind of question together."""
    base = capped(tiny(cap, dx={"type": "categorical", "discover": True, "max_values": 3}))
    both = planted(base, canary("crowd", base))
    ratios = []
    for _ in range(80):
        witness = Witness(base, both, in_it=False, cap=cap)
        ask_everything(Session.open(base, Budget(1, 1e-6), answers=witness))
        ratios.append(math.exp(witness.log_ratio))
    spread = np.std(ratios) / math.sqrt(len(ratios))
    assert abs(np.mean(ratios) - 1) < 6 * spread
    assert np.std(ratios) > 0.05  # the canary is seen at all


def test_counts_reach_the_claimed_mu() -> None:
    """For counts alone the log ratio has mean rho inside, -rho out, and variance 2 rho: the claim is tight."""
    base = capped(tiny(3))
    both = planted(base, canary("crowd", base))
    query, found = Query(("x",), (np.arange(2),)), {False: [], True: []}
    for _ in range(150):
        for inside, kept in found.items():
            witness = Witness(base, both, in_it=inside, cap=3)
            session = Session.open(both if inside else base, Budget(4, 1e-6), answers=witness)
            session.count([query], [session.rho])
            kept.append(witness.log_ratio)  # type: ignore[attr-defined]
    rho = session.rho
    error = 5 * math.sqrt(2 * rho / 150)
    assert np.mean(found[True]) == pytest.approx(rho, abs=error)
    assert np.mean(found[False]) == pytest.approx(-rho, abs=error)
    assert np.var(found[True]) == pytest.approx(2 * rho, rel=0.6)


# -- games ------------------------------------------------------------------------------------------------------------


class Shifted:
    """A game without a model: a Gaussian of mean mu inside and 0 out."""

    def __init__(self, mu: float) -> None:
        self.rng, self.mu = np.random.default_rng(0), mu

    def __call__(self, inside: bool) -> Mapping[str, Any]:
        """Draw once."""
        return {"score": self.rng.normal(self.mu * inside), "vector": self.rng.normal(self.mu * inside, 1, 3)}


def test_a_game_is_played_in_both_worlds() -> None:
    """Batches add up to as many runs of each world as were asked; progress ends at 1."""
    shares: list[float] = []
    *_, seen = play(Shifted(5.0), 25, progress=shares.append)
    assert seen.runs == 25
    assert shares[-1] == 1.0
    out, inside = seen.scores("score")
    assert out.mean() < 1 < inside.mean()
    learned = separator(*seen.scores("vector"))
    assert (learned.out < 0).all()
    assert (learned.inside > 0).all()
    with pytest.raises(InputError):
        next(play(Shifted(1.0), 0))


def test_processes_play_the_same_game() -> None:
    """With two processes a fit game gives as many runs, and no process repeats the noise of the other.

    Two scores are equal with a chance of 1.5e-4, as noise is of whole numbers: six equal ones of 24 in fewer than 1e-10
    of all runs. Processes with the same noise would give twelve.
    """
    base = capped(tiny())
    one = canary("corner", base)
    game = FitGame(base, planted(base, one), one, "independent", Budget(1, 1e-6), rows=20)
    *_, seen = play(game, 12, workers=2)
    assert isinstance(seen, Seen)
    scores = np.concatenate(seen.scores("white-box"))
    assert len(scores) == 24
    assert len(set(scores.tolist())) > 18


def test_an_early_stop_is_judged_by_what_was_played() -> None:
    """After an interruption the audit judges the runs that are there, or says that it was not run."""
    auditor = Auditor(tiny(), "independent", epsilon=1.0, runs=40, canaries=["corner", "rare"])

    def stop(canary_name: str, share: float) -> None:
        if "rare" in canary_name or share > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        auditor.run(progress=stop)
    found = auditor.found()
    assert [a.verdict for a in found.attacks if a.canary == "rare"] == [AuditVerdict.NOT_RUN] * 2
    assert {a.runs for a in found.attacks if a.canary == "corner"} == {20}
    assert Auditor(tiny(), "independent", epsilon=1.0).found().verdict is AuditVerdict.NOT_RUN


# -- verdicts ---------------------------------------------------------------------------------------------------------


def found(model: str, runs: int, *, epsilon: float, confidence: float) -> Audit:
    """Audit a model on three columns."""
    auditor = Auditor(demo_cohort(), model, epsilon=epsilon, runs=runs, patients=40, confidence=confidence)
    auditor.run()
    return auditor.found()


def test_a_sound_model_is_not_accused_and_the_bound_is_below_the_claim() -> None:
    """At epsilon 4 with 60 runs no attack contradicts the claim, and no bound passes the claim or its ceiling."""
    audit = found("independent", 60, epsilon=4.0, confidence=1 - 1e-6)
    assert audit.verdict is AuditVerdict.NONE
    white = audit.attacks[0]
    assert [a.name for a in audit.attacks] == list(ATTACKS)
    for bound in white.bounds:
        assert bound.epsilon <= audit.claim.epsilon
        assert bound.epsilon <= bound.ceiling


@pytest.mark.parametrize(
    ("plant", "runs"),
    [pytest.param(plants.sigma_halved, 270, id="half"), pytest.param(plants.noise_predictable, 40, id="the same")],
)
def test_broken_noise_is_found(plant: Any, runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With half the noise, or the same noise every time, so many runs of each world contradict a claim of 10."""
    plant(monkeypatch)
    audit = found("independent", runs, epsilon=10.0, confidence=0.999)
    assert audit.verdict is AuditVerdict.VIOLATION
    assert audit.attacks[0].refuted


def test_a_verdict_is_never_better_than_what_was_run() -> None:
    """A violation anywhere is a violation; nothing run is not run; the words are those that are allowed."""
    claim = Claim(1.0, 1e-6)
    none, bad = Check("one", AuditVerdict.CONSISTENT, ""), Check("two", AuditVerdict.VIOLATION, "")
    idle = Attack("white-box", "corner", reason="stopped")
    assert Audit("x", claim, 0.95).verdict is AuditVerdict.NOT_RUN
    assert Audit("x", claim, 0.95, (idle,)).verdict is AuditVerdict.NOT_RUN
    assert Audit("x", claim, 0.95, (idle,), (none,)).verdict is AuditVerdict.NOT_RUN
    assert Audit("x", claim, 0.95, (idle,), (none, bad)).verdict is AuditVerdict.VIOLATION
    assert Audit("x", claim, 0.95, (idle,), (none,)).of_checks is AuditVerdict.CONSISTENT
    assert {str(v) for v in AuditVerdict} == {"violation found", "none found at this power", "consistent", "not run"}


def test_randomised_response_of_its_own_epsilon_is_not_accused() -> None:
    """An auditor that fires on sound randomised response is broken: 1,000 runs at epsilon 1 keep the claim of 1."""
    rng, right = np.random.default_rng(0), math.e / (1 + math.e)
    scores = np.where(rng.random(1000) > right, 1.0, -1.0), np.where(rng.random(1000) < right, 1.0, -1.0)
    sound = attacked("answer", "one", scores, Claim(1.0, 1e-6), runs=1000, confidence=1 - 1e-6)
    lying = attacked("answer", "one", scores, Claim(0.3, 1e-6), runs=1000, confidence=1 - 1e-4)
    assert (sound.verdict, lying.verdict) == (AuditVerdict.NONE, AuditVerdict.VIOLATION)
    assert 0.5 < sound.bounds[0].epsilon < 1.0


@pytest.mark.parametrize(("more", "model"), [("images", "moments"), ("visits", "independent")])
def test_what_the_attacks_do_not_read_is_not_run(more: str, model: str) -> None:
    """Images and visits, which no attack reads yet, are *not run* for that reason, and nothing is fitted."""
    base = tiny()
    schema = base.schema.model_copy(update={more: MagicMock()})
    auditor = Auditor(Cohort(schema, base.table, public=True), model, epsilon=1.0)
    auditor.run()
    audit = auditor.found()
    assert audit.verdict is AuditVerdict.NOT_RUN
    assert all("without visits and images" in attack.reason for attack in audit.attacks)


def test_a_model_of_tables_is_not_audited_on_images() -> None:
    """It would drop them without a word, in an audit as in a fit."""
    base = tiny()
    schema = base.schema.model_copy(update={"images": MagicMock()})
    with pytest.raises(InputError, match="learns tables, and the schema declares images"):
        Auditor(Cohort(schema, base.table, public=True), "independent", epsilon=1.0)


@pytest.mark.parametrize(
    "wrong", [{"runs": 2}, {"patients": 1}, {"confidence": 1.0}, {"canaries": ["bird"]}, {"epsilon": 0.0}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    """Too few runs or patients, a confidence of 1 and an unknown canary end with a message."""
    with pytest.raises(InputError):
        Auditor(tiny(), "independent", **{"epsilon": 1.0, **wrong})
