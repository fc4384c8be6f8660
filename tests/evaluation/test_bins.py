import numpy as np

from dpsynth.evaluation.arrays.bins import CELLS, MOST, JudgingBins, public_edges, quantile_edges
from dpsynth.evaluation.arrays.table import Table, Variable, tables

from .helpers import categories, cohort, frame, numbers, ward


def test_public_edges_do_not_look_at_the_values() -> None:
    """Two cohorts of one schema have the same public cells."""
    one, two = (JudgingBins.of(tables({"x": ward(seed=seed)})["x"], "public") for seed in (0, 1))
    assert {name: edges.tolist() for name, edges in one.edges.items()} == {
        name: edges.tolist() for name, edges in two.edges.items()
    }


def test_clinical_cut_points_are_edges() -> None:
    """A declared cut displaces the nearest equal edge and no other; the number of cells stays."""
    plain = Variable("age", np.zeros(1), low=0, high=80)
    cut = Variable("age", np.zeros(1), low=0, high=80, cuts=(33.0,))
    assert public_edges(plain).tolist() == [10, 20, 30, 40, 50, 60, 70]
    assert public_edges(cut).tolist() == [10, 20, 33, 40, 50, 60, 70]


def test_a_cut_point_belongs_to_the_upper_cell() -> None:
    """A patient of exactly 65 is not among those below 65."""
    variable = Variable("age", np.array([64.0, 65.0]), low=0, high=100, cuts=(65.0,))
    table = Table({"age": variable}, np.arange(2))
    codes = JudgingBins("public", {"age": np.array([65.0])}).apply(table).codes["age"]
    assert codes.tolist() == [0, 1]


def test_few_integers_have_a_cell_each() -> None:
    """A count from 0 to 5 is not blurred."""
    variable = Variable("n", np.array([0.0, 3.0, 5.0]), low=0, high=5, whole=True)
    codes = JudgingBins.of(Table({"n": variable}, np.arange(3)), "public").apply(Table({"n": variable}, np.arange(3)))
    assert codes.codes["n"].tolist() == [0, 3, 5]
    assert codes.sizes["n"] == 7


def test_log_scale_has_geometric_cells() -> None:
    """Edges of a logarithmic range grow by a constant factor."""
    edges = public_edges(Variable("crea", np.zeros(1), low=0.1, high=10, log=True))
    np.testing.assert_allclose(edges[1:] / edges[:-1], (10 / 0.1) ** (1 / CELLS))


def test_quantile_cells_hold_equal_shares_where_values_are_not_tied() -> None:
    """800 different values fall into eight cells of a hundred."""
    values = np.random.default_rng(0).permutation(800) / 800
    table = numbers(x=values)
    codes = JudgingBins.of(table, "quantile").apply(table).codes["x"]
    assert np.bincount(codes).tolist() == [100] * 8


def test_quantile_edges_of_tied_values_separate_different_values_only() -> None:
    """No edge lies on a value, and a column of one value has one cell."""
    values = np.array([1.0] * 90 + [2.0] * 5 + [7.0, 8, 9, 10, 11, 12, 13, 14, 15])
    edges = quantile_edges(Variable("x", values))
    assert not np.isin(edges, values).any()
    assert quantile_edges(Variable("x", np.ones(9))).tolist() == []
    assert quantile_edges(Variable("x", np.full(3, np.nan))).tolist() == []


def test_missing_and_special_values_have_cells_of_their_own() -> None:
    """Neither moves the quantiles of what was measured."""
    variable = Variable("x", np.array([0.0, np.nan, 1, 2, 3, 4]), special=(0.0,))
    table = Table({"x": variable}, np.arange(6))
    rule = JudgingBins.of(table, "quantile")
    found = rule.apply(table)
    assert found.codes["x"].tolist() == [4, 5, 0, 1, 2, 3]
    assert rule.labels(variable)[-2:] == ["= 0", "missing"]
    assert len(rule.labels(variable)) == found.sizes["x"]


def test_a_wide_list_of_categories_is_merged_by_a_public_rule() -> None:
    """10,000 categories become 64 runs of neighbours in the schema's order, missing apart."""
    table = categories(x=np.concatenate([np.arange(10_000), [-1]]))
    rule = JudgingBins.of(table, "public")
    found = rule.apply(table)
    assert found.sizes["x"] == MOST + 1
    assert np.all(np.diff(found.codes["x"]) >= 0)
    assert found.codes["x"][-1] == MOST
    assert len(rule.labels(table["x"])) == MOST + 1


def test_a_table_has_the_schemas_form() -> None:
    """Values are clipped to the public range and rounded to the declared decimals; codes are common to all cohorts."""
    data = frame(50)
    data["crea"] = data["crea"].astype(float)
    data.loc[0, "crea"], data.loc[1, "crea"], data.loc[2, "crea"] = 99.0, 1.26, 0.0
    found = tables({"a": cohort(data), "b": ward(30)})
    assert found["a"]["crea"].values[:3].tolist() == [20.0, 1.3, 0.0]
    assert found["a"]["sex"].categories == found["b"]["sex"].categories == ("f", "m")
    assert found["a"]["crea"].missing.sum() == data["crea"].isna().sum()
    assert found["a"]["admitted"].numeric


def test_discovered_categories_are_those_of_all_cohorts() -> None:
    """A value that one cohort lacks still has its code there."""
    text = "{name: w, confirmed: true, columns: {dx: {type: categorical, discover: true, max_values: 9}}}"
    data = frame(4)[[]].assign(dx=["flu", "gout", "flu", "yaws"])
    found = tables({"a": cohort(data, text), "b": cohort(data.head(2), text)})
    assert found["a"]["dx"].categories == found["b"]["dx"].categories
    assert len(found["b"]["dx"].categories or ()) == 3


def test_subsampling_keeps_whole_patients() -> None:
    """A smaller cohort has all rows of the patients that it keeps."""
    patients = np.repeat(np.arange(100), 3)
    table = Table({"x": Variable("x", np.repeat(np.arange(100.0), 3))}, patients)
    less = table.at_most(90, seed=1)
    assert len(less) == 90
    assert np.bincount(less["x"].values.astype(int)).max() == 3
    assert table.at_most(300, seed=1) is table
