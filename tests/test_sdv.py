"""SDV metadata in and out, without SDV."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from strategies import schemas

from dpsynth.drafting.sdv import from_sdv, to_sdv
from dpsynth.errors import SchemaError
from dpsynth.schema import Schema

HOTEL: dict[str, Any] = {
    "METADATA_SPEC_VERSION": "V1",
    "tables": {
        "guests": {
            "primary_key": "guest_email",
            "columns": {
                "guest_email": {"sdtype": "email", "pii": True},
                "card": {"sdtype": "credit_card_number", "pii": True},
                "other": {"sdtype": "unknown", "pii": True},
                "has_rewards": {"sdtype": "boolean"},
                "room_type": {"sdtype": "categorical"},
                "floor": {"sdtype": "categorical", "order": ["low", "middle", "high"]},
                "nights": {"sdtype": "numerical", "computer_representation": "UInt8"},
                "fee": {"sdtype": "numerical"},
                "checkin": {"sdtype": "datetime", "datetime_format": "%d %b %Y"},
                "seen": {"sdtype": "datetime", "datetime_format": "%Y-%m-%d %H:%M:%S"},
            },
            "column_relationships": [],
        },
        "hotels": {"primary_key": "id", "columns": {"id": {"sdtype": "id"}, "city": {"sdtype": "categorical"}}},
    },
    "relationships": [
        {
            "parent_table_name": "hotels",
            "parent_primary_key": "id",
            "child_table_name": "guests",
            "child_foreign_key": "hotel_id",
        }
    ],
}
GUESTS = {"METADATA_SPEC_VERSION": "SINGLE_TABLE_V1", **HOTEL["tables"]["guests"]}
STAY = {
    "METADATA_SPEC_VERSION": "SINGLE_TABLE_V1",
    "sequence_key": "Patient ID",
    "sequence_index": "Time",
    "columns": {
        "Patient ID": {"sdtype": "id", "regex_format": "ID_[0-9]{3}"},
        "Time": {"sdtype": "datetime", "datetime_format": "%m/%d/%Y"},
        "Systolic BP": {"sdtype": "numerical"},
    },
}


def test_kinds_of_column() -> None:
    """Each sdtype becomes the kind of column that it means; personal information becomes identifiers."""
    schema = from_sdv(HOTEL, table="guests").schema
    kinds = {name: column.type for name, column in schema.columns.items()}
    assert kinds == {
        "guest_email": "identifier",
        "card": "identifier",
        "other": "identifier",
        "has_rewards": "boolean",
        "room_type": "categorical",
        "floor": "categorical",
        "nights": "numeric",
        "fee": "numeric",
        "checkin": "datetime",
        "seen": "datetime",
    }
    fields = schema.to_dict()["columns"]
    assert (fields["nights"]["min"], fields["nights"]["max"]) == (0, 255)
    assert fields["floor"]["values"] == ["low", "middle", "high"]
    assert fields["checkin"]["format"] == "%d %b %Y"
    assert (schema.name, schema.patient) == ("guests", "guest_email")


def test_the_forms_of_metadata_agree() -> None:
    """One table of several, and the older form of one table, give the same columns."""
    columns = from_sdv(HOTEL, table="guests").schema.to_dict()["columns"]
    assert from_sdv(GUESTS).schema.to_dict()["columns"] == columns
    assert from_sdv({"columns": GUESTS["columns"]}).schema.patient is None


KEYS = {"Id": {"sdtype": "id"}, "PATIENT": {"sdtype": "id"}, "CLASS": {"sdtype": "categorical"}}


@pytest.mark.parametrize(
    ("columns", "key"), [(KEYS, "Id"), ({name: KEYS[name] for name in ("Id", "CLASS")} | {"visit_id": {}}, "visit_id")]
)
def test_a_primary_key_may_be_a_visit(columns: dict[str, Any], key: str) -> None:
    """A primary key is unique in each row: beside another id, or called after a visit, it leaves the patient open."""
    made = from_sdv({"columns": columns, "primary_key": key})
    assert made.schema.open == ("patient",)
    assert f"#   {key}" in made.to_yaml().splitlines()
    assert "patient: '?'" in made.to_yaml()
    assert Schema.parse(made.to_yaml()) == made.schema
    patients = from_sdv({"columns": {"PATIENT": {"sdtype": "categorical"}, "sex": {"sdtype": "boolean"}}})
    assert patients.schema.columns["PATIENT"].type == "identifier"


def test_a_sequence_key_is_the_patient() -> None:
    """In sequential metadata the sequence key tells patients apart."""
    assert from_sdv(STAY).schema.patient == "Patient ID"


def test_what_sdv_does_not_know_is_marked() -> None:
    """A schema from SDV is not confirmed, and names what is a placeholder."""
    found = from_sdv(GUESTS, facts={"fee": {"min": 0, "max": 900, "decimals": 2}, "room_type": {"values": ["a", "b"]}})
    text = found.to_yaml()
    assert not found.schema.confirmed
    assert Schema.parse(text).to_dict() == found.schema.to_dict()
    lines = {line.strip().partition(":")[0]: line for line in text.splitlines()}
    assert lines["nights"].endswith("# placeholder: min, max, missing")
    assert lines["fee"].endswith("# placeholder: missing")
    assert lines["room_type"].endswith("# placeholder: missing")
    assert "max: 900" in lines["fee"]


@given(schemas())
def test_any_schema_makes_the_round_trip(schema: Schema) -> None:
    """Names and kinds survive SDV's metadata; with the schema's own columns as facts, everything does."""
    for single_table in (False, True):
        metadata = json.loads(json.dumps(to_sdv(schema, single_table=single_table)))
        again = from_sdv(metadata).schema
        assert tuple(again.columns) == tuple(schema.columns)
        for name, column in schema.columns.items():
            assert again.columns[name].type in (column.type, "categorical")
        fields = {name: {"missing": False, **column} for name, column in schema.to_dict()["columns"].items()}
        assert from_sdv(metadata, facts=fields).schema.columns == schema.columns


def test_keys_and_formats_are_written() -> None:
    """The patient is the primary key, or the sequence key where patients have several rows; dates have a format."""
    text = """
    name: ward
    patient: id
    columns:
      id: {type: identifier}
      day: {type: datetime, min: 1990-01-01, max: 1991-01-01, format: '%d.%m.%Y'}
      died: {type: boolean, labels: [0, 1]}
      alive: {type: boolean}
      stage: {type: categorical, values: [I, II], ordered: true}
      ph: {type: numeric, min: 6, max: 8, decimals: 2}
    """
    schema = Schema.parse(text)
    table = to_sdv(schema)["tables"]["ward"]
    assert table["primary_key"] == "id"
    assert table["columns"] == {
        "id": {"sdtype": "id"},
        "day": {"sdtype": "datetime", "datetime_format": "%d.%m.%Y"},
        "died": {"sdtype": "categorical"},
        "alive": {"sdtype": "boolean"},
        "stage": {"sdtype": "categorical", "order": ["I", "II"]},
        "ph": {"sdtype": "numerical", "computer_representation": "Float"},
    }
    several = Schema.parse(text + "\n    max_rows_per_patient: 3\n")
    assert to_sdv(several, single_table=True)["sequence_key"] == "id"


FAULTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a list": ([1], {}, "JSON object"),
    "something else": ({"a": 1}, {}, "neither tables nor columns"),
    "no tables": ({"tables": {}}, {}, "neither tables nor columns"),
    "several tables": (HOTEL, {}, "'guests', 'hotels'"),
    "unknown table": (HOTEL, {"table": "guest"}, "did you mean 'guests'"),
    "no columns": ({"tables": {"a": {}}}, {}, "no columns"),
    "columns of text": ({"columns": {"a": "numerical"}}, {}, "no columns"),
    "unknown fact": (GUESTS, {"facts": {"feee": {"min": 0}}}, "did you mean 'fee'"),
    "faulty fact": (GUESTS, {"facts": {"fee": {"mim": 0}}}, "did you mean 'min'"),
    "only identifiers": ({"columns": {"a": {"sdtype": "id"}}}, {}, "identifier"),
    "patient that is not there": ({"primary_key": "b", "columns": {"a": {"sdtype": "boolean"}}}, {}, "'b'"),
}


@pytest.mark.parametrize(("metadata", "options", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_faulty_metadata(metadata: Any, options: dict[str, Any], words: str) -> None:
    """Metadata that are none, or ambiguous, are refused with what to do."""
    with pytest.raises(SchemaError, match=words):
        from_sdv(metadata, **options)


def test_sdv_is_not_imported() -> None:
    """The converters work without SDV."""
    to_sdv(from_sdv(GUESTS).schema)
    assert "sdv" not in sys.modules
