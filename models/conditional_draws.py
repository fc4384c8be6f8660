"""Which rows are drawn under which conditions: whole draws, and parts of one in wished proportions.

Everything here works on what any model gives, codes that keep a mask; it is post-processing and costs no budget.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.errors import InputError

__all__ = ["DrawPart", "Proportions", "Support", "kept", "parts_of"]

Codes = dict[str, NDArray[Any]]
Masks = dict[str, NDArray[np.bool_]]
Conditions = Mapping[str, Any]
Proportions = Mapping[Any, Mapping[Any, float]] | Sequence[tuple[Conditions, float]]
"""``{"race": {"black": 0.5}}``, ``{("sex", "race"): {("female", "black"): 0.5}}``, or conditions with their shares."""

WHOLE = 1e-9
"""By how much shares may miss 1."""
TRIES = 60
"""Batches that are drawn for rows that are kept by chance."""
LARGEST = 200_000
"""Rows of one such batch."""


@dataclass(frozen=True)
class Support:
    """What the training table holds of the rows that meet a condition, as far as the model can tell.

    Attributes
    ----------
    rows
        Training rows that meet it, by the model (never the exact number).
    noise
        Standard deviation of the noise on the count of such rows.
    """

    rows: float
    noise: float

    @property
    def scarce(self) -> bool:
        """Whether the rows drown in the noise: the model cannot tell them from none."""
        return self.rows < self.noise


@dataclass(frozen=True)
class DrawPart:
    """Rows of a draw that meet one condition.

    Attributes
    ----------
    where
        What each of its rows meets.
    rows
        How many they are.
    without
        Conditions none of which a row of the part meets.
    """

    where: Conditions
    rows: int
    without: tuple[Conditions, ...] = ()


def parts_of(codec: Codec, n: int, where: Conditions, proportions: Proportions | None) -> list[DrawPart]:
    """Divide `n` rows among the conditions of the proportions, as evenly as whole rows can.

    Conditions whose shares sum to less than 1 leave the rest to rows that meet none of them, in the proportions of the
    model; where they sum to 1 there are no such rows.

    Raises
    ------
    InputError
        If shares are no shares, conditions overlap, or a column stands in `where` and in the proportions.
    """
    if proportions is None:
        return [DrawPart(where, n)]
    cells = _cells(proportions)
    shares = _shares([share for _, share in cells])
    for cell, _ in cells:
        both = sorted(set(cell) & set(where))
        if both:
            raise InputError(f"proportions: column {both[0]!r} stands in where as well; name it in one of the two.")
    _check_disjoint(codec, [cell for cell, _ in cells])
    sizes = _whole(n * np.array([*shares, max(1 - sum(shares), 0.0)]), n)
    parts = [DrawPart({**where, **cell}, rows) for (cell, _), rows in zip(cells, sizes[:-1], strict=True)]
    rest = DrawPart(where, sizes[-1], tuple(cell for cell, _ in cells))
    return [part for part in [*parts, rest] if part.rows]


def _cells(proportions: Proportions) -> list[tuple[Conditions, float]]:
    if not isinstance(proportions, Mapping):
        return _listed(proportions)
    if len(proportions) != 1:
        raise InputError(
            f"proportions: found {len(proportions)} entries, expected one: a column, or several columns in a tuple "
            'with a tuple of values for each share, such as {("sex", "race"): {("female", "black"): 0.5}}.'
        )
    ((columns, shares),) = proportions.items()
    if not isinstance(shares, Mapping) or not shares:
        raise InputError('proportions: expected a share for each value, such as {"race": {"black": 0.5}}.')
    if isinstance(columns, str):
        return [({columns: value}, share) for value, share in shares.items()]
    names = tuple(columns)
    if any(not isinstance(values, tuple) or len(values) != len(names) for values in shares):
        raise InputError(f"proportions: expected a tuple of {len(names)} values ({', '.join(names)}) for each share.")
    return [(dict(zip(names, values, strict=True)), share) for values, share in shares.items()]


def _listed(pairs: Sequence[tuple[Conditions, float]]) -> list[tuple[Conditions, float]]:
    cells: list[tuple[Conditions, float]] = []
    with contextlib.suppress(TypeError, ValueError):
        cells = [(dict(cell), share) for cell, share in pairs]
    if not cells or not all(cell for cell, _ in cells):
        raise InputError("proportions: expected pairs of conditions and a share, at least one.")
    return cells


def _shares(shares: Sequence[Any]) -> list[float]:
    numbers = []
    for share in shares:
        if isinstance(share, bool) or not isinstance(share, int | float | np.number) or not 0 <= share <= 1 + WHOLE:
            raise InputError(f"proportions: found the share {share!r}, expected a number from 0 to 1.")
        numbers.append(float(share))
    if sum(numbers) > 1 + WHOLE:
        raise InputError(f"proportions: the shares sum to {sum(numbers):g}, expected 1, or less and a rest.")
    if sum(numbers) >= 1 - WHOLE:
        numbers = [share / sum(numbers) for share in numbers]
    return numbers


def _check_disjoint(codec: Codec, cells: Sequence[Conditions]) -> None:
    masks = [codec.where(cell, partly=True) for cell in cells]
    for first, second in combinations(masks, 2):
        if not any(not (first[name] & second[name]).any() for name in set(first) & set(second)):
            raise InputError(
                "proportions: two of the conditions can hold for one row, or cut one cell in two; make them exclude "
                "each other."
            )


def _whole(expected: NDArray[np.float64], n: int) -> list[int]:
    """Round to whole rows that sum to n, by the largest remainders."""
    sizes = np.floor(expected + WHOLE).astype(np.int64)
    order = np.argsort(-(expected - sizes), kind="stable")
    sizes[order[: n - int(sizes.sum())]] += 1
    return [int(size) for size in sizes]


def kept(codec: Codec, part: DrawPart, draw: Callable[[int], Codes], rng: np.random.Generator) -> Codes:
    """Draw the codes of a part: rows of cells that a condition cuts in two stay with the share that lies inside.

    Parameters
    ----------
    codec
        Columns as codes.
    part
        What is wanted.
    draw
        Returns as many rows as it is told, whose codes at least partly meet the conditions.
    rng
        Source of randomness.

    Raises
    ------
    InputError
        If hardly any row that is drawn can stay.
    """
    shares = codec.shares(part.where)
    cut = {name: share / share.max() for name, share in shares.items() if ((share > 0) & (share < share.max())).any()}
    outside = [codec.where(cell, partly=True) for cell in part.without]
    if not cut and not outside:
        return draw(part.rows)
    batches: list[Codes] = []
    have, drawn, size = 0, 0, part.rows
    for _ in range(TRIES):
        codes = draw(size)
        stay = np.flatnonzero(rng.random(size) < _chances(codes, cut, outside))
        batches.append({name: array[stay] for name, array in codes.items()})
        have, drawn = have + len(stay), drawn + size
        if have >= part.rows:
            return {name: np.concatenate([b[name] for b in batches])[: part.rows] for name in batches[0]}
        size = int(min(1.1 * (part.rows - have) * drawn / max(have, 1) + 64, LARGEST))
    raise InputError(
        f"proportions: of {drawn:,} rows of the model only {have:,} meet none of the named conditions, where "
        f"{part.rows:,} are wanted; let the shares sum to 1, or name fewer values."
        if outside
        else "where: a condition is too scarce to be drawn honestly; widen it or leave a column out."
    )


def _chances(codes: Codes, cut: Mapping[str, NDArray[np.float64]], outside: Sequence[Masks]) -> NDArray[np.float64]:
    """Return for each row the chance to stay."""
    chances = np.ones(len(next(iter(codes.values()))))
    for name, share in cut.items():
        chances *= share[codes[name]]
    for masks in outside:
        chances *= ~np.logical_and.reduce([mask[codes[name]] for name, mask in masks.items()])
    return chances
