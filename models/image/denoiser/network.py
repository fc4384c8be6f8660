"""The denoiser of the diffusion model: MONAI's U-Net on folded images, with additive embeddings of the conditions."""

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn
from torch.nn import functional

from dpsynth.models.image.denoiser.prior import MixturePrior

FOLD = 2
"""Every 2 x 2 pixels become one place with four times the channels: a step costs about a quarter."""


class SumEmbedding(nn.Module):
    """The sum of one embedding a condition: scarce combinations borrow from what their parts share with others.

    Parameters
    ----------
    sizes
        Codes of each condition; one code more, the last, stands for "not said".
    width
        Length of an embedding.
    """

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Embedding(size + 1, width) for size in sizes)
        self.width = width

    def forward(self, codes: Tensor) -> Tensor:
        """Return (rows, width) for (rows, conditions) codes."""
        total = codes.new_zeros((len(codes), self.width), dtype=torch.float32)
        for place, part in enumerate(self.parts):
            total = total + part(codes[:, place])
        return total


class Denoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Predicts the clean image from a noisy one, in the preconditioned form of EDM (Karras et al. 2022, Table 1).

    With coefficients, what the network adds to is the exact denoiser of a moments model, `prior`, rather than a part of
    the noisy image; the network sees both. Its last layer begins at 0, so that it begins as good as the moments are.
    `save_pretrained` and `from_pretrained` are those of diffusers.

    Parameters
    ----------
    shape
        Channels and sides of an image.
    sizes
        Codes of each condition.
    widths
        Channels of each level of the U-Net, multiples of 8.
    sigma_data
        Standard deviation of pixels, which are in [-1, 1].
    coefficients
        Those of the prior; 0 for none.
    parts
        Parts of the prior's mixtures.
    """

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        sizes: Sequence[int] = (10,),
        widths: Sequence[int] = (32, 64),
        sigma_data: float = 0.5,
        coefficients: int = 0,
        *,
        parts: int = 1,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.sizes = tuple(sizes)
        self.sigma_data = sigma_data
        dims = len(shape) - 1
        channels = shape[0] * FOLD**dims
        self.prior = MixturePrior(shape, sizes, coefficients, parts) if coefficients else None
        self.unet = DiffusionModelUNet(
            spatial_dims=dims,
            in_channels=channels * (1 if self.prior is None else 2),
            out_channels=channels,
            channels=tuple(widths),
            attention_levels=(False,) * len(widths),
            num_res_blocks=1,
            norm_num_groups=min(8, widths[0] // 2),  # a channel alone would lose what conditions add to it
            num_head_channels=8,
            num_class_embeds=1,
        )
        self.unet.class_embedding = SumEmbedding(sizes, 4 * widths[0])
        step = FOLD * 2 ** (len(widths) - 1)
        self.margins = [(-side) % step for side in shape[1:]]

    def forward(self, noisy: Tensor, sigma: Tensor, codes: Tensor) -> Tensor:
        """Return (rows, *shape) clean images for noisy ones, (rows,) noise levels and (rows, conditions) codes."""
        level = sigma.reshape(-1, *[1] * len(self.shape))
        total = (level**2 + self.sigma_data**2).sqrt()
        base = (self.sigma_data / total) ** 2 * noisy
        seen = [noisy / total]
        if self.prior is not None:
            base = self.prior(noisy, sigma, codes)
            seen.append(base / self.sigma_data)
        margins = [size for margin in reversed(self.margins) for size in (0, margin)]
        padded = functional.pad(torch.cat(seen, 1), margins)
        correction = unfolded(self.unet(folded(padded), 250 * sigma.log(), class_labels=codes))
        for axis, side in enumerate(self.shape[1:], 2):
            correction = correction.narrow(axis, 0, side)
        clean: Tensor = base + level * self.sigma_data / total * correction
        return clean


def folded(x: Tensor) -> Tensor:
    """Return (rows, channels 2^d, sides / 2) of (rows, channels, sides): space to depth."""
    rows, channels, *sides = x.shape
    dims = len(sides)
    x = x.reshape(rows, channels, *[n for side in sides for n in (side // FOLD, FOLD)])
    inner, outer = [3 + 2 * d for d in range(dims)], [2 + 2 * d for d in range(dims)]
    return x.permute(0, 1, *inner, *outer).reshape(rows, channels * FOLD**dims, *[side // FOLD for side in sides])


def unfolded(x: Tensor) -> Tensor:
    """Undo `folded`."""
    rows, channels, *sides = x.shape
    dims = len(sides)
    x = x.reshape(rows, channels // FOLD**dims, *[FOLD] * dims, *sides)
    order = [axis for d in range(dims) for axis in (2 + dims + d, 2 + d)]
    return x.permute(0, 1, *order).reshape(rows, channels // FOLD**dims, *[side * FOLD for side in sides])
