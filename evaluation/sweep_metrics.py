"""What a sweep follows over epsilon, and nothing else: several times quicker than the whole evaluation."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.bins import JudgingBins
from dpsynth.evaluation.arrays.groups import Grouping, grouping
from dpsynth.evaluation.arrays.table import Table, tables
from dpsynth.evaluation.learners.arms import Exam, train_all
from dpsynth.evaluation.learners.from_outside import Classifier, ClassifierAnswers, answers, examined
from dpsynth.evaluation.learners.tabular import Task, task_of
from dpsynth.evaluation.metrics.fairness import group_results, judge
from dpsynth.evaluation.metrics.gaps import changes
from dpsynth.evaluation.metrics.marginals import mean_tvd
from dpsynth.evaluation.metrics.representation import representation
from dpsynth.evaluation.metrics.utility import utility
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Disclosure, Result, guarded
from dpsynth.evaluation.results import Results
from dpsynth.evaluation.sections import LEARNER
from dpsynth.progress import silent

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

__all__ = ["follow"]

#: Bootstrap draws of a run: a sweep shows the range over fits, not the interval of one.
DRAWS = 200


def follow(
    real_test: "Cohort",
    real_train: "Cohort",
    synthetic: "Cohort",
    *,
    floor: "Cohort | None" = None,
    classifiers: Sequence[Classifier] = (),
    target: str | None = None,
    subgroups: Sequence[str | Sequence[str]] | None = None,
    seed: int = 0,
) -> Results:
    """Return the results that a `SweepRun` needs: TVD of pairs, utility, groups and their sizes.

    Parameters
    ----------
    real_test, real_train : Cohort
        Real patients to test on, and those that the model was fitted on.
    synthetic : Cohort
    floor : Cohort, optional
        Independent columns at the same epsilon.
    classifiers : sequence of Classifier
        DP classifiers that were fitted directly on `real_train`, at the same epsilon.
    target, subgroups
        As for `evaluate`.
    seed : int
        Of subsets and learners.

    Raises
    ------
    InputError
        If there is no target, or a name is not a modelled column.
    """
    target = target or real_test.schema.target
    if target is None:
        raise InputError("target: a sweep needs an outcome; name one (--target, target=), or in the schema.")
    public = real_test.public and real_train.public
    disclosure = Disclosure.PUBLIC if public else Disclosure.INTERNAL
    terms = Protocol(seed=seed, disclosure=disclosure, draws=DRAWS)
    arms = {"real": real_train, "synthetic": synthetic} | ({} if floor is None else {"floor": floor})
    cohorts = tables({"test": real_test, **arms})
    test = cohorts.pop("test")
    task = task_of(test, target)
    said = [answers(classifier, real_test, real_train, task, seed) for classifier in classifiers]
    schema = real_test.schema
    wanted = (*schema.subgroups, *schema.intersections) if subgroups is None else subgroups
    groupings = [grouping(test, columns) for columns in wanted]
    return Results(
        [
            *_pairs(test, cohorts, terms),
            *_shares(cohorts, groupings, terms),
            *_learned(test, cohorts, task, groupings, terms, said=said),
        ]
    )


def _pairs(test: Table, arms: dict[str, Table], terms: Protocol) -> list[Result]:
    """Return the mean TVD of pairs of columns for each arm."""
    rows = min(terms.rows_counted, *(len(table) for table in arms.values()))
    rule = JudgingBins.of(test, "quantile")
    reference = rule.apply(test.at_most(terms.rows_counted, terms.seed))
    return [
        mean_tvd(reference, rule.apply(table.at_most(rows, terms.seed)), 2, terms, arm=arm, words=rule.words)
        for arm, table in arms.items()
    ]


def _shares(arms: dict[str, Table], groupings: Sequence[Grouping], terms: Protocol) -> list[Result]:
    """Return how large each group is in the synthetic cohort and in the floor."""
    return [
        replace(result, arm=arm)
        for arm in ("synthetic", "floor")
        if arm in arms
        for result in representation(arms["real"], [arms[arm]], groupings, terms)
    ]


def _learned(
    test: Table,
    arms: dict[str, Table],
    task: Task,
    groupings: Sequence[Grouping],
    terms: Protocol,
    *,
    said: Sequence[ClassifierAnswers],
) -> list[Result]:
    """Return scores of every learner and arm, and what the groups gain or lose."""
    rows = min(terms.rows, *(len(table) for table in arms.values()))
    training = {arm: [table.at_most(rows, terms.seed)] for arm, table in arms.items()}
    exam = Exam(task, task.known(test).at_most(terms.rows, terms.seed), tuple(training["synthetic"]), terms)
    trained = train_all(training, exam, silent) + examined(said, arms["real"], exam)
    results = utility(trained, exam)
    floor = [
        replace(model, arm="synthetic") if model.arm == "floor" else model
        for model in trained
        if model.arm != "synthetic"
    ]
    for groups in groupings:
        judged, fields = judge(groups, trained, exam, LEARNER), {"group": groups.name, "disclosure": terms.disclosure}
        results += guarded("group_auroc", partial(group_results, judged), **fields)
        results += guarded("group_change", partial(changes, judged), **fields)
        below = guarded("group_change", partial(changes, judge(groups, floor, exam, LEARNER)), **fields)
        results += [replace(result, arm="floor") for result in below]
    return results
