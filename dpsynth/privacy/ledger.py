"""The ledger of a dataset: what all runs together spent, in one file that is written before the data is touched.

The file holds one JSON record a line. A run first *reserves* all that it may spend and, at its end, *commits* what it
did spend; a reservation without a commit (``kill -9``, power cut) counts in full. The first run also sets the
dataset's limit; only `Ledger.raise_limit` moves it. Where a run names a ledger elsewhere, the place beside the data
points to it from then on (`dpsynth.privacy.ledger_pointer`).

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
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from dpsynth.errors import InputError, LedgerError
from dpsynth.privacy import ledger_pointer
from dpsynth.privacy.accounting import Accounting, Event
from dpsynth.privacy.budget import Budget
from dpsynth.privacy.records import (
    RESTORE,
    LedgerState,
    Run,
    chain,
    commit_record,
    limit_record,
    now,
    parse,
    progress_record,
    reserve_record,
)
from dpsynth.privacy.synced import replace_synced
from dpsynth.privacy.totals import Spent, check_limit, spent_by

__all__ = ["Ledger", "Spent"]

LOCK_SECONDS = 60.0


class Ledger:
    """The ledger file of one dataset: reserves, commits and adds up what runs spend.

    Parameters
    ----------
    path
        The ledger file; it need not exist yet.

    Examples
    --------
    >>> import tempfile
    >>> from dpsynth.privacy.accounting import rho_for
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

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._place: Path | None = None

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

    def counting(self, place: "Ledger") -> Self:
        """Return this ledger as the one that counts for the data beside a place, which will point to it.

        The pointer is written with the next run, before the data is touched; one of a folder that was moved is renewed.

        Parameters
        ----------
        place
            The ledger beside the data, as `beside` gives it.

        Returns
        -------
        Ledger
            Of the same file.

        Raises
        ------
        InputError
            When the place has another ledger already, or points to one: that would forget what was spent.
        LedgerError
            When the place points to what is not there.
        """
        book, own = type(self)(self.path), place.path.resolve()
        if self._target() != own:
            ledger_pointer.check(own, self._target())
            book._place = own  # noqa: SLF001  (of the same class)
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
        with self._place_held() as home:
            self._reserve(run)
            try:
                self._point(home)
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
        with self._place_held() as home:
            self._point(home)

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

    # -- the file -----------------------------------------------------------------------------------------------------

    def _target(self) -> Path:
        """Return the file itself, links and pointers followed, so that two names of one file share one lock."""
        return ledger_pointer.counted(self.path.resolve())

    def _read(self) -> LedgerState:
        target = self._target()
        try:
            if not stat.S_ISREG(target.stat().st_mode):
                raise LedgerError(f"{self.path.name}: is not a regular file, so it cannot be a ledger.")
            text = target.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return LedgerState()
        except UnicodeDecodeError:
            raise LedgerError(f"{self.path.name}: is not a ledger (not text). {RESTORE}") from None
        except OSError as error:
            raise LedgerError(f"{self.path.name}: the ledger cannot be read ({error.strerror}).") from None
        return parse(text, self.path.name)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[LedgerState]:
        """Hold the dataset's lock and give what the file says at that moment."""
        while True:
            target = self._target()
            if not target.parent.is_dir():  # a lock would make it, and a misspelt path would then be a fresh ledger
                raise self._unwritable(FileNotFoundError(errno.ENOENT, "its folder does not exist"))
            with self._held(target):
                if self._target() == target:  # else a first run that named another ledger was faster: go there
                    yield self._read()
                    return

    @contextlib.contextmanager
    def _place_held(self) -> Iterator[Path | None]:
        """Hold the place beside the data, if it is to point here, and give where the pointer goes."""
        if self._place is None:
            yield None
            return
        try:
            home = ledger_pointer.writable(self._place)
        except OSError as error:
            raise self._unwritable(error) from None
        with self._held(home):
            ledger_pointer.check(self._place, self._target())
            yield home

    def _point(self, home: Path | None) -> None:
        """Let the place beside the data point here."""
        target = self._target()
        if home is None or self._place is None or not target.exists() or ledger_pointer.counts(self._place, target):
            return
        try:
            ledger_pointer.write(home, target)
        except OSError as error:
            raise self._unwritable(error) from None

    @contextlib.contextmanager
    def _held(self, file: Path) -> Iterator[None]:
        """Hold the lock of a file."""
        from filelock import FileLock, Timeout

        lock = FileLock(f"{file}.lock", timeout=LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise LedgerError(
                f"{self.path.name}: another process has held the ledger for {LOCK_SECONDS:g} s; wait for it to end."
            ) from None
        except (OSError, NotImplementedError) as error:
            raise self._unwritable(error) from None
        try:
            yield
        finally:
            lock.release()

    def _write(self, state: LedgerState, records: Sequence[Mapping[str, Any]]) -> None:
        """Replace the file by itself plus new records, all or nothing, and bring it to the disk."""
        text = "".join(line + "\n" for line in [*state.lines, *chain(records, state.checksum)])
        try:
            replace_synced(self._target(), text)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: Exception) -> LedgerError:
        why = getattr(error, "strerror", None) or type(error).__name__
        return LedgerError(
            f"{self.path.name}: the ledger cannot be written ({why}), so nothing may be spent. Make room or give write "
            "access to its folder, or name another ledger file that every run on this dataset will use."
        )


def _differ(run: Run, other: Run) -> bool:
    """Whether two runs are known to protect different units."""
    named = not (run.unnamed or other.unnamed)
    return run.unit != other.unit or (named and run.patient_column != other.patient_column)
