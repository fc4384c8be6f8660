"""Moments: mixtures of Gaussians over low frequencies by condition, released once, then free to sample.

Noisy answers, all counted within the budget; every image that is drawn afterwards is post-processing. First, for each
combination of the conditions, the number of patients. Where those are many beside the noise, the images of each value
of the first condition are divided into clusters (`dpsynth.models.image.clusters`). Then, by cluster and by combination,
sums of the images' low-frequency coefficients; and by value of the first condition sums of products of the
coefficients, and the energies of the frequencies that are left out (`dpsynth.models.image.frequencies`).

Means of clusters and of combinations are shrunk to the mean of their first condition by as much as noise explains of
their difference (James & Stein 1961): scarce ones borrow. What a mean does not explain is in the covariance, which the
clusters of a value share.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.errors import InputError
from dpsynth.models.base import Model, Progress
from dpsynth.models.image.budget_share import Portion
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.frequencies import BANDS, Basis, Rest
from dpsynth.models.image.measuring import Measuring, Roots
from dpsynth.models.image.mixtures import MAX_PARTS, Mixture, MomentsGenerator
from dpsynth.models.image.model import ImageGenerator, ImageModel, declared_images
from dpsynth.models.image.synthesizer import ImageSynthesizer, ImageTask
from dpsynth.models.plan import PlanItem
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.events import gaussian_scale
from dpsynth.schema.schema import Schema

COUNTS, CLUSTERS, SUMS, REST = 0.05, 0.1, 0.28, 0.05
"""Shares of the price that counts, clusters, sums and energies have; the products have what is left."""
COEFFICIENTS = (16, 196)
"""Fewest and most coefficients, unless another number is asked for."""
CLEAR = 1340.0
"""Images of a label over the noise of a count at which `COEFFICIENTS[1]` and `RADIUS` were best on FashionMNIST."""
RADIUS = (45.0, 75.0)
"""Norm to which weighted coefficients of a 28 x 28 image are clipped, at `CLEAR` and at most; grows with the root of
the number of pixels."""
USUAL_CONTRAST = 0.25
"""Standard deviation of a pixel among images of a label that a plan assumes, the range being 1."""
USUAL_NORM = 51.0
"""Norm that a plan assumes of `COEFFICIENTS[1]` weighted coefficients of a 28 x 28 image; a little less of fewer."""
PART, LEAST, MOST = 750.0, 3, 16
"""Images of a label over the noise of a count that each cluster is to have, and the fewest and most clusters.

Of 50,000 of FashionMNIST's training images at epsilon 10, 16 clusters were the best of 8, 16 and 32 for the two
classifiers together; at epsilon 1, two and four clusters did no better than one Gaussian (single fits)."""


class MomentsModel(ImageModel):
    """A table and mixtures of Gaussians over low frequencies."""

    kind: ClassVar[str] = "image-moments"

    @classmethod
    def read_generator(
        cls, codec: Codec, conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> ImageGenerator:
        """Build the generator from its parts."""
        return MomentsGenerator.from_parts(declared_images(codec.schema).shape, conditions, config, arrays)


@dataclass(frozen=True, kw_only=True)
class Moments(ImageSynthesizer):
    """Noisy clusters, means and covariances of low frequencies, by condition, and the energies of all others.

    Parameters
    ----------
    conditions, table
        As for every image synthesizer.
    coefficients : int, default 0
        How many coefficients; 0 chooses by the noisy counts.
    parts : int, default 0
        Clusters of each value of the first condition, up to 64; 0 chooses by the noisy counts, 1 is for none.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: scans, target: label, images: {size: [8, 8]},"
    ...     " columns: {label: {type: categorical, values: [cat, dog]}}}"
    ... )
    >>> plan = Moments(coefficients=64).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]  # doctest: +NORMALIZE_WHITESPACE
    ['columns of the table', 'numbers of images', 'clusters of images', 'sums of image coefficients',
     'products of image coefficients', 'energies of other frequencies']
    """

    name: ClassVar[str] = "moments"
    summary: ClassVar[str] = "images: mixtures of Gaussians over low frequencies by condition, released once; seconds"
    citation: ClassVar[str] = "dpsynth.models.image.moments"
    produces: ClassVar[type[Model]] = MomentsModel
    seconds: ClassVar[tuple[float, float]] = (20.0, 0.0)

    coefficients: int = 0
    parts: int = 0

    def __post_init__(self) -> None:
        """Refuse options that cannot be, with `InputError`."""
        super().__post_init__()
        check_sizes(self.coefficients, self.parts)

    def learn(self, session: Session, task: ImageTask, report: Progress) -> MomentsGenerator:
        """Ask for the moments with all that is left."""
        return learn_moments(session, task, session.rho_left, report, coefficients=self.coefficients, parts=self.parts)

    def noise_over_contrast(self, schema: Schema, rho: float, rows: float) -> float:
        """Return what noise adds to a drawn image, over what usual images vary by."""
        return expected_noise(
            declared_images(schema).shape, rho, rows, coefficients=self.coefficients, parts=self.parts
        )

    def items(self, schema: Schema, rho: float) -> list[PlanItem]:
        """Say how noisy counts, means, products and energies are."""
        most = int(np.prod(declared_images(schema).shape))
        count = min(self.coefficients or COEFFICIENTS[1], most)
        parts = self.parts or MOST
        questions = {
            "numbers of images": (COUNTS, 1, "for each combination of the conditions"),
            "clusters of images": (CLUSTERS, parts, "for each label, where images are many beside the noise"),
            "sums of image coefficients": (SUMS, count, "for each cluster; fewer where images are few"),
            "products of image coefficients": (_products(parts), count**2, "for each label"),
            "energies of other frequencies": (REST, BANDS, "for each label"),
        }
        return [
            PlanItem(what, 1, cells, gaussian_scale(1, share * rho), note)
            for what, (share, cells, note) in questions.items()
            if share != CLUSTERS or parts > 1
        ]


def check_sizes(coefficients: int, parts: int) -> None:
    """Refuse numbers of coefficients or clusters that cannot be, with `InputError`."""
    if not 0 <= coefficients <= 1024:
        raise InputError(f"coefficients: found {coefficients}, expected 0 (chosen by the noisy counts) to 1024.")
    if not 0 <= parts <= MAX_PARTS:
        raise InputError(f"parts: found {parts}, expected 0 (chosen by the noisy counts) to {MAX_PARTS}.")


def learn_moments(
    session: Session, task: ImageTask, rho: float, report: Progress, *, coefficients: int = 0, parts: int = 0
) -> MomentsGenerator:
    """Ask for counts, clusters, sums, products and energies at a total price, and make mixtures of Gaussians of them.

    Formal guarantee: questions of the session, whose prices sum to ``rho``; the rest is post-processing.

    Parameters
    ----------
    session, task
        The open session, and what images are conditioned on.
    rho
        The price.
    report
        Told of progress.
    coefficients, parts
        How many, and clusters of a value of the first condition; 0 chooses by the noisy counts.
    """
    report("measuring images", 0.0)
    conditions, budget = task.conditions, Portion(session, rho)
    counts = session.image_counts(conditions.query, COUNTS * rho)
    measuring = Measuring(session, conditions, np.maximum(counts, gaussian_scale(1, COUNTS * rho)))
    clear = float(counts.sum()) / len(measuring.totals) / gaussian_scale(1, rho)
    sizes = Sizes.of(clear, task.shape, coefficients, parts)
    division = measuring.division(task.shape, CLUSTERS * rho, sizes.parts, report) if sizes.parts > 1 else None
    basis, rest = Basis(task.shape, sizes.coefficients), Rest(task.shape, sizes.coefficients)
    features = basis.features(sizes.radius)
    is_crossed = len(measuring.counts) > len(measuring.totals)
    price = SUMS * rho / (1 + is_crossed)
    weights, inside = measuring.clusters(features, price, division)
    apart = measuring.combinations(features, price)[:, None] if is_crossed else 0.0
    report("measuring images", 0.5)
    variances = measuring.variances(rest, REST * rho) if rest.bands else np.zeros((len(inside), 0))
    left, scale = budget.rho_left, sizes.radius / basis.weights
    covariances = measuring.covariances(features, left, weights, inside)
    # a count that is wrong by a share moves the mean, and by as much the covariance in its direction
    wrong = gaussian_scale(1, COUNTS * rho) * np.sqrt(len(measuring.counts)) / measuring.totals.sum()
    light = float(((np.einsum("gp,gpk->k", weights, inside) / len(weights) * scale) ** 2).sum())
    roots = Roots.of(covariances, measuring.totals, gaussian_scale(1, left), scale, counts=float(wrong * light))
    report("measuring images", 1.0)
    mixture = Mixture(inside[measuring.owner] + apart, roots.roots, weights, variances)
    of_means = float(((gaussian_scale(1, price) / measuring.totals.mean() * scale) ** 2).sum())
    ratio = float(np.sqrt((roots.noise + of_means) / roots.contrast))
    return MomentsGenerator(basis, sizes.radius, conditions, mixture, noise_over_contrast=ratio)


@dataclass(frozen=True)
class Sizes:
    """How finely images are asked for.

    Parameters
    ----------
    coefficients
        Low frequencies.
    radius
        Norm of their weighted coefficients that counts as 1.
    parts
        Clusters of a value of the first condition.
    """

    coefficients: int
    radius: float
    parts: int

    @classmethod
    def of(cls, clear: float, shape: tuple[int, ...], coefficients: int = 0, parts: int = 0) -> "Sizes":
        """Return sizes for so many images of a value over the noise of a count at the whole price; 0 is to be chosen.

        The powers were found on a held-out part of FashionMNIST's training images, 1,200 and 5,000 a class, epsilon 0.3
        to 10: where noise is small beside the images, more frequencies and larger images are worth theirs.
        """
        ratio, pixels = max(clear, 1.0) / CLEAR, int(np.prod(shape))
        usual = int(np.clip(COEFFICIENTS[1] * ratio**0.5, *COEFFICIENTS))
        radius = min(RADIUS[0] * ratio ** (1 / 3), RADIUS[1]) * float(np.sqrt(pixels / 784))
        several = int(min(clear / PART, MOST))
        return cls(min(coefficients or usual, pixels), radius, parts or (several if several >= LEAST else 1))


def expected_noise(shape: tuple[int, ...], rho: float, rows: float, *, coefficients: int = 0, parts: int = 0) -> float:
    """Return what noise adds to a drawn image, over what usual images of a label vary by; from public facts.

    The noise of a covariance of k coefficients has eigenvalues in a half circle of radius ``r = sqrt(2 k) sigma / n``
    (Wigner 1955). Those below 0 are cut, which adds ``2 r / (3 pi)`` to the variance of a coefficient.

    Parameters
    ----------
    shape
        Channels and sides.
    rho
        The price of `learn_moments`.
    rows
        Images of a label.
    coefficients, parts
        As for the model.
    """
    sizes = Sizes.of(rows / gaussian_scale(1, rho), shape, coefficients, parts)
    basis = Basis(shape, sizes.coefficients)
    scale = (sizes.radius / basis.weights) ** 2  # of the square of a coefficient, in pixels
    means = (gaussian_scale(1, SUMS * rho) / rows) ** 2
    radius = np.sqrt(2 * len(basis)) * gaussian_scale(1, _products(sizes.parts) * rho) / rows
    pixels = basis.matrix.shape[1]
    norm = USUAL_NORM * (len(basis) / COEFFICIENTS[1]) ** 0.3 * np.sqrt(pixels / 784)
    contrast = pixels * (USUAL_CONTRAST * min(1.0, sizes.radius / norm)) ** 2  # clipping takes contrast away, too
    return float(np.sqrt(scale.sum() * (2 * radius / (3 * np.pi) + means) / contrast))


def _products(parts: int) -> float:
    """Return the share of the price that products have."""
    return 1 - COUNTS - SUMS - REST - (CLUSTERS if parts > 1 else 0)
