"""Engines that tests start: where one is missing, tests are skipped with the reason, or fail where it must be there."""

import os
from typing import NoReturn

import pytest

REQUIRED = "DPSYNTH_REQUIRE_ENGINES"


def missing(reason: str) -> NoReturn:
    """Skip a test whose engine is not there; fail it where engines are required (`.ci/run`)."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason}, and {REQUIRED} says that it must be there")
    pytest.skip(reason)
