"""Small and awkward cohorts, and the four mechanisms in sizes that a test can wait for."""

from typing import Any

import numpy as np
import pandas as pd

from dpsynth.cohort import Cohort
from dpsynth.models.base import Synthesizer
from dpsynth.models.tabular.aim import AIM
from dpsynth.models.tabular.independent import Independent
from dpsynth.models.tabular.mst import MST
from dpsynth.models.tabular.prism import Prism
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.schema import Schema

NAMES = ("independent", "mst", "aim", "prism")
ORDINARY: dict[str, dict[str, Any]] = {
    "age": {"type": "numeric", "min": 18, "max": 100},
    "lab": {"type": "numeric", "min": 0.1, "max": 50, "decimals": 1, "scale": "log", "missing": True},
    "sex": {"type": "categorical", "values": ["female", "male"]},
    "unit": {"type": "categorical", "values": ["a", "b", "c", "d"], "missing": True},
    "died": {"type": "boolean", "labels": [0, 1]},
}


def maker(name: str) -> Synthesizer:
    """Return the mechanism; AIM with few rounds, since it fits a model in each of them."""
    makers = {"independent": Independent, "mst": MST, "prism": Prism}
    return AIM(rounds=2, sample=2_000) if name == "aim" else makers[name]()


def schema_of(columns: dict[str, Any], **facts: Any) -> Schema:
    """Return a confirmed schema."""
    return Schema.parse({"name": "ward", "confirmed": True, "columns": columns, **facts})


def cohort_of(columns: dict[str, Any], frame: dict[str, Any], **facts: Any) -> Cohort:
    """Return a cohort, public so that it needs no ledger."""
    return Cohort.from_pandas(pd.DataFrame(frame), schema_of(columns, **facts), public=True)


def ordinary(n: int = 400, seed: int = 0) -> dict[str, Any]:
    """Return n rows of `ORDINARY`, associated and with gaps."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 101, n)
    return {
        "age": age,
        "lab": np.where(rng.random(n) < 0.2, np.nan, np.round(np.exp(rng.normal(1, 0.8, n)).clip(0.1, 50), 1)),
        "sex": rng.choice(["female", "male"], n),
        "unit": np.where(rng.random(n) < 0.1, None, rng.choice(list("abcd"), n, p=[0.5, 0.3, 0.15, 0.05])),
        "died": (rng.random(n) < age / 150).astype(int),
    }


def fitted(name: str, cohort: Cohort, epsilon: float = 1.0, seed: int = 1, **options: Any) -> tuple[Session, Any]:
    """Return a session after a fit, and the model."""
    made = maker(name)
    for option, value in options.items():
        setattr(made, option, value)
    with Session.open(cohort, Budget(epsilon, 1e-6), accounting=made.accounting, seed=seed) as session:
        return session, made.fit(session)
