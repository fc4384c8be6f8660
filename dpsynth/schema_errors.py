"""What a schema's fault is, in words that say where it stands and what to do."""

from typing import Any

from pydantic import BaseModel, ValidationError

from dpsynth.columns import Boolean, Categorical, Datetime, Identifier, Numeric
from dpsynth.constraints import Forbid, Order, Range, Require

__all__ = ["explain"]

_KINDS: dict[str, type[BaseModel]] = {
    "numeric": Numeric,
    "categorical": Categorical,
    "boolean": Boolean,
    "datetime": Datetime,
    "identifier": Identifier,
}
_CONSTRAINTS: dict[str, type[BaseModel]] = {"forbid": Forbid, "require": Require, "order": Order}
_MOST = 5


def explain(fault: ValidationError) -> str:
    """Return one message for what pydantic found: the place and the fault of each, at most five.

    Notes
    -----
    Names of fields and columns are repeated; values are not, because a draft's values may come from data.
    """
    found = list(dict.fromkeys(_line(error) for error in fault.errors(include_url=False, include_context=True)))
    more = [f"and {len(found) - _MOST} more"] if len(found) > _MOST else []
    return "; ".join(found[:_MOST] + more) + "."


def _line(error: Any) -> str:
    location, message = error["loc"], _message(error)
    place = ".".join(str(part) for part in _place(location))
    return f"{place}: {message}" if place else message


def _place(location: tuple[int | str, ...]) -> list[int | str]:
    """Drop pydantic's own tags: ('columns', 'age', 'numeric', 'min') is columns.age.min to a reader."""
    parts = list(location)
    if len(parts) > 2 and parts[0] in ("columns", "constraints") and parts[2] in {*_KINDS, *_CONSTRAINTS}:
        del parts[2]
    # A condition is a union; its branches' names are no part of the file.
    return [part for part in parts if part not in ("Range", "str", "float", "int", "bool") and "[" not in str(part)]


def _message(error: Any) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return "unknown field" + _suggestion(error["loc"])
    if kind == "missing":
        return "is required and not given"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"type must be one of {', '.join(_KINDS)}"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    text = str(error["msg"]).replace("Input should be", "expected", 1)
    return text[0].lower() + text[1:]


def _suggestion(location: tuple[int | str, ...]) -> str:
    from dpsynth.schema import Images, Schema, nearest

    owner: type[BaseModel] = Schema
    if location[0] == "images":
        owner = Images
    elif len(location) > 2:
        owner = {**_KINDS, **_CONSTRAINTS}.get(str(location[2]), Range)
    if "Range" in location:
        owner = Range
    return nearest(str(location[-1]), tuple(owner.model_fields)) or f" (known: {', '.join(owner.model_fields)})"
