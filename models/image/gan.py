"""A conditional GAN: the discriminator is trained by DP-SGD, the generator sees the discriminator and no patient.

Recipe of Bie, Kamath & Zhang (2023): many steps of the discriminator for each of the generator, large Poisson batches,
Adam, and the running average of the generator's weights is what is kept. The generator starts from mean embeddings that
a part of the same budget pays for, so that the discriminator's first steps are spent on what embeddings do not see.

After each step the spectral norm of every weight of the discriminator is brought back to a limit: that reads weights
only, which are noised already, and keeps noise from growing them. Spectral normalisation inside the forward pass would
change buffers there and is refused by the kernel.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dpsynth.errors import InputError
from dpsynth.models.base import Model, Progress
from dpsynth.models.image import mean_embedding
from dpsynth.models.image.batch_reading import Reading
from dpsynth.models.image.generators import Growing, NetworkGenerator, NetworkModel, fresh
from dpsynth.models.image.mean_embedding import Embedding
from dpsynth.models.image.synthesizer import ImageTask, TrainedImageSynthesizer
from dpsynth.models.plan import PlanItem
from dpsynth.models.trainer import Trainer
from dpsynth.models.weight_average import Average
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.events import gaussian_scale
from dpsynth.privacy.training.dpsgd import Objective
from dpsynth.privacy.training.per_patient import Batch
from dpsynth.schema.schema import Schema

IMAGES = 256
"""Images of a step of the generator."""
SMALLEST = 4
"""Shortest side that can be halved twice."""
SPECTRAL = 2.0
"""Largest spectral norm of a weight of the discriminator."""


@dataclass(frozen=True, kw_only=True)
class GAN(TrainedImageSynthesizer):
    """Train a discriminator privately and a generator against it.

    Parameters
    ----------
    conditions, table, questions, sampling_rate, steps, microbatch
        As for every image synthesizer that is trained; steps are those of the discriminator.
    critic_steps : int, default 5
        Steps of the discriminator for each time that the generator is stepped.
    generator_steps : int, default 1
        Steps of the generator each time; they cost nothing.
    warm_steps : int, default 1000
        Steps in which the generator is first fitted to mean embeddings; they cost nothing.
    features : int, default 2000
        Random features of the mean embeddings, an even number.
    rate, generator_rate : float, default 0.002, 0.0005
        Adam's rates of discriminator and generator.
    channels : int, default 16
        Channels of the discriminator's first convolution, a multiple of 4.
    hidden, width, latent : int, default 256, 16, 16
        Sizes of the generator.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: scans, target: label, images: {size: [8, 8]},"
    ...     " columns: {label: {type: categorical, values: [cat, dog]}}}"
    ... )
    >>> plan = GAN(steps=100).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]
    ['columns of the table', 'sums of random features', 'noisy gradients']
    """

    name: ClassVar[str] = "gan"
    summary: ClassVar[str] = "images: a conditional GAN whose discriminator is trained by DP-SGD"
    citation: ClassVar[str] = "Bie, Kamath and Zhang (2023); Xie et al. (2018), DP-GAN"
    produces: ClassVar[type[Model]] = NetworkModel
    seconds: ClassVar[tuple[float, float]] = (600.0, 0.0)

    questions: float = 0.4
    sampling_rate: float = 0.02
    steps: int = 300
    critic_steps: int = 5
    generator_steps: int = 1
    warm_steps: int = 1000
    features: int = 2000
    rate: float = 2e-3
    generator_rate: float = 5e-4
    channels: int = 16
    hidden: int = 256
    width: int = 16
    latent: int = 16

    def __post_init__(self) -> None:
        """Refuse options that cannot be, with `InputError`."""
        super().__post_init__()
        mean_embedding.check_features(self.features)
        smallest = min(self.critic_steps, self.generator_steps, self.warm_steps, self.channels, self.steps)
        if smallest < 1 or self.channels % 4:
            raise InputError("gan: expected numbers of steps of 1 or more, and channels that are a multiple of 4.")

    def learn(self, session: Session, task: ImageTask, report: Progress) -> NetworkGenerator:
        """Ask for mean embeddings with all that questions have left; train both networks; keep the generator."""
        embedding = mean_embedding.ask(session, task, session.rho_left, self.features, report)
        sizes = {"latent": self.latent, "hidden": self.hidden, "width": self.width}
        network = fresh(task.shape, task.conditions.sizes, **sizes)
        mean_embedding.fit(network, task.conditions, embedding, self.warm_steps, report)
        generated = GeneratedImages(network, task, embedding)
        critic = ImageCritic(task, generated, Reading.of(session.codec, task.conditions), self.channels)
        play = AdversarialTraining(critic, generated, self, report)
        session.train(critic, play.update, expected=embedding.patients, records="images", state=play.state)
        return NetworkGenerator(play.finish())

    def items(self, schema: Schema, rho: float) -> list[PlanItem]:  # noqa: ARG002
        """Say how noisy the embeddings are."""
        share = 1 - mean_embedding.COUNTS
        return [PlanItem("sums of random features", 1, self.features, gaussian_scale(1, share * rho), "a warm start")]


class GeneratedImages:
    """Images of the generator, with conditions in the proportions that were paid for."""

    def __init__(self, network: Growing, task: ImageTask, embedding: Embedding) -> None:
        self.network = network
        self._every = torch.from_numpy(task.conditions.every())
        self._shares = torch.from_numpy(embedding.shares)

    def images(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (count, channels, sides) images and their (count, columns) codes."""
        codes = self._every[torch.multinomial(self._shares, count, replacement=True, generator=generator)]
        return self.network(torch.randn(count, self.network.latent, generator=generator), codes), codes


class ImageDiscriminator(nn.Module):
    """Log-odds that images are patients', given their conditions.

    Conditions enter as projections (Miyato & Koyama 2018): an embedding for each column, added.

    Parameters
    ----------
    shape
        Channels and sides.
    sizes
        The number of codes of each condition.
    channels
        Of the first convolution.
    """

    def __init__(self, shape: tuple[int, ...], sizes: tuple[int, ...], channels: int) -> None:
        super().__init__()
        sides = shape[1:]
        if min(sides) < SMALLEST:
            raise InputError(f"gan: found a side of {min(sides)}, expected {SMALLEST} or more; use mean-embedding.")
        convolution = nn.Conv2d if len(sides) == 2 else nn.Conv3d
        self.body = nn.Sequential(
            convolution(shape[0], channels, 4, stride=2, padding=1),
            nn.GroupNorm(channels // 4, channels),
            nn.SiLU(),
            convolution(channels, 2 * channels, 4, stride=2, padding=1),
            nn.GroupNorm(channels // 2, 2 * channels),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(2 * channels * math.prod(side // 4 for side in sides), 4 * channels),
            nn.SiLU(),
        )
        self.odds = nn.Linear(4 * channels, 1)
        self.given = nn.ModuleList([nn.Embedding(size, 4 * channels) for size in sizes])

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """Return (rows,) log-odds for (rows, channels, sides) images in [0, 1] and (rows, columns) codes."""
        features = self.body(2 * images - 1)
        odds: Tensor = self.odds(features)[:, 0]
        for column, embedding in enumerate(self.given):
            odds = odds + (embedding(codes[:, column]) * features).sum(1) / math.sqrt(features.shape[1])
        return odds


class ImageCritic(Objective):
    """The loss of the discriminator: patients' images against generated ones."""

    def __init__(self, task: ImageTask, generated: GeneratedImages, reading: Reading, channels: int) -> None:
        super().__init__()
        self._generated = [generated]  # in a list: it is no part of what is trained
        self._reading = reading
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.discriminator = ImageDiscriminator(task.shape, task.conditions.sizes, channels)

    def prepare(self, batch: Batch) -> Batch:
        """Return pixels in [0, 1], codes of the conditions and weights."""
        patients = {"x": self._reading.images(batch), "given": self._reading.codes(batch)}
        return {**patients, "weights": batch["weights"]}

    def randomness(self, patients: int, generator: torch.Generator) -> Batch:
        """Return a generated image for each patient; the patient has no part in it."""
        with torch.no_grad():
            images, codes = self._generated[0].images(patients, generator)
        return {"made": images, "made_given": codes}

    def forward(self, batch: Batch) -> Tensor:
        """Return (patients,) losses: of patients' images against generated ones (log loss)."""
        x, conditions = batch["x"], batch["given"]
        patients, records = x.shape[:2]
        images = torch.cat([x, batch["made"][:, None]], 1).flatten(0, 1)
        codes = torch.cat([conditions, batch["made_given"][:, None]], 1).flatten(0, 1)
        odds = self.discriminator(images, codes).reshape(patients, records + 1)
        return (softplus(-odds[:, :-1]) * batch["weights"]).sum(1) + softplus(odds[:, -1])


class AdversarialTraining:
    """Steps both networks: the discriminator on noisy gradients, the generator against it."""

    def __init__(self, critic: ImageCritic, generated: GeneratedImages, recipe: GAN, report: Progress) -> None:
        self._critic, self._generated, self._recipe = critic, generated, recipe
        learns = torch.optim.Adam(critic.parameters(), lr=recipe.rate, betas=(0.5, 0.9))
        self._learns = Trainer(learns, steps=recipe.steps, report=report, every=5)
        makes = torch.optim.Adam(generated.network.parameters(), lr=recipe.generator_rate, betas=(0.5, 0.9))
        self._makes = Trainer(makes, average=Average(generated.network, 0.97))
        self._own = torch.Generator().manual_seed(6)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps from step to step besides the discriminator's weights."""
        trained = {f"generator's {name}": part for name, part in self._makes.state.items()}
        return {**self._learns.state, **trained, "generator": self._generated.network, "own": self._own}

    def update(self, step: int) -> None:
        """Take a step of the discriminator, and now and then of the generator."""
        self._learns.update(step)
        limit_weights(self._critic)
        if step % self._recipe.critic_steps == self._recipe.critic_steps - 1:
            for _ in range(self._recipe.generator_steps):
                self._generate()

    def _generate(self) -> None:
        images, codes = self._generated.images(IMAGES, self._own)
        self._makes.descend(softplus(-self._critic.discriminator(images, codes)).mean())

    def finish(self) -> Growing:
        """Return the generator with the average of its weights."""
        self._makes.finish()
        self._learns.finish()
        return self._generated.network


@torch.no_grad()
def limit_weights(network: nn.Module, limit: float = SPECTRAL) -> None:
    """Scale down every weight whose spectral norm is above a limit; reads weights only."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d):
            norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
            layer.weight.mul_(torch.clamp(limit / norm, max=1.0))
