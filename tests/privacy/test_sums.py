"""Sums over images: a patient moves them by at most what is claimed, and the noise is what is claimed."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.fft import dct

from dpsynth.coding.query import Query
from dpsynth.errors import InputError
from dpsynth.privacy.images.features import Division, Fourier, Linear, Squares
from dpsynth.privacy.images.sums import PRODUCT_UNIT, SUM_UNIT, GroupedImages, group_products, group_sums
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget

from .helpers import fine, ward
from .networks import scans
from .test_conformance import conforms

ONE = Budget(1, 1e-5)
BASIS = dct(np.eye(64), norm="ortho", axis=0)[:12]
MAPS = {
    "linear": Linear(BASIS, np.full(64, 0.5)),
    "linear, long": Linear(30 * BASIS, np.zeros(64)),
    "squares": Squares(5 * BASIS, np.arange(12) // 5),
    "Fourier": Fourier(np.random.default_rng(0).normal(0, 0.3, (10, 64))),
}


def division(groups: int = 3, parts: int = 4, seed: int = 1) -> Division:
    """Return parts around made-up centres, a few coefficients of a made-up image each."""
    centres = np.random.default_rng(seed).uniform(0, 1, (groups, parts, 64)) @ BASIS.T
    return Division(2 * centres @ BASIS, (centres**2).sum(axis=2))


def grouped(images: int, *, per_patient: int = 1, seed: int = 0, white: int = 0, groups: int = 3) -> GroupedImages:
    """Return made-up images; ``white`` more of one last patient are all bright."""
    rng = np.random.default_rng(seed)
    pixels = np.concatenate([rng.integers(0, 256, (images, 64)), np.full((white, 64), 255)]).astype(np.uint8)
    shares = np.array([per_patient] * images + [white] * white)
    return GroupedImages(pixels, (0.0, 255.0), rng.integers(0, groups, images + white), shares, groups)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("white", [1, 2, 5])
@pytest.mark.parametrize("parts", [None, 4])
def test_one_patient_moves_sums_and_products_by_at_most_the_unit(name: str, white: int, parts: int | None) -> None:
    """A patient more with 1, 2 or 5 images, in any groups, moves exact tables by at most the claimed sensitivity."""
    for seed in range(5):
        # the generator of groups is asked in the same order, so the other patients' groups agree
        with_one = grouped(40, per_patient=2, seed=seed, white=white)
        if parts is not None:
            with_one = replace(with_one, division=division(parts=parts, seed=seed))
        without = replace(
            with_one, pixels=with_one.pixels[:40], groups=with_one.groups[:40], shares=with_one.shares[:40]
        )
        sums = [group_sums(images, MAPS[name]) for images in (with_one, without)]
        assert np.linalg.norm(sums[0] - sums[1]) <= SUM_UNIT
        products = [group_products(images, MAPS[name]) for images in (with_one, without)]
        moved = products[0] - products[1]
        assert np.linalg.norm(moved) <= PRODUCT_UNIT**2
        assert (products[0] == products[0].transpose(0, 2, 1)).all()
    if name == "linear, long" and white == 1:  # clipped: the bound is met
        assert np.linalg.norm(sums[0] - sums[1]) > 0.99 * SUM_UNIT
        assert np.linalg.norm(moved) > 0.98 * PRODUCT_UNIT**2


@pytest.mark.parametrize("name", ["linear", "squares"])
def test_features_of_an_image_do_not_depend_on_its_neighbours(name: str) -> None:
    """Features are the same to the last bit alone, in company, and in any order."""
    levels = np.random.default_rng(0).integers(0, 256, (301, 64)).astype(np.float64)
    found = MAPS[name](levels, 255)
    for place in (0, 17, 300):
        assert (MAPS[name](levels[place : place + 1], 255)[0] == found[place]).all()
    assert (MAPS[name](levels[::-1], 255)[::-1] == found).all()


def test_each_image_is_in_the_part_with_the_nearest_centre_of_its_group() -> None:
    """Parts are those of distances to centres; sums over the parts of a group are the sums of the group."""
    images, groups = grouped(90), np.random.default_rng(0).integers(0, 3, 90)
    levels = images.pixels.astype(np.float64)
    centres = np.random.default_rng(1).uniform(0, 1, (3, 4, 64)) @ BASIS.T
    apart = ((levels / 255 @ BASIS.T)[:, None] - centres[groups]) ** 2
    assert (division()(levels, 255, groups) == apart.sum(axis=2).argmin(axis=1)).all()
    whole, divided = (group_sums(one, MAPS["linear"]) for one in (images, replace(images, division=division())))
    assert np.array_equal(divided.reshape(3, 4, -1).sum(axis=1), whole)
    assert (np.abs(divided).sum(axis=1) > 0).sum() > 6


def test_the_part_of_an_image_does_not_depend_on_its_neighbours() -> None:
    """An image goes to the same part alone, in company, and in any order."""
    images = grouped(301)
    levels, groups = images.pixels.astype(np.float64), images.groups
    found = division()(levels, 255, groups)
    assert len(set(found)) == 4
    for place in range(301):
        alone = slice(place, place + 1)
        assert division()(levels[alone], 255, groups[alone])[0] == found[place]
    assert (division()(levels[::-1], 255, groups[::-1])[::-1] == found).all()


def test_features_are_what_they_are_called() -> None:
    """Linear maps are a matrix product on [0, 1], squares the energies of bands, and Fourier features have norm 1."""
    levels = np.random.default_rng(0).integers(0, 256, (9, 64)).astype(np.float64)
    assert np.allclose(MAPS["linear"](levels, 255), (levels / 255 - 0.5) @ BASIS.T, atol=1e-4)
    assert np.allclose(np.linalg.norm(MAPS["Fourier"](levels, 255), axis=1), 1)
    small, energies = Squares(BASIS / 9, np.arange(12) // 5), ((levels / 255) @ BASIS.T / 9) ** 2
    assert np.allclose(small(levels, 255), np.add.reduceat(energies, [0, 5, 10], axis=1), atol=1e-4)
    assert (MAPS["squares"](levels, 255).sum(axis=1) <= 1 + 1e-12).all()
    with pytest.raises(InputError, match="one band"):
        Squares(BASIS, np.arange(11))


def test_float_pixels_are_read_in_their_public_range() -> None:
    """Pixels outside the range are clipped to it; what is not a number counts as its lower end."""
    flat = np.array([[-5.0, 1.0, 3.0, np.nan]], dtype=np.float32)
    images = GroupedImages(flat, (-1.0, 1.0), np.zeros(1, int), np.ones(1, int), 1)
    found = group_sums(images, Linear(np.eye(4) / 4, np.zeros(4)))[0] / SUM_UNIT
    assert np.allclose(found, [0, 0.25, 0.25, 0], atol=1e-3)


def test_sums_over_images_have_their_claimed_noise() -> None:
    """Sums, products on and off the diagonal, and counts: z-scores fit the claimed noise and not 2/3 or 3/2 of it."""
    cohort = scans(60, cap=3)
    with Session.open(cohort, ONE) as session:
        groups = fine(session, "label")
        shares = session._answers._grouped_images(next(iter(session._answers._parts)), groups)
        rho = session.rho / 400
        sums, products = [], []
        exact_sums = group_sums(shares, MAPS["linear"]) / SUM_UNIT
        exact_products = group_products(shares, MAPS["linear"]) / PRODUCT_UNIT**2
        exact_counts = np.bincount(shares.groups, 1 / shares.shares, minlength=3)
        for _ in range(30):
            sums.append(session.image_sums(groups, MAPS["linear"], rho) - exact_sums)
            products.append(session.image_products(groups, MAPS["linear"], rho) - exact_products)
        counts = [session.image_counts(groups, rho) - exact_counts for _ in range(300)]
    sigma = 1 / np.sqrt(2 * rho)
    same, above = np.eye(12, dtype=bool), np.triu(np.ones((12, 12), bool), 1)
    found = np.stack(products)
    assert conforms(np.stack(sums).ravel() / sigma)
    assert conforms(found[:, :, same].ravel() / sigma)
    assert conforms(found[:, :, above].ravel() / sigma * np.sqrt(2))
    assert conforms(np.stack(counts).ravel() / sigma)
    assert np.array_equal(found, found.transpose(0, 1, 3, 2))


def test_questions_about_images_are_paid_and_checked() -> None:
    """Each is an event of sensitivity 1; wrong features, groups and cohorts without images are refused unpaid."""
    with Session.open(scans(20), ONE) as session:
        groups = fine(session, "label")
        session.image_sums(groups, MAPS["linear"], session.rho / 2)
        session.image_products(Query((), ()), MAPS["linear"], session.rho_left)
        assert [e.sensitivity for e in session.events] == [1.0, 1.0]
        assert session.rho_left < 1e-9
        with pytest.raises(InputError, match="pixels"):
            session.image_sums(groups, Linear(np.eye(9), np.zeros(9)), 1e-4)
    with Session.open(ward(20), ONE) as session, pytest.raises(InputError, match="declares none"):
        session.image_counts(Query((), ()), 1e-4)


def test_questions_about_parts_are_paid_and_checked() -> None:
    """A division changes neither sensitivity nor noise; one that does not fit, or of other code, is refused unpaid."""

    class Spy(Division):
        def __call__(self, levels: np.ndarray, top: int, groups: np.ndarray) -> np.ndarray:
            return super().__call__(levels[::-1], top, groups)

    with Session.open(scans(200), ONE) as session:
        groups, ours = fine(session, "label"), division(parts=2)
        shares = session._answers._grouped_images(next(iter(session._answers._parts)), groups, ours)
        exact_sums = group_sums(shares, MAPS["linear"]) / SUM_UNIT
        exact_products = group_products(shares, MAPS["linear"]) / PRODUCT_UNIT**2
        rho = session.rho / 90
        sums = np.stack([session.image_sums(groups, MAPS["linear"], rho, ours) - exact_sums for _ in range(40)])
        products = np.stack(
            [session.image_products(groups, MAPS["linear"], rho, ours) - exact_products for _ in range(40)]
        )
        assert session.image_counts(groups, rho, ours).shape == (6,)
        assert {(e.sensitivity, e.what) for e in session.events} == {
            (1.0, "image sums by label, in 2 parts"),
            (1.0, "image products by label, in 2 parts"),
        }
        left = session.rho_left
        for other in (
            Spy(ours.scores, ours.offsets),
            division(groups=2),
            Division(np.ones((3, 2, 9)), np.ones((3, 2))),
        ):
            with pytest.raises(InputError, match="division: found"):
                session.image_sums(groups, MAPS["linear"], rho, other)
        assert session.rho_left == left
    sigma, same = 1 / np.sqrt(2 * rho), np.eye(12, dtype=bool)
    assert conforms(sums.ravel() / sigma)
    assert conforms(products[:, :, same].ravel() / sigma)
    assert conforms(products[:, :, np.triu(np.ones((12, 12), bool), 1)].ravel() / sigma * np.sqrt(2))


def test_images_over_the_cap_are_dropped() -> None:
    """A patient with more images than the schema allows counts with so many, and each in its share."""
    cohort = scans(30, cap=3)
    schema = cohort.schema.model_copy(
        update={"images": cohort.schema.images.model_copy(update={"max_per_patient": 1}), "max_rows_per_patient": 3}
    )
    with Session.open(type(cohort)(schema, cohort.table, public=True, images=cohort.images), ONE) as session:
        shares = session._answers._grouped_images(next(iter(session._answers._parts)), Query((), ()))
    assert (shares.shares == 1).all()
    assert len(shares.groups) == 30


def test_only_the_kernels_own_maps_are_asked() -> None:
    """Other code, a subclass too, could see the pixels or mix images: it is refused unpaid."""

    class Spy(Linear):
        def __call__(self, levels: np.ndarray, top: int) -> np.ndarray:
            return super().__call__(levels[::-1], top)

    session = Session.open(scans(20), ONE)
    with pytest.raises(InputError, match="found a Spy, expected Linear or Fourier"):
        session.image_sums(Query((), ()), Spy(BASIS, np.zeros(64)), session.rho)
    assert session.rho_left == session.rho


def test_the_statement_says_how_many_images_a_patient_has() -> None:
    """The promise covers images, and their cap stands beside that of the rows; a table says nothing of images."""
    found = Session.open(scans(20), ONE).statement()
    assert found["max_images_per_patient"] == scans(20).schema.images.max_per_patient
    assert all("rows and images" in found[name] for name in ("guarantee", "neighbours"))
    assert any("max_images_per_patient" in sentence for sentence in found["not_protected"])
    table = Session.open(ward(), ONE).statement()
    assert "image" not in str([table["guarantee"], table["neighbours"], table["not_protected"], list(table)])
