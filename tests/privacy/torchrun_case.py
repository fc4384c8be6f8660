"""What each of several processes runs: one training of one cohort; the first writes what came of it."""

import json
import os
import sys
from pathlib import Path

import torch

from dpsynth.coding.query import Query
from dpsynth.privacy import processes
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.training_plan import TrainingPlan

sys.path.insert(0, str(Path(__file__).parent.parent))
from privacy.networks import Squares, linear, scans


def main(folder: Path) -> None:
    """Ask one question, train three steps at full sampling, write weights, answer and the patients of this part."""
    torch.set_num_threads(1)
    processes.join()
    torch.manual_seed(processes.number())
    budget = Budget(1, 1e-5)
    plan = TrainingPlan.within(budget, sampling_rate=1.0, steps=3, questions=0.2, clipping_norm=100.0)
    objective = Squares(linear())
    seen: list[list[float]] = []

    def update(_step: int) -> None:
        seen.append([float(p.grad.double().sum()) for p in objective.parameters() if p.grad is not None])

    book = Ledger(folder / "scans.ledger.jsonl")
    with Session.open(scans(31, cap=2, public=False), budget, training=plan, ledger=book) as session:
        count = float(session.image_counts(Query((), ()), session.rho_left)[0])
        session.train(objective, update, expected=31, records="images")
        own = processes.own(session._answers)
        made = own.gradients(objective, plan, records="images", expected=31, backend=None)
        events = [event.to_json() for event in session.events]
    facts = {"count": count, "seen": seen, "patients": sum(map(len, made._parts)), "events": events}
    (folder / f"{processes.number()}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    torch.distributed.barrier()
    os._exit(0)  # all is written; gloo's threads now and then abort a process that goes down the usual way
