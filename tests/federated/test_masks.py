"""Masks cancel in the sum over all hospitals, and hide a single answer wholly."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chi2

from dpsynth.errors import InputError
from dpsynth.federated.masks import Masks, Opening, public_half
from dpsynth.privacy.shares import joined

NAMES = ("north", "south", "west")
SECRETS = {name: bytes([place + 1] * 32) for place, name in enumerate(NAMES)}
STUDY, TRANSCRIPT, QUESTION = "11" * 32, "22" * 32, "33" * 32


def masks_of(name: str, *, study: str = STUDY, transcript: str = TRANSCRIPT) -> Masks:
    """Return a hospital's masks, with fixed secrets."""
    openings = {
        other: Opening(bytes(32) + public_half(secret), bytes([7] * 32), True) for other, secret in SECRETS.items()
    }
    return Masks(name, SECRETS[name], openings, study=study, transcript=transcript)


def hidden(name: str, values: np.ndarray, **terms: object) -> np.ndarray:
    """Return an answer of a hospital with its masks."""
    facts = {"number": 5, "question": QUESTION, **terms}
    return masks_of(name).hide([values.astype(np.int64).view(np.uint64)], **facts)[0]  # type: ignore[arg-type]


def test_masks_cancel_in_the_sum_of_all() -> None:
    """The sum of three masked answers is the sum of what they hide, of either sign."""
    values = {name: np.array([3, -5, 2**61 // 3, -(2**61) // 3]) * (place + 1) for place, name in enumerate(NAMES)}
    answers = [hidden(name, value) for name, value in values.items()]
    assert joined(answers).tolist() == sum(values.values()).tolist()  # type: ignore[union-attr]


def test_masks_do_not_cancel_without_one_of_the_hospitals() -> None:
    """The sum of two of three answers is still masked."""
    answers = [hidden(name, np.zeros(64)) for name in NAMES]
    for pair in combinations(answers, 2):
        assert np.unique(joined(pair)).size == 64


@pytest.mark.parametrize("values", [np.zeros(2**16), np.arange(2**16), np.full(2**16, 2**60)])
def test_a_single_answer_is_uniform_whatever_the_patients_are(values: np.ndarray) -> None:
    """Each byte of 65,536 masked numbers has 256 values alike: chi-square below its 1 - 1e-7 quantile."""
    for name in NAMES:
        answer = hidden(name, values)
        bounds = chi2.ppf(1 - 1e-7, 255)
        for column in answer.view(np.uint8).reshape(-1, 8).T:
            counts = np.bincount(column, minlength=256)
            assert ((counts - 256.0) ** 2 / 256).sum() < bounds
        assert abs(np.corrcoef(answer.astype(float), np.roll(answer, 1).astype(float))[0, 1]) < 0.03


def test_no_stream_is_used_twice() -> None:
    """Another number, question, study, run or hospital has another mask: none of 8 streams shares a number."""
    zeros = np.zeros(256)
    streams = [
        hidden("north", zeros),
        hidden("north", zeros, number=6),
        hidden("north", zeros, question="34" * 32),
        hidden("south", zeros),
        hidden("west", zeros),
        *(
            masks_of("north", **terms).hide([zeros.astype(np.uint64)], number=5, question=QUESTION)[0]  # type: ignore[arg-type]
            for terms in ({"study": "12" * 32}, {"transcript": "23" * 32}, {"study": TRANSCRIPT, "transcript": STUDY})
        ),
    ]
    everything = np.concatenate(streams)
    assert np.unique(everything).size == everything.size


def test_one_question_has_one_stream_for_all_of_its_arrays() -> None:
    """Arrays of one answer are hidden by different parts of the stream."""
    first, second = masks_of("north").hide([np.zeros(8, np.uint64)] * 2, number=5, question=QUESTION)
    assert not set(first.tolist()) & set(second.tolist())


def test_a_key_that_is_none_is_refused_by_the_name_of_its_hospital() -> None:
    """The all-zero key would give every pair the same secret."""
    openings = {name: Opening(bytes(64), bytes(32), True) for name in NAMES}
    with pytest.raises(InputError, match="south"):
        Masks("north", SECRETS["north"], openings, study=STUDY, transcript=TRANSCRIPT)
