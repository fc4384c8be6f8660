"""The terms of an evaluation: the split of patients, seeds, sizes, and what may be published."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.evaluation.results import Disclosure
from dpsynth.evaluation.table import Floats
from dpsynth.row_keys import row_keys

if TYPE_CHECKING:
    from dpsynth.cohort import Cohort
    from dpsynth.imaging import ImageSet

__all__ = ["Margins", "Progress", "Protocol", "split"]

Progress = Callable[[str, float], None]
"""Called with the name of the phase and the share of it that is done, 0 to 1."""


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
    """What holds for every metric of one evaluation.

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


def split(cohort: "Cohort", test: float = 0.3, *, key: str = "dpsynth") -> tuple["Cohort", "Cohort"]:
    """Divide a cohort into training and test patients by a keyed hash of the patient.

    Formal guarantee: on which side a patient falls depends on no other patient, so those who are trained on differ by
    at most one patient where the cohorts do.

    Parameters
    ----------
    cohort : Cohort
    test : float
        Expected share of test patients, in (0, 1).
    key : str
        Another key gives another division. With a patient column, a patient's side depends on the key and their
        identifier only: not on the order of rows, nor on who else is there. Without one, on the row's values and
        images, so that equal rows fall on one side.

    Returns
    -------
    tuple of Cohort
        Training and test patients; no patient is in both.

    Raises
    ------
    InputError
        If `test` is not in (0, 1), or one side would be empty.
    """
    if not 0 < test < 1:
        raise InputError(f"test share {test}: must lie between 0 and 1.")
    chosen = _uniform(_identities(cohort), key) < test
    if chosen.all() or not chosen.any():
        raise InputError("the cohort has too few patients to be divided; give separate files instead.")
    return cohort.take(np.flatnonzero(~chosen)), cohort.take(np.flatnonzero(chosen))


def _identities(cohort: "Cohort") -> NDArray[np.uint64]:
    """Return a 64-bit number per row that depends on its patient only; without a patient column, on the row only."""
    patient = cohort.schema.patient
    if patient in cohort.columns:
        return row_keys(cohort, [patient])
    keys = row_keys(cohort, cohort.columns)
    return keys if cohort.images is None else keys ^ _of_images(cohort.images, len(cohort))


def _of_images(images: "ImageSet", rows: int) -> NDArray[np.uint64]:
    """Return a 64-bit number per row that depends on its images only."""
    hashed = [hashlib.blake2b(pixels.tobytes(), digest_size=8).digest() for pixels in images.pixels]
    found = np.zeros(rows, dtype=np.uint64)
    np.add.at(found, images.row, np.frombuffer(b"".join(hashed), dtype=np.uint64))  # the order of images is no matter
    return found


def _uniform(identities: NDArray[np.uint64], key: str) -> Floats:
    """Return a number in [0, 1) per identity: the keyed BLAKE2b hash of each different one."""
    different, places = np.unique(identities, return_inverse=True)
    secret = hashlib.blake2b(key.encode(), digest_size=32).digest()
    hashed = [hashlib.blake2b(one.tobytes(), key=secret, digest_size=8).digest() for one in different]
    return (np.frombuffer(b"".join(hashed), dtype=np.uint64) / 2.0**64)[places]
