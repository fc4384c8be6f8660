"""Tabular diffusion: one network that takes noise off rows, trained by DP-SGD.

States and numbers are diffused together as continuous values (EDM's parametrisation). A patient's loss is the mean over
several noise levels, taken *before* clipping (noise multiplicity, Dockhorn et al. 2023): it costs time, not budget. The
network reads the schema's target and subgroups and is sometimes not told them, so that rows can be drawn with guidance.

A warm start is post-processing: part of the budget pays a marginal-based model (`prism` or `independent`), whose rows
train the network as long as one likes; the private training then starts from there.

Sources: Karras et al. (2022), Elucidating the design space of diffusion-based generative models, equations 7 and 8 and
algorithm 1 without churn; Dockhorn et al. (2023), Differentially private diffusion models; Kotelnikov et al. (2023),
TabDDPM; Ho and Salimans (2022), Classifier-free diffusion guidance.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dpsynth.errors import InputError
from dpsynth.models.tabular.deep.fitting import DeepSynthesizer, TableObjective, expected_patients
from dpsynth.models.tabular.deep.layout import Layout
from dpsynth.models.tabular.deep.model import DeepModel, PaidTable
from dpsynth.models.tabular.deep.networks import MLP, fresh, normal, seeded
from dpsynth.models.tabular.deep.training import private_trainer
from dpsynth.models.tabular.deep.warmup import WARMUPS, warm_known
from dpsynth.models.tabular.marginals import one_way
from dpsynth.privacy.session import Session
from dpsynth.privacy.training.per_patient import Batch
from dpsynth.progress import Progress, silent

SIGMA_DATA = 0.7
LOWEST, HIGHEST = 0.02, 20.0
"""Noise levels of the sampler."""
LOG_MEAN, LOG_SPREAD = -0.4, 1.2
"""The distribution of the logarithm of a noise level in training."""
RHO = 5.0
STATE_SCALE = 2.0
"""A state is 0 or this, less its share; numbers are standard normal."""
SHARPNESS = 8.0
"""By what states are multiplied, which are about 0 or 1, so that a calibration in logarithms suits them."""
FREQUENCIES = 4
"""Sines and cosines by which a network is told a noise level."""
UNTOLD = 0.1
"""How often a network is not told the conditions."""
WARM_ROWS, WARM_BATCH = 30_000, 512


class TabularDiffusion(DeepSynthesizer):
    """Train a denoiser privately, and draw rows by taking noise off noise.

    Parameters
    ----------
    hidden, depth : int, default 128, 2
        Units and number of hidden layers of the denoiser.
    steps : int, default 150
        Steps of the private training.
    levels : int, default 2
        Noise levels for each patient and step, averaged before clipping.
    questions : float, default 0.8
        Share of the budget for counts and for the model of the warm start.
    rate : float, default 0.002
        Learning rate of the private training.
    warmup : str, default "prism"
        Where the warm start's rows come from: ``prism``, ``independent`` or ``none``.
    warm_steps : int, default 2500
        Steps of the warm start; they cost nothing.
    draws : int, default 20
        Steps of the sampler.
    guidance : float, default 0.0
        How far rows are drawn toward their conditions, 0 for as they are.
    conditions : str or None, default None
        Columns that the network reads, separated by commas; by default the schema's target and subgroups.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: ward, target: died, columns: {sex: {type: categorical, values: [f, m]}, died: {type: boolean}}}"
    ... )
    >>> plan = TabularDiffusion(steps=100).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]
    ['columns', 'steps of a private training']
    """

    name: ClassVar[str] = "tabular-diffusion"
    summary: ClassVar[str] = "a denoiser of rows trained by DP-SGD, warmed up on rows of a marginal-based model"
    citation: ClassVar[str] = "Kotelnikov et al. (2023), TabDDPM; Dockhorn et al. (2023); Karras et al. (2022)"
    seconds: ClassVar[tuple[float, float]] = (50.0, 0.0)

    def __init__(
        self,
        *,
        hidden: int = 128,
        depth: int = 2,
        steps: int = 150,
        levels: int = 2,
        questions: float = 0.8,
        rate: float = 2e-3,
        warmup: str = "prism",
        warm_steps: int = 2500,
        draws: int = 20,
        guidance: float = 0.0,
        conditions: str | None = None,
    ) -> None:
        if warmup not in WARMUPS:
            raise InputError(f"warmup: found {warmup!r}, expected one of {', '.join(WARMUPS)}.")
        self.hidden = hidden
        self.depth = depth
        self.steps = steps
        self.levels = levels
        self.questions = questions
        self.rate = rate
        self.warmup = warmup
        self.warm_steps = warm_steps
        self.draws = draws
        self.guidance = guidance
        self.conditions = conditions

    def fit(self, session: Session, progress: Progress | None = None) -> "RowDiffusionModel":
        """Learn a model: the marginal-based one of the warm start first, then the training."""
        report = progress or silent
        one_way.discover(session)
        if self.warmup == "none":
            report("counting columns", 0.0)
            paid, rows = self.counted(session, session.rho_left), None
        else:
            paid, rows = warm_known(session, self.warmup, WARM_ROWS, self.named(), report)
        return self._learned(session, paid, rows, report).calibrated()

    def learn(self, session: Session, paid: PaidTable, report: Progress) -> "RowDiffusionModel":
        """Train without a warm start."""
        return self._learned(session, paid, None, report)

    def _learned(
        self, session: Session, paid: PaidTable, rows: Mapping[str, Any] | None, report: Progress
    ) -> "RowDiffusionModel":
        objective = Denoising(paid.layout, self.hidden, self.depth, self.levels)
        if rows is not None:
            _warm_up(objective, rows, self.warm_steps, report)
        trainer = private_trainer(objective, rate=self.rate, steps=self.steps, report=report)
        session.train(objective, trainer.update, expected=expected_patients(session, paid), state=trainer.state)
        trainer.finish()
        return RowDiffusionModel(
            session.codec,
            session.statement(),
            paid=paid,
            network=objective.network,
            draws=self.draws,
            guidance=self.guidance,
        )


class Denoising(TableObjective):
    """The weighted squared error of a denoiser, over a patient's rows and several noise levels."""

    def __init__(self, layout: Layout, hidden: int, depth: int, levels: int) -> None:
        super().__init__(layout)
        self._centre = centre(layout)
        self._scale = scale(layout)
        self._levels = levels
        self.network = fresh(6, inputs_of(layout), hidden, layout.width, depth=depth, direct=layout.condition_width)
        with torch.no_grad():
            self.network.last.weight.mul_(0.1)

    def prepare(self, batch: Batch) -> Batch:
        """Look features up, and bring them to one scale."""
        patients = super().prepare(batch)
        device = patients["rows"].device
        return {**patients, "rows": (patients["rows"] - self._centre.to(device)) * self._scale.to(device)}

    def randomness(self, patients: int, generator: torch.Generator) -> Batch:
        """Return noise levels, noise, and who is told the conditions."""
        shape = (patients, self._levels)
        levels = torch.exp(LOG_MEAN + LOG_SPREAD * torch.randn(shape, generator=generator))
        return {
            "levels": levels.clamp(LOWEST, HIGHEST),
            "noise": torch.randn(*shape, len(self._centre), generator=generator),
            "told": (torch.rand(shape, generator=generator) >= UNTOLD).float(),
        }

    def forward(self, batch: Batch) -> Tensor:
        """Return (patients,) losses: means over noise levels and, by weight, over rows."""
        rows = batch["rows"][:, :, None]  # (patients, records, 1, width)
        levels = batch["levels"][:, None, :, None]
        noisy = rows + levels * batch["noise"][:, None]
        conditions = (batch["given"][:, :, None] * batch["told"][:, None, :, None]).expand(*noisy.shape[:-1], -1)
        away = denoised(self.network, noisy, levels, conditions) - rows
        weight = (levels**2 + SIGMA_DATA**2) / (levels * SIGMA_DATA) ** 2  # EDM's weights, equation 8
        loss = (weight * away.square()).sum(-1).mean(-1)
        return (loss * batch["weights"]).sum(1)


def denoised(network: MLP, noisy: Tensor, levels: Tensor, conditions: Tensor) -> Tensor:
    """Return what a network takes noisy rows for (EDM, equation 7); `levels` are (..., 1)."""
    total = torch.sqrt(levels**2 + SIGMA_DATA**2)
    told = torch.log(levels) / 4 * (2.0 ** torch.arange(FREQUENCIES, device=levels.device))
    told = torch.cat([torch.sin(told), torch.cos(told)], dim=-1).expand(*noisy.shape[:-1], -1)
    outputs: Tensor = network(torch.cat([noisy / total, told, conditions], dim=-1))
    return noisy * (SIGMA_DATA / total) ** 2 + outputs * levels * SIGMA_DATA / total


def inputs_of(layout: Layout) -> int:
    """Return how many numbers a denoiser reads."""
    return layout.width + 2 * FREQUENCIES + layout.condition_width


def centre(layout: Layout) -> Tensor:
    """Return (width,) the paid means of features: 0 for numbers, shares for states."""
    means = torch.zeros(layout.width)
    for part in layout.parts:
        if part.count:
            means[part.states] = torch.from_numpy(layout.state_shares(part)).float()
    return means


def scale(layout: Layout) -> Tensor:
    """Return (width,) by what features are multiplied."""
    factors = torch.full((layout.width,), STATE_SCALE)
    factors[layout.scores] = 1.0
    return factors


def _warm_up(objective: Denoising, codes: Mapping[str, Any], steps: int, report: Progress) -> None:
    """Train on rows that are public already: plain Adam, no noise."""
    source = seeded(7)
    names = list(codes)
    table = torch.from_numpy(np.stack([codes[name].astype(np.int64) for name in names], axis=1))
    rows = objective.prepare({"codes": table[:, None], "weights": torch.ones(len(table), 1)})

    def loss() -> Tensor:
        chosen = torch.randint(len(table), (WARM_BATCH,), generator=source)
        batch = {name: value[chosen] for name, value in rows.items()} | objective.randomness(WARM_BATCH, source)
        losses: Tensor = objective(batch)
        return losses.mean()

    def warming(_phase: str, share: float) -> None:
        report("warming up", share)

    private_trainer(objective, rate=2e-3, steps=steps, report=warming).minimise(loss)


class RowDiffusionModel(DeepModel):
    """Rows from noise, step by step.

    Parameters
    ----------
    draws
        Steps.
    guidance
        Strength of the conditions beyond their own.
    """

    kind: ClassVar[str] = "table-diffusion"

    def __init__(self, *parts: Any, draws: int, guidance: float, **facts: Any) -> None:
        super().__init__(*parts, **facts)
        self.draws = draws
        self.guidance = guidance

    def scores(self, conditions: Tensor, rng: np.random.Generator) -> Tensor:
        """Return denoised rows: numbers as they are, states on the scale of the logarithms of probabilities."""
        layout = self.paid.layout
        levels = _levels(self.draws)
        rows = levels[0] * normal(rng, len(conditions), layout.width)
        for level, lower in pairwise(levels):
            slope = (rows - self._denoised(rows, level, conditions)) / level
            after = rows + (lower - level) * slope
            if lower > 0:  # Heun's correction
                slope = (slope + (after - self._denoised(after, lower, conditions)) / lower) / 2
            rows = rows + (lower - level) * slope
        features = rows / scale(layout) + centre(layout)
        for part in layout.parts:
            features[:, part.states] *= SHARPNESS
        return features

    def _denoised(self, rows: Tensor, level: float, conditions: Tensor) -> Tensor:
        levels = torch.full((len(rows), 1), level)
        clean = denoised(self.network, rows, levels, conditions)
        if self.guidance:
            free = denoised(self.network, rows, levels, torch.zeros_like(conditions))
            clean = clean + self.guidance * (clean - free)
        return clean

    def settings(self) -> dict[str, Any]:
        """Return how rows are drawn."""
        return {"draws": self.draws, "guidance": self.guidance}

    @classmethod
    def shape(cls, layout: Layout, settings: Mapping[str, Any]) -> tuple[int, int]:  # noqa: ARG003  (as its class says)
        """Return the inputs and outputs of the network."""
        return inputs_of(layout), layout.width

    @classmethod
    def checked(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return how rows are drawn, from a file."""
        draws, guidance = int(settings["draws"]), float(settings["guidance"])
        if not (2 <= draws <= 1000 and -1 <= guidance <= 100):
            raise ValueError("settings out of range")
        return {"draws": draws, "guidance": guidance}


TabularDiffusion.produces = RowDiffusionModel


def _levels(draws: int) -> list[float]:
    """Return the sampler's noise levels, falling, with a 0 at the end (EDM, equation 5)."""
    grid = [
        (HIGHEST ** (1 / RHO) + i / (draws - 1) * (LOWEST ** (1 / RHO) - HIGHEST ** (1 / RHO))) ** RHO
        for i in range(draws)
    ]
    return [*grid, 0.0]
