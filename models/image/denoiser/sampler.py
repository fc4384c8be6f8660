"""Images from a denoiser: the probability flow of EDM (Karras et al. 2022), solved in a few steps; what is saved."""

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpsynth.coding.codec import Codec
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.denoiser.autoencoder import Autoencoder
from dpsynth.models.image.denoiser.network import Denoiser
from dpsynth.models.image.denoiser.prior import of_earlier_versions
from dpsynth.models.image.generators import load_weights
from dpsynth.models.image.mixtures import MAX_PARTS
from dpsynth.models.image.model import Floats32, ImageGenerator, ImageModel, Parts, declared_images

ENCODED = "autoencoder."
"""What the names of an autoencoder's weights begin with in a file."""
BLOCK = 500
"""Images that are drawn at once."""


class DiffusionGenerator:
    """Draws images by solving the probability flow of a denoiser.

    Parameters
    ----------
    denoiser
        The averaged network.
    steps
        Steps of the solver.
    guidance
        How far to go beyond the conditional prediction, away from the unconditional one; 0 is plain sampling.
    autoencoder
        Decodes latents, when the denoiser is of latents.
    """

    def __init__(
        self, denoiser: Denoiser, *, steps: int = 18, guidance: float = 0.0, autoencoder: Autoencoder | None = None
    ) -> None:
        self.denoiser = denoiser
        self.autoencoder = autoencoder
        self.steps = steps
        self.guidance = guidance

    @torch.no_grad()
    def draw(self, codes: NDArray[np.int64], rng: np.random.Generator) -> Floats32:
        """Return images in [0, 1]."""
        self.denoiser.eval()
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        if not len(codes):
            shape = self.denoiser.shape if self.autoencoder is None else self.autoencoder.image_shape
            return np.zeros((0, *shape), np.float32)
        parts = [self._solved(part, generator) for part in torch.split(torch.from_numpy(codes), BLOCK)]
        if self.autoencoder is not None:
            parts = [self.autoencoder.cpu().decode(part) for part in parts]
        images: Floats32 = (torch.cat(parts).clamp(-1, 1) * 0.5 + 0.5).numpy()
        return images

    def _solved(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        from diffusers import EDMDPMSolverMultistepScheduler

        scheduler = EDMDPMSolverMultistepScheduler(sigma_data=self.denoiser.sigma_data, sigma_max=20.0)
        scheduler.set_timesteps(self.steps)
        device = next(self.denoiser.parameters()).device
        codes = codes.to(device)
        x = torch.randn((len(codes), *self.denoiser.shape), generator=generator).to(device) * scheduler.init_noise_sigma
        for step, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            clean = self._clean(x, sigma.to(device).expand(len(codes)), codes)
            # the scheduler preconditions by itself: it takes the network's raw output, which we recover
            data, total = self.denoiser.sigma_data, (sigma**2 + self.denoiser.sigma_data**2).sqrt()
            raw = (clean - (data / total) ** 2 * x) / (sigma * data / total)
            x = scheduler.step(raw, step, x).prev_sample
        final: Tensor = x.cpu()
        return final

    def _clean(self, x: Tensor, sigma: Tensor, codes: Tensor) -> Tensor:
        clean: Tensor = self.denoiser(x, sigma, codes)
        if self.guidance == 0:
            return clean
        unsaid = torch.tensor(self.denoiser.sizes, dtype=codes.dtype, device=codes.device).expand_as(codes)
        apart: Tensor = clean - self.denoiser(x, sigma, unsaid)
        return clean + self.guidance * apart

    def save_pretrained(self, folder: str | Path) -> None:
        """Write denoiser, scheduler and autoencoder in the form of diffusers, each to a folder of its own."""
        from diffusers import EDMDPMSolverMultistepScheduler

        self.denoiser.save_pretrained(Path(folder) / "denoiser")
        scheduler = EDMDPMSolverMultistepScheduler(sigma_data=self.denoiser.sigma_data, sigma_max=20.0)
        scheduler.save_pretrained(Path(folder) / "scheduler")
        if self.autoencoder is not None:
            self.autoencoder.save_pretrained(Path(folder) / "vae")

    def to_parts(self) -> Parts:
        """Return the weights as arrays."""
        config: dict[str, Any] = {
            "widths": list(self.denoiser.config["widths"]),
            "sigma_data": self.denoiser.sigma_data,
            "coefficients": int(self.denoiser.config["coefficients"]),
            "parts": int(self.denoiser.config["parts"]),
            "steps": self.steps,
            "guidance": self.guidance,
        }
        arrays = {name: value.cpu().numpy() for name, value in self.denoiser.state_dict().items()}
        if self.autoencoder is not None:
            config["autoencoder"], weights = self.autoencoder.to_parts()
            arrays |= {f"{ENCODED}{name}": value for name, value in weights.items()}
        return config, arrays

    @classmethod
    def from_parts(
        cls, shape: tuple[int, ...], conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Self:
        """Check the parts and build the generator."""
        widths = tuple(int(width) for width in config["widths"])
        steps, guidance, data = int(config["steps"]), float(config["guidance"]), float(config["sigma_data"])
        coefficients, parts = int(config["coefficients"]), int(config.get("parts", 1))
        if not (0 <= coefficients <= 1024 and 1 <= parts <= MAX_PARTS):
            raise ValueError("coefficients or parts out of range")
        if not 1 <= len(widths) <= 5 or not all(8 <= width <= 1024 and width % 8 == 0 for width in widths):
            raise ValueError("widths out of range")
        if not 1 <= steps <= 1000 or not 0 <= guidance <= 20 or not 0 < data < 10:
            raise ValueError("steps, guidance or sigma_data out of range")
        autoencoder = None
        if "autoencoder" in config:
            weights = {name.removeprefix(ENCODED): a for name, a in arrays.items() if name.startswith(ENCODED)}
            arrays = {name: value for name, value in arrays.items() if not name.startswith(ENCODED)}
            autoencoder = Autoencoder.from_parts(shape, config["autoencoder"], weights)
            shape = autoencoder.shape
        denoiser = Denoiser(shape, conditions.sizes, widths, data, coefficients, parts=parts)
        bands = 0 if denoiser.prior is None else denoiser.prior.tail.shape[1]
        load_weights(denoiser, of_earlier_versions(arrays, bands))
        return cls(denoiser, steps=steps, guidance=guidance, autoencoder=autoencoder)


class DiffusionModel(ImageModel):
    """A table and a denoiser."""

    kind: ClassVar[str] = "image-diffusion"

    @classmethod
    def read_generator(
        cls, codec: Codec, conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> ImageGenerator:
        """Build the generator from its parts."""
        return DiffusionGenerator.from_parts(declared_images(codec.schema).shape, conditions, config, arrays)
