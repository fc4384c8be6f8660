"""One hospital's messages to the relay and the relay's replies, each believed before it is looked at.

A conversation begins with a greeting. The hospital shows its public keys and learns the lead's; both sides compare them
with the fingerprints of the study file. All that comes after goes over connections on which both show the certificates
of those keys, and names the relay that was greeted, so that nothing of an earlier conversation can be sent again.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from dpsynth.federated.certificates import greeting_context, pinned_context
from dpsynth.federated.failing import Trying, failure, plain
from dpsynth.federated.keys import LARGEST_CARD, PrivateKeys, PublicKeys
from dpsynth.federated.proxies import Proxy
from dpsynth.federated.signing import Guard, Head, MessageRefused, TransportError, new_nonce, sign
from dpsynth.federated.wire import LARGEST, MIME, pieces, read_body, read_head

__all__ = ["Conversation", "facts_of"]

_REPLY_SECONDS = 90.0
"""Seconds to wait for a reply, of which a poll is held for 20."""


class Conversation:
    """Talks with the relay for one hospital; lives in one event loop.

    Parameters
    ----------
    study
        SHA-256 of the study file.
    keys
        The hospital's.
    name, lead
        The hospital's and the lead's name in the study file.
    fingerprint
        The lead's.
    url, proxy
        Where messages go, and what through.
    authority
        PEM file with the authority of a proxy that inspects TLS.
    guard
        Believes the lead's messages.
    clock
        Seconds since 1970.
    """

    def __init__(
        self,
        study: str,
        keys: PrivateKeys,
        *,
        name: str,
        lead: str,
        fingerprint: str,
        url: str,
        proxy: Proxy,
        authority: Path | None,
        guard: Guard,
        clock: Callable[[], float],
    ) -> None:
        self._study, self._keys, self._name, self._lead = study, keys, name, lead
        self._fingerprint = fingerprint
        self._url, self._proxy, self._authority = url, proxy, authority
        self._guard, self._clock = guard, clock
        self._process = new_nonce()
        self._relay = ""
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close what is open."""
        self._relay = ""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def exchange(self, trying: Trying, kind: str, body: bytes = b"", question: int = 0) -> tuple[Head, bytes]:
        """Send a message until it is replied to, or until it is certain that it will not be.

        Parameters
        ----------
        trying
            How often it is tried.
        kind, body, question
            Of the message.

        Raises
        ------
        MessageRefused
            If the lead's relay refuses it.
        TransportError
            If the lead cannot be reached.
        """
        while True:
            is_fresh = not self._relay
            try:
                if is_fresh:
                    await self._greet()
                reply = await self.send(kind, body, question)
            except MessageRefused as refused:
                if refused.code in ("relay", "unknown"):
                    self._relay = ""
                pause = trying.after_refusal(refused)
            except TransportError:
                raise
            except (aiohttp.ClientError, OSError) as error:
                is_after_greeting, self._relay = is_fresh and bool(self._relay), ""  # greet anew: it may be a new relay
                pause = trying.after_failure(
                    failure(error, self._url, self._proxy, is_after_greeting=is_after_greeting)
                )
            else:
                trying.done()
                return reply
            await asyncio.sleep(pause)

    async def send(self, kind: str, body: bytes = b"", question: int = 0) -> tuple[Head, bytes]:
        """Send a message once and return the reply."""
        if self._session is None or not self._relay:
            raise MessageRefused("relay", "the lead's relay is not known yet.")
        sent, prefix = self._signed(kind, body, question)
        async with self._posted(self._session, prefix, body) as response:
            raw = await _head_of(response)
            head = self._guard.open(raw, reply_to=sent.nonce)
            reply = await _body_of(response, head, LARGEST)
        _check_refusal(head, reply)
        return head, reply

    async def _greet(self) -> None:
        """Show the public keys, learn the lead's, and go on with TLS certificates that both sides know."""
        await self.close()
        sent, prefix = self._signed("hello", card := self._keys.public.to_bytes())
        async with (
            self._opened(greeting_context(self._authority)) as session,
            self._posted(session, prefix, card) as response,
        ):
            raw = await _head_of(response, code="refused")
            reply = await _body_of(response, Head.parse(raw[:-64]), 2 * LARGEST_CARD)
        lead = self._lead_keys(reply)
        self._guard.pin(self._lead, lead)
        head = self._guard.open(raw, reply_to=sent.nonce)
        _check_refusal(head, reply)
        trusted = lead.certificate if self._authority is None else self._authority
        self._session = self._opened(pinned_context(self._keys.tls_pem, self._keys.certificate, trusted))
        self._relay = head.relay

    def _lead_keys(self, reply: bytes) -> PublicKeys:
        """Return the lead's keys that come with the reply to a greeting, also with a refusal."""
        try:
            card = base64.b64decode(facts_of(reply, "keys")["keys"], validate=True)
        except ValueError:
            raise _malformed() from None
        return PublicKeys.from_bytes(card, self._fingerprint, self._lead)

    def _signed(self, kind: str, body: bytes, question: int = 0) -> tuple[Head, bytes]:
        return sign(
            self._keys,
            study=self._study,
            kind=kind,
            sender=self._name,
            receiver=self._lead,
            body=body,
            question=question,
            process=self._process,
            relay=self._relay,
            clock=self._clock,
        )

    def _opened(self, context: ssl.SSLContext) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=_REPLY_SECONDS)
        connector = aiohttp.TCPConnector(ssl=context)
        return aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())

    def _posted(self, session: aiohttp.ClientSession, prefix: bytes, body: bytes) -> Any:
        return session.post(
            self._url,
            data=pieces(prefix, body),
            headers={"Content-Type": MIME, "Content-Length": str(len(prefix) + len(body))},
            allow_redirects=False,
            proxy=self._proxy.url,
            proxy_headers=self._proxy.headers,
        )


def facts_of(body: bytes, *names: str) -> dict[str, Any]:
    """Return the facts of a reply, texts but for yes and no.

    Raises
    ------
    MessageRefused
        If it is not JSON, or one is missing.
    """
    try:
        facts = json.loads(body)
    except (ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(facts, dict) or not all(isinstance(facts.get(name), str | bool) for name in names):
        raise _malformed()
    return facts


def _malformed() -> MessageRefused:
    return MessageRefused("malformed", "a reply of the lead's relay is malformed; the versions of dpsynth may differ.")


def _check_refusal(head: Head, reply: bytes) -> None:
    if head.kind == "refused":
        facts = facts_of(reply, "code", "message")
        raise MessageRefused(facts["code"], plain(facts["message"]))


async def _head_of(response: aiohttp.ClientResponse, code: str = "unknown") -> bytes:
    """Return the head of a reply; what is not signed is not believed, but told, as a refusal with this code."""
    if response.status == 200:
        return await read_head(response.content, _REPLY_SECONDS)
    words = plain((await response.content.read(2000)).decode(errors="replace"), 600)
    place = response.url.host
    if response.status in (404, 408, 429) or response.status >= 500:
        raise aiohttp.ClientPayloadError(f"{place}: replies {response.status}")
    raise MessageRefused(code, f"{place} refuses this hospital ({response.status}, not signed): {words}")


async def _body_of(response: aiohttp.ClientResponse, head: Head, limit: int) -> bytes:
    with await read_body(response.content, head, limit=limit, seconds=_REPLY_SECONDS) as file:
        return file.read()
