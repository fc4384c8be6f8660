"""What images are conditioned on: a few columns of the table with few codes each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.errors import InputError

MAX_CODES = 64
MAX_CELLS = 4096


@dataclass(frozen=True, eq=False)
class Conditions:
    """Columns that images are conditioned on.

    Parameters
    ----------
    columns
        Their names; the first is the one whose classes are told apart best.
    sizes
        The number of codes of each.
    """

    columns: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, codec: Codec, columns: Sequence[str]) -> "Conditions":
        """Check columns against a codec.

        Raises
        ------
        InputError
            When a column is not modelled, or there are too many codes or cells.
        """
        for name in columns:
            if name not in codec.columns:
                raise InputError(f"conditions: {name!r} is not a modelled column.")
            if codec.columns[name].size > MAX_CODES:
                raise InputError(
                    f"conditions: {name!r} has {codec.columns[name].size} codes, expected at most {MAX_CODES}; use "
                    "columns with few categories."
                )
        conditions = cls(tuple(columns), tuple(codec.columns[name].size for name in columns))
        if conditions.cells > MAX_CELLS:
            raise InputError(
                f"conditions: {conditions.cells} combinations, expected up to {MAX_CELLS}; name fewer columns."
            )
        return conditions

    @property
    def cells(self) -> int:
        """Number of combinations."""
        return prod(self.sizes)

    @cached_property
    def query(self) -> Query:
        """The marginal whose cells are the combinations."""
        return Query(self.columns, tuple(np.arange(size) for size in self.sizes))

    def codes(self, codes: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
        """Return (rows, columns) codes of the conditions."""
        rows = len(next(iter(codes.values())))
        columns = [codes[name].astype(np.int64) for name in self.columns]
        return np.stack(columns, axis=1) if columns else np.zeros((rows, 0), np.int64)

    def cell(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (rows,) the number of the combination of each row of codes."""
        if not self.columns:
            return np.zeros(len(codes), np.int64)
        return np.asarray(np.ravel_multi_index(tuple(codes.T), self.sizes), dtype=np.int64)

    def every(self) -> NDArray[np.int64]:
        """Return (cells, columns) the codes of every combination, in the order of `cell`."""
        if not self.columns:
            return np.zeros((1, 0), np.int64)
        return np.stack(np.unravel_index(np.arange(self.cells), self.sizes), axis=1).astype(np.int64)


def default_columns(codec: Codec) -> tuple[str, ...]:
    """Return the target and the subgroups, else the first labels: columns of the schema with few codes."""
    schema = codec.schema
    wanted = [name for name in (schema.target, *schema.subgroups) if name is not None]
    labels = () if schema.images is None else schema.images.labels
    wanted = wanted or [name for name in (*labels, *codec.columns) if name in codec.columns][:1]
    columns: list[str] = []
    for name in dict.fromkeys(wanted):
        cells = prod(codec.columns[c].size for c in (*columns, name))
        if codec.columns[name].size <= MAX_CODES and cells <= MAX_CELLS:
            columns.append(name)
    return tuple(columns)
