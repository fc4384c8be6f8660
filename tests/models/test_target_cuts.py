"""Cuts where the target changes: found where noise allows, none where there is nothing, and what a model gains."""

from typing import Any

import numpy as np
import pytest
from mechanism_cases import cohort_of, fitted, maker

from dpsynth.cohort import Cohort
from dpsynth.models.tabular.marginals import target_cuts
from dpsynth.models.tabular.marginals.one_way import measure
from dpsynth.models.tabular.marginals.target_cuts import FAINT, SHARE, cuts_of, cutter, price
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget

LAB = {"type": "numeric", "min": 0, "max": 64}
TARGETS: dict[str, dict[str, Any]] = {
    "two": {"type": "categorical", "values": [0, 1]},
    "three": {"type": "categorical", "values": ["a", "b", "c"]},
    "number": {"type": "numeric", "min": 0, "max": 100},
}


def ward(kind: str = "two", n: int = 8_000) -> Cohort:
    """Return a lab whose upper twentieth and lower tenth tell the target, and one that tells nothing."""
    rng = np.random.default_rng(0)
    lab, other = (np.clip(rng.normal(32, 8, n), 0, 64) for _ in range(2))
    tail = (lab > 45).astype(int) + 2 * (lab < 22)
    truth = {
        "two": np.where(rng.random(n) < 0.9, tail > 0, rng.random(n) < 0.2).astype(int),
        "three": np.array(["a", "b", "c"])[np.where(rng.random(n) < 0.9, tail, rng.integers(0, 3, n))],
        "number": np.clip(40 + 20 * (tail > 0) + rng.normal(0, 10, n), 0, 100),
    }[kind]
    columns = {"lab": LAB, "other": LAB, "y": TARGETS[kind]}
    return cohort_of(columns, {"lab": lab, "other": other, "y": truth}, target="y")


def edges(cohort: Cohort, epsilon: float = 3.0, seed: int = 1) -> tuple[Session, dict[str, list[float]]]:
    """Return the session after the columns were counted, and the values at which each is cut for the target."""
    opened = Session.open(cohort, Budget(epsilon, 1e-6), seed=seed)
    counts = measure(opened, opened.rho / 3, bins=16, cutter=cutter(opened, opened.rho))
    cells = {name: opened.codec.columns[name].ordered for name in counts.cuts}
    return opened, {name: sorted(64 * c / cells[name] for c in cuts) for name, cuts in counts.cuts.items()}


@pytest.mark.parametrize("kind", list(TARGETS))
def test_a_column_is_cut_where_the_target_changes(kind: str) -> None:
    """Both tails are found to a cell or two, for outcomes of two and three classes and for numbers."""
    _, cuts = edges(ward(kind))
    assert min(abs(c - 45) for c in cuts["lab"]) <= 2
    assert min(abs(c - 22) for c in cuts["lab"]) <= 2
    assert cuts["other"] == []


def test_cuts_are_edges_of_bins_and_of_states() -> None:
    """They begin a bin, and a state after merging to few; the number of states stays as asked."""
    opened = Session.open(ward(), Budget(3, 1e-6), seed=1)
    counts = measure(opened, opened.rho / 3, bins=16, cutter=cutter(opened, opened.rho))
    merged = counts.merged(opened.codec, 6)
    for each in (counts, merged):
        starts = np.flatnonzero(np.diff(each.bins.maps["lab"])) + 1
        assert set(counts.cuts["lab"]) <= set(starts.tolist())
    assert len(merged.proportions["lab"]) <= 6 + len(counts.cuts["lab"])
    np.testing.assert_allclose(merged.proportions["lab"].sum(), 1)


def test_noise_alone_is_not_cut() -> None:
    """Of 200 columns of noise at most a few are cut: 10 (5 %) are expected if each were tested alone, binomial 1e-6."""
    rng = np.random.default_rng(0)
    mass = np.full(64, 100.0)
    cut = [bool(cuts_of(mass, rng.normal(0, 20, (64, 2)) @ (np.eye(2) - 0.5), 20.0, 63)) for _ in range(200)]
    assert sum(cut) <= 28


def test_where_noise_hides_thresholds_nothing_is_asked() -> None:
    """300 patients at epsilon 0.3: no table of a column with the target beyond the pairs, all of the budget used."""
    session, _ = fitted("prism", ward(n=300), 0.3)
    first = [e.what for e in session.events]
    assert sum(e.count for e in session.events if "y" in e.what and " x " in e.what) == 2, first
    assert session.rho_left == pytest.approx(0, abs=1e-9 * session.rho)


def test_the_price_falls_with_n_and_has_an_end() -> None:
    """At most `SHARE`; nothing where a clear threshold would be hidden; less the more patients there are."""
    assert price(5, 2, 100, 1, 0.01) == 0
    assert price(0, 2, 10_000, 1, 0.01) == price(5, 1, 10_000, 1, 0.01) == 0
    costs = [price(5, 2, n, 1, 1.0) for n in (2_000, 20_000, 200_000)]
    assert costs[0] == pytest.approx(SHARE)
    assert costs[0] > costs[1] > costs[2] > 0
    assert costs[1] / costs[2] == pytest.approx(100)
    assert price(5, 2, 60_000, 3, 1.0) == pytest.approx(costs[1])
    assert FAINT < target_cuts.STRONG


def test_the_plan_tells_the_tables_and_their_noise() -> None:
    """As many tables with the noise that they are asked with, and the whole budget is planned for."""
    cohort = cohort_of(dict(ward().schema.columns), ward().to_pandas().to_dict("list"), target="y", rows=8_000)
    plan = maker("prism").plan(cohort.schema, Budget(3, 1e-6), 8_000)
    item = next(item for item in plan.items if "cell by cell" in item.what)
    session, _ = fitted("prism", cohort, 3.0)
    asked = next(e for e in session.events if e.what.startswith("interaction"))
    assert item.tables == 3
    assert item.sigma == pytest.approx(asked.scale * np.sqrt(1 / (1 - 1 / 65)), rel=0.02)


def test_a_model_keeps_the_tails() -> None:
    """Among drawn patients beyond the upper threshold most have the outcome, below few.

    In eight states of equal mass the highest would hold more patients below the threshold than above.
    """
    cohort = ward()
    _, model = fitted("prism", cohort, 3.0)
    for frame in (cohort.to_pandas(), model.sample(8_000, seed=0).to_pandas()):
        high = frame["y"].astype(int)[frame["lab"].astype(float) > 46].mean()
        middle = frame["y"].astype(int)[frame["lab"].astype(float).between(26, 43)].mean()
        assert high > 0.7
        assert middle < 0.15
