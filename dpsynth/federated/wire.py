"""How a message goes over the wire: head, signature, body; large bodies in pieces, on disk rather than in memory.

A body is written and read in pieces of 256 KB: one write of 50 MB keeps the other connections of the same loop waiting,
and some proxies cut it. What is read is hashed as it comes, and lies on disk when it is larger than 8 MB.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Protocol

from dpsynth.federated.messages import MAX_BODY, MAX_HEADER
from dpsynth.federated.signing import Head, MessageRefused, head_length

__all__ = ["LARGEST", "MIME", "PATH", "PIECE", "Reader", "pieces", "read_body", "read_head"]

PIECE = 1 << 18
MIME = "application/octet-stream"
PATH = "/dpsynth/1"
LARGEST = MAX_BODY + MAX_HEADER + 1024
"""Bytes of the largest question or answer."""
_START = 8
_IN_MEMORY = 1 << 23


class Reader(Protocol):
    """What bytes are read from: the content of a request or of a response of aiohttp."""

    async def readexactly(self, n: int) -> bytes:
        """Return n bytes; `asyncio.IncompleteReadError` where fewer come."""
        ...

    async def read(self, n: int = -1) -> bytes:
        """Return at least one and at most n bytes; none at the end."""
        ...


async def read_head(content: Reader, seconds: float) -> bytes:
    """Return head and signature of a message, not believed yet.

    Parameters
    ----------
    content
        What the message comes over.
    seconds
        How long to wait for it.

    Raises
    ------
    MessageRefused
        If it is malformed or cut short.
    TimeoutError
        If it does not come.
    """
    async with asyncio.timeout(seconds):
        try:
            return await content.readexactly(head_length(await content.readexactly(_START)))
        except asyncio.IncompleteReadError:
            raise MessageRefused("malformed", "a message is cut short.") from None


async def read_body(
    content: Reader, head: Head, *, limit: int, seconds: float, folder: Path | None = None
) -> IO[bytes]:
    """Return the body of a message as a file, once it is whole and what the head says.

    Parameters
    ----------
    content
        What the message comes over.
    head
        Its head.
    limit
        The largest body that is read.
    seconds
        How long to wait for each piece.
    folder
        Where a body larger than 8 MB is kept; default: the folder of temporary files.

    Raises
    ------
    MessageRefused
        ``large`` before anything is read; ``body`` where it is shorter, longer or another than the head says.
    TimeoutError
        If no piece comes.
    """
    if head.size > limit:
        raise MessageRefused(
            "large",
            f"a message of {head.sender} has {head.size:,} bytes, expected at most {limit:,}; ask about fewer or "
            "coarser columns at once.",
        )
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(folder) if folder else None)  # noqa: SIM115  (its reader closes it)
    try:
        await _read_into(file, content, head, seconds)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


async def _read_into(file: IO[bytes], content: Reader, head: Head, seconds: float) -> None:
    digest, size = hashlib.sha256(), 0
    while True:
        async with asyncio.timeout(seconds):
            piece = await content.read(PIECE)
        if not piece:
            break
        size += len(piece)
        if size > head.size:
            break
        digest.update(piece)
        file.write(piece)
    if size != head.size or digest.hexdigest() != head.digest:
        raise MessageRefused("body", f"the body of a message of {head.sender} is cut short or was changed on the way.")


async def pieces(prefix: bytes, body: bytes) -> AsyncIterator[bytes]:
    """Yield a message in pieces.

    Parameters
    ----------
    prefix
        What `dpsynth.federated.signing.sign` returned.
    body
        The bytes that it signed.
    """
    yield prefix + body[: PIECE - len(prefix)]
    view = memoryview(body)
    for start in range(PIECE - len(prefix), len(body), PIECE):
        yield bytes(view[start : start + PIECE])
