"""The schema file: what it says, what it refuses, and in which words."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import schemas

from dpsynth.errors import FileError, SchemaError
from dpsynth.schema import Schema
from dpsynth.schema import yaml12 as yamltext
from dpsynth.schema.schema import Boolean, Categorical, Datetime, Numeric

WHOLE = """
name: ward
confirmed: true
patient: id
max_rows_per_patient: 2
rows: 900
target: died
subgroups: [sex, race]
intersections: [[sex, race]]
drop: [note]
columns:
  id:       {type: identifier}
  age:      {type: numeric, min: 18, max: 110, unit: years}
  crea:     {type: numeric, min: 0.1, max: 25, decimals: 1, scale: log, missing: true, special: [0, 999], cuts: [1.2]}
  sex:      {type: categorical, values: [female, male]}
  race:     {type: categorical, values: [a, b, other], other: other, missing: yes}
  group:    {type: categorical, discover: true, max_values: 50}
  died:     {type: boolean, labels: [0, 1]}
  pregnant: {type: boolean}
  admitted: {type: datetime, min: 1989-01-01, max: 1994-12-31}
  left:     {type: datetime, min: 1989-01-01, max: 1995-12-31, missing: true}
images: {size: [28, 28], channels: 1, range: [0, 255]}
constraints:
  - {when: {sex: male}, forbid: {pregnant: yes}}
  - {when: {age: {min: 90}}, require: {race: [a, null]}}
  - {order: [admitted, left]}
"""


def _columns(**columns: Any) -> dict[str, Any]:
    return {"name": "ward", "columns": columns}


NUMERIC = {"type": "numeric", "min": 0, "max": 10}


def test_every_field_of_the_design_is_read() -> None:
    """The schema file of the design is read whole, each field with its type."""
    schema = Schema.parse(WHOLE)
    assert schema.confirmed
    assert schema.modelled == ("age", "crea", "sex", "race", "group", "died", "pregnant", "admitted", "left")
    crea, race, died = schema.columns["crea"], schema.columns["race"], schema.columns["died"]
    assert isinstance(crea, Numeric)
    assert (crea.special, crea.cuts, crea.missing) == ((0, 999), (1.2,), True)
    assert isinstance(race, Categorical)
    assert race.missing
    assert isinstance(died, Boolean)
    assert [type(label) for label in died.labels] == [int, int]
    admitted = schema.columns["admitted"]
    assert isinstance(admitted, Datetime)
    assert admitted.min == date(1989, 1, 1)


def test_no_and_yes_are_text() -> None:
    """A category spelled no stays text, as it stands in the data (YAML 1.1 would read false)."""
    schema = Schema.parse("{name: x, columns: {a: {type: categorical, values: [no, yes, on, 007, 1_0, 12:30]}}}")
    assert schema.columns["a"].values == ("no", "yes", "on", "007", "1_0", "12:30")  # type: ignore[union-attr]


@given(schemas())
def test_yaml_round_trip(schema: Schema) -> None:
    """A schema that is written and read again is the same, its categories of the same type."""
    again = Schema.parse(schema.to_yaml())
    assert repr(again) == repr(schema)  # 0 == False in Python, and not in a table


def test_the_whole_schema_makes_the_round_trip(tmp_path: Path) -> None:
    """Constraints, images, roles and labels survive YAML and JSON."""
    schema = Schema.parse(WHOLE)
    schema.dump(tmp_path / "a.yaml")
    for again in (Schema.load(tmp_path / "a.yaml"), Schema.parse(json.dumps(schema.to_dict()))):
        assert repr(again) == repr(schema)
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


@given(
    st.lists(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"]))
    )
)
@example(
    ["no", "1e5", "0x1f", "1:30", "=", "<<", "~", "", " ", "1.", ".5", "+1", "a\n", "\x85", "\u2028", "\ufeff", "\x7f"]
)
def test_scalars_survive_yaml(values: list[Any]) -> None:
    """What the schema's YAML writes, it reads back: text stays text, numbers stay numbers."""
    again = yamltext.loads(yamltext.dumps(values))
    assert again == values
    assert [type(value) for value in again] == [type(value) for value in values]


FIELDS = st.sampled_from([*Schema.model_fields, "type", "min", "max", "values", "when", "forbid", "order", "labels"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | FIELDS
    | st.sampled_from(["numeric", "categorical", "datetime", "identifier"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def _read_or_refused(document: Any) -> bool:
    """Whether a document is a schema that can be written and read again, or refused with a message."""
    try:
        schema = Schema.parse(document)
    except SchemaError as error:
        return bool(str(error)) and error.exit_code == 2
    return Schema.parse(schema.to_dict()) == schema


@given(st.dictionaries(FIELDS, ANYTHING, max_size=6) | ANYTHING)
def test_any_document_is_a_schema_or_a_schema_error(document: Any) -> None:
    """Whatever stands in the mapping, reading it ends with a schema or with SchemaError."""
    assert _read_or_refused({"name": "x", **document} if isinstance(document, dict) else document)


@given(st.text(max_size=60) | st.text("{}[]:,-&*!|>'\"#%@`?~ \n\tabc012", max_size=60))
@example("{" * 1000)
@example("- " * 1000)
@example("a: &x [1]\nb: *x")
@example("!!python/object/apply:os.system [ls]")
@example("\x00")
@example("? {a: b}\n: c")
@example("{a: b, <<: {c: d}}")
def test_any_text_is_a_schema_or_a_schema_error(text: str) -> None:
    """Whatever text a file holds, reading it ends with a schema or with SchemaError."""
    for content in (text, "name: x\ncolumns:\n  a: {type: boolean}\n" + text, f"name: x\ncolumns: {{a: {text}}}"):
        assert _read_or_refused(content)


FAULTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "syntax": ("name: x\ncolumns: {a: [}\n", ("line 2",)),
    "duplicate key": ("name: x\ncolumns:\n  a: {type: boolean}\n  a: {type: boolean}\n", ("line 4", "twice")),
    "alias bomb": ("name: &a [x]\ncolumns: [*a, *a]\n", ("line 2", "aliases")),
    "too large": ("#" * (yamltext.MAX_CHARACTERS + 1), ("larger",)),
    "unknown field": ({**_columns(a=NUMERIC), "taget": "a"}, ("taget", "target")),
    "unknown field of a column": (_columns(a={**NUMERIC, "decimal": 1}), ("columns.a.decimal", "'decimals'")),
    "unknown kind": (_columns(a={"type": "number"}), ("columns.a", "numeric, categorical")),
    "no kind": (_columns(a={"min": 0}), ("columns.a", "type must be")),
    "no columns": ({"name": "x", "columns": {}}, ("columns",)),
    "only identifiers": (_columns(a={"type": "identifier"}), ("identifier",)),
    "column without a name": (_columns(**{"": NUMERIC}), ("name",)),
    "min above max": (_columns(a={**NUMERIC, "min": 11}), ("columns.a", "min")),
    "infinite": (_columns(a={**NUMERIC, "max": float("inf")}), ("columns.a.max", "finite")),
    "boolean bound": (_columns(a={**NUMERIC, "max": True}), ("columns.a.max", "number")),
    "no value between": (_columns(a={**NUMERIC, "min": 0.2, "max": 0.8}), ("columns.a", "decimals")),
    "only special values": (_columns(a={**NUMERIC, "max": 1, "special": [0, 1]}), ("columns.a", "special")),
    "special with digits": (_columns(a={**NUMERIC, "special": [0.5]}), ("columns.a", "special")),
    "log of zero": (_columns(a={**NUMERIC, "scale": "log"}), ("columns.a", "above 0")),
    "too many digits": (_columns(a={**NUMERIC, "max": 1e12, "decimals": 9}), ("columns.a", "decimals")),
    "cut outside": (_columns(a={**NUMERIC, "cuts": [11]}), ("columns.a", "cuts")),
    "no values": (_columns(a={"type": "categorical"}), ("columns.a", "discover")),
    "values and discover": (
        _columns(a={"type": "categorical", "values": ["x"], "discover": True, "max_values": 3}),
        ("columns.a", "not both"),
    ),
    "discover without a limit": (_columns(a={"type": "categorical", "discover": True}), ("max_values",)),
    "values that look the same": (_columns(a={"type": "categorical", "values": [1, "1"]}), ("columns.a", "told apart")),
    "empty category": (_columns(a={"type": "categorical", "values": ["", "x"]}), ("columns.a", "missing: true")),
    "null category": (_columns(a={"type": "categorical", "values": [None, "x"]}), ("columns.a.values.0", "text")),
    "other not listed": (_columns(a={"type": "categorical", "values": ["x"], "other": "y"}), ("columns.a", "other")),
    "other missing": (_columns(a={"type": "categorical", "values": ["x"], "other": "missing"}), ("missing: true",)),
    "one label": (_columns(a={"type": "boolean", "labels": ["x"]}), ("columns.a.labels",)),
    "no date": (_columns(a={"type": "datetime", "min": "1989-02-30", "max": "1990-01-01"}), ("columns.a.min", "ISO")),
    "dates swapped": (_columns(a={"type": "datetime", "min": "1991-01-01", "max": "1990-01-01"}), ("after",)),
    "patient not declared": ({**_columns(a=NUMERIC), "patient": "b"}, ("patient", "'b'")),
    "patient modelled": ({**_columns(a=NUMERIC), "patient": "a"}, ("patient", "identifier")),
    "rows a patient without a patient": ({**_columns(a=NUMERIC), "max_rows_per_patient": 2}, ("needs patient",)),
    "target not declared": ({**_columns(age=NUMERIC), "target": "aeg"}, ("target", "did you mean 'age'")),
    "subgroup not declared": ({**_columns(age=NUMERIC), "subgroups": ["sex"]}, ("subgroups", "'sex'")),
    "intersection of one": ({**_columns(age=NUMERIC), "intersections": [["age"]]}, ("intersections",)),
    "dropped and declared": ({**_columns(age=NUMERIC), "drop": ["age"]}, ("drop", "'age'")),
    "number for missing": ({**_columns(age=NUMERIC), "missing_values": ["-9"]}, ("special",)),
    "rows 0": ({**_columns(age=NUMERIC), "rows": 0}, ("rows",)),
    "images of no size": ({**_columns(age=NUMERIC), "images": {"size": [28]}}, ("images.size",)),
    "a list": ("- 1\n- 2\n", ("not a schema",)),
    "a table": ("age,sex\n1,Jane-Doe-4711\n", ("not a schema",)),
    "nothing": ("", ("not a schema",)),
}


@pytest.mark.parametrize(("document", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_named(document: Any, words: tuple[str, ...]) -> None:
    """A faulty schema is refused with the place of the fault and what was expected."""
    with pytest.raises(SchemaError) as caught:
        Schema.parse(document)
    for word in words:
        assert word in str(caught.value)
    assert "Jane-Doe" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


BASE = _columns(
    sex={"type": "categorical", "values": ["f", "m"]},
    pregnant={"type": "boolean", "missing": True},
    a=NUMERIC,
    b={**NUMERIC, "max": 5, "special": [99]},
    day={"type": "datetime", "min": "1990-01-01", "max": "1991-01-01"},
    id={"type": "identifier"},
)
CONTRADICTIONS: dict[str, tuple[list[Any], str]] = {
    "required both ways": (
        [{"when": {"sex": "m"}, "require": {"pregnant": False}}, {"when": {"sex": "m"}, "require": {"pregnant": True}}],
        "contradicts",
    ),
    "required and forbidden": (
        [{"when": {"sex": "m"}, "require": {"pregnant": True}}, {"when": {"sex": "m"}, "forbid": {"pregnant": True}}],
        "contradicts",
    ),
    "every state forbidden": ([{"when": {"a": {"min": 3}}, "forbid": {"pregnant": [True, False, None]}}], "contradict"),
    "ranges apart": (
        [{"when": {"a": {"min": 3}}, "require": {"b": {"max": 1}}}, {"when": {"a": 5}, "require": {"b": {"min": 2}}}],
        "contradicts",
    ),
    "a chain": (
        [
            {"when": {"sex": "m"}, "require": {"a": {"max": 3}}},
            {"when": {"a": {"max": 3}}, "require": {"b": 1}},
            {"when": {"sex": "m"}, "forbid": {"b": 1}},
        ],
        "contradicts",
    ),
    "orders in a circle": ([{"order": ["a", "b"]}, {"order": ["b", "a"]}], "before itself"),
    "order against the bounds": ([{"order": ["c", "d"]}], "cannot hold"),
    "order of unlike columns": ([{"order": ["a", "day"]}], "order is between"),
    "order of categories": ([{"order": ["a", "sex"]}], "order is between"),
    "one column twice": ([{"order": ["a", "a"]}], "twice"),
    "unknown column": ([{"order": ["a", "bb"]}], "did you mean 'b'"),
    "unknown value": ([{"when": {"sex": "x"}, "forbid": {"a": 1}}], "no such category"),
    "value outside": ([{"when": {"sex": "m"}, "forbid": {"a": 11}}], "never takes"),
    "value with digits": ([{"when": {"sex": "m"}, "forbid": {"a": 1.5}}], "never takes"),
    "range outside": ([{"when": {"sex": "m"}, "forbid": {"a": {"min": 11}}}], "no value"),
    "range of no order": ([{"when": {"sex": {"min": "f"}}, "forbid": {"a": 1}}], "no order"),
    "text for a number": ([{"when": {"sex": "m"}, "forbid": {"a": "x"}}], "expected a number"),
    "text for a date": ([{"when": {"sex": "m"}, "forbid": {"day": {"min": "May"}}}], "ISO"),
    "never missing": ([{"when": {"sex": None}, "forbid": {"a": 1}}], "never missing"),
    "identifier": ([{"when": {"id": 1}, "forbid": {"a": 1}}], "identifier"),
    "both sides": ([{"when": {"a": 1}, "forbid": {"a": 2}}], "both sides"),
    "empty when": ([{"when": {}, "forbid": {"a": 2}}], "constraints.0.when"),
    "no form": ([{"if": {"a": 1}}], "constraints.0"),
    "misspelt range": ([{"when": {"a": {"mim": 1}}, "forbid": {"b": 2}}], "did you mean 'min'"),
}


@pytest.mark.parametrize(("constraints", "words"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_contradictory_constraints(constraints: list[Any], words: str) -> None:
    """Constraints that contradict each other, or name what is not there, are refused with the reason."""
    columns = {**BASE["columns"], "c": {**NUMERIC, "min": 5}, "d": {**NUMERIC, "max": 4}}
    with pytest.raises(SchemaError, match="constraints") as caught:
        Schema.parse({**BASE, "columns": columns, "constraints": constraints})
    assert words in str(caught.value)


def test_constraints_that_leave_room_are_kept() -> None:
    """Constraints that share columns and do not contradict each other are accepted."""
    constraints = [
        {"when": {"sex": "m"}, "require": {"pregnant": False}},
        {"when": {"sex": "f", "a": {"max": 3}}, "forbid": {"pregnant": True}},
        {"when": {"b": 99}, "require": {"a": [1, 2]}},
        {"order": ["b", "a"]},
    ]
    assert len(Schema.parse({**BASE, "constraints": constraints}).constraints) == 4


def test_an_unconfirmed_schema_is_refused_for_use() -> None:
    """A schema that nobody has confirmed can be read and not used."""
    with pytest.raises(SchemaError, match="confirmed: true"):
        Schema.parse(_columns(a=NUMERIC)).check_confirmed()
    Schema.parse(WHOLE).check_confirmed()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is not there, is a folder, is no text, or is far too large ends with an error of its own."""
    (tmp_path / "data.csv").write_bytes(b"age\n\xff\xfe\n")
    with pytest.raises(FileError, match=r"none\.yaml"):
        Schema.load(tmp_path / "none.yaml")
    with pytest.raises(FileError, match="cannot be read"):
        Schema.load(tmp_path)
    with pytest.raises(SchemaError, match="UTF-8"):
        Schema.load(tmp_path / "data.csv")
    (tmp_path / "big.yaml").write_bytes(b"#" * (4 * yamltext.MAX_CHARACTERS + 1))
    with pytest.raises(SchemaError, match="larger"):
        Schema.load(tmp_path / "big.yaml")


def test_the_message_names_the_file(tmp_path: Path) -> None:
    """A fault in a file is reported with the file's name."""
    (tmp_path / "ward.yaml").write_text("name: x\n")
    with pytest.raises(SchemaError, match=r"ward\.yaml: columns: is required"):
        Schema.load(tmp_path / "ward.yaml")


VALIDATOR = jsonschema.Draft202012Validator(Schema.json_schema())


@given(schemas())
@settings(max_examples=30)
def test_json_schema_accepts_what_the_parser_accepts(schema: Schema) -> None:
    """The exported JSON Schema accepts every schema that is written."""
    assert [fault.message for fault in VALIDATOR.iter_errors(schema.to_dict())] == []


def test_json_schema_refuses_unknown_fields() -> None:
    """The exported JSON Schema is itself valid, and refuses misspelt fields and columns without a kind."""
    document = Schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(document)
    for faulty in ({**_columns(a=NUMERIC), "taget": "a"}, _columns(a={"min": 0, "max": 1}), {"name": "x"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(faulty, document)


def test_a_schema_is_frozen() -> None:
    """A field of a schema cannot be set."""
    with pytest.raises(ValueError, match="frozen"):
        Schema.parse(WHOLE).confirmed = False


def test_ten_thousand_categories() -> None:
    """A column may have 10,000 categories."""
    values = [f"code {index}" for index in range(10_000)]
    schema = Schema.parse(Schema.parse(_columns(a={"type": "categorical", "values": values})).to_yaml())
    assert schema.columns["a"].values == tuple(values)  # type: ignore[union-attr]
