"""How values of PostgreSQL's types are read, as its catalogue names them: each value by itself, none is cast.

A value is read as what the same value is in a CSV or Parquet file: a number as the number that its digits spell, a
date as its day, a moment with a time zone in UTC, a member of an enumeration, a uuid and a time of day as text. What
has no single value (json, arrays, ranges, bytes) is refused by name.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time
from typing import Any

import numpy as np

from dpsynth.errors import DataError
from dpsynth.sources.copy_binary import Fields, Reader, masked

__all__ = ["PgType", "reader_of"]

_EPOCH = date(2000, 1, 1)
"""PostgreSQL counts days and microseconds from it."""
_DAYS_1970 = (_EPOCH - date(1970, 1, 1)).days
_FIRST, _LAST = (date.min - _EPOCH).days, (date.max - _EPOCH).days
"""Days that have a name in Python; ``infinity``, years BC and after 9999 are read as the first or last of them, which
lies outside of every public range, too."""
_DAY = 86_400 * 10**6
_NAN, _INFINITIES = 0xC000, {0xD000: "inf", 0xF000: "-inf"}
_NEGATIVE = 0x4000
_CORE = "pg_catalog"


@dataclass(frozen=True)
class PgType:
    """A type as the catalogue describes it.

    Attributes
    ----------
    name, schema
        Its name and schema there.
    kind
        ``b`` base, ``e`` enumeration, ``c`` composite, ``r`` range and so on.
    shown
        Its name as SQL writes it.
    """

    name: str
    schema: str
    kind: str
    shown: str


def reader_of(column: str, kind: PgType) -> Reader:
    """Return what reads a column of a type.

    Parameters
    ----------
    column
        The column's name, for messages.
    kind
        Its type.

    Raises
    ------
    DataError
        If values of the type are no text, number, date or truth value; the message names the column and the type.
    """
    if kind.kind == "e" or kind.name == "citext":
        return lambda fields: _text(fields, column)
    if kind.schema == _CORE and kind.name in _TEXTS:
        return lambda fields: _text(fields, column)
    if kind.schema == _CORE and kind.name == "bpchar":
        return lambda fields: _padded(fields, column)
    if kind.schema == _CORE and kind.name in _READERS:
        return _READERS[kind.name]
    raise DataError(
        f"column {column!r}: is of type {kind.shown}, which holds no text, number, date or truth value. Name it under "
        f"drop in the schema, or take from it, in the query, what is to be modelled{_HINTS.get(kind.name, '')}."
    )


_TEXTS = ("text", "varchar", "name")
_HINTS = {
    "interval": ", such as extract(epoch from ...)",
    "json": ", such as ... ->> 'field'",
    "jsonb": ", such as ... ->> 'field'",
    "money": ", such as ...::numeric",
}


def _text(fields: Fields, column: str) -> Any:
    """Return text, which the server sends in UTF-8 where it knows its encoding."""
    import pyarrow as pa

    array = fields.raw()
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid:
        raise DataError(
            f"column {column!r}: holds text that is not in UTF-8, though the database sends it as such (SQL_ASCII). "
            "Have the database's encoding corrected."
        ) from None


def _padded(fields: Fields, column: str) -> Any:
    """Return text of fixed length without the blanks that fill it up, which mean nothing in PostgreSQL."""
    import pyarrow.compute as pc

    return pc.utf8_rtrim(_text(fields, column), characters=" ")


def _number(kind: str) -> Reader:
    def read(fields: Fields) -> Any:
        import pyarrow as pa

        return masked(pa.array(fields.fixed(kind)), fields.is_null)

    return read


def _truth(fields: Fields) -> Any:
    import pyarrow as pa

    return masked(pa.array(fields.fixed(">u1") != 0), fields.is_null)


def _date(fields: Fields) -> Any:
    import pyarrow as pa

    days = np.clip(fields.fixed(">i4"), _FIRST, _LAST).astype(np.int32) + np.int32(_DAYS_1970)
    return masked(pa.array(days, pa.int32()).cast(pa.date32()), fields.is_null)


def _moment(zone: str | None) -> Reader:
    def read(fields: Fields) -> Any:
        import pyarrow as pa

        counts = np.clip(fields.fixed(">i8"), _FIRST * _DAY, (_LAST + 1) * _DAY - 1) + _DAYS_1970 * _DAY
        return masked(pa.array(counts, pa.int64()).cast(pa.timestamp("us", zone)), fields.is_null)

    return read


def _spelled(spell: Callable[[bytes], str | None]) -> Reader:
    """Return what reads fields as text that each different value is spelled as; each spelling is made once a batch."""

    def read(fields: Fields) -> Any:
        import pyarrow as pa

        encoded = fields.raw().dictionary_encode()
        return pa.array([spell(value) for value in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)

    return read


def _time(value: bytes) -> str:
    """Return the text of a time of day, as Python writes it; 24:00:00 is one in PostgreSQL."""
    (count,) = struct.unpack(">q", value)
    seconds, fraction = divmod(count, 10**6)
    if seconds == 86_400:
        return "24:00:00"
    return str(time(seconds // 3600, seconds // 60 % 60, seconds % 60, fraction))


def _decimal(value: bytes) -> str | None:
    """Return a numeric in decimal digits without zeros at its end; None for NaN.

    Digits are to base 10000; the first counts 10000 to the power of the weight (PostgreSQL, `numeric_send`).

    >>> _decimal(bytes.fromhex("0002 0000 4000 0002 0001 1388"))
    '-1.5'
    """
    count, weight, sign, _ = struct.unpack_from(">hhHh", value)
    if sign == _NAN:
        return None
    if sign in _INFINITIES:
        return _INFINITIES[sign]
    digits = "".join(f"{digit:04}" for digit in struct.unpack_from(f">{count}H", value, 8))
    point = 4 * (weight + 1)
    if point <= 0:
        digits, point = "0" * -point + digits, 0
    whole, part = digits[:point].ljust(point, "0").lstrip("0") or "0", digits[point:].rstrip("0")
    text = f"{whole}.{part}" if part else whole
    return f"-{text}" if sign == _NEGATIVE and text != "0" else text


def _uuid(value: bytes) -> str:
    """Return the text of a uuid, in small letters with dashes."""
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


_READERS: dict[str, Reader] = {
    "bool": _truth,
    "int2": _number(">i2"),
    "int4": _number(">i4"),
    "int8": _number(">i8"),
    "oid": _number(">u4"),
    "float4": _number(">f4"),
    "float8": _number(">f8"),
    "numeric": _spelled(_decimal),
    "date": _date,
    "timestamp": _moment(None),
    "timestamptz": _moment("UTC"),
    "time": _spelled(_time),
    "uuid": _spelled(_uuid),
}
