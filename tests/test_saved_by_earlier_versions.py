"""Models and a ledger that an earlier version wrote (commit 690acf5) still load; their patients are invented."""

import json
from pathlib import Path

import pytest

import dpsynth
from dpsynth.privacy.spending.ledger import Ledger

EARLIER = Path(__file__).parent / "data" / "earlier"


@pytest.mark.parametrize("name", ["prism", "moments"])
def test_a_model_of_an_earlier_version_loads_and_samples_with_its_own_statement(name: str) -> None:
    """What is stored names no place in the code, so that moved modules read it."""
    model = dpsynth.load(EARLIER / name)
    assert model.statement == json.loads((EARLIER / name / "ledger.json").read_text(encoding="utf-8"))
    assert model.kind == json.loads((EARLIER / name / "config.json").read_text(encoding="utf-8"))["kind"]
    sample = model.sample(20, seed=1)
    assert len(sample) == 20
    assert set(sample.schema.columns) == set(model.schema.columns)


def test_a_ledger_of_an_earlier_version_shows_its_totals() -> None:
    """One committed run of epsilon 1."""
    ledger = Ledger(EARLIER / "ward.ledger.jsonl")
    spent = ledger.spent()
    assert (spent.runs, spent.open_runs, spent.test_runs) == (1, 0, 0)
    assert 0.9 < spent.epsilon <= 1.0
    assert spent.delta == pytest.approx(1e-6)
    assert [run.label for run in ledger.runs()] == ["first"]
