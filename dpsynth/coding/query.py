"""A question about codes: which columns are counted, and how their codes are merged."""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError

Key = tuple[str, bytes]


MAX_CELLS = 2**26


@dataclass(frozen=True, eq=False)
class Query:
    """A marginal to be counted: columns and, for each, a public map from fine codes to coarse ones.

    Parameters
    ----------
    columns
        Names of modelled columns, each at most once; none of them asks for the number of rows.
    maps
        For each column an integer array: ``maps[i][fine code]`` is the coarse code, from 0.

    Raises
    ------
    InputError
        When columns and maps do not fit or the table would have more than 2^26 cells.

    Examples
    --------
    >>> decades = np.arange(100) // 10
    >>> by_age = Query(("age",), (decades,))
    >>> by_age.shape, by_age.size
    ((10,), 10)
    """

    columns: tuple[str, ...]
    maps: tuple[NDArray[np.int64], ...]

    def __post_init__(self) -> None:
        if len(self.columns) != len(self.maps) or len(set(self.columns)) != len(self.columns):
            raise InputError("query: expected one map for each column and each column once.")
        for name, mapping in zip(self.columns, self.maps, strict=True):
            if mapping.ndim != 1 or mapping.size == 0 or mapping.dtype.kind not in "iu" or mapping.min() < 0:
                raise InputError(f"query: the map of column {name!r} must be a 1-d array of integers from 0.")
        if prod(self.shape) > MAX_CELLS:
            raise InputError(f"query: a table of {self.columns} has more than {MAX_CELLS} cells; use coarser maps.")

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Cells along each column; ``()`` without columns."""
        return tuple(int(m.max()) + 1 for m in self.maps)

    @property
    def size(self) -> int:
        """Number of cells."""
        return prod(self.shape)

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """One hashable key for each column and its map."""
        return tuple((c, m.astype(np.int64).tobytes()) for c, m in zip(self.columns, self.maps, strict=True))
