"""Who is protected: identifiers are told from measurements and codes, and a draft leaves open what it cannot know."""

import hashlib
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dpsynth.checking.check import check_data
from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.columns.identifier_values import written_like
from dpsynth.columns.identifying import by_name, meaning_of
from dpsynth.drafting.draft import Draft, draft
from dpsynth.errors import InputError, SchemaError
from dpsynth.privacy import Budget, Session
from dpsynth.schema import Schema

ROWS = 400
RNG = np.random.default_rng(5)
KEYS = [str(uuid.UUID(bytes=RNG.bytes(16), version=4)) for _ in range(ROWS)]
PATIENTS = RNG.integers(0, 40, ROWS)
AGES = RNG.integers(20, 95, ROWS)


def _words(text: str) -> list[str]:
    return text.split()


PERSONS = _words(
    """PATIENT pid patid PatNr PatientID MRN nhs_number person_id subject_id USUBJID RANDID member_id BENE_ID
Patientennummer Patienten-ID Versichertennummer KVNR numéro_patient id_paciente codigo_paciente paziente_id
patiëntnummer BSN id_pacjenta PESEL personnummer CPR Fødselsnummer potilas_id Henkilötunnus rodné_číslo
beteg_azonosító TAJ ασθενής ID_ασθενούς αμκα utente kennitala isikukood пациент_id patient_id_hash
person_source_value encounter_patient_id asmens_kodas
LopNr id_doente codice_fiscale betegazonosító EMŠO cip henkilönumero enrolid"""
)
VISITS = _words(
    """FallNr Fallnummer visit_occurrence_id hadm_id stay_id encounter_id CaseID N_SEJOUR NumeroEpisodio
codice_ricovero opnamenr vårdtillfälle_id hoitojakso_id patient_visit_id id_visite_patient CLM_ID"""
)
NO_KEYS = _words(
    """patient_age PatientSex num_visits no_children gender_concept_id visit_type diagnosis_code weight covid
uric_acid thyroid zip hospital_name drug_name event_time study_day p pt ward N0P N_P
patients n_patients betegség TOTAL_CLAIM_COST"""
)


@pytest.mark.parametrize("name", PERSONS)
def test_names_of_persons(name: str) -> None:
    """A column that is called after the patient is known in the languages of Europe, accents or not."""
    meaning = meaning_of(name)
    assert (meaning.entity, meaning.is_key) == ("person", True)


@pytest.mark.parametrize("name", VISITS)
def test_names_of_visits(name: str) -> None:
    """A visit, a stay and a case are no patient, also where the name holds both words."""
    meaning = meaning_of(name)
    assert (meaning.entity, meaning.is_key) == ("visit", True)


@pytest.mark.parametrize("name", NO_KEYS)
def test_names_that_identify_nothing(name: str) -> None:
    """What is measured of a patient, counted, or coded is no identifier by its name."""
    assert not meaning_of(name).is_key


def test_names_are_ranked() -> None:
    """The patient goes before an unnamed key, a visit and a row."""
    assert by_name(["row", "visit_id", "Id", "PatNr"]) == ["PatNr", "Id", "visit_id", "row"]


WRITTEN = {
    "UUIDs": [KEYS[0], KEYS[1].upper(), "{" + KEYS[2] + "}", KEYS[3].replace("-", "")],
    "hashes or random tokens": [hashlib.sha256(bytes([i])).hexdigest() for i in range(4)] + ["aGk3ZxQ9t0LmPq7RvW2y"],
    "e-mail addresses": ["anna@example.org", "ben.b@hospital.example.com"],
    "bank accounts (IBAN)": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"],
    "phone numbers": ["+49 170 1234567", "(617) 555-0199", "0041 44 668 18 00"],
    "national or insurance numbers": ["131052-308T", "123-45-6789", "RSSMRA85T10A562S", "A123456780"],
}
CODES = {
    "ICD": ["I50.1", "E11.9", "C34"],
    "ATC": ["C09AA05", "N02BE01"],
    "LOINC": ["1975-2", "2160-0"],
    "NDC": ["00093-1048-01", "00378-0208-93"],
    "postcodes": ["01067", "20095"],
    "words": ["pneumonia", "heart failure"],
    "pressures": ["120/80", "189/61"],
}


@pytest.mark.parametrize(("kind", "values"), WRITTEN.items(), ids=WRITTEN)
def test_values_of_identifiers(kind: str, values: list[str]) -> None:
    """Identifiers with a form of their own are known by it."""
    assert written_like(values) == kind


@pytest.mark.parametrize("values", CODES.values(), ids=CODES)
def test_codes_are_no_identifiers(values: list[str]) -> None:
    """Codes of the usual lists, words and pairs of numbers are none."""
    assert not written_like(values)


def drafted(folder: Path, **columns: Any) -> Draft:
    """Return the draft of a CSV file of the columns, with an age beside them."""
    pd.DataFrame({**columns, "age": AGES}).to_csv(folder / "ward.csv", index=False)
    return draft(folder / "ward.csv")


ENCOUNTERS = {"Id": KEYS, "PATIENT": [KEYS[p] for p in PATIENTS], "CLASS": ["in", "out"] * (ROWS // 2)}
FALL = {"FallNr": range(1, ROWS + 1), "PatNr": PATIENTS + 100}
OMOP = {"visit_occurrence_id": range(9000, 9000 + ROWS), "person_id": PATIENTS, "visit_concept_id": [9201, 9202] * 200}
OPEN = {
    "a visit and a patient of UUIDs": (ENCOUNTERS, ["PATIENT", "Id"]),
    "a case and a patient in German": (FALL, ["PatNr", "FallNr"]),
    "a visit and a person of OMOP": (OMOP, ["person_id", "visit_occurrence_id"]),
    "a number of the row that is called id": ({"id": range(ROWS)}, ["id"]),
    "a visit alone": ({"encounter_id": range(5000, 5000 + ROWS)}, ["encounter_id"]),
    "e-mail alone": ({"contact": [f"p{p}@example.org" for p in PATIENTS]}, ["contact"]),
    "an unnamed key that repeats": ({"k": [f"K{p % 90:05d}" for p in range(ROWS)]}, ["k"]),
    "two patients": ({"pid": PATIENTS, "mrn": [f"M{p}" for p in PATIENTS]}, ["pid", "mrn"]),
}


@pytest.mark.parametrize(("columns", "candidates"), OPEN.values(), ids=OPEN)
def test_the_question_is_left_open(tmp_path: Path, columns: dict[str, Any], candidates: list[str]) -> None:
    """Where several columns identify, or one that may not be the patient, `patient` is open, likeliest first."""
    made = drafted(tmp_path, **columns)
    assert made.schema.open == ("patient",)
    assert made.schema.patient is None
    assert [candidate.column for candidate in made.candidates] == candidates
    text = made.to_yaml()
    assert "patient: '?'" in text
    assert [line.split(":")[0].strip("# ") for line in text.splitlines() if line.startswith("#   ")][-1] == candidates[
        -1
    ]
    assert Schema.parse(text) == made.schema
    assert Schema.parse(made.schema.to_yaml()) == made.schema
    assert len(Cohort.read(tmp_path / "ward.csv", made.schema)) == ROWS


def test_a_name_cannot_break_the_question(tmp_path: Path) -> None:
    """The names of candidates stand in comments: a line break of another alphabet in one does not end the comment."""
    made = drafted(tmp_path, **{"pat\u2028id": PATIENTS, "mrn": [f"M{p}" for p in PATIENTS]})
    assert made.schema.open
    assert Schema.parse(made.to_yaml()) == made.schema


SETTLED = {
    "the only identifier": ({"PatNr": PATIENTS}, "PatNr", 25),
    "a patient beside a name and free text": (
        {"pid": PATIENTS, "surname": ["Ng", "Li"] * 200, "note": [f"text no {i} of a person" for i in range(ROWS)]},
        "pid",
        25,
    ),
    "a patient beside a row number": ({"Unnamed: 0": range(ROWS), "patient": PATIENTS}, "patient", 25),
    "nothing but a row number": ({"row": range(1, ROWS + 1)}, None, 1),
    "moments": ({"ts": 1_600_000_000 + np.arange(ROWS) * 61}, None, 1),
    "a laboratory value that never repeats": ({"platelets": RNG.permutation(90_000)[:ROWS] + 100_000}, None, 1),
    "numbers with decimals": ({"lab": RNG.normal(40, 9, ROWS).round(6)}, None, 1),
    "dates that never repeat": ({"seen": pd.date_range("2001-01-01", periods=ROWS).strftime("%d.%m.%Y")}, None, 1),
    "hospitals": ({"hospital_id": RNG.integers(100, 110, ROWS)}, None, 1),
    "text with marks that never repeats": ({"bp": [f"{90 + i}/{50 + i % 77}" for i in range(ROWS)]}, None, 1),
}


@pytest.mark.parametrize(("columns", "patient", "most"), SETTLED.values(), ids=SETTLED)
def test_the_patient_is_settled(tmp_path: Path, columns: dict[str, Any], patient: str | None, most: int) -> None:
    """One identifier of patients is proposed; measurements, moments, places and row numbers are never it."""
    made = drafted(tmp_path, **columns)
    assert (made.schema.patient, made.schema.open) == (patient, ())
    assert made.schema.max_rows_per_patient == (1 if patient is None else made.candidates[0].most_rows)
    assert (made.schema.max_rows_per_patient == 1) is (most == 1)


IDENTIFIERS = {
    "UUIDs that repeat": [KEYS[p % 5] for p in PATIENTS],
    "UUIDs of many": [KEYS[p] for p in PATIENTS],
    "hashes": [hashlib.md5(str(p).encode()).hexdigest() for p in PATIENTS],  # noqa: S324  (not for secrecy)
    "e-mail": [f"p{p % 7}@example.org" for p in PATIENTS],
    "phones": [f"+49 170 {1000000 + p}" for p in PATIENTS],
    "accounts": ["DE89370400440532013000", "GB82WEST12345698765432"] * (ROWS // 2),
    "numbered": [f"MRN{i % 80:06d}" for i in range(ROWS)],
    "names": [f"{name}, {other}" for name in ("Ng", "Li", "Roy", "Kaur") for other in ("Anna", "Ben")] * (ROWS // 8),
    "insured": [f"A{123456780 + p}" for p in PATIENTS],
    "long numbers": 4_000_000_000 + np.arange(ROWS) * 977,
    "mostly unique": [f"x{hashlib.md5(bytes([i % 256, i // 256])).hexdigest()[:6]}" for i in range(ROWS)],  # noqa: S324
}


@pytest.mark.parametrize("values", IDENTIFIERS.values(), ids=IDENTIFIERS)
def test_identifiers_are_never_categories(tmp_path: Path, values: Any) -> None:
    """Whatever its name, a column of identifiers is drafted as one, and none of its values stands in the draft."""
    made = drafted(tmp_path, info=values)
    assert made.schema.columns["info"].type == "identifier"
    assert str(values[0]) not in made.to_yaml()


def test_an_open_question_cannot_be_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft that is confirmed as it is ends with the question and its answers; nothing is read or spent."""
    text = drafted(tmp_path, **ENCOUNTERS).to_yaml().replace("confirmed: false", "confirmed: true")
    with pytest.raises(SchemaError, match=r"tells patients apart\? Answer with 'PATIENT', 'Id', or null"):
        Schema.parse(text)
    (tmp_path / "ward.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    for command in (["schema", "check", "ward.yaml"], ["release", "ward.csv", "-s", "ward.yaml", "-e", "1"]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 2
        assert "'PATIENT', 'Id', or null" in result.output
    assert not [*tmp_path.glob("*.jsonl"), *tmp_path.glob("release")]


def test_an_open_question_is_not_confirmed_in_python(tmp_path: Path) -> None:
    """A copy that is said to be confirmed is refused where it would be fitted."""
    schema = drafted(tmp_path, **FALL).schema.model_copy(update={"confirmed": True})
    with pytest.raises(SchemaError, match="PatNr"):
        schema.check_confirmed()


@pytest.mark.parametrize("answer", ["PATIENT", "null"])
def test_the_question_is_answered(tmp_path: Path, answer: str) -> None:
    """One word in its place answers it."""
    text = drafted(tmp_path, **ENCOUNTERS).to_yaml().replace("'?'", answer)
    if answer == "null":
        text = "\n".join(line for line in text.splitlines() if not line.startswith("max_rows"))
    schema = Schema.parse(text.replace("confirmed: false", "confirmed: true"))
    schema.check_confirmed()
    assert schema.patient == (None if answer == "null" else answer)
    assert not schema.open


def test_a_draft_for_judging_takes_the_likeliest(tmp_path: Path) -> None:
    """Judging needs patients, not a promise: it goes on with the likeliest column."""
    schema = drafted(tmp_path, **ENCOUNTERS).with_likeliest()
    assert (schema.patient, schema.open, schema.confirmed) == ("PATIENT", (), False)


WRONG_UNIT = """
name: encounters
confirmed: true
patient: Id
columns:
  Id: {type: identifier}
  PATIENT: {type: categorical, discover: true, max_values: 80}
  age: {type: numeric, min: 0, max: 120}
"""


def test_patients_are_not_discovered() -> None:
    """A column that is called after the patient cannot be discovered as categories: it would be published."""
    with pytest.raises(SchemaError, match=r"columns\.PATIENT: by its name it tells patients apart"):
        Schema.parse(WRONG_UNIT).check_confirmed()
    Schema.parse(WRONG_UNIT.replace("PATIENT:", "diagnosis:")).check_confirmed()


def test_patients_to_discover_are_listed(tmp_path: Path) -> None:
    """The check says so of the schema alone, and beside the data with how many visits a patient holds."""
    (tmp_path / "ward.yaml").write_text(WRONG_UNIT)
    frame = pd.DataFrame({"Id": KEYS, "PATIENT": [KEYS[p] for p in PATIENTS], "age": AGES})
    frame.to_csv(tmp_path / "ward.csv", index=False)
    command = ["schema", "check", str(tmp_path / "ward.yaml")]
    for options in ([], ["--data", str(tmp_path / "ward.csv")]):
        result = CliRunner().invoke(app, [*command, *options])
        assert result.exit_code == 2
    by_name, by_values, warning = check_data(tmp_path / "ward.csv", Schema.load(tmp_path / "ward.yaml")).faults
    assert {by_name.place, by_values.place, warning.place} == {"PATIENT"}
    assert (by_name.is_refused, by_values.is_refused, warning.is_refused) == (True, True, False)
    assert "look like UUIDs" in by_values.words
    assert "set patient: PATIENT" in warning.words


@pytest.mark.parametrize("values", [KEYS[:3], ["flu", "gout", "mumps"]], ids=["UUIDs", "diagnoses"])
def test_discovered_identifiers_are_refused(values: list[str]) -> None:
    """Under a wrong unit frequent identifiers pass the threshold: they are refused, and their cost stays."""
    schema = Schema.parse(WRONG_UNIT.replace("PATIENT:", "info:"))
    rows = 1200
    table = {"Id": [f"v{i}" for i in range(rows)], "info": [values[i % 3] for i in range(rows)], "age": [50] * rows}
    session = Session.open(Cohort.from_pandas(pd.DataFrame(table), schema, public=True), Budget(3, 1e-6))
    if values[0] == "flu":
        assert session.discover("info", session.rho / 4) == values
        return
    before = session.rho_left
    with pytest.raises(InputError, match="look like UUIDs") as caught:
        session.discover("info", session.rho / 4)
    assert not [value for value in values if value in str(caught.value)]
    assert session.rho_left < before
    assert session.to_discover == ["info"]
    assert len(session.events) == 1
