import doctest
import importlib
import pkgutil

import pytest

import dpsynth.evaluation

MODULES = [one.name for one in pkgutil.walk_packages(dpsynth.evaluation.__path__, "dpsynth.evaluation.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    """Examples in docstrings give what they show."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0
