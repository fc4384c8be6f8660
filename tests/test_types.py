"""Values of every type that Arrow, NumPy and pandas have: one meaning, or a refusal that names column and type."""

import contextlib
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from test_neighbour_types import IMAGES, ROLES, _schema, _seen

from dpsynth.cohort import Cohort
from dpsynth.columns.typed import typed
from dpsynth.errors import DataError
from dpsynth.schema import Schema

NUMBERS = {"number", "whole number"}
DAYS = {"day", "moment"}
COUNTS = {"number of a day", "milliseconds"}
TEXTS = {"text list", "number list", "discovered", "identifier"}
A_DAY = date(2001, 2, 3)
A_MOMENT = datetime(2001, 2, 3, 4, 5)

TYPES: list[tuple[Any, list[Any], set[str]]] = [
    (pa.null(), [None, None], {*NUMBERS, *DAYS, *COUNTS, *TEXTS, "truth"}),
    (pa.bool_(), [True, False, True], {*TEXTS, "truth"}),
    *((kind(), [7, 1, 0], {*NUMBERS, *TEXTS, "milliseconds"}) for kind in (pa.int8, pa.int16, pa.int32, pa.int64)),
    *((kind(), [7, 1, 0], {*NUMBERS, *TEXTS, "milliseconds"}) for kind in (pa.uint8, pa.uint16, pa.uint32, pa.uint64)),
    *((kind, [7.5, 1, 0.25], {*NUMBERS, *TEXTS, "milliseconds"}) for kind in (pa.float32(), pa.float64())),
    (pa.float16(), [np.float16(7.5), np.float16(1)], {*NUMBERS, *TEXTS, "milliseconds"}),
    *(
        (kind, [Decimal("7.50"), Decimal(1), Decimal("0.04")], {*NUMBERS, *TEXTS, "milliseconds"})
        for kind in (pa.decimal32(9, 2), pa.decimal64(18, 2), pa.decimal128(38, 2), pa.decimal256(60, 2))
    ),
    *((kind, ["7", "7.5", "1"], {*NUMBERS, *TEXTS, "milliseconds"}) for kind in (pa.string(), pa.large_string())),
    (pa.string_view(), ["7", "7.5", "1"], {*NUMBERS, *TEXTS, "milliseconds"}),
    *((kind, [A_DAY, date(1999, 1, 1)], {*DAYS, *COUNTS, *TEXTS}) for kind in (pa.date32(), pa.date64())),
    *((pa.timestamp(unit), [A_MOMENT], {*DAYS, *COUNTS, *TEXTS}) for unit in ("s", "ms", "us", "ns")),
    (pa.timestamp("us", "Europe/Berlin"), [A_MOMENT.replace(tzinfo=UTC)], {*DAYS, *COUNTS, *TEXTS}),
    *((kind, [time(4, 5)], TEXTS) for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))),
    *((pa.duration(unit), [timedelta(days=1)], TEXTS) for unit in ("s", "ms", "us", "ns")),
    (pa.month_day_nano_interval(), [(1, 2, 3)], set()),
    *((kind, [b"7"], set()) for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(1))),
    *((kind(pa.int8()), [[7]], set()) for kind in (pa.list_, pa.large_list, pa.list_view, pa.large_list_view)),
    (pa.list_(pa.int8(), 1), [[7]], set()),
    (pa.struct({"a": pa.int8()}), [{"a": 7}], set()),
    (pa.map_(pa.string(), pa.int8()), [{"a": 7}], set()),
    (pa.dictionary(pa.int8(), pa.string()), ["7", "7.5", "7"], {*NUMBERS, *TEXTS, "milliseconds"}),
    (pa.dictionary(pa.int32(), pa.float64()), [7.5, 1, 7.5], {*NUMBERS, *TEXTS, "milliseconds"}),
    (pa.dictionary(pa.int32(), pa.binary()), [b"7"], set()),
    (pa.uuid(), [UUID(int=7).bytes], TEXTS),
    (pa.json_(), ['"x"'], {*TEXTS}),
    (pa.bool8(), [1, 0], {*TEXTS, "truth"}),
    (pa.fixed_shape_tensor(pa.int8(), [1]), [[7]], set()),
    (pa.opaque(pa.int64(), "a", "b"), [7], set()),
]
"""Type, values, and the roles in which they are read; in all others they are refused."""
NEVER_MADE = {"Type_INTERVAL_MONTHS", "Type_INTERVAL_DAY_TIME"}
"""Types of Arrow that its Python library cannot make."""
MADE_OTHERWISE = {"Type_DENSE_UNION", "Type_SPARSE_UNION", "Type_RUN_END_ENCODED"}


def _cohort(array: Any, role: str) -> Cohort:
    """Read an Arrow array as a column of a frame that pandas keeps in Arrow."""
    series = pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([array])))
    return Cohort.from_pandas(pd.DataFrame({"x": series, "y": True}), _schema(role))


def _array(kind: Any, values: list[Any]) -> Any:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def test_the_list_of_types_is_complete() -> None:
    """Every type id of Arrow is in the list, or cannot be made."""
    ids = {getattr(pa.lib, name): name for name in dir(pa.lib) if name.startswith("Type_")}
    listed = {ids[kind.id] for kind, _, _ in TYPES if not isinstance(kind, pa.BaseExtensionType)}
    assert set(ids.values()) - listed - {"Type_EXTENSION"} == NEVER_MADE | MADE_OTHERWISE


@pytest.mark.parametrize(("kind", "values", "roles"), TYPES, ids=[str(kind)[:40] for kind, _, _ in TYPES])
def test_a_type_is_read_or_refused(kind: Any, values: list[Any], roles: set[str]) -> None:
    """A column of a type is read alone, with a null, and beside others of its type, and each row as it is alone."""
    for role in ROLES:
        array = _array(kind, values)
        if role not in roles:
            if role in {"truth", *COUNTS, *DAYS} and array.type not in (pa.binary(),) and roles & TEXTS:
                continue  # text and numbers may or may not be a truth or a date: that hangs on the value
            with pytest.raises(DataError, match="column 'x'"):
                _cohort(array, role)
            continue
        seen = _seen(_cohort(array, role))
        longer = pa.concat_arrays([array, array[:1], _array(kind, [None])])
        assert _seen(_cohort(longer, role))[: len(values)] == seen
        assert [_seen(_cohort(array[row : row + 1], role))[0] for row in range(len(values))] == seen


def test_runs_and_unions() -> None:
    """Runs are read as what they stand for; a union of types is refused."""
    runs = pc.run_end_encode(pa.array(["7", "7", "7.5"]))
    plain = pa.array(["7", "7", "7.5"])
    for role in ("number", "text list"):
        column = _schema(role).columns["x"]
        for array in (runs, pa.chunked_array([runs, runs])):
            expected = typed("x", column, pa.chunked_array([plain] * (len(array) // 3)), ())
            assert typed("x", column, array, ()).equals(expected)
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([7, 7]), pa.array(["x", "x"])])
    for role in ("number", "text list", "identifier", "day"):
        with pytest.raises(DataError, match="union"):
            typed("x", _schema(role).columns["x"], union, ())


def _texts(numbers: list[str]) -> dict[str, Any]:
    """Return the same numbers in every type that has them."""
    decimals = [Decimal(number) for number in numbers]
    floats = [float(number) for number in numbers]
    return {
        "float32": pa.array(np.array(floats, np.float32)),
        "float64": pa.array(floats),
        "widened": pa.array(np.array(floats, np.float32).astype(np.float64)),
        **{str(kind): pa.array(decimals, kind) for kind in (pa.decimal32(9, 5), pa.decimal64(18, 9))},
        **{str(kind): pa.array(decimals, kind) for kind in (pa.decimal128(38, 20), pa.decimal256(76, 40))},
        **{str(kind): pa.array(numbers, kind) for kind in (pa.string(), pa.large_string(), pa.string_view())},
        "dictionary": pa.array(numbers).dictionary_encode(),
        "dictionary of float32": pa.array(np.array(floats, np.float32)).dictionary_encode(),
    }


def test_a_number_is_the_same_in_every_type(tmp_path: Path) -> None:
    """45/1000 is that number in every type, from Arrow, frames, Parquet, CSV and archives: never a tie to be broken."""
    numbers = ["0.045", "4.545", "7.105", "0.125", "93.335"]
    expected = _seen(_cohort(pa.array([float(number) for number in numbers]), "number"))
    for name, array in _texts(numbers).items():
        assert _seen(_cohort(array, "number")) == expected, name
        pq.write_table(pa.table({"x": array, "y": [True] * len(array)}), tmp_path / "w.parquet")
        assert _seen(Cohort.read(tmp_path / "w.parquet", _schema("number"))) == expected, name
    (tmp_path / "w.csv").write_text("x,y\n" + "".join(f"{number},1\n" for number in numbers))
    assert _seen(Cohort.read(tmp_path / "w.csv", _schema("number"))) == expected
    objects = [np.float32(number) if place % 2 else Decimal(number) for place, number in enumerate(numbers)]
    frame = pd.DataFrame({"x": pd.Series(objects, dtype=object), "y": True})
    assert _seen(Cohort.from_pandas(frame, _schema("number"))) == expected


ARRAYS: dict[str, tuple[list[Any], set[str]]] = {
    "?": ([True, False], {"truth", "text list"}),
    **{kind: ([7, 1], {"number", "text list"}) for kind in "bBhHiIlLqQpP"},
    **{kind: ([7.5, 0.25], {"number", "text list"}) for kind in "efdg"},
    ">f4": ([7.5, 0.25], {"number", "text list"}),
    ">i8": ([7, 1], {"number", "text list"}),
    "U": (["7", "7.5"], {"number", "text list"}),
    "T": (["7", "7.5"], {"number", "text list"}),
    **{kind: ([1 + 1j], set()) for kind in "FDG"},
    "S": ([b"7"], set()),
    "V1": ([b"7"], set()),
    **{
        f"M8[{unit}]": (["2001-02-03"], {"day", "moment"}) for unit in ("W", "D", "h", "m", "s", "ms", "us", "ns", "ps")
    },
    "m8[s]": ([7], set()),
    "O": ([7, 7.5], {"number", "text list"}),
}


def test_the_list_of_arrays_is_complete() -> None:
    """Every character of NumPy's types stands in the list."""
    listed = {np.dtype(kind).char if kind != "T" else "T" for kind in ARRAYS}
    assert {np.dtype(char).char for char in np.typecodes["All"]} | {"T"} <= listed | {"c"}


def _frame(array: Any) -> pd.DataFrame | None:
    """Return a frame with the array as a column, or None where pandas takes no such array."""
    try:
        return pd.DataFrame({"x": pd.Series(array), "y": True})
    except (ValueError, TypeError):
        return None


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    """A NumPy array is read from an archive and from a frame with the same meaning, or refused by the column's name."""
    values, roles = ARRAYS[kind]
    array = np.array(values, dtype=np.dtypes.StringDType() if kind == "T" else kind)
    if kind not in "OT":
        rows = {"train_images": np.zeros((len(values), 2, 2), np.uint8), "train_y": np.ones(len(values))}
        np.savez(tmp_path / "w.npz", train_x=array, **rows)
    for role in ("number", "truth", "text list", "day", "moment"):
        schema, frame, seen = _schema(role), _frame(array), []
        if frame is not None:
            with contextlib.suppress(DataError):
                seen.append(_seen(Cohort.from_pandas(frame, schema)))
        if kind not in "OT":
            with contextlib.suppress(DataError):
                seen.append(
                    _seen(Cohort.read(tmp_path / "w.npz", Schema.parse({**schema.to_dict(), "images": IMAGES})))
                )
        if role in roles:
            assert seen
            assert all(rows == seen[0] for rows in seen)
        elif role not in ("truth", "text list"):
            assert not seen


@pytest.mark.parametrize("unit", ["Y", "M"])
def test_a_year_or_a_month_is_no_day(unit: str, tmp_path: Path) -> None:
    """What names no day is a date only in a format that says so."""
    array = np.array(["2001-02"], dtype=f"M8[{unit}]")
    np.savez(tmp_path / "w.npz", train_images=np.zeros((1, 2, 2), np.uint8), train_x=array)
    fields = {"type": "datetime", "min": "1990-01-01", "max": "2030-01-01"}
    schema = Schema.parse({"name": "w", "columns": {"x": fields}, "images": IMAGES})
    with pytest.raises(DataError, match="column 'x'"):
        Cohort.read(tmp_path / "w.npz", schema)
    fields["format"] = "%Y" if unit == "Y" else "%Y-%m"
    schema = Schema.parse({"name": "w", "columns": {"x": fields}, "images": IMAGES})
    assert Cohort.read(tmp_path / "w.npz", schema).table["x"].to_pylist() == [date(2001, 1 if unit == "Y" else 2, 1)]


COLUMNS: dict[str, tuple[Any, set[str]]] = {
    "Int64": (pd.array([7, None], "Int64"), {"number", "text list"}),
    "Float32": (pd.array([0.045, None], "Float32"), {"number", "text list"}),
    "boolean": (pd.array([True, None], "boolean"), {"truth", "text list"}),
    "string": (pd.array(["7", None], "string"), {"number", "text list"}),
    "category": (pd.Categorical([7.5, 7.0, 7.5]), {"number", "text list"}),
    "sparse": (pd.arrays.SparseArray([7.5, 0, 0]), {"number", "text list"}),
    "period": (pd.period_range("2001-02-03", periods=2, freq="D"), {"day", "moment", "text list"}),
    "interval": (pd.interval_range(0, 2), set()),
    "intervals as categories": (pd.cut([1, 2], [0, 1, 2]), set()),
    "datetime": (pd.to_datetime(["2001-02-03", None]), {"day", "moment", "text list"}),
    "zone": (pd.to_datetime(["2001-02-03T00:00+02:00"]).tz_convert("Asia/Tokyo"), {"day", "moment", "text list"}),
    "timedelta": (pd.to_timedelta([7], "D"), {"text list"}),
    "arrow": (pd.array([7, None], pd.ArrowDtype(pa.int8())), {"number", "text list"}),
    "complex": (np.array([1j]), set()),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_of_pandas_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    """Columns of pandas' own types are read from the frame and from Parquet alike, or refused by name."""
    array, roles = COLUMNS[kind]
    frame = pd.DataFrame({"x": pd.Series(array), "y": True})
    path = tmp_path / "w.parquet"
    with contextlib.suppress(pa.ArrowException, ValueError, TypeError):  # some types pandas cannot write
        frame.to_parquet(path)
    for role in ("number", "truth", "text list", "day", "moment"):
        seen = []
        with contextlib.suppress(DataError):
            seen.append(_seen(Cohort.from_pandas(frame, _schema(role))))
        if path.exists() and path.stat().st_size:
            with contextlib.suppress(DataError):
                seen.append(_seen(Cohort.read(path, _schema(role))))
        if role in roles:
            assert seen
            assert all(rows == seen[0] for rows in seen)
        elif role != "truth":
            assert not seen


def test_what_means_no_number_and_no_date_is_refused_with_its_type() -> None:
    """The message has the column, the type and what to do, and no value."""
    for array, role, words in (
        (pa.array([True]), "number", ("bool", "numbers")),
        (pa.array([b"Jane"]), "text list", ("binary", "Give text")),
        (pa.array([["Jane"]]), "identifier", ("list", "Give text")),
        (pa.array([timedelta(1)]), "day", ("duration", "dates")),
        (pa.array([20080131]), "day", ("numbers", "declare its format", "%Y%m%d", "excel", "unix_ms")),
        (pa.array(["20080131"]), "day", ("declare a format", "%Y%m%d", "excel", "unix_ms")),
    ):
        with pytest.raises(DataError) as caught:
            _cohort(array, role)
        assert all(word in str(caught.value) for word in ("column 'x'", *words))
        assert "Jane" not in str(caught.value)
        assert "20080131." not in str(caught.value)
