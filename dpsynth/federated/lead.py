"""The lead of several hospitals: it asks, adds up what they answer, and learns the noisy sums alone.

`Lead` stands where `dpsynth.privacy.answers.PrivateAnswers` stands for one cohort: a session asks it, and models ask
the session, none of which know where patients are. It holds no secret, is trusted with nothing, and what it learns is
(epsilon, delta)-differentially private, so that everything made of it is post-processing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from dpsynth.atomic import whole_file
from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.errors import DpsynthError, InputError
from dpsynth.federated.masks import Opening
from dpsynth.federated.messages import Answer, Kind, Question, Transport, digest, lengths_of
from dpsynth.federated.steps import weights_of
from dpsynth.federated.study import Study
from dpsynth.federated.sums import Asked
from dpsynth.privacy.images.features import Division, Features
from dpsynth.privacy.images.sums import SUM_UNIT, unpacked
from dpsynth.privacy.mechanisms import Floats, Integers, rounded_lattice
from dpsynth.privacy.shares import SumsAlone, joined
from dpsynth.privacy.spending.training_plan import TrainingPlan

if TYPE_CHECKING:
    from dpsynth.privacy.training.dpsgd import Objective
    from dpsynth.privacy.training.per_patient import Backend


class HospitalFailed(DpsynthError):  # noqa: N818  (what happened, by name)
    """A hospital did not answer, refused, or answered something that is none; the message names it."""

    exit_code = 2


class Refused(HospitalFailed):
    """A hospital refused a question; asking it anew is of no use."""


class Lead(SumsAlone):
    """Noisy answers from several hospitals, as the kernel's answers are.

    Parameters
    ----------
    study
        What was agreed.
    transport
        Carries bytes to the hospitals and back.
    folder
        Where the last question is kept, so that the run can be taken up after a restart.
    training
        The plan of the model's training.

    Raises
    ------
    HospitalFailed
        When a hospital does not answer or refuses; from every method that asks.
    """

    def __init__(
        self, study: Study, transport: Transport, folder: str | Path, *, training: TrainingPlan | None = None
    ) -> None:
        self.study = study
        self.heard: list[Any] = []
        self.pay_anew: Callable[[], None] | None = None
        self.fingerprints: dict[str, str] = {}
        self._transport = transport
        self._training = training
        self._last = Path(folder) / "last.question"
        self._last.parent.mkdir(parents=True, exist_ok=True)
        self._sent = self._last.read_bytes() if self._last.is_file() else None
        self._number = -1 if self._sent is None else Question.from_bytes(self._sent).number
        self._private = False
        self._networks: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Lead(study={self.study.name!r})"

    @property
    def private(self) -> bool:
        """Whether every hospital's noise is genuine."""
        return self._private

    @property
    def randomness(self) -> str:
        """Where the noise comes from."""
        if not self._private:
            return "a hospital drew its noise from a fixed seed: a test mode that protects nobody"
        return "operating system entropy of each hospital (opendp samplers and rounded normals, exact on integers)"

    def begin(self) -> None:
        """Open the run at every hospital: keys and fresh bytes are handed from each to all."""
        study = self.study.digest
        answers = self._collected(Question(study, 0, "open").to_bytes())
        openings = [Opening.from_bytes(answer.arrays[0].tobytes()) for answer in answers]
        self._private = all(opening.private for opening in openings)
        begin = Question(study, 1, "begin", {"hospitals": list(self.study.names)}, [o.to_array() for o in openings])
        self._collected(begin.to_bytes())
        self._number = max(self._number, 1)

    def end(self) -> None:
        """Tell every hospital that nothing more is asked: their ledgers then hold what was spent."""
        self._ask("end")

    def use(self, codec: Codec) -> None:
        """Do nothing: each hospital codes its own patients, by the schema of the study."""

    def go_on(self, step: int, networks: Mapping[str, Any]) -> int:
        """Return the step of a training to go on with; steps that were asked and lost are left out.

        Parameters
        ----------
        step
            The first of which the lead has not kept the outcome.
        networks
            Those beside the objective whose weights a step needs, such as a generator's.

        Returns
        -------
        int
            That step, where it was the last to be asked: it is sent again as it was. Else the one after the last.
        """
        self._networks = dict(networks)
        last = self._last_step
        return step if last is None or step >= last else last + 1

    @property
    def _last_step(self) -> int | None:
        """The last step that a process before this one had asked; None where the training had not begun."""
        question = None if self._sent is None else Question.from_bytes(self._sent)
        return int(question.facts["step"]) if question is not None and question.kind == "step" else None

    def counts(self, queries: Sequence[Query], sigmas: Sequence[float]) -> list[Integers]:
        """Return each query's counts over all hospitals plus Gaussian noise."""
        if not queries:
            return []
        return [rounded_lattice(table) for table in self._sums(Asked("counts", queries, sigmas))]

    def interactions(self, queries: Sequence[Query], sigmas: Sequence[float]) -> list[Floats]:
        """Return the interaction of each query's table over all hospitals plus Gaussian noise."""
        if not queries:
            return []
        tables = self._sums(Asked("interactions", queries, sigmas))
        return [rounded_lattice(table) / query.size for table, query in zip(tables, queries, strict=True)]

    def image_sums(self, groups: Query, features: Features, sigma: float, division: Division | None = None) -> Floats:
        """Return sums of clipped features by group, or part of a group, plus Gaussian noise."""
        (total,) = self._sums(Asked("image_sums", [groups], [sigma], features, division))
        return rounded_lattice(total) / SUM_UNIT

    def image_products(
        self, groups: Query, features: Features, sigma: float, division: Division | None = None
    ) -> Floats:
        """Return sums of products of clipped features by group, or part of a group, plus Gaussian noise."""
        halves = self._sums(Asked("image_products", [groups], [sigma], features, division))
        return unpacked(*map(rounded_lattice, halves))

    def images_per_row(self, sigma: float) -> Integers:
        """Return the number of rows with 0, 1, ... images plus Gaussian noise."""
        (total,) = self._sums(Asked("images_per_row", [], [sigma]))
        return rounded_lattice(total)

    def gradients(
        self,
        objective: "Objective",
        plan: TrainingPlan,
        *,
        records: str,  # noqa: ARG002  (each hospital finds it by its own program)
        expected: float,
        backend: "Backend",  # noqa: ARG002
    ) -> Iterable[None]:
        """Yield once a step, with the noisy mean gradient over all hospitals in each parameter's ``grad``."""
        import torch

        from dpsynth.privacy.training.dpsgd import UNIT, hand_over
        from dpsynth.privacy.training.per_patient import trainable

        first = (self._training or plan).steps - plan.steps
        parameters = trainable(objective)
        device = next(iter(parameters.values())).device
        if self._last_step is None:
            lengths, arrays = lengths_of(self._told)
            self._ask("train", {"heard": lengths}, arrays)
        for step in range(first, first + plan.steps):
            weights = weights_of({"objective": objective, **self._networks})
            arrays = [tensor.detach().cpu().numpy() for tensor in weights.values()]
            (total,) = self._ask("step", {"step": step, "names": list(weights)}, arrays)
            noisy = torch.from_numpy(joined(total) * (plan.clipping_norm / UNIT)).to(device)
            hand_over(parameters, noisy / (plan.sampling_rate * expected))
            yield

    @property
    def _told(self) -> list[Any]:
        """What hospitals are told was answered: everything but questions about nothing, which they were not asked."""
        return [answer for answer in self.heard if len(answer)]

    def _sums(self, asked: Asked) -> list[Integers]:
        """Return the sums over hospitals, on the lattice; a question that somebody did not answer is asked anew."""
        while True:
            try:
                return [joined(words) for words in self._ask(asked.kind, *asked.as_data(self._told))]
            except Refused:
                raise
            except HospitalFailed:
                if self.pay_anew is None:
                    raise
                self.pay_anew()

    def _ask(self, kind: Kind, facts: Any = None, arrays: Sequence[NDArray[Any]] = ()) -> list[list[NDArray[Any]]]:
        """Ask a question under the next number; return for each array what every hospital answered.

        A question that a process before this one had sent, and had not used, is sent again as it was: hospitals then
        give the answer that they gave before, and nothing is spent twice.
        """
        message = Question(self.study.digest, max(self._number, 0), kind, facts or {}, arrays).to_bytes()
        if message != self._sent:
            self._number += 1
            message = Question(self.study.digest, self._number, kind, facts or {}, arrays).to_bytes()
        self._sent = None
        with whole_file(self._last) as partial:
            partial.write_bytes(message)
        answers = self._collected(message)
        shapes = {tuple(array.shape for array in answer.arrays) for answer in answers}
        if len(shapes) != 1:
            odd = _least_like_the_others(answers)
            raise HospitalFailed(f"hospital {odd!r}: its answer has another form than the others'; the question ends.")
        return [list(of_all) for of_all in zip(*(answer.arrays for answer in answers), strict=True)]

    def _collected(self, message: bytes) -> list[Answer]:
        """Return every hospital's answer, in the order of the study; end the question where one is missing."""
        came = self._transport.ask(message, seconds=self.study.seconds)
        late = [name for name in self.study.names if name not in came]
        if late:
            raise HospitalFailed(
                f"hospital {', '.join(map(repr, late))}: did not answer within {self.study.seconds:g} seconds; the "
                "question ends, and what the others answered is of no use without it. Begin again when it is there."
            )
        return [self._read(name, came[name], digest(message)) for name in self.study.names]

    def _read(self, name: str, message: bytes, question: str) -> Answer:
        try:
            answer = Answer.from_bytes(message)
        except InputError as error:
            raise HospitalFailed(f"hospital {name!r}: its answer cannot be read: {error}") from None
        if answer.refusal:
            raise Refused(f"hospital {name!r} refused: {answer.refusal}")
        if (answer.study, answer.hospital, answer.question) != (self.study.digest, name, question):
            raise HospitalFailed(f"hospital {name!r}: its answer is to another question; the question ends.")
        return answer


def _least_like_the_others(answers: Sequence[Answer]) -> str:
    """Return the hospital whose answer has a form that fewest have."""
    forms = [tuple(array.shape for array in answer.arrays) for answer in answers]
    return answers[min(range(len(forms)), key=lambda place: forms.count(forms[place]))].hospital
