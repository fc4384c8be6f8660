"""PATE: teachers on disjoint parts of the patients vote whether a row is a patient's or generated.

Formal guarantee, for one patient added or removed: a vote on m made rows moves by at most ``sqrt(m)`` in the L2 norm.
Why, in the order of the code:

- Every patient has one teacher, by a keyed hash of the patient (`dpsynth.sources.cap`); patients who cannot be told
  apart, equal rows of a table without identifiers, by that and their number among equals. So whoever is in both worlds
  has the same teacher in both (equal rows may change places, which changes nothing): all teachers but one have the same
  patients.
- What a teacher learns is a function of its own patients' rows, of made rows and numbers that are public by then, and
  of nothing else: it starts from 0, its steps are not random, and it is computed apart, so that not even the rounding
  of a matrix product links two teachers. So all teachers but one are the same in both worlds, at every call, given the
  same earlier answers.
- A teacher casts one vote, 0 or 1, on each of the m rows. So each count of votes moves by at most 1, and the vector of
  m counts by at most ``sqrt(m)`` in L2.
- Integer Gaussian noise of standard deviation sigma on each count then costs ``rho = m / (2 sigma^2)``, as any other
  counts of that sensitivity. Later calls depend on earlier answers: prices add (adaptive composition). The mixture over
  the secrets that choose the teachers is covered by joint convexity: the bound holds for each fixed secret.

Unlike PATE-GAN as it was published (Jordon, Yoon and van der Schaar 2019), nothing depends on how far the teachers
agree: a data-dependent price is itself private and would have to be noised. Teachers never leave the kernel: they are
held by `PrivateAnswers`, have no public attribute, and are not pickled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.errors import InputError
from dpsynth.privacy.mechanisms import Floats, Integers
from dpsynth.sources import Part

MOST_TEACHERS = 100_000
LARGEST_FEATURE = 1e3


@dataclass(frozen=True, eq=False)
class Panel:
    """The configuration of the teachers, fixed before the data is looked at; all of it is public.

    Parameters
    ----------
    teachers
        How many; each patient is in the part of one of them.
    tables
        For some columns (size of the column, width) what a teacher reads for each fine code; of all columns together
        these are a row's features, in this order.
    crossed
        The same for columns whose features are multiplied with all of these: what a teacher learns is linear in a
        row's features, in the crossed ones, and in the products.
    steps
        Gradient steps that every teacher takes each time, on its patients' rows and on made rows.
    rate
        Length of a step.
    decay
        Share by which a teacher's weights shrink in a step.

    Raises
    ------
    InputError
        When a number is out of range or a table is not one of finite numbers.
    """

    teachers: int
    tables: Mapping[str, NDArray[np.float32]]
    crossed: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    steps: int = 5
    rate: float = 0.5
    decay: float = 0.02

    def __post_init__(self) -> None:
        if not 1 <= self.teachers <= MOST_TEACHERS:
            raise InputError(f"teachers: found {self.teachers}, expected 1 to {MOST_TEACHERS:,}.")
        if not (1 <= self.steps <= 1000 and 0 < self.rate <= 100 and 0 <= self.decay < 1):
            raise InputError("teachers: steps, rate or decay are out of range.")
        for name, table in [*self.tables.items(), *self.crossed.items()]:
            if table.ndim != 2 or not np.isfinite(table).all() or np.abs(table).max(initial=0) > LARGEST_FEATURE:
                raise InputError(f"teachers: the table of {name!r} must hold finite numbers in two dimensions.")
        if not self.width:
            raise InputError("teachers: there are no features.")

    @property
    def width(self) -> int:
        """Features of a made row: those of the tables, then the crossed ones."""
        return self._plain + self._extra

    @property
    def learned(self) -> int:
        """Weights of a teacher: of features, crossed ones, products, and one alone."""
        return self.width + self._plain * self._extra + 1

    @property
    def _plain(self) -> int:
        return sum(table.shape[1] for table in self.tables.values())

    @property
    def _extra(self) -> int:
        return sum(table.shape[1] for table in self.crossed.values())

    def check(self, codec: Codec) -> None:
        """Refuse tables that do not fit the codec with an `InputError`."""
        for name, table in [*self.tables.items(), *self.crossed.items()]:
            if name not in codec.columns or len(table) != codec.columns[name].size:
                raise InputError(f"teachers: the table of {name!r} does not fit a modelled column.")

    def rows(self, what: str, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return made rows as features; `InputError` when they are something else."""
        rows = np.asarray(values, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.width or not len(rows):
            raise InputError(f"votes: {what} rows have shape {rows.shape}, expected (rows, {self.width}).")
        if not np.isfinite(rows).all() or np.abs(rows).max() > LARGEST_FEATURE:
            raise InputError(f"votes: {what} rows must be finite numbers up to {LARGEST_FEATURE:g}.")
        return rows

    def products(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (rows, learned) what a teacher is linear in."""
        plain, extra = rows[:, : self._plain], rows[:, self._plain :]
        both = (plain[:, :, None] * extra[:, None]).reshape(len(rows), self._plain * self._extra)
        return np.concatenate([rows, both, np.ones((len(rows), 1), dtype=np.float32)], axis=1)


class Teachers:
    """Logistic regressions on disjoint parts of the patients, internal to the kernel.

    Parameters
    ----------
    panel
        What they are.
    parts
        The private rows. A teacher may have patients of several parts; their rows are brought into an order that is the
        same however the patients are divided into parts.
    """

    def __init__(self, panel: Panel, parts: Sequence[Part]) -> None:
        self.panel = panel
        codes = {name: np.concatenate([p.codes[name] for p in parts]) for name in (*panel.tables, *panel.crossed)}
        starts = np.cumsum([0, *(part.count for part in parts)])
        patient = np.concatenate([part.patients + start for part, start in zip(parts, starts[:-1], strict=True)])
        numbers = _told_apart(np.concatenate([part.identities() for part in parts]))
        sizes = np.bincount(patient, minlength=len(numbers))
        teacher = (numbers % np.uint64(panel.teachers)).astype(np.int64)[patient]
        order = np.lexsort((*codes.values(), numbers[patient], teacher))
        self._ends = np.searchsorted(teacher[order], np.arange(panel.teachers + 1))
        self._codes = {name: array[order] for name, array in codes.items()}
        self._rows = (1 / sizes[patient])[order].astype(np.float32)
        self._weights = np.zeros((panel.teachers, panel.learned), dtype=np.float32)

    def __repr__(self) -> str:
        return "Teachers(...)"

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    def votes(self, generated: NDArray[np.float32], asked: NDArray[np.float32]) -> Integers:
        """Let every teacher learn on from its patients and made rows; return how many take each asked row for real.

        **Exact: internal to the kernel.**
        """
        self.learn(generated)
        asked = self.panel.products(asked)
        votes = np.zeros(len(asked), dtype=np.int64)
        for weights in self._weights:
            votes += asked @ weights > 0
        return votes

    def learn(self, generated: NDArray[np.float32]) -> None:
        """Let every teacher learn on, and nothing else."""
        generated = self.panel.products(generated)
        for teacher in range(self.panel.teachers):
            self._learn(teacher, generated)

    def _learn(self, teacher: int, generated: NDArray[np.float32]) -> None:
        """Take steps down the logistic loss of one teacher: the mean over its patients, and that over made rows."""
        here = slice(self._ends[teacher], self._ends[teacher + 1])
        real = self._features(here)
        share = self._rows[here] / max(float(self._rows[here].sum()), 1.0)
        weights = self._weights[teacher]
        for _ in range(self.panel.steps):
            slope = generated.T @ (_chance(generated @ weights) / len(generated))
            slope -= real.T @ (share * _chance(-(real @ weights)))
            weights *= 1 - self.panel.decay
            weights -= self.panel.rate * slope

    def _features(self, rows: slice) -> NDArray[np.float32]:
        tables = [*self.panel.tables.items(), *self.panel.crossed.items()]
        parts = [table[self._codes[name][rows]] for name, table in tables]
        return self.panel.products(np.concatenate(parts, axis=1))


def _told_apart(identities: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return (patients,) a secret number for each patient; those who cannot be told apart get different ones."""
    order = np.argsort(identities, kind="stable")
    new = np.diff(identities[order], prepend=~identities[order[:1]]) != 0
    place = np.arange(len(order)) - np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    numbers = np.empty_like(identities)
    numbers[order] = _mixed(identities[order] + place.astype(np.uint64))
    return numbers


def _mixed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return each number mixed one to one, so that every bit of it moves every other (the finalizer of SplitMix64)."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _chance(odds: Floats) -> Any:
    return 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
