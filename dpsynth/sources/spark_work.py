"""What the machines of a Spark cluster do with patients' rows; nothing here imports Spark.

Reading: batches are typed value by value and cut into pieces by a keyed hash of the patient. Coding: the pieces that
meet in a partition are one part, a cohort in memory with its cap and codes (`dpsynth.sources.memory`). Counting: the
kernel's own function of a part, whose whole numbers are added up on the cluster.

Privacy contract: what leaves a machine for the driver is a sum of whole numbers, or a fault. A fault is the text of one
of our own errors, which holds no value, or the kind of a foreign one: Spark would write its text to logs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth import __version__
from dpsynth import errors as ours
from dpsynth.cohort.cohort import Cohort
from dpsynth.cohort.row_keys import row_digests
from dpsynth.errors import DpsynthError, InputError
from dpsynth.sources.divided import part_numbers
from dpsynth.sources.memory import Memory
from dpsynth.sources.parts import Integers, Part
from dpsynth.sources.silence import quiet
from dpsynth.sources.storing import restored, stored, typed_batch

if TYPE_CHECKING:
    from dpsynth.coding.codec import Codec
    from dpsynth.schema.schema import Schema

__all__ = [
    "FACTS",
    "FAULT",
    "SHAPES",
    "Fault",
    "Work",
    "added",
    "coded_parts",
    "facts",
    "keyed_piece",
    "part_of",
    "pieces",
    "sums",
    "value_counts",
]

PIECE_ROWS = 2**17
"""Rows that are gathered before they are cut into pieces."""
CHUNK = 2**16
"""Numbers of a sum that are added up together."""
FAULT, SHAPES, FACTS = -1, -2, -3
"""Stand among the numbers of chunks for a fault, the shapes of the arrays, and what was read."""


@dataclass(frozen=True)
class Fault:
    """An error that crosses from a machine of the cluster: the name of its class among ours, and its text."""

    kind: str
    text: str

    @classmethod
    def of(cls, error: BaseException, doing: str) -> "Fault":
        """Return what may be told of an error: our own text, which holds no value, or the kind of a foreign one."""
        if isinstance(error, DpsynthError):
            return cls(type(error).__name__, str(error))
        return cls(
            "DpsynthError",
            f"spark: an executor failed while {doing} ({type(error).__name__}); details are withheld because they "
            "could hold a patient's values.",
        )

    def raised(self) -> DpsynthError:
        """Return the error again."""
        kind = getattr(ours, self.kind, DpsynthError)
        return kind(self.text) if issubclass(kind, DpsynthError) else DpsynthError(self.text)


@dataclass(frozen=True)
class Work:
    """What a machine must know to read and to code rows.

    Parameters
    ----------
    schema
        The declared schema.
    cap
        Rows of a patient that are kept at most.
    count
        How many parts.
    secret
        A broadcast of Spark, whose ``value`` is the run's secret: the plan of a job holds its number alone.
    is_text
        Whether rows come from CSV files, in which one without any value is no patient.
    version
        That of dpsynth where the run was begun: codes of another one may differ.
    """

    schema: "Schema"
    cap: int
    count: int
    secret: Any
    is_text: bool = False
    version: str = __version__

    def check(self) -> None:
        """Refuse to read with another version of dpsynth."""
        if self.version != __version__:
            raise InputError(
                f"spark: an executor has dpsynth {__version__}, and the run was begun by {self.version}; install the "
                "same version on all machines of the cluster."
            )


@dataclass(frozen=True, eq=False, repr=False)
class Coded:
    """A part as Spark keeps it, on the disks of the cluster alone."""

    codes: dict[str, NDArray[Any]]
    patients: Integers
    count: int
    facts: Integers

    def part(self) -> Part:
        """Return the part; it tells nobody who the patients are."""
        return Part(self.codes, self.patients, None, self.count, _no_identities)


def _no_identities() -> NDArray[np.uint64]:
    raise InputError("spark: teachers cannot be asked of a table on Spark; choose a model of counts, such as prism.")


def pieces(batches: Iterable[Any], work: Work) -> Iterator[Any]:
    """Yield the rows of a partition in pieces, each with the number of its part (for ``mapInArrow``).

    Parameters
    ----------
    batches
        Record batches of the declared columns, as Spark gives them.
    work
        What there is to know.

    Yields
    ------
    pyarrow.RecordBatch
        ``part``, and ``piece``, some rows as an Arrow stream; or ``fault``, its class and its text.
    """
    try:
        with quiet():
            work.check()
            gathered: list[Any] = []
            for batch in batches:
                table = typed_batch(_plain(batch, work), work.schema)
                gathered.append(stored(table, work.schema))
                if sum(map(len, gathered)) >= PIECE_ROWS:
                    yield _cut(gathered, work)
                    gathered = []
            if sum(map(len, gathered)):
                yield _cut(gathered, work)
    except Exception as error:  # Spark would log it, and its text may hold a value
        yield _piece_batch([0], [Fault.of(error, "reading the rows")], [None])


def _plain(batch: Any, work: Work) -> Any:
    """Return a batch as a table whose moments are those of UTC, whatever zone the session of Spark shows them in."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.Table.from_batches([batch]).rename_columns(list(work.schema.columns))
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            moments = table[place].cast(pa.timestamp(field.type.unit, "UTC"))  # the same count of microseconds
            table = table.set_column(place, field.name, moments)
    if work.is_text:
        empty = np.ones(len(table), dtype=bool)
        for column in table.columns:
            blank = pc.equal(pc.fill_null(pc.utf8_trim_whitespace(column), ""), "")
            empty &= blank.combine_chunks().to_numpy(zero_copy_only=False)
        table = table.filter(pa.array(~empty))
    return table


def _cut(tables: Sequence[Any], work: Work) -> Any:
    """Return rows as pieces: one for each part, or one of all where each row is a patient."""
    import pyarrow as pa

    table = pa.concat_tables(tables).combine_chunks()
    if work.schema.patient is None:
        return _piece_batch([0], [None], [_packed(table)])
    where = part_numbers(table, work.schema, work.secret.value, work.count, 0)
    table, (numbers, starts) = (
        table.take(np.argsort(where, kind="stable")),
        np.unique(np.sort(where), return_index=True),
    )
    ends = [*starts[1:].tolist(), len(table)]
    cut = [_packed(table.slice(a, b - a)) for a, b in zip(starts.tolist(), ends, strict=True)]
    return _piece_batch(numbers.tolist(), [None] * len(cut), cut)


def _piece_batch(numbers: list[int], faults: Sequence[Fault | None], cut: Sequence[bytes | None]) -> Any:
    import pyarrow as pa

    texts = [None if fault is None else f"{fault.kind}\n{fault.text}" for fault in faults]
    return pa.record_batch(
        {
            "part": pa.array(numbers, pa.int32()),
            "fault": pa.array(texts, pa.string()),
            "piece": pa.array(cut, pa.binary()),
        }
    )


def _packed(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def keyed_piece(row: Any) -> tuple[int, tuple[str | None, bytes | None]]:
    """Return a row of `pieces` as a key, the part, and a value."""
    return row[0], (row[1], row[2])


def part_of(key: int) -> int:
    """Return the partition of a part or a chunk: its number."""
    return key


def coded_parts(
    rows: Iterable[tuple[int, tuple[str | None, bytes | None]]], work: Work, codec: "Codec"
) -> Iterator[Coded | Fault]:
    """Yield the parts of a partition, capped and coded: one, or one for each piece where each row is a patient.

    Parameters
    ----------
    rows
        What `keyed_piece` gave.
    work, codec
        What there is to know.
    """
    try:
        with quiet():
            for memory, facts in _memories(rows, work):
                memory.use(codec)
                (part,) = memory
                yield Coded(part.codes, part.patients, part.count, facts)
    except Exception as error:
        yield Fault.of(error, "coding the rows")


def facts(rows: Iterable[tuple[int, tuple[str | None, bytes | None]]], work: Work) -> Iterator[tuple[int, Any]]:
    """Yield the number and the checksum of the rows of a partition, or the fault that was met in reading them."""
    total = np.zeros(2, dtype=np.int64)
    try:
        with quiet():
            for cohort in _cohorts(rows, work):
                total += _facts(cohort, work.secret.value)
    except Exception as error:
        yield FAULT, Fault.of(error, "reading the rows")
        return
    yield FACTS, total


def value_counts(
    rows: Iterable[tuple[int, tuple[str | None, bytes | None]]], work: Work, columns: Sequence[str]
) -> Iterator[tuple[Any, Any]]:
    """Yield how many kept rows of a partition have each value of columns whose values are to be discovered."""
    counts: Counter[tuple[int, Any]] = Counter()
    total = np.zeros(2, dtype=np.int64)
    try:
        with quiet():
            for memory, read in _memories(rows, work):
                total += read
                for place, name in enumerate(columns):
                    counts.update({(place, value): n for value, n in memory.values(name).items()})
    except Exception as error:
        yield FAULT, Fault.of(error, "finding values")
        return
    yield FACTS, total
    yield from counts.items()


def _memories(
    rows: Iterable[tuple[int, tuple[str | None, bytes | None]]], work: Work
) -> Iterator[tuple[Memory, Integers]]:
    """Yield each part of a partition as a cohort in memory, with the number and the checksum of its rows.

    The checksum is the sum of keyed digests of the rows: the same for the same rows in any order. Rows that are read
    again, because a machine was lost, and are no longer the same, are found by it.
    """
    for cohort in _cohorts(rows, work):
        yield Memory(cohort, work.cap, work.secret.value), _facts(cohort, work.secret.value)


def _cohorts(rows: Iterable[tuple[int, tuple[str | None, bytes | None]]], work: Work) -> Iterator[Cohort]:
    """Yield the pieces of a partition as one cohort, or one by one where each row is a patient."""
    import pyarrow as pa

    tables = []
    for _, (fault, piece) in rows:
        if piece is None:
            kind, _, text = (fault or "").partition("\n")
            raise Fault(kind, text).raised()
        tables.append(pa.ipc.open_stream(pa.py_buffer(piece)).read_all())
    together = [tables] if work.schema.patient is not None else [[table] for table in tables]
    for group in filter(None, together):
        yield Cohort(work.schema.without_counts(), restored(pa.concat_tables(group), work.schema))


def _facts(cohort: Cohort, secret: bytes) -> Integers:
    """Return (2,) the number of rows, and the sum of their keyed digests modulo 2^64."""
    digests = b"".join(digest[:8] for digest in row_digests(cohort, secret))
    return np.array([len(cohort), np.frombuffer(digests, dtype="<i8").sum(dtype=np.int64)], dtype=np.int64)


def sums(
    number: int, parts: Iterable[Coded | Fault], function: Callable[[Part], Sequence[Integers]]
) -> Iterator[tuple[tuple[int, int], Any]]:
    """Yield what a function gives of the parts of a partition, added up and in chunks, each with its partition.

    Parameters
    ----------
    number
        The number of the partition.
    parts
        What `coded_parts` gave.
    function
        The kernel's; returns arrays of whole numbers whose shapes depend on public facts alone.
    """
    try:
        with quiet():
            total = _total(parts, function)
    except Exception as error:
        yield (number, FAULT), Fault.of(error, "counting")
        return
    if not total:
        return
    yield (number, FACTS), total[0]
    yield (number, SHAPES), [array.shape for array in total[1:]]
    flat = np.concatenate([array.ravel() for array in total[1:]])
    for chunk, start in enumerate(range(0, len(flat), CHUNK)):
        yield (number, chunk), _small(flat[start : start + CHUNK])


def _total(parts: Iterable[Coded | Fault], function: Callable[[Part], Sequence[Integers]]) -> list[Integers]:
    """Return the facts and what a function gives, added up; nothing of a partition without parts."""
    total: list[Integers] = []
    for coded in parts:
        if isinstance(coded, Fault):
            raise coded.raised()
        arrays = [coded.facts, *(np.asarray(array, dtype=np.int64) for array in function(coded.part()))]
        total = [a + b for a, b in zip(total, arrays, strict=True)] if total else arrays
    return total


def added(one: Any, other: Any) -> Any:
    """Return the sum of two chunks; of two faults that with the lesser text, of two shapes the first.

    Examples
    --------
    >>> added(np.array([1, 200], dtype=np.uint8), np.array([0, 100], dtype=np.uint8)).tolist()
    [1, 300]
    """
    if isinstance(one, np.ndarray):
        return _small(one.astype(np.int64) + other)
    if isinstance(one, Fault):
        return min(one, other, key=lambda fault: (fault.kind, fault.text))
    return one + other if isinstance(one, int) else one


def _small(values: Integers) -> NDArray[Any]:
    """Return whole numbers in the smallest type that holds all of them."""
    least, most = int(values.min(initial=0)), int(values.max(initial=0))
    kinds = (np.uint8, np.uint16, np.uint32) if least >= 0 else ()
    return values.astype(next((kind for kind in kinds if most <= np.iinfo(kind).max), np.int64))
