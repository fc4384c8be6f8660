"""What bounds a run on a source: its progress, a disk that is really full, and a signal while rows are read."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

import dpsynth
from dpsynth.cli.common import progress
from dpsynth.jobs.fit import fit
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.sources import watched
from dpsynth.sources.watched import PHASE
from sources import scanned_cases as cases

resource = pytest.importorskip("resource", reason="limits of a process are those of Unix")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with visits/ and ward.yaml, and a place for temporary files."""
    rows = pd.concat([cases.frame(4000)] * 5)
    pq.write_table(cases.arrow(rows), tmp_path / "rows.parquet")
    (tmp_path / "visits").mkdir()
    (tmp_path / "rows.parquet").rename(tmp_path / "visits" / "0.parquet")
    cases.schema().dump(tmp_path / "ward.yaml")
    (tmp_path / "temporary").mkdir()
    return tmp_path


COMMAND = ["fit", "visits", "-s", "ward.yaml", "-e", "1", "-m", "independent", "--anyway", "--seed", "1"]


def started(place: Path, before: str = "") -> "subprocess.Popen[str]":
    """Start ``dpsynth fit`` in a process of its own, after some code of the test's."""
    code = f"{before}\nimport sys; sys.argv = ['dpsynth', *{COMMAND!r}]; from dpsynth.cli import main; main()"
    silent = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = os.environ | {"TMPDIR": str(place / "temporary")}
    return subprocess.Popen([sys.executable, "-c", code], cwd=place, env=env, **silent)  # type: ignore[call-overload,no-any-return]


def gone(folder: Path) -> bool:
    """Return whether nothing is left in a folder, within the ten seconds that the second process is given."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if not list(folder.iterdir()):
            return True
        time.sleep(0.05)
    return False


FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
FULL += "; import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"


def test_a_disk_that_is_full_ends_the_run(place: Path) -> None:
    """Where the system refuses to write, the message says what to do, the code is 2, and nothing is left or spent."""
    run = started(place, FULL)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 2, said
    assert "temporary folder:" in said
    assert "TMPDIR" in said
    assert gone(place / "temporary")
    assert not (place / "model").exists()
    (kept,) = Ledger(place / "visits.ledger.jsonl").runs()
    assert kept.events == ()


SLOW = """
import time
from dpsynth.sources import divided
own = divided.part_numbers
def slow(*args):
    open("reading", "w").close()
    time.sleep(30)
    return own(*args)
divided.part_numbers = slow
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)], ids=["Ctrl-C", "kill"])
def test_a_signal_while_rows_are_read_leaves_nothing(place: Path, number: int, code: int) -> None:
    """Ctrl-C ends with 130 and gives back what was not spent; a kill leaves the reservation counted; no row stays."""
    run = started(place, SLOW)
    while not (place / "reading").exists() and run.poll() is None:
        time.sleep(0.02)
    assert list((place / "temporary").iterdir())
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    assert run.returncode == code, said
    assert gone(place / "temporary")
    (kept,) = Ledger(place / "visits.ledger.jsonl").runs()
    assert kept.closed == (number == signal.SIGINT)
    assert Ledger(place / "visits.ledger.jsonl").spent().epsilon == pytest.approx(0 if kept.closed else 1, abs=0.01)


def test_progress_tells_the_share_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of rows that are read rises to 1, and the rate is told to two digits, where somebody listens."""
    monkeypatch.setattr(watched, "SECONDS", 0.0)
    told: list[tuple[str, float]] = []
    rates: list[str] = []

    def report(phase: str, share: float) -> None:
        told.append((phase, share))

    report.detail = lambda _phase, words: rates.append(words)  # type: ignore[attr-defined]
    folder = cases.in_parquet(tmp_path / "visits", cases.frame())
    fit(dpsynth.scan(folder, cases.schema(), public=True), "independent", epsilon=1.0, progress=report)
    shares = [share for phase, share in told if phase == PHASE]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)
    assert len(shares) > 3
    assert all(words.endswith(" rows/s") for words in rates)
    digits = [words.removesuffix(" rows/s").replace(",", "").rstrip("0") for words in rates]
    assert max(map(len, digits)) <= 2


def test_the_command_line_shows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar has the rate behind its phase, and what is left."""
    import io

    from rich.console import Console

    screen = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
    with progress() as report:
        report(PHASE, 0.0)
        report.detail(PHASE, "410,000 rows/s")  # type: ignore[attr-defined]
        report(PHASE, 0.5)
    assert "reading rows (410,000 rows/s)" in screen.getvalue()
    assert "left" in screen.getvalue()


def test_a_rate_is_no_count() -> None:
    """From a rate of two digits, and the time, the number of patients is not told."""
    pace: Any = watched._Pace
    rates: list[str] = []

    def report(_phase: str, _share: float) -> None:
        pass

    report.detail = lambda _phase, words: rates.append(words)  # type: ignore[attr-defined]
    meter = pace(report, 1000)
    meter._told = meter._began = time.monotonic() - 1.0
    for count in (123_456, 123_999):
        meter._told = 0.0
        meter.at(count)
    assert len(set(rates)) == 1
