"""Codes leave as they were written: in a draft, a schema file, CSV, Parquet, frames, discovery and what is released."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth import fit
from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.columns.kinds import Categorical
from dpsynth.columns.written_conditions import parse_conditions
from dpsynth.drafting.draft import draft
from dpsynth.errors import DataError
from dpsynth.schema import Schema
from dpsynth.schema import yaml12 as yamltext

CODES = {
    "ICD-11": ["1E50", "1E51", "2A00", "5A11"],
    "ICD-11 that are all numbers": ["1E50", "1E51", "2E60"],
    "ATC, cut": ["1E5", "2E3", "12E", "N02BE01"],
    "ICD-9": ["250.00", "428.0", "401.9", "V58.1"],
    "ICD-9 that are all numbers": ["250.00", "428.0", "401.9", "486"],
    "ICD-9 without a whole one": ["250.00", "428.0", "401.9"],
    "zeros in front": ["001.0", "08", "0123", "10115"],
    "signs in front": ["+5", "3", "+7", "12", "13", "14"],
    "underscores": ["1_000", "2_000"],
    "hexadecimal": ["0x1A", "0x1B", "10"],
    "words of numbers": ["Infinity", "inf", "NAN", "7"],
    "too large for a number": ["1E400", "2E400"],
    "versions": ["1.1", "1.10", "1.2"],
    "truths": ["T", "F"],
    "more truths": ["yes", "no", "on", "off", "y", "NO"],
    "looks like dates": ["12:30", "MAR-01", "2008-W05", "10-12", "1975-2"],
    "other digits": ["\uff11\uff12", "\uff13", "\u0663"],
    "nothing": ["null", "~", "None.", "x"],
    "marks": ["=1+1", "a,b", 'say "x"', "#1", "- 1", "{a}", "[1]", "a: b", "'", "!x", "&x", "*x", "%", "@", "`"],
    "long": ["12345678901234567890123", "1e3", "1e-3x"],
}


def _schema(values: list[str], **fields: Any) -> Schema:
    column = {"type": "categorical", "values": values, **fields}
    return Schema.parse({"name": "w", "columns": {"x": column, "y": {"type": "boolean"}}})


def _list(schema: Schema) -> Any:
    column = schema.columns["x"]
    assert isinstance(column, Categorical)
    return column.categories


def _written(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row["x"] for row in csv.DictReader(file)]


def _files(values: list[str], folder: Path) -> list[Path]:
    frame = pd.DataFrame({"x": values, "y": [True] * len(values)})
    frame.to_csv(folder / "w.csv", index=False)
    frame.to_parquet(folder / "w.parquet")
    return [folder / "w.csv", folder / "w.parquet"]


@pytest.mark.parametrize("values", CODES.values(), ids=CODES.keys())
def test_codes_of_a_closed_list_leave_as_they_were_written(tmp_path: Path, values: list[str]) -> None:
    """From CSV, Parquet and frames, through codes, to CSV and Parquet: each code is spelled as in the schema."""
    schema = Schema.parse(_schema(values).to_yaml())
    assert _list(schema) == tuple(values)
    codec = Codec(schema)
    cohorts = [Cohort.read(path, schema) for path in _files(values, tmp_path)]
    cohorts.append(Cohort.from_pandas(pd.DataFrame({"x": pd.Categorical(values), "y": True}), schema))
    for cohort in cohorts:
        made = codec.decode(codec.encode(cohort), np.random.default_rng(0))
        assert made.plain_table()["x"].to_pylist() == values
        made.write(tmp_path / "out.csv")
        assert _written(tmp_path / "out.csv") == values


@pytest.mark.parametrize("values", CODES.values(), ids=CODES.keys())
@pytest.mark.parametrize("place", [0, 1], ids=["csv", "parquet"])
def test_codes_are_drafted_as_text(tmp_path: Path, values: list[str], place: int) -> None:
    """No draft takes codes for numbers or dates; what it lists is what the file holds, also after its YAML is read."""
    path = _files(values * 9, tmp_path)[place]
    found = Schema.parse(draft(path).to_yaml()).columns["x"]
    missing = {"null", "NA", "nan"}
    assert found.type in ("categorical", "boolean")
    assert sorted(map(str, found.categories)) == sorted(set(values) - missing)
    assert all(isinstance(value, str) for value in found.categories)
    assert len(Cohort.read(path, draft(path).schema)) == 9 * len(values)


@pytest.mark.parametrize("values", CODES.values(), ids=CODES.keys())
@pytest.mark.parametrize("place", [0, 1], ids=["csv", "parquet"])
def test_codes_are_discovered_as_they_were_written(tmp_path: Path, values: list[str], place: int) -> None:
    """Values that are found under differential privacy keep their spelling to the released file."""
    column = {"type": "categorical", "discover": True, "max_values": 40}
    schema = Schema.parse({"name": "w", "columns": {"x": column, "y": {"type": "boolean"}}, "missing_values": []})
    cohort = Cohort.read(_files(values, tmp_path)[place], schema)
    codec = Codec(schema, discovered={"x": values})
    made = codec.decode(codec.encode(cohort), np.random.default_rng(0))
    assert made.plain_table()["x"].to_pylist() == values
    made.write(tmp_path / "out.csv")
    assert _written(tmp_path / "out.csv") == values


def test_a_fit_that_discovers_releases_codes(tmp_path: Path) -> None:
    """A whole fit: codes that are found with noise come out as 1E50 and 250.00, not as numbers."""
    column = {"type": "categorical", "discover": True, "max_values": 9}
    facts = {"name": "w", "confirmed": True, "missing_values": [""], "columns": {"x": column, "y": {"type": "boolean"}}}
    values = ["1E50", "250.00", "428.0", "1E5", "0123"] * 400
    cohort = Cohort.read(_files(values, tmp_path)[0], Schema.parse(facts))
    made = fit(cohort, "independent", epsilon=5.0, ledger=tmp_path / "l.jsonl").sample(300)
    made.write(tmp_path / "out.csv")
    assert set(_written(tmp_path / "out.csv")) <= {*values, "other"}
    assert len(set(_written(tmp_path / "out.csv")) - {"other"}) == 5


UNQUOTED = {
    "[1E5, 2E3, 12E]": ("1E5", "2E3", "12E"),
    "[250.00, 428.0, 401.9]": ("250.00", "428.0", "401.9"),
    "[1.10, 1.1, 1.2]": ("1.10", "1.1", "1.2"),
    "[+5, 3]": ("+5", "3"),
    "[001, 08, 0x1A, 1_000]": ("001", "08", "0x1A", "1_000"),
    "[1E400, x]": ("1E400", "x"),
    "[NO, yes, on, T, 12:30, 2008-01-31]": ("NO", "yes", "on", "T", "12:30", "2008-01-31"),
    "[1, 2, 4]": (1, 2, 4),
    "[0.5, 1.0, 2.5]": (0.5, 1.0, 2.5),
}


@pytest.mark.parametrize("text", UNQUOTED)
def test_codes_need_no_quotes_in_a_schema(text: str) -> None:
    """A code in a list keeps its spelling where YAML or JSON would make a number of it; plain numbers are numbers."""
    schema = Schema.parse(f"name: w\ncolumns:\n  x: {{type: categorical, values: {text}}}\n")
    assert _list(schema) == UNQUOTED[text]
    assert _list(Schema.parse(schema.to_yaml())) == UNQUOTED[text]
    assert Schema.parse(yamltext.dumps(schema.to_dict())) == schema


@pytest.mark.parametrize("text", ["[250.00, 428.0, 401.9]", "[1.10, 1.1, 1.2]", "[1, 2, 4]", "[0.5, 1.0, 2.5]"])
def test_codes_need_no_quotes_in_json(text: str) -> None:
    """JSON is read like YAML."""
    schema = Schema.parse(f'{{"name": "w", "columns": {{"x": {{"type": "categorical", "values": {text}}}}}}}')
    assert _list(schema) == UNQUOTED[text]


def test_what_refers_to_a_code_is_spelled_like_it() -> None:
    """What other and constraints name is a code as in the list, however YAML would type it; numbers stay numbers."""
    schema = Schema.parse(
        """
        name: w
        columns:
          icd: {type: categorical, values: [250.00, 428, 1E5], other: 428, ordered: true}
          crp: {type: numeric, min: 1E0, max: 1.50E2, decimals: 1}
        constraints:
          - {when: {icd: 250.00}, forbid: {crp: {min: 1E2}}}
          - {when: {crp: {max: 2.50}}, require: {icd: [428, 1E5]}}
        """
    )
    assert schema.columns["icd"].other == "428"
    assert (schema.columns["crp"].min, schema.columns["crp"].max) == (1, 150)
    assert schema.constraints[0].when == {"icd": "250.00"}
    assert schema.constraints[0].forbid["crp"].min == 100
    assert schema.constraints[1].require == {"icd": ("428", "1E5")}


def test_a_closed_list_of_numbers_matches_every_type(tmp_path: Path) -> None:
    """4 of the schema is 4.0 of a float column, 4.00 of text, and comes out as 4; 428.0 comes out as 428.0."""
    schema = _schema([1, 2, 4])  # type: ignore[list-item]
    codec = Codec(schema)
    for values in ([1.0, 4.0], ["1.0", " 4.00 "], [1, 4], pd.array([1, 4], "Int8"), np.array([1, 4], np.float32)):
        codes = codec.encode(Cohort.from_pandas(pd.DataFrame({"x": values, "y": True}), schema))["x"]
        assert codes.tolist() == [0, 2]
    for text in ("1_0", "\uff11", "0x1"):
        with pytest.raises(DataError, match="column 'x'"):
            Cohort.from_pandas(pd.DataFrame({"x": [text], "y": True}), schema)
    for values, texts in (([428.0, 401.9], ["428.0", "401.9"]), ([428.0, "V58"], ["428.0", "V58"])):
        codec = Codec(_schema(values))  # type: ignore[arg-type]
        codec.decode({"x": np.arange(2), "y": np.zeros(2, int)}, np.random.default_rng(0)).write(tmp_path / "out.csv")
        assert _written(tmp_path / "out.csv") == texts


def test_codes_by_their_name(tmp_path: Path) -> None:
    """A column that is called a code holds no measurements, however many there are; labs stay numbers."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "icd9_code": rng.choice([f"{number / 10:.1f}" for number in range(2500, 2600)], 400),
            "cpt": rng.choice(np.arange(99_201, 99_231), 400),
            "zip": rng.choice(np.arange(10_115, 10_200), 400),
            "glucose": rng.normal(100, 20, 400).round(2),
            "potassium": [f"{value:.1f}" for value in rng.normal(4, 0.5, 400)],
            "viral_load": [f"{value:.2e}" for value in rng.lognormal(9, 2, 400)],
        }
    )
    frame.to_csv(tmp_path / "w.csv", index=False)
    schema = draft(tmp_path / "w.csv").schema
    columns, fields = schema.columns, schema.to_dict()["columns"]
    assert fields["icd9_code"]["discover"]
    assert fields["zip"]["discover"]
    assert all(isinstance(value, str) for value in fields["cpt"]["values"])
    assert {columns[name].type for name in ("glucose", "potassium", "viral_load")} == {"numeric"}
    assert len(Cohort.read(tmp_path / "w.csv", schema)) == 400


def test_codes_in_a_condition() -> None:
    """A condition of the command line finds a code as it is spelled, without quotes, and a number as it is meant."""
    codec = Codec(Schema.parse("{name: w, columns: {x: {type: categorical, values: [250.00, 428.0, 1E5]}}}"))
    for text, place in (("250.00", 0), ("428.0", 1), ("1E5", 2)):
        assert codec.where(parse_conditions([f"x == {text}"]))["x"].tolist() == [index == place for index in range(3)]
    codec = Codec(Schema.parse("{name: w, columns: {x: {type: numeric, min: 0, max: 9, decimals: 1}}}"))
    for text in ("x == 2.50", "x in [2.5, 2.50]"):
        assert codec.where(parse_conditions([text]))["x"].sum() == 1
    assert parse_conditions(["x >= 2.50"]) == {"x": {"min": 2.5}}
