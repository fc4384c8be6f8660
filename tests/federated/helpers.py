"""Three small hospitals with a study, and what a test asks of them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from dpsynth.coding.codec import Codec
from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.federated.hospital import Hospital
from dpsynth.federated.lead import Lead
from dpsynth.federated.masks import public_half
from dpsynth.federated.messages import Answer, Question, fingerprint
from dpsynth.federated.steps import Allowed
from dpsynth.federated.study import Study
from dpsynth.federated.transport import InProcess
from dpsynth.privacy.mechanisms import LATTICE_BITS, SystemNoise
from dpsynth.privacy.resuming import Checkpoint
from dpsynth.privacy.session import Session
from dpsynth.privacy.tables.counting import fine_query
from dpsynth.schema.schema import Schema

NAMES = ("north", "south", "west")
COLUMNS = {
    "sex": {"type": "categorical", "values": ["female", "male"]},
    "age": {"type": "numeric", "min": 18, "max": 99},
    "died": {"type": "boolean"},
}
FACTS: dict[str, Any] = {"name": "ward", "confirmed": True, "columns": COLUMNS}
SCHEMA = Schema.parse(FACTS)
SHAPE = Codec(SCHEMA).shape


class AnyOrder:
    """A rehearsal that agrees with whatever is asked: for tests of everything else."""

    def check(self, asked: Any, heard: Any) -> None:
        """Agree."""

    def training(self, heard: Any) -> Any:  # noqa: ARG002
        """Have none."""
        raise InputError("no training")

    def close(self) -> None:
        """Hold nothing."""


ALLOWED = Allowed(frozenset({"counts", "interactions"}), AnyOrder)
PRICE = 0.002
"""rho of one question, of which a session at epsilon 1 has about 0.028."""


def keys_of(names: Sequence[str] = NAMES) -> dict[str, dict[str, bytes]]:
    """Return fresh keys of each hospital."""
    return {name: {"signing_public": os.urandom(32), "masking_key": os.urandom(32)} for name in names}


def study_of(keys: Mapping[str, Mapping[str, bytes]], **terms: Any) -> Study:
    """Return a study of hospitals with these keys."""
    marks = {name: fingerprint(of["signing_public"] + public_half(of["masking_key"])) for name, of in keys.items()}
    members = [{"name": name, "fingerprint": mark} for name, mark in marks.items()]
    facts = {"name": "wards", "epsilon": 1.0, "model": "prism", "schema": FACTS, "seconds": 60.0, "hospitals": members}
    return Study.parse({**facts, **terms})


def rows(seed: int, n: int = 300) -> pd.DataFrame:
    """Return n patients."""
    rng = np.random.default_rng(seed)
    sex, age = rng.choice(["female", "male"], n), rng.integers(18, 99, n)
    return pd.DataFrame({"sex": sex, "age": age, "died": rng.random(n) < 0.3})


def cohorts_of(names: Sequence[str] = NAMES, *, public: bool = False) -> dict[str, Cohort]:
    """Return a cohort of each hospital, of different sizes."""
    return {
        name: Cohort.from_pandas(rows(seed, 200 + 60 * seed), SCHEMA, public=public) for seed, name in enumerate(names)
    }


class Federation:
    """Hospitals of a study in one folder, and their lead."""

    def __init__(self, folder: Path, *, public: bool = False, seed: int | None = None, **terms: Any) -> None:
        self.folder, self.seed = folder, seed
        names = terms.pop("names", NAMES)
        self.keys = keys_of(names)
        self.study = study_of(self.keys, **terms)
        self.cohorts = cohorts_of(names, public=public)
        self.hospitals = {name: self.opened(name) for name in names}
        self.transport: Any = InProcess(self.hospitals)
        self.lead = Lead(self.study, self.transport, folder / "lead")

    def opened(self, name: str, **more: Any) -> Hospital:
        """Open a hospital, or open it again after a restart."""
        place = self.folder / name
        terms: dict[str, Any] = {"folder": place / "run", "allowed": ALLOWED, "seed": self.seed, **self.keys[name]}
        if not self.cohorts[name].public:
            terms["ledger"] = place / "ledger.jsonl"
            place.mkdir(parents=True, exist_ok=True)
        return Hospital(self.study, name, self.cohorts[name], **{**terms, **more})

    def session(self) -> Session:
        """Begin, and open the lead's session."""
        self.lead.begin()
        checkpoint = Checkpoint(self.folder / "session")
        terms: dict[str, Any] = {"per_patient": self.study.per_patient, "kept_back": self.study.asked_anew}
        session = Session.over_hospitals(SCHEMA, self.study.budget, self.lead, checkpoint=checkpoint, **terms)
        self.lead.pay_anew = session.ask_anew if self.study.asked_anew else None
        return session

    def ask(self, name: str, question: Question) -> Answer:
        """Ask one hospital."""
        return Answer.from_bytes(self.hospitals[name].answer(question.to_bytes()))

    def begun(self) -> None:
        """Open and begin the run at every hospital."""
        self.lead.begin()


def counts_question(
    study: Study, number: int, columns: Sequence[str] = ("sex",), *, rho: float = PRICE, after: int | None = None
) -> Question:
    """Return a question for counts at a price, after so many answers (default: one for each number before)."""
    query = fine_query(list(columns), SHAPE)
    before = number - 2 if after is None else after
    facts = {"columns": [list(columns)], "sigmas": [float(1 / np.sqrt(2 * rho))], "heard": [-1] * before}
    return Question(study.digest, number, "counts", facts, [*query.maps, *[np.zeros(1)] * before])


@contextmanager
def silence() -> Iterator[None]:
    """Let all noise be 0, so that sums can be compared with exact ones."""

    def lattice(_self: Any, values: Any, _sigma: float, *, most: int = 2**40) -> Any:
        return np.clip(values, -most, most) << LATTICE_BITS

    with (
        patch.object(SystemNoise, "on_lattice", lattice),
        patch.object(SystemNoise, "rounded_gaussian", lambda _self, values, _sigma: values),
    ):
        yield
