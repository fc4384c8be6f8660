"""Plain facts about the rows: how many, how many are impossible, how many equal a real row."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.cohort.computed import rule_violations
from dpsynth.cohort.rows import rows_where
from dpsynth.evaluation.arrays.table import Table
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Disclosure, Result, estimate
from dpsynth.schema.computed import rules
from dpsynth.schema.constraints import Forbid, Require, describe

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

__all__ = ["duplicate_results", "row_hashes", "size_results", "violation_results"]


def size_results(cohorts: Mapping[str, "Cohort"], terms: Protocol) -> list[Result]:
    """Return the number of rows of each cohort."""
    return [
        estimate("rows", len(cohort), arm=arm, n=len(cohort), disclosure=_own(cohort, terms))
        for arm, cohort in cohorts.items()
    ]


def _own(cohort: "Cohort", terms: Protocol) -> Disclosure:
    """Return whether a number that touches only this cohort may be published."""
    return Disclosure.PUBLIC if cohort.synthetic or cohort.public else terms.disclosure


def violation_results(cohorts: Mapping[str, "Cohort"], terms: Protocol) -> list[Result]:
    """Return the share of rows that break a declared constraint, for each cohort; `detail` has each constraint's count.

    It also has the constraints that speak of no row (`idle`): nobody could break them.

    A cohort without declared constraints gives 0 with the remark that there are none.
    """
    results = []
    for arm, cohort in cohorts.items():
        counts = rule_violations(cohort)
        worst = max(counts.values(), default=0) / len(cohort)
        reason = "" if counts else "the schema declares no constraint"
        detail: dict[str, Any] = {"constraints": counts, "idle": _idle(cohort)}
        results.append(
            estimate(
                "constraint_violations",
                worst,
                arm=arm,
                n=len(cohort),
                disclosure=_own(cohort, terms),
                reason=reason,
                detail=detail,
            )
        )
    return results


def _idle(cohort: "Cohort") -> list[str]:
    """Return the constraints that speak of no row of a cohort, so that none could break them."""
    return [describe(constraint) for constraint in rules(cohort.schema) if not _spoken_of(cohort, constraint).any()]


def _spoken_of(cohort: "Cohort", constraint: Any) -> NDArray[np.bool_]:
    """Return (rows,) of which a constraint speaks: where its `when` holds, or two of its columns are there."""
    if not isinstance(constraint, Forbid | Require):
        there = [cohort.table[name].is_valid().to_numpy() for name in constraint.columns]
        return np.asarray(np.sum(there, axis=0) >= 2)
    return rows_where(cohort, constraint.when)


def row_hashes(table: Table) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each row's values; equal rows have equal hashes."""
    import pandas as pd

    frame = pd.DataFrame({str(place): variable.values for place, variable in enumerate(table.variables.values())})  # noqa: PD011  (not a pandas object)
    return np.asarray(pd.util.hash_pandas_object(frame, index=False), dtype=np.uint64)


def duplicate_results(reference: Table, arms: Mapping[str, Sequence[Table]], terms: Protocol) -> list[Result]:
    """Return how many rows of each arm's first draw equal a row of the reference in every modelled column.

    A count and nothing more: few columns make equal rows by chance, and a cohort without any can still leak.
    """
    hashes = row_hashes(reference)
    results = []
    for arm, draws in arms.items():
        count = int(np.isin(row_hashes(draws[0]), hashes).sum())
        detail = {"reference_rows": len(reference)}
        results.append(
            estimate("duplicates", count, n=len(draws[0]), arm=arm, disclosure=terms.disclosure, detail=detail)
        )
    return results
