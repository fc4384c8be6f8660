"""A model on disk: what is read back is what was written, and no file can do harm."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles import Double, registered, ward
from safetensors.numpy import load_file, save_file

import dpsynth
from dpsynth.errors import FileError, InputError, ModelFormatError
from dpsynth.models import load_model, make, synthesizer


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a saved model."""
    folder = tmp_path_factory.mktemp("saved")
    data, facts = ward(folder)
    cohort = dpsynth.Cohort.read(data, dpsynth.Schema.load(facts))
    dpsynth.fit(cohort, Double(), epsilon=1.0).save(folder / "model")
    return folder / "model"


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may break."""
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


def test_round_trip(saved: Path, tmp_path: Path) -> None:
    """A model that was loaded draws the same rows, says the same of its privacy, and is saved as the same bytes."""
    first = load_model(saved)
    first.save(tmp_path / "again")
    second = load_model(tmp_path / "again")
    assert first.sample(50, seed=3).table.equals(second.sample(50, seed=3).table)
    assert first.statement == second.statement
    for path in saved.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_four_files(saved: Path) -> None:
    """A saved model is the four files of the design and nothing else."""
    assert {path.name for path in saved.iterdir()} == {"config.json", "schema.json", "ledger.json", "model.safetensors"}


def test_save_keeps_what_is_there(saved: Path) -> None:
    """Saving over a folder that is there is refused."""
    with pytest.raises(FileError, match="is there already"):
        load_model(saved).save(saved)


def test_transposed_arrays_survive(tmp_path: Path, saved: Path) -> None:
    """An array that is a transposed view comes back with its values in place."""
    model: Any = load_model(saved)
    wide = np.arange(12.0).reshape(3, 4).T
    model.to_parts = lambda: ({"total": 1}, {"x": wide})
    model.save(tmp_path / "wide")
    assert (load_file(tmp_path / "wide" / "model.safetensors")["x"] == wide).all()


def _edit(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        changed = change(value)
        (folder / name).write_text(json.dumps(value if changed is None else changed))

    return act


def _shares(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        arrays = load_file(folder / "model.safetensors")
        change(arrays)
        save_file(arrays, folder / "model.safetensors")

    return act


def _cut(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return act


def _huge_header(folder: Path) -> None:
    """Write a safetensors file whose header promises 2^50 numbers."""
    header = json.dumps({"share:age": {"dtype": "F64", "shape": [2**50], "data_offsets": [0, 2**53]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


BROKEN: dict[str, Callable[[Path], Any]] = {
    "no config": lambda f: (f / "config.json").unlink(),
    "no schema": lambda f: (f / "schema.json").unlink(),
    "no ledger": lambda f: (f / "ledger.json").unlink(),
    "no arrays": lambda f: (f / "model.safetensors").unlink(),
    "config cut": _cut("config.json"),
    "schema cut": _cut("schema.json"),
    "arrays cut": _cut("model.safetensors"),
    "arrays empty": lambda f: (f / "model.safetensors").write_bytes(b""),
    "arrays are a pickle": lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04N."),
    "arrays promise too much": _huge_header,
    "config not text": lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"),
    "config deep": lambda f: (f / "config.json").write_text("[" * 100_000),
    "config is a list": _edit("config.json", lambda _: []),
    "newer format": _edit("config.json", lambda c: c.update(format=99)),
    "no format": _edit("config.json", lambda c: c.pop("format")),
    "foreign kind": _edit("config.json", lambda c: c.update(kind="os.system")),
    "kind is a list": _edit("config.json", lambda c: c.update(kind=["double"])),
    "huge codec": _edit("config.json", lambda c: c.update(cells=10**12)),
    "other codec": _edit("config.json", lambda c: c.update(cells=7)),
    "cells true": _edit("config.json", lambda c: c.update(cells=True)),
    "no cells": _edit("config.json", lambda c: c.pop("cells")),
    "foreign discovery": _edit("config.json", lambda c: c.update(discovered={"age": [1]})),
    "discovery no list": _edit("config.json", lambda c: c.update(discovered={"age": 1})),
    "no inner config": _edit("config.json", lambda c: c.pop("config")),
    "empty inner config": _edit("config.json", lambda c: c.update(config={})),
    "schema with a column more": _edit("schema.json", lambda s: s["columns"].update(new={"type": "boolean"})),
    "schema without columns": _edit("schema.json", lambda s: s.pop("columns")),
    "ledger is a number": _edit("ledger.json", lambda _: 3),
    "an array less": _shares(lambda a: a.pop("share:age")),
    "an array too long": _shares(lambda a: a.update({"share:age": np.ones(10**6)})),
}


@pytest.mark.parametrize("harm", BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_are_refused(copy: Path, harm: Callable[[Path], Any]) -> None:
    """Every malformed, truncated, foreign or oversized model file ends with a ModelFormatError."""
    harm(copy)
    with pytest.raises(ModelFormatError):
        load_model(copy)


def test_no_folder(tmp_path: Path) -> None:
    """A folder that is not there is a ModelFormatError that says what was expected."""
    with pytest.raises(ModelFormatError, match=r"config\.json is not there"):
        load_model(tmp_path / "nowhere")


def test_unknown_names() -> None:
    """An unknown model and an unknown option are refused with what there is."""
    with pytest.raises(InputError, match="expected one of double"):
        synthesizer("nope")
    with pytest.raises(InputError, match=r"no option 'ceiling'; its options are: floor"):
        make("double", ceiling=1)


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "7", None])
def test_sample_sizes(saved: Path, n: Any) -> None:
    """A sample size that is not a whole number of 1 or more is refused."""
    with pytest.raises(InputError, match="sample: n is"):
        load_model(saved).sample(n)


def test_sample_keeps_conditions(saved: Path) -> None:
    """Every sampled row keeps the conditions."""
    drawn = load_model(saved).sample(200, where={"age": {"min": 80}, "sex": "female"}, seed=1).to_pandas()
    assert (drawn["age"] >= 80).all()
    assert (drawn["sex"] == "female").all()
