"""Kill processes that spend, at random moments, and check what the ledger remembers.

Run ``python -m tests.privacy.kill_ledger --kills 200`` for more kills than the test suite makes.

A worker reserves a budget, says so, *touches the data* (it appends the run's id to a file that stands for an answer),
commits, says so, and begins again. It is killed by SIGKILL at a random moment. Afterwards:

- the ledger can be read and its chain holds;
- every run that touched the data is in it, in full unless its commit is there;
- every run whose commit was announced is closed;
- the total is below the limit.
"""

import argparse
import math
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from dpsynth.privacy.spending.accounting import rho_for
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Event, gaussian_scale
from dpsynth.privacy.spending.ledger import Ledger

LIMIT = Budget(100, 1e-6)
SMALL = Budget(0.5, 1e-6)
RHO = 1e-3


def work(folder: Path) -> NoReturn:
    """Spend until killed."""
    ledger = Ledger(folder / "ledger.jsonl")
    while True:
        run = ledger.reserve(SMALL, accounting="gaussian", rho=RHO)
        with (folder / "touched").open("a") as file:
            file.write(f"{run}\n")
        ledger.commit(run, [Event("gaussian", "counts", 1.0, gaussian_scale(1.0, RHO / 2))])
        with (folder / "committed").open("a") as file:
            file.write(f"{run}\n")


def lines(path: Path) -> list[str]:
    """Return the whole lines of a file, none if it is not there."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def check(folder: Path) -> tuple[int, int]:
    """Compare the ledger with what happened; return how many runs it has and how many of them are open."""
    touched, committed = lines(folder / "touched"), lines(folder / "committed")  # first: another worker may go on
    ledger = Ledger(folder / "ledger.jsonl")
    runs = {r.run: r for r in ledger.runs()}
    assert set(touched) <= set(runs), "a run touched the data and is not in the ledger"
    assert all(runs[r].closed for r in committed), "a commit was lost"
    assert all(math.isclose(r.price("gaussian"), RHO / 2 if r.closed else RHO) for r in runs.values())
    assert ledger.spent().epsilon <= LIMIT.epsilon
    return len(runs), sum(not r.closed for r in runs.values())


def kill(folder: Path, kills: int, workers: int, seed: int) -> tuple[int, int]:
    """Keep some workers going, kill them one after another at random moments, and check after each kill."""
    chance = random.Random(seed)  # noqa: S311  (moments to kill at are no secret)
    Ledger(folder / "ledger.jsonl").raise_limit(LIMIT, reason="kill test")
    rho_for(SMALL, "gaussian")  # load what is loaded late, so that the kills hit the ledger's own work
    children = [start(folder) for _ in range(workers)]
    try:
        for number in range(kills):
            await_runs(folder, number + 1)
            time.sleep(chance.uniform(0.0, 0.1))
            stop(children.pop(0))
            check(folder)
            children.append(start(folder))
    finally:
        for child in children:
            stop(child)
    return check(folder)


def await_runs(folder: Path, count: int, patience: float = 60.0) -> None:
    """Wait until so many runs have touched the data, however slow the machine is."""
    deadline = time.monotonic() + patience
    while len(lines(folder / "touched")) < count:
        assert time.monotonic() < deadline, "the workers stand still"
        time.sleep(0.001)


def start(folder: Path) -> int:
    """Fork a worker."""
    child = os.fork()
    if child == 0:
        try:
            work(folder)
        finally:
            os._exit(1)
    return child


def stop(child: int) -> None:
    """Kill a worker; it must have been alive until then."""
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "a worker ended by itself"


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, still_open = kill(Path(folder), options.kills, options.workers, options.seed)
        sys.stdout.write(
            f"{options.kills} kills, {runs} runs, {still_open} open and counted in full, 0 discrepancies\n"
        )


if __name__ == "__main__":
    main()
