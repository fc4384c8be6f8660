"""Private records grouped by patient: what a training step and a sum over images read."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.sources import Part

if TYPE_CHECKING:
    import torch

Codes = dict[str, NDArray[Any]]


class Patients:
    """Records in the order of their patients; a record is a row, or an image with its row's codes.

    Parameters
    ----------
    patients
        (records,) the patient of each record.
    rows
        (records,) the row of the table that it belongs to.
    codes
        Fine codes of each column, each (rows,).
    images
        (records, channels, sides); None for a table.
    """

    def __init__(
        self, patients: NDArray[np.int64], rows: NDArray[np.int64], codes: Codes, images: NDArray[Any] | None
    ) -> None:
        order = np.argsort(patients, kind="stable")
        self._records = order
        self._rows = rows
        self._codes = codes
        self._images = images
        _, self._first, self._size = np.unique(patients[order], return_index=True, return_counts=True)

    def __len__(self) -> int:
        return len(self._first)

    def __repr__(self) -> str:
        return "Patients(...)"

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    def part(self, number: int, count: int) -> "Patients":
        """Return every count-th patient, from a number on; all parts together are the whole, each patient in one."""
        subset = Patients.__new__(Patients)
        mine = {"_first": self._first[number::count], "_size": self._size[number::count]}
        subset.__dict__.update(self.__dict__ | mine)
        return subset

    def batch(self, chosen: NDArray[np.intp]) -> "dict[str, torch.Tensor]":
        """Return the records of some patients.

        Returns
        -------
        dict
            ``codes`` (patients, records, columns) int64, ``weights`` (patients, records), which sum to 1 for each
            patient and are 0 where there is no record, and for images ``images`` (patients, records, channels, sides).
        """
        import torch

        size, width = self._size[chosen], int(self._size[chosen].max(initial=1))
        slot = np.arange(width)
        there = slot < size[:, None]
        records = self._records[self._first[chosen][:, None] + np.where(there, slot, 0)]
        rows = self._rows[records]
        columns = [self._codes[name][rows].astype(np.int64) for name in self._codes]
        batch = {
            "codes": torch.from_numpy(np.stack(columns, axis=-1) if columns else np.zeros((*rows.shape, 0), np.int64)),
            "weights": torch.from_numpy(np.where(there, 1 / size[:, None], 0).astype(np.float32)),
        }
        if self._images is not None:
            batch["images"] = torch.from_numpy(self._images[records])
        return batch


def of_rows(part: Part) -> Patients:
    """Return the patients of a part of a table: their records are rows."""
    return Patients(part.patients, np.arange(part.rows, dtype=np.int64), part.codes, None)


def of_images(part: Part) -> Patients:
    """Return the patients of a part who have images: their records are images.

    Raises
    ------
    InputError
        If the cohort has no images.
    """
    if part.images is None:
        raise InputError("images: the cohort has none, though the schema declares them.")
    return Patients(part.patients[part.images.row], part.images.row, part.codes, part.images.pixels)
