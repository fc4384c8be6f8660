"""How values of identifiers repeat over all rows of a source, exactly and in bounded memory.

Each row's keyed hashes go to a file that the hash of its value chooses, so that all rows of a value are in one file,
and the files are counted one after another. Internal: exact counts of private data.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.sources.distinct import hashed
from dpsynth.sources.scratch import Scratch, writing

__all__ = ["Places", "Repeats"]

ROWS = 2**21
"""Rows of a file, about: 24 bytes each."""
MOST_FILES = 256
Hashes = NDArray[np.uint64]


@dataclass
class Places:
    """Rows that a fault is about: how many, and the first of them in their order."""

    most: int = 1000
    count: int = 0
    first: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def add(self, rows: NDArray[np.int64], count: int | None = None) -> None:
        """Add rows, which may be in any order; `count` of them, where only the first are given."""
        self.count += len(rows) if count is None else count
        self.first = np.sort(np.concatenate([self.first, rows]))[: self.most]


class Repeats:
    """Which rows have which value of a column, by keyed hashes on the disk.

    Parameters
    ----------
    scratch
        The folder.
    name
        Of the files in it.
    rows
        About how many rows there are.
    secret
        The key; equal for columns whose values are compared.
    """

    def __init__(self, scratch: Scratch, name: str, rows: int, secret: bytes) -> None:
        self._scratch, self._name, self._secret = scratch, name, secret
        self._files = min(max(-(-rows // ROWS), 1), MOST_FILES)
        self._loose = secrets.token_bytes(32)

    def add(self, values: Any, owners: Hashes, start: int) -> None:
        """Add the rows of a batch.

        Parameters
        ----------
        values
            A pyarrow array of text; each missing one is another value.
        owners
            (rows,) the hash of each row's patient.
        start
            Rows before these.
        """
        numbers = self.numbers(values, start)
        rows = np.arange(start, start + len(numbers), dtype=np.uint64)
        records = np.stack([numbers, owners, rows], axis=1)
        where = (numbers % np.uint64(self._files)).astype(np.int64)
        with writing():
            for place in np.unique(where).tolist():
                with self._file(place).open("ab") as file:
                    file.write(records[where == place].tobytes())

    def numbers(self, values: Any, start: int) -> Hashes:
        """Return (rows,) the hash of each row's value."""
        encoded = values.dictionary_encode()
        table = np.append(hashed(encoded.dictionary.to_pylist(), self._secret), np.uint64(0))
        missing = encoded.is_null().to_numpy(zero_copy_only=False)
        numbers: Hashes = table[encoded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)]
        places = np.flatnonzero(missing)
        numbers[places] = hashed([f"row {start + place}" for place in places.tolist()], self._loose)
        return numbers

    def files(self) -> Iterator[tuple[Hashes, Hashes, NDArray[np.int64]]]:
        """Yield values, owners and rows of one file after another; all rows of a value are in one."""
        for place in range(self._files):
            path = self._file(place)
            if path.exists():
                records = np.fromfile(path, dtype=np.uint64).reshape(-1, 3)
                yield records[:, 0], records[:, 1], records[:, 2].astype(np.int64)

    def _file(self, place: int) -> Path:
        return self._scratch.folder / f"{self._name}-{place}"
