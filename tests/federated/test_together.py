"""Models over several hospitals: every kind of question, trainings by steps, and what the statement says."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dpsynth.coding.query import Query
from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.federated.lead import Lead, Refused
from dpsynth.federated.messages import Answer, Question
from dpsynth.federated.transport import InProcess
from dpsynth.files.image_set import ImageSet
from dpsynth.jobs.federate import fit_together, hospitals_here, maker_of, release_together, study_of
from dpsynth.models.base import Model
from dpsynth.models.registry import make
from dpsynth.models.tabular.deep.fitting import TableObjective
from dpsynth.privacy.images.features import Fourier, Linear, Ones
from dpsynth.privacy.resuming import Checkpoint
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.tables.counting import fine_query
from dpsynth.privacy.training.dpsgd import UNIT
from dpsynth.schema.schema import Schema
from federated.helpers import NAMES, PRICE, SCHEMA, cohorts_of, silence

SCANS = Schema.parse(
    {
        "name": "scans",
        "confirmed": True,
        "target": "label",
        "columns": {"label": {"type": "categorical", "values": ["none", "nodule", "mass"]}},
        "images": {"size": [6, 5]},
    }
)
TINY: dict[str, dict[str, Any]] = {
    "independent": {},
    "prism": {},
    "tabular-diffusion": {"hidden": 8, "steps": 3, "levels": 1, "warm_steps": 2, "draws": 3, "questions": 0.2},
    "ctgan": {"hidden": 8, "steps": 3, "critic_steps": 2, "generator_steps": 1},
    "tvae": {"hidden": 8, "latent": 2, "steps": 3},
}
TINY_IMAGES: dict[str, dict[str, Any]] = {
    "moments": {},
    "mean-embedding": {"features": 50, "steps": 3},
    "judged-moments": {"steps": 2},
}


def scans_of() -> dict[str, Cohort]:
    """Return three hospitals with 40, 50 and 60 images each of 6 x 5."""
    cohorts = {}
    for place, name in enumerate(NAMES):
        n, rng = 40 + 10 * place, np.random.default_rng(place)
        frame = pd.DataFrame({"label": rng.choice(["none", "nodule", "mass"], n)})
        pixels = rng.integers(0, 256, (n, 1, 6, 5)).astype(np.uint8)
        cohort = Cohort.from_pandas(frame, SCANS, public=True)
        cohorts[name] = dataclasses.replace(cohort, images=ImageSet(pixels, np.arange(n)))
    return cohorts


def joined_scans(cohorts: Mapping[str, Cohort]) -> Cohort:
    """Return all of them as one."""
    whole = Cohort.from_pandas(
        pd.concat([c.to_pandas() for c in cohorts.values()], ignore_index=True), SCANS, public=True
    )
    pixels = np.concatenate([c.images.pixels for c in cohorts.values() if c.images is not None])
    return dataclasses.replace(whole, images=ImageSet(pixels, np.arange(len(pixels))))


@contextmanager
def together(schema: Schema, cohorts: Mapping[str, Cohort], folder: Path, **terms: Any) -> Iterator[tuple[Any, Any]]:
    """Give a study and a transport to its hospitals."""
    study, keys = study_of(schema, NAMES, **{"name": "wards", "epsilon": 1.0, **terms})
    with hospitals_here(study, cohorts, keys, folder) as hospitals:
        yield study, InProcess(hospitals)


@pytest.mark.parametrize("name", TINY)
def test_models_of_tables_are_learned_over_hospitals(name: str, tmp_path: Path) -> None:
    """Each is fitted through the whole protocol, rehearsed by every hospital, and its statement is that of a study."""
    with together(SCHEMA, cohorts_of(public=True), tmp_path, model=name, options=TINY[name]) as (study, transport):
        fitted = fit_together(study, transport)
    assert len(fitted.sample(20, seed=0)) == 20
    _check_statement(fitted, study)


@pytest.mark.parametrize("name", TINY_IMAGES)
def test_models_of_images_are_learned_over_hospitals(name: str, tmp_path: Path) -> None:
    """Moments, embeddings and a judge that is trained by steps."""
    with together(SCANS, scans_of(), tmp_path, model=name, options=TINY_IMAGES[name]) as (study, transport):
        fitted = fit_together(study, transport)
    images = fitted.sample(5, seed=0).images
    assert images is not None
    _check_statement(fitted, study)


def _check_statement(fitted: Model, study: Any) -> None:
    facts = fitted.statement
    assert facts["private"] is True
    assert 0.99 < facts["epsilon_spent"] <= 1.0
    assert facts["hospitals"]["number"] == 3
    assert facts["hospitals"]["colluding"] == 1
    assert 1.0 < facts["hospitals"]["epsilon_of_a_hospital_alone"] < 3.0
    assert facts["hospitals"]["epsilon_if_more_collude"].keys() == {"2"}
    assert facts["unit"].endswith("at a hospital")
    assert "one patient at one hospital" in facts["guarantee"]
    assert study.name == facts["hospitals"]["study"]


@pytest.mark.parametrize("name", ["aim", "mst", "pate-gan"])
def test_models_that_ask_for_more_than_sums_are_refused_at_once(name: str) -> None:
    """Before a hospital is asked, with what to use instead."""
    study, _ = study_of(SCHEMA, NAMES, name="wards", epsilon=1.0, model=name)
    with pytest.raises(InputError, match="prism"):
        maker_of(study)


def test_a_training_with_patients_in_several_hospitals_is_refused(tmp_path: Path) -> None:
    """Its price is not known where each hospital draws its own sample."""
    terms = {"model": "tvae", "options": TINY["tvae"], "max_hospitals_per_patient": 2}
    refused = pytest.raises((InputError, Refused), match="max_hospitals_per_patient")
    with together(SCHEMA, cohorts_of(public=True), tmp_path, **terms) as (study, transport), refused:
        fit_together(study, transport)


def test_without_noise_image_answers_are_the_central_ones(tmp_path: Path) -> None:
    """Sums of each kind of features, products and numbers of images are equal, to the last digit."""
    cohorts, rng = scans_of(), np.random.default_rng(3)
    groups = fine_query(["label"], {"label": 3})
    maps = [Linear(rng.normal(size=(4, 30)), np.full(30, 0.5)), Fourier(rng.normal(size=(3, 30))), Ones(30)]

    def asked(session: Session) -> list[Any]:
        sums = [session.image_sums(groups, one, PRICE) for one in maps]
        products = session.image_products(Query((), ()), maps[0], PRICE)
        return [*sums, products, session.image_counts(groups, PRICE), session.images_per_row(PRICE)]

    with silence(), together(SCANS, cohorts, tmp_path, model="moments") as (study, transport):
        for hospital in transport._hospitals.values():
            hospital._rehearsal.check = lambda *_: None
        lead = Lead(study, transport, tmp_path / "lead")
        lead.begin()
        with Session.over_hospitals(
            study.schema_of_all, study.budget, lead, checkpoint=Checkpoint(tmp_path / "s")
        ) as s:
            ours = asked(s)
        with Session.open(joined_scans(cohorts), Budget(1, 1e-6)) as central:
            exact = asked(central)
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine.shape == theirs.shape
        assert (mine == theirs).all()


def test_a_patient_of_several_hospitals_multiplies_the_noise_of_images(tmp_path: Path) -> None:
    """With max_hospitals_per_patient: 3 the same price buys three times the noise, at the lead and at each hospital."""
    terms = {"model": "mean-embedding", "options": TINY_IMAGES["mean-embedding"], "max_hospitals_per_patient": 3}
    with together(SCANS, scans_of(), tmp_path, **terms) as (study, transport):
        fitted = fit_together(study, transport)
        (one, *_) = transport._hospitals.values()
        events = [(e.sensitivity, e.what) for e in one.session.events]
    assert all(sensitivity == 3.0 for sensitivity, what in events if "marginal" not in what)
    assert any("image sums" in what for _, what in events)
    assert fitted.statement["unit"].endswith("(of at most 3 of the hospitals)")
    assert fitted.statement["epsilon_spent"] <= 1.0


class Shares(TableObjective):
    """A network of one layer on a row's features, whose loss hangs on nothing random."""

    def __init__(self, layout: Any) -> None:
        super().__init__(layout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.layer = torch.nn.Linear(layout.width, 1)

    def forward(self, batch: Any) -> torch.Tensor:
        """Return (patients,) losses."""
        return (self.layer(batch["rows"])[..., 0].square() * batch["weights"]).sum(1)


def test_without_noise_a_step_is_the_central_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every patient in the step, gradients are equal but for hospitals' rounding to multiples of C / 2^26."""
    from dpsynth.models.tabular.deep import tvae

    monkeypatch.setattr(tvae, "RowAutoencoder", lambda layout, *_: Shares(layout))
    found: list[Any] = []

    def fit(session: Session) -> None:
        maker: Any = make("tvae", **TINY["tvae"])
        paid = maker.counted(session, session.rho_left / 2)
        objective = Shares(paid.layout)

        def update(_step: int) -> None:
            found.append(torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None]).double())

        session.train(objective, update, expected=1000.0)

    plan = TrainingPlan(1.0, 2, 40.0, rho=0.01)
    monkeypatch.setattr(type(make("tvae")), "training", lambda *_: plan)
    monkeypatch.setattr(type(make("tvae")), "fit", lambda _self, session, _progress=None: fit(session))
    cohorts = cohorts_of(public=True)
    with silence(), together(SCHEMA, cohorts, tmp_path, model="tvae", options=TINY["tvae"]) as (study, transport):
        lead = Lead(study, transport, tmp_path / "lead", training=plan)
        lead.begin()
        checkpoint = Checkpoint(tmp_path / "s")
        terms: dict[str, Any] = {"training": plan, "checkpoint": checkpoint}
        with Session.over_hospitals(study.schema_of_all, study.budget, lead, **terms) as session:
            fit(session)
        frame = pd.concat([c.to_pandas() for c in cohorts.values()], ignore_index=True)
        with Session.open(Cohort.from_pandas(frame, SCHEMA, public=True), study.budget, training=plan) as session:
            fit(session)
    ours, central = found[:2], found[2:]
    for mine, theirs in zip(ours, central, strict=True):
        assert mine.abs().max() > 1e-4
        assert (mine - theirs).abs().max() <= 2 * plan.clipping_norm / UNIT / 1000.0 + 1e-7 * mine.abs().max()


def test_a_release_says_that_it_is_of_several_hospitals(tmp_path: Path) -> None:
    """privacy.json and the card name the unit, the hospitals, and what a malicious one can do."""
    with together(SCHEMA, cohorts_of(public=True), tmp_path, model="independent") as (study, transport):
        release_together(study, transport, tmp_path / "release", rows=50)
    import json

    facts = json.loads((tmp_path / "release" / "privacy.json").read_text())
    assert facts["hospitals"]["names"] == list(NAMES)
    assert any("spoils the release" in sentence for sentence in facts["not_protected"])
    card = (tmp_path / "release" / "README.md").read_text()
    assert "at a hospital" in card


class Recording:
    """A transport that keeps what was asked."""

    def __init__(self, transport: Any) -> None:
        self.transport, self.asked = transport, list[bytes]()

    def ask(self, question: bytes, *, seconds: float) -> dict[str, bytes]:
        """Ask, and keep."""
        self.asked.append(question)
        answers: dict[str, bytes] = self.transport.ask(question, seconds=seconds)
        return answers


def _skips_a_question(asked: list[Question]) -> Question:
    return asked[1]


def _lowers_the_noise(asked: list[Question]) -> Question:
    facts = {**asked[0].facts, "sigmas": [0.9 * sigma for sigma in asked[0].facts["sigmas"]]}
    return dataclasses.replace(asked[0], facts=facts)


def _asks_for_one_column_more(asked: list[Question]) -> Question:
    facts = asked[0].facts
    more = {"columns": [*facts["columns"], ["sex"]], "sigmas": [*facts["sigmas"], 50.0]}
    return dataclasses.replace(asked[0], facts=facts | more, arrays=[*asked[0].arrays, np.arange(2)])


def _asks_for_other_cells(asked: list[Question]) -> Question:
    maps = [np.arange(len(a)) // 2 for a in asked[0].arrays]
    return dataclasses.replace(asked[0], arrays=maps)


def _asks_interactions_for_counts(asked: list[Question]) -> Question:
    return dataclasses.replace(asked[0], kind="interactions")


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (_skips_a_question, "here 0 were given"),
        (_lowers_the_noise, "at another price"),
        (_asks_for_one_column_more, "other columns or cells"),
        (_asks_for_other_cells, "other columns or cells"),
        (_asks_interactions_for_counts, "the agreed model asks 'counts'"),
    ],
)
def test_a_hospital_answers_what_the_agreed_model_asks_and_nothing_else(
    attempt: Any, reason: str, tmp_path: Path
) -> None:
    """Its own program says which question comes next: another one is refused, the right one is answered."""
    with together(SCHEMA, cohorts_of(public=True), tmp_path / "honest", model="prism") as (study, transport):
        recording = Recording(transport)
        fit_together(study, recording)
        asked = [Question.from_bytes(message) for message in recording.asked][2:-1]
        assert len(asked) > 2
        with hospitals_here(study, cohorts_of(public=True), _keys(transport), tmp_path / "again") as hospitals:
            lead = Lead(study, InProcess(hospitals), tmp_path / "lead")
            lead.begin()
            north = hospitals["north"]
            wrong = dataclasses.replace(attempt(asked), number=2)
            assert reason in Answer.from_bytes(north.answer(wrong.to_bytes())).refusal
            assert not north.session.events
            assert not Answer.from_bytes(north.answer(asked[0].to_bytes())).refusal


def test_a_lead_that_changes_its_story_is_refused(tmp_path: Path) -> None:
    """What it says was answered before must stay what it was."""
    with together(SCHEMA, cohorts_of(public=True), tmp_path / "honest", model="prism") as (study, transport):
        recording = Recording(transport)
        fit_together(study, recording)
        asked = [Question.from_bytes(message) for message in recording.asked][2:-1]
        with hospitals_here(study, cohorts_of(public=True), _keys(transport), tmp_path / "again") as hospitals:
            Lead(study, InProcess(hospitals), tmp_path / "lead").begin()
            north = hospitals["north"]
            for question in asked[:2]:
                assert not Answer.from_bytes(north.answer(question.to_bytes())).refusal
            own = len(asked[2].parts[0])
            lied = [np.array(a) for a in asked[2].arrays]
            lied[own] = lied[own] + 1
            refusal = Answer.from_bytes(north.answer(dataclasses.replace(asked[2], arrays=lied).to_bytes())).refusal
            assert "something else was answered" in refusal
            assert not Answer.from_bytes(north.answer(asked[2].to_bytes())).refusal


def _keys(transport: Any) -> dict[str, dict[str, bytes]]:
    return {
        name: {"signing_public": hospital._public_keys[:32], "masking_key": hospital._masking_key}
        for name, hospital in transport._hospitals.items()
    }


def test_a_training_goes_on_after_a_hospital_and_the_lead_were_stopped(tmp_path: Path) -> None:
    """South opens again in the middle, then the lead: steps are taken once each, and the model comes out."""
    cohorts, terms = cohorts_of(public=True), {"model": "tvae", "options": {**TINY["tvae"], "steps": 6}}
    study, keys = study_of(SCHEMA, NAMES, name="wards", epsilon=1.0, **terms)
    with hospitals_here(study, cohorts, keys, tmp_path) as hospitals:
        stopping = Stopping(InProcess(hospitals), after=3)
        with pytest.raises(KeyboardInterrupt):
            fit_together(study, stopping, folder=tmp_path / "run")
    with hospitals_here(study, cohorts, keys, tmp_path) as hospitals:
        recording = Recording(InProcess(hospitals))
        fitted = fit_together(study, recording, folder=tmp_path / "run")
    assert len(fitted.sample(5)) == 5
    steps = [Question.from_bytes(m).facts["step"] for m in recording.asked if Question.from_bytes(m).kind == "step"]
    assert steps == sorted(set(steps))
    assert set(steps) <= set(range(2, 6))


class Stopping:
    """A transport that is interrupted after so many steps of a training, when hospitals have answered."""

    def __init__(self, transport: Any, after: int) -> None:
        self.transport, self.left = transport, after

    def ask(self, question: bytes, *, seconds: float) -> dict[str, bytes]:
        """Ask; then stop."""
        answers: dict[str, bytes] = self.transport.ask(question, seconds=seconds)
        if Question.from_bytes(question).kind == "step":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return answers
