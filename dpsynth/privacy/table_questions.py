"""Questions about the table: counts, interactions, errors, selections, quantiles, discovery of values."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpsynth.coding.query import Query
from dpsynth.errors import InputError
from dpsynth.privacy import checks
from dpsynth.privacy.answers import MAX_ERROR, SCORE_MARGIN
from dpsynth.privacy.asked import Asking
from dpsynth.privacy.spending.events import Event
from dpsynth.privacy.tables.discovery import check_publishable, key_threshold, most_frequent
from dpsynth.privacy.tables.noisy import NoisyCounts, NoisyInteraction
from dpsynth.privacy.tables.quantiles import boundaries, tree_queries


class TableQuestions(Asking):
    """Questions about the rows of a cohort; each is checked and paid for before the data is looked at.

    Examples
    --------
    >>> import pandas as pd
    >>> from dpsynth.cohort.cohort import Cohort
    >>> from dpsynth.privacy import Budget, Session
    >>> from dpsynth.privacy.tables.counting import fine_query
    >>> from dpsynth.schema.schema import Schema
    >>> columns = "{smoker: {type: boolean}, age: {type: numeric, min: 0, max: 99}}"
    >>> facts = f"{{name: ward, confirmed: true, columns: {columns}}}"
    >>> ages = pd.DataFrame({"smoker": [True, False] * 50, "age": range(100)})
    >>> cohort = Cohort.from_pandas(ages, Schema.parse(facts), public=True)
    >>> with Session.open(cohort, Budget(1, 1e-6), seed=1) as session:
    ...     smokers = fine_query(["smoker"], session.codec.shape)
    ...     rho = session.rho / 4
    ...     counts, = session.count([smokers], [rho])
    ...     errors = session.marginal_errors([smokers], [[50, 50]], rho)
    ...     worst = session.select([smokers], [[50, 50]], [0.0], rho)
    ...     cuts = session.quantiles("age", 2, rho)
    >>> counts.counts.shape, round(counts.sigma, 1), len(errors), worst
    ((2,), 8.4, 1, [0])
    """

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
        sigmas = [checks.noise_scale(self.sensitivity, rho) for rho in rhos]
        checks.queries_fit(queries, self.codec)
        self._account.debit(
            [
                Event("gaussian", checks.describe("counts of ", q), self.sensitivity, sigma)
                for q, sigma in zip(queries, sigmas, strict=True)
            ]
        )
        counts = self._asked.counts(queries, sigmas)
        return [
            NoisyCounts(q.columns, c, s, float(r)) for q, c, s, r in zip(queries, counts, sigmas, rhos, strict=True)
        ]

    def interactions(self, queries: Sequence[Query], rhos: Sequence[float]) -> list[NoisyInteraction]:
        """Measure the interaction of marginals: the part of each table whose every margin is 0.

        Where the margins are known from elsewhere this costs less than `count` for the same noise: a row adds a vector
        of L2 norm ``sqrt(prod(1 - 1/k))`` for axes of k cells instead of 1 (derived in `dpsynth.privacy.answers`).

        Parameters
        ----------
        queries
            Marginals of one column or more, each with at least 2 cells along every axis.
        rhos
            What each may cost.

        Returns
        -------
        list of NoisyInteraction
            Noise has standard deviation ``max_rows_per_patient sqrt(prod(1 - 1/k) / (2 rho))`` in each cell.

        Raises
        ------
        InputError, BudgetExceeded
            As `count`.
        """
        if len(queries) != len(rhos) or not all(q.columns and min(q.shape) > 1 for q in queries):
            raise InputError("interactions: expected one price a query, and queries with 2 cells or more on each axis.")
        norms = [self.sensitivity * math.sqrt(math.prod(1 - 1 / k for k in q.shape)) for q in queries]
        sigmas = [checks.noise_scale(norm, rho) for norm, rho in zip(norms, rhos, strict=True)]
        checks.queries_fit(queries, self.codec)
        self._account.debit(
            [
                Event("gaussian", checks.describe("interaction of ", q), norm, sigma)
                for q, norm, sigma in zip(queries, norms, sigmas, strict=True)
            ]
        )
        tables = self._asked.interactions(queries, sigmas)
        return [
            NoisyInteraction(q.columns, t, s, float(r))
            for q, t, s, r in zip(queries, tables, sigmas, rhos, strict=True)
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
        checks.queries_fit(queries, self.codec)
        tables = checks.expectations(queries, expected)
        fines = checks.numbers("penalties", penalties, m, -MAX_ERROR, MAX_ERROR)
        scales = checks.numbers("weights", np.ones(m) if weights is None else weights, m, 1e-9, 1e9)
        sensitivity = (self.sensitivity + SCORE_MARGIN) * float(scales.max())
        scale = checks.selection_scale(sensitivity, rho / k, self.accounting)
        self._account.debit([Event("selection", f"the worst modelled of {m} marginals", sensitivity, scale, count=k)])
        return self._asked.best(queries, tables, fines, scales, scale=scale, k=k)

    def marginal_errors(self, queries: Sequence[Query], expected: Sequence[ArrayLike], rho: float) -> list[float]:
        """Measure how far marginals are from what a model expects: ``|M_i(D) - expected_i|_1`` for all i.

        One patient moves each by at most ``max_rows_per_patient``, so the vector by ``sqrt(m)`` times that (L2).

        Parameters
        ----------
        queries
            The marginals.
        expected
            For each query an array of its shape, in rows.
        rho
            The price of the whole call.

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
        checks.queries_fit(queries, self.codec)
        tables = checks.expectations(queries, expected)
        sensitivity = self.sensitivity * math.sqrt(m)
        sigma = checks.noise_scale(sensitivity, rho)
        self._account.debit([Event("gaussian", f"L1 errors of {m} modelled marginals", sensitivity, sigma)])
        return self._asked.errors(queries, tables, sigma)

    def quantiles(self, column: str, k: int, rho: float) -> NDArray[np.int64]:
        """Find k quantiles of a column with ordered cells, on its public grid.

        A dyadic tree of counts: each of its ``ceil(log2(cells)) + 1`` levels is a marginal that costs an equal part.

        Parameters
        ----------
        column
            A column with ordered cells.
        k
            How many quantiles, at least 1.
        rho
            The price of the whole tree.

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
        levels = self.count(queries, [checks.price(rho) / len(queries)] * len(queries))
        return boundaries([level.counts for level in levels], code.ordered, k)

    def discover(self, column: str, rho: float, delta: float | None = None) -> list[Any]:
        """Find the values of a column declared ``discover: true``; they become part of the codec.

        Values whose noisy count reaches a threshold are released (derived in `key_threshold`); of these the
        ``max_values`` most frequent, sorted by value so that their order tells nothing.

        Parameters
        ----------
        column
            A column of `to_discover`.
        rho
            The price of the noisy counts.
        delta
            Probability that a value of one patient alone is released; by default an equal part of the half of the
            budget's delta that is reserved for it.

        Returns
        -------
        list
            The values, at most ``max_values``, in their own order.

        Raises
        ------
        InputError
            When the column is not one to discover, was discovered already, or most of its values turn out to be written
            like identifiers (UUIDs, e-mail addresses and so on).
        BudgetExceeded
            When rho or delta is more than is left; nothing was looked at.
        """
        if column not in self.to_discover:
            raise InputError(f"discover: column {column!r} is not declared so, or its values are known already.")
        share = self._account.delta_for_discovery / self._columns_to_discover if delta is None else delta
        if not 0 < share < 1:
            raise InputError(f"discover: column {column!r}, found delta {share}, expected a number in (0, 1).")
        sigma = checks.noise_scale(self.sensitivity, rho)
        self._account.debit([Event("gaussian", f"values of {column}", self.sensitivity, sigma, delta=share)])
        counts = self._asked.keys(column, sigma, key_threshold(self.sensitivity, sigma, share))
        values = most_frequent(counts, getattr(self.schema.columns[column], "max_values", None) or len(counts))
        check_publishable(column, values)
        self.codec = self.codec.with_discovered({column: values})
        self._asked.use(self.codec)
        return values
