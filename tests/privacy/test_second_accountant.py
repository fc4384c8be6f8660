"""A second accountant, written down again from the papers, gives the same epsilon as the kernel's, for any events."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.evaluation.audit.curves import gaussian_epsilon
from dpsynth.evaluation.audit.outcome import AuditVerdict
from dpsynth.evaluation.audit.statements import bracketed, check_statement, claim_in, plan_in, recomposed
from dpsynth.jobs.audit import demo_cohort
from dpsynth.jobs.fit import fit
from dpsynth.privacy.spending.accounting import epsilon_at, epsilon_of, rho_for
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Accounting, Event, gaussian_scale
from dpsynth.privacy.spending.training_plan import TrainingPlan

FUZZED = settings(max_examples=60, deadline=None)


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Draw a count or a selection at prices that runs use."""
    sensitivity = draw(st.floats(0.1, 10))
    ratio = draw(st.floats(1e-3, 1.0))
    kind = draw(st.sampled_from(["gaussian", "selection"]))
    return Event(
        kind, "asked", sensitivity, sensitivity / ratio, draw(st.integers(1, 5)), draw(st.sampled_from([0, 1e-9]))
    )


def again(asked: list[Event], accounting: Accounting, delta: float) -> float:
    """Return what the second accountant says."""
    return recomposed([one.to_json() for one in asked], accounting, delta)


@FUZZED
@given(asked=st.lists(events(), max_size=6), delta=st.floats(1e-7, 1e-3))
def test_gaussian_accounting_agrees(asked: list[Event], delta: float) -> None:
    """Gaussian DP by scipy's closed form gives the kernel's epsilon to 1e-6 of it, and the kernel is not below."""
    ours, theirs = epsilon_of(asked, delta, "gaussian"), again(asked, "gaussian", delta)
    assert theirs <= ours + 1e-9
    assert ours <= theirs * (1 + 1e-5) + 2e-6


@FUZZED
@given(asked=st.lists(events(), min_size=1, max_size=6), delta=st.floats(1e-7, 1e-3))
def test_zcdp_accounting_agrees(asked: list[Event], delta: float) -> None:
    """The Renyi conversion minimised over all orders gives the kernel's epsilon to 1e-4 of it, never more."""
    ours, theirs = epsilon_of(asked, delta, "zcdp"), again(asked, "zcdp", delta)
    assert theirs <= ours + 1e-6
    assert ours <= theirs * (1 + 2e-4) + 1e-5


@FUZZED
@given(asked=st.lists(events(), min_size=1, max_size=4), accounting=st.sampled_from(["gaussian", "zcdp"]))
def test_epsilon_moves_with_everything_as_it_should(asked: list[Event], accounting: Accounting) -> None:
    """More sensitivity, repetition or own delta never costs less; more noise or total delta never costs more."""
    first, *rest = asked

    def spent(one: Event, delta: float = 1e-5) -> float:
        return epsilon_of([one, *rest], delta, accounting)

    base = spent(first)
    assert spent(replace(first, sensitivity=2 * first.sensitivity)) >= base
    assert spent(replace(first, count=first.count + 1)) >= base
    assert spent(replace(first, delta=first.delta + 1e-7)) >= base
    assert spent(replace(first, scale=2 * first.scale)) <= base
    assert spent(first, 2e-5) <= base
    assert epsilon_of(rest, 1e-5, accounting) <= base


@settings(max_examples=20, deadline=None)
@given(epsilon=st.floats(1e-3, 50), delta=st.floats(1e-9, 4e-3), accounting=st.sampled_from(["gaussian", "zcdp"]))
def test_a_larger_budget_buys_no_less(epsilon: float, delta: float, accounting: Accounting) -> None:
    """What a budget can pay rises with epsilon and delta and falls with what is reserved; it is worth its epsilon."""
    rho = rho_for(Budget(epsilon, delta), accounting)
    assert rho_for(Budget(2 * epsilon, delta), accounting) >= rho
    assert rho_for(Budget(epsilon, 2 * delta), accounting) >= rho
    assert rho_for(Budget(epsilon, delta), accounting, reserved_delta=delta / 3) <= rho
    paid = [Event("gaussian", "all", 1.0, gaussian_scale(1.0, rho))]
    assert again(paid, accounting, delta) <= epsilon
    assert again(paid, accounting, delta) >= epsilon * (1 - 1e-3) - 1e-5


@pytest.mark.parametrize(("rho", "delta"), [(0.1, 1e-6), (1.0, 1e-5), (0.005, 1e-9)])
def test_zcdp_is_inside_the_bound_of_its_paper(rho: float, delta: float) -> None:
    """Proposition 1.3 of Bun & Steinke 2016, rho + 2 sqrt(rho log(1/delta)), is looser by up to a fifth."""
    paper = rho + 2 * math.sqrt(rho * math.log(1 / delta))
    assert 0.8 * paper < epsilon_at(rho, "zcdp", delta) < paper


def test_known_values_of_the_gaussian_mechanism() -> None:
    """Sigma 4.2247, 3.7304 and 0.4998 are epsilon 1 at 1e-6, 1 at 1e-5 and 10 at 1e-5 (Balle & Wang 2018)."""
    for sigma, delta, epsilon in ((4.224679, 1e-6, 1.0), (3.730632, 1e-5, 1.0), (0.499882, 1e-5, 10.0)):
        assert gaussian_epsilon(1 / sigma, delta) == pytest.approx(epsilon, rel=1e-4)
        assert epsilon_at(1 / (2 * sigma**2), "gaussian", delta) == pytest.approx(epsilon, rel=1e-4)


@pytest.mark.parametrize("model", ["independent", "mst", "aim", "prism"])
@pytest.mark.parametrize("epsilon", [0.3, 4.0])
def test_what_a_model_states_is_what_it_spent(model: str, epsilon: float) -> None:
    """The second accountant contradicts no statement of any model, and each uses at least 95 % of its epsilon."""
    facts: dict[str, Any] = fit(demo_cohort(), model, epsilon=epsilon).statement
    assert [one.name for one in check_statement(facts) if one.verdict is AuditVerdict.VIOLATION] == []
    spent = recomposed(facts["events"], facts["accountant"]["accounting"], facts["delta"])
    assert 0.95 * epsilon <= spent <= epsilon


@pytest.mark.parametrize(("rate", "steps"), [(0.05, 300), (0.1, 1000), (1.0, 20)])
@pytest.mark.parametrize("epsilon", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("questions", [0.0, 0.3])
def test_a_plan_costs_what_opacus_says(rate: float, steps: int, epsilon: float, questions: float) -> None:
    """Opacus' bounds on the epsilon of a training with questions beside it, 0.02 apart, hold the kernel's."""
    pytest.importorskip("opacus")
    plan = TrainingPlan.within(Budget(epsilon, 1e-6), sampling_rate=rate, steps=steps, questions=questions)
    asked = [Event("gaussian", "all", 1.0, gaussian_scale(1.0, plan.rho))] if questions else []
    spent = epsilon_of([plan.event, *asked], 1e-6, "gaussian")
    low, high = bracketed([one.to_json() for one in [plan.event, *asked]], 1e-6)
    assert low <= spent <= high + 1e-3
    assert high - low < 0.025


def test_a_training_that_lies_is_seen() -> None:
    """What a trained model states is not contradicted; three times the steps, less noise or spending, are."""
    pytest.importorskip("opacus")
    statement = fit(demo_cohort(), "tvae", epsilon=1.0, hidden=8, steps=5).statement
    assert statement["private"]
    assert {str(one.verdict) for one in check_statement(statement)[1:3]} == {"consistent"}
    assert not claim_in(statement).gaussian  # a sampled training has no Gaussian curve
    plan = plan_in(statement)
    assert plan is not None
    assert plan.steps == 5
    for name, factor in (("count", 3), ("scale", 0.5), ("sampling_rate", 3)):
        events = [{**e, name: e[name] * factor} if e["kind"] == "sampled_gaussian" else e for e in statement["events"]]
        assert check_statement({**statement, "events": events})[1].verdict is AuditVerdict.VIOLATION
    less = {**statement, "epsilon_spent": 0.9}
    assert check_statement(less)[2].verdict is AuditVerdict.VIOLATION
