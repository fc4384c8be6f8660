"""The tape test: with every answer of the session replaced by a tape, nothing that leaves may depend on the patients.

A release is made from two neighbouring tables that differ in what libraries of this kind are known to look at without
paying. What the session answers is the same in both, so a difference anywhere is a read that nobody paid for. Three
things that differ from run to run for public reasons are held still: the sampler's entropy, the date, and in the
ledger (which is no part of a release) the run's random name, the clock and the checksum over both.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from privacy.helpers import Tape
from typer.testing import CliRunner

import dpsynth
from dpsynth.cli.app import app
from dpsynth.evaluation.coins import Coins
from dpsynth.jobs.publish import publish
from dpsynth.models.base import Synthesizer
from dpsynth.models.tabular.aim import AIM
from dpsynth.models.tabular.deep.ctgan import CTGAN
from dpsynth.models.tabular.deep.diffusion import TabularDiffusion
from dpsynth.models.tabular.deep.pate_gan import PATEGAN
from dpsynth.models.tabular.deep.tvae import TVAE
from dpsynth.models.tabular.independent import Independent
from dpsynth.models.tabular.mst import MST
from dpsynth.models.tabular.prism import Prism
from dpsynth.privacy.session import Session

SCHEMA: dict[str, Any] = {
    "name": "ward",
    "confirmed": True,
    "patient": "id",
    "max_rows_per_patient": 2,
    "target": "died",
    "subgroups": ["sex"],
    "columns": {
        "id": {"type": "identifier"},
        "age": {"type": "numeric", "min": 18, "max": 100},
        "lab": {"type": "numeric", "min": 0.1, "max": 50, "decimals": 1, "scale": "log", "missing": True},
        "sex": {"type": "categorical", "values": ["female", "male"], "other": "male"},
        "unit": {"type": "categorical", "values": ["a", "b", "c"], "other": "missing", "missing": True},
        "dx": {"type": "categorical", "discover": True, "max_values": 4},
        "seen": {"type": "datetime", "min": "2001-01-01", "max": "2009-12-31", "missing": True},
        "died": {"type": "boolean", "labels": [0, 1]},
    },
    "constraints": [{"when": {"sex": "male"}, "forbid": {"unit": "c"}}],
}
MODELS: dict[str, Callable[[], Synthesizer]] = {
    "independent": Independent,
    "mst": MST,
    "aim": partial(AIM, rounds=2, sample=2_000),
    "prism": Prism,
    "ctgan": partial(CTGAN, hidden=8, steps=4, critic_steps=2, generator_steps=1),
    "tvae": partial(TVAE, hidden=8, latent=2, steps=4),
    "tabular-diffusion": partial(TabularDiffusion, hidden=8, steps=4, levels=1, warm_steps=2, draws=3, questions=0.2),
    "pate-gan": partial(PATEGAN, rounds=2, asked=4, hidden=8, generator_steps=1),
}


def _rows(n: int = 60) -> pd.DataFrame:
    """Return the table D, in which nothing is missing, out of range or unusual."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(n)],
            "age": rng.integers(30, 60, n).astype(str),
            "lab": rng.uniform(1, 9, n).round(1).astype(str),
            "sex": rng.choice(["female", "male"], n),
            "unit": rng.choice(["a", "b"], n),
            "dx": rng.choice(["flu", "gout"], n),
            "seen": [f"2005-03-{1 + i % 28:02}" for i in range(n)],
            "died": rng.choice(["0", "1"], n),
        }
    )


def _edited(**values: str) -> pd.DataFrame:
    rows = _rows()
    for column, value in values.items():
        rows.loc[7, column] = value
    return rows


def _with_a_patient(*copies: str) -> pd.DataFrame:
    rows = _rows()
    return pd.concat([rows, *(rows.iloc[[3]].assign(id=name) for name in copies)], ignore_index=True)


NEIGHBOURS: dict[str, Callable[[], pd.DataFrame]] = {
    "a category that no other patient has": lambda: _edited(dx="Zenker", unit="c"),
    "a category outside the lists": lambda: _edited(sex="intersex", unit="Zenker"),
    "values out of range": lambda: _edited(age="999", lab="-1e308", seen="1885-01-01"),
    "the first missing values": lambda: _edited(lab="", unit="", seen=""),
    "more digits than are declared": lambda: _edited(age="36.6", lab="1.23456789"),
    "one patient more": lambda: _with_a_patient("p999"),
    "one patient less": lambda: _rows().iloc[:-1],
    "a patient with many rows": lambda: _with_a_patient(*["p3"] * 40),
    "another order of rows": lambda: _rows().iloc[::-1],
    "another size": lambda: _rows(7),
}


@pytest.fixture(autouse=True)
def _tape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer every session from a fresh tape, and hold entropy and date still."""
    opened, generator = Session.open, np.random.default_rng
    monkeypatch.setattr(Session, "open", lambda *args, **facts: opened(*args, **facts, answers=Tape()))
    monkeypatch.setattr(np.random, "default_rng", lambda seed=None: generator(0 if seed is None else seed))
    monkeypatch.setattr("dpsynth.publishing.bundle._today", lambda: "2000-01-01")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with the schema; both tables get the same name in it."""
    (tmp_path / "ward.yaml").write_text(yaml.safe_dump(SCHEMA, sort_keys=False), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _ledger(place: Path) -> list[dict[str, Any]]:
    """Return the records of the ledger without run name, clock and checksum."""
    lines = (place / "ward.csv.ledger.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("run", "time", "sum")} for line in lines]


class _Heard(logging.Handler):
    """Keeps every log record of every logger as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self.lines.append(f"{record.levelname} {record.name} {record.getMessage()}")


@pytest.fixture
def heard() -> Iterator[_Heard]:
    """Listen to all logs of dpsynth."""
    handler, log = _Heard(), logging.getLogger("dpsynth")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


def _written(place: Path, heard: _Heard, rows: pd.DataFrame, run: Callable[[], Any]) -> dict[str, Any]:
    """Return all that one run writes and says; afterwards the folder is as it was before."""
    rows.to_csv("ward.csv", index=False)
    heard.lines.clear()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        said = run()
    out = {
        **_files(place / "out"),
        "said": said,
        "logged": list(heard.lines),
        "warned": [str(w.message) for w in warned],
        "ledger": _ledger(place),
    }
    shutil.rmtree(place / "out")
    (place / "ward.csv.ledger.jsonl").unlink()
    return out


def _assert_same(first: dict[str, Any], second: dict[str, Any], neighbour: str) -> None:
    """Assert equality part by part, so that a difference is named."""
    assert set(first) == set(second), neighbour
    assert {name for name in first if first[name] != second[name]} == set(), neighbour


def _published(maker: Callable[[], Synthesizer]) -> tuple[str, list[Any]]:
    """Fit and release through the library; return the objects' texts and the progress."""
    phases: list[Any] = []
    cohort = dpsynth.Cohort.read("ward.csv", dpsynth.Schema.load("ward.yaml"))
    made = publish(cohort, "out", maker(), epsilon=1.0, progress=lambda *told: phases.append(told))
    conditioned = made.model.sample(20, where={"sex": "female", "age": {"min": 50}}, seed=1).to_pandas()
    return f"{cohort!r} {made.model!r} {made.model.rows} {conditioned.to_csv()}", phases


@pytest.mark.parametrize("model", MODELS)
def test_a_release_reads_nothing_unpaid(model: str, place: Path, heard: _Heard) -> None:
    """Data, model, schema, statement, card, report, logs, warnings and progress are the same for all neighbours."""
    run = partial(_published, MODELS[model])
    first = _written(place, heard, _rows(), run)
    assert {"release/data/patients.csv", "release/model/model.safetensors", "release/privacy.json"} <= set(first)
    for name, rows in NEIGHBOURS.items():
        _assert_same(first, _written(place, heard, rows(), run), name)


VISITS: dict[str, Any] = {
    "name": "ward",
    "confirmed": True,
    "patient": "id",
    "max_rows_per_patient": 3,
    "visits": {"column": "exam", "values": ["first", "second"], "static": ["sex"], "rising": ["age"]},
    "columns": {
        "id": {"type": "identifier"},
        "sex": {"type": "categorical", "values": ["female", "male"], "other": "male"},
        "exam": {"type": "categorical", "values": ["first", "second", "third"], "other": "third"},
        "age": {"type": "numeric", "min": 0, "max": 100, "missing": True},
        "died": {"type": "boolean", "labels": [0, 1]},
    },
}


def _visits(*more: tuple[str, str, str, str, str]) -> pd.DataFrame:
    """Return twenty patients with one visit or two, and further rows, all as text."""
    rows = [
        (f"p{i}", ("female", "male")[i % 2], exam, str(40 + i), str(i % 3 // 2))
        for i in range(20)
        for exam in ("first", "second")[: 1 + i % 2]
    ]
    return pd.DataFrame([*rows, *more], columns=["id", "sex", "exam", "age", "died"])


OF_VISITS: dict[str, Callable[[], pd.DataFrame]] = {
    "one patient more, with all visits": lambda: _visits(*(("p99", "male", e, "50", "1") for e in ("first", "second"))),
    "one patient less": lambda: _visits().query("id != 'p1'"),
    "a patient without a listed visit": lambda: _visits(("p99", "female", "third", "999", "0")),
    "a patient with a visit that nobody declared": lambda: _visits(("p99", "female", "tenth", "", "0")),
    "a patient with one visit many times": lambda: _visits(*[("p99", "male", "first", "50", "1")] * 30),
    "static values that differ, numbers that fall": lambda: _visits(
        ("p99", "male", "first", "90", "1"), ("p99", "female", "second", "-5", "0")
    ),
    "another order of rows": lambda: _visits().iloc[::-1],
}


def test_a_release_of_visits_reads_nothing_unpaid(place: Path, heard: _Heard) -> None:
    """A cohort of visits gives the same release whatever visits a patient has, or contradicts themselves in."""
    (place / "ward.yaml").write_text(yaml.safe_dump(VISITS, sort_keys=False), encoding="utf-8")

    def run() -> str:
        cohort = dpsynth.Cohort.read("ward.csv", dpsynth.Schema.load("ward.yaml"))
        return repr(publish(cohort, "out", Independent(), epsilon=1.0).model)

    first = _written(place, heard, _visits(), run)
    for name, rows in OF_VISITS.items():
        _assert_same(first, _written(place, heard, rows(), run), name)
    wider = {**VISITS, "columns": {**VISITS["columns"], "age": {"type": "numeric", "min": 0, "max": 120}}}
    (place / "ward.yaml").write_text(yaml.safe_dump(wider, sort_keys=False), encoding="utf-8")
    with pytest.raises(AssertionError):  # a release under another schema differs: the comparison can fail
        _assert_same(first, _written(place, heard, _visits(), run), "another schema")


def _commanded() -> str:
    """Release by the command line; return all that it prints."""
    result = CliRunner().invoke(app, ["release", "ward.csv", "--schema", "ward.yaml", "--epsilon", "1", "--out", "out"])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_line_says_nothing_unpaid(place: Path, heard: _Heard) -> None:
    """What `dpsynth release` prints and writes is the same for all neighbours."""
    first = _written(place, heard, _rows(), _commanded)
    for name, rows in NEIGHBOURS.items():
        _assert_same(first, _written(place, heard, rows(), _commanded), name)


def test_held_out_patients_leave_no_trace(place: Path, heard: _Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """With patients held out, what is released is the same too; what judges them is internal and not looked at here."""
    monkeypatch.setattr("dpsynth.jobs.publish.evaluate", lambda *_args, **_facts: None)
    monkeypatch.setattr("dpsynth.jobs.publish._write_internal", lambda *_args, **_facts: None)
    monkeypatch.setattr(Coins, "draw", lambda: Coins.of_text("tape"))  # of seven patients all may fall on one side

    def run() -> None:
        cohort = dpsynth.Cohort.read("ward.csv", dpsynth.Schema.load("ward.yaml"))
        publish(cohort, "out", Independent(), epsilon=1.0, holdout=0.3)

    first = _written(place, heard, _rows(), run)
    for name, rows in NEIGHBOURS.items():
        _assert_same(first, _written(place, heard, rows(), run), name)


@pytest.mark.parametrize("leak", ["rows", "category", "missing"])
def test_the_tape_catches_leaks(leak: str, place: Path, heard: _Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that peeks at the row count, a category or a missing value is caught: the test can fail."""
    peeks: dict[str, Callable[[pd.DataFrame], int]] = {
        "rows": len,
        "category": lambda table: int(table.dx.nunique()),
        "missing": lambda table: int(table.lab.isna().sum()),
    }
    fitted = Independent.fit

    def peeking(self: Independent, session: Session, progress: Any = None) -> Any:
        model = fitted(self, session, progress)
        model._rows += peeks[leak](pd.read_csv("ward.csv"))
        return model

    monkeypatch.setattr(Independent, "fit", peeking)
    neighbour = {
        "rows": "one patient more",
        "category": "a category that no other patient has",
        "missing": "the first missing values",
    }[leak]
    run = partial(_published, Independent)
    first, second = (_written(place, heard, rows, run) for rows in (_rows(), NEIGHBOURS[neighbour]()))
    assert first["release/model/config.json"] != second["release/model/config.json"]
