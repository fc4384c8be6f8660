"""Patients in files that are larger than memory, divided into parts that fit into it.

One pass reads the rows in batches, types them value by value and writes each to the part of its patient, which a keyed
hash of the patient chooses; so all rows of a patient are in one part, wherever they stood. Each part is then what a
cohort in memory is (`dpsynth.sources.memory`): the same flat rows, the same cap by the same keyed numbers, the same
codes. Codes are kept on disk in the smallest type that holds them and mapped into memory part by part.

Privacy contract: where a row goes and whether it is kept depends on its patient and the run's secret only. Everything
that is written lies in a folder that only its owner can read and that is gone after the run (`Scratch`).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.cohort.cohort import Cohort
from dpsynth.cohort.row_keys import keyed, row_digests
from dpsynth.errors import DataError, InputError
from dpsynth.progress import Progress
from dpsynth.schema.flat import flattened
from dpsynth.sources.memory import Memory
from dpsynth.sources.memory_budget import MemoryBudget
from dpsynth.sources.parts import Integers, Part, summed
from dpsynth.sources.scratch import Scratch, writing
from dpsynth.sources.sides import Side
from dpsynth.sources.storing import restored, stored, typed_batch
from dpsynth.sources.watched import Watched

if TYPE_CHECKING:
    from dpsynth.coding.codec import Codec
    from dpsynth.schema.schema import Schema

__all__ = ["Divided", "part_numbers"]

MOST_PARTS = 512
"""Parts at most; each has an open file while rows are divided."""
ALIGNED = 8
PATIENTS = ""
"""Stands for the patient of each row among the names of columns, none of which is empty."""


@dataclass(frozen=True)
class _Coded:
    """How the codes of a part lie in its file: patients, rows, and the type and beginning of each array."""

    count: int
    rows: int
    places: dict[str, tuple[Any, int]]


class Divided:
    """The patients of a dataset in parts on disk; keeps the protocol `dpsynth.sources.Parts`.

    Parameters
    ----------
    rows
        Where rows are read from, once.
    schema
        The declared schema.
    cap
        Rows of a patient that are kept at most.
    secret
        Chooses which, and the part of each patient.
    count
        How many parts; by default as many as it takes for one to fit into memory.
    memory
        How much of it there is.
    side
        Takes the patients of one side of a split alone; all of them where left out.
    progress
        Is told how many of the rows were read.

    Raises
    ------
    FileError, DataError
        If rows cannot be read, are not what the schema says, or there is no room for them. Nothing is left on disk.
    """

    rereads = True

    def __init__(
        self,
        rows: Watched,
        schema: "Schema",
        cap: int,
        secret: bytes,
        *,
        count: int | None = None,
        memory: MemoryBudget | None = None,
        side: Side | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._long, self._cap, self._secret = schema, cap, secret
        self._memory_budget, self._side, self._progress = memory or MemoryBudget(), side, progress
        self.schema = flattened(schema).without_counts()
        self._codec: Codec | None = None
        self._coded: dict[int, _Coded] = {}
        self._counts: dict[str, Counter[Any]] = {}
        self._count = count or self._enough(rows)
        self._scratch = Scratch()
        try:
            self._rows = self._divide(rows)
        except BaseException:
            self._scratch.close()
            raise

    def _enough(self, rows: Watched) -> int:
        """Return how many parts it takes for each to fit into the memory."""
        columns = len(self._long.columns)
        count = -(-rows.most(columns) * columns * 8 // self._memory_budget.part_bytes)
        if count > MOST_PARTS:
            raise InputError(
                f"memory: too little for this table: its patients would be in more than {MOST_PARTS} parts. Give more "
                "(--memory, memory=), or drop columns in the schema."
            )
        return max(count, 1)

    @property
    def most_cells(self) -> int:
        """Cells of exact tables that the kernel may keep."""
        return self._memory_budget.cells

    def __repr__(self) -> str:
        return "Divided(...)"

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    def close(self) -> None:
        """Remove what was written; no part can be read any more."""
        self._scratch.close()

    def use(self, codec: "Codec") -> None:
        """Take a codec; rows are encoded when they are next asked for, each column as every codec before did."""
        self._codec = codec
        self._coded = {}

    def __iter__(self) -> Iterator[Part]:
        if self._scratch.is_closed:
            raise InputError("cohort: its temporary files were removed when the session closed; open another session.")
        for part in self._rows:
            if part not in self._coded:
                self._encode(part)
            yield self._part(part)

    def total(self, function: Callable[[Part], Sequence[Integers]]) -> list[Integers]:
        """Return the sums over the parts of what the function gives."""
        return summed(function(part) for part in self)

    def values(self, column: str) -> Mapping[Any, int]:
        """Return how many kept rows have each value of a column; all such columns are counted in one pass."""
        if column not in self._counts:
            columns = self.schema.to_discover
            self._counts = {name: Counter() for name in columns}
            for part in self._rows:
                memory = self._memory(part)
                for name in columns:
                    self._counts[name].update(memory.values(name))
        return self._counts[column]

    def _file(self, kind: str, part: int) -> Path:
        return self._scratch.folder / f"{kind}-{part}"

    def _divide(self, rows: Watched) -> dict[int, int]:
        """Write each row to the part of its patient; return how many rows each part has, empty ones left out."""
        import pyarrow as pa

        writers: dict[int, Any] = {}
        numbers, start = np.zeros(self._count, dtype=np.int64), 0
        try:
            size = self._memory_budget.batch_rows(len(self._long.columns))
            for batch in rows.batches(self._long, size, self._progress):
                table = self._on_side(typed_batch(batch, self._long))
                where = self._where(table, start)
                start += batch.num_rows
                order = np.argsort(where, kind="stable")
                ends = np.cumsum(np.bincount(where, minlength=self._count))
                ordered = stored(table, self._long).take(order)
                for part in np.unique(where).tolist():
                    first = int(ends[part - 1]) if part else 0
                    piece = ordered.slice(first, int(ends[part]) - first)
                    numbers[part] += piece.num_rows
                    with writing():
                        if part not in writers:
                            options = pa.ipc.IpcWriteOptions(compression="lz4")
                            writers[part] = pa.ipc.new_stream(
                                str(self._file("rows", part)), piece.schema, options=options
                            )
                        writers[part].write_table(piece)
        finally:
            with writing():
                for writer in writers.values():
                    writer.close()
        if not start:
            raise DataError("the table has no rows; expected at least one.")
        if not writers:
            raise InputError("the cohort has too few patients to be divided; give separate files instead.")
        return {part: int(numbers[part]) for part in sorted(writers)}

    def _on_side(self, table: Any) -> Any:
        """Return the rows of a batch whose patients are on the side that is read, where a patient is known by name."""
        if self._side is None or self._long.patient is None:
            return table
        chosen = self._side.chosen(Cohort(self._long.without_counts(), table))
        return table.take(np.flatnonzero(chosen))

    def _where(self, table: Any, start: int) -> NDArray[np.int64]:
        """Return the part of each row; equal rows without a name are in one part where their coins are tossed."""
        if self._side is None or self._long.patient is not None:
            return part_numbers(table, self._long, self._secret, self._count, start)
        digests = row_digests(Cohort(self._long.without_counts(), table), self._secret)
        return np.array([int.from_bytes(digest[:8], "little") % self._count for digest in digests], dtype=np.int64)

    def cohorts(self) -> Iterator[Cohort]:
        """Yield the patients of one part after another as they were read: all of their rows, uncapped."""
        for part in self._rows:
            yield self._cohort(part)

    def _memory(self, part: int) -> Memory:
        """Return a part as a cohort in memory, capped as it always is."""
        return Memory(self._cohort(part), self._cap, self._secret)

    def _cohort(self, part: int) -> Cohort:
        """Return the rows of a part that are on the side that is read."""
        import pyarrow as pa

        with pa.OSFile(str(self._file("rows", part))) as file:
            table = pa.ipc.open_stream(file).read_all()
        if table.num_rows != self._rows[part]:
            raise DataError("temporary folder: a part has another number of rows than were written; run it again.")
        cohort = Cohort(self._long.without_counts(), restored(table, self._long))
        if self._side is None or self._long.patient is not None:
            return cohort
        return cohort.take(self._side.chosen(cohort))

    def _encode(self, part: int) -> None:
        """Write the codes of a part, column after column, and the patient of each row."""
        memory = self._memory(part)
        if self._codec is not None:
            memory.use(self._codec)
        (rows,) = memory
        places: dict[str, tuple[Any, int]] = {}
        with writing(), self._file("codes", part).open("wb") as file:
            for name, array in {PATIENTS: rows.patients, **rows.codes}.items():
                places[name] = (array.dtype, file.tell())
                file.write(array.tobytes())
                file.write(bytes(-file.tell() % ALIGNED or ALIGNED))  # never an empty file, which cannot be mapped
        self._coded[part] = _Coded(rows.count, rows.rows, places)

    def _part(self, part: int) -> Part:
        """Return a part whose codes are mapped from the disk."""
        coded = self._coded[part]
        mapped = np.asarray(np.memmap(self._file("codes", part), dtype=np.uint8, mode="r"))
        arrays = {
            name: mapped[start : start + coded.rows * kind.itemsize].view(kind)
            for name, (kind, start) in coded.places.items()
        }
        return Part(arrays, arrays.pop(PATIENTS), None, coded.count, lambda: self._identities(part))

    def _identities(self, part: int) -> NDArray[np.uint64]:
        (rows,) = self._memory(part)
        return rows.identities()


def part_numbers(table: Any, schema: "Schema", secret: bytes, count: int, start: int) -> NDArray[np.int64]:
    """Return (rows,) the part of each row: a keyed hash of its patient, or of its place where each row is a patient.

    Parameters
    ----------
    table
        Typed rows.
    schema
        Names the patient column.
    secret
        The run's secret.
    count
        How many parts.
    start
        Rows before these.
    """
    if schema.patient is None:
        return np.arange(start, start + table.num_rows, dtype=np.int64) % count
    names = table[schema.patient].combine_chunks().dictionary_encode()
    hashes = [keyed(secret, b"part", name.encode()) for name in names.dictionary.to_pylist()]
    parts = np.array([int.from_bytes(hashed[:8], "little") % count for hashed in hashes], dtype=np.int64)
    return np.asarray(parts[names.indices.to_numpy(zero_copy_only=False)], dtype=np.int64)
