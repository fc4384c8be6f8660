"""Dates as files write them: one meaning in CSV, Parquet, frames and archives, and drafts that pass their own check."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.cohort.rows import constraint_violations
from dpsynth.drafting.draft import draft
from dpsynth.errors import DataError, SchemaError
from dpsynth.schema import Schema

MOMENTS = [datetime(2008, 12, 5, 14, 3, 9) + timedelta(days=11 * index, hours=5 * index) for index in range(70)]
DAYS = [datetime(moment.year, moment.month, moment.day) for moment in MOMENTS]


def _schema(**fields: Any) -> Schema:
    column = {"type": "datetime", "min": "2000-01-01", "max": "2020-12-31", **fields}
    return Schema.parse({"name": "w", "columns": {"x": column, "y": {"type": "boolean"}}})


def _read(values: Any, schema: Schema) -> list[Any]:
    cohort = Cohort.from_pandas(pd.DataFrame({"x": values, "y": True}), schema)
    return cohort.table["x"].to_pylist()


NUMBERS = {
    "%Y%m%d": [int(day.strftime("%Y%m%d")) for day in DAYS],
    "%d%m%Y": [int(day.strftime("%d%m%Y")) for day in DAYS],
    "%y%m%d": [int(day.strftime("%y%m%d")) for day in DAYS],
    "excel": [(day - datetime(1899, 12, 30)).days for day in DAYS],
    "unix": [int((day - datetime(1970, 1, 1)).total_seconds()) for day in DAYS],
    "unix_ms": [int((day - datetime(1970, 1, 1)).total_seconds()) * 10**3 for day in DAYS],
    "unix_us": [int((day - datetime(1970, 1, 1)).total_seconds()) * 10**6 for day in DAYS],
    "unix_ns": [int((day - datetime(1970, 1, 1)).total_seconds()) * 10**9 for day in DAYS],
}


@pytest.mark.parametrize("form", NUMBERS)
@pytest.mark.parametrize("kind", ["int64", "float64", "string", "object"])
def test_numbers_are_dates_by_the_declared_format(tmp_path: Path, form: str, kind: str) -> None:
    """The same numbers in a frame, CSV and Parquet, of any type, are the same days; without a format, refused."""
    frame = pd.DataFrame({"x": pd.Series(NUMBERS[form]).astype(kind), "y": True})
    frame.to_parquet(tmp_path / "w.parquet")
    frame.to_csv(tmp_path / "w.csv", index=False)
    for schema, expected in ((_schema(format=form), [day.date() for day in DAYS]), (_schema(), None)):
        for read in (
            lambda schema: Cohort.from_pandas(frame, schema),
            lambda schema: Cohort.read(tmp_path / "w.csv", schema),
            lambda schema: Cohort.read(tmp_path / "w.parquet", schema),
        ):
            if expected is None:
                with pytest.raises(DataError, match=r"column 'x'.*declare.*%Y%m%d.*excel.*unix_ms"):
                    read(schema)
            else:
                assert read(schema).table["x"].to_pylist() == expected


def test_a_number_with_a_fraction_is_no_digits() -> None:
    """20080131.5 is no day, infinity neither, and a day that does not exist neither."""
    for value in (20080131.5, float("inf"), 20080230, 2008013, -20080131, 200801310):
        with pytest.raises(DataError, match="column 'x'"):
            _read([value], _schema(format="%Y%m%d"))
    for form in ("excel", "unix_ms"):
        with pytest.raises(DataError, match="column 'x'"):
            _read([1.0, float("inf")], _schema(format=form))


def test_spreadsheets_count_a_day_that_was_not() -> None:
    """Serial 1 is 1 January 1900, 59 is 28 February, 61 is 1 March; parts of a day are its clock."""
    schema = _schema(min="1900-01-01T00:00:00", max="2020-12-31T00:00:00", format="excel")
    expected = [datetime(1900, 1, 1), datetime(1900, 2, 28), datetime(1900, 3, 1), datetime(2008, 12, 5, 18)]
    assert _read([1, 59, 61, 39787.75], schema) == expected


@pytest.mark.parametrize("form", ["excel", "unix", "unix_ms", "unix_ns", "%Y%m%d%H%M%S", "%d/%m/%y %H:%M:%S"])
def test_a_release_writes_dates_as_they_were_written(tmp_path: Path, form: str) -> None:
    """Days and moments are written to CSV in the declared format, and read back as they were."""
    fields = {"min": "2000-01-01T00:00:00", "max": "2020-12-31T00:00:00", "format": form}
    codec = Codec(_schema(**fields))
    made = codec.decode({name: np.arange(2) % 2 for name in codec.columns}, np.random.default_rng(0))
    made.write(tmp_path / "w.csv")
    assert Cohort.read(tmp_path / "w.csv", codec.schema).table["x"].equals(made.table["x"])
    assert form.startswith("%") or float((tmp_path / "w.csv").read_text().splitlines()[1].split(",")[0]) > 0


def test_a_format_that_is_none() -> None:
    """A misspelt name of a format is refused with the names there are."""
    with pytest.raises(SchemaError, match="unix_ms"):
        _schema(format="epoch")


ZONES = [
    ("2008-12-05T14:03:09Z", datetime(2008, 12, 5, 14, 3, 9)),
    ("2008-12-05 14:03:09+02:00", datetime(2008, 12, 5, 12, 3, 9)),
    ("2008-12-05T00:30:00+0200", datetime(2008, 12, 4, 22, 30)),
    ("2008-12-05T20:30-0530", datetime(2008, 12, 6, 2, 0)),
    ("2008-12-05 14:03:09.999", datetime(2008, 12, 5, 14, 3, 9)),
    ("2008-12-05 14", datetime(2008, 12, 5, 14)),
    ("2008-12-05", datetime(2008, 12, 5)),
    ("1969-12-31T23:59:58.5", datetime(1969, 12, 31, 23, 59, 58)),
]


def test_offsets_are_converted_to_utc_value_by_value(tmp_path: Path) -> None:
    """Text with offsets, with Z and without stand in one column; what has no offset is taken as it is written."""
    schema = _schema(min="1960-01-01T00:00:00", max="2020-12-31T00:00:00")
    texts, expected = [text for text, _ in ZONES], [moment for _, moment in ZONES]
    assert _read(texts, schema) == expected
    pd.DataFrame({"x": texts, "y": True}).to_csv(tmp_path / "w.csv", index=False)
    assert Cohort.read(tmp_path / "w.csv", schema).table["x"].to_pylist() == expected
    objects = pd.Series([pd.Timestamp(text) for text in texts], dtype=object)
    assert _read(objects, schema) == expected
    zoned = pd.to_datetime(pd.Series([f"{moment}Z" for moment in expected]), utc=True).dt.tz_convert("Asia/Kolkata")
    assert _read(zoned, schema) == expected
    pd.DataFrame({"x": zoned, "y": True}).to_parquet(tmp_path / "w.parquet")
    assert Cohort.read(tmp_path / "w.parquet", schema).table["x"].to_pylist() == expected


def test_offsets_in_a_format() -> None:
    """%z reads offsets and Z; a day with an offset, as XML has it, stays that day."""
    schema = _schema(format="%d.%m.%Y %H:%M%z", max="2020-12-31T00:00:00")
    texts = ["05.12.2008 00:30+0200", "05.12.2008 00:30Z", "05.12.2008 00:30-01:00"]
    assert [moment.hour for moment in _read(texts, schema)] == [22, 0, 1]
    assert _read(["2008-12-05+14:00"], _schema(format="%Y-%m-%d%z")) == [date(2008, 12, 5)]


def test_two_digits_of_a_year_are_of_the_century_between_the_bounds() -> None:
    """45 is 1945 in births up to 1990, and 2045 where only that is possible."""
    assert _read(["31.01.45"], _schema(min="1900-01-01", max="1990-12-31", format="%d.%m.%y")) == [date(1945, 1, 31)]
    assert _read(["31.01.75"], _schema(min="2050-01-01", max="2090-12-31", format="%d.%m.%y")) == [date(2075, 1, 31)]


def test_moments_among_text_keep_their_meaning() -> None:
    """Dates of Python, pandas and NumPy among text in a declared format are the days that they are."""
    values = [date(2001, 3, 2), "2001-02-03", pd.Timestamp("2001-03-02 13:00"), np.datetime64("2001-03-02"), None]
    schema = _schema(format="%Y-%d-%m", missing=True)
    assert _read(pd.Series(values, dtype=object), schema) == [date(2001, 3, 2)] * 4 + [None]


def test_dates_far_away_do_not_wrap_around() -> None:
    """Counts that no calendar reaches are the ends of the range, not a day in between."""
    schema = _schema(format="unix_ms", min="2000-01-01T00:00:00")
    codes = Codec(schema).encode(Cohort.from_pandas(pd.DataFrame({"x": [-1e300, 1e18, 1e300], "y": True}), schema))["x"]
    assert codes.tolist() == [0, codes.max(), codes.max()]
    frame = pd.DataFrame({"x": np.array([2**55, -(2**55)], "datetime64[s]"), "y": True})
    codes = Codec(_schema()).encode(Cohort.from_pandas(frame, _schema()))["x"]
    assert codes.tolist() == [codes.max(), 0]


SPELLINGS = (
    """
%Y-%m-%d|%Y/%m/%d|%Y.%m.%d|%d.%m.%Y|%d/%m/%Y|%m/%d/%Y|%d-%m-%Y|%m-%d-%Y|%Y%m%d|%d%m%Y
%d.%m.%y|%d/%m/%y|%m/%d/%y|%m-%d-%y|%d %b %Y|%d-%b-%Y|%d%b%Y|%d-%b-%y|%b %d, %Y|%B %d, %Y|%d %B %Y
%Y-%m-%d %H:%M:%S|%Y-%m-%dT%H:%M:%S|%Y-%m-%d %H:%M|%Y-%m-%dT%H:%M:%S.%f|%Y-%m-%dT%H:%M:%SZ|%Y-%m-%d %H:%M:%S+02:00
%Y-%m-%dT%H:%M:%S-0530|%d.%m.%Y %H:%M|%m/%d/%Y %I:%M %p|%m/%d/%Y %I:%M:%S %p|%d%b%Y:%H:%M:%S|%d/%m/%Y %H:%M:%S.%f
%d.%m.%Y %H:%M:%S+01:00|%Y%m%d%H%M%S|%Y-%m-%d %H:%M:%S.%f+00:00
""".strip()
    .replace("\n", "|")
    .split("|")
)
OTHERS: dict[str, list[Any]] = {
    "mixed offsets": [text for text, _ in ZONES] * 4,
    "day or moment": ["2008-12-05", "2009-01-05 10:00", "2009-01-05T10:00:00.5"] * 5,
    "one-digit days": [f"{day.day}.{day.month}.{day.year}" for day in DAYS],
    "admission_date": NUMBERS["excel"],
    "event_time": NUMBERS["unix"],
    "created_at": NUMBERS["unix_ms"],
    "timestamp": NUMBERS["unix_us"],
    "time_stamp": NUMBERS["unix_ns"],
    "some holes": [day.strftime("%d.%m.%Y") if day.day % 3 else None for day in DAYS],
    "floats": [float(number) if number % 3 else None for number in NUMBERS["%Y%m%d"]],
    "days": [day.date() for day in DAYS],
    "Timestamps": list(pd.Series(MOMENTS)),
    "zones": list(pd.Series(MOMENTS).dt.tz_localize("Europe/Berlin")),
    "periods": list(pd.Series(DAYS).dt.to_period("D")),
}
FILES = {**{spelling: [moment.strftime(spelling) for moment in MOMENTS] for spelling in SPELLINGS}, **OTHERS}


@pytest.mark.parametrize("spelling", FILES)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_draft_of_dates_passes_its_own_check(tmp_path: Path, spelling: str, ending: str) -> None:
    """Whatever way dates are written in, they are drafted as dates, and the file keeps the schema drafted from it."""
    name = spelling if spelling.isidentifier() else "seen"
    frame = pd.DataFrame({name: pd.Series(FILES[spelling]), "n": range(len(FILES[spelling]))})
    path = tmp_path / f"w.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    schema = draft(path).schema
    assert schema.columns[name].type == "datetime"
    cohort = Cohort.read(path, schema)
    expected = DAYS if len(FILES[spelling]) == len(DAYS) and "holes" not in spelling and spelling != "floats" else None
    if expected is not None:
        for moment, value in zip(expected, cohort.table[name].to_pylist(), strict=True):
            assert abs(pd.Timestamp(value) - pd.Timestamp(moment)) < pd.Timedelta(days=2)


def test_schema_draft_and_check_of_dates(tmp_path: Path) -> None:
    """As a person does it: draft, then check the same file, at the command line."""
    columns = {spelling.replace("%", ""): FILES[spelling] for spelling in SPELLINGS}
    pd.DataFrame(columns).to_csv(tmp_path / "w.csv", index=False)
    run = CliRunner().invoke
    done = run(app, ["schema", "draft", str(tmp_path / "w.csv"), "--out", str(tmp_path / "w.yaml")])
    assert done.exit_code == 0, done.output
    done = run(app, ["schema", "check", str(tmp_path / "w.yaml"), "--data", str(tmp_path / "w.csv")])
    assert done.exit_code == 0, done.output
    assert "datetime" in done.output


def test_a_draft_says_what_may_be_meant_otherwise(tmp_path: Path) -> None:
    """Day and month that could be exchanged are noted, and those that could not are not; so are two-digit years."""
    columns = {"a": ["01/02/2008", "03/04/2009"], "b": ["13/02/2008", "01/02/2009"], "c": ["01.02.45", "13.02.99"]}
    pd.DataFrame(columns).to_csv(tmp_path / "w.csv", index=False)
    found = draft(tmp_path / "w.csv")
    assert any("month before day" in note for note in found.notes["a"])
    assert not any("month before day" in note for note in found.notes["b"])
    assert any("two-digit" in note for note in found.notes["c"])
    assert found.schema.to_dict()["columns"]["c"]["min"] == "1945-01-01"


# -- orders of days and moments ---------------------------------------------------------------------------------------

STAY = """
name: stays
columns:
  admit: {type: datetime, min: '2022-01-01T00:00:00', max: '2022-02-28T23:59:59'}
  discharge: {type: datetime, min: '2022-01-01', max: '2022-03-31', missing: true}
constraints:
  - {order: [admit, discharge]}
"""


def _stays(text: str, pairs: list[tuple[str, str | None]]) -> dict[str, int]:
    frame = pd.DataFrame(pairs, columns=["admit", "discharge"])
    return constraint_violations(Cohort.from_pandas(frame, Schema.parse(text)))


@pytest.mark.parametrize(
    ("text", "pairs", "broken"),
    [
        (STAY, [("2022-01-05 16:36:00", "2022-01-05"), ("2022-01-05 16:36:00", "2022-01-06")], 0),
        (STAY, [("2022-01-05 00:00:00", "2022-01-04"), ("2022-01-05 16:36:00", None)], 1),
        (STAY.replace("discharge]", "discharge], strict: true"), [("2022-01-05 16:36:00", "2022-01-05")], 1),
        (STAY.replace("discharge]", "discharge], strict: true"), [("2022-01-05 16:36:00", "2022-01-06")], 0),
        (STAY.replace("[admit, discharge]", "[discharge, admit]"), [("2022-01-05 00:00:00", "2022-01-05")], 0),
        (STAY.replace("[admit, discharge]", "[discharge, admit]"), [("2022-01-05 23:59:59", "2022-01-06")], 1),
    ],
)
def test_a_day_and_a_moment_are_compared_by_their_days(text: str, pairs: list[Any], broken: int) -> None:
    """A discharge on the day of the admission keeps the order, whatever the clock says; on the day before it breaks."""
    assert list(_stays(text, pairs).values()) == [broken]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("first", ["admit", "discharge"])
def test_drawn_rows_may_stay_for_less_than_a_day(first: str, strict: bool) -> None:
    """Codes that hold the same day on both sides are possible; values are drawn on the same day, and never broken."""
    second = "discharge" if first == "admit" else "admit"
    schema = Schema.parse(STAY.replace("[admit, discharge]", f"[{first}, {second}], strict: {str(strict).lower()}"))
    codec = Codec(schema, cells=400)
    rng = np.random.default_rng(0)
    day = rng.integers(0, codec.columns["admit"].ordered - 1, 3000)
    frame = pd.DataFrame({"admit": pd.Timestamp("2022-01-02") + pd.to_timedelta(rng.uniform(0, 50, 3000), "D")})
    frame["discharge"] = frame["admit"].dt.normalize()
    codes = codec.encode(Cohort.from_pandas(frame, schema))
    drawn = codec.decode({**codes, "admit": np.where(rng.random(3000) < 0.5, codes["admit"], day)}, rng)
    assert set(constraint_violations(drawn).values()) == {0}
    made = drawn.to_pandas()
    share = float((made["admit"].dt.normalize() == made["discharge"]).mean())
    assert share == 0 if strict else share > 0.3
