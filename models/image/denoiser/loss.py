"""The loss of a denoiser: that of EDM (Karras et al. 2022), at its noise levels or at those of v-prediction.

As in DPDM (Dockhorn et al. 2023) each patient's loss is the mean over several noise levels, taken before clipping.
"""

import math

import torch
from torch import Tensor

from dpsynth.models.image.batch_reading import Reading
from dpsynth.models.image.denoiser.autoencoder import Autoencoder
from dpsynth.models.image.denoiser.network import Denoiser
from dpsynth.privacy.training.dpsgd import Objective
from dpsynth.privacy.training.per_patient import Batch

P_MEAN, P_STD = -0.6, 1.2
"""Of the logarithm of noise levels; above EDM's -1.2: the prior knows what is left at the lowest levels."""
LOWEST, HIGHEST = 0.002, 80.0
"""Noise levels that the schedule of v-prediction keeps to: EDM's range."""
DROPOUT = 0.1
"""Chance that a condition is not said in training, for guidance (Ho & Salimans 2022)."""
SCHEDULES = ("edm", "v")


class DenoisingLoss(Objective):
    """The EDM loss of a denoiser, the mean over a patient's images and noise levels.

    It is that of v-prediction (Salimans & Ho 2022), too. With ``tan(a) = sigma / sigma_data`` and ``x`` in units of
    ``sigma_data``, the preconditioned network is to say ``sin(a) x - cos(a) n = -v`` of ``z = cos(a) x + sin(a) n``,
    and the weight of the loss makes it the square of what is wrong with this. Schedules differ in the levels alone.

    Parameters
    ----------
    denoiser
        What is trained.
    reading
        Reads pixels and conditions.
    levels
        Noise levels a patient and step.
    weight
        Factor of the loss: chosen so that a usual gradient has norm 1.
    schedule
        How noise levels are drawn, see `noise_levels`.
    autoencoder
        Makes the latents of images that the denoiser is of; else it is of pixels.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        reading: Reading,
        *,
        levels: int,
        weight: float = 1.0,
        schedule: str = "edm",
        autoencoder: Autoencoder | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.reading = reading
        self.levels = levels
        self.weight = weight
        self.schedule = schedule
        self.autoencoder = autoencoder

    def prepare(self, batch: Batch) -> Batch:
        """Return pixels in [-1, 1] and codes of the conditions."""
        return {"x": self.reading.centred(batch), "codes": self.reading.codes(batch), "weights": batch["weights"]}

    def randomness(self, patients: int, generator: torch.Generator) -> Batch:
        """Return noise levels, noise, and which conditions are not said; the images of a patient share them."""
        return {
            "sigma": noise_levels(self.schedule, (patients, self.levels), self.denoiser.sigma_data, generator),
            "noise": torch.randn((patients, self.levels, *self.denoiser.shape), generator=generator),
            "said": torch.rand((patients, self.levels), generator=generator) >= DROPOUT,
        }

    def forward(self, batch: Batch) -> Tensor:
        """Return (patients,) losses."""
        x, codes = batch["x"], batch["codes"]
        patients, records = x.shape[:2]
        if self.autoencoder is not None:  # here rather than in `prepare`: batches of other sizes round otherwise
            x = self.autoencoder.encode(x.flatten(0, 1)).reshape(patients, records, *self.denoiser.shape)
        spread = (patients, records, self.levels)
        clean = x.unsqueeze(2).expand(*spread, *self.denoiser.shape).flatten(0, 2)
        sigma = batch["sigma"].unsqueeze(1).expand(spread).flatten()
        noise = batch["noise"].unsqueeze(1).expand(*spread, *self.denoiser.shape).flatten(0, 2)
        unsaid = torch.tensor(self.denoiser.sizes, dtype=codes.dtype, device=codes.device)
        said = batch["said"].unsqueeze(1).expand(spread).flatten()[:, None]
        conditions = torch.where(said, codes.unsqueeze(2).expand(*spread, codes.shape[-1]).flatten(0, 2), unsaid)
        level = sigma.reshape(-1, *[1] * len(self.denoiser.shape))
        restored = self.denoiser(clean + level * noise, sigma, conditions)
        data = self.denoiser.sigma_data
        each = (restored - clean).square().flatten(1).mean(1) * (sigma**2 + data**2) / (sigma * data) ** 2
        mean: Tensor = (each.reshape(spread).mean(2) * batch["weights"]).sum(1)
        return self.weight * mean


def noise_levels(schedule: str, shape: tuple[int, ...], data: float, generator: torch.Generator) -> Tensor:
    """Return noise levels: log-normal ones for ``edm``, for ``v`` those of uniform times of the cosine schedule.

    Parameters
    ----------
    schedule
        ``"edm"`` or ``"v"``.
    shape
        Of the levels.
    data
        Standard deviation of pixels: the level at half the time of the cosine schedule.
    generator
        Draws them.
    """
    if schedule == "edm":
        return (P_STD * torch.randn(shape, generator=generator) + P_MEAN).exp()
    first, last = (2 / math.pi * math.atan(level / data) for level in (LOWEST, HIGHEST))
    times = torch.rand(shape, generator=generator).clamp(first, last)
    return data * (math.pi / 2 * times).tan()
