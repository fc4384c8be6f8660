"""Belief propagation equals brute force."""

import numpy as np
import pytest
from graphical_cases import joint_of, random_potentials, seeds, summed, trees
from hypothesis import given
from hypothesis import strategies as st

from dpsynth.models.tabular.graphical.junction_tree import JunctionTree, build
from dpsynth.models.tabular.graphical.propagation import IMPOSSIBLE, Propagator, log_sum


@given(trees(), seeds, st.sampled_from([0.0, 0.3, 0.8]), st.sampled_from([1.0, 30.0]))
def test_beliefs_and_partition_function_are_those_of_the_joint_table(
    tree: JunctionTree, seed: int, impossible: float, scale: float
) -> None:
    """Any junction tree, with and without impossible cells, mild and steep potentials."""
    potentials = random_potentials(tree, seed, impossible=impossible, scale=scale)
    beliefs, log_partition = Propagator(tree).beliefs(potentials)
    joint, expected = joint_of(tree, potentials)
    assert log_partition == pytest.approx(expected, rel=1e-9, abs=1e-9)
    for clique, belief in zip(tree.cliques, beliefs, strict=True):
        np.testing.assert_allclose(np.exp(belief), summed(joint, clique, tree.domain), rtol=1e-8, atol=1e-13)


@given(trees(), seeds)
def test_impossible_cells_have_probability_exactly_zero(tree: JunctionTree, seed: int) -> None:
    """Whatever else a model has learned, also where whole separators are impossible."""
    potentials = random_potentials(tree, seed, impossible=0.6, scale=300.0)
    beliefs, _ = Propagator(tree).beliefs(potentials)
    for potential, belief in zip(potentials, beliefs, strict=True):
        assert np.isfinite(belief).all()
        assert (np.exp(belief[potential == IMPOSSIBLE]) == 0).all()


@given(trees(), seeds)
def test_neighbours_agree_on_their_separator(tree: JunctionTree, seed: int) -> None:
    """Beliefs are calibrated: both sides of an edge have the same marginal of the shared columns."""
    potentials = random_potentials(tree, seed, impossible=0.3)
    beliefs, _ = Propagator(tree).beliefs(potentials)
    for i in range(1, len(tree.cliques)):
        sides = []
        for j in (i, tree.parents[i]):
            axes = tuple(k for k, c in enumerate(tree.cliques[j]) if c not in tree.separators[i])
            sides.append(np.exp(beliefs[j]).sum(axis=axes))
        np.testing.assert_allclose(*sides, atol=1e-12)


def test_potentials_of_thousands_of_nats_do_not_underflow() -> None:
    """A chain of 60 columns whose potentials add up to 10^5 nats keeps exact conditional probabilities."""
    domain = {f"c{i}": 2 for i in range(60)}
    tree = build(domain, [(f"c{i}", f"c{i + 1}") for i in range(59)])
    steep = np.array([[0.0, -2000.0], [-2000.0, np.log(3.0)]])
    beliefs, log_partition = Propagator(tree).beliefs([steep] * len(tree.cliques))
    assert log_partition == pytest.approx(59 * np.log(3.0))
    first_second = np.exp(beliefs[0])
    assert first_second[1, 1] == pytest.approx(1.0)
    assert first_second[0, 1] == 0


def test_given_potentials_are_left_alone() -> None:
    """The caller's tables are not written to."""
    tree = build({"a": 2, "b": 2}, [("a", "b")])
    potentials = [np.ones((2, 2))]
    Propagator(tree).beliefs(potentials)
    assert (potentials[0] == 1).all()


def test_log_sum_of_far_apart_values() -> None:
    """Each sum is shifted by its own maximum."""
    found = log_sum(np.array([[0.0, -5000.0], [-5000.0, -5000.0 + np.log(2.0)]]), (1,))
    np.testing.assert_allclose(found, [[0.0], [-5000 + np.log(3.0)]], rtol=1e-12)
