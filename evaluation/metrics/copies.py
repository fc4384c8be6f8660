"""Whether synthetic rows repeat real patients, beyond what real patients have in common with each other.

A reason against a cohort and never one for it: what repeats nobody can still give a patient away.

Rows are compared in three ways: equal in every column; equal in all columns but one; equal in all but an eighth of the
columns. In the latter two numbers count as equal that are within half a percent of the real ranks, so that rounding and
jitter hide nothing. What is natural, the held-out patients say: how many of them agree so with a training patient, and
the other way round. Tables of few cells, in which strangers are equal, have nothing to repeat.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.table import Table
from dpsynth.evaluation.learners.arms import join
from dpsynth.evaluation.metrics.checks import row_hashes
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.report.text import percent
from dpsynth.evaluation.result import Interval, Result, estimate

__all__ = ["copy_results"]

#: Different rows of each cohort that are looked up with tolerance at most, real rows among which they are looked for,
#: and values that are compared for one cohort.
ASKED, AMONG, VALUES = 2_000, 20_000, 200_000_000
#: Numbers whose ranks among the real values differ by less are equal, with tolerance.
RANKS = 0.005
#: Columns from which on one or several may differ.
WIDE = 5
#: Chance that one side's share lies beyond the end that the decision takes.
SURE = 1e-4
#: A cohort repeats patients where its share is surely above this many times the natural one and this much more.
TIMES, MORE = 2.0, 0.02


@dataclass(frozen=True)
class _Share:
    """The count of rows that agree with rows of another cohort, out of how many."""

    count: int
    of: int

    def end(self, side: int, chance: float) -> float:
        """Return the lower (-1) or upper (1) end of the share by Clopper and Pearson, passed with this chance."""
        from scipy.stats import beta

        if (side < 0 and self.count == 0) or (side > 0 and self.count == self.of):
            return float(side > 0)
        ends = (self.count, self.of - self.count + 1) if side < 0 else (self.count + 1, self.of - self.count)
        return float(beta.ppf(chance if side < 0 else 1 - chance, *ends))

    @property
    def value(self) -> float:
        """The share."""
        return self.count / self.of


@dataclass(frozen=True)
class _Comparison:
    """One way of counting copies: synthetic rows among real ones, beside what is usual among real ones."""

    how: str
    synthetic: _Share
    natural: tuple[_Share, _Share]

    @property
    def beyond(self) -> bool:
        """Whether the synthetic rows agree surely more often than twice what is natural."""
        usual = sum(share.end(1, SURE) for share in self.natural)
        return self.synthetic.end(-1, SURE) > TIMES * usual + MORE

    @property
    def usual(self) -> float:
        """The natural share: with patients of the one side or of the other."""
        return min(1.0, sum(share.value for share in self.natural))


def copy_results(train: Table, test: Table, synthetic: Sequence[Table], terms: Protocol) -> list[Result]:
    """Return the share of different synthetic rows that repeat a real row, and the natural share of real patients.

    Parameters
    ----------
    train, test : Table
        Real patients, apart.
    synthetic : sequence of Table
        Draws; the one that repeats most is reported.
    terms : Protocol
    """
    compared = [comparison for draw in synthetic for comparison in _compared(train, test, draw, terms.seed)]
    worst = max(compared, key=lambda comparison: (comparison.beyond, comparison.synthetic.value - comparison.usual))
    alpha = (1 - terms.level) / 2
    ends = Interval(
        worst.synthetic.end(-1, alpha),
        worst.synthetic.end(1, alpha),
        terms.level,
        ("synthetic rows",),
        "exact binomial",
    )
    words = (
        f"It repeats real patients: {percent(worst.synthetic.value)} of its different rows equal a real "
        f"row {worst.how}, where real patients do so with other real patients in {percent(worst.usual)}."
    )
    detail: dict[str, Any] = {"how": worst.how, "natural": worst.usual, "beyond": worst.beyond, "words": words}
    fields: dict[str, Any] = {"disclosure": terms.disclosure, "reason": worst.how}
    return [
        estimate("copies", worst.synthetic.value, interval=ends, n=worst.synthetic.of, detail=detail, **fields),
        estimate("copies", worst.usual, n=sum(comparison.of for comparison in worst.natural), arm="real", **fields),
    ]


def _compared(train: Table, test: Table, synthetic: Table, seed: int) -> list[_Comparison]:
    comparisons = [_exactly(train, test, synthetic)]
    columns = len(train.names)
    if columns >= WIDE:
        allowed = sorted({1, max(1, columns // 8)})
        sides = [table.at_most(AMONG // 2, seed) for table in (train, test)]
        asked = max(1, min(ASKED, VALUES // (columns * sum(map(len, sides)))))
        rows = [_different(table, asked, seed) for table in (synthetic, test, train)]
        each = [_agreeing(rows[0], join(*sides)), _agreeing(rows[1], sides[0]), _agreeing(rows[2], sides[1])]
        for less in allowed:
            shares = [_Share(int((most >= columns - less).sum()), len(most)) for most in each]
            how = f"in all columns but {'one' if less == 1 else less}, numbers within half a percent of the ranks"
            comparisons.append(_Comparison(how, shares[0], (shares[1], shares[2])))
    return comparisons


def _exactly(train: Table, test: Table, synthetic: Table) -> _Comparison:
    """Compare rows in every column; real rows that are not the only one of their kind are nobody's."""
    hashes = [row_hashes(table) for table in (synthetic, train, test)]
    rows, mine, others = (np.unique(table) for table in hashes)
    kinds, counts = np.unique(np.concatenate(hashes[1:]), return_counts=True)
    shares = (
        _Share(int(np.isin(rows, kinds[counts == 1]).sum()), len(rows)),
        _Share(int(np.isin(others, _alone(hashes[1])).sum()), len(others)),
        _Share(int(np.isin(mine, _alone(hashes[2])).sum()), len(mine)),
    )
    return _Comparison("in every column", shares[0], shares[1:])


def _alone(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    kinds, counts = np.unique(hashes, return_counts=True)
    alone: NDArray[np.uint64] = kinds[counts == 1]
    return alone


def _different(table: Table, limit: int, seed: int) -> Table:
    """Return at most so many rows, each of another kind, at random."""
    first = np.unique(row_hashes(table), return_index=True)[1]
    picks = np.random.default_rng(seed).permutation(first)[:limit]
    return table.take(np.sort(picks))


def _agreeing(asked: Table, among: Table) -> NDArray[np.int64]:
    """Return for each row in how many columns it agrees with the row of another cohort that it is most like."""
    agree = np.zeros((len(asked), len(among)), dtype=np.int16)
    for name, variable in among.variables.items():
        left, right = _codes(asked[name].values, variable.values, numeric=variable.numeric)
        reach = RANKS if variable.numeric else 0.0
        agree += np.abs(left[:, None] - right[None]) <= reach
    most: NDArray[np.int64] = agree.max(axis=1).astype(np.int64)
    return most


def _codes(asked: Any, among: Any, *, numeric: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return values as ranks among those of the other cohort (missing: -1), or as codes."""
    if not numeric:
        return asked.astype(np.float32), among.astype(np.float32)
    present = np.sort(among[~np.isnan(among)])
    ranks = []
    for values in (asked, among):
        places = np.searchsorted(present, values, "left") + np.searchsorted(present, values, "right")
        ranks.append(np.where(np.isnan(values), -1.0, places / (2 * max(len(present), 1))).astype(np.float32))
    return ranks[0], ranks[1]
