"""Numbers of every Arrow type as doubles, each from its own shortest decimal text.

A number means what a person reads: the float32 that is shown as 0.045 is 45/1000, and so is the decimal 0.0450. Arrow's
own casts do not keep that. A float32 keeps its binary tail, which text does not have, and a decimal is scaled by the
digits of the longest value of its column, so that one patient's digits would move another patient's number.
"""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["doubles", "is_number", "shortest"]

_LARGEST_SINGLE = float(np.finfo(np.float32).max)
_DOUBLE, _BITS, _LOW_BITS = struct.Struct("<d"), struct.Struct("<Q"), 2**29 - 1
"""The last 29 bits of a double, which a float32 has not."""
_TYPED = 15
"""Every decimal number of up to 15 digits comes back from a double with its own digits."""


def is_number(kind: Any) -> bool:
    """Return whether an Arrow type is one of integers, floating-point numbers or decimals."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def doubles(array: Any) -> Any:
    """Return numbers as float64: for each the double that is nearest to its own shortest decimal text.

    Parameters
    ----------
    array
        A pyarrow Array of integers, floating-point numbers or decimals (`is_number`), or of nulls.

    Returns
    -------
    pyarrow.Array
        float64; null where the array has null, NaN where it has NaN.

    Notes
    -----
    Privacy contract: no value depends on another value of the column, nor on what the column's type owes to them.
    """
    import pyarrow as pa

    if pa.types.is_float16(array.type):
        return _halves(array)
    if pa.types.is_float32(array.type) or pa.types.is_decimal(array.type):
        return array.cast(pa.string()).cast(pa.float64())
    numbers = array.cast(pa.float64(), safe=False)
    return _narrowed(numbers) if pa.types.is_float64(array.type) else numbers


def shortest(number: float) -> float:
    """Return a double as it is, or as the float32 that pandas or NumPy widened because of another value of its column.

    A widened number has more than the 15 digits that anybody types or measures, and half of its bits are zero.

    >>> shortest(0.045), shortest(0.04500000178813934), shortest(3000000.25)
    (0.045, 0.045, 3000000.25)
    """
    if _LOW_BITS & _BITS.unpack(_DOUBLE.pack(number))[0] or not abs(number) < _LARGEST_SINGLE or number.is_integer():
        return number
    if float(np.float32(number)) != number:
        return number
    digits = repr(number).partition("e")[0].replace(".", "").lstrip("-0")
    return float(str(np.float32(number))) if len(digits) > _TYPED else number


def _narrowed(array: Any) -> Any:
    """Return a float64 array with each number as `shortest` returns it."""
    import pyarrow as pa

    numbers = array.fill_null(0.0).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore", invalid="ignore"):
        single = (numbers.astype(np.float32) == numbers) & (np.rint(numbers) != numbers)
    if not single.any():
        return array
    different, places = np.unique(numbers[single], return_inverse=True)
    changed = numbers.copy()
    changed[single] = np.array([shortest(float(number)) for number in different])[places]
    return pa.array(changed, mask=np.asarray(array.is_null().to_numpy(zero_copy_only=False)), from_pandas=False)


def _halves(array: Any) -> Any:
    """Return half-precision numbers as `doubles` does; Arrow writes them with the digits of a float32."""
    import pyarrow as pa

    missing = np.asarray(array.is_null().to_numpy(zero_copy_only=False))
    numbers = array.to_numpy(zero_copy_only=False).astype(np.float16)
    bits, places = np.unique(numbers.view(np.uint16), return_inverse=True)
    texts: npt.NDArray[Any] = np.array([float(str(number)) for number in bits.view(np.float16)])
    return pa.array(texts[places] if len(texts) else np.zeros(0), mask=missing, from_pandas=False)
