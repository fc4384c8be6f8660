"""Synthesizers by name: our own and those that other packages register."""

import inspect
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dpsynth.errors import InputError
from dpsynth.models.base import Synthesizer

GROUP = "dpsynth.models"


@cache
def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def available() -> list[str]:
    """Return the names of the installed synthesizers, without importing them."""
    return sorted(_registered())


def synthesizer(name: str) -> type[Synthesizer]:
    """Return the synthesizer class of that name (entry points of the group ``dpsynth.models``).

    Raises
    ------
    InputError
        If there is none of that name, or what it needs is not installed.
    """
    point = _registered().get(name)
    if point is None:
        raise InputError(f"model {name!r} is not known; expected one of {', '.join(available())}.")
    try:
        registered = point.load()
    except ImportError as error:
        raise InputError(
            f"model {name!r} needs the package {error.name!r}, which is not installed; "
            "install dpsynth with the extra that the model's documentation names."
        ) from error
    if not (isinstance(registered, type) and issubclass(registered, Synthesizer)):
        raise InputError(
            f"model {name!r}: the entry point is not a Synthesizer; mend or remove the package it is from."
        )
    return registered


def make(name: str, **options: Any) -> Synthesizer:
    """Return the synthesizer of that name with these options.

    Raises
    ------
    InputError
        If the name or an option is unknown.
    """
    maker = synthesizer(name)
    names = [p for p in inspect.signature(maker).parameters if p != "self"]
    unknown = sorted(set(options) - set(names))
    if unknown:
        raise InputError(f"model {name!r} has no option {unknown[0]!r}; its options are: {', '.join(names) or 'none'}.")
    return maker(**options)
