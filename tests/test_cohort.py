"""Reading, checking and writing cohorts."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import any_codes, schemas

from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.columns.matching import canonical_text
from dpsynth.errors import DataError, FileError, InputError
from dpsynth.schema import Schema

PATIENT = "Jane-Doe-4711"
"""Stands in every faulty cell; no message may hold it."""

WARD = """
name: ward
patient: id
columns:
  id:   {type: identifier}
  age:  {type: numeric, min: 18, max: 110}
  sex:  {type: categorical, values: [female, male]}
  code: {type: categorical, values: [1, 2, 3], missing: true}
  ans:  {type: categorical, values: [no, yes], other: missing, missing: true}
  died: {type: boolean, labels: [0, 1]}
  day:  {type: datetime, min: 1989-01-01, max: 1994-12-31}
drop: [note]
"""
HEADER = "id,age,sex,code,ans,died,day\n"
GOOD = "p1,70,male,1,no,0,1990-05-01\n"


def _schema(text: str = WARD) -> Schema:
    return Schema.parse(text)


def _read(tmp_path: Path, content: str | bytes, schema: Schema | None = None, **options: Any) -> Cohort:
    path = tmp_path / "ward.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Cohort.read(path, schema or _schema(), **options)


def _values(cohort: Cohort, name: str) -> list[Any]:
    return cohort.plain_table()[name].to_pylist()


FAULTS: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "undeclared column": (f"{HEADER[:-1]},surname\n{GOOD[:-1]},{PATIENT}\n", ("'surname'", "drop")),
    "misspelt column": ("id,aeg,sex,code,ans,died,day\n" + GOOD, ("'age'", "did you mean 'aeg'")),
    "declared column not there": (
        "id,sex,code,ans,died,day\np1,male,1,no,0,1990-05-01\n",
        ("'age'", "not in the data"),
    ),
    "identifier not there": ("age,sex,code,ans,died,day\n70,male,1,no,0,1990-05-01\n", ("'id'",)),
    "text in a number": (HEADER + GOOD + GOOD.replace("70", PATIENT), ("'age'", "numeric")),
    "category outside the list": (HEADER + GOOD + GOOD.replace("male", PATIENT), ("'sex'", "closed list")),
    "number outside the list": (HEADER + GOOD.replace(",1,", ",7,"), ("'code'", "closed list")),
    "neither label": (HEADER + GOOD.replace(",0,", f",{PATIENT},"), ("'died'", "closed list")),
    "no date": (HEADER + GOOD.replace("1990-05-01", PATIENT), ("'day'", "%Y-%m-%d")),
    "no such day": (HEADER + GOOD.replace("1990-05-01", "1990-02-30"), ("'day'", "date")),
    "missing where not declared": (HEADER + GOOD + GOOD.replace("70", ""), ("'age'", "missing: true")),
    "missing category": (HEADER + GOOD + GOOD.replace("male", "NA"), ("'sex'", "missing: true")),
    "a row without a patient": (HEADER + GOOD + GOOD.replace("p1", " "), ("'id'", "no patient")),
    "header alone": (HEADER, ("no rows",)),
    "nothing": ("", ("empty",)),
    "blank": ("\n\n", ("empty",)),
    "blank first line": ("\n" + HEADER + GOOD, ("blank",)),
    "column twice": ("id,age,age,sex,code,ans,died,day\n" + GOOD, ("'age'", "twice")),
    "column without a name": (HEADER[:-1] + ",\n" + GOOD, ("no name",)),
    "longer row": (HEADER + GOOD + f"p2,70,male,1,no,0,1990-05-01,{PATIENT}\n", ("more or fewer cells",)),
    "shorter row": (HEADER + GOOD + f"{PATIENT},70\n", ("more or fewer cells",)),
    "semicolons": ((HEADER + GOOD).replace(",", ";"), ("semicolons",)),
    "tabs": ((HEADER + GOOD).replace(",", "\t"), ("tabs",)),
    "Latin-1": ((HEADER + GOOD.replace("male", "mâle")).encode("latin-1"), ("UTF-8",)),
    "Latin-1 header": (HEADER.replace("sex", "sèxe").encode("latin-1"), ("UTF-8",)),
    "UTF-16 without a mark": ((HEADER + GOOD).encode("utf-16-le"), ("UTF-16", "--encoding utf-16-le")),
    "Excel": (b"PK\x03\x04" + PATIENT.encode(), ("Excel",)),
    "gzip": (b"\x1f\x8b\x08" + bytes(30), ("gzip",)),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(64), ("binary",)),
    "a cut Parquet": (b"PAR1" + bytes(64), ("Parquet",)),
    "another table": (f"name,ward\n{PATIENT},3\n", ("right file",)),
    "no header": (f"{PATIENT},70,male,1,no,0,1990-05-01\n" + GOOD, ("right file",)),
    "no header, values twice": (f"{PATIENT},{PATIENT},male,1,no,0,1990-05-01\n" + GOOD, ("columns 1 and 2",)),
    "a schema": (WARD, ("ward.csv",)),
    "unclosed quote": (HEADER + GOOD + f'"{PATIENT},70,male,1,no,0,1990-05-01\n', ("ward.csv",)),
}


@pytest.mark.parametrize(("content", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_faulty_files(tmp_path: Path, content: str | bytes, words: tuple[str, ...]) -> None:
    """A file that is not what the schema says is refused: the column and the fault are named, no value is echoed."""
    with pytest.raises(InputError) as caught:
        _read(tmp_path, content)
    for word in words:
        if word != "ward.csv" or "column" not in str(caught.value):
            assert word in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert PATIENT not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_no_error_tells_how_many(tmp_path: Path) -> None:
    """A message is the same whether one row or many are at fault."""
    messages = []
    for faulty in (1, 7):
        with pytest.raises(DataError) as caught:
            _read(tmp_path, HEADER + GOOD + GOOD.replace("70", "") * faulty)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """A path that cannot be read ends with FileError, which is an OSError, too."""
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(FileError):
            Cohort.read(path, _schema())
        with pytest.raises(OSError, match=r"read|folder"):
            Cohort.read(path, _schema())


def test_a_cohort_is_typed_by_its_schema(tmp_path: Path) -> None:
    """Types and order of the columns come from the schema; values are matched as they are written."""
    first = '1990-05-01,male,"a,\n""b""",007,70,1.0,no,1\n'
    second = "1991-01-31,female,,7,71.5, 3 ,,0\n"
    cohort = _read(tmp_path, "day,sex,note,id,age,code,ans,died\n" + first + second)
    assert cohort.columns == ("id", "age", "sex", "code", "ans", "died", "day")
    assert _values(cohort, "id") == ["007", "7"]
    assert _values(cohort, "age") == [70.0, 71.5]
    assert _values(cohort, "code") == [1, 3]
    assert _values(cohort, "ans") == ["no", None]
    assert _values(cohort, "died") == [1, 0]
    assert [str(day) for day in _values(cohort, "day")] == ["1990-05-01", "1991-01-31"]
    assert cohort.patients().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("[false, true]", ["false", "TRUE", "0", "1", "no", "Yes", "f", "T", "n", "y", "0.0"]),
        ("[0, 1]", ["0", "1.0", "false", "True", "n", "yes"]),
        ("[f, t]", ["f", "T"]),
        ("[no, yes]", ["no", "YES"]),
        ("[1, 2]", ["1", "2.0"]),
        ("[yes, no]", ["yes", "no"]),
    ],
)
def test_ways_to_write_a_boolean(tmp_path: Path, labels: str, words: list[str]) -> None:
    """A boolean is read in the usual spellings; every second word here means true."""
    schema = Schema.parse(f"{{name: x, columns: {{a: {{type: boolean, labels: {labels}}}, b: {{type: boolean}}}}}}")
    cohort = _read(tmp_path, "a,b\n" + "".join(f"{word},1\n" for word in words), schema)
    codes = Codec(schema).encode(cohort)["a"].tolist()
    expected = [1 if word.casefold() in ("true", "1", "1.0", "yes", "t", "y") else 0 for word in words]
    if labels in ("[1, 2]", "[yes, no]"):
        expected = [0, 1]
    assert codes == expected


def test_missing_values(tmp_path: Path) -> None:
    """Empty cells and the declared spellings are missing, unless the spelling is a declared category."""
    schema = Schema.parse(
        "{name: x, missing_values: ['?', NA], columns: {a: {type: numeric, min: 0, max: 9, missing: true}, "
        "b: {type: categorical, values: [NA, x], missing: true}, c: {type: datetime, min: 1990-01-01, max: 1991-01-01, "
        "missing: true}}}"
    )
    cohort = _read(tmp_path, "a,b,c\n?,?,?\n,NA,NA\n1,x,\nNA,,1990-01-02\nnan,x,?\n", schema)
    assert _values(cohort, "a") == [None, None, 1, None, None]
    assert _values(cohort, "b") == [None, "NA", "x", None, "x"]
    assert [value is None for value in _values(cohort, "c")] == [True, True, True, False, True]


def test_values_outside_a_list_become_what_the_schema_says(tmp_path: Path) -> None:
    """Other values are an error, missing, or a declared category."""
    for other, expected in (("missing", None), ("x", "x")):
        schema = Schema.parse(
            f"{{name: x, columns: {{a: {{type: categorical, values: [x, y], missing: true, other: {other}}}, "
            "b: {type: boolean}}}"
        )
        assert _values(_read(tmp_path, f"a,b\n{PATIENT},0\ny,0\n", schema), "a") == [expected, "y"]


AWKWARD = [
    "a b",
    'say "x"',
    "2020",
    "größe",
    "no",
    "a,b",
    "=1+1",
    "'",
    "null",
    "ID.1",
    "x:y",
    "#",
    "{}",
    "名前",
    "a\N{NO-BREAK SPACE}b",
]


def test_awkward_column_names(tmp_path: Path) -> None:
    """Names with blanks, quotes, commas, unicode and leading digits are read, coded, decoded and written."""
    columns = {name: {"type": "numeric", "min": 0, "max": 9} for name in AWKWARD}
    schema = Schema.parse(Schema.parse({"name": "x", "columns": columns}).to_yaml())
    frame = pd.DataFrame({name: [index % 10, 3] for index, name in enumerate(AWKWARD)})
    frame.to_csv(tmp_path / "in.csv", index=False)
    cohort = Cohort.read(tmp_path / "in.csv", schema)
    codec = Codec(schema)
    decoded = codec.decode(codec.encode(cohort), np.random.default_rng(0))
    for ending in ("csv", "parquet"):
        decoded.write(tmp_path / f"out.{ending}")
        again = Cohort.read(tmp_path / f"out.{ending}", schema)
        assert again.columns == tuple(AWKWARD)
        pd.testing.assert_frame_equal(again.to_pandas(), frame, check_dtype=False)


@given(schemas(), st.integers(0, 2**31), st.sampled_from(["csv", "parquet"]))
@settings(max_examples=40)
def test_written_cohorts_read_back(tmp_path_factory: Any, schema: Schema, seed: int, ending: str) -> None:
    """A synthetic cohort of any schema that is written and read again has the same columns, types and values."""
    rng = np.random.default_rng(seed)
    cohort = Codec(schema).decode(any_codes(Codec(schema), 40, rng), rng)
    path = tmp_path_factory.mktemp("cohort") / f"out.{ending}"
    cohort.write(path)
    again = Cohort.read(path, schema, synthetic=True)
    assert again.columns == cohort.columns
    assert again.plain_table().equals(cohort.plain_table())
    assert [leftover.name for leftover in path.parent.iterdir()] == [path.name]


@given(schemas(), st.integers(0, 2**31))
@settings(max_examples=40)
def test_pandas_round_trip(schema: Schema, seed: int) -> None:
    """A cohort that goes through pandas is the same: its codes do not change."""
    rng = np.random.default_rng(seed)
    codec = Codec(schema)
    codes = any_codes(codec, 30, rng)
    again = codec.encode(Cohort.from_pandas(codec.decode(codes, rng).to_pandas(), schema))
    for name, array in codes.items():
        np.testing.assert_array_equal(again[name], array)


def test_frames_of_many_types() -> None:
    """A data frame may hold categories as objects, integers as floats, and dates as text or datetimes."""
    frame = pd.DataFrame(
        {
            "id": [1, 2, 1],
            "age": pd.array([70, 71, 72], dtype="Int64"),
            "sex": pd.Categorical(["male", "female", "male"]),
            "code": pd.Series([1.0, np.nan, 3]),
            "ans": pd.Series(["no", None, True], dtype=object),
            "died": [True, False, True],
            "day": pd.to_datetime(["1990-01-01", "1990-01-02", "1994-01-02"]),
            "note": [1, 2, 3],
        }
    )
    cohort = Cohort.from_pandas(frame, _schema())
    assert cohort.patients().tolist() == [0, 1, 0]
    assert _values(cohort, "code") == [1, None, 3]
    assert _values(cohort, "ans") == ["no", None, None]
    assert _values(cohort, "died") == [1, 0, 1]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("age", [PATIENT]),
        ("age", [True]),
        ("age", [[1.0]]),
        ("sex", [["male"]]),
        ("sex", [b"male"]),
        ("day", [3.5]),
        ("day", ["1990-01-01T00:00:00 Europe/Berlin"]),
        ("day", [timedelta(days=7305)]),
        ("day", [True]),
        ("died", [PATIENT]),
        ("died", [2]),
    ],
)
def test_values_of_another_type(tmp_path: Path, column: str, values: Any) -> None:
    """A Parquet column or data frame of another type is refused by its name, without a value."""
    good = {"id": ["p1"], "age": [70], "sex": ["male"], "code": [1], "ans": ["no"], "died": [0], "day": ["1990-05-01"]}
    frame = pd.DataFrame({**good, column: values})
    frame.to_parquet(tmp_path / "ward.parquet")
    for read in (
        lambda: Cohort.read(tmp_path / "ward.parquet", _schema()),
        lambda: Cohort.from_pandas(frame, _schema()),
    ):
        with pytest.raises(DataError, match=f"column '{column}'") as caught:
            read()
        assert PATIENT not in str(caught.value)


def test_numbers_as_text_in_parquet(tmp_path: Path) -> None:
    """Numbers and categories that Parquet holds as text or dictionaries are read as what they are declared."""
    table = pa.table(
        {
            "id": pa.array(["b", "a", "b"]).dictionary_encode(),
            "age": pa.array(["70", " 71 ", "72.5"]),
            "sex": pa.array(["male", "female", "male"]).dictionary_encode(),
            "code": pa.array(["1", "", None]),
            "ans": pa.array(["no", "yes", "x"], pa.large_string()),
            "died": pa.array([0, 1, 0], pa.int8()).dictionary_encode(),
            "day": pa.array(["1990-01-01", "1990-01-01 12:00:00", "1994-01-02"]),
        }
    )
    pq.write_table(table, tmp_path / "ward.dat")
    cohort = Cohort.read(tmp_path / "ward.dat", _schema())
    assert _values(cohort, "age") == [70, 71, 72.5]
    assert _values(cohort, "code") == [1, None, None]
    assert cohort.patients().tolist() == [0, 1, 0]
    assert cohort.take([2, 1]).patients().tolist() == [0, 1]


def test_dates_far_away_are_read(tmp_path: Path) -> None:
    """A date that stands for never (9999-12-31) is read, to be clipped where it is coded."""
    schema = Schema.parse(
        "{name: x, columns: {a: {type: datetime, min: 1990-01-01, max: 1991-01-01}, b: {type: boolean}}}"
    )
    cohort = _read(tmp_path, "a,b\n9999-12-31,0\n1066-10-14,1\n", schema)
    codec = Codec(schema)
    assert codec.encode(cohort)["a"].tolist() == [codec.columns["a"].size - 1, 0]


def test_dates_in_another_format(tmp_path: Path) -> None:
    """Dates are read and written in the declared format."""
    schema = Schema.parse(
        "{name: x, columns: {a: {type: datetime, min: 1990-01-01, max: 1991-01-01, format: '%d.%m.%Y', missing: true}, "
        "b: {type: datetime, min: 1990-01-01, max: 1991-01-01, format: '%d/%m/%Y %H:%M'}}}"
    )
    text = "a,b\n31.01.1990,01/02/1990 13:45\n,02/01/1990 00:00\n"
    cohort = _read(tmp_path, text, schema)
    assert str(_values(cohort, "b")[0]) == "1990-02-01 13:45:00"
    cohort.write(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == text
    with pytest.raises(DataError, match=r"%d\.%m\.%Y"):
        _read(tmp_path, text.replace("31.01.1990", "1990-01-31"), schema)


def test_repr_holds_no_data(tmp_path: Path) -> None:
    """What a cohort prints has the columns, and the number of rows only where the data are public."""
    private = _read(tmp_path, HEADER + GOOD * 7)
    assert repr(private) == "Cohort('ward': columns id, age, sex, code, ans, died, day)"
    assert "7 rows" in repr(_read(tmp_path, HEADER + GOOD * 7, public=True))
    assert "p1" not in repr(private) + str(private)


def test_a_cohort_is_frozen(tmp_path: Path) -> None:
    """A cohort's fields cannot be set."""
    with pytest.raises(AttributeError):
        _read(tmp_path, HEADER + GOOD).public = True  # type: ignore[misc]


def test_synthetic_cohorts_need_no_identifier(tmp_path: Path) -> None:
    """A synthetic cohort may leave identifiers out; every row is then a patient."""
    cohort = _read(tmp_path, "age,sex,code,ans,died,day\n70,male,1,no,0,1990-05-01\n" * 1, synthetic=True)
    assert cohort.patients().tolist() == [0]
    assert cohort.synthetic


def test_take(tmp_path: Path) -> None:
    """Rows are taken by number or by mask, and keep their types."""
    cohort = _read(tmp_path, HEADER + "".join(GOOD.replace("70", str(age)) for age in range(20, 30)))
    assert _values(cohort.take([3, 3, 0]), "age") == [23, 23, 20]
    assert _values(cohort.take(np.arange(10) % 5 == 0), "age") == [20, 25]
    assert len(cohort.take([])) == 0


def test_a_part_declares_no_rows(tmp_path: Path) -> None:
    """The public number of rows is that of the whole cohort: a part, such as a training split, declares none."""
    cohort = _read(tmp_path, HEADER + GOOD, _schema(WARD.replace("patient: id", "patient: id\nrows: 1")))
    assert cohort.schema.rows == 1
    assert cohort.take([0]).schema.rows is None
    assert cohort.schema.rows == 1


def test_formulas_are_guarded_on_demand(tmp_path: Path) -> None:
    """Text that a spreadsheet would run is disarmed where that is asked for; negative numbers stay numbers."""
    schema = Schema.parse(
        "{name: x, columns: {a: {type: categorical, values: ['=1+1', '@x', '-', plain, '+']}, "
        "b: {type: numeric, min: -9, max: 9}, c: {type: categorical, values: [-1, 1]}}}"
    )
    cohort = _read(tmp_path, "a,b,c\n=1+1,-3,-1\n@x,2,1\nplain,-1,1\n", schema)
    cohort.write(tmp_path / "plain.csv")
    assert (tmp_path / "plain.csv").read_text() == "a,b,c\n=1+1,-3,-1\n@x,2,1\nplain,-1,1\n"
    cohort.write(tmp_path / "guarded.csv", guard_formulas=True)
    assert (tmp_path / "guarded.csv").read_text() == "a,b,c\n'=1+1,-3,-1\n'@x,2,1\nplain,-1,1\n"


def test_one_column_with_missing_values(tmp_path: Path) -> None:
    """A table of one column keeps its rows when its values are missing: no line is empty."""
    schema = Schema.parse("{name: x, columns: {a: {type: numeric, min: 0, max: 9, missing: true}}}")
    cohort = Cohort.from_pandas(pd.DataFrame({"a": [1.0, np.nan, 3.0, np.nan]}), schema)
    cohort.write(tmp_path / "out.csv")
    assert _values(Cohort.read(tmp_path / "out.csv", schema), "a") == [1, None, 3, None]


def test_write_refuses_other_endings_and_places(tmp_path: Path) -> None:
    """A cohort is written as .csv or .parquet into a folder that is there; nothing is left behind otherwise."""
    cohort = _read(tmp_path, HEADER + GOOD)
    with pytest.raises(FileError, match=r"\.csv or \.parquet"):
        cohort.write(tmp_path / "out.xlsx")
    with pytest.raises(FileError):
        cohort.write(tmp_path / "none" / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ward.csv"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full, the error says so and the old file is whole."""
    cohort = _read(tmp_path, HEADER + GOOD)
    (tmp_path / "out.csv").write_text("old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dpsynth.files.write_tables.write_csv", full)
    with pytest.raises(FileError, match="space"):
        cohort.write(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "ward.csv"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while writing leaves the old file and no temporary one."""
    cohort = _read(tmp_path, HEADER + GOOD)

    def interrupted(_: Any, path: Path, **__: Any) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr("dpsynth.files.write_tables.write_csv", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cohort.write(tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ward.csv"]


EDGES = {
    "one row": HEADER + GOOD,
    "one patient with every row": HEADER + GOOD * 50,
    "all missing": HEADER + "p1,70,male,,,0,1990-05-01\n" * 5,
    "constant": HEADER + GOOD * 3,
    "far outside": HEADER + GOOD.replace("70", "1e300") + GOOD.replace("70", "-1e300") + GOOD.replace("70", "inf"),
    "byte order mark": "\ufeff" + HEADER + GOOD,
    "carriage returns": (HEADER + GOOD).replace("\n", "\r\n"),
    "no last newline": (HEADER + GOOD)[:-1],
    "quoted": '"id","age","sex","code","ans","died","day"\n"p1","70","male","1","no","0","1990-05-01"\n',
}


CELLS = [
    7,
    7.0,
    np.float64(7),
    7.5,
    2**60,
    2**63,
    -(2**63),
    1e300,
    True,
    np.bool_(0),
    "7",
    "7.0",
    " x ",
    "",
    "NA",
    None,
]
CELLS += [np.nan, pd.NA, Decimal("7.00"), Decimal("7.50"), np.float32(0.1), 0.1, pd.Timestamp("2001-02-03 04:05")]
CELLS += [date(2001, 2, 3), datetime(2001, 2, 3, 4, 5), "2001-02-03", UUID(int=7)]
"""Values of which one decides the type of a column for pandas and Arrow."""
MIXED: dict[str, dict[str, Any]] = {
    "a closed list": {"type": "categorical", "values": ["7", "7.5", "true", "false", "x"], "other": "x"},
    "numbers": {"type": "categorical", "values": [7, 7.5, 8], "other": 8},
    "to be discovered": {"type": "categorical", "discover": True, "max_values": 9},
    "identifiers": {"type": "identifier"},
}


@pytest.mark.parametrize("column", MIXED.values(), ids=MIXED.keys())
@settings(max_examples=150, deadline=None)
@given(
    cells=st.lists(st.sampled_from(range(len(CELLS))), min_size=1, max_size=6),
    kind=st.sampled_from(["as it comes", "objects", "categories"]),
)
def test_a_cell_of_a_frame_is_read_by_itself(column: dict[str, Any], cells: list[int], kind: str) -> None:
    """A row reads as it does when it is alone, whatever the other rows of a frame hold and of which type they are."""
    wanted = column if column["type"] == "identifier" else {**column, "missing": True}
    schema = Schema.parse({"name": "w", "columns": {"x": wanted, "y": {"type": "boolean"}}})

    def read(values: list[Any]) -> list[str | None]:
        found = pd.Series(values, dtype=None if kind == "as it comes" else object)
        if kind == "categories":
            found = found.map(lambda cell: None if pd.isna(cell) else str(cell)).astype("category")
        cohort = Cohort.from_pandas(pd.DataFrame({"x": found, "y": True}), schema)
        return [None if value is None else canonical_text(value) for value in _values(cohort, "x")]

    values = [CELLS[cell] for cell in cells]
    assert read(values) == [read([value])[0] for value in values]


def test_clocks_do_not_depend_on_the_first_row() -> None:
    """A date without a clock time in the first row leaves the clock times of the others."""
    schema = Schema.parse(
        {
            "name": "w",
            "columns": {"x": {"type": "datetime", "min": "2000-01-01T00:00:00", "max": "2009-01-01T00:00:00"}},
        }
    )
    moments = [date(2001, 2, 3), pd.Timestamp("2001-02-03 04:05")]
    found = [
        _values(Cohort.from_pandas(pd.DataFrame({"x": pd.Series(order, dtype=object)}), schema), "x")
        for order in (moments, moments[::-1])
    ]
    assert found[0] == found[1][::-1] == [datetime(2001, 2, 3), datetime(2001, 2, 3, 4, 5)]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_identifiers_are_trimmed(tmp_path: Path, ending: str) -> None:
    """Blanks around an identifier, as around a category, make no further patient."""
    ids = ["P1", "P1 ", " P1", "P2", "\tP1"]
    frame = pd.DataFrame({"id": ids, "x": ["a", " a", "a ", "a", "a"]})
    schema = Schema.parse(
        "{name: w, patient: id, columns: {id: {type: identifier}, x: {type: categorical, values: [a]}}}"
    )
    path = tmp_path / f"ward.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    for cohort in (Cohort.read(path, schema), Cohort.from_pandas(frame, schema)):
        assert cohort.patients().tolist() == [0, 0, 0, 1, 0]
        assert _values(cohort, "id") == ["P1", "P1", "P1", "P2", "P1"]


@pytest.mark.parametrize("kind", ["int64", "float64", "float32", "string", "category"])
def test_identifiers_of_any_type_are_one(tmp_path: Path, kind: str) -> None:
    """A whole number names the same patient as integer, decimal number and text, in Parquet and in frames."""
    schema = Schema.parse("{name: w, patient: id, columns: {id: {type: identifier}, x: {type: boolean}}}")
    frame = pd.DataFrame({"id": pd.Series([7, 12, 7]).astype("str" if kind == "string" else kind), "x": True})
    frame.to_parquet(tmp_path / "ward.parquet")
    for cohort in (Cohort.read(tmp_path / "ward.parquet", schema), Cohort.from_pandas(frame, schema)):
        assert _values(cohort, "id") == ["7", "12", "7"]


def test_whole_numbers_are_read_alike_in_parquet(tmp_path: Path) -> None:
    """Codes that a file stores as decimal numbers, of either kind, are those that it would store as integers."""
    schema = Schema.parse("{name: w, columns: {x: {type: categorical, values: ['250', '401', '99.5'], missing: true}}}")
    for array in (
        pa.array([250, 401, None]),
        pa.array([250.0, 401.0, None]),
        pa.array([Decimal("250.00"), Decimal("401.00"), None]),
        pa.array(["250", "401", None]),
    ):
        pq.write_table(pa.table({"x": array}), tmp_path / "ward.parquet")
        assert _values(Cohort.read(tmp_path / "ward.parquet", schema), "x") == ["250", "401", None]


@pytest.mark.parametrize("value", [1e305, -1e308, float("inf"), float("-inf")])
def test_a_huge_value_is_coded_without_a_word(value: float) -> None:
    """No warning of numpy tells that somebody has a value which cannot be scaled; it counts as the end of the range."""
    schema = Schema.parse("{name: w, columns: {x: {type: numeric, min: 0, max: 1, decimals: 9}}}")
    cohort = Cohort.from_pandas(pd.DataFrame({"x": [0.5, value]}), schema)
    codes = Codec(schema).encode(cohort)["x"]
    assert codes[1] == (codes.max() if value > 0 else 0)
    assert 0 < codes[0] < Codec(schema).columns["x"].size - 1


@pytest.mark.parametrize("content", EDGES.values(), ids=EDGES.keys())
def test_odd_tables_that_work(tmp_path: Path, content: str) -> None:
    """Small, constant, extreme and oddly written tables are read, coded and decoded."""
    codec = Codec(_schema())
    cohort = _read(tmp_path, content)
    codes = codec.encode(cohort)
    again = codec.encode(codec.decode(codes, np.random.default_rng(0)))
    for name, array in codes.items():
        np.testing.assert_array_equal(again[name], array)


def test_far_outside_values_are_clipped(tmp_path: Path) -> None:
    """Numbers outside the public range, infinite ones too, are coded as the range's ends."""
    codec = Codec(_schema())
    codes = codec.encode(_read(tmp_path, EDGES["far outside"]))["age"]
    last = codec.columns["age"].size - 1
    assert codes.tolist() == [last, 0, last]


def test_ten_thousand_categories(tmp_path: Path) -> None:
    """10,000 categories are read and coded, and the codes fit in two bytes."""
    values = [f"code {index}" for index in range(10_000)]
    schema = Schema.parse({"name": "x", "columns": {"a": {"type": "categorical", "values": values}}})
    cohort = _read(tmp_path, "a\n" + "".join(f"{value}\n" for value in reversed(values)), schema)
    codes = Codec(schema).encode(cohort)["a"]
    assert codes.dtype == np.uint16
    assert codes.tolist() == list(range(9_999, -1, -1))


@given(st.binary(max_size=200) | st.text('abc,";\n\r\t 0159-.', max_size=200).map(str.encode))
@settings(max_examples=100)
def test_any_file_is_a_cohort_or_an_input_error(tmp_path_factory: Any, content: bytes) -> None:
    """Whatever bytes a file holds, reading it ends with a cohort or with an error of ours."""
    path = tmp_path_factory.mktemp("any") / "ward.csv"
    for start in (b"", HEADER.encode(), b"PAR1"):
        path.write_bytes(start + content)
        try:
            cohort = Cohort.read(path, _schema())
        except InputError as error:
            assert error.exit_code == 2  # noqa: PT017  (bytes that happen to be a table are no fault)
        else:
            assert set(cohort.columns) <= set(_schema().columns)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Reading and writing say nothing on the output streams."""
    _read(tmp_path, HEADER + GOOD).write(tmp_path / "out.parquet")
    assert capfd.readouterr() == ("", "")
