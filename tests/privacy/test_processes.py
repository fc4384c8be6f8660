"""Several processes on one training: one spends and adds noise, each patient is in one part, all see one result."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from doubles import ward

from dpsynth.privacy import processes
from dpsynth.privacy.ledger import Ledger
from dpsynth.privacy.patients import Patients

CASE = Path(__file__).parent / "torchrun_case.py"


def test_two_processes_are_one_run(tmp_path: Path) -> None:
    """Under torchrun with two gloo processes: one run in the ledger, one noise, and the parts add up to the cohort."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(CASE)]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (json.loads((tmp_path / f"{number}.json").read_text()) for number in (0, 1))
    assert one["count"] == two["count"]
    assert one["seen"] == two["seen"]  # noise was drawn once: no two draws agree
    assert len(one["seen"]) == 3
    assert sorted([one["patients"], two["patients"]]) == [15, 16]
    assert one["events"] == two["events"]
    runs = Ledger(tmp_path / "scans.ledger.jsonl").runs()
    assert len(runs) == 1
    assert [event.to_json() for event in runs[0].events or ()] == one["events"]


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_each_patient_is_in_one_part(count: int) -> None:
    """Whatever the number of processes, every row is in one part, and all rows of a patient are in the same."""
    who = np.random.default_rng(0).integers(0, 20, 60)
    people = Patients(who, np.arange(60), {"row": np.arange(60)}, None)
    found = []
    for number in range(count):
        part = people.part(number, count)
        batch = part.batch(np.arange(len(part)))
        found.append(batch["codes"][..., 0][batch["weights"] > 0].numpy())
    assert sorted(np.concatenate(found).tolist()) == list(range(60))
    assert sum(len(set(who[rows])) for rows in found) == len(set(who))


def test_alone_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process is number 0 of 1, and calls what it is given; the environment of torchrun with one process too."""
    assert (processes.number(), processes.count()) == (0, 1)
    assert processes.shared(lambda: 7) == 7
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    processes.join()
    assert processes.count() == 1


def test_a_fit_from_the_command_line_is_saved_once(tmp_path: Path) -> None:
    """Under torchrun `dpsynth fit` ends well: one process writes the model, and one run is in the ledger."""
    data, schema = ward(tmp_path)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    tool = Path(sys.executable).parent / "dpsynth"
    command = [tool, "fit", data, "-s", schema, "-e", "1", "-m", "independent", "--out", tmp_path / "model"]
    done = subprocess.run([*launch, *map(str, command)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / "config.json").is_file()
    assert len(Ledger.beside(data).runs()) == 1
    assert done.stderr.count("free of cost") == 1


def test_what_each_process_would_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dpsynth release` as one of two processes: a message before anything is read or spent, and what to do."""
    data, schema = ward(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    command = [sys.executable, "-m", "dpsynth", "release", data, "-s", schema, "-e", "1", "--out", tmp_path / "out"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "Run `dpsynth fit` under torchrun" in " ".join(done.stderr.split())
    assert not Ledger.beside(data).path.exists()
    assert not (tmp_path / "out").exists()
