"""Rows as they are learned, and back: what lies between columns in place of one, and derived columns computed last.

Sensitivity
-----------
`learned_rows` maps each row by itself, by public facts alone: what a row becomes depends on no other row, and no row is
added or lost. So tables that differ by one patient stay tables that differ by that patient, and nothing is spent.
"""

import dataclasses
from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dpsynth.cohort.rows import clipped, constraint_violations, rows_where
from dpsynth.columns.arrow import positions, whole
from dpsynth.columns.kinds import Boolean, Categorical, Column, Datetime, Numeric
from dpsynth.columns.matching import Matcher
from dpsynth.columns.steps import build, steps
from dpsynth.errors import InputError
from dpsynth.schema.computed import derived_in_order, learned
from dpsynth.schema.derived import words_of
from dpsynth.schema.gaps import gaps_of

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.schema.schema import Schema

__all__ = ["computed_values", "differing", "learned_rows", "restored", "rule_violations"]

Mask = npt.NDArray[np.bool_]


def learned_rows(cohort: "Cohort") -> "Cohort":
    """Return the cohort with its rows as a model learns them; the cohort itself where they are learned as they are.

    Parameters
    ----------
    cohort
        A cohort of the declared schema.

    Returns
    -------
    Cohort
        Of the schema `dpsynth.schema.computed.learned`, with the same rows.

    Notes
    -----
    Privacy contract: see the module's text; a private cohort stays private.
    """
    declared, schema = cohort.schema, learned(cohort.schema)
    if schema is declared:
        return cohort
    arrays = {name: whole(cohort.table[name]) for name in cohort.columns if name in schema.columns}
    for gap in gaps_of(declared.columns):
        if gap.name in arrays:
            _check_there(cohort, gap.name, [gap.base_name])
            pair = [steps(declared.columns[name], cohort.table[name]) for name in (gap.base_name, gap.name)]  # type: ignore[arg-type]
            arrays[gap.name] = build(gap.learned, *gap.between(*pair))
    for name, derived in declared.derived.items():
        if name in arrays:
            _check_there(cohort, name, derived.when)
            arrays[name] = _without(arrays[name], rows_where(cohort, derived.when))
    import pyarrow as pa

    return dataclasses.replace(cohort, schema=schema, table=pa.table(arrays))


def _check_there(cohort: "Cohort", name: str, needed: Any) -> None:
    absent = [other for other in needed if other not in cohort.columns]
    if absent:
        raise InputError(f"column {name!r}: is read together with {absent[0]!r}, which the cohort does not have.")


def _without(array: Any, rows: Mask) -> Any:
    """Return an array with nothing in some rows."""
    import pyarrow as pa

    places = np.arange(len(array))
    return array.take(pa.array(places, mask=rows))


def restored(table: Any, schema: "Schema") -> Any:
    """Return the table of a schema's own columns from one of what is learned.

    Parameters
    ----------
    table
        A pyarrow table of the columns of `dpsynth.schema.computed.learned`; identifiers may stand beside them.
    schema
        The declared schema.

    Returns
    -------
    pyarrow.Table
        The columns in the schema's order.
    """
    import pyarrow as pa

    if learned(schema) is schema:
        return table
    arrays = {name: whole(table[name]) for name in table.column_names}
    for gap in gaps_of(schema.columns):
        base, between = steps(gap.base, arrays[gap.base_name]), steps(gap.learned, arrays[gap.name])
        arrays[gap.name] = build(gap.column, *gap.values(base, between))
    for name in derived_in_order(schema.derived):
        arrays[name] = _computed(schema, name, arrays, table.num_rows)
    return pa.table({name: arrays[name] for name in schema.columns if name in arrays})


def _computed(schema: "Schema", name: str, arrays: Mapping[str, Any], rows: int) -> Any:
    """Return a derived column: its values where they are computed, and what was drawn elsewhere."""
    import pyarrow as pa

    from dpsynth.cohort.cohort import Cohort

    derived = schema.derived[name]
    values = computed_values(schema, name, arrays, rows)
    if not derived.when:
        return values
    table = pa.table({other: arrays[other] for other in derived.when})
    held = rows_where(Cohort(schema, table, synthetic=True), derived.when)
    both = pa.chunked_array([arrays[name].cast(values.type), values]).combine_chunks()
    return whole(both).take(pa.array(np.arange(rows) + rows * held))


def computed_values(schema: "Schema", name: str, arrays: Mapping[str, Any], rows: int) -> Any:
    """Return a derived column's values by its formula, missing where it has none.

    Parameters
    ----------
    schema
        The declared schema.
    name
        A derived column.
    arrays
        Typed arrays of the columns that it is computed from.
    rows
        How many rows they have.

    Returns
    -------
    pyarrow.Array
        Typed as the column is declared: at its digits, clipped to its bounds.
    """
    column, formula = schema.columns[name], schema.derived[name].formula
    if formula.column is not None:
        return _copied(schema.columns[formula.column], column, arrays[formula.column])
    assert isinstance(column, Numeric)  # noqa: S101  (`check_computed`)
    operands = {other: _numbers(schema.columns[other], arrays[other]) for other in formula.names}
    there: Mask = reduce(np.logical_and, [mask for _, mask in operands.values()])
    result = np.broadcast_to(formula.of({other: numbers for other, (numbers, _) in operands.items()}), rows)
    there = there & np.isfinite(result)
    unit = float(10**column.decimals)
    nearest = np.clip(np.where(there, result, 0.0) * unit, column.first, column.last)
    return build(column, np.rint(nearest).astype(np.int64), ~there)


def differing(cohort: "Cohort", name: str) -> Mask:
    """Return (rows,) where a derived column is not what it is computed as; exact, so internal.

    Parameters
    ----------
    cohort
        A cohort with the column and all that it is computed from.
    name
        A derived column.
    """
    schema, rows = cohort.schema, cohort.table.num_rows
    column, derived = schema.columns[name], schema.derived[name]
    expected = computed_values(
        schema, name, {other: whole(cohort.table[other]) for other in derived.formula.names}, rows
    )
    held = rows_where(cohort, derived.when) if derived.when else np.ones(rows, dtype=bool)
    differs: Mask = np.array(_comparable(column, whole(cohort.table[name])) != _comparable(column, expected))
    return differs & held


def _comparable(column: Column, array: Any) -> npt.NDArray[np.int64]:
    """Return (rows,) whole numbers that are equal where values of a column are; -1 less than every one is missing."""
    if isinstance(column, Numeric | Datetime):
        values, missing, _ = clipped(column, array)
        return np.where(missing, -(2**60), values)
    indices, labels = positions(array)
    assert isinstance(column, Boolean | Categorical)  # noqa: S101  (identifiers are not derived)
    matcher = Matcher(column)
    return np.array([*(matcher.position(label) for label in labels), -1], dtype=np.int64)[indices]


def rule_violations(cohort: "Cohort") -> dict[str, int]:
    """Count the rows that break each constraint, and in which each derived column is not what it is computed as.

    Parameters
    ----------
    cohort
        A cohort. For a real one the counts are exact and therefore internal: they must not be released.

    Returns
    -------
    dict
        For each rule in words the number of rows that break it.
    """
    counts = constraint_violations(cohort)
    for name, derived in cohort.schema.derived.items():
        if {name, *derived.formula.names, *derived.when} <= set(cohort.columns):
            counts[words_of(name, derived)] = int(differing(cohort, name).sum())
    return counts


def _copied(other: Column, column: Column, array: Any) -> Any:
    """Return the values of a column as another one types them."""
    if not isinstance(column, Numeric) or not isinstance(other, Numeric):
        return array
    values, missing = steps(other, array)
    for mine, theirs in ((state, place) for place, state in enumerate(other.states)):
        step = other.atoms[len(other.numbers) + theirs]
        values = np.where(values == step, column.atoms[len(column.numbers) + column.states.index(mine)], values)
    more = column.decimals - other.decimals
    numbers = values < min([*other.atoms[len(other.numbers) :], 2**60])
    scaled = values * 10**more if more >= 0 else np.rint(values / 10**-more).astype(np.int64)
    return build(column, np.where(numbers, np.clip(scaled, column.first, column.last), values), missing)


def _numbers(column: Column, array: Any) -> tuple[npt.NDArray[np.float64], Mask]:
    """Return (rows,) values as numbers, and where there are some: dates in days since 1970, booleans 0 or 1."""
    if isinstance(column, Boolean):
        indices, labels = positions(array)
        order = np.array([*(column.labels.index(label) for label in labels), 0], dtype=np.float64)
        return order[indices], indices >= 0
    assert isinstance(column, Numeric | Datetime)  # noqa: S101  (`check_computed`)
    values, missing = steps(column, array)
    if isinstance(column, Datetime):
        return values / (86_400 if column.clock else 1), ~missing
    names = np.array([atom for atom in column.atoms if not column.first <= atom <= column.last], dtype=np.int64)
    is_name = np.isin(values, names)
    return np.where(is_name, 0, values) / float(10**column.decimals), ~missing & ~is_name
