"""Noisy answers from private values: the only objects that hold them, with the sensitivity of every answer.

Nothing here decides what may be asked or what it costs: `dpsynth.privacy.session.Session` checks and debits first and
passes on the noise that was paid for. A test can put a tape in the place of `PrivateAnswers`: whatever then still
depends on the data was read without being paid for.

Sensitivities, for one patient added or removed with at most ``cap`` rows
------------------------------------------------------------------------
Counts of one marginal
    Each row adds 1 to one cell. In the L2 norm the worst case is that all rows fall in one cell: ``cap`` (rows spread
    over cells give less, down to ``sqrt(cap)``; L1 is ``cap`` always).
Interaction of one marginal
    The part of the table whose every margin is 0: the projection by ``I - 11'/k`` along each axis of k cells. A row
    adds the projection of one cell, whose squared L2 norm is ``prod(1 - 1/k)``, the diagonal entry of the projector;
    with all rows in one cell a patient adds ``cap sqrt(prod(1 - 1/k))``, and by the triangle inequality never more.
    Multiplied by ``prod(k)`` the interaction of a table of integers is a table of integers: noise is added to that.
L1 error of one marginal, ``|M(D) - E|_1``
    By the triangle inequality it moves by at most ``|M(D) - M(D')|_1 = cap``, *in either direction*: a row that fills
    a cell below its expectation lowers the error, one above raises it. So it is not monotone.
L1 errors of m marginals as one vector
    Each coordinate moves by at most cap: ``cap sqrt(m)`` in L2.
Score ``w (|M(D) - E|_1 - penalty)``
    ``cap max(w)``.
Keys of a column
    For the keys that both worlds have, the L2 distance is at most ``cap`` as above. Keys that only this patient has
    are covered by the threshold, see `dpsynth.privacy.tables.discovery`.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.errors import DpsynthError, InputError
from dpsynth.privacy import processes
from dpsynth.privacy.images.features import Division, Features
from dpsynth.privacy.images.sums import (
    SUM_UNIT,
    GroupedImages,
    group_products,
    group_sums,
    packed,
    product_sigmas,
    unpacked,
)
from dpsynth.privacy.mechanisms import Floats, Integers, Noise
from dpsynth.privacy.quiet import WITHHELD, quiet
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.tables.counting import coarsened, contingency, fine_query
from dpsynth.privacy.tables.discovery import by_value
from dpsynth.privacy.training.patients import of_images, of_rows
from dpsynth.privacy.training.teachers import Panel, Teachers
from dpsynth.sources import Part, open_parts

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.privacy.training.dpsgd import Objective
    from dpsynth.privacy.training.per_patient import Backend
    from dpsynth.sources.scanned import ScannedCohort

T = TypeVar("T")

# Errors are counted in units of 1/256 of a patient: the (public) expectation is rounded to that unit first, so the
# error is an exact integer and its sensitivity is exactly 256 cap.
UNIT = 2**8
MAX_ERROR = 2**32
# A score is an exact error of at most 2^32 minus a penalty of at most 2^32, times a weight: two float roundings of
# relative size 2^-53 move it by less than max(w) 2^-19, in each of the two worlds.
SCORE_MARGIN = 2.0**-18
CACHED_CELLS = 2**25


class PrivateAnswers:
    """Noisy answers from the parts of a cohort.

    Every exact answer is a sum over parts of the patients, of whole numbers (`dpsynth.sources.Parts`), so that it is
    the same, to the last integer, however the patients are divided and wherever they are.

    Parameters
    ----------
    cohort
        The private cohort, or a source that brings its own parts.
    cap
        Rows over it, of any patient, are dropped by a keyed hash before anything else sees them.
    noise
        What is added to every answer.
    """

    def __init__(self, cohort: "Cohort | ScannedCohort", cap: int, noise: Noise) -> None:
        self._noise = noise
        self._sizes: dict[str, int] = {}
        self._tables: dict[Hashable, Integers] = {}
        self._teachers: Teachers | None = None
        secret = processes.shared(noise.secret)
        self._parts = shielded("reading the cohort", lambda: open_parts(cohort, cap, secret))
        self._most_cells: int = getattr(self._parts, "most_cells", CACHED_CELLS)
        self._room = self._most_cells

    def __repr__(self) -> str:
        return "PrivateAnswers(...)"

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    def close(self) -> None:
        """Remove the temporary files of a source that keeps some; a source in memory has none."""
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()

    @property
    def private(self) -> bool:
        """Whether the noise protects anybody."""
        return self._noise.private

    @property
    def randomness(self) -> str:
        """Where the noise comes from."""
        return self._noise.description

    def use(self, codec: Codec) -> None:
        """Encode the columns that are new in this codec; the codes of the others do not change.

        They are kept in the codec's order, by which models find the columns of a batch.
        """
        shielded("encoding the cohort", lambda: self._parts.use(codec))
        self._sizes = codec.shape

    def counts(self, queries: Sequence[Query], sigmas: Sequence[float]) -> list[Integers]:
        """Return each query's counts plus Gaussian noise."""
        return shielded("counting", lambda: self._noisy(self._exact(queries), sigmas))

    def interactions(self, queries: Sequence[Query], sigmas: Sequence[float]) -> list[Floats]:
        """Return the interaction of each query's table plus Gaussian noise."""
        return shielded("counting", lambda: self._noisy_interactions(queries, sigmas))

    def errors(self, queries: Sequence[Query], expected: Sequence[Floats], sigma: float) -> list[float]:
        """Return each query's L1 distance to what was expected plus Gaussian noise."""
        return shielded("measuring errors", lambda: self._noisy_errors(queries, expected, sigma))

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
        """Return the k queries with the largest noisy score ``w (error - penalty)``."""
        return shielded(
            "selecting",
            lambda: self._noise.noisy_top_k(
                weights * (self._exact_errors(queries, expected) / UNIT - penalties), scale, k
            ),
        )

    def keys(self, column: str, sigma: float, threshold: int) -> list[tuple[Any, int]]:
        """Return the column's values whose noisy count reaches the threshold, with that count."""
        return shielded("discovering values", lambda: self._noisy_keys(column, sigma, threshold))

    def image_sums(self, groups: Query, features: Features, sigma: float, division: Division | None = None) -> Floats:
        """Return sums of clipped features by group, or part of a group, plus Gaussian noise."""
        return shielded("summing images", lambda: self._noisy_sums(groups, features, sigma, division))

    def image_products(
        self, groups: Query, features: Features, sigma: float, division: Division | None = None
    ) -> Floats:
        """Return sums of products of clipped features by group, or part of a group, plus Gaussian noise."""
        return shielded("summing images", lambda: self._noisy_products(groups, features, sigma, division))

    def images_per_row(self, sigma: float) -> Integers:
        """Return the number of rows with 0, 1, ... images plus Gaussian noise."""
        return shielded("counting images", lambda: self._noise.gaussian(self._image_numbers(), sigma))

    def gradients(
        self, objective: "Objective", plan: TrainingPlan, *, records: str, expected: float, backend: "Backend"
    ) -> Iterable[None]:
        """Return the noisy gradients of a training."""
        from dpsynth.privacy.training.dpsgd import Gradients

        def opened() -> Gradients:
            reader = of_rows if records == "rows" or self._parts.schema.images is None else of_images
            patients = [reader(part) for part in self._parts]
            return Gradients(objective, patients, plan, self._noise, expected=expected, backend=backend)

        return shielded("training", opened)

    def votes(self, panel: Panel, generated: NDArray[np.float32], asked: NDArray[np.float32], sigma: float) -> Integers:
        """Let the panel's teachers learn on, and return their votes plus Gaussian noise."""
        return shielded("asking teachers", lambda: self._noise.gaussian(self._of(panel).votes(generated, asked), sigma))

    def teach(self, panel: Panel, generated: NDArray[np.float32]) -> None:
        """Let the panel's teachers learn on and say nothing: for votes that a run has already."""
        shielded("asking teachers", lambda: self._of(panel).learn(generated))

    def _of(self, panel: Panel) -> Teachers:
        if self._teachers is None or self._teachers.panel is not panel:
            self._teachers = Teachers(panel, list(self._parts))
        return self._teachers

    @property
    def _most_images(self) -> int:
        declared = self._parts.schema.images
        return 0 if declared is None else declared.max_per_patient

    def _image_numbers(self) -> Integers:
        """Return the number of rows with 0, 1, ... images."""
        most = self._most_images

        def numbers(part: Part) -> list[Integers]:
            rows = np.zeros(0, dtype=np.int64) if part.images is None else part.images.row
            each = np.bincount(rows, minlength=part.rows)
            return [np.bincount(each, minlength=most + 1).astype(np.int64)]

        return self._parts.total(numbers)[0]

    def _grouped_images(self, part: Part, groups: Query, division: Division | None = None) -> GroupedImages:
        """Return the kept images of a part with the group of each."""
        images, declared = part.images, self._parts.schema.images
        if images is None or declared is None:
            raise InputError("images: the cohort has none, though the schema declares them.")
        place = np.zeros(len(images), dtype=np.intp)
        for name, mapping, cells in zip(groups.columns, groups.maps, groups.shape, strict=True):
            place = place * cells + mapping[part.codes[name][images.row]]
        _, patient, sizes = np.unique(part.patients[images.row], return_inverse=True, return_counts=True)
        return GroupedImages(images.pixels, declared.range, place, sizes[patient], groups.size, division)

    def _summed(self, groups: Query, features: Features, division: Division | None = None) -> Integers:
        """Return sums of clipped features by group, or part of a group, in units of 1 / `SUM_UNIT`."""
        return self._parts.total(lambda part: [group_sums(self._grouped_images(part, groups, division), features)])[0]

    def _noisy_sums(self, groups: Query, features: Features, sigma: float, division: Division | None) -> Floats:
        return self._noise.gaussian(self._summed(groups, features, division), sigma * SUM_UNIT) / SUM_UNIT

    def _multiplied(self, groups: Query, features: Features, division: Division | None = None) -> list[Integers]:
        """Return the two halves of the products by group (`packed`), in units of 1 / `PRODUCT_UNIT`^2."""
        return packed(
            self._parts.total(lambda part: [group_products(self._grouped_images(part, groups, division), features)])[0]
        )

    def _noisy_products(self, groups: Query, features: Features, sigma: float, division: Division | None) -> Floats:
        halves = zip(self._multiplied(groups, features, division), product_sigmas(sigma), strict=True)
        return unpacked(*(self._noise.gaussian(exact, scale) for exact, scale in halves))

    def _noisy(self, exact: Sequence[Integers], sigmas: Sequence[float]) -> list[Integers]:
        """Add noise to integer tables."""
        return by_sigma(exact, sigmas, self._noise.gaussian)

    def _noisy_interactions(self, queries: Sequence[Query], sigmas: Sequence[float]) -> list[Floats]:
        """Add noise to the interactions in units of 1 / (number of cells), in which they are integers."""
        exact = [scaled_interaction(table) for table in self._exact(queries)]
        noisy = self._noisy(exact, [s * q.size for s, q in zip(sigmas, queries, strict=True)])
        return [table / q.size for table, q in zip(noisy, queries, strict=True)]

    def _noisy_errors(self, queries: Sequence[Query], expected: Sequence[Floats], sigma: float) -> list[float]:
        noisy = self._noise.gaussian(self._exact_errors(queries, expected), sigma * UNIT)
        return [float(x) for x in noisy / UNIT]

    def _exact_errors(self, queries: Sequence[Query], expected: Sequence[Floats]) -> Integers:
        """Return L1 errors in units of 1/256, clipped to 2^32 patients (clipping moves no two worlds apart)."""
        errors = [
            min(int(np.abs(UNIT * table - np.rint(UNIT * e).astype(np.int64)).sum()), UNIT * MAX_ERROR)
            for table, e in zip(self._exact(queries), expected, strict=True)
        ]
        return np.array(errors, dtype=np.int64)

    def _exact(self, queries: Sequence[Query]) -> list[Integers]:
        """Return exact tables, remembering small ones: selection asks for the same candidates every round."""
        remembered = {q.keys: self._remembered(q) for q in queries}
        counted = self._counted([q for q in queries if remembered[q.keys] is None])
        tables = {keys: table for keys, table in remembered.items() if table is not None} | counted
        return [tables[q.keys] for q in queries]

    def _remembered(self, query: Query) -> Integers | None:
        """Return a table that was counted before, or that one over finer cells of the same columns adds up to."""
        if query.keys in self._tables:
            return self._tables[query.keys]
        if prod(self._sizes[name] for name in query.columns) > self._most_cells:
            return None
        finest = fine_query(query.columns, self._sizes)
        return coarsened(self._tables[finest.keys], query) if finest.keys in self._tables else None

    def _counted(self, queries: Sequence[Query]) -> dict[Hashable, Integers]:
        """Count tables in one pass and remember them as long as there is room.

        Where each pass reads the patients anew, the first question about a column or a pair counts all of them, over
        the finest cells: later and coarser questions are answered from those.
        """
        if not queries:
            return {}
        asked = {q.keys: q for q in queries}
        if self._parts.rereads:
            fitting = [
                c for c in _columns_and_pairs(self._sizes) if prod(self._sizes[n] for n in c) <= self._most_cells
            ]
            every = [fine_query(columns, self._sizes) for columns in fitting]
            wanted = [q for q in every if q.keys not in self._tables]
            if sum(q.size for q in wanted) <= self._room:
                asked |= {q.keys: q for q in wanted}
        tables = self._parts.total(lambda part: contingency(part.codes, part.rows, list(asked.values())))
        counted: dict[Hashable, Integers] = dict(zip(asked, tables, strict=True))
        for keys, table in counted.items():
            if table.size <= self._room:  # kept by itself: a sum over 45,000 tables for each of them takes long
                self._tables[keys] = table
                self._room -= table.size
        return counted

    def _noisy_keys(self, column: str, sigma: float, threshold: int) -> list[tuple[Any, int]]:
        """Count each value that occurs, add noise, keep what reaches the threshold, in the values' own order.

        The order in which the data hold them does not leave from here: a checkpoint keeps this answer as it is.
        """
        counts = by_value(self._parts.values(column).items())
        noisy = self._noise.gaussian(np.array([count for _, count in counts], dtype=np.int64), sigma)
        return [(value, int(n)) for (value, _), n in zip(counts, noisy, strict=True) if n >= threshold]


def by_sigma(
    exact: Sequence[Integers], sigmas: Sequence[float], add: Callable[[Integers, float], Integers]
) -> list[Integers]:
    """Return tables with noise, which is drawn in one call for all of equal sigma."""
    released: list[Integers] = list(exact)
    for sigma in dict.fromkeys(sigmas):
        places = [i for i, s in enumerate(sigmas) if s == sigma]
        noisy = add(np.concatenate([exact[i].ravel() for i in places]), sigma)
        ends = np.cumsum([exact[i].size for i in places])
        for i, part in zip(places, np.split(noisy, ends[:-1]), strict=True):
            released[i] = part.reshape(exact[i].shape)
    return released


def _columns_and_pairs(names: Iterable[str]) -> list[tuple[str, ...]]:
    names = list(names)
    return [*((name,) for name in names), *combinations(names, 2)]


def scaled_interaction(table: Integers) -> Integers:
    """Return the table's interaction times its number of cells: integers, with every margin exactly 0.

    Examples
    --------
    >>> scaled_interaction(np.array([[3, 0], [0, 1]])).tolist()
    [[4, -4], [-4, 4]]
    """
    for axis, cells in enumerate(table.shape):
        table = cells * table - table.sum(axis=axis, keepdims=True)
    return table


def shielded(doing: str, question: Callable[[], T]) -> T:
    """Ask the data, and let no foreign error, warning or log record out: text and very presence may tell of a patient.

    Our own errors are written without values and pass.
    """
    try:
        with quiet():
            return question()
    except DpsynthError:
        raise
    except Exception as error:  # whatever it is, it must not carry private values out
        kind = type(error).__name__
    raise DpsynthError(f"the kernel failed while {doing} ({kind}); {WITHHELD}. What was debited stays spent.")
