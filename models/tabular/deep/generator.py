"""The generator of a GAN for rows: it sees noise, conditions from a paid table and a critic, never a patient."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpsynth.models.tabular.deep.model import GeneratorModel, PaidTable, generated
from dpsynth.models.tabular.deep.networks import fresh, gumbel, seeded
from dpsynth.models.tabular.deep.training import with_margins
from dpsynth.models.trainer import Trainer
from dpsynth.models.weight_average import Average
from dpsynth.privacy.session import Session

TEMPERATURE = 0.3
"""Of the soft states whose gradient the generator is given."""
AVERAGE = 0.98
"""Weight of the past in the running average of the generator's weights, which is what is kept."""


class RowGenerator:
    """A generator, its optimiser, and the rows that it makes.

    Parameters
    ----------
    paid
        Columns and conditions, as they were paid for.
    hidden
        Units of each of the two hidden layers.
    extra
        Latent normals beside one for each number.
    rate
        Adam's rate.
    """

    def __init__(self, paid: PaidTable, *, hidden: int, extra: int, rate: float) -> None:
        self.paid = paid
        layout = paid.layout
        self._latent = len(layout.scores) + extra
        shape = (self._latent + layout.condition_width, hidden, layout.width)
        self.network = with_margins(fresh(3, *shape, depth=2, normalised=True), layout)
        optimiser = torch.optim.Adam(self.network.parameters(), lr=rate, betas=(0.5, 0.9))
        self._trainer = Trainer(optimiser, average=Average(self.network, AVERAGE, span=0))
        self._own = seeded(4)
        self._weights = torch.from_numpy(paid.conditions.table.ravel()).double().clamp(min=1e-9)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps from step to step."""
        trained = {f"generator's {name}": part for name, part in self._trainer.state.items()}
        return {"generator": self.network, "generator's own": self._own, **trained}

    def rows(self, count: int, randomness: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return (count, width) rows and the (count, condition width) states that they were made for."""
        source = self._own if randomness is None else randomness
        layout = self.paid.layout
        conditions = self._drawn_conditions(count, source)
        latent = torch.randn(count, self._latent, generator=source)
        outputs = generated(self.network, layout, latent, conditions, skip=True)
        noise = gumbel(source, count, layout.width)
        return layout.normalised(outputs, noise=noise, temperature=TEMPERATURE), conditions

    def _drawn_conditions(self, count: int, source: torch.Generator) -> Tensor:
        layout, table = self.paid.layout, self.paid.conditions.table
        if not layout.conditions:
            return torch.zeros(count, 0)
        cells = torch.multinomial(self._weights, count, replacement=True, generator=source).numpy()
        states = dict(zip(layout.conditions, np.unravel_index(cells, table.shape), strict=True))
        return layout.one_hot(states, count)

    def step(self, count: int, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Make rows, and move where the mean loss that a critic gives them falls."""
        self._trainer.descend(loss(*self.rows(count)).mean())

    def model(self, session: Session) -> GeneratorModel:
        """Return the model, with the average of the weights."""
        self._trainer.finish()
        return GeneratorModel(
            session.codec,
            session.statement(),
            paid=self.paid,
            network=self.network,
            latent=self._latent,
            spread=[0.0] * len(self.paid.layout.scores),
            skip=True,
        )
