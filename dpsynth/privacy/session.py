"""A session: a private cohort, opened under a budget, that answers noisy questions until the budget is spent.

Every question is checked and debited before the data is looked at. Nothing that a session says, raises or logs
depends on the data in any way that was not paid for; in particular it never tells how many rows there are.
"""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dpsynth.coding.codec import Codec
from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.privacy import processes
from dpsynth.privacy.answer_source import Answers
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.image_questions import ImageQuestions
from dpsynth.privacy.mechanisms import LatticeNoise, SeededNoise, SystemNoise
from dpsynth.privacy.network_questions import NetworkQuestions
from dpsynth.privacy.resuming import Checkpoint, Forfeited, Journal, closed_run
from dpsynth.privacy.shares import ShareAnswers, Sharing, not_linear
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Accounting, Event, grouped
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.ledger_place import ledger_of
from dpsynth.privacy.spending.privacy_filter import Account
from dpsynth.privacy.spending.statement import statement
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.table_questions import TableQuestions
from dpsynth.privacy.tables.discovery import delta_for_discovery
from dpsynth.schema.flat import flattened
from dpsynth.schema.schema import Schema
from dpsynth.sources.scanned import ScannedCohort

log = logging.getLogger(__name__)


class Session(TableQuestions, ImageQuestions, NetworkQuestions):
    """A private cohort under a budget; made by `Session.open`, used in a ``with`` block.

    Privacy contract: all answers together are (epsilon, delta)-DP for adding or removing one patient with all of
    their rows, with the budget that the session was opened under, however the questions depend on earlier answers.

    Attributes
    ----------
    schema, budget, accounting
        What it was opened with; where the schema declares visits, that of one row a patient (`dpsynth.schema.flat`).
    rows
        The number of rows, only where it is public; else None.
    codec
        The codec of the cohort; `discover` replaces it by one that knows more values.

    Examples
    --------
    >>> import pandas as pd
    >>> from dpsynth.privacy.tables.counting import fine_query
    >>> schema = Schema.parse("{name: ward, confirmed: true, columns: {smoker: {type: boolean}}}")
    >>> cohort = Cohort.from_pandas(pd.DataFrame({"smoker": [True, False] * 50}), schema, public=True)
    >>> with Session.open(cohort, Budget(1, 1e-6), seed=1) as session:
    ...     counts, = session.count([fine_query(["smoker"], session.codec.shape)], [session.rho])
    >>> counts.counts.shape, round(counts.sigma, 2)
    ((2,), 4.22)
    >>> session.rho_left, session.statement()["private"]
    (0.0, False)
    """

    def __init__(
        self,
        schema: Schema,
        budget: Budget,
        accounting: Accounting,
        *,
        rows: int | None,
        cells: int,
        training: TrainingPlan | None = None,
        per_patient: int = 1,
    ) -> None:
        """Use `Session.open` or `Session.over_hospitals`."""
        if per_patient > 1 and training is not None:
            raise InputError(
                "max_hospitals_per_patient: above 1, a training's price is not known, because each hospital draws its "
                "own sample; use a model that asks for sums alone, such as 'prism' or 'moments'."
            )
        self.schema = flattened(schema)
        self.budget = budget
        self.accounting = accounting
        self.rows = rows
        self.codec = Codec(schema, cells=cells)
        reserved = delta_for_discovery(budget, self.schema)
        self._account = Account(budget, accounting, delta_for_discovery=reserved, training=training)
        self._columns_to_discover = len(self.to_discover)
        self._answers: Answers | None = None
        self._private_side: PrivateAnswers | None = None
        self._test_mode = False
        self._checkpoint: Checkpoint | None = None
        self._units = 0
        self._elsewhere = False
        self._per_patient = per_patient
        self._kept_back = 0.0

    @classmethod
    def open(
        cls,
        cohort: Cohort | ScannedCohort,
        budget: Budget,
        *,
        accounting: Accounting = "gaussian",
        ledger: str | Path | Ledger | None = None,
        label: str = "",
        seed: int | None = None,
        train_rows: int | None = None,
        cells: int = 64,
        answers: Answers | None = None,
        training: TrainingPlan | None = None,
        checkpoint: Checkpoint | None = None,
        sharing: Sharing | None = None,
        per_patient: int = 1,
    ) -> Self:
        """Reserve a budget in the ledger, then take the cohort in: rows over the patient cap are dropped, rows coded.

        Parameters
        ----------
        cohort
            The private cohort.
        budget
            The total (epsilon, delta) that this session may spend.
        accounting
            ``"gaussian"`` (exact; selections cost more) or ``"zcdp"``; see `dpsynth.privacy.spending.accounting`.
        ledger
            Where spending on this dataset is kept. Default: beside the file that the cohort was read from; a public
            cohort needs none.
        label
            A name for the run in the ledger.
        seed
            Test mode: repeatable noise, and everything is stamped *not private*.
        train_rows
            Number of rows, where the cohort is a part of the one that the schema's ``rows`` speaks of and this number
            follows from public facts.
        cells
            Fine cells of a numeric column.
        answers
            Test hook: answers from elsewhere (a tape) in place of the data, stamped *not private*.
        training
            A private training that the session will run, once (`train`). Its price for questions takes the place of
            what the whole budget could pay; both are fixed here, before the first answer.
        checkpoint
            Where the run is kept while it goes on. A run that is there, opened with the same arguments, is taken up
            where it was stopped: nothing is reserved, asked or trained twice.
        sharing
            For one of several hospitals: answers hold its share of the noise and are hidden by masks, as whole numbers
            modulo 2^64 in place of noisy ones (`dpsynth.privacy.shares`).
        per_patient
            In how many hospitals a patient may be: sensitivity is multiplied by it.

        Returns
        -------
        Session
            Open; leaving its ``with`` block commits what was spent.

        Raises
        ------
        SchemaError
            When nobody has confirmed the schema.
        InputError
            When a private cohort from a data frame comes without a ledger, or the training costs more than the budget.
        BudgetExceeded, LedgerError
            When the ledger refuses; nothing was looked at.
        """
        cohort.schema.check_confirmed()
        _check_patients(cohort)
        _check_sums(cohort, training)
        book = ledger_of(cohort, ledger)
        rows = train_rows if train_rows is not None else cohort.schema.units
        facts: dict[str, Any] = {"rows": rows, "cells": cells, "training": training, "per_patient": per_patient}
        session = cls(cohort.schema, budget, accounting, **facts)
        session._test_mode = seed is not None or answers is not None
        units: int | None = 0
        if checkpoint is not None and checkpoint.run is not None:
            units = processes.shared(lambda: session._take_up(checkpoint, book))
        else:
            session._account.reserve(
                book, patient_column=cohort.schema.patient, label=label, private=not session._test_mode
            )
        try:
            noise = SystemNoise() if seed is None else SeededNoise(seed)
            own: Any = answers or _answers(cohort, session.cap, noise, sharing)
            session._private_side = own if isinstance(own, PrivateAnswers) else None
            own = own if checkpoint is None else session._journalled(own, checkpoint, units)
            session._answers = own if processes.count() == 1 else processes.SharedAnswers(own)
            session._answers.use(session.codec)
        except BaseException:
            session._let_go()
            session._account.close(failing=True)
            raise
        return session

    @classmethod
    def over_hospitals(
        cls,
        schema: Schema,
        budget: Budget,
        answers: Answers,
        *,
        accounting: Accounting = "gaussian",
        training: TrainingPlan | None = None,
        checkpoint: Checkpoint | None = None,
        per_patient: int = 1,
        kept_back: float = 0.0,
        cells: int = 64,
    ) -> Self:
        """Open a session at the lead of several hospitals: it holds no patient, and asks what stands before them.

        Every hospital has a ledger of its own, in which it debits before it answers; here the same events are paid from
        the same budget once more, so that what a model asks is refused before a hospital is troubled with it.

        Parameters
        ----------
        schema
            Of the joint cohort.
        budget, accounting, training, checkpoint, per_patient, cells
            As for `open`.
        answers
            What reaches the hospitals. Whether the answers protect anybody is for it to say.
        kept_back
            Share of the price that models do not see, for questions that are asked anew (`ask_anew`).

        Returns
        -------
        Session
            Open.

        Raises
        ------
        InputError
            When the schema has values to discover, or the training costs more than the budget.
        """
        schema.check_confirmed()
        if schema.to_discover:
            raise not_linear("discovery of values")
        facts: dict[str, Any] = {"rows": schema.units, "cells": cells, "training": training, "per_patient": per_patient}
        session = cls(schema, budget, accounting, **facts)
        session._elsewhere, session._kept_back = True, kept_back
        if checkpoint is not None and checkpoint.run is not None:
            session._account.resumable = True
            checkpoint.begin({"opened": session._opened()})
        session._answers = answers if checkpoint is None else session._journalled(answers, checkpoint, 0)
        session._answers.use(session.codec)
        return session

    def ask_anew(self) -> None:
        """Pay once more for what was asked last: a hospital did not answer it, and all are asked again.

        Raises
        ------
        BudgetExceeded
            When it costs more than what was kept back for this is left.
        """
        self._account.debit_again(self._kept_back * self._account.rho)

    def forfeit(self, ask: Callable[[], object]) -> None:
        """Pay for a question whose answer was lost before anybody saw it, and answer nothing.

        Parameters
        ----------
        ask
            Asks it of this session, which was opened with a checkpoint.
        """
        journal = processes.own(self._asked)
        journal.forfeit_next(claimed=self._units)
        with contextlib.suppress(Forfeited):
            ask()

    @property
    def is_written(self) -> bool:
        """Whether the answer to the next question is in the checkpoint."""
        return bool(processes.own(self._asked).is_written)

    def _opened(self) -> dict[str, Any]:
        """Return what a run is opened with, for a checkpoint; all of it public."""
        event = None if self.training is None else self.training.event.to_json()
        return {
            "schema": self.schema.to_dict(),
            "epsilon": self.budget.epsilon,
            "delta": self.budget.delta,
            "accounting": self.accounting,
            "training": event,
            "rho": self.rho,
            "cells": self.codec.cells,
            "test_mode": self._test_mode,
        }

    def _take_up(self, checkpoint: Checkpoint, book: Ledger | None) -> int | None:
        checkpoint.begin({"opened": self._opened()})
        return self._account.take_up(book, str((checkpoint.run or {}).get("run", "")), private=not self._test_mode)

    def _journalled(self, own: Any, checkpoint: Checkpoint, units: int | None) -> Journal:
        """Return answers that are written down; a closed run can be replayed but asks nothing new."""
        if processes.number() == 0:
            checkpoint.begin({"run": self._account.run, "opened": self._opened()})
        self._account.resumable = True
        self._checkpoint, self._units = checkpoint, units or 0

        def refuse(_before: int, _after: int) -> None:
            raise closed_run()

        heard = getattr(own, "heard", None)
        return Journal(own, checkpoint, refuse if units is None else self._account.claim, heard)

    def __repr__(self) -> str:
        return f"Session(schema={self.schema.name!r}, budget={self.budget!r}, accounting={self.accounting!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a session holds private values and is not pickled")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()
        self._account.close(failing=error is not None or self._left_out)

    def close(self) -> None:
        """Commit what was spent to the ledger; no more questions. Leaving the ``with`` block does it.

        Raises
        ------
        LedgerError
            When the ledger cannot be written; the reservation then counts in full.
        """
        self._let_go()
        self._account.close(failing=self._left_out)

    def _let_go(self) -> None:
        """Remove the temporary files of a source that keeps some."""
        if self._private_side is not None:
            self._private_side.close()

    @property
    def _left_out(self) -> bool:
        """Whether a run that was taken up did less than it had done before: it stays open then, and counts in full."""
        if self._checkpoint is None or self._answers is None:
            return False
        left_out = bool(processes.own(self._answers).unit < self._units) and processes.number() == 0
        if left_out:
            log.warning("the run did less than before it was taken up; the whole reservation counts as spent")
        return left_out

    @property
    def to_discover(self) -> list[str]:
        """Columns whose values must still be discovered before they can be counted."""
        return list(self.codec.pending)

    @property
    def cap(self) -> int:
        """How many rows a patient may have, here: ``max_rows_per_patient``."""
        return self.schema.max_rows_per_patient if self.schema.patient is not None else 1

    @property
    def per_patient(self) -> int:
        """In how many hospitals a patient may be; 1 where there are not several."""
        return self._per_patient

    @property
    def sensitivity(self) -> int:
        """The most that one patient can add to a marginal, in any norm: rows of a patient, in all hospitals."""
        return self.cap * self._per_patient

    @property
    def rho(self) -> float:
        """The price that questions can pay: that of the whole budget, or what a training leaves."""
        return self._account.rho * (1 - self._kept_back)

    @property
    def rho_left(self) -> float:
        """The price that can still be paid."""
        if self._kept_back == 0:
            return self._account.rho_left
        return max(0.0, self._account.rho_left - self._kept_back * self._account.rho + self._account.paid_again)

    @property
    def training(self) -> TrainingPlan | None:
        """The training that the session was opened for."""
        return self._account.training

    @property
    def events(self) -> list[Event]:
        """What was asked so far, identical questions grouped."""
        return grouped(self._account.events)

    @property
    def private(self) -> bool:
        """Whether the answers protect anybody; False in test mode."""
        return (self._private_side is not None or self._elsewhere) and self._asked.private

    def statement(self) -> dict[str, Any]:
        """Return everything that ``privacy.json`` needs; all of it is public.

        Returns
        -------
        dict
            JSON-able.

        Raises
        ------
        InputError
            When the session was not made by `open`.
        """
        return statement(
            schema=self.schema,
            budget=self.budget,
            accounting=self.accounting,
            rho=self.rho,
            training=self.training,
            reserved_delta=self._account.delta_for_discovery,
            events=self._account.events,
            private=self.private,
            randomness=self._asked.randomness,
            earlier=self._account.earlier,
            rows_public=self.rows is not None,
        )

    @property
    def _asked(self) -> Answers:
        if self._answers is None:
            raise InputError("session: use Session.open.")
        return self._answers


def _answers(cohort: Cohort | ScannedCohort, cap: int, noise: LatticeNoise, sharing: Sharing | None) -> PrivateAnswers:
    if sharing is None:
        return PrivateAnswers(cohort, cap, noise)
    return ShareAnswers(cohort, cap, noise, sharing)


def _check_sums(cohort: Cohort | ScannedCohort, training: TrainingPlan | None) -> None:
    """Refuse a training on patients who are not on this machine, before anything is spent."""
    if training is not None and isinstance(cohort, ScannedCohort) and cohort.sums_only:
        raise InputError(
            "training: patients of a table on Spark stay on the cluster, which gives sums alone; scan files instead."
        )


def _check_patients(cohort: Cohort | ScannedCohort) -> None:
    """Refuse private rows of which nobody knows whose they are."""
    patient = cohort.schema.patient
    if patient is not None and patient not in cohort.columns and not cohort.public:
        raise InputError(
            f"patient: the cohort has no column {patient!r}, so whose rows are whose is not known. Read it with that "
            "column; rows that are public, such as synthetic ones, with public=True."
        )
