"""The ledger under kill -9 and under processes that race."""

import re
import subprocess
import sys
from pathlib import Path

from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger

RACE = """
import sys, time
from dpsynth.errors import BudgetExceeded
from dpsynth.privacy.spending.accounting import rho_for
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
ledger, budget = Ledger(sys.argv[1]), Budget(0.9, 1e-6)
rho = rho_for(budget, "gaussian")
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.readline()
try:
    sys.stdout.write(ledger.reserve(budget, accounting="gaussian", rho=rho))
except BudgetExceeded:
    sys.stdout.write("refused")
"""


def test_twenty_kills_lose_no_spend_and_no_record() -> None:
    """After each of 20 SIGKILLs at random moments every run that touched data counts, and every commit is there."""
    command = [sys.executable, str(Path(__file__).with_name("kill_ledger.py")), "--kills", "20"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, runs, still_open, discrepancies = (int(n) for n in re.findall(r"\d+", done.stdout))
    assert (kills, discrepancies) == (20, 0)
    assert runs >= 20
    assert still_open <= 22  # two workers are going at any moment


def test_of_two_racing_processes_one_wins_the_last_of_the_budget(tmp_path: Path) -> None:
    """Two processes ask nine tenths of the limit at the same moment, twice: exactly one gets it."""
    for attempt in range(2):
        path = tmp_path / f"l{attempt}.jsonl"
        Ledger(path).raise_limit(Budget(1, 1e-6), reason="race")
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", RACE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        said = [racer.communicate()[0] for racer in racers]
        assert sorted(word == "refused" for word in said) == [False, True]
        assert [r.run for r in Ledger(path).runs()] == [word for word in said if word != "refused"]
