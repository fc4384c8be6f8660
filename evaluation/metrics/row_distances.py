"""Distances of columns beyond their cells, and of whole rows: numbers, missing values, neighbours, two samples."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from dpsynth.evaluation.arrays.table import Floats, Table
from dpsynth.evaluation.learners.arms import join
from dpsynth.evaluation.learners.tabular import boosting, one_thread, tree_features
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Interval, Result, estimate, guarded, not_estimable
from dpsynth.evaluation.statistics import column_distances as columns
from dpsynth.evaluation.statistics import jackknife
from dpsynth.evaluation.statistics.bootstrap import draws_for, percentile, weights
from dpsynth.evaluation.statistics.neighbours import K, embed, prdc
from dpsynth.evaluation.statistics.scores import Ranking, ones

__all__ = ["missing_results", "neighbour_results", "number_results", "two_sample_results"]

Arms = Mapping[str, Sequence[Table]]

#: Rows of each cohort for distances of columns, for which each group of patients is left out in turn.
COLUMNS = 20_000
#: Rows of each cohort for distances between rows (quadratic), and for the classifier that tells cohorts apart.
NEIGHBOURS = 2_500
TWO_SAMPLE = 10_000


def _numbers(reference: Table, other: Table) -> Floats:
    """Return Wasserstein and KS distances of every number, shape (2 * numbers,); NaN where a side has no value."""
    distances = np.full((2, len(reference.variables)), np.nan)
    for place, (name, variable) in enumerate(reference.variables.items()):
        left, right = variable.values[variable.measured], other[name].values[other[name].measured]
        if variable.numeric and len(left) and len(right):
            span = (variable.high - variable.low) or 1.0
            distances[:, place] = columns.wasserstein(left, right) / span, columns.kolmogorov_smirnov(left, right)
    return distances.ravel()


def number_results(reference: Table, arms: Arms, terms: Protocol) -> list[Result]:
    """Return the mean Wasserstein distance (over the public range) and KS distance of numbers, for each arm.

    Missing and special values are left out; columns without a number on one side are named in `detail`.
    """
    results = []
    reference = reference.at_most(COLUMNS, terms.seed)
    for arm, draws in arms.items():
        less = [draw.at_most(COLUMNS, terms.seed) for draw in draws]
        compute = partial(_number_results, reference, less, terms, arm)
        results += guarded(("wasserstein", "ks"), compute, arm=arm, disclosure=terms.disclosure)
    return results


def _number_results(reference: Table, draws: Sequence[Table], terms: Protocol, arm: str) -> list[Result]:
    fields: dict[str, Any] = {"arm": arm, "disclosure": terms.disclosure}
    names = reference.names
    numeric = [name for name in names if reference[name].numeric]

    def means(left: Table, right: Table) -> Floats:
        each = _numbers(left, right).reshape(2, -1)
        kept = np.isfinite(each)
        sums = np.where(kept, each, 0.0).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)
        return np.concatenate([np.where(kept.any(axis=1), sums, np.nan), each.ravel()])

    value, spread = jackknife.two_sample(reference, draws, means, terms.seed)
    results = []
    for place, metric in enumerate(("wasserstein", "ks")):
        if not math.isfinite(value[place]):
            reason = "no column is numeric" if not numeric else "no numeric column has values on both sides"
            results.append(not_estimable(metric, reason, **fields))
            continue
        each = dict(zip(names, value[2:].reshape(2, -1)[place].tolist(), strict=True))
        detail = {"columns": {name: each[name] for name in numeric}, "rows": len(draws[0])}
        interval = jackknife.interval(value[place], spread[place], terms.level, low=0.0)
        results.append(estimate(metric, value[place], interval=interval, n=len(numeric), detail=detail, **fields))
    return results


def _missing(reference: Table, other: Table) -> Floats:
    gaps = np.abs(columns.missing_rates(reference) - columns.missing_rates(other))
    return np.concatenate([[gaps.mean(), columns.missing_pattern_tvd(reference, other)], gaps])


def missing_results(reference: Table, arms: Arms, terms: Protocol) -> list[Result]:
    """Return the mean error of the share missing, and the TVD of patterns of missing values, for each arm."""
    results: list[Result] = []
    if not any(variable.missing.any() for variable in reference.variables.values()):
        return [
            not_estimable(metric, "no value is missing among the real patients", arm=arm, disclosure=terms.disclosure)
            for metric in ("missing_rate_error", "missing_pattern_tvd")
            for arm in arms
        ]
    reference = reference.at_most(COLUMNS, terms.seed)
    for arm, draws in arms.items():
        less = [draw.at_most(COLUMNS, terms.seed) for draw in draws]
        value, spread = jackknife.two_sample(reference, less, _missing, terms.seed)
        each = dict(zip(reference.names, value[2:].tolist(), strict=True))
        for place, metric in enumerate(("missing_rate_error", "missing_pattern_tvd")):
            results.append(
                estimate(
                    metric,
                    value[place],
                    interval=jackknife.interval(value[place], spread[place], terms.level, low=0.0, high=1.0),
                    n=len(reference),
                    arm=arm,
                    disclosure=terms.disclosure,
                    detail={"columns": each} if place == 0 else {},
                )
            )
    return results


def neighbour_results(reference: Table, arms: Arms, terms: Protocol) -> list[Result]:
    """Return precision, recall, density and coverage (k = 5) of each arm's first draw; `n` is the rows counted."""
    metrics = ("precision", "recall", "density", "coverage")
    results: list[Result] = []
    for arm, draws in arms.items():
        fields: dict[str, Any] = {"arm": arm, "disclosure": terms.disclosure}
        real, other = (table.at_most(NEIGHBOURS, terms.seed) for table in (reference, draws[0]))
        if min(len(real), len(other)) <= K:
            results += [not_estimable(metric, f"needs more than {K} rows", **fields) for metric in metrics]
            continue
        results += guarded(metrics, partial(_neighbours, reference, real, other, terms, arm), **fields)
    return results


def _neighbours(reference: Table, real: Table, other: Table, terms: Protocol, arm: str) -> list[Result]:
    scores = prdc(embed(reference, real), embed(reference, other))
    results = []
    for metric in ("precision", "recall", "density", "coverage"):
        values = getattr(scores, metric)
        high = np.inf if metric == "density" else 1.0
        interval = _mean_interval(values, terms.level, high)
        results.append(
            estimate(metric, values.mean(), interval=interval, n=len(values), arm=arm, disclosure=terms.disclosure)
        )
    return results


def _mean_interval(values: Floats, level: float, high: float) -> Interval:
    """Return the interval of a mean over rows, as if the other cohort's rows were fixed."""
    from scipy.stats import norm

    reach = float(norm.ppf(0.5 + level / 2) * values.std(ddof=1) / math.sqrt(len(values)))
    mean = float(values.mean())
    return Interval(max(0.0, mean - reach), min(high, mean + reach), level, ("rows counted",), "normal, of a mean")


def two_sample_results(reference: Table, arms: Arms, terms: Protocol) -> list[Result]:
    """Return the AUROC of gradient boosting that tells each arm's first draw from the reference, on unseen patients."""
    results: list[Result] = []
    for arm, draws in arms.items():
        compute: Callable[[], Result] = partial(_two_sample, reference, draws[0], terms, arm)
        results += guarded("two_sample_auroc", compute, arm=arm, disclosure=terms.disclosure)
    return results


def _two_sample(reference: Table, other: Table, terms: Protocol, arm: str) -> Result:
    fields: dict[str, Any] = {"arm": arm, "disclosure": terms.disclosure}
    rows = min(len(reference), len(other), TWO_SAMPLE)
    sides = [table.at_most(rows, terms.seed) for table in (reference, other)]
    if min(int(side.patients.max()) + 1 for side in sides) < 40:
        return not_estimable("two_sample_auroc", "needs at least 40 patients on each side", **fields)
    halves = [_halves(side, terms.seed) for side in sides]
    encode, categorical = tree_features(join(halves[0][0], halves[1][0]), "")
    features = [[encode(part) for part in pair] for pair in halves]
    train, test = (np.concatenate([pair[k] for pair in features]) for k in (0, 1))
    labels = [np.repeat([False, True], [len(pair[k]) for pair in features]) for k in (0, 1)]
    model = boosting(categorical, terms.seed)
    with one_thread():
        model.fit(train, labels[0])
        ranking = Ranking(labels[1], model.predict_proba(test)[:, 1])
    patients = np.concatenate([halves[0][1].patients, halves[1][1].patients + int(halves[0][1].patients.max()) + 1])
    drawn = ranking.auroc(weights(labels[1].astype(np.int64), patients, draws_for(len(test)), terms.seed))
    interval = percentile(drawn, ("test rows of both cohorts",), terms.level)
    return estimate("two_sample_auroc", ranking.auroc(ones(len(test)))[0], interval=interval, n=len(test), **fields)


def _halves(table: Table, seed: int) -> tuple[Table, Table]:
    """Return two halves of a cohort that share no patient."""
    count = int(table.patients.max()) + 1
    mine = np.random.default_rng(seed).permutation(count)[table.patients] < count // 2
    return table.take(np.flatnonzero(mine)), table.take(np.flatnonzero(~mine))
