"""Utility and fairness against epsilon: many evaluations, over models, budgets and seeds, in one table and figure.

Fitting is not done here: whoever runs the sweep brings one `Evaluation` per fit. Each fit reads the patients again, so
a sweep is for public or simulated data.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.errors import InputError
from dpsynth.evaluation.result import Disclosure, DisclosureError, Result
from dpsynth.evaluation.results import Results

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Sweep", "SweepRun"]


ARMS = ("synthetic", "real", "floor", "dp_classifier")


@dataclass(frozen=True)
class SweepRun:
    """One fit of a sweep: its model and epsilon, and the results of judging what it drew.

    Parameters
    ----------
    model : str
    epsilon : float
    seed : int
        Number of the repetition.
    results : iterable of Result
        An `Evaluation`, or its results.
    """

    model: str
    epsilon: float
    seed: int
    results: Iterable[Result]

    def measures(self) -> dict[str, float]:
        """Return what is followed over epsilon, by arm where there are arms; what is not estimable is left out."""
        results = Results(self.results)
        values = dict(_scores(results))
        for arm in ("synthetic", "floor"):
            changes = [result.number for result in results.select("group_change", arm=arm) if result.ok]
            slopes = [result.number for result in results.select("representation_slope", arm=arm) if result.ok]
            if changes:
                values[_key("worst_change", arm)] = min(changes)
            if slopes:
                values[_key("representation_slope", arm)] = max(slopes, key=abs)
        for result in results.select("tvd_2way"):
            if result.ok and result.arm in ARMS:
                values[_key("tvd_2way", result.arm)] = result.number
        return values


def _scores(results: Results) -> Iterable[tuple[str, float]]:
    """Return the mean over learners of the main score of each arm."""
    metric = "auroc" if len(results.select("auroc")) else "r2"
    for arm in ARMS:
        scores = [result.number for result in results.select(metric, arm=arm) if result.ok]
        if scores:
            yield _key("auroc", arm), sum(scores) / len(scores)


def _key(measure: str, arm: str) -> str:
    return measure if arm == "synthetic" else f"{measure}:{arm}"


class Sweep:
    """Evaluations over models, budgets and seeds.

    Parameters
    ----------
    runs : iterable of SweepRun

    Raises
    ------
    InputError
        If there is no run.
    """

    def __init__(self, runs: Iterable[SweepRun]) -> None:
        self.runs = tuple(runs)
        if not self.runs:
            raise InputError("sweep: there is no run; give at least one epsilon and one seed.")

    @property
    def public(self) -> bool:
        """Whether every result of every run may be published."""
        return all(result.disclosure is Disclosure.PUBLIC for run in self.runs for result in run.results)

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per run and measure: model, epsilon, seed, measure, value."""
        import pandas as pd

        rows = [
            (run.model, run.epsilon, run.seed, measure, value)
            for run in self.runs
            for measure, value in run.measures().items()
        ]
        return pd.DataFrame(rows, columns=["model", "epsilon", "seed", "measure", "value"])

    def summary(self) -> "pd.DataFrame":
        """Return mean, least and greatest value over seeds, and their number, for each model, epsilon and measure."""
        grouped = self.to_frame().groupby(["model", "epsilon", "measure"], sort=False)["value"]
        return grouped.agg(["mean", "min", "max", "count"]).reset_index()

    def json(self) -> str:
        """Return the runs and their measures as JSON."""
        return json.dumps(self.to_frame().to_dict(orient="records"), allow_nan=False)

    def html(self, *, public: bool = False) -> str:
        """Return a page with a figure and a table for each measure.

        Raises
        ------
        DisclosureError
            If the page is to be public and a result is not.
        """
        from dpsynth.evaluation.report.sweep import render

        if public and not self.public:
            raise DisclosureError("the sweep touched private data without noise; its page cannot be published.")
        return render(self.summary(), len(self.runs), audience="public" if public else "internal")

    def write_html(self, path: str | Path, *, public: bool = False) -> None:
        """Write the page; see `html`."""
        from dpsynth.atomic import whole_file

        with whole_file(Path(path)) as partial:
            partial.write_text(self.html(public=public), encoding="utf-8")

    def _repr_html_(self) -> str:
        shown: Any = self.summary().to_html(index=False, float_format=lambda value: f"{value:.3f}")
        return str(shown)
