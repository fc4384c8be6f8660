"""The trusted kernel: the only code that adds noise and pays for it, and through which all that leaves has gone.

It is in rings that are audited one by one, each with its guarantee, what it trusts and its reading order: `spending`
(no data at all), `tables`, `images`, `training`. After them read here: mechanisms and rounded_normal (noise), quiet and
processes (what foreign code may not say, and which process spends), answer_source and answers (the objects that hold
private values; sensitivities), shares (what one of several hospitals answers), checks (of what is asked, on public
facts), asked, table_questions, image_questions and network_questions (price first, then the answer), resuming (runs
that are taken up), and session (the way in).

Who reads private values before the kernel is told in docs/privacy.md.
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
