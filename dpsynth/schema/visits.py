"""What a schema says of visits: which column numbers them, which there are, and which columns are static."""

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
