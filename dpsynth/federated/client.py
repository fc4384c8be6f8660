"""The hospital's side of the transport: it connects outwards, asks for the next question, and sends its answer.

The network lives in a thread of its own, so that a hospital which is at work on an answer is still heard from. Whatever
fails on the way is tried again: the lead keeps a question until it is answered, and an answer counts once however often
it is sent. What does not fail by chance (another key, another study file, a certificate, a clock) ends it with words.

**Privacy contract.** What goes out is what `answer` returned, and the hospital's public keys. No port is opened.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import aiohttp

from dpsynth.federated.background import Background
from dpsynth.federated.conversation import Conversation, facts_of
from dpsynth.federated.failing import TAKEOVER, Trying, plain
from dpsynth.federated.keys import PrivateKeys
from dpsynth.federated.proxies import endpoint, proxy_for
from dpsynth.federated.signing import WINDOW, Guard, Head, TransportError

__all__ = ["Link"]

BEAT = 5.0
"""Seconds between signs of life; three of them are missed before a hospital counts as silent."""
PATIENCE = 600.0
_FAREWELL = 2.0


class Link:
    """One hospital's connection to the lead's relay; open it with ``with``.

    Parameters
    ----------
    study
        SHA-256 of the study file: `dpsynth.federated.study.Study.digest`.
    keys
        The hospital's.
    name
        The hospital's name in the study file.
    address
        The lead's, such as ``https://lead.example.org``.
    fingerprint
        The lead's, from the study file.
    lead
        The lead's name in the study file.
    proxy
        URL of a proxy; default: that of the environment (``HTTPS_PROXY``, ``NO_PROXY``). Empty text: none.
    authority
        PEM file with the authority of a proxy that inspects TLS; without one the lead's own certificate is demanded.
    patience
        Seconds for which the lead may not be reached before the hospital gives up.
    beat
        Seconds between signs of life.
    takeover
        Seconds to wait where another process speaks for this hospital: one that was killed makes way by then.
    window
        Seconds that clocks may differ.
    clock
        Seconds since 1970.
    notice
        Called with words for a person: that the lead cannot be reached, that it is reached again.
    """

    def __init__(
        self,
        study: str,
        keys: PrivateKeys,
        *,
        name: str,
        address: str,
        fingerprint: str,
        lead: str = "lead",
        proxy: str | None = None,
        authority: Path | None = None,
        patience: float = PATIENCE,
        beat: float = BEAT,
        takeover: float = TAKEOVER,
        window: float = WINDOW,
        clock: Callable[[], float] = time.time,
        notice: Callable[[str], None] = lambda _words: None,
    ) -> None:
        url = endpoint(address)
        self._talk = Conversation(
            study,
            keys,
            name=name,
            lead=lead,
            fingerprint=fingerprint,
            url=url,
            proxy=proxy_for(url, proxy),
            authority=authority,
            guard=Guard(study, name, window=window, clock=clock),
            clock=clock,
        )
        self._patience, self._beat, self._takeover, self._notice = patience, beat, takeover, notice
        self._background = Background("dpsynth link")
        self._answered: tuple[int, str, bytes] | None = None
        self._is_over = False

    def __enter__(self) -> Self:
        self._background.start()
        try:
            self._background.wait(self._exchange("beat"))
            self._background.begin(self._keep_beating())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self._is_over:
                with contextlib.suppress(TransportError, aiohttp.ClientError, OSError):
                    self._background.wait(asyncio.wait_for(self._talk.send("bye"), _FAREWELL))
        finally:
            self._stop()

    def serve(self, answer: Callable[[bytes], bytes]) -> str:
        """Answer what the lead asks until it asks no more.

        Parameters
        ----------
        answer
            Takes a question's bytes and returns those of its answer: `dpsynth.federated.hospital.Hospital.answer`. It
            runs in the thread that called `serve`, which an interrupt reaches; it is called once for each question.

        Returns
        -------
        str
            What the lead says of the end.

        Raises
        ------
        TransportError
            If the lead stopped before it was done, or cannot be reached any more.
        MessageRefused
            If the lead's relay refuses this hospital, or its messages cannot be believed.
        """
        while True:
            head, body = self._background.wait(self._exchange("poll"))
            if head.kind == "end":
                return self._ended(body)
            if head.kind == "question":
                self._background.wait(self._exchange("answer", self._answer(head, body, answer), head.question))

    def _answer(self, head: Head, body: bytes, answer: Callable[[bytes], bytes]) -> bytes:
        """Return the answer to a question; the last one again where it is asked again."""
        last = self._answered
        if last is None or last[:2] != (head.question, head.digest):
            last = self._answered = (head.question, head.digest, answer(body))
        return last[2]

    def _ended(self, body: bytes) -> str:
        self._is_over = True
        facts = facts_of(body, "done", "reason")
        reason = plain(facts["reason"])
        if facts["done"] is not True:
            raise TransportError(f"the study was not finished: {reason}")
        return reason

    async def _exchange(self, kind: str, body: bytes = b"", question: int = 0) -> tuple[Head, bytes]:
        trying = Trying(self._patience, self._takeover, self._notice)
        return await self._talk.exchange(trying, kind, body, question)

    def _stop(self) -> None:
        self._background.wait(self._talk.close())
        self._background.stop()

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(self._beat)
            with contextlib.suppress(Exception):  # the next message says it
                await self._talk.send("beat")
