"""Public policies of a schema: what a release owes to the groups in its cohort."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Fairness"]


class Fairness(BaseModel):
    """Which groups a model must measure well, whatever the rest of the table needs.

    The tables of these columns with the target, and with every other column, are measured at the resolution of the
    single groups, and cost together at least `floor` of what pairs of columns may cost. All groups of a table share its
    price (a patient is in one of them), so that a scarce group's cells have the same noise as the largest group's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[str, ...] = Field(min_length=1, description="Columns whose groups are to be represented.")
    floor: float = Field(
        default=0.2, ge=0, le=0.9, description="Least share of the budget for pairs that tables of these columns get."
    )
