"""Questions for networks: noisy sums over images, votes of teachers, and noisy gradients."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.privacy import checks, processes
from dpsynth.privacy.asked import Asking
from dpsynth.privacy.mechanisms import Integers
from dpsynth.privacy.resuming import Kept
from dpsynth.privacy.spending.events import Event
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.training.teachers import Panel

if TYPE_CHECKING:
    from dpsynth.privacy.training.dpsgd import Objective
    from dpsynth.privacy.training.per_patient import Backend

Records = Literal["rows", "images"]


class NetworkQuestions(Asking):
    """Questions about images, and the training of a network; each is paid for before the data is looked at."""

    def train(
        self,
        objective: "Objective",
        update: Callable[[int], None],
        *,
        expected: float,
        records: Records = "rows",
        backend: str = "auto",
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Train a network by DP-SGD, under the plan that the session was opened with; once.

        Parameters
        ----------
        objective
            The network with its loss; `dpsynth.privacy.training.dpsgd.Objective` says what it must keep.
        update
            Called after each step with its number, when the noisy mean gradient is in each parameter's ``grad``: steps
            an optimiser, a schedule, an average of weights, or a generator that sees no patient.
        expected
            Expected number of patients: the schema's, or an estimate that was paid for.
        records
            What a patient's loss is the mean of.
        backend
            How per-patient gradients are found, see `dpsynth.privacy.training.per_patient`; all give the same numbers.
        state
            What besides the objective goes on from step to step, by name: other networks, optimisers, averages, torch's
            generators of what is public. Where the session has a checkpoint they are kept in it.

        Raises
        ------
        InputError
            When an argument is out of range, or the objective's per-patient gradients are not known to be right.
        BudgetExceeded
            When the session was not opened for a training, or it was run already; nothing was looked at.
        """
        from dpsynth.privacy.training import dpsgd

        plan, chosen = self._prepared(objective, expected, records, backend)
        kept = self._kept(plan, {"objective": objective, **(state or {})})
        resumed = 0 if kept is None else kept.resume()
        resumed = self._elsewhere_from(resumed, state or {})
        first = processes.shared(lambda: resumed)  # only the first process has counted its questions
        if first == plan.steps:
            return
        rest = replace(plan, steps=plan.steps - first)
        steps = iter(self._asked.gradients(objective, rest, records=records, expected=expected, backend=chosen))
        for step in range(first, plan.steps):
            if kept is not None:
                kept.before(step)
            dpsgd.shielded_step(steps)
            update(step)
            if kept is not None:
                kept.after(step)

    def shares_of_steps(
        self,
        objective: "Objective",
        *,
        expected: float,
        records: Records = "rows",
        backend: str = "auto",
        begun: int = 0,
    ) -> Callable[[], NDArray[np.uint64]]:
        """Begin a training at one of several hospitals, or take it up; other arguments and errors as for `train`.

        Parameters
        ----------
        objective, expected, records, backend
            As for `train`.
        begun
            Steps that were begun before this process; they are not taken again.

        Returns
        -------
        callable
            Takes one step at the objective's present weights, after claiming it in the ledger, and returns the hidden
            sum of clipped gradients with this hospital's share of the noise.
        """
        from dpsynth.privacy.training import dpsgd

        plan, chosen = self._prepared(objective, expected, records, backend)
        if begun >= plan.steps:
            raise InputError("train: every step of the training was taken.")
        rest = replace(plan, steps=plan.steps - begun)
        steps = iter(self._asked.gradients(objective, rest, records=records, expected=expected, backend=chosen))
        journal = processes.own(self._asked)
        journal.skip_to(min(journal.unit + begun, self._units))

        def step() -> NDArray[np.uint64]:
            journal.claim_block()
            share: NDArray[np.uint64] = dpsgd.shielded_step(steps)
            return share

        return step

    def _prepared(
        self, objective: "Objective", expected: float, records: Records, backend: str
    ) -> "tuple[TrainingPlan, Backend]":
        """Check a training on made-up patients and pay for all of it."""
        from dpsynth.privacy.training import dpsgd
        from dpsynth.privacy.training.per_patient import backend_of

        plan = self._account.training
        if plan is None:
            raise InputError("train: the session was opened without a plan; give Session.open one (training=).")
        if not (math.isfinite(expected) and expected >= 1):
            raise InputError(f"train: found {expected} expected patients, expected a number of 1 or more.")
        if records == "images" and self.schema.images is None:
            raise InputError("train: the schema declares no images; train on rows.")
        chosen = backend_of(backend, objective)
        dpsgd.check_on_made_up(objective, chosen, self._example(records))
        self._account.debit([plan.event])
        return plan, chosen

    def votes(self, panel: Panel, made: NDArray[np.float32], asked: NDArray[np.float32], rho: float) -> Integers:
        """Let teachers learn on, each from its own part of the patients and from made rows, and vote on made rows.

        A patient is in the part of one teacher, so that the vector of m counts moves by at most ``sqrt(m)`` (derived in
        `dpsynth.privacy.training.teachers`). Teachers go on from call to call as long as the panel is the same object.

        Parameters
        ----------
        panel
            What the teachers are.
        made
            (rows, panel.width) made rows that they learn to tell from patients'.
        asked
            (m, panel.width) made rows that they vote on.
        rho
            The price of the call.

        Returns
        -------
        int64 array, shape (m,)
            How many teachers take each row for a patient's, with noise of standard deviation ``sqrt(m / (2 rho))``.

        Raises
        ------
        InputError
            When panel or rows do not fit, or a price is not a positive number.
        BudgetExceeded
            When it costs more than is left; nothing was looked at.
        """
        if type(panel) is not Panel:
            raise InputError(f"votes: found a {type(panel).__name__}, expected a Panel.")
        panel.check(self.codec)
        shown, questions = panel.rows("made", made), panel.rows("asked", asked)
        sensitivity = math.sqrt(len(questions))
        sigma = checks.noise_scale(sensitivity, rho)
        what = f"votes of {panel.teachers} teachers on {len(questions)} made rows"
        self._account.debit([Event("gaussian", what, sensitivity, sigma)])
        return self._asked.votes(panel, shown, questions, sigma)

    def _elsewhere_from(self, step: int, state: Mapping[str, Any]) -> int:
        """Tell answers from elsewhere which networks a step needs beside the objective; return where they go on."""
        go_on = getattr(self._asked, "go_on", None)
        return step if go_on is None else int(go_on(step, networks_of(state)))

    def _kept(self, plan: TrainingPlan, parts: Mapping[str, Any]) -> Kept | None:
        """Return what keeps the state of a training, where the session has a checkpoint."""
        if self._checkpoint is None:
            return None
        journal = processes.own(self._asked)
        return Kept(self._checkpoint, journal, plan, parts, self._units)

    def _example(self, records: Records) -> dict[str, object]:
        """Return the public shape of a batch, for made-up patients."""
        images = self.schema.images if records == "images" else None
        most = self.sensitivity if images is None else images.max_per_patient
        return {
            "records": min(most, 3),
            "columns": [code.size for code in self.codec.columns.values()],
            "images": None if images is None else images.shape,
            "pixels": None if images is None else images.dtype,
        }


def networks_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the networks among what goes on from step to step.

    Parameters
    ----------
    state
        As for `NetworkQuestions.train`.
    """
    from torch import nn

    return {name: part for name, part in state.items() if isinstance(part, nn.Module)}
