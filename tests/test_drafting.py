"""Drafts: what is guessed from a file, that every guess is marked, and that nothing can be fitted with a draft."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import any_codes, schemas

from dpsynth.checking.check import check_data
from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.datasets import load_support2
from dpsynth.drafting.draft import draft, draft_schema
from dpsynth.drafting.guess import nice_above, nice_below
from dpsynth.errors import DataError, DpsynthError, FileError, SchemaError
from dpsynth.schema import Schema

ROWS = 200
RNG = np.random.default_rng(3)


@pytest.fixture
def frame() -> pd.DataFrame:
    """Return a table with a column of each kind."""
    return pd.DataFrame(
        {
            "pid": [f"P{index % 90:03d}" for index in range(ROWS)],
            "age": RNG.integers(21, 97, ROWS),
            "lab": [None if index % 7 == 0 else round(0.13 * 1.03**index, 3) for index in range(ROWS)],
            "bmi": np.round(RNG.uniform(17, 41, ROWS), 5),
            "sex": RNG.choice(["female", "male"], ROWS),
            "grade": RNG.choice([1, 2, 3], ROWS),
            "flag": RNG.choice([0.0, 1.0, np.nan], ROWS),
            "answer": RNG.choice(["no", "yes"], ROWS),
            "code": [f"{index % 60:04d}" for index in range(ROWS)],
            "day": pd.date_range("1999-03-05", periods=ROWS).strftime("%d.%m.%Y"),
            "seen": pd.date_range("1999-03-05", periods=ROWS, freq="7h").strftime("%Y-%m-%d %H:%M:%S"),
            "note": [f"free text number {index}" for index in range(ROWS)],
            "empty": [None] * ROWS,
            "const": ["x"] * ROWS,
            "odd": RNG.choice(["5", "6", "7", "8", "9", "10", "?"], ROWS),
        }
    )


@pytest.fixture
def path(frame: pd.DataFrame, tmp_path: Path) -> Path:
    """Return the table as a CSV file."""
    frame.to_csv(tmp_path / "ward.csv", index=False)
    return tmp_path / "ward.csv"


KINDS = {
    "pid": {"type": "identifier"},
    "age": {"type": "numeric", "min": 20, "max": 100},
    "sex": {"type": "categorical", "values": ["female", "male"]},
    "grade": {"type": "categorical", "values": [1, 2, 3]},
    "flag": {"type": "boolean", "missing": True, "labels": [0, 1]},
    "answer": {"type": "boolean", "labels": ["no", "yes"]},
    "code": {"type": "categorical", "discover": True, "max_values": 60},
    "day": {"type": "datetime", "min": "1999-01-01", "max": "1999-12-31", "format": "%d.%m.%Y"},
    "seen": {
        "type": "datetime",
        "min": "1999-01-01",
        "max": "1999-12-31T23:59:59",
        "format": "%Y-%m-%d %H:%M:%S",
    },
    "note": {"type": "identifier"},
    "empty": {"type": "categorical", "missing": True, "discover": True, "max_values": 10},
    "const": {"type": "categorical", "values": ["x"]},
    "odd": {"type": "numeric", "missing": True, "min": 5, "max": 10},
}


def _without_order(value: Any) -> Any:
    return {key: _without_order(item) for key, item in sorted(value.items())} if isinstance(value, dict) else value


@pytest.mark.parametrize("name", KINDS)
def test_kinds_are_guessed(path: Path, name: str) -> None:
    """Identifiers, numbers, categories, booleans and dates are told apart."""
    assert _without_order(draft_schema(path).to_dict()["columns"][name]) == _without_order(KINDS[name])


def test_scales_and_decimals_are_guessed(path: Path) -> None:
    """A wide positive range is a log scale; digits that no one needs are left out."""
    columns = draft_schema(path).to_dict()["columns"]
    assert columns["lab"]["scale"] == "log"
    assert columns["lab"]["missing"]
    assert columns["bmi"]["decimals"] == 2


def test_low_values_of_a_log_scale_keep_their_digits(tmp_path: Path) -> None:
    """A draft of a wide positive range clips and rounds none of its own low values by much."""
    pd.DataFrame({"lab": [0.12, 0.17, 1.37, 12.44, 99.91] * 9}).to_csv(tmp_path / "ward.csv", index=False)
    checked = check_data(tmp_path / "ward.csv", draft_schema(tmp_path / "ward.csv"))
    assert checked.columns[0].below == 0
    assert checked.faults == ()


def test_the_patient_column_is_proposed(path: Path) -> None:
    """The first identifier is proposed as the patient, with a limit on its rows."""
    schema = draft_schema(path)
    assert (schema.patient, schema.max_rows_per_patient) == ("pid", 3)


def test_a_draft_is_not_confirmed(path: Path) -> None:
    """A draft is refused until a person has confirmed it."""
    with pytest.raises(SchemaError, match="not confirmed"):
        draft_schema(path).check_confirmed()
    with pytest.raises(SchemaError, match="not confirmed"):
        Schema.parse(draft(path).to_yaml()).check_confirmed()


def test_the_text_warns_and_reads_back(path: Path) -> None:
    """The YAML text says that it is private, marks what came from the data, and gives the same schema back."""
    found = draft(path)
    text = found.to_yaml()
    assert Schema.parse(text) == found.schema
    assert Schema.parse(text).to_dict() == found.schema.to_dict()
    assert "private data" in text.splitlines()[0]
    assert "confirmed: false" in text
    lines = {line.strip().partition(":")[0]: line for line in text.splitlines()}
    assert "# from data: min, max" in lines["age"]
    assert "# from data: values" in lines["sex"]
    assert "missing" in lines["lab"].partition("#")[2]
    assert "patient" in lines["pid"].partition("#")[2]


def test_the_file_keeps_its_draft(path: Path) -> None:
    """The file that a schema was drafted from can be read under it."""
    schema = draft_schema(path)
    assert len(Cohort.read(path, schema)) == ROWS


def test_parquet_gives_the_same_draft(path: Path, tmp_path: Path) -> None:
    """A Parquet file of the same table is drafted in the same way."""
    pd.read_csv(path, dtype={"code": "str", "odd": "str"}, keep_default_na=True).to_parquet(tmp_path / "ward.parquet")
    assert draft_schema(tmp_path / "ward.parquet").to_dict() == draft_schema(path).to_dict()


def test_support2_is_drafted(tmp_path: Path) -> None:
    """A draft of SUPPORT2 reads SUPPORT2, and finds its identifier and target."""
    cohort = load_support2()
    cohort.write(tmp_path / "support2.csv")
    found = draft(tmp_path / "support2.csv")
    assert found.schema.patient == "sno"
    assert found.schema.columns["hospdead"].type == "boolean"
    assert len(Cohort.read(tmp_path / "support2.csv", found.schema)) == 9105


@given(schemas(), st.integers(0, 2**31))
@settings(max_examples=40)
def test_any_cohort_can_be_drafted(tmp_path_factory: Any, schema: Schema, seed: int) -> None:
    """A table of any schema can be drafted and read under its draft, or the fault is named."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("draft")
    for ending in ("csv", "parquet"):
        path = folder / f"ward.{ending}"
        cohort = Codec(schema).decode(any_codes(Codec(schema), 30, rng), rng)
        cohort.write(path)
        try:
            found = draft(path)
        except DpsynthError as error:
            assert error.exit_code == 2  # noqa: PT017  (either outcome is allowed, this is the condition of one)
            continue
        assert Schema.parse(found.to_yaml()).to_dict() == found.schema.to_dict()
        empty = ending == "csv" and len(schema.modelled) > 1  # a row of separators alone is no patient of a CSV file
        rows = int(cohort.to_pandas().notna().any(axis=1).sum()) if empty else 30
        assert len(Cohort.read(path, found.schema)) == rows


@given(st.floats(1e-200, 1e12), st.booleans())
def test_nice_numbers_enclose(size: float, negative: bool) -> None:
    """A bound is rounded outward, by no more than half of the value."""
    value = -size if negative else size
    slack = 1e-6 * size
    assert 0 <= nice_above(value) - value + slack <= size / 2
    assert 0 <= value - nice_below(value) + slack <= size / 2


FAULTS = {
    "nothing": (b"", DataError, "empty"),
    "header alone": (b"a,b\n", DataError, "no rows"),
    "no header": (b"Jane-Doe,70,1.5,3\nJ,71,1.5,3\n", DataError, "looks like a row"),
    "names twice": (b"a,b,a\n1,2,3\n", DataError, "columns 1 and 3"),
    "ragged": (b"a,b\n1,Jane-Doe,3\n", DataError, "more or fewer cells"),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00", DataError, "binary"),
    "only names of people": (b"surname_id\nJane-Doe\n", SchemaError, "identifier"),
}


@pytest.mark.parametrize(("content", "kind", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_files_that_cannot_be_drafted(tmp_path: Path, content: bytes, kind: type[Exception], words: str) -> None:
    """A file that is no table ends with a message that holds no value."""
    (tmp_path / "ward.csv").write_bytes(content)
    with pytest.raises(kind, match=words) as caught:
        draft(tmp_path / "ward.csv")
    assert "Jane" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A path that cannot be read ends with FileError."""
    with pytest.raises(FileError):
        draft(tmp_path / "none.csv")
