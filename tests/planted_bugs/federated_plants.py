"""Broken variants of the federation: each breaks one guarantee and nothing else."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dpsynth.federated.hospital import Hospital
from dpsynth.federated.masks import Masks
from dpsynth.federated.sums import Asked
from dpsynth.privacy.mechanisms import LATTICE_BITS, SystemNoise
from dpsynth.privacy.resuming import Journal, question
from dpsynth.privacy.resuming import _read as read_answer
from dpsynth.privacy.resuming import _write as write_answer
from dpsynth.privacy.shares import ShareAnswers, Sharing

Patch = pytest.MonkeyPatch
STREAM = Masks._stream
LATTICE = SystemNoise.on_lattice


def share_forgotten(patch: Patch) -> None:
    """Leave the hospital's share of the noise away."""

    def silent(_self: Any, values: Any, _sigma: float, *, most: int = 2**40) -> Any:
        return np.clip(values, -most, most) << LATTICE_BITS

    patch.setattr(SystemNoise, "on_lattice", silent)


def share_of_one_in_n_squared(patch: Patch) -> None:
    """Divide the standard deviation, not the variance, by the number of shares."""
    patch.setattr(Sharing, "sigma", lambda self, sigma: sigma / (self.hospitals - self.colluding))


def share_as_if_nobody_colluded(patch: Patch) -> None:
    """Divide by n, so that the noise is not enough when one of two leaves its own away."""
    patch.setattr(Sharing, "sigma", lambda self, sigma: sigma / self.hospitals)


def masks_do_not_cancel(patch: Patch) -> None:
    """Add the stream on both sides of a pair."""

    def adding(self: Any, arrays: Sequence[Any], *, number: int, question: str) -> list[Any]:
        (array,) = arrays
        return [array + sum(self._stream(s, p, number, question, array.size) for s, p, _ in self._others)]

    patch.setattr(Masks, "hide", adding)


def masks_repeated(patch: Patch) -> None:
    """Use one stream for every question of a run."""
    patch.setattr(Masks, "_stream", lambda self, s, pair, _n, _q, size: STREAM(self, s, pair, 0, "00" * 32, size))


def masks_of_the_study_alone(patch: Patch) -> None:
    """Leave the question out of the stream: a lead can ask hospitals different things under one number."""
    patch.setattr(Masks, "_stream", lambda self, s, pair, n, _q, size: STREAM(self, s, pair, n, "00" * 32, size))


def keys_not_pinned(patch: Patch) -> None:
    """Take whatever keys the lead hands on."""
    patch.setattr("dpsynth.federated.hospital.fingerprint", lambda _keys: Anything())


class Anything:
    """Equal to every fingerprint."""

    def __eq__(self, _other: object) -> bool:
        return True

    def __ne__(self, _other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0


def answer_in_the_clear(patch: Patch) -> None:
    """Send the share without its masks."""
    patch.setattr(Hospital, "_hide", lambda _self, words: list(words))


def debit_after_the_answer(patch: Patch) -> None:
    """Claim a question in the ledger when it has been answered."""

    def late(self: Any, name: str, ask: Any, asked: Any, more: Any) -> Any:
        digest, path = question(name, asked, more), self._checkpoint.path(self._unit)
        if path.is_file():
            answer = read_answer(path, digest)
        else:
            answer = ask(*asked, **more)
            write_answer(path, digest, answer)
            self._claim(self._unit, self._unit + 1)
        self._unit += 1
        self._heard.append(answer)
        return answer

    patch.setattr(Journal, "_asked", late)


def sums_wrap(patch: Patch) -> None:
    """Clip answers as one hospital alone may, so that the sum of all leaves 64 bits."""
    patch.setattr(Sharing, "most", property(lambda _self: 2**42))


def clip_forgotten(patch: Patch) -> None:
    """Let answers of any size onto the lattice."""

    def unclipped(self: Any, exact: Any, sigmas: Any) -> Any:
        noisy = [
            LATTICE(self._noise, t, self._sharing.sigma(s), most=2**62) for t, s in zip(exact, sigmas, strict=True)
        ]
        return self._sharing.hide([fine.view(np.uint64) for fine in noisy])

    patch.setattr(ShareAnswers, "_share", unclipped)


def price_of_the_lead(patch: Patch) -> None:
    """Believe the lead what a question costs: the noise is its own, the debit a hundredth."""
    honest = Asked.prices
    patch.setattr(Asked, "prices", lambda self, session: [price / 100 for price in honest(self, session)])


def asked_twice_is_free(patch: Patch) -> None:
    """Answer a question again without paying for it out of what the study keeps."""
    patch.setattr(Hospital, "_check_next", lambda _self, _asked, _heard: None)
