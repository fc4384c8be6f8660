"""DP-TVAE: a variational autoencoder for rows, trained by DP-SGD; rows come from the prior.

Encoder and decoder see patients, so both are trained privately, as one objective. The decoder reads the schema's
target and subgroups: where the noise is large the latent vector goes unused first, and what is left is the
distribution of each column given these, which is what classifiers and fairness live on. An aggregate posterior would
have to be paid for; the prior is free.

Source: Xu, Skoularidou, Cuesta-Infante and Veeramachaneni (2019), Modeling tabular data using conditional GAN, section
4.4; DP-SGD: Abadi et al. (2016).
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from dpsynth.models.tabular.deep.fitting import DeepSynthesizer, TableObjective, expected_patients, row_loss
from dpsynth.models.tabular.deep.layout import Layout
from dpsynth.models.tabular.deep.model import GeneratorModel, PaidTable
from dpsynth.models.tabular.deep.networks import fresh
from dpsynth.models.tabular.deep.training import private_trainer, with_margins
from dpsynth.privacy.session import Session
from dpsynth.privacy.training.per_patient import Batch
from dpsynth.progress import Progress


class TVAE(DeepSynthesizer):
    """Train an autoencoder privately, and decode latent vectors from the prior.

    Parameters
    ----------
    latent, hidden : int, default 8, 64
        Latent numbers, and units of the one hidden layer of encoder and decoder.
    steps : int, default 200
        Steps of the training.
    questions : float, default 0.2
        Share of the budget for counts.
    rate : float, default 0.01
        Learning rate.
    conditions : str or None, default None
        Columns that the decoder reads, separated by commas; by default the schema's target and subgroups.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: ward, target: died, columns: {sex: {type: categorical, values: [f, m]}, died: {type: boolean}}}"
    ... )
    >>> plan = TVAE(steps=100).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]
    ['columns', 'steps of a private training']
    """

    name: ClassVar[str] = "tvae"
    summary: ClassVar[str] = "a variational autoencoder trained by DP-SGD; the decoder reads target and subgroups"
    citation: ClassVar[str] = "Xu et al. (2019), Modeling tabular data using conditional GAN; Abadi et al. (2016)"
    produces = GeneratorModel
    seconds: ClassVar[tuple[float, float]] = (30.0, 0.0)

    def __init__(
        self,
        *,
        latent: int = 8,
        hidden: int = 64,
        steps: int = 200,
        questions: float = 0.2,
        rate: float = 1e-2,
        conditions: str | None = None,
    ) -> None:
        self.latent = latent
        self.hidden = hidden
        self.steps = steps
        self.questions = questions
        self.rate = rate
        self.conditions = conditions

    def learn(self, session: Session, paid: PaidTable, report: Progress) -> GeneratorModel:
        """Train encoder and decoder; keep the decoder."""
        objective = RowAutoencoder(paid.layout, self.latent, self.hidden)
        trainer = private_trainer(objective, rate=self.rate, steps=self.steps, report=report)
        session.train(objective, trainer.update, expected=expected_patients(session, paid), state=trainer.state)
        trainer.finish()
        return GeneratorModel(
            session.codec,
            session.statement(),
            paid=paid,
            network=objective.decoder,
            latent=self.latent,
            spread=objective.spread.weight.detach()[: len(paid.layout.scores), 0].clamp(-5, 1).exp().tolist(),
        )


class RowAutoencoder(TableObjective):
    """The evidence lower bound of rows, negated."""

    def __init__(self, layout: Layout, latent: int, hidden: int) -> None:
        super().__init__(layout)
        width = layout.condition_width
        self._layout = layout
        self._latent = latent
        self.encoder = fresh(1, layout.width + width, hidden, 2 * latent, depth=1)
        self.decoder = with_margins(fresh(2, latent + width, hidden, layout.width, depth=1, direct=width), layout)
        self.spread = nn.Linear(1, max(1, len(layout.scores)), bias=False)  # a layer, for its rule of gradients
        nn.init.zeros_(self.spread.weight)

    def randomness(self, patients: int, generator: torch.Generator) -> Batch:
        """Return the latent vectors' noise."""
        return {"noise": torch.randn(patients, self._latent, generator=generator)}

    def forward(self, batch: Batch) -> Tensor:
        """Return (patients,) losses: what the decoder misses, and what the code tells beyond the prior."""
        rows, conditions = batch["rows"], batch["given"]
        mean, log_variance = self.encoder(torch.cat([rows, conditions], dim=-1)).chunk(2, dim=-1)
        log_variance = log_variance.clamp(-8, 4)
        latent = mean + torch.exp(log_variance / 2) * batch["noise"][:, None]
        outputs = self.decoder(torch.cat([latent, conditions], dim=-1))
        told = (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1) / 2
        spread = self.spread(torch.ones_like(rows[..., :1]))
        loss: Tensor = row_loss(self._layout, outputs, rows, spread) + told
        return (loss * batch["weights"]).sum(1)
