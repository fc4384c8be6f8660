"""Public policies of a schema: what a release owes to the groups in its cohort."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Fairness"]


class Fairness(BaseModel):
    """Which groups a model must measure well, whatever the rest of the table needs.

    The counts of these columns cost together at least `floor` of what counts of columns may cost; their tables with
    the target and with each other are always measured, group by group, and cost together at least `floor` of what
    pairs of columns may cost. All groups of a table share its price (a patient is in one of them), so a scarce
    group's cells have the same noise as the largest group's. No declared group gets the size 0: one that is empty, or
    that the noise made so, gets the size that such a count still allows, up to about the noise. `prism` and `aim`
    follow the policy in full, `mst` and `independent` in the counts alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[str, ...] = Field(min_length=1, description="Columns whose groups are to be represented.")
    floor: float = Field(
        default=0.2,
        ge=0,
        le=0.9,
        description="Least share of the budget for counts, and of that for pairs, for tables of these columns.",
    )
