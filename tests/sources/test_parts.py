"""The seam: however patients are divided into parts, every exact answer is the same, to the last integer."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from privacy.helpers import Recorder, ward_frame, ward_schema
from privacy.networks import Squares, convolutions, linear, scans

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.cohort import Cohort
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.images.features import Division, Linear
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.training.dpsgd import UNIT
from dpsynth.privacy.training.per_patient import BACKENDS
from dpsynth.privacy.training.teachers import Panel
from dpsynth.sources import Part
from dpsynth.sources.memory import Memory
from dpsynth.sources.parts import Integers, summed

CAP = 2


class Cut:
    """A cohort cut into parts: a second implementation of `dpsynth.sources.Parts`.

    Parameters
    ----------
    cohort
        The patients.
    count
        How many parts.
    patients
        Whether a patient's rows stay together, as they must.
    """

    rereads = True

    def __init__(self, cohort: Cohort, count: int = 7, *, patients: bool = True) -> None:
        self.cohort, self.count, self.passes = cohort, count, 0
        self.whose = cohort.patients() if patients else np.arange(len(cohort))

    def parts(self, cap: int, secret: bytes) -> "Cut":
        """Divide the patients at random, one part staying with a single patient."""
        side = np.random.default_rng(5).integers(1, self.count, self.whose.max() + 1)
        side[0] = 0
        self.memories = [Memory(self.cohort.take(side[self.whose] == i), cap, secret) for i in range(self.count)]
        self.schema = self.memories[0].schema
        return self

    def use(self, codec: Codec) -> None:
        """Encode every part."""
        for memory in self.memories:
            memory.use(codec)

    def __iter__(self) -> Iterator[Part]:
        return (part for memory in self.memories for part in memory)

    def total(self, function: Callable[[Part], Sequence[Integers]]) -> list[Integers]:
        """Return the sums over the parts."""
        self.passes += 1
        return summed(function(part) for part in self)

    def values(self, column: str) -> Mapping[Any, int]:
        """Return the values of all parts together."""
        return sum((Counter(memory.values(column)) for memory in self.memories), Counter())


class Exact(Recorder):
    """No noise; everybody is in every sample."""

    def rounded_gaussian(self, values: Any, sigma: float) -> Any:
        """Note the values; return them."""
        return self.gaussian(values, sigma)

    def uniform(self, n: int) -> Any:
        """Draw everybody."""
        return np.zeros(n)


def table(*, patient: bool = True) -> Cohort:
    """Return a ward in which patients have up to five rows, some of them equal."""
    frame = ward_frame(600, per_patient=5, discover=True)
    frame = pd.concat([frame, frame.iloc[::7]], ignore_index=True)
    schema = ward_schema(cap=CAP if patient else 1, patient=patient, discover=True)
    return Cohort.from_pandas(frame, schema, public=True)


def shuffled(cohort: Cohort) -> Cohort:
    """Return the rows in another order."""
    return cohort.take(np.random.default_rng(1).permutation(len(cohort)))


def opened(cohort: Any, schema: Any) -> tuple[PrivateAnswers, Exact, Codec]:
    """Return answers without noise, what notes them, and the codec."""
    noise, codec = Exact(), Codec(schema)
    answers = PrivateAnswers(cohort, CAP, noise)  # type: ignore[arg-type]
    if codec.pending:
        answers.use(codec)
        codec = codec.with_discovered(
            {name: [value for value, _ in answers.keys(name, 1.0, 1)] for name in codec.pending}
        )
    answers.use(codec)
    return answers, noise, codec


def marginals(codec: Codec) -> list[Query]:
    """Return marginals of one to three columns, over fine and over coarse cells."""
    fine = {name: np.arange(size) for name, size in codec.shape.items()}
    coarse = {name: np.arange(size) * 3 // size for name, size in codec.shape.items()}
    names = [columns for k in (0, 1, 2, 3) for columns in combinations(codec.shape, k)]
    return [Query(columns, tuple(maps[c] for c in columns)) for columns in names for maps in (coarse, fine)]


def asked_of_tables(cohort: Any, schema: Any, *, teachers: bool = True) -> list[Any]:
    """Ask every kind of question about a table; return what noise was added to."""
    answers, noise, codec = opened(cohort, schema)
    queries = marginals(codec)
    expected = [np.full(q.shape, 1.25) for q in queries]
    answers.counts(queries, [1.0] * len(queries))
    pairs = [q for q in queries if len(q.columns) > 1]
    answers.interactions(pairs, [1.0] * len(pairs))
    answers.errors(queries, expected, 1.0)
    answers.best(queries, expected, np.zeros(len(queries)), np.ones(len(queries)), scale=1.0, k=2)
    if not teachers:
        answers.close()
        return [*noise.before, *noise.scores]
    panel = Panel(5, {name: np.eye(size, dtype=np.float32) for name, size in codec.shape.items()})
    rng = np.random.default_rng(3)
    for _ in range(3):
        made = rng.random((40, panel.width), dtype=np.float32)
        answers.votes(panel, made, made, 1.0)
    return [*noise.before, *noise.scores]


def asked_of_images(cohort: Any, schema: Any) -> list[Any]:
    """Ask every kind of question about images; return what noise was added to."""
    answers, noise, codec = opened(cohort, schema)
    groups = Query(("label",), (np.arange(codec.shape["label"]),))
    features = Linear(np.random.default_rng(0).normal(size=(5, 64)), np.zeros(64))
    answers.image_sums(groups, features, 1.0)
    answers.image_products(groups, features, 1.0)
    parts = Division(np.random.default_rng(1).normal(size=(groups.size, 3, 64)), np.zeros((groups.size, 3)))
    answers.image_sums(groups, features, 1.0, parts)
    answers.image_products(groups, features, 1.0, parts)
    answers.images_per_row(1.0)
    return noise.before


def gradients(cohort: Any, schema: Any, network: Callable[[], Any]) -> list[Any]:
    """Take two steps with everybody, patient by patient; return the sums that noise was added to."""
    torch.manual_seed(0)
    answers, noise, _ = opened(cohort, schema)
    plan = TrainingPlan(1.0, 2, 1.0)
    objective = _Still(network())
    list(answers.gradients(objective, plan, records="images", expected=30, backend=BACKENDS["loop"]))
    return noise.before


class _Still(Squares):
    """One noise level for everybody, so that nothing depends on the order of patients."""

    def randomness(self, patients: int, _generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return ones."""
        return {"level": torch.ones(patients, 1)}


def same(one: list[Any], two: list[Any]) -> bool:
    """Whether two lists of arrays are equal to the last integer."""
    return len(one) == len(two) and all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("patient", [True, False])
def test_seven_parts_give_equal_integers(patient: bool) -> None:
    """Counts, interactions, errors, scores, values and votes are equal, in seven parts and in another order of rows."""
    cohort = table(patient=patient)
    whole = asked_of_tables(cohort, cohort.schema)
    assert len(whole) > 9
    for other in (Cut(cohort), shuffled(cohort), Cut(shuffled(cohort)), Cut(cohort, 2)):
        assert same(whole, asked_of_tables(other, cohort.schema))


def test_seven_parts_of_images_give_equal_integers() -> None:
    """Sums, products and numbers of images are equal, with more images of a patient than the cap."""
    cohort = scans(60, cap=4)
    few = cohort.schema.model_copy(update={"images": cohort.schema.images.model_copy(update={"max_per_patient": CAP})})
    cohort = Cohort(few, cohort.table, public=True, images=cohort.images)
    whole = asked_of_images(cohort, few)
    for other in (Cut(cohort), shuffled(cohort), Cut(shuffled(cohort))):
        assert same(whole, asked_of_images(other, few))


@pytest.mark.parametrize("network", [linear, convolutions])
def test_seven_parts_give_equal_gradients(network: Callable[[], Any]) -> None:
    """Sums of clipped gradients are equal in units of the clipping norm over 2^26, in another order of patients too."""
    cohort = scans(40)
    whole = gradients(cohort, cohort.schema, network)
    assert np.abs(whole[0]).max() > 2**20
    for other in (Cut(cohort), Cut(shuffled(cohort))):
        assert same(whole, gradients(other, cohort.schema, network))


def test_patients_with_several_images_give_nearly_equal_gradients() -> None:
    """Where patients have one image or two, gradients are padded as the microbatch is, to 32-bit rounding."""
    cohort = scans(40, cap=CAP)
    whole, cut = (gradients(one, cohort.schema, convolutions) for one in (cohort, Cut(shuffled(cohort))))
    for one, other in zip(whole, cut, strict=True):
        assert np.abs(one - other).max() < 40 * UNIT * 2.0**-20


def test_one_pass_serves_columns_and_pairs() -> None:
    """Where a pass reads anew, all columns and pairs are counted in one, and later ones are added up from those."""
    cohort = table()
    cut = Cut(cohort)
    answers, noise, codec = opened(cut, cohort.schema)
    one_by_one, exact, _ = opened(cohort, cohort.schema)
    queries = [q for q in marginals(codec) if 0 < len(q.columns) < 3]
    before = cut.passes
    for query in queries:
        answers.counts([query], [1.0])
        one_by_one.counts([query], [1.0])
    assert cut.passes == before + 1
    assert same(noise.before, exact.before)


def test_a_wrong_division_is_seen() -> None:
    """A cut that tears patients apart keeps more of their rows than the cap, and the integers tell."""
    cohort = table()
    assert not same(asked_of_tables(cohort, cohort.schema), asked_of_tables(Cut(cohort, patients=False), cohort.schema))
    assert same(asked_of_tables(cohort, cohort.schema), asked_of_tables(Cut(cohort), cohort.schema))


def test_parts_stay_in_the_kernel() -> None:
    """The private side says nothing of itself and is not pickled."""
    memory = Memory(table(), CAP, bytes(32))
    memory.use(Codec(memory.schema))
    (part,) = memory
    assert repr(memory) == "Memory(...)"
    for private in (memory, part):
        with pytest.raises(TypeError):
            private.__reduce__()
