"""The images of one evaluation, and the learners that were trained on them: each once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Floats, Ints
from dpsynth.evaluation.images.pictures import Pictures
from dpsynth.evaluation.learners.image import CNN, Network, image_learners
from dpsynth.evaluation.learners.lesson import Fitted
from dpsynth.evaluation.learners.tabular import Prediction, Task
from dpsynth.evaluation.protocol import Progress, Protocol

__all__ = ["DRAWS", "IMAGES", "TESTED", "Gallery", "codes_of"]

#: Images that a learner is trained on, and that it is tested on; of more a random subset of patients.
IMAGES = 30_000
TESTED = 10_000
#: Bootstrap draws.
DRAWS = 500


@dataclass(frozen=True)
class Gallery:
    """The images of one evaluation, with the learners that are trained on them once and used by all metrics.

    Parameters
    ----------
    test, train : Pictures
        Of real patients: those that everything is tested on, and those that the model was fitted on.
    drawn : dict of str to list of Pictures
        ``synthetic`` and further arms; draws of each.
    task : Task or None
        The classes to recognise; None where there is no outcome with classes.
    terms : Protocol
    say : callable
        Told of each phase.
    answers : mapping of str to sequence of ndarray, shape (images, classes)
        For a learner what classifiers beside it, fitted elsewhere, say of all images of `test`.
    """

    test: Pictures
    train: Pictures
    drawn: dict[str, list[Pictures]]
    task: Task | None
    terms: Protocol
    say: Progress
    answers: Mapping[str, Sequence[Floats]] = field(default_factory=dict)
    _fitted: dict[tuple[str, str], list[Fitted]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def classes(self) -> Task:
        """The task.

        Raises
        ------
        InputError
            If there is none.
        """
        if self.task is None:
            raise InputError("there is no outcome with classes that could be recognised in images")
        return self.task

    @cached_property
    def examined(self) -> Pictures:
        """The real images that everything is tested on."""
        return self.test.known(self.classes).at_most(TESTED, self.terms.seed)

    @cached_property
    def truth(self) -> Ints:
        """The class of each of them."""
        return codes_of(self.examined, self.classes)

    @cached_property
    def training(self) -> dict[str, list[Pictures]]:
        """The images that learners are trained on: of each arm about as many."""
        arms = {"real": [self.train], **self.drawn}
        labelled = {arm: [draw.known(self.classes) for draw in draws] for arm, draws in arms.items()}
        images = min([IMAGES, *(len(draw) for draws in labelled.values() for draw in draws)])
        return {arm: [draw.at_most(images, self.terms.seed) for draw in draws] for arm, draws in labelled.items()}

    def fitted(self, learner: str, arm: str) -> list[Fitted]:
        """Return a learner that was trained on each draw of an arm; trained once.

        Raises
        ------
        InputError
            If it cannot be trained: a package or a second class is missing.
        """
        if (learner, arm) not in self._fitted:
            self._fitted[learner, arm] = [self._teach(learner, arm, draw) for draw in self.training[arm]]
        return self._fitted[learner, arm]

    def predictions(self, learner: str, arm: str) -> list[Prediction]:
        """Return what a learner that was trained on each draw of an arm says of the examined images.

        Raises
        ------
        InputError
            As for `fitted`.
        """
        scores = [prediction.scores(self.examined.pixels)[0] for prediction in self.fitted(learner, arm)]
        return [Prediction(each, each.argmax(axis=1)) for each in scores]

    def answered(self, learner: str) -> list[Prediction]:
        """Return what classifiers beside a learner, fitted elsewhere, say of the examined images."""
        scores = [each[self.examined.table.places] for each in self.answers.get(learner, ())]
        return [Prediction(each, each.argmax(axis=1)) for each in scores]

    def trained_images(self, arm: str) -> int:
        """Return how many images one draw of an arm was trained on; a classifier from elsewhere on all real ones."""
        return len(self.training[arm][0]) if arm in self.training else len(self.train.known(self.classes))

    def _teach(self, learner: str, arm: str, draw: Pictures) -> Fitted:
        self.say(f"training {learner} on images, {arm}", 0.1 * len(self._fitted))
        codes = codes_of(draw, self.classes)
        if len(np.unique(codes)) < 2:
            raise InputError(f"the training arm has images of fewer than two values of {self.classes.target!r}")
        lesson = draw.lesson(codes[:, None], (len(self.classes.classes),))
        return image_learners()[learner](lesson, self.terms.seed)

    def encoder(self) -> Network:
        """Return the network that was trained on the first synthetic draw."""
        learner = self.fitted(CNN, "synthetic")[0]
        assert isinstance(learner, Network)  # noqa: S101  (the CNN is one)
        return learner


def codes_of(pictures: Pictures, task: Task) -> Ints:
    """Return the class of each image, shape (images,)."""
    return task.truth(pictures.table).astype(np.int64)
