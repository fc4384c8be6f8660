"""The rows of a cohort that meet a condition, or break a constraint."""

from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from dpsynth.columns.conditions import Condition
from dpsynth.columns.grid import Lattice
from dpsynth.columns.kinds import Boolean, Categorical, Datetime, Numeric
from dpsynth.columns.matching import Matcher
from dpsynth.schema.computed import rules
from dpsynth.schema.constraints import Constraint, Forbid, Order, Require, describe, expanded

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

from typing import TYPE_CHECKING

from dpsynth.columns.conditions import Mask, Pair, resolve
from dpsynth.schema.constraints import implication_rows

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort


def broken_rows(cohort: "Cohort", constraint: Constraint) -> Mask:
    """Return (rows,) where a cohort breaks a constraint; numbers are compared at their declared decimals."""
    if isinstance(constraint, Order):
        return _unordered_rows(cohort, constraint)
    if not isinstance(constraint, Forbid | Require):
        parts = expanded(cohort.schema.columns, [constraint])
        return reduce(np.logical_or, [broken_rows(cohort, part) for part in parts])
    left, right = constraint.parts()
    held = [{name: _row_mask(cohort, name, condition) for name, condition in side.items()} for side in (left, right)]
    return implication_rows(constraint, *(list(side.values()) for side in held))


def rows_where(cohort: "Cohort", conditions: Mapping[str, Any]) -> Mask:
    """Return (rows,) where all conditions, as a person or a file writes them, hold; exact, so internal.

    Raises
    ------
    ValueError
        If a column is not there, or a condition cannot hold for any of its values.
    """
    from dpsynth.errors import nearest

    for name in conditions:
        if name not in cohort.schema.modelled:
            raise ValueError(f"there is no column {name!r}{nearest(name, cohort.schema.columns)}")
    parsed = TypeAdapter(dict[str, Condition]).validate_python(dict(conditions))
    return reduce(np.logical_and, [_row_mask(cohort, name, condition) for name, condition in parsed.items()])


def _row_mask(cohort: "Cohort", name: str, condition: Condition) -> Mask:
    from dpsynth.columns.arrow import positions

    column, array = cohort.schema.columns[name], cohort.table[name]
    if isinstance(column, Numeric | Datetime):
        values, missing, comparable = clipped(column, array)
        meaning = resolve(name, column, condition)
    elif isinstance(column, Categorical | Boolean):
        indices, categories = positions(array)
        values, missing, comparable = indices.astype(np.int64), indices < 0, np.ones(len(indices), dtype=bool)
        meaning = resolve(name, column, condition, matcher=Matcher(column, categories=categories))
    else:
        raise TypeError(name)
    return np.where(missing, meaning.missing, meaning.holds(values, comparable))


def clipped(column: Numeric | Datetime, array: Any) -> tuple[Lattice, Mask, Mask]:
    """Return (rows,) steps as they are encoded, where they are missing, and where they have a magnitude."""
    from dpsynth.columns.steps import steps

    values, missing = steps(column, array)
    atoms = column.atoms if isinstance(column, Numeric) else ()
    inside = np.clip(values, column.first, column.last)
    named = np.isin(values, np.array(atoms, dtype=np.int64)) & (inside != values)
    return np.where(named, values, inside), missing, ~named


def _unordered_rows(cohort: "Cohort", constraint: Order) -> Mask:
    broken = np.zeros(cohort.table.num_rows, dtype=bool)
    seen: list[tuple[Numeric | Datetime, Lattice, Mask]] = []
    for name in constraint.order:
        column = cohort.schema.columns[name]
        if not isinstance(column, Numeric | Datetime):
            raise TypeError(name)
        values, missing, comparable = clipped(column, cohort.table[name])
        absent = missing | ~comparable
        for before, least, without in seen:
            pair = Pair(before, column, strict=constraint.strict)
            broken |= (pair.least_after(least) > values) & ~absent & ~without
        seen.append((column, values, absent))
    return broken


def constraint_violations(cohort: "Cohort") -> dict[str, int]:
    """Count the rows of a cohort that break each constraint of its schema.

    Numbers are compared as they are encoded: at the declared decimals, clipped to the public range.

    Parameters
    ----------
    cohort
        A cohort. For a real one the counts are exact and therefore internal: they must not be released.

    Returns
    -------
    dict
        For each constraint, described in words, the number of rows that break it; in the schema's order.

    Notes
    -----
    Privacy contract: reads every row and adds no noise.
    """
    return {describe(constraint): int(broken_rows(cohort, constraint).sum()) for constraint in rules(cohort.schema)}
