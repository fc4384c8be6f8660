"""Tables of Excel, Stata, SAS and SPSS are read wherever a CSV file is, each cell by itself."""

import importlib.util
import json
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyreadstat
import pytest
import xlwt
from typer.testing import CliRunner

from dpsynth.checking.check import check_data
from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.drafting.draft import draft
from dpsynth.errors import DataError, InputError
from dpsynth.schema import Schema

WARD = """
name: ward
confirmed: true
columns:
  age: {type: numeric, min: 18, max: 110, missing: true}
  sex: {type: categorical, values: [female, male, "3"]}
  seen: {type: datetime, min: 1990-01-01, max: 2030-01-01, missing: true}
  died: {type: boolean, labels: [0, 1]}
"""
SEX = {1.0: "female", 2.0: "male"}
ROWS = 40
FRAME = pd.DataFrame(
    {
        "age": [None if row == 3 else 20.0 + row for row in range(ROWS)],
        "sex": [1.0 + (row % 3) for row in range(ROWS)],
        "seen": [None if row == 5 else date(2001, 2, 1 + row % 28) for row in range(ROWS)],
        "died": [row % 2 for row in range(ROWS)],
    }
)
EXPECTED = [
    {"age": 20, "sex": "female", "seen": date(2001, 2, 1), "died": 0},
    {"age": 21, "sex": "male", "seen": date(2001, 2, 2), "died": 1},
    {"age": 22, "sex": "3", "seen": date(2001, 2, 3), "died": 0},
    {"age": None, "sex": "female", "seen": date(2001, 2, 4), "died": 1},
]
LABELLED = ("sav", "zsav", "dta")


def _rows() -> list[list[Any]]:
    """Return the header and the rows as a clerk types them: labels, and codes where there is none."""
    frame = FRAME.assign(sex=[SEX.get(code, code) for code in FRAME["sex"]])
    return [list(frame.columns), *([None if pd.isna(value) else value for value in row] for row in frame.to_numpy())]


def _excel(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        page = book.create_sheet(name)
        for row in rows:
            page.append(row)
    book.save(path)
    return path


def _old_excel(path: Path) -> Path:
    book = xlwt.Workbook()
    page, days = book.add_sheet("ward"), xlwt.easyxf(num_format_str="yyyy-mm-dd")
    for number, row in enumerate(_rows()):
        for place, value in enumerate(row):
            page.write(number, place, value, *((days,) if isinstance(value, date) else ()))
    book.save(str(path))
    return path


def _spss(path: Path, **options: Any) -> Path:
    pyreadstat.write_sav(FRAME, path, variable_value_labels={"sex": SEX}, **options)
    return path


def _stata(path: Path) -> Path:
    pyreadstat.write_dta(FRAME, path, variable_value_labels={"sex": {1: "female", 2: "male"}})
    return path


def _transport(path: Path) -> Path:
    pyreadstat.write_xport(FRAME, path)
    return path


def _portable(path: Path) -> Path:
    pyreadstat.write_por(FRAME, path)
    return path


FILES: dict[str, Callable[[Path], Path]] = {
    "xlsx": lambda path: _excel(path, {"ward": _rows()}),
    "xls": _old_excel,
    "sav": _spss,
    "zsav": lambda path: _spss(path, compress=True),
    "dta": _stata,
    "xpt": _transport,
    "por": _portable,
}


def _schema(kind: str) -> Schema:
    """Return the schema; SAS transport files have no labels, and portable ones neither here, but names in capitals."""
    text = WARD if kind not in ("xpt", "por") else WARD.replace('[female, male, "3"]', "[1, 2, 3]")
    schema = Schema.parse(text).to_dict()
    if kind == "por":
        schema["columns"] = {name.upper(): column for name, column in schema["columns"].items()}
    return Schema.parse(schema)


@pytest.mark.parametrize("kind", FILES)
def test_cells_are_what_they_stand_for(kind: str, tmp_path: Path) -> None:
    """Labels stand for codes, codes without one stay codes, missing values are missing, dates are dates."""
    path = FILES[kind](tmp_path / f"ward.{kind}")
    rows = Cohort.read(path, _schema(kind)).plain_table().slice(0, 4).to_pylist()
    codes = {"female": "1", "male": "2"} if kind in ("xpt", "por") else {}
    expected = [row | {"sex": codes.get(str(row["sex"]), row["sex"])} for row in EXPECTED]
    shown = [{name.lower(): value for name, value in row.items()} for row in rows]
    assert [row | {"sex": str(row["sex"])} for row in shown] == expected


@pytest.mark.parametrize("kind", FILES)
def test_drafts_and_checks(kind: str, tmp_path: Path) -> None:
    """A draft finds the kinds of columns, and a check finds nothing against the schema that fits."""
    path = FILES[kind](tmp_path / "ward.data")  # the first bytes say what it is
    columns = {name.lower(): column.type for name, column in draft(path).schema.columns.items()}
    assert columns == {"age": "numeric", "sex": "categorical", "seen": "datetime", "died": "boolean"}
    assert not check_data(path, _schema(kind)).is_refused
    narrow = {name: column for name, column in _schema(kind).to_dict()["columns"].items() if name.lower() != "died"}
    assert check_data(path, Schema.parse({"name": "w", "columns": narrow})).is_refused


def test_user_missing_values_are_missing(tmp_path: Path) -> None:
    """What SPSS's author has declared as missing is missing, numbers and text."""
    frame = FRAME.assign(age=[999.0 if row % 2 else 40.0 for row in range(ROWS)], ward=["none", "A"] * (ROWS // 2))
    path = tmp_path / "w.sav"
    pyreadstat.write_sav(frame, path, missing_ranges={"age": [{"lo": 990, "hi": 999}], "ward": ["none"]})
    text = WARD.replace("[female, male, ", "[1, 2, ") + "  ward: {type: categorical, values: [A, B], missing: true}\n"
    rows = Cohort.read(path, Schema.parse(text)).plain_table().slice(0, 2).to_pylist()
    assert [(row["age"], row["ward"]) for row in rows] == [(40, None), (None, "A")]


def test_labels_that_no_row_has_are_drafted(tmp_path: Path) -> None:
    """A draft lists all labels of the file's codebook in the order of their codes, where only labels stand there."""
    frame = pd.DataFrame(
        {"stage": [2.0, 1.0] * 30, "smoker": [1.0] * 60, "age": [40.0 + row % 30 for row in range(60)]}
    )
    labels = {"stage": {1.0: "IV", 2.0: "I", 3.0: "II"}, "smoker": {0.0: "No", 1.0: "Yes"}, "age": {999.0: "unknown"}}
    pyreadstat.write_sav(frame, tmp_path / "w.sav", variable_value_labels=labels)
    columns = draft(tmp_path / "w.sav").schema.to_dict()["columns"]
    assert columns["stage"]["values"] == ["IV", "I", "II"]
    assert columns["smoker"] == {"type": "boolean", "labels": ["No", "Yes"]}
    assert columns["age"]["type"] == "numeric"


def test_singles_of_stata_are_the_numbers_that_it_shows(tmp_path: Path) -> None:
    """Stata's usual type has 24 bits: 0.045 is 0.045, and no category or step lies beside it."""
    frame = pd.DataFrame({"x": pd.Series([0.045, 7.5, 7.0], dtype="float32")})
    frame.to_stata(tmp_path / "w.dta", write_index=False)
    schema = Schema.parse("{name: w, columns: {x: {type: categorical, values: [0.045, 7.5, 7]}}}")
    assert Cohort.read(tmp_path / "w.dta", schema).plain_table()["x"].to_pylist() == [0.045, 7.5, 7]


def test_a_sheet_is_named_or_the_first_that_is_shown(tmp_path: Path) -> None:
    """The first sheet that is shown is read, another by its name; one that is not there is refused with the others."""
    other = [["age"], [50]]
    path = _excel(tmp_path / "w.xlsx", {"notes": [["hidden"]], "ward": _rows(), "other": other})
    book = openpyxl.load_workbook(path)
    book["notes"].sheet_state = "hidden"
    book.save(path)
    assert Cohort.read(path, Schema.parse(WARD)).table.num_rows == ROWS
    ages = "{name: w, file: {sheet: other}, columns: {age: {type: numeric, min: 0, max: 99}}}"
    assert Cohort.read(path, Schema.parse(ages)).plain_table()["age"].to_pylist() == [50]
    with pytest.raises(DataError, match=r"no sheet 'othr' \(did you mean 'other'\?\)"):
        Cohort.read(path, Schema.parse(ages.replace("other", "othr")))
    run = CliRunner().invoke(app, ["schema", "draft", str(path), "--sheet", "other"])
    assert run.exit_code == 0
    assert "sheet: other" in run.output


def test_titles_totals_and_blank_rows(tmp_path: Path) -> None:
    """Rows above the header and rows of totals are declared as for CSV; blank rows are no patients."""
    header, *rows = _rows()
    path = _excel(tmp_path / "w.xlsx", {"ward": [["Ward 3"], header, *rows, [], ["Total", None, None, 20]]})
    with pytest.raises(DataError, match="--skip"):
        Cohort.read(path, Schema.parse(WARD))
    with pytest.raises(DataError, match=r"'Total'.*--totals"):
        Cohort.read(path, Schema.parse(WARD + "file: {skip: 1}\n"))
    assert Cohort.read(path, Schema.parse(WARD + "file: {skip: 1, totals: Total}\n")).table.num_rows == ROWS
    path = _excel(tmp_path / "wide.xlsx", {"ward": [header, *rows[:3], [*rows[3], "beyond"]]})
    with pytest.raises(DataError, match="row 5 has cells beyond"):
        Cohort.read(path, Schema.parse(WARD))


def test_formulas_that_nobody_calculated_are_refused(tmp_path: Path) -> None:
    """A formula without its value would be read as missing; one that gives an empty text is missing."""
    path = _excel(tmp_path / "w.xlsx", {"ward": [["age"], ["=20+20"], [41]]})
    schema = Schema.parse("{name: w, columns: {age: {type: numeric, min: 0, max: 99, missing: true}}}")
    with pytest.raises(DataError, match="never calculated"):
        Cohort.read(path, schema)
    for cell, age in ((b'<c r="A2"><f>20+20</f><v>40</v></c>', 40), (b'<c r="A2" t="str"><f>""</f><v></v></c>', None)):
        _rewritten(path, tmp_path / "y.xlsx", cell)
        ages = Cohort.read(tmp_path / "y.xlsx", schema).plain_table()["age"].to_pylist()
        assert ages == ([41] if age is None else [age, 41])


def _rewritten(path: Path, target: Path, cell: bytes) -> None:
    """Write a workbook with another first cell below its header."""
    import re

    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = re.sub(rb'<c r="A2".*?</c>', lambda _: cell, old.read(name), flags=re.DOTALL)
            new.writestr(name, content)


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_refused(kind: str, tmp_path: Path) -> None:
    """A file that ends too early is refused by its kind, without a word of what stands in it."""
    path = FILES[kind](tmp_path / f"ward.{kind}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 | 1])
    for read in (lambda: Cohort.read(path, _schema(kind)), lambda: draft(path)):
        with pytest.raises(DataError, match=rf"ward\.{kind}: is not a whole file, though it begins as an?"):
            read()


def test_readers_say_nothing_of_cells(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What a library would say of a cell, such as a number that is no date, is neither warned of nor printed."""
    path = _excel(tmp_path / "w.xlsx", {"ward": [["seen", "ward"], [date(2012, 2, 3), "A"], [98765432, "B"]]})
    book = openpyxl.load_workbook(path)
    book.active["A3"].number_format = "yyyy-mm-dd"
    book.save(path)
    schema = Schema.parse("{name: w, drop: [seen], columns: {ward: {type: categorical, values: [A, B]}}}")
    assert Cohort.read(path, schema).table.num_rows == 2
    old = tmp_path / "w.xls"
    old.write_bytes(_old_excel(old).read_bytes() + b"tail")
    Cohort.read(old, Schema.parse(WARD))
    assert capfd.readouterr() == ("", "")


def test_passwords_are_named(tmp_path: Path) -> None:
    """A workbook with a password is refused as one."""
    path = tmp_path / "w.xlsx"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + "EncryptedPackage".encode("utf-16-le"))
    with pytest.raises(DataError, match="with a password"):
        draft(path)


@pytest.mark.parametrize("kind", FILES)
def test_a_missing_package_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its reader a file ends in the words that install it."""
    path = FILES[kind](tmp_path / f"ward.{kind}")
    find = importlib.util.find_spec
    gone = ("openpyxl", "xlrd", "pyreadstat")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in gone else find(name, *rest))
    with pytest.raises(InputError, match=r"pip install 'dpsynth\[office\]'"):
        Cohort.read(path, _schema(kind))


@pytest.mark.parametrize("kind", ["sav", "xlsx"])
def test_a_release_has_one_ledger_beside_the_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit and release spend on the ledger beside the file, as for CSV, and evaluate reads it, too."""
    monkeypatch.chdir(tmp_path)
    path = FILES[kind](tmp_path / f"ward.{kind}")
    Path("ward.yaml").write_text(WARD)
    runner = CliRunner()
    common = [path.name, "--schema", "ward.yaml", "--epsilon", "1"]
    for command in (
        ["fit", *common, "--model", "independent", "--limit", "3", "--out", "model"],
        ["release", *common, "--model", "independent", "--out", "out", "--anyway"],
    ):
        result = runner.invoke(app, command)
        assert result.exit_code == 0, result.output
    states = [json.loads(line)["state"] for line in Path(f"{path.name}.ledger.jsonl").read_text().splitlines()]
    assert states.count("commit") == 2
    assert [file.name for file in tmp_path.glob("*ledger*.jsonl")] == [f"{path.name}.ledger.jsonl"]
    judged = runner.invoke(
        app, ["evaluate", "--real", path.name, "--synthetic", "out/release", "--schema", "ward.yaml"]
    )
    assert judged.exit_code == 0, judged.output
