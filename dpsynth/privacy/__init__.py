"""The trusted kernel: the only code that reads private values.

To audit it, read in this order: budget, accounting (prices and their derivations), mechanisms and rounded_normal
(noise), counting and answers (the only code that holds private values; sensitivities), discovery, account and session
(pay first, look then), records, totals and ledger (what is remembered). checks, noisy, quantiles, trade_offs and
statement handle public facts alone. exact_floats says how floats are computed while gradients are taken.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpsynth.coding.query import Query
    from dpsynth.privacy.session import Session
    from dpsynth.privacy.spending.budget import Budget, default_delta
    from dpsynth.privacy.spending.events import Event
    from dpsynth.privacy.spending.ledger import Ledger
    from dpsynth.privacy.tables.noisy import NoisyCounts, NoisyInteraction

_HOME = {
    "Budget": "dpsynth.privacy.spending.budget",
    "Event": "dpsynth.privacy.spending.events",
    "Ledger": "dpsynth.privacy.spending.ledger",
    "NoisyCounts": "dpsynth.privacy.tables.noisy",
    "NoisyInteraction": "dpsynth.privacy.tables.noisy",
    "Query": "dpsynth.coding.query",
    "Session": "dpsynth.privacy.session",
    "default_delta": "dpsynth.privacy.spending.budget",
}

__all__ = ["Budget", "Event", "Ledger", "NoisyCounts", "NoisyInteraction", "Query", "Session", "default_delta"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dpsynth.privacy' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
