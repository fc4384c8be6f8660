"""Rows that may be read several times: each reading must find as many, in files that were not written meanwhile."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.errors import DataError, FileError
from dpsynth.progress import Progress
from dpsynth.sources.reading import ROWS, Rows
from dpsynth.sources.relations import Relations

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["PHASE", "Watched"]

PHASE = "reading rows"
SECONDS = 0.2
"""Progress is reported no oftener than this."""


class Watched:
    """Rows of a source that are counted at each reading, which says how it gets on.

    Parameters
    ----------
    rows
        Where rows are read from.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._first: tuple[Any, int] | None = None

    def __repr__(self) -> str:
        return f"Watched({self._rows!r})"

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    @property
    def root(self) -> Path | None:
        """That of the rows."""
        return self._rows.root

    @property
    def members(self) -> tuple[Path, ...]:
        """Those of the rows."""
        return self._rows.members

    @property
    def relations(self) -> Relations | None:
        """The tables of a database that hold the rows; None where they are in no database."""
        return getattr(self._rows, "relations", None)

    def check(self, schema: "Schema") -> None:
        """Refuse columns that are not the declared ones; reads no row."""
        self._rows.check(schema)

    def most(self, columns: int) -> int:
        """Return about how many rows there are at most; private."""
        return self._rows.most(columns) if self._first is None else self._first[1]

    def batches(self, schema: "Schema", rows: int = ROWS, progress: Progress | None = None) -> Iterator[Any]:
        """Yield the rows.

        Raises
        ------
        DataError
            If there are more or fewer than the first reading found, or files were written between two readings.
        """
        before, count = self._state(), 0
        pace = None if progress is None else _Pace(progress, self.most(len(schema.columns)))
        for batch in self._rows.batches(schema, rows):
            count += batch.num_rows
            if pace is not None:
                pace.at(count)
            yield batch
        if pace is not None:
            pace.ended()
        if self._first is not None and self._first != (before, count):
            raise DataError(
                f"{self._label}: is not what it was when it was read before in this run: rows came, went or were "
                "written. Run it again on data that are at rest, such as a copy or an extract."
            )
        self._first = (before, count)

    @property
    def _label(self) -> str:
        return "the data" if self.root is None else self.root.name

    def _state(self) -> tuple[tuple[int, int], ...]:
        try:
            facts = [file.stat() for file in self.members]
        except OSError:
            raise FileError(f"{self._label}: a file that was there is gone; run it again on data at rest.") from None
        return tuple((fact.st_size, fact.st_mtime_ns) for fact in facts)


class _Pace:
    """Tells a caller the share of rows that were read, and how many a second, to two digits."""

    def __init__(self, progress: Progress, most: int) -> None:
        self._progress, self._most = progress, max(most, 1)
        self._began = self._told = time.monotonic()
        progress(PHASE, 0.0)

    def at(self, count: int) -> None:
        now = time.monotonic()
        if now - self._told < SECONDS:
            return
        self._told = now
        self._progress(PHASE, min(count / self._most, 0.99))
        detail = getattr(self._progress, "detail", None)
        if detail is not None:
            detail(PHASE, f"{float(f'{count / (now - self._began):.2g}'):,.0f} rows/s")

    def ended(self) -> None:
        self._progress(PHASE, 1.0)
