"""On which side of a split the patients of a source are, told row by row by a secret coin of each patient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

__all__ = ["Side"]


@dataclass(frozen=True)
class Side:
    """One side of a split of patients.

    Parameters
    ----------
    toss
        Returns (rows,) the coin of each row's patient, in [0, 1), such as `dpsynth.evaluation.Coins.toss`. With a
        patient column it may hang on that column alone; without, on a row's values and its number among equal rows.
    share
        Expected share of patients who are held out, in (0, 1).
    is_held_out
        Whether it is the side of those, or of those who train.

    Notes
    -----
    Privacy contract: a patient's side depends on the secret behind the coins and on this patient alone, so the two
    sides of neighbouring cohorts differ by one patient at most, on one side.
    """

    toss: "Callable[[Cohort], NDArray[np.float64]]"
    share: float
    is_held_out: bool

    def __repr__(self) -> str:
        return f"Side(share={self.share:g}, is_held_out={self.is_held_out})"

    def __reduce__(self) -> Any:
        raise TypeError("the coins of patients are not pickled")

    def chosen(self, cohort: "Cohort") -> NDArray[np.bool_]:
        """Return (rows,) whether each row's patient is on this side."""
        return np.asarray((self.toss(cohort) < self.share) == self.is_held_out, dtype=np.bool_)
