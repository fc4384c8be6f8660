"""Shares of noise: what one of several hospitals answers, of which only the sum over all of them is ever to be read.

A hospital gives the exact answer of its own patients plus its share of the noise, in whole numbers, and hides that by
masks modulo 2^64 that cancel in the sum over all hospitals (`dpsynth.federated.masks`).

Let n hospitals answer and let t be how many may collude with whoever reads the sum, or leave their noise away. Each
adds noise of variance ``sigma^2 / (n - t)``. Colluders know their own exact answers and noise and can take them off;
what is left is the exact answer of the others plus at least ``n - t`` shares: variance ``sigma^2`` or more. Noise that
is added further to it, by hospitals that do not collude, is post-processing.

Derivations
-----------
**A sum of discrete Gaussians** (questions). Shares are discrete Gaussians on the lattice ``h Z``, ``h = 2^-20``, with
``s = sigma_share / h``. For X and Y of variances a^2 and b^2, in units of h, the probability of ``X + Y = z`` is
proportional to

    ``exp(-z^2 / 2(a^2 + b^2)) sum_x exp(-(x - c z)^2 / 2 tau^2)``,  ``tau^2 = a^2 b^2 / (a^2 + b^2)``,
    ``c = a^2 / (a^2 + b^2)``.

By Poisson's summation the inner sum is ``tau sqrt(2 pi) (1 + 2 sum_k exp(-2 pi^2 tau^2 k^2) cos(2 pi k c z))``: over z
it varies by a factor of ``1 +- 3 exp(-2 pi^2 tau^2)`` at most, so with its normaliser X + Y has the probabilities of
the discrete Gaussian of variance ``a^2 + b^2`` within a factor ``exp(+-6 exp(-2 pi^2 tau^2))``. Adding one share after
another, of variance s^2 each, ``tau^2 = s^2 k / (k + 1) >= s^2 / 2``; so the sum of m shares is within ``exp(+-6 m
exp(-pi^2 s^2))``, at every point. The least sigma that is granted is 2^-6 and n is at most 64, thus ``s >= 2^11`` and
``exp(-pi^2 s^2) < 10^(-10^7)``: for any number of cells and questions that can be asked it is nothing beside the
`SLACK` that `dpsynth.privacy.spending.accounting` takes off for the lattice (Kairouz, Liu & Steinke 2021, Theorem 1,
has the same term). The sum is charged as one discrete Gaussian of variance ``sigma^2``.

**A sum of rounded normals** (gradients). Shares are ``round(N_i)`` with N_i normal of standard deviation ``s`` in whole
multiples of clipping norm / 2^26. The Fourier series of the law of ``round(N_i)`` is ``f(u) sinc(u / 2 pi)`` plus
aliases, where f is that of N_i; on ``|u| <= pi`` the aliases are below ``3 exp(-pi^2 s^2 / 2)``. For the sum of m
shares it is, but for aliases, that of a normal N of variance ``m s^2`` times ``sinc^m``, the Fourier transform of the
B-spline B of order m. So the sum has the law of an integer z drawn with probability ``B(z - N)``: the spline is not
negative and its shifts by whole numbers add up to 1. As exact sums are whole, ``whole + sum of shares`` is drawn in the
same way from ``whole + N``: post-processing of the continuous Gaussian mechanism of variance ``m s^2 = sigma^2``, with
nothing beyond its price. The aliases move each probability by at most ``4 m exp(-pi^2 s^2 / 2)``; over the 2^64 whole
numbers that a message can hold, and tails beyond them that weigh less, this is a delta below ``10^(-10^9)`` a number,
as ``s >= 0.3 2^26 / sqrt(64)``.

**Nothing wraps.** n exact answers are clipped to ``2^42 / n`` (and 2^40) each, so that they are at most 2^62 on the
lattice, together; clipping moves two neighbours no further apart. The noise of all n has a standard deviation of at
most ``sqrt(64) 2^34 2^20 = 2^57``: beyond 2^62 it would be 32 of them. A sum of gradients is refused by a hospital
beyond ``2^61 / n``, which no step can reach that `dpsynth.privacy.training.dpsgd` allows. So the signed number modulo
2^64 is the sum itself.

Sensitivity of a hospital's answer is that of `dpsynth.privacy.answers`; a patient who may be in m hospitals moves m of
the summands, the sum by m times as much (triangle inequality), and `Session` multiplies by it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.query import Query
from dpsynth.errors import DpsynthError, InputError
from dpsynth.privacy.answers import PrivateAnswers, by_sigma, scaled_interaction, shielded
from dpsynth.privacy.images.features import Division, Features
from dpsynth.privacy.images.sums import SUM_UNIT, product_sigmas
from dpsynth.privacy.mechanisms import MAX_VALUE, Integers, LatticeNoise
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.training.patients import of_images, of_rows

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.privacy.training.dpsgd import Objective
    from dpsynth.privacy.training.per_patient import Backend
    from dpsynth.sources.scanned import ScannedCohort

Words = NDArray[np.uint64]
"""Whole numbers modulo 2^64."""

MOST_HOSPITALS = 64
MOST_TOGETHER = 2**42
MOST_MULTIPLES = 2**61


@dataclass(frozen=True, eq=False)
class Sharing:
    """How a hospital's answers are shared: with how many others, and by what they are hidden.

    Parameters
    ----------
    hospitals
        n, from 2 to 64.
    colluding
        t, of which the noise is not needed; at most n - 1, and 1 where there are two hospitals.
    hide
        Adds the masks of the question that is being answered, modulo 2^64; called once a question.

    Raises
    ------
    InputError
        When n and t do not fit.
    """

    hospitals: int
    colluding: int
    hide: Callable[[Sequence[Words]], list[Words]]

    def __post_init__(self) -> None:
        n, t = self.hospitals, self.colluding
        if not (2 <= n <= MOST_HOSPITALS and 0 <= t <= n - 1):
            raise InputError(
                f"hospitals: found {n} of which {t} may collude, expected 2 to {MOST_HOSPITALS}, fewer collude."
            )
        if n == 2 and t != 1:
            raise InputError("hospitals: of 2 each must add all of the noise, as if the other colluded.")

    def sigma(self, sigma: float) -> float:
        """Return the standard deviation of one share of noise of ``sigma``.

        Examples
        --------
        >>> Sharing(5, 1, list).sigma(8.0)
        4.0
        """
        return sigma / math.sqrt(self.hospitals - self.colluding)

    @property
    def most(self) -> int:
        """The largest exact answer of one hospital."""
        return min(MAX_VALUE, MOST_TOGETHER // self.hospitals)


class SumsAlone:
    """Refuses what is no sum over hospitals, at the lead and at each of them."""

    def errors(self, *_: Any, **__: Any) -> Any:
        """Refuse: an L1 error is no sum over hospitals."""
        raise not_linear("errors of marginals")

    def best(self, *_: Any, **__: Any) -> Any:
        """Refuse: the worst modelled marginal is no sum over hospitals."""
        raise not_linear("a selection")

    def keys(self, *_: Any, **__: Any) -> Any:
        """Refuse: values that only one hospital has would have to be compared by name."""
        raise not_linear("discovery of values")

    def votes(self, *_: Any, **__: Any) -> Any:
        """Refuse: teachers learn between calls, each from its own patients."""
        raise not_linear("votes of teachers")


class ShareAnswers(SumsAlone, PrivateAnswers):
    """What one hospital answers: exact sums of its patients plus its share of the noise, hidden by masks.

    Every method returns whole numbers modulo 2^64, on the lattice of the noise; `joined` reads the sum over hospitals.

    Parameters
    ----------
    cohort, cap, noise
        As for `PrivateAnswers`.
    sharing
        With whom.
    """

    def __init__(self, cohort: "Cohort | ScannedCohort", cap: int, noise: LatticeNoise, sharing: Sharing) -> None:
        super().__init__(cohort, cap, noise)
        self._lattice = noise
        self._sharing = sharing

    def counts(self, queries: Sequence[Query], sigmas: Sequence[float]) -> list[Any]:
        """Return each query's counts with a share of the noise, hidden."""
        return shielded("counting", lambda: self._share(self._exact(queries), sigmas))

    def interactions(self, queries: Sequence[Query], sigmas: Sequence[float]) -> list[Any]:
        """Return each query's interaction, times its cells, with a share of the noise, hidden."""
        scales = [sigma * query.size for sigma, query in zip(sigmas, queries, strict=True)]
        return shielded(
            "counting", lambda: self._share([scaled_interaction(table) for table in self._exact(queries)], scales)
        )

    def image_sums(self, groups: Query, features: Features, sigma: float, division: Division | None = None) -> Any:
        """Return sums of clipped features by group, or part of a group, with a share of the noise, hidden."""
        return shielded(
            "summing images", lambda: self._share([self._summed(groups, features, division)], [sigma * SUM_UNIT])
        )

    def image_products(self, groups: Query, features: Features, sigma: float, division: Division | None = None) -> Any:
        """Return both halves of the products by group, or part of a group, with shares of the noise, hidden."""
        return shielded(
            "summing images", lambda: self._share(self._multiplied(groups, features, division), product_sigmas(sigma))
        )

    def images_per_row(self, sigma: float) -> Any:
        """Return the number of rows with 0, 1, ... images with a share of the noise, hidden."""
        return shielded("counting images", lambda: self._share([self._image_numbers()], [sigma]))

    def gradients(
        self, objective: "Objective", plan: TrainingPlan, *, records: str, expected: float, backend: "Backend"
    ) -> Iterator[Any]:
        """Yield once a step the sum of clipped gradients with a share of the noise, hidden."""
        from dpsynth.privacy.training.dpsgd import UNIT, Gradients

        def opened() -> Gradients:
            reader = of_rows if records == "rows" or self._parts.schema.images is None else of_images
            patients = [reader(part) for part in self._parts]
            return Gradients(objective, patients, plan, self._noise, expected=expected, backend=backend)

        sigma = self._sharing.sigma(plan.noise_multiplier * UNIT)
        for whole in shielded("training", opened).whole_sums():
            if int(np.abs(whole).max(initial=0)) > MOST_MULTIPLES // self._sharing.hospitals:
                raise DpsynthError("a step's sum of gradients is beyond what was derived not to wrap; lower the rate.")
            drawn = self._noise.rounded_gaussian(np.zeros(whole.shape), sigma)
            yield self._sharing.hide([(whole + drawn.astype(np.int64)).view(np.uint64)])[0]

    def _share(self, exact: Sequence[Integers], sigmas: Sequence[float]) -> list[Words]:
        """Add this hospital's share of the noise on the lattice, then the masks."""

        def add(values: Integers, sigma: float) -> Integers:
            return self._lattice.on_lattice(values, self._sharing.sigma(sigma), most=self._sharing.most)

        return self._sharing.hide([np.asarray(t, order="C").view(np.uint64) for t in by_sigma(exact, sigmas, add)])


NOT_LINEAR = {
    "errors of marginals": "Use the model 'prism', which asks for sums alone.",
    "a selection": "Use the model 'prism' in place of 'aim' and 'mst'.",
    "discovery of values": "List the values in the study's schema, in place of `discover: true`.",
    "votes of teachers": "Use 'tabular-diffusion' or 'prism' in place of 'pate-gan'.",
}
"""What several hospitals cannot answer together, and what to do in its place."""


def not_linear(what: str) -> InputError:
    """Return the refusal of a question that is no sum over hospitals; it is raised before anything is spent."""
    return InputError(f"several hospitals: {what} is no sum over hospitals and is not asked. {NOT_LINEAR[what]}")


def joined(answers: Sequence[Words]) -> Integers:
    """Return the sum over all hospitals of what each of them answered: the masks cancel.

    Parameters
    ----------
    answers
        One array of each hospital.

    Returns
    -------
    int64 array
        Noisy, on the lattice of the noise: public.

    Examples
    --------
    >>> mask = np.array([2**63 + 5], dtype=np.uint64)
    >>> seven, minus_three = (np.array([n], dtype=np.int64).view(np.uint64) for n in (7, -3))
    >>> joined([seven + mask, minus_three - mask]).tolist()
    [4]
    """
    total = np.zeros(answers[0].shape, dtype=np.uint64)
    for answer in answers:
        total += answer
    return total.view(np.int64)
