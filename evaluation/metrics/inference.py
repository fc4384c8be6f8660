"""Whether conclusions from the synthetic cohort are those from real patients.

The coefficients of one regression, named before looking, are estimated in both. Intervals from the synthetic cohort
take its rows for patients: they leave out the noise that privacy costs, so that a test in the synthetic cohort finds
effects that are not there too often (arXiv 2403.13612). Released counts do not have this fault: see `released.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Floats, Table
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Interval, Result, estimate, not_estimable
from dpsynth.evaluation.statistics.regression import RegressionFit, linear, logistic

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["Design", "Regression", "default_regression", "design_of", "inference", "overlap", "scales_of"]

#: How many predictors the regression has that nobody named.
PREDICTORS = 10


@dataclass(frozen=True)
class Regression:
    """A regression that was chosen before looking at the data.

    Parameters
    ----------
    outcome : str
        Two classes make it logistic (the last class against the first), a number linear.
    predictors : tuple of str
        Numbers enter linearly, per standard deviation of the real patients; categories as differences from the first.
        Rows with a missing value among these are left out.
    """

    outcome: str
    predictors: tuple[str, ...]

    @property
    def words(self) -> str:
        """The regression as a formula."""
        return f"{self.outcome} ~ {' + '.join(self.predictors)}"


def default_regression(schema: "Schema") -> Regression | None:
    """Return the regression of the schema's target on its subgroups and on columns that are never missing.

    At most ten predictors in the schema's order; None without a target, or for one of several classes. A public rule:
    nothing of the data decides.
    """
    target = schema.target
    if target is None:
        return None
    column = schema.columns[target]
    if column.type == "categorical" and len(column.values) != 2 and schema.survival is None:
        return None
    usable = [name for name in schema.modelled if name != target and name not in schema.withheld]
    others = [name for name in usable if name not in schema.subgroups]
    whole = [name for name in others if not getattr(schema.columns[name], "missing", False)]
    names = ([name for name in schema.subgroups if name in usable] + whole)[:PREDICTORS]
    return Regression(target, tuple(names)) if names else None


Scales = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Design:
    """Intercept and predictors of a regression, of the rows in which every value is there and has a magnitude."""

    names: list[str]
    features: Floats
    outcome: Floats
    patients: NDArray[np.int64]
    rows: NDArray[np.intp]


def design_of(table: Table, regression: Regression, scales: Scales) -> Design:
    """Return the design of a table; numbers enter as `scales` (of `scales_of`) standardise them."""
    wanted = [table[name] for name in (regression.outcome, *regression.predictors)]
    rows = np.flatnonzero(~np.any([variable.blank for variable in wanted], axis=0))
    names, columns = ["intercept"], [np.ones(len(rows))]
    for name in regression.predictors:
        values, categories = table[name].values[rows], table[name].categories
        if categories is None:
            middle, spread = scales[name]
            names.append(f"{name} (per SD)")
            columns.append((values - middle) / spread)
        else:
            names += [f"{name}: {label}" for label in categories[1:]]
            columns += [(values == code).astype(np.float64) for code in range(1, len(categories))]
    outcome = table[regression.outcome].values[rows].astype(np.float64)
    patients = np.unique(table.patients[rows], return_inverse=True)[1].astype(np.int64)
    return Design(names, np.column_stack(columns), outcome, patients, rows)


def scales_of(table: Table, regression: Regression) -> Scales:
    """Return the mean and the standard deviation of each number among a regression's predictors."""
    scales = {}
    for name in regression.predictors:
        if table[name].numeric:
            values = table[name].values[~table[name].blank]
            scales[name] = (float(values.mean()), float(values.std()) or 1.0) if len(values) else (0.0, 1.0)
    return scales


def _independent(features: Floats) -> NDArray[np.bool_]:
    """Return which columns are not constant and not determined by those before them."""
    kept = np.zeros(features.shape[1], dtype=bool)
    basis = np.zeros((len(features), 0))
    for place, column in enumerate(features.T):
        rest = column - basis @ (basis.T @ column)
        rest -= basis @ (basis.T @ rest)  # once more, against rounding
        length = float(np.linalg.norm(rest))
        kept[place] = length > 1e-7 * float(np.linalg.norm(column)) and length > 0
        if kept[place]:
            basis = np.column_stack([basis, rest / length])
    return kept


def _fit(design: Design, kept: NDArray[np.bool_], *, classes: bool) -> tuple[list[str], RegressionFit]:
    """Fit the regression on the columns that are kept."""
    if not kept.any():
        raise InputError("no row is complete in all predictors")
    if len(design.outcome) <= 2 * int(kept.sum()):
        raise InputError(f"{len(design.outcome)} complete rows are too few for {int(kept.sum())} coefficients")
    names = [name for name, is_kept in zip(design.names, kept, strict=True) if is_kept]
    if not classes:
        return names, linear(design.features[:, kept], design.outcome, design.patients)
    if len(np.unique(design.outcome)) < 2:
        raise InputError("the outcome has one value only")
    return names, logistic(design.features[:, kept], design.outcome, design.patients)


def overlap(left: Interval, right: Interval) -> float:
    """Return the mean share of two intervals that lies in both (Karr et al. 2006); 0 where they are apart."""
    common = min(left.high, right.high) - max(left.low, right.low)
    widths = left.high - left.low, right.high - right.low
    return max(0.0, 0.5 * sum(common / width if width > 0 else float(common >= 0) for width in widths))


def _coefficients(design: Design, kept: NDArray[np.bool_], arm: str, terms: Protocol, *, classes: bool) -> list[Result]:
    """Return a result per coefficient; those left out among the real patients are left out everywhere."""
    from scipy.stats import norm

    reach = float(norm.ppf(0.5 + terms.level / 2))
    estimates: dict[str, tuple[float, float]] = {}
    reason = "no row has this category, or the predictors before it determine it"
    try:
        names, fit = _fit(design, kept & _independent(design.features), classes=classes)
        estimates = dict(zip(names, zip(fit.coefficients.tolist(), fit.errors.tolist(), strict=True), strict=True))
    except InputError as fault:
        reason = str(fault)
    covers = ("patients",) if arm == "real" else ("rows, as if they were patients",)
    results = []
    for name in design.names[1:]:
        fields: dict[str, Any] = {"arm": arm, "subject": name, "disclosure": terms.disclosure, "n": len(design.outcome)}
        if name not in estimates:
            results.append(not_estimable("coefficient", reason, **fields))
            continue
        value, error = estimates[name]
        interval = Interval(value - reach * error, value + reach * error, terms.level, covers, "Wald, robust sandwich")
        results.append(estimate("coefficient", value, interval=interval, **fields))
    return results


def inference(real: Table, synthetic: Sequence[Table], regression: Regression, terms: Protocol) -> list[Result]:
    """Return coefficients from real patients and from the first synthetic draw, and how well they agree.

    Parameters
    ----------
    real : Table
    synthetic : sequence of Table
        Draws of the synthetic cohort; agreement is the mean over draws.
    regression : Regression
    terms : Protocol

    Raises
    ------
    InputError
        If the regression names a column that is not modelled, or an outcome of several classes.
    """
    for name in (regression.outcome, *regression.predictors):
        if name not in real.variables:
            raise InputError(f"regression: {name!r} is not a modelled column; the columns are {', '.join(real.names)}.")
    classes = real[regression.outcome].categories
    if classes is not None and len(classes) != 2:
        raise InputError(
            f"regression: {regression.outcome!r} has {len(classes)} classes; name a number or two classes."
        )
    scales = scales_of(real, regression)
    design = design_of(real, regression, scales)
    kept, of_classes = _independent(design.features), classes is not None
    base = _coefficients(design, kept, "real", terms, classes=of_classes)
    designs = [design_of(table, regression, scales) for table in synthetic]
    drawn = [_coefficients(drawn_design, kept, "synthetic", terms, classes=of_classes) for drawn_design in designs]
    return [*base, *drawn[0], *_agreement(base, drawn, regression, terms)]


def _agreement(
    base: Sequence[Result], drawn: Sequence[Sequence[Result]], regression: Regression, terms: Protocol
) -> list[Result]:
    """Return sign agreement, interval overlap and standardised difference over coefficients that both sides have."""
    pairs = [
        (result, two, result.interval, two.interval)
        for results in drawn
        for result, two in zip(base, results, strict=True)
        if result.interval is not None and two.interval is not None
    ]
    fields: dict[str, Any] = {"disclosure": terms.disclosure, "detail": {"regression": regression.words}}
    metrics = ("sign_agreement", "interval_overlap", "standardised_difference")
    if not pairs:
        reason = next((result.reason for result in (*base, *drawn[0]) if result.reason), "no coefficient is estimable")
        return [not_estimable(metric, reason, **fields) for metric in metrics]
    fields["n"] = len(pairs) // len(drawn)
    clear = [
        np.sign(result.number) == np.sign(two.number)
        for result, two, mine, _ in pairs
        if not mine.low <= 0 <= mine.high
    ]
    results = [
        estimate("sign_agreement", float(np.mean(clear)), **fields | {"n": len(clear) // len(drawn) or 1})
        if clear
        else not_estimable("sign_agreement", "no coefficient of the real patients is clearly off 0", **fields)
    ]
    overlaps = [overlap(mine, theirs) for _, _, mine, theirs in pairs]
    gaps = [abs(result.number - two.number) / _error(mine) for result, two, mine, _ in pairs if mine.high > mine.low]
    results.append(estimate("interval_overlap", float(np.mean(overlaps)), **fields))
    results.append(estimate("standardised_difference", float(np.mean(gaps)), **fields))
    return results


def _error(interval: Interval) -> float:
    from scipy.stats import norm

    return (interval.high - interval.low) / (2 * float(norm.ppf(0.5 + interval.level / 2)))
