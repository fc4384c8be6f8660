"""The terms of an evaluation: the split of patients, seeds, sizes, and what may be published."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from dpsynth.errors import InputError
from dpsynth.evaluation.coins import Coins
from dpsynth.evaluation.result import Disclosure
from dpsynth.progress import Progress

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.sources.scanned import ScannedCohort

__all__ = ["Margins", "Progress", "Protocol", "split"]


#: Rows times marginals of one order that are counted for one arm.
COUNTED = 200_000_000


@dataclass(frozen=True)
class Margins:
    """How far a synthetic cohort may fall short and still be called good enough; chosen before looking.

    Parameters
    ----------
    tvd : float
        Mean TVD beyond that of two real halves, for tables of one and of two columns.
    loss : float
        Loss of AUROC (of R² for a numeric target) against the real-trained model, overall and in each group.
    share : float
        Ratio by which a group's share may be wrong, in either direction.
    calibration : float
        Distance of the calibration slope from 1, and of the calibration intercept from 0.
    """

    tvd: float = 0.05
    loss: float = 0.05
    share: float = 1.25
    calibration: float = 0.2


@dataclass(frozen=True)
class Protocol:
    """The settings that hold for every metric of one evaluation: seeds, sizes, levels and margins.

    Parameters
    ----------
    seed : int
        Draws subsets, jackknife groups, bootstrap draws and the learners' randomness.
    disclosure : Disclosure
        Of results that touch real patients: public only where these are public.
    level : float
        Nominal coverage of intervals.
    draws : int
        Bootstrap draws, fewer for many rows.
    rows : int
        Cohorts with more rows are subsampled by patient for training and testing.
    rows_counted : int
        The same for tables of counts and distances.
    marginals : int
        Marginals of one order that are counted; a random subset where there are more.
    smallest : int
        Rates of a group need as many patients with and without the outcome.
    margins : Margins
    """

    seed: int = 0
    disclosure: Disclosure = Disclosure.INTERNAL
    level: float = 0.95
    draws: int = 1000
    rows: int = 50_000
    rows_counted: int = 200_000
    marginals: int = 5_000
    smallest: int = 10
    margins: Margins = field(default_factory=Margins)

    def marginals_for(self, rows: int) -> int:
        """Return how many marginals of one order to count in cohorts of this size: fewer in large ones."""
        return max(200, min(self.marginals, COUNTED // max(rows, 1)))


@overload
def split(
    cohort: "Cohort", test: float | None = None, *, key: Coins | str | None = None
) -> tuple["Cohort", "Cohort"]: ...
@overload
def split(
    cohort: "ScannedCohort", test: float | None = None, *, key: Coins | str | None = None
) -> tuple["ScannedCohort", "ScannedCohort"]: ...
def split(cohort: Any, test: float | None = None, *, key: Coins | str | None = None) -> tuple[Any, Any]:
    """Divide a cohort into training and test patients: which side each is on is an independent coin of that patient.

    Formal guarantee: on which side a patient falls depends on no other patient, so those who are trained on differ by
    at most one patient where the cohorts do.

    Parameters
    ----------
    cohort : Cohort or ScannedCohort
        Of a source nothing is read here: each side reads its own patients.
    test : float, optional
        Expected share of test patients, in (0, 1); default: that of `key` where it has one, else 0.3.
    key : Coins or str, optional
        Default: a new secret of the operating system, which is not kept: nobody can repeat the division. Kept coins
        (`Coins.draw`, `Coins.read`) repeat it. A text repeats it too, for everybody who knows the text: for public data
        only. A patient's side depends on the key and their identifier only; without a patient column, a row's side on
        its values, images and number among equal rows, so that equal rows have independent sides.

    Returns
    -------
    tuple of Cohort, or of ScannedCohort
        Training and test patients; no patient is in both.

    Raises
    ------
    InputError
        If `test` is not in (0, 1), one side would be empty, or coins were kept for other rows or another share.

    Examples
    --------
    >>> from dpsynth.datasets import load_support2
    >>> train, test = split(load_support2(), 0.3, key="public data")
    >>> round(len(test) / (len(train) + len(test)), 1)
    0.3
    """
    coins = Coins.of_text(key) if isinstance(key, str) else key or Coins.draw()
    share = test if test is not None else coins.share or 0.3
    if not 0 < share < 1:
        raise InputError(f"test share {share}: must lie between 0 and 1.")
    if coins.unit is not None:
        coins.bound(cohort, share)
    if hasattr(cohort, "on_side"):
        return tuple(cohort.on_side(side) for side in coins.sides(share))
    chosen = coins.toss(cohort) < share
    if chosen.all() or not chosen.any():
        raise InputError("the cohort has too few patients to be divided; give separate files instead.")
    return cohort.take(np.flatnonzero(~chosen)), cohort.take(np.flatnonzero(chosen))
