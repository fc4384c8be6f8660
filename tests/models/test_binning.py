"""Bins: fine codes are shared out exactly, noise is shrunk and nothing else, groups are what was asked for."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from dpsynth.models.tabular.graphical.shuffling import shuffled_by_group
from dpsynth.models.tabular.marginals.binning import FINEST, HEDGED, Bins, group, hedged, simplex, smooth, totals

settings.register_profile("dpsynth", deadline=None)  # two shared cores: times say nothing
settings.load_profile("dpsynth")

Array = np.ndarray[Any, Any]
FALSE_ALARM = 1e-6
seeds = st.integers(0, 2**32 - 1)


def drawn_bins(seed: int, *, states: int = 12) -> tuple[Bins, np.random.Generator]:
    """Draw a column's map from codes to bins, in no order, and the weights of the codes; some weigh nothing."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, states + 1))
    count = int(rng.integers(1, size + 1))
    codes = rng.permutation(np.concatenate([np.arange(count), rng.integers(0, count, size - count)]))
    weights = rng.random(size) * (rng.random(size) < 0.7) + 1e-300
    weights /= totals(codes, weights)[codes]
    return Bins({"x": codes}, {"x": weights}), rng


@given(seeds, st.integers(0, 300))
def test_refining_keeps_the_bin_and_meets_its_shares(seed: int, rows: int) -> None:
    """Every code belongs to its row's bin, and each code's count is within 2 of its share of the bin's rows."""
    bins, rng = drawn_bins(seed)
    here = rng.integers(0, bins.shape["x"], rows)
    codes = bins.refine("x", here, None, rng)
    assert (bins.maps["x"][codes] == here).all()
    expected = np.bincount(here, minlength=bins.shape["x"])[bins.maps["x"]] * bins.weights["x"]
    assert np.abs(np.bincount(codes, minlength=len(expected)) - expected).max(initial=0) < 2 + 1e-9


@given(seeds, st.integers(1, 300))
def test_refining_under_a_mask_draws_allowed_codes_only(seed: int, rows: int) -> None:
    """The mask is kept by every row, also of bins that it leaves nothing of; the others keep their bin and shares."""
    bins, rng = drawn_bins(seed)
    mask = rng.random(len(bins.maps["x"])) < 0.5
    mask[rng.integers(len(mask))] = True
    weights = bins.weights["x"] * mask
    if not (weights > 0).any():
        return
    here = rng.integers(0, bins.shape["x"], rows)
    codes = bins.refine("x", here, mask, rng)
    assert mask[codes].all()
    mass = totals(bins.maps["x"], weights, bins.shape["x"])
    possible = mass[here] > 0
    assert (bins.maps["x"][codes][possible] == here[possible]).all()
    counts = np.bincount(codes[possible], minlength=len(mask))
    expected = np.bincount(here, minlength=len(mass))[bins.maps["x"]] * weights
    expected = np.divide(expected, mass[bins.maps["x"]], out=np.zeros_like(expected), where=weights > 0)
    assert np.abs(counts - expected).max() < 2 + 1e-9


def test_refining_is_independent_of_other_columns() -> None:
    """Within a bin, rows get their codes in random order: chi-square against another column, 1e-6."""
    rng = np.random.default_rng(0)
    bins = Bins({"x": np.zeros(4, dtype=np.int64)}, {"x": np.full(4, 0.25)})
    other = np.arange(40_000) % 5
    codes = bins.refine("x", np.zeros(40_000, dtype=np.int64), None, rng)
    table = np.bincount(codes * 5 + other, minlength=20)
    assert ((table - 2000) ** 2 / 2000).sum() < chi2.isf(FALSE_ALARM, 12)


def test_ten_thousand_bins_of_one_code_each_come_back() -> None:
    """Sums over thousands of bins do not drift a row into the next bin."""
    codes = np.random.default_rng(1).permutation(10_000)
    bins = Bins({"x": codes}, {"x": np.ones(10_000)})
    here = np.repeat(np.arange(10_000), 100)
    assert (codes[bins.refine("x", here, None, np.random.default_rng(2))] == here).all()


@given(seeds)
def test_impossible_bins_are_those_without_a_possible_code(seed: int) -> None:
    """A combination of bins is impossible exactly when all combinations of their codes are: brute force."""
    rng = np.random.default_rng(seed)
    maps = {c: drawn_bins(seed + i, states=5)[0].maps["x"] for i, c in enumerate("abc")}
    bins = Bins(maps, {c: np.ones(len(m)) for c, m in maps.items()})
    columns = [str(c) for c in rng.permutation(list("abc"))[: rng.integers(1, 4)]]
    table = rng.random([len(maps[c]) for c in columns]) < 0.8
    expected = np.ones([bins.shape[c] for c in columns], dtype=bool)
    for place in np.ndindex(*table.shape):
        if not table[place]:
            expected[tuple(maps[c][code] for c, code in zip(columns, place, strict=True))] = False
    np.testing.assert_array_equal(bins.impossible(columns, table), expected)


@given(seeds)
def test_evidence_is_the_allowed_weight_of_each_bin(seed: int) -> None:
    """1 where all codes are allowed, 0 where none is."""
    bins, rng = drawn_bins(seed)
    np.testing.assert_allclose(bins.evidence("x", np.ones(len(bins.maps["x"]), dtype=bool)), 1)
    mask = rng.random(len(bins.maps["x"])) < 0.5
    expected = [bins.weights["x"][(bins.maps["x"] == b) & mask].sum() for b in range(bins.shape["x"])]
    np.testing.assert_allclose(bins.evidence("x", mask), expected)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.sampled_from([1.0, 4406.0]))
def test_the_simplex_projection_keeps_the_optimality_conditions(values: list[float], total: float) -> None:
    """Non-negative, sums to the total, and every kept cell moves by the same: those of the quadratic program."""
    given_ = np.array(values)
    found = simplex(given_, total)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(total, rel=1e-6, abs=1e-8)
    moved = given_ - found
    shift = moved[found > 0].max()
    np.testing.assert_allclose(moved[found > 0], shift, rtol=1e-6, atol=1e-6)
    assert (given_[found == 0] <= shift + 1e-6 * max(1, abs(shift))).all()


@given(seeds)
def test_a_distribution_is_its_own_projection(seed: int) -> None:
    """What is a distribution already stays as it is."""
    p = np.random.default_rng(seed).dirichlet(np.ones(9))
    np.testing.assert_allclose(simplex(p), p, atol=1e-12)


def bumpy(size: int) -> Array:
    """Return the counts of a smooth histogram with a spike."""
    x = np.linspace(-2, 2, size)
    counts = 5000 * np.exp(-(x**2)) / size * 8
    counts[size // 3] *= 6
    return counts


@pytest.mark.parametrize("size", [8, 64, 128])
def test_without_noise_nothing_is_smoothed(size: int) -> None:
    """Where the noise is a millionth of the counts they stay as they are."""
    counts = bumpy(size)
    np.testing.assert_allclose(smooth(counts, 1e-3, np.full(size, 1 / size)), counts, atol=0.01)


@pytest.mark.parametrize("size", [64, 600])
def test_pure_noise_is_shrunk(size: int) -> None:
    """Around a flat histogram the noise loses most of its size."""
    rng = np.random.default_rng(0)
    flat = np.full(size, 100.0)
    found = smooth(flat + rng.normal(0, 20, size), 20, np.full(size, 1 / size))
    assert np.abs(found - flat).mean() < 0.3 * 20 * np.sqrt(2 / np.pi)


@pytest.mark.parametrize("sigma", [5.0, 20.0, 100.0])
@pytest.mark.parametrize("size", [64, 600])
def test_smoothing_comes_closer_to_the_truth(size: int, sigma: float) -> None:
    """On average over 10 draws a smoothed histogram with a spike has less squared error than the raw one."""
    rng = np.random.default_rng(0)
    truth, widths = bumpy(size), np.full(size, 1 / size)
    noisy = [truth + rng.normal(0, sigma, size) for _ in range(10)]
    after = np.mean([((smooth(counts, sigma, widths) - truth) ** 2).mean() for counts in noisy])
    assert after < 0.8 * sigma**2


def test_a_spike_survives() -> None:
    """People write 20, not 19: a cell far above its neighbours is no noise, few cells or very many."""
    for size in (64, 3000):
        counts = np.full(size, 50.0)
        counts[10] = 2000.0
        noisy = counts + np.random.default_rng(0).normal(0, 10, size)
        found = smooth(noisy, 10, np.full(size, 1 / size))
        assert found[10] > 1800
        assert abs(found[30] - 50) < 30


def test_unequal_cells_are_smoothed_as_densities() -> None:
    """Log-spaced cells of an even density: counts that follow the widths are what smoothing leads to."""
    widths = np.diff(np.geomspace(1, 1000, 65)) / 999
    counts = 5000 * widths
    noisy = counts + np.random.default_rng(0).normal(0, 15, 64)
    found = smooth(noisy, 15, widths)
    assert ((found - counts) ** 2).mean() < 0.5 * 15**2


def test_very_many_ordered_cells_are_smoothed_in_seconds() -> None:
    """10,000 ordered categories would need minutes and gigabytes cell by cell."""
    counts = np.random.default_rng(0).normal(10, 30, 10_000)
    began = time.process_time()
    found = smooth(counts, 30, np.full(10_000, 1e-4))
    assert time.process_time() - began < 20
    assert np.abs(found - 10).mean() < 10
    assert len(counts) > FINEST


masses = st.lists(st.floats(0, 1), min_size=1, max_size=40).map(np.array)


@given(masses, st.data(), st.integers(2, 12))
def test_groups_are_numbered_without_gaps(mass: Array, data: st.DataObject, size: int) -> None:
    """Every number up to the largest is used; ordered states make runs, the others stay alone behind them."""
    ordered = data.draw(st.integers(0, len(mass)))
    cuts = data.draw(st.lists(st.integers(0, max(ordered - 1, 0)), max_size=3)) if ordered else []
    codes = group(mass, ordered, size, cuts)
    assert len(codes) == len(mass)
    assert set(codes.tolist()) == set(range(int(codes.max()) + 1))
    if ordered:
        assert set(np.diff(codes[:ordered]).tolist()) <= {0, 1}
        assert (np.diff(codes[ordered - 1 :]) == 1).all()
        assert all(cut == 0 or codes[cut] > codes[cut - 1] for cut in cuts)
    alone = len(mass) - ordered if ordered else 0
    assert codes.max() + 1 <= max(size, alone + 2) + len(set(cuts)) or len(mass) <= size


@given(masses, st.integers(2, 12))
def test_unordered_groups_keep_the_largest_states_apart(mass: Array, size: int) -> None:
    """With more than two groups the most frequent states stand alone; with two, neither half is empty."""
    codes = group(mass, 0, size)
    if len(mass) > size > 2:
        largest = np.argsort(-mass, kind="stable")[: size - 1]
        assert len(set(codes[largest].tolist())) == size - 1
        assert all((codes == codes[i]).sum() == 1 for i in largest)
    assert codes.max() + 1 == min(len(mass), size)


def test_ordered_groups_have_about_equal_mass() -> None:
    """A skewed histogram is cut finely where it is dense."""
    mass = np.exp(-np.linspace(0, 6, 64))
    codes = group(mass / mass.sum(), 64, 8)
    shares = totals(codes, mass / mass.sum())
    assert len(shares) == 8
    assert np.abs(shares - 1 / 8).max() < 0.06


@pytest.mark.parametrize("mass", [np.zeros(30), np.eye(30)[7]])
def test_a_column_with_all_mass_in_one_cell_or_none_can_be_grouped(mass: Array) -> None:
    """No division by zero, at least one group."""
    assert group(mass, 30, 8).max() >= 0
    assert group(mass, 0, 8).max() == 7


@given(seeds, st.integers(0, 200), st.sampled_from([1, 3, 300, 70_000]))
def test_shuffling_sorts_by_group_and_loses_no_row(seed: int, rows: int, count: int) -> None:
    """Positions are a permutation, in ascending order of group, whatever the number of groups."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, count, rows)
    order = shuffled_by_group(groups, count, rng)
    assert sorted(order.tolist()) == list(range(rows))
    assert (np.diff(groups[order]) >= 0).all()


def test_every_order_within_a_group_is_equally_likely() -> None:
    """Six orders of three rows in 12,000 shuffles: chi-square, 1e-6."""
    rng = np.random.default_rng(0)
    orders = [tuple(shuffled_by_group(np.array([1, 0, 1, 1]), 2, rng)[1:].tolist()) for _ in range(12_000)]
    counts = np.array([orders.count(o) for o in sorted(set(orders))])
    assert len(counts) == 6
    assert ((counts - 2000) ** 2 / 2000).sum() < chi2.isf(FALSE_ALARM, 5)


@given(seeds, st.sampled_from([0.0, 0.1, 3.0, 40.0, 1e4]))
def test_hedging_keeps_the_sum_and_leaves_no_cell_empty(seed: int, sigma: float) -> None:
    """Noise only moves mass from full cells to empty ones, at most `HEDGED` of it; without noise nothing moves."""
    rng = np.random.default_rng(seed)
    mass = rng.random(40) * 100 * (rng.random(40) < 0.3)
    widths = rng.dirichlet(np.ones(40))
    found = hedged(mass, sigma, widths)
    assert found.sum() == pytest.approx(mass.sum())
    assert (found >= (1 - HEDGED) * mass - 1e-9).all()
    assert 0.5 * np.abs(found - mass).sum() <= HEDGED * mass.sum() + 1e-9
    if sigma == 0:
        np.testing.assert_array_equal(found, mass)
    elif mass.sum() > 0:
        assert (found > 0)[widths > 0].all()
    np.testing.assert_allclose(hedged(mass, 1e-9, widths), mass, atol=1e-6)
