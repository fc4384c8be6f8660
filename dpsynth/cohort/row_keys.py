"""A keyed digest of each row that depends on its own values alone: no other row, and no column's type, can change it.

Data frames will not do: there one value decides on the type of its whole column, and with it on what every other row
hashes to. Without the key nobody can make two rows that collide.
"""

import hmac
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.columns.arrow import whole
from dpsynth.columns.typed import text_of

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.files.image_set import ImageSet

__all__ = ["image_digests", "keyed", "row_digests"]

Cells = NDArray[np.uint8]

BLOCK = 1 << 16
"""Rows that are encoded at a time."""
SHORT = 16
"""Bytes of the digest of a text or an image: collisions have a probability of 2^-128 a pair."""
MISSING, INTEGER, FLOAT, MOMENT, TEXT = range(5)


def keyed(secret: bytes, purpose: bytes, message: bytes) -> bytes:
    """Return HMAC-SHA-256 of a message, apart from those of other purposes; 32 bytes."""
    return hmac.digest(secret, purpose + b"\0" + message, "sha256")


def row_digests(cohort: "Cohort", secret: bytes) -> list[bytes]:
    """Return for each row a keyed digest of its values and images; equal rows, and only they, have equal digests.

    Parameters
    ----------
    cohort : Cohort
        Rows of any table; 0 and -0.0, and 4 and 4.0, are one value.
    secret : bytes
        The key.

    Returns
    -------
    list of bytes
        32 bytes a row.
    """
    columns = [whole(cohort.table[name]) for name in cohort.columns]
    images = None if cohort.images is None else _of_images(cohort.images, len(cohort), secret)
    digests: list[bytes] = []
    for start in range(0, len(cohort), BLOCK):
        cells = [_cells(column.slice(start, BLOCK), secret) for column in columns]
        cells += [] if images is None else [images[start : start + BLOCK]]
        digests += [keyed(secret, b"row", row.tobytes()) for row in np.hstack(cells)]
    return digests


def image_digests(pixels: NDArray[Any], secret: bytes) -> list[bytes]:
    """Return 32 bytes for each of (images, ...) pixels: a keyed digest that no other image moves."""
    return [keyed(secret, b"image", np.ascontiguousarray(image).tobytes()) for image in pixels]


def _cells(array: Any, secret: bytes) -> Cells:
    """Return (rows, bytes) each value's own kind and bytes, of one width for a type of column."""
    import pyarrow as pa

    if pa.types.is_struct(array.type):  # numbers beside states
        return np.hstack([_cells(part, secret) for part in array.flatten()])

    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return _numbers(array)
    if pa.types.is_temporal(array.type):
        integers = array.cast(pa.int32()).cast(pa.int64()) if array.type.bit_width == 32 else array.cast(pa.int64())
        return _encoded(integers, np.full(len(array), MOMENT))
    texts = text_of(array).dictionary_encode()
    short = [keyed(secret, b"text", text.encode())[:SHORT] for text in texts.dictionary.to_pylist()]
    table = np.frombuffer(b"".join([*short, bytes(SHORT)]), dtype=np.uint8).reshape(-1, SHORT)
    places = texts.indices.fill_null(len(short)).to_numpy(zero_copy_only=False)
    kinds = np.where(texts.is_null().to_numpy(zero_copy_only=False), MISSING, TEXT)
    return np.hstack([kinds[:, None].astype(np.uint8), table[places]])


def _numbers(array: Any) -> Cells:
    """Return numbers as exact integers where they are whole, so that a column's type says nothing, else as bits."""
    import pyarrow as pa

    if pa.types.is_integer(array.type):
        return _encoded(array.cast(pa.int64(), safe=False), np.full(len(array), INTEGER))
    floats = array.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
    is_whole = (np.rint(floats) == floats) & (np.abs(floats) < 2.0**63)
    integers = np.where(is_whole, floats, 0.0).astype(np.int64)
    bits = np.where(is_whole, integers, floats.view(np.int64))
    values = pa.array(bits, mask=array.is_null().to_numpy(zero_copy_only=False))
    return _encoded(values, np.where(is_whole, INTEGER, FLOAT))


def _encoded(integers: Any, kinds: NDArray[Any]) -> Cells:
    """Return (rows, 9) the kind of each value and its eight bytes."""
    missing = integers.is_null().to_numpy(zero_copy_only=False)
    bits = np.ascontiguousarray(integers.fill_null(0).to_numpy(zero_copy_only=False).astype("<i8"))
    kinds = np.where(missing, MISSING, kinds).astype(np.uint8)
    return np.hstack([kinds[:, None], bits.view(np.uint8).reshape(-1, 8)])


def _of_images(images: "ImageSet", rows: int, secret: bytes) -> Cells:
    """Return (rows, 16) a number per row that depends on its own images only, whatever their order."""
    digests = [digest[:SHORT] for digest in image_digests(images.pixels, secret)]
    sums = np.zeros((rows, 2), dtype=np.uint64)
    np.add.at(sums, images.row, np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2))
    return sums.view(np.uint8).reshape(rows, SHORT)
