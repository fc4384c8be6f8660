"""What the privacy statement of several hospitals says beside that of one cohort."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dpsynth.federated.study import Study
from dpsynth.privacy.spending.accounting import epsilon_of
from dpsynth.privacy.spending.events import Event
from dpsynth.privacy.spending.statement import round_up

__all__ = ["epsilon_with", "stated"]

MALICE = (
    "A hospital that does not keep to the protocol: it can add or leave out patients of its own or send any numbers, "
    "which spoils the release, and can leave out its own noise. The noise is enough with so many of them as are "
    "foreseen (see hospitals); what is released is not checked against it."
)
SEVERAL = (
    "A patient of several of the hospitals: the unit is a patient at a hospital, and one who is in m of them is "
    "protected less, as by m releases together."
)
NO_LEDGER = (
    "each hospital keeps a ledger of its own, in which it debited this release; what it has spent before is known there"
)


def stated(statement: Mapping[str, Any], study: Study) -> dict[str, Any]:
    """Return a lead's statement with what is particular to several hospitals; all of it is public.

    Parameters
    ----------
    statement
        Of the session at the lead (`dpsynth.privacy.session.Session.statement`).
    study
        What was agreed.

    Returns
    -------
    dict
        With the field ``hospitals``, and unit, neighbours and guarantee that say in how many of them a patient may be.
    """
    unit = _unit(study, str(statement["unit"]))
    events = [Event.from_json(event) for event in statement["events"]]
    return {
        **statement,
        "guarantee": _reworded(str(statement["guarantee"]), study),
        "unit": unit,
        "neighbours": _reworded(str(statement["neighbours"]), study),
        "hospitals": _hospitals(study, events, bool(statement["private"])),
        "not_protected": [*statement["not_protected"], *_not_protected(study)],
        "earlier_releases": {"runs": None, "note": NO_LEDGER},
    }


def epsilon_with(study: Study, events: Sequence[Event], colluding: int) -> float:
    """Return the epsilon that is left for a patient where so many of the hospitals collude with the lead.

    Their noise is known to them: of the shares, each of variance ``sigma^2 / (n - t)``, ``n - colluding`` are left.

    Parameters
    ----------
    study, events
        What was agreed, and what was asked.
    colluding
        From 0 to n - 1; n - 1 is a hospital alone against all others, or one whose masks are all broken.

    Returns
    -------
    float
        At the study's delta.

    Examples
    --------
    >>> study = Study.parse({
    ...     "name": "wards", "epsilon": 1.0, "hospitals": [{"name": name} for name in "abcde"],
    ...     "schema": {"name": "ward", "confirmed": True, "columns": {"died": {"type": "boolean"}}},
    ... })
    >>> counts = [Event("gaussian", "counts of died", sensitivity=1.0, scale=5.0)]
    >>> [round(epsilon_with(study, counts, colluding), 2) for colluding in (0, 1, 4)]
    [0.74, 0.83, 1.77]
    """
    factor = math.sqrt((len(study.names) - colluding) / study.noisy)
    weakened = [replace(event, scale=event.scale * factor) for event in events]
    return epsilon_of(weakened, study.delta, study.accounting)


def _hospitals(study: Study, events: Sequence[Event], private: bool) -> dict[str, Any]:
    n, t = len(study.names), study.colluding
    facts: dict[str, Any] = {
        "study": study.name,
        "number": n,
        "names": list(study.names),
        "colluding": t,
        "noise": f"each adds noise of variance sigma^2 / {study.noisy}; that of {n} together is {n / study.noisy:.3g} "
        "sigma^2, and with the noise of those who collude taken off it is sigma^2 or more",
        "masks": "X25519, HKDF-SHA-256 and ChaCha20, fresh for each question and pair; keys pinned by fingerprint"
        if all(hospital.fingerprint for hospital in study.hospitals)
        else "X25519, HKDF-SHA-256 and ChaCha20, fresh for each question and pair; keys NOT pinned (demonstration)",
        "max_hospitals_per_patient": study.max_hospitals_per_patient,
    }
    if not private:
        return facts
    more = range(t + 1, n)
    return facts | {
        "epsilon_if_more_collude": {str(c): round_up(epsilon_with(study, events, c)) for c in more},
        "epsilon_of_a_hospital_alone": round_up(epsilon_with(study, events, n - 1)),
        "alone": "against all other hospitals and the lead together, or with all of its masks broken: its own share of "
        "the noise protects its patients",
    }


def _unit(study: Study, unit: str) -> str:
    most = study.max_hospitals_per_patient
    return f"{unit} at a hospital" if most is None else f"{unit} (of at most {most} of the hospitals)"


def _reworded(sentence: str, study: Study) -> str:
    """Say in a sentence on one patient in how many hospitals that one may be."""
    most = study.max_hospitals_per_patient
    where = "one patient at one hospital" if most is None else f"one patient of at most {most} of the hospitals"
    return sentence.replace("one patient", where, 1)


def _not_protected(study: Study) -> list[str]:
    if study.max_hospitals_per_patient is None:
        return [
            MALICE,
            SEVERAL,
        ]
    more = study.max_hospitals_per_patient
    beyond = f"A patient of more than {more} of the hospitals, whom nobody can find without comparing patients."
    return [MALICE, beyond]
