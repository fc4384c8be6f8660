"""Unordered values are merged by what they go with: known company, pure noise, and a scarce value."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpsynth.models.tabular.marginals.interactions import SIZES, Column
from dpsynth.models.tabular.marginals.profiles import merges, shrunk_profiles


def _excess(shares: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """Joint proportions with a partner of two even groups, less independence; effects sum to 0 over the rows."""
    effects = effects - shares @ effects
    return np.outer(shares * effects, [0.5, -0.5])


def test_values_of_one_kind_are_merged_whatever_their_mass() -> None:
    """Nine diagnoses of three kinds, told by a partner: the groups are the kinds, not the largest and the rest."""
    shares = np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.08, 0.06, 0.04, 0.02])
    kinds = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
    table = _excess(shares, np.array([0.9, 0.0, -0.9])[kinds])
    column = Column(shares, 0).profiled([(table + np.random.default_rng(0).normal(0, 1e-4, table.shape), 1e-8)])
    groups = column.groups(3)
    assert all(len(set(groups[kinds == k])) == 1 for k in range(3))
    assert len(set(groups)) == 3
    assert column.kept(3, groups) == pytest.approx(1.0, abs=0.01)
    assert Column(shares, 0).kept(3, Column(shares, 0).groups(3)) < 0.8


def test_a_profile_that_noise_explains_is_shrunk_to_that_of_all_rows() -> None:
    """Noise alone leaves less than a tenth of itself on average; a clear and frequent value keeps nine tenths."""
    rng = np.random.default_rng(1)
    shares = np.full(20, 0.05)
    left = []
    for _ in range(200):
        noise = rng.normal(0, 0.01, (20, 4))
        noise -= noise.mean(axis=1, keepdims=True)
        profile = shrunk_profiles(shares, [(noise, 1e-4)])
        left.append((profile**2).sum() / ((noise / 0.05) ** 2).sum())
    assert np.mean(left) < 0.1
    clear = _excess(shares, np.repeat([1.0, -1.0], 10))
    kept = shrunk_profiles(shares, [(clear, 1e-6)]) / (clear / 0.05)
    assert kept.min() > 0.9


def test_ordered_columns_and_columns_without_answers_stay_as_they_are() -> None:
    """Only values without an order are merged so."""
    ordered = Column(np.full(9, 1 / 9), 9)
    assert ordered.profiled([(np.zeros((9, 2)), 1e-6)]) is ordered
    nominal = Column(np.full(9, 1 / 9), 0)
    assert nominal.profiled([]) is nominal


@given(st.integers(3, 40), st.integers(0, 1000))
def test_merges_are_nested_and_keep_less_the_fewer_they_are(count: int, seed: int) -> None:
    """Groups of a smaller size are unions of those of a larger one; shares kept lie in [0, 1] and fall."""
    rng = np.random.default_rng(seed)
    sizes = [size for size in SIZES if size < count]
    cuts = merges(rng.dirichlet(np.ones(count)), rng.normal(size=(count, 3)), sizes)
    assert sorted(cuts) == [size for size in sizes if size > 1]
    for small, large in pairwise(sizes):
        pairs = set(zip(cuts[large][0].tolist(), cuts[small][0].tolist(), strict=True))
        assert len(pairs) == large
        assert 0 <= cuts[small][1] <= cuts[large][1] + 1e-9 <= 1 + 2e-9
