"""A fitted model: its marginals, conditions and records are those of the joint distribution."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from graphical_cases import lifted, random_model, seeds, summed, trees
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from dpsynth.models.tabular.graphical.junction_tree import JunctionTree, build
from dpsynth.models.tabular.graphical.model import GraphicalModel, _whole_counts
from dpsynth.models.tabular.graphical.propagation import Propagator

Array = np.ndarray[Any, Any]
FALSE_ALARM = 1e-6


@given(trees(), seeds, st.sampled_from([0.0, 0.4]))
def test_any_marginal_is_that_of_the_joint_distribution(tree: JunctionTree, seed: int, impossible: float) -> None:
    """Inside a clique, across cliques, across unconnected parts; the columns in any order."""
    model, joint = random_model(tree, seed, impossible=impossible)
    rng = np.random.default_rng(seed)
    for size in range(len(tree.domain) + 1):
        for columns in combinations(tree.domain, size):
            order = tuple(str(c) for c in rng.permutation(list(columns)))
            np.testing.assert_allclose(model.marginal(order), summed(joint, order, tree.domain), atol=1e-12)


@given(trees(), seeds, st.sampled_from([0.0, 0.4]))
def test_all_pairs_at_once(tree: JunctionTree, seed: int, impossible: float) -> None:
    """`pairs` gives every pair of columns, each as `marginal` would."""
    model, joint = random_model(tree, seed, impossible=impossible)
    found = model.pairs()
    assert list(found) == list(combinations(tree.domain, 2))
    for columns, table in found.items():
        np.testing.assert_allclose(table, summed(joint, columns, tree.domain), atol=1e-12)


@given(trees(), seeds, st.sampled_from([0.0, 0.3]))
def test_a_condition_is_that_of_the_joint_distribution(tree: JunctionTree, seed: int, impossible: float) -> None:
    """Hard and soft evidence on any columns: the conditional marginals, and the condition's probability."""
    model, joint = random_model(tree, seed, impossible=impossible)
    rng = np.random.default_rng(seed)
    evidence: dict[str, Array] = {}
    for column, size in tree.domain.items():
        if rng.random() < 0.5:
            evidence[column] = rng.random(size) if rng.random() < 0.5 else (rng.random(size) < 0.6).astype(float)
            joint = joint * lifted(evidence[column], (column,), tree.domain)
    conditional, chance = model.given(evidence)
    assert chance == pytest.approx(joint.sum(), rel=1e-9, abs=1e-12)
    if chance > 1e-6:
        for clique in tree.cliques:
            expected = summed(joint, clique, tree.domain) / joint.sum()
            np.testing.assert_allclose(conditional.marginal(clique), expected, atol=1e-9)


def test_an_impossible_condition_has_probability_zero() -> None:
    """No code is allowed, or the allowed ones never meet."""
    tree = build({"a": 2, "b": 2}, [("a", "b")])
    model = GraphicalModel(tree, [np.log(np.array([[0.5, 1e-300], [1e-300, 0.5]]))])
    assert model.given({"a": np.zeros(2)})[1] == 0
    assert model.given({"a": np.array([1.0, 0.0]), "b": np.array([0.0, 1.0])})[1] < 1e-200


@given(trees(), seeds, st.sampled_from([1, 2, 7, 100]), st.sampled_from([0.0, 0.4]))
def test_records_are_as_close_to_expectation_as_whole_records_can(
    tree: JunctionTree, seed: int, n: int, impossible: float
) -> None:
    """In each group of records alike on a separator, every cell is within 1 of its expected count; zeros are 0."""
    model, _ = random_model(tree, seed, impossible=impossible)
    drawn = model.sample(n, np.random.default_rng(seed))
    assert list(drawn) == list(tree.domain)
    for i, clique in enumerate(tree.cliques):
        shape = tuple(tree.domain[c] for c in clique)
        counts = np.bincount(np.ravel_multi_index([drawn[c] for c in clique], shape), minlength=int(np.prod(shape)))
        table = np.exp(model.beliefs[i])
        axes = tuple(k for k, c in enumerate(clique) if c not in tree.separators[i])
        group = table.sum(axis=axes, keepdims=True)
        share = np.divide(table, group, out=np.zeros_like(table), where=group > 0)
        counts = counts.reshape(shape)
        expected = share * counts.sum(axis=axes, keepdims=True)
        assert np.abs(counts - expected).max() < 1 + 1e-9
        assert (counts[table == 0] == 0).all()


def draws(model: GraphicalModel, n: int, times: int, columns: tuple[str, ...]) -> Array:
    """Count the combinations of columns in samples drawn anew, one row a sample."""
    rng = np.random.default_rng(11)
    shape = tuple(model.domain[c] for c in columns)
    found = []
    for _ in range(times):
        drawn = model.sample(n, rng)
        cells = np.ravel_multi_index([drawn[c] for c in columns], shape)
        found.append(np.bincount(cells, minlength=int(np.prod(shape))))
    return np.array(found)


@pytest.mark.parametrize("n", [1, 3, 20])
def test_records_are_unbiased(n: int) -> None:
    """Mean counts over 4,000 samples are those of the joint distribution, also of columns that no clique holds.

    A z-test in each cell, Bonferroni: together they are wrong with probability 1e-6.
    """
    tree = build({"a": 3, "b": 2, "c": 4}, [("a", "b"), ("b", "c")])
    model, joint = random_model(tree, 5)
    counts = draws(model, n, 4000, ("a", "b", "c"))
    expected = n * joint.ravel()
    error = np.maximum(counts.std(axis=0, ddof=1), 1e-9) / np.sqrt(len(counts))
    threshold = norm.isf(FALSE_ALARM / (2 * joint.size))
    # A cell that was never seen has no estimate of its error: use the binomial's.
    error = np.maximum(error, np.sqrt(expected * (1 - joint.ravel()) / len(counts)) * 0.5)
    assert (
        np.abs(counts.mean(axis=0) - expected).max() / error[np.abs(counts.mean(axis=0) - expected).argmax()]
        < threshold
    )
    assert (np.abs(counts.mean(axis=0) - expected) < threshold * error).all()


def test_single_records_follow_the_joint_distribution() -> None:
    """20,000 samples of one record each: a chi-square test of all 24 cells, wrong with probability 1e-6."""
    tree = build({"a": 3, "b": 2, "c": 4}, [("a", "b"), ("b", "c")])
    model, joint = random_model(tree, 5)
    counts = draws(model, 1, 20_000, ("a", "b", "c")).sum(axis=0)
    expected = 20_000 * joint.ravel()
    large = expected >= 5
    statistic = ((counts - expected)[large] ** 2 / expected[large]).sum()
    assert statistic < chi2.isf(FALSE_ALARM, int(large.sum()))


def test_columns_are_independent_given_what_separates_them() -> None:
    """In 200,000 records a and c are independent within each state of b: chi-square, wrong with probability 1e-6.

    Systematic draws make counts more even than independent records would, never less.
    """
    tree = build({"a": 3, "b": 2, "c": 4}, [("a", "b"), ("b", "c")])
    model, _ = random_model(tree, 5)
    drawn = model.sample(200_000, np.random.default_rng(3))
    statistic, freedom = 0.0, 0
    for b in range(2):
        here = drawn["b"] == b
        table = np.bincount(drawn["a"][here] * 4 + drawn["c"][here], minlength=12).reshape(3, 4)
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
        statistic += ((table - expected) ** 2 / np.maximum(expected, 1e-9)).sum()
        freedom += 6
    assert statistic < chi2.isf(FALSE_ALARM, freedom)


def test_records_of_unconnected_columns_are_independent() -> None:
    """Columns without a common clique get their own random order."""
    tree = build({"a": 2, "b": 2}, [])
    model = GraphicalModel(tree, [np.log(np.full(2, 0.5)), np.log(np.full(2, 0.5))])
    drawn = model.sample(10_000, np.random.default_rng(0))
    assert abs(np.corrcoef(drawn["a"], drawn["b"])[0, 1]) < norm.isf(FALSE_ALARM / 2) / 100


@given(trees(), seeds)
def test_no_records(tree: JunctionTree, seed: int) -> None:
    """Zero records are empty columns, not an error."""
    model, _ = random_model(tree, seed)
    assert {c: len(codes) for c, codes in model.sample(0, np.random.default_rng(0)).items()} == dict.fromkeys(
        tree.domain, 0
    )


def test_the_same_generator_draws_the_same_records() -> None:
    """A draw repeats with its seed."""
    model, _ = random_model(build({"a": 3, "b": 3}, [("a", "b")]), 1)
    one, two = (model.sample(50, np.random.default_rng(8)) for _ in range(2))
    assert all((one[c] == two[c]).all() for c in one)


@settings(max_examples=200)
@given(st.integers(1, 40), st.integers(1, 40), seeds, st.sampled_from([0, 1, 3, 10**6, 10**9]))
def test_whole_counts(rows: int, cells: int, seed: int, largest: int) -> None:
    """They sum to the sizes, stay within 1 of expectation, and never fall on a cell without weight."""
    rng = np.random.default_rng(seed)
    weights = rng.random((rows, cells)) ** 8 * (rng.random((rows, cells)) < 0.5) * 10.0 ** rng.integers(-12, 3)
    sizes = rng.integers(0, largest + 1, rows)
    counts = _whole_counts(weights, sizes, rng)
    assert (counts.sum(axis=1) == sizes).all()
    assert (counts >= 0).all()
    total = weights.sum(axis=1)
    known = total > 0
    assert (counts[known][weights[known] == 0] == 0).all()
    expected = weights[known] / total[known, None] * sizes[known, None]
    assert (np.abs(counts[known] - expected) < 1 + 1e-6 * sizes[known, None]).all()


def test_a_group_without_weight_is_spread_evenly() -> None:
    """Where the model knows nothing of a group, which rounding alone can reach, any cell will do."""
    counts = _whole_counts(np.zeros((1, 4)), np.array([400]), np.random.default_rng(0))
    assert counts.tolist() == [[100, 100, 100, 100]]


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_cells_without_weight_at_the_ends_are_never_drawn(uniform: float) -> None:
    """Rounding of cumulative sums leaves no crumb for them, whatever the draw of the remainders."""

    class Fixed(np.random.Generator):
        def random(self, size: Any) -> Array:  # type: ignore[override]
            return np.full(size, uniform)

    rng = np.random.default_rng(0)
    blank = np.zeros((300, 3))
    weights = np.concatenate([blank, rng.random((300, 997)), blank], axis=1)
    counts = _whole_counts(weights, np.full(300, 10**9), Fixed(np.random.PCG64()))
    assert counts[:, :3].sum() == 0
    assert counts[:, -3:].sum() == 0


def test_a_long_chain_answers_its_ends() -> None:
    """The marginal of the first and the last of 100 columns is a product of 99 transitions."""
    rng = np.random.default_rng(0)
    domain = {f"c{i}": 3 for i in range(100)}
    tree = build(domain, [(f"c{i}", f"c{i + 1}") for i in range(99)])
    steps = [rng.dirichlet(np.ones(3), 3) for _ in range(99)]
    potentials = [np.log(steps[min(int(c[1:]) for c in clique)]) for clique in tree.cliques]
    potentials = [
        p + (np.log(1 / 3) if "c0" in clique else 0.0) for p, clique in zip(potentials, tree.cliques, strict=True)
    ]
    beliefs, log_partition = Propagator(tree).beliefs(potentials)
    assert log_partition == pytest.approx(0, abs=1e-9)
    expected = np.full((1, 3), 1 / 3) * np.linalg.multi_dot(steps).T
    np.testing.assert_allclose(GraphicalModel(tree, beliefs).marginal(("c99", "c0")), expected, rtol=1e-9)
