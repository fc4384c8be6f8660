"""The images of a cohort beside its table, which has a row for each image here."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from dpsynth.evaluation.arrays.table import Ints, Table
from dpsynth.evaluation.learners.lesson import Lesson
from dpsynth.evaluation.learners.tabular import Task

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

__all__ = ["Pictures", "pictures"]


@dataclass(frozen=True)
class Pictures:
    """Images with what the table says of each.

    Parameters
    ----------
    store : ndarray, shape (images, channels, sides)
        All images of the cohort.
    span : (float, float)
        Public range of a pixel.
    table : Table
        A row per image; its `places` are those in `store`.
    """

    store: NDArray[Any]
    span: tuple[float, float]
    table: Table

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def pixels(self) -> NDArray[Any]:
        """The images of the table's rows."""
        whole = len(self) == len(self.store) and self.table.origin is None
        return self.store if whole else self.store[self.table.places]

    @property
    def patients(self) -> Ints:
        """The patient of each image."""
        return self.table.patients

    @property
    def number(self) -> int:
        """How many patients have an image."""
        return int(self.patients.max()) + 1 if len(self) else 0

    def take(self, rows: NDArray[Any]) -> "Pictures":
        """Return these images (indices or mask)."""
        return Pictures(self.store, self.span, self.table.take(rows))

    def at_most(self, limit: int, seed: int) -> "Pictures":
        """Return all images, or those of a random subset of patients with about `limit` images."""
        return Pictures(self.store, self.span, self.table.at_most(limit, seed))

    def known(self, task: Task) -> "Pictures":
        """Return the images of patients whose outcome is known."""
        return Pictures(self.store, self.span, task.known(self.table))

    def lesson(self, codes: Ints, sizes: tuple[int, ...]) -> Lesson:
        """Return what a learner needs to tell `codes`, shape (images, heads), from the images."""
        return Lesson(self.pixels, self.span, codes, sizes)


def pictures(cohort: "Cohort", table: Table) -> Pictures | None:
    """Return the images of a cohort whose table is `table`; None where it has none."""
    if cohort.images is None or cohort.schema.images is None or not len(cohort.images):
        return None
    rows = table.take(cohort.images.row)
    return Pictures(cohort.images.pixels, cohort.schema.images.range, Table(rows.variables, rows.patients, rows.public))
