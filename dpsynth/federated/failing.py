"""What fails on the way: in words that name the cause and the next step, and whether trying again can help."""

import dataclasses
import re
import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp

from dpsynth.federated.proxies import Proxy
from dpsynth.federated.signing import MessageRefused, TransportError

__all__ = ["TAKEOVER", "Failure", "Trying", "failure", "plain"]

TAKEOVER = 20.0
_PASSING = frozenset({"stale", "slow", "body", "replayed", "reply", "relay", "unknown"})
"""Why a message may be refused once by chance: it was held up, this computer slept, or the relay was started anew."""
_TRIES = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a message did not arrive.

    Parameters
    ----------
    words
        For a person.
    is_tls
        Whether the two sides did not agree on certificates.
    is_final
        Whether trying again is of no use.
    """

    words: str
    is_tls: bool = False
    is_final: bool = False


class Trying:
    """Decides whether a message is sent again, and after which pause.

    Parameters
    ----------
    patience
        Seconds for which the lead may not be reached.
    takeover
        Seconds to wait where another process speaks for this hospital.
    notice
        Called with words when waiting begins, and when it has ended.
    """

    def __init__(self, patience: float, takeover: float, notice: Callable[[str], None]) -> None:
        self._patience, self._takeover, self._notice = patience, takeover, notice
        self._began = time.monotonic()
        self._pause = _FIRST_PAUSE
        self._refusals = 0
        self._tls = 0
        self._is_said = False

    def after_refusal(self, refused: MessageRefused) -> float:
        """Return seconds to wait before the message is sent again; raise what cannot be helped."""
        if refused.code == "twice" and self._waited() < self._takeover:
            self._say("another process with this key takes part; waiting in case it was killed.")
            return min(1.0, self._takeover / 10)
        self._refusals += 1
        if refused.code not in _PASSING or self._refusals >= _TRIES:
            raise refused
        return self._longer()

    def after_failure(self, found: Failure) -> float:
        """Return seconds to wait before the message is sent again; `TransportError` when patience is over."""
        self._tls += found.is_tls
        if found.is_final or self._tls >= _TRIES:
            raise TransportError(found.words) from None
        if self._waited() > self._patience:
            raise TransportError(f"{found.words} Given up after {self._waited():.0f} s.") from None
        self._say(f"{found.words} Trying again.")
        return self._longer()

    def done(self) -> None:
        """Say that it goes on, where it was said that it does not."""
        if self._is_said:
            self._notice("the lead is reached; going on.")

    def _waited(self) -> float:
        return time.monotonic() - self._began

    def _longer(self) -> float:
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return self._pause

    def _say(self, words: str) -> None:
        if not self._is_said:
            self._is_said = True
            self._notice(words)


def plain(text: object, most: int = 600) -> str:
    """Return text that came over the network, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)[:most]).strip()


def failure(error: Exception, url: str, proxy: Proxy, *, is_after_greeting: bool = False) -> Failure:
    """Say why a message did not arrive.

    Parameters
    ----------
    error
        What aiohttp or ssl raised.
    url
        Where it went.
    proxy
        What it went through.
    is_after_greeting
        Whether it was the first message after a greeting that went well: the first that shows a certificate.
    """
    place = urlsplit(url).netloc
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _refused_by_proxy(error.status, place, proxy)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Failure(f"proxy {proxy.url}: cannot be reached; check HTTPS_PROXY or --proxy with your IT.")
    reason = _tls_reason(error)
    if reason:
        return _untrusted(reason, place)
    if is_after_greeting and isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError):
        return _untrusted("closed when it saw the CERTIFICATE", place)
    return Failure(_unreached(error, place, proxy))


def _unreached(error: Exception, place: str, proxy: Proxy) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        via = "; this network may need a proxy (HTTPS_PROXY or --proxy)" if proxy.url is None else ""
        return f"{place}: there is no such name here; compare the lead's address in the study file{via}."
    if isinstance(error, aiohttp.ClientConnectorError):
        why = plain(error.strerror or "no reason given", 80)
        return (
            f"{place}: cannot be reached ({why}); does `dpsynth federate release` run at the lead, and may this "
            "computer connect out to that address and port?"
        )
    if isinstance(error, TimeoutError):
        return f"{place}: does not reply; a firewall or a proxy may hold the connection."
    return f"{place}: the connection was closed ({type(error).__name__})."


def _refused_by_proxy(status: int, place: str, proxy: Proxy) -> Failure:
    if status == 407:
        login = "refuses the user and password" if proxy.login else "wants a user and password"
        words = f"proxy {proxy.url}: {login}; give http://USER:PASSWORD@HOST:PORT in HTTPS_PROXY."
        return Failure(words, is_final=True)
    words = f"proxy {proxy.url}: does not let through to {place} ({status}); ask your IT to allow it."
    return Failure(words, is_final=400 <= status < 500)


def _tls_reason(error: BaseException | None) -> str:
    """Return OpenSSL's name of what failed; empty where it was not TLS. aiohttp hands it on as text alone."""
    for _ in range(8):
        if error is None:
            break
        if isinstance(error, ssl.SSLError) and getattr(error, "reason", None):  # aiohttp's own have none
            return str(error.reason)
        reason = re.search(r"\[SSL(?:: ([A-Z0-9_]+))?\]", str(error))
        if reason is not None:
            return reason[1] or "no reason given"
        inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None)
        error = inner or error.__cause__ or error.__context__
    return ""


def _untrusted(reason: str, place: str) -> Failure:
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        words = (
            f"{place}: shows another certificate than the lead's. Either a proxy of this house inspects TLS: then name "
            "the file of its authority with --inspected-by, which your IT has, and tell the lead; or somebody stands "
            "in between. Nothing was sent."
        )
    elif "UNKNOWN_CA" in reason or "CERTIFICATE" in reason:
        words = (
            f"{place}: does not accept this hospital's certificate ({reason}): it is not the one of the key whose "
            "fingerprint the study file names, or a proxy on the way shows its own."
        )
    elif "PROTOCOL" in reason or "VERSION" in reason:
        words = f"{place}: does not speak TLS 1.3 ({reason}); a proxy on the way may be too old."
    else:
        words = f"{place}: TLS failed ({reason})."
    return Failure(words, is_tls=True)
