"""Noisy means and covariances of the coefficients of images, by value of the first condition and cluster."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.query import Query
from dpsynth.models.image.clusters import clustered
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.frequencies import Rest
from dpsynth.models.image.mixtures import first_codes
from dpsynth.privacy.images.features import Division, Linear
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.events import gaussian_scale
from dpsynth.progress import Progress

Floats = NDArray[np.float64]

MEMBERS = 0.1
"""Share of the price of clusters' sums that the numbers of their members have."""
BAND = 12
"""Neighbouring coefficients whose means are shrunk alike."""
SURE = 2.0
"""So many standard deviations of their noise are taken off energies and contrast: what may be noise is not drawn."""
MOST = 4.0
"""Noise in the mean square of a sample, over that of the images, up to which a label's own covariance is kept: twice
the contrast. At epsilon 1 on FashionMNIST it is 1.7, and classifiers learn more from the labels' own (.81 for .77)."""
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Measuring:
    """Questions about images whose conditions were counted. Formal guarantee: each costs the price that is named.

    Parameters
    ----------
    session
        The open session.
    conditions
        What images are conditioned on.
    counts
        (combinations,) noisy numbers of patients with images, at least their noise.
    """

    session: Session
    conditions: Conditions
    counts: Floats

    @cached_property
    def label(self) -> Query:
        """The marginal of the first condition alone."""
        query = self.conditions.query
        return Query(query.columns[:1], query.maps[:1])

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """(combinations,) the value of the first condition."""
        return first_codes(self.conditions.every())

    @cached_property
    def totals(self) -> Floats:
        """(values of the first condition,) numbers of patients with images."""
        return np.bincount(self.owner, self.counts).astype(np.float64)

    def division(self, shape: tuple[int, ...], rho: float, parts: int, report: Progress) -> Division:
        """Return a public division of the images of each value into clusters."""
        return clustered(self.session, self.label, shape, self.totals, rho, parts=parts, report=report)

    def clusters(self, features: Linear, rho: float, division: Division | None) -> tuple[Floats, Floats]:
        """Return (values, parts) shares of clusters and their (values, parts, coefficients) means."""
        if division is None:
            centres = self.session.image_sums(self.label, features, rho) / self.totals[:, None]
            return np.ones((len(centres), 1)), shrunk(centres, (gaussian_scale(1, rho) / self.totals) ** 2)[:, None]
        shape = (len(self.totals), division.parts)
        noise = gaussian_scale(1, MEMBERS * rho)
        found = self.session.image_counts(self.label, MEMBERS * rho, division)
        members = np.maximum(found, noise).reshape(shape)
        sums = self.session.image_sums(self.label, features, (1 - MEMBERS) * rho, division).reshape(*shape, -1)
        sigma = gaussian_scale(1, (1 - MEMBERS) * rho)
        return members / members.sum(axis=1, keepdims=True), shrunk_parts(sums, members, sigma)

    def combinations(self, features: Linear, rho: float) -> Floats:
        """Return how far the means of combinations are from those of their first condition.

        Each is shrunk by the share of its squared length that noise explains.
        """
        sums = self.session.image_sums(self.conditions.query, features, rho)
        centres = np.stack([sums[self.owner == g].sum(0) / total for g, total in enumerate(self.totals)])
        apart = sums / self.counts[:, None] - centres[self.owner]
        explained = sums.shape[1] * (gaussian_scale(1, rho) / self.counts) ** 2
        kept = np.clip(1 - explained / np.maximum((apart**2).sum(axis=1), TINY), 0, 1)
        return np.asarray(kept[:, None] * apart)

    def variances(self, rest: Rest, rho: float) -> Floats:
        """Return (values, bands) variances of a coefficient of the frequencies that are left out."""
        sigma = gaussian_scale(1, rho)
        energies = self.session.image_sums(self.label, rest.features(), rho) / self.totals[:, None]
        return rest.variances(shrunk(energies, (sigma / self.totals) ** 2) - SURE * sigma / self.totals.sum())

    def covariances(self, features: Linear, rho: float, weights: Floats, means: Floats) -> Floats:
        """Return (values, coefficients, coefficients) noisy covariances within clusters, symmetric."""
        products = self.session.image_products(self.label, features, rho) / self.totals[:, None, None]
        return np.asarray(products - np.einsum("gp,gpi,gpj->gij", weights, means, means))


@dataclass(frozen=True, eq=False)
class Roots:
    """Square roots of noisy covariances, with noise held down in what is drawn from them.

    Noise spreads the eigenvalues of a covariance by up to an edge to either side. Those below 0 are cut, so samples
    vary more than the images do, by as much as was cut. Up to `MOST` of what the images vary by it is kept:
    it spreads the samples as augmentation does, and cutting it made classifiers trained on the samples worse (measured
    on FashionMNIST). Where it is more, a group takes the mean covariance of all; and where that has more noise, too,
    its eigenvalues within the edge are scaled down until they hold no more than the images vary by.

    Parameters
    ----------
    roots
        (groups, coefficients, coefficients).
    contrast
        Mean square of a drawn image's difference from its mean, in pixels, without noise.
    noise
        What noise added to that, before it was scaled down.
    """

    roots: Floats
    contrast: float
    noise: float

    @classmethod
    def of(cls, covariances: Floats, totals: Floats, sigma: float, scale: Floats, *, counts: float = 0.0) -> "Roots":
        """Return roots of noisy (groups, coefficients, coefficients) covariances.

        Parameters
        ----------
        covariances
            Symmetric.
        totals
            (groups,) numbers of images, above 0.
        sigma
            Standard deviation of the noise on the diagonal of a sum of products.
        scale
            (coefficients,) of a coefficient in pixels.
        counts
            Standard deviation of what the noise of the totals adds to the contrast.
        """
        shares = totals / totals.sum()
        unsure = SURE * (sigma * np.sqrt(len(totals) * (scale**4).sum()) / totals.sum() + counts)
        contrast = max(float(shares @ (np.diagonal(covariances, axis1=1, axis2=2) @ scale**2)) - unsure, TINY)
        halves = [_halves(covariance, scale) for covariance in covariances]
        noises = np.array([_cut(values, sizes) for values, _, sizes in halves])
        # the noise of the mean of covariances, each with sigma / total on the diagonal and 1 / sqrt 2 of it beside
        edge = 2 * np.sqrt(len(scale) / 2) * sigma * np.sqrt(len(totals)) / totals.sum()
        common, noise = _common(np.einsum("g,gij->ij", shares, covariances), edge, contrast, scale)
        is_own = noises <= MOST * contrast
        noises = np.where(is_own, noises, noise)
        roots = [_root(*half[:2]) if own else common for half, own in zip(halves, is_own, strict=True)]
        return cls(np.stack(roots), contrast, float(shares @ noises))


def _common(covariance: Floats, edge: float, contrast: float, scale: Floats) -> tuple[Floats, float]:
    """Return the root of a covariance with eigenvalues within the noise's edge held down, and what noise would add."""
    values, vectors, sizes = _halves(covariance, scale)
    noise, values = _cut(values, sizes), np.maximum(values, 0)
    if noise > contrast:
        there = float((values * sizes)[values < edge].sum())
        values *= np.where(values < edge, min(1.0, contrast / max(there, TINY)), 1.0)
        values *= min(1.0, 2 * contrast / max(float((values * sizes).sum()), TINY))
    return _root(values, vectors), noise


def _cut(values: Floats, sizes: Floats) -> float:
    """Return what cutting negative eigenvalues adds to the mean square of a sample, in pixels."""
    return float((-np.minimum(values, 0) * sizes).sum())


def _halves(covariance: Floats, scale: Floats) -> tuple[Floats, Floats, Floats]:
    """Return eigenvalues, eigenvectors, and the squared length of each eigenvector in pixels."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return values, vectors, np.asarray(((vectors * scale[:, None]) ** 2).sum(axis=0))


def _root(values: Floats, vectors: Floats) -> Floats:
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


def shrunk_parts(sums: Floats, members: Floats, sigma: float) -> Floats:
    """Return means of clusters, shrunk to the mean of their group by band of coefficients.

    Parameters
    ----------
    sums
        (groups, parts, coefficients) noisy.
    members
        (groups, parts) numbers of images, above 0.
    sigma
        Standard deviation of the noise of a sum.
    """
    centres = sums.sum(axis=1) / members.sum(axis=1)[:, None]
    apart = sums / members[:, :, None] - centres[:, None]
    centres = shrunk(centres, members.shape[1] * (sigma / members.sum(axis=1)) ** 2)
    for places in np.array_split(np.arange(sums.shape[2]), max(1, sums.shape[2] // BAND)):
        seen = (members[:, :, None] * apart[:, :, places] ** 2).sum(axis=(1, 2))
        noise = len(places) * (sigma**2 / members).sum(axis=1)
        apart[:, :, places] *= np.clip(1 - noise / np.maximum(seen, TINY), 0, 1)[:, None, None]
    return np.asarray(centres[:, None] + apart)


def shrunk(values: Floats, noise: Floats) -> Floats:
    """Return (groups, columns) values with (groups,) noise variances, shrunk to the mean of all groups.

    The differences of a band of columns have a variance beyond that of the noise, estimated from all groups; each group
    keeps of its own as much as that explains (empirical Bayes; Efron & Morris 1973): scarce ones borrow more.
    """
    middle = np.average(values, axis=0, weights=1 / noise)
    apart = values - middle
    for places in np.array_split(np.arange(values.shape[1]), max(1, values.shape[1] // BAND)):
        seen = float((apart[:, places] ** 2 / noise[:, None]).sum())
        beyond = max(0.0, seen - (len(values) - 1) * len(places)) / (len(places) * (1 / noise).sum())
        apart[:, places] *= (beyond / (beyond + noise))[:, None]
    return np.asarray(middle + apart)
