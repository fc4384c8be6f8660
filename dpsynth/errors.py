"""Every error that a user can meet, with the exit code that the command line gives it.

A message names the column, option or file, what was found, what was expected and what to do next.
It never holds a patient's value: counts of offending rows and positions are internal and stay out too.
"""

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar


class DpsynthError(Exception):
    """Base class of every error that dpsynth raises on purpose; a bare one is a fault of ours."""

    exit_code: ClassVar[int] = 1


class InputError(DpsynthError, ValueError):
    """What the user gave cannot be used as it is."""

    exit_code = 2


class SchemaError(InputError):
    """The schema is malformed, contradictory or not confirmed."""


class DataError(InputError):
    """The cohort does not keep what its schema says."""


class FileError(InputError, OSError):
    """A file cannot be read or written."""


class ModelFormatError(InputError):
    """A saved model or release is malformed, truncated or of an unknown version."""


class BudgetExceeded(DpsynthError, ValueError):  # noqa: N818  (the name that the design and its users know)
    """A question would spend more than what was granted; nothing was looked at."""

    exit_code = 3


class LedgerError(DpsynthError, OSError):
    """The ledger cannot be trusted or written, so nothing may be spent."""

    exit_code = 3


def nearest(name: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    """Return a suggestion such as `` (did you mean 'age'?)``, or nothing where no known name is near.

    Parameters
    ----------
    name
        What was written.
    known
        The names that there are.

    Returns
    -------
    str
        With a space before it.

    Examples
    --------
    >>> nearest("aeg", ("age", "sex"))
    " (did you mean 'age'?)"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
