"""Samples of a source that fit into memory, for what is judged without noise: internal, and no part of the kernel."""

import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.cohort.cohort import Cohort
from dpsynth.cohort.row_keys import keyed
from dpsynth.errors import InputError
from dpsynth.schema.schema import Schema
from dpsynth.sources.scanned import ScannedCohort
from dpsynth.sources.sides import Side
from dpsynth.sources.storing import restored, stored

__all__ = ["MOST", "sampled"]

MOST = 200_000
"""Rows of a sample at most: an evaluation counts no more of a cohort, and trains on fewer."""


def sampled(cohort: ScannedCohort, sides: Sequence[Side | None] = (None,), most: int = MOST) -> list[Cohort]:
    """Return patients of a source with all of their rows, as many as fit into memory; all where they do.

    Parameters
    ----------
    cohort
        The source; it is read once.
    sides
        Sides of a split, of each of which a sample is drawn; None: of all patients.
    most
        Rows of a sample at most.

    Returns
    -------
    list of Cohort
        One for each side.

    Raises
    ------
    FileError, DataError
        As when the source is read.
    InputError
        If a side has no patient.

    Notes
    -----
    Privacy contract: none; real rows without noise, as private as the source. Which patients are in the sample is
    drawn by a secret that is not kept, patient by patient.
    """
    schema = cohort.schema.without_counts()
    room = cohort.memory.sampled_rows(len(schema.columns), most)
    secret = secrets.token_bytes(32)
    drawn = [_Reservoir(schema, room) for _ in sides]
    start = 0
    for piece in cohort.pieces(by_row=any(side is not None for side in sides)):
        numbers = _numbers(piece, secret, start)
        start += len(piece)
        for side, reservoir in zip(sides, drawn, strict=True):
            chosen = np.ones(len(piece), dtype=bool) if side is None else side.chosen(piece)
            reservoir.add(piece, numbers, chosen)
    return [reservoir.cohort(cohort) for reservoir in drawn]


def _numbers(piece: Cohort, secret: bytes, start: int) -> NDArray[np.uint64]:
    """Return (rows,) a random number of each row's patient, or of each row where nobody is named."""
    if piece.schema.patient is None:
        return np.random.default_rng([start, *secret]).integers(0, 2**63, len(piece), dtype=np.uint64)
    names = piece.table[piece.schema.patient].combine_chunks().dictionary_encode()
    hashes = [
        int.from_bytes(keyed(secret, b"sample", name.encode())[:8], "little") for name in names.dictionary.to_pylist()
    ]
    return np.asarray(np.array(hashes, dtype=np.uint64)[names.indices.to_numpy(zero_copy_only=False)])


class _Reservoir:
    """Rows of the patients with the lowest numbers, as many as there is room for."""

    def __init__(self, schema: Schema, room: int) -> None:
        self._schema, self._room = schema, room
        self._tables: list[Any] = []
        self._numbers: list[NDArray[np.uint64]] = []
        self._rows = 0
        self._below = 2**64 - 1

    def add(self, piece: Cohort, numbers: NDArray[np.uint64], chosen: NDArray[np.bool_]) -> None:
        """Take the chosen rows in."""
        places = np.flatnonzero(chosen & (numbers <= self._below))
        if not len(places):
            return
        self._tables.append(stored(piece.table.take(places), self._schema))
        self._numbers.append(numbers[places])
        self._rows += len(places)
        if self._rows > 2 * self._room:
            self._shrink()

    def cohort(self, source: ScannedCohort) -> Cohort:
        """Return what was drawn."""
        if self._rows > self._room:
            self._shrink()
        if not self._rows:
            raise InputError("the cohort has too few patients to be divided; give separate files instead.")
        table = restored(self._whole(), self._schema)
        return Cohort(self._schema, table, source=source.source, public=source.public)

    def _whole(self) -> Any:
        import pyarrow as pa

        return pa.concat_tables(self._tables).combine_chunks()

    def _shrink(self) -> None:
        """Leave out the patients with the highest numbers; the one with the lowest stays, whatever they have."""
        numbers = np.concatenate(self._numbers)
        ordered = np.sort(numbers)
        below = int(ordered[self._room])  # of this patient not all rows may fit
        keep = numbers < below if ordered[0] < below else numbers <= below
        self._below = int(numbers[keep].max())
        self._tables = [self._whole().take(np.flatnonzero(keep))]
        self._numbers = [numbers[keep]]
        self._rows = int(keep.sum())
