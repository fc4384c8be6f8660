"""One row more, of any kind, leaves every other row as it was: its code, its key and its patient; or all is refused.

What decides how a value is read is often not the value but the type of its column, and that is often decided by one
value: the scale of decimals, the unit of times, objects, text. So neighbours are made as people make tables, from
X
"""

import csv
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.cohort.row_keys import row_digests
from dpsynth.errors import DataError
from dpsynth.schema import Schema

ROLES: dict[str, dict[str, Any]] = {
    "number": {"type": "numeric", "min": -10, "max": 100, "decimals": 2},
    "whole number": {"type": "numeric", "min": -10, "max": 100},
    "text list": {
        "type": "categorical",
        "values": ["7", "7.5", "0.045", "true", "2001-02-03", "250.00", "x"],
        "other": "x",
    },
    "number list": {"type": "categorical", "values": [7, 7.5, 0.045, 8], "other": 8},
    "truth": {"type": "boolean"},
    "day": {"type": "datetime", "min": "1990-01-01", "max": "2030-01-01"},
    "moment": {"type": "datetime", "min": "1990-01-01T00:00:00", "max": "2030-01-01T00:00:00"},
    "number of a day": {"type": "datetime", "min": "1990-01-01", "max": "2030-01-01", "format": "%Y%m%d"},
    "milliseconds": {"type": "datetime", "min": "1960-01-01", "max": "2030-01-01T00:00:00", "format": "unix_ms"},
    "discovered": {"type": "categorical", "discover": True, "max_values": 9},
    "identifier": {"type": "identifier"},
}
IMAGES = {"size": [2, 2], "channels": 1, "range": [0, 255]}


def _schema(role: str) -> Schema:
    column = ROLES[role] if role == "identifier" else {**ROLES[role], "missing": True}
    return Schema.parse({"name": "w", "columns": {"x": column, "y": {"type": "boolean"}}})


def _seen(cohort: Cohort) -> list[tuple[Any, ...]]:
    """Return for each row all that is known of it: its value, its code, its key, its patient's name."""
    values = cohort.plain_table()["x"].to_pylist()
    codec = Codec(cohort.schema)
    codes = codec.encode(cohort, ["x"])["x"].tolist() if "x" in codec.columns else values
    texts = [str(float(value) if isinstance(value, int) else value) for value in values]
    return list(
        zip(codes, texts, row_digests(Cohort(cohort.schema, cohort.table.select(["x"])), bytes(32)), strict=True)
    )


# -- ways to make a table ---------------------------------------------------------------------------------------------

Made = tuple[list[Any], Callable[[Schema], Cohort]]
"""What a library has made of the values, and how it is read."""


def _frame(series: Any) -> Made:
    stored = [np.float16(value) for value in series] if series.dtype == np.float16 else list(series)
    return stored, lambda schema: Cohort.from_pandas(pd.DataFrame({"x": series, "y": True}), schema)


def _arrow(values: list[Any]) -> Any:
    """Return values as Arrow infers a type for them; it crashes on other numbers of NumPy beside its dates."""
    if {isinstance(value, np.datetime64) for value in values if isinstance(value, np.generic)} == {True, False}:
        raise TypeError("Arrow cannot make an array of these")
    return pa.array(values, from_pandas=True)


def _pylist(array: Any) -> list[Any]:
    return [np.float16(value) for value in array.to_pylist()] if pa.types.is_float16(array.type) else array.to_pylist()


def _arrow_frame(values: list[Any], _folder: Path) -> Made:
    array = _arrow(values)
    _, read = _frame(pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([array]))))
    return _pylist(array), read


def _parquet(values: list[Any], folder: Path, *, dictionary: bool = False) -> Made:
    array = _arrow(values)
    column = array.dictionary_encode() if dictionary else array
    pq.write_table(pa.table({"x": column, "y": [True] * len(values)}), folder / "w.parquet")
    return _pylist(array), lambda schema: Cohort.read(folder / "w.parquet", schema)


def _pandas_parquet(values: list[Any], folder: Path) -> Made:
    _arrow(values)
    pd.DataFrame({"x": pd.Series(values, dtype=object), "y": True}).to_parquet(folder / "w.parquet")
    array = pq.read_table(folder / "w.parquet")["x"]
    return _pylist(array), lambda schema: Cohort.read(folder / "w.parquet", schema)


def _csv(values: list[Any], folder: Path) -> Made:
    text = io.StringIO()
    texts = ["" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value) for value in values]
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["x", "y"], *([text, "1"] for text in texts)])
    (folder / "w.csv").write_text(text.getvalue(), encoding="utf-8")
    return texts, lambda schema: Cohort.read(folder / "w.csv", schema)


def _npz(values: list[Any], folder: Path) -> Made:
    array = np.array(values)
    if array.dtype == object:
        raise TypeError("an archive takes no objects")
    rows = len(values)
    np.savez(folder / "w.npz", train_images=np.zeros((rows, 2, 2), np.uint8), train_x=array, train_y=np.ones(rows))
    stored = values if array.dtype.kind == "U" else list(array)
    return stored, lambda schema: Cohort.read(folder / "w.npz", Schema.parse({**schema.to_dict(), "images": IMAGES}))


def _cells(values: list[Any]) -> list[Any]:
    """Return what a sheet takes: half precision is widened by its writers."""
    return [
        None if _is_gone(value) else value.item() if isinstance(value, np.integer | np.floating | np.bool_) else value
        for value in values
    ]


def _excel(values: list[Any], folder: Path) -> Made:
    import openpyxl

    book = openpyxl.Workbook()
    for row in [("x", "y"), *((value, True) for value in _cells(values))]:
        book.active.append(row)
    book.save(folder / "w.xlsx")
    rows = openpyxl.load_workbook(folder / "w.xlsx").active.iter_rows(min_row=2, values_only=True)
    return [row[0] for row in rows], lambda schema: Cohort.read(folder / "w.xlsx", schema)


def _old_excel(values: list[Any], folder: Path) -> Made:
    import xlwt

    book = xlwt.Workbook()
    sheet = book.add_sheet("w")
    days = xlwt.easyxf(num_format_str="yyyy-mm-dd hh:mm:ss")
    for number, (value, truth) in enumerate([("x", "y"), *((value, True) for value in _cells(values))]):
        styled = (days,) if isinstance(value, date) else ()
        try:
            sheet.write(number, 0, value, *styled)
        except Exception as fault:  # what xlwt raises
            raise TypeError(str(fault)) from None
        sheet.write(number, 1, truth)
    book.save(str(folder / "w.xls"))
    return _cells(values), lambda schema: Cohort.read(folder / "w.xls", schema)


def _statistical(ending: str, writer: str, reader: str) -> Callable[[list[Any], Path], Made]:
    def way(values: list[Any], folder: Path) -> Made:
        import pyreadstat

        path, frame = folder / f"w.{ending}", pd.DataFrame({"x": pd.Series(values), "y": 1.0})
        try:
            getattr(pyreadstat, writer)(frame, str(path))
            stored, _ = getattr(pyreadstat, reader)(str(path), output_format="dict")
        except Exception as fault:  # what pyreadstat raises
            raise TypeError(str(fault)) from None
        return list(stored["x"]), lambda schema: Cohort.read(path, schema)

    return way


WAYS: dict[str, Callable[[list[Any], Path], Made]] = {
    "frame as it comes": lambda values, _: _frame(pd.Series(values)),
    "frame of objects": lambda values, _: _frame(pd.Series(values, dtype=object)),
    "nullable frame": lambda values, _: _frame(pd.Series(values, dtype=object).convert_dtypes()),
    "frame of categories": lambda values, _: _frame(pd.Series(values, dtype=object).astype("category")),
    "Arrow frame": _arrow_frame,
    "Parquet": _parquet,
    "Parquet dictionary": lambda values, folder: _parquet(values, folder, dictionary=True),
    "Parquet by pandas": _pandas_parquet,
    "CSV": _csv,
    "npz": _npz,
    "Excel": _excel,
    "old Excel": _old_excel,
    "SPSS": _statistical("sav", "write_sav", "read_sav"),
    "Stata": _statistical("dta", "write_dta", "read_dta"),
    "SAS transport": _statistical("xpt", "write_xport", "read_xport"),
}

# -- values -----------------------------------------------------------------------------------------------------------

BERLIN = timezone(timedelta(hours=2))
FAMILIES: dict[str, list[Any]] = {
    "integers": [7, 8, -3, 20080131],
    "floats": [7.5, 0.045, 4.5, 7.0, 0.1],
    "float32": [np.float32(0.045), np.float32(7.5), np.float32(4.545), np.float32(7)],
    "float16": [np.float16(0.045), np.float16(7.5), np.float16(7)],
    "decimals": [Decimal("0.045"), Decimal("7.50"), Decimal("4.545"), Decimal(7)],
    "small integers": [np.int8(7), np.uint16(8), np.int64(-3)],
    "large integers": [np.uint64(2**63), np.uint64(7)],
    "booleans": [True, False],
    "numbers as text": ["7", "7.50", "0.045", "250.00", "20080131"],
    "codes": ["250.00", "250.0", "1E5", "007", "x", "+5"],
    "days": [date(2001, 2, 3), date(2012, 12, 31)],
    "moments": [datetime(2001, 2, 3, 4, 5), datetime(1999, 12, 31, 23, 59, 59)],
    "pandas moments": [pd.Timestamp("2001-02-03"), pd.Timestamp("2012-12-31 23:59:59.5")],
    "moments with a zone": [datetime(2001, 2, 3, 4, 5, tzinfo=UTC), datetime(2001, 2, 3, 23, tzinfo=UTC)],
    "NumPy moments": [np.datetime64("2001-02-03"), np.datetime64("2012-12-31")],
    "periods": [pd.Period("2001-02-03", "D"), pd.Period("2012-12-31", "D")],
    "days as text": ["2001-02-03", "2001-02-03 04:05:06", "2001-02-03T04:05:06+02:00"],
    "identifiers": [UUID(int=7), UUID(int=8)],
}
ODD: list[Any] = [
    *(None, np.nan, pd.NA, float("inf"), -float("inf"), "NA", "", "x", " 7 ", "7.0", "1E5", "unheard of", "2001-02-03"),
    *(7, 7.0, 0.5, 1e300, 2**60, 2**70, True, np.float32(0.1), np.float64(0.1), np.int16(7)),
    *(Decimal("0.1234"), Decimal("0.12345678901234567890123"), Decimal("1e30"), Decimal("NaN")),
    *(date(2001, 2, 3), datetime(2001, 2, 3, 4, 5, 6, 789), pd.Timestamp("2001-02-03 04:05:06.000000007"), pd.NaT),
    *(datetime(2001, 2, 3, 4, 5, tzinfo=BERLIN), pd.Timestamp("2001-02-03", tz="Europe/Berlin"), date(1, 1, 1)),
    *(np.datetime64("2001-02-03T04:05"), np.datetime64("2001", "Y"), pd.Period("2001-02", "M"), UUID(int=9)),
    *(time(4, 5), timedelta(days=1), [1.0], b"7", {"a": 1}, pd.Interval(0, 1), 1j, object()),
]


WIDENED = [("nullable frame", "float16")]
"""pandas has no nullable half precision and takes more, or less, by the other values."""


def _made(way: str, values: list[Any], folder: Path) -> Made | None:
    """Return the table, or None where the library cannot make it."""
    try:
        return WAYS[way](values, folder)
    except (ValueError, TypeError, OverflowError, AttributeError, NotImplementedError, pa.ArrowException):
        return None


def _read(made: Made, role: str) -> list[tuple[Any, ...]] | None:
    """Return what is seen of each row, or None where the table is refused."""
    try:
        return _seen(made[1](_schema(role)))
    except DataError:
        return None


def _kept(before: list[Any], after: list[Any]) -> bool:
    """Return whether a library has left the other values as they were, before anything is read.

    It may widen a float32 and scale a decimal, but not turn dates into moments, truths into numbers, or half precision
    (of which nobody can tell) into more.
    """
    return all(
        _is_same(one, two)
        and type(one) in (type(two), *_NUMBERS)
        and isinstance(one, bool | np.bool_) == isinstance(two, bool | np.bool_)
        and isinstance(one, np.float16) == isinstance(two, np.float16)
        for one, two in zip(before, after, strict=True)
    )


_NUMBERS = (int, float, Decimal, np.float16, np.float32, np.float64, np.int8, np.int64, np.uint16, np.uint64)


def _is_same(one: Any, two: Any) -> bool:
    try:
        return one is two or (_is_gone(one) and _is_gone(two)) or bool(one == two)
    except (TypeError, ValueError):
        return False


def _is_gone(value: Any) -> bool:
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("way", "family"), [pair for pair in product(WAYS, FAMILIES) if pair not in WIDENED])
def test_one_value_more_moves_no_other(way: str, family: str, tmp_path: Path) -> None:
    """Whatever one more row holds, all others are read as before, or the whole table is refused."""
    values, kinds = FAMILIES[family], list(ROLES)
    alone = _made(way, values, tmp_path)
    if alone is None:
        pytest.skip("the library makes no such table")  # such as an archive of objects
    bases = {role: _read(alone, role) for role in kinds}
    assert any(bases.values())
    for number, odd in enumerate(ODD):
        for place in (len(values), 0):
            made = _made(way, [*values[:place], odd, *values[place:]], tmp_path)
            if made is None or not _kept(alone[0], [*made[0][:place], *made[0][place + 1 :]]):
                continue
            for role in (kinds[number % len(kinds)], kinds[(number * 5 + 3) % len(kinds)]):
                after = _read(made, role) if bases[role] is not None else None
                if after is not None:
                    assert [*after[:place], *after[place + 1 :]] == bases[role], (role, type(odd))
