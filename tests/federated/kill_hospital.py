"""Kill a hospital at random moments, and check that whatever it had sent is in its ledger.

Run ``python tests/federated/kill_hospital.py --kills 100`` for more kills than the test suite makes.

A child process holds the hospital and answers through a pipe. The parent asks, kills it by SIGKILL at a random moment,
opens it again and repeats the question that was on its way, until it was answered or is lost, then asked anew. After
each kill, every answer that came out has its unit in the ledger, under one reservation of the whole budget.
"""

import argparse
import os
import random
import signal
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NoReturn

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from dpsynth.federated.messages import Answer
from dpsynth.privacy.mechanisms import SystemNoise
from dpsynth.privacy.spending.ledger import Ledger
from federated.helpers import Federation, counts_question

RHO = 1e-7
DICE = random.SystemRandom()
MOMENTS = 0.4
EARLY = 0.2
"""Share of kills while the hospital is opened."""
READY = struct.pack("<I", 0)


class Child:
    """A process with the hospital north."""

    def __init__(self, federation: Federation) -> None:
        (theirs, self.write), (self.read, ours) = os.pipe(), os.pipe()
        self.process = os.fork()
        if self.process == 0:
            os.close(self.write)
            os.close(self.read)
            serve(federation, theirs, ours)
        os.close(theirs)
        os.close(ours)

    def ask(self, message: bytes) -> bytes | None:
        """Return the answer; None where the process was killed before."""
        try:
            os.write(self.write, struct.pack("<I", len(message)) + message)
        except BrokenPipeError:
            return None
        answer = received(self.read)
        return received(self.read) if answer == b"" else answer  # it has opened only now

    def kill_after(self, seconds: float) -> None:
        """Kill it, from a thread, after some time."""
        time.sleep(seconds)
        os.kill(self.process, signal.SIGKILL)

    def close(self) -> None:
        """Wait for its end."""
        os.waitpid(self.process, 0)
        os.close(self.write)
        os.close(self.read)


def received(pipe: int) -> bytes | None:
    """Return the next message of a pipe; None at its end."""
    head = _exactly(pipe, 4)
    return None if head is None else _exactly(pipe, struct.unpack("<I", head)[0])


def _exactly(pipe: int, size: int) -> bytes | None:
    found = b""
    while len(found) < size:
        part = os.read(pipe, size - len(found))
        if not part:
            return None
        found += part
    return found


def serve(federation: Federation, questions: int, answers: int) -> NoReturn:
    """Answer until killed."""
    hospital = federation.opened("north")
    os.write(answers, READY)
    while (message := received(questions)) is not None:
        answer = hospital.answer(message)
        os.write(answers, struct.pack("<I", len(answer)) + answer)
    os._exit(0)


def main(kills: int) -> None:
    """Kill, ask again, compare."""
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(Path(folder), asked_anew=0.5)
        federation.begun()
        SystemNoise().gaussian(np.zeros(1, dtype=np.int64), 1.0)  # what children load is loaded before they are forked
        came: set[int] = set()
        number, place, lost = 2, 0, 0
        for _ in range(kills):
            child = Child(federation)
            if DICE.random() > EARLY:
                assert received(child.read) == b""
            threading.Thread(target=child.kill_after, args=(DICE.uniform(0, MOMENTS),)).start()
            while (
                answer := child.ask(counts_question(federation.study, number, rho=RHO, after=place).to_bytes())
            ) is not None:
                said = Answer.from_bytes(answer)
                if said.refusal:
                    assert "lost" in said.refusal, said.refusal
                    lost += 1
                else:
                    came.add(number)
                    place += 1
                number += 1
            child.close()
            check(Path(folder), came)
        hospital = federation.opened("north")
        spent = sum(event.count for event in hospital.session.events)
        assert spent >= len(came), "an answer came out that was not paid for"
        sys.stdout.write(f"kills {kills}, answers {len(came)}, lost {lost}, paid {spent}\n")


def check(folder: Path, came: set[int]) -> None:
    """Compare what came out with the ledger and with the hospital's own folder."""
    (run,) = Ledger(folder / "north" / "ledger.jsonl").runs()
    assert run.budget.epsilon == 1.0, "the reservation is that of the study"
    assert run.units >= len(came), "an answer came out that the ledger does not know"
    written = {int(path.stem) for path in (folder / "north" / "run").glob("*.answer")}
    assert came <= written, "an answer came out that was not written down before"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    main(parser.parse_args().kills)
