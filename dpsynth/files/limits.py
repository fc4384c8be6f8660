"""How much memory the images of a cohort may take."""

import os

from dpsynth.errors import DataError

__all__ = ["check_memory"]

MAX_BYTES = 2**34
"""Most bytes of one array, and of all images of a cohort: 350,000 colour images of 128 x 128."""


def check_memory(needed: int) -> None:
    """Refuse what would not fit, before memory is taken for it.

    Raises
    ------
    DataError
        If it is more than `MAX_BYTES`, or more than the machine has.
    """
    if needed > min(MAX_BYTES, _physical()):
        raise DataError(
            f"images: they would take more memory than there is, or than {MAX_BYTES >> 30} GiB. Declare a smaller size "
            "and resize: true for image files, or give fewer of them."
        )


def _physical() -> int:
    """Return the bytes of memory of the machine, where it tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return MAX_BYTES
