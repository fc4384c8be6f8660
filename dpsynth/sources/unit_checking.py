"""Whether the rows of a source are those of the patients that its schema names, counted on the disk.

It says what `dpsynth.checking.units` says of a table in memory: rows beyond the limit of a patient, identifiers that
put more rows together than the patient does, and visits that are left out or overruled.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.checking.faults import Fault
from dpsynth.checking.units import beyond_words, check_visit_rows, grouping_words, looks_measured, may_identify
from dpsynth.cohort.cohort import Cohort
from dpsynth.columns.arrow import whole
from dpsynth.columns.typed import text_of
from dpsynth.schema.schema import Schema
from dpsynth.sources.distinct import DistinctValues
from dpsynth.sources.repeats import ROWS, Hashes, Places, Repeats
from dpsynth.sources.scratch import Scratch, writing
from dpsynth.sources.storing import restored, stored

__all__ = ["UnitChecks"]

ROW = "\0row"
"""Stands for the number of a row among the names of columns."""
NO_PATIENT = "a row names no patient; expected one in every row"


class UnitChecks:
    """What is wrong with the column that tells patients apart, found in rows that come batch by batch.

    Parameters
    ----------
    schema
        The schema.
    most
        About how many rows there are.
    """

    def __init__(self, schema: Schema, most: int) -> None:
        self._schema, self._secret = schema, secrets.token_bytes(32)
        self._scratch = Scratch()
        self._missing = Places()
        self._rows = 0
        names = () if schema.open else (n for n in schema.columns if n != schema.patient and may_identify(schema, n))
        kept = [*names, *([schema.patient] if schema.patient is not None else [])]
        self._repeats = {
            name: Repeats(self._scratch, f"values-{place}", most, self._secret) for place, name in enumerate(kept)
        }
        self._values = {name: DistinctValues() for name in kept if name != schema.patient}
        self._visits = _Visits(schema, self._scratch, most, self._secret)

    def close(self) -> None:
        """Remove what was kept on the disk."""
        self._scratch.close()

    def add(self, arrays: Mapping[str, Any], start: int, rows: int) -> None:
        """Add the rows of a batch.

        Parameters
        ----------
        arrays
            Typed columns by name, as far as they can be read.
        start, rows
            Rows before these, and how many these are.
        """
        patient = self._schema.patient
        texts = {name: whole(text_of(arrays[name])) for name in self._repeats if name in arrays}
        if patient in texts:
            missing = np.flatnonzero(texts[patient].is_null().to_numpy(zero_copy_only=False))
            self._missing.add(missing[: self._missing.most] + start, len(missing))
            owners = self._repeats[patient].numbers(texts[patient], start)
        else:
            owners = np.arange(start, start + rows, dtype=np.uint64)
        for name, text in texts.items():
            self._repeats[name].add(text, owners, start)
            if name in self._values:
                self._values[name].add(text)
        self._visits.add(arrays, owners, start)
        self._rows += rows

    def faults(self) -> list[Fault]:
        """Return all that is wrong."""
        patient, faults = self._schema.patient, []
        if self._missing.count and patient is not None:
            faults.append(
                Fault(patient, NO_PATIENT, is_refused=True, rows=self._missing.first, count=self._missing.count)
            )
        units = self._rows
        if patient is not None and (repeats := self._repeats.get(patient)) is not None:
            units, beyond = self._of_patients(repeats)
            faults += beyond
        for name, values in self._values.items():
            sample = list(values.counts())
            if not looks_measured(sample, round(self._rows * values.share)):
                faults += self._grouping(name, units)
        return [*faults, *self._visits.faults()]

    def _of_patients(self, repeats: Repeats) -> tuple[int, list[Fault]]:
        """Return how many patients there are, and the rows of those that have more than the schema lets them have."""
        most, places = self._schema.max_rows_per_patient, Places()
        units = patients = highest = lost = 0
        for numbers, _, rows in repeats.files():
            _, index, counts = np.unique(numbers, return_inverse=True, return_counts=True)
            units += len(counts)
            patients += int(np.count_nonzero(counts > most))
            highest = max(highest, int(counts.max()))
            lost += int(np.maximum(counts - most, 0).sum())
            places.add(rows[counts[index] > most])
        if self._schema.visits is not None or not patients or self._schema.patient is None:
            return units, []
        words = beyond_words(patients, most, highest, lost)
        return units, [Fault(self._schema.patient, words, is_refused=False, rows=places.first, count=places.count)]

    def _grouping(self, name: str, units: int) -> list[Fault]:
        """Return whether another identifier puts more rows together than the patient does."""
        places, values, most = Places(), 0, 0
        for numbers, owners, rows in self._repeats[name].files():
            _, groups = np.unique(numbers, return_inverse=True)
            pairs = np.unique(np.stack([groups.astype(np.uint64), owners], axis=1), axis=0)
            several = np.bincount(pairs[:, 0].astype(np.int64))
            values, most = values + len(several), max(most, int(several.max()))
            places.add(rows[several[groups] > 1])
        if not values or values >= units:
            return []
        words = grouping_words(name, self._schema.patient, values, units, most)
        return [Fault(name, words, is_refused=False, rows=places.first, count=places.count)] if places.count else []


class _Visits:
    """The visits of each patient, kept together on the disk."""

    def __init__(self, schema: Schema, scratch: Scratch, most: int, secret: bytes) -> None:
        self._schema, self._scratch, self._secret = schema, scratch, secret
        self._count = min(max(-(-most // (ROWS // 4)), 1), 128)
        self._names: list[str] = []
        if schema.visits is not None and schema.patient is not None:
            self._names = [schema.patient, schema.visits.column, *schema.visits.static]
        self._writers: dict[int, Any] = {}
        self._is_left_out = not self._names

    def add(self, arrays: Mapping[str, Any], owners: Hashes, start: int) -> None:
        """Add the rows of a batch, where the columns that visits need can be read."""
        if self._is_left_out or any(name not in arrays for name in self._names):
            self._is_left_out = True
            return
        import pyarrow as pa

        table = stored(pa.table({name: arrays[name] for name in dict.fromkeys(self._names)}), self._schema)
        table = table.append_column(ROW, pa.array(np.arange(start, start + len(owners), dtype=np.int64)))
        where = (owners % np.uint64(self._count)).astype(np.int64)
        for place in np.unique(where).tolist():
            piece = table.take(np.flatnonzero(where == place))
            with writing():
                if place not in self._writers:
                    self._writers[place] = pa.ipc.new_stream(str(self._file(place)), piece.schema)
                self._writers[place].write_table(piece)

    def faults(self) -> list[Fault]:
        """Return the rows that the visits of a schema leave out or overrule."""
        import pyarrow as pa

        with writing():
            for writer in self._writers.values():
                writer.close()
        if self._is_left_out:
            return []
        found: dict[tuple[str, str], Places] = {}
        for place in sorted(self._writers):
            with pa.OSFile(str(self._file(place))) as file:
                table = pa.ipc.open_stream(file).read_all()
            rows = np.asarray(table[ROW].to_numpy())
            for fault in check_visit_rows(Cohort(self._schema, restored(table.drop_columns([ROW]), self._schema))):
                found.setdefault((fault.place, fault.words), Places()).add(rows[_places(fault)])
        return [
            Fault(place, words, is_refused=False, rows=places.first, count=places.count)
            for (place, words), places in found.items()
        ]

    def _file(self, place: int) -> Path:
        return self._scratch.folder / f"visits-{place}"


def _places(fault: Fault) -> NDArray[np.int64]:
    return fault.rows if fault.rows is not None else np.zeros(0, dtype=np.int64)
