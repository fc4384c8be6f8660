"""Reports of progress: the type of the function that is called, and the one that says nothing."""

from collections.abc import Callable

__all__ = ["Progress", "silent"]

Progress = Callable[[str, float], None]
"""Called with the name of the phase and the share of it that is done, 0 to 1."""


def silent(_phase: str, _share: float) -> None:
    """Report no progress: the default where a caller passes no `Progress`."""
