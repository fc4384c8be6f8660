"""One number of an evaluation with its interval, its status and whether it may be published."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from dpsynth.errors import DpsynthError
from dpsynth.evaluation.catalogue import METRICS, Direction, metric


class DisclosureError(DpsynthError, ValueError):
    """Raised where a number that touched private data without noise would be published."""


class Status(StrEnum):
    """Whether a number is there: it is, the data cannot give it, or computing it went wrong."""

    OK = "ok"
    NOT_ESTIMABLE = "not_estimable"
    FAILED = "failed"


class Disclosure(StrEnum):
    """Whether a number may be published.

    ``public``: computed from what is public already (the schema, the synthetic cohort, counts that the budget paid for,
    or real data that is public). ``internal``: touched private data without noise.
    """

    PUBLIC = "public"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Interval:
    """A confidence interval and which randomness it covers.

    Parameters
    ----------
    low, high : float
        Its ends, in the unit of the value; `low` is at most `high`.
    level : float
        Nominal coverage, in (0, 1).
    covers : tuple of str
        The sources of randomness that it takes into account, such as ``test patients``.
    method : str
        How it was computed.

    Raises
    ------
    ValueError
        If the ends are not finite or not in order, or the level is not in (0, 1).

    Examples
    --------
    >>> Interval(0.75, 0.85, covers=("test patients",)).level
    0.95
    """

    low: float
    high: float
    level: float = 0.95
    covers: tuple[str, ...] = ()
    method: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError("an interval needs finite ends in order")
        if not 0 < self.level < 1:
            raise ValueError("an interval's level lies between 0 and 1")

    def to_dict(self) -> dict[str, Any]:
        """Return the interval as JSON-able values."""
        return {
            "low": self.low,
            "high": self.high,
            "level": self.level,
            "covers": list(self.covers),
            "method": self.method,
        }


@dataclass(frozen=True)
class Result:
    """One number of an evaluation, or the reason why there is none.

    Parameters
    ----------
    metric : str
        A key of `dpsynth.evaluation.catalogue.METRICS`.
    value : float or None
        Finite when `status` is ok, else None. Never NaN and never a stand-in 0.
    interval : Interval or None
        None where no interval is claimed.
    n : int or None
        The number of rows (or of marginals, columns, coefficients: see the metric) that the number stands on.
    group : str
        ``all``, or a subgroup such as ``sex=female``.
    arm : str
        A key of `dpsynth.evaluation.catalogue.ARMS`: what was judged.
    subject : str
        What within the metric: the learner, the column, the coefficient.
    direction : str
        ``higher`` or ``lower`` is better, ``zero`` or ``one`` is ideal, ``none``.
    status : Status
        ``ok``, ``not_estimable`` or ``failed``.
    disclosure : Disclosure
        ``internal`` unless said otherwise.
    reason : str
        Why there is no number, or what to bear in mind; holds no patient's value.
    detail : mapping
        What a table or figure behind the number needs; JSON-able. Shares the result's disclosure.

    Raises
    ------
    ValueError
        If the metric is unknown, or the value does not go with the status.

    Examples
    --------
    >>> result = estimate("auroc", 0.8, n=100, interval=Interval(0.75, 0.85))
    >>> result.number, result.direction, str(result.disclosure)
    (0.8, 'higher', 'internal')
    >>> not_estimable("auroc", "no patient died").ok
    False
    """

    metric: str
    value: float | None
    interval: Interval | None = None
    n: int | None = None
    group: str = "all"
    arm: str = "synthetic"
    subject: str = ""
    direction: Direction = "none"
    status: Status = Status.OK
    disclosure: Disclosure = Disclosure.INTERNAL
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"unknown metric {self.metric!r}")
        if self.status is Status.OK and (self.value is None or not math.isfinite(self.value)):
            raise ValueError(f"{self.metric}: a result that is ok needs a finite value")
        if self.status is not Status.OK and (self.value is not None or self.interval is not None or not self.reason):
            raise ValueError(f"{self.metric}: a result without a number has no value, no interval, and says why")

    @property
    def title(self) -> str:
        """The metric's name on the page."""
        return metric(self.metric).title

    @property
    def section(self) -> str:
        """The part of the report that the metric belongs to."""
        return metric(self.metric).section

    @property
    def ok(self) -> bool:
        """Whether there is a number."""
        return self.status is Status.OK

    @property
    def number(self) -> float:
        """The value of a result that is ok.

        Raises
        ------
        ValueError
            If there is no number.
        """
        if self.value is None:
            raise ValueError(f"{self.metric}: {self.status} ({self.reason})")
        return self.value

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "metric": self.metric,
            "title": self.title,
            "section": self.section,
            "value": self.value,
            "interval": None if self.interval is None else self.interval.to_dict(),
            "n": self.n,
            "group": self.group,
            "arm": self.arm,
            "subject": self.subject,
            "direction": self.direction,
            "status": str(self.status),
            "disclosure": str(self.disclosure),
            "reason": self.reason,
            "detail": jsonable(self.detail),
        }


def estimate(metric: str, value: float, **fields: Any) -> Result:
    """Return a `Result` with a number; a value that is not finite becomes ``failed``, never a number.

    Parameters
    ----------
    metric : str
        A key of the catalogue, which also gives the direction.
    value : float
    **fields
        Further fields of `Result`, such as ``interval``, ``n``, ``group``, ``arm``, ``subject`` and ``disclosure``.

    Returns
    -------
    Result

    Examples
    --------
    >>> estimate("auroc", 0.8).status, estimate("auroc", float("nan")).status
    (<Status.OK: 'ok'>, <Status.FAILED: 'failed'>)
    """
    value = float(value)
    if not math.isfinite(value):
        kept = {key: item for key, item in fields.items() if key in {"n", "group", "arm", "subject", "disclosure"}}
        return failed(metric, "the computation gave no finite number", **kept)
    return Result(metric, value, direction=METRICS[metric].direction, **fields)


def not_estimable(metric: str, reason: str, **fields: Any) -> Result:
    """Return a `Result` that says that the data cannot give this number, and why (``**fields``: see `estimate`)."""
    direction = METRICS[metric].direction
    return Result(metric, None, direction=direction, status=Status.NOT_ESTIMABLE, reason=reason, **fields)


def failed(metric: str, reason: str, **fields: Any) -> Result:
    """Return a `Result` that says that computing this number went wrong, and how (``**fields``: see `estimate`)."""
    direction = METRICS[metric].direction
    return Result(metric, None, direction=direction, status=Status.FAILED, reason=reason, **fields)


def guarded(
    metrics: str | Sequence[str], compute: Callable[[], Result | Iterable[Result]], **fields: Any
) -> list[Result]:
    """Run `compute`; where it raises, return a ``failed`` result with `fields` for each of `metrics`.

    The reason names the kind of error only: a library's message may hold a patient's value.
    """
    try:
        results = compute()
        return [results] if isinstance(results, Result) else list(results)
    except Exception as error:  # any fault of one metric: it is shown as failed, and the others go on
        reason = str(error) if isinstance(error, DpsynthError) else f"the computation stopped ({type(error).__name__})"
        return [failed(name, reason, **fields) for name in ([metrics] if isinstance(metrics, str) else metrics)]


def jsonable(value: Any) -> Any:
    """Return `value` in plain JSON types: arrays become lists; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
