"""Whether the forbidden and required combinations of a schema leave each other room."""

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt

from dpsynth.columns import Column, Datetime, Identifier, Numeric
from dpsynth.conditions import Meaning, implication_rows, resolve
from dpsynth.constraints import Forbid, Require, describe

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
    known = [item for item in constraints if not any(columns[name].is_discovered for name in item.columns)]
    for group in connected([set(item.columns) for item in known]):
        _check_group(columns, sorted(group), [item for item in known if set(item.columns) <= group])


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
            meaning: mask.reshape([-1 if other == name else 1 for other in names]) for meaning, mask in found.items()
        }
        for name, found in masks.items()
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
