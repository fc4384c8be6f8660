# ruff: noqa: PD011 - `values` of an interaction, not of a data frame
"""Interactions of pairs: what is asked, what the noise does to it, and how much of it is believed."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from privacy.helpers import Recorder
from scipy.stats import chi2, norm

from dpsynth.cohort import Cohort
from dpsynth.models.tabular.graphical.estimation import Measurement, estimate
from dpsynth.models.tabular.graphical.model import GraphicalModel
from dpsynth.models.tabular.marginals.interactions import (
    FAINT,
    JOINT,
    MOST_CELLS,
    SIZES,
    Column,
    Interaction,
    ask,
    energies,
    kept_apart,
    kept_in_order,
    resolve,
    risk,
    table_noise,
)
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.schema import Schema

Array = np.ndarray[Any, Any]
FALSE_ALARM = 1e-6
ROWS = 3000
SHAPE = {"a": 6, "b": 4, "c": 2, "one": 1}


def cohort() -> Cohort:
    """Return made-up rows: b depends on a, c on neither, and one column is constant."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 6, ROWS)
    b = np.where(rng.random(ROWS) < 0.5, a * 4 // 6, rng.integers(0, 4, ROWS))
    frame = pd.DataFrame({"a": a, "b": b, "c": rng.integers(0, 2, ROWS), "one": 0})
    columns = {
        name: {"type": "categorical", "values": list(range(size)), "ordered": name == "a"}
        for name, size in SHAPE.items()
    }
    schema = Schema.parse({"name": "pairs", "confirmed": True, "rows": ROWS, "columns": columns})
    return Cohort.from_pandas(frame, schema, public=True)


DATA = cohort()
TABLE = DATA.to_pandas().astype(int)
MAPS = {name: np.arange(size) for name, size in SHAPE.items()}
COLUMNS = {
    name: Column(np.bincount(TABLE[name], minlength=size) / ROWS, size if name == "a" else 0)
    for name, size in SHAPE.items()
}


def session(seed: int | None) -> Session:
    """Open a session with repeatable noise, or with none where `seed` is None."""
    if seed is None:
        return Session.open(DATA, Budget(1, 1e-6), answers=PrivateAnswers(DATA, 1, Recorder()))
    return Session.open(DATA, Budget(1, 1e-6), seed=seed)


def asked(opened: Session, rho: float, *pairs: tuple[str, str], size: int = 8) -> dict[Any, Interaction]:
    """Ask pairs at one price each."""
    sizes, rhos = [(size, size)] * len(pairs), [rho] * len(pairs)
    return ask(opened, COLUMNS, MAPS, ROWS, pairs=list(pairs), sizes=sizes, rhos=rhos)


def shares(a: str, b: str) -> Array:
    """Return the exact proportions of a pair."""
    cells = TABLE[a].to_numpy() * SHAPE[b] + TABLE[b].to_numpy()
    return np.bincount(cells, minlength=SHAPE[a] * SHAPE[b]).reshape(SHAPE[a], SHAPE[b]) / ROWS


def centred(table: Array) -> Array:
    """Remove the means along both axes."""
    table = table - table.mean(axis=0)
    return np.asarray(table - table.mean(axis=1, keepdims=True))


def test_without_noise_the_interaction_is_exact() -> None:
    """Margins of 0; the excess is what independent columns would not have."""
    found = asked(session(None), 0.001, ("a", "b"))["a", "b"]
    np.testing.assert_allclose(found.values, centred(shares("a", "b")), atol=1e-9)
    independent = np.outer(COLUMNS["a"].proportions, COLUMNS["b"].proportions)
    np.testing.assert_allclose(found.excess, centred(shares("a", "b") - independent), atol=1e-9)
    np.testing.assert_allclose(found.values.sum(axis=0), 0, atol=1e-12)


def test_asking_costs_the_prices_of_useful_pairs() -> None:
    """A pair with a constant column is left out and not paid for."""
    opened = session(0)
    found = asked(opened, opened.rho / 10, ("a", "b"), ("a", "one"), ("b", "c"))
    assert set(found) == {("a", "b"), ("b", "c")}
    assert opened.rho - opened.rho_left == pytest.approx(opened.rho / 5)
    assert asked(opened, opened.rho / 10, ("a", "one")) == {}
    assert opened.rho - opened.rho_left == pytest.approx(opened.rho / 5)


def test_coarse_questions_add_up_the_bins() -> None:
    """Two groups of an ordered column are its halves; the interaction is that of the merged table."""
    found = asked(session(None), 0.001, ("a", "c"), size=2)["a", "c"]
    halves = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]) @ shares("a", "c")
    np.testing.assert_allclose(found.values, centred(halves), atol=1e-9)


def test_the_noise_is_the_claimed_variance_in_the_free_cells() -> None:
    """Squared errors over 300 sessions: chi-square with the free cells, both sides, 1e-6."""
    truth = centred(shares("a", "b"))
    total, freedom = 0.0, 0
    for seed in range(300):
        opened = session(seed)
        found = asked(opened, opened.rho / 3, ("a", "b"))["a", "b"]
        total += float(((found.values - truth) ** 2).sum()) / found.variance
        freedom += found.freedom
    assert chi2.ppf(FALSE_ALARM / 2, freedom) < total < chi2.isf(FALSE_ALARM / 2, freedom)


@pytest.mark.parametrize("pair", [("a", "b"), ("b", "c")])
def test_the_energy_is_unbiased(pair: tuple[str, str]) -> None:
    """Its mean over 400 sessions is the squared norm of the true excess: z-test, 1e-6. Noise alone averages to 0."""
    independent = np.outer(COLUMNS[pair[0]].proportions, COLUMNS[pair[1]].proportions)
    truth = float((centred(shares(*pair) - independent) ** 2).sum())
    found = []
    for seed in range(400):
        opened = session(seed)
        found.append(asked(opened, opened.rho / 10, pair)[pair].energy)
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found) - truth) < norm.isf(FALSE_ALARM / 2) * error


def made(pair: tuple[str, str], signal: float, noise: float, rng: np.random.Generator) -> Interaction:
    """Draw an interaction of four by four groups with this signal and noise."""
    excess = centred(signal * rng.normal(size=(4, 4)) + noise * rng.normal(size=(4, 4)))
    return Interaction(pair, (np.arange(4), np.arange(4)), excess, excess, noise**2, 1.0, np.full((4, 4), 1 / 16))


def test_pooled_energies_are_closer_to_the_truth() -> None:
    """Among 200 pairs, half of them empty, shrinking own energies to their mean lowers the squared error."""
    rng = np.random.default_rng(0)
    signals = np.repeat([0.0, 0.01], 100)
    pairs = {(f"p{i}", "q"): made((f"p{i}", "q"), s, 0.01, rng) for i, s in enumerate(signals)}
    truth = 9 * signals**2
    own = np.array([i.energy for i in pairs.values()])
    pooled = np.array(list(energies(pairs).values()))
    assert ((pooled - truth) ** 2).mean() < ((np.maximum(own, 0) - truth) ** 2).mean()
    assert (pooled >= FAINT).all()


@pytest.mark.parametrize("count", [1, 2, 30])
def test_energies_lie_between_the_own_and_the_mean(count: int) -> None:
    """Never below nothing, and never beyond what was seen or the mean of all."""
    rng = np.random.default_rng(1)
    pairs = {(f"p{i}", "q"): made((f"p{i}", "q"), 0.01, 0.01, rng) for i in range(count)}
    mean = max(float(np.mean([i.energy for i in pairs.values()])), 0)
    for pair, energy in energies(pairs).items():
        own = pairs[pair].energy
        assert min(own, mean) - 1e-12 <= energy <= max(own, mean, FAINT) + 1e-12
    assert energies({}) == {}


def test_noise_only_is_fitted_as_independence() -> None:
    """An interaction that noise alone explains leaves the model independent; a strong one comes through."""
    rng = np.random.default_rng(0)
    one = [Measurement((c,), np.full(4, 0.25), 1e-8) for c in "ab"]
    faint = made(("a", "b"), 0.0, 0.01, rng)
    strong = made(("a", "b"), 0.02, 0.0005, rng)
    states = dict.fromkeys("ab", np.arange(4))
    for found, kept in ((faint.measurement(FAINT, states), 0.0), (strong.measurement(strong.energy, states), 1.0)):
        fit = estimate(dict.fromkeys("ab", 4), [*one, found])
        table = GraphicalModel(fit.tree, fit.beliefs).marginal(("a", "b"))
        np.testing.assert_allclose(table - 1 / 16, kept * found.values, atol=2e-3)


@pytest.mark.parametrize("size", SIZES)
def test_what_groups_keep_of_thresholds(size: int) -> None:
    """Over thresholds at every quantile: variance of the effect between groups over its variance, within .001."""
    quantiles = (np.arange(20_000) + 0.5) / 20_000
    edges = np.arange(size) / size
    above = np.clip((edges + 1 / size - quantiles[:, None]) * size, 0, 1)
    between = (above**2).mean(axis=1) - (1 - quantiles) ** 2
    assert kept_in_order(size) == pytest.approx(between.mean() / (quantiles * (1 - quantiles)).mean(), abs=1e-3)


def test_what_groups_keep_of_unordered_values() -> None:
    """Monte Carlo of exchangeable effects of the values: the share of their variance between groups, within .01."""
    rng = np.random.default_rng(0)
    shares, codes = np.array([0.4, 0.2, 0.1, 0.1, 0.1, 0.1]), np.array([0, 1, 2, 2, 2, 2])
    effects = rng.normal(size=(100_000, 6))
    effects -= (effects @ shares)[:, None]
    masses = np.bincount(codes, shares)
    means = np.stack([effects @ (shares * (codes == g)) / masses[g] for g in range(3)], axis=1)
    assert kept_apart(shares, codes) == pytest.approx(
        (means**2 @ masses).mean() / (effects**2 @ shares).mean(), abs=0.01
    )
    assert kept_apart(shares, np.arange(6)) == pytest.approx(1.0)
    assert kept_apart(shares, np.zeros(6, np.int64)) == pytest.approx(0.0, abs=1e-12)


def test_a_large_table_is_fitted_like_the_interaction_alone() -> None:
    """Whole with the columns' margins, or centred: the two forms of one measurement give one model, within 1e-4."""
    rng = np.random.default_rng(0)
    size = 16
    truth = rng.dirichlet(np.full(size * size, 2.0)).reshape(size, size)
    margins = truth.sum(axis=1), truth.sum(axis=0)
    product = np.outer(*margins)
    codes = np.arange(size)
    found = Interaction(("a", "b"), (codes, codes), centred(truth), centred(truth - product), 1e-8, 1.0, product)
    assert found.values.size > JOINT
    states = dict.fromkeys("ab", codes)
    whole = found.measurement(0.1, states)
    assert whole.merged
    centring_ = np.eye(size) - 1 / size
    alone = Measurement(("a", "b"), found.values, found.variance / 0.1, (centring_, centring_))
    one = [Measurement((c,), m, 1e-9) for c, m in zip("ab", margins, strict=True)]
    tables = []
    for measured in (whole, alone):
        fit = estimate(dict.fromkeys("ab", size), [*one, measured], tolerance=1e-7)
        tables.append(GraphicalModel(fit.tree, fit.beliefs).marginal(("a", "b")))
    np.testing.assert_allclose(tables[0], tables[1], atol=1e-4)
    assert np.abs(tables[0] - truth).sum() / 2 < 0.01


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (8, 8)])
def test_the_noise_of_a_table_is_what_is_expected(shape: tuple[int, int]) -> None:
    """Monte Carlo: half the L1 norm of centred noise, at the price's scale, within 3 %."""
    rng = np.random.default_rng(0)
    ratio = np.sqrt((1 - 1 / shape[0]) * (1 - 1 / shape[1]))
    norms = [0.5 * np.abs(centred(rng.normal(0, 0.01 * ratio, shape))).sum() for _ in range(4000)]
    assert np.mean(norms) == pytest.approx(table_noise(*shape, 0.01), rel=0.03)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_risk_is_below_signal_and_noise(strength: float, noise: float) -> None:
    """Shrunk optimally, no more is lost than the signal and no more is added than the noise."""
    assert risk(strength, noise) <= min(strength, noise) + 1e-12


@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 0.5), st.floats(1e-5, 1))
def test_a_resolution_is_one_of_those_that_can_be_asked(a: int, b: int, strength: float, sigma: float) -> None:
    """Sizes from the list; free cells are those of the groups that come out; more noise never lowers the error."""
    rng = np.random.default_rng(a * 100 + b)
    one, two = Column(rng.dirichlet(np.ones(a)), a), Column(rng.dirichlet(np.ones(b)), 0)
    found = resolve(one, two, strength, sigma)
    assert set(found.sizes) <= {*SIZES, a, b}
    counts = [int(c.groups(size).max()) + 1 for c, size in zip((one, two), found.sizes, strict=True)]
    if min(a, b) > 1:
        assert found.freedom == (counts[0] - 1) * (counts[1] - 1)
        assert np.prod(counts) <= MOST_CELLS
        assert found.error <= resolve(one, two, strength, 2 * sigma).error + 1e-9
        assert found.error <= round(strength, 4) + 1e-9


def test_strong_pairs_are_asked_more_finely() -> None:
    """Little noise or a strong association: more groups; much noise: halves."""
    column = Column(np.full(12, 1 / 12), 12)
    assert resolve(column, column, 0.05, 1.0).freedom == 1
    assert resolve(column, column, 0.3, 1e-4).freedom > 9
    assert resolve(column, column, 0.3, 0.003).freedom >= resolve(column, column, 0.03, 0.003).freedom


def test_groups_of_a_column() -> None:
    """Halves take in all states; finer groups keep special states and missing apart; no order keeps the largest."""
    ordered = Column(np.array([0.1, 0.2, 0.2, 0.2, 0.1, 0.2]), 5)
    assert ordered.groups(2).tolist() == [0, 0, 0, 1, 1, 1]
    assert ordered.groups(3).tolist()[-1] == 3
    nominal = Column(np.array([0.1, 0.5, 0.1, 0.3]), 0)
    assert nominal.groups(3).tolist() == [2, 0, 2, 1]
    assert nominal.options[-1] == (4, 4, 1.0)
    assert Column(np.ones(1), 0).options == ((1, 1, 1.0),)


def test_a_coarser_table_is_taken_where_it_is_hardly_worse() -> None:
    """Without noise to speak of all groups are asked, unless a little error may be spared; limits are kept."""
    column = Column(np.full(64, 1 / 64), 64)
    spared, exact = (resolve(column, column, 0.1, 1e-7, spare=spare) for spare in (0.003, 0.0))
    assert spared.freedom < exact.freedom
    assert spared.error <= exact.error + 0.003
    assert max(resolve(column, column, 0.1, 1e-7, most=(4, 6)).sizes) <= 6
    assert resolve(column, column, 0.1, 0.5, whole=(8, 0)).sizes[0] == 8


def test_cuts_begin_a_group_from_eight_groups_on() -> None:
    """A column that was cut for the target's sake keeps its cuts when it is asked finely, and halves stay halves."""
    column = Column(np.full(40, 1 / 40), 40, cuts=(37, 3))
    for size in (8, 16):
        starts = np.flatnonzero(np.diff(column.groups(size))) + 1
        assert {3, 37} <= set(starts.tolist())
    assert np.flatnonzero(np.diff(column.groups(2))).tolist() == [19]


@pytest.mark.parametrize("sigma", [1e-4, 1e-2, 1.0])
def test_no_fewer_groups_are_asked_than_the_least(sigma: float) -> None:
    """However large the noise is; of a column with fewer bins all are asked."""
    many, few = Column(np.full(40, 1 / 40), 40), Column(np.full(3, 1 / 3), 3)
    assert resolve(many, few, 0.05, sigma, least=(8, 8)).sizes[0] >= 8
    assert resolve(many, few, 0.05, sigma, least=(8, 8)).sizes[1] == 3
    assert resolve(many, few, 0.05, 1.0).sizes[0] < 8
