"""A number for each row that depends on its own values alone: no other row, and no column's type, can change it.

Data frames will not do: there one value decides on the type of its whole column, and with it on what every other row
hashes to.
"""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.columns import Column, Datetime, Numeric
from dpsynth.values import text_of, whole

if TYPE_CHECKING:
    from dpsynth.cohort import Cohort

__all__ = ["row_keys"]

Keys = NDArray[np.uint64]

_MISSING = np.uint64(0x9E3779B97F4A7C15)
"""What a missing value hashes to; any constant will do."""


def row_keys(cohort: "Cohort", names: Iterable[str]) -> Keys:
    """Return (rows,) a 64-bit number per row that depends on the row's values in these columns; equal rows are equal.

    Parameters
    ----------
    cohort
        The rows.
    names
        Columns; their order matters.
    """
    keys = np.zeros(len(cohort), dtype=np.uint64)
    for name in names:
        keys = _mixed(keys ^ _cells(cohort.schema.columns[name], whole(cohort.table[name])))
    return keys


def _cells(column: Column, array: Any) -> Keys:
    """Return (rows,) a number per value: the bits of a number or moment, the hash of a text."""
    import pyarrow as pa

    if isinstance(column, Numeric) and not column.states:
        exact = array.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0  # -0.0 is 0.0
        bits = exact.view(np.uint64)
    elif isinstance(column, Datetime):
        integers = array.cast(pa.int64() if column.clock else pa.int32()).fill_null(0)
        bits = integers.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    else:
        return _texts(text_of(array))
    return np.where(array.is_null().to_numpy(zero_copy_only=False), _MISSING, _mixed(bits))


def _texts(array: Any) -> Keys:
    encoded = array.dictionary_encode()
    hashed = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in encoded.dictionary.to_pylist()]
    keys = np.append(np.frombuffer(b"".join(hashed), dtype=np.uint64), _MISSING)
    found: Keys = keys[encoded.indices.fill_null(len(hashed)).to_numpy(zero_copy_only=False)]
    return found


def _mixed(keys: Keys) -> Keys:
    """Return each number mixed one to one, so that every bit of it moves every other (the finalizer of SplitMix64)."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))
