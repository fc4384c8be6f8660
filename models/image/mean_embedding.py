"""Mean embeddings: random features of images, summed by condition and released once; a generator is fitted for free.

DP-MERF (Harder, Adamczewski & Park 2021): the mean of random Fourier features of a group of images says, up to the
noise, what distribution they have in the eyes of a Gaussian kernel. A generator whose images have the same mean
features has the same distribution in those eyes; fitting it touches no patient, however long it lasts.

What differs from the paper: group means are noisy sums over noisy counts, both paid for, and the generator's own part
of the distance is estimated without bias from few images.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpsynth.errors import InputError
from dpsynth.models.base import Model, Progress
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.generators import Growing, NetworkGenerator, NetworkModel, fresh
from dpsynth.models.image.model import declared_images
from dpsynth.models.image.synthesizer import ImageSynthesizer, ImageTask
from dpsynth.models.plan import PlanItem
from dpsynth.models.trainer import Schedule, Trainer
from dpsynth.models.weight_average import Average
from dpsynth.privacy.images.features import Fourier
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.events import gaussian_scale
from dpsynth.schema.schema import Schema

Floats = NDArray[np.float64]

COUNTS = 0.02
"""Share of the price that counts have; the sums have the rest."""
LENGTH = math.sqrt(105.0)
"""Length scale of the kernel on the pixels of a 28 x 28 image (Harder et al., appendix)."""
CELLS, EACH = 10, 40
"""Combinations, and images of each, in a step of the generator."""
RATE = 1e-2
RISE = 20
"""Steps over which the rate rises."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """Noisy mean features of each combination's images, as they were paid for.

    Attributes
    ----------
    frequencies
        (features / 2, values of an image) public frequencies.
    means
        (combinations, features) noisy sums over noisy counts.
    shares
        (combinations,) shares of the patients, from the noisy counts.
    patients
        About how many patients have images: the sum of the noisy counts.
    """

    frequencies: Floats
    means: Floats
    shares: Floats
    patients: float


@dataclass(frozen=True, kw_only=True)
class MeanEmbedding(ImageSynthesizer):
    """Release noisy mean embeddings by condition, then fit a generator to them.

    Parameters
    ----------
    conditions, table
        As for every image synthesizer.
    features : int, default 2000
        Random features, an even number.
    steps : int, default 1000
        Steps of the generator; they cost nothing.
    hidden, width, latent : int, default 256, 16, 16
        Sizes of the generator.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: scans, target: label, images: {size: [8, 8]},"
    ...     " columns: {label: {type: categorical, values: [cat, dog]}}}"
    ... )
    >>> plan = MeanEmbedding(features=1000).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]
    ['columns of the table', 'counts of images', 'sums of random features']
    """

    name: ClassVar[str] = "mean-embedding"
    summary: ClassVar[str] = "images: a generator fitted to one noisy release of random features (DP-MERF)"
    citation: ClassVar[str] = "Harder, Adamczewski and Park (2021), DP-MERF"
    produces: ClassVar[type[Model]] = NetworkModel
    seconds: ClassVar[tuple[float, float]] = (120.0, 0.0)

    features: int = 2000
    steps: int = 1000
    hidden: int = 256
    width: int = 16
    latent: int = 16

    def __post_init__(self) -> None:
        """Refuse options that cannot be, with `InputError`."""
        super().__post_init__()
        check_features(self.features)
        if self.steps < 1:
            raise InputError(f"steps: found {self.steps}, expected 1 or more.")

    def learn(self, session: Session, task: ImageTask, report: Progress) -> NetworkGenerator:
        """Ask for the embedding with all that is left; fit the generator."""
        embedding = ask(session, task, session.rho_left, self.features, report)
        sizes = {"latent": self.latent, "hidden": self.hidden, "width": self.width}
        network = fresh(task.shape, task.conditions.sizes, **sizes)
        fit(network, task.conditions, embedding, self.steps, report)
        return NetworkGenerator(network)

    def items(self, schema: Schema, rho: float) -> list[PlanItem]:
        """Say how noisy counts and sums are."""
        declared_images(schema)
        note = "for each condition"
        return [
            PlanItem("counts of images", 1, 1, gaussian_scale(1, COUNTS * rho), note),
            PlanItem("sums of random features", 1, self.features, gaussian_scale(1, (1 - COUNTS) * rho), note),
        ]


def check_features(features: int) -> None:
    """Refuse a number of features that cannot be, with `InputError`."""
    if not 4 <= features <= 2**16 or features % 2:
        raise InputError(f"features: found {features}, expected an even number from 4 to {2**16}.")


def ask(session: Session, task: ImageTask, rho: float, features: int, report: Progress) -> Embedding:
    """Ask for noisy counts of images and noisy sums of their random features, at a total price.

    Formal guarantee: two questions of the session, whose prices sum to ``rho``; the rest is post-processing.

    Parameters
    ----------
    session, task
        The open session, and what images are conditioned on.
    rho
        The price.
    features
        How many random features.
    report
        Told of progress.
    """
    frequencies = random_frequencies(task.shape, features // 2)
    report("measuring images", 0.0)
    counts = session.image_counts(task.conditions.query, COUNTS * rho)
    sums = session.image_sums(task.conditions.query, Fourier(frequencies), (1 - COUNTS) * rho)
    report("measuring images", 1.0)
    floor = gaussian_scale(1, COUNTS * rho)
    shares = np.maximum(counts, 0) + 1e-6
    patients = max(1.0, float(counts.sum()))
    return Embedding(frequencies, sums / np.maximum(counts, floor)[:, None], shares / shares.sum(), patients)


def random_frequencies(shape: tuple[int, ...], count: int, seed: int = 0) -> Floats:
    """Return (count, values) frequencies from a public seed.

    Typical distances of images grow with the root of the number of values, and so does the length scale.
    """
    values = math.prod(shape)
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=(count, values)) / (LENGTH * math.sqrt(values / 784)))


def fit(
    network: Growing, conditions: Conditions, embedding: Embedding, steps: int, report: Progress, *, rate: float = RATE
) -> None:
    """Fit a generator to an embedding; touches no patient.

    Parameters
    ----------
    network
        The generator; left with the running average of its weights.
    conditions
        What it is conditioned on.
    embedding
        The embedding.
    steps, rate
        Steps of Adam, and its rate, which falls to 0 along a half cosine.
    report
        Told of progress.
    """
    own = torch.Generator().manual_seed(1)
    distance, codes = EmbeddingDistance(embedding), torch.from_numpy(conditions.every())

    def loss() -> Tensor:
        cells = distance.cells(own)
        latent = torch.randn(len(cells) * EACH, network.latent, generator=own)
        return distance(network(latent, codes[cells].repeat_interleave(EACH, 0)), cells)

    Trainer(
        torch.optim.Adam(network.parameters(), lr=rate, betas=(0.9, 0.99)),
        steps=steps,
        schedule=Schedule("cosine", floor=0.0, rise=RISE),
        average=Average(network, 0.98),
        report=report,
        phase="fitting the generator",
    ).minimise(loss)


class EmbeddingDistance:
    """The squared distance of the joint embeddings of images and conditions, up to a constant.

    Combinations weigh the square of their share, as in the paper, which is also how exactly their means are known.
    """

    def __init__(self, embedding: Embedding) -> None:
        self._frequencies = torch.from_numpy(embedding.frequencies).float()
        self._means = torch.from_numpy(embedding.means).float()
        self._shares = torch.from_numpy(embedding.shares).double()

    def cells(self, generator: torch.Generator) -> Tensor:
        """Return the combinations of a step: all, or some drawn by their shares."""
        if len(self._shares) <= CELLS:
            return torch.arange(len(self._shares))
        return torch.multinomial(self._shares, CELLS, replacement=True, generator=generator)

    def __call__(self, images: Tensor, cells: Tensor) -> Tensor:
        """Return the distance for (len(cells) * EACH, ...) images, those of a combination together."""
        angles = images.flatten(1) @ self._frequencies.T
        features = torch.cat([angles.cos(), angles.sin()], 1) / math.sqrt(len(self._frequencies))
        means = features.reshape(len(cells), EACH, -1).mean(1)
        own = (EACH * means.square().sum(1) - 1) / (EACH - 1)  # of two different images: features have norm 1
        distance = own - 2 * (means * self._means[cells]).sum(1)
        weights = self._shares[cells] if len(self._shares) > CELLS else self._shares.square()
        return (distance * (weights / weights.sum()).float()).sum()
