"""Whether rows in many files, or in a table of a database, keep a schema: one pass, batch by batch.

What it finds is internal like that of `dpsynth.checking.check`, and in the same form, but for what needs all rows at
once: constraints, the number of rows a patient has, and in which rows a fault lies.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpsynth.checking.check import DataCheck
from dpsynth.checking.columns import check_column
from dpsynth.checking.faults import ColumnShares, Fault
from dpsynth.errors import DataError
from dpsynth.schema.schema import Schema
from dpsynth.sources.database import Database
from dpsynth.sources.scanned import scan

__all__ = ["check_scanned"]


def check_scanned(path: Path | Database, schema: Schema) -> DataCheck:
    """Check all rows of files or of a table of a database against a schema, column by column.

    Parameters
    ----------
    path
        What `dpsynth.scan` takes.
    schema
        The schema; it need not be confirmed.

    Returns
    -------
    DataCheck
        Internal: exact counts, but no value.

    Raises
    ------
    FileError, DataError, InputError
        As `dpsynth.scan`.

    Notes
    -----
    Privacy contract: reads every row without noise and spends nothing. What it returns stays in the house.
    """
    total = _Total()
    try:
        for batch in scan(path, schema).rows.batches(schema):
            total.add(batch, schema)
    except DataError as error:  # a file that cannot be read further
        total.faults[path.name, str(error)] = Fault(path.name, str(error), is_refused=True)
    if not total.rows and not total.faults:
        total.faults[path.name, ""] = Fault(path.name, "has no rows; expected at least one", is_refused=True)
    ordered = sorted(total.faults.values(), key=lambda fault: not fault.is_refused)
    return DataCheck(path.name, total.rows, total.columns(), {}, tuple(ordered))


class _Total:
    """What was found in all batches so far."""

    def __init__(self) -> None:
        self.rows = 0
        self.faults: dict[tuple[str, str], Fault] = {}
        self._sums: dict[str, ColumnShares] = {}

    def add(self, batch: Any, schema: Schema) -> None:
        """Check a batch and add what it holds."""
        for name in batch.column_names:
            checked = check_column(name, schema.columns[name], batch[name], schema.missing_values)
            self._add_shares(checked.shares, batch.num_rows)
            self._add_faults(checked.faults)
        self.rows += batch.num_rows

    def columns(self) -> tuple[ColumnShares, ...]:
        """Return the shares of each column among all rows."""
        return tuple(_scaled(facts, 1 / max(self.rows, 1)) for facts in self._sums.values())

    def _add_shares(self, shares: ColumnShares, rows: int) -> None:
        before = self._sums.get(shares.name)
        sums = {} if before is None else _numbers(before)
        for key, share in _numbers(shares).items():
            sums[key] = sums.get(key, 0.0) + share * rows
        self._sums[shares.name] = ColumnShares(shares.name, shares.type, **sums)

    def _add_faults(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            before = self.faults.get((fault.place, fault.words))
            count = (fault.count or 0) + (before.count or 0 if before is not None else 0)
            self.faults[fault.place, fault.words] = Fault(fault.place, fault.words, fault.is_refused, count=count)


def _scaled(shares: ColumnShares, factor: float) -> ColumnShares:
    numbers: dict[str, Any] = {key: value * factor for key, value in _numbers(shares).items()}
    return replace(shares, **numbers)


def _numbers(shares: ColumnShares) -> dict[str, float]:
    return {key: value for key, value in vars(shares).items() if isinstance(value, float)}
