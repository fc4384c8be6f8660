"""The different values of a column that is read in batches: all of them where they are few, else a fair sample.

Which values are in the sample hangs on a keyed hash of each value alone, so every batch counts the same ones and their
counts are exact, however many others there are. Internal: exact counts of private data.
"""

import secrets
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.cohort.row_keys import keyed

__all__ = ["MOST", "DistinctValues", "hashed"]

MOST = 50_000
"""Different values that are kept of a column at most."""
SPAN = 2**64
OFTEN = 50
"""A value that at least one in so many rows have is kept whatever its hash."""


class DistinctValues:
    """The different values of a column and how many rows have each.

    Parameters
    ----------
    most
        Values that are kept at most; beyond, those with the lowest hashes stay.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most, self._secret = most, secrets.token_bytes(32)
        self._counts: Counter[str] = Counter()
        self._hashes: dict[str, int] = {}
        self._below = SPAN
        self.rows = 0

    def add(self, texts: Any) -> None:
        """Count a column's texts; missing ones are left out.

        Parameters
        ----------
        texts
            A pyarrow array of text.
        """
        counted = texts.drop_null().value_counts()
        values, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
        self.rows += sum(counts)
        for value, count in zip(values, counts, strict=True):
            if value not in self._hashes:
                number = int(hashed([value], self._secret)[0])
                if number >= self._below:
                    continue
                self._hashes[value] = number
            self._counts[value] += count
        if len(self._hashes) > 2 * self._most:
            self._shrink()

    @property
    def is_complete(self) -> bool:
        """Whether all values are there."""
        return self._below == SPAN

    @property
    def share(self) -> float:
        """The share of the different values that are there, as far as it can be told; 1 where all are."""
        return self._below / SPAN

    @property
    def distinct(self) -> int:
        """How many different values there are: exact where all are kept, else within 2 % or so."""
        return round(sum(number < self._below for number in self._hashes.values()) / self.share)

    def often(self) -> set[str]:
        """Return the values that so many rows have that they are kept whatever their hash; none where all are kept."""
        return set() if self.is_complete else {value for value, n in self._counts.items() if n * OFTEN >= self.rows}

    def counts(self) -> dict[str, int]:
        """Return the values that are there, in the order of their first rows, and how many rows have each."""
        return dict(self._counts)

    def _shrink(self) -> None:
        self._below = sorted(self._hashes.values())[self._most]
        often = {value for value, count in self._counts.items() if count * OFTEN >= self.rows}
        self._hashes = {v: number for v, number in self._hashes.items() if number < self._below or v in often}
        self._counts = Counter({value: self._counts[value] for value in self._hashes})


def hashed(texts: Iterable[str], secret: bytes) -> NDArray[np.uint64]:
    """Return the keyed hash of each text, 64 bits."""
    short = b"".join(keyed(secret, b"value", text.encode())[:8] for text in texts)
    return np.frombuffer(short, dtype="<u8").astype(np.uint64)
