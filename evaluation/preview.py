"""A first look at a synthetic cohort, in seconds: how close its tables are, and whether classifiers learn from it."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.evaluation.arrays.bins import BinKind, JudgingBins
from dpsynth.evaluation.arrays.table import Table, tables
from dpsynth.evaluation.learners.tabular import LEARNERS, Task, fit_predict, task_of
from dpsynth.evaluation.metrics.marginals import mean_tvd
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Disclosure, Result, estimate, guarded, not_estimable
from dpsynth.evaluation.results import Results
from dpsynth.evaluation.statistics.bootstrap import draws_for, percentile, weights
from dpsynth.evaluation.statistics.scores import Ranking, ones

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

__all__ = ["first_look"]

#: Larger cohorts are subsampled by patient.
ROWS = 50_000


def first_look(
    real_train: "Cohort",
    real_test: "Cohort",
    synthetic: "Cohort",
    target: str | None = None,
    *,
    bins: BinKind = "quantile",
    seed: int = 0,
) -> Results:
    """Judge a synthetic cohort in a few seconds: mean k-way TVD, and AUROC of classifiers trained on it.

    Parameters
    ----------
    real_train : Cohort
        The real patients that the model was fitted on: the reference of the tables, and the ceiling's training arm.
    real_test : Cohort
        Other real patients: every classifier is tested on them.
    synthetic : Cohort
    target : str, optional
        The outcome; None leaves out the classifiers.
    bins : {"quantile", "public"}
        Cells of numbers: cut from the real training patients, or from the schema's ranges.
    seed : int
        Draws subsets, jackknife groups and the bootstrap.

    Returns
    -------
    Results
        ``tvd_1way``, ``tvd_2way``, ``tvd_3way`` of the arms ``synthetic`` (against the training patients) and ``real``
        (the test patients against the training patients: what two samples of real patients differ by), and, for a
        target of two classes, ``auroc`` of the same arms on the test patients, with the learner as ``subject``.
        Public where both real cohorts are, internal else. Both training arms have the same number of rows. Of more
        than 50,000 rows a random subset of patients is used, which `n` shows.
    """
    arrays = tables({"train": real_train, "test": real_test, "synthetic": synthetic})
    public = arrays["train"].public and arrays["test"].public
    terms = Protocol(seed=seed, disclosure=Disclosure.PUBLIC if public else Disclosure.INTERNAL)
    arms = {name: table.at_most(ROWS, seed) for name, table in arrays.items()}
    results = _tables(arms, bins, terms)
    if target is not None:
        results += _classifiers(arms, target, terms)
    return Results(results)


def _tables(arms: dict[str, Table], bins: BinKind, terms: Protocol) -> list[Result]:
    rule = JudgingBins.of(arms["train"], bins)
    binned = {name: rule.apply(table) for name, table in arms.items()}
    results = []
    for order in range(1, min(3, len(arms["train"].names)) + 1):
        for arm, name in (("synthetic", "synthetic"), ("real", "test")):
            results.append(mean_tvd(binned["train"], binned[name], order, terms, arm=arm, words=rule.words))
    return results


def _classifiers(arms: dict[str, Table], target: str, terms: Protocol) -> list[Result]:
    task = task_of(arms["train"], target)
    if task.kind != "binary":
        kind = "is a number" if task.kind == "numeric" else "has more than two classes"
        does = "does not exist for it" if task.kind == "numeric" else "is not computed in a first look"
        reason = f"{target!r} {kind}: AUROC {does}; the full evaluation judges such targets"
        return [not_estimable("auroc", reason, arm=arm, disclosure=terms.disclosure) for arm in ("real", "synthetic")]
    rows = min(len(arms["train"]), len(arms["synthetic"]))
    training = {
        "real": arms["train"].at_most(rows, terms.seed),
        "synthetic": arms["synthetic"].at_most(rows, terms.seed),
    }
    results: list[Result] = []
    for learner in LEARNERS:
        for arm, train in training.items():
            compute = partial(
                _auroc, train.at_most(rows, terms.seed), arms["test"], task, terms, learner=learner, arm=arm
            )
            results += guarded("auroc", compute, arm=arm, subject=learner, disclosure=terms.disclosure)
    return results


def _auroc(train: Table, test: Table, task: Task, terms: Protocol, *, learner: str, arm: str) -> Result:
    test, train = task.known(test), task.known(train)
    truth = task.truth(test)
    fields: dict[str, Any] = {"n": len(test), "arm": arm, "subject": learner, "disclosure": terms.disclosure}
    for who, values in (("test patients", truth), ("training arm", task.truth(train))):
        if len(np.unique(values)) < 2:
            return not_estimable("auroc", f"the {who} have one class of {task.target!r} only", **fields)
    ranking = Ranking(truth, fit_predict(train, task, learner, terms.seed)(test).scores)
    drawn = ranking.auroc(weights(truth.astype(np.int64), test.patients, draws_for(len(test)), terms.seed))
    return estimate(
        "auroc",
        ranking.auroc(ones(len(test)))[0],
        interval=percentile(drawn, ("test patients",)),
        detail={"trained_rows": len(train), "positives": int(truth.sum())},
        **fields,
    )
