"""YAML as a schema file uses it: YAML 1.2 scalars, no duplicate keys, no alias bombs, no objects.

PyYAML reads YAML 1.1, where ``no`` and ``yes`` are booleans, ``1:30`` is a number and ``007`` is octal. A category
that is spelled ``no`` in the data must stay the text ``no``, so only ``true`` and ``false`` are booleans here, a number
is what JSON calls one, and dates stay text until a column that knows its kind reads them.
"""

import contextlib
import json
import re
from collections.abc import Hashable
from typing import Any

import yaml

from dpsynth.columns.spelling import number, resolved
from dpsynth.errors import SchemaError

MAX_CHARACTERS = 8_000_000
"""A schema with 10,000 categories has about 200,000 characters; what is far beyond that is not a schema."""

_SCALARS = (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?",
        "-+.0123456789",
    ),
)


class _Loader(yaml.SafeLoader):
    """A safe loader with the scalars above, text keys, and no aliases."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own attribute)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            raise SchemaError(f"YAML: line {line}: aliases (*name) are not used in a schema; write the value again.")
        return super().compose_node(parent, index)

    def construct_yaml_map(self, node: yaml.MappingNode) -> dict[Hashable, Any]:  # type: ignore[override]
        return self.construct_mapping(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: ARG002
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise SchemaError(f"YAML: line {line}: a key must be a name.")
            key = key_node.value  # the text as written: a column may be called 2020 or no
            if key in mapping:
                raise SchemaError(f"YAML: line {line}: this key is given twice; keep one of them.")
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes what the loader above would not read back as text."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))
    _Dumper.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: number(node.value))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: number(node.value))
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_yaml_map)


class Flow(dict[str, Any]):
    """A mapping that is written on one line."""


class FlowList(list[Any]):
    """A list that is written on one line."""


def one_line(document: dict[str, Any]) -> dict[str, Any]:
    """Return the mapping with each of its values set to be written on one line."""
    return {key: _flow(value) for key, value in document.items()}


def _flow(value: Any) -> Any:
    if isinstance(value, dict):
        return Flow({key: _flow(item) for key, item in value.items()})
    return FlowList([_flow(item) for item in value]) if isinstance(value, list) else value


_Dumper.add_representer(
    Flow, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=True)
)
_Dumper.add_representer(
    FlowList, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)


_UNUSUAL_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")


def _represent_text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    # PyYAML folds unusual line breaks inside plain and single quotes; in double quotes they are escaped.
    style = '"' if _UNUSUAL_BREAKS.search(data) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _represent_text)


def loads(text: str) -> Any:
    """Read one YAML document.

    Parameters
    ----------
    text
        The document. Keys come back as text, exactly as written.

    Returns
    -------
    Any
        Mappings, lists, text, numbers, booleans and None. Codes such as 1E5 and 250.00 are text where they are
        categories, and numbers elsewhere (`dpsynth.columns.spelling`).

    Raises
    ------
    SchemaError
        If the text is no YAML, too large, repeats a key, or uses aliases or tags.
    """
    if len(text) > MAX_CHARACTERS:
        raise SchemaError(f"YAML: the file is larger than {MAX_CHARACTERS:,} characters; this is not a schema.")
    try:
        if text.lstrip()[:1] == "{":
            with contextlib.suppress(json.JSONDecodeError):  # YAML in one line begins so, too
                pairs = _without_repeats
                return resolved(json.loads(text, object_pairs_hook=pairs, parse_float=number, parse_int=number))
        return resolved(yaml.load(text, Loader=_Loader))  # noqa: S506  (a subclass of SafeLoader)
    except yaml.YAMLError as fault:
        raise SchemaError(f"YAML: {_position(fault)}: {_reason(fault)}.") from None
    except SchemaError:
        raise
    except (RecursionError, ValueError):
        raise SchemaError("YAML: the file cannot be read (too deeply nested, or a malformed number).") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise SchemaError("JSON: a key is given twice in one object; keep one of them.")
    return mapping


def dumps(document: Any) -> str:
    """Write a document of plain values so that `loads` gives it back.

    Parameters
    ----------
    document
        Mappings, lists, text, numbers, booleans and None; `Flow` and `FlowList` are written on one line.

    Returns
    -------
    str
        YAML text, keys in their order.
    """
    return str(
        yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118, default_flow_style=False)
    )


def _position(fault: yaml.YAMLError) -> str:
    mark = getattr(fault, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "somewhere in the file"


def _reason(fault: yaml.YAMLError) -> str:
    if isinstance(fault, yaml.constructor.ConstructorError):
        return "tags (!name) are not used in a schema"
    problem = getattr(fault, "problem", None) or "not YAML (a character that may not stand in a text file)"
    return str(problem).rstrip(".")


def natural(value: Any) -> Any:
    """Write a bound such as 18.0 as 18: the same number, easier to read. Categories keep their type."""
    if isinstance(value, list):
        return [natural(item) for item in value]
    if isinstance(value, dict):
        return {key: natural(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def natural_condition(condition: Any) -> Any:
    """Write the bounds of a range so, and leave categories as they are."""
    return natural(condition) if isinstance(condition, dict) else condition


def one_line_each(document: dict[str, Any]) -> dict[str, Any]:
    """Set lists, columns and constraints to be written on one line each."""
    blocks: dict[str, Any] = {"columns": one_line(document["columns"])}
    if "constraints" in document:
        blocks["constraints"] = [one_line({"_": item})["_"] for item in document["constraints"]]
    return {**one_line(document), **blocks}
