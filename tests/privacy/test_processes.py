"""Several processes on one training: one spends and adds noise, each patient is in one part, all see one result."""

import json
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from doubles import ward

from dpsynth.errors import DpsynthError, InputError
from dpsynth.privacy import processes
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.training.patients import Patients

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


def test_foreign_texts_are_withheld_in_every_process(tmp_path: Path) -> None:
    """Errors, warnings and log records of other code that name a patient leave no process, the first or another."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    case = str(CASE.with_name("foreign_case.py"))
    done = subprocess.run([*command, case, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Jane" not in done.stderr + done.stdout
    assert done.stderr.count("DpsynthError: the first process failed: ValueError; details are withheld") == 1
    assert done.stderr.count("the kernel failed in a training step (ValueError); details are withheld") == 2
    assert done.stderr.count("the kernel failed while counting (ValueError); details are withheld") == 2


def test_a_failing_network_is_told_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a library says of a lost process (addresses, what was sent) does not leave, not as a context either."""

    class Broken:
        def get_world_size(self) -> int:
            return 2

        def get_rank(self) -> int:
            return 0

        def broadcast_object_list(self, sent: list[object]) -> None:
            raise RuntimeError(f"10.0.0.1 Jane Doe {sent}")

    monkeypatch.setattr(processes, "_group", Broken)
    with pytest.raises(DpsynthError, match="another process of this run has ended") as caught:
        processes.shared(lambda: 7)
    assert "Jane" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(InputError, match="ours"):
        processes.shared(_refuse)


def test_the_others_learn_the_kind_of_an_error_alone() -> None:
    """Of foreign errors in the first process its kind is sent, of ours the text, which holds no value."""
    sent: list[list[object]] = []

    class First:
        def get_world_size(self) -> int:
            return 2

        def get_rank(self) -> int:
            return 0

        def broadcast_object_list(self, found: list[object]) -> None:
            sent.append(found)

    def fail() -> None:
        raise ValueError("Jane Doe")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "_group", First)
        with pytest.raises(ValueError, match="Jane"):  # in the first process itself, where the caller was at work
            processes.shared(fail)
        with pytest.raises(InputError):
            processes.shared(_refuse)
    assert [found[0] for found in sent] == [None, None]
    assert str(sent[0][1]).startswith("ValueError; details are withheld")
    assert "Jane" not in str(sent)
    assert sent[1][1] == "ours"


def _refuse() -> None:
    raise InputError("ours")
