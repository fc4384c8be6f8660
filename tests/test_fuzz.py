"""Files from elsewhere, broken in any way: each ends as what it is or with one of our errors, and touches nothing else.

What is mutated: schemas, the four files of a model, a release's own words, ledgers. Bytes are cut, swapped and filled
with what parsers stumble over; JSON values are replaced by other JSON values, so that what is behind the parser is
reached too.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dpsynth
from dpsynth.errors import DpsynthError, LedgerError, ModelFormatError, SchemaError
from dpsynth.evaluation.audit.outcome import Audit
from dpsynth.jobs.audit import audit_release
from dpsynth.models import load_model
from dpsynth.models.base import Model
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.schema import Schema

SCHEMA = """name: ward
confirmed: true
patient: id
max_rows_per_patient: 2
target: died
subgroups: [sex]
columns:
  id: {type: identifier}
  age: {type: numeric, min: 18, max: 110, unit: years, cuts: [65]}
  sex: {type: categorical, values: [female, male], other: male}
  crea: {type: numeric, min: 0.1, max: 25, decimals: 1, scale: log, missing: true, special: [0.1]}
  seen: {type: datetime, min: 2001-01-01, max: 2009-12-31}
  died: {type: boolean, labels: [0, 1]}
constraints:
  - {when: {sex: male}, forbid: {died: 1}}
"""
MODEL_FILES = ("config.json", "schema.json", "ledger.json", "model.safetensors")
NASTY = [
    *(b"\x00", b"\xff\xfe", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 2000, b"{" * 2000, b"../../etc/passwd"),
    *(b"!!python/object/apply:os.system ['true']", b"&a [*a, *a]", b"null", b"true", b'""', b"- ", b": ", b"\n", b"\t"),
    *(b"\x80\x04\x95", b"2" * 30, b"-1", b"0.1", b"\xf0\x9f\x92\x8a", b"%", b"'", b'"', b"#", b"|", b"> "),
]
FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.sampled_from(["", "age", "../x", "other", "missing", "2001-01-01", "x" * 300, "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["age", "type", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw the bytes with one to four edits: a slice cut out, doubled, moved, or replaced by something nasty."""
    for _ in range(draw(st.integers(1, 4))):
        start, length = draw(st.integers(0, len(whole))), draw(st.sampled_from([0, 1, 2, 8, 60, 10**6]))
        put = draw(st.sampled_from([b"", whole[start : start + 20], *NASTY]) | st.binary(max_size=4))
        whole = whole[:start] + put + whole[start + length :]
    return whole


@st.composite
def replaced(draw: st.DrawFn, value: Any) -> Any:
    """Draw the JSON value with one node of it replaced, taken out, or doubled."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 9)) == 0:
            return {name: one for name, one in value.items() if name != key}
        return {**value, key: draw(replaced(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], draw(replaced(value[place])), *value[place + draw(st.integers(0, 1)) :]]
    return draw(VALUES)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a release that no test changes."""
    import pandas as pd

    n = 60
    frame = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(n)],
            "age": [20 + i for i in range(n)],
            "sex": ["female", "male"] * (n // 2),
            "crea": [1.5] * n,
            "seen": ["2005-05-05"] * n,
            "died": [0] * n,
        }
    )
    cohort = dpsynth.Cohort.from_pandas(frame, Schema.parse(SCHEMA), public=True)
    folder = tmp_path_factory.mktemp("fuzz") / "release"
    return Path(dpsynth.release(dpsynth.fit(cohort, "independent", epsilon=3.0), folder, rows=20))


def copied(release: Path, folder: Path) -> Path:
    """Return a copy that may be broken."""
    target = folder / "broken"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(release, target)
    return target


def listing(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def survives(act: Callable[[], Any], folder: Path, *errors: type[DpsynthError]) -> Any:
    """Return what an action gives, None where it refuses with one of our errors; it makes and removes no file."""
    before = listing(folder)
    try:
        found = act()
    except errors:
        found = None
    assert listing(folder) == before
    return found


@FEW
@given(data=mutated(SCHEMA.encode()))
def test_a_broken_schema(tmp_path: Path, data: bytes) -> None:
    """Any bytes in a schema file are a schema or a SchemaError, and a schema that is read can be written and read."""
    (tmp_path / "ward.yaml").write_bytes(data)
    found = survives(lambda: Schema.load(tmp_path / "ward.yaml"), tmp_path, SchemaError, DpsynthError)
    if found is not None:
        assert Schema.parse(found.to_dict()) == found


@FEW
@given(name=st.sampled_from(MODEL_FILES), data=st.data())
def test_a_broken_model_file(release: Path, tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Any bytes in a file of a model are a model that can be sampled, or a ModelFormatError."""
    folder = copied(release, tmp_path) / "model"
    (folder / name).write_bytes(data.draw(mutated((folder / name).read_bytes())))
    assert loaded(folder, tmp_path) in OUTCOMES


@FEW
@given(name=st.sampled_from(MODEL_FILES[:3]), data=st.data())
def test_a_model_with_other_json(release: Path, tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Any JSON in a file of a model is a model that can be sampled, or a ModelFormatError."""
    folder = copied(release, tmp_path) / "model"
    (folder / name).write_text(json.dumps(data.draw(replaced(json.loads((folder / name).read_text())))))
    assert loaded(folder, tmp_path) in OUTCOMES


OUTCOMES = ("refused", "no rows", 3)


def loaded(folder: Path, place: Path) -> Any:
    """Load and, where that works, sample: both may only end well or with our errors; return how it ended."""
    model = survives(lambda: load_model(folder), place, ModelFormatError)
    if model is None:
        return "refused"
    assert isinstance(model, Model)
    rows = survives(lambda: model.sample(3, seed=0), place, DpsynthError)
    return "no rows" if rows is None else len(rows)


@FEW
@given(data=st.data())
def test_a_release_with_other_words(release: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Any JSON in a privacy statement is audited, or refused with one of our errors."""
    folder = copied(release, tmp_path)
    name = data.draw(st.sampled_from(["privacy.json", "model/config.json", "model/schema.json", "model/ledger.json"]))
    (folder / name).write_text(json.dumps(data.draw(replaced(json.loads((folder / name).read_text())))))
    found = survives(lambda: audit_release(folder), tmp_path, DpsynthError)
    assert found is None or isinstance(found, Audit)


@FEW
@given(name=st.sampled_from(["privacy.json", "data/patients.parquet", "model/schema.json"]), data=st.data())
def test_a_release_with_broken_files(release: Path, tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Any bytes in a release are audited, or refused with one of our errors."""
    folder = copied(release, tmp_path)
    (folder / name).write_bytes(data.draw(mutated((folder / name).read_bytes())))
    found = survives(lambda: audit_release(folder), tmp_path, DpsynthError)
    assert found is None or isinstance(found, Audit)


@pytest.mark.parametrize("name", ["privacy.json", "model/ledger.json", "model/config.json"])
def test_a_number_of_more_digits_than_python_reads(release: Path, tmp_path: Path, name: str) -> None:
    """Five thousand digits in JSON are no fault of ours: the file is refused like any other that cannot be read."""
    folder = copied(release, tmp_path)
    (folder / name).write_text("9" * 5000)
    with pytest.raises(DpsynthError, match="JSON"):
        audit_release(folder)


@FEW
@given(data=st.data())
def test_a_broken_ledger_is_never_read_as_another(tmp_path: Path, data: st.DataObject) -> None:
    """Any edit of a ledger is refused, or is a prefix that the chain of records allows; nothing is spent in doubt."""
    path = tmp_path / "l.jsonl"
    path.unlink(missing_ok=True)
    ledger = Ledger(path)
    for rho in (0.001, 0.002):
        ledger.reserve(Budget(1, 1e-6), accounting="gaussian", rho=rho)
    ledger_lock = path.with_name(path.name + ".lock")
    ledger_lock.touch()
    whole = path.read_bytes()
    path.write_bytes(data.draw(mutated(whole)))
    runs = survives(ledger.runs, tmp_path, LedgerError)
    if runs is not None:
        assert whole.startswith(path.read_bytes())
