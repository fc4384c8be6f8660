"""Cohorts of different schemas are judged under that of the real patients: other spellings are the same values."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.columns.kinds import Boolean, Categorical, Datetime
from dpsynth.columns.matching import canonical_text

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.schema.schema import Schema

__all__ = ["Drawn", "under_one_schema"]

Drawn = Mapping[str, "Sequence[Cohort]"]


def under_one_schema(test: "Cohort", train: "Cohort", drawn: Drawn) -> "tuple[Cohort, Cohort, dict[str, list[Cohort]]]":
    """Return real patients and the other cohorts, those of another schema read again as the real ones are spelled.

    Parameters
    ----------
    test, train : Cohort
        Real patients, of one schema; it is widened by values that only other cohorts have.
    drawn : mapping of str to sequence of Cohort
        Cohorts by arm.
    """
    others = {
        Path(f"{arm} {place}"): draw
        for arm, draws in drawn.items()
        for place, draw in enumerate(draws)
        if _spelled_otherwise(test.schema, draw)
    }
    kept = {arm: list(draws) for arm, draws in drawn.items()}
    if not others:
        return test, train, kept
    from dpsynth.drafting.respelling import respelled, texts_of

    alike = respelled(test.schema, {path: texts_of(cohort.table) for path, cohort in others.items()})
    for path in others:
        arm, _, place = path.name.rpartition(" ")
        kept[arm][int(place)] = alike.cohort(path)
    return replace(test, schema=alike.schema), replace(train, schema=alike.schema), kept


def _spelled_otherwise(schema: "Schema", cohort: "Cohort") -> bool:
    """Return whether a cohort's columns are of other types, or have closed lists with other spellings."""
    if cohort.images is not None or schema.visits is not None or schema == cohort.schema:
        return False
    columns = [name for name in schema.modelled if name in cohort.schema.columns and name in cohort.columns]
    return any(_differ(schema.columns[name], cohort.schema.columns[name]) for name in columns)


def _differ(left: object, right: object) -> bool:
    if type(left) is not type(right):
        return True
    if isinstance(left, Boolean | Categorical) and isinstance(right, Boolean | Categorical):
        mine, others = (set(map(canonical_text, each.categories)) for each in (left, right))
        return bool(mine) and not others <= mine
    return isinstance(left, Datetime) and isinstance(right, Datetime) and left.clock != right.clock
