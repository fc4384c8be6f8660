"""What a privacy statement answers of the two checklists of the field: yes, no or unknown, and where.

The questions are ours, put together from NIST SP 800-226 (Guidelines for Evaluating Differential Privacy Guarantees,
March 2025) and from the transparency tiers of OpenDP's Differential Privacy Deployments Registry. *Yes* means that the
release answers the item, not that the answer is good. What the statement does not say is unknown, never a pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Item", "annex"]

Statement = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One question of a checklist for risk assessments, with the answer that the page gives.

    Parameters
    ----------
    source : str
        ``NIST`` or ``OpenDP tier k``.
    question : str
    answer : {"yes", "no", "unknown"}
    where : str
        Where the answer stands, or what is missing.
    """

    source: str
    question: str
    answer: str
    where: str


@dataclass(frozen=True)
class _Question:
    source: str
    question: str
    keys: tuple[str, ...]
    where: str = ""


_QUESTIONS = (
    _Question("NIST", "Which definition of differential privacy is claimed?", ("definition",)),
    _Question("NIST", "Is epsilon stated, as one number for everything that touched the data?", ("epsilon",)),
    _Question("NIST", "Is delta stated?", ("delta",)),
    _Question("NIST", "What is the unit of privacy?", ("unit",)),
    _Question("NIST", "Which datasets count as neighbours?", ("neighbours",)),
    _Question("NIST", "Is one person's contribution bounded, and how?", ("max_rows_per_patient",)),
    _Question("NIST", "Which mechanisms were used, with which noise and sensitivity?", ("events",)),
    _Question("NIST", "How do the mechanisms compose, and who adds them up?", ("accountant",)),
    _Question("NIST", "Are earlier releases on the same people counted?", ("earlier_releases",)),
    _Question("NIST", "What is not protected: bounds, categories, counts taken as public?", ("not_protected",)),
    _Question("NIST", "Where does the randomness come from? (implementation: random numbers)", ("randomness",)),
    _Question("NIST", "Which versions of which libraries? (implementation: correctness)", ("libraries",)),
    _Question("NIST", "What could an attacker gain, in words and numbers?", ("trade_off", "epsilon")),
    _Question("OpenDP tier 1", "Name of the data product", ("name",)),
    _Question("OpenDP tier 1", "Curator of the data", ("curator",)),
    _Question("OpenDP tier 1", "Description of the data product", ("description",)),
    _Question("OpenDP tier 1", "Intended use", ("intended_use",), "Section 2 says what the numbers support."),
    _Question("OpenDP tier 1", "Date of publication", ("date",)),
    _Question("OpenDP tier 2", "Variant of differential privacy", ("definition",)),
    _Question("OpenDP tier 2", "Unit of privacy and privacy loss", ("unit", "epsilon", "delta")),
    _Question("OpenDP tier 2", "Deployment model", ("epsilon",)),
    _Question("OpenDP tier 3", "Data domain", ("schema",)),
    _Question("OpenDP tier 3", "Unprotected quantities", ("not_protected",)),
    _Question("OpenDP tier 3", "Details of the unit of privacy", ("unit", "max_rows_per_patient")),
    _Question("OpenDP tier 3", "Accounting: composition and post-processing", ("accountant", "events")),
    _Question("OpenDP tier 3", "Pre-processing and choice of hyperparameters", ("earlier_releases",)),
    _Question("OpenDP tier 3", "Mechanisms", ("events",)),
    _Question("OpenDP tier 3", "Why these parameters were chosen", ("justification",)),
)

_WHERE: dict[str, str] = {
    "definition": "Section 1",
    "epsilon": "Section 1",
    "delta": "Section 1",
    "unit": "Section 1",
    "neighbours": "Section 1",
    "max_rows_per_patient": "Section 1: rows of a patient",
    "events": "Ledger",
    "accountant": "Section 1: accountant",
    "earlier_releases": "Section 1: earlier runs; every fit is counted, also those that were only tried",
    "not_protected": "Section 1: what is not protected",
    "randomness": "Section 1: randomness",
    "libraries": "Section 1: versions",
    "trade_off": "Section 1: what an attacker could gain",
    "name": "Title",
    "description": "Title; schema",
    "date": "Section 1: release",
    "schema": "model/schema.json in the release",
}

_MISSING: dict[str, str] = {
    "curator": "The privacy statement has no field for it; the publisher must add it.",
    "intended_use": "The publisher must say; Section 2 says what the numbers support.",
    "justification": "The privacy statement has no field for it; the publisher must add it.",
}


#: What no statement of software can answer; unknown until people do.
_FOR_PEOPLE = (
    ("Who could see the data before noise was added? (trust model, access control)", "Ask the publisher."),
    ("Was collecting the data lawful, and expected by the patients? (data collection)", "Ask the publisher."),
    ("Could time, memory or error messages leak? (side channels)", "Not measured; see what is not protected."),
    ("Was the implementation reviewed or audited by somebody else?", "Not stated."),
)


def _human() -> list[Item]:
    return [Item("NIST", question, "unknown", where) for question, where in _FOR_PEOPLE]


def _bias(*, fairness: bool, withheld: bool) -> Item:
    question = "Is the loss of accuracy, also in small groups, reported? (bias)"
    if fairness:
        return Item("NIST", question, "yes", "Section 6")
    where = "No number about how models do in groups may be shown on this page." if withheld else "No group was judged."
    return Item("NIST", question, "unknown", where)


def annex(statement: Statement, *, about: Mapping[str, Any], fairness: bool, withheld: bool = False) -> list[Item]:
    """Return all items with their answers.

    Parameters
    ----------
    statement : mapping
        ``privacy.json`` of the release; empty where there is none.
    about : mapping
        `name` and `description` of the cohort.
    fairness : bool
        Whether the page has numbers about groups.
    withheld : bool
        Whether there may be some that must not be shown.
    """
    facts = {**statement, **{key: about[key] for key in ("name", "description") if about.get(key)}}
    release = statement.get("release")
    if isinstance(release, Mapping):
        facts["date"] = release.get("date")
        facts["schema"] = "released"
    items = [_answer(question, facts) for question in _QUESTIONS]
    return [*items, _bias(fairness=fairness, withheld=withheld), *_human()]


def _deployment(facts: Statement) -> tuple[str, str] | None:
    if facts.get("epsilon") is None:
        return None
    return "yes", "Central: a trusted curator holds the data and adds the noise; one static release."


def _earlier(facts: Statement) -> tuple[str, str] | None:
    earlier = facts.get("earlier_releases")
    if not isinstance(earlier, Mapping) or earlier.get("runs") is not None:
        return None
    return "no", f"Section 1: {earlier.get('note', 'no ledger was kept')}."


_SPECIAL: dict[str, Callable[[Statement], tuple[str, str] | None]] = {
    "Deployment model": _deployment,
    "Are earlier releases on the same people counted?": _earlier,
    "Pre-processing and choice of hyperparameters": _earlier,
}


def _answer(question: _Question, facts: Statement) -> Item:
    special = _SPECIAL[question.question](facts) if question.question in _SPECIAL else None
    if special is not None:
        return Item(question.source, question.question, *special)
    missing = [key for key in question.keys if facts.get(key) in (None, "", [], {})]
    if missing:
        where = _MISSING.get(missing[0], f"The privacy statement does not give {missing[0].replace('_', ' ')}.")
        return Item(question.source, question.question, "unknown", where)
    return Item(question.source, question.question, "yes", "; ".join(dict.fromkeys(_WHERE[k] for k in question.keys)))
