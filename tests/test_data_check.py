"""Data beside a schema: everything that does not fit is listed at once, where it stands, and never its value."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import pictures, save_picture, schema_of
from strategies import any_codes, schemas
from typer.testing import CliRunner

from dpsynth.checking.check import DataCheck, check_data
from dpsynth.checking.faults import Fault
from dpsynth.cli.app import app
from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.errors import DpsynthError
from dpsynth.schema import Schema

NAME = "Jane-Doe-4711"

WARD = """
name: ward
confirmed: true
patient: pid
max_rows_per_patient: 2
drop: [note]
columns:
  pid: {type: identifier}
  age: {type: numeric, min: 18, max: 100, special: [999]}
  sex: {type: categorical, values: [f, m, x], other: x}
  grade: {type: categorical, values: [1, 2, 3]}
  died: {type: boolean, labels: [0, 1]}
  seen: {type: datetime, min: 2020-01-01, max: 2020-12-31}
  bmi: {type: numeric, min: 10, max: 60, decimals: 1, missing: true}
constraints:
  - {when: {sex: f}, forbid: {grade: 3}}
"""

LINES = f"""pid,age,sex,grade,died,seen,bmi,note
p1,40,f,1,0,2020-02-01,22.5,"two
lines"
p1,17,f,3,0,2020-02-02,22.5,a
p1,150,{NAME},2,0,2019-02-03,,a

p2,999,m,2,0,2020-02-04,21,a
p2,forty,m,9,0,2020-02-05,21,a
p3,50,m,2
,50,m,2,0,2020-02-06,21,a
p4,50,m,2,,2020-02-31,21,a
p5,50,m,{NAME},yes,2020-02-07,{NAME},a
p6,50,f,1,0,2020-02-08,21,a,surplus
p7,50,f,1,0,2020-02-08,21,a
"""


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """Return a folder with the schema and a file that breaks it in many ways."""
    (tmp_path / "ward.yaml").write_text(WARD)
    (tmp_path / "ward.csv").write_text(LINES)
    return tmp_path


def found_in(checked: DataCheck) -> dict[tuple[str, str], tuple[bool, list[int]]]:
    """Return for each fault, by its place and first words, whether it is refused and where it lies."""
    return {
        (fault.place, " ".join(fault.words.split()[:2]).rstrip(":.,")): (fault.is_refused, list(checked.places(fault)))
        for fault in checked.faults
    }


EVERYTHING = {
    ("ward.csv", "lines with"): (True, [9, 13]),
    ("pid", "a row"): (True, [10]),
    ("pid", "more rows"): (False, [2, 4, 5]),
    ("age", "found text"): (True, [8]),
    ("age", "below min"): (False, [4]),
    ("age", "above max"): (False, [5]),
    ("sex", "off the"): (False, [5]),
    ("grade", "found a"): (True, [8, 12]),
    ("died", "a value"): (True, [11]),
    ("seen", "found a"): (True, [11]),
    ("seen", "below min"): (False, [5]),
    ("bmi", "found text"): (True, [12]),
    ("sex is f: never grade is 3", "is broken"): (False, [4]),
}


def test_everything_is_listed(ward: Path) -> None:
    """All faults of all columns stand there at once, with the lines of the file, past blank lines and line breaks."""
    checked = check_data(ward / "ward.csv", Schema.load(ward / "ward.yaml"))
    assert found_in(checked) == EVERYTHING
    assert checked.is_refused
    kinds = [fault.is_refused for fault in checked.faults]
    assert kinds == sorted(kinds, reverse=True)
    assert checked.constraints == {"sex is f: never grade is 3": 1}


def test_shares(ward: Path) -> None:
    """Of each column the shares that are missing, clipped, mapped and unreadable stand in a table."""
    checked = check_data(ward / "ward.csv", Schema.load(ward / "ward.yaml"))
    shares = {column.name: column.to_dict() for column in checked.columns}
    assert checked.rows == 9
    ninth = 1 / 9
    age = {"type": "numeric", "missing": 0, "below": ninth, "above": ninth, "rounded": 0, "unreadable": ninth}
    assert shares["age"] == age
    assert shares["bmi"] == {**age, "missing": ninth, "below": 0, "above": 0}
    assert shares["sex"] == {"type": "categorical", "missing": 0, "other": ninth, "unreadable": 0}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_no_value_is_shown(ward: Path, options: list[str]) -> None:
    """The page and the JSON say that they are internal, exit 2, and hold no value of a patient."""
    command = ["schema", "check", str(ward / "ward.yaml"), "--data", str(ward / "ward.csv"), *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "internal" in result.output.casefold()
    assert NAME not in result.output
    assert "forty" not in result.output


def test_json_is_for_scripts(ward: Path) -> None:
    """The JSON holds every fault with its lines, the shares, and what a fit would say."""
    command = ["schema", "check", str(ward / "ward.yaml"), "--data", str(ward / "ward.csv"), "--json"]
    data = json.loads(CliRunner().invoke(app, command).stdout)["data"]
    assert data["refused"] is True
    assert len(data["faults"]) == len(EVERYTHING)
    fault = next(fault for fault in data["faults"] if fault["fault"].startswith("below min"))
    assert (fault["kind"], fault["place"], fault["count"], fault["lines"]) == ("warning", "age", 1, [4])
    assert data["columns"]["age"]["above"] == pytest.approx(1 / 9)


def test_columns_are_compared_all_at_once(tmp_path: Path) -> None:
    """Columns that are absent, not declared or there twice are all named, and the others are checked all the same."""
    (tmp_path / "ward.csv").write_text("pid,agee,sex,grade,grade,died,seen,extra\np1,4,f,1,1,0,1999-01-01,z\n")
    checked = check_data(tmp_path / "ward.csv", Schema.parse(WARD))
    refused = [fault.place for fault in checked.faults if fault.is_refused]
    assert sorted(refused) == ["age", "agee", "bmi", "extra", "grade"]
    assert ("seen", "below min") in found_in(checked)
    assert "did you mean 'age'" in next(fault.words for fault in checked.faults if fault.place == "agee")


OUTSIDE = """
name: v
confirmed: true
columns:
  sex: {type: categorical, values: [F, M]}
  pregnant: {type: boolean, labels: [0, 1]}
  sbp: {type: numeric, min: 40, max: 300}
  dbp: {type: numeric, min: 10, max: 200}
  creatinine: {type: numeric, min: 0.1, max: 20, decimals: 1, unit: mg/dL}
constraints:
  - {order: [dbp, sbp]}
  - {when: {sex: M}, forbid: {pregnant: 1}}
"""


def outside(rows: int = 100) -> pd.DataFrame:
    """Return a table with a wrong unit and two broken constraints."""
    index = np.arange(rows)
    return pd.DataFrame(
        {
            "sex": np.where(index % 2, "F", "M"),
            "pregnant": (index % 4 == 0).astype(int),
            "sbp": 120,
            "dbp": np.where(index % 5, 80, 180),
            "creatinine": 40.0 + index,
        }
    )


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_warnings_exit_0(tmp_path: Path, ending: str) -> None:
    """What is clipped or contradictory is a warning: it is said with its share, and a fit could go on."""
    (tmp_path / "v.yaml").write_text(OUTSIDE)
    getattr(outside(), f"to_{ending}")(tmp_path / f"v.{ending}", index=False)
    checked = check_data(tmp_path / f"v.{ending}", Schema.parse(OUTSIDE))
    assert checked.constraints == {"dbp <= sbp": 20, "sex is M: never pregnant is 1": 25}
    assert {column.name: column.above for column in checked.columns}["creatinine"] == 1
    first = 2 if ending == "csv" else 1
    assert found_in(checked)["dbp <= sbp", "is broken"] == (False, [first + row for row in range(0, 100, 5)])
    result = CliRunner().invoke(app, ["schema", "check", f"{tmp_path}/v.yaml", "--data", f"{tmp_path}/v.{ending}"])
    assert result.exit_code == 0
    assert "with 3 warnings" in result.output
    assert "keeps the schema" not in result.output


def test_a_table_that_fits(tmp_path: Path) -> None:
    """A table without faults keeps the schema, in so many words."""
    (tmp_path / "v.yaml").write_text(OUTSIDE)
    table = outside().assign(creatinine=1.0, dbp=80, pregnant=0)
    table.to_csv(tmp_path / "v.csv", index=False)
    result = CliRunner().invoke(app, ["schema", "check", f"{tmp_path}/v.yaml", "--data", f"{tmp_path}/v.csv"])
    assert (result.exit_code, "keeps the schema" in result.output) == (0, True)


ROUNDED = """
name: r
columns:
  temperature: {type: numeric, min: 30, max: 45}
  creatinine: {type: numeric, min: 1, max: 500, scale: log}
  bmi: {type: numeric, min: 10, max: 60, decimals: 1}
  code: {type: categorical, discover: true, max_values: 2}
  link: {type: categorical, discover: true, max_values: 9}
"""


def test_what_is_rounded_and_what_is_not_found(tmp_path: Path) -> None:
    """Digits that a column loses are counted, and said where it matters; so are values that cannot all be found."""
    frame = pd.DataFrame({"temperature": [36.6, 37.0], "creatinine": [1.4, 120.4], "bmi": [22.15, 30.1]})
    frame.assign(code=["a", "b"], link=["a@b.org", "c@d.org"]).to_csv(tmp_path / "r.csv", index=False)
    text = (tmp_path / "r.csv").read_text() + "38.0,5,20.0,c,e@f.org\n"
    (tmp_path / "r.csv").write_text(text)
    checked = check_data(tmp_path / "r.csv", Schema.parse(ROUNDED))
    assert [column.rounded for column in checked.columns][:3] == [1 / 3, 2 / 3, 1 / 3]
    assert found_in(checked) == {
        ("temperature", "has more"): (False, [2]),
        ("creatinine", "has more"): (False, [2]),
        ("code", "has 3"): (False, []),
        ("link", "its values"): (True, []),
    }


def units(columns: dict[str, Any], patient: str | None, folder: Path, drop: tuple[str, ...] = ()) -> list[Fault]:
    """Return the faults of a table whose columns but age are identifiers."""
    pd.DataFrame({**columns, "age": 50}).to_csv(folder / "ward.csv", index=False)
    declared: dict[str, Any] = {name: {"type": "identifier"} for name in columns if name not in drop}
    document = {"name": "w", "confirmed": True, "patient": patient, "drop": list(drop), "max_rows_per_patient": 1}
    declared["age"] = {"type": "numeric", "min": 0, "max": 100}
    if patient is not None:
        document["max_rows_per_patient"] = 50
    return list(check_data(folder / "ward.csv", Schema.parse({**document, "columns": declared})).faults)


TABLE = {"Id": range(60), "PATIENT": [f"p{row % 7}" for row in range(60)], "hospital_id": [1, 2] * 30}


@pytest.mark.parametrize("patient", ["Id", None])
def test_the_wrong_unit_is_warned_of(tmp_path: Path, patient: str | None) -> None:
    """Another identifier that groups more rows than the patient is named, with how many patients it holds."""
    (fault,) = units(TABLE, patient, tmp_path)
    assert (fault.place, fault.is_refused, fault.count) == ("PATIENT", False, 60)
    assert "set patient: PATIENT" in fault.words
    assert "up to 9" in fault.words


def test_the_right_unit_is_not(tmp_path: Path) -> None:
    """A visit, a hospital and a surname beside the patient are no reason to warn."""
    measured = {
        "note": [f"{30 + row % 20}/{50 + row % 30}, seen by no one" for row in range(60)],
        "stamp": [1_600_000_000_000 + row % 20 for row in range(60)],
    }
    columns = {**TABLE, "surname": ["Ng", "Li", "Ng"] * 20, **measured}
    assert [fault.place for fault in units(columns, "Id", tmp_path)] == ["PATIENT"]
    assert units(columns, "PATIENT", tmp_path) == []


def test_a_dropped_patient_is_warned_of(tmp_path: Path) -> None:
    """Where the column that is called after the patient is never read, its name alone is a reason."""
    (fault,) = units(TABLE, "Id", tmp_path, drop=("PATIENT",))
    assert (fault.place, "Is it the patient?" in fault.words) == ("PATIENT", True)


VISITS = """
name: v
confirmed: true
patient: pid
columns:
  pid: {type: identifier}
  wave: {type: categorical, values: [1, 2, 3]}
  sex: {type: categorical, values: [f, m]}
visits: {column: wave, values: [1, 2], static: [sex]}
"""


def test_visits(tmp_path: Path) -> None:
    """Rows of visits that are not listed, visits that stand twice, and static columns that differ are found."""
    (tmp_path / "v.csv").write_text("pid,wave,sex\na,1,f\na,2,m\na,3,f\nb,1,f\nb,1,f\n")
    assert found_in(check_data(tmp_path / "v.csv", Schema.parse(VISITS))) == {
        ("wave", "the visit"): (False, [4]),
        ("wave", "a patient"): (False, [6]),
        ("sex", "is static"): (False, [2, 3]),
    }


def test_a_folder_of_images(tmp_path: Path) -> None:
    """Each image that is not there, of another size, of nobody, or one too many is named by its line of the index."""
    for name in ("a1", "a2", "b1", "c1"):
        save_picture(tmp_path / f"{name}.png", pictures(6, 7 if name == "b1" else 5))
    (tmp_path / "patients.csv").write_text("patient_id,label\na,none\nb,mass\nd,other\n")
    lines = ["image,patient_id", "a1.png,a", "a2.png,a", "b1.png,b", "c1.png,c", "gone.png,b", "a1.png,b"]
    (tmp_path / "index.csv").write_text("\n".join(lines) + "\n")
    checked = check_data(tmp_path, schema_of(patient="patient_id"))
    found = {(place, refused, *lines) for (place, _), (refused, lines) in found_in(checked).items()}
    index = "index.csv"
    assert {(index, True, 4), (index, True, 5), (index, True, 6), (index, True, 7), (index, False, 3, 6, 7)} == {
        fault for fault in found if fault[0] == index
    }
    assert ("label", True, 4) in found


def test_a_set_of_images_and_an_archive(tmp_path: Path) -> None:
    """An index alone and an .npz are checked column by column, too."""
    save_picture(tmp_path / "a.png", pictures(6, 5))
    (tmp_path / "index.csv").write_text("image,label\na.png,none\na.png,wrong\n")
    assert found_in(check_data(tmp_path, schema_of())) == {
        ("index.csv", "names an"): (True, [3]),
        ("label", "found a"): (True, [3]),
    }
    np.savez(tmp_path / "scans.npz", train_images=pictures(3, 6, 5), train_labels=np.array([[0], [1], [7]]))
    # a position past the end says that labels may begin elsewhere, which is a fault of the file and not of a row
    assert found_in(check_data(tmp_path / "scans.npz", schema_of())) == {("scans.npz", "column 'label'"): (True, [])}


WHOLE = {
    "empty": b"",
    "a picture": b"\x89PNG\r\n\x1a\n\x00\x00",
    "no such columns": f"{NAME},y\n1,2\n".encode(),
    "header alone": WARD.split("columns", maxsplit=1)[0].encode()[:0] + b"pid,age,sex,grade,died,seen,bmi,note\n",
    "not UTF-8": LINES.replace("two", "zwölf").encode("latin-1"),
}


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    """A file that is no such table is one fault, and exits 2."""
    (tmp_path / "ward.yaml").write_text(WARD)
    (tmp_path / "ward.csv").write_bytes(content)
    checked = check_data(tmp_path / "ward.csv", Schema.parse(WARD))
    assert checked.is_refused
    command = ["schema", "check", f"{tmp_path}/ward.yaml", "--data", f"{tmp_path}/ward.csv"]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, NAME in result.output) == (2, False)


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    """The lines that are no UTF-8 are told."""
    (tmp_path / "ward.csv").write_bytes(LINES.replace("two", "zwölf").encode("latin-1"))
    (fault,) = check_data(tmp_path / "ward.csv", Schema.parse(WARD)).faults
    assert fault.lines == (2,)


@given(schemas(), st.integers(0, 2**31), st.data())
@settings(max_examples=40)
def test_the_check_says_what_a_fit_does(tmp_path_factory: Any, schema: Schema, seed: int, data: st.DataObject) -> None:
    """A table of any schema is never refused; one with any cells replaced is refused where reading refuses it."""
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("checked") / "ward.csv"
    cohort = Codec(schema).decode(any_codes(Codec(schema), 12, rng), rng)
    cohort.write(path)
    assert not check_data(path, schema).is_refused
    frame = pd.read_csv(path, dtype="str", keep_default_na=False)
    cells = st.tuples(
        st.integers(0, 11), st.integers(0, frame.shape[1] - 1), st.sampled_from(["", "NA", "7", "x", "~"])
    )
    for row, column, text in data.draw(st.lists(cells, max_size=4)):
        frame.iloc[row, column] = text
    frame.to_csv(path, index=False)
    try:
        Cohort.read(path, schema)
        is_read = True
    except DpsynthError:
        is_read = False
    assert check_data(path, schema).is_refused is not is_read


def test_words_beside_numbers_are_no_fault(tmp_path: Path) -> None:
    """A column with limits and words such as "not done" is checked like any other: bounds and digits of its numbers."""
    facts = Schema.parse(
        "{name: w, columns: {x: {type: numeric, min: 0, max: 9, decimals: 1, missing: true, special: [not done, 99],"
        " censored: {below: '<0.5'}}}}"
    )
    (tmp_path / "ward.csv").write_text("x\n<0.5\nnot done\n99\n1.25\n12\n", encoding="utf-8")
    checked = check_data(tmp_path / "ward.csv", facts)
    assert not checked.is_refused
    assert (checked.columns[0].above, checked.columns[0].rounded) == (0.2, 0.2)


def test_a_row_of_separators_alone_is_no_patient_to_the_check_either(tmp_path: Path) -> None:
    """The check leaves out what a fit leaves out, once, and its lines still are those of the file."""
    facts = Schema.parse("{name: w, columns: {x: {type: numeric, min: 0, max: 9}, y: {type: boolean}}}")
    (tmp_path / "ward.csv").write_text("x,y\n1,true\n,\n ,\n2,false\nmany,true\n", encoding="utf-8")
    checked = check_data(tmp_path / "ward.csv", facts)
    [fault] = checked.faults
    assert (checked.rows, fault.place, checked.lines) == (3, "x", [2, 5, 6])
    (tmp_path / "ward.csv").write_text("x,y\n1,true\n,\n2,false,3\n3,true\n", encoding="utf-8")
    [fault] = check_data(tmp_path / "ward.csv", facts).faults
    assert (fault.count, fault.lines) == (1, (4,))
