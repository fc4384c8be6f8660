"""Mixtures of Gaussians over low frequencies by condition, and noise of measured variance in all others."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.frequencies import Basis, Rest
from dpsynth.models.image.model import Floats32, Parts

Floats = NDArray[np.float64]

__all__ = ["MAX_PARTS", "Mixture", "MomentsGenerator"]

BLOCK = 4096
MAX_PARTS = 64


@dataclass(frozen=True, eq=False)
class Mixture:
    """The numbers of a mixture, in weighted coefficients of norm 1.

    Parameters
    ----------
    means
        (combinations, parts, coefficients).
    roots
        (values of the first condition, coefficients, coefficients) square roots of the covariances, shared by parts.
    weights
        (values of the first condition, parts) chances.
    rest
        (values of the first condition, bands) variances of a coefficient left out; no bands where none is known.
    """

    means: Floats
    roots: Floats
    weights: Floats
    rest: Floats

    @classmethod
    def single(cls, means: Floats, roots: Floats) -> Self:
        """Return one Gaussian a combination, (combinations, coefficients), and nothing of the other frequencies."""
        return cls(means[:, None], roots, np.ones((len(roots), 1)), np.zeros((len(roots), 0)))

    def rounded(self) -> Self:
        """Return the numbers as a file holds them."""
        return type(self)(*(part.astype(np.float32).astype(np.float64) for part in self.arrays().values()))

    def arrays(self) -> dict[str, Floats]:
        """Return the numbers by name."""
        return {"means": self.means, "roots": self.roots, "weights": self.weights, "rest": self.rest}

    def check(self, conditions: Conditions, size: int, bands: int) -> None:
        """Refuse numbers from a file that do not fit, with `ValueError`."""
        groups = conditions.sizes[0] if conditions.sizes else 1
        parts = self.weights.shape[1] if self.weights.ndim == 2 else 0
        shapes: dict[str, list[tuple[int, ...]]] = {
            "means": [(conditions.cells, parts, size)],
            "roots": [(groups, size, size)],
            "weights": [(groups, parts)],
            "rest": [(groups, 0), (groups, bands)],
        }
        for name, part in self.arrays().items():
            if part.shape not in shapes[name] or not np.isfinite(part).all():
                raise ValueError(f"{name} do not fit the conditions, or are not finite")
        if not 1 <= parts <= MAX_PARTS or self.weights.min() < 0 or self.rest.min(initial=0) < 0:
            raise ValueError("weights or variances out of range")
        if not np.allclose(self.weights.sum(axis=1), 1, atol=1e-4):
            raise ValueError("weights are no chances")


class MomentsGenerator:
    """Mixtures of Gaussians over weighted low-frequency coefficients, with noise in the frequencies left out.

    Parameters
    ----------
    basis, radius
        How images and features correspond.
    conditions
        Columns that say which mixture.
    mixture
        Its numbers.
    noise_over_contrast
        What noise would add to a drawn image without a floor, over what the images vary by; None where it is not known.
    """

    def __init__(
        self,
        basis: Basis,
        radius: float,
        conditions: Conditions,
        mixture: Mixture,
        *,
        noise_over_contrast: float | None = None,
    ) -> None:
        self.basis, self.radius, self.conditions = basis, radius, conditions
        self.noise_over_contrast = noise_over_contrast
        self.mixture = mixture.rounded()
        self.rest = Rest(basis.shape, len(basis)) if mixture.rest.shape[1] else None

    def draw(self, codes: NDArray[np.int64], rng: np.random.Generator) -> Floats32:
        """Return images in [0, 1], drawn group by group."""
        cell, first = self.conditions.cell(codes), first_codes(codes)
        images = np.empty((len(codes), *self.basis.shape), np.float32)
        for group in np.unique(first):
            rows = np.flatnonzero(first == group)
            for places in np.array_split(rows, -(-len(rows) // BLOCK)):
                images[places] = self._drawn(group, cell[places], rng)
        return images

    def _drawn(self, group: int, cell: NDArray[np.int64], rng: np.random.Generator) -> Floats32:
        found, size = self.mixture, len(cell)
        normal = rng.normal(size=(size, len(self.basis)))
        mean = found.means[cell, 0]
        if found.means.shape[1] > 1:
            chances = found.weights[group] / found.weights[group].sum()
            mean = found.means[cell, rng.choice(len(chances), size, p=chances)]
        flat = self.basis.flat(mean + normal @ found.roots[group].T, self.radius)
        if self.rest is not None:
            flat += self.rest.images(np.repeat(found.rest[None, group], size, axis=0), rng)
        return np.clip(flat, 0, 1).astype(np.float32).reshape(size, *self.basis.shape)

    def to_parts(self) -> Parts:
        """Return the mixture as arrays."""
        config = {"coefficients": len(self.basis), "radius": self.radius}
        return config, {name: part.astype(np.float32) for name, part in self.mixture.arrays().items()}

    @classmethod
    def from_parts(
        cls, shape: tuple[int, ...], conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Self:
        """Check the parts and build the generator; what earlier versions wrote has one Gaussian a combination."""
        count, radius = int(config["coefficients"]), float(config["radius"])
        if not 1 <= count <= 4096 or not 0 < radius < 1e6:
            raise ValueError("coefficients or radius out of range")
        numbers = {name: array.astype(np.float64) for name, array in arrays.items()}
        if "weights" in numbers:
            mixture = Mixture(*(numbers[name] for name in ("means", "roots", "weights", "rest")))
        else:
            mixture = Mixture.single(numbers["means"], numbers["roots"])
        basis = Basis(shape, count)
        mixture.check(conditions, len(basis), Rest(shape, count).bands)
        return cls(basis, radius, conditions, mixture)


def first_codes(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (rows,) codes of the first condition, 0 where there is none."""
    return codes[:, 0] if codes.shape[1] else np.zeros(len(codes), np.int64)
