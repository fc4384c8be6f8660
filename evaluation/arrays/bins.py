"""Coarse cells for tables of counts: by a public rule, or by quantiles of real patients.

Missing is a cell of its own, and so is each special value. Equal cells of a public range put a skewed laboratory value
into one cell and then every cohort looks alike; quantile cells see more but are cut from real patients, so what is
computed with them is internal unless the real data is public.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.table import Floats, Ints, Table, Variable

__all__ = ["BinKind", "Binned", "JudgingBins", "public_edges", "quantile_edges"]

BinKind = Literal["public", "quantile"]

#: Cells per number, and at most this many categories before neighbours (in the schema's order) are merged.
CELLS = 8
MOST = 64


def public_edges(variable: Variable, cells: int = CELLS) -> Floats:
    """Return the inner edges of at most ``max(cells, cuts + 1)`` cells of a number's public range.

    Equal widths (geometric on a log scale); clinical cut points are always edges and displace their nearest equal edge.
    Integers with few possible values get a cell per value.
    """
    low, high = variable.low, variable.high
    if variable.whole and high - low < cells:
        values: Floats = np.arange(np.ceil(low), high) + 0.5
        return values
    if variable.log and low > 0:
        edges = np.geomspace(low, high, cells + 1)[1:-1]
    else:
        edges = np.linspace(low, high, cells + 1)[1:-1]
    cuts = np.array([cut for cut in variable.cuts if low < cut < high])
    for cut in cuts[: len(edges)]:
        edges = np.delete(edges, np.argmin(np.abs(edges - cut)))
    return np.unique(np.concatenate([edges, cuts]))


def quantile_edges(variable: Variable, cells: int = CELLS) -> Floats:
    """Return the inner edges of at most `cells` cells that hold equal shares of the measured values of `variable`.

    Fewer cells where values are tied; a cell per value where there are at most `cells` different ones.
    """
    values = variable.values[variable.measured]
    if len(values) == 0:
        return np.array([])
    different = np.unique(values)
    if len(different) <= cells:
        between: Floats = (different[:-1] + different[1:]) / 2
        return between
    ends = np.unique(np.quantile(values, np.linspace(0, 1, cells + 1)[1:-1], method="inverted_cdf"))
    ends = ends[ends < different[-1]]
    edges: Floats = (ends + different[np.searchsorted(different, ends, side="right")]) / 2
    return edges


@dataclass(frozen=True)
class Binned:
    """A table whose values are replaced by the numbers of their cells.

    Parameters
    ----------
    codes : dict of str to ndarray of int32, shape (rows,)
        The cell of each row; the last cell of a column is missing.
    sizes : dict of str to int
        How many cells a column has, missing included.
    patients : ndarray of int, shape (rows,)
    """

    codes: dict[str, NDArray[np.int32]]
    sizes: dict[str, int]
    patients: Ints

    def __len__(self) -> int:
        return len(self.patients)

    def take(self, rows: NDArray[np.int64]) -> "Binned":
        """Return the rows at these indices (patients keep their numbers)."""
        return Binned({name: code[rows] for name, code in self.codes.items()}, self.sizes, self.patients[rows])


@dataclass(frozen=True)
class JudgingBins:
    """A rule from values to cells for every column.

    Parameters
    ----------
    kind : {"public", "quantile"}
        Where the edges come from.
    edges : dict of str to ndarray
        The inner edges of each number: cell k holds ``edges[k-1] <= x < edges[k]``.
    """

    kind: BinKind
    edges: Mapping[str, Floats]
    most: int = MOST

    @classmethod
    def of(cls, reference: Table, kind: BinKind, cells: int = CELLS) -> "JudgingBins":
        """Return the rule for the columns of `reference`; only ``quantile`` looks at its values."""
        cut = quantile_edges if kind == "quantile" else public_edges
        numbers = {name: variable for name, variable in reference.variables.items() if variable.numeric}
        return cls(kind, {name: cut(variable, cells) for name, variable in numbers.items()})

    @property
    def words(self) -> str:
        """How the bins were made, for a caption."""
        if self.kind == "quantile":
            return f"at most {CELLS} quantile cells of the real reference patients"
        return f"about {CELLS} cells of the schema's public ranges"

    def apply(self, table: Table) -> Binned:
        """Return `table` as cells."""
        codes, sizes = {}, {}
        for name, variable in table.variables.items():
            codes[name], sizes[name] = self._cells(variable)
        return Binned(codes, sizes, table.patients)

    def _cells(self, variable: Variable) -> tuple[NDArray[np.int32], int]:
        if variable.categories is not None:
            size = len(variable.categories)
            cells = variable.values if size <= self.most else variable.values * self.most // size
            size = min(size, self.most)
        else:
            edges = self.edges[variable.name]
            cells = np.searchsorted(edges, variable.values, side="right")
            size = len(edges) + 1
            for offset, atom in enumerate(variable.special):
                cells[variable.values == atom] = size + offset
            size += len(variable.special)
        return np.where(variable.missing, size, cells).astype(np.int32), size + 1

    def ordered(self, table: Table) -> dict[str, int]:
        """Return for each column whose cells are in order how many cells these are (special and missing left out)."""
        sizes = {name: len(edges) + 1 for name, edges in self.edges.items()}
        for name, variable in table.variables.items():
            if variable.categories is not None and (variable.ordered or len(variable.categories) == 2):
                sizes[name] = min(len(variable.categories), self.most)
        return sizes

    def labels(self, variable: Variable) -> list[str]:
        """Return a name for each cell of a column, missing last."""
        if variable.categories is not None:
            names = list(variable.categories)
            if len(names) > self.most:
                groups = np.arange(len(names)) * self.most // len(names)
                names = [f"{names[int(np.argmax(groups == k))]} …" for k in range(self.most)]
        else:
            ends = [f"{edge:.4g}" for edge in self.edges[variable.name]]
            inner = [f"{low} to {high}" for low, high in pairwise(ends)]
            names = [f"< {ends[0]}", *inner, f"≥ {ends[-1]}"] if ends else ["any"]
            names += [f"= {label}" for label in variable.labels_of_special]
        return [*names, "missing"]
