"""Messages about faults of a schema: where each stands and what to do."""

from typing import Any

from pydantic import BaseModel, ValidationError

from dpsynth.columns.conditions import Range
from dpsynth.columns.kinds import Boolean, Categorical, Datetime, Identifier, Numeric
from dpsynth.schema.constraints import KINDS as _CONSTRAINTS
from dpsynth.schema.dialect import FileFormat

__all__ = ["explain"]

_KINDS: dict[str, type[BaseModel]] = {
    "numeric": Numeric,
    "categorical": Categorical,
    "boolean": Boolean,
    "datetime": Datetime,
    "identifier": Identifier,
}
_WORDS = {
    "string_type": "expected text",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping (name: value)",
    "model_type": "expected a mapping (name: value)",
    "model_attributes_type": "expected a mapping (name: value)",
    "union_tag_invalid": f"type must be one of {', '.join(_KINDS)}",
    "union_tag_not_found": f"type must be one of {', '.join(_KINDS)}",
    "missing": "is required and not given",
}
_CATEGORY = ("string_type", "bool_type", "int_type", "float_type")
_MOST = 5


def explain(fault: ValidationError) -> str:
    """Return one message for what pydantic found: the place and the fault of each, at most five.

    Notes
    -----
    Names of fields and columns are repeated; values are not, because a draft's values may come from data.
    """
    messages: dict[str, list[str]] = {}
    for error in fault.errors(include_url=False):
        messages.setdefault(_place(error["loc"]), []).append(_message(error))
    faults = [f"{place}: {_joined(texts)}" if place else _joined(texts) for place, texts in messages.items()]
    more = [f"and {len(faults) - _MOST} more"] if len(faults) > _MOST else []
    return "; ".join(faults[:_MOST] + more) + "."


def _joined(texts: list[str]) -> str:
    """Put the faults of one place together; a category failed as each of the types that it may have."""
    if {_WORDS[kind] for kind in _CATEGORY} <= set(texts):
        return "expected text, a number, or true or false"
    return ", ".join(dict.fromkeys(texts))


def _place(location: tuple[int | str, ...]) -> str:
    """Drop pydantic's own tags: ('columns', 'age', 'numeric', 'min') is columns.age.min to a reader."""
    parts = ["target", *location[1:]] if location[:1] == ("survival",) else list(location)
    if len(parts) > 2 and parts[0] in ("columns", "constraints") and parts[2] in {*_KINDS, *_CONSTRAINTS}:
        del parts[2]
    if parts and parts[0] == "constraints":
        del parts[4:5]  # constraints, number, side, column, then the form of the condition
    if parts and parts[-1] in ("str", "bool", "int", "float"):
        del parts[-1]
    return ".".join(map(str, parts))


def _message(error: Any) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return "unknown field" + _suggestion(error["loc"])
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind in ("too_short", "too_long", "string_too_short", "string_too_long"):
        return "is too short" if "short" in kind else "is too long"
    text = str(error["msg"]).replace("Input should be", "expected", 1)
    return _WORDS.get(kind, text[0].lower() + text[1:])


def _suggestion(location: tuple[int | str, ...]) -> str:
    from dpsynth.errors import nearest
    from dpsynth.schema.facts import Facts
    from dpsynth.schema.images import Images
    from dpsynth.schema.survival import Survival

    owner: type[BaseModel] = Facts
    if location[0] == "images":
        owner = Images
    elif location[0] == "survival":
        owner = Survival
    elif location[0] == "file":
        owner = FileFormat
    elif len(location) > 2:
        owner = {**_KINDS, **dict(_CONSTRAINTS)}.get(str(location[2]), Range)
    if location[0] == "constraints" and len(location) > 4:
        owner = Range
    return nearest(str(location[-1]), tuple(owner.model_fields)) or f" (known: {', '.join(owner.model_fields)})"
