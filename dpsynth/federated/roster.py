"""Who of a study's hospitals is here, silent, or has left; and that one process alone speaks for each.

A process that was killed falls silent; one that was frozen falls silent and comes back. Neither can be told from a line
that is cut, so silence is noticed and said, and ends nothing by itself: a question waits for as long as it waits.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal

from dpsynth.federated.signing import MessageRefused

__all__ = ["Roster", "State"]

State = Literal["awaited", "here", "silent", "left"]


@dataclasses.dataclass
class _Place:
    process: str = ""
    heard: float = 0.0
    state: State = "awaited"
    replaced: set[str] = dataclasses.field(default_factory=set)


class Roster:
    """Keeps for each hospital which process speaks for it and when it was last heard.

    Parameters
    ----------
    names
        The hospitals' names in the study file.
    silence
        Seconds without a word after which a hospital counts as silent, and another process may take its place.
    clock
        Seconds that never go back.
    notice
        Called with a name and its new state.

    Examples
    --------
    >>> now = 0.0
    >>> roster = Roster(["north"], silence=15, clock=lambda: now, notice=print)
    >>> roster.hear("north", "a1")
    north here
    >>> now = 16.0
    >>> roster.look()
    north silent
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        silence: float,
        clock: Callable[[], float],
        notice: Callable[[str, State], None],
    ) -> None:
        self._places = {name: _Place() for name in names}
        self._silence = silence
        self._clock = clock
        self._notice = notice

    @property
    def states(self) -> dict[str, State]:
        """The state of each hospital."""
        return {name: place.state for name, place in self._places.items()}

    def hear(self, name: str, process: str) -> None:
        """Note a word of a hospital's process.

        Raises
        ------
        MessageRefused
            ``twice`` where another process speaks for the hospital; ``replaced`` where another has taken over from
            this one when it was silent.
        """
        place = self._places[name]
        if process in place.replaced:
            raise MessageRefused(
                "replaced",
                f"{name}: another process with this key took over while this one was silent; two with one key are "
                "refused. Stop this one.",
            )
        if place.process not in ("", process):
            self._take_over(name, place)
        place.process, place.heard = process, self._clock()
        self._become(name, place, "here")

    def leave(self, name: str) -> None:
        """Note that a hospital has said that it leaves."""
        self._become(name, self._places[name], "left")

    def look(self) -> None:
        """Note who has fallen silent."""
        for name, place in self._places.items():
            if place.state == "here" and self._is_silent(place):
                self._become(name, place, "silent")

    def _take_over(self, name: str, place: _Place) -> None:
        if place.state != "left" and not self._is_silent(place):
            raise MessageRefused(
                "twice",
                f"{name}: another process with this key takes part already; two with one key are refused. Stop the "
                f"other one; a process that was killed makes way after {self._silence:g} s.",
            )
        place.replaced.add(place.process)

    def _is_silent(self, place: _Place) -> bool:
        return self._clock() - place.heard > self._silence

    def _become(self, name: str, place: _Place, state: State) -> None:
        if place.state != state:
            place.state = state
            self._notice(name, state)
