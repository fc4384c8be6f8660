"""What a sweep follows over epsilon, and nothing else: several times quicker than the whole evaluation."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dpsynth.errors import InputError
from dpsynth.evaluation.arms import Exam, train_all
from dpsynth.evaluation.bins import Bins
from dpsynth.evaluation.classifiers import Answers, Classifier, answers, examined
from dpsynth.evaluation.fairness import group_results, judge
from dpsynth.evaluation.gaps import changes
from dpsynth.evaluation.groups import Grouping, grouping
from dpsynth.evaluation.learners import Task, task_of
from dpsynth.evaluation.marginals import mean_tvd
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.representation import representation
from dpsynth.evaluation.results import Disclosure, Result, Results, guarded
from dpsynth.evaluation.study import LEARNER
from dpsynth.evaluation.table import Table, tables
from dpsynth.evaluation.utility import utility
from dpsynth.progress import silent

if TYPE_CHECKING:
    from dpsynth.cohort import Cohort

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
    """Return the results that a `Run` needs: TVD of pairs, utility, groups and their sizes.

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
    found = tables({"test": real_test, **arms})
    test = found.pop("test")
    task = task_of(test, target)
    said = [answers(one, real_test, real_train, task, seed) for one in classifiers]
    schema = real_test.schema
    wanted = (*schema.subgroups, *schema.intersections) if subgroups is None else subgroups
    groupings = [grouping(test, columns) for columns in wanted]
    return Results(
        [
            *_pairs(test, found, terms),
            *_shares(found, groupings, terms),
            *_learned(test, found, task, groupings, terms, said=said),
        ]
    )


def _pairs(test: Table, arms: dict[str, Table], terms: Protocol) -> list[Result]:
    """Return the mean TVD of pairs of columns for each arm."""
    rows = min(terms.rows_counted, *(len(one) for one in arms.values()))
    rule = Bins.of(test, "quantile")
    reference = rule.apply(test.at_most(terms.rows_counted, terms.seed))
    return [
        mean_tvd(reference, rule.apply(one.at_most(rows, terms.seed)), 2, terms, arm=arm, words=rule.words)
        for arm, one in arms.items()
    ]


def _shares(arms: dict[str, Table], groupings: Sequence[Grouping], terms: Protocol) -> list[Result]:
    """Return how large each group is in the synthetic cohort and in the floor."""
    return [
        replace(one, arm=arm)
        for arm in ("synthetic", "floor")
        if arm in arms
        for one in representation(arms["real"], [arms[arm]], groupings, terms)
    ]


def _learned(
    test: Table,
    arms: dict[str, Table],
    task: Task,
    groupings: Sequence[Grouping],
    terms: Protocol,
    *,
    said: Sequence[Answers],
) -> list[Result]:
    """Return scores of every learner and arm, and what the groups gain or lose."""
    rows = min(terms.rows, *(len(one) for one in arms.values()))
    training = {arm: [one.at_most(rows, terms.seed)] for arm, one in arms.items()}
    exam = Exam(task, task.known(test).at_most(terms.rows, terms.seed), tuple(training["synthetic"]), terms)
    trained = train_all(training, exam, silent) + examined(said, arms["real"], exam)
    results = utility(trained, exam)
    floor = [replace(one, arm="synthetic") if one.arm == "floor" else one for one in trained if one.arm != "synthetic"]
    for one in groupings:
        judged, fields = judge(one, trained, exam, LEARNER), {"group": one.name, "disclosure": terms.disclosure}
        results += guarded("group_auroc", partial(group_results, judged), **fields)
        results += guarded("group_change", partial(changes, judged), **fields)
        below = guarded("group_change", partial(changes, judge(one, floor, exam, LEARNER)), **fields)
        results += [replace(result, arm="floor") for result in below]
    return results
