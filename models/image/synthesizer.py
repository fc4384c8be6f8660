"""What image synthesizers share: the table, the conditions, the numbers of images, and how the budget is divided."""

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.errors import InputError
from dpsynth.models.base import MEAN_IMAGE, NOISE_OVER_CONTRAST, Progress, Synthesizer
from dpsynth.models.image.budget_share import Portion
from dpsynth.models.image.conditions import Conditions, default_columns
from dpsynth.models.image.model import ImageGenerator, ImageModel, chances, declared_images
from dpsynth.models.plan import Plan, PlanItem
from dpsynth.models.tabular.independent import Independent
from dpsynth.models.tabular.marginals.model import MarginalModel
from dpsynth.models.tabular.marginals.planning import even_one_way, one_way_error, public_codec
from dpsynth.models.tabular.prism import Prism
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.accounting import rho_for
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import gaussian_scale
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.tables.discovery import delta_for_discovery
from dpsynth.progress import silent
from dpsynth.schema.schema import Schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NUMBERS = 0.1
"""Share of the table's price that goes to the numbers of images, where a row may have other than one."""
COLUMN = 0.01
"""Share of the whole price that a column of the table has by default, up to `TABLE`."""
TABLE = 0.4
FEW = 1000
"""Patients below which a plan warns."""
LEAST = 16
"""Coefficients of an image that are asked at least, see `dpsynth.models.image.moments`."""
BINS = 16
"""Cells that a plan assumes of a number's column."""


@dataclass(frozen=True)
class ImageTask:
    """The conditions and the shape of the images that a generator is learned for.

    Parameters
    ----------
    conditions
        What images are conditioned on.
    shape
        Channels and sides.
    """

    conditions: Conditions
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ImageSynthesizer(Synthesizer):
    """A synthesizer of images and of the table that they belong to; a subclass learns the generator.

    The price of the questions is divided by a public rule: one hundredth for each column of the table, at most 40 %,
    and the rest for the images; ``table`` sets another share.

    Parameters
    ----------
    conditions : str, default ""
        Columns that images are conditioned on, separated by commas; default: the schema's target and subgroups.
    table : float or None, default None
        Share of the price of questions that the table has, in (0, 1).
    """

    accounting: ClassVar[Literal["gaussian", "zcdp"]] = "gaussian"
    of_images: ClassVar[bool] = True
    seconds: ClassVar[tuple[float, float]] = (30.0, 0.0)

    conditions: str = ""
    table: float | None = None

    def __post_init__(self) -> None:
        """Refuse options that cannot be, with `InputError`; a subclass adds its own checks."""
        if self.table is not None and not 0 < self.table < 1:
            raise InputError(f"table: found {self.table}, expected a share between 0 and 1.")

    def fit(self, session: Session, progress: Progress | None = None) -> ImageModel:
        """Learn the table with its share, then the images with the rest."""
        report = progress or silent
        shape = declared_images(session.schema).shape
        price = session.rho * self._table_share(session.schema)
        most = declared_images(session.schema).max_per_patient
        numbers = session.images_per_row(NUMBERS * price)
        sigma = gaussian_scale(session.sensitivity, NUMBERS * price)
        table = self._fit_table(Portion(session, price * (1 - NUMBERS)), report)
        columns = self._columns(session.codec)
        conditions = Conditions.of(session.codec, columns)
        generator = self.learn(session, ImageTask(conditions, shape), report)
        statement = self.statement(session)
        ratio = getattr(generator, "noise_over_contrast", None)
        if ratio is not None:  # of noisy answers, so it is public
            statement["images"] = {NOISE_OVER_CONTRAST.replace(" ", "_"): round(ratio, 3)}
        assert len(numbers) == most + 1  # noqa: S101
        return cast("type[ImageModel]", self.produces)(
            session.codec,
            statement,
            table=table,
            conditions=conditions,
            numbers=chances(numbers, sigma),
            generator=generator,
        )

    @abc.abstractmethod
    def learn(self, session: Session, task: ImageTask, report: Progress) -> ImageGenerator:
        """Learn the generator with what is left of the session's price, and its training."""

    def statement(self, session: Session) -> dict[str, Any]:
        """Return the privacy statement; a subclass adds what it took as public."""
        return session.statement()

    def plan(self, schema: Schema, budget: Budget, rows: int) -> Plan:
        """Say what a fit would ask, from public facts alone."""
        declared = declared_images(schema)
        training = self.training(schema, budget)
        reserved = delta_for_discovery(budget, schema)
        rho = rho_for(budget, "gaussian", reserved_delta=reserved) if training is None else training.rho
        share = self._table_share(schema)
        table = PlanItem("columns of the table", len(schema.modelled), 0, gaussian_scale(1, max(rho * share, 1e-12)))
        items = [table, *self.items(schema, rho * (1 - share))]
        if training is not None:
            note = f"{training.steps} steps, each of about {training.sampling_rate * rows:,.0f} patients"
            items.append(PlanItem("noisy gradients", training.steps, 0, training.noise_multiplier, note))
        side = " x ".join(map(str, declared.size))
        expected = self._expected_error(schema, rho, rows)
        return Plan(
            model=self.name,
            epsilon=budget.epsilon,
            delta=budget.delta,
            rho=rho_for(budget, "gaussian", reserved_delta=reserved),
            rows=rows,
            items=tuple(items),
            expected_error=expected,
            expected_seconds=self.seconds[0],
            warnings=tuple(self._warnings(expected, side, rows)),
        )

    @staticmethod
    def _warnings(expected: dict[str, float], side: str, rows: int) -> "Iterator[str]":
        if rows < FEW:
            yield f"{rows} patients are few for images of {side}; expect blurred ones that differ little"
        ratio = expected.get(NOISE_OVER_CONTRAST, 0.0)
        if ratio >= 1:
            yield (
                f"noise is {ratio:.1f} times what usual images of a label vary by; from 2 on images will be blurred, "
                "so that they hold no more noise than picture, and labels share their spread"
            )

    def _expected_error(self, schema: Schema, rho: float, rows: int) -> dict[str, float]:
        """Return what noise does to one column of the table, and to a label's mean image.

        Of the latter the `LEAST` lowest frequencies are asked with a noise of sigma each beside a sum of n images of
        norm 1 at most, so that the noise of the mean has the norm sqrt(LEAST) sigma / n.
        """
        share, codec = self._table_share(schema), public_codec(schema)
        counts = even_one_way(schema, codec, BINS, rows, max(rho * share, 1e-12))
        columns = self._columns(codec)[:1]
        labels = max([codec.columns[name].size for name in columns if name in codec.columns], default=1)
        noise = LEAST**0.5 * gaussian_scale(1, max(rho * (1 - share), 1e-12)) * labels / rows
        errors = {"1-way": one_way_error(counts), MEAN_IMAGE: min(noise, 1.0)}
        ratio = self.noise_over_contrast(schema, max(rho * (1 - share), 1e-12), rows / labels)
        return errors if ratio is None else errors | {NOISE_OVER_CONTRAST: ratio}

    def noise_over_contrast(self, schema: Schema, rho: float, rows: float) -> float | None:  # noqa: ARG002
        """Return what noise adds to a drawn image, over what usual images vary by; None where nobody can tell.

        Parameters
        ----------
        schema
            Public facts.
        rho
            The price of the questions about images.
        rows
            Assumed rows of a value of the first condition.
        """
        return None

    def items(self, schema: Schema, rho: float) -> "Sequence[PlanItem]":  # noqa: ARG002
        """Say what is asked of images besides a training."""
        return ()

    def _columns(self, codec: Codec) -> tuple[str, ...]:
        wanted = tuple(name.strip() for name in self.conditions.split(",") if name.strip())
        return wanted or default_columns(codec)

    def _table_share(self, schema: Schema) -> float:
        return self.table if self.table is not None else min(TABLE, COLUMN * (1 + len(schema.modelled)))

    @staticmethod
    def _fit_table(portion: Portion, report: Progress) -> MarginalModel:
        """Learn the table with all of its part of the price."""
        session = cast("Session", portion)
        maker = Independent() if len(session.schema.modelled) == 1 else Prism()
        return maker.fit(session, lambda phase, share: report(f"table: {phase}", share))


@dataclass(frozen=True, kw_only=True)
class TrainedImageSynthesizer(ImageSynthesizer):
    """An image synthesizer that trains a network by DP-SGD after its questions.

    Parameters
    ----------
    questions : float, default 0.3
        Share of the budget's price that is kept for questions: the table, counts and the warm-up.
    sampling_rate : float, default 0.05
        The chance of each patient to be in a step.
    steps : int, default 100
        Steps of the private training; 0 for none, so that all of the budget goes to questions.
    microbatch : int, default 128
        Patients whose gradients are held at once.
    """

    questions: float = 0.3
    sampling_rate: float = 0.05
    steps: int = 100
    microbatch: int = 128

    def training(self, schema: Schema, budget: Budget) -> TrainingPlan | None:
        """Return the plan of the training."""
        if self.steps == 0:
            return None
        return TrainingPlan.within(
            budget,
            sampling_rate=self.sampling_rate,
            steps=self.steps,
            questions=self.questions,
            reserved_delta=delta_for_discovery(budget, schema),
            microbatch=self.microbatch,
        )


def patients_with_images(session: Session, rho: float) -> float:
    """Ask for the noisy number of patients with images, at least 1, at a price; it scales gradients."""
    return max(1.0, float(session.image_counts(Query((), ()), rho)[0]))
