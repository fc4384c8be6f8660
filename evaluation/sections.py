"""The parts of an evaluation in their order, each from cohorts that are tables already."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from dpsynth.evaluation.arrays.bins import BinKind
from dpsynth.evaluation.arrays.groups import Grouping
from dpsynth.evaluation.arrays.table import Table
from dpsynth.evaluation.learners.arms import Exam, Trained, join, prevalence, train_all
from dpsynth.evaluation.learners.from_outside import ClassifierAnswers, examined
from dpsynth.evaluation.learners.tabular import LEARNERS, task_of
from dpsynth.evaluation.metrics.checks import duplicate_results
from dpsynth.evaluation.metrics.copies import copy_results
from dpsynth.evaluation.metrics.fairness import Judged, group_results, judge
from dpsynth.evaluation.metrics.fidelity import fidelity
from dpsynth.evaluation.metrics.gaps import change_results, gap_results, parity_results, with_holm
from dpsynth.evaluation.metrics.inference import Regression, inference
from dpsynth.evaluation.metrics.orders import order_results
from dpsynth.evaluation.metrics.representation import representation, synthetic_shares
from dpsynth.evaluation.metrics.survival import survival_results
from dpsynth.evaluation.metrics.utility import utility
from dpsynth.evaluation.protocol import Progress, Protocol
from dpsynth.evaluation.result import Result, guarded

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["Study"]

#: The learner whose predictions are judged group by group.
LEARNER = next(iter(LEARNERS))

_FAIR = {
    "group_auroc": group_results,
    "largest_did": change_results,
    "gap": gap_results,
    "equalized_odds": parity_results,
}


@dataclass(frozen=True)
class Study:
    """The cohorts of one evaluation as tables, and the metrics of rows that are computed of them.

    Parameters
    ----------
    test, train : Table
        Real patients: those that everything is tested on, and those that the synthetic cohort was fitted on.
    drawn : dict of str to list of Table
        ``synthetic`` and further arms; draws of each.
    terms : Protocol
    say : callable
        Told of each phase.
    answers : sequence of ClassifierAnswers
        What classifiers that were fitted elsewhere say about the rows of `test` and `train`.
    """

    test: Table
    train: Table
    drawn: dict[str, list[Table]]
    terms: Protocol
    say: Progress
    answers: Sequence[ClassifierAnswers] = ()

    @cached_property
    def real(self) -> Table:
        """All real patients."""
        return join(self.train, self.test)

    def fidelity(self, bins: BinKind) -> list[Result]:
        """Return results on tables, columns and rows, the test patients being the reference."""
        self.say("comparing tables, columns and rows", 0.05)
        synthetic = self.drawn["synthetic"]
        twins = partial(duplicate_results, self.train, {"real": [self.test], "synthetic": synthetic}, self.terms)
        copies = partial(copy_results, self.train, self.test, synthetic, self.terms)
        return [
            *fidelity(self.test, {"real": [self.train], **self.drawn}, self.terms, bins),
            *guarded("duplicates", twins, disclosure=self.terms.disclosure),
            *guarded("copies", copies, disclosure=self.terms.disclosure),
        ]

    def ordered(self, pairs: Sequence[tuple[str, str]]) -> list[Result]:
        """Return results on the differences of columns that the schema puts in order."""
        return order_results(self.test, {"real": [self.train], **self.drawn}, pairs, self.terms)

    def representation(self, groupings: Sequence[Grouping]) -> list[Result]:
        """Return how large each group is, among real patients and in the synthetic cohort."""
        synthetic = self.drawn["synthetic"]
        return [
            *synthetic_shares(synthetic[0], groupings),
            *representation(self.real, synthetic, groupings, self.terms),
        ]

    def learned(self, target: str, groupings: Sequence[Grouping]) -> list[Result]:
        """Return results on classifiers (or regressors): overall, and group by group."""
        task, terms = task_of(self.test, target), self.terms
        rows = min([terms.rows, len(self.train), *(len(draw) for draws in self.drawn.values() for draw in draws)])
        training = {"real": [self.train.at_most(rows, terms.seed)]}
        training |= {arm: [draw.at_most(rows, terms.seed) for draw in draws] for arm, draws in self.drawn.items()}
        training["real+synthetic"] = [join(training["real"][0], draw) for draw in training["synthetic"]]
        test = task.known(self.test).at_most(terms.rows, terms.seed)
        exam = Exam(task, test, tuple(training["synthetic"]), terms)
        trained = train_all(training, exam, lambda phase, share: self.say(phase, 0.35 + 0.35 * share))
        trained += [*examined(self.answers, self.train, exam), prevalence(training["real"][0], exam)]
        self.say("scoring", 0.7)
        return [*utility(trained, exam), *self._groups(groupings, trained, exam)]

    def _groups(self, groupings: Sequence[Grouping], trained: list[Trained], exam: Exam) -> list[Result]:
        results: list[Result] = []
        for place, grouping in enumerate(groupings):
            self.say(f"judging groups of {grouping.name}", 0.75 + 0.2 * place / len(groupings))
            judged: Judged = judge(grouping, trained, exam, LEARNER)
            for metric, step in _FAIR.items():
                results += guarded(metric, partial(step, judged), group=grouping.name, disclosure=self.terms.disclosure)
        return with_holm(results)

    def inferred(self, regression: Regression | None) -> list[Result]:
        """Return coefficients of a regression from all real patients and from the synthetic cohort."""
        if regression is None:
            return []
        self.say("regression", 0.95)
        limit, seed = self.terms.rows_counted, self.terms.seed
        synthetic = [draw.at_most(limit, seed) for draw in self.drawn["synthetic"]]
        return inference(self.real.at_most(limit, seed), synthetic, regression, self.terms)

    def in_time(self, schema: "Schema", groupings: Sequence[Grouping]) -> list[Result]:
        """Return results on an outcome in time; none where the schema declares no such outcome."""
        if schema.survival is None:
            return []
        self.say("following patients up", 0.97)
        return survival_results(schema, self.test, {"real": [self.train], **self.drawn}, groupings, self.terms)

    def about(self) -> dict[str, Any]:
        """Return what was compared; public facts only."""
        synthetic = self.drawn["synthetic"]
        return {
            "draws": len(synthetic),
            "synthetic_rows": len(synthetic[0]),
            "arms": ["real", *self.drawn],
            "seed": self.terms.seed,
        }
