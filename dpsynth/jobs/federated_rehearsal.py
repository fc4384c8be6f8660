"""What a hospital runs to know which question comes next: the agreed model, on noisy sums in the place of patients."""

import queue
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from dpsynth.errors import DpsynthError, InputError
from dpsynth.federated.steps import Rehearsed
from dpsynth.federated.study import Study
from dpsynth.federated.sums import Asked
from dpsynth.jobs.fit import check_model
from dpsynth.models.base import Synthesizer
from dpsynth.models.registry import make
from dpsynth.privacy.network_questions import networks_of
from dpsynth.privacy.session import Session

__all__ = ["ModelRehearsal", "maker_of"]


def maker_of(study: Study) -> Synthesizer:
    """Return the study's synthesizer; refuse one that asks for more than sums, before anything is spent.

    Raises
    ------
    InputError
        When the model is unknown, does not fit the schema, or asks what hospitals cannot answer together.
    """
    maker = make(study.model, **study.options)
    check_model(maker, study.schema_of_all)
    if not maker.asks_sums:
        raise InputError(
            f"model {study.model!r}: asks for more than sums over patients (a selection, or votes of teachers), which "
            "hospitals cannot answer together. Use 'prism' for a table, 'moments' for images, or a network trained by "
            "DP-SGD such as 'tabular-diffusion'."
        )
    if study.schema_of_all.to_discover:
        raise InputError(
            f"schema: the values of {study.schema_of_all.to_discover[0]!r} are to be discovered, which hospitals "
            "cannot do together; list them (`values:`), from a code book or from what one hospital has released."
        )
    return maker


class ModelRehearsal:
    """The study's model at a hospital; its fit runs in a thread of its own and waits there for each answer.

    Nothing private goes in: what it gets is what the lead says was answered, and what it gives is the next question.

    Parameters
    ----------
    study
        What was agreed.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._heard: list[Any] = []
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._questions: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._next: Any = None

    def check(self, asked: Asked, heard: Sequence[Any]) -> None:
        """Refuse a question that the model does not ask after these answers."""
        expected = self._after(heard)
        if not isinstance(expected, Asked):
            raise InputError(f"question {asked.kind!r}: the agreed model asks no sum here.")
        asked.check_same(expected)

    def training(self, heard: Sequence[Any]) -> Rehearsed:
        """Return what the model's training is about after these answers."""
        reached = self._after(heard)
        if not isinstance(reached, Rehearsed):
            raise InputError("question 'train': the agreed model does not train here.")
        return reached

    def close(self) -> None:
        """End the fit, wherever it is."""
        if self._thread is not None and self._thread.is_alive():
            self._answers.put(_OVER)
            self._thread.join()

    def _after(self, heard: Sequence[Any]) -> Any:
        """Return what the model does after these answers; they must go on where those of before ended."""
        if len(heard) < len(self._heard) or not all(map(_equal, self._heard, heard)):
            raise InputError("question: the lead says now that something else was answered than before.")
        if self._thread is None:
            self._thread = threading.Thread(target=self._fit, daemon=True)
            self._thread.start()
            self._next = self._questions.get()
        for answer in heard[len(self._heard) :]:
            if not isinstance(self._next, Asked):
                raise InputError("question: the lead says that more was answered than the agreed model asks.")
            self._heard.append(answer)
            self._answers.put(answer)
            self._next = self._questions.get()
        if isinstance(self._next, str):
            raise InputError(
                f"question: the agreed model does not go on from what the lead says was answered: {self._next}"
            )
        return self._next

    def _fit(self) -> None:
        """Fit the model; give each question, then what it ended with."""
        study = self._study
        try:
            maker, schema = maker_of(study), study.schema_of_all
            played: Any = _Played(self._questions, self._answers)
            session = _UntilTraining.over_hospitals(
                schema,
                study.budget,
                played,
                accounting=study.accounting,
                training=maker.training(schema, study.budget),
                per_patient=study.per_patient,
                kept_back=study.asked_anew,
            )
            maker.fit(session)
            self._questions.put(None)
        except _Reached as reached:
            self._questions.put(reached.rehearsed)
        except _Over:
            return
        except DpsynthError as error:
            self._questions.put(str(error))
        except BaseException as error:  # what the lead sent may be anything, and somebody waits for the question
            self._questions.put(type(error).__name__)


class _Over(BaseException):
    """The rehearsal is not needed any more."""


_OVER = object()


class _Reached(Exception):  # noqa: N818  (no error: where a rehearsal ends)
    """The fit has come to its training."""

    def __init__(self, rehearsed: Rehearsed) -> None:
        super().__init__("the training")
        self.rehearsed = rehearsed


class _UntilTraining(Session):
    """A session that ends where the training would begin."""

    def train(self, objective: Any, update: Any, **terms: Any) -> None:  # noqa: ARG002
        """Say what the training is about."""
        terms["state"] = networks_of(terms.pop("state", None) or {})
        raise _Reached(Rehearsed(objective, **terms))


class _Played:
    """Answers from a queue, in the place of patients; each question is told before its answer is waited for."""

    private = True
    randomness = "none: a rehearsal of what was answered"

    def __init__(self, questions: "queue.SimpleQueue[Any]", answers: "queue.SimpleQueue[Any]") -> None:
        self._questions, self._answers = questions, answers

    def use(self, codec: Any) -> None:
        """Do nothing: there are no patients here."""

    def counts(self, queries: Any, sigmas: Any) -> Any:
        """Return what was answered."""
        return self._heard(Asked("counts", queries, sigmas)) if queries else []

    def interactions(self, queries: Any, sigmas: Any) -> Any:
        """Return what was answered."""
        return self._heard(Asked("interactions", queries, sigmas)) if queries else []

    def image_sums(self, groups: Any, features: Any, sigma: float, division: Any = None) -> Any:
        """Return what was answered."""
        return self._heard(Asked("image_sums", [groups], [sigma], features, division))

    def image_products(self, groups: Any, features: Any, sigma: float, division: Any = None) -> Any:
        """Return what was answered."""
        return self._heard(Asked("image_products", [groups], [sigma], features, division))

    def images_per_row(self, sigma: float) -> Any:
        """Return what was answered."""
        return self._heard(Asked("images_per_row", [], [sigma]))

    def _heard(self, asked: Asked) -> Any:
        self._questions.put(asked)
        answer = self._answers.get()
        if answer is _OVER:
            raise _Over
        return answer


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return bool(np.array_equal(first, second))
    return len(first) == len(second) and all(map(np.array_equal, first, second))
