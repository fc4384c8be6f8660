"""What every image synthesizer leaves behind: a model of the table, and a generator of images given its columns."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.files.image_set import ImageSet
from dpsynth.models.base import Model, Released
from dpsynth.models.conditional_draws import Proportions, Support
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.tabular.marginals.model import MarginalModel
from dpsynth.schema.images import Images

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats32 = NDArray[np.float32]
Parts = tuple[dict[str, Any], dict[str, NDArray[Any]]]


class ImageGenerator(Protocol):
    """Draws images given codes of the conditions."""

    def draw(self, codes: NDArray[np.int64], rng: np.random.Generator) -> Floats32:
        """Return (rows, channels, sides) images in [0, 1] for (rows, columns) codes of the conditions."""
        ...

    def to_parts(self) -> Parts:
        """Return a JSON-able configuration and named arrays."""
        ...


class ImageModel(Model):
    """A table of patients and images that belong to its rows.

    Parameters
    ----------
    codec, statement
        As for every model.
    table
        The model of the table.
    conditions
        The columns that images are conditioned on.
    numbers
        (most + 1,) chances of a row to have 0, 1, ... images.
    generator
        Draws the images.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        codec: Codec,
        statement: dict[str, Any],
        *,
        table: MarginalModel,
        conditions: Conditions,
        numbers: NDArray[np.float64],
        generator: ImageGenerator,
    ) -> None:
        super().__init__(codec, statement)
        self.table = table
        self.conditions = conditions
        self.numbers = numbers
        self.generator = generator

    @property
    def rows(self) -> int:
        """Number of training rows: as declared, else estimated from noisy counts."""
        return self.table.rows

    def released(self) -> list[Released]:
        """Return the noisy counts of the table."""
        return self.table.released()

    def support(self, where: Mapping[str, Any]) -> Support | None:
        """Return how many training rows meet a condition, by the table's model."""
        return self.table.support(where)

    def sample_codes(
        self, n: int, masks: Mapping[str, NDArray[np.bool_]], rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """Draw rows of the table."""
        return self.table.sample_codes(n, masks, rng)

    def sample(
        self,
        n: int,
        *,
        where: Mapping[str, Any] | str | None = None,
        proportions: Proportions | None = None,
        scarce: bool = False,
        seed: int | None = None,
    ) -> Cohort:
        """Draw rows as `Model.sample` does, and the images that belong to them."""
        rows = super().sample(n, where=where, proportions=proportions, scarce=scarce, seed=seed)
        rng = np.random.default_rng(None if seed is None else [seed, 1])
        owner = np.repeat(np.arange(len(rows)), rng.choice(len(self.numbers), len(rows), p=self.numbers))
        codes = self.conditions.codes(self.codec.encode(rows, self.conditions.columns))
        images = ImageSet(self._pixels(codes[owner], rng), owner.astype(np.int64))
        return replace(rows, images=images)

    def images(self, codes: NDArray[np.int64], rng: np.random.Generator) -> Floats32:
        """Return (rows, channels, sides) images in [0, 1] for (rows, columns) codes of the conditions."""
        return self.generator.draw(codes, rng)

    def _pixels(self, codes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[Any]:
        declared = declared_images(self.schema)
        if not len(codes):
            return np.zeros((0, *declared.shape), declared.dtype)
        shares = np.clip(self.generator.draw(codes, rng), 0, 1)
        if declared.dtype == "uint8":
            return np.rint(255 * shares).astype(np.uint8)
        low, high = declared.range
        return (low + (high - low) * shares).astype(np.float32)

    def to_parts(self) -> Parts:
        """Return the parts of the table and of the generator under names of their own."""
        table, table_arrays = self.table.to_parts()
        generator, generator_arrays = self.generator.to_parts()
        config = {"table": table, "conditions": list(self.conditions.columns), "generator": generator}
        arrays = {"numbers": self.numbers, **named("table", table_arrays), **named("generator", generator_arrays)}
        return config, arrays

    @classmethod
    def from_parts(
        cls, codec: Codec, statement: dict[str, Any], config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Self:
        """Check the parts against the codec and each other, and build the model."""
        table = MarginalModel.from_parts(codec, statement, config["table"], under("table", arrays))
        conditions = Conditions.of(codec, [str(name) for name in config["conditions"]])
        numbers = arrays["numbers"].astype(np.float64)
        most = declared_images(codec.schema).max_per_patient
        if numbers.shape != (most + 1,) or numbers.min() < 0 or not np.isclose(numbers.sum(), 1):
            raise ValueError("numbers of images are not chances")
        generator = cls.read_generator(codec, conditions, config["generator"], under("generator", arrays))
        return cls(codec, statement, table=table, conditions=conditions, numbers=numbers, generator=generator)

    @classmethod
    def read_generator(
        cls, codec: Codec, conditions: Conditions, config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> ImageGenerator:
        """Build the generator from its parts; they come from a file and must be checked."""
        raise NotImplementedError


def declared_images(schema: Any) -> Images:
    """Return what the schema says of images.

    Raises
    ------
    InputError
        When it says nothing.
    """
    images = schema.images
    if images is None:
        raise InputError(
            "images: the schema declares none; add images with size, channels and range, or name a model of tables."
        )
    assert isinstance(images, Images)  # noqa: S101  (pydantic made it)
    return images


def chances(counts: "Sequence[int] | NDArray[np.int64]", sigma: float) -> NDArray[np.float64]:
    """Return the chances of a row to have 0, 1, ... images; a count within 3 standard deviations of 0 is none."""
    kept = np.where(np.asarray(counts) > 3 * sigma, counts, 0).astype(np.float64)
    if not kept.any():
        kept[min(1, len(kept) - 1)] = 1.0
    return np.asarray(kept / kept.sum())


def named(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return arrays under names of a part of their own, see `under`."""
    return {f"{prefix}:{name}": array for name, array in arrays.items()}


def under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays that `named` put under a prefix."""
    start = f"{prefix}:"
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
