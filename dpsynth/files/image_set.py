"""The images of a cohort, held in memory: pixels in one array, and the row of the table that each belongs to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.errors import InputError
from dpsynth.schema.images import Images

__all__ = ["ImageSet", "check_images", "row_numbers"]


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images of one size; a row of the table may have none, one or several.

    Attributes
    ----------
    pixels
        (images, channels, sides of one image): uint8 where the schema's range is 0 to 255, else float32.
    row
        (images,) int64, never falling: the row of the cohort's table that each image belongs to.

    Notes
    -----
    Privacy contract: `repr` shows the size of an image, never how many there are.

    Examples
    --------
    >>> import numpy as np
    >>> pair = ImageSet(np.zeros((3, 1, 28, 28), np.uint8), np.array([0, 0, 2]))
    >>> pair.take([2, 0, 1]).row
    array([0, 1, 1])
    """

    pixels: npt.NDArray[Any]
    row: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.pixels.dtype not in (np.uint8, np.float32) or self.pixels.ndim not in (4, 5):
            raise InputError("images: expected uint8 or float32 pixels of shape (images, channels, 2 or 3 sides).")
        if self.row.dtype != np.int64 or self.row.shape != self.pixels.shape[:1]:
            raise InputError("images: expected one row number (int64) for each image.")
        if self.row.size and (self.row[0] < 0 or (np.diff(self.row) < 0).any()):
            raise InputError("images: expected row numbers from 0 on that never fall.")

    def __len__(self) -> int:
        return len(self.row)

    def __repr__(self) -> str:
        return f"ImageSet({' x '.join(map(str, self.size))}, channels {self.channels}, {self.pixels.dtype})"

    @property
    def channels(self) -> int:
        """The number of channels."""
        return int(self.pixels.shape[1])

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width, or the three sides of a volume."""
        return self.pixels.shape[2:]

    def take(self, rows: npt.ArrayLike) -> "ImageSet":
        """Return the images of the given rows of the table, their row numbers counted anew in that order.

        Parameters
        ----------
        rows
            (k,) integers, as often and in the order that they are wanted, or (rows,) booleans.
        """
        wanted = row_numbers(rows)
        first = np.searchsorted(self.row, wanted, side="left")
        counts = np.searchsorted(self.row, wanted, side="right") - first
        new_row = np.repeat(np.arange(len(wanted), dtype=np.int64), counts)
        place = np.arange(len(new_row)) - np.repeat(np.cumsum(counts) - counts, counts)  # within the images of a row
        return ImageSet(self.pixels[np.repeat(first, counts) + place], new_row)


def row_numbers(rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the integers that integers or booleans stand for."""
    indices = np.asarray(rows)
    return np.flatnonzero(indices) if indices.dtype == bool else indices.astype(np.int64)


def check_images(images: ImageSet, declared: Images | None, rows: int) -> None:
    """Refuse images that are not what the schema declares, or that belong to no row.

    Raises
    ------
    InputError
        If the schema declares no images, or others.
    """
    if declared is None:
        raise InputError("images: the schema declares none; add images with size, channels and range.")
    if images.pixels.shape[1:] != declared.shape or images.pixels.dtype != declared.dtype:
        raise InputError(f"images: expected {declared.dtype} of shape {declared.shape}, as the schema declares.")
    if len(images) and images.row[-1] >= rows:
        raise InputError("images: an image belongs to a row that the table does not have.")
