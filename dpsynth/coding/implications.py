"""Forbidden and required combinations over codes, and the trades of codes between rows that keep them.

Every implication is a set of clauses: conditions that never hold all at once. A row in which they do gives up what the
constraint *forbids* or *requires*; its `when` stays. It trades the code with a row that may have it and has one that
suits, so that no column bends. Only where there is no such row its code is drawn anew, from the column's other codes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Clause", "Exchange"]

Mask = npt.NDArray[np.bool_]
Codes = dict[str, npt.NDArray[Any]]
PASSES = 3
"""How often all columns are gone through: what one gives up may break what hangs on it."""


@dataclass(frozen=True, eq=False)
class Clause:
    """Conditions that never hold all at once.

    Attributes
    ----------
    masks
        For each column the codes for which its condition holds.
    giving
        The columns that give way.
    """

    masks: Mapping[str, Mask]
    giving: tuple[str, ...]

    def holds(self, codes: Mapping[str, npt.NDArray[Any]], but: str | None = None) -> Mask:
        """Return (rows,) where all conditions hold, or all but that on one column."""
        held = [mask[codes[name]] for name, mask in self.masks.items() if name != but]
        return reduce(np.logical_and, held) if held else np.ones(len(codes[next(iter(self.masks))]), dtype=bool)


class Exchange:
    """Trades of codes between rows, for clauses.

    Parameters
    ----------
    clauses
        What never holds.
    permitted
        For columns under a condition the codes that rows may have; others are free.
    rng
        Source of randomness.
    """

    def __init__(self, clauses: Sequence[Clause], permitted: Mapping[str, Mask], rng: np.random.Generator) -> None:
        self._clauses = clauses
        self._permitted = permitted
        self._rng = rng
        names = dict.fromkeys(name for clause in clauses for name in clause.masks)
        self.kinds = {name: _kinds([c.masks[name] for c in clauses if name in c.masks]) for name in names}

    def broken(self, codes: Mapping[str, npt.NDArray[Any]]) -> Mask:
        """Return (rows,) where a clause holds."""
        return reduce(np.logical_or, [clause.holds(codes) for clause in self._clauses])

    def settle(self, codes: Codes) -> Codes:
        """Return codes that keep the clauses, as far as single columns can give way."""
        codes = dict(codes)
        giving = [name for name in codes if any(name in clause.giving for clause in self._clauses)]
        for name in giving * PASSES:
            self._trade(name, codes)
        for name in giving * PASSES:
            self._redraw(name, codes, giving=True)
        if self.broken(codes).any():
            for name in [name for name in codes if name in self.kinds]:
                self._redraw(name, codes, giving=False)
        return codes

    def _broken(self, name: str, codes: Codes, *, giving: bool) -> Mask:
        """Return (rows,) where a clause holds in which the column gives way (or in which it stands at all)."""
        clauses = [c for c in self._clauses if name in (c.giving if giving else c.masks)]
        return reduce(np.logical_or, [clause.holds(codes) for clause in clauses])

    def _allowed(self, name: str, codes: Codes) -> Mask:
        """Return (rows, kinds) what the column may be beside the row's other columns."""
        code_of_kind = np.unique(self.kinds[name], return_index=True)[1]
        allowed = np.ones((len(codes[name]), len(code_of_kind)), dtype=bool)
        for clause in self._clauses:
            if name in clause.masks:
                allowed &= ~(clause.holds(codes, but=name)[:, None] & clause.masks[name][code_of_kind])
        return allowed

    def _trade(self, name: str, codes: Codes) -> None:
        """Let rows with a code that cannot be trade it with rows that can have it; those that gain too come first."""
        broken = self._broken(name, codes, giving=True)
        if not broken.any():
            return
        allowed, kind = self._allowed(name, codes), self.kinds[name][codes[name]]
        column, idle = codes[name].copy(), np.ones(len(broken), dtype=bool)
        pairs = [(own, other) for own in np.unique(kind[broken]) for other in range(allowed.shape[1]) if own != other]
        for own, other in self._rng.permutation(np.array(pairs, dtype=np.int64).reshape(-1, 2)):
            rows = self._rng.permutation(np.flatnonzero(idle & broken & (kind == own) & allowed[:, other]))
            partners = self._rng.permutation(np.flatnonzero(idle & (kind == other) & allowed[:, own]))
            partners = partners[np.argsort(allowed[partners, other], kind="stable")]
            count = min(len(rows), len(partners))
            rows, partners = rows[:count], partners[:count]
            column[rows], column[partners] = codes[name][partners], codes[name][rows]
            idle[rows] = idle[partners] = False
        codes[name] = column

    def _redraw(self, name: str, codes: Codes, *, giving: bool) -> None:
        """Draw codes that cannot be anew, from those of other rows, or from all where no row has one that can."""
        broken = self._broken(name, codes, giving=giving)
        if not broken.any():
            return
        allowed = self._allowed(name, codes)
        rows = np.flatnonzero(broken & allowed.any(axis=1))
        kinds, column = self.kinds[name], codes[name].copy()
        counts = np.bincount(column, minlength=len(kinds)).astype(np.float64)
        patterns, pattern = np.unique(allowed[rows], axis=0, return_inverse=True)
        for place, possible in enumerate(patterns):
            free = possible[kinds] & self._permitted.get(name, np.ones(len(kinds), dtype=bool))
            weights = counts * free if (counts * free).any() else free.astype(np.float64)
            own = rows[pattern.ravel() == place]
            if weights.any():
                column[own] = self._rng.choice(len(kinds), len(own), p=weights / weights.sum())
        codes[name] = column


def _kinds(masks: Sequence[Mask]) -> npt.NDArray[np.int64]:
    """Return (codes,) numbers of the kinds of codes that masks tell apart."""
    return np.asarray(np.unique(np.stack(masks), axis=1, return_inverse=True)[1], dtype=np.int64).ravel()
