"""Private training: what a patient can contribute, who is in a step, what noise is added, and what it costs."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, kstest
from torch import nn

from dpsynth.errors import BudgetExceeded, DpsynthError, InputError
from dpsynth.privacy.mechanisms import MAX_SIGMA
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.training_plan import MAX_NOISE, TrainingPlan
from dpsynth.privacy.training.dpsgd import MOST_PARAMETERS, UNIT, Gradients, add_clipped, check_on_made_up, trainable
from dpsynth.privacy.training.per_patient import BACKENDS

from .helpers import FALSE_ALARM, Recorder
from .networks import Squares, convolutions, image_batch, linear, scans

ONE = Budget(1, 1e-5)


class Exactly(Recorder):
    """No noise; notes what would have been noised, in whole units. Everybody is in every sample."""

    def rounded_gaussian(self, values: Any, sigma: float) -> Any:
        """Note the values; return them."""
        self.before.append(values.copy())
        self.sigmas.append(sigma)
        return values

    def uniform(self, n: int) -> Any:
        """Draw everybody."""
        return np.zeros(n)


class Steady(Squares):
    """The same noise level for everybody: what a patient adds does not depend on when they are drawn."""

    def randomness(self, patients: int, _generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return ones."""
        return {"level": torch.ones(patients, 1)}


def plan(**more: Any) -> TrainingPlan:
    """Return a plan of few steps."""
    return TrainingPlan(**{"sampling_rate": 0.5, "steps": 3, "noise_multiplier": 1.0, **more})


def clipped(objective: Squares, batch: dict[str, torch.Tensor], backend: str, norm: float) -> torch.Tensor:
    """Return the clipped sum over a batch."""
    sizes = [p.numel() for p in trainable(objective).values()]
    ends = np.cumsum([0, *sizes]).tolist()
    places = {name: slice(*pair) for name, pair in zip(trainable(objective), pairwise(ends), strict=True)}
    total = torch.zeros(ends[-1], dtype=torch.float64)
    ready = objective.prepare(batch) | objective.randomness(len(batch["weights"]), torch.Generator().manual_seed(2))
    add_clipped(total, BACKENDS[backend](objective, ready), places, norm)
    return total


@pytest.mark.parametrize("backend", ["layer", "vmap", "loop"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_no_patient_contributes_more_than_the_clipping_norm(backend: str, scale: float) -> None:
    """One patient's contribution has at most the clipping norm, with one image or three, and no less than it may."""
    for network in (linear(), convolutions()):
        for parameter in network.parameters():
            parameter.data *= scale
        for records in (1, 3):
            for seed in range(4):
                found = clipped(Squares(network), image_batch(1, records, seed=seed), backend, 0.7)
                assert float(found.norm()) <= 0.7
            if scale == 1e6:
                assert float(found.norm()) > 0.699


@pytest.mark.parametrize("backend", ["layer", "vmap"])
def test_a_gradient_that_is_not_finite_contributes_nothing(backend: str) -> None:
    """Weights that overflow for everybody leave a sum of 0, never an infinity or a NaN that would show who is there."""
    network = linear()
    network[1].weight.data[:] = torch.inf
    assert float(clipped(Squares(network), image_batch(3), backend, 1.0).abs().max()) == 0


@pytest.mark.parametrize("cap", [1, 3])
def test_a_neighbour_moves_the_sum_by_at_most_the_clipping_norm(cap: int) -> None:
    """Adding a patient with as many images as the cap moves the whole noised quantity by at most the clipping norm."""
    for network in (linear, convolutions):
        sums = []
        for extra in (0, 1):
            torch.manual_seed(0)
            objective, noise = Steady(network()), Exactly()
            with Session.open(scans(12, cap=cap, extra=extra), ONE, seed=0) as session:
                session._answers._noise = noise
                made = session._answers.gradients(
                    objective, plan(microbatch=5), records="images", expected=12, backend=BACKENDS["vmap"]
                )
                next(iter(made))
            sums.append(noise.before[0] / UNIT)
        moved = np.linalg.norm(sums[1] - sums[0])
        assert 0.3 < moved <= 1.0


def test_microbatches_change_nothing() -> None:
    """Virtual batches of 1, 4 and all patients give one sum."""
    found = []
    for size in (1, 4, 64):
        torch.manual_seed(0)
        objective, noise = Steady(convolutions()), Exactly()
        with Session.open(scans(30, cap=2), ONE, seed=0) as session:
            session._answers._noise = noise
            made = session._answers.gradients(
                objective, plan(microbatch=size), records="images", expected=30, backend=BACKENDS["vmap"]
            )
            next(iter(made))
        found.append(noise.before[0] / UNIT)
    assert np.abs(found[0] - found[2]).max() < 1e-6
    assert np.abs(found[1] - found[2]).max() < 1e-6


def test_one_draw_of_noise_a_step_at_the_plans_scale() -> None:
    """Each logical step asks for noise once, whatever its microbatches, at the noise multiplier of the plan."""
    objective, noise = Squares(linear()), Exactly()
    wanted = plan(noise_multiplier=2.5, clipping_norm=0.3, microbatch=2, steps=4)
    with Session.open(scans(20), ONE, seed=0) as session:
        session._answers._noise = noise
        made = session._answers.gradients(objective, wanted, records="images", expected=20, backend=BACKENDS["layer"])
        assert len(list(made)) == 4
    assert noise.sigmas == [2.5 * UNIT] * 4


@pytest.mark.parametrize("multiplier", [16.0, 18.7, MAX_NOISE])
def test_wide_noise_is_drawn_as_the_plan_says(multiplier: float) -> None:
    """At small budgets too: the noise of the system takes every noise multiplier of a plan, at its scale."""
    torch.manual_seed(0)
    objective = Squares(linear())
    wanted = plan(noise_multiplier=multiplier, clipping_norm=0.3, steps=20, sampling_rate=1e-12)
    with Session.open(scans(20), ONE) as session:
        made = session._answers.gradients(objective, wanted, records="images", expected=1e12, backend=BACKENDS["layer"])
        drawn = [torch.cat([p.grad.flatten() for p in objective.parameters()]).numpy() for _ in made]
    standard = np.concatenate(drawn).astype(float) / (0.3 * multiplier)
    assert kstest(standard, "norm").pvalue > FALSE_ALARM
    assert kstest(standard * 1.5, "norm").pvalue < FALSE_ALARM
    assert kstest(standard / 1.5, "norm").pvalue < FALSE_ALARM


def test_rounding_stays_within_the_margin_of_clipping() -> None:
    """The sum of the largest network, rounded in two worlds, moves by a quarter of 2^-12; noise is what was derived."""
    assert 2 * 0.5 * np.sqrt(MOST_PARAMETERS) / UNIT <= 2.0**-14
    assert MAX_NOISE * UNIT <= MAX_SIGMA


def test_a_network_beyond_what_was_derived_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """More parameters than rounding was derived for: a message before a patient is touched."""
    objective = Squares(linear())
    size = sum(p.numel() for p in trainable(objective).values())
    shape = {"records": 1, "columns": [3], "images": (1, 8, 8), "pixels": "uint8"}
    monkeypatch.setattr("dpsynth.privacy.training.dpsgd.MOST_PARAMETERS", size)
    check_on_made_up(objective, BACKENDS["layer"], shape)
    monkeypatch.setattr("dpsynth.privacy.training.dpsgd.MOST_PARAMETERS", size - 1)
    with pytest.raises(InputError, match="parameters"):
        check_on_made_up(objective, BACKENDS["layer"], shape)


def test_the_gradient_is_divided_by_the_expected_count() -> None:
    """The normaliser is the sampling rate times the expected patients, never the number that were drawn."""
    objective, noise = Squares(linear()), Exactly()
    with Session.open(scans(20), ONE, seed=0) as session:
        session._answers._noise = noise
        made = session._answers.gradients(objective, plan(), records="images", expected=1000, backend=BACKENDS["layer"])
        next(iter(made))
    flat = torch.cat([p.grad.flatten() for p in objective.parameters()]).double().numpy()
    assert np.allclose(flat, noise.before[0] / UNIT / 500, rtol=1e-5, atol=1e-12)


def test_patients_are_drawn_apart_at_the_accounted_rate() -> None:
    """Over many steps each patient is in as many as the rate says, pairs are independent, and sizes are not fixed."""
    drawn = np.zeros((2000, 40))
    from dpsynth.privacy.mechanisms import SystemNoise

    for step, chosen in enumerate(plan(sampling_rate=0.2, steps=2000).draws(40, SystemNoise().uniform)):
        drawn[step, chosen] = 1
    for patient in range(40):
        assert binomtest(int(drawn[:, patient].sum()), 2000, 0.2).pvalue > FALSE_ALARM / 100
    both = int((drawn[:, 0] * drawn[:, 1]).sum())
    assert binomtest(both, 2000, 0.04).pvalue > FALSE_ALARM
    assert drawn.sum(axis=1).std() > 1  # a batch of fixed size has none


def test_a_step_without_patients_is_noise() -> None:
    """An empty sample gives a gradient of noise alone, and does not fail."""
    objective = Squares(linear())
    wanted = plan(sampling_rate=1e-12, steps=1, noise_multiplier=3.0)
    with Session.open(scans(5), ONE, seed=0) as session:
        made = session._answers.gradients(objective, wanted, records="images", expected=5, backend=BACKENDS["layer"])
        next(iter(made))
    flat = torch.cat([p.grad.flatten() for p in objective.parameters()])
    assert 2 < float(flat.std()) * 1e-12 * 5 < 4


def trained(session: Session, objective: nn.Module, **more: Any) -> int:
    """Train and return the number of steps that were seen."""
    seen: list[int] = []
    session.train(objective, seen.append, expected=30, records="images", **more)  # type: ignore[arg-type]
    return len(seen)


def test_a_session_trains_once_and_under_its_plan() -> None:
    """The planned steps run, the event stands in the statement, and a second training is refused before it looks."""
    wanted = TrainingPlan.within(ONE, sampling_rate=0.3, steps=5, questions=0.2)
    with Session.open(scans(30), ONE, training=wanted) as session:
        assert trained(session, Squares(linear())) == 5
        with pytest.raises(BudgetExceeded):
            trained(session, Squares(linear()))
        facts = session.statement()
    assert [event["kind"] for event in facts["events"]] == ["sampled_gaussian"]
    assert facts["events"][0]["count"] == 5
    assert facts["epsilon_spent"] <= 1
    assert any("Float arithmetic" in sentence for sentence in facts["not_protected"])


def test_questions_and_training_share_one_budget() -> None:
    """What the plan leaves for questions can be asked, no more, and the total is what was granted."""
    wanted = TrainingPlan.within(ONE, sampling_rate=0.3, steps=5, questions=0.5)
    with Session.open(scans(30), ONE, training=wanted) as session:
        groups = fine_label(session)
        session.count([groups], [session.rho_left])
        with pytest.raises(BudgetExceeded):
            session.count([groups], [1e-4])
        trained(session, Squares(linear()))
        assert 0.99 < session.statement()["epsilon_spent"] <= 1


def fine_label(session: Session) -> Any:
    """Return the marginal of the label."""
    from .helpers import fine

    return fine(session, "label")


def test_a_training_needs_a_plan_and_a_cohort_that_fits() -> None:
    """Without a plan, images or a positive count nothing is debited and the message says what to do."""
    with Session.open(scans(30), ONE) as session, pytest.raises(InputError, match="training="):
        trained(session, Squares(linear()))
    with Session.open(scans(30), ONE, training=TrainingPlan.within(ONE, sampling_rate=0.3, steps=5)) as session:
        with pytest.raises(InputError, match="expected patients"):
            session.train(Squares(linear()), print, expected=0.0, records="images")
        with pytest.raises(InputError, match="backend"):
            trained(session, Squares(linear()), backend="ghost")
        assert session.events == []


def test_a_plan_that_costs_more_than_the_budget_opens_nothing() -> None:
    """A hand-made plan with too little noise is refused before the cohort is read."""
    with pytest.raises(InputError, match=r"TrainingPlan\.within"):
        Session.open(scans(30), ONE, training=plan(noise_multiplier=0.5))


def test_a_training_is_reserved_before_the_data_is_touched(tmp_path: Any) -> None:
    """The ledger counts an open training in full, another process sees it, and closing it keeps what was run."""
    book = Ledger(tmp_path / "scans.ledger.jsonl")
    wanted = TrainingPlan.within(ONE, sampling_rate=0.3, steps=5, questions=0.2)
    session = Session.open(scans(30, public=False), ONE, training=wanted, ledger=book)
    assert 0.99 < Ledger(book.path).spent().epsilon <= 1
    with pytest.raises(BudgetExceeded):
        Session.open(scans(30, public=False), Budget(0.5, 1e-5), ledger=book)
    with session:
        trained(session, Squares(linear()))
    run = Ledger(book.path).runs()[0]
    assert run.closed
    assert run.trained() == (wanted.event,)
    assert 0.85 < Ledger(book.path).spent().epsilon < 0.99


def test_an_interrupted_training_counts_in_full(tmp_path: Any) -> None:
    """Ctrl-C in the middle of a training leaves its whole event in the ledger."""
    book = Ledger(tmp_path / "scans.ledger.jsonl")
    wanted = TrainingPlan.within(ONE, sampling_rate=0.3, steps=5)

    def interrupt(step: int) -> None:
        if step == 1:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        Session.open(scans(30, public=False), ONE, training=wanted, ledger=book) as session,
    ):
        session.train(Squares(linear()), interrupt, expected=30, records="images")
    assert Ledger(book.path).runs()[0].trained() == (wanted.event,)


class Failing(Squares):
    """Fails with a patient's pixel in its message, but not on made-up patients."""

    def randomness(self, patients: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Fail where there are more patients than in the check."""
        if patients > 3:
            raise RuntimeError("pixel 251")
        return super().randomness(patients, generator)


def test_a_failure_in_a_step_tells_no_value() -> None:
    """What a network's error says could be private: it does not leave the kernel, nor does its traceback."""
    wanted = TrainingPlan.within(ONE, sampling_rate=0.9, steps=5)
    with Session.open(scans(30), ONE, training=wanted) as session, pytest.raises(DpsynthError) as caught:
        trained(session, Failing(linear()))
    assert "251" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_private_records_are_not_pickled_nor_shown() -> None:
    """Neither gradients nor records leave through repr or pickle."""
    import pickle

    with Session.open(scans(30), ONE, seed=0) as session:
        made = session._answers.gradients(
            Squares(linear()), plan(), records="images", expected=5, backend=BACKENDS["layer"]
        )
        assert isinstance(made, Gradients)
        assert repr(made) == "Gradients(...)"
        (patients,) = made._parts
        assert repr(patients) == "Patients(...)"
        for private in (made, patients):
            with pytest.raises(TypeError):
                pickle.dumps(private)
