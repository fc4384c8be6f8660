"""A cohort as plain arrays: what every metric works on, whatever file or model the cohort came from.

Numbers and dates are float64 with NaN for missing, other columns are codes into a list of categories with -1 for
missing. Values are brought to the schema's form first (inside the public range, at the declared decimals), so that no
metric rewards or punishes the way in which a file happens to be written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from dpsynth.cohort import Cohort
    from dpsynth.schema import Schema

__all__ = ["Floats", "Ints", "Table", "Variable", "tables"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Variable:
    """One column as an array, with the public facts that metrics need.

    Parameters
    ----------
    name : str
    values : ndarray, shape (rows,)
        float64 with NaN for missing where `categories` is None, else int codes with -1 for missing.
    categories : tuple of str or None
        Labels of the codes; None for numbers and dates (in days since 1970).
    ordered : bool
        Whether the order of the values means something.
    low, high : float
        The public range of a number.
    special : tuple of float
        Numbers that are codes and not measurements.
    cuts : tuple of float
        Public cut points that bins must respect.
    log : bool
        Whether the public scale is logarithmic.
    whole : bool
        Whether the numbers are integers.
    """

    name: str
    values: NDArray[Any]
    categories: tuple[str, ...] | None = None
    ordered: bool = False
    low: float = 0.0
    high: float = 1.0
    special: tuple[float, ...] = ()
    cuts: tuple[float, ...] = ()
    log: bool = False
    whole: bool = False

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers or dates."""
        return self.categories is None

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        """Which rows have no value."""
        return np.isnan(self.values) if self.numeric else self.values < 0

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """Which rows have a value that is a measurement: neither missing nor special."""
        return ~self.missing & ~np.isin(self.values, self.special) if self.special else ~self.missing

    def take(self, rows: NDArray[Any]) -> "Variable":
        """Return the column at these rows (indices or mask)."""
        public = {key: item for key, item in self.__dict__.items() if key in self.__dataclass_fields__}
        return Variable(**{**public, "values": self.values[rows]})


@dataclass(frozen=True)
class Table:
    """A cohort's modelled columns as arrays.

    Parameters
    ----------
    variables : dict of str to Variable
        In the schema's order.
    patients : ndarray of int, shape (rows,)
        Dense patient index of each row.
    public : bool
        Whether every value may be published: a synthetic cohort, or real data that is public.
    """

    variables: dict[str, Variable]
    patients: Ints
    public: bool = False

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, name: str) -> Variable:
        return self.variables[name]

    @property
    def names(self) -> list[str]:
        """The columns' names in order."""
        return list(self.variables)

    def take(self, rows: NDArray[Any]) -> "Table":
        """Return the table at these rows (indices or mask)."""
        columns = {name: variable.take(rows) for name, variable in self.variables.items()}
        return Table(columns, _dense(self.patients[rows]), self.public)

    def at_most(self, limit: int, seed: int) -> "Table":
        """Return all rows, or those of a random subset of patients with about `limit` rows when there are more."""
        if len(self) <= limit:
            return self
        count = int(self.patients.max()) + 1
        order = np.random.default_rng(seed).permutation(count)
        kept = order < max(1, limit * count // len(self))
        return self.take(np.flatnonzero(kept[self.patients]))


def _dense(patients: NDArray[Any]) -> Ints:
    return np.unique(patients, return_inverse=True)[1].astype(np.int64)


def tables(cohorts: Mapping[str, "Cohort"], schema: "Schema | None" = None) -> dict[str, Table]:
    """Return cohorts of one schema as tables with common codes.

    Columns with values to be discovered get as categories the values of all `cohorts` together.

    Raises
    ------
    DataError
        If a modelled column is missing from a cohort.
    """
    first = next(iter(cohorts.values()))
    schema = schema or first.schema
    for name, cohort in cohorts.items():
        lost = [column for column in schema.modelled if column not in cohort.table.column_names]
        if lost:
            raise DataError(f"{lost[0]!r}: the {name} cohort has no such column; give cohorts of the same schema.")
    columns: dict[str, dict[str, Variable]] = {name: {} for name in cohorts}
    for column in schema.modelled:
        spec = schema.columns[column]
        arrays = {name: cohort.table.column(column) for name, cohort in cohorts.items()}
        for name, variable in _variables(column, spec, arrays).items():
            columns[name][column] = variable
    return {
        name: Table(columns[name], _dense(cohort.patients()), _is_public(cohort)) for name, cohort in cohorts.items()
    }


def _is_public(cohort: "Cohort") -> bool:
    return bool(cohort.public)


def _variables(name: str, spec: Any, arrays: Mapping[str, "pa.ChunkedArray"]) -> dict[str, Variable]:
    """Return one column of each cohort as variables with common codes."""
    if spec.type == "numeric":
        return {key: _number(name, spec, array) for key, array in arrays.items()}
    if spec.type == "datetime":
        return {key: _date(name, spec, array) for key, array in arrays.items()}
    values = _values(spec, arrays)
    ordered = spec.type == "categorical" and spec.ordered
    labels = tuple(str(value) for value in values)
    found = {key: _codes(array, values) for key, array in arrays.items()}
    if spec.type == "categorical" and spec.other in values:
        other = values.index(spec.other)
        found = {key: np.where(_unknown(arrays[key], codes), other, codes) for key, codes in found.items()}
    return {key: Variable(name, codes, labels, ordered) for key, codes in found.items()}


def _unknown(array: "pa.ChunkedArray", codes: Ints) -> NDArray[np.bool_]:
    """Return which cells hold a value that is outside the list (not missing)."""
    unknown: NDArray[np.bool_] = (codes < 0) & array.is_valid().to_numpy()
    return unknown


def _values(spec: Any, arrays: Mapping[str, "pa.ChunkedArray"]) -> list[Any]:
    if spec.type == "boolean":
        return list(spec.labels)
    if spec.values:
        return list(spec.values)
    found = {value for array in arrays.values() for value in array.unique().to_pylist() if value is not None}
    return sorted(found, key=str)


def _codes(array: "pa.ChunkedArray", values: Sequence[Any]) -> Ints:
    """Return the place of each cell in `values`, -1 where it is missing or none of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    try:
        wanted = pa.array(values, type=array.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        array, wanted = array.cast(pa.string()), pa.array([str(value) for value in values])
    places = pc.index_in(array, value_set=wanted).combine_chunks()
    codes: Ints = pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _floats(array: "pa.ChunkedArray") -> Floats:
    import pyarrow as pa

    plain = array.cast(pa.float64(), safe=False)
    return np.array(plain.to_numpy(), dtype=np.float64)


def _number(name: str, spec: Any, array: "pa.ChunkedArray") -> Variable:
    raw = _floats(array)
    special = tuple(float(value) for value in spec.special)
    shown = np.round(np.clip(raw, spec.min, spec.max), spec.decimals)
    values = np.where(np.isin(raw, special), raw, shown) if special else shown
    return Variable(
        name,
        values,
        ordered=True,
        low=float(spec.min),
        high=float(spec.max),
        special=special,
        cuts=tuple(float(cut) for cut in spec.cuts),
        log=spec.scale == "log",
        whole=spec.decimals == 0,
    )


_DAY = 86_400e6  # microseconds


def _date(name: str, spec: Any, array: "pa.ChunkedArray") -> Variable:
    import pyarrow as pa

    stamps = array.cast(pa.timestamp("us")).to_numpy().astype("datetime64[us]")
    days = np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64) / _DAY)
    low, high = (np.datetime64(end, "us").astype(np.int64) / _DAY for end in (spec.min, spec.max))
    return Variable(name, np.clip(days, low, high), ordered=True, low=float(low), high=float(high))
