"""A session: a private cohort that is opened under a budget and answers noisy questions until the budget is spent.

Every question is checked and debited before the data is looked at. Nothing that a session says, raises or logs
depends on the data in any way that was not paid for; in particular it never tells how many rows there are.
"""

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpsynth.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.errors import BudgetExceeded, InputError, LedgerError
from dpsynth.privacy import accounting as prices
from dpsynth.privacy.accounting import Accounting, Event
from dpsynth.privacy.answers import MAX_ERROR, SCORE_MARGIN, UNIT, Answers, PrivateAnswers, key_threshold
from dpsynth.privacy.budget import Budget
from dpsynth.privacy.counting import Query
from dpsynth.privacy.ledger import Ledger, Spent
from dpsynth.privacy.mechanisms import MAX_SIGMA, MIN_SIGMA, Floats, Integers, SeededNoise, SystemNoise
from dpsynth.privacy.quantiles import boundaries, tree_queries
from dpsynth.privacy.statement import statement
from dpsynth.schema import Schema

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class NoisyCounts:
    """A marginal's noisy counts: public.

    Parameters
    ----------
    columns
        The marginal's columns.
    counts
        int64 array of the query's shape; entries may be negative.
    sigma
        Standard deviation of the noise in each cell, in rows.
    rho
        What it cost.
    """

    columns: tuple[str, ...]
    counts: Integers
    sigma: float
    rho: float


class Session:
    """Questions to a private cohort; made by `Session.open`, used in a ``with`` block.

    Privacy contract: all answers together are (epsilon, delta)-DP for adding or removing one patient with all of
    their rows, with the budget that the session was opened under, however the questions depend on earlier answers.

    Attributes
    ----------
    schema, budget, accounting
        What it was opened with.
    rho
        The price that the whole budget can pay.
    rows
        The number of rows, only where it is public; else None.
    codec
        The codec of the cohort; `discover` replaces it by one that knows more values.
    """

    def __init__(self, schema: Schema, budget: Budget, accounting: Accounting, *, rows: int | None, cells: int) -> None:
        """Use `Session.open`."""
        self.schema = schema
        self.budget = budget
        self.accounting = accounting
        self.rows = rows
        self.delta_for_discovery = budget.delta / 2 if _to_discover(schema) else 0.0
        self.rho = prices.rho_for(budget, accounting, reserved_delta=self.delta_for_discovery)
        self.codec = Codec(schema, cells=cells)
        self._answers: Answers | None = None
        self._ledger: Ledger | None = None
        self._earlier: Spent | None = None
        self._run = ""
        self._events: list[Event] = []
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        cohort: Cohort,
        budget: Budget,
        *,
        accounting: Accounting = "gaussian",
        ledger: Ledger | None = None,
        label: str = "",
        seed: int | None = None,
        train_rows: NDArray[np.integer[Any]] | None = None,
        cells: int = 64,
        answers: Answers | None = None,
    ) -> Self:
        """Reserve a budget in the ledger, then take the cohort in: rows over the patient cap are dropped, rows coded.

        Parameters
        ----------
        cohort
            The private cohort.
        budget
            The whole budget of everything that this session will ever answer.
        accounting
            ``"gaussian"`` (exact; selections cost more) or ``"zcdp"``; see `dpsynth.privacy.accounting`.
        ledger
            Where spending on this dataset is kept. Default: beside the file that the cohort was read from; a public
            cohort needs none.
        label
            A name for the run in the ledger.
        seed
            Test mode: repeatable noise, and everything is stamped *not private*.
        train_rows
            Use only these rows (the others are held out for evaluation).
        cells
            Fine cells of a numeric column.
        answers
            Test hook: answers from elsewhere (a tape) in place of the data, stamped *not private*.

        Raises
        ------
        SchemaError
            When nobody has confirmed the schema.
        InputError
            When a private cohort from a data frame comes without a ledger.
        BudgetExceeded, LedgerError
            When the ledger refuses; nothing was looked at.
        """
        cohort.schema.check_confirmed()
        book = ledger if ledger is not None else _ledger_of(cohort)
        session = cls(cohort.schema, budget, accounting, rows=_public_rows(cohort, train_rows), cells=cells)
        session._reserve(book, label, private=seed is None and answers is None)
        try:
            session._answers = answers or PrivateAnswers(
                cohort, session.sensitivity, SystemNoise() if seed is None else SeededNoise(seed), train_rows
            )
            session._answers.use(session.codec)
        except BaseException:
            session._close(failing=True)
            raise
        return session

    def __repr__(self) -> str:
        return f"Session(schema={self.schema.name!r}, budget={self.budget!r}, accounting={self.accounting!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a session holds private values and is not pickled")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(failing=error is not None)

    def close(self) -> None:
        """Commit what was spent to the ledger; no more questions. Leaving the ``with`` block does it."""
        self._close(failing=False)

    # -- public facts -------------------------------------------------------------------------------------------------

    @property
    def to_discover(self) -> list[str]:
        """Columns whose values must still be discovered before they can be counted."""
        return list(self.codec.pending)

    @property
    def sensitivity(self) -> int:
        """The most that one patient can add to a marginal, in any norm: ``max_rows_per_patient``."""
        return self.schema.max_rows_per_patient if self.schema.patient is not None else 1

    @property
    def rho_left(self) -> float:
        """The price that can still be paid."""
        return max(0.0, self.rho - prices.total_price(self._events, self.accounting))

    @property
    def events(self) -> list[Event]:
        """What was asked so far."""
        return prices.grouped(self._events)

    @property
    def private(self) -> bool:
        """Whether the answers protect anybody; False in test mode."""
        return isinstance(self._answers, PrivateAnswers) and self._answers.private

    def statement(self) -> dict[str, Any]:
        """Return everything that ``privacy.json`` needs; all of it is public."""
        return statement(
            schema=self.schema,
            budget=self.budget,
            accounting=self.accounting,
            rho=self.rho,
            reserved_delta=self.delta_for_discovery,
            events=self._events,
            private=self.private,
            randomness=self._asked.randomness,
            earlier=self._earlier,
            rows_public=self.rows is not None,
        )

    # -- questions ----------------------------------------------------------------------------------------------------

    def count(self, queries: Sequence[Query], rhos: Sequence[float]) -> list[NoisyCounts]:
        """Count marginals.

        Parameters
        ----------
        queries
            What to count; a query without columns is the number of rows.
        rhos
            What each may cost.

        Returns
        -------
        list of NoisyCounts
            Each cell with integer Gaussian noise of standard deviation ``max_rows_per_patient / sqrt(2 rho)``.

        Raises
        ------
        InputError
            When a query does not fit the codec or a price is not a positive number.
        BudgetExceeded
            When all of them together cost more than is left; nothing was looked at.
        """
        if len(queries) != len(rhos):
            raise InputError(f"count: found {len(queries)} queries and {len(rhos)} prices, expected one for each.")
        sigmas = [self._sigma(self.sensitivity, rho) for rho in rhos]
        self._check(queries)
        self._debit(
            [
                Event("gaussian", _describe("counts of ", q), self.sensitivity, sigma)
                for q, sigma in zip(queries, sigmas, strict=True)
            ]
        )
        counts = self._asked.counts(queries, sigmas)
        return [
            NoisyCounts(q.columns, c, s, float(r)) for q, c, s, r in zip(queries, counts, sigmas, rhos, strict=True)
        ]

    def select(
        self,
        queries: Sequence[Query],
        expected: Sequence[ArrayLike],
        penalties: ArrayLike,
        rho: float,
        *,
        k: int = 1,
        weights: ArrayLike | None = None,
    ) -> list[int]:
        """Find the marginals that are furthest from what a model expects.

        The score of query i is ``w_i (|M_i(D) - expected_i|_1 - penalty_i)``. One patient moves it by at most
        ``max_rows_per_patient max(w)``, up or down (derived in `dpsynth.privacy.answers`): it is not monotone, so the
        exponential mechanism at ``eps`` draws with probability proportional to ``exp(eps score / (2 sensitivity))``.

        Parameters
        ----------
        queries, expected, penalties, weights
            Candidates; for each an array of its shape, a number of patients and a positive weight (default 1).
        rho
            What the whole call may cost.
        k
            How many to pick, without repetition; each costs ``rho / k``.

        Returns
        -------
        list of int
            Positions of the picked queries, best first.

        Raises
        ------
        InputError, BudgetExceeded
            As `count`.
        """
        m = len(queries)
        if not 1 <= k <= m:
            raise InputError(f"select: found k = {k} and {m} queries, expected k from 1 to their number.")
        self._check(queries)
        tables = _expectations(queries, expected)
        fines = _numbers("penalties", penalties, m, -MAX_ERROR, MAX_ERROR)
        scales = _numbers("weights", np.ones(m) if weights is None else weights, m, 1e-9, 1e9)
        sensitivity = (self.sensitivity + SCORE_MARGIN) * float(scales.max())
        scale = 2 * sensitivity / prices.selection_epsilon(_price(rho) / k, self.accounting)
        self._debit([Event("selection", f"the worst modelled of {m} marginals", sensitivity, scale, count=k)])
        return self._asked.best(queries, tables, fines, scales, scale=scale, k=k)

    def marginal_errors(self, queries: Sequence[Query], expected: Sequence[ArrayLike], rho: float) -> list[float]:
        """Measure how far marginals are from what a model expects: ``|M_i(D) - expected_i|_1`` for all i.

        One patient moves each by at most ``max_rows_per_patient``, so the vector by ``sqrt(m)`` times that (L2).

        Returns
        -------
        list of float
            Noisy L1 errors, in rows and multiples of 1/256; may be negative.

        Raises
        ------
        InputError, BudgetExceeded
            As `count`.
        """
        m = len(queries)
        if m == 0:
            return []
        self._check(queries)
        tables = _expectations(queries, expected)
        sensitivity = self.sensitivity * math.sqrt(m)
        sigma = self._sigma(sensitivity, rho)
        self._debit([Event("gaussian", f"L1 errors of {m} modelled marginals", sensitivity, sigma)])
        return self._asked.errors(queries, tables, sigma)

    def quantiles(self, column: str, k: int, rho: float) -> NDArray[np.int64]:
        """Find k quantiles of a column with ordered cells, on its public grid.

        A dyadic tree of counts: each of its ``ceil(log2(cells)) + 1`` levels is a marginal that costs an equal part.

        Returns
        -------
        int64 array
            At most k increasing cell boundaries; b stands between fine codes b - 1 and b.

        Raises
        ------
        InputError
            When the column has no ordered cells, or as `count`.
        BudgetExceeded
            As `count`.
        """
        code = self.codec.columns.get(column)
        if code is None or code.ordered < 2 or k < 1:
            raise InputError(f"quantiles: column {column!r} with k = {k}; expected an ordered column and k from 1.")
        queries = tree_queries(column, code.size, code.ordered)
        levels = self.count(queries, [_price(rho) / len(queries)] * len(queries))
        return boundaries([level.counts for level in levels], code.ordered, k)

    def discover(self, column: str, rho: float, delta: float | None = None) -> list[Any]:
        """Find the values of a column declared ``discover: true``; they become part of the codec.

        Values whose noisy count reaches a threshold are released (derived in `key_threshold`); of these the
        ``max_values`` most frequent, sorted by value so that their order tells nothing.

        Parameters
        ----------
        column
            The column.
        rho
            What it may cost.
        delta
            Probability that a value of one patient alone is released; by default an equal part of the half of the
            budget's delta that is reserved for it.

        Raises
        ------
        InputError
            When the column is not one to discover, or was discovered already.
        BudgetExceeded
            When rho or delta is more than is left; nothing was looked at.
        """
        if column not in self.to_discover:
            raise InputError(f"discover: column {column!r} is not declared so, or its values are known already.")
        share = self.delta_for_discovery / len(_to_discover(self.schema)) if delta is None else delta
        if not 0 < share < 1:
            raise InputError(f"discover: column {column!r}, found delta {share}, expected a number in (0, 1).")
        sigma = self._sigma(self.sensitivity, rho)
        self._debit([Event("gaussian", f"values of {column}", self.sensitivity, sigma, delta=share)])
        found = self._asked.keys(column, sigma, key_threshold(self.sensitivity, sigma, share))
        limit = getattr(self.schema.columns[column], "max_values", None) or len(found)
        largest = sorted(found, key=lambda pair: (-pair[1], _order(pair[0])))[:limit]
        values = sorted((value for value, _ in largest), key=_order)
        self.codec = self.codec.with_discovered({column: values})
        self._asked.use(self.codec)
        return values

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _asked(self) -> Answers:
        if self._answers is None:
            raise InputError("session: use Session.open.")
        return self._answers

    def _sigma(self, sensitivity: float, rho: float) -> float:
        sigma = prices.gaussian_scale(sensitivity, _price(rho))
        if not MIN_SIGMA <= sigma <= MAX_SIGMA / UNIT:
            raise InputError(f"rho: found {rho:g}, which asks for noise of {sigma:g}; expected something in between.")
        return sigma

    def _check(self, queries: Sequence[Query]) -> None:
        """Check queries against the codec: public facts only."""
        columns = self.codec.columns
        for query in queries:
            for name, mapping in zip(query.columns, query.maps, strict=True):
                if name not in columns:
                    known = "is still to be discovered" if name in self.to_discover else "is not a modelled column"
                    raise InputError(f"query: {name!r} {known}.")
                if len(mapping) != columns[name].size:
                    raise InputError(
                        f"query: the map of {name!r} has {len(mapping)} entries, expected {columns[name].size}."
                    )

    def _debit(self, events: Sequence[Event]) -> None:
        """Pay for all of the events or for none; the data is looked at only afterwards."""
        with self._lock:
            if self._closed:
                raise BudgetExceeded("this session is closed: open another one, which needs a budget of its own.")
            after = [*self._events, *events]
            price, delta = prices.total_price(after, self.accounting), prices.total_delta(after)
            if price > self.rho * (1 + prices.ROUNDING):
                asked = prices.total_price(events, self.accounting)
                raise BudgetExceeded(
                    f"the question costs rho {asked:.6g} and {self.rho_left:.6g} of {self.rho:.6g} is left; nothing "
                    "was looked at. Ask less, or open the session with a larger epsilon."
                )
            if delta > self.delta_for_discovery * (1 + prices.ROUNDING):
                raise BudgetExceeded("discovery asks for more delta than was reserved for it; nothing was looked at.")
            self._events.extend(events)

    def _reserve(self, ledger: Ledger | None, label: str, *, private: bool) -> None:
        """Write the whole budget into the ledger before anything is read."""
        if ledger is None:
            return
        self._earlier = ledger.spent()
        self._run = ledger.reserve(
            self.budget,
            accounting=self.accounting,
            rho=self.rho,
            extra_delta=self.delta_for_discovery,
            unit="row" if self.schema.patient is None else "patient",
            label=label,
            private=private,
        )
        self._ledger = ledger

    def _close(self, *, failing: bool) -> None:
        """Commit once. While another error is on its way, one of the ledger is only logged: the reservation counts."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._ledger is None:
            return
        try:
            self._ledger.commit(self._run, self._events)
        except LedgerError:
            if not failing:
                raise
            log.warning("the ledger could not be written at the end; the whole reservation counts as spent")


def _to_discover(schema: Schema) -> list[str]:
    return [c for c in schema.modelled if getattr(schema.columns[c], "discover", False)]


def _public_rows(cohort: Cohort, train_rows: NDArray[np.integer[Any]] | None) -> int | None:
    """Return the number of rows where it is public: declared, and not changed by a split of patients with many rows."""
    if cohort.schema.rows is None or train_rows is None:
        return cohort.schema.rows
    return len(train_rows) if cohort.schema.patient is None or cohort.schema.max_rows_per_patient == 1 else None


def _ledger_of(cohort: Cohort) -> Ledger | None:
    if cohort.public:
        return None
    if cohort.source is None:
        raise InputError(
            "ledger: this private cohort came from a data frame, so there is no file beside which to keep what is "
            "spent on it. Pass ledger=Ledger('cohort.ledger.jsonl') and use that one file for every run on these data."
        )
    return Ledger.beside(cohort.source)


def _price(rho: float) -> float:
    if not (math.isfinite(rho) and rho > 0):
        raise InputError(f"rho: found {rho}, expected a positive number.")
    return float(rho)


def _numbers(name: str, values: ArrayLike, m: int, low: float, high: float) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (m,) or not np.isfinite(array).all() or array.min() < low or array.max() > high:
        raise InputError(f"select: {name} must be {m} numbers from {low:g} to {high:g}.")
    return array


def _expectations(queries: Sequence[Query], expected: Sequence[ArrayLike]) -> list[Floats]:
    tables = [np.asarray(e, dtype=np.float64) for e in expected]
    if [t.shape for t in tables] != [q.shape for q in queries]:
        raise InputError("expected: one array of its query's shape for each query.")
    if not all(np.isfinite(t).all() and np.abs(t).sum() <= MAX_ERROR for t in tables):
        raise InputError(f"expected: finite counts with a sum of at most {MAX_ERROR}.")
    return tables


def _describe(start: str, query: Query) -> str:
    return start + " x ".join(query.columns) if query.columns else "number of rows"


def _order(value: Any) -> tuple[str, str]:
    return type(value).__name__, str(value)
