"""Records that are nudged to the pairs that a tree does not hold: to what, how far, and what stays as it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mechanism_cases import cohort_of, fitted
from scipy.stats import chi2

from dpsynth.models.loading import load_model
from dpsynth.models.tabular.graphical.estimation import Measurement, estimate
from dpsynth.models.tabular.graphical.model import GraphicalModel
from dpsynth.models.tabular.marginals.interactions import Interaction
from dpsynth.models.tabular.marginals.nudging import Wanted, _coupled, nudged, wanted

FALSE_ALARM = 1e-6
SHAPE = {"a": 3, "b": 3, "c": 3}
ROWS = 20_000
WHOLE = (np.arange(3), np.arange(3))


def tree(*, impossible: bool = False) -> GraphicalModel:
    """Return a model of a and b together, and c alone; where `impossible`, a = 0 never goes with b = 0."""
    table = np.full((3, 3), 1 / 9) + 0.05 * (np.eye(3) - 1 / 3)
    zeros = [(("a", "b"), np.eye(3, dtype=bool) & (np.arange(3) < 1)[:, None])] if impossible else []
    fit = estimate(
        SHAPE, [Measurement(("a", "b"), table, 1e-6), Measurement(("c",), np.full(3, 1 / 3), 1e-6)], zeros=zeros
    )
    return GraphicalModel(fit.tree, fit.beliefs)


def share(drawn: Any, first: str, second: str) -> Any:
    """Return the proportions of a pair in drawn records."""
    return np.bincount(drawn[first] * 3 + drawn[second], minlength=9).reshape(3, 3) / len(drawn[first])


def excess(strength: float) -> Any:
    """Return an interaction of three by three cells."""
    return strength * (np.eye(3) - 1 / 3)


def measured(strength: float, noise: float) -> Interaction:
    """Return a measured interaction of b and c with this noise."""
    values = excess(strength)
    return Interaction(("b", "c"), WHOLE, values, values, noise**2, 1.0, np.full((3, 3), 1 / 9))


def test_records_come_to_agree_and_the_rest_stays() -> None:
    """A pair that the tree leaves out is met to a tenth; the columns alone and the tree's own pair stay as drawn."""
    model, rng = tree(), np.random.default_rng(0)
    drawn = model.sample(ROWS, rng)
    aim = np.full((3, 3), 1 / 9) + excess(0.06)
    moved = nudged(model, drawn, [Wanted(("b", "c"), WHOLE, aim)], rng)
    before, after = (0.5 * np.abs(share(d, "b", "c") - aim).sum() for d in (drawn, moved))
    assert after < 0.1 * before
    assert 0.5 * np.abs(share(moved, "a", "b") - share(drawn, "a", "b")).sum() < 0.01
    for name in SHAPE:
        np.testing.assert_allclose(*(np.bincount(d[name], minlength=3) / ROWS for d in (drawn, moved)), atol=0.005)


def test_where_nothing_is_wrong_nothing_moves() -> None:
    """Records that have the wanted table already are returned as they are."""
    model, rng = tree(), np.random.default_rng(0)
    drawn = model.sample(ROWS, rng)
    moved = nudged(model, drawn, [Wanted(("b", "c"), WHOLE, share(drawn, "b", "c"))], rng)
    assert all((moved[name] == drawn[name]).all() for name in SHAPE)


def test_what_cannot_be_is_never_made() -> None:
    """A structural zero stays one, though the wanted table pulls towards it."""
    model, rng = tree(impossible=True), np.random.default_rng(0)
    drawn = model.sample(ROWS, rng)
    moved = nudged(model, drawn, [Wanted(("b", "c"), WHOLE, np.full((3, 3), 1 / 9) + excess(0.09))], rng)
    assert any((moved[name] != drawn[name]).any() for name in SHAPE)
    for records in (drawn, moved):
        assert not ((records["a"] == 0) & (records["b"] == 0)).any()


def test_the_coupling_has_the_wanted_law_and_moves_as_few_as_can_be() -> None:
    """Codes from p become codes from q (chi-square, 1e-6), and the share that moves is their total variation."""
    rng, n = np.random.default_rng(0), 100_000
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4])
    codes = rng.choice(3, n, p=p)
    moved = _coupled(codes, p[None, :], q[None, :], rng)
    counts = np.bincount(moved, minlength=3)
    assert ((counts - n * q) ** 2 / (n * q)).sum() < chi2.isf(FALSE_ALARM, 2)
    assert (moved != codes).mean() == pytest.approx(0.2, abs=5 * np.sqrt(0.16 / n))
    assert (moved[codes == 2] == 2).all()


@pytest.mark.parametrize(("noise", "count"), [(0.0005, 1), (0.2, 0)])
def test_only_what_is_believed_is_wanted(noise: float, count: int) -> None:
    """A clear difference from the tree is wanted nearly whole; one that noise may have made is left alone."""
    found = wanted(tree(), {("b", "c"): measured(0.05, noise)})
    assert len(found) == count
    for table in found:
        np.testing.assert_allclose(table.table, np.full((3, 3), 1 / 9) + excess(0.05), atol=2e-3)


def test_pairs_of_the_tree_are_not_wanted_twice() -> None:
    """What the tree holds was fitted; nothing is kept for it."""
    interaction = measured(0.05, 0.0005)
    assert wanted(tree(), {("a", "b"): interaction}) == []
    assert wanted(tree(), {}) == []


def chained(n: int = 6_000) -> Any:
    """Return seven columns that go together all round, which a small tree cannot hold."""
    rng = np.random.default_rng(0)
    common = rng.integers(0, 4, n)
    frame = {f"x{i}": np.where(rng.random(n) < 0.5, common, rng.integers(0, 4, n)) for i in range(7)}
    return cohort_of({name: {"type": "categorical", "values": list(range(4))} for name in frame}, frame)


def pair_error(model: Any, cohort: Any) -> float:
    """Return the mean distance of all pairs of columns."""
    real, made = cohort.to_pandas().astype(int), model.sample(6_000, seed=0).to_pandas().astype(int)
    names = list(real)
    tables = [
        [np.bincount(f[a] * 4 + f[b], minlength=16) / len(f) for f in (real, made)]
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]
    return float(np.mean([0.5 * np.abs(x - y).sum() for x, y in tables]))


def test_pairs_that_the_tree_could_not_hold_come_closer() -> None:
    """At epsilon 10 with a tree of few cells the mean distance of pairs falls by a quarter or more."""
    cohort = chained()
    plain, used = (fitted("prism", cohort, 10.0, cells=150, nudge=nudge)[1] for nudge in (False, True))
    assert pair_error(used, cohort) < 0.75 * pair_error(plain, cohort)


def test_a_saved_model_draws_the_same(tmp_path: Path) -> None:
    """The wanted tables are in the file, and a file with spoilt ones is refused."""
    model = fitted("prism", chained(), 10.0, cells=150)[1]
    config, arrays = model.to_parts()
    assert config["wanted"]
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.sample(2_000, seed=3).to_pandas().equals(model.sample(2_000, seed=3).to_pandas())
    for spoilt in ({"wanted.0": arrays["wanted.0"] * 2}, {"groups.0.0": arrays["groups.0.0"][:-1]}):
        with pytest.raises(ValueError, match="wanted table"):
            type(model).from_parts(model.codec, model.statement, config, {**arrays, **spoilt})
    del config["wanted"]
    older = type(model).from_parts(model.codec, model.statement, config, arrays)
    assert len(older.sample(10, seed=0)) == 10


def test_conditions_hold_and_little_budget_nudges_nothing() -> None:
    """Rows under a condition keep it; at epsilon 0.1 no table is kept beside the tree."""
    model = fitted("prism", chained(), 10.0, cells=150)[1]
    assert set(model.sample(1_500, where={"x0": 2}, seed=0).to_pandas()["x0"].astype(int)) == {2}
    assert "wanted" not in fitted("prism", chained(600), 0.1)[1].to_parts()[0]
