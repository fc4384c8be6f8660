"""What was spent on a dataset, across runs: one file beside the data, written before the data is touched.

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
import math
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dpsynth.errors import BudgetExceeded, InputError, LedgerError
from dpsynth.privacy import ledger_pointer
from dpsynth.privacy.accounting import Accounting, Event, epsilon_at, rho_for
from dpsynth.privacy.budget import MIN_EPSILON, Budget
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

LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class Spent:
    """The dataset's total: (epsilon, delta)-DP of all runs together, and how many runs there were.

    ``open_runs`` did not commit and count with all that they reserved; ``test_runs`` were made with a fixed seed, so
    the total protects nobody if anything that they made was published. ``added`` is the sum of the granted epsilons and
    deltas where a training is among several runs, else None: it holds however later runs were chosen. ``unnamed`` runs
    did not record which column told patients apart; the total takes them for runs of the same column as the others.
    ``delta_spent`` is the part of the limit's delta that is used up (the discovery of values, and runs that are added
    as they were granted): epsilon is found at what is left of it.
    """

    epsilon: float
    delta: float
    runs: int
    open_runs: int
    test_runs: int
    added: tuple[float, float] | None = None
    unnamed: int = 0
    delta_spent: float = 0.0

    def ends_first(self, limit: Budget) -> str:
        """Return which of a limit's two numbers, ``"epsilon"`` or ``"delta"``, is used up further."""
        return "delta" if self.delta_spent / limit.delta > self.epsilon / limit.epsilon else "epsilon"


class Ledger:
    """The record of what was spent on one dataset.

    Parameters
    ----------
    path
        The ledger file; it need not exist yet.

    Examples
    --------
    >>> Ledger("cohort.csv.ledger.jsonl")
    Ledger('cohort.csv.ledger.jsonl')
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._place: Path | None = None

    def __repr__(self) -> str:
        return f"Ledger({self.path.name!r})"

    @classmethod
    def beside(cls, data: str | os.PathLike[str]) -> Self:
        """Return the ledger that belongs to a data file: ``<data file>.ledger.jsonl``, or where that points to."""
        resolved = Path(data).resolve()
        return cls(resolved.with_name(resolved.name + ".ledger.jsonl"))

    @property
    def name(self) -> str:
        """The name of the file that counts, links and pointers followed."""
        return self._target().name

    def exists(self) -> bool:
        """Whether there is a ledger, here or where the place beside the data points to."""
        return ledger_pointer.exists(self.path.resolve())

    def counting(self, place: "Ledger") -> Self:
        """Return this ledger as the one that counts for the data beside a place, which will point to it.

        The pointer is written with the next run, before the data is touched; one of a folder that was moved is renewed.

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

        Raises
        ------
        LedgerError
            When the file cannot be read or trusted.
        """
        return list(self._read().runs)

    def spent(self, *, without: str = "") -> Spent:
        """Return the dataset's total so far, all runs or all but one; open runs count with all that they reserved."""
        state = self._read()
        if state.limit is None:
            return Spent(0.0, 0.0, 0, 0, 0)
        return _spent([r for r in state.runs if r.run != without], state.limit)

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
            What the run asks. The first run's budget becomes the dataset's limit.
        accounting, rho, extra_delta
            The budget's price and the part of its delta that key discovery may spend.
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
            _check_limit(state.runs, run, limit)
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


def _common_accounting(runs: Sequence[Run]) -> Accounting:
    """Return the accounting in which all runs are added; which one a run uses is public and fixed in advance."""
    return "gaussian" if _trained(runs) or all(r.accounting == "gaussian" for r in runs) else "zcdp"


def _total(runs: Sequence[Run], delta: float) -> float:
    """Return the epsilon of all runs together at the limit's delta."""
    joint, apart = _composed(runs)
    accounting = _common_accounting(joint)
    left = delta - _delta_spent(runs)
    price = math.fsum(r.price(accounting) for r in joint)
    return epsilon_at(price, accounting, left, _trained(joint)) + math.fsum(r.budget.epsilon for r in apart)


def _delta_spent(runs: Sequence[Run]) -> float:
    """Return the part of the limit's delta at which no epsilon can be found any more."""
    joint, apart = _composed(runs)
    return math.fsum(r.delta() for r in joint) + math.fsum(r.budget.delta for r in apart)


def _trained(runs: Sequence[Run]) -> tuple[Event, ...]:
    return tuple(event for r in runs for event in r.trained())


def _composed(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Return the runs that are composed by their events, and those whose epsilons and deltas are added.

    A training is composed with Gaussian prices; an open reservation under ``zcdp`` has none.
    """
    apart = [r for r in runs if not r.closed and r.accounting == "zcdp"] if _trained(runs) else []
    return [r for r in runs if r not in apart], apart


def _spent(runs: Sequence[Run], limit: Budget) -> Spent:
    epsilon = _total(runs, limit.delta)
    open_runs, test_runs = sum(not r.closed for r in runs), sum(not r.private for r in runs)
    return Spent(
        epsilon,
        limit.delta if epsilon else 0.0,
        len(runs),
        open_runs,
        test_runs,
        _added(runs),
        sum(r.unnamed for r in runs),
        _delta_spent(runs),
    )


def _added(runs: Sequence[Run]) -> tuple[float, float] | None:
    """Return the sums of what was granted to runs that asked anything; None where prices alone are enough."""
    asked = [r.budget for r in runs if r.events != ()]
    if len(asked) < 2 or not _trained(runs):
        return None
    return math.fsum(budget.epsilon for budget in asked), math.fsum(budget.delta for budget in asked)


def _check_limit(runs: Sequence[Run], run: Run, limit: Budget) -> None:
    """Refuse a run with which the dataset's total, or with a training the sum of the epsilons, would pass its limit."""
    added = _added([*runs, run])
    asked = max(_total([*runs, run], limit.delta), 0.0 if added is None else added[0])
    if asked <= limit.epsilon * (1 + 1e-9):
        return
    spent = _spent(runs, limit)
    if added is None and _total([*runs, run], limit.delta + _delta_spent([*runs, run])) <= limit.epsilon * (1 + 1e-9):
        raise BudgetExceeded(_delta_exhausted(spent, run, limit))
    raise BudgetExceeded(
        f"this dataset's limit is epsilon {limit.epsilon:.6g} at delta {limit.delta:g}; {spent.runs} earlier run(s) "
        f"spent {spent.epsilon:.6g}, this one asks {run.budget.epsilon:.6g} at delta {run.budget.delta:g}, and about "
        f"{_left([*runs, run], run, limit):.6g} is left.{_why(added)} Nothing was looked at. Ask for less, use a model "
        "that is already fitted (sampling from it is free), or raise the limit on purpose: `dpsynth ledger "
        "raise-limit`."
    )


def _delta_exhausted(spent: Spent, run: Run, limit: Budget) -> str:
    """Say that it is delta that does not suffice, though epsilon would."""
    asked = _delta_spent([run])
    return (
        f"this dataset's delta is exhausted: its limit is delta {limit.delta:g}, {spent.runs} earlier run(s) spent "
        f"{spent.delta_spent:g} of it on finding values (discover), this one asks {asked:g} for that at delta "
        f"{run.budget.delta:g}, and {max(0.0, limit.delta - spent.delta_spent):g} is left, of which the noise of all "
        f"runs needs a part. Epsilon would do ({spent.epsilon:.6g} of {limit.epsilon:.6g} spent). Nothing was looked "
        "at. Declare the values in the schema instead of `discover`, ask with a smaller --delta, or raise the limit's "
        "delta on purpose: `dpsynth ledger raise-limit --delta`."
    )


def _why(added: tuple[float, float] | None) -> str:
    return "" if added is None else f" With a training among the runs their epsilons are added: {added[0]:.6g}."


def _left(runs: Sequence[Run], run: Run, limit: Budget) -> float:
    """Return the epsilon that a run of this accounting could still ask, at its own delta."""
    others, apart = _composed([r for r in runs if r is not run])
    accounting = _common_accounting([*others, run])
    used = _delta_spent([r for r in runs if r is not run]) + run.extra_delta
    epsilon = limit.epsilon - math.fsum(r.budget.epsilon for r in apart)
    if used >= limit.delta or run.budget.delta <= run.extra_delta or epsilon < MIN_EPSILON:
        return 0.0
    free = rho_for(Budget(epsilon, limit.delta), accounting, reserved_delta=used, trained=_trained(others))
    rho = free - math.fsum(r.price(accounting) for r in others)
    left = epsilon_at(max(0.0, rho), run.accounting, run.budget.delta - run.extra_delta)
    added = _added(runs)
    return left if added is None else max(0.0, min(left, limit.epsilon - (added[0] - run.budget.epsilon)))
