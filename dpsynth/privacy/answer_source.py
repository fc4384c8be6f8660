"""What a session asks of whoever holds the private values."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.privacy.images.features import Division, Features
from dpsynth.privacy.mechanisms import Floats, Integers
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.training.teachers import Panel

if TYPE_CHECKING:
    from dpsynth.privacy.training.dpsgd import Objective
    from dpsynth.privacy.training.per_patient import Backend


class Answers(Protocol):
    """The protocol of noisy answers: `PrivateAnswers` reads the data, a test may answer from a tape."""

    @property
    def private(self) -> bool:
        """Whether the noise protects anybody."""
        ...

    @property
    def randomness(self) -> str:
        """Where the noise comes from, for the privacy statement."""
        ...

    def use(self, codec: Codec) -> None:
        """Encode the columns that this codec knows and no earlier one knew: they can be counted from now on."""
        ...

    def counts(self, queries: Sequence[Query], sigmas: Sequence[float]) -> list[Integers]:
        """Return each query's counts plus Gaussian noise."""
        ...

    def interactions(self, queries: Sequence[Query], sigmas: Sequence[float]) -> list[Floats]:
        """Return the interaction of each query's table plus Gaussian noise in each cell."""
        ...

    def errors(self, queries: Sequence[Query], expected: Sequence[Floats], sigma: float) -> list[float]:
        """Return each query's L1 distance to what was expected plus Gaussian noise."""
        ...

    def best(
        self,
        queries: Sequence[Query],
        expected: Sequence[Floats],
        penalties: Floats,
        weights: Floats,
        *,
        scale: float,
        k: int,
    ) -> list[int]:
        """Return the k queries with the largest noisy score."""
        ...

    def keys(self, column: str, sigma: float, threshold: int) -> list[tuple[Any, int]]:
        """Return the column's values whose noisy count reaches the threshold, with that count."""
        ...

    def image_sums(self, groups: Query, features: Features, sigma: float, division: Division | None = None) -> Floats:
        """Return (groups or their parts, dimension) sums of clipped features plus Gaussian noise."""
        ...

    def image_products(
        self, groups: Query, features: Features, sigma: float, division: Division | None = None
    ) -> Floats:
        """Return sums of products of clipped features, a matrix a group or part, plus Gaussian noise."""
        ...

    def images_per_row(self, sigma: float) -> Integers:
        """Return the number of rows with 0, 1, ... images plus Gaussian noise."""
        ...

    def gradients(
        self, objective: "Objective", plan: TrainingPlan, *, records: str, expected: float, backend: "Backend"
    ) -> Iterable[None]:
        """Yield once a step, with a noisy mean gradient in each parameter's ``grad``."""
        ...

    def votes(self, panel: Panel, generated: NDArray[np.float32], asked: NDArray[np.float32], sigma: float) -> Integers:
        """Return how many teachers take each asked row for a patient's, plus Gaussian noise."""
        ...
