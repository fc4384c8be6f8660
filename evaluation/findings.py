"""What was found about a synthetic cohort, and on which terms: what every page of it is made from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Result
from dpsynth.evaluation.results import Results

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["Findings"]


@dataclass(frozen=True)
class Findings:
    """The results of judging a synthetic cohort, with the terms and the statement that go with them.

    Parameters
    ----------
    results : Results
    schema : Schema
        Public facts about the columns, for the report.
    terms : Protocol
    statement : mapping
        The privacy statement of the release; empty where there is none.
    about : mapping
        What was compared: rows, draws, bins, target, regression; JSON-able and public.
    """

    results: Results
    schema: "Schema"
    terms: Protocol
    statement: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def public(self) -> Self:
        """Return the evaluation with those results only that may be published."""
        return replace(self, results=self.results.public())
