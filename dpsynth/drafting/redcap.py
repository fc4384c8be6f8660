"""Draft schemas from the data dictionary of a REDCap project: its codebook, which holds no patient's value.

REDCap exports one column for each field, but for each choice of a checkbox one of its own, such as ``race___1``.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpsynth.columns.identifying import meaning_of
from dpsynth.drafting.draft import Draft
from dpsynth.errors import DataError, FileError
from dpsynth.schema.open_questions import OPEN
from dpsynth.schema.schema import Schema

__all__ = ["checkbox_column", "from_redcap"]

_HEAD = (
    "DRAFT from a REDCap data dictionary: categories, labels and limits are the project's; no data were read. What",
    "stands behind a column as a `placeholder` must be replaced by public knowledge. Free text and REDCap's columns",
    "stand under drop; where events or forms repeat, say max_rows_per_patient. Then say in source where it comes from,",
    "and set confirmed: true.",
)
_NAMES = {
    "field": ("Variable / Field Name", "field_name"),
    "form": ("Form Name", "form_name"),
    "type": ("Field Type", "field_type"),
    "label": ("Field Label", "field_label"),
    "choices": ("Choices, Calculations, OR Slider Labels", "select_choices_or_calculations"),
    "validation": ("Text Validation Type OR Show Slider Number", "text_validation_type_or_show_slider_number"),
    "min": ("Text Validation Min", "text_validation_min"),
    "max": ("Text Validation Max", "text_validation_max"),
    "identifier": ("Identifier?", "identifier"),
    "required": ("Required Field?", "required_field"),
    "branching": ("Branching Logic (Show field only if...)", "branching_logic"),
}
"""The columns of a data dictionary, as REDCap downloads it and as its API does."""
_OWN = (
    "redcap_event_name",
    "redcap_repeat_instrument",
    "redcap_repeat_instance",
    "redcap_data_access_group",
    "redcap_survey_identifier",
)
"""Columns that REDCap adds to an export."""
_DATES = ("date_dmy", "date_mdy", "date_ymd")  # an export has all of them as 2001-02-03
_DIGITS = re.compile(r"number(?:_(\d)dp)?(?:_comma_decimal)?")
_TAGS = re.compile(r"<[^>]*>")
_FAR = 1_000_000
_CENTURIES = ("1900-01-01", "2099-12-31")

Field = Mapping[str, str]
Drafted = tuple[dict[str, Any], tuple[str, ...]]
"""A column's fields, and which of them are placeholders."""


def from_redcap(path: str | Path, *, labels: bool = False) -> Draft:
    r"""Turn a REDCap data dictionary into a draft schema for the project's export.

    Parameters
    ----------
    path
        The data dictionary: CSV, as *Project Setup* downloads it or as the API exports metadata.
    labels
        Whether the export holds the labels of choices (*CSV, labels*) in place of their codes (*CSV, raw data*).

    Returns
    -------
    Draft
        With ``confirmed: false``. The first field tells records apart: where its name does not say that a record is
        a patient, or the project may repeat forms, check it. Fields that are flagged *Identifier?* are identifiers;
        each choice of a checkbox is a boolean column of its own.

    Raises
    ------
    FileError
        If the file cannot be read.
    DataError
        If it is no data dictionary, or a field has choices that cannot be read; the message names it.

    Notes
    -----
    Privacy contract: reads the dictionary alone. Nothing in the draft comes from data.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "dictionary.csv")
    ...     _ = file.write_text("field_name,field_type,select_choices_or_calculations\n"
    ...                         'record_id,text,\nrace,checkbox,"1, White | 2, Black"\n')
    ...     drafted = from_redcap(file)
    >>> drafted.schema.patient, drafted.schema.modelled
    ('record_id', ('race___1', 'race___2'))
    """
    path = Path(path)
    fields = _fields(path)
    record = fields[0]["field"]
    columns: dict[str, dict[str, Any]] = {record: {"type": "identifier"}}
    placeholders: dict[str, tuple[str, ...]] = {}
    drop: list[str] = []
    for field in fields[1:]:
        drafted = dict(_columns(field, labels=labels))
        if not drafted and field["type"] not in ("descriptive", "file"):
            drop.append(field["field"])
        columns |= {name: column for name, (column, _) in drafted.items()}
        placeholders |= {name: notes for name, (_, notes) in drafted.items() if notes}
    forms = [f"{form}_complete" for form in dict.fromkeys(field["form"] for field in fields) if form]
    document = {
        "name": re.sub(r"[^A-Za-z0-9]+", "_", path.stem).strip("_").lower() or "cohort",
        "patient": OPEN if meaning_of(record).entity in ("visit", "row") else record,
        "columns": columns,
        "drop": [*drop, *(name for name in (*forms, *_OWN) if name not in columns)],
    }
    return Draft(
        Schema.parse({key: value for key, value in document.items() if value}), placeholders, _HEAD, "placeholder"
    )


def checkbox_column(field: str, code: str) -> str:
    """Return the name of the column that REDCap exports for a choice of a checkbox.

    >>> checkbox_column("race", "-1"), checkbox_column("race", "NA")
    ('race____1', 'race___na')
    """
    return f"{field}___{re.sub(r'[^a-z0-9_]', '_', code.lower())}"


def _fields(path: Path) -> list[dict[str, str]]:
    """Return the rows of a data dictionary, under our names for its columns."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows, header = list(reader), set(reader.fieldnames or ())
    except OSError as error:
        raise FileError(f"{path.name}: cannot be read ({error.strerror or 'unknown reason'}).") from None
    except (UnicodeError, csv.Error):
        raise DataError(f"{path.name}: is not a CSV file in UTF-8; download the data dictionary again.") from None
    names = {ours: next((name for name in theirs if name in header), "") for ours, theirs in _NAMES.items()}
    if not (names["field"] and names["type"]):
        raise DataError(
            f"{path.name}: is no REDCap data dictionary; expected a CSV file with the columns 'Variable / Field Name' "
            "and 'Field Type' (Project Setup, Data Dictionary, Download)."
        )
    fields = [{ours: (row.get(name) or "").strip() if name else "" for ours, name in names.items()} for row in rows]
    fields = [field for field in fields if field["field"]]
    if not fields:
        raise DataError(f"{path.name}: has no fields; download the data dictionary again.")
    return fields


def _columns(field: Field, *, labels: bool) -> Iterator[tuple[str, Drafted]]:
    """Yield the columns that REDCap exports for a field; none for those that nobody models."""
    name = field["field"]
    is_identifier = field["identifier"].lower() in ("y", "yes", "1") and field["type"] not in ("descriptive", "file")
    if field["type"] == "checkbox":
        for code, label in _choices(field):
            if is_identifier:
                yield checkbox_column(name, code), ({"type": "identifier"}, ())
                continue
            described = {"description": f"{_plain(field['label'])}: {label}".strip(": ")}
            written = ["Unchecked", "Checked"] if labels else [0, 1]
            yield checkbox_column(name, code), ({"type": "boolean", "labels": written, **described}, ())
    elif is_identifier:
        yield name, ({"type": "identifier"}, ())
    else:
        drafted = _KINDS.get(field["type"], _none)(field, labels)
        if drafted is not None:
            column, placeholders = drafted
            words = ": ".join(part for part in (_plain(field["label"]), column.get("description", "")) if part)
            described = {"description": words} if words else {}
            yield name, ({**column, **_missing(field), **described}, placeholders)


def _missing(field: Field) -> dict[str, Any]:
    """Return that a value may be missing, but where a field is required and always shown."""
    is_certain = field["required"].lower() in ("y", "yes", "1") and not field["branching"]
    return {} if is_certain else {"missing": True}


def _choices(field: Field) -> list[tuple[str, str]]:
    """Return the codes and labels of a field with choices."""
    pairs = [part.partition(",") for part in re.split(r"\||\n", field["choices"]) if part.strip()]
    choices = [(code.strip(), _plain(label) or code.strip()) for code, _, label in pairs]
    if not choices or any(not code for code, _ in choices):
        raise DataError(f"field {field['field']!r}: has no choices that can be read; expected '1, Yes | 2, No'.")
    return choices


def _plain(label: str) -> str:
    """Return a label without the markup that REDCap allows in it."""
    return " ".join(_TAGS.sub(" ", label).split())


def _coded(field: Field, labels: bool) -> Drafted:
    choices = _choices(field)
    values = list(dict.fromkeys(label if labels else _code(code) for code, label in choices))
    named = "" if labels else "; ".join(f"{code} {label}" for code, label in choices)
    return {"type": "categorical", "values": values, **({"description": named} if named else {})}, ()


def _code(code: str) -> int | str:
    return int(code) if re.fullmatch(r"0|-?[1-9]\d{0,8}", code) else code


def _boolean(_field: Field, labels: bool, words: Sequence[str]) -> Drafted:
    return {"type": "boolean", "labels": list(words) if labels else [0, 1]}, ()


def _slider(field: Field, _labels: bool) -> Drafted:
    return _limited(field, {"type": "numeric", "min": 0, "max": 100}, float)[0], ()


def _text(field: Field, _labels: bool) -> Drafted | None:
    """Return a column for a text field with a validation; free text is nobody's to model."""
    kind = field["validation"].lower()
    number = _DIGITS.fullmatch(kind)
    if kind == "integer":
        return _limited(field, {"type": "numeric", "min": -_FAR, "max": _FAR}, float)
    if number is not None:
        decimals = int(number[1]) if number[1] else 3
        drafted, placeholders = _limited(field, {"type": "numeric", "min": -_FAR, "max": _FAR}, float)
        return {**drafted, "decimals": decimals}, (*placeholders, *([] if number[1] else ["decimals"]))
    if kind in _DATES:
        return _limited(field, dict(zip(("type", "min", "max"), ("datetime", *_CENTURIES), strict=True)), _day)
    if kind.startswith("datetime"):
        pattern = "%Y-%m-%d %H:%M:%S" if "seconds" in kind else "%Y-%m-%d %H:%M"
        wide = {"type": "datetime", "min": f"{_CENTURIES[0]}T00:00:00", "max": f"{_CENTURIES[1]}T23:59:59"}
        return _limited(field, {**wide, "format": pattern}, _moment)
    return None


def _limited(field: Field, wide: dict[str, Any], read: Callable[[str], Any]) -> Drafted:
    """Return a column with the limits of its validation, and which are placeholders."""
    column, placeholders = dict(wide), []
    for end in ("min", "max"):
        try:
            column[end] = read(field[end].replace(",", "."))
        except ValueError:  # none, or [another_field] and today, which are no limits for everybody
            placeholders.append(end)
    if column["type"] == "numeric" and column["min"] >= column["max"] and placeholders:
        column |= {"max": column["min"] + _FAR} if "max" in placeholders else {"min": column["max"] - _FAR}
    return column, tuple(placeholders)


def _calculated(_field: Field, _labels: bool) -> Drafted:
    return {"type": "numeric", "min": -_FAR, "max": _FAR, "decimals": 3}, ("min", "max", "decimals")


def _day(text: str) -> str:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise ValueError(text)
    return text


def _moment(text: str) -> str:
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(:\d\d)?", text)
    if found is None:
        raise ValueError(text)
    return f"{found[1]}T{found[2]}{found[3] or ':00'}"


def _none(_field: Field, _labels: bool) -> None:
    return None


_KINDS: dict[str, Callable[[Field, bool], Drafted | None]] = {
    "radio": _coded,
    "dropdown": _coded,
    "yesno": lambda field, labels: _boolean(field, labels, ("No", "Yes")),
    "truefalse": lambda field, labels: _boolean(field, labels, ("False", "True")),
    "slider": _slider,
    "calc": _calculated,
    "text": _text,
}
