"""Typed rows as they are kept on the disk, or in pieces: in types that are the same in every batch, and back."""

from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.columns.arrow import from_positions, positions
from dpsynth.columns.kinds import Boolean, Categorical, Column, Datetime, Identifier, Numeric
from dpsynth.columns.typed import typed
from dpsynth.errors import DataError

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["restored", "stored", "typed_batch"]


def typed_batch(batch: Any, schema: "Schema") -> Any:
    """Return a batch with each column typed as its declaration says, value by value.

    Parameters
    ----------
    batch
        A pyarrow table of declared columns, as they were read.
    schema
        The schema.

    Raises
    ------
    DataError
        As for a file that is read at once: the message names the column and no value.
    """
    import pyarrow as pa

    arrays = {
        name: typed(name, schema.columns[name], batch[name], schema.missing_values) for name in batch.column_names
    }
    if schema.patient in arrays and arrays[schema.patient].null_count:
        raise DataError(f"column {schema.patient!r}: a row names no patient; expected one in every row.")
    return pa.table(arrays)


def stored(table: Any, schema: "Schema") -> Any:
    """Return a typed table in types that are the same in every batch."""
    import pyarrow as pa

    return pa.table({name: _storable(schema.columns[name], table[name]) for name in table.column_names})


def _storable(column: Column, array: Any) -> Any:
    import pyarrow as pa

    if isinstance(column, Numeric) and not column.states:
        return array.cast(pa.float64())  # whole numbers beyond 2^52 are never int64 (`dpsynth.columns.typed`)
    if isinstance(column, Identifier | Numeric | Datetime):
        return array
    if column.is_discovered:
        return array.cast(pa.string())
    indices, _ = positions(array)
    return pa.array(indices.astype(_smallest(column)))


def _smallest(column: Categorical | Boolean) -> Any:
    return np.int8 if len(column.categories) < 2**7 else np.int32


def restored(table: Any, schema: "Schema") -> Any:
    """Return the typed table that `stored` took apart."""
    import pyarrow as pa

    arrays = {}
    for name in table.column_names:
        column, array = schema.columns[name], table[name]
        if isinstance(column, Categorical | Boolean) and not column.is_discovered:
            array = from_positions(array.combine_chunks().to_numpy(zero_copy_only=False), column.categories)
        elif column.is_discovered:
            array = array.combine_chunks().dictionary_encode()
        arrays[name] = array
    return pa.table(arrays)
