"""NumPy's array files, read without trust: the header is checked against the size before any memory is taken."""

import math
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

__all__ = ["Header", "as_arrow", "read_array", "read_header"]

_LONGEST = 10_000
"""Longest header that is parsed, characters; what is there for plain arrays has about 100."""


@dataclass(frozen=True)
class Header:
    """The header of an array file: type and shape.

    Attributes
    ----------
    shape
        Its sides.
    dtype
        Of numbers, booleans, text or dates.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_header(file: IO[bytes], length: int) -> Header:
    """Return the header of an array file that is `length` bytes long.

    Raises
    ------
    ValueError
        If it is none, holds Python objects or records, or promises another length.
    """
    version = np.lib.format.read_magic(file)
    parse = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, _, dtype = parse(file, max_header_size=_LONGEST)
    if dtype.kind not in "biufUM" or dtype.itemsize == 0:
        raise ValueError("an array of objects, records or bytes")
    if math.prod(shape) * dtype.itemsize != length - file.tell() or min(shape, default=0) < 0:
        raise ValueError("the array is cut short, or something follows it")
    return Header(shape, dtype)


def read_array(file: IO[bytes]) -> npt.NDArray[Any]:
    """Return the array of a file whose header was checked."""
    array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False, max_header_size=_LONGEST)
    return array


def as_arrow(array: npt.NDArray[Any]) -> Any:
    """Return an array of one dimension as an Arrow array; null where it has NaN or no time.

    Dates are kept to the day or the second; years and months become text, for they name no day.
    """
    import pyarrow as pa

    array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "M":
        return _dates(array)
    if array.dtype.kind == "U":
        return pa.array(array.tolist(), pa.string())
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:  # wider than a double
        array = np.array([float(str(number)) for number in array])
    return pa.array(array, from_pandas=True)


def _dates(array: npt.NDArray[Any]) -> Any:
    import pyarrow as pa

    unit = np.datetime_data(array.dtype)[0]
    if unit in ("Y", "M"):
        texts = [None if np.isnat(moment) else str(moment) for moment in array]
        return pa.array(texts, pa.string())
    return pa.array(array.astype("datetime64[D]" if unit in ("W", "D") else "datetime64[s]"), from_pandas=True)
