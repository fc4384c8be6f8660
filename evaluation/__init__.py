"""Judge a synthetic cohort: everything here takes cohorts, never models.

`evaluate` does the whole evaluation, `first_look` the part of it that takes seconds, and `describe` says of a release
what may be published without any real patient. `split` keeps patients apart for testing.
"""

from dpsynth.evaluation.coins import Coins
from dpsynth.evaluation.evaluation import Evaluation
from dpsynth.evaluation.judge import describe, evaluate
from dpsynth.evaluation.learners.from_outside import Classifier
from dpsynth.evaluation.metrics.inference import Regression
from dpsynth.evaluation.metrics.released import ReleasedCounts, count_intervals
from dpsynth.evaluation.preview import first_look
from dpsynth.evaluation.protocol import Margins, split
from dpsynth.evaluation.result import Disclosure, DisclosureError, Interval, Result, Status
from dpsynth.evaluation.results import PublicResults, Results
from dpsynth.evaluation.sweep import Sweep, SweepRun

__all__ = [
    "Classifier",
    "Coins",
    "Disclosure",
    "DisclosureError",
    "Evaluation",
    "Interval",
    "Margins",
    "PublicResults",
    "Regression",
    "ReleasedCounts",
    "Result",
    "Results",
    "Status",
    "Sweep",
    "SweepRun",
    "count_intervals",
    "describe",
    "evaluate",
    "first_look",
    "split",
]
