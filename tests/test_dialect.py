"""CSV files as hospitals write them: what is declared is what is read, a draft finds it, and all else is refused."""

import gzip
import io
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.drafting.draft import draft, draft_schema
from dpsynth.errors import DataError, InputError, SchemaError
from dpsynth.schema import Schema
from dpsynth.schema.dialect import FileFormat

NAMES = ["Alter", "Größe", "Diagnose", "Kreatinin", "Tod"]
WARD = """
name: ward
confirmed: true
columns:
  Alter: {type: numeric, min: 0, max: 110, missing: true}
  Größe: {type: numeric, min: 100, max: 230, decimals: 1, missing: true}
  Diagnose: {type: categorical, values: [Fieber, "Sturz, Bagatelle", Übelkeit], missing: true}
  Kreatinin: {type: numeric, min: 0, max: 20, decimals: 2, missing: true}
  Tod: {type: boolean, labels: [nein, ja], missing: true}
"""
RNG = np.random.default_rng(5)
ROWS = [
    [
        str(RNG.integers(18, 99)),
        f"{RNG.normal(170, 9):.1f}",
        ["Fieber", "Sturz, Bagatelle", "Übelkeit"][i % 3],
        f"{RNG.gamma(4, 0.3):.2f}",
        ["nein", "ja"][i % 2],
    ]
    for i in range(60)
]


def _text(separator: str = ",", decimal: str = ".", above: str = "", below: str = "") -> str:
    lines = [separator.join(NAMES)]
    for row in ROWS:
        cells = [cell if place == 2 else cell.replace(".", decimal) for place, cell in enumerate(row)]
        lines.append(separator.join(f'"{cell}"' if separator in cell else cell for cell in cells))
    return above + "\n".join(lines) + "\n" + below


FILES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "plain": (_text().encode(), {}),
    "quoted decimal comma": (_text(decimal=",").encode(), {"decimal": ","}),
    "semicolons": (_text(";", ",").encode(), {"separator": ";", "decimal": ","}),
    "tabs": (_text("\t").encode(), {"separator": "\t"}),
    "bars": (_text("|").encode(), {"separator": "|"}),
    "Latin-1": (
        _text(";", ",").encode("latin-1"),
        {"separator": ";", "decimal": ",", "encoding": "latin-1"},
    ),
    "Windows": (
        _text(";").replace("Fieber", "Fieber\u2013").encode("windows-1252"),
        {"separator": ";", "encoding": "windows-1252"},
    ),
    "UTF-16": (_text(";", ",").encode("utf-16"), {"separator": ";", "decimal": ",", "encoding": "utf-16"}),
    "UTF-16, big end first": (
        b"\xfe\xff" + _text().encode("utf-16-be"),
        {"encoding": "utf-16"},
    ),
    "UTF-16 without a mark": (_text().encode("utf-16-le"), {"encoding": "utf-16-le"}),
    "UTF-8 with a mark": (_text().encode("utf-8-sig"), {}),
    "gzip": (gzip.compress(_text(";", ",").encode()), {"separator": ";", "decimal": ","}),
    "sep line": (("sep=;\n" + _text(";", ",")).encode(), {"separator": ";", "decimal": ","}),
    "title": (_text(above="Export Kardiologie 2024,,,,\n").encode(), {"skip": 1}),
    "three lines above": (_text(";", above="Export\nStand: 01.02.2024\n\n").encode(), {"separator": ";", "skip": 3}),
    "total": (_text(below="Total,,,,60\n").encode(), {"totals": ("Total",)}),
    "total in fewer cells": (_text(";", below="Summe:;60\n").encode(), {"separator": ";", "totals": ("Summe",)}),
    "lines of separators": (_text(below=",,,,\n").replace("nein\n", "nein\n,,,,\n", 3).encode(), {}),
    "Windows line ends": (_text(";", ",").replace("\n", "\r\n").encode(), {"separator": ";", "decimal": ","}),
}


def _plain(cohort: Cohort) -> list[list[Any]]:
    return [list(row.values()) for row in cohort.plain_table().to_pylist()]


def _expected() -> list[list[Any]]:
    return [[int(a), float(b), c, float(d), e] for a, b, c, d, e in ROWS]


@pytest.mark.parametrize(("content", "form"), FILES.values(), ids=FILES.keys())
def test_declared_is_read(tmp_path: Path, content: bytes, form: dict[str, Any]) -> None:
    """A file is read as `file:` declares, to the same patients, whatever its separator, decimals and encoding."""
    path = tmp_path / "ward.csv"
    path.write_bytes(content)
    fever = "Fieber\u2013" if form.get("encoding") == "windows-1252" else "Fieber"
    schema = Schema.parse({**Schema.parse(WARD.replace("[Fieber", f"[{fever}")).to_dict(), "file": form})
    expected = [[a, b, c.replace("Fieber", fever), d, e] for a, b, c, d, e in _expected()]
    assert _plain(Cohort.read(path, schema)) == expected
    assert Schema.parse(schema.to_yaml()) == schema


@pytest.mark.parametrize(("content", "form"), FILES.values(), ids=FILES.keys())
def test_a_draft_finds_it(tmp_path: Path, content: bytes, form: dict[str, Any]) -> None:
    """A draft writes how the file is written into `file:`, and the file keeps the drafted schema."""
    path = tmp_path / "ward.csv"
    path.write_bytes(content)
    drafted = draft(path)
    found = drafted.schema.file.model_dump(exclude_defaults=True)
    assert found == form
    assert Schema.parse(drafted.to_yaml()) == drafted.schema
    assert drafted.schema.columns["Kreatinin"].type == "numeric"
    assert len(Cohort.read(path, drafted.schema)) == len(ROWS)


def test_options_stand_for_the_file_part(tmp_path: Path) -> None:
    """Without `file:` the command line says how a file is written; without either, the message names the option."""
    path, schema = tmp_path / "ward.csv", tmp_path / "ward.yaml"
    schema.write_text(WARD)
    path.write_bytes(FILES["Latin-1"][0])
    command = ["schema", "check", str(schema), "--data", str(path)]
    options: list[str] = []
    for name, value in (("encoding", "windows-1252"), ("separator", ";"), ("decimal", ",")):
        refused = CliRunner().invoke(app, [*command, *options])
        assert refused.exit_code == 2, refused.output
        assert f"--{name}" in refused.output, refused.output
        options += [f"--{name}", value]
    done = CliRunner().invoke(app, [*command, *options])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("command", ["fit", "release", "augment", "evaluate", "audit", "schema draft", "schema check"])
def test_every_command_that_reads_tables_has_the_options(command: str) -> None:
    """Each command that reads a table says in its help how a file's form is given."""
    shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    for option in ("--separator", "--decimal", "--thousands", "--encoding", "--skip", "--totals"):
        assert option in shown.output


REFUSED: dict[str, tuple[bytes, str]] = {
    "semicolons": (_text(";").encode(), '--separator ";"'),
    "tabs": (_text("\t").encode(), "--separator tab"),
    "bars": (_text("|").encode(), '--separator "|"'),
    "decimal comma": (_text(decimal=",").encode(), "--decimal ,"),
    "Latin-1": (_text().encode("latin-1"), "--encoding windows-1252"),
    "UTF-16 without a mark": (_text().encode("utf-16-be"), "--encoding utf-16-be"),
    "title": (_text(above="Export 2024,,,,\n").encode(), "--skip 1"),
    "title over semicolons": (_text(";", above="Export 2024\n\n").encode(), "--skip 2"),
    "total": (_text(below="Total,,,,60\n").encode(), "line 62"),
    "total in fewer cells": (_text(below="Gesamt,60\n").encode(), "--totals Gesamt"),
    "longer row": (_text(below="1,2,Fieber,3,nein,9\n").encode(), "line 62 has more or fewer cells"),
}


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refusal_names_the_option(tmp_path: Path, content: bytes, words: str) -> None:
    """What is not declared is refused, and the message says which option reads it."""
    path = tmp_path / "ward.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        Cohort.read(path, Schema.parse(WARD))
    assert words in str(caught.value)


def test_totals_are_no_patient_whatever_their_column(tmp_path: Path) -> None:
    """A line of totals in a file whose first column names patients is refused, and left out where it is declared."""
    path = tmp_path / "ward.csv"
    path.write_text("id,age\nP1,70\nP2,71\nTotal,141\n")
    schema = Schema.parse(
        "{name: w, patient: id, columns: {id: {type: identifier}, age: {type: numeric, min: 0, max: 200}}}"
    )
    with pytest.raises(DataError, match="line 4 begins with 'Total'"):
        Cohort.read(path, schema)
    without = schema.model_copy(update={"file": FileFormat(totals=("total",)), "drop": ("id",)})
    assert len(Cohort.read(path, without)) == 2


def test_total_may_be_a_category(tmp_path: Path) -> None:
    """A declared category "total" in the first column is a patient's value."""
    path = tmp_path / "ward.csv"
    path.write_text("thyroidectomy,age\ntotal,70\npartial,71\n")
    schema = Schema.parse(
        "{name: w, columns: {thyroidectomy: {type: categorical, values: [total, partial]}, "
        "age: {type: numeric, min: 0, max: 99}}}"
    )
    assert len(Cohort.read(path, schema)) == 2


def test_thousands_are_asked_about(tmp_path: Path) -> None:
    """1,234 and 1.234 are never read in one of two ways without a word: the draft asks for an option."""
    for mark in ",.":
        path = tmp_path / f"ward{ord(mark)}.csv"
        path.write_text("age;cost\n" + "".join(f"{20 + i % 9};{i % 9 + 1}{mark}{100 + i % 9}\n" for i in range(30)))
        with pytest.raises(DataError, match="--thousands"):
            draft(path)
        schema = draft(path, form={"thousands": mark, "decimal": "," if mark == "." else "."}).schema
        assert Cohort.read(path, schema).plain_table()["cost"].to_pylist()[:2] == [1100, 2101]
        schema = draft(path, form={"decimal": mark}).schema
        assert Cohort.read(path, schema).plain_table()["cost"].to_pylist()[:2] == [1.1, 2.101]


def test_thousands_of_a_file_with_decimal_commas(tmp_path: Path) -> None:
    """Where other numbers show a decimal comma, points part thousands: 1.234 is 1234, and 1.234,5 is 1234.5."""
    path = tmp_path / "ward.csv"
    path.write_text("cost;crea;long\n" + "".join(f"{i + 1}.{100 + i};{i},5;1.000.{i:03},25\n" for i in range(9)))
    schema = draft_schema(path)
    assert (schema.file.decimal, schema.file.thousands) == (",", ".")
    row = Cohort.read(path, schema).plain_table().slice(1, 1).to_pylist()[0]
    assert (row["cost"], row["crea"], row["long"]) == (2101, 1.5, 1000001.25)
    schema = schema.model_copy(update={"file": FileFormat(separator=";", decimal=",")})
    with pytest.raises(DataError, match="--thousands"):
        Cohort.read(path, schema)


def test_empty_rows_are_judged_by_themselves(tmp_path: Path) -> None:
    """A row of separators alone is no patient; a row whose cells say NA, or with a dropped cell filled, is one."""
    path = tmp_path / "ward.csv"
    schema = Schema.parse(
        "{name: w, drop: [note], columns: {age: {type: numeric, min: 0, max: 99, missing: true}, "
        "sex: {type: categorical, values: [f, m], missing: true}}}"
    )
    rows = ["70,f,", ",,", "NA,NA,", ",,seen", ' ,"",', "71,m,x"]
    for kept in (rows, rows[1:], rows[:-1]):
        path.write_text("age,sex,note\n" + "\n".join(kept) + "\n")
        assert len(Cohort.read(path, schema)) == sum(row not in (rows[1], rows[4]) for row in kept)
    assert len(Cohort.read(path, schema, synthetic=True)) == 5  # nobody is behind a row of a release


def test_releases_read_back(tmp_path: Path) -> None:
    """A cohort is written with separator and decimal mark of `file:`, and reads back under the same schema."""
    path = tmp_path / "ward.csv"
    for name in FILES:
        path.write_bytes(FILES[name][0])
        form = FILES[name][1]
        if name == "Windows":
            continue
        schema = Schema.parse({**Schema.parse(WARD).to_dict(), "file": form})
        cohort = Cohort.read(path, schema)
        cohort.write(tmp_path / "out.csv")
        assert _plain(Cohort.read(tmp_path / "out.csv", schema)) == _plain(cohort)
        first = (tmp_path / "out.csv").read_text("utf-8-sig").splitlines()[0]
        assert first == form.get("separator", ",").join(NAMES)


def test_standard_file_under_a_schema_of_another_form(tmp_path: Path) -> None:
    """A file with commas whose header has the declared names is read in the standard form: the header alone decides."""
    path = tmp_path / "fake.csv"
    path.write_text(_text())
    schema = Schema.parse({**Schema.parse(WARD).to_dict(), "file": {"separator": ";", "decimal": ","}})
    assert _plain(Cohort.read(path, schema)) == _expected()


def _zip(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr(name, "x")
    return content.getvalue()


def _sqlite(path: Path) -> bytes:
    connection = sqlite3.connect(path)
    connection.execute("create table t (a)")
    connection.commit()
    connection.close()
    return path.read_bytes()


def _stata(path: Path, version: int) -> bytes:
    pd.DataFrame({"age": [1, 2]}).to_stata(path, version=version)
    return path.read_bytes()


def _feather(path: Path) -> bytes:
    import pyarrow as pa
    import pyarrow.feather

    pyarrow.feather.write_feather(pa.table({"age": [1]}), path)
    return path.read_bytes()


def _orc(path: Path) -> bytes:
    import pyarrow as pa
    import pyarrow.orc

    pyarrow.orc.write_table(pa.table({"age": [1]}), path)
    return path.read_bytes()


FOREIGN: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "ndjson": (lambda _: b'{"age": 1}\n{"age": 2}\n', "JSON lines"),
    "FHIR": (lambda _: b'{"resourceType":"Patient","id":"1"}\n{"resourceType":"Patient","id":"2"}\n', "SQL on FHIR"),
    "JSON": (lambda _: b'[{"age": 1}]', "JSON"),
    "JSON object": (lambda _: b'{"data": [1]}', "JSON"),
    "Stata": (lambda path: _stata(path, 118)[:300], "Stata"),
    "old Stata": (lambda path: _stata(path, 114)[:300], "Stata"),
    "SAS": (
        lambda _: bytes(12) + bytes.fromhex("c2ea8160b31411cfbd92080009c7318c181f1011") + bytes(99),
        "SAS file",
    ),
    "SAS transport": (lambda _: b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!0000", "SAS transport"),
    "SPSS": (lambda _: b"$FL2@(#) SPSS DATA FILE" + bytes(20), "SPSS"),
    "Excel": (lambda _: _zip("xl/workbook.xml"), "Excel"),
    "old Excel": (lambda _: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "old Excel"),
    "OpenDocument": (lambda _: _zip("mimetypeapplication/vnd.oasis.opendocument.spreadsheet"), "OpenDocument"),
    "zip": (lambda _: _zip("table.csv"), "zip"),
    "R data": (lambda _: gzip.compress(b"RDX3\nX\n" + bytes(9)), "R file"),
    "R object": (lambda _: gzip.compress(b"X\n\x00\x00\x00\x03" + bytes(9)), "R file"),
    "SQLite": (_sqlite, "SQLite"),
    "DuckDB": (lambda _: struct.pack("<Q", 1) + b"DUCK" + bytes(99), "DuckDB"),
    "Avro": (lambda _: b"Obj\x01" + bytes(20), "Avro"),
    "ORC": (_orc, "ORC"),
    "Feather": (_feather, "Feather"),
    "HDF5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
    "PDF": (lambda _: b"%PDF-1.7\n", "PDF"),
    "HTML": (lambda _: b"<html><table><tr><td>age</td></tr></table>", "HTML"),
    "XML": (lambda _: b"<?xml version='1.0'?><age/>", "XML"),
    "pickle": (lambda _: b"\x80\x04\x95" + bytes(20), "pickle"),
}


@pytest.mark.parametrize(("content", "kind"), FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_files_are_named(tmp_path: Path, content: Callable[[Path], bytes], kind: str) -> None:
    """A file that is no table of ours is called by its name, with what to do, by a cohort and a draft alike."""
    path = tmp_path / "ward.csv"
    path.write_bytes(content(tmp_path / "other"))
    for read in (lambda: Cohort.read(path, Schema.parse(WARD)), lambda: draft(path)):
        with pytest.raises(DataError) as caught:
            read()
        assert kind in str(caught.value)
        assert "binary" not in str(caught.value)


def test_a_header_may_begin_like_a_signature(tmp_path: Path) -> None:
    """ORCID and <5 begin no foreign file."""
    path = tmp_path / "ward.csv"
    path.write_text("ORCID,Objective\n1,2\n")
    assert list(draft_schema(path).columns) == ["ORCID", "Objective"]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("{separator: ;;}", "one character"),
        ("{encoding: rot13}", "encoding"),
        ("{encoding: nonsense}", "encoding"),
        ("{decimal: ',', thousands: ','}", "same mark"),
        ("{seperator: ;}", "did you mean 'separator'"),
        ("{thousands: x}", "thousands"),
    ],
)
def test_wrong_formats_are_refused(form: str, words: str) -> None:
    """A `file:` part that means nothing is refused with the place and what was expected."""
    with pytest.raises(SchemaError) as caught:
        Schema.parse(WARD + f"file: {form}\n")
    assert "file" in str(caught.value)
    assert words in str(caught.value)


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    """A wrong option ends with exit code 2 and its name."""
    path = tmp_path / "ward.csv"
    path.write_text(_text())
    done = CliRunner().invoke(app, ["schema", "draft", str(path), "--decimal", "x"])
    assert (done.exit_code, "--decimal" in done.stderr) == (2, True)
    model = tmp_path / "model"
    model.mkdir()
    done = CliRunner().invoke(app, ["release", str(model), "--separator", ";"])
    assert (done.exit_code, "--separator" in done.stderr) == (2, True)
    with pytest.raises(InputError):
        Schema.parse({"name": "x", "file": {"skip": -1}, "columns": {"a": {"type": "boolean"}}})
