"""Patients on a Spark cluster in parts: the driver asks, the executors read, cap, code and add up.

Rows are read once, by ``mapInArrow``, and moved to the partition of their patient by a keyed hash of the patient as the
codec reads it. Coded parts stay on the disks of the executors. A question is a job over them: partial sums are added up
in chunks along a tree, and the driver gets one number for each cell.

Privacy contract: the secret goes to the executors by broadcast, so that no plan and no event log holds it. Nothing is
collected but sums over patients, the number and the keyed checksum of all rows, and faults without values. A machine
that is lost is replaced by Spark, which reads again; every job says which rows it was about, and another number or
checksum than the first job's ends the run.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, Protocol
from zlib import crc32

import numpy as np

from dpsynth.errors import DataError, InputError
from dpsynth.schema.flat import flattened
from dpsynth.sources.parts import Integers, Part
from dpsynth.sources.spark_session import asking
from dpsynth.sources.spark_work import (
    FACTS,
    FAULT,
    SHAPES,
    Fault,
    Work,
    added,
    coded_parts,
    facts,
    keyed_piece,
    part_of,
    pieces,
    sums,
    value_counts,
)

if TYPE_CHECKING:
    from dpsynth.coding.codec import Codec
    from dpsynth.schema.schema import Schema

__all__ = ["Opened", "SparkParts"]

PART_BYTES = 96 * 2**20
"""Bytes of the typed values of a part, about: an executor needs three or four times as much for each of its cores."""
FAN = 32
"""Partial sums that are added up to one in a step of the tree."""
PIECES = "part int, fault string, piece binary"


class Opened(Protocol):
    """A table on Spark, as its source knows it."""

    @property
    def session(self) -> Any:
        """The session of Spark."""
        ...

    @property
    def label(self) -> str:
        """What the table is called in messages."""
        ...

    @property
    def is_text(self) -> bool:
        """Whether it is read from CSV files."""
        ...

    @property
    def frame(self) -> Callable[[], Any]:
        """Returns the table as Spark has it now."""
        ...


class SparkParts:
    """The patients of a table on Spark; keeps the protocol `dpsynth.sources.Parts`, but gives no part away.

    Parameters
    ----------
    table
        The table.
    schema
        The declared schema.
    cap
        Rows of a patient that are kept at most.
    secret
        Chooses which, and the part of each patient.
    count
        How many parts; by default as many as it takes for an executor to hold one, at least one for each core.
    cells
        Cells of exact tables that the kernel may keep.

    Raises
    ------
    DataError, InputError
        If Spark cannot read the table; no message holds a value.
    """

    rereads = True

    def __init__(
        self, table: Opened, schema: "Schema", cap: int, secret: bytes, *, cells: int, count: int | None = None
    ) -> None:
        self.most_cells = cells
        self.schema = flattened(schema).without_counts()
        self._table, self._context = table, table.session.sparkContext
        self._facts: Integers | None = None
        self._counts: dict[str, dict[Any, int]] = {}
        self._pieces: Any = None
        self._coded: Any = None
        self._closed = False
        with self._asking():
            self._rows = int(table.frame().count())
            if not self._rows:
                raise DataError("the table has no rows; expected at least one.")
            columns = len(schema.columns)
            needed = max(-(-self._rows * columns * 8 // PART_BYTES), int(self._context.defaultParallelism))
            self._secret = self._context.broadcast(secret)
        self._work = Work(schema, cap, count or needed, self._secret, is_text=table.is_text)
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return "SparkParts(...)"

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    def _asking(self) -> Any:
        return asking(self._table.session, self._table.label)

    def _divided(self) -> Any:
        """Return the pieces of rows, each in the partition of its part; nothing is read yet."""
        from pyspark.sql.functions import col

        quoted = [f"`{name.replace('`', '``')}`" for name in self._work.schema.columns]
        # Spark reads a point in a name as that of a record; `pieces` gives columns their names back.
        frame = self._table.frame().select(*(col(name).alias(f"c{i}") for i, name in enumerate(quoted)))
        rows = frame.mapInArrow(partial(pieces, work=self._work), PIECES).rdd.map(keyed_piece)
        if self._work.schema.patient is None:
            return rows  # each row is a patient, wherever it is
        return rows.partitionBy(self._work.count, part_of)

    def _read(self) -> None:
        """Read all rows, so that a fault in them is met before anything is asked."""
        with self._asking():
            self._pieces = self._divided()
            read = self._pieces.mapPartitions(partial(facts, work=self._work))
            collected = self._collected([read.reduceByKey(added, 1, _spread)])
        self._agree(collected)

    def close(self) -> None:
        """Remove what lies on the executors; nothing can be asked any more."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception), self._asking():  # of a cluster that is gone nothing can be removed
            self._forget()
            self._remove(*([] if self._pieces is None else [self._pieces]))
            self._secret.destroy()
        self._pieces = None

    def _forget(self) -> None:
        if self._coded is not None:
            self._coded.unpersist(blocking=True)
            self._coded = None

    def _remove(self, *moved: Any) -> None:
        """Remove what executors wrote to move rows or sums between them."""
        cleaner = self._context._jsc.sc().cleaner()  # noqa: SLF001
        for shuffle in [shuffle for rdd in moved for shuffle in _shuffles(rdd)] if cleaner.isDefined() else []:
            cleaner.get().doCleanupShuffle(shuffle, True)

    def use(self, codec: "Codec") -> None:
        """Take a codec; rows are coded with it when they are next asked for."""
        from pyspark import StorageLevel

        with self._asking():
            self._forget()
            coded = self._pieces.mapPartitions(partial(coded_parts, work=self._work, codec=codec))
            self._coded = coded.persist(StorageLevel.DISK_ONLY)

    def __iter__(self) -> Iterator[Part]:
        raise InputError(
            "spark: patients of a table on Spark are not brought to this machine, so networks and teachers cannot "
            "learn from them; choose a model of counts, such as prism, or scan an extract in files."
        )

    def total(self, function: Callable[[Part], Sequence[Integers]]) -> list[Integers]:
        """Return the sums over the parts of what the function gives, added up on the executors."""
        self._check_open()
        with self._asking():
            partials = self._coded.mapPartitionsWithIndex(partial(sums, function=function))
            collected = self._summed(partials)
        shapes = collected.pop(SHAPES)
        flat = np.concatenate([collected[chunk].astype(np.int64) for chunk in sorted(collected)])
        ends = np.cumsum([prod(shape) for shape in shapes])[:-1]
        return [piece.reshape(shape) for piece, shape in zip(np.split(flat, ends), shapes, strict=True)]

    def values(self, column: str) -> Mapping[Any, int]:
        """Return how many kept rows have each value of a column; all such columns are counted in one pass."""
        self._check_open()
        if column not in self._counts:
            names = self.schema.to_discover
            with self._asking():
                counted = self._pieces.mapPartitions(partial(value_counts, work=self._work, columns=names))
                collected = self._collected([counted.reduceByKey(added, self._reducers, _spread)])
            self._agree(collected)
            self._counts = {name: {} for name in names}
            for (place, value), n in collected.items():
                self._counts[names[place]][value] = n
        return self._counts[column]

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("cohort: its rows on Spark were removed when the session closed; open another session.")

    @property
    def _reducers(self) -> int:
        return max(1, int(self._context.defaultParallelism))

    def _summed(self, partials: Any) -> dict[int, Any]:
        """Return the chunks of partial sums, added up along a tree whose last step gives one of each."""
        lanes, steps = partials.getNumPartitions(), [partials]
        while lanes > 1 or len(steps) == 1:
            lanes = -(-lanes // FAN)
            steps.append(steps[-1].map(_next_lane).reduceByKey(added, self._reducers, _lane))
        collected = {chunk: total for (_, chunk), total in self._collected(steps[1:]).items()}
        self._agree(collected)
        return collected

    def _collected(self, steps: Sequence[Any]) -> dict[Any, Any]:
        """Return the last of steps in which sums are added up; what they wrote is removed, whatever happens."""
        try:
            return dict(steps[-1].collect())
        finally:
            self._remove(*steps)

    def _agree(self, collected: dict[Any, Any]) -> None:
        """Take the facts out of what was collected, and refuse a fault, or other rows than at first."""
        if FAULT in collected:
            fault: Fault = collected[FAULT]
            raise fault.raised()
        rows = np.asarray(collected.pop(FACTS), dtype=np.int64)
        if self._facts is None:
            with self._asking():
                is_same = self._rows == int(self._table.frame().count())
            # Rows of a CSV file without any value are counted by Spark, and are no patients.
            is_same = is_same and (self._rows == int(rows[0]) or self._table.is_text)
            self._facts = rows
        else:
            is_same = bool(np.array_equal(rows, self._facts))
        if not is_same:
            raise DataError(
                f"{self._table.label}: has other rows each time it is read. A view that draws at random, or a table "
                "that is being written, cannot be read: make a table of it that stays."
            )


def _next_lane(item: tuple[tuple[int, int], Any]) -> tuple[tuple[int, int], Any]:
    (lane, chunk), total = item
    return (lane // FAN, chunk), total


def _lane(key: tuple[int, int]) -> int:
    return key[0] * 7919 + key[1]  # chunks of a lane, and lanes of a chunk, go to different reducers


def _spread(key: Any) -> int:
    """Return a number of a column's value, the same on every machine."""
    return key if isinstance(key, int) else crc32(repr(key).encode())


def _shuffles(rdd: Any) -> list[int]:
    """Return the numbers of the shuffles that a dataset needs and that are its own: those of its last step."""
    dependencies, waiting = [], [rdd._jrdd.rdd()]  # noqa: SLF001
    while waiting:
        steps = waiting.pop().dependencies()
        for place in range(steps.size()):
            step = steps.apply(place)
            if step.getClass().getSimpleName() == "ShuffleDependency":
                dependencies.append(int(step.shuffleId()))
            else:
                waiting.append(step.rdd())
    return dependencies
