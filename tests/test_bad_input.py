"""Bad input, end to end: a message and an exit code, nothing half-written, no spend unrecorded, no value echoed."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from doubles import SCHEMA, registered, ward
from typer.testing import CliRunner, Result

from dpsynth.cli.app import app
from dpsynth.models import available, load_model

PATIENT = "Jane-Doe-4711"
"""Stands in every faulty cell; no message may echo it."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with ward.csv and ward.yaml."""
    ward(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def _double() -> Iterator[None]:
    """Make a small stand-in the default model."""
    with registered():
        yield


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def _release(*args: object) -> Result:
    return _run("release", "ward.csv", "--schema", "ward.yaml", "--epsilon", 1, *args)


def _names(place: Path) -> set[str]:
    return {path.name for path in place.rglob("*")}


def _spends(place: Path) -> list[str]:
    """Return the states of the ledger's records."""
    ledger = place / "ward.csv.ledger.jsonl"
    return [json.loads(line)["state"] for line in ledger.read_text().splitlines()] if ledger.exists() else []


def _assert_refused(result: Result, place: Path, code: int, *words: str) -> None:
    """Assert a message with these words and this exit code, that nothing was written, and nothing spent."""
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.output, result.output
    assert PATIENT not in result.output
    assert "Traceback" not in result.output
    assert not _names(place) & {"release", "internal", "model", "privacy.json"}
    assert not [name for name in _names(place) if name.endswith((".partial", ".old", ".tmp"))]
    assert _spends(place) == []


def _rows(*rows: str) -> str:
    return "age,sex,lactate,died\n" + "".join(f"{row}\n" for row in rows)


GOOD = "70,male,1.2,0"
BAD_DATA: dict[str, tuple[bytes | str, tuple[str, ...]]] = {
    "undeclared column": (f"age,sex,lactate,died,name\n{GOOD},{PATIENT}\n", ("name",)),
    "declared column not there": ("age,sex,died\n70,male,0\n", ("lactate",)),
    "text in a number": (_rows(GOOD, f"{PATIENT},male,1.2,0"), ("age", "number")),
    "category outside the list": (_rows(GOOD, f"70,{PATIENT},1.2,0"), ("sex",)),
    "value outside two labels": (_rows(GOOD, f"70,male,1.2,{PATIENT}"), ("died",)),
    "missing where not declared": (_rows(GOOD, ",male,1.2,0"), ("age", "missing")),
    "empty table": (_rows(), ("no rows",)),
    "empty file": ("", ("ward.csv",)),
    "column twice": (f"age,age,sex,lactate,died\n70,{GOOD}\n", ("age", "twice")),
    "ragged": (_rows(GOOD, f"70,male,1.2,0,{PATIENT}"), ("ward.csv",)),
    "not UTF-8": (_rows(GOOD).encode() + "70,mâle,1.2,0\n".encode("latin-1"), ("UTF-8",)),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, ("ward.csv",)),
    "a cut Parquet": (b"PAR1" + bytes(100), ("ward.csv",)),
    "a schema for data": (SCHEMA, ("ward.csv",)),
}


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize(("content", "words"), BAD_DATA.values(), ids=BAD_DATA.keys())
def test_bad_tables(place: Path, content: bytes | str, words: tuple[str, ...]) -> None:
    """A table that is not what its schema says is refused with the name of what is wrong, before anything is spent."""
    (place / "ward.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    _assert_refused(_release(), place, 2, *words)
    _assert_refused(_run("fit", "ward.csv", "-s", "ward.yaml", "-e", 1), place, 2, *words)


CONTRADICTION = (
    SCHEMA + "constraints:\n  - {when: {sex: male}, require: {died: 1}}\n  - {when: {sex: male}, forbid: {died: 1}}\n"
)
BAD_SCHEMAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "unconfirmed": (SCHEMA.replace("confirmed: true", "confirmed: false"), ("confirmed: true",)),
    "contradictory constraints": (CONTRADICTION, ("constraint",)),
    "unknown column in a constraint": (
        SCHEMA + "constraints:\n  - {when: {hair: red}, forbid: {died: 1}}\n",
        ("hair",),
    ),
    "unknown field": (SCHEMA.replace("unit: years", "unitt: years"), ("unitt",)),
    "bounds in the wrong order": (SCHEMA.replace("max: 110", "max: 1"), ("age", "min")),
    "no YAML": ("columns: [", ("ward.yaml",)),
    "a table for a schema": ("age,sex\n1,2\n", ("ward.yaml",)),
    "empty": ("", ("ward.yaml",)),
    "target that is not there": (SCHEMA.replace("target: died", "target: dead"), ("dead", "died")),
}


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize(("text", "words"), BAD_SCHEMAS.values(), ids=BAD_SCHEMAS.keys())
def test_bad_schemas(place: Path, text: str, words: tuple[str, ...]) -> None:
    """A schema that is malformed, contradictory or not confirmed is refused before the table is read."""
    (place / "ward.yaml").write_text(text)
    _assert_refused(_release(), place, 2, *words)


NUMBERS: dict[str, list[object]] = {
    "epsilon 0": ["--epsilon", 0],
    "epsilon negative": ["--epsilon", -1],
    "epsilon nan": ["--epsilon", "nan"],
    "epsilon inf": ["--epsilon", "inf"],
    "epsilon absurd": ["--epsilon", 1e6],
    "epsilon text": ["--epsilon", "one"],
    "delta 0": ["--delta", 0],
    "delta 1": ["--delta", 1],
    "delta above 1": ["--delta", 2],
    "delta negative": ["--delta", -1e-6],
    "delta absurd": ["--delta", 0.5],
    "delta nan": ["--delta", "nan"],
    "limit below epsilon": ["--limit", 0.5],
    "limit absurd": ["--limit", 1e6],
    "rows 0": ["--rows", 0],
    "rows negative": ["--rows", -5],
    "holdout 0": ["--holdout", 0],
    "holdout 1": ["--holdout", 1],
    "holdout nan": ["--holdout", "nan"],
    "unknown model": ["--model", "gan"],
    "unknown option": ["--option", "depth=3"],
    "option without value": ["--option", "floor"],
}


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("given", NUMBERS.values(), ids=NUMBERS.keys())
def test_bad_numbers(place: Path, given: list[object]) -> None:
    """A number or name that is out of range is refused with its own name, before anything is spent."""
    _assert_refused(_release(*given), place, 2, str(given[0]).strip("-"))


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("missing", ["ward.csv", "ward.yaml"])
def test_no_such_file(place: Path, missing: str) -> None:
    """A file that is not there is named."""
    (place / missing).unlink()
    _assert_refused(_release(), place, 2, missing)


@pytest.mark.usefixtures("_double")
def test_a_folder_for_data(place: Path) -> None:
    """A folder that is no model is refused."""
    (place / "folder").mkdir()
    _assert_refused(_run("release", "folder"), place, 2, "config.json is not there")


@pytest.mark.usefixtures("_double")
def test_a_spent_budget(place: Path) -> None:
    """A run past the dataset's limit ends with exit code 3; the ledger is unchanged and nothing is written."""
    assert _release().exit_code == 0
    before = (place / "ward.csv.ledger.jsonl").read_bytes()
    result = _release("--out", "again")
    assert result.exit_code == 3
    assert "limit" in result.output
    assert (place / "ward.csv.ledger.jsonl").read_bytes() == before
    assert not (place / "again").exists()


LEDGERS: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda text: text[:-20],
    "edited": lambda text: text.replace(b'"epsilon": 1.0', b'"epsilon": 9.0'),
    "a record less": lambda text: b"".join(text.splitlines(keepends=True)[1:]),
    "empty": lambda _: b"",
    "not text": lambda _: b"\xff\xfe",
}


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("harm", LEDGERS.values(), ids=LEDGERS.keys())
def test_a_ledger_that_lies(place: Path, harm: Callable[[bytes], bytes]) -> None:
    """A ledger that was cut or edited refuses every run with exit code 3, and is left as it is."""
    assert _release().exit_code == 0
    ledger = place / "ward.csv.ledger.jsonl"
    ledger.write_bytes(harm(ledger.read_bytes()))
    before = ledger.read_bytes()
    assert _release("--out", "again").exit_code == 3
    assert _run("ledger", "show", "ward.csv").exit_code == 3
    assert ledger.read_bytes() == before
    assert not (place / "again").exists()


@pytest.mark.usefixtures("_double")
def test_a_target_that_is_there(place: Path) -> None:
    """A release folder that is there is refused before anything is spent."""
    (place / "release").mkdir()
    result = _release()
    assert result.exit_code == 2
    assert "--force" in result.output
    assert _spends(place) == []
    assert list((place / "release").iterdir()) == []


# -- what looks wrong and works ----------------------------------------------------------------------------------------

KEYED = """
name: visits
confirmed: true
patient: id
max_rows_per_patient: 3
columns:
  id: {type: identifier}
  age: {type: numeric, min: 18, max: 110}
  sex: {type: categorical, values: [female, male]}
"""
MANY = [f"code {i:05d}" for i in range(10_000)]
ODD = ["1st visit", "größe (cm)", 'it\'s "odd"', "a,b", "=x"]
ODD_SCHEMA = {name: {"type": "numeric", "min": 0, "max": 9} for name in ODD}
LISTED = {"name": "codes", "confirmed": True, "columns": {"code": {"type": "categorical", "values": MANY}}}
FOUND = {
    "name": "found",
    "confirmed": True,
    "columns": {"code": {"type": "categorical", "discover": True, "max_values": 50}},
}


def _frame(**columns: Any) -> str:
    return pd.DataFrame(columns).to_csv(index=False)


WORKS: dict[str, tuple[str, str]] = {
    "one row": (SCHEMA, _rows(GOOD)),
    "one patient with every row": (KEYED, _frame(id=["p"] * 50, age=[70] * 50, sex=["male"] * 50)),
    "all values missing": (SCHEMA, _rows(*["70,male,,0"] * 50)),
    "a constant column": (SCHEMA, _rows(*[GOOD] * 50)),
    "everything out of range": (SCHEMA, _rows(*["999,male,999,0"] * 50)),
    "10,000 categories": (json.dumps(LISTED), _frame(code=MANY)),
    "10,000 categories to discover": (json.dumps(FOUND), _frame(code=MANY)),
    "odd names": (
        json.dumps({"name": "odd", "confirmed": True, "columns": ODD_SCHEMA}),
        pd.DataFrame(np.arange(100).reshape(20, 5) % 10, columns=ODD).to_csv(index=False),
    ),
}


# Networks of a size that a test can wait for; their quality is no matter here.
SMALL = {
    "ctgan": ("hidden=8", "steps=2"),
    "tvae": ("hidden=8", "steps=2"),
    "tabular-diffusion": ("hidden=8", "steps=2", "warm_steps=2", "draws=3", "questions=0.2"),
    "pate-gan": ("hidden=8", "rounds=2", "teachers=3"),
}


IMAGES = ("diffusion", "gan", "judged-moments", "mean-embedding", "moments")


@pytest.mark.parametrize("model", [name for name in available() if name not in IMAGES])
@pytest.mark.parametrize(("schema", "table"), WORKS.values(), ids=WORKS.keys())
def test_what_works(place: Path, schema: str, table: str, model: str) -> None:
    """Tables that are odd but keep their schema give a whole release with the declared columns, with every model."""
    (place / "ward.yaml").write_text(schema)
    (place / "ward.csv").write_text(table)
    options = [word for option in SMALL.get(model, ()) for word in ("--option", option)]
    result = _release("--rows", 200, "--json", "--model", model, *options)
    assert result.exit_code == 0, result.output
    loaded = load_model(place / "release")
    drawn = pd.read_parquet(place / "release/data/patients.parquet")
    assert list(drawn.columns) == list(loaded.schema.modelled)
    assert len(drawn) == 200
    assert _spends(place) == ["limit", "reserve", "commit"]


def test_a_model_of_images_refuses_a_table(place: Path) -> None:
    """Before anything is spent, with the way to give images."""
    (place / "ward.yaml").write_text(next(iter(WORKS.values()))[0])
    (place / "ward.csv").write_text(next(iter(WORKS.values()))[1])
    result = _release("--rows", 200, "--model", "moments")
    assert result.exit_code == 2
    assert "learns images" in result.output
    assert not list(place.glob("*.ledger.jsonl"))


# -- the machine -----------------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv.pop(1))
size = int(sys.argv.pop(1))
import doubles, dpsynth.cli.app, dpsynth.jobs.fit, dpsynth.cohort.cohort, dpsynth.coding.codec
with doubles.registered():
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    dpsynth.cli.main()
"""


def _limited(place: Path, size: int, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a command where no file can grow beyond `size` bytes."""
    command = [sys.executable, "-W", "ignore", "-c", LIMITED, str(Path(__file__).parent), str(size), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)


SPENT = ["limit", "reserve", "commit"]


@pytest.mark.parametrize(("size", "code", "spends"), [(0, 3, []), (200, 3, []), (1_500, 2, SPENT), (5_000, 2, SPENT)])
def test_a_full_disk(place: Path, size: int, code: int, spends: list[str]) -> None:
    """Where files cannot grow, a run ends with a message; its spending is in the ledger, and no release is there."""
    (place / "out").mkdir()
    done = _limited(place, size, "release", "ward.csv", "-s", "ward.yaml", "-e", 1, "--rows", 3000, "--out", "out")
    assert done.returncode == code, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((place / "out").iterdir()) == []
    assert _spends(place) == spends


def test_a_full_disk_for_a_model(place: Path) -> None:
    """Where the disk fills up while a model is written, a message says so and no model is there."""
    (place / "ward.yaml").write_text(json.dumps(LISTED))
    (place / "ward.csv").write_text(_frame(code=MANY))
    done = _limited(place, 50_000, "fit", "ward.csv", "-s", "ward.yaml", "-e", 1)
    assert done.returncode == 2, done.stderr
    assert "model: cannot be written" in done.stderr
    assert _names(place) == {"ward.csv", "ward.yaml", "ward.csv.ledger.jsonl", "ward.csv.ledger.jsonl.lock"}


def _interrupting(phase: str, share: float) -> Callable[..., Any]:
    @contextlib.contextmanager
    def progress(*, quiet: bool = False) -> Iterator[Callable[[str, float], None]]:
        def show(now: str, done: float) -> None:
            if (now, done) == (phase, share):
                raise KeyboardInterrupt

        yield show

    return progress


PHASES = [
    ("reading", 0.0, [], set()),
    ("opening the cohort", 0.0, [], set()),
    ("opening the cohort", 1.0, SPENT, set()),
    ("measuring", 0.0, SPENT, set()),
    ("measuring", 1.0, SPENT, set()),
    ("sampling", 0.0, SPENT, set()),
    ("writing", 0.0, SPENT, set()),
    ("judging", 0.0, SPENT, {"release", "internal"}),
]


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize(
    ("phase", "share", "spends", "there"),
    PHASES,
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_ctrl_c(
    place: Path, monkeypatch: pytest.MonkeyPatch, *, phase: str, share: float, spends: list[str], there: set[str]
) -> None:
    """Ctrl-C in any phase: exit code 130, one line, what was spent in the ledger; folders are whole or not there.

    While it is judged, internal/ keeps who was held out, so that what was paid for can still be judged by them.
    """
    monkeypatch.setattr("dpsynth.cli.release.progress", _interrupting(phase, share))
    result = _release("--holdout", 0.3, "--out", "study")
    assert result.exit_code == 130
    assert result.output.strip() == "interrupted; what was spent is in the ledger"
    assert _spends(place) == spends
    assert {path.name for path in (place / "study").glob("*")} == there
    if there:
        assert (place / "study/release/privacy.json").is_file()
        assert [path.name for path in (place / "study/internal").iterdir()] == ["split.json"]


@pytest.mark.usefixtures("_double")
def test_ctrl_c_while_sampling_from_a_model(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a model is sampled leaves no file."""
    assert _run("fit", "ward.csv", "-s", "ward.yaml", "-e", 1).exit_code == 0
    monkeypatch.setattr("dpsynth.cli.sample.progress", _interrupting("writing", 0.0))
    assert _run("sample", "model", "-n", 10).exit_code == 130
    assert not (place / "synthetic.csv").exists()


KILLED = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import doubles, os, signal, dpsynth.cli
doubles.Double.fit = lambda self, session, progress=None: os.kill(os.getpid(), signal.SIGKILL)
with doubles.registered():
    dpsynth.cli.main()
"""


@pytest.mark.usefixtures("_double")
def test_kill_9(place: Path) -> None:
    """A run that is killed counts with all that it reserved: the next one is refused."""
    command = [
        sys.executable,
        "-c",
        KILLED,
        str(Path(__file__).parent),
        "fit",
        "ward.csv",
        "-s",
        "ward.yaml",
        "-e",
        "1",
    ]
    assert subprocess.run(command, capture_output=True, check=False, cwd=place).returncode == -9
    assert _spends(place) == ["limit", "reserve"]
    shown = json.loads(_run("ledger", "show", "ward.csv", "--json").stdout)
    assert shown["spent"]["epsilon"] == pytest.approx(1.0, abs=1e-5)
    assert shown["runs"][0]["state"] == "open: counts in full"
    assert _release().exit_code == 3
