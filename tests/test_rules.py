"""Rules between columns: what lies between is learned, derived columns are computed, combinations are listed."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import dpsynth.schema.gaps as gaps_module
from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.cohort.computed import learned_rows, restored
from dpsynth.cohort.rows import constraint_violations
from dpsynth.errors import InputError, SchemaError
from dpsynth.evaluation.arrays.table import tables
from dpsynth.evaluation.learners.tabular import dense_features, tree_features
from dpsynth.evaluation.metrics.inference import default_regression
from dpsynth.evaluation.metrics.orders import order_pairs
from dpsynth.schema import Schema
from dpsynth.schema.arithmetic import Formula
from dpsynth.schema.flat import flattened

STAYS = """
name: stays
columns:
  admit: {type: datetime, min: 2015-01-01, max: 2020-12-31, missing: true}
  discharge: {type: datetime, after: admit, within: 60 days, missing: true}
  seen: {type: datetime, after: discharge, within: 1 year, missing: true}
  systolic: {type: numeric, min: 60, max: 260, special: [999, not done], missing: true}
  diastolic: {type: numeric, min: 20, below: systolic, within: 120, special: [999], missing: true}
  died: {type: boolean}
target: died
"""


def schema_of(columns: str, more: str = "") -> Schema:
    """Return a schema of these columns."""
    return Schema.parse(f"name: ward\ncolumns:\n{columns}\n{more}")


def stays(n: int, seed: int = 0) -> pd.DataFrame:
    """Return stays with their lengths, blood pressures, and values that are missing or special."""
    rng = np.random.default_rng(seed)
    died = rng.random(n) < 0.3
    admit = pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.integers(0, 2000, n), unit="D")
    length = np.clip(np.rint(rng.lognormal(np.log(5) + 0.6 * died, 0.7)), 0, 60).astype(int)
    discharge = admit + pd.to_timedelta(length, unit="D")
    seen = discharge + pd.to_timedelta(rng.integers(0, 300, n), unit="D")
    systolic = np.rint(np.clip(rng.normal(130, 18, n), 60, 260))
    diastolic = np.maximum(systolic - np.rint(np.clip(rng.normal(48, 10, n), 0, 120)), 20)
    frame = pd.DataFrame(
        {"admit": admit, "discharge": discharge, "seen": seen, "systolic": systolic, "diastolic": diastolic}
    ).astype({"systolic": object, "diastolic": object})
    for name in frame.columns:
        frame.loc[rng.random(n) < 0.05, name] = None
    frame.loc[rng.random(n) < 0.05, "systolic"] = 999
    frame.loc[rng.random(n) < 0.05, "systolic"] = "not done"
    frame.loc[rng.random(n) < 0.05, "diastolic"] = 999
    return frame.assign(died=died)


# -- what lies between ------------------------------------------------------------------------------------------------


def test_bounds_follow_from_what_a_column_stands_beside() -> None:
    """Where no bounds are given, `within` and the other column's bounds give them."""
    columns = Schema.parse(STAYS).columns
    assert (str(columns["discharge"].min), str(columns["discharge"].max)) == ("2015-01-01", "2021-03-01")
    assert str(columns["seen"].max) == "2022-03-02"
    assert (columns["diastolic"].min, columns["diastolic"].max) == (20, 260)


def test_rows_come_back_as_they_were() -> None:
    """Where orders are kept, rows that are learned and restored are the same: every state, chain and gap."""
    cohort = Cohort.from_pandas(stays(2_000), Schema.parse(STAYS))
    rows = learned_rows(cohort)
    assert rows.schema.columns["discharge"].type == "numeric"
    back, first = restored(rows.table, cohort.schema), cohort.table
    frame = cohort.to_pandas()
    beside = {"discharge": ["admit"], "seen": ["admit", "discharge"], "diastolic": ["systolic"]}
    for name in cohort.columns:
        mine, theirs = first[name].to_pylist(), back[name].to_pylist()
        bases = frame[beside.get(name, [])]
        whole = (bases.notna() & ~bases.isin(["999", "not done", 999])).all(axis=1)
        same = [a == b for a, b, is_whole in zip(mine, theirs, whole, strict=True) if is_whole]
        assert all(same)
        assert len(same) > 1_500
        assert [value is None for value in mine] == [value is None for value in theirs]


@pytest.mark.parametrize(
    ("base", "column"),
    [
        ("min: 2020-01-01, max: 2020-03-01", "after: a, within: 9 days"),
        ("min: 2020-01-01T00:00:00, max: 2020-03-01T00:00:00", "after: a, within: 36 hours"),
        ("min: 2020-01-01T00:00:00, max: 2020-03-01T00:00:00", "before: a, within: 2 weeks"),
        ("min: 2020-01-01, max: 2020-03-01", "min: 2019-12-01T00:00:00, max: 2020-03-05T00:00:00, before: a"),
        ("min: 2020-01-01T00:00:00, max: 2020-03-01T00:00:00", "min: 2019-12-01, max: 2020-06-05, after: a"),
    ],
)
def test_moments_of_every_precision_keep_their_distance(base: str, column: str) -> None:
    """Days and moments, after and before: what is learned and restored is the same, and codes decode in order."""
    schema = schema_of(f"  a: {{type: datetime, {base}}}\n  b: {{type: datetime, {column}}}")
    rng, n = np.random.default_rng(1), 500
    sign = -1 if "before" in column else 1
    clocks = [schema.columns[name].clock for name in "ab"]  # type: ignore[union-attr]
    seconds = rng.integers(0, 50 * 86_400, n)
    a = pd.Timestamp("2020-01-02") + pd.to_timedelta(seconds if clocks[0] else seconds // 86_400 * 86_400, unit="s")
    apart = rng.integers(0, 86_400, n)
    b = a + sign * pd.to_timedelta(apart, unit="s")
    if not clocks[1]:
        b = b.normalize()
    elif not clocks[0]:
        b = a + sign * pd.to_timedelta(apart, unit="s")
    cohort = Cohort.from_pandas(pd.DataFrame({"a": a, "b": b}), schema)
    assert restored(learned_rows(cohort).table, schema).equals(cohort.table.select(["a", "b"]).combine_chunks()) or (
        restored(learned_rows(cohort).table, schema).to_pydict() == cohort.table.to_pydict()
    )
    codec = Codec(schema)
    drawn = codec.decode(codec.encode(cohort), rng)
    assert sum(constraint_violations(drawn).values()) == 0


def test_numbers_of_different_decimals_keep_their_order() -> None:
    """A number with more digits above or below one with fewer keeps the order to the last digit."""
    for side, decimals in itertools.product(("above", "below"), ((0, 2), (2, 0), (1, 1))):
        schema = schema_of(
            f"  a: {{type: numeric, min: 0, max: 50, decimals: {decimals[0]}}}\n"
            f"  b: {{type: numeric, min: 0, max: 50, decimals: {decimals[1]}, {side}: a}}"
        )
        rng = np.random.default_rng(3)
        pair = np.sort(rng.uniform(0, 50, (400, 2)), axis=1)[:, :: 1 if side == "above" else -1]
        a, b = pair[:, 0].round(decimals[0]), pair[:, 1].round(decimals[1])
        kept = (b >= a) if side == "above" else (b <= a)
        cohort = Cohort.from_pandas(pd.DataFrame({"a": a, "b": b})[kept], schema)
        assert restored(learned_rows(cohort).table, schema).to_pydict() == cohort.table.to_pydict()
        codec = Codec(schema, cells=16)
        assert sum(constraint_violations(codec.decode(codec.encode(cohort), rng)).values()) == 0


def test_stays_keep_their_lengths_and_what_they_go_with() -> None:
    """From the exact codes the median stay of the dead and of the living is that of the data, and no row is broken."""
    frame = stays(4_000)
    cohort = Cohort.from_pandas(frame, Schema.parse(STAYS))
    codec = Codec(cohort.schema)
    drawn = codec.decode(codec.encode(cohort), np.random.default_rng(0))
    assert set(constraint_violations(drawn)) == {"admit <= discharge", "discharge <= seen", "diastolic <= systolic"}
    assert sum(constraint_violations(drawn).values()) == 0
    synthetic = drawn.to_pandas()
    for arm in (frame, synthetic):
        arm["length"] = (pd.to_datetime(arm["discharge"]) - pd.to_datetime(arm["admit"])).dt.days
    medians = [arm.groupby("died")["length"].median() for arm in (frame, synthetic)]
    assert (abs(medians[0] - medians[1]) <= 1).all()
    for name in ("admit", "discharge", "seen", "systolic", "diastolic"):
        assert frame[name].isna().sum() == synthetic[name].isna().sum()
    assert set(order_pairs(cohort.schema)) == {("admit", "discharge"), ("discharge", "seen"), ("diastolic", "systolic")}


def test_values_that_break_the_order_or_reach_too_far_are_clipped() -> None:
    """A discharge before the admission is read as one on that day, one after 60 days as one after 60."""
    schema = Schema.parse(STAYS)
    frame = stays(1).assign(admit="2016-05-01", discharge="2016-04-01", seen=None, systolic=120, diastolic=80)
    more = frame.assign(discharge="2016-12-01")
    cohort = Cohort.from_pandas(pd.concat([frame, more], ignore_index=True), schema)
    assert learned_rows(cohort).table["discharge"].to_pylist() == [
        {"number": 0.0, "state": None},
        {"number": 60.0, "state": None},
    ]
    assert constraint_violations(cohort)["admit <= discharge"] == 1


NEIGHBOURS: dict[str, dict[str, Any]] = {
    "far apart": {"admit": "2015-01-01", "discharge": "2021-03-01"},
    "the wrong way round": {"admit": "2020-12-31", "discharge": "2015-01-01"},
    "out of bounds": {"admit": "1900-01-01", "discharge": "2100-01-01", "seen": "2100-01-01"},
    "nothing there": dict.fromkeys(("admit", "discharge", "seen", "systolic", "diastolic")),
    "without its other one": {"admit": None, "systolic": "not done"},
}


def codes_beside(neighbour: dict[str, Any] | None) -> dict[str, list[int]]:
    """Return the codes of a hundred rows, read with one more beside them."""
    rows = stays(100).to_dict("records")
    rows += [] if neighbour is None else [{**rows[0], **neighbour}]
    frame = pd.DataFrame(rows, dtype=object)
    cohort = Cohort.from_pandas(frame, Schema.parse(STAYS))
    return {name: codes[:100].tolist() for name, codes in Codec(cohort.schema).encode(cohort).items()}


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_a_row_more_changes_no_other(neighbour: str) -> None:
    """What a row is learned as depends on this row alone."""
    assert codes_beside(NEIGHBOURS[neighbour]) == codes_beside(None)


def test_gaps_that_follow_the_data_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the planted fault, gaps counted from the least of the data, one row more changes others."""
    sound = gaps_module.Gap.between

    def from_the_least(gap: Any, base: Any, own: Any) -> Any:
        both = ~base[1] & ~own[1]
        moved = own[0] - (own[0] - base[0])[both].min()
        return sound(gap, base, (moved, own[1]))

    monkeypatch.setattr(gaps_module.Gap, "between", from_the_least)
    assert any(codes_beside(neighbour) != codes_beside(None) for neighbour in NEIGHBOURS.values())


def test_gaps_of_visits_are_learned_at_each_visit() -> None:
    """In a schema of visits what lies between is learned visit by visit, and comes back."""
    schema = Schema.parse(
        "{name: v, patient: pid, columns: {pid: {type: identifier}, day: {type: categorical, values: [1, 2]},"
        " systolic: {type: numeric, min: 60, max: 250}, diastolic: {type: numeric, min: 20, below: systolic},"
        " pulse: {type: numeric, min: 0, max: 230}}, derived: {pulse: systolic - diastolic},"
        " visits: {column: day, values: [1, 2]}}"
    )
    rng, n = np.random.default_rng(0), 200
    systolic = rng.integers(90, 200, n)
    frame = pd.DataFrame(
        {"pid": np.repeat(np.arange(n // 2), 2), "day": np.tile([1, 2], n // 2), "systolic": systolic,
         "diastolic": systolic - rng.integers(10, 60, n), "pulse": 0}
    )  # fmt: skip
    cohort = Cohort.from_pandas(frame, schema)
    codec = Codec(schema)
    assert "pulse@1" not in codec.columns
    drawn = codec.decode(codec.encode(cohort), rng).to_pandas()
    assert (drawn["pulse"] == drawn["systolic"] - drawn["diastolic"]).all()
    assert abs((drawn["systolic"] - drawn["diastolic"]).mean() - (frame["systolic"] - frame["diastolic"]).mean()) < 2


def test_a_condition_on_a_computed_column_is_refused_in_words() -> None:
    """Conditions are set on what is learned; the message says what to do."""
    codec = Codec(Schema.parse(STAYS))
    with pytest.raises(InputError, match=r"'discharge' takes no condition.*'admit'.*another column"):
        codec.where({"discharge": "2016-01-01"})
    assert codec.where({"discharge": None})["discharge"].sum() == 1


# -- derived columns --------------------------------------------------------------------------------------------------

SCORES = """
  eye: {type: numeric, min: 1, max: 4}
  verbal: {type: numeric, min: 1, max: 5}
  weight: {type: numeric, min: 30, max: 200, decimals: 1, missing: true}
  height: {type: numeric, min: 120, max: 220}
  born: {type: datetime, min: 1920-01-01, max: 2000-01-01}
  visit: {type: datetime, min: 2010-01-01, max: 2020-01-01}
  recur: {type: boolean, labels: [0, 1]}
  dtime: {type: numeric, min: 0, max: 3000}
  rtime: {type: numeric, min: 0, max: 3000}
"""
DERIVED = (
    "derived: {gcs: eye + verbal, bmi: weight / (height / 100) ** 2, age: floor((visit - born) / 365.25), "
    'score: "2 * recur + max(eye, verbal)", rtime: {equals: dtime, when: {recur: 0}}}'
)


def test_derived_columns_are_computed_last() -> None:
    """Sums, quotients, ages from dates, booleans and functions: each is what its formula says of the drawn row."""
    schema = schema_of(SCORES, DERIVED)
    assert "gcs" not in flattened(schema).columns
    assert schema.columns["bmi"].missing  # type: ignore[union-attr]
    rng, n = np.random.default_rng(0), 600
    recur = rng.integers(0, 2, n)
    dtime = rng.integers(1, 3000, n)
    frame = pd.DataFrame(
        {
            "eye": rng.integers(1, 5, n), "verbal": rng.integers(1, 6, n),
            "weight": np.where(rng.random(n) < 0.1, np.nan, rng.uniform(40, 150, n).round(1)),
            "height": rng.integers(140, 200, n), "recur": recur, "dtime": dtime,
            "born": pd.Timestamp("1930-01-01") + pd.to_timedelta(rng.integers(0, 20_000, n), unit="D"),
            "visit": pd.Timestamp("2012-01-01") + pd.to_timedelta(rng.integers(0, 2_000, n), unit="D"),
            "rtime": np.where(recur == 0, dtime, dtime // 2),
        }
    )  # fmt: skip
    frame = frame.assign(gcs=0, bmi=np.nan, age=0, score=0)  # what the file says of them is never learned
    cohort = Cohort.from_pandas(frame, schema)
    codec = Codec(schema)
    drawn = codec.decode(codec.encode(cohort), rng).to_pandas()
    assert list(drawn.columns) == list(schema.columns)
    assert (drawn["gcs"] == drawn["eye"] + drawn["verbal"]).all()
    bmi = (drawn["weight"] / (drawn["height"] / 100) ** 2).round(2)
    assert np.allclose(drawn["bmi"], bmi, atol=0.0051, equal_nan=True)
    assert drawn["bmi"].isna().sum() == frame["weight"].isna().sum()
    days = (pd.to_datetime(drawn["visit"]) - pd.to_datetime(drawn["born"])).dt.days
    assert (drawn["age"] == np.floor(days / 365.25)).all()
    assert (drawn["score"] == 2 * drawn["recur"].astype(int) + drawn[["eye", "verbal"]].max(axis=1)).all()
    same = drawn["rtime"] == drawn["dtime"]
    assert same[drawn["recur"] == 0].all()
    assert same[drawn["recur"] == 1].mean() < 0.05
    assert (drawn["recur"] == 0).sum() == (recur == 0).sum()


def test_a_derived_column_may_stand_beside_the_one_it_equals() -> None:
    """A relapse time that never exceeds the death's, and equals it without relapse, keeps what they have in common."""
    columns = SCORES.replace(
        "rtime: {type: numeric, min: 0, max: 3000}", "rtime: {type: numeric, min: 0, below: dtime}"
    )
    schema = schema_of(columns, "derived: {rtime: {equals: dtime, when: {recur: 0}}}")
    rng, n = np.random.default_rng(0), 2_000
    recur, dtime = rng.integers(0, 2, n), rng.integers(1, 3000, n)
    rtime = np.where(recur == 0, dtime, (dtime * rng.uniform(0.5, 1, n)).astype(int))
    frame = pd.DataFrame({"recur": recur, "dtime": dtime, "rtime": rtime})
    few = schema.model_copy(update={"columns": {name: schema.columns[name] for name in frame.columns}})
    cohort = Cohort.from_pandas(frame, few)
    codec = Codec(few)
    drawn = codec.decode(codec.encode(cohort), rng).to_pandas()
    assert (drawn["rtime"] == drawn["dtime"])[drawn["recur"] == 0].all()
    again = drawn[drawn["recur"] == 1]
    assert np.corrcoef(again["rtime"], again["dtime"])[0, 1] > 0.9
    assert (again["rtime"] <= again["dtime"]).all()


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('x')", "eye.real", "(lambda: 1)()", "eye if eye else 1", "eye < 3", "'a' + eye", "eye[0]",
     "open(eye)", "[eye]", "eye = 2", "min(eye)", "sqrt(eye, eye)", "eye + True", "", "eye +", "3 + 4", "eye // 2",
     "eye @ eye", "f'{eye}'", "eye + 1e999", "abs(x=eye)", "(" * 80 + "eye" + ")" * 80 + "+" * 60 + "1", "eye; eye"],
)  # fmt: skip
def test_a_formula_is_arithmetic_and_nothing_else(text: str) -> None:
    """Code, comparisons, text and unknown functions are refused when the schema is read."""
    with pytest.raises(SchemaError, match=r"derived\.score"):
        Schema.parse(
            {"name": "w", "columns": {"eye": {"type": "numeric", "min": 1, "max": 4}}, "derived": {"score": text}}
        )


def test_quoted_names_stand_for_columns_that_are_no_words() -> None:
    """A column's name in backticks may hold blanks and signs."""
    formula = Formula("`peak flow (l/min)` / 60 + eye")
    assert formula.names == ("peak flow (l/min)", "eye")
    assert formula.of({"peak flow (l/min)": np.array([120.0]), "eye": np.array([1.0])})[0] == 3


def test_intervals_hold_all_that_a_formula_reaches() -> None:
    """For a thousand random formulas and values the value lies in the interval, wherever one is said to be defined."""
    rng = np.random.default_rng(0)
    bounds = {"a": (-3.0, 4.0), "b": (0.5, 2.0), "c": (-2.0, -1.0)}

    def made(depth: int) -> str:
        if depth == 0:
            return str(rng.choice(["a", "b", "c", "2", "0.5", "3"]))
        kind = rng.choice(["+", "-", "*", "/", "**", "abs", "sqrt", "log", "max", "min", "neg", "round"])
        if kind in "+-*/" or kind == "**":
            return f"({made(depth - 1)} {kind} {made(depth - 1)})"
        if kind in ("max", "min"):
            return f"{kind}({made(depth - 1)}, {made(depth - 1)})"
        return f"(-{made(depth - 1)})" if kind == "neg" else f"{kind}({made(depth - 1)})"

    defined = 0
    for _ in range(1_000):
        formula = Formula(f"a * 0 + {made(int(rng.integers(1, 4)))}")
        reach = formula.interval(bounds)
        if not reach.defined:
            continue
        defined += 1
        draws = {name: rng.uniform(*ends, 40) for name, ends in bounds.items()}
        values = np.broadcast_to(formula.of(draws), 40)
        assert np.isfinite(values).all()
        slack = 1e-9 * (1 + np.abs(values).max())
        assert values.min() >= reach.low - slack
        assert values.max() <= reach.high + slack
    assert defined > 300


# -- combinations -----------------------------------------------------------------------------------------------------

PLACES = """
  white: {type: boolean, labels: [0, 1]}
  black: {type: boolean, labels: [0, 1]}
  asian: {type: boolean, labels: [0, 1], missing: true}
  city: {type: categorical, values: [Bonn, Ulm, Linz, "007"]}
  land: {type: categorical, values: [NRW, BW, OOE], missing: true}
"""


@pytest.mark.parametrize("rule", ["exactly_one", "at_most_one"])
def test_of_some_booleans_one_is_true(rule: str) -> None:
    """Of random rows none is broken once they are drawn under the rule, whatever the labels are."""
    schema = schema_of(PLACES, f"constraints: [{{{rule}: [white, black, asian]}}]")
    rng, n = np.random.default_rng(0), 3_000
    codes = {name: rng.integers(0, size, n) * rng.integers(0, 2, n) for name, size in Codec(schema).shape.items()}
    drawn = Codec(schema).decode(codes, rng).to_pandas()
    true = (drawn[["white", "black", "asian"]].astype(float) == 1).sum(axis=1)
    assert true.max() == 1
    whole = drawn["asian"].notna()
    assert (true[whole] == 1).all() if rule == "exactly_one" else (true[whole] == 0).any()
    assert (~whole).any()


def test_listed_combinations_are_kept_and_may_stand_in_a_file(tmp_path: Path) -> None:
    """Only listed pairs are drawn; a CSV file beside the schema gives the same list, which the schema then holds."""
    listed = "[[Bonn, NRW], [Ulm, BW], [Linz, OOE], [Ulm, NRW]]"
    schema = schema_of(PLACES, f"constraints: [{{combinations: {{columns: [city, land], values: {listed}}}}}]")
    rng, n = np.random.default_rng(0), 3_000
    codes = {name: rng.integers(0, size, n) for name, size in Codec(schema).shape.items()}
    drawn = Codec(schema).decode(codes, rng).to_pandas()
    pairs = set(drawn[drawn["land"].notna()][["city", "land"]].itertuples(index=False, name=None))
    assert pairs == {("Bonn", "NRW"), ("Ulm", "BW"), ("Linz", "OOE"), ("Ulm", "NRW")}
    (tmp_path / "pairs.csv").write_text("land,people,city\nNRW,3,Bonn\nBW,1,Ulm\nOOE,2,Linz\nNRW,0,Ulm\n")
    text = (
        f"name: ward\ncolumns:\n{PLACES}\nconstraints: [{{combinations: {{columns: [city, land], values: pairs.csv}}}}]"
    )
    (tmp_path / "ward.yaml").write_text(text)
    assert Schema.load(tmp_path / "ward.yaml").constraints == schema.constraints
    assert Schema.parse(schema.to_yaml()) == schema


def test_three_columns_have_listed_combinations_only() -> None:
    """A list of triples is kept too, also of a beginning that no triple has."""
    schema = schema_of(
        "  a: {type: categorical, values: [x, y, z]}\n  b: {type: categorical, values: [1, 2, 3]}\n"
        "  c: {type: boolean}",
        "constraints: [{combinations: {columns: [a, b, c], values: [[x, 1, true], [x, 2, false], [y, 3, true]]}}]",
    )
    rng = np.random.default_rng(0)
    codes = {name: rng.integers(0, size, 2_000) for name, size in Codec(schema).shape.items()}
    drawn = Codec(schema).decode(codes, rng).to_pandas().astype(str)
    assert set(drawn.itertuples(index=False, name=None)) == {
        ("x", "1", "True"),
        ("x", "2", "False"),
        ("y", "3", "True"),
    }


# -- messages ---------------------------------------------------------------------------------------------------------

C = "  b: {type: numeric, min: 0, max: 9, above: a}"
A, B = "  a: {type: numeric, min: 0, max: 9}\n", "  d: {type: datetime, min: 2020-01-01, max: 2021-01-01}\n"


@pytest.mark.parametrize(
    ("columns", "more", "message"),
    [
        (A + "  b: {type: numeric, min: 0, max: 9, above: aa}", "", "columns.b: there is no column 'aa'.*'a'"),
        (A + B + "  b: {type: numeric, min: 0, max: 9, above: d}", "", "'d' is not a number"),
        (A + "  b: {type: numeric, min: 0, max: 9, above: a, below: a}", "", "either above or below"),
        (A + "  b: {type: numeric, min: 0, max: 9, within: 3}", "", "within belongs to above or below"),
        (B + "  e: {type: datetime, after: d, within: long}", "", "60 days, 36 hours or 5 years"),
        (B + "  e: {type: datetime, after: d, within: 0 days}", "", "above 0"),
        (A.replace("9}", "9, above: b}") + C, "", "before itself"),
        (A + C, "constraints: [{when: {a: 3}, forbid: {b: 4}}]", "'b' stands beside 'a'"),
        (A, "derived: {s: a + z}", "there is no column 'z'"),
        (A + "  s: {type: numeric, min: 0, max: 9}", "derived: {s: 1 / a}", "declare missing: true for 's'"),
        (A + "  s: {type: numeric, min: 0, max: 9}", "derived: {s: a + s}", "computed from itself"),
        (A + "  s: {type: boolean}", "derived: {s: a + 1}", "declare 's' with type: numeric"),
        (A, "target: s\nderived: {s: a + 1}", "target: 's' is derived"),
        (PLACES, "constraints: [{exactly_one: [white, city]}]", "'city' is not boolean"),
        (PLACES, "constraints: [{at_most_one: [white, white]}]", "named twice"),
        (PLACES, "constraints: [{combinations: {columns: [city, land], values: [[Rom, NRW]]}}]", "listed for 'city'"),
        (PLACES, "constraints: [{combinations: {columns: [city, land], values: [[Bonn]]}}]", "one value for each"),
        (PLACES, "constraints: [{exactlyone: [white, black]}]", "exactly_one, at_most_one, combinations"),
        (A, "predictors: [a]", "name the target"),
        (A + B, "target: a\npredictors: [a]", "'a' is the target"),
        (A + B, "target: a\nnot_predictors: [dd]", "there is no column 'dd'"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_what_to_do(columns: str, more: str, message: str) -> None:
    """Each fault of a rule is refused when the schema is read."""
    with pytest.raises(SchemaError, match=message):
        schema_of(columns, more)


def test_a_list_of_combinations_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file and a missing column of a list are said with the place."""
    text = (
        f"name: ward\ncolumns:\n{PLACES}\nconstraints: [{{combinations: {{columns: [city, land], values: pairs.csv}}}}]"
    )
    (tmp_path / "ward.yaml").write_text(text)
    with pytest.raises(SchemaError, match=r"constraints\.0\.combinations: pairs\.csv cannot be read"):
        Schema.load(tmp_path / "ward.yaml")
    (tmp_path / "pairs.csv").write_text("city,lend\nBonn,NRW\n")
    with pytest.raises(SchemaError, match=r"no column 'land'.*'lend'"):
        Schema.load(tmp_path / "ward.yaml")


# -- predictors -------------------------------------------------------------------------------------------------------


def test_a_column_that_never_predicts_is_in_no_model_of_the_target() -> None:
    """What is withheld, and what is computed from the target, is a feature of no learner; all other columns are."""
    columns = A + "  b: {type: numeric, min: 0, max: 9}\n  c: {type: boolean}\n  y: {type: boolean}"
    schema = schema_of(columns, "target: y\nnot_predictors: [b]\nderived: {s: a + 9 * y}")
    assert schema.withheld == ("b", "s")
    rng, n = np.random.default_rng(0), 200
    frame = pd.DataFrame({"a": rng.integers(0, 9, n), "b": rng.integers(0, 9, n), "c": rng.random(n) < 0.5,
                          "y": rng.random(n) < 0.5, "s": 0})  # fmt: skip
    table = tables({"real": Cohort.from_pandas(frame, schema)})["real"]
    assert table.take(np.arange(9)).predictors("y") == ["a", "c"]
    assert table.predictors("a") == ["b", "c", "y", "s"]
    assert tree_features(table, "y")[0](table).shape == (n, 2)
    assert dense_features(table, "y")(table).shape[1] == 1 + 1 + 3  # a, its missing state, and c: no, yes, missing
    regression = default_regression(schema)
    assert regression is not None
    assert regression.predictors == ("a", "c")
    named = schema_of(columns, "target: y\npredictors: [c]")
    assert named.withheld == ("a", "b")


def test_rows_in_which_a_derived_column_is_something_else_are_counted(tmp_path: Path) -> None:
    """The check of a file and the judge count rows that a formula does not fit; synthetic rows have none."""
    from dpsynth.checking.check import check_data
    from dpsynth.cohort.computed import rule_violations

    schema = schema_of(A + "  b: {type: numeric, min: 0, max: 9}", "derived: {s: a + b}")
    frame = pd.DataFrame({"a": [1, 2, 3, 4], "b": [1, 1, 1, 1], "s": [2, 3, 9, 5]})
    assert rule_violations(Cohort.from_pandas(frame, schema)) == {"s = a + b": 1}
    frame.to_csv(tmp_path / "ward.csv", index=False)
    assert check_data(tmp_path / "ward.csv", schema).constraints == {"s = a + b": 1}
