"""The trusted kernel: the only code that reads private values.

What a model or a user needs of it; the parts can be read in the order budget, accounting, mechanisms, counting,
answers, session, ledger.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpsynth.privacy.accounting import Event
    from dpsynth.privacy.budget import Budget, default_delta
    from dpsynth.privacy.counting import Query
    from dpsynth.privacy.ledger import Ledger
    from dpsynth.privacy.session import NoisyCounts, Session

_HOME = {
    "Budget": "budget",
    "Event": "accounting",
    "Ledger": "ledger",
    "NoisyCounts": "session",
    "Query": "counting",
    "Session": "session",
    "default_delta": "budget",
}

__all__ = ["Budget", "Event", "Ledger", "NoisyCounts", "Query", "Session", "default_delta"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dpsynth.privacy' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dpsynth.privacy.{_HOME[name]}"), name)
