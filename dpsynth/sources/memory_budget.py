"""How much memory a run may take, and what that leaves for batches, parts and tables of pairs.

Shares follow from the budget and from public facts (the number of columns), never from the data.
"""

import re
from dataclasses import dataclass

from dpsynth.errors import InputError

__all__ = ["LEAST", "MemoryBudget"]

GIB = 2**30
BASE = 450 * 2**20
"""Bytes of the process with its libraries, before a row is read: measured, and rounded up."""
LEAST = GIB
"""The smallest budget that a run of ordinary tables keeps."""
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"K": 2**10, "M": 2**20, "G": GIB, "T": 2**40, "KIB": 2**10, "MIB": 2**20, "GIB": GIB, "TIB": 2**40}
ROWS = 2**16
CELL = 64
"""Bytes that a cell of a batch takes at most while it is read, typed and divided: text, its copy, and codes."""
PART = 96 * 2**20
CELLS = 2**25


@dataclass(frozen=True)
class MemoryBudget:
    """Memory that a run may take.

    Parameters
    ----------
    total
        Bytes, all of the process.

    Examples
    --------
    >>> MemoryBudget.of("8GB").total, MemoryBudget.of("1.5GiB").total
    (8000000000, 1610612736)
    """

    total: int = 8 * GIB

    @classmethod
    def of(cls, words: "str | int | MemoryBudget | None") -> "MemoryBudget":
        """Return the budget that a person names; the standard one for None.

        Parameters
        ----------
        words
            A number with a unit, ``"8GB"`` or ``"1.5GiB"``, or bytes.

        Raises
        ------
        InputError
            If it cannot be read, or is too small to be kept.
        """
        if words is None:
            return cls()
        if isinstance(words, cls):
            return words
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(words))
        if match is None or match[2].upper() not in UNITS:
            raise InputError(f"memory: found {words!r}, expected a number with a unit, such as 8GB or 1.5GiB.")
        total = int(float(match[1]) * UNITS[match[2].upper()])
        if total < LEAST:
            raise InputError(
                f"memory: found {words!r}, which is too little: the libraries alone take {BASE / GIB:.2f} GiB, and a "
                f"run needs {LEAST / GIB:g} GiB or more. Give --memory {LEAST / GIB:g}GiB (memory=), or leave it out."
            )
        return cls(total)

    @property
    def free(self) -> int:
        """Bytes that are left beside the libraries."""
        return self.total - BASE

    def batch_rows(self, columns: int) -> int:
        """Return how many rows of so many columns are read at a time.

        Raises
        ------
        InputError
            If not even a few rows of so many columns fit.
        """
        rows = self.free // 8 // (CELL * max(columns, 1))
        if rows < 2**8:
            raise InputError(f"memory: too little for {columns} columns; give more, or drop columns in the schema.")
        return min(ROWS, rows)

    @property
    def part_bytes(self) -> int:
        """Bytes of the typed values of a part, of which about four times as much is needed while it is encoded."""
        return min(PART, self.free // 16)

    @property
    def cells(self) -> int:
        """Cells of exact tables that are kept; three times as much is needed while they are counted."""
        return min(CELLS, self.free // 4 // 24)

    def sampled_rows(self, columns: int, most: int) -> int:
        """Return how many rows of so many columns may be held at once beside the rest, at most `most`."""
        return min(most, max(1000, self.free // 4 // (CELL * max(columns, 1))))

    def holds(self, rows: int, columns: int) -> bool:
        """Return whether a table of about this size can be read and fitted in memory as a whole."""
        return rows * columns * CELL <= self.free
