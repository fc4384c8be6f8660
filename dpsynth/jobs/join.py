"""Taking part in a study as one of its hospitals: what is agreed to, and answering until the lead asks no more."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.errors import InputError
from dpsynth.federated.keys import PrivateKeys, one_process, same_fingerprint
from dpsynth.federated.statement import epsilon_with
from dpsynth.federated.study import Member, Study
from dpsynth.jobs.federate import allowed, open_hospital
from dpsynth.jobs.fit import set_limit
from dpsynth.privacy.spending.accounting import rho_for
from dpsynth.privacy.spending.events import Event
from dpsynth.privacy.spending.ledger_place import ledger_of

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.federated.hospital import Hospital
    from dpsynth.privacy.spending.ledger import Ledger
    from dpsynth.sources.scanned import ScannedCohort

__all__ = ["Terms", "check_pinned", "give_up", "join_study", "member_of", "terms_of"]


@dataclasses.dataclass(frozen=True)
class Terms:
    """What a person of a hospital agrees to.

    Parameters
    ----------
    study
        Read from its file.
    hospital
        Which of its hospitals this is.
    kinds
        What may be asked: kinds of sums, and steps of a training.
    alone
        The epsilon of a patient here if all others collude; None where it is known only with the training's plan.
    spent, limit
        Epsilon of this hospital's ledger; None where nothing was spent yet, or no limit is set.
    ledger
        Its name.
    """

    study: Study
    hospital: str
    kinds: tuple[str, ...]
    alone: float | None
    spent: float | None
    limit: float | None
    ledger: str | None


def member_of(study: Study, keys: PrivateKeys) -> str:
    """Return which of a study's hospitals has these keys.

    Raises
    ------
    InputError
        If none has.
    """
    own = keys.public.fingerprint
    for hospital in study.hospitals:
        if same_fingerprint(hospital.fingerprint, own):
            return hospital.name
    raise InputError(
        f"study {study.name!r}: names no hospital with the fingerprint of this key, {own}. Use the key whose "
        "fingerprint you read out, or have the study file changed and sent to everybody."
    )


def check_pinned(study: Study) -> Member:
    """Refuse a study over the network in which a key is not pinned or the lead has no address; return the lead.

    Raises
    ------
    InputError
        The message names who lacks what.
    """
    for member in (study.lead, *study.hospitals):
        if not member.fingerprint:
            raise InputError(
                f"study {study.name!r}: {member.name} has no fingerprint. Have it read out by telephone from "
                "`dpsynth federate key --show hospital.key` and write it into the study file."
            )
    if not study.lead.address:
        raise InputError(f"study {study.name!r}: the lead has no address, such as https://lead.example.org.")
    return study.lead


def terms_of(study: Study, hospital: str, cohort: "Cohort | ScannedCohort", ledger: Path | None = None) -> Terms:
    """Return what a person of a hospital has to know before agreeing.

    Parameters
    ----------
    study, hospital
        What is agreed to, and who agrees.
    cohort
        The hospital's patients, of which nothing is told here.
    ledger
        As for `dpsynth.fit`.

    Raises
    ------
    InputError
        If the study's model cannot be asked of several hospitals.
    """
    may = allowed(study)
    steps = [] if may.training is None else [f"{may.training.steps:,} steps of a training"]
    alone = None
    if may.training is None:
        rho = rho_for(study.budget, study.accounting)
        everything = Event("gaussian", "all questions", sensitivity=1.0, scale=1 / math.sqrt(2 * rho))
        alone = epsilon_with(study, [everything], len(study.hospitals) - 1)
    book = ledger_of(cohort, ledger)
    there = book is not None and book.exists()
    return Terms(
        study=study,
        hospital=hospital,
        kinds=(*sorted(kind.replace("_", " ") for kind in may.kinds), *steps),
        alone=alone,
        spent=book.spent().epsilon if book is not None and there else None,
        limit=book.limit.epsilon if book is not None and there and book.limit else None,
        ledger=book.name if book is not None else None,
    )


def join_study(
    study: Study,
    cohort: "Cohort | ScannedCohort",
    key: str | Path,
    *,
    folder: str | Path,
    ledger: "str | Path | Ledger | None" = None,
    limit: float | None = None,
    proxy: str | None = None,
    inspected_by: Path | None = None,
    notice: Callable[[str], None] = lambda _words: None,
) -> str:
    """Answer a study's questions about this hospital's patients until the lead asks no more.

    Formal guarantee: that of the study, for this hospital's patients; each debit is in this hospital's ledger before an
    answer leaves. Connections go out only.

    Parameters
    ----------
    study : Study
        Read and agreed to by a person of this hospital.
    cohort : Cohort or ScannedCohort
        Its patients.
    key : path
        Its keys, of ``dpsynth federate key``.
    folder : path
        Keeps the run: called again with it, a run that was stopped goes on, and nothing is spent twice.
    ledger, limit
        As for `dpsynth.fit`.
    proxy : str, optional
        URL of a proxy; default: that of the environment.
    inspected_by : path, optional
        PEM file with the authority of a proxy that inspects TLS.
    notice : callable, optional
        Called with words for a person.

    Returns
    -------
    str
        What the lead says of the end.

    Raises
    ------
    InputError, SchemaError
        When the study, the keys, the model or the schema do not fit, or another process uses the key.
    TransportError
        When the lead stops early, cannot be reached, or is not believed. What was spent is in the ledger, and the run
        can be taken up again.
    """
    from dpsynth.federated.client import Link

    lead = check_pinned(study)
    keys = PrivateKeys.load(key)
    name = member_of(study, keys)
    with one_process(key):
        if limit is not None:
            set_limit(ledger_of(cohort, ledger), limit, study.budget)
        hospital = _opened(study, cohort, keys, folder=folder, ledger=ledger)
        connection: dict[str, Any] = {"proxy": proxy, "authority": inspected_by, "notice": notice}
        with Link(
            study.digest,
            keys,
            name=name,
            address=lead.address,
            fingerprint=lead.fingerprint,
            lead=lead.name,
            **connection,
        ) as link:
            notice(f"connected as {name}; waiting for the lead's questions.")
            reason = link.serve(hospital.answer)
        hospital.close()
    return reason


def give_up(
    study: Study,
    cohort: "Cohort | ScannedCohort",
    key: str | Path,
    *,
    folder: str | Path,
    ledger: "str | Path | Ledger | None" = None,
) -> None:
    """End a run that was stopped, for good: the ledger then counts what was spent rather than all that was reserved.

    Parameters
    ----------
    study, cohort, key, folder, ledger
        As for `join_study`.

    Raises
    ------
    InputError
        When there is no such run.
    """
    if not (Path(folder) / "study").is_file():
        raise InputError(f"{Path(folder).name}: holds no run of a study; there is nothing to give up.")
    keys = PrivateKeys.load(key)
    with one_process(key):
        _opened(study, cohort, keys, folder=folder, ledger=ledger).close()


def _opened(
    study: Study,
    cohort: "Cohort | ScannedCohort",
    keys: PrivateKeys,
    *,
    folder: str | Path,
    ledger: "str | Path | Ledger | None",
) -> "Hospital":
    return open_hospital(
        study,
        member_of(study, keys),
        cohort,
        folder,
        signing_public=keys.public.signing,
        masking_key=keys.masking.private_bytes_raw(),
        ledger=ledger,
    )
