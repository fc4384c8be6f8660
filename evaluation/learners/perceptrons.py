"""Small perceptrons on flattened images."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Floats, Ints
from dpsynth.evaluation.learners.lesson import BATCH, Lesson, Pixels, unit
from dpsynth.evaluation.learners.tabular import one_thread

FLAT = 32 * 32


HIDDEN = 128


@dataclass(frozen=True)
class _Perceptrons:
    """A perceptron for each head.

    Parameters
    ----------
    models : tuple
        scikit-learn classifiers; the only code itself where the training arm has one.
    """

    models: tuple[Any, ...]
    span: tuple[float, float]
    sizes: tuple[int, ...]

    def scores(self, pixels: Pixels) -> list[Floats]:
        """Return for each head the probabilities of its codes, shape (images, codes)."""
        probabilities = [np.zeros((len(pixels), size)) for size in self.sizes]
        flat = _flat(pixels, self.span)
        for scores, model in zip(probabilities, self.models, strict=True):
            if isinstance(model, int):
                scores[:, model] = 1.0
                continue
            with one_thread():
                scores[:, model.classes_.astype(int)] = model.predict_proba(flat)
        return probabilities


def _flat(pixels: Pixels, span: tuple[float, float]) -> NDArray[np.float32]:
    parts = [unit(pixels[at : at + 4096], span, FLAT) for at in range(0, len(pixels), 4096)]
    return np.concatenate(parts).reshape(len(pixels), -1)


def fit_mlp(lesson: Lesson, seed: int) -> _Perceptrons:
    """Train scikit-learn's perceptron with one hidden layer on pixels.

    Raises
    ------
    InputError
        If no image has a known code.
    """
    flat = _flat(lesson.pixels, lesson.span)
    return _Perceptrons(
        tuple(_perceptron(flat, codes, lesson.epochs, seed) for codes in lesson.codes.T), lesson.span, lesson.sizes
    )


def _perceptron(flat: NDArray[np.float32], codes: Ints, epochs: int, seed: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    labelled = codes >= 0
    values = np.unique(codes[labelled])
    if len(values) < 2:
        if len(values) == 0:
            raise InputError("the training arm has no image with a known value")
        return int(values[0])
    model = MLPClassifier((HIDDEN,), max_iter=epochs, batch_size=min(BATCH, int(labelled.sum())), random_state=seed)
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is the rule
        return model.fit(flat[labelled], codes[labelled])
