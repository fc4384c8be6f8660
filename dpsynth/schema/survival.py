"""An outcome in time: how long patients were followed, and what ended it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dpsynth.columns.kinds import Boolean, Categorical, Category, Column, Numeric

__all__ = ["Survival", "check_survival", "with_event"]


class Survival(BaseModel):
    """Follow-up that ends with an event or is censored: `target: {time: months, event: died}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: str = Field(min_length=1, description="Column with the time at which the observation ended, from 0.")
    event: str = Field(min_length=1, description="Column that says whether, or which, event ended it.")
    entry: str | None = Field(default=None, min_length=1, description="Column with the time of a late entry.")
    censored: Category | None = Field(
        default=None, description="The value of event that means no event; false, or the first value, if left out."
    )

    @property
    def followed(self) -> set[str]:
        """The columns that say how long patients were followed."""
        return {self.time} | ({self.entry} if self.entry is not None else set())


def with_event(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a schema file with an outcome in time in its own field, and its event as the target."""
    target = values.get("target")
    if not isinstance(target, Mapping):
        return values
    event = target.get("event")
    return {**values, "survival": dict(target), "target": event if isinstance(event, str) else None}


def no_event(survival: Survival, column: Column) -> int:
    """Return the position, among the categories of the event's column, of the one that means no event."""
    assert isinstance(column, Boolean | Categorical)  # noqa: S101  (`check_survival`)
    if survival.censored is None:
        return 0
    return [str(value) for value in column.categories].index(str(survival.censored))


def check_survival(survival: Survival, columns: Mapping[str, Column]) -> None:
    """Refuse an outcome in time of columns that are not there, or not of the kinds that it needs.

    Raises
    ------
    ValueError
        With the place and the reason.
    """
    from dpsynth.errors import nearest

    named = {"time": survival.time, "event": survival.event} | ({"entry": survival.entry} if survival.entry else {})
    for field, name in named.items():
        if name not in columns:
            raise ValueError(f"target.{field}: there is no column {name!r}{nearest(name, columns)}")
    if len(set(named.values())) < len(named):
        raise ValueError("target: time, event and entry are different columns")
    for field in {"time", "entry"} & set(named):
        if not isinstance(columns[named[field]], Numeric):
            raise ValueError(  # noqa: TRY004  (pydantic collects ValueError)
                f"target.{field}: {named[field]!r} is not a number; declare the time with type: numeric"
            )
    event = columns[survival.event]
    if not isinstance(event, Boolean | Categorical) or len(event.categories) < 2:
        raise ValueError(
            f"target.event: {survival.event!r} is neither boolean nor a closed list of values; "
            "declare what ended the observation, with the value that means censored first"
        )
    if survival.censored is not None and str(survival.censored) not in [str(value) for value in event.categories]:
        raise ValueError(f"target.censored: is not one of the values of {survival.event!r}")
