"""The privacy statement in words and tables that a clinician understands: what an attacker could at best gain."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpsynth.evaluation.report.text import TextTable, number, percent
from dpsynth.privacy.spending.statement import discovered_in_words, unit_in_words

__all__ = ["Privacy", "ledger_grid", "ledger_summary", "posterior", "privacy"]

Statement = Mapping[str, Any]
PRIORS = (0.01, 0.1, 0.5)


@dataclass(frozen=True)
class Privacy:
    """The tables and figures of the page's section on privacy.

    Parameters
    ----------
    stated : bool
        Whether there is a privacy statement with an epsilon at all.
    warning : str
        Where the release protects nobody, why.
    words : list of str
        Paragraphs.
    facts, gains, power : TextTable or None
        The terms of the guarantee; what an attacker may come to believe; what an attacker finds at a false alarm rate.
    not_protected : list of str
    """

    stated: bool
    warning: str
    words: list[str]
    facts: TextTable | None
    gains: TextTable | None
    power: TextTable | None
    not_protected: list[str]


def posterior(prior: float, epsilon: float) -> float:
    """Return the greatest probability that somebody can reach who began with `prior`: odds times e^epsilon.

    Examples
    --------
    >>> round(posterior(0.5, 1.0), 3)
    0.731
    """
    return 1 / (1 + math.exp(-epsilon) * (1 - prior) / prior)


def privacy(statement: Statement, beside: str = "") -> Privacy:
    """Return what the page says about privacy, from ``privacy.json``; fields that are not there are unknown.

    Parameters
    ----------
    statement : mapping
    beside : str
        What was spent on the same patients for the evaluation, in words.
    """
    epsilon, delta = _real(statement.get("epsilon")), _real(statement.get("delta"))
    if epsilon is None or delta is None:
        warning = "No privacy statement was given: nothing on this page says that this cohort protects anybody."
        return Privacy(False, warning, [], None, None, None, [])
    warning = ""
    if statement.get("private") is not True:
        warning = (
            "This cohort is NOT PRIVATE: it was made with repeatable noise for tests, or its statement does not say "
            "otherwise. Do not publish anything made from it unless the patients are public."
        )
    return Privacy(
        True,
        warning,
        [*_words(statement, epsilon, delta), *([beside] if beside else [])],
        _facts(statement),
        _gains(epsilon),
        _power(statement.get("trade_off")),
        [_in_words(str(item), statement) for item in statement.get("not_protected") or ()],
    )


def _in_words(sentence: str, statement: Statement) -> str:
    """Return a sentence of the statement with words of the page for names of fields."""
    for name, records in (("max_rows_per_patient", "the rows"), ("max_images_per_patient", "them")):
        most = _maybe(statement.get(name))
        if most == "1":
            sentence = sentence.replace(f"only {name} of {records} were used", f"only one of {records} was used")
        sentence = sentence.replace(name, most)
    return sentence.replace("(see earlier_releases)", "(see earlier runs, below)")


def _real(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _words(statement: Statement, epsilon: float, delta: float) -> list[str]:
    stated = unit_in_words(statement) if "unit" in statement else "unknown unit"
    unit = "patient" if "patient" in stated else stated
    terms = (
        f"The release is ({number(epsilon)}, {delta:g})-differentially private; the unit of protection is one "
        f"{stated}. Both numbers cover everything that was computed from the private data for it."
    )
    once, least, twice = (number(math.exp(times * epsilon), 2) for times in (1, -1, 2))
    meaning = (
        f"Take any one {unit}. Had their data been left out, every possible release would have been about as likely: "
        f"between {least} and {once} times as likely, but for a case of probability about {delta:g} "
        f"({_one_in(delta)}). So whoever sees the release, whatever else they know and however clever their method, "
        f"can change their odds that this {unit} took part by a factor of at most {once}, and their odds between two "
        f"values of something about this {unit} (a diagnosis, say) by a factor of at most {twice}."
    )
    limits = (
        "It does not hide what is true of patients in general: if the release teaches that a disease is common in a "
        "group, that can be concluded about everybody in the group, also about those who never took part."
    )
    return [terms, meaning, limits]


def _one_in(probability: float) -> str:
    return f"one in {1 / probability:,.0f}" if 0 < probability < 1 else "none"


def _facts(statement: Statement) -> TextTable:
    accountant = statement.get("accountant") or {}
    earlier = statement.get("earlier_releases") or {}
    model = statement.get("model") or {}
    release = statement.get("release") or {}
    libraries = statement.get("libraries") or {}
    rows = [
        ("epsilon (granted)", number(_real(statement.get("epsilon")))),
        ("epsilon (spent)", number(_real(statement.get("epsilon_spent")))),
        ("delta", f"{statement['delta']:g}"),
        ("delta kept for finding categories", _maybe(statement.get("delta_for_discovery"))),
        ("unit of protection", _maybe(unit_in_words(statement) if "unit" in statement else None)),
        ("neighbours", _maybe(statement.get("neighbours"))),
        ("rows of a patient that were used, at most", _maybe(statement.get("max_rows_per_patient"))),
        ("accountant", _maybe(accountant.get("method"))),
        ("randomness", _maybe(statement.get("randomness"))),
        ("model", _maybe(model.get("name"))),
        ("rows that it learned from (declared, or by noisy counts)", number(_real(model.get("training_rows")))),
        ("earlier runs on the same data", _earlier(earlier)),
        ("release", _maybe(release.get("date"))),
        *(("values found", sentence) for sentence in discovered_in_words(statement)),
        *(("warning", str(warning)) for warning in statement.get("warnings", ())),
        ("versions", ", ".join(f"{name} {version}" for name, version in libraries.items()) or "unknown"),
    ]
    return TextTable("The terms of the guarantee", ("", "As stated"), rows, wide=True)


def _maybe(value: Any) -> str:
    if value is None or value == "":
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _earlier(earlier: Mapping[str, Any]) -> str:
    if not earlier:
        return "unknown"
    if earlier.get("runs") is None:
        return f"unknown ({earlier.get('note', 'no ledger')})"
    if not earlier["runs"]:
        return "none in the ledger"
    note = f" ({earlier['note']})" if earlier.get("note") else ""
    spent = f"epsilon {_maybe(earlier.get('epsilon'))}, delta {_maybe(earlier.get('delta'))}"
    return f"{earlier['runs']}, together {spent}{note}"


def _gains(epsilon: float) -> TextTable:
    rows = [(percent(prior, 0), percent(posterior(prior, epsilon))) for prior in PRIORS]
    head = ("Believed before seeing the release", "Believed after it, at most")
    return TextTable("How sure somebody can become that one given patient is in the data", head, rows)


def _power(points: Any) -> TextTable | None:
    """Return how many members an attacker finds at most, for shares of wrongly accused others."""
    if not isinstance(points, list):
        return None
    rows = []
    for point in points:
        alarm, missed = _real(point.get("false_positive_rate")), _real(point.get("min_false_negative_rate"))
        if alarm is not None and missed is not None:
            rows.append((percent(alarm, 2), percent(1 - missed, 2)))
    head = ("Wrongly taken for patients", "Rightly taken for patients, at most")
    return TextTable("The best possible membership test", head, rows) if rows else None


def ledger_grid(statement: Statement) -> TextTable | None:
    """Return every question that was asked of the private data, those of one kind and price in one row."""
    events = statement.get("events")
    if not isinstance(events, list) or not events:
        return None
    alike: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for event in events:
        if isinstance(event, Mapping):
            kind, _, columns = str(event.get("what", "unknown")).partition(" of ")
            noise = str(event.get("noise", event.get("kind", "unknown")))
            numbers = (_maybe(_real(event.get(key))) for key in ("sensitivity", "scale", "rho"))
            alike.setdefault((kind, noise, *numbers), []).append((columns, _maybe(event.get("count"))))
    rows = []
    for (kind, noise, sensitivity, scale, rho), asked in alike.items():
        what = "; ".join(f"{columns} ({times} times)" if times != "1" else columns for columns, times in asked)
        rows.append((f"{kind} of {what}" if what else kind, noise, sensitivity, scale, str(len(asked)), rho))
    head = ("Questions", "Noise", "Sensitivity", "Scale", "How many", "Price each (rho)")
    return TextTable("Everything that was asked of the private data", head, rows, wide=True)


def ledger_summary(statement: Statement) -> TextTable | None:
    """Return how many questions of each kind were asked, and their price together."""
    events = statement.get("events")
    if not isinstance(events, list) or not events:
        return None
    sums: dict[str, list[float]] = {}
    for event in events:
        count, rho = _real(event.get("count")) or 0.0, _real(event.get("rho")) or 0.0
        entry = sums.setdefault(str(event.get("noise", event.get("kind", "unknown"))), [0.0, 0.0])
        entry[0] += count
        entry[1] += count * rho
    rows = [(noise, number(count), f"{price:.4g}") for noise, (count, price) in sums.items()]
    if len(rows) > 1:
        count, price = (sum(side) for side in zip(*sums.values(), strict=True))
        rows.append(("all", number(count), f"{price:.4g}"))
    return TextTable("Questions by kind of noise", ("Noise", "Questions", "Price together (rho)"), rows)
