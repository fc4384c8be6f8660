"""A small arithmetic over the columns of a row: what derived columns are computed by. No code is run."""

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Formula", "Interval"]

Floats = npt.NDArray[np.float64]
LONGEST = 1_000
"""Characters of a formula at most."""
DEEPEST = 50
"""Operations within each other at most."""
_QUOTED = re.compile(r"`([^`]+)`")
_PLACE = "_quoted_{}"
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "abs": (1, 1, np.abs),
    "round": (1, 1, np.rint),
    "floor": (1, 1, np.floor),
    "ceil": (1, 1, np.ceil),
    "sqrt": (1, 1, np.sqrt),
    "exp": (1, 1, np.exp),
    "log": (1, 1, np.log),
    "log10": (1, 1, np.log10),
    "min": (2, 99, lambda *values: _folded(np.minimum, values)),
    "max": (2, 99, lambda *values: _folded(np.maximum, values)),
}
_KNOWN = f"numbers, columns (in `backticks` where a name is no word), + - * / **, and {', '.join(_FUNCTIONS)}"


@dataclass(frozen=True)
class Interval:
    """Between which values a formula lies, and whether it has one for all values of its columns."""

    low: float
    high: float
    defined: bool = True


@dataclass(frozen=True)
class Formula:
    """An arithmetic expression, such as ``weight / (height / 100) ** 2``.

    Parameters
    ----------
    text
        Numbers, names of columns (in backticks where a name is no word), ``+ - * / **``, brackets, and
        abs, round, floor, ceil, sqrt, exp, log, log10, min, max.

    Raises
    ------
    ValueError
        If it is anything else. The text is read as a tree of which each node is one of these; none is run as code.

    Examples
    --------
    >>> bmi = Formula("weight / (height / 100) ** 2")
    >>> bmi.names
    ('weight', 'height')
    >>> float(bmi.of({"weight": np.array([80.0]), "height": np.array([200.0])})[0])
    20.0
    """

    text: str

    def __post_init__(self) -> None:
        if len(self.text) > LONGEST:
            raise ValueError(f"a formula has at most {LONGEST} characters")
        if _PLACE.format("") in self.text:
            raise ValueError(f"a formula cannot name a column with {_PLACE.format('')} in it; rename the column")
        _check(self._tree, 0)
        if not self.names:
            raise ValueError("a formula names no column; expected at least one")

    @cached_property
    def _quoted(self) -> list[str]:
        return _QUOTED.findall(self.text)

    @cached_property
    def _tree(self) -> ast.expr:
        places = iter(range(len(self._quoted)))
        text = _QUOTED.sub(lambda _: _PLACE.format(next(places)), self.text)
        try:
            return ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ValueError(f"this is no formula; expected {_KNOWN}") from None

    def _column(self, node: ast.Name) -> str:
        prefix = _PLACE.format("")
        return self._quoted[int(node.id.removeprefix(prefix))] if node.id.startswith(prefix) else node.id

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns that it names, in the order of their first mention."""
        called = {id(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        nodes = [node for node in ast.walk(self._tree) if isinstance(node, ast.Name) and id(node) not in called]
        nodes.sort(key=lambda node: (node.lineno, node.col_offset))
        return tuple(dict.fromkeys(self._column(node) for node in nodes))

    @property
    def column(self) -> str | None:
        """The column that it is nothing but the name of, if it is."""
        return self.names[0] if isinstance(self._tree, ast.Name) else None

    @cached_property
    def is_sum(self) -> bool:
        """Whether it adds and takes away only, so that it has no more digits than its columns and numbers."""
        kinds = (ast.BinOp, ast.UnaryOp, ast.Name, ast.Constant, ast.operator, ast.unaryop, ast.expr_context)
        nodes = list(ast.walk(self._tree))
        sums = all(isinstance(node.op, ast.Add | ast.Sub) for node in nodes if isinstance(node, ast.BinOp))
        whole = all(_number(node).is_integer() for node in nodes if isinstance(node, ast.Constant))
        return sums and whole and all(isinstance(node, kinds) for node in nodes)

    def of(self, values: Mapping[str, Floats]) -> Floats:
        """Return (rows,) its value; not a number, or infinite, where it has none.

        Parameters
        ----------
        values
            For each of `names` (rows,) numbers.

        Returns
        -------
        float64 array
            Of shape (rows,).
        """
        with np.errstate(all="ignore"):
            result: Floats = np.asarray(self._value(self._tree, values), dtype=np.float64)
        return result

    def _value(self, node: ast.expr, values: Mapping[str, Floats]) -> Any:
        if isinstance(node, ast.Constant):
            return _number(node)
        if isinstance(node, ast.Name):
            return values[self._column(node)]
        if isinstance(node, ast.UnaryOp):
            value = self._value(node.operand, values)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp):
            return _OPERATORS[type(node.op)](self._value(node.left, values), self._value(node.right, values))
        assert isinstance(node, ast.Call)  # noqa: S101  (`_check`)
        assert isinstance(node.func, ast.Name)  # noqa: S101  (`_check`)
        return _FUNCTIONS[node.func.id][2](*(self._value(part, values) for part in node.args))

    def interval(self, bounds: Mapping[str, tuple[float, float]]) -> Interval:
        """Return between which values it lies, given the bounds of each column.

        Parameters
        ----------
        bounds
            For each of `names` the least and the greatest value.

        Returns
        -------
        Interval
            It may be wider than what is reached where a column stands twice; `defined` is False where a divisor may be
            0, a root or logarithm negative, or a power without a value.
        """
        with np.errstate(all="ignore"):
            return self._interval(self._tree, bounds)

    def _interval(self, node: ast.expr, bounds: Mapping[str, tuple[float, float]]) -> Interval:
        if isinstance(node, ast.Constant):
            return Interval(_number(node), _number(node))
        if isinstance(node, ast.Name):
            low, high = bounds[self._column(node)]
            return Interval(float(low), float(high))
        if isinstance(node, ast.UnaryOp):
            part = self._interval(node.operand, bounds)
            return Interval(-part.high, -part.low, part.defined) if isinstance(node.op, ast.USub) else part
        if isinstance(node, ast.BinOp):
            return _joint(type(node.op), self._interval(node.left, bounds), self._interval(node.right, bounds))
        assert isinstance(node, ast.Call)  # noqa: S101  (`_check`)
        assert isinstance(node.func, ast.Name)  # noqa: S101  (`_check`)
        return _of_function(node.func.id, [self._interval(part, bounds) for part in node.args])


def _folded(function: Callable[[Any, Any], Any], values: tuple[Any, ...]) -> Any:
    result = values[0]
    for value in values[1:]:
        result = function(result, value)
    return result


def _check(node: ast.AST, depth: int) -> None:
    """Refuse what is not of this arithmetic."""
    if depth > DEEPEST:
        raise ValueError(f"a formula has more than {DEEPEST} operations within each other")
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not math.isfinite(_number(node)):
            raise ValueError(f"a formula holds something that is no number; expected {_KNOWN}")
        return
    if isinstance(node, ast.Name):
        return
    parts: list[ast.expr]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        parts = [node.operand]
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        parts = [node.left, node.right]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        least, most, _ = _FUNCTIONS[node.func.id]
        if node.keywords or not least <= len(node.args) <= most:
            raise ValueError(f"{node.func.id} takes {'one value' if most == 1 else 'two or more values'}")
        parts = node.args
    else:
        raise ValueError(f"a formula holds something else than {_KNOWN}")
    for part in parts:
        _check(part, depth + 1)


def _number(node: ast.Constant) -> float:
    """Return a constant as a number, not a number where it is none."""
    try:
        return float(node.value) if isinstance(node.value, int | float) else math.nan
    except OverflowError:
        return math.inf


def _joint(kind: type[ast.operator], left: Interval, right: Interval) -> Interval:
    """Return the interval of an operation: its extremes are at the corners, as it is monotone in each argument."""
    defined = left.defined and right.defined
    if kind is ast.Div and right.low <= 0 <= right.high:
        return Interval(-math.inf, math.inf, defined=False)
    whole = right.low == right.high and float(right.low).is_integer()
    if kind is ast.Pow and left.low <= 0 and not (whole and (right.low > 0 or left.high < 0)):
        return Interval(-math.inf, math.inf, defined=False)
    corners = [float(_OPERATORS[kind](a, b)) for a in (left.low, left.high) for b in (right.low, right.high)]
    if kind is ast.Pow and left.low < 0 < left.high:
        corners.append(0.0)
    return _within(corners, defined=defined)


def _of_function(name: str, parts: list[Interval]) -> Interval:
    defined = all(part.defined for part in parts)
    first = parts[0]
    if (name == "sqrt" and first.low < 0) or (name in ("log", "log10") and first.low <= 0):
        return Interval(-math.inf, math.inf, defined=False)
    function = _FUNCTIONS[name][2]
    if len(parts) > 1:
        lows, highs = [part.low for part in parts], [part.high for part in parts]
        return _within([float(function(*lows)), float(function(*highs))], defined=defined)
    corners = [float(function(first.low)), float(function(first.high))]
    if name == "abs" and first.low < 0 < first.high:
        corners.append(0.0)
    return _within(corners, defined=defined)


def _within(corners: list[float], *, defined: bool) -> Interval:
    if not all(math.isfinite(corner) for corner in corners):
        return Interval(-math.inf, math.inf, defined=False)
    return Interval(min(corners), max(corners), defined)
