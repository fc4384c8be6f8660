"""Where the patients are: in memory, in files that may be larger, in a database, or on a cluster.

The kernel asks every source the same way, as sums over parts (`Parts`).

A source divides the patients into parts, codes their rows and caps the rows of each patient; it adds no noise and knows
no budget. What it gives is exact and stays in the kernel.
"""

from typing import TYPE_CHECKING, Any

from dpsynth.sources.parts import Part, Parts

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort

__all__ = ["Part", "Parts", "open_parts"]


def open_parts(cohort: "Cohort | Any", cap: int, secret: bytes) -> Parts:
    """Return the parts of a cohort: its own where it brings some, else the one part of a cohort in memory.

    Parameters
    ----------
    cohort
        A `dpsynth.cohort.cohort.Cohort`, or a source with a method ``parts(cap, secret)``.
    cap
        Rows of a patient that are kept at most.
    secret
        32 bytes that choose which rows those are; they never leave the process but to the workers that it starts.
    """
    from dpsynth.sources.memory import Memory

    return cohort.parts(cap, secret) if hasattr(cohort, "parts") else Memory(cohort, cap, secret)
