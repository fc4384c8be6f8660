"""Judge a synthetic cohort: everything here takes cohorts, never models."""

from dpsynth.evaluation.glance import first_look
from dpsynth.evaluation.results import Disclosure, DisclosureError, Interval, PublicResults, Result, Results, Status

__all__ = [
    "Disclosure",
    "DisclosureError",
    "Interval",
    "PublicResults",
    "Result",
    "Results",
    "Status",
    "first_look",
]
