"""Moments: class-conditional Gaussians over low frequencies, released once, then free to sample.

One round of noisy answers: for each combination of the conditions the number of patients and the sum of their images'
low-frequency coefficients, and for each value of the first condition the sum of products of the coefficients. All is
counted within the budget; every image that is drawn afterwards is post-processing.

Coefficients are those of the orthonormal cosine transform, weighted by ``(1 + frequency)^power`` so that the falling
spectrum of images fills them evenly, and clipped to a public norm. Means of combinations are shrunk to the mean of
their first condition by as much as noise explains of their difference (James & Stein 1961): scarce ones borrow.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.errors import InputError
from dpsynth.models.base import Model, Progress
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.model import Floats32, ImageGenerator, ImageModel, Parts, declared_images
from dpsynth.models.image.synthesizer import ImageSynthesizer, ImageTask
from dpsynth.models.plan import PlanItem
from dpsynth.privacy.images.features import Linear
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.events import gaussian_scale
from dpsynth.schema.schema import Schema

Floats = NDArray[np.float64]

COUNTS, SUMS = 0.02, 0.3
"""Shares of the price that counts and sums have; the products have the rest."""
COEFFICIENTS = (16, 196)
"""Fewest and most coefficients, unless another number is asked for."""
CLEAR = 1340.0
"""Images of a label over the noise of a count at which `COEFFICIENTS[1]` and `RADIUS` were best on FashionMNIST."""
RADIUS = 45.0
"""Norm to which weighted coefficients of a 28 x 28 image are clipped; grows with the root of the number of pixels."""
POWER = 1.0
BLOCK = 4096


class Basis:
    """The low frequencies of images of one size.

    Parameters
    ----------
    shape
        Channels and sides.
    count
        Coefficients in all; the channels share them.
    """

    def __init__(self, shape: tuple[int, ...], count: int) -> None:
        sides = shape[1:]
        frequency = np.sqrt(sum(axis.astype(np.float64) ** 2 for axis in np.indices(sides))).ravel()
        order = np.argsort(frequency, kind="stable")[: max(1, count // shape[0])]
        images = np.ones((len(order), 1))
        for axis, side in enumerate(sides):
            waves = dct(np.eye(side), axis=0, norm="ortho")[np.unravel_index(order, sides)[axis]]
            images = (images[:, :, None] * waves[:, None, :]).reshape(len(order), -1)
        self.shape = shape
        self.matrix = np.kron(np.eye(shape[0]), images)  # (coefficients, values), orthonormal rows
        self.weights = np.tile((1 + frequency[order]) ** POWER, shape[0])

    def __len__(self) -> int:
        return len(self.weights)

    def features(self, radius: float) -> Linear:
        """Return the weighted coefficients, a norm of ``radius`` being 1."""
        return Linear(self.matrix * self.weights[:, None] / radius, np.zeros(self.matrix.shape[1]))

    def images(self, features: Floats, radius: float) -> Floats32:
        """Return (rows, *shape) images in [0, 1] with these (rows, coefficients) features."""
        flat = (features * (radius / self.weights)) @ self.matrix
        return np.clip(flat, 0, 1).astype(np.float32).reshape(len(features), *self.shape)


class MomentsGenerator:
    """Gaussians over weighted low-frequency coefficients.

    Parameters
    ----------
    basis, radius
        How images and features correspond.
    conditions
        Columns that say which Gaussian.
    means
        (combinations, coefficients).
    roots
        (values of the first condition, coefficients, coefficients) square roots of the covariances.
    """

    def __init__(self, basis: Basis, radius: float, conditions: Conditions, means: Floats, roots: Floats) -> None:
        self.basis, self.radius, self.conditions = basis, radius, conditions
        self.means, self.roots = (part.astype(np.float32).astype(np.float64) for part in (means, roots))  # as in a file

    def draw(self, codes: NDArray[np.int64], rng: np.random.Generator) -> Floats32:
        """Return images in [0, 1], drawn group by group."""
        cell, first = self.conditions.cell(codes), _first(codes)
        images = np.empty((len(codes), *self.basis.shape), np.float32)
        for group in np.unique(first):
            rows = np.flatnonzero(first == group)
            for part in np.array_split(rows, -(-len(rows) // BLOCK)):
                normal = rng.normal(size=(len(part), len(self.basis)))
                images[part] = self.basis.images(self.means[cell[part]] + normal @ self.roots[group].T, self.radius)
        return images

    def to_parts(self) -> Parts:
        """Return means and roots as arrays."""
        config = {"coefficients": len(self.basis), "radius": self.radius}
        return config, {"means": self.means.astype(np.float32), "roots": self.roots.astype(np.float32)}

    @classmethod
    def from_parts(
        cls, shape: tuple[int, ...], conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Self:
        """Check the parts and build the generator."""
        count, radius = int(config["coefficients"]), float(config["radius"])
        if not 1 <= count <= 4096 or not 0 < radius < 1e6:
            raise ValueError("coefficients or radius out of range")
        basis = Basis(shape, count)
        means, roots = (arrays[name].astype(np.float64) for name in ("means", "roots"))
        size = len(basis)
        groups = conditions.sizes[0] if conditions.sizes else 1
        if means.shape != (conditions.cells, size) or roots.shape != (groups, size, size):
            raise ValueError("means or roots do not fit the conditions")
        if not (np.isfinite(means).all() and np.isfinite(roots).all()):
            raise ValueError("means or roots are not finite")
        return cls(basis, radius, conditions, means, roots)


class MomentsModel(ImageModel):
    """A table and Gaussians over low frequencies."""

    kind: ClassVar[str] = "image-moments"

    @classmethod
    def read_generator(
        cls, codec: Codec, conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> ImageGenerator:
        """Build the generator from its parts."""
        return MomentsGenerator.from_parts(declared_images(codec.schema).shape, conditions, config, arrays)


@dataclass(frozen=True, kw_only=True)
class Moments(ImageSynthesizer):
    """Noisy means and covariances of low frequencies, by condition.

    Parameters
    ----------
    conditions, table
        As for every image synthesizer.
    coefficients : int, default 0
        How many coefficients; 0 chooses by the noisy counts.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: scans, target: label, images: {size: [8, 8]},"
    ...     " columns: {label: {type: categorical, values: [cat, dog]}}}"
    ... )
    >>> plan = Moments(coefficients=64).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]  # doctest: +NORMALIZE_WHITESPACE
    ['columns of the table', 'counts of image coefficients',
     'sums of image coefficients', 'products of image coefficients']
    """

    name: ClassVar[str] = "moments"
    summary: ClassVar[str] = "images: Gaussians over low frequencies by condition, one noisy release; seconds"
    citation: ClassVar[str] = "dpsynth.models.image.moments"
    produces: ClassVar[type[Model]] = MomentsModel
    seconds: ClassVar[tuple[float, float]] = (20.0, 0.0)

    coefficients: int = 0

    def __post_init__(self) -> None:
        """Refuse options that cannot be, with `InputError`."""
        super().__post_init__()
        check_coefficients(self.coefficients)

    def learn(self, session: Session, task: ImageTask, report: Progress) -> MomentsGenerator:
        """Ask for the moments with all that is left."""
        return learn_moments(session, task, session.rho_left, report, coefficients=self.coefficients)

    def items(self, schema: Schema, rho: float) -> list[PlanItem]:
        """Say how noisy counts, means and products are."""
        most = int(np.prod(declared_images(schema).shape))
        count, note = min(self.coefficients or COEFFICIENTS[1], most), "for each condition; fewer where images are few"
        shares = {"counts": (COUNTS, 1), "sums": (SUMS, count), "products": (1 - COUNTS - SUMS, count**2)}
        return [
            PlanItem(f"{what} of image coefficients", 1, cells, gaussian_scale(1, share * rho), note)
            for what, (share, cells) in shares.items()
        ]


def check_coefficients(coefficients: int) -> None:
    """Refuse a number of coefficients that cannot be, with `InputError`."""
    if not 0 <= coefficients <= 1024:
        raise InputError(f"coefficients: found {coefficients}, expected 0 (chosen by the noisy counts) to 1024.")


def learn_moments(
    session: Session, task: ImageTask, rho: float, report: Progress, *, coefficients: int = 0
) -> MomentsGenerator:
    """Ask for counts, sums and products at a total price, and make Gaussians of them.

    Formal guarantee: three questions of the session, whose prices sum to ``rho``; the rest is post-processing.

    Parameters
    ----------
    session, task
        The open session, and what images are conditioned on.
    rho
        The price.
    report
        Told of progress.
    coefficients
        How many; 0 chooses by the noisy counts.
    """
    conditions, shape = task.conditions, task.shape
    noise = [gaussian_scale(1, share * rho) for share in (COUNTS, SUMS)]
    report("measuring images", 0.0)
    counts = session.image_counts(conditions.query, COUNTS * rho)
    count, radius = _resolution(float(counts.sum()) / (conditions.sizes or (1,))[0] / gaussian_scale(1, rho))
    basis = Basis(shape, min(coefficients or count, int(np.prod(shape))))
    radius *= float(np.sqrt(basis.matrix.shape[1] / 784))
    features = basis.features(radius)
    sums = session.image_sums(conditions.query, features, SUMS * rho)
    report("measuring images", 0.3)
    label = Query(conditions.query.columns[:1], conditions.query.maps[:1])
    products = session.image_products(label, features, (1 - COUNTS - SUMS) * rho)
    report("measuring images", 1.0)
    owner = _first(conditions.every())
    totals = np.maximum(np.bincount(owner, counts), noise[0])
    centres = np.stack([sums[owner == g].sum(0) / totals[g] for g in range(len(totals))])
    means = _pooled(sums, np.maximum(counts, noise[0]), centres[owner], noise[1])
    roots = np.stack([_root(products[g] / totals[g] - np.outer(centres[g], centres[g])) for g in range(len(totals))])
    return MomentsGenerator(basis, radius, conditions, means, roots)


def _pooled(sums: Floats, counts: Floats, centres: Floats, sigma: float) -> Floats:
    """Shrink each combination's mean to its centre by the share of their squared distance that noise explains."""
    apart = sums / counts[:, None] - centres
    explained = sums.shape[1] * (sigma / counts) ** 2
    kept = np.clip(1 - explained / np.maximum((apart**2).sum(axis=1), 1e-12), 0, 1)
    return np.asarray(centres + kept[:, None] * apart)


def _root(covariance: Floats) -> Floats:
    """Return a square root of the nearest positive semidefinite matrix.

    Eigenvalues that the noise lifted are kept: they spread the samples as augmentation does, and cutting them made
    classifiers trained on the samples worse (measured on FashionMNIST).
    """
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


def _resolution(clear: float) -> tuple[int, float]:
    """Return how many coefficients, and the norm to clip to, for so many images of a label over the noise of a count.

    The powers were found on a held-out part of FashionMNIST's training images, 1,200 and 5,000 a class, epsilon 0.3 to
    10: where noise is small beside the images, more frequencies and larger images are worth theirs.
    """
    ratio = max(clear, 1.0) / CLEAR
    return int(np.clip(COEFFICIENTS[1] * ratio**0.5, *COEFFICIENTS)), RADIUS * ratio ** (1 / 3)


def _first(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    return codes[:, 0] if codes.shape[1] else np.zeros(len(codes), np.int64)
