"""The fields of a schema, and what follows from them: what the other modules of this room need to know of it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dpsynth.columns.kinds import Column, Identifier
from dpsynth.schema.constraints import Constraint
from dpsynth.schema.derived import Derived
from dpsynth.schema.dialect import FileFormat
from dpsynth.schema.fairness import Fairness
from dpsynth.schema.images import Images
from dpsynth.schema.survival import Survival
from dpsynth.schema.visits import Visits

DEFAULT_MISSING_VALUES = ("", "NA", "N/A", "<NA>", "NaN", "nan", "NULL", "null", "None")
"""How files commonly write a missing value; a declared category of the same spelling goes before."""


IMAGE_COLUMNS = ("image", "patient")
"""Columns that the index of an image cohort adds; no modelled column may have these names beside images."""


class Facts(BaseModel):
    """The fields of a schema, as they stand in its file, and what follows from them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200, description="Name of the cohort.")
    confirmed: bool = Field(default=False, description="A person has checked that all of this is public knowledge.")
    description: str = Field(default="", description="What the cohort is.")
    dataset: str = Field(
        default="",
        max_length=200,
        description="A name for the patients where it cannot be told that two sources are the same; one ledger a name.",
    )
    source: str = Field(default="", description="Where bounds and categories come from; stated in every release.")
    patient: str | None = Field(default=None, description="Column that identifies a patient; none: a row is a patient.")
    open: tuple[Literal["patient"], ...] = Field(
        default=(), description="Fields that a draft leaves open; in a file each has ? in its place."
    )
    max_rows_per_patient: int = Field(
        default=1, ge=1, description="Rows of a patient beyond this are dropped at random."
    )
    rows: int | None = Field(default=None, ge=1, description="Number of rows, only where it is public knowledge.")
    target: str | None = Field(default=None, description="Column that models trained on the cohort predict.")
    survival: Survival | None = Field(
        default=None, description="Where the target is an outcome in time: its columns; written under target."
    )
    subgroups: tuple[str, ...] = Field(default=(), description="Columns whose groups are judged one by one.")
    intersections: tuple[tuple[str, ...], ...] = Field(default=(), description="Subgroup columns judged together.")
    fairness: Fairness | None = Field(
        default=None, description="Groups that a model must measure well, and the share of the budget for it."
    )
    missing_values: tuple[str, ...] = Field(
        default=DEFAULT_MISSING_VALUES, description="How the file writes a missing value."
    )
    file: FileFormat = Field(
        default=FileFormat(), description="How CSV files are written: separator, decimal, encoding and the like."
    )
    drop: tuple[str, ...] = Field(default=(), description="Columns of the file that are never read.")
    columns: dict[str, Column] = Field(min_length=1, description="The columns, in the order of the released table.")
    constraints: tuple[Constraint, ...] = Field(default=(), description="Combinations and orders that cannot be.")
    derived: dict[str, Derived] = Field(
        default={}, description="Columns that are computed from others, and how; they are never learned."
    )
    predictors: tuple[str, ...] = Field(
        default=(), description="The only columns that a model of the target may use; all but the target if left out."
    )
    not_predictors: tuple[str, ...] = Field(
        default=(), description="Columns that no model of the target may use, such as what is known only afterwards."
    )
    related: tuple[tuple[str, str], ...] = Field(
        default=(), description="Pairs of columns that are known to go together; models ask for them first."
    )
    visits: Visits | None = Field(
        default=None, description="How the rows of a patient are visits; a model then learns one row a patient."
    )
    images: Images | None = Field(default=None, description="The images, where patients have some.")

    @property
    def modelled(self) -> tuple[str, ...]:
        """The names of the columns that are modelled and released, in order: all but identifiers."""
        return tuple(name for name, column in self.columns.items() if not isinstance(column, Identifier))

    @property
    def withheld(self) -> tuple[str, ...]:
        """The modelled columns that no model of the target may use; what is computed from the target is among them."""
        if self.target is None:
            return ()
        others = [name for name in self.modelled if name != self.target]
        barred = set(self.not_predictors) | (set(others) - set(self.predictors) if self.predictors else set())
        barred |= self.survival.followed if self.survival is not None else set()
        barred |= {name for name, item in self.derived.items() if self.target in (*item.formula.names, *item.when)}
        return tuple(name for name in others if name in barred)

    @property
    def to_discover(self) -> tuple[str, ...]:
        """The names of the columns whose values are found under differential privacy, in order."""
        return tuple(name for name, column in self.columns.items() if column.is_discovered)

    @property
    def units(self) -> int | None:
        """The public number of what a model learns: patients where there are visits, else rows; None if private."""
        return self.rows if self.visits is None else self.visits.patients
