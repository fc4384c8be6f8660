"""The direct baseline for images: a classifier of one outcome that is trained by DP-SGD on the patients themselves.

``linear`` is softmax regression on public features (`dpsynth.models.image.linear`), whitened with images of a moments
model (`dpsynth.models.image.moments`) that half of the budget's price pays for; the other half pays for the gradients.
``cnn`` is a small convolutional network from first weights. What they share with the one for tables stands in
`dpsynth.models.private_classifier`.

Hyperparameters are fixed. They were chosen on FashionMNIST, which is public, once and for all; choosing them anew on
private patients would cost budget that is not accounted for here.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dpsynth.coding.codec import Codec
from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.models.image.batch_reading import Reading
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.linear import ImageLikelihood, train_linear
from dpsynth.models.image.model import declared_images
from dpsynth.models.image.moments import learn_moments
from dpsynth.models.image.synthesizer import ImageTask, patients_with_images
from dpsynth.models.private_classifier import FittedClassifier, checked_target, classes_of, opened
from dpsynth.models.trainer import Trainer
from dpsynth.models.weight_average import Average
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.progress import Progress, silent

Kind = Literal["linear", "cnn"]

COUNTED = 0.02
"""Share of the questions' price for the number of patients with images."""
BATCH = 500


class PrivateImageClassifier(FittedClassifier):
    """A fitted classifier of images."""

    def __init__(self, codec: Codec, statement: dict[str, Any], target: str, network: nn.Module) -> None:
        super().__init__(codec, statement, target, network)
        self._declared = declared_images(codec.schema)
        self._reading = Reading.of(codec, Conditions.of(codec, (target,)))

    @torch.no_grad()
    def predict_proba(self, images: Cohort | NDArray[Any]) -> NDArray[np.float64]:
        """Return (images, classes) probabilities for the images of a cohort, or for pixels as its schema declares.

        Raises
        ------
        InputError
            If the images are not of the declared form.
        """
        pixels = _pixels(images)
        if pixels.shape[1:] != self._declared.shape or pixels.dtype != self._declared.dtype:
            raise InputError(
                f"images: found {pixels.dtype} of shape {pixels.shape[1:]}, expected {self._declared.dtype} of shape "
                f"{self._declared.shape}."
            )
        odds = []
        for start in range(0, len(pixels), BATCH):
            part = self._reading.images({"images": torch.from_numpy(pixels[start : start + BATCH])})
            odds.append(torch.softmax(self._network(part).double(), dim=1))
        return np.asarray(torch.cat(odds).numpy()) if odds else np.zeros((0, len(self.classes)))


def fit_image_classifier(
    cohort: Cohort,
    target: str | None = None,
    *,
    epsilon: float,
    delta: float,
    kind: Kind = "linear",
    steps: int | None = None,
    sampling_rate: float | None = None,
    ledger: str | Path | Ledger | None = None,
    label: str = "",
    seed: int | None = None,
    progress: Progress | None = None,
) -> PrivateImageClassifier:
    """Train a classifier on private images. Formal guarantee: (epsilon, delta)-DP for one patient more or less.

    Parameters
    ----------
    cohort
        The private cohort, with images; its schema must be confirmed by a person.
    target
        The outcome, boolean or with a closed list of categories; default: the schema's.
    epsilon, delta
        The whole budget.
    kind
        ``"linear"`` on public features, or ``"cnn"``.
    steps, sampling_rate
        Other than the recipe's: steps of the training, and the chance of a patient to be in a step.
    ledger, label, seed
        As for `dpsynth.fit`.
    progress
        Called with a phase and the share of it that is done.

    Raises
    ------
    InputError
        If the target is not one that can be learned, or the kind is unknown.
    BudgetExceeded, LedgerError
        If the ledger refuses; nothing was looked at.
    """
    wanted = learnable(cohort, target)
    if kind not in LEARNERS:
        raise InputError(f"kind: found {kind!r}, expected one of {', '.join(LEARNERS)}.")
    questions, usual_steps, usual_rate, learn = LEARNERS[kind]
    with opened(
        cohort,
        Budget(epsilon, delta),
        sampling_rate=usual_rate if sampling_rate is None else sampling_rate,
        steps=usual_steps if steps is None else steps,
        questions=questions,
        ledger=ledger,
        label=label,
        seed=seed,
    ) as session:
        network = learn(session, wanted, progress or silent)
        return PrivateImageClassifier(session.codec, session.statement(), wanted, network)


def learnable(cohort: Cohort, target: str | None) -> str:
    """Return the outcome, of a cohort that such a classifier can learn from.

    Raises
    ------
    InputError
        If the outcome cannot be learned, or there are no images to learn it from.
    """
    wanted = checked_target(cohort.schema, target)
    declared_images(cohort.schema)
    if cohort.images is None:
        raise InputError("images: the cohort has none; give an .npz or a folder with images.")
    return wanted


def _linear(session: Session, target: str, report: Progress) -> nn.Module:
    """Learn a moments model with the price of questions, and the weights on features whitened with its images."""
    conditions = Conditions.of(session.codec, (target,))
    task = ImageTask(conditions, declared_images(session.schema).shape)
    patients = patients_with_images(session, COUNTED * session.rho)
    moments = learn_moments(session, task, session.rho_left, report)
    cells = np.arange(classes_of(session.codec, target))[:, None]
    return train_linear(session, target, moments.draw, cells, patients=patients, report=report)


def _cnn(session: Session, target: str, report: Progress) -> nn.Module:
    """Train a small network by DP-SGD with Adam; what is kept is the running average of its weights."""
    conditions = Conditions.of(session.codec, (target,))
    patients = patients_with_images(session, session.rho_left)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = convolutions(declared_images(session.schema).shape, classes_of(session.codec, target))
    optimiser, average = torch.optim.Adam(network.parameters(), lr=3e-3), Average(network, 0.95)
    trainer = Trainer(optimiser, steps=_steps(session), average=average, report=report, every=1)
    objective = ImageLikelihood(network, Reading.of(session.codec, conditions), classes_of(session.codec, target))
    session.train(objective, trainer.update, expected=patients, records="images", state=trainer.state)
    trainer.finish()
    return network


def convolutions(shape: Sequence[int], classes: int) -> nn.Sequential:
    """Return a small network of images: two convolutions with group norms, a hidden layer."""
    sides = shape[1:]
    convolution = nn.Conv2d if len(sides) == 2 else nn.Conv3d
    return nn.Sequential(
        convolution(shape[0], 16, 4, stride=2, padding=1),
        nn.GroupNorm(4, 16),
        nn.SiLU(),
        convolution(16, 32, 4, stride=2, padding=1),
        nn.GroupNorm(4, 32),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(32 * math.prod(side // 4 for side in sides), 32),
        nn.SiLU(),
        nn.Linear(32, classes),
    )


LEARNERS: dict[str, tuple[float, int, float, Callable[[Session, str, Progress], nn.Module]]] = {
    "linear": (0.5, 60, 0.15, _linear),
    "cnn": (0.02, 150, 0.03, _cnn),
}
"""For each kind the share of questions, steps, sampling rate, and how it learns."""


def _steps(session: Session) -> int:
    plan = session.training
    assert plan is not None  # noqa: S101  (the session was opened with one)
    return plan.steps


def _pixels(images: Cohort | NDArray[Any]) -> NDArray[Any]:
    if not isinstance(images, Cohort):
        return images
    if images.images is None:
        raise InputError("images: the cohort has none.")
    return images.images.pixels
