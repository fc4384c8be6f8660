"""What an audit found: claim, bounds, checks, and a verdict that is never better than what was looked at."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpsynth.evaluation.audit.bounds import UNSURE, Bound, curve_bound, gaussian_bound, one_run, p_value
from dpsynth.evaluation.audit.curves import Curve, dp_curve, gaussian_curve, gaussian_mu
from dpsynth.evaluation.audit.one_run import guess, one_run_p

__all__ = ["Attack", "Audit", "AuditVerdict", "Check", "Claim", "attacked", "attacked_once"]


class AuditVerdict(StrEnum):
    """What an audit may say: of an attack, never that the claim holds; of files, that they do not contradict it."""

    VIOLATION = "violation found"
    NONE = "none found at this power"
    CONSISTENT = "consistent"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Claim:
    """The guarantee that is claimed of a mechanism: epsilon at delta, or the Gaussian trade-off curve that gives it.

    Parameters
    ----------
    epsilon, delta : float
        The whole budget.
    gaussian : bool
        Whether the claim is the Gaussian curve that gives this epsilon at delta, which says more.
    """

    epsilon: float
    delta: float
    gaussian: bool = False

    @property
    def mu(self) -> float | None:
        """The mu of the Gaussian curve that is claimed; None where none is."""
        return gaussian_mu(self.epsilon, self.delta) if self.gaussian else None

    @property
    def curve(self) -> Curve:
        """The claimed trade-off curve."""
        mu = self.mu
        return dp_curve(self.epsilon, self.delta) if mu is None else gaussian_curve(mu)


@dataclass(frozen=True)
class Check:
    """One claim of a release that its own files can refute.

    Parameters
    ----------
    name : str
        What was checked, in words.
    verdict : AuditVerdict
        `AuditVerdict.CONSISTENT` where nothing contradicts it: an exact check has no power to speak of.
    detail : str
        What was found beside what was claimed, or why it was not run.
    """

    name: str
    verdict: AuditVerdict
    detail: str


@dataclass(frozen=True)
class Attack:
    """An attack, what it showed, and whether that contradicts the claim.

    Parameters
    ----------
    name, canary : str
        Who attacked, and which patient was looked for.
    runs : int
        Fits in each world; 1 where all canaries stood in one.
    bounds : tuple of Bound
        Lower bounds on epsilon, each at the attack's confidence.
    p : float or None
        Probability of so few errors if the claimed curve held; None where nothing was run.
    refuted : bool
        Whether p is below what the confidence leaves.
    reason : str
        Why it was not run.
    """

    name: str
    canary: str
    runs: int = 0
    bounds: tuple[Bound, ...] = ()
    p: float | None = None
    refuted: bool = False
    reason: str = ""

    @property
    def verdict(self) -> AuditVerdict:
        """What this attack says of the claim."""
        if self.p is None:
            return AuditVerdict.NOT_RUN
        return AuditVerdict.VIOLATION if self.refuted else AuditVerdict.NONE


@dataclass(frozen=True)
class Audit:
    """An audit: every attack and check, and what they say together.

    Parameters
    ----------
    subject
        What was audited.
    claim
        What was claimed of it.
    confidence
        Of the whole audit: if all claims hold, the probability that nothing is called a violation. Each attack gets
        an equal part of what is left.
    attacks, checks
        See there.
    facts
        Public facts for the reader: the cohort, model and options.
    """

    subject: str
    claim: Claim
    confidence: float
    attacks: tuple[Attack, ...] = ()
    checks: tuple[Check, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> AuditVerdict:
        """A violation if anything found one; else what the attacks say, not what files say of themselves."""
        return AuditVerdict.VIOLATION if self.of_checks is AuditVerdict.VIOLATION else self.of_attacks

    @property
    def of_attacks(self) -> AuditVerdict:
        """What the attacks say together."""
        return _worst(self.attacks)

    @property
    def of_checks(self) -> AuditVerdict:
        """What the checks of a release's files say together."""
        return _worst(self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the audit as JSON-able values."""
        return {
            "subject": self.subject,
            "verdict": str(self.verdict),
            "verdict_of_attacks": str(self.of_attacks),
            "verdict_of_files": str(self.of_checks),
            "claim": {**asdict(self.claim), "mu": self.claim.mu},
            "confidence": self.confidence,
            "attacks": [
                {
                    **asdict(attack),
                    "verdict": str(attack.verdict),
                    "bounds": [bound.to_dict() for bound in attack.bounds],
                }
                for attack in self.attacks
            ],
            "checks": [{"name": c.name, "verdict": str(c.verdict), "detail": c.detail} for c in self.checks],
            **self.facts,
        }


def _worst(parts: Sequence[Attack | Check]) -> AuditVerdict:
    verdicts = {attack.verdict for attack in parts}
    return next(
        (v for v in (AuditVerdict.VIOLATION, AuditVerdict.NONE, AuditVerdict.CONSISTENT) if v in verdicts),
        AuditVerdict.NOT_RUN,
    )


def attacked(
    name: str,
    canary: str,
    scores: tuple[ArrayLike, ArrayLike],
    claim: Claim,
    *,
    runs: int,
    confidence: float,
    curve: Curve | None = None,
) -> Attack:
    """Judge scores whose threshold 0 was fixed before they were made.

    Parameters
    ----------
    name, canary, runs
        See `Attack`.
    scores : pair of array_like of float, shape (runs,)
        Of runs without and with the canary; above 0 says inside.
    claim : Claim
        What is claimed.
    confidence : float
        Of this attack.
    curve : callable, optional
        The trade-off curve that is claimed of what was attacked, where it says more than the claim of the whole.

    Returns
    -------
    Attack
    """
    settings: dict[str, Any] = {"delta": claim.delta, "confidence": confidence, "threshold": 0.0}
    plain = curve_bound(*scores, **settings)
    bounds: Sequence[Bound] = (plain, gaussian_bound(*scores, **settings)) if claim.gaussian else (plain,)
    assert plain.errors is not None  # noqa: S101  (a bound of two worlds has its counts)
    p = p_value(plain.errors, curve or claim.curve, unsure=min(UNSURE, (1 - confidence) / 100))
    return Attack(name, canary, runs, tuple(bounds), p, refuted=p < 1 - confidence)


def attacked_once(
    name: str,
    scores: ArrayLike,
    put_in: NDArray[np.bool_],
    claim: Claim,
    *,
    guesses: int,
    confidence: float,
) -> Attack:
    """Judge the scores of canaries of a single run, each put in by its own fair coin.

    Parameters
    ----------
    name, claim, confidence
        As for `attacked`.
    scores, put_in
        (canaries,) higher where a canary looks as if it was in; the coins.
    guesses : int
        How many canaries are guessed, fixed beforehand.

    Returns
    -------
    Attack
    """
    right, canaries = guess(scores, put_in, guesses), len(put_in)
    bound = one_run(right, guesses, canaries, delta=claim.delta, confidence=confidence)
    p = one_run_p(claim.epsilon, right, guesses, canaries, claim.delta)
    return Attack(name, f"{canaries} strangers", 1, (bound,), p, refuted=p < 1 - confidence)
