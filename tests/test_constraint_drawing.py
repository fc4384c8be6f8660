"""Constraints do not bend what they touch: states, other columns and margins stay as they were drawn.

Statistical limits are z-scores above 5 of two draws (false alarms below 1e-6); draws have fixed seeds.
"""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import dpsynth
from dpsynth import Cohort, Schema
from dpsynth.coding.codec import Codec
from dpsynth.cohort.rows import constraint_violations
from dpsynth.cohort.visits import flatten

ROWS = 2_000
BENT = 0.01
"""Share of rows whose value of an ordered column may have been copied where no trade was left."""
SHARE = 5.5 * np.sqrt(2 * 0.25 / 3_000)
"""How far the shares of two draws of 3,000 rows may lie apart."""


def _date(**more: Any) -> dict[str, Any]:
    return {"type": "datetime", "min": "2010-01-01", "max": "2020-12-31", **more}


def _number(**more: Any) -> dict[str, Any]:
    return {"type": "numeric", "min": 0, "max": 1000, **more}


STAGE = {"type": "categorical", "values": ["I", "II", "III"], "missing": True}
ORDERS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "two dates": ({"a": _date(), "b": _date()}, [{"order": ["a", "b"]}]),
    "two dates of which one is missing": ({"a": _date(), "b": _date(missing=True)}, [{"order": ["a", "b"]}]),
    "three dates": ({"a": _date(), "b": _date(missing=True), "c": _date(missing=True)}, [{"order": ["a", "b", "c"]}]),
    "three dates in strict order": (
        {"a": _date(missing=True), "b": _date(missing=True), "c": _date(missing=True)},
        [{"order": ["a", "b", "c"], "strict": True}],
    ),
    "four numbers": ({name: _number(missing=True) for name in "abcd"}, [{"order": ["a", "b", "c", "d"]}]),
    "numbers of different decimals": (
        {"a": _number(decimals=2), "b": _number(missing=True), "c": _number(decimals=1, missing=True)},
        [{"order": ["a", "b", "c"]}],
    ),
    "a special value that is no magnitude": (
        {"a": _number(special=[9999], missing=True), "b": _number(special=[-1])},
        [{"order": ["a", "b"]}],
    ),
    "two moments": (
        {"a": _date(min="2010-01-01T00:00:00"), "b": _date(min="2010-01-01T00:00:00", missing=True)},
        [{"order": ["a", "b"], "strict": True}],
    ),
    "orders that share columns": (
        {"a": _number(), "b": _number(missing=True), "c": _number(missing=True), "d": _number(missing=True)},
        [{"order": ["a", "b"]}, {"order": ["a", "c", "d"]}, {"order": ["b", "d"]}],
    ),
    "a logarithmic scale": (
        {"a": _number(min=1, scale="log", decimals=1), "b": _number(min=1, scale="log", decimals=1, missing=True)},
        [{"order": ["a", "b"]}],
    ),
    "bounds that the values crowd at": ({"a": _number(max=300), "b": _number(min=100)}, [{"order": ["a", "b"]}]),
}


def _ordered_rows(schema: Schema, rng: np.random.Generator) -> pd.DataFrame:
    """Return rows that keep the orders, with what is missing at random but for the stage."""
    names = [name for name in schema.columns if name != "stage"]
    stage = rng.integers(-1, 3, ROWS)
    steps = np.sort(rng.beta(1, 2, (ROWS, len(names))), axis=1)
    frame = {"stage": [None if place < 0 else STAGE["values"][place] for place in stage]}
    for place, name in enumerate(names):
        column: Any = schema.columns[name]
        share = np.clip(steps[:, place] + 0.03 * place, 0, 1)
        if column.type == "datetime":
            values = (column.first + share * (column.last - column.first)).astype(np.int64)
            days = values.astype("datetime64[s]" if column.clock else "datetime64[D]")
            series = pd.Series(days.astype("datetime64[s]"))
        else:
            series = pd.Series(np.clip(1000 * share, column.min, column.max).round(column.decimals))
            if column.special:
                series = series.mask(rng.random(ROWS) < 0.1, column.special[0])
        gone = rng.random(ROWS) < np.where(stage == 1, 0.7, 0.2)
        frame[name] = series.mask(gone) if column.missing else series
    return pd.DataFrame(frame)


def _kept(cohort: Cohort) -> Cohort:
    from dpsynth.cohort.rows import broken_rows

    broken = np.logical_or.reduce([broken_rows(cohort, item) for item in cohort.schema.constraints])
    return cohort.take(np.flatnonzero(~broken))


def _scattered(codec: Codec, codes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return codes with each ordered column's ordinary values in a random order: margins leave room for the order."""
    scattered = {name: array.copy() for name, array in codes.items()}
    for name in set(codes) - {"stage"}:
        free = np.flatnonzero(codes[name] < codec.columns[name].ordered)
        scattered[name][free] = codes[name][rng.permutation(free)]
    return scattered


@pytest.mark.parametrize("cells", [6, 64])
@pytest.mark.parametrize("case", ORDERS)
def test_an_order_moves_values_only(case: str, cells: int) -> None:
    """Each row keeps its states and its other columns, each ordered column its margin, and no row breaks an order."""
    columns, constraints = ORDERS[case]
    schema = Schema.parse({"name": "x", "columns": {"stage": STAGE, **columns}, "constraints": constraints})
    codec, rng = Codec(schema, cells=cells), np.random.default_rng(cells)
    true = codec.encode(_kept(Cohort.from_pandas(_ordered_rows(schema, rng), schema, public=True)))
    drawn = _scattered(codec, true, rng)
    cohort = codec.decode(drawn, rng)
    again = codec.encode(cohort)
    assert set(constraint_violations(cohort).values()) == {0}
    assert sum((drawn[name] != again[name]).any() for name in columns) >= 1, "nothing was to be mended"
    np.testing.assert_array_equal(drawn["stage"], again["stage"])
    for name in columns:
        ordered, size = codec.columns[name].ordered, codec.columns[name].size
        np.testing.assert_array_equal(*(np.maximum(found[name], ordered - 1) for found in (drawn, again)))
        counts = [np.bincount(found[name], minlength=size) for found in (drawn, again)]
        assert np.abs(counts[0] - counts[1]).sum() / 2 <= BENT * len(true[name]), name


@pytest.mark.parametrize("strict", [False, True])
def test_values_stay_even_in_their_cells(strict: bool) -> None:
    """Two columns of one wide cell that an order connects spread over the cell as those that nothing connects."""
    columns = {"a": _number(missing=True), "b": _number(missing=True)}
    schema = Schema.parse({"name": "x", "columns": columns, "constraints": [{"order": ["a", "b"], "strict": strict}]})
    codec, rng = Codec(schema, cells=2), np.random.default_rng(0)
    n, missing = 20_000, codec.columns["a"].missing
    # half of the rows have both; alone the others would take what the order does not leave to these
    codes = {"a": np.zeros(n, dtype=int), "b": np.zeros(n, dtype=int)}
    codes["a"][: n // 4] = codes["b"][-n // 4 :] = missing
    frame = codec.decode(codes, rng).to_pandas()
    both = frame.dropna()
    assert (both["a"] < both["b"]).all() if strict else (both["a"] <= both["b"]).all()
    for name in ("a", "b"):
        values = frame[name].dropna()
        assert abs(values.mean() - 250) < 5.5 * 501 / np.sqrt(12 * len(values)), name


def test_what_is_forbidden_or_required_gives_way() -> None:
    """`when` stays row by row, what it forbids or requires keeps its margin, and orders in the same table hold, too."""
    schema = Schema.parse(
        {
            "name": "x",
            "columns": {
                "sex": {"type": "categorical", "values": ["f", "m"]},
                "pregnant": {"type": "boolean", "missing": True},
                "dialysis": {"type": "boolean"},
                "creatinine": _number(),
                "first": _date(missing=True),
                "last": _date(missing=True),
            },
            "constraints": [
                {"when": {"sex": "m"}, "forbid": {"pregnant": True}},
                {"when": {"dialysis": True}, "require": {"creatinine": {"min": 600}}},
                {"when": {"pregnant": True}, "require": {"first": None}},
                {"order": ["first", "last"]},
            ],
        }
    )
    codec, rng = Codec(schema), np.random.default_rng(5)
    share = {"sex": [0.5, 0.5], "pregnant": [0.6, 0.1, 0.3], "dialysis": [0.8, 0.2]}
    codes: dict[str, Any] = {name: rng.choice(len(p), ROWS, p=p) for name, p in share.items()}
    codes["creatinine"] = rng.integers(codec.columns["creatinine"].size, size=ROWS)
    for name, low, high in (("first", 0, 40), ("last", 10, 64)):
        codes[name] = np.where(rng.random(ROWS) < 0.3, codec.columns[name].missing, rng.integers(low, high, ROWS))
    cohort = codec.decode(codes, rng)
    again = codec.encode(cohort)
    assert set(constraint_violations(cohort).values()) == {0}
    for name in ("sex", "dialysis"):
        np.testing.assert_array_equal(codes[name], again[name])
    for name, code in codec.columns.items():
        counts = [np.bincount(found[name], minlength=code.size) for found in (codes, again)]
        assert np.abs(counts[0] - counts[1]).sum() / 2 <= BENT * ROWS, name


def test_no_trade_leads_into_or_out_of_a_condition() -> None:
    """Rows drawn under a condition keep it, and the rest of a draw in proportions meets none of the conditions."""
    columns = {"stage": STAGE, "a": _number(), "b": _number(missing=True)}
    schema = Schema.parse({"name": "x", "columns": columns, "constraints": [{"order": ["a", "b"]}]})
    codec, rng = Codec(schema, cells=10), np.random.default_rng(2)
    codes = {"stage": rng.integers(0, 4, ROWS), "a": rng.integers(0, 10, ROWS), "b": rng.integers(0, 11, ROWS)}
    high = {"stage": "I", "b": {"min": 501}}
    masks = codec.where(high, partly=True)
    outside = ~(masks["stage"][codes["stage"]] & masks["b"][codes["b"]])
    rest = codec.cohort(codec.draw({name: array[outside] for name, array in codes.items()}, rng, without=[high]))
    frame = rest.to_pandas()
    assert set(constraint_violations(rest).values()) == {0}
    assert not ((frame["stage"] == "I") & (frame["b"] > 500)).any()
    under = codec.where({"b": {"max": 700}}, partly=True)["b"][codes["b"]]
    cohort = codec.decode({n: c[under] for n, c in codes.items()}, rng, where={"b": {"max": 700}})
    assert cohort.to_pandas()["b"].max() <= 700
    assert set(constraint_violations(cohort).values()) == {0}


def _oncology(rows: int = 3_000) -> pd.DataFrame:
    rng = np.random.default_rng(11)
    diagnosed = pd.Timestamp("2010-01-01") + pd.to_timedelta(rng.integers(0, 3_600, rows), "D")
    operated = diagnosed + pd.to_timedelta(rng.integers(3, 90, rows), "D")
    died = operated + pd.to_timedelta(rng.integers(1, 700, rows), "D")
    frame = pd.DataFrame({"diagnosed": diagnosed, "operated": operated, "died_on": died})
    frame["operated"] = frame["operated"].mask(rng.random(rows) < 0.4)
    frame["died_on"] = frame["died_on"].mask(rng.random(rows) < 0.5)
    frame["stage"] = rng.choice(STAGE["values"], rows, p=[0.5, 0.3, 0.2])
    return frame


def _oncology_schema(*constraints: dict[str, Any]) -> Schema:
    columns = {"diagnosed": _date(), "operated": _date(missing=True), "died_on": _date(max="2022-12-31", missing=True)}
    return Schema.parse(
        {"name": "onc", "confirmed": True, "columns": {**columns, "stage": STAGE}, "constraints": list(constraints)}
    )


DEEP = {"tvae": {"steps": 5}, "tabular-diffusion": {"steps": 3, "warm_steps": 50, "draws": 5}}
MODELS: dict[str, dict[str, Any]] = {"independent": {}, "mst": {}, "aim": {}, "prism": {}, **DEEP}


def _states(frame: pd.DataFrame) -> pd.DataFrame:
    """Return which dates are there, and both together, with the stage as columns of 0 and 1."""
    there = frame[["operated", "died_on"]].notna()
    there["both"] = there.all(axis=1)
    return pd.concat([there, pd.get_dummies(frame["stage"])], axis=1).astype(float)


@pytest.mark.parametrize("name", MODELS)
def test_an_order_leaves_what_a_model_learned(name: str) -> None:
    """With and without an order a model draws as many operated, dead and both, each stage, and the same dates."""
    drawn = {}
    for what, constraints in (("free", []), ("ordered", [{"order": ["diagnosed", "operated", "died_on"]}])):
        cohort = Cohort.from_pandas(_oncology(), _oncology_schema(*constraints), public=True)
        model = dpsynth.fit(cohort, model=name, epsilon=2.0, delta=1e-6, seed=3, **MODELS[name])
        drawn[what] = model.sample(3_000, seed=4)
    assert set(constraint_violations(drawn["ordered"]).values()) == {0}
    free, ordered = (drawn[what].to_pandas() for what in ("free", "ordered"))
    assert (_states(free).mean() - _states(ordered).mean()).abs().max() < SHARE
    for column in ("diagnosed", "operated", "died_on"):
        ranks = [pd.to_datetime(frame[column].dropna()).astype("int64") for frame in (free, ordered)]
        edges = np.quantile(ranks[0], np.linspace(0.1, 0.9, 9))
        below = [np.mean(values.to_numpy()[:, None] <= edges, axis=0) for values in ranks]
        assert np.abs(below[0] - below[1]).max() < SHARE, column


def _visiting(patients: int = 1_500) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    rows = []
    for number in range(patients):
        age, day = (
            int(rng.integers(30, 80)),
            pd.Timestamp("2011-01-01") + pd.Timedelta(days=int(rng.integers(0, 2_000))),
        )
        for visit in range(1, 1 + int(rng.choice(5, p=[0.38, 0.27, 0.17, 0.1, 0.08]) + 1)):
            rows.append((number, visit, "ab"[number % 3 == 0], age, day.date().isoformat()))
            age, day = age + int(rng.random() < 0.5), day + pd.Timedelta(days=int(rng.integers(20, 300)))
    return pd.DataFrame(rows, columns=["id", "visit", "arm", "age", "day"])


def _visiting_schema(rising: list[str]) -> Schema:
    return Schema.parse(
        {
            "name": "clinic",
            "confirmed": True,
            "patient": "id",
            "max_rows_per_patient": 5,
            "columns": {
                "id": {"type": "identifier"},
                "visit": {"type": "categorical", "values": [1, 2, 3, 4, 5]},
                "arm": {"type": "categorical", "values": ["a", "b"]},
                "age": {"type": "numeric", "min": 18, "max": 100},
                "day": _date(),
            },
            "visits": {"column": "visit", "values": [1, 2, 3, 4, 5], "static": ["arm"], "rising": rising},
        }
    )


@pytest.mark.parametrize("name", ["independent", "mst", "prism", "tvae"])
def test_rising_leaves_the_number_of_visits(name: str) -> None:
    """With and without columns that rise, as many patients have one visit, two, ..., and their ages are the same."""
    drawn = []
    for rising in ([], ["age", "day"]):
        cohort = Cohort.from_pandas(_visiting(), _visiting_schema(rising), public=True)
        model = dpsynth.fit(cohort, model=name, epsilon=4.0, delta=1e-6, seed=5, **MODELS[name])
        sample = model.sample(3_000, seed=6)
        assert not sum(constraint_violations(flatten(sample)).values())
        drawn.append(sample.to_pandas())
    visits = [
        frame.groupby("id").size().value_counts(normalize=True).reindex(range(1, 6), fill_value=0) for frame in drawn
    ]
    assert (visits[0] - visits[1]).abs().max() < SHARE
    arms = [frame.drop_duplicates("id")["arm"].eq("a").mean() for frame in drawn]
    assert abs(arms[0] - arms[1]) < SHARE
    ages = [frame.groupby(frame["visit"].astype(str))["age"].agg(["mean", "std", "size"]) for frame in drawn]
    error = np.sqrt(sum(table["std"] ** 2 / table["size"] for table in ages))
    assert ((ages[0]["mean"] - ages[1]["mean"]).abs() < 5.5 * error).all()


def test_the_fit_leaves_orders_of_missing_columns_to_the_draw() -> None:
    """Orders of columns that may be missing are no structural zeros: they would tilt how often both are there."""
    schema = _oncology_schema({"order": ["diagnosed", "operated"]}, {"order": ["operated", "died_on"]})
    assert Codec(schema).zeros() == []
    assert len(Codec(schema).forbidden()) == 2
    whole = Schema.parse({"name": "x", "columns": {"a": _date(), "b": _date()}, "constraints": [{"order": ["a", "b"]}]})
    assert [columns for columns, _ in Codec(whole).zeros()] == [("a", "b")]


def test_a_condition_on_one_date_narrows_the_others() -> None:
    """Under a condition on a date those that come before it are drawn before it, at the model's own shares."""
    constraints = {"order": ["diagnosed", "operated", "died_on"]}
    cohort = Cohort.from_pandas(_oncology(), _oncology_schema(constraints), public=True)
    model = dpsynth.fit(cohort, model="independent", epsilon=2.0, delta=1e-6, seed=3)
    early = model.sample(2_000, where={"died_on": {"max": "2013-12-31"}}, seed=1)
    frame = early.to_pandas()
    assert not sum(constraint_violations(early).values())
    assert pd.to_datetime(frame["diagnosed"]).max() <= pd.Timestamp("2013-12-31")
    assert abs(frame["operated"].isna().mean() - 0.4) < 0.25
    with pytest.raises(dpsynth.errors.InputError, match="constraints exclude"):
        model.sample(5, where={"died_on": {"max": "2011-01-01"}, "diagnosed": {"min": "2015-01-01"}}, seed=1)
