"""Derived columns: what is computed from the other columns of a row, and so is never learned."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator

from dpsynth.columns.conditions import Condition
from dpsynth.schema.arithmetic import Formula

__all__ = ["Derived", "words_of"]


class Derived(BaseModel):
    """How a column follows from others: a formula, or the name of a column; everywhere, or where a condition holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    equals: str = Field(
        min_length=1, description="A formula, such as weight / (height / 100) ** 2, or the name of another column."
    )
    when: dict[str, Condition] = Field(
        default={}, description="Column and condition; the column is computed where all hold, and learned elsewhere."
    )

    @model_validator(mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return {"equals": value} if isinstance(value, str) else value

    @field_validator("equals")
    @classmethod
    def _check(cls, text: str) -> str:
        Formula(text)
        return text

    @model_serializer(mode="wrap")
    def _short(self, handler: Any) -> Any:
        fields: Mapping[str, Any] = handler(self)
        return fields if self.when else self.equals

    @property
    def formula(self) -> Formula:
        """The formula; the name of a column that is no word stands in backticks in it."""
        return Formula(self.equals)


def words_of(name: str, derived: Derived) -> str:
    """Return what a derived column equals, in words, from the schema alone.

    >>> words_of("gcs", Derived(equals="eye + verbal"))
    'gcs = eye + verbal'
    """
    from dpsynth.schema.constraints import words_of_conditions

    where = f" where {words_of_conditions(derived.when)}" if derived.when else ""
    return f"{name} = {derived.equals}{where}"
