"""Reads that nobody paid for: the tape test sees each of them, and nothing without it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_tape as tape
from test_tape import _tape, heard, place  # noqa: F401  (its fixtures: a tape, a listener, a folder)

from dpsynth.errors import InputError
from dpsynth.models.tabular.independent import Independent
from planted_bugs import plants

LEAKS: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    plants.row_count_from_the_data: "one patient more",
    plants.bounds_from_the_data: "values out of range",
    plants.categories_from_the_data: "a category that no other patient has",
    plants.missing_from_the_data: "the first missing values",
}


def published() -> Any:
    """Fit and release; a refusal is a part of what is said."""
    try:
        return tape._published(Independent)
    except InputError as error:
        return str(error)


def difference(folder: Path, listener: Any, neighbour: str) -> set[str]:
    """Return which parts of a release differ between the table and its neighbour, both answered from a tape."""
    first = tape._written(folder, listener, tape._rows(), published)
    second = tape._written(folder, listener, tape.NEIGHBOURS[neighbour](), published)
    return {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}


@pytest.mark.parametrize("plant", LEAKS, ids=lambda plant: plant.__name__)
def test_a_leak_is_seen(
    plant: Callable[[pytest.MonkeyPatch], None],
    place: Path,  # noqa: F811
    heard: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the leak in it the release differs between neighbours, and without it does not."""
    assert difference(place, heard, LEAKS[plant]) == set()
    plant(monkeypatch)
    seen = difference(place, heard, LEAKS[plant])
    assert any(name.startswith("release/") for name in seen), seen
