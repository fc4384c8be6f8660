"""Private synthetic medical cohorts: learn a patient table under differential privacy, release it, and judge it.

The names below are loaded when they are first used, so that ``import dpsynth`` is quick.
"""

import importlib
import logging
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.jobs.draft import draft
    from dpsynth.jobs.evaluate import evaluate
    from dpsynth.jobs.fit import fit, plan
    from dpsynth.jobs.release import release
    from dpsynth.models import load_model as load
    from dpsynth.privacy.spending.budget import Budget
    from dpsynth.schema.schema import Schema
    from dpsynth.sources.scanned import scan

__version__ = "0.1.0"

__all__ = ["Budget", "Cohort", "Schema", "__version__", "draft", "evaluate", "fit", "load", "plan", "release", "scan"]

_HOME = {
    "Budget": ("dpsynth.privacy.spending.budget", "Budget"),
    "Cohort": ("dpsynth.cohort.cohort", "Cohort"),
    "Schema": ("dpsynth.schema.schema", "Schema"),
    "draft": ("dpsynth.jobs.draft", "draft"),
    "evaluate": ("dpsynth.jobs.evaluate", "evaluate"),
    "fit": ("dpsynth.jobs.fit", "fit"),
    "load": ("dpsynth.models", "load_model"),
    "plan": ("dpsynth.jobs.fit", "plan"),
    "release": ("dpsynth.jobs.release", "release"),
    "scan": ("dpsynth.sources.scanned", "scan"),
}


class _Checkout:
    """Finds ``dpsynth.models`` and ``dpsynth.evaluation`` of a bare checkout, where they lie beside this folder."""

    ROOT = Path(__file__).parent.parent
    NAMES = ("models", "evaluation")

    @classmethod
    def find_spec(cls, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Return where one of the two is; None for all other modules."""
        from importlib.util import spec_from_file_location

        package, _, part = name.partition(".")
        if package != "dpsynth" or part not in cls.NAMES:
            return None
        folder = cls.ROOT / part
        return spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])


if all((_Checkout.ROOT / part / "__init__.py").is_file() for part in _Checkout.NAMES):
    sys.meta_path.insert(0, _Checkout)

logging.getLogger("dpsynth").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dpsynth' has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
