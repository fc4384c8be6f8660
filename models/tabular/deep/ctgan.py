"""DP-CTGAN: a conditional GAN for rows whose critic is trained by DP-SGD.

Only the critic sees patients. Its loss is one number a patient: the patient's row against one row that the generator
made (``pac`` is 1, and there is no gradient penalty on real rows). The rows that it is shown are made for conditions
from a *paid* table, in their real proportions: oversampling rare conditions would change who is in a sample, and with
it the accounting; rare groups are oversampled when rows are drawn. The critic takes many steps for each of the
generator's, since under noise a critic that lags behind is what holds a GAN back (Bie, Kamath and Zhang 2023).

Source: Xu et al. (2019), Modeling tabular data using conditional GAN, section 4; Fang, Dhami and Kersting (2022),
DP-CTGAN.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from dpsynth.models.tabular.deep.fitting import DeepSynthesizer, TableObjective, expected_patients
from dpsynth.models.tabular.deep.generator import RowGenerator
from dpsynth.models.tabular.deep.model import GeneratorModel, PaidTable
from dpsynth.models.tabular.deep.networks import Discriminator
from dpsynth.models.tabular.deep.training import private_trainer
from dpsynth.privacy.session import Session
from dpsynth.privacy.training.per_patient import Batch
from dpsynth.progress import Progress

ROWS = 512
"""Rows of a step of the generator."""


class CTGAN(DeepSynthesizer):
    """Train a critic privately and a generator against it.

    Parameters
    ----------
    hidden : int, default 64
        Units of a hidden layer.
    steps : int, default 300
        Steps of the critic, the private training.
    critic_steps : int, default 5
        Steps of the critic for each time that the generator is stepped.
    generator_steps : int, default 3
        Steps of the generator each time; they cost nothing.
    questions : float, default 0.2
        Share of the budget for counts.
    rate, generator_rate : float, default 0.01, 0.001
        Learning rates of critic and generator.
    conditions : str or None, default None
        Columns that both networks read, separated by commas; by default the schema's target and subgroups.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: ward, target: died, columns: {sex: {type: categorical, values: [f, m]}, died: {type: boolean}}}"
    ... )
    >>> plan = CTGAN(steps=100).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]
    ['columns', 'steps of a private training']
    """

    name: ClassVar[str] = "ctgan"
    summary: ClassVar[str] = "a conditional GAN whose critic is trained by DP-SGD"
    citation: ClassVar[str] = "Xu et al. (2019); Fang, Dhami and Kersting (2022), DP-CTGAN; Bie et al. (2023)"
    produces = GeneratorModel
    seconds: ClassVar[tuple[float, float]] = (30.0, 0.0)

    def __init__(
        self,
        *,
        hidden: int = 64,
        steps: int = 300,
        critic_steps: int = 5,
        generator_steps: int = 3,
        questions: float = 0.2,
        rate: float = 1e-2,
        generator_rate: float = 1e-3,
        conditions: str | None = None,
    ) -> None:
        self.hidden = hidden
        self.steps = steps
        self.critic_steps = critic_steps
        self.generator_steps = generator_steps
        self.questions = questions
        self.rate = rate
        self.generator_rate = generator_rate
        self.conditions = conditions

    def learn(self, session: Session, paid: PaidTable, report: Progress) -> GeneratorModel:
        """Train both; keep the generator."""
        generator = RowGenerator(paid, hidden=2 * self.hidden, extra=16, rate=self.generator_rate)
        critic = RowCritic(generator, self.hidden)
        trainer = private_trainer(critic, rate=self.rate, steps=self.steps, report=report)

        def update(step: int) -> None:
            trainer.update(step)
            if step % self.critic_steps == self.critic_steps - 1:
                for _ in range(self.generator_steps):
                    generator.step(ROWS, lambda rows, conditions: softplus(-critic.discriminator(rows, conditions)))

        state = {**trainer.state, **generator.state}
        session.train(critic, update, expected=expected_patients(session, paid), state=state)
        return generator.model(session)


class RowCritic(TableObjective):
    """The loss of the critic: patients' rows against generated ones."""

    def __init__(self, generator: RowGenerator, hidden: int) -> None:
        layout = generator.paid.layout
        super().__init__(layout)
        self._makes = [generator]  # in a list: it is no part of what is trained
        self.discriminator = Discriminator(layout.width, layout.condition_width, hidden, seed=5)

    def randomness(self, patients: int, generator: torch.Generator) -> Batch:
        """Return a generated row for each patient; the patient has no part in it."""
        with torch.no_grad():
            rows, conditions = self._makes[0].rows(patients, generator)
        return {"made": rows, "made_given": conditions}

    def forward(self, batch: Batch) -> Tensor:
        """Return (patients,) losses: of patients' rows against generated ones (log loss)."""
        real = softplus(-self.discriminator(batch["rows"], batch["given"]))
        generated = softplus(self.discriminator(batch["made"], batch["made_given"]))
        return (real * batch["weights"]).sum(1) + generated
