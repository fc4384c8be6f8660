"""Private synthetic medical cohorts: learn a patient table under differential privacy, release it, and judge it.

The names below are loaded when they are first used, so that ``import dpsynth`` is quick.
"""

import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpsynth.cohort import Cohort
    from dpsynth.models import load_model as load
    from dpsynth.privacy.budget import Budget
    from dpsynth.schema import Schema
    from dpsynth.workflow import evaluate, fit, plan, release

__version__ = "0.1.0"

__all__ = ["Budget", "Cohort", "Schema", "__version__", "evaluate", "fit", "load", "plan", "release"]

_HOME = {
    "Budget": ("dpsynth.privacy.budget", "Budget"),
    "Cohort": ("dpsynth.cohort", "Cohort"),
    "Schema": ("dpsynth.schema", "Schema"),
    "evaluate": ("dpsynth.workflow", "evaluate"),
    "fit": ("dpsynth.workflow", "fit"),
    "load": ("dpsynth.models", "load_model"),
    "plan": ("dpsynth.workflow", "plan"),
    "release": ("dpsynth.workflow", "release"),
}

_CHECKOUT = Path(__file__).parent.parent
if all((_CHECKOUT / name / "__init__.py").is_file() for name in ("models", "evaluation")):
    __path__.append(str(_CHECKOUT))  # a bare checkout: these two lie beside this folder and are imported as parts of it

logging.getLogger("dpsynth").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dpsynth' has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
