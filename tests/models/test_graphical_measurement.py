"""Measurements: their operators, and what overlapping ones say together."""

from typing import Any

import numpy as np
import pytest
from graphical_cases import lifted, seeds, structures, summed
from hypothesis import given
from hypothesis import strategies as st

from dpsynth.models.tabular.graphical.measurement import Measurement, Overlaps, centring, merging, pooled

Array = np.ndarray[Any, Any]
Structure = tuple[dict[str, int], list[tuple[str, ...]]]

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def random_operators(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Array | None, ...]:
    """Draw for each axis nothing, a merge, a centring, or both."""
    choices: list[Array | None] = []
    for size in shape:
        merge = merging(np.sort(rng.integers(0, max(size - 1, 1), size)), size)
        choices.append([None, merge, centring(size), centring(size) @ merge][rng.integers(4)])
    return tuple(choices)


@given(shapes, seeds)
def test_spread_is_the_adjoint_of_measure(shape: tuple[int, ...], seed: int) -> None:
    """``<measure(m), l> = <m, spread(l)>``, for any operators on any number of axes."""
    rng = np.random.default_rng(seed)
    made = random_operators(shape, rng)
    measured = tuple(n if o is None else len(o) for n, o in zip(shape, made, strict=True))
    m = Measurement(tuple("abcd"[: len(shape)]), np.zeros(measured), 1.0, made)
    marginal, parameters = rng.normal(size=shape), rng.normal(size=measured)
    assert (m.measure(marginal) * parameters).sum() == pytest.approx((marginal * m.spread(parameters)).sum(), abs=1e-9)


def test_merging_adds_up_codes() -> None:
    """Codes of a group are added, whatever their order."""
    m = Measurement(("a",), np.zeros(2), 1.0, (merging(np.array([1, 0, 1]), 2),))
    assert m.measure(np.array([0.2, 0.5, 0.3])).tolist() == [0.5, 0.5]


def test_centring_leaves_no_margins_and_no_independence() -> None:
    """On every axis it leaves what independent columns do not have, for equal groups."""
    m = Measurement(("a", "b"), np.zeros((2, 2)), 1.0, (centring(2), centring(2)))
    found = m.measure(np.array([[0.4, 0.1], [0.2, 0.3]]))
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(found, [[0.1, -0.1], [-0.1, 0.1]])


def test_keys_tell_measurements_apart_by_what_they_measure() -> None:
    """Values and slack are not part of a key; columns, shape and operators are."""
    plain = Measurement(("a",), np.zeros(2), 1.0)
    assert plain.key == Measurement(("a",), np.ones(2), 2.0).key
    others = [
        Measurement(("b",), np.zeros(2), 1.0),
        Measurement(("a",), np.zeros(3), 1.0),
        Measurement(("a",), np.zeros(2), 1.0, (centring(2),)),
        Measurement(("a",), np.zeros(2), 1.0, (merging(np.array([0, 1, 1]), 2),)),
        Measurement(("a",), np.zeros(2), 1.0, (merging(np.array([0, 0, 1]), 2),)),
    ]
    assert len({plain.key, *(m.key for m in others)}) == 6


def test_pooling_averages_by_precision() -> None:
    """Two looks are one with the added precision; other measurements stay as they are."""
    one, two = Measurement(("a",), np.array([0.2, 0.8]), 1e-4), Measurement(("a",), np.array([0.6, 0.4]), 3e-4)
    other = Measurement(("b",), np.array([0.5, 0.5]), 1e-4)
    merged, kept = pooled([one, other, two])
    np.testing.assert_allclose(merged.values, [0.3, 0.7])
    assert merged.slack == pytest.approx(0.75e-4)
    assert kept is other


def noisy(structure: Structure, seed: int) -> list[Measurement]:
    """Draw plain measurements that contradict each other."""
    domain, wanted = structure
    rng = np.random.default_rng(seed)
    sets = dict.fromkeys([*((c,) for c in domain), *wanted])
    drawn = [rng.normal(0.2, 0.3, tuple(domain[c] for c in columns)) for columns in sets]
    return [Measurement(c, v, float(rng.uniform(0.1, 2))) for c, v in zip(sets, drawn, strict=True)]


@given(structures(), seeds)
def test_reconciling_changes_no_least_squares(structure: Structure, seed: int) -> None:
    """For every distribution the squared residuals change by the same constant."""
    domain, _ = structure
    measurements = noisy(structure, seed)
    values = Overlaps(measurements).reconciled()
    rng = np.random.default_rng(seed)
    changes = []
    for _ in range(3):
        joint = rng.dirichlet(np.ones(int(np.prod(list(domain.values()))))).reshape(tuple(domain.values()))
        tables = [summed(joint, m.columns, domain) for m in measurements]
        before = sum(((t - m.values) ** 2).sum() / m.slack for t, m in zip(tables, measurements, strict=True))
        after = sum(((t - v) ** 2).sum() / m.slack for t, v, m in zip(tables, values, measurements, strict=True))
        changes.append(after - before)
    np.testing.assert_allclose(changes, changes[0], rtol=1e-7, atol=1e-9)


@given(structures(), seeds)
def test_reconciled_marginals_agree(structure: Structure, seed: int) -> None:
    """They sum to 1, and any two have the same sums over the columns that they share."""
    measurements = noisy(structure, seed)
    values = Overlaps(measurements).reconciled()
    for m, table in zip(measurements, values, strict=True):
        assert table.sum() == pytest.approx(1)
        for other, theirs in zip(measurements, values, strict=True):
            common = tuple(c for c in m.columns if c in other.columns)
            sums = [
                t.sum(axis=tuple(i for i, c in enumerate(o.columns) if c not in common))
                for o, t in ((m, table), (other, theirs))
            ]
            np.testing.assert_allclose(*sums, atol=1e-9)


@given(structures(), seeds)
def test_consistent_marginals_are_left_alone(structure: Structure, seed: int) -> None:
    """Marginals of one distribution agree already; interactions are never touched."""
    domain, wanted = structure
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.ones(int(np.prod(list(domain.values()))))).reshape(tuple(domain.values()))
    plain = [Measurement(c, summed(joint, c, domain), float(rng.uniform(0.1, 2))) for c in dict.fromkeys(wanted)]
    centred = [
        Measurement(c, rng.normal(size=tuple(domain[x] for x in c)), 1.0, tuple(centring(domain[x]) for x in c))
        for c in dict.fromkeys(wanted)
    ]
    for m, values in zip([*plain, *centred], Overlaps([*plain, *centred]).reconciled(), strict=True):
        np.testing.assert_allclose(values, m.values, atol=1e-9)


@given(structures(), seeds)
def test_balancing_keeps_the_model_and_lowers_the_dual(structure: Structure, seed: int) -> None:
    """Potentials are moved between tables that could carry them: their sum stays, the penalty falls as is said."""
    domain, _ = structure
    measurements = noisy(structure, seed)
    overlaps = Overlaps(measurements)
    values = overlaps.reconciled()
    rng = np.random.default_rng(seed)
    before = [rng.normal(size=m.values.shape) for m in measurements]
    after = list(before)
    saved = overlaps.balance(after)

    def potential(parameters: list[Array]) -> Array:
        parts = [lifted(p, m.columns, domain) for p, m in zip(parameters, measurements, strict=True)]
        return np.sum(np.broadcast_arrays(np.zeros(tuple(domain.values())), *parts), axis=0)

    def penalty(parameters: list[Array]) -> float:
        triples = zip(parameters, values, measurements, strict=True)
        return float(sum((p * (0.5 * m.slack * p - v)).sum() for p, v, m in triples))

    np.testing.assert_allclose(potential(after), potential(before), atol=1e-9)
    assert saved == pytest.approx(penalty(before) - penalty(after), abs=1e-9)
    assert saved >= -1e-9
    again = list(after)
    assert overlaps.balance(again) == pytest.approx(0, abs=1e-9)
