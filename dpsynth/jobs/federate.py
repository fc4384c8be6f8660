"""Several hospitals, one cohort: a model that is learned from noisy sums over all of them."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.atomic import check_target
from dpsynth.cohort.cohort import Cohort
from dpsynth.federated.hospital import Hospital
from dpsynth.federated.lead import Lead
from dpsynth.federated.masks import public_half
from dpsynth.federated.messages import Kind, Transport, fingerprint
from dpsynth.federated.statement import stated
from dpsynth.federated.steps import Allowed
from dpsynth.federated.study import Study
from dpsynth.federated.transport import InProcess
from dpsynth.jobs.evaluate import evaluate
from dpsynth.jobs.federated_rehearsal import ModelRehearsal, maker_of
from dpsynth.jobs.fit import add_facts
from dpsynth.jobs.local_releases import Local, fit_local
from dpsynth.jobs.outlook import add_warnings, foresee
from dpsynth.jobs.release import bundle, check_rows, draw
from dpsynth.models.base import Model, Progress
from dpsynth.privacy.resuming import Checkpoint
from dpsynth.privacy.session import Session
from dpsynth.progress import silent
from dpsynth.schema.schema import Schema

if TYPE_CHECKING:
    from dpsynth.evaluation.evaluation import Evaluation
    from dpsynth.privacy.spending.ledger import Ledger
    from dpsynth.sources.scanned import ScannedCohort

__all__ = ["demo", "fit_together", "maker_of", "open_hospital", "release_together", "split_evenly"]

TABLE: frozenset[Kind] = frozenset({"counts", "interactions"})
IMAGES: frozenset[Kind] = frozenset({"image_sums", "image_products", "images_per_row"})
DEMO_HOSPITALS = ("north", "south", "east", "west", "university")
DEMO_HOLDOUT = 0.3
JOINT, TOGETHER = "several hospitals together", "each hospital's own release, put together"
"""What a demonstration judges."""


def allowed(study: Study) -> Allowed:
    """Return what the study's model may ask of a hospital, by the program that is installed here."""
    maker, schema = maker_of(study), study.schema_of_all
    kinds = TABLE | (IMAGES if maker.of_images else frozenset())
    return Allowed(kinds, lambda: ModelRehearsal(study), maker.training(schema, study.budget))


def open_hospital(
    study: Study,
    name: str,
    cohort: "Cohort | ScannedCohort",
    folder: str | Path,
    *,
    signing_public: bytes,
    masking_key: bytes,
    ledger: "str | Path | Ledger | None" = None,
    seed: int | None = None,
) -> Hospital:
    """Return a hospital of a study that can be asked; nothing is spent before the lead begins.

    Parameters
    ----------
    study : Study
        Read and agreed to by a person of this hospital.
    name : str
        Which of its hospitals this is.
    cohort : Cohort or ScannedCohort
        Its patients.
    folder : path
        Where its run is kept.
    signing_public, masking_key : bytes
        Its keys: 32 raw bytes each.
    ledger, seed
        As for `dpsynth.fit`.

    Raises
    ------
    InputError, SchemaError
        When the study, the model, the keys or the schema do not fit.
    """
    keys: dict[str, Any] = {"signing_public": signing_public, "masking_key": masking_key}
    return Hospital(study, name, cohort, folder=folder, allowed=allowed(study), ledger=ledger, seed=seed, **keys)


def fit_together(
    study: Study,
    transport: Transport,
    *,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Model:
    """Fit the study's model to the patients of all its hospitals. Formal guarantee: the study's, for each of them.

    Parameters
    ----------
    study : Study
        What was agreed.
    transport : Transport
        Reaches the hospitals.
    folder : path, optional
        Keeps the run; called again with it, a run that was stopped goes on, and nothing is asked or spent twice.
    progress : callable, optional
        Called with a phase and the share of it that is done.

    Returns
    -------
    Model
        To sample from, to save and to release.

    Raises
    ------
    InputError
        When the model cannot be learned from sums.
    HospitalFailed
        When a hospital refuses, or does not answer and nothing is kept for asking anew; the message names it.
    """
    maker, report = maker_of(study), progress or silent
    with _kept(folder) as place:
        plan = maker.training(study.schema_of_all, study.budget)
        lead = Lead(study, transport, place / "lead", training=plan)
        report("opening the hospitals", 0.0)
        lead.begin()
        report("opening the hospitals", 1.0)
        session = Session.over_hospitals(
            study.schema_of_all,
            study.budget,
            lead,
            accounting=study.accounting,
            training=plan,
            checkpoint=Checkpoint(place / "session"),
            per_patient=study.per_patient,
            kept_back=study.asked_anew,
        )
        lead.pay_anew = session.ask_anew if study.asked_anew else None
        with session:
            fitted = maker.fit(session, progress)
        lead.end()
    add_facts(fitted, maker)
    fitted.statement = stated(fitted.statement, study)
    add_warnings(fitted, foresee(maker, study.schema_of_all, study.budget, max(fitted.rows, 1), search=False))
    return fitted


def release_together(
    study: Study,
    transport: Transport,
    out: str | Path,
    *,
    rows: int | None = None,
    licence: str = "",
    force: bool = False,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Model:
    """Fit over the hospitals and write the usual release; arguments as for `fit_together` and `dpsynth.release`.

    Returns
    -------
    Model
        What was released.

    Raises
    ------
    InputError, FileError, HospitalFailed
        As they; what can be refused is refused before anything is asked.
    """
    check_rows(rows)
    check_target(Path(out), force=force)
    fitted = fit_together(study, transport, folder=folder, progress=progress)
    bundle(fitted, draw(fitted, rows, progress=progress), out, licence=licence, force=force, progress=progress)
    return fitted


@contextlib.contextmanager
def _kept(folder: str | Path | None) -> Iterator[Path]:
    """Give the folder of a run: the one that is named, or one that is gone at the end."""
    if folder is not None:
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)


def split_evenly(cohort: Cohort, names: Sequence[str], *, seed: int = 0) -> dict[str, Cohort]:
    """Divide a public cohort's patients at random among hospitals; each patient is in one of them.

    Parameters
    ----------
    cohort : Cohort
        Public.
    names : sequence of str
        Of the hospitals.
    seed : int
        Of the division.
    """
    rng = np.random.default_rng(seed)
    of_patient = rng.integers(len(names), size=int(cohort.patients().max()) + 1)
    place = of_patient[cohort.patients()]
    part = _without_counts(cohort)
    return {name: part.take(np.flatnonzero(place == i)) for i, name in enumerate(names)}


def _without_counts(cohort: Cohort) -> Cohort:
    import dataclasses

    return dataclasses.replace(cohort, schema=cohort.schema.without_counts())


def study_of(schema: Schema, names: Sequence[str], **terms: Any) -> tuple[Study, dict[str, dict[str, bytes]]]:
    """Return a study of hospitals on this machine, with fresh keys: for a demonstration and for tests.

    Parameters
    ----------
    schema : Schema
        Of the joint cohort.
    names : sequence of str
        Of the hospitals.
    **terms
        Further fields of the study.

    Returns
    -------
    tuple of Study and dict
        The study, and the keys of each hospital as `open_hospital` takes them.
    """
    keys = {name: {"signing_public": os.urandom(32), "masking_key": os.urandom(32)} for name in names}
    marks = {name: fingerprint(of["signing_public"] + public_half(of["masking_key"])) for name, of in keys.items()}
    document = {
        "schema": schema.without_counts().to_dict(),
        "hospitals": [{"name": name, "fingerprint": mark} for name, mark in marks.items()],
        **terms,
    }
    return Study.parse(document), keys


@contextlib.contextmanager
def hospitals_here(
    study: Study, cohorts: Mapping[str, Cohort], keys: Mapping[str, Mapping[str, bytes]], folder: Path, **more: Any
) -> Iterator[dict[str, Hospital]]:
    """Open all hospitals of a study on this machine, each with a folder of its own."""
    opened: dict[str, Hospital] = {}
    try:
        for name, cohort in cohorts.items():
            place = folder / name
            own: dict[str, Any] = {**keys[name], **more}
            opened[name] = open_hospital(study, name, cohort, place / "run", **own)
        yield opened
    finally:
        for hospital in opened.values():
            hospital.close()


def demo(out: str | Path, *, model: str = "prism", force: bool = False, progress: Progress | None = None) -> "Demo":
    """Release a joint cohort of five hospitals on this machine, of SUPPORT2, and judge it beside their own releases.

    Parameters
    ----------
    out : path
        Gets ``release/``.
    model : str
        A model that asks for sums.
    force : bool
        Replace what is there.
    progress : callable, optional
        Called with a phase and the share of it that is done.

    Returns
    -------
    Demo
        The model and what was found.
    """
    from dpsynth.datasets import load_support2
    from dpsynth.evaluation.protocol import split

    target = Path(out) / "release"
    check_target(target, force=force)
    report = progress or silent
    train, test = split(load_support2(), DEMO_HOLDOUT)
    cohorts = split_evenly(train, DEMO_HOSPITALS)
    terms = {"name": "demonstration", "epsilon": 1.0, "delta": 1e-6, "model": model}
    study, keys = study_of(train.schema, DEMO_HOSPITALS, **terms)
    with tempfile.TemporaryDirectory() as scratch, hospitals_here(study, cohorts, keys, Path(scratch)) as hospitals:
        joint = release_together(study, InProcess(hospitals), target, force=force, progress=progress)
    alone = fit_local(study, cohorts, progress=progress)
    arms = {JOINT: joint.sample(joint.rows), TOGETHER: alone.synthetic}
    judged: dict[str, Evaluation] = {}
    for place, (name, synthetic) in enumerate(arms.items()):
        report("judging", place / len(arms))
        judged[name] = evaluate(test, synthetic, train=train)
    return Demo(study, joint, alone, judged, target)


@dataclass(frozen=True, eq=False)
class Demo:
    """What `demo` made.

    Parameters
    ----------
    study : Study
        Of five hospitals.
    joint : Model
        Learned from noisy sums over all of them.
    alone : Local
        Each hospital's own release.
    judged : dict of str to Evaluation
        Of the joint cohort and of the local releases together, on held-out patients: internal numbers.
    release : pathlib.Path
        The folder.
    """

    study: Study
    joint: Model
    alone: Local
    judged: "dict[str, Evaluation]"
    release: Path
