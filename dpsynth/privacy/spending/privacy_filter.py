"""Privacy filter of one run: what was granted and spent."""

import logging
import threading
from collections.abc import Sequence

from dpsynth.errors import BudgetExceeded, InputError, LedgerError
from dpsynth.privacy import processes
from dpsynth.privacy.spending.accounting import ROUNDING, epsilon_at, rho_for
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Accounting, Event, total_delta, total_price, trainings
from dpsynth.privacy.spending.ledger import Ledger, Spent
from dpsynth.privacy.spending.training_plan import TrainingPlan

log = logging.getLogger(__name__)


class Account:
    """A privacy filter: events are paid out of a fixed budget, before the data is looked at.

    Parameters
    ----------
    budget
        The total (epsilon, delta) that may be spent.
    accounting
        ``"gaussian"`` or ``"zcdp"``: how events are priced.
    delta_for_discovery
        The part of delta that only key discovery may spend, a probability.
    training
        A training that the budget is to pay; its own ``rho`` is what is left for questions.

    Attributes
    ----------
    rho
        The price that questions can pay.
    events
        What was paid for.
    earlier
        What the dataset's earlier runs spent; None without a ledger.
    paid_again
        The price of what was paid for once more (`debit_again`).
    resumable
        Whether the run can be taken up again, so that it stays open in the ledger when it fails.

    Raises
    ------
    InputError
        When training and questions together would cost more than the budget.

    Examples
    --------
    >>> account = Account(Budget(1, 1e-6), "gaussian", delta_for_discovery=0.0)
    >>> account.debit([Event("gaussian", "number of rows", sensitivity=1.0, scale=10.0)])
    >>> round(account.rho - account.rho_left, 3)
    0.005
    """

    def __init__(
        self,
        budget: Budget,
        accounting: Accounting,
        *,
        delta_for_discovery: float,
        training: TrainingPlan | None = None,
    ) -> None:
        self.budget = budget
        self.accounting = accounting
        self.delta_for_discovery = delta_for_discovery
        self.training = training
        self.rho = rho_for(budget, accounting, reserved_delta=delta_for_discovery)
        if training is not None:
            if type(training) is not TrainingPlan:
                raise InputError(f"training: found a {type(training).__name__}, expected a TrainingPlan.")
            event, left = training.event, budget.delta - delta_for_discovery
            if epsilon_at(training.rho, accounting, left, [event]) > budget.epsilon * (1 + ROUNDING):
                raise InputError("training: it costs more than the budget; make the plan with TrainingPlan.within.")
            self.rho = training.rho
        self.events: list[Event] = []
        self._last: list[Event] = []
        self.paid_again = 0.0
        self.earlier: Spent | None = None
        self._ledger: Ledger | None = None
        self._run = ""
        self._lock = threading.Lock()
        self._closed = False
        self.resumable = False

    @property
    def rho_left(self) -> float:
        """The price that can still be paid."""
        return max(0.0, self.rho - total_price(self.events, self.accounting))

    def debit(self, events: Sequence[Event]) -> None:
        """Pay for all of the events or for none.

        Parameters
        ----------
        events
            What is to be asked; their prices, trainings and deltas are added to those paid before.

        Raises
        ------
        BudgetExceeded
            When they cost more than is left, or the account is closed.
        """
        with self._lock:
            if self._closed:
                raise BudgetExceeded("this session is closed: open another one, which needs a budget of its own.")
            after = [*self.events, *events]
            if trainings(after) not in ((), (self.training and self.training.event,)):
                raise BudgetExceeded(
                    "a session pays the one training that it was opened for, once; nothing was looked at. Open another "
                    "session with training=, which needs a budget of its own."
                )
            if total_price(after, self.accounting) > self.rho * (1 + ROUNDING):
                raise BudgetExceeded(
                    f"the question costs rho {total_price(events, self.accounting):.6g} and {self.rho_left:.6g} of "
                    f"{self.rho:.6g} is left; nothing was looked at. Ask less, or open the session with more epsilon."
                )
            if total_delta(after) > self.delta_for_discovery * (1 + ROUNDING):
                raise BudgetExceeded(
                    f"discovery asks for more delta than the {self.delta_for_discovery:g} that is reserved for it; "
                    "nothing was looked at. Ask less, or leave delta out to share it equally."
                )
            self.events.extend(events)
            self._last = list(events)

    def debit_again(self, most: float) -> None:
        """Pay once more for the events that were paid for last.

        Parameters
        ----------
        most
            The price that all that is paid again may have together.

        Raises
        ------
        BudgetExceeded
            When it is more, or more than is left.
        """
        again = list(self._last)
        price = total_price(again, self.accounting)
        if self.paid_again + price > most * (1 + ROUNDING):
            raise BudgetExceeded(
                f"asked anew, the question costs rho {price:.6g} once more, and of what was kept for this "
                f"{max(0.0, most - self.paid_again):.6g} is left; agree on a larger share (asked_anew)."
            )
        self.debit(again)
        self.paid_again += price

    def reserve(self, ledger: Ledger | None, *, patient_column: str | None, label: str, private: bool) -> None:
        """Write the whole budget into the ledger, if there is one, before anything is read.

        Parameters
        ----------
        ledger
            Where spending on the dataset is kept; None where the cohort is public.
        patient_column
            The column that tells patients apart; None where a row is a patient.
        label
            A name for the run, for the reader of the ledger.
        private
            False for a seeded test run.

        Raises
        ------
        BudgetExceeded, LedgerError
            When the ledger refuses.
        """
        if ledger is None:
            return
        processes.shared(lambda: self._reserve(ledger, patient_column, label=label, private=private))

    def _reserve(self, ledger: Ledger, patient_column: str | None, *, label: str, private: bool) -> None:
        self.earlier = ledger.spent()
        self._run = ledger.reserve(
            self.budget,
            accounting=self.accounting,
            rho=self.rho,
            extra_delta=self.delta_for_discovery,
            unit="row" if patient_column is None else "patient",
            patient_column=patient_column,
            label=label,
            private=private,
            training=None if self.training is None else self.training.event,
        )
        self._ledger = ledger

    @property
    def run(self) -> str:
        """The run's id in the ledger; empty without one."""
        return self._run

    def take_up(self, ledger: Ledger | None, run: str, *, private: bool) -> int | None:
        """Go on with a run that was reserved before; return its claimed units, or None when it is closed.

        Parameters
        ----------
        ledger
            The ledger that the run was begun with; None where the cohort is public.
        run
            The run's id in the ledger.
        private
            False for a seeded test run.

        Returns
        -------
        int or None
            How many units (questions and blocks of steps) the run has claimed; None where it is closed.

        Raises
        ------
        LedgerError
            When the ledger does not know the run, or it reserved something else: a run whose noise was drawn from a
            seed stays a test.
        """
        self.resumable = True
        if ledger is None:
            return 0
        ledger.take_up()
        runs = [r for r in ledger.runs() if r.run == run]
        event = None if self.training is None else self.training.event
        if len(runs) != 1 or (runs[0].budget, runs[0].training, runs[0].private) != (
            self.budget,
            event,
            private,
        ):
            raise LedgerError("checkpoint: the ledger does not know this run; use the ledger that it was begun with.")
        self.earlier = ledger.spent(without=run)
        self._run = run
        if runs[0].closed:
            return None
        self._ledger = ledger
        return runs[0].units

    def claim(self, before: int, after: int) -> None:
        """Claim units of the run in the ledger, if there is one.

        Parameters
        ----------
        before, after
            The number of the run's units before and after the claim.

        Raises
        ------
        LedgerError
            When the run is not open, or its units were claimed already.
        """
        if self._ledger is not None:
            self._ledger.claim(self._run, before, after)

    def close(self, *, failing: bool) -> None:
        """Commit what was spent, once; the account pays nothing more.

        While another error is on its way, one of the ledger is only logged: the reservation then counts in full. A run
        that can be taken up again stays open when it fails, and counts in full.

        Parameters
        ----------
        failing
            Whether another error is on its way.

        Raises
        ------
        LedgerError
            When the ledger cannot be written and no other error is on its way.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._ledger is None or (failing and self.resumable):
            return
        try:
            self._ledger.commit(self._run, self.events)
        except LedgerError:
            if not failing:
                raise
            log.warning("the ledger could not be written at the end; the whole reservation counts as spent")
