"""Outcomes in time: curves, restricted means, and models of the time to an event, real and synthetic, by group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.groups import Grouping
from dpsynth.evaluation.arrays.table import Floats, Table
from dpsynth.evaluation.learners.survival import (
    EVENTS,
    MODELS,
    TimeModel,
    TimeTask,
    available,
    fit_times,
    missing_extra,
)
from dpsynth.evaluation.metrics.inference import Design, Regression, default_regression, design_of, overlap, scales_of
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Interval, Result, estimate, failed, guarded, not_estimable
from dpsynth.evaluation.statistics.bootstrap import percentile, weights
from dpsynth.evaluation.statistics.survival import (
    FollowUp,
    brier_parts,
    concordance,
    restricted_mean,
    survival_curve,
)

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["survival_results"]

Arms = Mapping[str, Sequence[Table]]
DRAWS, ROWS = 200, 2_000
"""Bootstrap draws; and patients of a cohort that enter at most, as pairs of patients are compared."""
POINTS = 60
"""Times at which a curve is told."""
SEEN = 0.1
"""The horizon is the last time up to which this share of the test patients is under observation."""
HORIZONS = (0.25, 0.5, 0.75)
"""Parts of the horizon at which risks are compared with what happened."""
COVERED = ("test patients",)
_CURVES = ("rmst", "rmst_difference", "curve_distance", "logrank_p")
_MODELS = ("c_harrell", "c_uno", "brier_integrated", "survival_calibration")


def survival_results(
    schema: "Schema", test: Table, arms: Arms, groupings: Sequence[Grouping], terms: Protocol
) -> list[Result]:
    """Return how times to an event agree with those of the test patients, and how well models of them do.

    Parameters
    ----------
    schema : Schema
        Its outcome in time says what is judged; none gives no result.
    test : Table
        Real patients that the synthetic cohort was not fitted on.
    arms : mapping of str to sequence of Table
        ``real``, ``synthetic`` and further arms; draws of each, of which the first is judged.
    groupings : sequence of Grouping
        Of the test patients.
    terms : Protocol

    Returns
    -------
    list of Result
        Internal unless the real patients are public.
    """
    results: list[Result] = []
    for task in TimeTask.of(schema, test):
        fields = {"subject": task.label, "disclosure": terms.disclosure}
        if not available():
            results += [failed(metric, missing_extra, **fields) for metric in (*_CURVES, "c_harrell")]
            continue
        known = task.known(test).at_most(ROWS, terms.seed)
        events = int(task.times(known).event.sum())
        if events < EVENTS:
            reason = f"{events} of the test patients have the event; needs {EVENTS}"
            results += [not_estimable(metric, reason, **fields) for metric in (*_CURVES, "c_harrell")]
            continue
        judged = _Judged(task, known, {arm: task.known(draws[0]) for arm, draws in arms.items()}, terms)
        results += judged.curves()
        results += judged.models(groupings)
        results += guarded("cox_sign_agreement", partial(judged.coefficients, default_regression(schema)), **fields)
        for grouping in groupings:
            results += judged.groups(grouping)
    return results


@dataclass(frozen=True)
class _Judged:
    """One event among the test patients and in each arm."""

    task: TimeTask
    test: Table
    arms: Mapping[str, Table]
    terms: Protocol

    @property
    def label(self) -> str:
        return self.task.label

    def fields(self, arm: str, **more: Any) -> dict[str, Any]:
        """Return the fields that results of an arm share."""
        return {"arm": arm, "subject": self.label, "disclosure": self.terms.disclosure, **more}

    def times_of(self, table: Table) -> FollowUp:
        """Return the times of a table."""
        return self.task.times(table)

    @property
    def horizon(self) -> float:
        """The last time up to which enough test patients are under observation."""
        return float(np.quantile(self.times_of(self.test).time, 1 - SEEN))

    def drawn(self, table: Table, rows: Any = None, seed: int = 0) -> Floats:
        """Return bootstrap weights of a table's patients, the first row being 1 everywhere."""
        event = self.times_of(table).event.astype(np.int64)
        times = weights(event, table.patients, DRAWS, self.terms.seed + seed)
        if rows is not None:
            times = times[:, rows]
        return np.concatenate([np.ones((1, times.shape[1])), times])

    def interval(self, draws: Floats) -> Interval | None:
        """Return the interval of bootstrap draws, of which the first is the value itself."""
        return percentile(draws[1:], COVERED, self.terms.level)

    # -- curves -------------------------------------------------------------------------------------------------------

    def curves(self) -> list[Result]:
        """Return the restricted mean of each arm and how its curve differs from that of the test patients."""
        results: list[Result] = []
        for arm, table in self.arms.items():
            results += guarded(_CURVES, partial(self._curve, arm, table), **self.fields(arm))
        return results

    def _curve(self, arm: str, table: Table) -> list[Result]:
        fields = self.fields(arm, n=len(table))
        table = table.at_most(ROWS, self.terms.seed)
        if self.times_of(table).event.sum() < EVENTS:
            reason = f"fewer than {EVENTS} events in this arm"
            return [not_estimable(metric, reason, **fields) for metric in _CURVES]
        grid, horizon = np.linspace(0, self.horizon, POINTS), self.horizon
        sides = [(self.times_of(t), self.drawn(t, seed=place)) for place, t in enumerate((self.test, table))]
        curves = [survival_curve(times, draws, grid) for times, draws in sides]
        means = [restricted_mean(times, draws, horizon) for times, draws in sides]
        detail = {"time": grid, "horizon": horizon, "time_name": self.task.survival.time}
        for name, curve in zip(("test", "arm"), curves, strict=True):
            low, high = np.quantile(curve[1:], [(1 - self.terms.level) / 2, (1 + self.terms.level) / 2], axis=0)
            detail |= {name: curve[0], f"{name}_low": low, f"{name}_high": high}
        difference, gap = means[1] - means[0], np.abs(curves[1] - curves[0]).max(axis=1)
        return [
            estimate("rmst", means[1][0], interval=self.interval(means[1]), detail=detail, **fields),
            estimate("rmst_difference", difference[0], interval=self.interval(difference), **fields),
            estimate("curve_distance", gap[0], **fields),
            estimate("logrank_p", _logrank(sides[0][0], sides[1][0]), **fields),
        ]

    # -- models -------------------------------------------------------------------------------------------------------

    def models(self, groupings: Sequence[Grouping]) -> list[Result]:
        """Return how models that are trained on each arm rank and foresee the test patients' events."""
        results: list[Result] = []
        for name in MODELS:
            fitted: dict[str, TimeModel] = {}
            for arm, table in self.arms.items():
                subject = ", ".join(filter(None, (self.label, name)))
                fields = self.fields(arm, n=len(self.test)) | {"subject": subject}
                try:
                    fitted[arm] = fit_times(table, self.task, name, self.terms.seed)
                except InputError as error:
                    results += [not_estimable(metric, str(error), **fields) for metric in _MODELS]
                    continue
                except Exception as error:
                    reason = f"the training stopped ({type(error).__name__})"
                    results += [failed(metric, reason, **fields) for metric in _MODELS]
                    continue
                results += guarded(_MODELS, partial(self._scores, fitted[arm], fields), **fields)
            results += self._changes(name, fitted, groupings)
        return results

    def _scores(self, model: TimeModel, fields: Mapping[str, Any]) -> list[Result]:
        times, draws, horizon = self.times_of(self.test), self.drawn(self.test), self.horizon
        risks = model.risks(self.test)
        harrell = concordance(times, risks, draws)
        uno = concordance(times, risks, draws, horizon=horizon)
        grid = np.linspace(horizon / POINTS, horizon, POINTS)
        curves = model.curves(self.test, grid)
        parts = brier_parts(times, curves, grid, times)
        brier = draws @ parts / draws.sum(axis=1)
        results = [
            estimate("c_harrell", harrell[0], interval=self.interval(harrell), **fields),
            estimate("c_uno", uno[0], interval=self.interval(uno), **fields),
            estimate("brier_integrated", brier[0], interval=self.interval(brier), **fields),
        ]
        for part in HORIZONS:
            place = int(np.argmin(np.abs(grid - part * horizon)))
            happened = 1 - survival_curve(times, draws, grid[place : place + 1])[:, 0]
            foreseen = draws @ (1 - curves[:, place]) / draws.sum(axis=1)
            error = happened - foreseen
            at = {**fields, "subject": f"{fields['subject']} at {grid[place]:.4g}"}
            results.append(estimate("survival_calibration", error[0], interval=self.interval(error), **at))
        return results

    def _changes(self, name: str, fitted: Mapping[str, TimeModel], groupings: Sequence[Grouping]) -> list[Result]:
        """Return what is lost by training on the synthetic cohort, for all patients and in each group."""
        if not {"real", "synthetic"} <= set(fitted):
            return []
        subject = ", ".join(filter(None, (self.label, name)))
        times, draws = self.times_of(self.test), self.drawn(self.test)
        risks = {arm: fitted[arm].risks(self.test) for arm in ("real", "synthetic")}
        everybody = np.arange(len(self.test))
        cells = [("all", everybody)]
        cells += [(label, rows) for grouping in groupings for label, rows in _cells(grouping, self.test)]
        results: list[Result] = []
        for label, rows in cells:
            fields = {"subject": subject, "group": label, "n": len(rows), "disclosure": self.terms.disclosure}
            metrics = ("c_change",) if label == "all" else ("group_c", "group_c_change")
            own = times.take(rows)
            if own.event.sum() < EVENTS:
                reason = f"{int(own.event.sum())} events in the group; needs {EVENTS}"
                results += [not_estimable(metric, reason, **fields) for metric in metrics]
                continue
            scores = {arm: concordance(own, risk[rows], draws[:, rows]) for arm, risk in risks.items()}
            change = scores["synthetic"] - scores["real"]
            if label == "all":
                results.append(estimate("c_change", change[0], interval=self.interval(change), **fields))
                continue
            for arm, score in scores.items():
                results.append(estimate("group_c", score[0], interval=self.interval(score), arm=arm, **fields))
            results.append(estimate("group_c_change", change[0], interval=self.interval(change), **fields))
        return results

    # -- groups, coefficients -----------------------------------------------------------------------------------------

    def groups(self, grouping: Grouping) -> list[Result]:
        """Return how far the restricted means of a group's synthetic patients are from those of its test patients."""
        results: list[Result] = []
        table = self.arms["synthetic"].at_most(ROWS, self.terms.seed)
        drawn = dict(_cells(grouping, table))
        for label, rows in _cells(grouping, self.test):
            other = drawn.get(label, np.zeros(0, dtype=np.intp))
            fields = self.fields("synthetic", group=label, n=len(rows))
            sides = ((self.test, rows), (table, other))
            events = [int(self.times_of(t).take(r).event.sum()) for t, r in sides]
            if min(events) < EVENTS:
                results.append(
                    not_estimable("group_rmst_difference", f"{min(events)} events; needs {EVENTS}", **fields)
                )
                continue
            means = [
                restricted_mean(self.times_of(t).take(r), self.drawn(t, r, seed=place), self.horizon)
                for place, (t, r) in enumerate(sides)
            ]
            change = means[1] - means[0]
            results.append(estimate("group_rmst_difference", change[0], interval=self.interval(change), **fields))
        return results

    def coefficients(self, regression: Regression | None) -> list[Result]:
        """Return the coefficients of Cox's model in the real patients and in the synthetic cohort."""
        if regression is None:
            return []
        scales = scales_of(self.arms["real"], regression)
        designs = {arm: design_of(self.arms[arm], regression, scales) for arm in ("real", "synthetic")}
        fits = {arm: _coefficients(design, self.times_of(self.arms[arm])) for arm, design in designs.items()}
        real, synthetic = fits["real"], fits["synthetic"]
        names = [name for name in real if name in synthetic]
        results: list[Result] = []
        for arm, fit in fits.items():
            for name in names:
                value, ends = fit[name][0], _wald(*fit[name])
                subject = ", ".join(filter(None, (self.label, name)))
                facts = self.fields(arm, n=len(self.arms[arm])) | {"subject": subject}
                results.append(estimate("cox_coefficient", value, interval=ends, **facts))
        fields = self.fields(
            "synthetic", n=len(names), detail={"regression": f"{self.task.survival.time}, {regression.words}"}
        )
        same = np.mean([np.sign(real[name][0]) == np.sign(synthetic[name][0]) for name in names])
        shared = np.mean([overlap(_wald(*real[name]), _wald(*synthetic[name])) for name in names])
        return [
            *results,
            estimate("cox_sign_agreement", float(same), **fields),
            estimate("cox_interval_overlap", float(shared), **fields),
        ]


def _cells(grouping: Grouping, table: Table) -> list[tuple[str, Any]]:
    """Return the groups of a table's rows."""
    codes = grouping.codes(table)
    return [
        (label, np.flatnonzero(codes == code)) for code, label in enumerate(grouping.labels) if (codes == code).any()
    ]


def _logrank(first: FollowUp, second: FollowUp) -> float:
    from lifelines.statistics import logrank_test

    return float(logrank_test(first.time, second.time, first.event, second.event).p_value)


def _coefficients(design: Design, everybody: FollowUp) -> dict[str, tuple[float, float]]:
    """Return for each coefficient its value and standard error."""
    import warnings

    import pandas as pd
    from lifelines import CoxPHFitter

    times = everybody.take(design.rows)
    frame = pd.DataFrame(design.features[:, 1:], columns=design.names[1:])
    frame = frame.loc[:, frame.std() > 1e-9]
    kept = list(frame.columns)
    frame["__time"], frame["__event"] = np.maximum(times.time, 1e-6), times.event.astype(int)
    entry = None
    if times.entry is not None:
        frame["__entry"], entry = times.entry, "__entry"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = CoxPHFitter(penalizer=1e-4).fit(frame, "__time", "__event", entry_col=entry)
    return {name: (float(fit.params_[name]), float(fit.standard_errors_[name])) for name in kept}


def _wald(value: float, error: float) -> Interval:
    return Interval(value - 1.96 * error, value + 1.96 * error, 0.95, ("patients",), "Wald")
