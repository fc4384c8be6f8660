"""Models of times to an event, which are trained on one arm and judged on another: Cox's, and a survival forest."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Floats, Table
from dpsynth.evaluation.learners.tabular import dense_features, one_thread, tree_features
from dpsynth.evaluation.statistics.survival import FollowUp
from dpsynth.schema.survival import no_event

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema
    from dpsynth.schema.survival import Survival

__all__ = ["MODELS", "TimeTask", "available", "fit_times", "missing_extra"]

RIDGE = 0.01
"""Cox's model is penalised a little, so that columns that follow from each other do no harm."""
TREES, LEAF, ROWS = 100, 15, 3_000
"""Of the forest: trees, patients in a leaf at least, and rows that it is trained on at most."""
EVENTS = 10
"""Events that an arm needs to be learned from."""
missing_extra = "outcomes in time are judged with lifelines and scikit-survival: pip install 'dpsynth[survival]'."


def available() -> bool:
    """Return whether the packages that outcomes in time are judged with are there."""
    from importlib.util import find_spec

    return find_spec("lifelines") is not None and find_spec("sksurv") is not None


@dataclass(frozen=True)
class TimeTask:
    """What is predicted: the time to an event.

    Parameters
    ----------
    survival : Survival
        The columns.
    cause : int
        Code of the event.
    causes : tuple of int
        Codes of all events.
    label : str
        What the event is called, where there are several.
    """

    survival: "Survival"
    cause: int
    causes: tuple[int, ...]
    label: str = ""

    @classmethod
    def of(cls, schema: "Schema", table: Table) -> "list[TimeTask]":
        """Return the tasks of a schema's outcome in time: one for each event that may end the observation."""
        survival = schema.survival
        if survival is None:
            return []
        column = schema.columns[survival.event]
        labels = table[survival.event].categories or ()
        declared = [str(label) for label in labels]
        none = no_event(survival, column)
        causes = tuple(code for code in range(len(declared)) if code != none)
        return [cls(survival, code, causes, declared[code] if len(causes) > 1 else "") for code in causes]

    def known(self, table: Table) -> Table:
        """Return the rows of which time, event and entry are known, and the entry precedes the end."""
        blank = table[self.survival.time].blank | table[self.survival.event].blank
        if self.survival.entry is not None:
            entry = table[self.survival.entry]
            blank = blank | entry.blank | (entry.values >= table[self.survival.time].values)
        return table.take(np.flatnonzero(~blank)) if blank.any() else table

    def times(self, table: Table) -> FollowUp:
        """Return the times of a table whose rows are all known."""
        codes = table[self.survival.event].values
        event = codes == self.cause
        other = np.isin(codes, [cause for cause in self.causes if cause != self.cause])
        entry = None if self.survival.entry is None else table[self.survival.entry].values
        return FollowUp(table[self.survival.time].values, event, other if other.any() else None, entry)


@dataclass(frozen=True)
class TimeModel:
    """What a trained model says of a table: a risk for each row, and the chance to be without the event at times."""

    risks: Callable[[Table], Floats]
    curves: Callable[[Table, Floats], Floats]


def _cox(train: Table, task: TimeTask, seed: int) -> TimeModel:  # noqa: ARG001  (as other models)
    import pandas as pd
    from lifelines import CoxPHFitter

    encode, times = dense_features(train, task.survival.event), task.times(train)
    features = encode(train)
    kept = np.flatnonzero(features.std(axis=0) > 1e-9)
    if not len(kept):
        raise InputError("no column of the training arm varies")
    frame = pd.DataFrame(features[:, kept], columns=[f"x{place}" for place in kept])
    frame["time"], frame["event"] = np.maximum(times.time, 1e-6), times.event.astype(int)
    entry = None
    if times.entry is not None:
        frame["entry"], entry = times.entry, "entry"
    model = CoxPHFitter(penalizer=RIDGE)
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore")
        model.fit(frame, "time", "event", entry_col=entry)

    def rows(table: Table) -> Any:
        return pd.DataFrame(encode(table)[:, kept], columns=[f"x{place}" for place in kept])

    def curves(table: Table, grid: Floats) -> Floats:
        return np.asarray(model.predict_survival_function(rows(table), times=grid)).T

    return TimeModel(lambda table: np.asarray(model.predict_log_partial_hazard(rows(table)), dtype=float), curves)


def _forest(train: Table, task: TimeTask, seed: int) -> TimeModel:
    from sksurv.ensemble import RandomSurvivalForest
    from sksurv.util import Surv

    train = train.at_most(ROWS, seed)
    encode, _ = tree_features(train, task.survival.event)
    times = task.times(train)
    model = RandomSurvivalForest(TREES, min_samples_leaf=LEAF, max_features="sqrt", random_state=seed, n_jobs=1)
    with one_thread():
        model.fit(_filled(encode(train)), Surv.from_arrays(times.event, np.maximum(times.time, 1e-6)))

    def curves(table: Table, grid: Floats) -> Floats:
        steps = model.predict_survival_function(_filled(encode(table)), return_array=True)
        places = np.searchsorted(model.unique_times_, grid, side="right")
        whole: Floats = np.concatenate([np.ones((len(steps), 1)), steps], axis=1)[:, places]
        return whole

    return TimeModel(lambda table: np.asarray(model.predict(_filled(encode(table)))), curves)


def _filled(features: Floats) -> Floats:
    """Return features with a value below all others in place of what is missing."""
    return np.nan_to_num(features, nan=-1e6)


MODELS: Mapping[str, Callable[[Table, TimeTask, int], TimeModel]] = {
    "Cox regression": _cox,
    "survival forest": _forest,
}
"""The models by name."""


def fit_times(train: Table, task: TimeTask, model: str, seed: int) -> TimeModel:
    """Train a model of a time on the rows of `train` of which it is known.

    Raises
    ------
    InputError
        If they hold too few events.
    """
    train = task.known(train)
    events = int(task.times(train).event.sum())
    if events < EVENTS:
        raise InputError(f"the training arm has {events} events; needs {EVENTS}")
    return MODELS[model](train, task, seed)
