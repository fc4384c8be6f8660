"""What may be said of an error: our own words, and of foreign code nothing that may hold a private value."""

from dpsynth.errors import DpsynthError
from dpsynth.sources.silence import quiet

__all__ = ["WITHHELD", "quiet", "told"]

WITHHELD = "details are withheld because they could hold a patient's values"


def told(error: BaseException) -> str:
    """Return what may be said of an error: our own text, which holds no value, or the kind of a foreign one."""
    return str(error) if isinstance(error, DpsynthError) else f"{type(error).__name__}; {WITHHELD}"
