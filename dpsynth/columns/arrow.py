"""Arrow arrays and the positions of their values in a list."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.columns.kinds import Category
from dpsynth.columns.matching import MISSING
from dpsynth.columns.spelling import spelling

Mask = npt.NDArray[np.bool_]


def whole(array: Any) -> Any:
    """Return one contiguous array of plain values: dictionaries of chunks are one, runs and views are written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_run_end_encoded(array.type):
        parts = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
        array = pa.chunked_array([pc.run_end_decode(part) for part in parts], array.type.value_type)
    if isinstance(array, pa.ChunkedArray):
        array = _unified(array).combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk, or too much text for one array
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.cast(pa.string()) if pa.types.is_string_view(array.type) else array


def from_positions(indices: npt.NDArray[np.integer[Any]], categories: Sequence[Category]) -> Any:
    """Return a dictionary array over the categories; a negative position is a missing value."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(
        pa.array(indices.astype(np.int32, copy=False), mask=indices < 0), _dictionary(categories)
    )


def _dictionary(categories: Sequence[Category]) -> Any:
    """Return the categories as one Arrow type: their own where they share one, else text."""
    import pyarrow as pa

    kinds = {type(value) for value in categories}
    if kinds <= {bool} and kinds:
        return pa.array(categories, pa.bool_())
    if kinds <= {int} and kinds:
        return pa.array(categories, pa.int64())
    if kinds <= {int, float} and kinds:
        return pa.array([float(value) for value in categories], pa.float64())
    return pa.array([spelling(value) for value in categories], pa.string())


def positions(array: Any) -> tuple[npt.NDArray[np.int32], tuple[Any, ...]]:
    """Return a typed category column as positions (missing: -1), and the list they point to."""
    array = whole(array)
    indices = array.indices.fill_null(MISSING).to_numpy(zero_copy_only=False)
    return indices, tuple(array.dictionary.to_pylist())


def _unified(array: Any) -> Any:
    """Return chunks that share one dictionary, or none where Arrow cannot compare the values of its type."""
    import pyarrow as pa

    try:
        return array.unify_dictionaries()
    except pa.ArrowNotImplementedError:
        return pa.chunked_array([part.dictionary.take(part.indices) for part in array.chunks], array.type.value_type)
