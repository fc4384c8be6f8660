"""Rows that are drawn from a model piece by piece while they are written: a release may be larger than memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.cohort.cohort import Cohort
from dpsynth.files.write_tables import append_csv, csv_header

if TYPE_CHECKING:
    from dpsynth.models.base import Model
    from dpsynth.schema.schema import Schema

__all__ = ["AT_ONCE", "LongDraw", "first_of"]

AT_ONCE = 1_000_000
"""Rows that are drawn at once at most, where memory has no budget."""


class LongDraw:
    """Synthetic rows of which one piece is in memory at a time. Post-processing of the model: costs nothing.

    Parameters
    ----------
    model
        A fitted model of a table without visits.
    rows
        Rows, at least 1.
    at_once
        Rows of a piece.
    seed
        Makes the draw repeatable.
    """

    images = None

    def __init__(self, model: "Model", rows: int, at_once: int, *, seed: int | None = None) -> None:
        self._model, self._rows = model, rows
        sizes = [min(at_once, rows - start) for start in range(0, rows, at_once)]
        self._sizes = sizes
        self._seeds: list[int | None] = [None] * len(sizes)
        if seed is not None:
            self._seeds = [int(number) for number in np.random.SeedSequence(seed).generate_state(len(sizes), np.uint64)]
        self.first: Cohort = model.sample(sizes[0], seed=self._seeds[0])

    def __len__(self) -> int:
        return self._rows

    @property
    def schema(self) -> "Schema":
        """That of the model."""
        return self.first.schema

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self.first.columns

    def pieces(self) -> Iterator[Cohort]:
        """Yield the first piece, which is there, and draw the others."""
        yield self.first
        for size, seed in zip(self._sizes[1:], self._seeds[1:], strict=True):
            yield self._model.sample(size, seed=seed)

    def write(self, parquet: Path, csv_file: Path) -> None:
        """Draw all rows and write them as Parquet and as CSV, each piece once.

        Parameters
        ----------
        parquet, csv_file
            New files.
        """
        import pyarrow.parquet as pq

        writer: Any = None
        try:
            with csv_file.open("wb") as file:
                file.write(csv_header(self.first, guard_formulas=True))
                for piece in self.pieces():
                    table = piece.plain_table()
                    writer = writer or pq.ParquetWriter(parquet, table.schema)
                    writer.write_table(table.cast(writer.schema))
                    append_csv(piece, file, guard_formulas=True, quoted=True)
        finally:
            if writer is not None:
                writer.close()


def first_of(synthetic: "Cohort | LongDraw") -> Cohort:
    """Return rows that are in memory: all of a cohort, the first piece of a long draw."""
    return synthetic.first if isinstance(synthetic, LongDraw) else synthetic
