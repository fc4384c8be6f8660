"""Judged moments: images of the moments model, of which a private judge keeps those that show their label.

Gaussians of low frequencies overlap where labels differ in detail, and what is drawn there shows either. A softmax
regression on public features, trained by DP-SGD with a part of the same budget (`dpsynth.models.image.linear`), knows
that detail. For each image several are drawn, and one of them is taken with chances in proportion to a power of the
judge's probability of the label: importance resampling of ``p(x | label) p(label | x)^power``, post-processing of what
was paid for. Gaussians keep what the judge does not see, and the table keeps its labels' shares.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.errors import InputError
from dpsynth.models.base import Model, Progress
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.linear import Whitened, train_linear
from dpsynth.models.image.mixtures import MomentsGenerator
from dpsynth.models.image.model import Floats32, ImageGenerator, ImageModel, Parts, declared_images, named, under
from dpsynth.models.image.moments import check_sizes, expected_noise, learn_moments
from dpsynth.models.image.synthesizer import ImageTask, TrainedImageSynthesizer, patients_with_images
from dpsynth.models.plan import PlanItem
from dpsynth.models.private_classifier import checked_target, classes_of
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import gaussian_scale
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.schema.schema import Schema

COUNTED = 0.02
"""Share of the images' price for the number of patients with images."""
BATCH = 4096
"""Candidates that are held at once."""


class JudgedGenerator:
    """Draws candidates from a moments model and chooses by a judge.

    Parameters
    ----------
    moments
        Draws them.
    judge
        Log-odds of the first condition's labels.
    candidates
        How many are drawn for each image.
    power
        Of the judge's probability.
    """

    def __init__(self, moments: MomentsGenerator, judge: Whitened, *, candidates: int, power: float) -> None:
        self.moments, self.judge = moments, judge
        self.candidates, self.power = candidates, power
        self.noise_over_contrast = moments.noise_over_contrast

    def draw(self, codes: NDArray[np.int64], rng: np.random.Generator) -> Floats32:
        """Return (rows, channels, sides) images in [0, 1]."""
        images = np.empty((len(codes), *self.moments.basis.shape), np.float32)
        each = max(1, BATCH // self.candidates)
        for start in range(0, len(codes), each):
            part = codes[start : start + each]
            candidates = self.moments.draw(np.repeat(part, self.candidates, axis=0), rng)
            logs = self._logs(candidates, np.repeat(part[:, 0], self.candidates)).reshape(len(part), self.candidates)
            chosen = np.argmax(self.power * logs + rng.gumbel(size=logs.shape), axis=1)
            choices = candidates.reshape(*logs.shape, *candidates.shape[1:])
            images[start : start + each] = choices[np.arange(len(part)), chosen]
        return images

    @torch.no_grad()
    def _logs(self, images: Floats32, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (rows,) log-probabilities of the labels; 0 where the label is missing, of which no judge knows."""
        logs = torch.log_softmax(self.judge(torch.from_numpy(images)).double(), dim=1).numpy()
        judged = labels < logs.shape[1]
        return np.where(judged, logs[np.arange(len(logs)), np.where(judged, labels, 0)], 0.0)

    def to_parts(self) -> Parts:
        """Return both parts under names of their own."""
        config, arrays = self.moments.to_parts()
        mine = {"candidates": self.candidates, "power": self.power, "moments": config}
        return mine, {**named("moments", arrays), **named("judge", self.judge.learned())}

    @classmethod
    def from_parts(
        cls, shape: tuple[int, ...], conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Self:
        """Check the parts and build the generator."""
        candidates, power = int(config["candidates"]), float(config["power"])
        _check(candidates, power, ValueError)
        if not conditions.columns:
            raise ValueError("a judge needs a condition")
        moments = MomentsGenerator.from_parts(shape, conditions, config["moments"], under("moments", arrays))
        judge = Whitened.of_learned(under("judge", arrays), shape)
        if judge.odds.out_features > conditions.sizes[0]:
            raise ValueError("the judge knows more labels than there are")
        return cls(moments, judge, candidates=candidates, power=power)


class JudgedModel(ImageModel):
    """A table, Gaussians over low frequencies and a judge of their images."""

    kind: ClassVar[str] = "image-judged-moments"

    @classmethod
    def read_generator(
        cls, codec: Codec, conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> ImageGenerator:
        """Build the generator from its parts."""
        return JudgedGenerator.from_parts(declared_images(codec.schema).shape, conditions, config, arrays)


@dataclass(frozen=True, kw_only=True)
class JudgedMoments(TrainedImageSynthesizer):
    """Noisy moments of low frequencies, and a private judge of what is drawn from them.

    Parameters
    ----------
    conditions, table, questions, sampling_rate, steps, microbatch
        As for every image synthesizer that is trained; the judge learns the first condition, which is boolean or
        categorical.
    coefficients, parts : int, default 0
        As for the moments model.
    candidates : int, default 8
        Images that are drawn for each one that is kept, 1 to 64.
    power : float, default 3.0
        Of the judge's probability: 0 keeps any, large ones only what shows its label best.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: scans, target: label, images: {size: [8, 8]},"
    ...     " columns: {label: {type: categorical, values: [cat, dog]}}}"
    ... )
    >>> plan = JudgedMoments(steps=30).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]
    ['columns of the table', 'moments of images', 'noisy gradients']
    """

    name: ClassVar[str] = "judged-moments"
    summary: ClassVar[str] = "images: moments, of which a classifier trained by DP-SGD keeps what shows its label"
    citation: ClassVar[str] = "dpsynth.models.image.judged"
    produces: ClassVar[type[Model]] = JudgedModel
    seconds: ClassVar[tuple[float, float]] = (90.0, 0.0)

    questions: float = 0.5
    sampling_rate: float = 0.15
    steps: int = 60
    coefficients: int = 0
    parts: int = 0
    candidates: int = 8
    power: float = 3.0

    def __post_init__(self) -> None:
        """Refuse options that cannot be, with `InputError`."""
        super().__post_init__()
        check_sizes(self.coefficients, self.parts)
        if self.steps < 1:
            raise InputError(f"steps: found {self.steps}, expected 1 or more; without a judge it is the model moments.")
        _check(self.candidates, self.power, InputError)

    def training(self, schema: Schema, budget: Budget) -> TrainingPlan | None:
        """Return the plan of the training; a label that cannot be judged is refused before a patient is seen."""
        checked_target(schema, next(iter(self._columns(Codec(schema))), ""))
        return super().training(schema, budget)

    def learn(self, session: Session, task: ImageTask, report: Progress) -> JudgedGenerator:
        """Ask for the moments, then train the judge."""
        target = task.conditions.columns[0]
        patients = patients_with_images(session, COUNTED * session.rho_left)
        moments = learn_moments(
            session, task, session.rho_left, report, coefficients=self.coefficients, parts=self.parts
        )
        every = task.conditions.every()
        cells = every[every[:, 0] < classes_of(session.codec, target)]
        judge = train_linear(session, target, moments.draw, cells, patients=patients, report=report)
        return JudgedGenerator(moments, judge, candidates=self.candidates, power=self.power)

    def noise_over_contrast(self, schema: Schema, rho: float, rows: float) -> float:
        """Return what noise adds to a drawn image, over what usual images vary by."""
        shape, paid = declared_images(schema).shape, (1 - COUNTED) * rho
        return expected_noise(shape, paid, rows, coefficients=self.coefficients, parts=self.parts)

    def items(self, schema: Schema, rho: float) -> list[PlanItem]:  # noqa: ARG002
        """Say what the moments are asked with."""
        return [PlanItem("moments of images", 3, 0, gaussian_scale(1, (1 - COUNTED) * rho), "what is drawn from")]


def _check(candidates: int, power: float, error: type[Exception]) -> None:
    if not (1 <= candidates <= 64 and 0 <= power <= 100):
        raise error(f"candidates or power: found {candidates} and {power}, expected 1 to 64 and 0 to 100.")
