"""Attacks on the gradient door: they see broken clipping and noise, and accuse no sound training. Needs torch."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")
import torch
from planted_bugs import training_plants as plants
from privacy.networks import scans

from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.evaluation.audit.canaries import joined, strangers
from dpsynth.evaluation.audit.curves import dp_curve
from dpsynth.evaluation.audit.games import play
from dpsynth.evaluation.audit.gradients import GradientCoins, GradientGame, Lone, clipped, plan_curve
from dpsynth.evaluation.audit.outcome import Attack, AuditVerdict, Claim, attacked, attacked_once
from dpsynth.jobs.audit import TRAINED, Auditor, demo_cohort
from dpsynth.models.image.moments import Moments
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.training import per_patient
from dpsynth.privacy.training.dpsgd import Gradients
from dpsynth.privacy.training.patients import Patients
from dpsynth.schema import Schema

SURE = 1 - 1e-6
ALONE = 200
Patch = pytest.MonkeyPatch


def no_noise(patch: Patch) -> None:
    """Release the sum as it is."""
    patch.setattr(Gradients, "_noised", lambda _self, total: total)


# -- two worlds -------------------------------------------------------------------------------------------------------


def two_worlds(plan: TrainingPlan, runs: int, confidence: float) -> Attack:
    """Play the game of a plan and judge it by the plan's own trade-off curve."""
    *_, seen = play(GradientGame(plan), runs)
    claim = Claim(4.0, 1e-6)
    curve = plan_curve(plan)
    return attacked("gradients", "lone", seen.scores("gradients"), claim, runs=runs, confidence=confidence, curve=curve)


PLANS = {
    "everybody": TrainingPlan.within(Budget(4.0, 1e-6), sampling_rate=1.0, steps=4, clipping_norm=3.0),
    "sampled": TrainingPlan.within(Budget(4.0, 1e-6), sampling_rate=0.4, steps=4),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_sound_training_is_not_accused(plan: TrainingPlan) -> None:
    """Neither at sampling rate 1 nor below do 300 runs of each world contradict the plan's own curve."""
    found = two_worlds(plan, 300, SURE)
    assert found.verdict is AuditVerdict.NONE
    assert found.bounds[0].epsilon < 4.0
    assert found.bounds[0].epsilon < found.bounds[0].ceiling


def everybody_drawn(patch: Patch) -> None:
    """Take all patients in every step, and account a sample."""
    patch.setattr(TrainingPlan, "draws", lambda plan, count, _uniform: [np.arange(count)] * plan.steps)


@pytest.mark.parametrize(
    ("plant", "plan"),
    [(plants.clipping_norm_doubled, "everybody"), (no_noise, "everybody"), (everybody_drawn, "sampled")],
)
def test_a_broken_training_is_found(plant: Callable[[Patch], None], plan: str, monkeypatch: Patch) -> None:
    """A clipping norm twice the accounted one, noise left out, and no sampling contradict a curve in 700 runs.

    In 300 runs the first and the last are missed about once in thirty; in 700 all p-values are at their floor of 1e-8.
    """
    plant(monkeypatch)
    assert two_worlds(PLANS[plan], 700, SURE).verdict is AuditVerdict.VIOLATION


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_likelihood_ratio_is_one(plan: TrainingPlan) -> None:
    """The mean of exp(log ratio) over trainings without the canary is 1, so it is the ratio that it says."""
    game = GradientGame(plan)
    ratios = np.exp([float(np.asarray(game(False)["gradients"])) for _ in range(400)])
    assert abs(ratios.mean() - 1) < 6 * ratios.std() / math.sqrt(len(ratios))
    assert ratios.std() > 0.3


def test_the_curve_of_a_plan_is_its_privacy_curve() -> None:
    """It claims more than epsilon at delta alone, and at sampling rate 1 nearly all that the Gaussian claims."""
    rates = np.linspace(0.01, 0.99, 30)
    for plan in PLANS.values():
        curve = plan_curve(plan)(rates)
        assert (curve > dp_curve(4.0, 1e-6)(rates)).all()
        assert (curve < 1 - rates).all()
    whole = TrainingPlan(1.0, 10, 5.0)
    almost = TrainingPlan(1 - 1e-9, 10, 5.0)
    gap = plan_curve(whole)(rates) - plan_curve(almost)(rates)
    assert (gap > -1e-4).all()
    assert (gap < 0.02).all()


# -- one run ----------------------------------------------------------------------------------------------------------


def ward(values: int) -> Cohort:
    """Return forty public patients with one of the first four of so many values."""
    facts = {
        "name": "ward",
        "confirmed": True,
        "patient": "id",
        "columns": {
            "id": {"type": "identifier"},
            "who": {"type": "categorical", "values": [f"v{i}" for i in range(values)]},
        },
    }
    frame = pd.DataFrame({"id": range(40), "who": [f"v{i % 4}" for i in range(40)]})
    return Cohort.from_pandas(frame, Schema.parse(facts), public=True)


def one_run(epsilon: float) -> Attack:
    """Train once, with canaries that each have a value of their own; guess half of the coins."""
    base, budget = ward(4 + ALONE), Budget(epsilon, 1e-9)
    plan = TrainingPlan.within(budget, sampling_rate=0.5, steps=10)
    rows = pd.DataFrame({"who": [f"v{4 + i}" for i in range(ALONE)]})
    put_in = np.random.default_rng().random(ALONE) < 0.5
    coins = GradientCoins(base, rows, put_in, 1)
    with Session.open(base, budget, training=plan, answers=coins) as session:
        objective = Lone(session.codec.columns["who"].size, 200.0)
        session.train(objective, lambda _step: None, expected=140)
    assert not session.private
    assert coins.steps == 10
    return attacked_once("one run", coins.scores, put_in, Claim(epsilon, 1e-9), guesses=ALONE // 2, confidence=SURE)


def test_coins_of_a_sound_training_are_not_told() -> None:
    """One run at epsilon 1 with 200 canaries that are all alone in their direction contradicts nothing."""
    found = one_run(1.0)
    assert found.verdict is AuditVerdict.NONE
    assert found.bounds[0].epsilon < 1.0 < found.bounds[0].ceiling


@pytest.mark.parametrize("plant", [plants.gradients_unclipped, no_noise])
def test_coins_of_a_broken_training_are_told(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """Without clipping, and without noise, one run contradicts a claim of 1."""
    plant(monkeypatch)
    assert one_run(1.0).verdict is AuditVerdict.VIOLATION


def test_the_attack_clips_as_the_kernel_does() -> None:
    """Its gradients, found another way, are those of plain autograd clipped to the norm."""
    codes = {"who": np.arange(6)}
    people = Patients(np.arange(6), np.arange(6), codes, None)
    objective = Lone(6, 3.0)
    found = clipped(objective, people, 1.0, torch.Generator())
    batch = objective.prepare(people.batch(np.arange(6)))
    (plain,) = per_patient.looped(objective, batch)
    for place, one in enumerate(torch.eye(6, dtype=torch.float64)):
        expected = plain.weighted(one)["layer.weight"].flatten() / plain.squares()[place].sqrt()
        assert torch.allclose(found[place].double(), expected, atol=1e-6)


def test_strangers_are_like_nobody_and_have_names_of_their_own() -> None:
    """Values are drawn from the public ones, column by column; each stranger is a patient more."""
    base = demo_cohort()
    rows = strangers(base, 300, np.random.default_rng(0))
    assert set(rows.columns) == set(base.schema.modelled)
    assert rows["sex"].value_counts().min() > 80
    both = joined(base, rows)
    assert both.patients().max() == base.patients().max() + 300
    with pytest.raises(InputError, match="public"):
        joined(Cohort(base.schema, base.table), rows)


# -- what the user gets -----------------------------------------------------------------------------------------------


def small_training(_self: Any, _schema: Any, budget: Budget) -> TrainingPlan:
    """Return a plan of few steps."""
    return TrainingPlan.within(budget, sampling_rate=0.3, steps=10, questions=0.2)


def test_a_model_that_trains_is_attacked_by_its_gradients() -> None:
    """Both attacks are judged, before the fits in two worlds; each has its ceiling and an equal share of confidence."""
    options = {"hidden": 8, "steps": 4}
    auditor = Auditor(demo_cohort(), "tvae", epsilon=2.0, runs=8, patients=30, confidence=SURE, options=options)
    order: list[str] = []
    auditor.run(progress=lambda name, _share: order.append(name))
    assert list(dict.fromkeys(order)) == ["one run", "gradients", "canary corner"]
    found = {attack.name: attack for attack in auditor.found().attacks}
    assert list(found) == ["white-box", "black-box", *TRAINED]
    assert [str(attack.verdict) for attack in found.values()] == ["not run", *["none found at this power"] * 3]
    for name in TRAINED:
        (bound,) = found[name].bounds
        assert bound.epsilon <= bound.ceiling
        assert bound.confidence == pytest.approx(1 - (1 - SURE) / 4)


def test_images_are_not_run_and_say_why(monkeypatch: Patch) -> None:
    """Nothing is planted among images, so these attacks are not run; a training's plan is attacked all the same."""
    monkeypatch.setattr(Moments, "training", small_training)
    auditor = Auditor(scans(20), "moments", epsilon=2.0, runs=8, confidence=SURE)
    auditor.run()
    found = {attack.name: attack for attack in auditor.found().attacks}
    assert found["gradients"].verdict is AuditVerdict.NONE
    for name in ("white-box", "black-box", "one run"):
        assert found[name].verdict is AuditVerdict.NOT_RUN
        assert "images" in found[name].reason
