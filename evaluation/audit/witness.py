"""The strongest attacker: who sees every answer that a model got, and knows all patients but one.

A `Witness` stands between a session and the noise. It passes the real noisy answers on and adds up the logarithm of
their likelihood ratio between the two worlds; by Neyman and Pearson no other use of the answers tells the worlds apart
better. It needs the exact answers of both worlds, so both cohorts must be public.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.special import log_ndtr, logsumexp

from dpsynth.errors import InputError
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.mechanisms import SystemNoise

if TYPE_CHECKING:
    from dpsynth.coding.codec import Codec
    from dpsynth.coding.query import Query
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.privacy.mechanisms import Floats, Integers

__all__ = ["Silence", "Witness"]

TABLES_ONLY = "audit: the white-box attack reads answers about tables; this model asks for images or gradients too."


class Silence:
    """Noise that adds nothing and keeps the scores that a selection was made from: for public cohorts alone."""

    private: ClassVar[bool] = False
    description: ClassVar[str] = "none: exact answers on public data, for an audit"

    def __init__(self) -> None:
        self.scores: Any = None

    def gaussian(self, values: "Integers", sigma: float) -> "Integers":  # noqa: ARG002  (the protocol's names)
        """Return the values."""
        return values

    def rounded_gaussian(self, values: "Floats", sigma: float) -> "Floats":  # noqa: ARG002
        """Return the values."""
        return values

    def uniform(self, n: int) -> "Floats":
        """Return zeros: everybody is in every sample."""
        return np.zeros(n)

    def noisy_top_k(self, scores: "Floats", scale: float, k: int) -> list[int]:  # noqa: ARG002
        """Keep the scores; return the first k."""
        self.scores = scores
        return list(range(k))

    def generator(self) -> np.random.Generator:
        """Return a fixed generator; with no row over the cap there is nothing to draw."""
        return np.random.default_rng(0)

    def secret(self) -> bytes:
        """Return a fixed secret."""
        return bytes(32)


class Witness:
    """Answers of one world, with the log-likelihood ratio of all of them between the two: `inside` over `out`.

    Parameters
    ----------
    out, inside
        The two worlds; public, and no patient has more rows than the cap.
    in_it
        Whether the answers come from the world with the canary.
    cap
        The patient cap.

    Attributes
    ----------
    log_ratio
        Above 0 the answers speak for `inside`. For Gaussian answers of total price rho it is Gaussian with mean
        ``-rho`` or ``rho`` and variance ``2 rho`` where the canary moves every answer as far as a patient can.
    sees_all
        Whether the ratio is of all answers: votes of teachers are passed on unread.
    """

    private = False

    def __init__(self, out: "Cohort", inside: "Cohort", *, in_it: bool, cap: int) -> None:
        if not (out.public and inside.public):
            raise InputError("audit: the attacker sees exact answers, so both cohorts must be public.")
        self._silence = Silence(), Silence()
        self._worlds = tuple(
            PrivateAnswers(cohort, cap, silence) for cohort, silence in zip((out, inside), self._silence, strict=True)
        )
        self._real = PrivateAnswers(inside if in_it else out, cap, SystemNoise())
        self.log_ratio, self.sees_all = 0.0, True

    @property
    def randomness(self) -> str:
        """Where the noise comes from."""
        return self._real.randomness

    def use(self, codec: "Codec") -> None:
        """Encode the columns that are new in this codec."""
        for answers in (self._real, *self._worlds):
            answers.use(codec)

    def counts(self, queries: "Sequence[Query]", sigmas: Sequence[float]) -> "list[Integers]":
        """Return noisy counts."""
        seen = self._real.counts(queries, sigmas)
        self._gaussian(seen, [w.counts(queries, sigmas) for w in self._worlds], sigmas)
        return seen

    def interactions(self, queries: "Sequence[Query]", sigmas: Sequence[float]) -> "list[Floats]":
        """Return noisy interactions."""
        seen = self._real.interactions(queries, sigmas)
        self._gaussian(seen, [w.interactions(queries, sigmas) for w in self._worlds], sigmas)
        return seen

    def errors(self, queries: "Sequence[Query]", expected: "Sequence[Floats]", sigma: float) -> list[float]:
        """Return noisy errors."""
        seen = self._real.errors(queries, expected, sigma)
        exact = [[w.errors(queries, expected, sigma)] for w in self._worlds]
        self._gaussian([seen], exact, [sigma])
        return seen

    def best(self, queries: "Sequence[Query]", *asked: Any, scale: float, k: int) -> list[int]:
        """Return the noisy picks."""
        picks = self._real.best(queries, *asked, scale=scale, k=k)
        for world, silence, sign in zip(self._worlds, self._silence, (-1, 1), strict=True):
            world.best(queries, *asked, scale=scale, k=k)
            self.log_ratio += sign * _log_chance(silence.scores / scale, picks)
        return picks

    def keys(self, column: str, sigma: float, threshold: int) -> list[tuple[Any, int]]:
        """Return the values whose noisy count reaches the threshold."""
        seen = self._real.keys(column, sigma, threshold)
        released = dict(seen)
        out, inside = (dict(w.keys(column, sigma, 1)) for w in self._worlds)
        for value in out.keys() | inside.keys():
            old, new = out.get(value), inside.get(value)
            self.log_ratio += _log_key(released.get(value), new, sigma, threshold)
            self.log_ratio -= _log_key(released.get(value), old, sigma, threshold)
        return seen

    def votes(self, *asked: Any) -> "Integers":
        """Return noisy votes: their teachers were trained at random, so that there is no exact answer of a world."""
        self.sees_all = False
        return self._real.votes(*asked)

    def _tables_only(self, *_asked: Any, **_more: Any) -> Any:
        """Refuse: this attacker reads tables."""
        raise InputError(TABLES_ONLY)

    image_sums = image_products = images_per_row = gradients = _tables_only

    def _gaussian(self, seen: Sequence[Any], exact: Sequence[Sequence[Any]], sigmas: Sequence[float]) -> None:
        """Add ``((seen - out)^2 - (seen - inside)^2) / (2 sigma^2)`` for every number."""
        for answer, out, inside, sigma in zip(seen, *exact, sigmas, strict=True):
            outside, within = np.asarray(out, dtype=np.float64), np.asarray(inside, dtype=np.float64)
            self.log_ratio += (
                float(((within - outside) * (np.asarray(answer) - (outside + within) / 2)).sum()) / sigma**2
            )


def _log_chance(logits: "Floats", picks: Sequence[int]) -> float:
    """Return the log-probability of picks in this order: each by softmax among those that are left."""
    total, left = 0.0, logits.copy()
    for pick in picks:
        total += float(left[pick] - logsumexp(left))
        left[pick] = -np.inf
    return total


def _log_key(seen: int | None, count: int | None, sigma: float, threshold: int) -> float:
    """Return the log-density of what was seen of a key: its noisy count, or None where it was not released."""
    if count is None:
        return 0.0 if seen is None else -np.inf
    if seen is None:
        return float(log_ndtr((threshold - 0.5 - count) / sigma))
    return -(((seen - count) / sigma) ** 2) / 2
