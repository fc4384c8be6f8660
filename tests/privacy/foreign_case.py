"""What each of several processes runs: code that is not ours fails and talks of a patient, in all ways and places."""

import contextlib
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from dpsynth.privacy import processes
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.training_plan import TrainingPlan

sys.path.insert(0, str(Path(__file__).parent.parent))
from privacy.helpers import fine
from privacy.networks import Squares, linear, scans

PATIENT = "Jane Doe"


class Talking(Squares):
    """An objective that talks of the private batch, and fails on it."""

    def prepare(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Fail on private patients; the made-up ones are three."""
        if len(batch["weights"]) > 3:
            fail()
        return super().prepare(batch)


def fail(*_: Any, **__: Any) -> None:
    """Warn, log and raise, each with a patient's name."""
    warnings.warn(PATIENT, RuntimeWarning, stacklevel=1)
    logging.getLogger("foreign").error(PATIENT)
    raise ValueError(PATIENT)


def attempt(doing: Any) -> None:
    """Print the traceback as a program does that ends with it."""
    try:
        doing()
    except Exception:
        traceback.print_exc()


def main(folder: Path) -> None:
    """Fail in what is shared, in a question, and in a step of a training."""
    torch.set_num_threads(1)
    processes.join()
    budget = Budget(1, 1e-5)
    plan = TrainingPlan.within(budget, sampling_rate=1.0, steps=3, questions=0.2, clipping_norm=100.0)
    if processes.number() > 0:
        attempt(lambda: processes.shared(fail))
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable()
            with contextlib.suppress(ValueError):
                processes.shared(fail)
            logging.disable(logging.NOTSET)
    book = Ledger(folder / "scans.ledger.jsonl")
    with Session.open(scans(31, cap=2, public=False), budget, training=plan, ledger=book) as session:
        with patch("dpsynth.privacy.answers.contingency", fail):
            attempt(lambda: session.count([fine(session, "label")], [session.rho_left / 2]))
        attempt(lambda: session.train(Talking(linear()), lambda _step: None, expected=31, records="images"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    torch.distributed.barrier()
    sys.stderr.flush()
    os._exit(0)
