"""Which codes a schema's constraints leave possible, and rows conditioned on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.coders import Coder, GridCoder
from dpsynth.conditions import Meaning, Pair, implication_rows, resolve
from dpsynth.constraints import Constraint, Forbid, Order, Require, describe
from dpsynth.contradictions import connected
from dpsynth.decoding import OrderedColumns
from dpsynth.errors import InputError

__all__ = ["Rules"]

Mask = npt.NDArray[np.bool_]
Codes = Mapping[str, npt.NDArray[Any]]
Limits = Mapping[str, Meaning]
_LARGEST_TABLE = 2**28
_TRIES = 200


@dataclass(frozen=True)
class _Implication:
    """A forbidden or required combination as masks over codes, one for each column of both sides."""

    constraint: Forbid | Require
    left: dict[str, Mask]
    right: dict[str, Mask]

    def table(self) -> tuple[tuple[str, ...], Mask]:
        """Return the columns and, over their codes, what is impossible."""
        names = self.constraint.columns
        sizes = [len({**self.left, **self.right}[name]) for name in names]
        if np.prod(sizes, dtype=float) > _LARGEST_TABLE:
            raise InputError(
                f"constraint {describe(self.constraint)!r}: has too many combinations; name fewer columns."
            )
        sides = [
            [mask.reshape([-1 if other == name else 1 for other in names]) for name, mask in side.items()]
            for side in (self.left, self.right)
        ]
        return names, np.array(np.broadcast_to(implication_rows(self.constraint, *sides), sizes))

    def broken(self, codes: Codes) -> Mask:
        """Return (rows,) where the combination is broken."""
        sides = [[mask[codes[name]] for name, mask in side.items()] for side in (self.left, self.right)]
        return implication_rows(self.constraint, *sides)


class Rules:
    """A schema's constraints over the codes of a codec.

    Parameters
    ----------
    constraints
        The schema's constraints; those that name a column without a coder are left out.
    coders
        The coder of each column.
    """

    def __init__(self, constraints: Sequence[Constraint], coders: Mapping[str, Coder]) -> None:
        self._coders = coders
        known = [constraint for constraint in constraints if set(constraint.columns) <= set(coders)]
        self._implications = [self._compiled(item) for item in known if not isinstance(item, Order)]
        grids = {name: coder for name, coder in coders.items() if isinstance(coder, GridCoder)}
        self._order_list = [item for item in known if isinstance(item, Order)]
        self.orders = OrderedColumns(grids, self._order_list)
        self._groups = connected([set(item.columns) for item in known])

    def _compiled(self, constraint: Forbid | Require) -> _Implication:
        left, right = (
            {name: self._mask(name, condition) for name, condition in side.items()} for side in constraint.parts()
        )
        return _Implication(constraint, left, right)

    def _mask(self, name: str, condition: Any) -> Mask:
        coder = self._coders[name]
        matcher = None if isinstance(coder, GridCoder) else coder.matcher
        return coder.mask(resolve(name, coder.column, condition, matcher=matcher))

    def tables(self) -> list[tuple[tuple[str, ...], Mask]]:
        """Return for each constraint its columns and a boolean array over their codes, True where impossible."""
        found = [implication.table() for implication in self._implications]
        pairs = [
            (first, second, order.strict)
            for order in self._order_list
            for first, second in combinations(order.order, 2)
        ]
        return found + [((first, second), self._unordered(first, second, strict)) for first, second, strict in pairs]

    def _unordered(self, first: str, second: str, strict: bool) -> Mask:
        """Return (size, size) where every value of the first code is above every value of the second."""
        coders = [self._coders[name] for name in (first, second)]
        impossible = np.zeros([coder.size for coder in coders], dtype=bool)
        before, after = coders
        assert isinstance(before, GridCoder)  # noqa: S101  (the schema allows orders of numbers and dates alone)
        assert isinstance(after, GridCoder)  # noqa: S101
        least = Pair(before.column, after.column, strict=strict).least_after(before.grid.lower)
        compared = before.grid.comparable[:, None] & after.grid.comparable[None, :]
        impossible[: before.states, : after.states] = compared & (least[:, None] > after.grid.upper[None, :])
        return impossible

    def keep(self, codes: Codes, rng: np.random.Generator, limits: Limits) -> dict[str, npt.NDArray[Any]]:
        """Return the codes with every broken row conditioned on the constraints.

        For each set of columns that constraints connect, a row that breaks one of them takes the codes of the whole
        set from a row, drawn at random, that keeps all of them: rejection sampling, without drawing again.

        Raises
        ------
        InputError
            If no row keeps the constraints and none is found by drawing codes at random.
        """
        kept = dict(codes)
        for group in self._groups:
            part = {name: kept[name] for name in kept if name in group}
            broken = self._broken(part, limits)
            if broken.any():
                kept.update(self._replaced(part, broken, rng, limits))
        return kept

    def _replaced(
        self, part: Codes, broken: Mask, rng: np.random.Generator, limits: Limits
    ) -> dict[str, npt.NDArray[Any]]:
        donors, pool = np.flatnonzero(~broken), part
        if not len(donors):
            pool, donors = self._searched(part, rng, limits)
        chosen = donors[rng.integers(len(donors), size=int(broken.sum()))]
        result = {name: array.copy() for name, array in part.items()}
        for name, array in result.items():
            array[broken] = pool[name][chosen]
        return result

    def _searched(self, part: Codes, rng: np.random.Generator, limits: Limits) -> tuple[Codes, npt.NDArray[np.intp]]:
        for _ in range(_TRIES):
            pool = {
                name: rng.integers(self._coders[name].size, size=1000).astype(array.dtype)
                for name, array in part.items()
            }
            found = np.flatnonzero(~self._broken(pool, limits))
            if len(found):
                return pool, found
        raise InputError(
            f"constraints: no row was found that keeps those on {', '.join(map(repr, part))}. "
            "Check that they do not contradict each other."
        )

    def _broken(self, part: Codes, limits: Limits) -> Mask:
        """Return (rows,) where a constraint on these columns is broken."""
        broken = [item.broken(part) for item in self._implications if set(item.constraint.columns) <= set(part)]
        ordered = [name for name in self.orders.names if name in part]
        if ordered:
            broken.append(~self.orders.feasible(part, limits))
        return reduce(np.logical_or, broken)
