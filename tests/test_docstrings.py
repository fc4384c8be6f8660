"""The examples in the docstrings of the ground floor, the models and the command line are true."""

import doctest
import importlib
import pkgutil

import pytest

import dpsynth
import dpsynth.models

MODULES = [
    one.name
    for package in (dpsynth, dpsynth.models)
    for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    """Examples in docstrings give what they show."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    """The modules are found, and the conditions of the command line are among them."""
    assert {"dpsynth.columns.written_conditions", "dpsynth.models.base", "dpsynth.privacy.session"} <= set(MODULES)
