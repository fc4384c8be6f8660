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
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dpsynth.privacy.accounting import Event, gaussian_scale, rho_for
from dpsynth.privacy.budget import Budget
from dpsynth.privacy.ledger import Ledger

LIMIT = Budget(100, 1e-6)
SMALL = Budget(0.5, 1e-6)
RHO = 1e-3


def work(folder: Path) -> None:
    """Spend until killed."""
    ledger, touched = Ledger(folder / "ledger.jsonl"), folder / "touched"
    rho_for(SMALL, "gaussian")  # load what is loaded late, so that the kills hit the ledger's own work
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        run = ledger.reserve(SMALL, accounting="gaussian", rho=RHO)
        with touched.open("a") as file:
            file.write(f"{run}\n")
        ledger.commit(run, [Event("gaussian", "counts", 1.0, gaussian_scale(1.0, RHO / 2))])
        with (folder / "committed").open("a") as file:
            file.write(f"{run}\n")


def lines(path: Path) -> list[str]:
    """Return the whole lines of a file, none if it is not there."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def check(folder: Path) -> tuple[int, int]:
    """Compare the ledger with what happened; return how many runs it has and how many of them are open."""
    ledger = Ledger(folder / "ledger.jsonl")
    runs = {r.run: r for r in ledger.runs()}
    assert set(lines(folder / "touched")) <= set(runs), "a run touched the data and is not in the ledger"
    assert all(runs[r].closed for r in lines(folder / "committed")), "a commit was lost"
    assert all(math.isclose(r.price("gaussian"), RHO / 2 if r.closed else RHO) for r in runs.values())
    assert ledger.spent().epsilon <= LIMIT.epsilon
    return len(runs), sum(not r.closed for r in runs.values())


def kill(folder: Path, kills: int, workers: int, seed: int) -> tuple[int, int]:
    """Start workers, kill them one after another at random moments, and check after each kill."""
    chance = random.Random(seed)  # noqa: S311  (moments to kill at are no secret)
    if not (folder / "ledger.jsonl").exists():
        Ledger(folder / "ledger.jsonl").raise_limit(LIMIT, reason="kill test")
    command = [sys.executable, "-m", "tests.privacy.kill_ledger", "--work", str(folder)]
    root = Path(__file__).parents[2]
    for _ in range(-(-kills // workers)):
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) for _ in range(workers)]
        try:
            for child in children:
                assert child.stdout is not None
                assert child.stdout.readline() == b"ready\n"
            for child in children:
                time.sleep(chance.uniform(0.0, 0.25))
                child.kill()
                child.wait()
                check(folder)
        finally:
            for child in children:
                child.kill()
                child.wait()
                if child.stdout:
                    child.stdout.close()
    return check(folder)


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    if options.work:
        work(options.work)
    with tempfile.TemporaryDirectory() as folder:
        runs, still_open = kill(Path(folder), options.kills, options.workers, options.seed)
        sys.stdout.write(
            f"{options.kills} kills, {runs} runs, {still_open} open and counted in full, 0 discrepancies\n"
        )


if __name__ == "__main__":
    main()
