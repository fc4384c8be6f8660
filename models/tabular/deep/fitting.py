"""What all deep models for tables do alike: plan the training, ask for counts, hand the rest to a network."""

import abc
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dpsynth.models.base import Progress, Synthesizer
from dpsynth.models.plan import Plan, PlanItem
from dpsynth.models.tabular.deep.conditions import MOST_STATES, condition_columns, measure
from dpsynth.models.tabular.deep.layout import Layout
from dpsynth.models.tabular.deep.model import DeepModel, PaidTable
from dpsynth.models.tabular.marginals import one_way
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.tables.discovery import delta_for_discovery
from dpsynth.privacy.training.dpsgd import Objective
from dpsynth.privacy.training.per_patient import Batch
from dpsynth.progress import silent
from dpsynth.schema.schema import Schema

BINS = 16
CONDITIONS_SHARE = 0.15
"""Share of what is paid for counts that goes to the joint table of the conditions."""
PATIENTS_A_STEP = 650
"""Patients that a step of a training expects, where their number is public; the plan's rate is set from it."""
RATE = 0.1
"""The rate where the number of patients is not public."""


class DeepSynthesizer(Synthesizer):
    """A synthesizer that counts columns and conditions, and trains a network with the rest of the budget."""

    accounting: ClassVar[Literal["gaussian", "zcdp"]] = "gaussian"
    steps: int
    questions: float
    conditions: str | None

    def training(self, schema: Schema, budget: Budget) -> TrainingPlan | None:
        """Return the private training: its noise is what the budget leaves beside the counts."""
        return TrainingPlan.within(
            budget,
            sampling_rate=rate_for(schema.rows),
            steps=self.steps,
            questions=self.questions,
            reserved_delta=delta_for_discovery(budget, schema),
        )

    def fit(self, session: Session, progress: Progress | None = None) -> DeepModel:
        """Learn a model: counts first, then the training."""
        report = progress or silent
        one_way.discover(session)
        report("counting columns", 0.0)
        paid = self.counted(session, session.rho_left * self.share_of_counts())
        return self.learn(session, paid, report).calibrated()

    @abc.abstractmethod
    def learn(self, session: Session, paid: PaidTable, report: Progress) -> DeepModel:
        """Train, and return the model, not yet calibrated."""

    def share_of_counts(self) -> float:
        """Return what of the price for questions the counts take; a training has a price of its own."""
        return 1.0

    def counted(self, session: Session, rho: float) -> PaidTable:
        """Count columns and conditions. Formal guarantee: costs at most `rho`."""
        apart = CONDITIONS_SHARE * rho
        counts = one_way.measure(session, rho - apart, bins=BINS)
        sizes = counts.merged(session.codec, MOST_STATES).bins.shape
        columns = condition_columns(session.schema, sizes, self.named())
        if not columns:
            counts = one_way.measure_again(session, counts, apart)
        layout = Layout.of(session.codec, counts, columns, MOST_STATES)
        conditions = measure(session, counts, layout.bins, columns, apart)
        return PaidTable(layout, conditions, round(counts.rows), counts.released())

    def named(self) -> list[str] | None:
        """Return the columns that the option `conditions` names."""
        return None if self.conditions is None else [name.strip() for name in self.conditions.split(",") if name]

    def plan(self, schema: Schema, budget: Budget, rows: int) -> Plan:
        """Say what will be asked, from public facts: columns are taken to be spread evenly over their bins."""
        from dpsynth.models.tabular.marginals.planning import even_one_way, plan_of, public_codec, rho_of

        share = self.share_of_counts() * (1 - CONDITIONS_SHARE)
        training = self.training(schema, budget)
        rho = rho_of(schema, budget, self.accounting) if training is None else training.rho
        counts = even_one_way(schema, public_codec(schema), BINS, rows, share * rho)
        return plan_of(self, schema, budget, rows, counts, items=self.items(training, rows), pair_error=None)

    def items(self, training: TrainingPlan | None, rows: int) -> Sequence[PlanItem]:
        """Return the lines of a plan beside the counts."""
        if training is None:
            return ()
        noise = training.noise_multiplier * training.clipping_norm
        words = f"each sums the clipped gradients of about {training.sampling_rate * rows:,.0f} rows' patients"
        return [PlanItem("steps of a private training", training.steps, training.steps, noise, words)]


def rate_for(rows: int | None) -> float:
    """Return the sampling rate of a training for a public number of rows, or where it is not public."""
    return RATE if rows is None else min(1.0, max(PATIENTS_A_STEP / rows, 1e-3))


def expected_patients(session: Session, paid: PaidTable) -> float:
    """Return about how many patients there are: a scale for gradients, from what is public or was paid for."""
    return max(paid.rows / session.sensitivity, 1.0)


class TableObjective(Objective):
    """A loss of rows: `prepare` turns fine codes into features of a layout, and conditions.

    After `prepare` a batch has ``rows`` (patients, records, width), ``given`` (patients, records, condition width) and
    ``weights`` (patients, records).
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._rows, self._given = layout.tables(), layout.condition_tables()

    def prepare(self, batch: Batch) -> Batch:
        """Look the features of each code up."""
        codes = batch["codes"]
        return {
            "rows": _looked_up(self._rows, codes),
            "given": _looked_up(self._given, codes),
            "weights": batch["weights"],
        }


def _looked_up(tables: Sequence[tuple[int, Tensor]], codes: Tensor) -> Tensor:
    parts = [table.to(codes.device)[codes[..., place]] for place, table in tables]
    return torch.cat(parts, dim=-1) if parts else codes.new_zeros((*codes.shape[:-1], 0), dtype=torch.float32)


def row_loss(layout: Layout, outputs: Tensor, rows: Tensor, spread: Tensor) -> Tensor:
    """Return (...,) the negative log-likelihood of rows: categories of states, normals around numbers.

    Parameters
    ----------
    layout
        What stands where.
    outputs, rows
        (..., width) a network's outputs, and features of rows.
    spread
        (..., numbers) logarithm of the standard deviation of each number.
    """
    loss = torch.zeros(outputs.shape[:-1], device=outputs.device)
    numbers = 0
    for part in layout.parts:
        there: Tensor | float = 1.0
        if part.count:
            logs = torch.log_softmax(outputs[..., part.states], dim=-1)
            loss = loss - (rows[..., part.states] * logs).sum(-1)
        if part.score is not None:
            there = rows[..., part.states.start] if part.count else 1.0
            away = (rows[..., part.score] - outputs[..., part.score]) * torch.exp(-spread[..., numbers])
            loss = loss + there * (away.square() / 2 + spread[..., numbers])
            numbers += 1
    return loss
