"""The relay at the lead: an HTTPS server to which hospitals connect outwards, and the lead's `Transport`.

A hospital needs no open port: it asks for the next question and is held until there is one (a long poll), and sends
its answer. The relay runs in a thread of its own beside the lead's model. TLS is 1.3; a hospital shows the certificate
of its pinned key; every message is signed besides (`dpsynth.federated.signing`).

**Privacy contract.** The relay sees masked answers alone, as the lead does, and holds no key of a hospital. It runs
nothing that comes over the network, and a hospital runs nothing that comes from it.
"""

import asyncio
import base64
import contextlib
import errno
import json
import tempfile
import time
import weakref
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Self

from aiohttp import web

from dpsynth.errors import DpsynthError, InputError
from dpsynth.federated.background import Background
from dpsynth.federated.certificates import server_context, trust
from dpsynth.federated.desk import Desk, Reply
from dpsynth.federated.keys import LARGEST_CARD, PrivateKeys, PublicKeys
from dpsynth.federated.messages import peek
from dpsynth.federated.roster import Roster, State
from dpsynth.federated.signing import WINDOW, Guard, Head, MessageRefused, TransportError, new_nonce, sign
from dpsynth.federated.wire import LARGEST, MIME, PATH, pieces, read_body, read_head

__all__ = ["Relay"]

SILENCE = 15.0
HOLD = 20.0
"""Seconds that a poll is held: proxies cut connections that are idle for 30 or 60."""
_HEAD_SECONDS = 30.0
_FAREWELL = 5.0
"""Seconds in which hospitals are told of the end."""
_CLOSING = 0.5


class Relay:
    """The server at the lead; open it with ``with``.

    Parameters
    ----------
    study
        SHA-256 of the study file: `dpsynth.federated.study.Study.digest`.
    keys
        The lead's.
    fingerprints
        Of each hospital, by its name in the study file.
    lead
        The lead's name in the study file.
    host, port
        Where to listen; port 0 takes a free one.
    inspected
        Hospitals behind a proxy that inspects TLS: their messages may come without their certificate, signed alone.
    limit
        The largest answer in bytes.
    folder
        Where large answers are kept until they are added up; default: the folder of temporary files.
    silence
        Seconds without a word after which a hospital counts as silent.
    hold
        Seconds that a poll is held.
    farewell
        Seconds in which hospitals are told of the end.
    window
        Seconds that clocks may differ.
    clock
        Seconds since 1970.
    notice
        Called with a hospital's name and its new state: ``here``, ``silent`` or ``left``.

    Raises
    ------
    InputError
        If a hospital has no fingerprint, or the address cannot be listened at.

    Examples
    --------
    >>> lead, north = PrivateKeys.make(), PrivateKeys.make()
    >>> with Relay("0" * 64, lead, {"north": north.public.fingerprint}, host="127.0.0.1", port=0) as relay:
    ...     relay.states
    {'north': 'awaited'}
    """

    def __init__(
        self,
        study: str,
        keys: PrivateKeys,
        fingerprints: Mapping[str, str],
        *,
        lead: str = "lead",
        host: str = "0.0.0.0",  # noqa: S104  (it is reached from other houses)
        port: int = 443,
        inspected: Collection[str] = (),
        limit: int = LARGEST,
        folder: Path | None = None,
        silence: float = SILENCE,
        hold: float = HOLD,
        farewell: float = _FAREWELL,
        window: float = WINDOW,
        clock: Callable[[], float] = time.time,
        notice: Callable[[str, State], None] = lambda _name, _state: None,
    ) -> None:
        unpinned = [name for name, digits in fingerprints.items() if not digits]
        if unpinned:
            raise InputError(
                f"study: {', '.join(unpinned)}: no fingerprint; have it read out by telephone from `dpsynth federate "
                "key --show hospital.key` and write it into the study file."
            )
        self._study, self._keys, self._lead = study, keys, lead
        self._fingerprints = dict(fingerprints)
        self._listen = (host, port)
        self._inspected = frozenset(inspected)
        self._limit, self._silence, self._hold = limit, silence, hold
        self._clock = clock
        self._guard = Guard(study, lead, window=window, clock=clock)
        self._pinned: dict[str, PublicKeys] = {}
        self._epoch = new_nonce()
        self._roster = Roster(fingerprints, silence=silence, clock=time.monotonic, notice=notice)
        self._tls = server_context(keys.tls_pem, keys.certificate)
        self._folder, self._farewell = folder, farewell
        self._lines: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self._background = Background("dpsynth relay")
        self._rest = contextlib.ExitStack()

    def __enter__(self) -> Self:
        spool = self._rest.enter_context(tempfile.TemporaryDirectory(prefix="dpsynth-relay-", dir=self._folder))
        self._background.start()
        try:
            self._background.wait(self._start(Path(spool)))
        except OSError as error:
            self._stop()
            raise self._unheard(error) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self._background.wait(self._desk.end(_reason(error), is_done=error is None, seconds=self._farewell))
            self._background.wait(self._close())
        finally:
            self._stop()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._runner.addresses[0][1])

    @property
    def states(self) -> dict[str, State]:
        """Of each hospital, whether it is awaited, here, silent or has left."""
        return self._roster.states

    def wait_for_all(self, *, seconds: float | None = None) -> None:
        """Wait until every hospital is here.

        Parameters
        ----------
        seconds
            How long; without it, until they are, or until the wait is interrupted.

        Raises
        ------
        TransportError
            If one is not; the message names it.
        """
        began = time.monotonic()
        while missing := [name for name, state in self.states.items() if state != "here"]:
            if seconds is not None and time.monotonic() - began > seconds:
                raise TransportError(
                    f"not here within {seconds:g} s: {', '.join(missing)}. There, `dpsynth federate join` must run and "
                    "say what keeps it; nothing was asked."
                )
            time.sleep(0.05)

    def ask(self, question: bytes, *, seconds: float) -> dict[str, bytes]:
        """Ask every hospital and return the answers that came: `dpsynth.federated.messages.Transport`.

        Parameters
        ----------
        question
            As `dpsynth.federated.messages.Question.to_bytes`.
        seconds
            How long to wait for the last answer; a hospital that says that it leaves ends the wait.

        Returns
        -------
        dict of str to bytes
            By the hospital's name; who did not answer is not in it.
        """
        return self._background.wait(self._desk.ask(peek(question)[1], question, seconds))

    async def _start(self, spool: Path) -> None:
        self._desk = Desk(self._fingerprints, self._roster, hold=self._hold, limit=self._limit, folder=spool)
        app = web.Application()
        app.router.add_post(PATH, self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        host, port = self._listen
        await web.TCPSite(self._runner, host, port, ssl_context=self._tls).start()
        self._looking = asyncio.create_task(self._look())

    async def _close(self) -> None:
        self._looking.cancel()
        await self._runner.cleanup()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING):
                while any(_is_open(line) for line in self._lines):
                    await asyncio.sleep(0.01)
        for line in self._lines:
            line.abort()  # whose other side is gone, or frozen
        await asyncio.sleep(0.01)

    def _stop(self) -> None:
        self._background.stop()
        self._rest.close()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._silence / 10)
            self._roster.look()

    def _unheard(self, error: OSError) -> InputError:
        host, port = self._listen
        why = {
            errno.EADDRINUSE: "another program listens there; stop it, or choose another port",
            errno.EACCES: "ports below 1024 are the administrator's; listen at another one, such as 8443, to which "
            "yours forwards 443",
            errno.EADDRNOTAVAIL: "this computer has no such address",
        }
        return InputError(f"--listen {host}:{port}: {why.get(error.errno or 0, 'cannot be listened at')}.")

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        """Reply to one message: unsigned, in plain words, to who is not known; signed to who is."""
        if request.transport is not None:
            self._lines.add(request.transport)
        try:
            raw = await read_head(request.content, _HEAD_SECONDS)
            await self._introduce(raw, request)
            head = self._guard.signed(raw)
        except (MessageRefused, TimeoutError) as error:
            return web.Response(status=403, text=str(error) or "a message did not come.")
        except InputError as error:  # keys of another fingerprint
            return web.Response(status=403, text=str(error))
        try:
            reply = await self._reply(head, request)
        except MessageRefused as error:
            reply = self._refusal(head, error.code, str(error))
        except TimeoutError:
            reply = self._refusal(head, "slow", f"a message of {head.sender} stopped half-way.")
        return await self._send(head, reply, request)

    async def _introduce(self, raw: bytes, request: web.Request) -> None:
        """Pin the keys that a first message shows, if they are those of the fingerprint in the study file."""
        head = Head.parse(raw[:-64])
        if head.kind != "hello":
            return
        if head.sender not in self._fingerprints:
            raise MessageRefused("unknown", f"{head.sender[:64]!r} is not in the study file of the lead.")
        with await read_body(request.content, head, limit=LARGEST_CARD, seconds=_HEAD_SECONDS) as file:
            keys = PublicKeys.from_bytes(file.read(), self._fingerprints[head.sender], head.sender)
        if self._pinned.get(head.sender) != keys:
            self._pinned[head.sender] = keys
            self._guard.pin(head.sender, keys)
            trust(self._tls, keys.certificate)

    async def _reply(self, head: Head, request: web.Request) -> Reply:
        self._guard.check(head)
        if head.kind == "hello":
            return Reply("welcome", self._facts(head))
        if head.relay != self._epoch:
            raise MessageRefused("relay", "the lead's relay was started anew.")
        self._check_certificate(head.sender, request)
        self._roster.hear(head.sender, head.process)
        return await self._desk.reply(head, request.content)

    def _refusal(self, head: Head, code: str, message: str) -> Reply:
        return Reply("refused", self._facts(head, code=code, message=message))

    def _facts(self, head: Head, **facts: str) -> bytes:
        """Return facts for a hospital; the lead's public keys come with every reply to a greeting, also a refusal."""
        if head.kind == "hello":
            facts["keys"] = base64.b64encode(self._keys.public.to_bytes()).decode()
        return json.dumps(facts).encode()

    def _check_certificate(self, name: str, request: web.Request) -> None:
        """Refuse a hospital's message over a connection with no certificate, or with another hospital's."""
        tls = request.transport.get_extra_info("ssl_object") if request.transport else None
        shown = tls.getpeercert(binary_form=True) if tls else None
        if shown == self._pinned[name].certificate or (shown is None and name in self._inspected):
            return
        if shown is None:
            raise MessageRefused(
                "certificate",
                f"the messages of {name} come without its certificate: a proxy there seems to inspect TLS. If its IT "
                f"confirms that, begin again at the lead with --inspected {name}; messages stay signed.",
            )
        raise MessageRefused("certificate", f"the messages of {name} come with the certificate of another hospital.")

    async def _send(self, head: Head, reply: Reply, request: web.Request) -> web.StreamResponse:
        _, prefix = sign(
            self._keys,
            study=self._study,
            kind=reply.kind,
            sender=self._lead,
            receiver=head.sender,
            body=reply.body,
            question=reply.question,
            relay=self._epoch,
            reply_to=head.nonce,
            digest=reply.digest,
            clock=self._clock,
        )
        response = web.StreamResponse(headers={"Content-Type": MIME, "Cache-Control": "no-store"})
        response.content_length = len(prefix) + len(reply.body)
        with contextlib.suppress(ConnectionError):  # who asked is gone: the question is kept, and asked again
            await response.prepare(request)
            async for piece in pieces(prefix, reply.body):
                await response.write(piece)
            await response.write_eof()
        return response


def _is_open(line: asyncio.Transport) -> bool:
    socket = line.get_extra_info("socket")
    return socket is not None and socket.fileno() >= 0


def _reason(error: BaseException | None) -> str:
    """Return what hospitals are told of the end."""
    if error is None:
        return "the lead has what it asked for."
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted at the lead."
    return f"it ended at the lead: {error}" if isinstance(error, DpsynthError) else "it ended at the lead by a fault."
