"""A hospital under kill -9."""

import re
import subprocess
import sys
from pathlib import Path


def test_twenty_kills_lose_no_spend() -> None:
    """After each of 20 SIGKILLs at random moments, every answer that came out is in the hospital's ledger."""
    command = [sys.executable, str(Path(__file__).with_name("kill_hospital.py")), "--kills", "20"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, answers, lost, paid = (int(n) for n in re.findall(r"\d+", done.stdout))
    assert kills == 20
    assert paid >= answers + lost
