"""Studies over TLS of which a hospital, or the lead, is killed at a random moment and started again.

After each run every ledger is looked at: what the lead has of a hospital was debited there before it was sent. For a
table of many runs: ``python tests/federated/killing.py --runs 40 --seed 1``.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from dpsynth.federated.keys import PrivateKeys
from dpsynth.federated.messages import SUMS, Answer, Question
from dpsynth.federated.relay import Relay
from dpsynth.federated.signing import TransportError
from dpsynth.federated.study import Study
from dpsynth.jobs.federate import fit_together
from dpsynth.jobs.join import join_study
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.sources.scanned import open_cohort
from federated.helpers import FACTS, NAMES, SCHEMA, rows

FORK = multiprocessing.get_context("fork")
PATIENCE = 60.0


class Witness:
    """A relay that writes down, on the disk, each answer that came: of whom, to which question."""

    def __init__(self, relay: Relay, path: Path) -> None:
        self._relay, self._path = relay, path

    def ask(self, question: bytes, *, seconds: float) -> dict[str, bytes]:
        """Ask, and note who answered with numbers."""
        asked = Question.from_bytes(question)
        answers: dict[str, bytes] = self._relay.ask(question, seconds=seconds)
        with self._path.open("a") as file:
            for name, answer in answers.items():
                if asked.kind in SUMS and not Answer.from_bytes(answer).refusal:
                    file.write(json.dumps([name, asked.number, len(asked.facts["sigmas"])]) + "\n")
        return answers


def prepared(folder: Path, *, model: str = "independent") -> Study:
    """Make a study's folders, with a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    members = []
    for seed, name in enumerate((*NAMES, "lead")):
        (folder / name).mkdir()
        keys = PrivateKeys.make()
        keys.save(folder / name / "a.key")
        rows(seed, 60).to_csv(folder / name / "ward.csv", index=False)
        members.append({"name": name, "fingerprint": keys.public.fingerprint})
    lead = {**members.pop(), "address": f"https://127.0.0.1:{port}"}
    facts = {"name": "wards", "epsilon": 1.0, "model": model, "schema": FACTS, "seconds": PATIENCE, "asked_anew": 0.3}
    return Study.parse({**facts, "hospitals": members, "lead": lead})


def lead(study: Study, folder: Path) -> None:
    """Ask as the lead does, kept in a folder; exit 0 where the model was learned."""
    port = int(study.lead.address.rpartition(":")[2])
    known = {hospital.name: hospital.fingerprint for hospital in study.hospitals}
    keys = PrivateKeys.load(folder / "lead" / "a.key")
    with Relay(study.digest, keys, known, host="127.0.0.1", port=port, silence=0.6, hold=0.2) as relay:
        relay.wait_for_all(seconds=PATIENCE)
        fit_together(study, Witness(relay, folder / "witness"), folder=folder / "lead" / "run")


def hospital(study: Study, folder: Path, name: str) -> None:
    """Take part as a hospital does."""
    place = folder / name
    cohort = open_cohort(place / "ward.csv", SCHEMA)
    while True:
        try:
            join_study(study, cohort, place / "a.key", folder=place / "run", proxy="")
        except TransportError as error:
            if "not finished" not in str(error):
                raise
        else:
            return


def run(seed: int, folder: Path) -> dict[str, Any]:
    """Run one study and kill one of its processes at a random moment; return what came of it.

    Parameters
    ----------
    seed
        Of the victim and of the moment.
    folder
        Empty.
    """
    chance = random.Random(seed)  # noqa: S311  (the moment of a kill)
    study = prepared(folder)
    parts = {"lead": lambda: lead(study, folder)}
    parts |= {name: (lambda name=name: hospital(study, folder, name)) for name in NAMES}
    processes = {name: _started(part) for name, part in parts.items()}
    victim = chance.choice([*NAMES, *NAMES, "lead"])
    moment = chance.uniform(0.0, 1.2)
    time.sleep(moment)
    was_alive = processes[victim].is_alive()
    os.kill(processes[victim].pid or 0, signal.SIGKILL)
    processes[victim].join()
    if was_alive:
        processes[victim] = _started(parts[victim])
    end = time.monotonic() + PATIENCE
    for process in processes.values():
        process.join(max(0.1, end - time.monotonic()) if process is processes["lead"] else 5.0)
    is_done = processes["lead"].exitcode == 0
    for process in processes.values():
        process.kill()
        process.join()
    return {"victim": victim, "moment": moment, "killed": was_alive, "done": is_done, "faults": faults(folder)}


def faults(folder: Path) -> list[str]:
    """Return each answer that a lead has and that its hospital's ledger does not hold."""
    witness = folder / "witness"
    lines = witness.read_text().splitlines() if witness.is_file() else []
    came: Counter[str] = Counter()
    for name, _, count in {tuple(json.loads(line)) for line in lines}:
        came[name] += count
    found = []
    for name, count in came.items():
        runs = Ledger(folder / name / "ward.csv.ledger.jsonl").runs()
        if len(runs) != 1:
            found.append(f"{name}: {len(runs)} runs")
        elif runs[0].closed and len(runs[0].events or ()) < count:
            found.append(f"{name}: {count} answers, {len(runs[0].events or ())} debits")
    return found


def _started(part: Any) -> Any:
    process = FORK.Process(target=_quietly, args=(part,), daemon=True)
    process.start()
    return process


def _quietly(part: Any) -> None:
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        part()


def main() -> None:
    """Run many studies and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes = []
    for seed in range(options.seed, options.seed + options.runs):
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(run(seed, Path(folder)))
            print(json.dumps(outcomes[-1]), flush=True)  # noqa: T201
    killed = [outcome for outcome in outcomes if outcome["killed"]]
    bad = sum(bool(outcome["faults"]) for outcome in outcomes)
    done = sum(outcome["done"] for outcome in killed)
    summary = {"runs": len(outcomes), "killed": len(killed), "finished all the same": done, "unrecorded spends": bad}
    print(json.dumps(summary))  # noqa: T201


if __name__ == "__main__":
    main()
