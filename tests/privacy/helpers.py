"""Small cohorts, and answers that come from a tape instead of from data."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dpsynth.coding.query import Query
from dpsynth.cohort import Cohort
from dpsynth.schema import Schema

FALSE_ALARM = 1e-6

WARD = """
name: ward
confirmed: true
{patient}
{rows}
columns:
  id: {{type: identifier}}
  age: {{type: numeric, min: 0, max: 99, missing: true}}
  sex: {{type: categorical, values: [female, male]}}
  unit: {{type: categorical, values: [a, b, c]}}
  {discover}
"""


def ward_schema(*, cap: int = 1, patient: bool = True, rows: int | None = None, discover: bool = False) -> Schema:
    """Return a confirmed schema of a ward."""
    text = WARD.format(
        patient=f"patient: id\nmax_rows_per_patient: {cap}" if patient else "",
        rows=f"rows: {rows}" if rows else "",
        discover="dx: {type: categorical, discover: true, max_values: 3}" if discover else "",
    )
    return Schema.parse(text)


def ward_frame(n: int = 500, *, per_patient: int = 1, seed: int = 0, discover: bool = False) -> pd.DataFrame:
    """Return n made-up rows, a patient's rows together."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": [f"p{i // per_patient}" for i in range(n)],
            "age": np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 100, n)),
            "sex": rng.choice(["female", "male"], n),
            "unit": rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]),
        }
    )
    if discover:
        frame["dx"] = rng.choice(["flu", "gout", "mumps", "yaws"], n, p=[0.4, 0.3, 0.25, 0.05])
    return frame


def ward(n: int = 500, *, public: bool = True, **facts: Any) -> Cohort:
    """Return a small cohort; public, so that it needs no ledger."""
    discover = bool(facts.get("discover"))
    schema = ward_schema(**facts)
    frame = ward_frame(n, per_patient=schema.max_rows_per_patient, discover=discover)
    return Cohort.from_pandas(frame, schema, public=public)


def fine(session: Any, *columns: str) -> Query:
    """Return the marginal of these columns on fine codes."""
    return Query(columns, tuple(np.arange(session.codec.columns[c].size) for c in columns))


def exact(cohort: Cohort, session: Any, queries: Sequence[Query]) -> list[np.ndarray]:
    """Count queries without noise, on data that are public here."""
    codes = session.codec.encode(cohort)
    tables = []
    for q in queries:
        table = np.zeros(q.shape, dtype=np.int64)
        np.add.at(table, tuple(m[codes[c]] for c, m in zip(q.columns, q.maps, strict=True)), 1)
        tables.append(table)
    return tables


class Tape:
    """Answers that depend on what is asked and on nothing else; keeps the protocol `Answers`."""

    private = False
    randomness = "a tape"

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def use(self, codec: Any) -> None:
        """Encode nothing; note how many images a row may have."""
        declared = codec.schema.images
        self.images = 0 if declared is None else declared.max_per_patient

    def counts(self, queries: Sequence[Query], _sigmas: Sequence[float]) -> list[Any]:
        """Return fixed counts."""
        return [self.rng.integers(0, 100, q.shape) for q in queries]

    def interactions(self, queries: Sequence[Query], _sigmas: Sequence[float]) -> list[Any]:
        """Return fixed tables."""
        return [self.rng.normal(0, 10, q.shape) for q in queries]

    def errors(self, queries: Sequence[Query], _expected: Sequence[Any], _sigma: float) -> list[float]:
        """Return fixed errors."""
        return [float(x) for x in self.rng.normal(0, 10, len(queries))]

    def best(self, queries: Sequence[Query], *_scores: Any, scale: float, k: int) -> list[int]:
        """Return fixed picks."""
        assert scale > 0
        return [int(i) for i in self.rng.permutation(len(queries))[:k]]

    def keys(self, _column: str, _sigma: float, threshold: int) -> list[tuple[Any, int]]:
        """Return fixed values."""
        return [("flu", threshold + 9), ("gout", threshold + 5)]

    def gradients(self, objective: Any, plan: Any, **_facts: Any) -> Iterator[None]:
        """Fill the gradients of each step with fixed numbers."""
        import torch

        generator = torch.Generator().manual_seed(0)
        for _ in range(plan.steps):
            for parameter in objective.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.randn(parameter.shape, generator=generator)
            yield

    def image_sums(self, groups: Query, features: Any, _sigma: float, division: Any = None) -> Any:
        """Return fixed sums."""
        cells = groups.size * (1 if division is None else division.parts)
        return self.rng.normal(10, 10, (cells, features.dimension))

    def image_products(self, groups: Query, features: Any, _sigma: float, division: Any = None) -> Any:
        """Return fixed symmetric products."""
        cells = groups.size * (1 if division is None else division.parts)
        found = self.rng.normal(0, 10, (cells, features.dimension, features.dimension))
        return found + found.transpose(0, 2, 1)

    def images_per_row(self, _sigma: float) -> Any:
        """Return fixed counts of rows with 0, 1, ... images."""
        return self.rng.integers(0, 100, self.images + 1)

    def votes(self, panel: Any, _made: Any, asked: Any, _sigma: float) -> Any:
        """Return fixed votes."""
        return self.rng.integers(0, panel.teachers + 1, len(asked))


class Recorder:
    """Noise that notes what it was given and adds nothing: shows which noise a question was answered with."""

    private = False
    description = "none"

    def __init__(self) -> None:
        self.sigmas: list[float] = []
        self.before: list[Any] = []
        self.scales: list[tuple[float, int]] = []
        self.scores: list[Any] = []

    def gaussian(self, values: Any, sigma: float) -> Any:
        """Note the values and the noise; return the values."""
        self.before.append(values.copy())
        self.sigmas.append(sigma)
        return values

    def noisy_top_k(self, scores: Any, scale: float, k: int) -> list[int]:
        """Note the scores and the noise; return the first k."""
        self.scores.append(scores.copy())
        self.scales.append((scale, k))
        return list(range(k))

    def generator(self) -> np.random.Generator:
        """Return a fixed generator."""
        return np.random.default_rng(0)

    def secret(self) -> bytes:
        """Return a fixed secret."""
        return bytes(32)
