"""What somebody who has the page only can sign: sentences that follow from its answers, and what they do not cover."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dpsynth.evaluation.report.text import number
from dpsynth.evaluation.report.verdicts import Answer, GroupVerdict, UseVerdict
from dpsynth.evaluation.results import PublicResults, Results

__all__ = ["signable"]


def signable(
    verdicts: Sequence[UseVerdict], groups: Sequence[GroupVerdict], statement: Mapping[str, Any], results: Results
) -> list[tuple[str, list[str]]]:
    """Return headings, each with its sentences; a heading without sentences is left out.

    Parameters
    ----------
    verdicts : sequence of UseVerdict
    groups : sequence of GroupVerdict
    statement : mapping
        ``privacy.json``; empty where there is none.
    results : Results
        The page's; public ones make a page that can be published.
    """
    said = {answer: [verdict for verdict in verdicts if verdict.answer is answer] for answer in Answer}
    yes = [f"Good enough for: {verdict.use}." for verdict in said[Answer.YES]] + _models(groups, (Answer.YES,))
    no = [*_not_stated(statement), *(f"{verdict.use}." for verdict in said[Answer.NO]), *_models(groups, (Answer.NO,))]
    unchecked = [f"{verdict.use}. {verdict.finding}" for verdict in said[Answer.NOTHING_CHECKED]]
    unclear = (Answer.NOT_SHOWN, Answer.UNKNOWN)
    still = [f"{verdict.use}." for answer in unclear for verdict in said[answer]] + _models(groups, unclear)
    paragraphs = [
        ("Can be signed", [*_private(statement), *yes]),
        ("Cannot be signed: the numbers, or the nature of the rows, are against it", no),
        ("Nothing was checked: no evidence for or against", unchecked),
        ("Left open: needs other evidence", [*still, *_beyond(results)]),
    ]
    return [(words, sentences) for words, sentences in paragraphs if sentences]


def _models(groups: Sequence[GroupVerdict], answers: Sequence[Answer]) -> list[str]:
    """Return that models hold up in the groups with one of these answers."""
    names = [group.group for group in groups if group.learning in answers]
    every = "every group" if len(names) == len(groups) else "; ".join(names)
    return [f"That models learned from the cohort hold up in: {every}."] if names else []


def _not_stated(statement: Mapping[str, Any]) -> list[str]:
    """Return that privacy cannot be signed, where no statement says that the rows protect anybody."""
    if not isinstance(statement.get("epsilon"), (int, float)):
        return ["That the cohort protects anybody: it came without a privacy statement."]
    if statement.get("private") is not True:
        return ["That the cohort protects anybody: its statement does not say that it is private."]
    return []


def _private(statement: Mapping[str, Any]) -> list[str]:
    if statement.get("private") is not True or not isinstance(statement.get("epsilon"), (int, float)):
        return []
    gain = number(math.exp(statement["epsilon"]), 2)
    words = (
        "By its privacy statement the release lets nobody change their odds that a given patient took part by a factor "
        f"of more than {gain}, but for a case of probability about {statement.get('delta', 0):g}."
    )
    return [words]


def _beyond(results: Results) -> list[str]:
    """Return what no page of this kind can show."""
    people = (
        "That the data were collected lawfully, that all earlier releases are in the ledger, and that the schema was "
        "written without looking at the data: ask the publisher."
    )
    sentences = [
        "That the software does what its privacy statement says: ask for its audit.",
        people,
        "That another fit would do as well: no interval covers it.",
    ]
    if isinstance(results, PublicResults):
        sentences.append("Everything that needs real patients: ask the publisher for the internal report.")
    return sentences
