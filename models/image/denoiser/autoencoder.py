"""A public autoencoder for the diffusion model: diffusers' `AutoencoderKL`, frozen and without chance.

A patient's latents are a fixed function of their images, so that nothing is spent on it; what its weights were trained
on has to be public, and is declared. Its norms are group norms, by image.
"""

import math
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from torch import Tensor, nn

from dpsynth.errors import InputError
from dpsynth.models.image.generators import load_weights

VALUES = 2**20
"""Pixel values that are decoded at once."""
BOUNDS = {"in_channels": 4, "latent_channels": 64, "layers_per_block": 8, "norm_num_groups": 256}
"""The most that a file may ask for."""
WIDEST, DEEPEST = 2048, 6
SWITCHES = ("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention")


class Autoencoder(nn.Module):
    """Images in [-1, 1] to latents of about unit variance, and back; nothing of it is trained.

    Parameters
    ----------
    network
        The autoencoder.
    shape
        Channels and sides of an image.
    """

    def __init__(self, network: AutoencoderKL, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.network.set_attn_processor(AttnProcessor())  # products that `vmap` knows
        self.image_shape = shape
        self.settings = _settings(network.config)
        self.scale: float = self.settings["scaling_factor"]
        self.shift: float = self.settings["shift_factor"]
        shrunk = 2 ** (len(self.settings["block_out_channels"]) - 1)
        self.shape = (self.settings["latent_channels"], *(side // shrunk for side in shape[1:]))

    @classmethod
    def read(cls, folder: str, shape: tuple[int, ...]) -> Self:
        """Read a folder of diffusers.

        Raises
        ------
        InputError
            When it holds no autoencoder, or one that images of this shape do not fit.
        """
        if not Path(folder).is_dir():
            raise InputError(f"autoencoder: there is no folder {folder!r}.")
        network = _read(folder)
        if network is None:
            raise InputError(
                f"autoencoder: {folder!r} does not hold one; expected config.json and all weights, as safetensors, of "
                "an AutoencoderKL, as its save_pretrained writes them."
            )
        try:
            _plain(network.config)
            fits(_checked(_settings(network.config)), shape)
            return cls(network.float(), shape)
        except ValueError as error:
            raise InputError(f"autoencoder: {error}.") from None

    def encode(self, images: Tensor) -> Tensor:
        """Return (rows, *shape) latents: the mode of what the encoder says."""
        latents: Tensor = self.network.encode(images).latent_dist.mode()
        return (latents - self.shift) * self.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return (rows, *image_shape) images for latents, some at a time."""
        raw = latents / self.scale + self.shift
        size = max(1, VALUES // math.prod(self.image_shape))
        return torch.cat([self.network.decode(part).sample for part in torch.split(raw, size)])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write it in the form of diffusers."""
        self.network.save_pretrained(folder)

    def to_parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return settings, which are JSON, and weights."""
        return dict(self.settings), {name: value.cpu().numpy() for name, value in self.network.state_dict().items()}

    @classmethod
    def from_parts(cls, shape: tuple[int, ...], settings: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Check the parts, which come from a file, and build the autoencoder."""
        settings = _checked(_settings(settings))
        fits(settings, shape)
        depth = len(settings["block_out_channels"])
        with torch.device("meta"):  # sizes of a file take no memory before the weights are known to be there
            network = AutoencoderKL(
                **settings,
                out_channels=settings["in_channels"],
                down_block_types=("DownEncoderBlock2D",) * depth,
                up_block_types=("UpDecoderBlock2D",) * depth,
            )
        load_weights(network, arrays)
        return cls(network, shape)


def _read(folder: str) -> AutoencoderKL | None:
    """Return the autoencoder of a folder, or nothing when it holds none that is whole."""
    try:
        if AutoencoderKL.load_config(folder).get("_class_name") != "AutoencoderKL":
            return None
        network, weights = AutoencoderKL.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, TypeError, RuntimeError, AttributeError):
        return None
    if weights["missing_keys"]:  # diffusers would begin them anew
        return None
    return network if all(bool(value.isfinite().all()) for value in network.parameters()) else None


def fits(settings: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Refuse images that the autoencoder cannot take; `ValueError` says why."""
    if len(shape) != 3:
        raise ValueError("it is for pictures, and these images are volumes; leave it out")
    if settings["in_channels"] != shape[0]:
        raise ValueError(f"it takes {settings['in_channels']} channels, and the schema declares {shape[0]}")
    step = 2 ** (len(settings["block_out_channels"]) - 1)
    if any(side % step for side in shape[1:]):
        sides = " x ".join(map(str, shape[1:]))
        raise ValueError(f"it divides sides by {step}, and images of {sides} are not multiples of that")


def _plain(config: Any) -> None:
    """Refuse a network whose settings in a model's file would not say all of it."""
    blocks = {*config["down_block_types"], *config["up_block_types"]}
    if config["act_fn"] != "silu" or not blocks <= {"DownEncoderBlock2D", "UpDecoderBlock2D"}:
        raise ValueError("its blocks or activations are not those that AutoencoderKL has by default")
    if config["in_channels"] != config["out_channels"]:
        raise ValueError("it gives other channels than it takes")


def _settings(config: Any) -> dict[str, Any]:
    """Return what of a configuration decides the network, as plain numbers."""
    return {
        **{name: int(config[name]) for name in BOUNDS},
        "block_out_channels": [int(width) for width in config["block_out_channels"]],
        "scaling_factor": float(config["scaling_factor"]),
        "shift_factor": float(config["shift_factor"] or 0.0),
        **{name: bool(config[name]) for name in SWITCHES},
    }


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    widths, groups = settings["block_out_channels"], settings["norm_num_groups"]
    if not all(1 <= settings[name] <= most for name, most in BOUNDS.items()):
        raise ValueError("its channels, layers or groups are out of range")
    if not 1 <= len(widths) <= DEEPEST or not all(1 <= w <= WIDEST and w % groups == 0 for w in widths):
        raise ValueError("its widths are out of range")
    scale, shift = settings["scaling_factor"], settings["shift_factor"]
    if not 1e-6 < scale < 1e6 or not abs(shift) < 1e6:
        raise ValueError("its scaling is out of range")
    return settings
