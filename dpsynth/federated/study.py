"""The study: what lead and hospitals agree on before anything is asked, in one file that everybody reads."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dpsynth.errors import FileError, InputError
from dpsynth.privacy.spending.budget import Budget
from dpsynth.schema import yaml12
from dpsynth.schema.schema import Schema

MOST_HOSPITALS = 64
"""Sums of so many hospitals were derived not to wrap, see `dpsynth.privacy.shares`."""


class Member(BaseModel):
    """A hospital of a study, or its lead.

    Parameters
    ----------
    name
        Letters, digits, ``-`` and ``_``: what messages and errors call it.
    fingerprint
        `dpsynth.federated.messages.fingerprint` of its public keys, compared out of band; empty only in a
        demonstration on one machine.
    address
        Where it is reached, such as ``https://lead.example.org``; hospitals connect outwards and need none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    fingerprint: str = Field(default="", pattern=r"^([0-9a-f]{4}( [0-9a-f]{4}){9})?$")
    address: str = Field(default="", max_length=300)


class Study(BaseModel):
    """What is agreed: who, about which columns, with which model, for which epsilon.

    Parameters
    ----------
    name
        Of the study.
    schema_document
        The schema of the joint cohort, as a mapping; in the file under ``schema``, where it may also be a path beside
        the file. Each hospital's own confirmed schema must say the same, but for the number of rows.
    hospitals
        At least 3, or 2 of which each adds all of the noise (``colluding: 1``).
    lead
        Who asks.
    colluding
        t: the noise is enough with so many of the hospitals colluding with the lead, or adding none.
    epsilon, delta
        The budget of the study, at each hospital and of the release.
    model, options
        A name of `dpsynth.models.available`, with its options.
    accounting
        As for `dpsynth.privacy.session.Session.open`.
    max_hospitals_per_patient
        In how many of the hospitals a patient may be; sensitivity is multiplied by it. Without it the unit is a patient
        at a hospital.
    asked_anew
        Share of the budget that is kept for questions that a hospital did not answer and that are asked again.
    judge_by_hospital
        Whether hospitals agree to be subgroups of a public judgement.
    seconds
        How long the lead waits for an answer.

    Examples
    --------
    >>> study = Study.parse({
    ...     "name": "wards", "epsilon": 1.0, "delta": 1e-6, "model": "prism",
    ...     "schema": {"name": "ward", "confirmed": True, "columns": {"died": {"type": "boolean"}}},
    ...     "hospitals": [{"name": "north"}, {"name": "south"}, {"name": "west"}],
    ... })
    >>> study.noisy, study.names, len(study.digest)
    (2, ('north', 'south', 'west'), 64)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field(min_length=1, max_length=200)
    schema_document: dict[str, Any] = Field(alias="schema")
    hospitals: tuple[Member, ...] = Field(min_length=2, max_length=MOST_HOSPITALS)
    lead: Member = Member(name="lead")
    colluding: int = Field(default=1, ge=0)
    epsilon: float
    delta: float = 1e-6
    model: str = "prism"
    options: dict[str, Any] = Field(default_factory=dict)
    accounting: Literal["gaussian", "zcdp"] = "gaussian"
    max_hospitals_per_patient: int | None = Field(default=None, ge=1)
    asked_anew: float = Field(default=0.0, ge=0, le=0.5)
    judge_by_hospital: bool = False
    seconds: float = Field(default=120.0, gt=0, le=86400)

    @field_validator("epsilon", "delta", "asked_anew", "seconds")
    @classmethod
    def _finite(cls, value: float) -> float:
        if not math.isfinite(value):
            raise ValueError("expected a finite number")
        return value

    @model_validator(mode="after")
    def _fits(self) -> "Study":
        if len(set(self.names)) != len(self.names):
            raise ValueError("hospitals: each name must stand once")
        known = [hospital.fingerprint for hospital in self.hospitals if hospital.fingerprint]
        if len(set(known)) != len(known):
            raise ValueError("hospitals: two have the same fingerprint; each needs a key of its own")
        n, t = len(self.hospitals), self.colluding
        if n == 2 and t != 1:
            raise ValueError("hospitals: of 2 each must add all of the noise: colluding: 1")
        if not t <= n - 1:
            raise ValueError(f"colluding: found {t} of {n} hospitals, expected at most {n - 1}")
        if self.max_hospitals_per_patient is not None and self.max_hospitals_per_patient > n:
            raise ValueError(f"max_hospitals_per_patient: found more than the {n} hospitals")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The hospitals' names, in the order of the file."""
        return tuple(hospital.name for hospital in self.hospitals)

    @property
    def noisy(self) -> int:
        """How many shares make up the noise that was paid for: n - t."""
        return len(self.hospitals) - self.colluding

    @property
    def per_patient(self) -> int:
        """By what sensitivity is multiplied."""
        return self.max_hospitals_per_patient or 1

    @property
    def budget(self) -> Budget:
        """The total that the study may spend at a hospital."""
        return Budget(self.epsilon, self.delta)

    @property
    def schema_of_all(self) -> Schema:
        """The schema of the joint cohort."""
        return Schema.parse(self.schema_document)

    @property
    def digest(self) -> str:
        """SHA-256 of everything in the file, in hexadecimal digits: equal only where all of it is equal."""
        facts = self.model_dump(mode="json", by_alias=True)
        facts["schema"] = self.schema_of_all.to_dict()
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "Study":
        """Check a mapping; `InputError` names the field."""
        try:
            study = cls.model_validate(dict(document))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "study"
            raise InputError(f"study: {place}: {first['msg'].removeprefix('Value error, ')}.") from None
        _ = study.budget, study.schema_of_all
        return study

    @classmethod
    def load(cls, path: str | Path) -> "Study":
        """Read a study file.

        Parameters
        ----------
        path
            YAML; under ``schema`` the schema itself, or the name of its file beside this one.

        Raises
        ------
        FileError, InputError, SchemaError
            When a file cannot be read or a field is missing, unknown or out of range.
        """
        file = Path(path)
        try:
            document = yaml12.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            raise FileError(f"{file.name}: cannot be read as a study file.") from None
        if not isinstance(document, dict):
            raise InputError(f"{file.name}: expected the fields of a study, such as name, schema and hospitals.")
        if isinstance(document.get("schema"), str):
            document["schema"] = Schema.load(file.parent / document["schema"]).to_dict()
        return cls.parse(document)

    def dump(self, path: str | Path) -> None:
        """Write the study as a file that `load` reads, with the schema in it."""
        facts = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        facts["schema"] = self.schema_of_all.to_dict()
        Path(path).write_text(yaml12.dumps(facts), encoding="utf-8")
