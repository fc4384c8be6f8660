"""Numbers and moments as whole steps on a lattice, and back."""

from typing import Any

import numpy as np

from dpsynth.columns.arrow import Mask, whole
from dpsynth.columns.grid import Lattice
from dpsynth.columns.kinds import Datetime, Numeric
from dpsynth.columns.states import joined, named, stepped

_FARTHEST = 2**52
"""Steps beyond this are outside every public range, which ends at 2^50; they are clipped to it, not overflowed."""


def steps(column: Numeric | Datetime, array: Any) -> tuple[Lattice, Mask]:
    """Return the values of a typed column as integer steps, and where they are missing (the step is then 0).

    Parameters
    ----------
    column
        Its declaration: numbers become multiples of 10^-decimals (rounded), moments days or seconds since 1970-01-01.
    array
        What `typed` returned.

    Returns
    -------
    steps, missing
        (rows,) int64 and (rows,) bool.
    """
    import pyarrow as pa

    array = whole(array)
    missing = np.asarray(array.is_null().to_numpy(zero_copy_only=False))
    if isinstance(column, Datetime):
        integers = array.cast(pa.int64() if column.clock else pa.int32())
        return integers.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64), missing
    if column.states:
        numbers, states = array.flatten()
        return stepped(column, states, _rounded(column, numbers)), missing
    return _rounded(column, array), missing


def build(column: Numeric | Datetime, values: Lattice, missing: Mask) -> Any:
    """Return steps as a typed array: the inverse of `steps`.

    Parameters
    ----------
    column
        The declaration.
    values
        (rows,) int64 steps.
    missing
        (rows,) where the value is missing.
    """
    import pyarrow as pa

    if isinstance(column, Datetime):
        return pa.array(values, mask=missing).cast(pa.timestamp("s")) if column.clock else _days(values, missing)
    if column.states:
        is_state, states = named(column, np.where(missing, 0, values))
        numbers = np.where(is_state, 0, values) / float(10**column.decimals)
        return joined(pa.array(numbers, mask=is_state | missing), states)
    if column.decimals == 0:
        return pa.array(values, mask=missing)
    # One correctly rounded division of two exact integers gives the double that is nearest to the decimal number.
    return pa.array(values / float(10**column.decimals), mask=missing)


def _days(values: Lattice, missing: Mask) -> Any:
    import pyarrow as pa

    return pa.array(values.astype(np.int32), mask=missing).cast(pa.date32())


def _rounded(column: Numeric, array: Any) -> Lattice:
    """Return numbers as multiples of 10^-decimals; 0 where one is missing."""
    values = array.fill_null(0).to_numpy(zero_copy_only=False)
    if values.dtype != np.int64 or column.decimals:
        # The division-free form is exact enough: see LARGEST_LATTICE. What is clipped first cannot overflow.
        scale = float(10**column.decimals)
        near = np.clip(values, -_FARTHEST / scale, _FARTHEST / scale)
        values = np.clip(np.rint(near * scale), -_FARTHEST, _FARTHEST).astype(np.int64)
    return np.asarray(values)
