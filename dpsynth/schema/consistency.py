"""A check that forbidden and required combinations of a schema do not contradict each other."""

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt

from dpsynth.columns.conditions import OPEN_END, Meaning, Pair, resolve
from dpsynth.columns.kinds import Column, Datetime, Identifier, Numeric
from dpsynth.schema.constraints import Constraint, Forbid, Order, Require, describe, expanded, implication_rows

__all__ = ["check_contradictions"]

Mask = npt.NDArray[np.bool_]
_LARGEST = 2**22
"""More combinations than this are not enumerated; a contradiction among them is met when rows are drawn."""


def check_contradictions(columns: Mapping[str, Column], constraints: Sequence[Forbid | Require]) -> None:
    """Refuse constraints that together rule out what one of them speaks of.

    The values of each column are put together by which conditions hold for them, so a few combinations stand for all.

    Raises
    ------
    ValueError
        If the `when` of a constraint can hold in no row that keeps all constraints.
    """
    closed = [item for item in constraints if not any(columns[name].is_discovered for name in item.columns)]
    for group in connected([set(item.columns) for item in closed]):
        _check_group(columns, sorted(group), [item for item in closed if set(item.columns) <= group])


def connected(sets: Sequence[set[str]]) -> list[set[str]]:
    """Return the unions of the sets that share members."""
    groups: list[set[str]] = []
    for names in sets:
        apart = [group for group in groups if not group & names]
        groups = [*apart, names.union(*(group for group in groups if group & names))]
    return groups


def _check_group(columns: Mapping[str, Column], names: Sequence[str], constraints: Sequence[Forbid | Require]) -> None:
    meanings = [
        [{name: resolve(name, columns[name], condition) for name, condition in side.items()} for side in item.parts()]
        for item in constraints
    ]
    masks = {
        name: _kinds_of_value(columns[name], [side[name] for sides in meanings for side in sides if name in side])
        for name in names
    }
    sizes = [len(next(iter(masks[name].values()))) for name in names]
    if np.prod(sizes, dtype=float) > _LARGEST:
        return
    spread = {
        name: {
            meaning: mask.reshape([-1 if other == name else 1 for other in names])
            for meaning, mask in column_masks.items()
        }
        for name, column_masks in masks.items()
    }
    sides = [[[spread[name][meaning] for name, meaning in side.items()] for side in pair] for pair in meanings]
    allowed = np.ones(sizes, dtype=bool)
    for item, (left, right) in zip(constraints, sides, strict=True):
        allowed = allowed & ~implication_rows(item, left, right)
    for item, (left, _) in zip(constraints, sides, strict=True):
        if not (allowed & reduce(np.logical_and, left)).any():
            raise ValueError(
                f"constraints: {describe(item)!r} contradicts the others or itself: no row in which its `when` holds "
                "can keep them all"
            )


def _kinds_of_value(column: Column, meanings: Sequence[Meaning]) -> dict[Meaning, Mask]:
    """Return for each condition whether it holds, over the kinds of value that the conditions tell apart."""
    values, comparable = _representatives(column, meanings)
    held = np.array([meaning.holds(values, comparable) for meaning in meanings])
    if not isinstance(column, Identifier) and column.missing:
        held = np.concatenate([held, np.array([[meaning.missing] for meaning in meanings])], axis=1)
    kinds = np.unique(held, axis=1)
    return dict(zip(meanings, kinds, strict=True))


def _representatives(column: Column, meanings: Sequence[Meaning]) -> tuple[npt.NDArray[np.int64], Mask]:
    """Return values among which every combination of conditions that can hold does hold for one."""
    if not isinstance(column, Numeric | Datetime):
        count = 0 if isinstance(column, Identifier) else len(column.categories)
        return np.arange(count, dtype=np.int64), np.ones(count, dtype=bool)
    ends = [end for meaning in meanings for pair in meaning.ranges for end in pair]
    points = [point for meaning in meanings for point in meaning.points]
    near = {end + shift for end in [*ends, *points] for shift in (-1, 0, 1)}
    inside = {value for value in {*near, column.first, column.last} if column.first <= value <= column.last}
    atoms = set(column.atoms) if isinstance(column, Numeric) else set[int]()
    values = np.array(sorted(inside | atoms), dtype=np.int64)
    return values, (values >= column.first) & (values <= column.last)


def check_constraints(columns: Mapping[str, Column], constraints: Sequence[Constraint]) -> None:
    """Refuse constraints that name what is not there, or that contradict each other.

    Raises
    ------
    ValueError
        With the place and the reason.
    """
    from dpsynth.errors import nearest

    for index, constraint in enumerate(constraints):
        for name in constraint.columns:
            if name not in columns:
                raise ValueError(f"constraints.{index}: there is no column {name!r}{nearest(name, columns)}")
        if isinstance(constraint, Order):
            _check_order(index, columns, constraint)
            continue
        try:
            for part in expanded(columns, [constraint]):
                _check_sides(columns, part)
        except ValueError as fault:
            raise ValueError(f"constraints.{index}: {fault}") from None
    parts = expanded(columns, constraints)
    _check_cycles([part for part in parts if isinstance(part, Order)])
    check_contradictions(columns, [part for part in parts if not isinstance(part, Order)])


def _check_sides(columns: Mapping[str, Column], constraint: Forbid | Require | Order) -> None:
    assert not isinstance(constraint, Order)  # noqa: S101  (orders have no conditions)
    for side in constraint.parts():
        for name, condition in side.items():
            resolve(name, columns[name], condition)


def _check_order(index: int, columns: Mapping[str, Column], constraint: Order) -> None:
    kinds = {type(columns[name]) for name in constraint.order}
    if len(kinds) > 1 or not kinds <= {Numeric, Datetime}:
        raise ValueError(f"constraints.{index}: order is between numeric columns, or between datetime columns")
    reached: list[tuple[Numeric | Datetime, int]] = []
    for name in constraint.order:
        column = columns[name]
        assert isinstance(column, Numeric | Datetime)  # noqa: S101  (checked above; narrows the type)
        pairs = [(Pair(before, column, strict=constraint.strict), least) for before, least in reached]
        if any(pair.widest > OPEN_END // 2 for pair, _ in pairs):
            raise ValueError(f"constraints.{index}: {name!r} has too many decimals to be compared with the others")
        reached.append((column, max([column.first, *(pair.least_after(least) for pair, least in pairs)])))
        if reached[-1][1] > column.last:
            raise ValueError(f"constraints.{index}: {describe(constraint)} cannot hold within the columns' bounds")


def _check_cycles(orders: Sequence[Order]) -> None:
    after: dict[str, set[str]] = {}
    for constraint in orders:
        for before, name in zip(constraint.order, constraint.order[1:], strict=False):
            after.setdefault(before, set()).add(name)
    for start in after:
        reached, waiting = set[str](), [start]
        while waiting:
            new = after.get(waiting.pop(), set()) - reached
            if start in new:
                raise ValueError(f"constraints: the orders contradict each other: {start!r} would stand before itself")
            reached |= new
            waiting.extend(new)
