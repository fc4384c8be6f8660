"""Blocks: each solves its part of the dual exactly, from any marginal."""

from typing import Any

import numpy as np
import pytest
from graphical_cases import seeds
from hypothesis import given
from hypothesis import strategies as st

from dpsynth.models.tabular.graphical.acceleration import Anderson
from dpsynth.models.tabular.graphical.blocks import CellBlock, JointBlock
from dpsynth.models.tabular.graphical.measurement import Measurement, centring, merging

Array = np.ndarray[Any, Any]

shapes = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
slacks = st.sampled_from([1e3, 1.0, 1e-3, 1e-6, 1e-12])


def dual_change(m: Measurement, marginal: Array, before: Array, after: Array, values: Array) -> float:
    """Change of the dual when one measurement's parameters change, from the marginal alone."""
    log_partition = float(np.log((marginal * np.exp(m.spread(after - before))).sum()))
    return log_partition + float(((after - before) * (0.5 * m.slack * (after + before) - values)).sum())


@given(shapes, seeds, slacks)
def test_a_cell_block_ends_where_the_gradient_is_zero(shape: tuple[int, ...], seed: int, slack: float) -> None:
    """``q + c l = y`` in every cell, whatever the slack; q is a distribution, and dead cells stay dead."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0.1, 0.2, shape)
    values += (1 - values.sum()) / values.size
    marginal = rng.dirichlet(np.full(values.size, 0.3)).reshape(shape)
    marginal[rng.random(shape) < 0.2] = 0
    if marginal.sum() == 0:
        marginal.flat[0] = 1
    marginal /= marginal.sum()
    before = rng.normal(0, 0.1, shape) / max(slack, 1e-3)
    parameters = [before]
    m = Measurement(tuple("abc"[: len(shape)]), values, slack)
    factor, gain = CellBlock(0, m, values).fit(marginal, parameters)
    after, live = marginal * factor, marginal > 0
    assert after.sum() == pytest.approx(1)
    assert (after[~live] == 0).all()
    np.testing.assert_allclose((after + slack * parameters[0])[live], values[live], rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(parameters[0][~live], before[~live])
    assert gain >= -1e-9 * max(1, np.abs(before).max())


@given(shapes, seeds, st.sampled_from([1.0, 1e-2, 1e-4]))
def test_a_cell_block_says_what_it_gained(shape: tuple[int, ...], seed: int, slack: float) -> None:
    """The decrease of the dual, as computed from its definition."""
    rng = np.random.default_rng(seed)
    values = rng.dirichlet(np.ones(int(np.prod(shape)))).reshape(shape)
    marginal = rng.dirichlet(np.ones(values.size)).reshape(shape)
    m = Measurement(tuple("abc"[: len(shape)]), values, slack)
    parameters = [rng.normal(size=shape)]
    before = parameters[0]
    _, gain = CellBlock(0, m, values).fit(marginal, parameters)
    assert gain == pytest.approx(-dual_change(m, marginal, before, parameters[0], values), abs=1e-8)


def test_a_sunk_cell_is_remembered_below_the_floor() -> None:
    """A cell that noise made very negative leaves the tables at the floor, but its parameter is the exact one."""
    values = np.array([1.5, -0.5])
    m, parameters = Measurement(("a",), values, 1e-4), [np.zeros(2)]
    block = CellBlock(0, m, values)
    factor, _ = block.fit(np.full(2, 0.5), parameters)
    assert 0 < 0.5 * factor[1] < 1e-50
    assert parameters[0][1] == pytest.approx(-5000)
    again, gain = block.fit(0.5 * factor, parameters)
    np.testing.assert_allclose(again, 1, rtol=1e-9)
    assert gain == pytest.approx(0, abs=1e-6)


def interaction(shape: tuple[int, int], rng: np.random.Generator, slack: float) -> Measurement:
    """Draw a measured interaction in two groups along each column."""
    operators = tuple(centring(2) @ merging(np.arange(n) % 2, 2) for n in shape)
    return Measurement(("a", "b"), centring(2) * rng.normal(0, 0.2), slack, operators)


@given(st.tuples(st.integers(2, 6), st.integers(2, 6)), seeds, st.sampled_from([1.0, 1e-3, 1e-6]))
def test_a_joint_block_ends_where_the_gradient_is_zero(shape: tuple[int, int], seed: int, slack: float) -> None:
    """Columns and their interaction together; the factor is what the parameters do to the marginal."""
    rng = np.random.default_rng(seed)
    a, b = rng.dirichlet(np.ones(shape[0])), rng.dirichlet(np.ones(shape[1]))
    measurements = [Measurement(("a",), a, 1e-4), Measurement(("b",), b, 1e-4), interaction(shape, rng, slack)]
    marginal = rng.dirichlet(np.ones(shape[0] * shape[1])).reshape(shape)
    parameters = [np.zeros(m.values.shape) for m in measurements]
    block = JointBlock(("a", "b"), shape, [0, 1, 2], measurements, [m.values for m in measurements])
    after, gain, fits = marginal, np.inf, 0
    while gain > 1e-9 and fits < 40:
        factor, gain = block.fit(after, parameters)
        assert gain >= 0
        after, fits = after * factor, fits + 1
    assert after.sum() == pytest.approx(1)
    potential = parameters[0][:, None] + parameters[1] + measurements[2].spread(parameters[2])
    expected = marginal * np.exp(potential - potential.max())
    np.testing.assert_allclose(after, expected / expected.sum(), rtol=1e-5, atol=1e-50)
    parts = [after.sum(axis=1), after.sum(axis=0), after]
    for m, part, table in zip(measurements, parts, parameters, strict=True):
        assert np.abs(m.measure(part) - m.values + m.slack * table).max() < 1e-4


def test_a_joint_block_too_large_for_newton_still_descends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Along the scaled gradient it gets there too, in more steps."""
    monkeypatch.setattr("dpsynth.models.tabular.graphical.blocks.LARGE", 0)
    rng = np.random.default_rng(0)
    m = interaction((4, 4), rng, 1e-2)
    parameters = [np.zeros((2, 2))]
    block = JointBlock(("a", "b"), (4, 4), [0], [m], [m.values])
    after = np.full((4, 4), 1 / 16)
    for _ in range(100):
        factor, _ = block.fit(after, parameters)
        after = after * factor
    np.testing.assert_allclose(m.measure(after) + m.slack * parameters[0], m.values, atol=1e-5)


def test_anderson_finds_the_end_of_a_linear_sequence() -> None:
    """A linear iteration in four dimensions is solved by five proposals, however slowly it converges by itself."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    shrink = turn @ np.diag([0.999, 0.99, 0.9, 0.5]) @ turn.T
    end = rng.normal(size=4)
    method, here = Anderson(), np.zeros(4)
    for _ in range(7):
        after = end + shrink @ (here - end)
        proposal = method.propose(here, after, np.ones(4))
        here = after if proposal is None else proposal
    np.testing.assert_allclose(here, end, atol=1e-6)
    method.forget()
    assert method.propose(here, here, np.ones(4)) is None
