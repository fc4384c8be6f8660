"""Conditions as a person types them: ``race == 'black'``, ``age >= 80``, ``dose in [1, 2]``, ``edu is missing``.

A tiny parser and no `eval`: a condition is a column, one operator and literal values, nothing else.
"""

import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any

from dpsynth.errors import InputError

__all__ = ["literal", "parse_conditions", "parse_proportions"]

_COLUMN = r"""(?: "(?P<double>[^"]+)" | '(?P<single>[^']+)' | `(?P<tick>[^`]+)` | (?P<bare>[^\s"'`=<>!][^=<>!]*?) )"""
_CONDITION = re.compile(
    rf"""\s*{_COLUMN}\s*(?:
        (?P<missing>\bis\s+missing) | (?P<in>\bin)\s*\[(?P<list>.*)\] | (?P<op>==|>=|<=)\s*(?P<value>.+?)
    )\s*""",
    re.VERBOSE | re.DOTALL,
)
_LITERAL = re.compile(
    r"""\s*(?: "(?P<double>[^"]*)" | '(?P<single>[^']*)' | (?P<bare>[^,"']+?) )\s*(?:,|$)""", re.VERBOSE
)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.]+)?")
_AND = re.compile(r"\s+and\s+")
_OR = re.compile(r"\s+or\s+")
_TOKEN = re.compile(r"""\s+and\s+|\s+or\s+|"[^"]*"|'[^']*'|`[^`]*`|.""", re.DOTALL)
_FORMS = "COLUMN == VALUE, COLUMN >= NUMBER, COLUMN <= NUMBER, COLUMN in [VALUE, VALUE], COLUMN is missing"
_BOUND = {">=": "min", "<=": "max"}


def parse_conditions(texts: Iterable[str]) -> dict[str, Any]:
    """Turn conditions into the mapping that `Model.sample` takes.

    Parameters
    ----------
    texts : iterable of str
        One condition each, or several joined by ``and``. A column with operators or leading blanks in its name stands
        in quotes or backticks. Values in quotes are text; without, they are read as a number, ``true``, ``false`` or
        else text.

    Returns
    -------
    dict
        For example ``{"race": "black", "age": {"min": 80, "max": 90}}``.

    Raises
    ------
    InputError
        If a condition has none of the forms, or two conditions on one column cannot be joined.

    Examples
    --------
    >>> parse_conditions(["age >= 80 and age <= 90", "race == 'black'", "edu is missing"])
    {'age': {'min': 80, 'max': 90}, 'race': 'black', 'edu': None}
    """
    texts = list(texts)
    for text in texts:
        if any(_OR.fullmatch(token) for token in _TOKEN.findall(text)):
            raise InputError(
                f"where {text!r}: or is not read; for several values of one column write COLUMN in [A, B], put text "
                "with or in it in quotes, and draw other alternatives one by one."
            )
    conditions: dict[str, Any] = {}
    for text in itertools.chain.from_iterable(map(_pieces, texts)):
        column, condition = _parse(text)
        if column not in conditions:
            conditions[column] = condition
        else:
            conditions[column] = _join(column, conditions[column], condition)
    return conditions


def parse_proportions(texts: Iterable[str]) -> list[tuple[dict[str, Any], float]]:
    """Turn texts ``CONDITION: SHARE`` into the pairs that `Model.sample` takes as proportions.

    Parameters
    ----------
    texts : iterable of str
        A condition as for `parse_conditions`, a colon, and the share of the rows that meet it, 0 to 1.

    Returns
    -------
    list of (dict, float)
        Conditions and their shares.

    Raises
    ------
    InputError
        If there is no share behind the last colon, or what stands before it is no condition.

    Examples
    --------
    >>> parse_proportions(["race == 'black': 0.5", "race == 'white' and age >= 80: 0.25"])
    [({'race': 'black'}, 0.5), ({'race': 'white', 'age': {'min': 80}}, 0.25)]
    """
    proportions = []
    for text in texts:
        condition, colon, share = text.rpartition(":")
        if not colon or not _DECIMAL.fullmatch(share.strip()):
            raise InputError(f"--proportions {text!r}: expected CONDITION: SHARE, such as \"race == 'black': 0.5\".")
        proportions.append((parse_conditions([condition]), float(share)))
    return proportions


def _pieces(text: str) -> list[str]:
    """Split at each ``and`` outside quotes behind which another condition begins."""
    pieces = [""]
    for token in _TOKEN.findall(text):
        if _AND.fullmatch(token):
            pieces.append("")
        else:
            pieces[-1] += token
    joined = pieces[:1]
    for piece in pieces[1:]:
        if _CONDITION.fullmatch(piece):
            joined.append(piece)
        else:
            joined[-1] += " and " + piece
    return joined


def _parse(text: str) -> tuple[str, Any]:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise InputError(f"where {text!r}: not understood; expected one of: {_FORMS}.")
    column = _picked(match)
    if match["missing"]:
        return column, None
    bound = not match["in"] and match["op"] != "=="
    values = _literals(text, match["list"] if match["in"] else match["value"], read=literal if bound else _equal)
    if match["in"]:
        return column, values
    if len(values) != 1:
        raise InputError(
            f"where {text!r}: expected one value after {match['op']}; for several write: {column} in [A, B]."
        )
    if match["op"] == "==":
        return column, values[0]
    return column, {_BOUND[match["op"]]: _bound(text, values[0])}


def _bound(text: str, value: Any) -> Any:
    """Refuse a bound that is no number and no date."""
    if isinstance(value, bool) or (isinstance(value, str) and not _DATE.fullmatch(value)):
        raise InputError(f"where {text!r}: expected a number or an ISO date after >= or <=.")
    return value


def _picked(match: re.Match[str]) -> str:
    return next(match[group] for group in ("double", "single", "tick", "bare") if match[group] is not None).strip()


def _literals(text: str, source: str, *, read: Callable[[str], Any]) -> list[Any]:
    values, at = [], 0
    while at < len(source):
        match = _LITERAL.match(source, at)
        if match is None:
            raise InputError(f"where {text!r}: its value is not understood; put text with quotes or commas in quotes.")
        values.append(_literal(match, read))
        at = match.end()
    if not values:
        raise InputError(f"where {text!r}: has no value; expected one of: {_FORMS}.")
    return values


def _literal(match: re.Match[str], read: Callable[[str], Any]) -> Any:
    quoted = match["double"] if match["double"] is not None else match["single"]
    return quoted if quoted is not None else read(match["bare"].strip())


def _equal(word: str) -> Any:
    """Read an unquoted word that a value must equal: 428.0 and 1E5 may be codes and stay as they are spelled."""
    value = literal(word)
    return value if isinstance(value, bool) or (str(value) == word and not word.endswith(".0")) else word


def literal(word: str) -> Any:
    """Read an unquoted word as a whole number, a decimal number, ``true``, ``false``, or else as text."""
    if word.lower() in {"true", "false"}:
        return word.lower() == "true"
    if _INTEGER.fullmatch(word):
        return int(word)
    return float(word) if _DECIMAL.fullmatch(word) else word


def _join(column: str, first: Any, second: Any) -> dict[str, Any]:
    """Two bounds on one column are one interval; anything else said twice is a slip."""
    if isinstance(first, dict) and isinstance(second, dict) and not first.keys() & second.keys():
        return {**first, **second}
    raise InputError(
        f"where: column {column!r} has two conditions that cannot be joined; use one, or COLUMN in [A, B]."
    )
