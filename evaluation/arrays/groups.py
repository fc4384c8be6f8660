"""Subgroups of patients: the categories of a column, the cells of a number, and predeclared intersections."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.bins import JudgingBins, public_edges
from dpsynth.evaluation.arrays.table import Floats, Ints, Table, Variable

__all__ = ["Grouping", "grouping"]

#: Cells of a number that has no declared cut points, and most groups of one grouping.
CELLS = 4
MOST = 200


@dataclass(frozen=True)
class Grouping:
    """A division of patients into groups by public rules.

    Parameters
    ----------
    name : str
        The columns, such as ``sex`` or ``sex & race``.
    columns : tuple of str
    labels : tuple of str
        A name per group, such as ``sex=female & race=black``.
    edges : dict of str to ndarray
        Inner edges of the cells of numbers.
    """

    name: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    edges: dict[str, Floats]

    def codes(self, table: Table) -> Ints:
        """Return the group of each row, shape (rows,): a place in `labels`."""
        part = Table({name: table[name] for name in self.columns}, table.patients)
        cells = JudgingBins("public", self.edges, most=MOST).apply(part)
        code = np.zeros(len(table), dtype=np.int64)
        for name in self.columns:
            code = code * cells.sizes[name] + cells.codes[name]
        return code


def _edges(variable: Variable) -> Floats:
    """Return a number's declared cut points, or the edges of a few equal cells of its public range."""
    return np.array(variable.cuts) if variable.cuts else public_edges(variable, CELLS)


def _label(name: str, label: str, variable: Variable) -> str:
    """Return the name of a group: ``sex=female``, ``age 50 to 65``, ``age=missing``."""
    is_range = variable.numeric and label != "missing" and not label.startswith("= ")
    return f"{name} {label}" if is_range else f"{name}={label.removeprefix('= ')}"


def grouping(table: Table, columns: str | Sequence[str]) -> Grouping:
    """Return the groups that one column or several together make; a missing value is a group too.

    Raises
    ------
    InputError
        If a column is not a modelled one, or there would be more than 200 groups.
    """
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    for name in names:
        if name not in table.variables:
            raise InputError(f"subgroup {name!r}: is not a modelled column; the columns are {', '.join(table.names)}.")
    edges = {name: _edges(table[name]) for name in names if table[name].numeric}
    rule = JudgingBins("public", edges, most=MOST)
    parts = [[_label(name, label, table[name]) for label in rule.labels(table[name])] for name in names]
    labels = tuple(" & ".join(combination) for combination in product(*parts))
    if len(labels) > MOST:
        raise InputError(f"subgroups {' & '.join(names)}: make {len(labels)} groups; declare at most {MOST}.")
    return Grouping(" & ".join(names), names, labels, edges)
