"""Noisy means and covariances of the coefficients of images, by value of the first condition and cluster."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.query import Query
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.frequencies import Rest
from dpsynth.models.image.mixtures import first_codes
from dpsynth.privacy.images.features import Division, Linear
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.events import gaussian_scale

Floats = NDArray[np.float64]

MEMBERS = 0.1
"""Share of the price of clusters' sums that the numbers of their members have."""
BAND = 12
"""Neighbouring coefficients whose means are shrunk alike."""
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
        return np.bincount(self.owner, self.counts)

    def clusters(self, features: Linear, rho: float, division: Division | None) -> tuple[Floats, Floats]:
        """Return (values, parts) shares of clusters and their (values, parts, coefficients) means."""
        if division is None:
            centres = self.session.image_sums(self.label, features, rho) / self.totals[:, None]
            return np.ones((len(centres), 1)), centres[:, None]
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
        energies = self.session.image_sums(self.label, rest.features(), rho)
        each = shrunk(energies / self.totals[:, None], (gaussian_scale(1, rho) / self.totals) ** 2)
        return rest.variances(each)

    def roots(self, features: Linear, rho: float, weights: Floats, means: Floats) -> Floats:
        """Return (values, coefficients, coefficients) square roots of the covariances within clusters."""
        products = self.session.image_products(self.label, features, rho) / self.totals[:, None, None]
        between = np.einsum("gp,gpi,gpj->gij", weights, means, means)
        return np.stack([_root(inside) for inside in products - between])


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
    for places in np.array_split(np.arange(sums.shape[2]), max(1, sums.shape[2] // BAND)):
        seen = (members[:, :, None] * apart[:, :, places] ** 2).sum(axis=(1, 2))
        noise = len(places) * (sigma**2 / members).sum(axis=1)
        apart[:, :, places] *= np.clip(1 - noise / np.maximum(seen, TINY), 0, 1)[:, None, None]
    return np.asarray(centres[:, None] + apart)


def shrunk(values: Floats, noise: Floats) -> Floats:
    """Return (groups, columns) values with (groups,) noise variances, shrunk to the mean of all groups.

    As much is taken of the differences in a column as noise explains of them.
    """
    middle = np.average(values, axis=0, weights=1 / noise)
    apart = values - middle
    seen = (apart**2 / noise[:, None]).sum(axis=0)
    kept = np.clip(1 - (len(values) - 1) / np.maximum(seen, TINY), 0, 1)
    return np.asarray(middle + kept * apart)


def _root(covariance: Floats) -> Floats:
    """Return a square root of the nearest positive semidefinite matrix.

    Eigenvalues that the noise lifted are kept: they spread the samples as augmentation does, and cutting them made
    classifiers trained on the samples worse (measured on FashionMNIST).
    """
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))
