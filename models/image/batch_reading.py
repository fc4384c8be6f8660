"""What a private training reads of patients' images: pixels in [0, 1] and codes of the conditions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsynth.coding.codec import Codec
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.model import declared_images
from dpsynth.privacy.training.per_patient import Batch


@dataclass(frozen=True)
class Reading:
    """Where conditions stand in a batch, and what range its pixels have.

    Parameters
    ----------
    places
        The place of each condition among the columns.
    low, high
        The public range of pixels.
    """

    places: tuple[int, ...]
    low: float
    high: float

    @classmethod
    def of(cls, codec: Codec, conditions: Conditions) -> "Reading":
        """Return what a codec says."""
        names = list(codec.columns)
        low, high = declared_images(codec.schema).range
        return cls(tuple(names.index(name) for name in conditions.columns), float(low), float(high))

    def images(self, batch: Batch) -> Tensor:
        """Return (patients, records, channels, sides) floats in [0, 1]; what is not a number counts as the low end."""
        pixels = batch["images"]
        if pixels.dtype == torch.uint8:
            return pixels.float() / 255
        return torch.nan_to_num((pixels - self.low) / (self.high - self.low)).clamp(0, 1)

    def centred(self, batch: Batch) -> Tensor:
        """Return the same in [-1, 1]."""
        pixels = (batch["images"].float() - self.low) * (2 / (self.high - self.low)) - 1
        return torch.nan_to_num(pixels, nan=-1).clamp(-1, 1)

    def codes(self, batch: Batch) -> Tensor:
        """Return (patients, records, conditions) codes."""
        return batch["codes"][..., list(self.places)]
