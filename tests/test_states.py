"""States beside numbers: "<5", ">300" and "not done" are learned as states and drawn back as they are written."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import dpsynth
from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.cohort.rows import broken_rows, rows_where
from dpsynth.drafting.draft import draft
from dpsynth.drafting.sdv import to_sdv
from dpsynth.errors import DataError, InputError, SchemaError
from dpsynth.evaluation.arrays.bins import JudgingBins
from dpsynth.evaluation.arrays.table import tables
from dpsynth.evaluation.learners.tabular import Task, dense_features, tree_features
from dpsynth.publishing.card import describe
from dpsynth.publishing.croissant import _data_type
from dpsynth.schema import Schema

LABS = """
name: labs
confirmed: true
columns:
  crp: {type: numeric, min: 0, max: 300, decimals: 1, censored: {below: ["<5", "<0.3"], above: "≥ 300"},
        special: [not done, 999], missing: true}
  age: {type: numeric, min: 0, max: 99}
"""
SCHEMA = Schema.parse(LABS)
CELLS: list[Any] = ["<5", "< 0.30", ">=300", "Not done", 5.7, "12", 999, None, "NA", 301.0]
WRITTEN = ["<5", "<0.3", "≥ 300", "not done", "5.7", "12", "999", None, None, "301"]


def _cohort(cells: list[Any] = CELLS, schema: Schema = SCHEMA) -> Cohort:
    return Cohort.from_pandas(pd.DataFrame({"crp": pd.Series(cells, dtype=object), "age": range(len(cells))}), schema)


def _many(rows: int, seed: int = 0) -> pd.DataFrame:
    """Return a ward of which 30 % have "<5", 10 % "not done" and 5 % "≥ 300"."""
    rng = np.random.default_rng(seed)
    numbers = np.round(rng.gamma(2, 30, rows).clip(5, 299), 1).astype(str)
    crp = rng.choice(["<5", "not done", "≥ 300", ""], p=[0.3, 0.1, 0.05, 0.55], size=rows)
    return pd.DataFrame({"crp": np.where(crp == "", numbers, crp), "age": rng.integers(20, 90, rows)})


def test_states_are_read_in_every_spelling() -> None:
    """Blanks, ≤ and <=, 0.3 and 0.30, and capitals make no other state; a number stays a number."""
    assert _cohort().plain_table()["crp"].to_pylist() == WRITTEN


def test_decoded_states_have_their_codes_again() -> None:
    """Each state has one code of its own, which decodes to the text that the schema declares."""
    codec = Codec(SCHEMA)
    codes = codec.encode(_cohort())
    out = codec.decode(codes, np.random.default_rng(0))
    assert np.array_equal(codec.encode(out)["crp"], codes["crp"])
    places = {WRITTEN[row]: int(codes["crp"][row]) for row in (0, 1, 2, 3, 6)}
    assert len(set(places.values())) == 5
    assert [codec.columns["crp"].labels[place] for place in places.values()] == [
        "<5",
        "<0.3",
        "≥ 300",
        "not done",
        "999.0",
    ]
    assert out.to_pandas()["crp"].tolist()[:4] == WRITTEN[:4]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_files_read_back(tmp_path: Path, ending: str) -> None:
    """CSV and Parquet hold the states as text and the numbers as they are, and read back under the same schema."""
    cohort = _cohort()
    cohort.write(tmp_path / f"labs.{ending}")
    again = Cohort.read(tmp_path / f"labs.{ending}", SCHEMA)
    assert again.table["crp"].to_pylist() == cohort.table["crp"].to_pylist()
    frame = Cohort.from_pandas(cohort.to_pandas(), SCHEMA)
    assert frame.table["crp"].to_pylist() == cohort.table["crp"].to_pylist()
    numbers = pd.to_numeric(cohort.to_pandas()["crp"], errors="coerce")
    assert numbers.dropna().tolist() == [5.7, 12, 999, 301]


@pytest.mark.parametrize("row", ["<5", "not done", 7.25, None, "1e5", 999])
def test_a_row_is_read_by_itself(row: Any) -> None:
    """A neighbour's row of any kind leaves the codes of all other rows as they are."""
    codec = Codec(SCHEMA)
    alone = codec.encode(_cohort())["crp"]
    assert np.array_equal(codec.encode(_cohort([*CELLS, row]))["crp"][:-1], alone)


CONDITIONS: dict[str, tuple[Any, list[int]]] = {
    "at most 10: all below 5 are": ({"max": 10}, [0, 1, 4]),
    "at least 3: below 5 may be less": ({"min": 3}, [2, 4, 5, 9]),
    "0 to 10: below 5 means 0 to 5": ({"min": 0, "max": 10}, [0, 1, 4]),
    "at most 0.2": ({"max": 0.2}, [1]),
    "at least 300": ({"min": 300}, [2, 9]),
    "a limit": ("<5", [0]),
    "another spelling of it": ("≥300", [2]),
    "a word and a number": (["not done", 999], [3, 6]),
    "missing": (None, [7, 8]),
}


@pytest.mark.parametrize(("condition", "rows"), CONDITIONS.values(), ids=CONDITIONS.keys())
def test_conditions(condition: Any, rows: list[int]) -> None:
    """A limit fulfils a range that holds for every value it may stand for; a word fulfils none; both can be named."""
    assert np.flatnonzero(rows_where(_cohort(), {"crp": condition})).tolist() == rows
    codec = Codec(SCHEMA)
    codes, mask = codec.encode(_cohort())["crp"], codec.where({"crp": condition}, partly=True)["crp"]
    assert set(rows) <= set(np.flatnonzero(mask[codes]).tolist())
    states = [place for place in (0, 1, 2, 3, 6, 7, 8) if mask[codes[place]]]
    assert states == [row for row in rows if row in (0, 1, 2, 3, 6, 7, 8)]


def test_a_range_of_states_alone() -> None:
    """With min: 5, at most 4.9 means what is written <5; without such a state it is refused."""
    schema = Schema.parse("{name: w, columns: {crp: {type: numeric, min: 5, max: 300, decimals: 1, special: ['<5']}}}")
    assert Codec(schema).where({"crp": {"max": 4.9}})["crp"].sum() == 1
    with pytest.raises(InputError):
        Codec(schema).where({"crp": {"max": 4.8}})


def test_constraints_hold_for_states() -> None:
    """A constraint may name a state, and the rows drawn keep it."""
    schema = Schema.parse(LABS + "constraints:\n  - {when: {age: {max: 40}}, require: {crp: [not done, '<5']}}\n")
    rng = np.random.default_rng(1)
    codec = Codec(schema)
    codes = {name: rng.integers(code.size, size=800) for name, code in codec.columns.items()}
    out = codec.decode(codes, rng)
    assert not broken_rows(out, schema.constraints[0]).any()
    young = out.to_pandas().query("age <= 40")["crp"]
    assert set(young) == {"not done", "<5"}


REFUSED = {
    "a number as text": ("special: ['5']", "without quotes"),
    "empty": ("special: ['']", "empty"),
    "twice": ("censored: {below: '<5'}, special: ['< 5.0']", "told apart"),
    "wrong side": ("censored: {below: '>5'}", "other side"),
    "unknown field": ("censored: {under: '<5'}", "under"),
}


@pytest.mark.parametrize(("fields", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_states_are_refused(fields: str, words: str) -> None:
    """States that cannot be meant so are refused with the column and what to do."""
    with pytest.raises(SchemaError) as caught:
        Schema.parse(f"{{name: w, columns: {{crp: {{type: numeric, min: 0, max: 9, {fields}}}}}}}")
    assert "crp" in str(caught.value)
    assert words in str(caught.value)


def test_undeclared_states_are_refused(tmp_path: Path) -> None:
    """A limit or a word that is not declared is refused, in CSV and frames, with the fields that would declare it."""
    with pytest.raises(DataError, match="censored"):
        _cohort(["<7", 3.0])
    plain = Schema.parse(
        "{name: w, columns: {crp: {type: numeric, min: 0, max: 9}, age: {type: numeric, min: 0, max: 9}}}"
    )
    (tmp_path / "labs.csv").write_text("crp,age\nhemolyzed,3\n")
    with pytest.raises(DataError, match="censored or special"):
        Cohort.read(tmp_path / "labs.csv", plain)


def test_schema_round_trips() -> None:
    """YAML and plain values give an equal schema back; card, Croissant and SDV say that there is text."""
    assert Schema.parse(SCHEMA.to_yaml()) == SCHEMA
    assert Schema.parse(SCHEMA.to_dict()) == SCHEMA
    column = SCHEMA.columns["crp"]
    assert describe(column) == "0 to 300; states: 999, <5, <0.3, ≥ 300, not done"
    assert _data_type(column) == "sc:Text"
    assert to_sdv(SCHEMA)["tables"]["labs"]["columns"]["crp"] == {"sdtype": "categorical"}
    assert "censored" in str(Schema.json_schema())


def test_the_judge_keeps_states_apart() -> None:
    """Each state is a cell of its own; learners see a limit's number and which state it is."""
    table = tables({"real": _cohort()})["real"]
    variable = table["crp"]
    assert variable.measured.tolist() == [False] * 4 + [True] * 2 + [False] * 3 + [True]
    bins = JudgingBins.of(table, "public")
    cells, labels = bins.apply(table).codes["crp"], bins.labels(variable)
    assert [labels[cell] for cell in cells[:4]] == ["= <5", "= <0.3", "= ≥ 300", "= not done"]
    assert variable.special[1] == pytest.approx(4.9)
    assert variable.special[1] != 4.9  # a measured 4.9 is another cell
    assert variable.special[3] == pytest.approx(300)
    dense = dense_features(table, "age")(table)
    assert dense.shape[1] == 2 + 4  # value, missing, four states
    assert dense[3, 0] == 0  # "not done" has no magnitude: it stands at the middle, with its indicator
    assert dense[:4, 2:].tolist() == np.eye(4).tolist()
    encode, _ = tree_features(table, "age")
    assert len(set(encode(table)[:4, 0])) == 4
    assert len(Task("crp", "numeric").known(table)) == len(CELLS) - 3  # neither missing nor not done


@pytest.mark.parametrize("model", ["independent", "mst", "prism", "aim"])
def test_models_learn_states(model: str) -> None:
    """At epsilon 1 the shares of states come out as they are: noise of a share is below .02 here, 6 sigma below .05."""
    frame = _many(4_000)
    cohort = Cohort.from_pandas(frame, SCHEMA, public=True)
    fake = dpsynth.fit(cohort, model=model, epsilon=1.0).sample(4_000, seed=0).to_pandas()
    for state in ("<5", "not done", "≥ 300"):
        assert abs((fake["crp"] == state).mean() - (frame["crp"] == state).mean()) < 0.05
    numbers = pd.to_numeric(fake["crp"], errors="coerce").dropna()
    assert numbers.between(0, 300).mean() > 0.95


def test_deep_models_learn_states() -> None:
    """A network has a one-hot state for each text state and draws it back as written."""
    pytest.importorskip("torch")
    cohort = Cohort.from_pandas(_many(600), SCHEMA, public=True)
    model = dpsynth.fit(cohort, model=dpsynth.models.make("tvae", steps=5), epsilon=3.0)
    fake = model.sample(300, seed=0)
    assert set(fake.to_pandas()["crp"].dropna()) & {"<5", "not done"}
    assert Cohort.from_pandas(fake.to_pandas(), SCHEMA).table.num_rows == 300


def test_visits_carry_states() -> None:
    """A lab with states at visits is flattened and unfolded as any other."""
    schema = Schema.parse(
        "{name: w, confirmed: true, patient: id, max_rows_per_patient: 2, visits: {column: v, values: [1, 2]}, "
        "columns: {id: {type: identifier}, v: {type: categorical, values: [1, 2]}, "
        "crp: {type: numeric, min: 0, max: 9, decimals: 1, censored: {below: '<1'}}}}"
    )
    rows = [{"id": f"P{i // 2}", "v": i % 2 + 1, "crp": "<1" if i % 3 == 0 else 2.5} for i in range(200)]
    cohort = Cohort.from_pandas(pd.DataFrame(rows), schema, public=True)
    fake = dpsynth.fit(cohort, model="independent", epsilon=5.0).sample(100, seed=0).to_pandas()
    assert 0.1 < (fake["crp"] == "<1").mean() < 0.6


def test_drafts_find_states(tmp_path: Path) -> None:
    """A draft declares limits, words and marks of missing values, and its file keeps it."""
    frame = _many(500)
    frame["urine"] = ["anuria" if i % 9 == 0 else "." if i % 11 == 0 else str(500 + 7 * (i % 97)) for i in range(500)]
    frame.to_csv(tmp_path / "labs.csv", index=False)
    drafted = draft(tmp_path / "labs.csv")
    crp, urine = drafted.schema.columns["crp"], drafted.schema.columns["urine"]
    assert crp.censored.model_dump() == {"below": "<5", "above": "≥ 300"}
    assert crp.special == ("not done",)
    assert (urine.special, urine.missing) == (("anuria",), True)
    assert "." in drafted.schema.missing_values
    assert any("censored" in note for note in drafted.notes["crp"])
    assert len(Cohort.read(tmp_path / "labs.csv", Schema.parse(drafted.to_yaml()))) == 500


def test_drafts_find_peaks(tmp_path: Path) -> None:
    """A value that far more rows have than any other is drafted as special, with a note; a common integer is not."""
    rng = np.random.default_rng(3)
    rows = 4_000
    cost = np.where(rng.random(rows) < 0.6, 0, np.round(np.exp(rng.normal(7, 1, rows)), 2))
    score = np.where(rng.random(rows) < 0.3, 999, rng.integers(0, 100, rows))
    both = np.where(rng.random(rows) < 0.3, 999, np.where(rng.random(rows) < 0.4, 0, rng.integers(1, 100, rows)))
    frame = pd.DataFrame({"cost": cost, "score": score, "both": both, "stay": rng.geometric(0.4, rows)})
    frame["pressure"] = rng.choice(
        [110, 115, 120, 125, 130, 135, 140], p=[0.3, 0.05, 0.3, 0.05, 0.2, 0.05, 0.05], size=rows
    )
    frame.to_csv(tmp_path / "skew.csv", index=False)
    drafted = draft(tmp_path / "skew.csv")
    special = {name: getattr(column, "special", ()) for name, column in drafted.schema.columns.items()}
    assert special == {"cost": (0,), "score": (999,), "both": (0, 999), "stay": (), "pressure": ()}
    assert drafted.schema.columns["score"].max <= 100
    assert drafted.schema.columns["cost"].scale == "log"
    assert any("special" in note for note in drafted.notes["cost"])
    Cohort.read(tmp_path / "skew.csv", drafted.schema)


def test_concentrated_columns_are_named() -> None:
    """A model says which number has more than half of its values in one cell; with special and log it says nothing."""
    rng = np.random.default_rng(0)
    cost = np.where(rng.random(4_000) < 0.6, 0, np.round(np.exp(rng.normal(7, 1.5, 4_000)))).clip(0, 250_000)
    frame = pd.DataFrame({"cost": cost.astype(int), "age": rng.integers(18, 90, 4_000), "few": rng.poisson(0.2, 4_000)})
    warned = {}
    for fields in ("min: 0", "min: 1, special: [0], scale: log"):
        schema = Schema.parse(
            f"{{name: w, confirmed: true, columns: {{cost: {{type: numeric, {fields}, max: 250000}}, "
            "age: {type: numeric, min: 18, max: 110}, few: {type: numeric, min: 0, max: 20}}}"
        )
        model = dpsynth.fit(Cohort.from_pandas(frame, schema, public=True), model="mst", epsilon=1.0)
        warned[fields] = model.warnings
        assert model.warnings == model.warnings  # a function of the model alone
    (warning,) = warned["min: 0"]
    assert all(word in warning for word in ("'cost'", "log", "cuts", "special"))
    assert warned["min: 1, special: [0], scale: log"] == ()
