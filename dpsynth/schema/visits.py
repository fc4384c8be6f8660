"""Patients with several visits: one wide row a patient for the model, long rows again for the reader.

A long table has a row for each visit of a patient. The schema says which column numbers the visits, which visits there
are, and which columns are static. From that follows, by public facts alone, a *flat* schema with a row a patient: each
static column as it is, each other column once a visit (``SYSBP@2``), and for each visit whether it happened
(``PERIOD@2``). A model learns flat rows; `unfold` makes the rows of the visits from them. So static columns are
constant within a patient, and visits stand in order, by construction.

Sensitivity
-----------
`flatten` maps a set of rows to a set of rows. A patient's flat row, or that there is none, depends on the rows of this
patient alone: visits that the schema does not list are left out; of several rows with one visit the first counts; a
static column takes its first value that is there, in the order of the visits. A patient without any listed visit has no
flat row. So tables that differ by one patient, with all of their rows, become flat tables that differ by at most one
row, whatever the number of visits: one patient moves a count by at most 1, and the flat schema declares
``max_rows_per_patient: 1``. Nothing is checked and nothing said on the way that depends on values. The number of flat
rows is the number of patients (with a listed visit); it is public only where the schema declares `patients`.
"""

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from dpsynth.columns.kinds import Category

__all__ = ["Visits"]

Positions = npt.NDArray[np.int64]


class Visits(BaseModel):
    """How the rows of a patient are visits: the column that numbers them, and what does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str = Field(description="Column that says which visit a row is.")
    values: tuple[Category, ...] = Field(min_length=2, description="The visits, in order of time.")
    static: tuple[str, ...] = Field(default=(), description="Columns that are the same in all visits of a patient.")
    rising: tuple[str, ...] = Field(
        default=(), description="Columns that never fall from a visit to a later one, such as age or a diagnosis."
    )
    patients: int | None = Field(
        default=None, ge=1, description="Number of patients, only where it is public knowledge."
    )
