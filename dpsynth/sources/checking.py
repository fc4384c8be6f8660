"""Whether rows in many files, or in a table of a database, keep a schema: one pass, batch by batch.

What it finds is internal like that of `dpsynth.checking.check`, the same faults in the same words; a place is the row's
number over all files, in the order of their names. What needs all rows of a patient, or of a value, is counted on the
disk by keyed hashes (`dpsynth.sources.unit_checking`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dpsynth.checking.check import DataCheck, check_constraints, counts_faults, patient_faults
from dpsynth.checking.columns import ABOVE, BELOW, CheckedColumn, check_column, discovered_faults, outside_words
from dpsynth.checking.faults import ColumnShares, Fault
from dpsynth.checking.reading import damaged_fault, names_faults, stored_fault
from dpsynth.checking.units import check_dropped
from dpsynth.columns.kinds import Categorical
from dpsynth.errors import DataError, DpsynthError
from dpsynth.files.tables import column_names
from dpsynth.schema.computed import rule_words
from dpsynth.schema.schema import Schema
from dpsynth.sources.database import Database
from dpsynth.sources.distinct import DistinctValues
from dpsynth.sources.locating import Located
from dpsynth.sources.reading import Files
from dpsynth.sources.repeats import Places
from dpsynth.sources.scanned import rows_at, scan
from dpsynth.sources.storing import typed_batch
from dpsynth.sources.unit_checking import UnitChecks

__all__ = ["check_scanned"]


def check_scanned(path: Path | Database, schema: Schema) -> DataCheck:
    """Check all rows of files or of a table of a database against a schema; return everything that does not fit.

    Parameters
    ----------
    path
        What `dpsynth.scan` takes.
    schema
        The schema; it need not be confirmed.

    Returns
    -------
    DataCheck
        Internal: exact counts and numbers of rows, but no value. Of a column with more different values than are
        kept, their number is an estimate, within 2 % or so.

    Raises
    ------
    FileError, InputError
        If the path cannot be read at all, or there is no room on the disk.

    Notes
    -----
    Privacy contract: reads every row without noise and spends nothing. What it returns stays in the house; what is kept
    on the disk meanwhile are keyed hashes, in a folder that only its owner can read and that is gone at the end.
    """
    rows = rows_at(path)
    total = _Total(schema, rows.most(len(schema.columns)))
    try:
        for label, piece in _pieces(rows):
            _add(total, label, piece, schema)
        faults = [*total.faults(), *check_dropped(schema), *patient_faults(schema)]
        if not total.rows and not any(fault.is_refused for fault in faults):
            faults.append(Fault(path.name, "has no rows; expected at least one", is_refused=True))
        if total.rows:
            faults += [*total.units.faults(), *counts_faults(schema, total.rows)]
    finally:
        total.units.close()
    if not any(fault.is_refused for fault in faults):
        faults += _as_a_fit_reads(path, schema)
    ordered = sorted(faults, key=lambda fault: not fault.is_refused)
    return DataCheck(path.name, total.rows, total.columns(), total.constraints, tuple(ordered))


def _pieces(rows: Any) -> Iterator[tuple[str, Any]]:
    """Return what is read by itself, and what a message calls it: each file, or the whole of another source."""
    if not isinstance(rows, Files):
        yield getattr(rows, "relation", "the data"), rows
        return
    located, count = rows.located, len(rows.members)
    for number, (file, keys) in enumerate(zip(located.files, located.keys, strict=True)):
        label = file.name if count == 1 else f"file {number + 1} of {count} in {located.path.name}"
        yield label, _File(file, rows.partition, keys)


@dataclass
class _File:
    """One file of several, with what the names of its folders say."""

    file: Path
    partition: Any
    keys: dict[str, str | None]
    damaged: list[int] = field(default_factory=list)

    def names(self, schema: Schema) -> list[str]:
        """Return the names of its columns, those of its folders last."""
        given = self.partition(self.file, self.keys, schema)
        return [*column_names(self.file, schema.file, [n for n in schema.columns if n not in given]), *given]

    def batches(self, schema: Schema) -> Iterator[Any]:
        """Yield its rows as text where it is CSV; damaged lines are noted and passed over."""

        def pass_over(row: Any) -> str:
            self.damaged.append(row.number or 0)
            return "skip"

        keys = {name: value for name, value in self.keys.items() if name in schema.columns}
        yield from Files(Located(self.file, (self.file,), (keys,), self.file), pass_over).batches(schema)


def _add(total: "_Total", label: str, piece: Any, schema: Schema) -> None:
    """Check what is read by itself and add what it holds; what cannot be read ends it, and the others go on."""
    try:
        names = piece.names(schema) if isinstance(piece, _File) else piece.names()
        total.note(names_faults(label, names, schema))
        wanted = {name: column for name, column in schema.columns.items() if names.count(name) == 1}
        part = schema.model_copy(update={"columns": wanted, "drop": tuple({*names} - {*wanted})})
        if wanted:
            for batch in piece.batches(part):
                total.add(batch)
    except DataError as error:
        file = piece.file if isinstance(piece, _File) else Path(label)
        fault = stored_fault(file, error) if isinstance(piece, _File) else Fault(label, str(error).rstrip("."), True)
        total.note([replace(fault, place=label, words=fault.words.replace(file.name, "it"))])
    if isinstance(piece, _File) and piece.damaged:
        total.note([damaged_fault(label, piece.file, piece.damaged, schema.file)])


def _as_a_fit_reads(path: Path | Database, schema: Schema) -> list[Fault]:
    """Return what a fit's own reading refuses, where nothing was found that it would: so nothing passes unsaid."""
    try:
        for batch in scan(path, schema).rows.batches(schema):
            typed_batch(batch, schema)
    except DpsynthError as error:
        return [Fault(path.name, str(error).rstrip("."), is_refused=True)]
    return []


class _Total:
    """What was found in all batches so far."""

    def __init__(self, schema: Schema, most: int) -> None:
        self.rows = 0
        self.constraints: dict[str, int] = {}
        self.units = UnitChecks(schema, most)
        self._schema = schema
        self._whole: list[Fault] = []
        self._places: dict[tuple[str, str, bool], Places] = {}
        self._sums: dict[str, ColumnShares] = {}
        self._seen: dict[str, int] = {}
        self._discovered = {name: DistinctValues() for name in schema.to_discover}

    def note(self, faults: Iterable[Fault]) -> None:
        """Take faults in that are not about rows."""
        self._whole += [fault for fault in faults if fault not in self._whole]

    def add(self, batch: Any) -> None:
        """Check a batch and add what it holds."""
        schema = self._schema
        checked = {
            name: check_column(name, schema.columns[name], batch[name], schema.missing_values)
            for name in batch.column_names
        }
        for name, column in checked.items():
            self._add_shares(column.shares, batch.num_rows)
            self._add_faults(fault for fault in column.faults if fault.rows is not None)
            if column.array is None:
                self.note(column.faults)
            elif name in self._discovered:
                self._discovered[name].add(_texts(column.array))
        counts, faults = check_constraints(schema, checked)
        for words, count in counts.items():
            self.constraints[words] = self.constraints.get(words, 0) + count
        self._add_faults(faults)
        self.units.add(_typed(checked), self.rows, batch.num_rows)
        self.rows += batch.num_rows

    def faults(self) -> list[Fault]:
        """Return all faults of columns and constraints."""
        faults = [
            Fault(place, self._words(place, words), is_refused, rows=places.first, count=places.count)
            for (place, words, is_refused), places in self._places.items()
        ]
        for name, values in self._discovered.items():
            column = self._schema.columns[name]
            if isinstance(column, Categorical):
                faults += discovered_faults(name, column, list(values.counts()), values.distinct)
        self.constraints = {
            words: self.constraints[words] for words in rule_words(self._schema) if words in self.constraints
        }
        return [*self._whole, *faults]

    def columns(self) -> tuple[ColumnShares, ...]:
        """Return the shares of each column among all rows that have it."""
        return tuple(
            _scaled(self._sums[name], 1 / max(self._seen[name], 1))
            for name in self._schema.columns
            if name in self._sums
        )

    def _words(self, place: str, words: str) -> str:
        """Return the words of a fault, as the share of all rows makes them."""
        if words not in (BELOW, ABOVE):
            return words
        facts = self._sums[place]
        return outside_words(words, ((facts.below or 0) + (facts.above or 0)) / max(self._seen[place], 1))

    def _add_shares(self, shares: ColumnShares, rows: int) -> None:
        before = self._sums.get(shares.name)
        sums = {} if before is None else _numbers(before)
        for key, share in _numbers(shares).items():
            sums[key] = sums.get(key, 0.0) + share * rows
        self._sums[shares.name] = ColumnShares(shares.name, shares.type, **sums)
        self._seen[shares.name] = self._seen.get(shares.name, 0) + rows

    def _add_faults(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            words = next((side for side in (BELOW, ABOVE) if fault.words.startswith(side)), fault.words)
            places = self._places.setdefault((fault.place, words, fault.is_refused), Places())
            rows = fault.rows if fault.rows is not None else np.zeros(0, dtype=np.int64)
            places.add(rows[: places.most] + self.rows, fault.count or 0)


def _typed(checked: dict[str, CheckedColumn]) -> dict[str, Any]:
    return {name: column.array for name, column in checked.items() if column.array is not None}


def _texts(array: Any) -> Any:
    from dpsynth.columns.arrow import whole
    from dpsynth.columns.typed import text_of

    return whole(text_of(array))


def _scaled(shares: ColumnShares, factor: float) -> ColumnShares:
    numbers: dict[str, Any] = {key: value * factor for key, value in _numbers(shares).items()}
    return replace(shares, **numbers)


def _numbers(shares: ColumnShares) -> dict[str, float]:
    return {key: value for key, value in vars(shares).items() if isinstance(value, float)}
