"""A synthesizer small enough to read at a glance: noisy one-way counts, sampled independently."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from unittest.mock import patch

import numpy as np

from dpsynth.coding.query import Query
from dpsynth.models.base import Model, Released, Synthesizer
from dpsynth.models.plan import Plan, PlanItem
from dpsynth.privacy.spending.accounting import rho_for

SCHEMA = """
name: ward
confirmed: true
target: died
subgroups: [sex]
columns:
  age: {type: numeric, min: 18, max: 110, unit: years}
  sex: {type: categorical, values: [female, male]}
  lactate: {type: numeric, min: 0.1, max: 30, decimals: 1, scale: log, missing: true}
  died: {type: boolean, labels: [0, 1]}
"""


class DoubleModel(Model):
    """Shares of each column, apart."""

    kind: ClassVar[str] = "double"

    def __init__(self, codec: Any, statement: dict[str, Any], shares: dict[str, Any], total: int, sigma: float) -> None:
        super().__init__(codec, statement)
        self.shares, self.total, self.sigma = shares, total, sigma

    @property
    def rows(self) -> int:
        """The noisy row count."""
        return self.total

    def sample_codes(self, n: int, masks: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Draw each column apart."""
        drawn = {}
        for name, share in self.shares.items():
            kept = np.where(masks.get(name, np.ones(len(share), bool)), share + 1e-9, 0)
            drawn[name] = rng.choice(len(share), n, p=kept / kept.sum())
        return drawn

    def released(self) -> list[Released]:
        """Return the counts of each column."""
        codes = self.codec.columns
        return [
            Released((name,), (np.arange(codes[name].size),), share, self.sigma) for name, share in self.shares.items()
        ]

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the shares."""
        return {"total": self.total, "sigma": self.sigma}, {
            f"share:{name}": share for name, share in self.shares.items()
        }

    @classmethod
    def from_parts(cls, codec: Any, statement: dict[str, Any], config: dict[str, Any], arrays: dict[str, Any]) -> Self:
        """Check that each share fits its column."""
        shares = {name: arrays[f"share:{name}"] for name in codec.columns}
        if any(share.shape != (codec.columns[name].size,) for name, share in shares.items()):
            raise ValueError("a share does not fit its column")
        return cls(codec, statement, shares, int(config["total"]), float(config["sigma"]))


class Double(Synthesizer):
    """Half of the budget for the row count, half for the columns."""

    name: ClassVar[str] = "double"
    accounting: ClassVar[Literal["gaussian", "zcdp"]] = "gaussian"
    summary: ClassVar[str] = "a stand-in for tests"
    citation: ClassVar[str] = "none"
    produces: ClassVar[type[Model]] = DoubleModel

    def __init__(self, *, floor: float = 0.0) -> None:
        self.floor = floor

    def plan(self, schema: Any, budget: Any, rows: int) -> Plan:
        """Plan one table a column."""
        rho = rho_for(budget, "gaussian")
        items = (PlanItem("each column", len(schema.modelled), 64 * len(schema.modelled), 10.0, "one-way counts"),)
        return Plan("double", budget.epsilon, budget.delta, rho, rows, items, {"1-way": 0.01}, 1.0, ("a double",))

    def fit(self, session: Any, progress: Callable[[str, float], None] | None = None) -> DoubleModel:
        """Measure each column once."""
        show = progress or (lambda _phase, _share: None)
        show("measuring", 0.0)
        for name in session.to_discover:
            session.discover(name, session.rho_left / 4)
        columns = session.codec.columns
        queries = [Query((name,), (np.arange(code.size),)) for name, code in columns.items()]
        answers = session.count(queries, [session.rho_left * 0.99 / len(queries)] * len(queries))
        show("measuring", 1.0)
        shares = {a.columns[0]: np.maximum(a.counts, self.floor).astype(float) for a in answers}
        total = max(1, int(np.median([a.counts.sum() for a in answers])))
        return DoubleModel(session.codec, session.statement(), shares, total, answers[0].sigma)


class _Point:
    """What an entry point is to the registry."""

    def load(self) -> type[Synthesizer]:
        """Return the double."""
        return Double


@contextmanager
def registered() -> Iterator[None]:
    """Make the double the only installed model and the default one."""
    with (
        patch("dpsynth.models.registry._registered", lambda: {"double": _Point()}),
        patch("dpsynth.jobs.fit.DEFAULT_MODEL", "double"),
    ):
        yield


def ward(folder: Path, rows: int = 400, schema: str = SCHEMA) -> tuple[Path, Path]:
    """Write a table of invented patients and its schema; return both paths."""
    rng = np.random.default_rng(7)
    data, facts = folder / "ward.csv", folder / "ward.yaml"
    age = rng.integers(20, 100, rows)
    lines = ["age,sex,lactate,died"]
    for years in age:
        lactate = "" if rng.random() < 0.2 else f"{rng.uniform(0.5, 20):.1f}"
        lines.append(f"{years},{rng.choice(['female', 'male'])},{lactate},{int(rng.random() < years / 150)}")
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    facts.write_text(schema, encoding="utf-8")
    return data, facts
