"""Codes: what each means, that decoding keeps them, and that constraints hold in what is decoded."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import any_codes, numeric, schemas

from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.cohort.rows import broken_rows, constraint_violations
from dpsynth.columns.grid import build_grid
from dpsynth.columns.kinds import Numeric
from dpsynth.errors import DataError, InputError
from dpsynth.schema import Schema

RNG = np.random.default_rng(7)


def _schema(columns: dict[str, Any], *constraints: dict[str, Any]) -> Schema:
    return Schema.parse({"name": "x", "columns": columns, "constraints": list(constraints)})


def _number(low: float = 0, high: float = 10, **fields: Any) -> dict[str, Any]:
    return {"type": "numeric", "min": low, "max": high, **fields}


def _frame_codes(codec: Codec, **values: list[Any]) -> dict[str, list[int]]:
    cohort = Cohort.from_pandas(pd.DataFrame(values), codec.schema)
    return {name: codes.tolist() for name, codes in codec.encode(cohort).items()}


@given(schemas(), st.integers(0, 2**31), st.sampled_from([2, 7, 64]))
@settings(max_examples=150)
def test_decoding_keeps_the_code(schema: Schema, seed: int, cells: int) -> None:
    """Whatever the schema, a decoded value has the code that it was decoded from."""
    rng = np.random.default_rng(seed)
    codec = Codec(schema, cells=cells)
    codes = any_codes(codec, 50, rng)
    again = codec.encode(codec.decode(codes, rng))
    for name, array in codes.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == np.min_scalar_type(codec.shape[name] - 1)


@given(schemas())
def test_codes_are_described_by_public_facts(schema: Schema) -> None:
    """Sizes, labels and states agree: one label a code, missing last and only where declared."""
    codec = Codec(schema)
    assert tuple(codec.columns) == schema.modelled
    assert codec.shape == {name: code.size for name, code in codec.columns.items()}
    for name, code in codec.columns.items():
        assert len(code.labels) == code.size
        assert code.ordered <= code.size
        missing = schema.columns[name].missing  # type: ignore[union-attr]
        assert code.missing == (code.size - 1 if missing else None)


@given(numeric(), st.integers(2, 100))
@settings(max_examples=200)
def test_the_grid_covers_the_range_once(fields: dict[str, Any], cells: int) -> None:
    """Cells are never empty, follow each other without gaps, and every cut begins one."""
    column = Numeric(**fields)
    grid = build_grid(column, cells)
    ordinary = [
        step for step in range(column.first, min(column.last, column.first + 3000) + 1) if step not in grid.atoms
    ]
    codes = grid.encode(np.array(ordinary, dtype=np.int64))
    assert (np.diff(codes) >= 0).all()
    assert (np.diff(codes) <= 1).all()
    assert (np.diff(grid.boundaries) > 0).all()
    assert grid.ordered <= max(2 * cells, len(column.cuts) + 1)
    for cut in map(column.ceil, column.cuts):
        below, above = grid.lower[: grid.ordered] < cut, grid.upper[: grid.ordered] < cut
        assert (below == above).all()


def test_numbers_look_like_the_column() -> None:
    """Decoded numbers have the declared decimals, lie in the public range and fill their cells."""
    schema = _schema({"a": _number(0.5, 7.25, decimals=2), "b": _number(-3, 1000, missing=True)})
    codec = Codec(schema)
    frame = codec.decode(any_codes(codec, 20_000, RNG), RNG).to_pandas()
    assert frame["a"].between(0.5, 7.25).all()
    assert (frame["a"].round(2) == frame["a"]).all()
    assert frame["a"].nunique() > 600
    present = frame["b"].dropna()
    assert present.between(-3, 1000).all()
    assert (present == present.round()).all()
    assert str(codec.decode({"a": np.array([0]), "b": np.array([0])}, RNG).table["b"].type) == "int64"


def test_a_value_is_uniform_in_its_cell() -> None:
    """Each value of a cell is drawn equally often (chi-square; false alarm 1e-6)."""
    codec = Codec(_schema({"a": _number(0, 639)}), cells=64)
    values = codec.decode({"a": np.zeros(10_000, dtype=int)}, np.random.default_rng(1)).to_pandas()["a"]
    counts = np.bincount(values, minlength=10)
    assert len(counts) == 10
    assert ((counts - 1000) ** 2 / 1000).sum() < 45.1  # 1 - 1e-6 quantile of chi-square with 9 degrees of freedom


def test_the_layout_of_numeric_codes() -> None:
    """Cells come first, one a value where they suffice; then special values in their order; then missing."""
    codec = Codec(_schema({"a": _number(0, 4, special=[999, 2], missing=True)}))
    assert codec.columns["a"].labels == ("0", "1", "3", "4", "999", "2", "missing")
    assert (codec.columns["a"].ordered, codec.columns["a"].missing) == (4, 6)
    values = [0, 1, 2, 3, 4, 999, None, 7, -5, 2.4, 2.6]
    assert _frame_codes(codec, a=values) == {"a": [0, 1, 5, 2, 3, 4, 6, 3, 0, 5, 2]}


def test_log_cells_are_even_on_the_log_scale() -> None:
    """Cells of a log column have about equal ratios, and none is empty where the lattice is coarse."""
    codec = Codec(
        _schema({"fine": _number(0.01, 100, decimals=4, scale="log"), "coarse": _number(1, 300, scale="log")})
    )
    low, high = codec.bounds("fine")
    ratios = np.diff(np.log(low))
    assert len(low) == 64
    assert ratios.max() / ratios.min() < 1.2  # the lattice's step is 1 % of the least value
    low, high = codec.bounds("coarse")
    assert (high >= low).all()
    assert 40 < len(low) < 64
    assert (low[0], high[-1]) == (1, 300)


def test_cuts_are_edges() -> None:
    """A clinical threshold begins a cell in place of the nearest edge: the number of cells stays the same."""
    codec = Codec(_schema({"a": _number(0, 1000, cuts=[126, 200, 201]), "b": _number(0, 1000)}))
    low, _ = codec.bounds("a")
    assert {126, 200, 201} <= set(low)
    assert codec.columns["a"].ordered == codec.columns["b"].ordered


def test_categories_and_booleans() -> None:
    """A category's code is its place in the list; ordered lists are ordered codes."""
    codec = Codec(
        _schema(
            {
                "a": {"type": "categorical", "values": ["x", "y"], "missing": True},
                "b": {"type": "categorical", "values": [3, 1, 2], "ordered": True},
                "c": {"type": "boolean", "labels": ["no", "yes"]},
            }
        )
    )
    assert _frame_codes(codec, a=["y", None], b=[2.0, 3], c=["yes", "no"]) == {"a": [1, 2], "b": [2, 0], "c": [1, 0]}
    assert [codec.columns[name].ordered for name in "abc"] == [0, 3, 0]
    assert codec.columns["a"].labels == ("x", "y", "missing")


def test_missing_has_a_code_without_any_missing_value() -> None:
    """The missing state is there because it is declared, not because the data have it."""
    codec = Codec(_schema({"a": _number(missing=True)}))
    assert codec.columns["a"].missing == 11
    assert _frame_codes(codec, a=[3]) == {"a": [3]}


DISCOVER = {"type": "categorical", "discover": True, "max_values": 9}


def test_discovered_values() -> None:
    """A column to discover has no codes at first; then one a found value, and one for all others."""
    schema = _schema({"a": DISCOVER, "b": {**DISCOVER, "missing": True, "other": "missing"}, "c": _number()})
    codec = Codec(schema)
    assert codec.pending == ("a", "b")
    assert codec.shape == {"c": 11}
    cohort = Cohort.from_pandas(pd.DataFrame({"a": ["u", "v", "w"], "b": ["u", "v", None], "c": [1, 2, 3]}), schema)
    assert codec.encode(cohort, ["c"])["c"].tolist() == [1, 2, 3]
    for attempt in (lambda: codec.encode(cohort), lambda: codec.decode({"c": np.array([0])}, RNG)):
        with pytest.raises(InputError, match=r"'a'.*discovered"):
            attempt()
    codec = codec.with_discovered({"a": ["v"]}).with_discovered({"b": ["u"]})
    assert codec.columns["a"].labels == ("v", "other")
    assert codec.columns["b"].labels == ("u", "missing")
    codes = codec.encode(cohort)
    assert (codes["a"].tolist(), codes["b"].tolist()) == ([1, 0, 1], [0, 1, 1])
    decoded = codec.decode(codes, RNG)
    assert decoded.plain_table()["a"].to_pylist() == ["other", "v", "other"]
    assert codec.encode(decoded)["a"].tolist() == [1, 0, 1]


def test_a_discovered_other_is_the_other_state() -> None:
    """Where a found value is called other, it shares the state of all values that were not found."""
    assert Codec(_schema({"a": DISCOVER}), discovered={"a": ["other", "x"]}).columns["a"].labels == ("other", "x")


def test_discovered_is_checked() -> None:
    """Values for a column that is not to be discovered, or twice the same, are refused."""
    schema = _schema({"a": DISCOVER, "c": _number()})
    for discovered in ({"c": ["x"]}, {"z": ["x"]}, {"a": ["x", "x"]}):
        with pytest.raises(InputError, match="discovered"):
            Codec(schema, discovered=discovered)
    with pytest.raises(InputError, match="cells"):
        Codec(schema, cells=1)


def test_a_cohort_of_another_schema_is_refused() -> None:
    """States that the codec's schema does not have are an error, never a wrong code."""
    wide = _schema({"a": _number(missing=True), "b": {"type": "categorical", "values": ["x", "y"], "missing": True}})
    for column, frame in (
        ("a", {"a": [None], "b": ["x"]}),
        ("b", {"a": [1], "b": ["y"]}),
        ("b", {"a": [1], "b": [None]}),
    ):
        cohort = Cohort.from_pandas(pd.DataFrame(frame), wide)
        narrow = Codec(_schema({"a": _number(), "b": {"type": "categorical", "values": ["x"]}}))
        with pytest.raises(DataError, match="read under this schema"):
            narrow.encode(cohort, [column])
    with pytest.raises(InputError, match="does not have it"):
        Codec(_schema({"a": _number(), "z": _number()})).encode(cohort)


CODES = {
    "absent": ({"a": [0]}, "'b'"),
    "of two lengths": ({"a": [0], "b": [0, 1]}, "same length"),
    "of two dimensions": ({"a": [[0]], "b": [[0]]}, "one dimension"),
    "too large": ({"a": [0], "b": [11]}, "out of bounds"),
    "negative": ({"a": [-1], "b": [0]}, "out of bounds"),
}


@pytest.mark.parametrize(("codes", "words"), CODES.values(), ids=CODES.keys())
def test_faulty_codes(codes: dict[str, Any], words: str) -> None:
    """Codes that are not there, of different lengths or out of bounds are refused."""
    codec = Codec(_schema({"a": _number(), "b": _number()}))
    with pytest.raises(InputError, match=words):
        codec.decode({name: np.array(values) for name, values in codes.items()}, RNG)


def test_no_rows() -> None:
    """No codes decode to a cohort of no rows."""
    codec = Codec(_schema({"a": _number(), "b": _number()}, {"order": ["a", "b"]}))
    assert len(codec.decode({"a": np.array([], dtype=int), "b": np.array([], dtype=int)}, RNG)) == 0


# ---- conditions -------------------------------------------------------------------------------------------------

WHERE = {
    "age": _number(18, 110, missing=True, special=[999]),
    "lab": _number(0, 10, decimals=1, special=[0]),
    "race": {"type": "categorical", "values": ["black", "white", "other"], "missing": True},
    "stage": {"type": "categorical", "values": ["I", "II", "III"], "ordered": True},
    "died": {"type": "boolean", "labels": [0, 1]},
    "day": {"type": "datetime", "min": "1990-01-01", "max": "1990-12-31T12:00:00"},
}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"age": {"min": 80}}, lambda row: row.age >= 80 and row.age != 999),
        ({"age": {"max": 30.5}}, lambda row: row.age <= 30),
        ({"age": {"min": 40, "max": 60}}, lambda row: 40 <= row.age <= 60),
        ({"age": 999}, lambda row: row.age == 999),
        ({"age": None}, lambda row: row.age != row.age),
        ({"age": [999, None]}, lambda row: row.age in (999,) or row.age != row.age),
        ({"lab": {"max": 5}}, lambda row: row.lab <= 5),
        ({"lab": 0}, lambda row: row.lab == 0),
        ({"race": "black"}, lambda row: row.race == "black"),
        ({"race": ["black", None]}, lambda row: row.race == "black" or not isinstance(row.race, str)),
        ({"stage": {"min": "II"}}, lambda row: row.stage in ("II", "III")),
        ({"died": True}, lambda row: row.died == 1),
        ({"died": "yes"}, lambda row: row.died == 1),
        ({"day": {"min": "1990-07-01"}}, lambda row: row.day.month >= 7),
        ({"day": {"max": "1990-06-30"}}, lambda row: row.day.month <= 6),
        ({"age": {"min": 70}, "race": "white"}, lambda row: 70 <= row.age <= 110 and row.race == "white"),
    ],
)
@pytest.mark.parametrize("partly", [False, True])
def test_rows_fulfil_their_conditions(condition: dict[str, Any], holds: Any, partly: bool) -> None:
    """Rows of codes that a condition allows fulfil it; with the cut cells, too, where decoding knows the condition."""
    codec = Codec(_schema(WHERE), cells=20)
    masks = codec.where(condition, partly=partly)
    codes = any_codes(codec, 800, RNG)
    for name, mask in masks.items():
        codes[name] = RNG.choice(np.flatnonzero(mask), size=800)
    frame = codec.decode(codes, RNG, where=condition if partly else None).to_pandas()
    assert all(holds(row) for row in frame.itertuples())


def test_conditions_take_in_cut_cells_on_demand() -> None:
    """A range between a cell's edges takes the cells wholly inside, or those partly inside as well."""
    codec = Codec(_schema({"a": _number(0, 99)}), cells=10)
    assert codec.where({"a": {"min": 15, "max": 45}})["a"].nonzero()[0].tolist() == [2, 3]
    assert codec.where({"a": {"min": 15, "max": 45}}, partly=True)["a"].nonzero()[0].tolist() == [1, 2, 3, 4]
    with pytest.raises(InputError, match="widen"):
        codec.where({"a": {"min": 15, "max": 16}})


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"agee": 3}, "did you mean 'age'"),
        ({"age": "old"}, "expected a number"),
        ({"age": 200}, "never takes"),
        ({"lab": None}, "never missing"),
        ({"race": "green"}, "no such category"),
        ({"race": {"min": "black"}}, "no order"),
        ({"age": {"min": 1, "mix": 2}}, "min and max"),
        ({"age": {"min": 60, "max": 50}}, "no value"),
        ({"age": [{"min": 3}]}, "needs a value"),
        ({"age": []}, "needs a value"),
        ({"day": 3}, "ISO"),
    ],
)
def test_faulty_conditions(condition: dict[str, Any], words: str) -> None:
    """A condition that no row can fulfil, or that names what is not there, is refused."""
    with pytest.raises(InputError, match=words):
        Codec(_schema(WHERE)).where(condition)


# ---- constraints ------------------------------------------------------------------------------------------------

CONSTRAINED = _schema(
    {
        "sex": {"type": "categorical", "values": ["f", "m"]},
        "pregnant": {"type": "boolean", "missing": True},
        "age": _number(0, 100, special=[999], missing=True),
        "first": _number(0, 300, decimals=1, missing=True),
        "second": _number(-20, 250, special=[0, -5]),
        "third": _number(10, 400, missing=True),
        "admitted": {"type": "datetime", "min": "1990-01-01", "max": "1992-01-01"},
        "left": {"type": "datetime", "min": "1990-06-01", "max": "1993-01-01T10:00:00", "missing": True},
    },
    {"when": {"sex": "m"}, "require": {"pregnant": [False, None]}},
    {"when": {"age": {"max": 11}}, "forbid": {"pregnant": True}},
    {"when": {"age": 999}, "require": {"first": None, "third": None}},
    {"order": ["first", "second", "third"]},
    {"order": ["admitted", "left"], "strict": True},
)


@pytest.mark.parametrize("cells", [3, 16, 64])
def test_constraints_hold_in_what_is_decoded(cells: int) -> None:
    """Codes drawn without a thought of the constraints decode to rows that keep all of them."""
    codec = Codec(CONSTRAINED, cells=cells)
    rng = np.random.default_rng(cells)
    cohort = codec.decode(any_codes(codec, 5_000, rng), rng)
    assert set(constraint_violations(cohort).values()) == {0}
    frame = cohort.to_pandas()
    assert not (frame["second"] > frame["third"]).any()
    assert not (frame["first"] > frame["second"]).any()
    assert not (frame["admitted"] >= frame["left"]).any()
    assert not ((frame["sex"] == "m") & (frame["pregnant"] == True)).any()  # noqa: E712


def test_codes_that_keep_the_constraints_are_kept() -> None:
    """Rows that keep the constraints decode to their codes; among others trade codes only what constraints connect."""
    codec = Codec(CONSTRAINED, cells=16)
    codes = any_codes(codec, 5_000, RNG)
    mended = codec.encode(codec.decode(codes, RNG))
    again = codec.encode(codec.decode(mended, RNG))
    for name in codes:
        np.testing.assert_array_equal(again[name], mended[name], err_msg=name)
    for name in ("sex", "pregnant", "age", "admitted", "left"):  # uniform codes of the others leave no room for order
        counts = [np.bincount(found[name], minlength=codec.columns[name].size) for found in (codes, mended)]
        assert np.abs(counts[0] - counts[1]).sum() / 2 <= 0.01 * len(codes[name]), name
    for name in ("sex", "age"):  # what a constraint says under `when` stays
        np.testing.assert_array_equal(codes[name], mended[name], err_msg=name)
    for name in ("admitted", "left"):  # a special value of `second` may contradict a first or third that is there
        state = codec.columns[name].ordered
        np.testing.assert_array_equal(*(np.maximum(found[name], state - 1) for found in (codes, mended)), err_msg=name)


def test_forbidden_codes_are_those_that_no_row_has() -> None:
    """Brute force: a pair of codes is forbidden exactly where no pair of values in it keeps the constraint."""
    schema = _schema(
        {"a": _number(0, 30, special=[7, 99], missing=True), "b": _number(5, 40), "sex": {"type": "boolean"}},
        {"order": ["a", "b"]},
        {"when": {"a": {"min": 10, "max": 20}}, "forbid": {"sex": True}},
        {"when": {"b": [6, 30]}, "require": {"sex": False}},
    )
    codec = Codec(schema, cells=6)
    rows = list(itertools.product([*range(31), 99, None], range(5, 41), [False, True]))
    cohort = Cohort.from_pandas(pd.DataFrame(rows, columns=["a", "b", "sex"]), schema)
    codes = codec.encode(cohort)
    forbidden = codec.forbidden()
    assert [names for names, _ in forbidden] == [("a", "sex"), ("b", "sex"), ("a", "b")]
    for (names, mask), constraint in zip(forbidden, [*schema.constraints[1:], schema.constraints[0]], strict=True):
        possible = np.zeros_like(mask)
        possible[tuple(codes[name][~broken_rows(cohort, constraint)] for name in names)] = True
        np.testing.assert_array_equal(mask, ~possible)


@given(st.data())
@settings(max_examples=60)
def test_orders_of_any_columns_hold(data: st.DataObject) -> None:
    """Whatever the bounds, decimals and special values of three columns, a decoded order holds."""
    columns = {name: {**data.draw(numeric()), "missing": data.draw(st.booleans())} for name in "abc"}
    try:
        schema = _schema(columns, {"order": ["a", "b", "c"], "strict": data.draw(st.booleans())})
        codec = Codec(schema, cells=data.draw(st.sampled_from([2, 5, 64])))
        cohort = codec.decode(any_codes(codec, 60, RNG), RNG)
    except InputError:
        assume(False)  # the bounds contradict the order
        raise
    assert set(constraint_violations(cohort).values()) == {0}


def test_violations_are_counted_at_the_declared_decimals() -> None:
    """Violations of a real cohort are counted by row; missing values and names such as 999 break no order."""
    schema = _schema(
        {"a": _number(0, 100, missing=True, special=[999]), "b": _number(0, 100), "s": {"type": "boolean"}},
        {"order": ["a", "b"]},
        {"when": {"a": {"min": 50}}, "require": {"s": True}},
    )
    frame = pd.DataFrame(
        {"a": [1, 2.4, 3, None, 999, 500, 60], "b": [2, 2, 2, 2, 2, 100, 70], "s": [0, 0, 0, 0, 0, 1, 0]}
    )
    cohort = Cohort.from_pandas(frame, schema)
    assert constraint_violations(cohort) == {"a <= b": 1, "a from 50: always s is true": 1}


def test_constraints_without_a_possible_row_end_with_a_message() -> None:
    """Constraints that leave no row, which only drawing finds out, end with a message that names the columns."""
    schema = _schema(
        {"a": _number(0, 10), "b": _number(0, 10)},
        {"order": ["a", "b"]},
        {"when": {"a": {"min": 0}}, "require": {"b": 0}},
        {"when": {"b": 0}, "forbid": {"a": 0}},
    )
    codec = Codec(schema)
    with pytest.raises(InputError, match="'a', 'b'"):
        codec.decode({"a": np.array([3]), "b": np.array([4])}, RNG)


def test_constraints_on_discovered_columns() -> None:
    """A constraint may name a value of a column that is still to be discovered, whether it is found or not."""
    schema = _schema({"a": DISCOVER, "s": {"type": "boolean"}}, {"when": {"s": True}, "forbid": {"a": "x"}})
    assert Codec(schema).forbidden() == []
    for found, count in ((["x", "y"], 1), (["y"], 0)):
        codec = Codec(schema, discovered={"a": found})
        assert codec.forbidden()[0][1].sum() == count
        cohort = codec.decode(any_codes(codec, 200, RNG), RNG)
        assert constraint_violations(cohort) == {"s is true: never a is x": 0}
