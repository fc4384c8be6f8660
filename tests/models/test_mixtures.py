"""Mixtures of images: clusters that are paid for, frequencies left out, and no more noise than picture."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from image_cases import DELTA, SIZES, fitted, schema

from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.files.image_set import ImageSet
from dpsynth.jobs.fit import fit
from dpsynth.models import make
from dpsynth.models.image.clusters import Low, clustered
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.frequencies import Basis, Rest
from dpsynth.models.image.measuring import MOST, SURE, Roots, shrunk, shrunk_parts
from dpsynth.models.image.mixtures import Mixture, MomentsGenerator
from dpsynth.models.image.moments import Moments, Sizes, expected_noise
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import gaussian_scale
from dpsynth.progress import silent

FORMS = tuple(SIZES)


def kinds(images: int = 600, form: str = "grey", spread: float = 0.05) -> tuple[Cohort, np.ndarray]:
    """Return patients with one image each, of two kinds within every label: bright above or bright below."""
    rng, declared = np.random.default_rng(0), schema(form).images
    assert declared is not None
    kind = rng.integers(0, 2, images)
    shares = np.full((images, *declared.shape), 0.2)
    half = declared.shape[-2] // 2
    shares[kind == 0, ..., :half, :] = 0.8
    shares[kind == 1, ..., half:, :] = 0.8
    shares = np.clip(shares + rng.normal(0, spread, shares.shape), 0, 1)
    frame = pd.DataFrame({"id": [f"p{i}" for i in range(images)], "label": rng.choice(list("abc"), images)})
    frame["sex"] = rng.choice(["female", "male"], images)
    table = Cohort.from_pandas(frame, schema(form), public=True)
    low, high = declared.range
    pixels = np.rint(255 * shares) if declared.dtype == "uint8" else low + (high - low) * shares
    return (
        Cohort(
            table.schema, table.table, public=True, images=ImageSet(pixels.astype(declared.dtype), np.arange(images))
        ),
        kind,
    )


@pytest.mark.parametrize("form", FORMS)
def test_clusters_are_found_and_paid_for(form: str) -> None:
    """Two kinds of images within each label are told apart; the questions cost the price, each at sensitivity 1."""
    cohort, kind = kinds(form=form)
    declared = cohort.schema.images
    assert declared is not None
    with Session.open(cohort, Budget(50.0, DELTA), accounting="gaussian", seed=0) as session:
        label = Conditions.of(session.codec, ("label",)).query
        rho = session.rho / 2
        division = clustered(session, label, declared.shape, np.full(3, 200.0), rho, parts=2, report=silent)
        assert {event.sensitivity for event in session.events} == {1.0}
        assert sum(event.count / (2 * event.scale**2) for event in session.events) == pytest.approx(rho)
        groups = session.codec.encode(cohort, ["label"])["label"].astype(np.intp)
    assert cohort.images is not None
    flat = cohort.images.pixels.reshape(len(kind), -1).astype(float)
    low, high = declared.range
    levels = np.rint(255 * (flat - low) / (high - low))
    parts = division(levels, 255, groups)
    for group in range(3):
        mine = groups == group
        assert {(parts[mine & (kind == k)].min(), parts[mine & (kind == k)].max()) for k in (0, 1)} == {(0, 0), (1, 1)}


def test_a_mixture_draws_both_kinds_and_a_gaussian_their_mean() -> None:
    """Drawn from two clusters, images are bright above or below; from one Gaussian, most are in between."""
    cohort, _ = kinds(1500)
    sure = {}
    for parts in (1, 2):
        drawn = fitted(Moments(parts=parts, coefficients=20), cohort, 100.0)[1].sample(400, seed=0)
        halves = drawn.images.pixels.reshape(-1, 2, 32).mean(axis=2) / 255
        sure[parts] = (np.abs(np.abs(halves[:, 0] - halves[:, 1]) - 0.6) < 0.2).mean()
    assert sure[2] > 0.95
    assert sure[1] < 0.6


@pytest.mark.parametrize("form", FORMS)
def test_frequencies_left_out_are_drawn_with_their_variance(form: str) -> None:
    """Energies of white noise give its variance in each band; what is drawn has it, and nothing in the basis."""
    declared = schema(form).images
    assert declared is not None
    shape, rng = declared.shape, np.random.default_rng(0)
    rest, basis = Rest(shape, 12), Basis(shape, 12)
    levels = np.rint(255 * np.clip(rng.normal(0.5, 0.05, (4000, int(np.prod(shape)))), 0, 1))
    found = rest.variances(rest.features()(levels, 255).mean(axis=0)[None])
    assert found.shape == (1, rest.bands)
    np.testing.assert_allclose(found, 0.05**2, rtol=0.1)
    drawn = rest.images(np.repeat(np.linspace(1, 2, rest.bands)[None], 4000, axis=0), rng)
    assert np.abs(drawn @ basis.matrix.T).max() < 1e-4
    again = Rest(shape, 12).variances(np.zeros((1, rest.bands)))
    assert (again == 0).all()
    total = (drawn**2).sum(axis=1).mean() / (np.prod(shape) - len(basis))
    assert total == pytest.approx(1.5, rel=0.1)


def test_small_images_leave_nothing_out() -> None:
    """With as many coefficients as pixels there are no bands, nothing is asked of them, and the budget is spent."""
    assert Rest((1, 4, 4), 16).bands == 0
    session, found = fitted(Moments(coefficients=1024, parts=1), kinds()[0], 1.0)
    assert found.generator.rest is None
    assert session.rho_left < 1e-9 * session.rho


def test_means_are_shrunk_by_what_noise_explains() -> None:
    """Means of noise alone become that of the group; those that differ by far more than noise stay."""
    rng = np.random.default_rng(0)
    members = np.full((2, 8), 100.0)
    noise = rng.normal(0, 10, (2, 8, 24))
    centres = noise.sum(axis=1) / 800
    alone = shrunk_parts(noise, members, 10.0)
    assert np.abs(alone - centres[:, None]).max() < 0.5 * np.abs(noise / 100 - centres[:, None]).max()
    apart = 1000 * rng.normal(0, 1, (2, 8, 24))
    np.testing.assert_allclose(shrunk_parts(apart + noise, members, 10.0), (apart + noise) / 100, rtol=0.01, atol=0.05)
    flat = shrunk(rng.normal(3, 1, (50, 24)), np.ones(50))
    assert flat.std(axis=0).max() < 0.4
    assert np.abs(shrunk(apart[0], np.ones(8)) - apart[0]).max() < 0.1


@pytest.mark.parametrize("noise", [0.001, 0.01, 1.0])
def test_no_more_noise_than_picture(noise: float) -> None:
    """Noise up to four times what the images vary by is kept; where it is more, samples vary by no more than twice."""
    rng, size, groups = np.random.default_rng(0), 40, 4
    signal = np.diag(np.linspace(0.1, 0.001, size))
    errors = rng.normal(0, noise / np.sqrt(2), (groups, size, size))
    errors = np.triu(errors, 1) + np.triu(errors, 1).transpose(0, 2, 1)
    found = Roots.of(signal + errors, np.full(groups, 100.0), 100 * noise, np.ones(size))
    energies = (found.roots**2).sum(axis=(1, 2))
    assert found.contrast <= np.trace(signal) + SURE * noise
    assert (energies <= (2 if noise == 1.0 else 1 + MOST) * found.contrast + 0.1).all()
    if noise < 1:
        assert found.noise < MOST * found.contrast
        np.testing.assert_allclose(energies, np.trace(signal) + found.noise, rtol=0.1)
    if noise == 1.0:
        assert found.contrast < 0.01
        assert (found.roots == found.roots[0]).all()  # labels share a covariance


@pytest.mark.parametrize("form", FORMS)
def test_of_patients_without_a_picture_nothing_is_drawn(form: str) -> None:
    """Images that are all of one grey, of 300 patients at epsilon 1, give images that hardly vary: no noise is sold."""
    cohort, _ = kinds(300, form)
    declared = cohort.schema.images
    assert declared is not None
    low, high = declared.range
    grey = np.full((300, *declared.shape), low + (high - low) * 0.4).astype(declared.dtype)
    flat = Cohort(cohort.schema, cohort.table, public=True, images=ImageSet(grey, np.arange(300)))
    for seed in range(3):
        found = fitted(Moments(), flat, 1.0, seed=seed)[1]
        drawn = (found.sample(200, seed=0).images.pixels - low) / (high - low)
        assert (drawn - drawn.mean(axis=0)).std() < 0.12
        assert found.statement["images"]["noise_over_contrast"] > 1


def test_a_scarce_label_borrows() -> None:
    """A label of hardly any patient takes mean and covariance of the others rather than its own noise."""
    rng = np.random.default_rng(0)
    noise = np.array([1e-4, 1e-4, 1e-4, 25.0])
    values = 5 + rng.normal(0, 1, (4, 36)) + rng.normal(0, 1, (4, 36)) * np.sqrt(noise)[:, None]
    found = shrunk(values, noise)
    np.testing.assert_allclose(found[:3], values[:3], atol=0.01)
    assert np.abs(found[3] - values[:3].mean(axis=0)).max() < 1.5 < np.abs(values[3] - 5).max()
    covariances = np.stack([np.eye(36)] * 3 + [np.diag(rng.normal(0, 40, 36))])
    roots = Roots.of(covariances, np.array([1e4, 1e4, 1e4, 1.0]), 10.0, np.ones(36)).roots
    np.testing.assert_allclose(roots[3] @ roots[3].T, np.eye(36), atol=0.01)


def test_sizes_follow_the_noise() -> None:
    """The more images there are over the noise, the finer they are asked for; what is named is kept."""
    found = [Sizes.of(clear, (1, 28, 28)) for clear in (10.0, 300.0, 3000.0, 1e5)]
    for name in ("coefficients", "radius", "parts"):
        values = [getattr(sizes, name) for sizes in found]
        assert values == sorted(values)
        assert values[0] < values[-1]
    assert (Sizes.of(10.0, (1, 28, 28), 300, 9).coefficients, Sizes.of(10.0, (1, 28, 28), 300, 9).parts) == (300, 9)
    assert Sizes.of(1e5, (1, 4, 4)).coefficients == 16
    rho = 1 / (2 * 3.73**2)
    noise = [expected_noise((1, 28, 28), rho, rows) for rows in (30, 300, 3000, 30_000, 300_000)]
    assert noise == sorted(noise, reverse=True)
    assert noise[0] > 2
    assert noise[-1] < 0.6


def test_noise_over_contrast_is_said_before_and_after() -> None:
    """The plan warns of few patients; a fit states the measured ratio, and warns where it is 1 or more."""
    made = schema("grey")
    few, many = (make("moments").plan(made, Budget(1.0, DELTA), rows) for rows in (100, 100_000))
    assert few.expected_error["noise over contrast"] > 1 > many.expected_error["noise over contrast"]
    assert any("no more noise than picture" in warning for warning in few.warnings)
    assert many.warnings == ()
    for images, epsilon, is_noise in ((120, 0.5, True), (2000, 50.0, False)):
        found = fit(kinds(images, spread=0.2)[0], "moments", epsilon=epsilon, delta=DELTA, seed=1, anyway=True)
        assert (found.statement["images"]["noise_over_contrast"] >= 1) is is_noise
        assert any("no more noise than picture" in text for text in found.statement.get("warnings", ())) is is_noise


@pytest.mark.parametrize("options", [{"parts": 65}, {"parts": -1}, {"coefficients": 2000}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    """The message says what was found and what was expected."""
    with pytest.raises(InputError, match=r"found .*, expected 0"):
        make("moments", **options)


def test_parts_with_little_weight_are_drawn_seldom() -> None:
    """Images are drawn from the parts with the chances of the mixture, up to five standard errors."""
    basis = Basis((1, 4, 4), 4)
    means = np.zeros((1, 2, 4))
    means[0, :, 0] = [0.1, 0.4]
    mixture = Mixture(means, np.zeros((1, 4, 4)), np.array([[0.2, 0.8]]), np.zeros((1, 0)))
    generator = MomentsGenerator(basis, 8.0, Conditions((), ()), mixture)
    drawn = generator.draw(np.zeros((20_000, 0), np.int64), np.random.default_rng(0))
    assert abs((drawn.mean(axis=(1, 2, 3)) > 0.5).mean() - 0.8) < 5 * np.sqrt(0.16 / 20_000)


def test_noise_of_a_question_falls_with_its_price() -> None:
    """What clusters begin from is asked on few, unweighted coefficients of norm below 1 for usual images."""
    low = Low.of((1, 28, 28))
    assert low.matrix.shape == (16, 784)
    assert np.linalg.norm(low.matrix @ np.full(784, 0.4)) < 1
    assert gaussian_scale(1, 0.5) == 1
