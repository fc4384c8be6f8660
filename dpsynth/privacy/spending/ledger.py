"""The ledger of a dataset: what all runs together spent, in one file that is written before the data is touched.

The file holds one JSON record a line. A run first *reserves* all that it may spend and, at its end, *commits* what it
did spend; a reservation without a commit (``kill -9``, power cut) counts in full. The first run also sets the
dataset's limit; only `Ledger.raise_limit` moves it. Where a run names a ledger elsewhere, the place beside the data
points to it from then on (`dpsynth.privacy.spending.ledger_pointer`).

Each record carries a checksum over itself and the record before it. A file that does not check is refused, never
repaired: a guess could forget a spend. The checksum finds accidents and casual edits; it is not a signature, and who
may delete the file may also delete its memory.

**What a total means.** Gaussian answers add up however a later run was chosen (Smith & Thakurta 2022). With a training
among several runs the total is that of runs that were decided before any answer was seen. For whoever chooses between a
training and something else by earlier answers it can fall short: delta was up to 1.85 times the stated one at the same
epsilon in chosen cases. What holds then, too, is the sum of the runs' granted epsilons and deltas (Rogers et al. 2016).
So with a training the granted epsilons may not add up to more than the limit either, and their sums are said beside the
total: whatever was chosen, epsilon stays within the limit, at the sum of all deltas, the limit's own among them.

Every change writes a complete new file under a lock, brings it to the disk and renames it over the old one, so a crash
at any moment leaves the old file or the new one. Times in the records are information only; nothing depends on a clock.
"""

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from dpsynth.errors import InputError, LedgerError
from dpsynth.privacy.spending import ledger_pointer
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Accounting, Event
from dpsynth.privacy.spending.ledger_file import LedgerFile
from dpsynth.privacy.spending.ledger_records import (
    Run,
    commit_record,
    limit_record,
    now,
    progress_record,
    reserve_record,
)
from dpsynth.privacy.spending.ledger_totals import Spent, check_limit, spent_by

__all__ = ["Ledger", "Spent"]


class Ledger(LedgerFile):
    """The ledger file of one dataset: reserves, commits and adds up what runs spend.

    Parameters
    ----------
    path
        The ledger file; it need not exist yet.

    Examples
    --------
    >>> import tempfile
    >>> from dpsynth.privacy.spending.accounting import rho_for
    >>> folder = tempfile.TemporaryDirectory()
    >>> ledger = Ledger(Path(folder.name) / "cohort.csv.ledger.jsonl")
    >>> ledger
    Ledger('cohort.csv.ledger.jsonl')
    >>> budget = Budget(1, 1e-6)
    >>> run = ledger.reserve(budget, accounting="gaussian", rho=rho_for(budget, "gaussian"), unit="row")
    >>> [record.closed for record in ledger.runs()], round(ledger.spent().epsilon, 3)
    ([False], 1.0)
    >>> ledger.commit(run, [Event("gaussian", "number of rows", sensitivity=1.0, scale=10.0)])
    >>> round(ledger.spent().epsilon, 3)
    0.397
    >>> ledger.raise_limit(Budget(2, 1e-6), reason="second study, approved by the data steward")
    >>> ledger.limit
    Budget(epsilon=2.0, delta=1e-06)
    >>> folder.cleanup()
    """

    def __repr__(self) -> str:
        return f"Ledger({self.path.name!r})"

    @classmethod
    def beside(cls, data: str | os.PathLike[str]) -> Self:
        """Return the ledger that belongs to a data file: ``<data file>.ledger.jsonl``, or where that points to.

        Parameters
        ----------
        data
            The data file; it need not exist.

        Returns
        -------
        Ledger
            Its file need not exist yet.

        Examples
        --------
        >>> Ledger.beside("cohort.csv")
        Ledger('cohort.csv.ledger.jsonl')
        """
        resolved = Path(data).resolve()
        return cls(resolved.with_name(resolved.name + ".ledger.jsonl"))

    @property
    def name(self) -> str:
        """The name of the file that counts, links and pointers followed."""
        return self._target().name

    def exists(self) -> bool:
        """Whether there is a ledger, here or where the place beside the data points to.

        Returns
        -------
        bool
            False before the first run.
        """
        return ledger_pointer.exists(self.path.resolve())

    def counting(self, *places: "Ledger") -> Self:
        """Return this ledger as the one that counts for the data of some places, which will point to it.

        Pointers are written with the next run, before the data is touched; one of a folder that was moved is renewed.

        Parameters
        ----------
        *places
            The ledger beside the data, as `beside` gives it, and those of other names of the same data.

        Returns
        -------
        Ledger
            Of the same file.

        Raises
        ------
        InputError
            When a place has another ledger already, or points to one: that would forget what was spent.
        LedgerError
            When a place points to what is not there.
        """
        book, target = type(self)(self.path), self._target()
        others = {place.path.resolve() for place in places} - {target}
        for other in sorted(others):
            ledger_pointer.check(other, target)
        book._places = tuple(sorted(others))  # noqa: SLF001  (of the same class)
        return book

    @property
    def limit(self) -> Budget | None:
        """The dataset's limit, set by its first run; None before that."""
        return self._read().limit

    def runs(self) -> list[Run]:
        """Return every run, oldest first.

        Returns
        -------
        list of Run
            Empty before the first run.

        Raises
        ------
        LedgerError
            When the file cannot be read or trusted.
        """
        return list(self._read().runs)

    def spent(self, *, without: str = "") -> Spent:
        """Return the dataset's total so far, all runs or all but one; open runs count with all that they reserved.

        Parameters
        ----------
        without
            The id of a run that is left out.

        Returns
        -------
        Spent
            Zero before the first run.

        Raises
        ------
        LedgerError
            When the file cannot be read or trusted.
        """
        state = self._read()
        if state.limit is None:
            return Spent(0.0, 0.0, 0, 0, 0)
        return spent_by([r for r in state.runs if r.run != without], state.limit)

    def reserve(
        self,
        budget: Budget,
        *,
        accounting: Accounting,
        rho: float,
        extra_delta: float = 0.0,
        unit: str = "patient",
        patient_column: str | None = None,
        label: str = "",
        private: bool = True,
        training: Event | None = None,
    ) -> str:
        """Write down, and bring to the disk, all that a run may spend; only then may it touch the data.

        Parameters
        ----------
        budget
            The total (epsilon, delta) that the run may spend. The first run's budget becomes the dataset's limit.
        accounting, rho
            ``"gaussian"`` or ``"zcdp"``, and the price of the budget under it.
        extra_delta
            The part of the budget's delta that key discovery may spend, a probability.
        unit, patient_column
            What is protected: ``"patient"`` and the column that tells patients apart, or ``"row"``. Runs of another
            unit are refused.
        label, private
            Facts for the reader: a name, and False for a seeded test run.
        training
            A training that the run will pay beside its price rho.

        Returns
        -------
        str
            The run's random id, for `commit`.

        Raises
        ------
        BudgetExceeded
            When all runs together would pass the dataset's limit; nothing was written.
        LedgerError
            When the file cannot be trusted or written, or earlier runs protect another unit; nothing may be spent.
        """
        run = Run(
            secrets.token_hex(8), now(), label, budget, accounting, rho, extra_delta, unit, private, training,
            patient_column=patient_column if unit == "patient" else None,
        )  # fmt: skip
        with self._place_held() as homes:
            self._reserve(run)
            try:
                self._point(homes)
            except LedgerError:
                with contextlib.suppress(LedgerError):
                    self.commit(run.run, [])
                raise
        return run.run

    def _reserve(self, run: Run) -> None:
        with self._locked() as state:
            limit = state.limit or run.budget
            self._check_unit(state.runs, run)
            check_limit(state.runs, run, limit)
            records = [] if state.limit else [limit_record(run.budget, "set by the first run")]
            self._write(state, [*records, reserve_record(run)])

    def take_up(self) -> None:
        """Let the place beside the data point here before a run goes on that was begun by a version without pointers.

        Raises
        ------
        InputError, LedgerError
            When the place has another ledger, or the pointer cannot be written.
        """
        with self._place_held() as homes:
            self._point(homes)

    def _check_unit(self, runs: Sequence[Run], run: Run) -> None:
        """Refuse a run whose protected unit is not that of earlier runs: their epsilons cannot be added.

        Somebody who is one patient by one column (a person) can be many by another (their stays), and an epsilon for a
        stay is then worth many times as much for the person. How many rows of a patient a run uses at most is no part
        of the unit: each run protects the whole patient. A run of which the column was not recorded (by versions that
        did not note it) is taken to be of the column that the others name, and whoever reads the total is told.
        """
        other = next((r for r in runs if _differ(r, run)), None)
        if other is None:
            return
        if other.unit == run.unit:
            before = f"Set `patient: {other.patient_column}` in the schema, as before"
        else:
            before = "Use a schema with the unit of the earlier runs (its patient column)"
        raise LedgerError(
            f"{self.path.name}: earlier runs took {other.protected} for what is protected, this one {run.protected}, "
            f"so there is no total of both. {before}. If that was the wrong unit, whoever answers for the data "
            "decides: put this ledger away, count all that it says was spent as lost, and begin another."
        )

    def commit(self, run: str, events: Sequence[Event]) -> None:
        """Write down what a run did spend; what it had reserved beyond that is free again.

        Parameters
        ----------
        run
            The id that `reserve` returned.
        events
            All that was asked.

        Raises
        ------
        LedgerError
            When the run is unknown or already closed, or the file cannot be trusted or written: the reservation then
            counts in full.
        """
        with self._locked() as state:
            if [r.run for r in state.runs if not r.closed].count(run) != 1:
                raise LedgerError(f"{self.path.name}: no open run with this id to commit.")
            self._write(state, [commit_record(run, events)])

    def claim(self, run: str, before: int, after: int) -> None:
        """Claim units of an open run, before they are done; each can be claimed once.

        Parameters
        ----------
        run
            The id that `reserve` returned.
        before, after
            The number of the run's units (questions and blocks of training steps) before and after the claim.

        Raises
        ------
        LedgerError
            When the run is not open, or its units were claimed already; nothing may be done.
        """
        with self._locked() as state:
            open_runs = [r for r in state.runs if r.run == run and not r.closed]
            if len(open_runs) != 1 or open_runs[0].units != before:
                raise LedgerError(
                    f"{self.path.name}: this step of the run was begun already, by a process that was stopped or by "
                    "another one, so it may not be done again. Go on with the folder that went furthest, or begin a "
                    "new run."
                )
            self._write(state, [progress_record(run, after)])

    def raise_limit(self, limit: Budget, *, reason: str) -> None:
        """Set the dataset's limit on purpose; the reason is kept in the file.

        Parameters
        ----------
        limit
            The new limit, not below the present one in epsilon or delta.
        reason
            Who decided it and why.

        Raises
        ------
        InputError
            When the reason is empty or the limit would be lower than the present one.
        LedgerError
            When the file cannot be trusted or written.
        """
        if not reason.strip():
            raise InputError("reason: a dataset's limit is raised only with a reason; say who decided it and why.")
        with self._locked() as state:
            old = state.limit
            if old and (limit.epsilon < old.epsilon or limit.delta < old.delta):
                raise InputError(
                    f"limit: found ({limit.epsilon:g}, {limit.delta:g}), expected at least the present "
                    f"({old.epsilon:g}, {old.delta:g}) in both numbers; a limit is raised, never lowered."
                )
            self._write(state, [limit_record(limit, reason.strip())])


def _differ(run: Run, other: Run) -> bool:
    """Whether two runs are known to protect different units."""
    named = not (run.unnamed or other.unnamed)
    return run.unit != other.unit or (named and run.patient_column != other.patient_column)
