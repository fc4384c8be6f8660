"""Sums and products of tables whose axes have names."""

from collections.abc import Sequence
from string import ascii_letters

import numpy as np

from dpsynth.models.tabular.graphical.junction_tree import Clique
from dpsynth.models.tabular.graphical.propagation import Array

Named = tuple[Array, Clique]
"""A table and the names of its axes."""


def take(table: Array, names: Clique, wanted: Clique) -> Array:
    """Sum a table over `names` down to `wanted`, in the order of `wanted`."""
    axes = tuple(i for i, c in enumerate(names) if c not in wanted)
    left = tuple(c for c in names if c in wanted)
    return np.asarray(np.transpose(table.sum(axis=axes), [left.index(c) for c in wanted]))


def sum_product(operands: Sequence[Named], wanted: Clique) -> Array:
    """Multiply tables and sum the product down to `wanted`, in the order of `wanted`."""
    letters: dict[str, str] = {}
    for _, names in operands:
        for c in names:
            letters.setdefault(c, ascii_letters[len(letters)])
    terms = ",".join("".join(letters[c] for c in names) for _, names in operands)
    formula = f"{terms}->{''.join(letters[c] for c in wanted)}"
    return np.asarray(np.einsum(formula, *(table for table, _ in operands), optimize=len(operands) > 2))
