"""REDCap's data dictionary becomes the schema of its export; nothing of it comes from data."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.drafting.redcap import from_redcap
from dpsynth.errors import DataError
from dpsynth.schema import Schema

HEADER = (
    "Variable / Field Name,Form Name,Field Type,Field Label,"
    '"Choices, Calculations, OR Slider Labels",Text Validation Type OR Show Slider Number,'
    "Text Validation Min,Text Validation Max,Identifier?,Required Field?\n"
)
DICTIONARY = HEADER + (
    "record_id,demo,text,Record,,,,,,\n"
    "name,demo,text,Name,,,,,y,\n"
    "comment,demo,notes,Comment,,,,,,\n"
    "age,demo,text,<b>Age</b> at entry,,integer,18,110,,y\n"
    "crp,demo,text,CRP,,number_1dp,0,,,\n"
    "bmi,demo,calc,BMI,[w]/([h]*[h]),,,,,\n"
    'sex,demo,radio,Sex,"1, Female | 2, Male | 9, Other, or not said",,,,,y\n'
    'race,demo,checkbox,Race,"1, White | 2, Black | -9, Unknown",,,,,\n'
    "smoker,demo,yesno,Smoker,,,,,,\n"
    "seen,visit,text,Seen,,date_dmy,2001-01-01,today,,\n"
    "drawn,visit,text,Drawn,,datetime_ymd,,,,\n"
    "pain,visit,slider,Pain,none | some | most,,,,,\n"
    "hint,visit,descriptive,Read this,,,,,,\n"
)
EXPORT = (
    "record_id,redcap_event_name,name,comment,age,crp,bmi,sex,race___1,race___2,race____9,smoker,seen,drawn,pain,"
    "demo_complete,visit_complete\n"
    "1,baseline_arm_1,Ada,fine,64,1.5,22.1,1,1,0,0,0,2012-02-03,2012-02-03 14:05,10,2,2\n"
    "2,baseline_arm_1,Bob,,71,,,9,0,0,1,1,,,,2,0\n"
)


def _dictionary(folder: Path, text: str = DICTIONARY) -> Path:
    path = folder / "dictionary.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_each_kind_of_field(tmp_path: Path) -> None:
    """Choices, limits and identifiers are those of the dictionary; free text is not modelled; nothing is confirmed."""
    drafted = from_redcap(_dictionary(tmp_path))
    schema, columns = drafted.schema, drafted.schema.to_dict()["columns"]
    assert (schema.patient, schema.confirmed) == ("record_id", False)
    assert columns["name"] == {"type": "identifier"}
    assert {"comment", "demo_complete", "visit_complete"} <= set(schema.drop)
    assert columns["age"] == {"type": "numeric", "min": 18, "max": 110, "description": "Age at entry"}
    assert columns["sex"]["values"] == [1, 2, 9]
    assert columns["sex"]["description"] == "Sex: 1 Female; 2 Male; 9 Other, or not said"
    assert "missing" not in columns["sex"]
    assert columns["smoker"]["missing"]
    assert [columns[name]["labels"] for name in ("race___1", "race___2", "race____9")] == [[0, 1]] * 3
    assert columns["seen"]["min"] == "2001-01-01"
    assert drafted.notes["seen"] == ("max",)
    assert drafted.notes["bmi"] == ("min", "max", "decimals")
    assert "hint" not in {*columns, *schema.drop}


def test_the_export_is_read(tmp_path: Path) -> None:
    """What REDCap exports as raw data is read as the drafted schema says."""
    (tmp_path / "export.csv").write_text(EXPORT)
    schema = from_redcap(_dictionary(tmp_path)).schema
    rows = Cohort.read(tmp_path / "export.csv", schema).plain_table().to_pylist()
    assert [(row["age"], row["sex"], row["race___1"], row["race____9"]) for row in rows] == [
        (64, 1, 1, 0),
        (71, 9, 0, 1),
    ]


def test_labels_in_place_of_codes(tmp_path: Path) -> None:
    """An export of labels has them as categories."""
    columns = from_redcap(_dictionary(tmp_path), labels=True).schema.to_dict()["columns"]
    assert columns["sex"]["values"] == ["Female", "Male", "Other, or not said"]
    assert columns["race___2"]["labels"] == ["Unchecked", "Checked"]
    assert columns["smoker"]["labels"] == ["No", "Yes"]


def test_flagged_checkboxes_are_identifiers(tmp_path: Path) -> None:
    """A checkbox that is flagged as an identifier is modelled in none of its columns."""
    text = HEADER + 'id,f,text,,,,,,,\nclinic,f,checkbox,,"1, A | 2, B",,,,y,\nage,f,text,,,integer,0,99,,\n'
    assert from_redcap(_dictionary(tmp_path, text)).schema.modelled == ("age",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("age,sex\n1,2\n", "no REDCap data dictionary"),
        ("", "no REDCap data dictionary"),
        (HEADER, "has no fields"),
        (HEADER + "id,f,text,,,,,,,\nsex,f,radio,,,,,,,\n", "'sex': has no choices"),
    ],
)
def test_what_is_no_dictionary_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """Another file, and a field without its choices, end with what was expected."""
    with pytest.raises(DataError, match=words):
        from_redcap(_dictionary(tmp_path, text))


def test_the_command(tmp_path: Path) -> None:
    """The command writes the draft, which reads back as the same schema."""
    path = _dictionary(tmp_path)
    done = CliRunner().invoke(app, ["schema", "from-redcap", str(path), "--out", str(tmp_path / "study.yaml")])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "study.yaml").read_text()
    assert Schema.parse(text) == from_redcap(path).schema
    assert "placeholder" in text
