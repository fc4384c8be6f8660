"""Totals of a ledger: what all runs on a dataset spent together, and whether one more stays within the limit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dpsynth.errors import BudgetExceeded
from dpsynth.privacy.spending.accounting import epsilon_at, rho_for
from dpsynth.privacy.spending.budget import MIN_EPSILON, Budget
from dpsynth.privacy.spending.events import Accounting, Event
from dpsynth.privacy.spending.ledger_records import Run


@dataclass(frozen=True)
class Spent:
    """A dataset's total over all runs, as (epsilon, delta), and how many runs there were.

    Attributes
    ----------
    epsilon, delta
        All runs together are (epsilon, delta)-DP; delta is the limit's.
    runs, open_runs, test_runs
        How many there were; of these, how many did not commit (they count with all that they reserved), and how many
        were made with a fixed seed (the total protects nobody if anything that they made was published).
    added
        The sums of the granted epsilons and deltas where a training is among several runs, else None: they hold however
        later runs were chosen.
    unnamed
        Runs that did not record which column told patients apart; they count as runs of the same column as the others.
    delta_spent
        The part of the limit's delta that is used up (the discovery of values, and runs that are added as they were
        granted), a probability: epsilon is found at what is left of it.
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
        """Return which of a limit's two numbers, ``"epsilon"`` or ``"delta"``, is used up further.

        Parameters
        ----------
        limit
            The dataset's limit.

        Returns
        -------
        str
            ``"epsilon"`` or ``"delta"``.

        Examples
        --------
        >>> Spent(epsilon=0.5, delta=1e-6, runs=1, open_runs=0, test_runs=0).ends_first(Budget(1, 1e-6))
        'epsilon'
        """
        return "delta" if self.delta_spent / limit.delta > self.epsilon / limit.epsilon else "epsilon"


def _common_accounting(runs: Sequence[Run]) -> Accounting:
    """Return the accounting in which all runs are added; which one a run uses is public and fixed in advance."""
    return "gaussian" if _trained(runs) or all(r.accounting == "gaussian" for r in runs) else "zcdp"


def total_epsilon(runs: Sequence[Run], delta: float) -> float:
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


def spent_by(runs: Sequence[Run], limit: Budget) -> Spent:
    """Return the total of some runs on a dataset, at the delta of its limit."""
    epsilon = total_epsilon(runs, limit.delta)
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


def check_limit(runs: Sequence[Run], run: Run, limit: Budget) -> None:
    """Refuse a run with which the dataset's total, or with a training the sum of the epsilons, would pass its limit."""
    added = _added([*runs, run])
    asked = max(total_epsilon([*runs, run], limit.delta), 0.0 if added is None else added[0])
    if asked <= limit.epsilon * (1 + 1e-9):
        return
    spent = spent_by(runs, limit)
    with_all_delta = total_epsilon([*runs, run], limit.delta + _delta_spent([*runs, run]))
    if added is None and with_all_delta <= limit.epsilon * (1 + 1e-9):
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
