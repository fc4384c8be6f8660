"""PATE-GAN: a GAN whose critic never sees a patient, only the noisy votes of teachers that do.

Each round the generator makes rows; the kernel's teachers, each with its own part of the patients, learn to tell them
from patients' rows, and vote on a few of them. The votes come back with Gaussian noise
(`dpsynth.privacy.training.teachers`). A student learns the share of votes: it is regressed, not classified, since the
noise has mean 0 while a noisy majority would be biased. The generator is trained against the student.

Source: Jordon, Yoon and van der Schaar (2019), PATE-GAN; noise as in Papernot et al. (2018), Scalable private learning
with PATE, without its data-dependent accounting.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dpsynth.models.plan import PlanItem
from dpsynth.models.tabular.deep.fitting import DeepSynthesizer
from dpsynth.models.tabular.deep.generator import RowGenerator
from dpsynth.models.tabular.deep.model import GeneratorModel, PaidTable
from dpsynth.models.tabular.deep.networks import Discriminator, seeded
from dpsynth.models.trainer import Trainer
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.training.teachers import Panel
from dpsynth.progress import Progress
from dpsynth.schema.schema import Schema

MADE = 256
"""Rows that the teachers learn from in a round, beside their patients' rows."""
ROWS, STUDENT_STEPS = 512, 40
STUDENT_RATE, STUDENT_DECAY = 3e-3, 1e-2
REMEMBERED = 10
"""Rounds whose answers the student learns from: older ones are of teachers and of a generator that are gone."""
PART = 10
"""Patients of a teacher, about, where the option `teachers` is 0."""
FEWEST = 10


class PATEGAN(DeepSynthesizer):
    """Train a generator against a student of private teachers.

    Parameters
    ----------
    teachers : int, default 0
        How many; 0 for one to about ten patients.
    rounds : int, default 30
        Rounds of teachers, student and generator.
    asked : int, default 200
        Generated rows that the teachers vote on in a round.
    hidden : int, default 64
        Units of a hidden layer.
    generator_steps : int, default 5
        Steps of the generator in a round.
    questions : float, default 0.2
        Share of the budget for counts; the votes have the rest.
    generator_rate : float, default 0.001
        Learning rate of the generator.
    conditions : str or None, default None
        Columns that the networks read, separated by commas; by default the schema's target and subgroups.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: ward, target: died, columns: {sex: {type: categorical, values: [f, m]}, died: {type: boolean}}}"
    ... )
    >>> plan = PATEGAN(rounds=10).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]
    ['columns', 'rounds of votes']
    """

    name: ClassVar[str] = "pate-gan"
    summary: ClassVar[str] = "a GAN whose critic learns from noisy votes of teachers on disjoint patients"
    asks_sums: ClassVar[bool] = False
    citation: ClassVar[str] = "Jordon, Yoon and van der Schaar (2019), PATE-GAN; Papernot et al. (2018)"
    produces = GeneratorModel
    of_teachers: ClassVar[bool] = True
    seconds: ClassVar[tuple[float, float]] = (30.0, 0.0)

    def __init__(
        self,
        *,
        teachers: int = 0,
        rounds: int = 30,
        asked: int = 200,
        hidden: int = 64,
        generator_steps: int = 5,
        questions: float = 0.2,
        generator_rate: float = 1e-3,
        conditions: str | None = None,
    ) -> None:
        self.teachers = teachers
        self.rounds = rounds
        self.asked = asked
        self.hidden = hidden
        self.generator_steps = generator_steps
        self.questions = questions
        self.generator_rate = generator_rate
        self.conditions = conditions

    def training(self, schema: Schema, budget: Budget) -> TrainingPlan | None:  # noqa: ARG002  (as its class says)
        """Return None: the teachers answer by counts, which are questions."""
        return None

    def share_of_counts(self) -> float:
        """Return the share of the budget for counts of columns."""
        return self.questions

    def learn(self, session: Session, paid: PaidTable, report: Progress) -> GeneratorModel:
        """Ask votes round by round; keep the generator."""
        generator = RowGenerator(paid, hidden=2 * self.hidden, extra=16, rate=self.generator_rate)
        student = Student(paid, self.hidden)
        teachers = self.teachers or max(FEWEST, round(paid.rows / session.sensitivity / PART))
        panel = _panel(paid, teachers)
        price = session.rho_left / self.rounds
        for step in range(self.rounds):
            report("asking teachers", step / self.rounds)
            with torch.no_grad():
                generated, asked = (torch.cat(generator.rows(count), dim=1) for count in (MADE, self.asked))
            votes = session.votes(panel, generated.numpy(), asked.numpy(), min(price, session.rho_left))
            student.learn(asked, votes / teachers)
            for _ in range(self.generator_steps):
                generator.step(ROWS, lambda rows, conditions: -student.discriminator(rows, conditions))
        report("asking teachers", 1.0)
        return generator.model(session)

    def items(self, training: TrainingPlan | None, rows: int) -> list[PlanItem]:  # noqa: ARG002  (there is none)
        """Return the line of the votes."""
        words = f"{self.teachers or max(FEWEST, round(rows / PART)):,} teachers; the noise is in votes"
        return [PlanItem("rounds of votes", self.rounds, self.rounds * self.asked, 0.0, words)]


def _panel(paid: PaidTable, teachers: int) -> Panel:
    layout = paid.layout
    names = list(layout.codec.columns)
    return Panel(
        teachers,
        {names[place]: table.numpy() for place, table in layout.tables()},
        {names[place]: table.numpy() for place, table in layout.condition_tables()},
    )


class Student:
    """Learns the share of teachers that take a row for a patient's, from noisy shares of rows that were asked."""

    def __init__(self, paid: PaidTable, hidden: int) -> None:
        self._width = paid.layout.width
        self.discriminator = Discriminator(self._width, paid.layout.condition_width, hidden, seed=5)
        parameters = self.discriminator.parameters()
        self._trainer = Trainer(torch.optim.AdamW(parameters, lr=STUDENT_RATE, weight_decay=STUDENT_DECAY))
        self._asked: list[Tensor] = []
        self._shares: list[Tensor] = []
        self._source = seeded(8)

    def learn(self, asked: Tensor, shares: Any) -> None:
        """Take in a round's answers, and regress the latest ones."""
        self._asked.append(asked)
        self._shares.append(torch.from_numpy(np.asarray(shares, dtype=np.float32)))
        rows, wanted = torch.cat(self._asked[-REMEMBERED:]), torch.cat(self._shares[-REMEMBERED:]) - 0.5
        for _ in range(STUDENT_STEPS):
            chosen = torch.randint(len(rows), (256,), generator=self._source)
            odds = self.discriminator(rows[chosen, : self._width], rows[chosen, self._width :])
            self._trainer.descend((odds - wanted[chosen]).square().mean())
