"""What the relay holds: the question that is open, who has answered it, and what each message of a hospital gets back.

A question is kept until every hospital has answered it or the lead ends it: a poll that dies on the way took nothing
with it. An answer is kept once for each hospital and question; the same again is thanked for, another one is refused.

**Privacy contract.** Answers are opaque: masked before they were sent, each uniform by itself. They lie in temporary
files of the lead until they are added up.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO

from dpsynth.federated.roster import Roster
from dpsynth.federated.signing import Head, MessageRefused
from dpsynth.federated.wire import Reader, read_body

__all__ = ["Desk", "Reply"]

_PATIENCE = 60.0
"""Seconds to wait for the next piece of an answer."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """What goes back to a hospital.

    Parameters
    ----------
    kind
        ``question``, ``wait``, ``thanks``, ``late``, ``end``, ``welcome`` or ``refused``.
    body
        What it holds.
    question
        The number of the question that it is about.
    digest
        SHA-256 of the body, where it is known already.
    """

    kind: str
    body: bytes = b""
    question: int = 0
    digest: str | None = None


@dataclasses.dataclass
class _Open:
    number: int
    reply: Reply
    answers: dict[str, tuple[str, IO[bytes]]] = dataclasses.field(default_factory=dict)

    def close(self) -> None:
        for _, file in self.answers.values():
            file.close()


class Desk:
    """Keeps the open question and its answers; lives in the relay's event loop.

    Parameters
    ----------
    names
        The hospitals' names in the study file.
    roster
        Who is here.
    hold
        Seconds that a poll is held before it is told to ask again.
    limit
        The largest answer in bytes.
    folder
        Where large answers are kept until they are read.
    """

    def __init__(self, names: Collection[str], roster: Roster, *, hold: float, limit: int, folder: Path) -> None:
        self._names = frozenset(names)
        self._roster = roster
        self._hold = hold
        self._limit = limit
        self._folder = folder
        self._open: _Open | None = None
        self._end: Reply | None = None
        self._told: set[str] = set()
        self._changed = asyncio.Event()

    async def ask(self, number: int, body: bytes, seconds: float) -> dict[str, bytes]:
        """Open a question, and return what was answered when all have answered, one has left, or time is over."""
        reply = Reply("question", body, number, hashlib.sha256(body).hexdigest())
        asked = self._open = _Open(number, reply)
        self.change()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._until(lambda: self._is_over(asked))
            return {name: file.read() for name, (_, file) in asked.answers.items()}
        finally:
            self._open = None
            asked.close()

    async def end(self, reason: str, *, is_done: bool, seconds: float) -> None:
        """Tell every hospital that is here that no more is asked, and wait so long for them to hear it."""
        self._end = Reply("end", json.dumps({"done": is_done, "reason": reason}).encode())
        self.change()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._until(lambda: self._here() <= self._told)

    async def reply(self, head: Head, content: Reader) -> Reply:
        """Return what a believed message of a hospital gets back.

        Raises
        ------
        MessageRefused
            If it is of an unknown kind, too large, or another answer than the first one.
        """
        if head.kind == "answer":
            return await self._answered(head, content)
        if head.kind == "poll":
            return await self._polled(head.sender)
        if head.kind == "beat":
            return Reply("thanks")
        if head.kind == "bye":
            self._roster.leave(head.sender)
            self.change()
            return Reply("thanks")
        raise MessageRefused(
            "malformed", f"a message of {head.sender} is of an unknown kind; the versions of dpsynth differ."
        )

    async def _polled(self, name: str) -> Reply:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._hold):
                await self._until(lambda: self._end is not None or self._is_asked(name))
        if self._end is not None:
            self._told.add(name)
            self.change()
            return self._end
        return self._open.reply if self._open is not None and self._is_asked(name) else Reply("wait")

    async def _answered(self, head: Head, content: Reader) -> Reply:
        file = await read_body(content, head, limit=self._limit, seconds=_PATIENCE, folder=self._folder)
        asked = self._open
        if asked is None or head.question != asked.number:
            file.close()
            return Reply("late", question=head.question)
        first = asked.answers.get(head.sender)
        if first is None:
            asked.answers[head.sender] = (head.digest, file)
            self.change()
            return Reply("thanks", question=head.question)
        file.close()
        if first[0] != head.digest:
            raise MessageRefused(
                "conflict", f"{head.sender} answered question {head.question} twice and differently; the first counts."
            )
        return Reply("thanks", question=head.question)

    def change(self) -> None:
        """Wake everybody who waits for something to change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self._changed.wait()

    def _is_asked(self, name: str) -> bool:
        return self._open is not None and name not in self._open.answers

    def _is_over(self, asked: _Open) -> bool:
        left = {name for name, state in self._roster.states.items() if state == "left"}
        return bool(left) or self._names <= asked.answers.keys()

    def _here(self) -> set[str]:
        return {name for name, state in self._roster.states.items() if state == "here"}
