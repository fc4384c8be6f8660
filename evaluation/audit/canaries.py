"""Canaries: made-up patients whose presence an attack looks for, and the two worlds that they make.

Cohorts here are public: an audit plants patients in them and fits again and again, which no budget would pay for.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.columns.kinds import Boolean, Datetime, Numeric
from dpsynth.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.cohort.cohort import Cohort

__all__ = ["CANARIES", "Canary", "canary", "capped", "corner", "crowd", "joined", "planted", "rare", "strangers"]

NOBODY = "canary"


@dataclass(frozen=True, eq=False)
class Canary:
    """A patient who is added to a cohort, or left out, to see whether a release tells the difference.

    Parameters
    ----------
    name : str
        A key of `CANARIES`.
    rows : pandas.DataFrame
        The patient's rows over the modelled columns, all alike.
    """

    name: str
    rows: "pd.DataFrame"


def corner(cohort: "Cohort", rows: int = 1) -> Canary:
    """Return a patient in an otherwise empty corner: in every column the value that the fewest patients have.

    Numbers and dates are at the end of their public range that fewer patients reach.
    """
    import pandas as pd

    frame = cohort.to_pandas()
    values = {name: _rarest(cohort.schema.columns[name], frame[name]) for name in cohort.schema.modelled}
    return Canary("corner", pd.DataFrame([values] * rows).astype(object))


def crowd(cohort: "Cohort") -> Canary:
    """Return the patient of `corner` with as many rows as a patient may have: what the cap has to cover."""
    cap = cohort.schema.max_rows_per_patient if cohort.schema.patient is not None else 1
    return Canary("crowd", corner(cohort, cap).rows)


def rare(cohort: "Cohort") -> Canary:
    """Return a patient like one of the smallest subgroup: a row of it, taken twice into the cohort.

    Raises
    ------
    InputError
        If the schema names no subgroups.
    """
    groups = [name for name in cohort.schema.subgroups if isinstance(name, str)]
    if not groups:
        raise InputError("canary 'rare': the schema names no subgroups; name one (subgroups: [sex]).")
    frame = cohort.to_pandas()
    keys = frame[groups].astype(str).agg("|".join, axis=1)
    smallest = keys.map(keys.value_counts()).to_numpy().argmin()
    return Canary("rare", frame[list(cohort.schema.modelled)].iloc[[int(smallest)]].astype(object))


CANARIES = {"corner": corner, "crowd": crowd, "rare": rare}
"""By name: a patient in an empty corner, one with as many rows as the cap allows, one of the smallest subgroup."""


def canary(name: str, cohort: "Cohort") -> Canary:
    """Return the canary of that name for a cohort.

    Parameters
    ----------
    name : str
        A key of `CANARIES`.
    cohort : Cohort

    Returns
    -------
    Canary

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name not in CANARIES:
        raise InputError(f"canary {name!r}: is not known; expected one of {', '.join(CANARIES)}.")
    planted_row: Canary = CANARIES[name](cohort)
    return planted_row


def planted(cohort: "Cohort", patient: Canary) -> "Cohort":
    """Return the cohort with the canary in it, all of its rows one patient's.

    Parameters
    ----------
    cohort : Cohort
        Public patients.
    patient : Canary

    Returns
    -------
    Cohort

    Raises
    ------
    InputError
        If the cohort is not public.
    """
    return _with_rows(cohort, patient.rows, [0] * len(patient.rows))


def strangers(cohort: "Cohort", size: int, rng: np.random.Generator) -> "pd.DataFrame":
    """Return rows over the modelled columns with every value drawn from the public ones, each apart: like nobody."""
    import pandas as pd

    frame = cohort.to_pandas()
    values = {
        name: [pool[i] for i in rng.integers(len(pool), size=size)]
        for name, pool in ((name, _pool(cohort.schema.columns[name], frame[name])) for name in cohort.schema.modelled)
    }
    return pd.DataFrame(values).astype(object)


def joined(cohort: "Cohort", rows: "pd.DataFrame") -> "Cohort":
    """Return the cohort with further patients, one a row; `InputError` if it is not public."""
    return _with_rows(cohort, rows, list(range(len(rows))))


def _with_rows(cohort: "Cohort", rows: "pd.DataFrame", patients: list[int]) -> "Cohort":
    """Return the cohort with rows added, each of one of so many new patients."""
    import pandas as pd

    from dpsynth.cohort.cohort import Cohort

    if not cohort.public:
        raise InputError("audit: patients are planted in public cohorts only (Cohort.read(..., public=True)).")
    frame, fresh = cohort.to_pandas().astype(object), rows.copy()
    for name in frame.columns:
        if name not in fresh:
            new = _new_identifiers(frame[name], len(set(patients)))
            fresh[name] = [new[i] for i in patients]
    both = pd.concat([frame, fresh[list(frame.columns)]], ignore_index=True)
    return Cohort.from_pandas(both, cohort.schema, public=True)


def capped(cohort: "Cohort", patients: int | None = None) -> "Cohort":
    """Return at most so many patients, each with at most the capped number of rows.

    No row is then over the cap, so nothing is dropped at random and two worlds differ by the canary alone.

    Parameters
    ----------
    cohort : Cohort
    patients : int, optional
        Default: all.

    Returns
    -------
    Cohort
    """
    people = cohort.patients()
    order = np.argsort(people, kind="stable")
    start = np.searchsorted(people[order], people[order])
    place = np.empty(len(people), dtype=np.int64)
    place[order] = np.arange(len(people)) - start
    cap = cohort.schema.max_rows_per_patient if cohort.schema.patient is not None else 1
    kept = (place < cap) & (people < (len(people) if patients is None else patients))
    return cohort.take(np.flatnonzero(kept))


def _rarest(column: Any, values: "pd.Series[Any]") -> Any:
    """Return the public value of a column that the fewest rows have."""
    if isinstance(column, Numeric | Datetime):
        return _emptier_end(column, values)
    counts = values.map(str).value_counts()
    return min(reversed(_known(column, values)), key=lambda value: int(counts.get(str(value), 0)))


def _pool(column: Any, values: "pd.Series[Any]") -> list[Any]:
    """Return public values of a column to draw from; of numbers and dates, eleven between the ends."""
    import pandas as pd

    if not isinstance(column, Numeric | Datetime):
        return _known(column, values)
    shares = np.linspace(0, 1, 11)
    if isinstance(column, Datetime):
        first, last = pd.Timestamp(column.min), pd.Timestamp(column.max)
        return [first + share * (last - first) for share in shares]
    low, high = float(column.min), float(column.max)
    return sorted({round(low + share * (high - low), column.decimals) for share in shares})


def _known(column: Any, values: "pd.Series[Any]") -> list[Any]:
    """Return the values of a column that are no numbers: those of the schema, or where it names none, those there."""
    listed = list(column.labels if isinstance(column, Boolean) else column.values)  # noqa: PD011  (a schema's column)
    if column.is_discovered:
        listed = sorted(values.dropna().unique(), key=str)
    if not listed:
        raise InputError("canary: a column has no value that a canary could take.")
    return listed


def _emptier_end(column: Numeric | Datetime, values: "pd.Series[Any]") -> Any:
    """Return the end of a public range in whose half fewer rows lie."""
    import pandas as pd

    low, high = (pd.Timestamp(x) if isinstance(column, Datetime) else float(x) for x in _ends(column))
    if isinstance(column, Numeric):
        values = pd.to_numeric(values, errors="coerce")  # states such as "<5" are at no end
    there = values.dropna()
    upper = int((there - low > high - there).sum()) if len(there) else 0
    return column.min if 2 * upper > len(there) else column.max


def _ends(column: Numeric | Datetime) -> tuple[Any, Any]:
    return column.min, column.max


def _new_identifiers(values: "pd.Series[Any]", size: int) -> list[Any]:
    """Return so many identifiers that nobody has, of the column's own type."""
    present = values.dropna()
    if len(present) and isinstance(present.iloc[0], int | np.integer):
        return list(range(int(present.max()) + 1, int(present.max()) + 1 + size))
    taken = set(present.map(str))
    return [name for name in (f"{NOBODY}{i}" for i in range(len(taken) + size)) if name not in taken][:size]
