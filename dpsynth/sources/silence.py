"""A guard that withholds warnings and log records of foreign code while private values are read: they may hold some."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["quiet"]


class _Silence:
    """What a process says is one thing for all of its threads: the first that looks silences it, the last restores it.

    Each by itself would restore what it found, and a thread that began while another looked found silence.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._looking = 0
        self._before = logging.NOTSET
        self._warnings = warnings.catch_warnings()

    def begin(self) -> None:
        """Silence the process, if nobody has."""
        with self._lock:
            self._looking += 1
            if self._looking == 1:
                self._before = logging.root.manager.disable
                logging.disable(logging.CRITICAL)
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.simplefilter("ignore")

    def end(self) -> None:
        """Restore what was, if nobody looks any more."""
        with self._lock:
            self._looking -= 1
            if self._looking == 0:
                self._warnings.__exit__(None, None, None)
                logging.disable(self._before)


_SILENCE = _Silence()


@contextmanager
def quiet() -> Iterator[None]:
    """Let no warning and no log record out while private values are looked at, in whatever process or thread."""
    _SILENCE.begin()
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _SILENCE.end()
