"""Diffusion: a denoiser that begins where noisy moments end, trained on the patients by DP-SGD.

The budget buys three things, in this order: the table and the moments of the images (`dpsynth.models.image.moments`),
then noisy gradients. The denoiser of the moments is known exactly (`dpsynth.models.image.denoiser.prior`), and the
network learns what to add to it: gradients are spent on what moments cannot say. (DP-FETA, Gong et al. 2025, warms a
network up on noisy mean images; here the warm-up takes no time.) With ``warmup="embedding"`` the network is first
trained on samples of a generator that was fitted to mean embeddings, as many as one likes. Loss and sampler have
modules of their own (`dpsynth.models.image.denoiser.loss`, `dpsynth.models.image.denoiser.sampler`).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import nn

from dpsynth.errors import InputError
from dpsynth.models.base import Model, Progress
from dpsynth.models.image import mean_embedding
from dpsynth.models.image.batch_reading import Reading
from dpsynth.models.image.denoiser.autoencoder import Autoencoder
from dpsynth.models.image.denoiser.loss import SCHEDULES, DenoisingLoss
from dpsynth.models.image.denoiser.network import Denoiser
from dpsynth.models.image.denoiser.prior import MixturePrior
from dpsynth.models.image.denoiser.sampler import DiffusionGenerator, DiffusionModel
from dpsynth.models.image.denoiser.warmup import Draw, grey, trained, usual_norm, warmed
from dpsynth.models.image.generators import NetworkGenerator, fresh, load_weights
from dpsynth.models.image.model import declared_images
from dpsynth.models.image.moments import expected_noise, learn_moments
from dpsynth.models.image.synthesizer import ImageTask, TrainedImageSynthesizer, patients_with_images
from dpsynth.models.plan import PlanItem
from dpsynth.models.trainer import Schedule, Trainer
from dpsynth.models.weight_average import Average
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import gaussian_scale
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.schema.schema import Schema

WARMUPS = ("moments", "embedding", "none")
COUNT = 0.02
"""Share of the price of image questions for the number of patients, by which gradients are divided."""
FEATURES = 2000
"""Random features of mean embeddings."""


@dataclass(frozen=True, kw_only=True)
class Diffusion(TrainedImageSynthesizer):
    """A denoising network on top of noisy moments, trained by DP-SGD.

    Parameters
    ----------
    conditions, table, questions, sampling_rate, steps, microbatch
        As for every image synthesizer that trains a network.
    warmup : str, default "moments"
        ``"moments"``: add to the exact denoiser of noisy moments; ``"embedding"``: train on samples of the
        mean-embedding model first; ``"none"``.
    warmup_steps : int, default 1500
        Steps of ``"embedding"``, of 128 samples each; they cost time alone.
    levels : int, default 1
        Noise levels a patient and step.
    schedule : str, default "edm"
        How noise levels are drawn: ``"edm"``, log-normal; ``"v"``, those of v-prediction with the cosine schedule.
    learning_rate : float, default 0.003
        Of the private training (Adam); it rises over ten steps and falls to a tenth.
    ema : float, default 0.9
        Weight of the past in the average of weights that is sampled from, each private step.
    widths : str, default "16,32"
        Channels of each level of the network, separated by commas.
    guidance, sampling_steps
        Of the sampler.
    pretrained, declaration : str, default "", ""
        Folder of a denoiser that was trained on *public* images and written by `save_pretrained`, and what those images
        were, which the privacy statement repeats. It takes the place of the first weights.
    autoencoder : str, default ""
        Folder of diffusers' `AutoencoderKL`, trained on *public* images, which ``declaration`` says, too. The network
        is then one of its latents; moments are a warm-up by samples, of ``warmup_steps``.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> schema = Schema.parse(
    ...     "{name: scans, target: label, images: {size: [8, 8]},"
    ...     " columns: {label: {type: categorical, values: [cat, dog]}}}"
    ... )
    >>> plan = Diffusion(steps=60).plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> [item.what for item in plan.items]
    ['columns of the table', 'moments of images', 'noisy gradients']
    """

    name: ClassVar[str] = "diffusion"
    summary: ClassVar[str] = "images: a denoising network on top of moments, trained by DP-SGD; minutes"
    citation: ClassVar[str] = "Dockhorn et al. (2023), Karras et al. (2022); prior: dpsynth.models.image.diffusion"
    produces: ClassVar[type[Model]] = DiffusionModel
    folders: ClassVar[frozenset[str]] = frozenset({"pretrained", "autoencoder"})
    seconds: ClassVar[tuple[float, float]] = (1200.0, 0.0)

    questions: float = 0.5
    sampling_rate: float = 0.033
    steps: int = 120
    microbatch: int = 64
    warmup: str = "moments"
    warmup_steps: int = 1500
    levels: int = 1
    schedule: str = "edm"
    learning_rate: float = 3e-3
    ema: float = 0.9
    widths: str = "16,32"
    guidance: float = 0.0
    sampling_steps: int = 12
    pretrained: str = ""
    declaration: str = ""
    autoencoder: str = ""

    def __post_init__(self) -> None:
        """Refuse options that cannot be, with `InputError`."""
        super().__post_init__()
        if self.warmup not in WARMUPS:
            raise InputError(f"warmup: found {self.warmup!r}, expected one of {', '.join(WARMUPS)}.")
        if self.schedule not in SCHEDULES:
            raise InputError(f"schedule: found {self.schedule!r}, expected one of {', '.join(SCHEDULES)}.")
        if (self.pretrained or self.autoencoder) and not self.declaration.strip():
            what = "pretrained weights are" if self.pretrained else "autoencoder is"
            raise InputError(f"declaration: say what public images the {what} from; the release says it.")
        _read_widths(self.widths)

    def training(self, schema: Schema, budget: Budget) -> TrainingPlan | None:
        """Return the plan of the training; an autoencoder that does not fit is refused before a patient is seen."""
        self._public(declared_images(schema).shape)
        return super().training(schema, budget)

    def learn(self, session: Session, task: ImageTask, report: Progress) -> DiffusionGenerator:
        """Ask for the number of patients and for what the network begins with, train, and return the average."""
        share = COUNT if self.warmup != "none" else 1.0
        expected = patients_with_images(session, share * session.rho_left)
        public = self._public(task.shape)
        self._read.clear()
        denoiser, draws = self._begun(session, task, public, report)
        if session.training is None:
            return self._generator(denoiser, public)
        reading = Reading.of(session.codec, task.conditions)
        objective = DenoisingLoss(denoiser, reading, levels=self.levels, schedule=self.schedule, autoencoder=public)
        objective.weight = 1 / usual_norm(objective, draws, task.conditions.every(), len(session.codec.columns))
        self._train(session, objective, expected, report)
        return self._generator(trained(objective), public)

    def _generator(self, denoiser: Denoiser, public: Autoencoder | None) -> DiffusionGenerator:
        return DiffusionGenerator(denoiser, steps=self.sampling_steps, guidance=self.guidance, autoencoder=public)

    def _public(self, shape: tuple[int, ...]) -> Autoencoder | None:
        """Return the autoencoder, read once for the check of a fit and the fit itself."""
        if not self.autoencoder:
            return None
        if shape not in self._read:
            self._read[shape] = Autoencoder.read(self.autoencoder, shape)
        return self._read[shape]

    @cached_property
    def _read(self) -> dict[tuple[int, ...], Autoencoder]:
        """Autoencoders that the check of a fit has read, by the shape of images; the fit takes them out."""
        return {}

    @cached_property
    def _channels(self) -> tuple[int, ...]:
        """Channels of each level of the network."""
        return _read_widths(self.widths)

    def statement(self, session: Session) -> dict[str, Any]:
        """Return the privacy statement, with what the pretrained weights are declared to be from."""
        statement = super().statement(session)
        declared = self.declaration.strip().rstrip(".")
        for folder, what in ((self.pretrained, "weights to begin with"), (self.autoencoder, "autoencoder")):
            if folder:
                statement["not_protected"].append(f"The images of the {what}, taken as public. Declared: {declared}.")
        return statement

    def noise_over_contrast(self, schema: Schema, rho: float, rows: float) -> float | None:
        """Return what noise adds to an image of the moments that the network begins with."""
        if self.warmup != "moments":
            return None
        return expected_noise(declared_images(schema).shape, (1 - COUNT) * rho, rows)

    def items(self, schema: Schema, rho: float) -> list[PlanItem]:
        """Say what the moments are asked with."""
        del schema
        if self.warmup == "none":
            return []
        what, questions = ("moments of images", 3) if self.warmup == "moments" else ("mean embeddings of images", 2)
        return [PlanItem(what, questions, 0, gaussian_scale(1, rho), "what the network begins with")]

    def _begun(
        self, session: Session, task: ImageTask, public: Autoencoder | None, report: Progress
    ) -> tuple[Denoiser, Draw]:
        """Return the network before it sees a patient, and what draws images like theirs, as far as is known."""
        draw: Draw
        if self.warmup == "none":
            return self._first(task, public), grey(task.shape)
        if self.warmup == "moments":
            moments = learn_moments(session, task, session.rho_left, report)
            draw = moments.draw
            if public is None:
                denoiser = self._first(task, public, len(moments.basis), moments.mixture.weights.shape[1])
                assert denoiser.prior is not None  # noqa: S101  (it has coefficients)
                denoiser.prior = MixturePrior.of(moments)
                return denoiser, draw
        else:
            embedding = mean_embedding.ask(session, task, session.rho_left, FEATURES, report)
            network = fresh(task.shape, task.conditions.sizes)
            mean_embedding.fit(network, task.conditions, embedding, self.warmup_steps, report)
            draw = NetworkGenerator(network).draw
        first, cells, steps = self._first(task, public), task.conditions.every(), self.warmup_steps
        return warmed(first, draw, cells, steps, report, schedule=self.schedule, autoencoder=public), draw

    def _first(self, task: ImageTask, public: Autoencoder | None, coefficients: int = 0, parts: int = 1) -> Denoiser:
        """Return the network to begin with: fresh, or with weights from public images."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            shape, data = (task.shape, 0.5) if public is None else (public.shape, 1.0)
            denoiser: Denoiser = Denoiser(shape, task.conditions.sizes, self._channels, data, coefficients, parts=parts)
        if not self.pretrained:
            return denoiser
        pretrained: nn.Module = Denoiser.from_pretrained(self.pretrained, use_safetensors=True)
        try:
            load_weights(denoiser, _weights(denoiser, of_schema=True) | _weights(pretrained, of_schema=False))
        except ValueError as error:
            raise InputError(
                f"pretrained: the weights do not fit this network ({error}). Widths and channels have to be the same, "
                "and a network that was trained without moments goes with warmup 'none' or 'embedding'."
            ) from None
        return denoiser

    def _train(self, session: Session, objective: DenoisingLoss, expected: float, report: Progress) -> None:
        """Train the denoiser, and leave it with the average of its weights."""
        plan = session.training
        assert plan is not None  # noqa: S101  (the caller has looked)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        objective.to(device).train()
        optimiser = torch.optim.Adam(objective.denoiser.parameters(), lr=self.learning_rate, betas=(0.9, 0.99))
        trainer = Trainer(
            optimiser,
            steps=plan.steps,
            schedule=Schedule("line", rise=10),
            average=Average(objective.denoiser, self.ema, first=0, span=5),
            report=report,
            phase="private training",
            every=1,
        )
        session.train(
            objective, trainer.update, expected=expected, records="images", backend="vmap", state=trainer.state
        )
        trainer.finish()


def _weights(network: nn.Module, *, of_schema: bool) -> dict[str, NDArray[Any]]:
    """Return weights by name: those that belong to a schema and its patients, or the others."""
    names = {name for name in network.state_dict() if "class_embedding" in name or name.startswith("prior.")}
    return {name: value.numpy() for name, value in network.state_dict().items() if (name in names) is of_schema}


def _read_widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in str(text).split(","))
    except ValueError:
        widths = ()
    if not widths or any(width < 8 or width % 8 for width in widths) or len(widths) > math.log2(4096):
        raise InputError(f"widths: found {text!r}, expected multiples of 8 separated by commas, such as 16,32.")
    return widths
