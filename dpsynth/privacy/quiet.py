"""A guard that withholds warnings and log records of foreign code: they may hold private values."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from dpsynth.errors import DpsynthError

WITHHELD = "details are withheld because they could hold a patient's values"


@contextmanager
def quiet() -> Iterator[None]:
    """Let no warning and no log record out while private values are looked at, in whatever process."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def told(error: BaseException) -> str:
    """Return what may be said of an error: our own text, which holds no value, or the kind of a foreign one."""
    return str(error) if isinstance(error, DpsynthError) else f"{type(error).__name__}; {WITHHELD}"
