"""The cap of a patient: which of their rows and images are kept, chosen by a keyed hash.

``HMAC-SHA-256(secret of the run, what it is, patient, row, number among equal ones)`` gives each row a number, and a
patient keeps the rows with the lowest. So

- which rows of a patient stay depends on that patient's rows and the secret only: no other patient, no order of rows
  and no division into parts moves it, and rows that are read again, on whatever machine, are capped to the same ones;
- equal rows have numbers of their own, so that a patient with five equal rows keeps the cap of them;
- nobody who does not know the secret can tell which rows stay.

The bound of a patient's contribution needs none of this: it holds for every choice that is made patient by patient.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.cohort.row_keys import keyed

__all__ = ["kept_positions", "keyed_numbers"]

Numbers = NDArray[np.uint64]
Positions = NDArray[np.intp]


def kept_positions(patients: NDArray[np.integer[Any]], cap: int, numbers: Callable[[Positions], Numbers]) -> Positions:
    """Return the positions of at most ``cap`` records of each patient, those with the lowest numbers, in their order.

    Parameters
    ----------
    patients
        (records,) the patient of each record, from 0.
    cap
        Records of a patient that are kept at most.
    numbers
        Returns the numbers of the records at the given positions; asked only for patients who have more than the cap.
    """
    crowded = np.flatnonzero(np.bincount(patients, minlength=1)[patients] > cap)
    if not len(crowded):
        return np.arange(len(patients), dtype=np.intp)
    order = crowded[np.lexsort((numbers(crowded), patients[crowded]))]
    new = np.diff(patients[order], prepend=-1) != 0
    start = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    keep = np.ones(len(patients), dtype=bool)
    keep[order[np.arange(len(order)) - start >= cap]] = False
    return np.flatnonzero(keep)


def keyed_numbers(
    secret: bytes,
    kind: str,
    patients: NDArray[np.integer[Any]],
    names: Sequence[str],
    contents: Sequence[bytes],
) -> Numbers:
    """Return a number for each record, which tells nothing of it to who does not know the secret.

    Parameters
    ----------
    secret
        The run's secret.
    kind
        What the records are, so that rows and images are chosen apart.
    patients
        (records,) the number of each record's patient.
    names
        (records,) the identifier of that patient, empty where there is none.
    contents
        (records,) the same digest, of a fixed length, for equal records (`dpsynth.cohort.row_keys.row_digests`); equal
        records of one patient are told apart by counting them.
    """
    purpose, earlier = f"kept {kind}".encode(), Counter[tuple[int, bytes]]()
    numbers = np.empty(len(names), dtype=np.uint64)
    for place, (patient, name, content) in enumerate(zip(patients.tolist(), names, contents, strict=True)):
        message = content + earlier[patient, content].to_bytes(8, "little") + name.encode()
        numbers[place] = int.from_bytes(keyed(secret, purpose, message)[:8], "little")
        earlier[patient, content] += 1
    return numbers
