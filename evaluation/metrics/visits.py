"""Whether synthetic patients hang together over their visits as real ones do.

For cohorts whose schema declares visits. Correlations are between the values of one quantity at two visits of the same
patient, over the patients who have both; intervals resample patients.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.cohort.visits import flatten
from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Floats, Table, tables
from dpsynth.evaluation.result import Disclosure, Result, estimate, not_estimable
from dpsynth.evaluation.results import Results
from dpsynth.evaluation.statistics.bootstrap import percentile
from dpsynth.schema.flat import at_visit
from dpsynth.schema.visits import Visits

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

__all__ = ["constant_results", "correlation", "visit_results"]

DRAWS = 500
SMALLEST = 10
"""Patients with both visits that a correlation needs."""


def visit_results(cohorts: "Mapping[str, Cohort]", *, seed: int = 0) -> Results:
    """Return within-patient correlations, changes and constants of each cohort.

    Parameters
    ----------
    cohorts : mapping of str to Cohort
        By arm, such as ``real`` and ``synthetic``; of one schema that declares visits.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Results
        For each number and pair of visits ``visit_correlation`` (Pearson) and ``visit_rank_correlation`` (Spearman), of
        consecutive visits ``visit_change``; for each static column ``constant_share``. Internal, but of synthetic and
        public cohorts.

    Raises
    ------
    InputError
        If the schema declares no visits.
    """
    schema = next(iter(cohorts.values())).schema
    if schema.visits is None:
        raise InputError("visits: the schema declares none; say which column numbers the visits of a patient.")
    flat = tables({arm: flatten(cohort) for arm, cohort in cohorts.items()})
    results: list[Result] = []
    for arm, cohort in cohorts.items():
        public = cohort.synthetic or cohort.public
        fields: dict[str, Any] = {"arm": arm, "disclosure": Disclosure.PUBLIC if public else Disclosure.INTERNAL}
        results += _within(flat[arm], schema.visits, fields, seed)
        results += constant_results(cohort, schema.visits, fields)
    return Results(results)


def _within(table: Table, visits: Visits, fields: Mapping[str, Any], seed: int) -> list[Result]:
    numbers = dict.fromkeys(name.rpartition("@")[0] for name in table.names if "@" in name and table[name].numeric)
    results = []
    for column in numbers:
        for first, second in combinations(range(len(visits.values)), 2):
            names = [at_visit(column, visits.values[place]) for place in (first, second)]
            if not all(name in table.variables for name in names):
                continue
            values = [table[name].values for name in names]
            both = np.logical_and.reduce([table[name].measured for name in names])
            pair = np.stack([value[both] for value in values])
            label = f"{column}: {visits.values[first]} and {visits.values[second]}"
            results.append(_correlation("visit_correlation", pair, {**fields, "subject": label}, seed))
            ranks = np.stack([_ranks(side) for side in pair])
            results.append(_correlation("visit_rank_correlation", ranks, {**fields, "subject": label}, seed))
            if second == first + 1:
                results.append(_change(pair, {**fields, "subject": label}, seed))
    return results


def _times(patients: int, seed: int) -> NDArray[np.float64]:
    """Return bootstrap weights, shape (draws, patients)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(patients, np.full(patients, 1 / patients), size=DRAWS).astype(np.float64)


def correlation(pair: Floats, times: Floats) -> Floats:
    """Return Pearson's correlation of two rows of values for each row of weights; NaN where one does not vary."""
    total = times.sum(axis=1)
    means = [times @ column / total for column in pair]
    spreads = [times @ column**2 / total - mean**2 for column, mean in zip(pair, means, strict=True)]
    shared = times @ (pair[0] * pair[1]) / total - means[0] * means[1]
    product = np.sqrt(np.maximum(spreads[0], 0) * np.maximum(spreads[1], 0))
    return np.asarray(np.divide(shared, product, out=np.full(len(times), np.nan), where=product > 1e-12))


def _ranks(values: Floats) -> Floats:
    """Return average ranks, for Spearman's correlation; a bootstrap draw keeps those of the whole."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), dtype=np.float64)


def _correlation(metric: str, pair: Floats, fields: Mapping[str, Any], seed: int) -> Result:
    patients = pair.shape[1]
    value = float(correlation(pair, np.ones((1, patients)))[0]) if patients >= SMALLEST else np.nan
    if not np.isfinite(value):
        reason = f"{patients} patients have both visits, or one does not vary; needs {SMALLEST}"
        return not_estimable(metric, reason, n=patients, **fields)
    interval = percentile(correlation(pair, _times(patients, seed)), ("patients",))
    return estimate(metric, value, interval=interval, n=patients, **fields)


def _change(pair: Floats, fields: Mapping[str, Any], seed: int) -> Result:
    """Return the standard deviation of the change from a visit to the next; `detail` has its mean."""
    patients = pair.shape[1]
    if patients < SMALLEST:
        return not_estimable("visit_change", f"{patients} patients have both visits", n=patients, **fields)
    steps = pair[1] - pair[0]
    times = _times(patients, seed)
    means = times @ steps / patients
    drawn = np.sqrt(np.maximum(times @ steps**2 / patients - means**2, 0))
    detail = {"mean": float(steps.mean())}
    interval = percentile(drawn, ("patients",))
    return estimate("visit_change", float(steps.std()), interval=interval, n=patients, detail=detail, **fields)


def constant_results(cohort: "Cohort", visits: Visits, fields: Mapping[str, Any]) -> list[Result]:
    """Return for each static column the share of patients in whose rows it has one value (missing is a value)."""
    table = tables({"one": cohort})["one"]
    patients = int(table.patients.max()) + 1
    results = []
    for name in visits.static:
        values = np.nan_to_num(table[name].values.astype(np.float64), nan=np.inf)
        _, codes = np.unique(values, return_inverse=True)
        low, high = np.full(patients, codes.max()), np.zeros(patients, dtype=codes.dtype)
        np.minimum.at(low, table.patients, codes)
        np.maximum.at(high, table.patients, codes)
        share = float((low == high).mean())
        results.append(estimate("constant_share", share, n=patients, **{**fields, "subject": name}))
    return results
