"""Which codes a schema's constraints leave possible, and rows conditioned on them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.coding.cells import OrderedColumns
from dpsynth.coding.implications import Clause, Exchange
from dpsynth.columns.coders import Coder, GridCoder
from dpsynth.columns.conditions import Meaning, Pair, resolve
from dpsynth.columns.grid import Lattice
from dpsynth.columns.kinds import Column, Datetime, Numeric
from dpsynth.errors import InputError
from dpsynth.schema.consistency import connected
from dpsynth.schema.constraints import Constraint, Forbid, Order, Require, describe, implication_rows, implications

__all__ = ["Rules", "Wish"]

Mask = npt.NDArray[np.bool_]
Codes = Mapping[str, npt.NDArray[Any]]
Limits = Mapping[str, Meaning]
Table = tuple[tuple[str, ...], Mask]
_LARGEST_TABLE = 2**28
_TRIES = 200
_DONORS = 8


@dataclass(frozen=True)
class _CodedImplication:
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

    def clauses(self) -> list[Clause]:
        """Return what never holds: `when` with all that is forbidden, or with the opposite of each requirement."""
        if isinstance(self.constraint, Forbid):
            return [Clause({**self.left, **self.right}, tuple(self.right))]
        return [Clause({**self.left, name: ~mask}, (name,)) for name, mask in self.right.items()]


@dataclass(frozen=True)
class Wish:
    """Under which conditions rows were drawn, so that they are met after trades too.

    Attributes
    ----------
    limits
        Conditions that cut cells.
    permitted
        The codes that the columns of the conditions may have.
    without
        Codes of columns that no row has all of.
    """

    limits: Limits = field(default_factory=dict)
    permitted: Mapping[str, Mask] = field(default_factory=dict)
    without: Sequence[Mapping[str, Mask]] = ()


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
        within = [constraint for constraint in constraints if set(constraint.columns) <= set(coders)]
        self._implications = [self._compiled(item) for item in implications(within)]
        self._clauses = [clause for item in self._implications for clause in item.clauses()]
        grids = {name: coder for name, coder in coders.items() if isinstance(coder, GridCoder)}
        self._order_list = [item for item in within if isinstance(item, Order)]
        self.orders = OrderedColumns(grids, self._order_list)
        self._groups = connected([set(item.columns) for item in within])

    def _compiled(self, constraint: Forbid | Require) -> _CodedImplication:
        left, right = (
            {name: self._mask(name, condition) for name, condition in side.items()} for side in constraint.parts()
        )
        return _CodedImplication(constraint, left, right)

    def _mask(self, name: str, condition: Any) -> Mask:
        coder = self._coders[name]
        matcher = None if isinstance(coder, GridCoder) else coder.matcher
        return coder.mask(resolve(name, coder.column, condition, matcher=matcher))

    def tables(self) -> list[Table]:
        """Return for each constraint its columns and a boolean array over their codes, True where impossible."""
        return [implication.table() for implication in self._implications] + self._order_tables()

    def zeros(self) -> list[Table]:
        """Return the tables of `tables` that a fit may take up without a change of which values are missing.

        Were the impossible values of two columns taken out of a joint distribution in which they may be missing, too,
        the rest would have to make up for them: both would be there more or less often than in the training rows.
        """
        orders = [table for table in self._order_tables() if all(self._coders[c].missing is None for c in table[0])]
        return [implication.table() for implication in self._implications] + orders

    def _order_tables(self) -> list[Table]:
        pairs = [
            (first, second, order.strict)
            for order in self._order_list
            for first, second in combinations(order.order, 2)
        ]
        return [((first, second), self._unordered(first, second, strict)) for first, second, strict in pairs]

    def narrowed(self, masks: Mapping[str, Mask]) -> dict[str, Mask]:
        """Return masks of codes with what the orders leave of the other columns' codes beside them."""
        narrowed = dict(masks)
        tables = self._order_tables() if set(masks) & set(self.orders.names) else []
        for _ in tables:
            before = {name: mask.sum() for name, mask in narrowed.items()}
            for (first, second), table in tables:
                for name, other, impossible in ((first, second, table), (second, first, table.T)):
                    if other in narrowed:
                        beside: Mask = np.logical_not(impossible[:, narrowed[other]].all(axis=1))
                        narrowed[name] = narrowed.get(name, np.ones(len(beside), dtype=bool)) & beside
            if before == {name: mask.sum() for name, mask in narrowed.items()}:
                break
        return {name: mask for name, mask in narrowed.items() if name in masks or not mask.all()}

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

    def keep(
        self, codes: Codes, rng: np.random.Generator, wish: Wish
    ) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Lattice]]:
        """Return codes that keep the constraints, with as little bent as can be, and steps of the ordered columns.

        Where all rows keep them nothing changes. Else rows trade codes: first of the columns that a constraint forbids
        or requires something of (`when` stays), then of the ordered columns among their ordinary values. So a row keeps
        what is missing and every column that it does not trade, and a column keeps as many rows of each code as the
        model drew. Rows that no trade mends draw, or copy, the code of such a column; what is left then (a special
        value against an order, say) takes the codes of all connected columns from a row that keeps the constraints.

        Parameters
        ----------
        codes
            For each column (rows,) codes.
        rng
            Where the randomness comes from.
        wish
            Under which conditions the rows were drawn.

        Raises
        ------
        InputError
            If no row keeps the constraints and none is found by drawing codes at random.
        """
        kept = dict(codes)
        clauses = [*self._clauses, *(Clause(masks, tuple(masks)) for masks in wish.without)]
        kinds: Mapping[str, npt.NDArray[np.int64]] = {}
        if clauses:
            exchange = Exchange(clauses, wish.permitted, rng)
            kinds = exchange.kinds
            if exchange.broken(kept).any():
                kept = exchange.settle(kept)
        arranged, steps, left = self.orders.arranged(kept, kinds, rng, wish.limits)
        kept.update(arranged)
        anew = [left]
        for group in connected([*self._groups, *(set(masks) for masks in wish.without)]):
            part = {name: kept[name] for name in kept if name in group}
            broken = self._broken(part, clauses, wish)
            if broken.any():
                kept.update(self._replaced(part, broken, clauses, rng=rng, wish=wish))
                anew.append(np.flatnonzero(broken))
        self.orders.renew(kept, np.unique(np.concatenate(anew)), steps, rng=rng, limits=wish.limits)
        return kept, steps

    def _replaced(
        self, part: Codes, broken: Mask, clauses: Sequence[Clause], *, rng: np.random.Generator, wish: Wish
    ) -> dict[str, npt.NDArray[Any]]:
        """Return the codes with broken rows taken from others: the ordered columns alone where that is enough."""
        result = {name: array.copy() for name, array in part.items()}
        ordered = [name for name in self.orders.names if name in part]
        good, left = np.flatnonzero(~broken), np.flatnonzero(broken)
        for _ in range(_DONORS if len(good) and ordered else 0):
            donors = good[rng.integers(len(good), size=len(left))]
            trial = {name: (array[donors] if name in ordered else array[left]) for name, array in part.items()}
            kept = ~self._broken(trial, clauses, wish)
            for name in ordered:
                result[name][left[kept]] = trial[name][kept]
            left = left[~kept]
        states = self._states(part)
        for state in np.unique(states[left]):
            rows = left[states[left] == state]
            pool, donors = part, good[states[good] == state]
            if not len(donors):
                donors = good
            if not len(donors):
                pool, donors = self._searched(part, clauses, rng, wish)
            chosen = donors[rng.integers(len(donors), size=len(rows))]
            for name, array in result.items():
                array[rows] = pool[name][chosen]
        return result

    def _states(self, part: Codes) -> npt.NDArray[np.int64]:
        """Return (rows,) numbers of what is missing or special in a row."""
        grids = [(part[name], coder) for name, coder in self._coders.items() if name in part]
        states = [np.where(codes < coder.ordered, -1, codes) for codes, coder in grids if isinstance(coder, GridCoder)]
        if not states:
            return np.zeros(len(next(iter(part.values()))), dtype=np.int64)
        return np.asarray(np.unique(np.stack(states, axis=1), axis=0, return_inverse=True)[1], dtype=np.int64).ravel()

    def _searched(
        self, part: Codes, clauses: Sequence[Clause], rng: np.random.Generator, wish: Wish
    ) -> tuple[Codes, npt.NDArray[np.intp]]:
        for _ in range(_TRIES):
            pool = {name: self._any_codes(name, array, rng, wish) for name, array in part.items()}
            donors = np.flatnonzero(~self._broken(pool, clauses, wish))
            if len(donors):
                return pool, donors
        raise InputError(
            f"constraints: no row was found that keeps those on {', '.join(map(repr, part))}. "
            "Check that they do not contradict each other."
        )

    def _any_codes(self, name: str, array: npt.NDArray[Any], rng: np.random.Generator, wish: Wish) -> npt.NDArray[Any]:
        permitted = wish.permitted.get(name, np.ones(self._coders[name].size, dtype=bool))
        return rng.choice(np.flatnonzero(permitted), size=1000).astype(array.dtype)

    def _broken(self, part: Codes, clauses: Sequence[Clause], wish: Wish) -> Mask:
        """Return (rows,) where a constraint on these columns is broken."""
        broken = [clause.holds(part) for clause in clauses if set(clause.masks) <= set(part)]
        ordered = [name for name in self.orders.names if name in part]
        if ordered:
            broken.append(~self.orders.feasible(part, wish.limits))
        return reduce(np.logical_or, broken)


def constraint_edges(columns: Mapping[str, Column], constraints: Iterable[Constraint]) -> dict[str, set[int]]:
    """Return for each column the steps where a condition of a constraint begins or has just ended."""
    edges: dict[str, set[int]] = {}
    conditions = [
        (name, condition)
        for constraint in implications(constraints)
        for side in constraint.parts()
        for name, condition in side.items()
    ]
    for name, condition in conditions:
        column = columns[name]
        if isinstance(column, Numeric | Datetime):
            meaning = resolve(name, column, condition)
            ends = [*meaning.ranges, *((point, point) for point in meaning.points)]
            edges.setdefault(name, set()).update(edge for low, high in ends for edge in (low, high + 1))
    return edges
