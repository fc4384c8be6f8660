"""What a hospital checks of a study before anything is asked: that it is named, with its keys, and its own schema."""

from typing import TYPE_CHECKING

from dpsynth.errors import InputError
from dpsynth.federated.messages import fingerprint
from dpsynth.federated.study import Study
from dpsynth.privacy.shares import not_linear

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.sources.scanned import ScannedCohort


def check_agreed(study: Study, name: str, public_keys: bytes, cohort: "Cohort | ScannedCohort") -> None:
    """Refuse a study that does not name this hospital, its keys or its columns."""
    mine = {hospital.name: hospital for hospital in study.hospitals}.get(name)
    if mine is None:
        raise InputError(f"study {study.name!r}: has no hospital {name!r}; it names {', '.join(study.names)}.")
    if mine.fingerprint and mine.fingerprint != fingerprint(public_keys):
        raise InputError(
            f"hospital {name!r}: this key has another fingerprint than the one in the study; use the key that was "
            "agreed on, or have the study changed and read again by everybody."
        )
    cohort.schema.check_confirmed()
    _check_schema(study, cohort)


def _check_schema(study: Study, cohort: "Cohort | ScannedCohort") -> None:
    """Refuse a schema that says something else than the study's, but for names, notes and numbers of rows."""
    own, joint = cohort.schema.without_counts().to_dict(), study.schema_of_all.without_counts().to_dict()
    for facts in (own, joint):
        for word in ("name", "description", "source", "file", "confirmed"):
            facts.pop(word, None)
    for place in sorted({*own, *joint} - {"columns"}):
        if own.get(place) != joint.get(place):
            raise InputError(f"schema: {place} is not what the study says; have the schemas compared and made equal.")
    for column in [*joint["columns"], *own["columns"]]:
        if own["columns"].get(column) != joint["columns"].get(column):
            raise InputError(f"schema: column {column!r} is not what the study says; make the schemas equal.")
    if list(own["columns"]) != list(joint["columns"]):
        raise InputError("schema: the columns are in another order than in the study; make the schemas equal.")
    if study.schema_of_all.to_discover:
        raise not_linear("discovery of values")
