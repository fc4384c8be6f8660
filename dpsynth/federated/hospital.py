"""A hospital of a study: it answers questions about its own patients, under its own ledger, and trusts nobody.

Whatever the lead sends, a hospital answers a question only where all of this holds, and refuses it otherwise, in words
and before anything is spent:

- it is of the study that this hospital has agreed to, byte by byte, and comes in order: `open`, `begin`, then questions
  whose numbers rise; the same bytes asked again get the same answer, other bytes under a used number are refused;
- `begin` names exactly the study's hospitals, with keys of the pinned fingerprints, and this hospital's own fresh
  bytes;
  it comes once, so that the set of hospitals cannot change half-way;
- it is what the agreed model asks next, about these columns and cells and at this price: the hospital runs that model
  itself, as it has it installed, on the noisy sums that were answered so far, and compares;
- it was not answered before: asked anew, because another hospital did not answer, it is paid once more out of the share
  of the budget that the study keeps for that;
- it fits the hospital's own confirmed schema;
- the hospital's own session can pay for it, within the study's budget and the limit of its own ledger.

The whole budget of the study is reserved in the hospital's ledger before a patient is read; each question is claimed
there, on the disk, before it is asked, and its answer is written down before it is sent. So whenever the process is
killed, what was sent is in the ledger, and an answer that was lost is paid for and never given twice.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from dpsynth.errors import BudgetExceeded, DpsynthError, InputError
from dpsynth.federated.agreed import check_agreed
from dpsynth.federated.masks import Masks, Opening, public_half
from dpsynth.federated.messages import SUMS, Answer, Question, digest, fingerprint, peek
from dpsynth.federated.run_folder import RunFolder
from dpsynth.federated.steps import Allowed, Steps
from dpsynth.federated.study import Study
from dpsynth.federated.sums import Asked
from dpsynth.privacy.resuming import Checkpoint
from dpsynth.privacy.session import Session
from dpsynth.privacy.shares import Sharing, Words

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.privacy.spending.ledger import Ledger
    from dpsynth.sources.scanned import ScannedCohort

SAME_PRICE = 1e-9


class Hospital:
    """One hospital of a study; give its `answer` to a transport.

    Privacy contract: all that it ever answers, together with the noisy sums, is (epsilon, delta)-differentially private
    for a patient of this hospital as the study says, where at most ``colluding`` of the others collude with the lead.

    Parameters
    ----------
    study
        Read and agreed to by a person.
    name
        Which of the study's hospitals this is.
    cohort
        Its patients, with its own confirmed schema: that of the study, but for the number of rows.
    signing_public
        32 raw bytes: the public half of its signing key.
    masking_key
        32 raw bytes: its secret X25519 key.
    folder
        Where the run is kept, here: answers that were sent, and fresh bytes. Opened again, it goes on where it was.
    allowed
        What the model may ask.
    ledger
        As for `dpsynth.privacy.session.Session.open`.
    seed
        Test mode; the release is stamped *not private*.

    Raises
    ------
    InputError
        When the study does not name this hospital or these keys, or the schemas differ.
    """

    def __init__(
        self,
        study: Study,
        name: str,
        cohort: "Cohort | ScannedCohort",
        *,
        signing_public: bytes,
        masking_key: bytes,
        folder: str | Path,
        allowed: Allowed,
        ledger: "str | Path | Ledger | None" = None,
        seed: int | None = None,
    ) -> None:
        self.study, self.name = study, name
        self._cohort, self._ledger, self._seed, self._allowed = cohort, ledger, seed, allowed
        self._masking_key = masking_key
        self._public_keys = signing_public + public_half(masking_key)
        check_agreed(study, name, self._public_keys, cohort)
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._masks: Masks | None = None
        self._question: tuple[int, str] = (-1, "")
        self._rehearsal = allowed.rehearse()
        self._asked: list[Asked] = []
        self._anew = 0.0
        self._training: Steps | None = None
        self._ended = False
        self._folder = RunFolder(folder, study.digest)
        self._opening = Opening(self._public_keys, self._folder.fresh(), seed is None)
        self._take_up()

    def __repr__(self) -> str:
        return f"Hospital({self.name!r}, study={self.study.name!r})"

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    def answer(self, message: bytes) -> bytes:
        """Answer one question, or refuse it.

        Parameters
        ----------
        message
            What came from the lead; anything.

        Returns
        -------
        bytes
            An `Answer`: masked numbers, nothing, or why nothing is answered. It never holds a patient's value.
        """
        with self._lock:
            try:
                question = Question.from_bytes(message)
                return self._answered(question, message)
            except DpsynthError as error:
                return self._reply(message, refusal=str(error)[:1900] or "refused")

    def close(self) -> None:
        """End the run: the ledger keeps what was spent, and nothing more is answered."""
        with self._lock:
            self._end()

    def _answered(self, question: Question, message: bytes) -> bytes:
        if question.study != self.study.digest:
            raise InputError("study: the question is of another study than the one that this hospital agreed to.")
        known = self._folder.question(question.number)
        if known is not None:
            return self._again(question.number, known, message)
        if question.number <= self._folder.last:
            raise InputError(
                f"question {question.number}: comes after question {self._folder.last}; their numbers rise, and one "
                "that was left out stays so."
            )
        self._check_order(question)
        prepared = self._prepared(question)
        self._folder.ask(question.number, message if question.kind != "step" else digest(message).encode())
        try:
            answer = self._reply(message, arrays=prepared())
        except (InputError, BudgetExceeded):  # refused before it was claimed
            self._folder.drop(question.number)
            raise
        self._folder.answer(question.number, answer)
        return answer

    def _again(self, number: int, known: bytes, message: bytes) -> bytes:
        """Return what was answered before to the same bytes."""
        if known not in (message, digest(message).encode()):
            raise InputError(f"question {number}: was asked before, otherwise; a question is asked once.")
        answer = self._folder.answered(number)
        if answer is None:
            raise InputError(f"question {number}: its answer was lost when this hospital was stopped; ask it anew.")
        return answer

    def _check_order(self, question: Question) -> None:
        kind = question.kind
        if self._ended:
            raise InputError("question: the run has ended at this hospital.")
        if (kind == "open") != (question.number == 0) or (kind == "begin") != (question.number == 1):
            raise InputError(f"question {kind!r}: `open` has the number 0, `begin` 1, and what follows more.")
        if kind != "open" and self._folder.last < 0:
            raise InputError(f"question {kind!r}: the run was not opened here.")
        if kind not in ("open", "begin") and self._session is None:
            raise InputError(f"question {kind!r}: the run has not begun at this hospital.")
        if kind in SUMS and self._training is not None:
            raise InputError(f"question {kind!r}: the training has begun, after which nothing else is asked.")
        if kind in SUMS and kind not in self._allowed.kinds:
            raise InputError(f"question {kind!r}: the model {self.study.model!r} that was agreed on does not ask it.")
        if kind in ("train", "step") and self._allowed.training is None:
            raise InputError(f"question {kind!r}: the model {self.study.model!r} that was agreed on has no training.")

    def _prepared(self, question: Question) -> Callable[[], Sequence[NDArray[Any]]]:
        """Return what answers a question, after all checks that need no patient."""
        kind = question.kind
        if kind == "open":
            return lambda: [self._opening.to_array()]
        if kind == "begin":
            return lambda: self._begin(question)
        if kind == "train":
            return lambda: self._train(question)
        if kind == "step":
            training = self._training
            if training is None:
                raise InputError("question 'step': the training has not begun.")
            training.check(question)
            return lambda: self._step(training, question)
        if kind == "end":
            return self._end
        asked, (_, heard) = Asked.of(question), question.parts
        self._check_next(asked, heard)
        return lambda: self._ask(asked, question)

    def _begin(self, question: Question) -> list[NDArray[Any]]:
        """Check everybody's keys, reserve the budget, and open the cohort."""
        self._masks = self._checked_masks(question)
        sharing = Sharing(len(self.study.names), self.study.colluding, self._hide)
        self._session = Session.open(
            self._cohort,
            self.study.budget,
            accounting=self.study.accounting,
            ledger=self._ledger,
            label=f"study {self.study.name}",
            seed=self._seed,
            training=self._allowed.training,
            checkpoint=Checkpoint(self._folder.session),
            sharing=sharing,
            per_patient=self.study.per_patient,
        )
        return []

    def _checked_masks(self, question: Question) -> Masks:
        names, openings = question.facts["hospitals"], question.arrays
        if names != list(self.study.names) or len(openings) != len(names):
            raise InputError("question 'begin': expected the hospitals of the study, all of them, in their order.")
        said = {name: Opening.from_bytes(array.tobytes()) for name, array in zip(names, openings, strict=True)}
        if said[self.name] != self._opening:
            raise InputError("question 'begin': what it gives as this hospital's opening is not what was said.")
        for hospital in self.study.hospitals:
            if hospital.fingerprint and fingerprint(said[hospital.name].public_keys) != hospital.fingerprint:
                raise InputError(
                    f"hospital {hospital.name!r}: its keys do not have the fingerprint of the study. Somebody has "
                    "changed them on the way, or the hospital has a new key; compare fingerprints by telephone."
                )
        if len({one.public_keys[32:] for one in said.values()}) != len(said):
            raise InputError("question 'begin': two hospitals have the same key; each needs one of its own.")
        return Masks(
            self.name, self._masking_key, said, study=self.study.digest, transcript=digest(question.to_bytes())
        )

    def _ask(self, asked: Asked, question: Question) -> list[NDArray[Any]]:
        self._question = (question.number, digest(question.to_bytes()))
        answer: list[NDArray[Any]] = asked.ask(self.session)
        self._note(asked, question.parts[1])
        return answer

    def _check_next(self, asked: Asked, heard: Sequence[Any]) -> None:
        """Refuse a question that does not come next, or costs more than what there is for it."""
        place, known = len(heard), len(self._asked)
        if not max(known - 1, 0) <= place <= known:
            raise InputError(f"question {asked.kind!r}: comes after {place} answers, and here {known} were given.")
        if place < known:
            asked.check_same(self._asked[place])
        self._rehearsal.check(asked, heard)
        price, rho, share = sum(asked.prices(self.session)), self.session.rho, self.study.asked_anew
        left = rho * share - self._anew if place < known else self.session.rho_left + self._anew - rho * share
        if price > left + SAME_PRICE * rho:
            word = "asking anew" if place < known else "the study"
            raise InputError(
                f"question {asked.kind!r}: costs rho {price:.6g}, more than is left of what the budget has for {word}; "
                "nothing was looked at."
            )

    def _note(self, asked: Asked, heard: Sequence[Any]) -> None:
        if len(heard) < len(self._asked):
            self._anew += sum(asked.prices(self.session))
        else:
            self._asked.append(asked)

    def _train(self, question: Question) -> list[NDArray[Any]]:
        """Find the training by this hospital's own program, and pay for it; a lead that was stopped may ask again."""
        if self._allowed.training is None:
            raise InputError("question 'train': the model that was agreed on has no training.")
        rehearsed = self._rehearsal.training(question.parts[1])
        if self._training is not None:
            return []
        step = self.session.shares_of_steps(
            rehearsed.objective,
            expected=rehearsed.expected,
            records=rehearsed.records,
            backend=rehearsed.backend,
            begun=self._folder.begun,
        )
        self._training = Steps(rehearsed, step, self._allowed.training.steps, self._folder.begun)
        return []

    def _step(self, training: "Steps", question: Question) -> list[NDArray[Any]]:
        self._question = (question.number, digest(question.to_bytes()))
        training.load(question)
        self._folder.begin_step(training.begun + 1)
        return [training.step()]

    def _hide(self, words: Sequence[Words]) -> list[Words]:
        """Add the masks of the question that is being answered."""
        if self._masks is None:
            raise DpsynthError("the masks of this run are not known yet; nothing is answered.")
        number, question = self._question
        return self._masks.hide(words, number=number, question=question)

    @property
    def session(self) -> Session:
        """The session on the patients of this hospital; `InputError` before the run has begun."""
        if self._session is None:
            raise InputError("question: the run has not begun at this hospital.")
        return self._session

    def _end(self) -> list[NDArray[Any]]:
        if not self._ended and self._session is not None:
            self._session.close()
        self._rehearsal.close()
        self._ended = True
        return []

    def _reply(self, message: bytes, *, arrays: Sequence[NDArray[Any]] = (), refusal: str = "") -> bytes:
        try:
            study, number = peek(message)
        except InputError:
            study, number = self.study.digest, 0
        return Answer(study, number, self.name, digest(message), arrays, refusal).to_bytes()

    def _take_up(self) -> None:
        """Go on with a run that was stopped: what was answered is paid for in memory, what was lost stays lost."""
        for number, message in self._folder.questions():
            question = Question.from_bytes(message)
            lost = self._folder.answered(number) is None
            if question.kind == "begin":
                self._begin(question)
            elif question.kind == "train":
                self._train(question)
            elif question.kind == "end":
                self._end()
            elif question.kind in SUMS:
                self._asked_before(Asked.of(question), question, lost=lost)
            if lost and question.kind not in SUMS:
                self._folder.answer(
                    number, self._reply(message, arrays=[self._opening.to_array()] if not number else [])
                )

    def _asked_before(self, asked: Asked, question: Question, *, lost: bool) -> None:
        if lost and not self.session.is_written:
            self.session.forfeit(lambda: asked.ask(self.session))
            self._note(asked, question.parts[1])
            return
        arrays = self._ask(asked, question)
        if lost:
            self._folder.answer(question.number, self._reply(question.to_bytes(), arrays=arrays))
