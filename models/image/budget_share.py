"""A part of a session's budget, for a synthesizer that spends all that it is given."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpsynth.privacy.session import Session


class Portion:
    """A session whose price is limited to a part.

    A matter of planning, not of privacy: the session itself pays and refuses.

    Parameters
    ----------
    session
        The open session.
    rho
        The part, at most what the session has left.
    """

    def __init__(self, session: "Session", rho: float) -> None:
        self._session = session
        self.rho = min(rho, session.rho_left)
        self._kept = session.rho_left - self.rho

    @property
    def rho_left(self) -> float:
        """What is left of the part."""
        return max(0.0, self._session.rho_left - self._kept)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
