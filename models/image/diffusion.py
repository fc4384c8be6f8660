"""Diffusion: a denoiser that begins where noisy moments end, trained on the patients by DP-SGD.

The budget buys three things, in this order: the table and the moments of the images (`dpsynth.models.image.moments`),
then noisy gradients. The denoiser of the moments is known exactly (`dpsynth.models.image.prior`), and the network
learns what to add to it: gradients are spent on what moments cannot say. (DP-FETA, Gong et al. 2025, warms a network up
on noisy mean images; here the warm-up takes no time.) With ``warmup="embedding"`` the network is first trained on
samples of a generator that was fitted to mean embeddings, as many as one likes. Loss, noise levels and sampler are
those of EDM (Karras et al. 2022); as in DPDM (Dockhorn et al. 2023) each patient's loss is the mean over several noise
levels, taken before clipping.
"""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpsynth.codec import Codec
from dpsynth.errors import InputError
from dpsynth.models.base import PlanItem, Progress
from dpsynth.models.image import mean_embedding
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.generators import NetworkGenerator, fresh, load_weights
from dpsynth.models.image.latent import Autoencoder
from dpsynth.models.image.model import Floats32, Generator, ImageModel, Parts, declared_images
from dpsynth.models.image.moments import learn_moments
from dpsynth.models.image.networks import Denoiser
from dpsynth.models.image.prior import GaussianPrior
from dpsynth.models.image.synthesizer import Known, TrainedImageSynthesizer
from dpsynth.privacy.accounting import gaussian_scale
from dpsynth.privacy.budget import Budget
from dpsynth.privacy.counting import Query
from dpsynth.privacy.dpsgd import Objective
from dpsynth.privacy.per_patient import Batch, vmapped
from dpsynth.privacy.session import Session
from dpsynth.privacy.training import TrainingPlan
from dpsynth.schema import Schema

Draw = Callable[[NDArray[np.int64], np.random.Generator], Floats32]
WARMUPS = ("moments", "embedding", "none")
SCHEDULES = ("edm", "v")

COUNT = 0.02
"""Share of the price of image questions for the number of patients, by which gradients are divided."""
P_MEAN, P_STD = -0.6, 1.2
"""Of the logarithm of noise levels; above EDM's -1.2: the prior knows what is left at the lowest levels."""
LOWEST, HIGHEST = 0.002, 80.0
"""Noise levels that the schedule of v-prediction keeps to: EDM's range."""
DROPOUT = 0.1
"""Chance that a condition is not said in training, for guidance (Ho & Salimans 2022)."""
FEATURES = 2000
"""Random features of mean embeddings."""
PROBE = 128
ENCODED = "autoencoder."
"""What the names of an autoencoder's weights begin with in a file."""
BLOCK = 500


class DenoisingLoss(Objective):
    """The EDM loss of a denoiser, the mean over a patient's images and noise levels.

    It is that of v-prediction (Salimans & Ho 2022), too. With ``tan(a) = sigma / sigma_data`` and ``x`` in units of
    ``sigma_data``, the preconditioned network is to say ``sin(a) x - cos(a) n = -v`` of ``z = cos(a) x + sin(a) n``,
    and the weight of the loss makes it the square of what is wrong with this. Schedules differ in the levels alone.

    Parameters
    ----------
    denoiser
        What is trained.
    columns
        Places of the conditions among the codes of a record.
    levels
        Noise levels a patient and step.
    scale
        The public range of a pixel.
    weight
        Factor of the loss: chosen so that a usual gradient has norm 1.
    schedule
        How noise levels are drawn, see `noise_levels`.
    autoencoder
        Makes the latents of images that the denoiser is of; else it is of pixels.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        columns: list[int],
        *,
        levels: int,
        scale: tuple[float, float],
        weight: float = 1.0,
        schedule: str = "edm",
        autoencoder: Autoencoder | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.columns = columns
        self.levels = levels
        self.scale = scale
        self.weight = weight
        self.schedule = schedule
        self.autoencoder = autoencoder

    def prepare(self, batch: Batch) -> Batch:
        """Return pixels in [-1, 1] and codes of the conditions."""
        low, high = self.scale
        pixels = (batch["images"].float() - low) * (2 / (high - low)) - 1
        return {"x": pixels.clamp(-1, 1), "codes": batch["codes"][..., self.columns], "weights": batch["weights"]}

    def randomness(self, patients: int, generator: torch.Generator) -> Batch:
        """Return noise levels, noise, and which conditions are not said; the images of a patient share them."""
        return {
            "sigma": noise_levels(self.schedule, (patients, self.levels), self.denoiser.sigma_data, generator),
            "noise": torch.randn((patients, self.levels, *self.denoiser.shape), generator=generator),
            "said": torch.rand((patients, self.levels), generator=generator) >= DROPOUT,
        }

    def forward(self, batch: Batch) -> Tensor:
        """Return (patients,) losses."""
        x, codes = batch["x"], batch["codes"]
        patients, records = x.shape[:2]
        if self.autoencoder is not None:  # here rather than in `prepare`: batches of other sizes round otherwise
            x = self.autoencoder.encode(x.flatten(0, 1)).reshape(patients, records, *self.denoiser.shape)
        spread = (patients, records, self.levels)
        clean = x.unsqueeze(2).expand(*spread, *self.denoiser.shape).flatten(0, 2)
        sigma = batch["sigma"].unsqueeze(1).expand(spread).flatten()
        noise = batch["noise"].unsqueeze(1).expand(*spread, *self.denoiser.shape).flatten(0, 2)
        unsaid = torch.tensor(self.denoiser.sizes, dtype=codes.dtype, device=codes.device)
        said = batch["said"].unsqueeze(1).expand(spread).flatten()[:, None]
        given = torch.where(said, codes.unsqueeze(2).expand(*spread, codes.shape[-1]).flatten(0, 2), unsaid)
        level = sigma.reshape(-1, *[1] * len(self.denoiser.shape))
        found = self.denoiser(clean + level * noise, sigma, given)
        data = self.denoiser.sigma_data
        each = (found - clean).square().flatten(1).mean(1) * (sigma**2 + data**2) / (sigma * data) ** 2
        mean: Tensor = (each.reshape(spread).mean(2) * batch["weights"]).sum(1)
        return self.weight * mean


def noise_levels(schedule: str, shape: tuple[int, ...], data: float, generator: torch.Generator) -> Tensor:
    """Return noise levels: log-normal ones for ``edm``, for ``v`` those of uniform times of the cosine schedule.

    Parameters
    ----------
    schedule
        ``"edm"`` or ``"v"``.
    shape
        Of the levels.
    data
        Standard deviation of pixels: the level at half the time of the cosine schedule.
    generator
        Draws them.
    """
    if schedule == "edm":
        return (P_STD * torch.randn(shape, generator=generator) + P_MEAN).exp()
    first, last = (2 / math.pi * math.atan(level / data) for level in (LOWEST, HIGHEST))
    times = torch.rand(shape, generator=generator).clamp(first, last)
    return data * (math.pi / 2 * times).tan()


class DiffusionGenerator:
    """Draws images by solving the probability flow of a denoiser.

    Parameters
    ----------
    denoiser
        The averaged network.
    steps
        Steps of the solver.
    guidance
        How far to go beyond the conditional prediction, away from the unconditional one; 0 is plain sampling.
    autoencoder
        Decodes latents, when the denoiser is of latents.
    """

    def __init__(
        self, denoiser: Denoiser, *, steps: int = 18, guidance: float = 0.0, autoencoder: Autoencoder | None = None
    ) -> None:
        self.denoiser = denoiser
        self.autoencoder = autoencoder
        self.steps = steps
        self.guidance = guidance

    @torch.no_grad()
    def draw(self, codes: NDArray[np.int64], rng: np.random.Generator) -> Floats32:
        """Return images in [0, 1]."""
        self.denoiser.eval()
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        if not len(codes):
            shape = self.denoiser.shape if self.autoencoder is None else self.autoencoder.image_shape
            return np.zeros((0, *shape), np.float32)
        parts = [self._solved(part, generator) for part in torch.split(torch.from_numpy(codes), BLOCK)]
        if self.autoencoder is not None:
            parts = [self.autoencoder.cpu().decode(part) for part in parts]
        found: Floats32 = (torch.cat(parts).clamp(-1, 1) * 0.5 + 0.5).numpy()
        return found

    def _solved(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        from diffusers import EDMDPMSolverMultistepScheduler

        scheduler = EDMDPMSolverMultistepScheduler(sigma_data=self.denoiser.sigma_data, sigma_max=20.0)
        scheduler.set_timesteps(self.steps)
        device = next(self.denoiser.parameters()).device
        codes = codes.to(device)
        x = torch.randn((len(codes), *self.denoiser.shape), generator=generator).to(device) * scheduler.init_noise_sigma
        for step, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            found = self._clean(x, sigma.to(device).expand(len(codes)), codes)
            # the scheduler preconditions by itself: it takes the network's raw output, which we recover
            data, total = self.denoiser.sigma_data, (sigma**2 + self.denoiser.sigma_data**2).sqrt()
            raw = (found - (data / total) ** 2 * x) / (sigma * data / total)
            x = scheduler.step(raw, step, x).prev_sample
        final: Tensor = x.cpu()
        return final

    def _clean(self, x: Tensor, sigma: Tensor, codes: Tensor) -> Tensor:
        found: Tensor = self.denoiser(x, sigma, codes)
        if self.guidance == 0:
            return found
        unsaid = torch.tensor(self.denoiser.sizes, dtype=codes.dtype, device=codes.device).expand_as(codes)
        apart: Tensor = found - self.denoiser(x, sigma, unsaid)
        return found + self.guidance * apart

    def save_pretrained(self, folder: str | Path) -> None:
        """Write denoiser, scheduler and autoencoder in the form of diffusers, each to a folder of its own."""
        from diffusers import EDMDPMSolverMultistepScheduler

        self.denoiser.save_pretrained(Path(folder) / "denoiser")
        scheduler = EDMDPMSolverMultistepScheduler(sigma_data=self.denoiser.sigma_data, sigma_max=20.0)
        scheduler.save_pretrained(Path(folder) / "scheduler")
        if self.autoencoder is not None:
            self.autoencoder.save_pretrained(Path(folder) / "vae")

    def to_parts(self) -> Parts:
        """Return the weights as arrays."""
        config: dict[str, Any] = {
            "widths": list(self.denoiser.config["widths"]),
            "sigma_data": self.denoiser.sigma_data,
            "coefficients": int(self.denoiser.config["coefficients"]),
            "steps": self.steps,
            "guidance": self.guidance,
        }
        arrays = {name: value.cpu().numpy() for name, value in self.denoiser.state_dict().items()}
        if self.autoencoder is not None:
            config["autoencoder"], weights = self.autoencoder.to_parts()
            arrays |= {f"{ENCODED}{name}": value for name, value in weights.items()}
        return config, arrays

    @classmethod
    def from_parts(
        cls, shape: tuple[int, ...], conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Self:
        """Check the parts and build the generator."""
        widths = tuple(int(width) for width in config["widths"])
        steps, guidance, data = int(config["steps"]), float(config["guidance"]), float(config["sigma_data"])
        coefficients = int(config["coefficients"])
        if not 0 <= coefficients <= 1024:
            raise ValueError("coefficients out of range")
        if not 1 <= len(widths) <= 5 or not all(8 <= width <= 1024 and width % 8 == 0 for width in widths):
            raise ValueError("widths out of range")
        if not 1 <= steps <= 1000 or not 0 <= guidance <= 20 or not 0 < data < 10:
            raise ValueError("steps, guidance or sigma_data out of range")
        autoencoder = None
        if "autoencoder" in config:
            weights = {name.removeprefix(ENCODED): a for name, a in arrays.items() if name.startswith(ENCODED)}
            arrays = {name: value for name, value in arrays.items() if not name.startswith(ENCODED)}
            autoencoder = Autoencoder.from_parts(shape, config["autoencoder"], weights)
            shape = autoencoder.shape
        denoiser = Denoiser(shape, conditions.sizes, widths, data, coefficients)
        load_weights(denoiser, arrays)
        return cls(denoiser, steps=steps, guidance=guidance, autoencoder=autoencoder)


class DiffusionModel(ImageModel):
    """A table and a denoiser."""

    kind: ClassVar[str] = "image-diffusion"

    @classmethod
    def read_generator(
        cls, codec: Codec, conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Generator:
        """Build the generator from its parts."""
        return DiffusionGenerator.from_parts(declared_images(codec.schema).shape, conditions, config, arrays)


class Diffusion(TrainedImageSynthesizer):
    """A denoising network on top of noisy moments, trained by DP-SGD.

    Parameters
    ----------
    conditions, table, questions, sampling_rate, steps, microbatch
        As for every image synthesizer that trains a network.
    warmup
        ``"moments"``: add to the exact denoiser of noisy moments; ``"embedding"``: train on samples of the
        mean-embedding model first; ``"none"``.
    warmup_steps
        Steps of ``"embedding"``, of 128 samples each; they cost time alone.
    levels
        Noise levels a patient and step.
    schedule
        How noise levels are drawn: ``"edm"``, log-normal; ``"v"``, those of v-prediction with the cosine schedule.
    learning_rate
        Of the private training (Adam); it rises over ten steps and falls to a tenth.
    ema
        Weight of the past in the average of weights that is sampled from, each private step.
    widths
        Channels of each level of the network, apart by commas.
    guidance, sampling_steps
        Of the sampler.
    pretrained, declaration
        Folder of a denoiser that was trained on *public* images and written by `save_pretrained`, and what those images
        were, which the privacy statement repeats. It takes the place of the first weights.
    autoencoder
        Folder of diffusers' `AutoencoderKL`, trained on *public* images, which ``declaration`` says, too. The network
        is then one of its latents; moments are a warm-up by samples, of ``warmup_steps``.
    """

    name: ClassVar[str] = "diffusion"
    summary: ClassVar[str] = "images: a denoising network on top of moments, trained by DP-SGD; minutes"
    citation: ClassVar[str] = "Dockhorn et al. (2023), Karras et al. (2022); prior: dpsynth.models.image.diffusion"
    produces = DiffusionModel
    seconds: ClassVar[tuple[float, float]] = (1200.0, 0.0)

    def __init__(
        self,
        *,
        conditions: str = "",
        table: float | None = None,
        questions: float = 0.5,
        sampling_rate: float = 0.033,
        steps: int = 120,
        microbatch: int = 64,
        warmup: str = "moments",
        warmup_steps: int = 1500,
        levels: int = 1,
        schedule: str = "edm",
        learning_rate: float = 3e-3,
        ema: float = 0.9,
        widths: str = "16,32",
        guidance: float = 0.0,
        sampling_steps: int = 12,
        pretrained: str = "",
        declaration: str = "",
        autoencoder: str = "",
    ) -> None:
        super().__init__(
            conditions=conditions,
            table=table,
            questions=questions,
            sampling_rate=sampling_rate,
            steps=steps,
            microbatch=microbatch,
        )
        if warmup not in WARMUPS:
            raise InputError(f"warmup: found {warmup!r}, expected one of {', '.join(WARMUPS)}.")
        if schedule not in SCHEDULES:
            raise InputError(f"schedule: found {schedule!r}, expected one of {', '.join(SCHEDULES)}.")
        if (pretrained or autoencoder) and not declaration.strip():
            what = "pretrained weights are" if pretrained else "autoencoder is"
            raise InputError(f"declaration: say what public images the {what} from; the release says it.")
        self.warmup, self.warmup_steps, self.levels = warmup, warmup_steps, levels
        self.schedule = schedule
        self.learning_rate, self.ema, self.widths = learning_rate, ema, widths
        self.guidance, self.sampling_steps = guidance, sampling_steps
        self.pretrained, self.declaration = pretrained, declaration
        self.autoencoder = autoencoder
        self._widths = _read_widths(widths)

    def training(self, schema: Schema, budget: Budget) -> TrainingPlan | None:
        """Return the plan of the training; an autoencoder that does not fit is refused before a patient is seen."""
        self._public(declared_images(schema).shape)
        return super().training(schema, budget)

    def learn(self, session: Session, known: Known, report: Progress) -> DiffusionGenerator:
        """Ask for the number of patients and for what the network begins with, train, and return the average."""
        declared = declared_images(session.schema)
        share = COUNT if self.warmup != "none" else 1.0
        expected = max(1.0, float(session.image_counts(Query((), ()), share * session.rho_left)[0]))
        public = self._public(known.shape)
        denoiser, draws = self._begun(session, known, public, report)
        columns = [list(session.codec.columns).index(name) for name in known.conditions.columns]
        if session.training is None:
            return self._generator(denoiser, public)
        objective = DenoisingLoss(
            denoiser, columns, levels=self.levels, scale=declared.range, schedule=self.schedule, autoencoder=public
        )
        objective.weight = 1 / usual_norm(objective, draws, known.conditions.every(), len(session.codec.columns))
        average = self._train(session, objective, expected, report)
        return self._generator(average, public)

    def _generator(self, denoiser: Denoiser, public: Autoencoder | None) -> DiffusionGenerator:
        return DiffusionGenerator(denoiser, steps=self.sampling_steps, guidance=self.guidance, autoencoder=public)

    def _public(self, shape: tuple[int, ...]) -> Autoencoder | None:
        return Autoencoder.read(self.autoencoder, shape) if self.autoencoder else None

    def statement(self, session: Session) -> dict[str, Any]:
        """Return the privacy statement, with what the pretrained weights are declared to be from."""
        found = super().statement(session)
        said = self.declaration.strip().rstrip(".")
        for folder, what in ((self.pretrained, "weights to begin with"), (self.autoencoder, "autoencoder")):
            if folder:
                found["not_protected"].append(f"The images of the {what}, taken as public. Declared: {said}.")
        return found

    def items(self, schema: Schema, rho: float) -> list[PlanItem]:
        """Say what the moments are asked with."""
        del schema
        if self.warmup == "none":
            return []
        what, questions = ("moments of images", 3) if self.warmup == "moments" else ("mean embeddings of images", 2)
        return [PlanItem(what, questions, 0, gaussian_scale(1, rho), "what the network begins with")]

    def _begun(
        self, session: Session, known: Known, public: Autoencoder | None, report: Progress
    ) -> tuple[Denoiser, Draw]:
        """Return the network before it sees a patient, and what draws images like theirs, as far as is known."""
        draw: Draw
        if self.warmup == "none":
            return self._first(known, public), _grey(known.shape)
        if self.warmup == "moments":
            moments = learn_moments(session, known, session.rho_left, report)
            draw = moments.draw
            if public is None:
                denoiser = self._first(known, public, len(moments.basis))
                assert denoiser.prior is not None  # noqa: S101  (it has coefficients)
                denoiser.prior = GaussianPrior.of(moments)
                return denoiser, draw
        else:
            paid = mean_embedding.ask(session, known, session.rho_left, FEATURES, report)
            network = fresh(known.shape, known.conditions.sizes)
            mean_embedding.fit(network, known.conditions, paid, self.warmup_steps, report)
            draw = NetworkGenerator(network).draw
        first, cells, steps = self._first(known, public), known.conditions.every(), self.warmup_steps
        return warmed(first, draw, cells, steps, report, schedule=self.schedule, autoencoder=public), draw

    def _first(self, known: Known, public: Autoencoder | None, coefficients: int = 0) -> Denoiser:
        """Return the network to begin with: fresh, or with weights from public images."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            shape, data = (known.shape, 0.5) if public is None else (public.shape, 1.0)
            first: Denoiser = Denoiser(shape, known.conditions.sizes, self._widths, data, coefficients)
        if not self.pretrained:
            return first
        begun: nn.Module = Denoiser.from_pretrained(self.pretrained, use_safetensors=True)
        try:
            load_weights(first, _weights(first, of_schema=True) | _weights(begun, of_schema=False))
        except ValueError as error:
            raise InputError(
                f"pretrained: the weights do not fit this network ({error}). Widths and channels have to be the same, "
                "and a network that was trained without moments goes with warmup 'none' or 'embedding'."
            ) from None
        return first

    def _train(self, session: Session, objective: DenoisingLoss, expected: float, report: Progress) -> Denoiser:
        plan = session.training
        assert plan is not None  # noqa: S101  (the caller has looked)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        objective.to(device).train()
        optimiser = torch.optim.Adam(objective.denoiser.parameters(), lr=self.learning_rate, betas=(0.9, 0.99))
        average = copy.deepcopy(objective.denoiser)

        def update(step: int) -> None:
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate * min(1.0, (step + 1) / 10) * (1 - 0.9 * step / plan.steps)
            optimiser.step()
            blend(average, objective.denoiser, min(self.ema, step / (step + 5)))
            report("private training", (step + 1) / plan.steps)

        state = {"optimiser": optimiser, "average": average}
        session.train(objective, update, expected=expected, records="images", backend="vmap", state=state)
        return trained(average)


def warmed(
    denoiser: Denoiser,
    draw: Draw,
    cells: NDArray[np.int64],
    steps: int,
    report: Progress,
    *,
    batch: int = 128,
    learning_rate: float = 2e-3,
    schedule: str = "edm",
    autoencoder: Autoencoder | None = None,
) -> Denoiser:
    """Train a denoiser on samples of a public model, without privacy and without cost; return its averaged weights.

    Parameters
    ----------
    denoiser
        What is trained.
    draw
        Gives images in [0, 1] for codes of the conditions.
    cells
        (combinations, conditions) codes to draw from, evenly.
    steps, batch, learning_rate
        Of Adam; the rate falls to a tenth.
    report
        Told of progress.
    schedule, autoencoder
        As for `DenoisingLoss`.
    """
    rng, generator = np.random.default_rng(8), torch.Generator().manual_seed(8)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    columns = list(range(cells.shape[1]))
    loss = DenoisingLoss(denoiser, columns, levels=1, scale=(0.0, 1.0), schedule=schedule, autoencoder=autoencoder)
    loss.to(device).train()
    optimiser, average = torch.optim.Adam(denoiser.parameters(), lr=learning_rate), copy.deepcopy(denoiser)
    for step in range(steps):
        codes = cells[rng.integers(len(cells), size=batch)]
        ready = loss.prepare(as_batch(draw(codes, rng), codes)) | loss.randomness(batch, generator)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 50) * (1 - 0.9 * step / steps)
        optimiser.zero_grad()
        loss({name: value.to(device) for name, value in ready.items()}).mean().backward()
        optimiser.step()
        blend(average, denoiser, min(0.98, step / (step + 10)))
        report("warming up on samples", (step + 1) / steps)
    loss.cpu()
    return trained(average)


def trained(denoiser: Denoiser) -> Denoiser:
    """Return a network where files are written from."""
    found: Denoiser = denoiser.cpu()
    return found


def usual_norm(
    objective: DenoisingLoss,
    draw: Draw,
    cells: NDArray[np.int64],
    columns: int,
) -> float:
    """Return the median norm of per-patient gradients on samples of a public model: what to clip to, for free."""
    rng = np.random.default_rng(9)
    codes = cells[rng.integers(len(cells), size=PROBE)]
    wide = np.zeros((PROBE, columns), np.int64)
    wide[:, objective.columns] = codes
    low, high = objective.scale
    example = as_batch(low + (high - low) * draw(codes, rng), wide)
    ready = objective.prepare(example) | objective.randomness(PROBE, torch.Generator().manual_seed(9))
    squares = torch.stack([part.squares() for part in vmapped(objective, ready)]).sum(0)
    return max(float(squares.sqrt().median()), 1e-12)


def as_batch(images: NDArray[Any], codes: NDArray[np.int64]) -> Batch:
    """Return made-up patients with one image each, as the kernel gives real ones."""
    return {
        "images": torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))[:, None],
        "codes": torch.from_numpy(codes)[:, None],
        "weights": torch.ones((len(codes), 1)),
    }


@torch.no_grad()
def blend(average: torch.nn.Module, network: torch.nn.Module, past: float) -> None:
    """Move an average of weights toward a network's."""
    for mean, now in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(now.detach().to(mean.device), 1 - past)


def _weights(network: nn.Module, *, of_schema: bool) -> dict[str, NDArray[Any]]:
    """Return weights by name: those that belong to a schema and its patients, or the others."""
    names = {name for name in network.state_dict() if "class_embedding" in name or name.startswith("prior.")}
    return {name: value.numpy() for name, value in network.state_dict().items() if (name in names) is of_schema}


def _grey(shape: tuple[int, ...]) -> Draw:
    """Return a public stand-in for images where there is no warm-up: smooth noise around grey."""

    def draw(codes: NDArray[np.int64], rng: np.random.Generator) -> Floats32:
        return np.clip(rng.normal(0.5, 0.25, (len(codes), *shape)), 0, 1).astype(np.float32)

    return draw


def _read_widths(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in str(text).split(","))
    except ValueError:
        found = ()
    if not found or any(width < 8 or width % 8 for width in found) or len(found) > math.log2(4096):
        raise InputError(f"widths: found {text!r}, expected multiples of 8 apart by commas, such as 16,32.")
    return found
