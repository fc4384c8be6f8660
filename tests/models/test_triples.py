"""Interactions of three columns: what a parity needs, what noise makes of the scan, and what is not taken for one."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from mechanism_cases import cohort_of, fitted
from privacy.helpers import Recorder
from scipy.stats import norm

from dpsynth.cohort import Cohort
from dpsynth.models.tabular.marginals import one_way
from dpsynth.models.tabular.marginals.interactions import Interaction
from dpsynth.models.tabular.marginals.stage import Stage
from dpsynth.models.tabular.marginals.triples import (
    FAINTEST,
    FALSE,
    SCAN,
    Pattern,
    ask_triples,
    beyond_pairs,
    centred,
    clear_triples,
    needed,
    refined,
    scan_of,
    threshold,
)
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget

FALSE_ALARM = 1e-6


def parities(n: int, *, target: str | None = "y", seed: int = 0) -> Cohort:
    """Return bits of which y is the parity of two but for 5 %, and digits of which one is a sum modulo 3."""
    rng = np.random.default_rng(seed)
    frame: dict[str, Any] = {f"x{i}": rng.integers(0, 2, n) for i in range(4)}
    frame["y"] = frame["x0"] ^ frame["x1"] ^ (rng.random(n) < 0.05)
    frame |= {f"t{i}": rng.integers(0, 3, n) for i in range(4)}
    frame["t4"] = np.where(rng.random(n) < 0.05, rng.integers(0, 3, n), (frame["t0"] + frame["t1"]) % 3)
    columns = {c: {"type": "categorical", "values": [0, 1, 2] if c[0] == "t" else [0, 1]} for c in frame}
    return cohort_of(columns, frame, **({"target": target} if target else {}))


def staged(cohort: Cohort, *, exact: bool = True, epsilon: float = 1.0) -> tuple[Session, Stage]:
    """Return a session whose columns were counted; without noise where `exact`."""
    answers = PrivateAnswers(cohort, 1, Recorder()) if exact else None
    opened = Session.open(cohort, Budget(epsilon, 1e-6), answers=answers, seed=None if exact else 1)
    counts = one_way.measure(opened, opened.rho / 3, bins=16)
    return opened, Stage(opened.schema, opened.codec, counts, opened.sensitivity)


@pytest.mark.parametrize(("target", "epsilon"), [("y", 1.0), ("y", 3.0), (None, 3.0)])
def test_a_parity_comes_through(target: str | None, epsilon: float) -> None:
    """10,000 patients: nine in ten drawn rows keep the parity of bits, and the sum modulo 3, as in the data."""
    _, model = fitted("prism", parities(10_000, target=target), epsilon)
    drawn = model.sample(5_000, seed=0).to_pandas().astype(int)
    assert ((drawn["x0"] ^ drawn["x1"]) == drawn["y"]).mean() > 0.9
    assert ((drawn["t0"] + drawn["t1"]) % 3 == drawn["t4"]).mean() > 0.9


def test_where_noise_would_hide_it_nothing_is_asked() -> None:
    """With 300 patients at epsilon 0.3 no triple is asked, and the budget goes where it went before."""
    session, _ = fitted("prism", parities(300), 0.3)
    assert not [e for e in session.events if e.what.count(" x ") > 1]
    assert session.rho_left == pytest.approx(0, abs=1e-9 * session.rho)


def test_a_scan_costs_its_part_at_most_and_less_the_more_there_is() -> None:
    """The price falls with the square of n until it is that of the faintest triple; never above `SCAN` of the rest."""
    shares = []
    for n in (4_000, 40_000, 400_000):
        opened, stage = staged(parities(n))
        shares.append(scan_of(stage, opened.rho_left).rho / opened.rho_left)
    assert SCAN * 1.000001 >= shares[0] >= shares[1] > shares[2] > 0


@pytest.mark.parametrize("free", [1, 4, 8])
def test_a_triple_of_the_needed_energy_is_found(free: int) -> None:
    """Monte Carlo: at least 95 % of triples with that energy pass the threshold, and of noise the promised share."""
    rng, among = np.random.default_rng(0), 50
    signal = np.zeros(free)
    signal[0] = np.sqrt(needed(free, among))
    draws = rng.normal(size=(20_000, free))
    assert (((draws + signal) ** 2).sum(axis=1) > threshold(free, among)).mean() > 0.95
    false = ((draws**2).sum(axis=1) > threshold(free, among)).sum()
    rate = FALSE / among
    assert abs(false - 20_000 * rate) < norm.isf(FALSE_ALARM / 2) * np.sqrt(20_000 * rate) + 1


def test_without_noise_a_triple_is_exact() -> None:
    """The values are the centred table; the excess is what independent columns would not have."""
    cohort = parities(2_000)
    opened, stage = staged(cohort)
    names = ("x0", "x1", "y")
    found = ask_triples(opened, stage, [Pattern(names, (2, 2, 2), 0.001)])[names]
    frame = cohort.to_pandas().astype(int)
    table = np.zeros((2, 2, 2))
    np.add.at(table, tuple(frame[c] for c in names), 1 / len(frame))
    np.testing.assert_allclose(found.values, centred(table), atol=1e-6)
    assert found.freedom == 1
    assert clear_triples({names: found}, 10)


def chain(skew: float, n: int = 200_000) -> Cohort:
    """Return three skewed bits of which each follows the one before: no triple says more than its pairs."""
    rng = np.random.default_rng(0)
    a = rng.random(n) < skew
    b = np.where(rng.random(n) < 0.7, a, rng.random(n) < skew)
    c = np.where(rng.random(n) < 0.7, b, rng.random(n) < skew)
    bit = {"type": "categorical", "values": [0, 1]}
    frame = {"a": a.astype(int), "b": b.astype(int), "c": c.astype(int)}
    return cohort_of(dict.fromkeys(frame, bit), frame)


def test_what_the_pairs_explain_is_no_triple() -> None:
    """Skewed columns that go together in pairs have an interaction of order three, and nothing beyond their pairs."""
    opened, stage = staged(chain(0.1))
    names = ("a", "b", "c")
    found = ask_triples(opened, stage, [Pattern(names, (2, 2, 2), 0.001)])
    pairs = stage.ask(opened, stage.probe(0.001 * 3))
    assert set(pairs) == set(combinations(names, 2))
    beyond = beyond_pairs(stage, found, [pairs])
    before, after = (float(np.abs(batch[names].excess).sum()) for batch in (found, beyond))
    assert before > 0.05
    assert after < 0.1 * before


def test_a_refinement_costs_what_it_may_and_leaves_out_what_noise_hides() -> None:
    """Strong triples share the price; one far below the noise of its share is not asked."""
    opened, stage = staged(parities(2_000))
    strong, faint = ("x0", "x1", "y"), ("x1", "x2", "x3")
    rho = opened.rho_left / 10
    questions = refined(stage, {strong: 0.45, faint: 0.0}, rho)
    assert [q.columns for q in questions] == [strong]
    assert sum(q.rho for q in questions) == pytest.approx(rho)
    assert refined(stage, {}, rho) == []


def test_the_faintest_triple_is_priced_as_derived() -> None:
    """Of two groups each: lambda s^2 / (8 t^2 n^2), the same for all, at the strength that is looked for."""
    opened, stage = staged(parities(400_000))
    scan = scan_of(stage, opened.rho_left)
    pattern = next(p for p in scan.patterns if all(c[0] in "xy" for c in p.columns))
    price = needed(1, len(scan.patterns)) / (8 * (FAINTEST * stage.counts.rows) ** 2)
    assert pattern.rho == pytest.approx(price)


def test_an_interaction_of_three_is_one_as_of_two() -> None:
    """Free cells and energy are general in the number of columns."""
    values = centred(np.random.default_rng(0).normal(size=(2, 3, 4)))
    made = Interaction(("a", "b", "c"), tuple(np.arange(k) for k in values.shape), values, values, 0.5, 1.0, values)  # type: ignore[arg-type]
    assert made.freedom == 6
    assert made.energy == pytest.approx((values**2).sum() - 3)
