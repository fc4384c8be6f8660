"""Processes that are killed, frozen or interrupted: noticed, waited for, and gone on with."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpsynth.federated.signing import TransportError
from federated.network import HOSPITALS, LEAD, NAMES, SECONDS, Serving, question, relay, until

TESTS = Path(__file__).parent.parent
LONG = 60.0


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Collect processes, none of which outlives the test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def _start(started: list[subprocess.Popen[str]], *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "federated.processes", *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=TESTS.parent, env=environment, **pipes)
    started.append(process)
    return process


def _hospital(
    started: list[subprocess.Popen[str]], folder: Path, port: int, name: str = "north", seconds: float = 0.0
) -> subprocess.Popen[str]:
    key = folder / f"{name}.key"
    if not key.exists():
        HOSPITALS[name].save(key)
    return _start(started, "hospital", key, name, port, LEAD.public.fingerprint, seconds)


class Asking(threading.Thread):
    """A question in a thread, with its answers and how long it took."""

    def __init__(self, server: object, number: int, seconds: float = LONG) -> None:
        super().__init__(daemon=True)
        self._server, self._number, self._seconds = server, number, seconds
        self.answers: dict[str, bytes] = {}
        self.took = 0.0
        self.start()

    def run(self) -> None:
        """Ask."""
        began = time.monotonic()
        self.answers = self._server.ask(question(self._number), seconds=self._seconds)
        self.took = time.monotonic() - began


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_killed_hospital_is_noticed_and_replaced(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """Killed over a question, a hospital is noticed as silent; started again, it gets the same question and answers."""
    with relay(("north",), silence=1.0) as server:
        first = _hospital(started, tmp_path, server.port, seconds=LONG)
        server.wait_for_all(seconds=LONG)
        asking = Asking(server, 1)
        assert [_line(first), _line(first)] == ["connected", "asked"]
        first.kill()
        began = time.monotonic()
        until(lambda: server.states["north"] == "silent")
        assert time.monotonic() - began < 10
        _hospital(started, tmp_path, server.port)
        asking.join(LONG)
        assert asking.answers == {"north": b"north" + question(1)}


def test_a_frozen_hospital_comes_back(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """Frozen, a hospital is silent; woken, it is here again, and answers the question that was kept for it."""
    with relay(("north",), silence=1.0) as server:
        process = _hospital(started, tmp_path, server.port)
        server.wait_for_all(seconds=LONG)
        process.send_signal(signal.SIGSTOP)
        asking = Asking(server, 1)
        until(lambda: server.states["north"] == "silent")
        process.send_signal(signal.SIGCONT)
        asking.join(LONG)
        assert asking.answers == {"north": b"north" + question(1)}
        assert server.states["north"] == "here"


def test_an_interrupted_hospital_says_that_it_leaves(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """Ctrl-C at a hospital that is at work on an answer ends it, and the lead's question at once."""
    with relay(("north",)) as server:
        process = _hospital(started, tmp_path, server.port, seconds=LONG)
        server.wait_for_all(seconds=LONG)
        asking = Asking(server, 1)
        assert [_line(process), _line(process)] == ["connected", "asked"]
        process.send_signal(signal.SIGINT)
        asking.join(SECONDS)
        assert (asking.answers, server.states["north"]) == ({}, "left")
        process.communicate(timeout=SECONDS)
        assert process.returncode == -signal.SIGINT


def test_an_interrupted_lead_tells_its_hospitals(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """Ctrl-C at the lead, with a question open, ends it, and hospitals hear why."""
    process, port = _lead(started, tmp_path, 1)
    asked = threading.Event()
    hospitals = [Serving(port, name) for name in NAMES[1:]]
    waiting = Serving(port, "north", lambda _asked: (asked.set(), time.sleep(1.0), b"late")[2])
    assert asked.wait(LONG)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LONG)
    assert process.returncode == -signal.SIGINT
    for hospital in (*hospitals, waiting):
        hospital.join(LONG)
        assert isinstance(hospital.error, TransportError)
        assert "interrupted at the lead" in str(hospital.error)


def test_a_killed_lead_is_gone_on_with(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """The lead is killed over a question and started again: hospitals come back by themselves, and go on."""
    process, port = _lead(started, tmp_path, 1)
    first = threading.Event()
    hospitals = [Serving(port, name, patience=LONG) for name in NAMES[1:]]
    hospitals.append(Serving(port, "north", lambda asked: (first.set(), time.sleep(0.5), asked)[2], patience=LONG))
    assert first.wait(LONG)
    process.kill()
    process.wait(LONG)
    again, _ = _lead(started, tmp_path, 2, port)
    assert [_line(again), _line(again)] == ["all here", "north south west"]
    for hospital in hospitals:
        hospital.join(LONG)
        assert (hospital.error, hospital.end) == (None, "the lead has what it asked for.")
        assert hospital.asked == [question(1), question(2)]


def _lead(
    started: list[subprocess.Popen[str]], folder: Path, number: int, port: int = 0
) -> tuple[subprocess.Popen[str], int]:
    key = folder / "lead.key"
    if not key.exists():
        LEAD.save(key)
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    known = json.dumps({name: HOSPITALS[name].public.fingerprint for name in NAMES})
    return _start(started, "lead", key, port, known, number), port


@pytest.mark.parametrize("seed", [3, 4])
def test_a_killed_process_leaves_no_spend_unrecorded(seed: int, tmp_path: Path) -> None:
    """Whoever is killed in the middle of a study, each answer that the lead has was debited at its hospital before."""
    command = [sys.executable, TESTS / "federated" / "killing.py", "--runs", "1", "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=150)
    *_, outcome, summary = map(json.loads, done.stdout.splitlines())
    assert outcome["faults"] == []
    assert (summary["runs"], summary["unrecorded spends"]) == (1, 0)
