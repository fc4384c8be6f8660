"""A cohort as plain arrays: what every metric works on, whatever file or model the cohort came from.

Numbers and dates are float64 with NaN for missing, other columns are codes into a list of categories with -1 for
missing. Values are brought to the schema's form first (inside the public range, at the declared decimals), so that no
metric rewards or punishes the way in which a file happens to be written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.columns.arrow import positions
from dpsynth.columns.kinds import Datetime, Numeric
from dpsynth.columns.matching import canonical_text
from dpsynth.columns.states import FIRST_STATE
from dpsynth.columns.steps import steps
from dpsynth.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from dpsynth.cohort.cohort import Cohort

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
        Numbers that are codes and not measurements. A state that is written as text is one too: "<5" is a number
        next to the greatest one below 5, so that learners see it at its limit; a word such as "not done" is a number
        below the range.
    special_labels : tuple of str
        How each of them is written; empty where they are numbers as they are.
    states : tuple of float
        Those of them that are written as text.
    unmeasured : tuple of float
        Those of the states that say nothing of a magnitude; learners take them as a category of their own.
    cuts : tuple of float
        Public cut points that bins must respect.
    log : bool
        Whether the public scale is logarithmic.
    whole : bool
        Whether the numbers are integers.
    never_predicts : tuple of str
        Columns of which no model may use this one.
    """

    name: str
    values: NDArray[Any]
    categories: tuple[str, ...] | None = None
    ordered: bool = False
    low: float = 0.0
    high: float = 1.0
    special: tuple[float, ...] = ()
    special_labels: tuple[str, ...] = ()
    states: tuple[float, ...] = ()
    unmeasured: tuple[float, ...] = ()
    cuts: tuple[float, ...] = ()
    log: bool = False
    whole: bool = False
    never_predicts: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers or dates."""
        return self.categories is None

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        """Which rows have no value."""
        return np.isnan(self.values) if self.numeric else self.values < 0

    @cached_property
    def blank(self) -> NDArray[np.bool_]:
        """Which rows say nothing of a magnitude: they are missing, or in a state such as "not done"."""
        return self.missing | np.isin(self.values, self.unmeasured) if self.unmeasured else self.missing

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """Which rows have a value that is a measurement: neither missing nor special."""
        return ~self.missing & ~np.isin(self.values, self.special) if self.special else ~self.missing

    @cached_property
    def labels_of_special(self) -> tuple[str, ...]:
        """How each special value is written."""
        return self.special_labels or tuple(f"{atom:g}" for atom in self.special)

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
    origin : ndarray of int, shape (rows,), optional
        See `places`; None where the rows are the whole cohort.
    """

    variables: dict[str, Variable]
    patients: Ints
    public: bool = False
    origin: Ints | None = None

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, name: str) -> Variable:
        return self.variables[name]

    @property
    def names(self) -> list[str]:
        """The columns' names in order."""
        return list(self.variables)

    def predictors(self, target: str) -> list[str]:
        """Return the columns that a model of `target` may use, in order."""
        return [name for name in self.names if name != target and target not in self[name].never_predicts]

    @cached_property
    def places(self) -> Ints:
        """Place of each row in the cohort that the table was made from."""
        return np.arange(len(self)) if self.origin is None else self.origin

    def take(self, rows: NDArray[Any]) -> "Table":
        """Return the table at these rows (indices or mask)."""
        columns = {name: variable.take(rows) for name, variable in self.variables.items()}
        return Table(columns, _dense(self.patients[rows]), self.public, self.places[rows])

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


def tables(cohorts: Mapping[str, "Cohort"]) -> dict[str, Table]:
    """Return cohorts of one schema as tables with common codes.

    Columns with values to be discovered get as categories the values of all `cohorts` together.

    Raises
    ------
    DataError
        If a modelled column is missing from a cohort.
    """
    schema = next(iter(cohorts.values())).schema
    for name, cohort in cohorts.items():
        lost = [column for column in schema.modelled if column not in cohort.columns]
        if lost:
            raise DataError(f"{lost[0]!r}: the {name} cohort has no such column; give cohorts of the same schema.")
    columns: dict[str, dict[str, Variable]] = {name: {} for name in cohorts}
    for column in schema.modelled:
        arrays = {name: cohort.table.column(column) for name, cohort in cohorts.items()}
        for name, variable in _variables(column, schema.columns[column], arrays).items():
            barred = (schema.target,) if schema.target is not None and column in schema.withheld else ()
            columns[name][column] = replace(variable, never_predicts=barred) if barred else variable
    return {
        name: Table(columns[name], _dense(cohort.patients()), cohort.public or cohort.synthetic)
        for name, cohort in cohorts.items()
    }


def _variables(name: str, spec: Any, arrays: Mapping[str, "pa.ChunkedArray"]) -> dict[str, Variable]:
    """Return one column of each cohort as variables with common codes."""
    if isinstance(spec, Numeric):
        return {key: _number(name, spec, array) for key, array in arrays.items()}
    if isinstance(spec, Datetime):
        return {key: _date(name, spec, array) for key, array in arrays.items()}
    coded = {key: positions(array) for key, array in arrays.items()}
    labels = tuple(dict.fromkeys(canonical_text(value) for _, values in coded.values() for value in values))
    ordered = spec.type == "categorical" and spec.ordered
    return {
        key: Variable(name, _codes(places, [labels.index(canonical_text(value)) for value in values]), labels, ordered)
        for key, (places, values) in coded.items()
    }


def _codes(places: NDArray[Any], common: Sequence[int]) -> Ints:
    """Return places in a cohort's own list (-1: missing) as places in the common list."""
    codes: Ints = np.array([*common, -1], dtype=np.int64)[places]
    return codes


def _number(name: str, spec: Numeric, array: "pa.ChunkedArray") -> Variable:
    step_numbers, missing = steps(spec, array)
    unit = float(10**spec.decimals)
    numbers = tuple(float(value) for value in spec.numbers)
    places = _state_values(spec)
    atoms = np.isin(step_numbers / unit, numbers) if numbers else np.zeros(len(step_numbers), dtype=bool)
    values = np.where(atoms, step_numbers, np.clip(step_numbers, spec.first, spec.last)) / unit
    for place, value in enumerate(places):
        values[step_numbers == FIRST_STATE + place] = value
    texts = [state.text for state in spec.states]
    return Variable(
        name,
        np.where(missing, np.nan, values),
        ordered=True,
        low=spec.first / unit,
        high=spec.last / unit,
        special=(*numbers, *places),
        special_labels=(*(f"{number:g}" for number in numbers), *texts) if texts else (),
        states=tuple(places),
        unmeasured=tuple(value for value, state in zip(places, spec.states, strict=True) if state.edge is None),
        cuts=tuple(float(cut) for cut in spec.cuts),
        log=spec.scale == "log",
        whole=spec.decimals == 0,
    )


def _state_values(spec: Numeric) -> list[float]:
    """Return a number for each state that is written as text, next to its limit, and different from all others."""
    unit, span = float(10**spec.decimals), spec.last - spec.first + 1
    values: list[float] = []
    for place, state in enumerate(spec.states):
        step = spec.first - (place + 1) * span if state.edge is None else state.edge
        way = np.inf if state.is_below else -np.inf
        value = float(np.nextafter(step / unit, way))
        while value in values:
            value = float(np.nextafter(value, way))
        values.append(value)
    return values


def _date(name: str, spec: Datetime, array: "pa.ChunkedArray") -> Variable:
    step_numbers, missing = steps(spec, array)
    a_day = 86_400.0 if spec.clock else 1.0
    days = np.where(missing, np.nan, np.clip(step_numbers, spec.first, spec.last) / a_day)
    return Variable(name, days, ordered=True, low=spec.first / a_day, high=spec.last / a_day)
