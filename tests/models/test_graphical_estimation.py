"""Estimation: the fit is the maximum-entropy distribution within the noise, found fast and told honestly."""

import logging
import time
from typing import Any

import numpy as np
import pytest
from graphical_cases import NAMES, BruteForce, lifted, seeds, structures, summed
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.models.tabular.graphical.estimation import Estimate, Measurement, centring, estimate, merging
from dpsynth.models.tabular.graphical.model import GraphicalModel

Array = np.ndarray[Any, Any]
Structure = tuple[dict[str, int], list[tuple[str, ...]]]

slacks = st.sampled_from([1e-1, 1e-3, 1e-5])
noises = st.sampled_from([0.0, 0.003, 0.03])
kinds = st.sampled_from(["plain", "merged", "centred", "mixed"])


def operators(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Array | None, ...] | None:
    """Draw the operators of a measurement: none, merging into two groups, or its interaction."""
    if kind == "plain":
        return None
    made: list[Array | None] = []
    for size in shape:
        groups = np.arange(size) % min(size, 2)
        merge = merging(rng.permutation(groups), int(groups.max()) + 1)
        made.append(centring(len(merge)) @ merge if kind == "centred" else merge if size > 2 else None)
    return tuple(made)


def measured(structure: Structure, seed: int, kind: str, noise: float, slack: float) -> list[Measurement]:
    """Measure every column and every wanted set of columns of a random distribution, with noise."""
    domain, wanted = structure
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.full(int(np.prod(list(domain.values()))), 0.3)).reshape(tuple(domain.values()))
    found = []
    for columns in dict.fromkeys([*((c,) for c in domain), *wanted]):
        which = str(rng.choice(["plain", "merged", "centred"])) if kind == "mixed" else kind
        table = summed(joint, columns, domain)
        blank = Measurement(columns, table, slack * rng.uniform(0.5, 2), operators(which, table.shape, rng))
        values = blank.measure(table)
        found.append(Measurement(columns, values + rng.normal(0, noise, values.shape), blank.slack, blank.operators))
    return found


def structural_zeros(domain: dict[str, int], seed: int) -> list[tuple[tuple[str, ...], Array]]:
    """Draw zeros over two pairs of columns, named in any order, that leave the cell of all zeros possible."""
    rng = np.random.default_rng(seed)
    zeros = []
    for _ in range(2 if len(domain) > 1 else 0):
        columns = tuple(str(c) for c in rng.permutation(list(domain))[:2])
        table = rng.random([domain[c] for c in columns]) < 0.4
        table[0, 0] = False
        zeros.append((columns, table))
    return zeros


def joint_of(fit: Estimate) -> Array:
    """Full joint distribution of a fit."""
    return GraphicalModel(fit.tree, fit.beliefs).marginal(tuple(fit.tree.domain))


def distance(a: Array, b: Array) -> float:
    """Total variation distance."""
    return 0.5 * float(np.abs(a - b).sum())


@settings(max_examples=120)
@given(structures(), seeds, kinds, st.tuples(noises, slacks), st.booleans())
def test_the_fit_is_the_optimum(
    structure: Structure, seed: int, kind: str, scales: tuple[float, float], with_zeros: bool
) -> None:
    """Any structure, consistent or contradictory values, any operators, with and without zeros: as brute force."""
    domain, _ = structure
    measurements = measured(structure, seed, kind, *scales)
    zeros = structural_zeros(domain, seed) if with_zeros else []
    fit = estimate(domain, measurements, zeros=zeros, tolerance=1e-9)
    exact = BruteForce(domain, measurements, zeros)
    best = exact.solve()
    assert exact.primal(joint_of(fit)) <= exact.primal(best) * (1 + 1e-6) + 1e-3
    assert distance(joint_of(fit), best) < 1e-3


@settings(max_examples=60)
@given(structures(), seeds, slacks)
def test_the_dual_is_flat_at_the_fit(structure: Structure, seed: int, slack: float) -> None:
    """Finite differences of the brute-force dual vanish at the fitted parameters, where its value is the fit's."""
    domain, _ = structure
    measurements = measured(structure, seed, "plain", 0.0, slack)
    fit = estimate(domain, measurements, tolerance=1e-10)
    exact = BruteForce(domain, measurements)
    found = np.concatenate([fit.parameters[m.key].ravel() for m in measurements])
    assert exact.dual(found) == pytest.approx(fit.dual, abs=1e-6)
    step = 1e-3
    for unit in np.eye(len(found)):
        slope = (exact.dual(found + step * unit) - exact.dual(found - step * unit)) / (2 * step)
        assert abs(slope) < 1e-4


@settings(max_examples=40)
@given(structures(), seeds, st.booleans())
def test_structural_zeros_are_exact(structure: Structure, seed: int, nearly_exact: bool) -> None:
    """What is impossible has probability 0, even where nearly exact measurements say that it happens."""
    domain, _ = structure
    zeros = structural_zeros(domain, seed)
    measurements = measured(structure, seed, "plain", 0.01, 1e-12 if nearly_exact else 1e-4)
    joint = joint_of(estimate(domain, measurements, zeros=zeros))
    for columns, table in zeros:
        forbidden = np.broadcast_to(lifted(table, columns, domain), joint.shape)
        assert (joint[forbidden] == 0).all()
    assert joint.sum() == pytest.approx(1)


def test_zeros_that_tie_two_columns_are_a_compromise() -> None:
    """Where zeros make two columns one and their counts differ, the fit is the mean of both, in a few steps."""
    first, second = np.array([0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4])
    measurements = [Measurement(("a",), first, 1e-7), Measurement(("b",), second, 1e-7)]
    fit = estimate({"a": 3, "b": 3}, measurements, zeros=[(("b", "a"), ~np.eye(3, dtype=bool))])
    np.testing.assert_allclose(np.diag(joint_of(fit)), (first + second) / 2, atol=1e-4)
    assert fit.steps < 20


def test_contradictory_zeros_are_refused() -> None:
    """When nothing is possible there is no distribution to return."""
    zeros = [(("a",), np.array([True, False])), (("b", "a"), np.array([[False, True], [False, True]]))]
    with pytest.raises(ValueError, match="no combination possible"):
        estimate({"a": 2, "b": 2}, [Measurement(("a",), np.full(2, 0.5), 1e-4)], zeros=zeros)


def test_a_measurement_outside_the_given_tree_is_refused() -> None:
    """A tree that was built for other measurements is named as the fault."""
    alone = estimate({"a": 2, "b": 2}, [Measurement(("a",), np.full(2, 0.5), 1e-4)])
    with pytest.raises(ValueError, match="no clique"):
        estimate({"a": 2, "b": 2}, [Measurement(("a", "b"), np.full((2, 2), 0.25), 1e-4)], tree=alone.tree)


def chain(noise: float, slack: float, *, columns: int = 12, seed: int = 0) -> tuple[dict[str, int], list[Measurement]]:
    """Noisy one-way and pair counts of a chain of columns."""
    rng = np.random.default_rng(seed)
    domain = {f"c{i}": int(rng.integers(2, 9)) for i in range(columns)}
    sizes = list(domain.values())
    found, here = [], rng.dirichlet(np.ones(sizes[0]))
    for i in range(columns):
        found.append(Measurement((f"c{i}",), here + rng.normal(0, noise, sizes[i]), slack))
        if i + 1 < columns:
            pair = here[:, None] * rng.dirichlet(np.full(sizes[i + 1], 0.5), sizes[i])
            found.append(Measurement((f"c{i}", f"c{i + 1}"), pair + rng.normal(0, noise, pair.shape), slack))
            here = pair.sum(axis=0)
    return domain, found


def residual(fit: Estimate, measurements: list[Measurement]) -> float:
    """Half the squared distance from what was measured, in slacks."""
    model = GraphicalModel(fit.tree, fit.beliefs)
    return sum(
        0.5 * float(((m.measure(model.marginal(m.columns)) - m.values) ** 2).sum()) / m.slack for m in measurements
    )


def test_least_squares_of_a_tree_takes_few_steps() -> None:
    """Noise as large as the counts, slack as large as its variance: within 0.1 nats of the optimum in 25 steps."""
    domain, measurements = chain(0.01, 1e-4)
    fit = estimate(domain, measurements)
    best = estimate(domain, measurements, tolerance=1e-9)
    assert fit.steps <= 25
    assert residual(fit, measurements) == pytest.approx(residual(best, measurements), abs=0.1)


def test_exact_counts_are_met() -> None:
    """Without noise and with next to no slack the measured marginals come out as they went in."""
    domain, measurements = chain(0.0, 1e-12)
    fit = estimate(domain, measurements)
    model = GraphicalModel(fit.tree, fit.beliefs)
    for m in measurements:
        np.testing.assert_allclose(model.marginal(m.columns), m.values, atol=1e-7)


@pytest.mark.parametrize("slack", [1e-4, 1e-6, 1e-8])
def test_less_slack_than_noise_is_fitted_too(slack: float) -> None:
    """Slack far below the noise is non-negative least squares: residuals fall towards their limit, none is NaN."""
    domain, measurements = chain(0.01, slack)
    loose = estimate(*chain(0.01, 1e-4))
    fit = estimate(domain, measurements)
    assert residual(fit, measurements) <= residual(loose, measurements) * (1 + 1e-6)
    assert all(np.isfinite(belief).all() for belief in fit.beliefs)


def test_much_slack_gives_independence() -> None:
    """Where noise would explain everything the fit is uniform: the ridge shrinks to no information."""
    domain, measurements = chain(0.1, 1e4)
    fit = estimate(domain, measurements)
    table = GraphicalModel(fit.tree, fit.beliefs).marginal(("c0", "c1"))
    np.testing.assert_allclose(table, np.full(table.shape, 1 / table.size), atol=1e-3)


def test_a_warm_start_reaches_the_same_optimum_in_fewer_steps() -> None:
    """A measurement more, and the parameters of the others known."""
    domain, measurements = chain(0.01, 1e-4, columns=20)
    first = estimate(domain, measurements[:-1], tolerance=1e-7)
    cold = estimate(domain, measurements, tolerance=1e-7)
    warm = estimate(domain, measurements, warm=first.parameters, tolerance=1e-7)
    assert warm.dual == pytest.approx(cold.dual, abs=1e-4)
    assert warm.steps < cold.steps
    again = estimate(domain, measurements, warm=cold.parameters)
    assert again.steps <= 2


def test_repeated_measurements_count_by_their_precision() -> None:
    """Two looks at a pair are one look with the average and the joint precision."""
    rng = np.random.default_rng(0)
    tables = [rng.dirichlet(np.ones(12)).reshape(3, 4) for _ in range(2)]
    pair, domain = ("a", "b"), {"a": 3, "b": 4}
    twice = estimate(domain, [Measurement(pair, t, s) for t, s in zip(tables, (1e-4, 3e-4), strict=True)])
    once = estimate(domain, [Measurement(pair, 0.75 * tables[0] + 0.25 * tables[1], 0.75e-4)])
    np.testing.assert_allclose(joint_of(twice), joint_of(once), atol=1e-9)


def test_values_that_sum_to_less_than_one_are_no_burden() -> None:
    """A wrong number of rows scales all counts; what no distribution can explain is put aside, not fitted."""
    table = np.array([[0.3, 0.2], [0.1, 0.2]])
    fit = estimate({"a": 2, "b": 2}, [Measurement(("a", "b"), table, 1e-12)])
    np.testing.assert_allclose(joint_of(fit), table + 0.05, atol=1e-6)


def test_stopping_early_is_logged_and_convergence_is_not(caplog: pytest.LogCaptureFixture) -> None:
    """`max_steps` is kept, and said to have been reached; a fit that converged says nothing."""
    domain, measurements = chain(0.01, 1e-4)
    with caplog.at_level(logging.WARNING):
        assert estimate(domain, measurements).steps > 3
        assert not caplog.records
        fit = estimate(domain, measurements, max_steps=2)
    assert fit.steps == 2
    assert "before it had converged" in caplog.text


def test_progress_is_told_and_rises() -> None:
    """Every step says how far the fit is, never backwards and never past the end."""
    told: list[float] = []
    fit = estimate(*chain(0.01, 1e-4), progress=lambda _phase, share: told.append(share))
    assert len(told) == fit.steps
    assert told == sorted(told)
    assert 0 < told[0] <= told[-1] <= 1


def test_ten_thousand_categories() -> None:
    """A column of 10,000 categories, next to another and under a constraint with it, fits in seconds."""
    rng = np.random.default_rng(0)
    domain = {"sex": 2, "code": 10_000}
    shares = rng.dirichlet(np.full(10_000, 0.1))
    measurements = [
        Measurement(("sex",), np.array([0.4, 0.6]), 1e-6),
        Measurement(("code",), shares + rng.normal(0, 1e-3, 10_000), 1e-6),
        Measurement(("sex", "code"), np.outer([0.4, 0.6], shares) + rng.normal(0, 1e-3, (2, 10_000)), 1e-6),
    ]
    forbidden = np.zeros((10_000, 2), dtype=bool)
    forbidden[:500, 0] = True
    began = time.process_time()
    fit = estimate(domain, measurements, zeros=[(("code", "sex"), forbidden)])
    assert time.process_time() - began < 20
    assert (joint_of(fit)[0, :500] == 0).all()


def test_a_single_constant_column() -> None:
    """One column with one state has probability 1."""
    fit = estimate({"only": 1}, [Measurement(("only",), np.array([0.97]), 1e-6)])
    assert joint_of(fit).tolist() == [1.0]


def test_wide_cliques_converge() -> None:
    """All pairs of six columns at noise level: overlapping blocks in one clique, extrapolated where they are slow."""
    rng = np.random.default_rng(1)
    domain = dict.fromkeys(NAMES, 4)
    joint = rng.dirichlet(np.full(4**6, 0.05)).reshape((4,) * 6)
    pairs = [(a, b) for i, a in enumerate(NAMES) for b in NAMES[i + 1 :]]
    tables = {pair: summed(joint, pair, domain) for pair in pairs}
    measurements = [Measurement(p, t + rng.normal(0, 0.01, t.shape), 1e-4) for p, t in tables.items()]
    fit = estimate(domain, measurements)
    best = estimate(domain, measurements, tolerance=1e-8)
    assert fit.steps < 100
    assert fit.dual == pytest.approx(best.dual, abs=0.01)
