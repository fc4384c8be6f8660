"""The latent diffusion model: its public autoencoder, gradients, budget, files, statement and messages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from image_cases import DELTA, fitted, scans, schema
from privacy.helpers import Tape
from safetensors.torch import save_file

from dpsynth.coding.codec import Codec
from dpsynth.errors import InputError
from dpsynth.models import load_model, make
from dpsynth.models.image.batch_reading import Reading
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.denoiser.autoencoder import Autoencoder
from dpsynth.models.image.denoiser.loss import DenoisingLoss
from dpsynth.models.image.denoiser.network import Denoiser
from dpsynth.models.image.diffusion import Diffusion
from dpsynth.privacy.spending.accounting import epsilon_of
from dpsynth.privacy.training.dpsgd import check_on_made_up
from dpsynth.privacy.training.per_patient import vmapped

SMALL: dict[str, Any] = {
    "steps": 2,
    "sampling_rate": 0.1,
    "questions": 0.4,
    "widths": "8",
    "sampling_steps": 3,
    "warmup_steps": 2,
    "declaration": "Public scans of 2019.",
}


def autoencoder(channels: int = 1, widths: tuple[int, ...] = (8, 8)) -> AutoencoderKL:
    """Return a tiny network that halves sides once for each width after the first."""
    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        latent_channels=2,
        norm_num_groups=4,
        layers_per_block=1,
        scaling_factor=0.5,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a tiny autoencoder."""
    there = tmp_path_factory.mktemp("public") / "vae"
    autoencoder().save_pretrained(there)
    return str(there)


def test_gradients_are_right(folder: str) -> None:
    """Per-patient gradients equal plain ones, and only the denoiser has any."""
    made = schema("grey")
    declared, codec = made.images, Codec(made)
    assert declared is not None
    public = Autoencoder.read(folder, declared.shape)
    assert public.shape == (2, 4, 4)
    reading = Reading.of(codec, Conditions.of(codec, ("label", "sex")))
    sizes = [codec.columns[name].size for name in ("label", "sex")]
    network = Denoiser(public.shape, sizes, (8,), 1.0)
    objective = DenoisingLoss(network, reading, levels=2, autoencoder=public).train()
    assert {name.split(".")[0] for name, p in objective.named_parameters() if p.requires_grad} == {"denoiser"}
    shape = {
        "records": 2,
        "columns": [code.size for code in codec.columns.values()],
        "images": declared.shape,
        "pixels": declared.dtype,
    }
    check_on_made_up(objective, vmapped, shape)


def test_latents_are_those_of_diffusers(folder: str) -> None:
    """Encoding is the scaled mode of the posterior, and decoding undoes the scale."""
    public, network = Autoencoder.read(folder, (1, 8, 8)), AutoencoderKL.from_pretrained(folder)
    images = torch.rand((3, 1, 8, 8), generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        mode = network.encode(images).latent_dist.mode()
        torch.testing.assert_close(public.encode(images), 0.5 * mode, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(public.decode(0.5 * mode), network.decode(mode).sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("warmup", ["moments", "embedding", "none"])
def test_a_fit(warmup: str, folder: str, tmp_path: Path) -> None:
    """It spends the budget, leaves the autoencoder as it was, says what is public, and is saved and read again."""
    session, found = fitted(Diffusion(autoencoder=folder, warmup=warmup, **SMALL), scans())
    assert 0.97 <= epsilon_of(session.events, DELTA, session.accounting) <= 1 + 1e-9
    assert found.generator.denoiser.prior is None
    said = found.statement["not_protected"]
    assert "The images of the autoencoder, taken as public. Declared: Public scans of 2019." in said
    found.save(tmp_path / "model")
    first, again = found.sample(20, seed=0), load_model(tmp_path / "model").sample(20, seed=0)
    assert first.images is not None
    assert again.images is not None
    assert first.images.pixels.shape[1:] == (1, 8, 8)
    assert np.array_equal(again.images.pixels, first.images.pixels)
    found.generator.save_pretrained(tmp_path / "out")
    exported = AutoencoderKL.from_pretrained(tmp_path / "out" / "vae").state_dict()
    public = AutoencoderKL.from_pretrained(folder).state_dict()
    assert all(torch.equal(exported[name], value) for name, value in public.items())
    assert found.generator.draw(np.zeros((0, 2), np.int64), np.random.default_rng(0)).shape == (0, 1, 8, 8)


def test_a_fit_reads_the_folder_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read to check the autoencoder before a patient is seen is what the fit takes; another fit reads anew."""
    shapes: list[tuple[int, ...]] = []
    real = Autoencoder.read
    monkeypatch.setattr(Autoencoder, "read", lambda folder, shape: shapes.append(shape) or real(folder, shape))
    recipe = Diffusion(autoencoder=folder, warmup="none", **{**SMALL, "steps": 0})
    first, second = (fitted(recipe, scans())[1].generator.autoencoder for _ in range(2))
    assert shapes == [(1, 8, 8)] * 2
    assert first is not second


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"latent_channels": 10**6}, "channels"),
        ({"layers_per_block": 10**6}, "layers"),
        ({"block_out_channels": [10**6]}, "widths"),
        ({"block_out_channels": [8, 6]}, "widths"),
        ({"scaling_factor": float("nan")}, "scaling"),
        ({"in_channels": 3}, "channels"),
        ({"block_out_channels": [8, 16]}, "another network"),
        ({"latent_channels": 3}, "weights do not fit"),
    ],
)
def test_a_spoiled_file_is_refused(change: dict[str, Any], match: str, folder: str) -> None:
    """Settings of a file that are out of range, or are not those of its weights, are refused."""
    settings, arrays = Autoencoder.read(folder, (1, 8, 8)).to_parts()
    with pytest.raises(ValueError, match=match):
        Autoencoder.from_parts((1, 8, 8), settings | change, arrays)


def test_weights_have_to_be_finite(folder: str) -> None:
    """One weight of a file that is not a number is refused."""
    settings, arrays = Autoencoder.read(folder, (1, 8, 8)).to_parts()
    spoiled = {name: np.full_like(value, np.nan) for name, value in arrays.items()}
    with pytest.raises(ValueError, match="weights do not fit"):
        Autoencoder.from_parts((1, 8, 8), settings, spoiled)


def test_a_declaration_is_needed(folder: str) -> None:
    """Without it the autoencoder is refused."""
    with pytest.raises(InputError, match="declaration: say what public images the autoencoder is from"):
        make("diffusion", autoencoder=folder)


@pytest.mark.parametrize(
    ("form", "channels", "widths", "match"),
    [
        ("grey", 3, (8,), "it takes 3 channels, and the schema declares 1"),
        ("colour", 3, (8, 8), "it divides sides by 2, and images of 9 x 6"),
        ("volume", 1, (8,), "these images are volumes"),
    ],
)
def test_images_that_do_not_fit(form: str, channels: int, widths: tuple[int, ...], match: str, tmp_path: Path) -> None:
    """They are refused in words, before a session is open."""
    autoencoder(channels, widths).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=match):
        fitted(Diffusion(autoencoder=str(tmp_path), **SMALL), scans(form))


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    """A missing folder, an empty one, and one of another network are told apart from an autoencoder."""
    Denoiser((1, 8, 8), (3, 2), (8,)).save_pretrained(tmp_path / "denoiser")
    (tmp_path / "empty").mkdir()
    for name, match in (("missing", "there is no folder"), ("empty", "not hold one"), ("denoiser", "not hold one")):
        with pytest.raises(InputError, match=match):
            fitted(Diffusion(autoencoder=str(tmp_path / name), **SMALL), scans())


@pytest.mark.parametrize("fault", ["missing", "nan"])
def test_weights_of_a_folder_have_to_be_whole(fault: str, folder: str, tmp_path: Path) -> None:
    """A folder that lacks one weight, or has one that is no number, is refused rather than completed at random."""
    network = AutoencoderKL.from_pretrained(folder)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    network.save_pretrained(tmp_path)
    weights["quant_conv.weight"].fill_(float("nan"))
    if fault == "missing":
        del weights["quant_conv.weight"]
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(InputError, match="not hold one"):
        Autoencoder.read(str(tmp_path), (1, 8, 8))


def test_another_activation_is_refused(tmp_path: Path) -> None:
    """A network that a model's file would not describe in full is refused."""
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, act_fn="gelu").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="autoencoder: its blocks or activations"):
        Autoencoder.read(str(tmp_path), (3, 8, 8))


def test_a_tape_gives_the_same_model_for_neighbours(folder: str, tmp_path: Path) -> None:
    """With every answer from a tape, each file is byte for byte the same with one patient more."""
    for place, extra in (("a", 0), ("b", 1)):
        recipe = Diffusion(autoencoder=folder, **SMALL)
        fitted(recipe, scans(extra=extra), seed=None, answers=Tape())[1].save(tmp_path / place)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


@pytest.mark.parametrize("other", [5, "x", None, {}])
def test_a_spoiled_model_is_refused(other: Any, folder: str) -> None:
    """A model whose autoencoder is no settings at all is refused like any other spoiled file."""
    _, found = fitted(Diffusion(autoencoder=folder, warmup="none", **{**SMALL, "steps": 0}), scans())
    config, arrays = found.generator.to_parts()
    with pytest.raises((ValueError, TypeError, KeyError)):
        type(found.generator).from_parts((1, 8, 8), found.conditions, config | {"autoencoder": other}, arrays)
