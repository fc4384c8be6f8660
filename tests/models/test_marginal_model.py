"""The model that marginal mechanisms leave: conditions are exact, and its parts are believed only when they fit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.coding.codec import Codec
from dpsynth.errors import InputError
from dpsynth.models.base import Released
from dpsynth.models.tabular.graphical.estimation import Measurement, estimate
from dpsynth.models.tabular.graphical.model import GraphicalModel
from dpsynth.models.tabular.marginals.binning import Bins, totals
from dpsynth.models.tabular.marginals.model import MarginalModel
from dpsynth.schema import Schema

settings.register_profile("dpsynth", deadline=None)  # two shared cores: times say nothing
settings.load_profile("dpsynth")

FACTS = """
name: ward
confirmed: true
columns:
  age: {type: numeric, min: 0, max: 99, missing: true}
  sex: {type: categorical, values: [f, m]}
  unit: {type: categorical, values: [a, b, c, d]}
  died: {type: boolean, labels: [0, 1]}
"""
PAIRS = [("age", "sex"), ("sex", "unit"), ("unit", "died")]


def model(seed: int = 0) -> MarginalModel:
    """Make a model of four columns in a chain, ages in bins, with counts to publish."""
    rng = np.random.default_rng(seed)
    codec = Codec(Schema.parse(FACTS), cells=20)
    maps = {name: np.arange(code.size) for name, code in codec.columns.items()}
    ages = codec.columns["age"].size
    maps["age"] = np.minimum(np.arange(ages) // 4, 4)
    maps["age"][-1] = 5
    raw = {name: rng.random(len(codes)) + 1e-3 for name, codes in maps.items()}
    weights = {name: raw[name] / totals(codes, raw[name])[codes] for name, codes in maps.items()}
    bins = Bins(maps, weights)
    tables = {pair: rng.dirichlet(np.ones(bins.shape[pair[0]] * bins.shape[pair[1]])) for pair in PAIRS}
    measured = [Measurement(p, t.reshape([bins.shape[c] for c in p]), 1e-4) for p, t in tables.items()]
    fit = estimate(bins.shape, measured)
    counts = [Released(("age",), (maps["age"],), rng.normal(100, 5, 6), 5.0)]
    return MarginalModel(codec, {}, graph=GraphicalModel(fit.tree, fit.beliefs), bins=bins, rows=400, counts=counts)


MODEL = model()


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
def test_every_row_keeps_every_condition(seed: int, rows: int) -> None:
    """Any allowed codes of any columns, also parts of a bin: no row is outside, and all columns are there."""
    rng = np.random.default_rng(seed)
    masks = {}
    for name, code in MODEL.codec.columns.items():
        if rng.random() < 0.6:
            masks[name] = rng.random(code.size) < 0.5
            masks[name][rng.integers(code.size)] = True
    drawn = MODEL.sample_codes(rows, masks, rng)
    assert list(drawn) == list(MODEL.codec.columns)
    for name, codes in drawn.items():
        assert len(codes) == rows
        assert name not in masks or masks[name][codes].all()


def test_a_condition_changes_the_other_columns_as_the_model_says() -> None:
    """Shares of a distant column under a condition on half a bin: those of the joint distribution, by Bayes' rule."""
    mask = np.zeros(MODEL.codec.columns["age"].size, dtype=bool)
    mask[[1, 2, 9]] = True
    drawn = MODEL.sample_codes(40_000, {"age": mask}, np.random.default_rng(0))
    joint = MODEL.graph.marginal(("age", "died"))
    fine = joint[MODEL.bins.maps["age"]] * MODEL.bins.weights["age"][:, None]
    expected = fine[mask].sum(axis=0) / fine[mask].sum()
    np.testing.assert_allclose(np.bincount(drawn["died"], minlength=2) / 40_000, expected, atol=0.01)
    ages = np.bincount(drawn["age"], minlength=len(mask)) / 40_000
    np.testing.assert_allclose(ages[mask], fine.sum(axis=1)[mask] / fine[mask].sum(), atol=0.001)


def test_scarce_conditions_are_refused() -> None:
    """What the model all but excludes would be made of rounding; the message names the columns and no value."""
    graph = MODEL.graph
    tables = [belief.copy() for belief in graph.beliefs]
    place = next(i for i, clique in enumerate(graph.tree.cliques) if clique == ("sex", "unit"))
    tables[place][:, 3] = -1000.0
    narrow = MarginalModel(MODEL.codec, {}, graph=GraphicalModel(graph.tree, tables), bins=MODEL.bins, rows=400)
    with pytest.raises(InputError, match=r"condition on unit has probability .* widen it"):
        narrow.sample_codes(10, {"unit": np.arange(4) == 3}, np.random.default_rng(0))


def parts() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a file would hold, as copies that a test may spoil."""
    config, arrays = MODEL.to_parts()
    return {**config, "counts": [dict(table) for table in config["counts"]]}, {k: v.copy() for k, v in arrays.items()}


def test_the_parts_make_the_same_model() -> None:
    """Same rows from the same seed, same counts to publish, same number of rows."""
    again = MarginalModel.from_parts(MODEL.codec, {"epsilon": 1}, *parts())
    assert (again.rows, again.statement) == (400, {"epsilon": 1})
    one, two = (m.sample_codes(300, {}, np.random.default_rng(4)) for m in (MODEL, again))
    assert all((one[c] == two[c]).all() for c in one)
    before, after = MODEL.released()[0], again.released()[0]
    assert (before.columns, before.sigma) == (after.columns, after.sigma)
    np.testing.assert_array_equal(before.counts, after.counts)
    np.testing.assert_array_equal(before.maps[0], after.maps[0])


SPOILED = {
    "no rows": lambda c, _a: c.update(rows=0),
    "rows no number": lambda c, _a: c.update(rows="many"),
    "no cliques": lambda c, _a: c.update(cliques=[], parents=[]),
    "a column left out": lambda c, _a: c.update(cliques=c["cliques"][:-1], parents=c["parents"][:-1]),
    "an unknown column": lambda c, _a: c["cliques"][0].append("else"),
    "a clique out of order": lambda c, _a: c["cliques"][0].reverse(),
    "a column twice": lambda c, _a: c["cliques"][0].append(c["cliques"][0][-1]),
    "a parent missing": lambda c, _a: c.update(parents=c["parents"][:-1]),
    "a parent too many": lambda c, _a: c.update(parents=[*c["parents"], 0]),
    "a parent after its child": lambda c, _a: c.update(parents=[-1, 2, 1]),
    "no root": lambda c, _a: c.update(parents=[0, 0, 1]),
    "a belief missing": lambda _c, a: a.pop("belief.1"),
    "a belief of another shape": lambda _c, a: a.update({"belief.0": a["belief.0"][:, :-1]}),
    "a belief that is no number": lambda _c, a: a["belief.0"].__setitem__((0, 0), np.nan),
    "a belief that is infinite": lambda _c, a: a["belief.0"].__setitem__((0, 0), -np.inf),
    "a belief that would overflow": lambda _c, a: a["belief.0"].__setitem__((0, 0), 1e6),
    "a belief that is not normalised": lambda _c, a: a.update({"belief.0": a["belief.0"] - 0.1}),
    "neighbours that disagree": lambda _c, a: a.update({"belief.0": a["belief.0"][::-1, ::-1].copy()}),
    "weights that are negative": lambda _c, a: a["weights.0"].__setitem__(slice(0, 2), [-1.0, 2.0]),
    "weights that do not sum to one": lambda _c, a: a.update({"weights.0": a["weights.0"] / 2}),
    "weights of another size": lambda _c, a: a.update({"weights.0": a["weights.0"][:-1]}),
    "a bin below zero": lambda _c, a: a["bins.0"].__setitem__(0, -1),
    "a bin without codes": lambda _c, a: a["bins.0"].__setitem__(-1, 7),
    "counts missing": lambda c, _a: c.pop("counts"),
    "counts of an unknown column": lambda c, _a: c["counts"][0].update(column="else"),
    "counts without noise": lambda c, _a: c["counts"][0].update(sigma=0.0),
    "counts of another size": lambda _c, a: a.update({"counts.0": a["counts.0"][:-1]}),
    "counts that are no numbers": lambda _c, a: a["counts.0"].__setitem__(0, np.inf),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_parts_that_do_not_fit_are_refused(fault: str) -> None:
    """Each fault ends with one of the errors that `load_model` turns into its own, before anything is drawn."""
    config, arrays = parts()
    config["cliques"] = [list(clique) for clique in config["cliques"]]
    SPOILED[fault](config, arrays)
    with pytest.raises((KeyError, TypeError, ValueError, IndexError)):
        MarginalModel.from_parts(MODEL.codec, {}, config, arrays)


def test_cliques_of_a_column_must_hang_together() -> None:
    """A tree without the running intersection property would draw a column twice; it is refused."""
    config, arrays = parts()
    order = {tuple(clique): i for i, clique in enumerate(config["cliques"])}
    kept = [order["age", "sex"], order["unit", "died"], order["sex", "unit"]]
    config["cliques"] = [config["cliques"][i] for i in kept]
    config["parents"] = [-1, 0, 0]
    arrays |= {f"belief.{new}": arrays[f"belief.{old}"] for new, old in enumerate(kept)}
    with pytest.raises(ValueError, match="not connected"):
        MarginalModel.from_parts(MODEL.codec, {}, config, arrays)


def test_no_pickle_and_no_private_name_in_the_parts() -> None:
    """Configuration is plain JSON values, arrays are numbers."""
    import json

    config, arrays = MODEL.to_parts()
    assert json.loads(json.dumps(config)) == config
    assert all(a.dtype.kind in "fiu" for a in arrays.values())
