"""Accounting: prices, their conversion, and the derivations beside the code."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from dpsynth.errors import InputError
from dpsynth.privacy.mechanisms import LATTICE_BITS
from dpsynth.privacy.spending.accounting import SLACK, epsilon_at, epsilon_of, rho_for
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import (
    Accounting,
    Event,
    gaussian_scale,
    grouped,
    selection_epsilon,
    selection_mu,
    total_delta,
    total_price,
)
from dpsynth.privacy.spending.trade_offs import trade_off

BOTH: list[Accounting] = ["gaussian", "zcdp"]


@pytest.mark.parametrize("accounting", BOTH)
@pytest.mark.parametrize("epsilon", [1e-4, 0.1, 0.3, 1, 3, 10, 100])
@pytest.mark.parametrize("delta", [1e-12, 1e-6, 9e-3])
def test_what_is_granted_converts_back_to_the_budget_and_no_more(
    accounting: Accounting, epsilon: float, delta: float
) -> None:
    """The price for a budget is worth its epsilon to a millionth, and never more."""
    rho = rho_for(Budget(epsilon, delta), accounting)
    assert epsilon * (1 - 1e-6) - 2 * SLACK < epsilon_at(rho, accounting, delta) <= epsilon
    assert epsilon_at(rho * 1.001, accounting, delta) > epsilon or accounting == "zcdp"


def test_the_gaussian_price_is_the_analytic_gaussian_mechanism() -> None:
    """At epsilon 1 and delta 1e-6 the noise for sensitivity 1 is that of Balle & Wang 2018: 4.2247."""
    rho = rho_for(Budget(1, 1e-6), "gaussian")
    assert gaussian_scale(1, rho) == pytest.approx(4.224679, abs=1e-4)
    sigma = gaussian_scale(1, rho)
    delta = norm.cdf(1 / (2 * sigma) - sigma) - math.e * norm.cdf(-1 / (2 * sigma) - sigma)
    assert delta == pytest.approx(1e-6, rel=1e-4)
    assert delta <= 1e-6


def test_a_second_accountant_agrees_on_composed_gaussians() -> None:
    """The privacy loss distribution of twelve Gaussian releases gives the same epsilon to 1e-3."""
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant

    events = [Event("gaussian", "counts", 3.0, 60.0, count=12)]
    accountant = PLDAccountant()
    accountant.compose(SelfComposedDpEvent(GaussianDpEvent(20.0), 12))
    assert epsilon_of(events, 1e-6, "gaussian") == pytest.approx(accountant.get_epsilon(1e-6), rel=1e-3)


@pytest.mark.parametrize("rho", [1e-4, 0.02, 0.5, 5])
def test_the_zcdp_conversion_is_the_best_order_of_its_formula(rho: float) -> None:
    """Canonne, Kamath & Steinke's bound, minimised over all orders, is met to 1e-4 and not undercut."""
    from scipy.optimize import minimize_scalar

    def bound(t: float) -> float:
        a = 1 + math.exp(t)
        return rho * a + math.log1p(-1 / a) - math.log(1e-6 * a) / (a - 1)

    best = minimize_scalar(bound, bounds=(-4, 12), method="bounded", options={"xatol": 1e-10}).fun
    assert best - 1e-9 <= epsilon_at(rho, "zcdp", 1e-6) - SLACK <= best * (1 + 1e-4) + 1e-6


def test_gaussian_accounting_is_never_dearer_than_zcdp_for_counts() -> None:
    """For Gaussian releases the exact curve is below the zCDP bound at every budget."""
    for rho in np.geomspace(1e-6, 20, 30):
        assert epsilon_at(rho, "gaussian", 1e-6) <= epsilon_at(rho, "zcdp", 1e-6)


@settings(deadline=None, max_examples=60)
@given(
    rhos=st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=6),
    delta=st.floats(1e-9, 1e-3),
    accounting=st.sampled_from(BOTH),
)
def test_epsilon_grows_with_events_and_falls_with_delta(
    rhos: list[float], delta: float, accounting: Accounting
) -> None:
    """More questions never cost less, more delta never costs more."""
    events = [Event("gaussian", "counts", 1.0, gaussian_scale(1.0, rho)) for rho in rhos]
    spent = [epsilon_of(events[:n], delta, accounting) for n in range(len(rhos) + 1)]
    assert spent[0] == 0
    assert all(a <= b for a, b in pairwise(spent))
    assert epsilon_of(events, delta, accounting) >= epsilon_of(events, 2 * delta, accounting)


@pytest.mark.parametrize("accounting", BOTH)
def test_a_selection_costs_what_was_asked(accounting: Accounting) -> None:
    """The noise for a price has that price, from 1e-10 to 10."""
    for rho in np.geomspace(1e-10, 10, 21):
        epsilon = selection_epsilon(rho, accounting)
        event = Event("selection", "worst", 3.0, 6.0 / epsilon, count=2)
        assert event.price(accounting) == pytest.approx(2 * rho, rel=1e-9)


@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 1.0, 4.0, 12.0])
def test_every_bounded_range_pair_is_inside_the_gaussian_price_of_a_selection(epsilon: float) -> None:
    """For pairs whose log odds differ by epsilon, Phi^-1 moves by at most mu, and by mu in the middle."""
    q = np.concatenate([np.geomspace(1e-12, 0.5, 4000), [1 / (1 + math.exp(epsilon / 2))]])
    p = 1 / (1 + np.exp(-(np.log(q / (1 - q)) + epsilon)))
    moved = np.where(p < 0.5, norm.ppf(p), -norm.ppf(1 / (1 + np.exp(np.log(q / (1 - q)) + epsilon)))) - norm.ppf(q)
    assert moved.max() <= selection_mu(epsilon) * (1 + 1e-9)
    assert moved.max() == pytest.approx(selection_mu(epsilon), rel=1e-6)


def test_an_exponential_mechanism_is_below_its_gaussian_curve() -> None:
    """The exact delta(epsilon) of 8-way softmax pairs, at random scores, never passes the Gaussian DP curve."""
    rng, eps = np.random.default_rng(1), 0.8
    mu = selection_mu(eps)
    for _ in range(200):
        scores, moves = rng.normal(0, 3, 8), rng.uniform(-1, 1, 8)  # sensitivity 1, exponent eps / 2
        p, q = np.exp(eps / 2 * scores), np.exp(eps / 2 * (scores + moves))
        p, q = p / p.sum(), q / q.sum()
        for e in (0.0, 0.1, 0.3, 0.6):
            ours = norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu)
            assert np.maximum(p - math.exp(e) * q, 0).sum() <= ours + 1e-12


def test_a_selection_has_a_price_between_its_zcdp_price_and_pure_dp() -> None:
    """In Gaussian DP a selection costs pi/2 times its zCDP price in the small, and less than that in the large."""
    small = Event("selection", "worst", 1.0, 1e4)
    assert small.price("gaussian") / small.price("zcdp") == pytest.approx(math.pi / 2, rel=1e-4)
    large = Event("selection", "worst", 1.0, 0.5)
    assert large.price("gaussian") < math.pi / 2 * large.price("zcdp")


@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.02])
@pytest.mark.parametrize("start", [0.0, 0.3])
def test_the_lattice_gaussian_is_as_close_to_the_continuous_one_as_derived(ratio: float, start: float) -> None:
    """For h/sigma = ratio the log ratio of the two probabilities stays in the interval of the derivation.

    At the kernel's own lattice the numbers would drown in rounding, so the interval is checked where it is wide.
    """
    from scipy.special import log_ndtr

    h, t = ratio, 4.0
    x = np.arange(start - start % h, t, h)
    lattice = np.arange(-60 / h, 60 / h + 1) * h
    log_discrete = -(x**2) / 2 - np.log(np.exp(-(lattice**2) / 2).sum())
    upper, lower = log_ndtr(-(x - h / 2)), log_ndtr(-(x + h / 2))
    log_continuous = upper + np.log1p(-np.exp(lower - upper))
    gap = log_continuous - log_discrete
    slack = 4 * math.exp(-2 * math.pi**2 / h**2) + 1e-9
    assert gap.min() >= -(h**2) / 24 - slack
    assert (gap <= x**2 * h**2 / 8 + slack).all()


def test_the_slack_covers_the_lattice_whatever_the_number_of_questions() -> None:
    """Ten thousand questions that share a budget of epsilon 100 lose a fifth of the slack, which is below 1e-6."""
    h, t, questions, rho = 2.0**-LATTICE_BITS, 20.0, 10_000, 100.0
    for cap in (1, 3, 50):
        sigma = gaussian_scale(cap, rho / questions)
        eta = questions * cap * t**2 * h**2 / (8 * sigma**2)
        assert 2 * eta < SLACK / 5
    assert SLACK < 1e-6
    assert 1e12 * math.exp(100) * 2 * math.exp(-(t**2) / 2) < 1e-30


def test_discovery_deltas_add_and_come_out_of_the_whole() -> None:
    """An event's own delta makes the rest smaller, so epsilon larger; when nothing is left, epsilon is infinite."""
    plain = [Event("gaussian", "values", 1.0, 20.0)]
    found = [Event("gaussian", "values", 1.0, 20.0, count=2, delta=2e-7)]
    assert total_delta(found) == pytest.approx(4e-7)
    assert epsilon_of(found, 1e-6, "gaussian") > epsilon_of(plain, 1e-6, "gaussian")
    assert epsilon_of(found, 4e-7, "gaussian") == math.inf


def test_a_budget_whose_delta_is_all_reserved_is_refused() -> None:
    """Discovery cannot take all of delta."""
    with pytest.raises(InputError, match="delta"):
        rho_for(Budget(1, 1e-6), "gaussian", reserved_delta=1e-6)


def test_events_survive_json_and_grouping() -> None:
    """An event reads back as it was, and grouping changes neither price nor delta."""
    events = [Event("gaussian", "a", 1.0, 5.0, delta=1e-9), Event("selection", "b", 1.0, 5.0, count=3)] * 2
    assert [Event.from_json(e.to_json()) for e in events] == events
    assert len(grouped(events)) == 2
    for accounting in BOTH:
        assert total_price(grouped(events), accounting) == pytest.approx(total_price(events, accounting), rel=1e-14)
    assert total_delta(grouped(events)) == pytest.approx(2e-9)


@pytest.mark.parametrize(
    "change",
    [{"kind": "laplace"}, {"scale": 0}, {"scale": math.nan}, {"count": 0}, {"delta": -1}, {"sensitivity": "x"}],
)
def test_a_malformed_event_is_refused(change: dict[str, object]) -> None:
    """Unknown kinds and impossible numbers are not read."""
    facts = {**Event("gaussian", "a", 1.0, 5.0).to_json(), **change}
    with pytest.raises((ValueError, TypeError, KeyError)):
        Event.from_json(facts)


@pytest.mark.parametrize("accounting", BOTH)
def test_the_trade_off_is_a_lower_bound_that_falls_with_the_budget(accounting: Accounting) -> None:
    """A larger budget lets an attacker miss less; the points never promise more than the exact Gaussian curve."""
    previous = [1.0] * 7
    for epsilon in (0.1, 1.0, 4.0):
        rho = rho_for(Budget(epsilon, 1e-6), accounting)
        points = trade_off(rho, accounting)
        rates = [p["min_false_negative_rate"] for p in points]
        exact = [norm.cdf(norm.isf(p["false_positive_rate"]) - math.sqrt(2 * rho)) for p in points]
        assert all(r <= e for r, e in zip(rates, exact, strict=True))
        assert all(r < p for r, p in zip(rates, previous, strict=True))
        previous = rates


def test_the_trade_off_is_tight_for_a_gaussian_release() -> None:
    """The likelihood ratio test between two shifted Gaussians reaches the stated points to 1e-4."""
    mu = math.sqrt(2 * 0.5)
    for point in trade_off(0.5, "gaussian"):
        best = norm.cdf(norm.isf(point["false_positive_rate"]) - mu)
        assert best - 2e-4 < point["min_false_negative_rate"] <= best
