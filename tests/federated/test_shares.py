"""Shares of noise add up to what was paid for, and without noise the hospitals' sums are the central ones."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2, norm

from dpsynth.coding.query import Query
from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.federated.masks import Masks
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.mechanisms import SystemNoise
from dpsynth.privacy.session import Session
from dpsynth.privacy.shares import ShareAnswers, Sharing, joined
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.tables.counting import fine_query
from federated.helpers import PRICE, SCHEMA, SHAPE, Federation, rows, silence

QUERIES = [
    fine_query(["sex"], SHAPE),
    fine_query(["sex", "died"], SHAPE),
    Query(("age", "died"), (np.arange(SHAPE["age"]) // 8, np.arange(SHAPE["died"]))),
    Query((), ()),
]


def joint(federation: Federation) -> Cohort:
    """Return all hospitals' patients as one public cohort."""
    import pandas as pd

    frame = pd.concat([cohort.to_pandas() for cohort in federation.cohorts.values()], ignore_index=True)
    return Cohort.from_pandas(frame, SCHEMA, public=True)


def test_without_noise_counts_are_the_central_ones(tmp_path: Path) -> None:
    """Every cell of four marginals, the number of rows among them, is equal to the last integer."""
    federation = Federation(tmp_path)
    with silence(), federation.session() as session:
        answers = session.count(QUERIES, [PRICE] * len(QUERIES))
        with Session.open(joint(federation), Budget(1, 1e-6)) as central:
            exact = central.count(QUERIES, [PRICE] * len(QUERIES))
    assert [a.counts.tolist() for a in answers] == [e.counts.tolist() for e in exact]


def test_without_noise_interactions_are_the_central_ones(tmp_path: Path) -> None:
    """Interactions of tables of one and two columns are equal."""
    federation = Federation(tmp_path)
    with silence(), federation.session() as session:
        answers = session.interactions(QUERIES[:3], [PRICE] * 3)
        with Session.open(joint(federation), Budget(1, 1e-6)) as central:
            exact = central.interactions(QUERIES[:3], [PRICE] * 3)
    assert [vars(a)["values"].tolist() for a in answers] == [vars(e)["values"].tolist() for e in exact]


@pytest.mark.parametrize(("n", "t"), [(3, 1), (5, 0), (5, 2), (2, 1)])
def test_the_noise_of_those_who_do_not_collude_is_what_was_paid_for(n: int, t: int) -> None:
    """2,000 cells: n - t shares have sigma^2 between chi-square quantiles of 1e-7; 4/9 and 9/4 of it lie outside."""
    cells, sigma = 2_000, 30.0
    query = Query(("age",), (np.arange(SHAPE["age"]),))
    low, high = chi2.ppf(1e-7, cells) / cells, chi2.ppf(1 - 1e-7, cells) / cells
    assert 4 / 9 < low < high < 9 / 4
    shares = []
    for seed in range(n):
        answers = ShareAnswers(Cohort.from_pandas(rows(seed, 50), SCHEMA), 1, SystemNoise(), Sharing(n, t, list))
        answers.use(Session(SCHEMA, Budget(1, 1e-6), "gaussian", rows=None, cells=64).codec)
        with silence():
            exact = answers.counts([query], [sigma])[0]
        repeats = -(-cells // query.size)
        noisy = np.concatenate([answers.counts([query], [sigma])[0] - exact for _ in range(repeats)])[:cells]
        shares.append(noisy.view(np.int64) / 2**20)
    honest = np.sum(shares[t:], axis=0)
    assert low < (honest**2).mean() / sigma**2 < high
    everybody = np.sum(shares, axis=0)
    assert low < (everybody**2).mean() / (sigma**2 * n / (n - t)) < high


def test_a_sum_of_discrete_gaussians_is_one_within_the_factor_that_is_derived() -> None:
    """Five shares of s = 1.1 and 1.5: every probability within exp(+-6 m exp(-pi^2 s^2)) of one discrete Gaussian."""
    for s in (1.1, 1.5):
        support = np.arange(-200, 201)
        share = np.exp(-(support**2) / (2 * s**2))
        total = share / share.sum()
        for _ in range(4):
            total = np.convolve(total, share / share.sum())
        wide = np.arange(-1000, 1001)
        one = np.exp(-(wide**2) / (2 * 5 * s**2))
        near = np.abs(wide) <= 10 * s
        ratio = np.log(total[near] / (one / one.sum())[near])
        assert np.abs(ratio).max() < 6 * 5 * math.exp(-(math.pi**2) * s**2) + 1e-12


def test_a_sum_of_rounded_normals_is_post_processing_of_one_normal() -> None:
    """Three shares of s = 1.5: the sum is drawn from a normal of variance 3 s^2 by shifts of a quadratic B-spline."""
    s, support = 1.5, np.arange(-60, 61)
    share = norm.cdf(support + 0.5, scale=s) - norm.cdf(support - 0.5, scale=s)
    total = np.convolve(np.convolve(share, share), share)
    fine = (np.arange(-40_000, 40_000) + 0.5) / 1000
    density = norm.pdf(fine, scale=s * math.sqrt(3)) / 1000
    for z in range(-8, 9):
        distance = np.abs(z - fine)
        inner, outer = 0.75 - distance**2, np.where(distance < 1.5, (1.5 - distance) ** 2 / 2, 0)
        spline = np.where(distance < 0.5, inner, outer)
        bound = 4 * 3 * math.exp(-(math.pi**2) * s**2 / 2)
        assert abs(total[180 + z] - (density * spline).sum()) < bound + 1e-7


def test_nothing_wraps_at_the_largest_answers() -> None:
    """64 hospitals at the clip, of either sign, add up to themselves on the lattice, with room for the noise."""
    sharing = Sharing(64, 1, list)
    for sign in (-1, 1):
        answer = (np.full(3, sign * sharing.most) << 20).astype(np.int64)
        total = joined([answer.view(np.uint64)] * 64)
        assert total.tolist() == [sign * 64 * sharing.most << 20] * 3
        assert abs(int(total[0])) + 32 * 2**57 <= 2**63
    assert Sharing(3, 1, list).most == 2**40


def test_answers_beyond_the_range_are_clipped_and_do_not_wrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hospitals whose exact tables would wrap in the sum answer the clip."""
    federation = Federation(tmp_path)
    huge = lambda _self, queries: [np.full(q.shape, 2**45) for q in queries]  # noqa: E731
    monkeypatch.setattr(PrivateAnswers, "_exact", huge)
    with silence(), federation.session() as session:
        (answer,) = session.count([QUERIES[0]], [PRICE])
    assert answer.counts.tolist() == [3 * 2**40] * 2


@pytest.mark.parametrize(("n", "t"), [(1, 0), (2, 0), (3, 3), (65, 1), (3, -1)])
def test_numbers_of_hospitals_that_protect_nobody_are_refused(n: int, t: int) -> None:
    """Two of which each does not add all, one alone, and more colluding than there are others."""
    with pytest.raises(InputError):
        Sharing(n, t, list)


def test_the_price_at_a_hospital_is_that_of_the_noise_that_is_left(tmp_path: Path) -> None:
    """The ledger event of each hospital has the whole sigma, and its session has paid what the lead's has."""
    federation = Federation(tmp_path)
    with federation.session() as session:
        session.count(QUERIES[:2], [PRICE] * 2)
        events: list[Any] = session.events
        for hospital in federation.hospitals.values():
            own = hospital.session.events
            assert [(e.what, e.sensitivity) for e in own] == [(e.what, e.sensitivity) for e in events]
            assert np.allclose([e.scale for e in own], [e.scale for e in events], rtol=1e-9)


def test_a_patient_of_several_hospitals_multiplies_the_noise(tmp_path: Path) -> None:
    """With max_hospitals_per_patient: 2 the same price buys twice the noise, at the lead and at each hospital."""
    federation = Federation(tmp_path, max_hospitals_per_patient=2)
    with federation.session() as session:
        (answer,) = session.count(QUERIES[:1], [PRICE])
        assert answer.sigma == pytest.approx(2 / math.sqrt(2 * PRICE))
        for hospital in federation.hospitals.values():
            (event,) = hospital.session.events
            assert (event.sensitivity, event.scale) == pytest.approx((2.0, answer.sigma))


def test_shares_are_hidden_before_they_leave_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hospital's session gives is what the masks gave, and nothing else."""
    federation = Federation(tmp_path)
    federation.begun()
    marked = lambda _self, arrays, **_: [np.full(a.shape, 77, np.uint64) for a in arrays]  # noqa: E731
    monkeypatch.setattr(Masks, "hide", marked)
    counts = federation.hospitals["north"].session.count([QUERIES[0]], [PRICE])
    assert counts[0].counts.tolist() == [77, 77]
