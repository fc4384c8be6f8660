"""PostgreSQL's binary COPY as Arrow columns, parsed column by column for many rows at once.

The server sends each row as one message: the number of fields, then for each field its length (-1: NULL) and its bytes,
all big-endian (PostgreSQL's manual: COPY, *Binary Format*; *Message Formats*, CopyData). So rows begin where messages
do, and the fields of a column are found for all rows together. No value is cast by the server: each comes in its own
type and is read by itself here.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import DataError

__all__ = ["Fields", "Reader", "batches_of"]

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER = len(SIGNATURE) + 8
_END = b"\xff\xff"
ROWS = 2**16
"""Rows of a batch."""
BYTES = 2**26
"""Bytes of a batch, about: fewer rows where they are long."""
_STEP = 2**10
"""Rows between two looks at the bytes of a batch."""
_PADDING = 16

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Fields:
    """The fields of one column in the bytes of many rows; private.

    Attributes
    ----------
    bytes
        The bytes of all rows, and a few behind them.
    starts, lengths
        (rows,) where each field begins and how long it is; 0 where it is NULL.
    is_null
        (rows,) where it is NULL.
    """

    bytes: NDArray[np.uint8]
    starts: Places
    lengths: Places
    is_null: NDArray[np.bool_]

    def fixed(self, kind: str) -> NDArray[Any]:
        """Return (rows,) values of a type of fixed width such as ``">i4"``; 0 where the field is NULL."""
        width = np.dtype(kind).itemsize
        if np.any((self.lengths != width) & ~self.is_null):
            raise _garbled()
        values = words(self.bytes, self.starts, kind)
        values[self.is_null] = 0
        return values

    def raw(self) -> Any:
        """Return the bytes of each field as an Arrow array; null where the field is NULL."""
        import pyarrow as pa

        ends = np.cumsum(self.lengths)
        total = int(ends[-1]) if len(ends) else 0
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        inside = np.arange(total, dtype=np.int64) + np.repeat(self.starts - offsets[:-1], self.lengths)
        buffers = [pa.py_buffer(offsets), pa.py_buffer(self.bytes[inside])]
        array = pa.Array.from_buffers(pa.binary(), len(self.starts), [None, *buffers])
        return masked(array, self.is_null)


class Reader(Protocol):
    """Makes an Arrow array of the fields of a column."""

    def __call__(self, fields: Fields, /) -> Any:
        """Return (rows,) values, each from its own field alone."""
        ...


def masked(array: Any, is_null: NDArray[np.bool_]) -> Any:
    """Return an Arrow array with null where a mask says so."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pa.array(is_null), pa.scalar(None, array.type), array) if is_null.any() else array


def words(data: NDArray[np.uint8], starts: Places, kind: str) -> NDArray[Any]:
    """Return the values of a type of fixed width that begin at the given places, in the machine's order of bytes."""
    width = np.dtype(kind).itemsize
    windows = np.lib.stride_tricks.as_strided(data, (len(data) - width + 1, width), (1, 1), writeable=False)
    values = np.ascontiguousarray(windows[starts]).view(kind).ravel()
    return values.astype(values.dtype.newbyteorder("="))


def batches_of(messages: Iterable[Any], readers: Sequence[Reader], most: int = ROWS) -> Iterator[tuple[list[Any], int]]:
    """Yield the Arrow columns of batches of rows, and a number that tells the rows of a batch, in any order, apart.

    Parameters
    ----------
    messages
        What the server sends, row by row, the header before the first.
    readers
        One for each column.
    most
        Rows of a batch at most, to the next thousand.

    Raises
    ------
    DataError
        If the bytes are not such rows, or end too early; the message holds no value.
    """
    is_ended = False
    for rows in _gathered(_without_header(messages), most):
        is_ended = rows[-1] == _END
        if is_ended:
            rows.pop()
        if rows:
            yield _columns(rows, readers), sum(map(hash, rows))
    if not is_ended:
        raise _garbled()


def _without_header(messages: Iterable[Any]) -> Iterator[bytes]:
    messages = map(bytes, messages)  # views would be garbage that Python traces, and thrice as slow
    first = next(messages, b"")
    if first[: len(SIGNATURE)] != SIGNATURE or len(first) < _HEADER:
        raise _garbled()
    rest = first[_HEADER + int.from_bytes(first[_HEADER - 4 : _HEADER], "big") :]
    return chain([rest] if len(rest) else [], messages)


def _gathered(messages: Iterator[bytes], most: int) -> Iterator[list[bytes]]:
    rows: list[bytes] = []
    size = 0
    while taken := list(islice(messages, _STEP)):
        rows += taken
        size += sum(map(len, taken))
        if len(rows) >= most or size > BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _columns(rows: list[bytes], readers: Sequence[Reader]) -> list[Any]:
    """Return the Arrow columns of rows, which are the bytes of one message each."""
    ends = np.cumsum(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)))
    data = np.frombuffer(b"".join([*rows, bytes(_PADDING)]), dtype=np.uint8)
    starts = np.concatenate([[0], ends[:-1]])
    if np.any(words(data, starts, ">i2") != len(readers)):
        raise _garbled()
    places, columns = starts + 2, []
    for reader in readers:
        lengths = words(data, places, ">i4").astype(np.int64)
        places = places + 4
        is_null = lengths < 0
        lengths[is_null] = 0
        if np.any(places + lengths > ends):
            raise _garbled()
        columns.append(reader(Fields(data, places, lengths, is_null)))
        places = places + lengths
    if np.any(places != ends):
        raise _garbled()
    return columns


def _garbled() -> DataError:
    return DataError("the database: sent rows that are not in PostgreSQL's binary form, or not all of them; run again.")
