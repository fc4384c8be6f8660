"""Clusters of the images of a label, found by noisy k-means on a few low frequencies and paid for.

Lloyd's algorithm asks of the patients only sums and counts of images by their nearest centre (Blum et al. 2005, SuLQ
k-means). It begins at clusters of samples of a Gaussian with the label's noisy mean and covariance, so a few rounds do.
Centres come out of noise: the division of images that they make is public, and may be asked with again.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.query import Query
from dpsynth.models.image.frequencies import Basis
from dpsynth.privacy.images.features import Division, Linear
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.events import gaussian_scale
from dpsynth.progress import Progress

Floats = NDArray[np.float64]

COEFFICIENTS = 16
RADIUS = 16.0
"""Norm of a 28 x 28 image's coefficients, weighted with the root of their usual weight, that counts as 1."""
BEGIN = 0.25
"""Share of the price for the mean and covariance from which centres begin."""
MEANS, COUNTS = 0.4, 0.3
"""Shares of sums at the beginning, and of counts in each round."""
ROUNDS = 3
SAMPLES = 4000
"""Samples of the Gaussian that centres begin from; they cost nothing."""
STEPS = 20
"""Steps of Lloyd's algorithm on those."""
FEWEST = 4.0
"""A centre moves only where its count is so many standard deviations of the noise."""


@dataclass(frozen=True, eq=False)
class Low:
    """A few coefficients of images, in which distances to centres are taken.

    Parameters
    ----------
    matrix
        (coefficients, values); features of norm 1 or less are ``matrix x``.
    """

    matrix: Floats

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> "Low":
        """Return those of images of a shape."""
        basis = Basis(shape, min(COEFFICIENTS * shape[0], int(np.prod(shape))))
        radius = RADIUS * np.sqrt(basis.matrix.shape[1] / 784)
        return cls(basis.matrix * np.sqrt(basis.weights)[:, None] / radius)

    def features(self) -> Linear:
        """Return the coefficients as a map of the kernel."""
        return Linear(self.matrix, np.zeros(self.matrix.shape[1]))

    def division(self, centres: Floats) -> Division:
        """Return the division of images by their nearest of (groups, parts, coefficients) centres."""
        return Division(2 * centres @ self.matrix, (centres**2).sum(axis=2))


def clustered(
    session: Session, groups: Query, shape: tuple[int, ...], counts: Floats, rho: float, *, parts: int, report: Progress
) -> Division:
    """Find clusters of the images of each group. Formal guarantee: all that is asked costs ``rho`` in all.

    Parameters
    ----------
    session, groups
        The open session, and the marginal whose cells are the groups.
    shape
        Channels and sides.
    counts
        (groups,) noisy numbers of patients with images, at least 1.
    rho
        The price.
    parts
        Clusters of each group.
    report
        Told of progress.

    Returns
    -------
    Division
        By the nearest centre; public.
    """
    low = Low.of(shape)
    centres = _first(session, groups, low, counts, BEGIN * rho, parts=parts)
    each = (1 - BEGIN) * rho / ROUNDS
    noise = gaussian_scale(1, COUNTS * each)
    for turn in range(ROUNDS):
        report("finding clusters of images", (1 + turn) / (1 + ROUNDS))
        division = low.division(centres)
        sums = session.image_sums(groups, low.features(), (1 - COUNTS) * each, division).reshape(centres.shape)
        members = session.image_counts(groups, COUNTS * each, division).reshape(centres.shape[:2])[:, :, None]
        centres = np.where(members > FEWEST * noise, sums / np.maximum(members, 1), centres)
    return low.division(centres)


def _first(session: Session, groups: Query, low: Low, counts: Floats, rho: float, *, parts: int) -> Floats:
    """Return (groups, parts, coefficients) centres of samples of the groups' noisy Gaussians."""
    sums = session.image_sums(groups, low.features(), MEANS * rho)
    products = session.image_products(groups, low.features(), (1 - MEANS) * rho)
    rng, centres = np.random.default_rng(0), []
    for total, product, count in zip(sums, products, counts, strict=True):
        mean = total / count
        values, vectors = np.linalg.eigh(product / count - np.outer(mean, mean))
        normal = rng.normal(size=(SAMPLES, len(mean)))
        centres.append(_centres(mean + normal * np.sqrt(np.maximum(values, 0)) @ vectors.T, parts))
    return np.stack(centres)


def _centres(points: Floats, parts: int) -> Floats:
    """Return the centres of Lloyd's algorithm on public points, begun at the first of them; the same in each run."""
    centres = points[:parts]
    for _ in range(STEPS):
        nearest = (points @ centres.T - (centres**2).sum(axis=1) / 2).argmax(axis=1)
        members = np.bincount(nearest, minlength=parts)[:, None]
        sums = np.stack([points[nearest == part].sum(axis=0) for part in range(parts)])
        centres = np.where(members > 0, sums / np.maximum(members, 1), centres)
    return centres
