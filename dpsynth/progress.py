"""How long work reports its progress: what is called, and what stands in where nobody listens."""

from collections.abc import Callable

__all__ = ["Progress", "silent"]

Progress = Callable[[str, float], None]
"""Called with the name of the phase and the share of it that is done, 0 to 1."""


def silent(_phase: str, _share: float) -> None:
    """Report no progress: the default where a caller passes no `Progress`."""
