"""The diffusion model: its prior, its network, gradients, what it begins with, and the form of diffusers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_cases import DELTA, SIZES, fitted, scans, schema

from dpsynth.coding.codec import Codec
from dpsynth.errors import InputError
from dpsynth.models import load_model, make
from dpsynth.models.image.batch_reading import Reading
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.denoiser.loss import DenoisingLoss, noise_levels
from dpsynth.models.image.denoiser.network import Denoiser, folded, unfolded
from dpsynth.models.image.denoiser.prior import MixturePrior
from dpsynth.models.image.denoiser.sampler import DiffusionGenerator
from dpsynth.models.image.diffusion import Diffusion
from dpsynth.models.image.frequencies import Basis, Rest
from dpsynth.models.image.mixtures import Mixture, MomentsGenerator
from dpsynth.privacy.spending.accounting import epsilon_of
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.training.dpsgd import check_on_made_up
from dpsynth.privacy.training.per_patient import vmapped

FORMS = tuple(SIZES)
SMALL: dict[str, Any] = {"steps": 2, "sampling_rate": 0.1, "questions": 0.4, "widths": "8,16", "sampling_steps": 3}


def moments(shape: tuple[int, ...] = (1, 4, 4), count: int = 5, parts: int = 3) -> MomentsGenerator:
    """Return mixtures of two labels and two sexes, with noise in the frequencies that are left out."""
    rng = np.random.default_rng(0)
    basis = Basis(shape, count)
    size, bands = len(basis), Rest(shape, count).bands
    roots, means = rng.normal(0, 0.015, (2, size, size)), rng.normal(0, 0.02, (4, parts, size))
    means[:, :, 0] += 0.5 * np.sqrt(np.prod(shape)) * basis.weights[0] / 8  # around grey, far from black and white
    weights = rng.dirichlet(np.full(parts, 3.0), 2)
    mixture = Mixture(means, roots, weights, rng.uniform(1e-4, 4e-4, (2, bands)))
    return MomentsGenerator(basis, 8.0, Conditions(("label", "sex"), (2, 2)), mixture)


def denoiser(shape: tuple[int, ...] = (1, 8, 8), **facts: Any) -> Denoiser:
    """Return a small network whose last layer does not begin at 0."""
    torch.manual_seed(0)
    found = Denoiser(shape, (3, 2), (8, 16), **facts)
    with torch.no_grad():
        for weight in found.unet.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return found


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.3, 5.0])
def test_the_prior_is_the_conditional_expectation(sigma: float) -> None:
    """The prior's answer is that of Bayes' rule over the parts, solved in all pixels with the moments' numbers."""
    from scipy.special import logsumexp

    found = moments()
    prior, mixture = MixturePrior.of(found), found.mixture
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    rng = np.random.default_rng(1)
    noisy = 2 * found.draw(codes, rng).reshape(4, 16) - 1 + rng.normal(0, sigma, (4, 16))
    got = prior(torch.from_numpy(noisy).float().reshape(4, 1, 4, 4), torch.full((4,), sigma), torch.from_numpy(codes))
    matrix, scale = found.basis.matrix, found.radius / found.basis.weights
    low = matrix @ np.ones(16)  # what a grey image has at the frequencies that were measured
    rest, every = Rest((1, 4, 4), 5).map.ravel(), Basis((1, 4, 4), 16).matrix
    order = np.argsort(np.sqrt(sum(axis.astype(float) ** 2 for axis in np.indices((4, 4)))).ravel(), kind="stable")
    shares = []
    for row, (label, sex) in enumerate(codes):
        root = 2 * scale[:, None] * mixture.roots[label]
        tail = np.append(4 * mixture.rest[label], 0.0)[rest[order]]
        covariance = matrix.T @ root @ root.T @ matrix + every.T @ np.diag(tail) @ every
        total = covariance + sigma**2 * np.eye(16)
        means = (2 * scale * mixture.means[2 * label + sex] - low) @ matrix
        apart = noisy[row] - means
        logs = np.log(mixture.weights[label]) - 0.5 * np.einsum("pi,ij,pj->p", apart, np.linalg.inv(total), apart)
        chances = np.exp(logs - logsumexp(logs))
        shares.append(chances.max())
        wanted = chances @ (means + apart @ np.linalg.solve(total, covariance))
        np.testing.assert_allclose(got[row].flatten().numpy(), wanted, atol=5e-4)
    assert sigma < 5 or max(shares) < 0.9  # several parts are possible


def test_the_mean_of_the_prior_is_that_of_its_samples() -> None:
    """At very much noise the prior says the mean image of the label and sex, that of 4,000 samples."""
    found = moments((1, 4, 4), 16)
    drawn = found.draw(np.tile([[1, 0]], (4000, 1)), np.random.default_rng(0))
    inside = (drawn > 0).all(axis=0) & (drawn < 1).all(axis=0)  # samples are cut at black and white
    said = MixturePrior.of(found)(torch.zeros(1, 1, 4, 4), torch.tensor([1e4]), torch.tensor([[1, 0]]))
    apart = np.abs(said[0].numpy() / 2 + 0.5 - drawn.mean(0))[inside]
    assert (apart < 6 * drawn.std(0)[inside] / np.sqrt(4000) + 1e-3).all()


def test_a_prior_of_an_earlier_version_is_one_with_one_part() -> None:
    """Weights that were saved with one Gaussian a combination, in coefficients, give the same denoiser."""
    found = moments(parts=1)
    flat = MomentsGenerator(
        found.basis, found.radius, found.conditions, Mixture.single(found.mixture.means[:, 0], found.mixture.roots)
    )
    network = Denoiser((1, 4, 4), (2, 2), (8, 16), coefficients=5)
    network.prior = MixturePrior.of(flat)
    config, arrays = DiffusionGenerator(network, steps=3).to_parts()
    owner = [0, 0, 1, 1, 2]
    earlier = {name: array for name, array in arrays.items() if name != "prior.weights"}
    earlier["prior.means"] = np.einsum("cj,ckj->ck", arrays["prior.means"][:, 0], arrays["prior.vectors"][owner])
    earlier["prior.tail"] = arrays["prior.tail"].ravel()[:1]
    conditions = Conditions(("label", "sex"), (2, 2))
    config = {name: value for name, value in config.items() if name != "parts"}
    again = DiffusionGenerator.from_parts((1, 4, 4), conditions, config, earlier).denoiser
    noisy, codes = torch.randn(5, 1, 4, 4), torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [2, 2]])
    sigma = torch.linspace(0.05, 2, 5)
    torch.testing.assert_close(again(noisy, sigma, codes), network(noisy, sigma, codes), atol=1e-5, rtol=1e-4)


def test_what_is_not_said_is_the_whole() -> None:
    """Without conditions the prior has the mean of all combinations and the spread within and between labels."""
    prior = MixturePrior.of(moments())
    unsaid = torch.tensor([[2, 2]])
    said = prior(torch.zeros(1, 1, 4, 4), torch.tensor([1e4]), unsaid)
    alone = [
        prior(torch.zeros(1, 1, 4, 4), torch.tensor([1e4]), torch.tensor([[label, sex]]))
        for label in (0, 1)
        for sex in (0, 1)
    ]
    torch.testing.assert_close(said, torch.stack(alone).mean(0), atol=1e-4, rtol=0)
    assert float(prior.values[2].sum()) > float(prior.values[:2].mean(0).sum())


@pytest.mark.parametrize("form", FORMS)
def test_a_network_begins_as_the_prior(form: str) -> None:
    """Before any step the network adds nothing to the prior, at every level, in every form."""
    declared = schema(form).images
    assert declared is not None
    network = Denoiser(declared.shape, (3, 2), (8, 16), coefficients=12)
    assert network.prior is not None
    noisy, codes = torch.randn(4, *declared.shape), torch.tensor([[0, 1], [2, 0], [1, 1], [3, 2]])
    sigma = torch.tensor([0.01, 0.3, 1.0, 10.0])
    torch.testing.assert_close(network(noisy, sigma, codes), network.prior(noisy, sigma, codes))


@pytest.mark.parametrize("coefficients", [0, 12])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_right(form: str, coefficients: int) -> None:
    """Per-patient gradients of the denoising loss equal plain ones; the kernel's own check says so for every form."""
    made = schema(form)
    declared, codec = made.images, Codec(made)
    assert declared is not None
    network = Denoiser(declared.shape, (4, 3), (8, 16), coefficients=coefficients)
    reading = Reading.of(codec, Conditions.of(codec, ("label", "sex")))
    sizes = [codec.columns[name].size for name in ("label", "sex")]
    network = Denoiser(declared.shape, sizes, (8, 16), coefficients=coefficients)
    objective = DenoisingLoss(network, reading, levels=2)
    shape = {
        "records": 2,
        "columns": [code.size for code in codec.columns.values()],
        "images": declared.shape,
        "pixels": declared.dtype,
    }
    check_on_made_up(objective, vmapped, shape)


@pytest.mark.parametrize("coefficients", [0, 12])
def test_the_loss_is_that_of_v_prediction(coefficients: int) -> None:
    """The loss equals |v - v'|^2 of the variance-preserving form, by hand, with v' from the network's clean image."""
    network = denoiser(coefficients=coefficients)
    objective = DenoisingLoss(network, Reading((0, 1), 0.0, 1.0), levels=1, schedule="v")
    generator = torch.Generator().manual_seed(1)
    images, codes = torch.rand((6, 1, 1, 8, 8), generator=generator), torch.tensor([[0, 1], [2, 0], [1, 1]] * 2)
    ready = objective.prepare({"images": images, "codes": codes[:, None], "weights": torch.ones(6, 1)})
    ready |= objective.randomness(6, generator) | {"said": torch.ones((6, 1), dtype=torch.bool)}
    angle = torch.atan(ready["sigma"] / network.sigma_data).reshape(6, 1, 1, 1)
    alpha, spread = angle.cos(), angle.sin()
    x, noise = ready["x"][:, 0] / network.sigma_data, ready["noise"][:, 0]
    z = alpha * x + spread * noise
    clean = network(z * network.sigma_data / alpha, ready["sigma"][:, 0], codes) / network.sigma_data
    said = alpha * (z - alpha * clean) / spread - spread * clean  # v' of the noise and image that it says
    by_hand = (said - (alpha * noise - spread * x)).square().flatten(1).mean(1)
    torch.testing.assert_close(objective(ready), by_hand, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("data", [0.5, 1.0])
def test_levels_of_the_schedules(data: float) -> None:
    """20,000 levels follow their law: log-normal, or uniform times; the bound is that of Massart at 1e-7."""
    from scipy.stats import kstest, norm

    bound = np.sqrt(np.log(2 / 1e-7) / (2 * 20_000))
    drawn = {one: noise_levels(one, (20_000,), data, torch.Generator().manual_seed(2)).numpy() for one in ("edm", "v")}
    assert kstest(np.log(drawn["edm"]), norm(-0.6, 1.2).cdf).statistic < bound
    assert kstest(2 / np.pi * np.arctan(drawn["v"] / data), "uniform").statistic < bound + 0.01  # what is cut off
    assert drawn["v"].min() >= 0.002 * 0.999
    assert drawn["v"].max() <= 80 * 1.001


def test_v_prediction_trains() -> None:
    """A fit with the schedule of v-prediction, its warm-up included, spends the budget and draws images."""
    session, found = fitted(Diffusion(schedule="v", warmup="embedding", warmup_steps=2, **SMALL), scans())
    assert 0.97 <= epsilon_of(session.events, DELTA, session.accounting) <= 1 + 1e-9
    assert found.sample(5, seed=0).images is not None


@pytest.mark.parametrize("shape", [(3, 1, 6, 4), (2, 3, 4, 2), (2, 2, 4, 6, 2)])
def test_folding_is_undone(shape: tuple[int, ...]) -> None:
    """Unfolding gives the image back; a folded place holds the pixels that lie together."""
    x = torch.arange(float(np.prod(shape))).reshape(shape)
    there = folded(x)
    assert there.shape[2:] == tuple(side // 2 for side in shape[2:])
    assert torch.equal(unfolded(there), x)
    corner = (slice(None), slice(None), *[slice(0, 2)] * (len(shape) - 2))
    first = (slice(None), slice(None), *[0] * (len(shape) - 2))
    assert torch.equal(there[first], x[corner].reshape(shape[0], -1))


def test_diffusers_reads_what_was_saved(tmp_path: Path) -> None:
    """The folder holds a network that gives the same images when it is read again, and a scheduler of diffusers."""
    from diffusers import EDMDPMSolverMultistepScheduler

    network = denoiser(coefficients=12)
    assert network.prior is not None
    network.prior.means.normal_()
    DiffusionGenerator(network).save_pretrained(tmp_path)
    again = Denoiser.from_pretrained(tmp_path / "denoiser")
    noisy, sigma, codes = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 2.0]), torch.tensor([[0, 1], [2, 1]])
    torch.testing.assert_close(again(noisy, sigma, codes), network(noisy, sigma, codes))
    assert EDMDPMSolverMultistepScheduler.from_pretrained(tmp_path / "scheduler").config.sigma_data == 0.5


def test_samples_are_those_of_the_prior() -> None:
    """With nothing learned, the solver draws from the prior: mean and spread of 600 images in the measured basis."""
    found = moments((1, 8, 8), 6)
    network = Denoiser((1, 8, 8), (2, 2), (8, 16), coefficients=6)
    network.prior = MixturePrior.of(found)
    codes = np.tile([[1, 1]], (600, 1))
    drawn = DiffusionGenerator(network, steps=18).draw(codes, np.random.default_rng(0)).reshape(600, -1)
    wanted = found.draw(codes, np.random.default_rng(1)).reshape(600, -1)
    apart = np.abs(drawn.mean(0) - wanted.mean(0))
    assert (apart < 6 * (drawn.std(0) + wanted.std(0)) / np.sqrt(600) + 0.01).all()
    spread = [(one @ found.basis.matrix.T).std(0) for one in (drawn, wanted)]
    assert (np.abs(np.log(spread[0] / spread[1])) < 0.35).all()


def test_guidance_goes_beyond() -> None:
    """Guidance w gives d + w (d - d without conditions)."""
    network = denoiser(coefficients=12)
    noisy, sigma, codes = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 2.0]), torch.tensor([[0, 1], [2, 1]])
    with torch.no_grad():
        plain = network(noisy, sigma, codes)
        free = network(noisy, sigma, torch.tensor([[3, 2], [3, 2]]))
        got = DiffusionGenerator(network, guidance=1.5)._clean(noisy, sigma, codes)
    torch.testing.assert_close(got, plain + 1.5 * (plain - free))


@pytest.mark.parametrize("warmup", ["embedding", "none"])
def test_other_beginnings(warmup: str, tmp_path: Path) -> None:
    """They spend the same budget, have no prior, and are saved and loaded."""
    session, found = fitted(Diffusion(warmup=warmup, warmup_steps=2, **SMALL), scans())
    assert 0.97 <= epsilon_of(session.events, DELTA, session.accounting) <= 1 + 1e-9
    assert found.generator.denoiser.prior is None
    found.save(tmp_path / "model")
    again = load_model(tmp_path / "model").sample(20, seed=0)
    first = found.sample(20, seed=0)
    assert again.images is not None
    assert np.array_equal(again.images.pixels, first.images.pixels)


def test_without_a_training_all_goes_to_the_moments() -> None:
    """No step, no plan: the network is the prior and the budget is spent on questions."""
    session, _ = fitted(Diffusion(**{**SMALL, "steps": 0}), scans())
    assert {event.kind for event in session.events} == {"gaussian"}
    assert 0.97 <= epsilon_of(session.events, DELTA, session.accounting) <= 1 + 1e-9


def test_pretrained_weights_have_to_be_declared(tmp_path: Path) -> None:
    """Without a declaration they are refused; with one the network begins with them, and the statement says so."""
    public = denoiser(coefficients=16)
    DiffusionGenerator(public).save_pretrained(tmp_path)
    folder = str(tmp_path / "denoiser")
    with pytest.raises(InputError, match="declaration"):
        make("diffusion", pretrained=folder)
    recipe = Diffusion(pretrained=folder, declaration="Public scans of 2019.", **{**SMALL, "steps": 0})
    _, found = fitted(recipe, scans())
    assert any("Public scans of 2019." in sentence for sentence in found.statement["not_protected"])
    assert torch.equal(found.generator.denoiser.unet.out[2].conv.weight, public.unet.out[2].conv.weight)
    assert not torch.equal(found.generator.denoiser.prior.means, public.prior.means)


def test_pretrained_weights_have_to_fit(tmp_path: Path) -> None:
    """Those of another width, or without a prior where there is one, are refused in words."""
    DiffusionGenerator(denoiser()).save_pretrained(tmp_path)
    recipe = Diffusion(pretrained=str(tmp_path / "denoiser"), declaration="public", **{**SMALL, "steps": 0})
    with pytest.raises(InputError, match="pretrained: the weights do not fit"):
        fitted(recipe, scans())


def test_the_plan_says_what_is_asked() -> None:
    """Table, moments and gradients, with the noise of the training's plan."""
    recipe = Diffusion(**SMALL)
    plan = recipe.plan(schema("grey"), Budget(1.0, DELTA), 1000)
    training = recipe.training(schema("grey"), Budget(1.0, DELTA))
    assert training is not None
    assert {item.what: item.sigma for item in plan.items}["noisy gradients"] == training.noise_multiplier
    assert any("moments" in item.what for item in plan.items)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"warmup": "tea"}, "warmup: found 'tea'"),
        ({"schedule": "cosine"}, "schedule: found 'cosine'"),
        ({"widths": "12"}, "widths"),
        ({"widths": "a,b"}, "widths"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], match: str) -> None:
    """The message says what was found and what was expected."""
    with pytest.raises(InputError, match=match):
        make("diffusion", **options)


def test_no_folder_of_this_machine_is_told() -> None:
    """The options that a privacy statement repeats say that weights were given, not where they lay."""
    told = Diffusion(pretrained="/home/alice/weights", autoencoder="/home/alice/vae", declaration="x").options()
    assert told["pretrained"] == told["autoencoder"] == "(a local folder)"
    assert "alice" not in str(told)
    assert Diffusion().options()["pretrained"] == ""
