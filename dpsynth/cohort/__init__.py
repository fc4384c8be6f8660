"""A table of patients that keeps what its schema says: rows, visits, images in memory, and keys of rows.

`Cohort` is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

__all__ = ["Cohort"]


def __getattr__(name: str) -> Any:
    if name != "Cohort":
        raise AttributeError(f"module 'dpsynth.cohort' has no attribute {name!r}")
    from dpsynth.cohort.cohort import Cohort

    return Cohort
