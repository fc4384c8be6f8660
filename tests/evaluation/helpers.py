"""Small cohorts and tables with a known truth."""

from typing import Any

import numpy as np
import pandas as pd

from dpsynth.cohort import Cohort
from dpsynth.evaluation.arrays.table import Table, Variable
from dpsynth.schema import Schema

SCHEMA = """
name: ward
confirmed: true
target: died
subgroups: [sex, race]
intersections: [[sex, race]]
columns:
  age: {type: numeric, min: 18, max: 100, cuts: [65]}
  crea: {type: numeric, min: 0, max: 20, decimals: 1, missing: true, special: [0]}
  sex: {type: categorical, values: [f, m]}
  race: {type: categorical, values: [a, b, c], missing: true}
  stage: {type: categorical, values: [one, two, three], ordered: true}
  admitted: {type: datetime, min: 2020-01-01, max: 2021-12-31, missing: true}
  died: {type: boolean, labels: [0, 1]}
constraints:
  - {when: {stage: one}, forbid: {age: {min: 99}}}
"""


def schema(text: str = SCHEMA) -> Schema:
    """Return the schema of the ward."""
    return Schema.parse(text)


def frame(n: int = 600, seed: int = 0, *, effect: float = 1.0) -> pd.DataFrame:
    """Return made-up patients whose death depends on age and creatinine, as strongly as `effect` says."""
    rng = np.random.default_rng(seed)
    age = np.clip(np.round(rng.normal(60, 15, n)), 18, 98)
    crea = np.round(np.exp(rng.normal(0.2, 0.5, n)), 1)
    crea = np.clip(crea, 0.1, 20)
    crea[rng.random(n) < 0.05] = 0
    risk = 1 / (1 + np.exp(-effect * ((age - 60) / 8 + 1.5 * (crea - 1.2)) + 0.5))
    race = rng.choice(["a", "b", "c"], n, p=[0.75, 0.2, 0.05]).astype(object)
    race[rng.random(n) < 0.03] = None
    crea[rng.random(n) < 0.15] = np.nan
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 700, n), unit="D")
    return pd.DataFrame(
        {
            "age": age.astype(int),
            "crea": crea,
            "sex": rng.choice(["f", "m"], n),
            "race": race,
            "stage": rng.choice(["one", "two", "three"], n, p=[0.5, 0.3, 0.2]),
            "admitted": pd.Series(days).where(rng.random(n) > 0.1),
            "died": (rng.random(n) < risk).astype(int),
        }
    )


def cohort(data: pd.DataFrame, text: str = SCHEMA, **facts: Any) -> Cohort:
    """Return a cohort of the ward."""
    return Cohort.from_pandas(data, schema(text), **facts)


def ward(n: int = 600, seed: int = 0, *, effect: float = 1.0, **facts: Any) -> Cohort:
    """Return a cohort of made-up patients."""
    return cohort(frame(n, seed, effect=effect), **facts)


def numbers(**columns: Any) -> Table:
    """Return a table of numbers in the range 0 to 1; every row is a patient."""
    rows = len(next(iter(columns.values())))
    variables = {
        name: Variable(name, np.asarray(values, dtype=float), ordered=True) for name, values in columns.items()
    }
    return Table(variables, np.arange(rows))


def categories(**columns: Any) -> Table:
    """Return a table of categories given as codes (-1: missing); every row is a patient."""
    rows = len(next(iter(columns.values())))
    variables = {}
    for name, values in columns.items():
        codes = np.asarray(values, dtype=np.int64)
        labels = tuple(f"{name}{place}" for place in range(int(codes.max()) + 1))
        variables[name] = Variable(name, codes, labels)
    return Table(variables, np.arange(rows))


STATEMENT: dict[str, Any] = {
    "private": True,
    "definition": "(epsilon, delta)-differential privacy",
    "epsilon": 1.0,
    "delta": 1e-6,
    "epsilon_spent": 0.999,
    "delta_for_discovery": 0.0,
    "neighbours": "add or remove one patient with all of their rows",
    "unit": "patient",
    "max_rows_per_patient": 1,
    "accountant": {"name": "dp-accounting", "version": "0.6", "method": "Gaussian differential privacy"},
    "events": [
        {
            "kind": "gaussian",
            "what": "counts of sex",
            "sensitivity": 1,
            "scale": 12.0,
            "count": 1,
            "noise": "integer Gaussian",
            "rho": 0.0035,
        }
    ],
    "trade_off": [
        {"false_positive_rate": 0.01, "min_false_negative_rate": 0.97},
        {"false_positive_rate": 0.1, "min_false_negative_rate": 0.8},
    ],
    "not_protected": ["The schema <as written>."],
    "randomness": "operating system entropy",
    "libraries": {"dpsynth": "0.1.0"},
    "earlier_releases": {"runs": 0, "epsilon": 0.0, "delta": 0.0},
    "model": {"name": "prism", "options": {}},
    "release": {"rows": 500, "date": "2025-06-01", "dpsynth": "0.1.0", "licence": None},
}
