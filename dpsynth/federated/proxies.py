"""The lead's address, and the proxy on the way to it."""

import base64
import dataclasses
import urllib.request
from urllib.parse import SplitResult, unquote, urlsplit

from dpsynth.errors import InputError
from dpsynth.federated.wire import PATH

__all__ = ["Proxy", "endpoint", "proxy_for"]


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A proxy, or none.

    Parameters
    ----------
    url
        Without user and password; None where there is no proxy.
    login
        The header that holds user and password; empty where there is none. No message shows it.
    """

    url: str | None = None
    login: str = dataclasses.field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What the proxy is told."""
        return {"Proxy-Authorization": self.login} if self.login else {}


def endpoint(address: str) -> str:
    """Return the URL that messages go to.

    Parameters
    ----------
    address
        The lead's in the study file.

    Raises
    ------
    InputError
        If it is no ``https`` address.

    Examples
    --------
    >>> endpoint("https://lead.example.org:8443/")
    'https://lead.example.org:8443/dpsynth/1'
    """
    parts = _split(address, "lead: address", "https://lead.example.org or https://lead.example.org:8443")
    if parts.scheme != "https" or parts.username or parts.query or parts.fragment:
        raise InputError(f"lead: address: found {address[:200]!r}, expected one such as https://lead.example.org:8443.")
    return f"https://{parts.netloc}{parts.path.rstrip('/')}{PATH}"


def proxy_for(url: str, named: str | None = None) -> Proxy:
    """Return the proxy for a URL.

    Parameters
    ----------
    url
        Where messages go.
    named
        A proxy's URL, with ``user:password@`` where it wants a login; empty for none at all; None for the one of the
        environment (``HTTPS_PROXY``, ``ALL_PROXY``, without the hosts of ``NO_PROXY``) or of the operating system.

    Raises
    ------
    InputError
        If it is no URL of an HTTP proxy.
    """
    if named is None:
        known = urllib.request.getproxies()
        host = urlsplit(url).netloc
        named = (
            ""
            if urllib.request.proxy_bypass(host)
            else known.get("https") or known.get("all") or known.get("http") or ""
        )
    if not named:
        return Proxy()
    if "://" not in named:
        named = f"http://{named}"
    parts = _split(named, "proxy", "http://proxy.hospital.org:3128")
    if parts.scheme not in ("http", "https"):
        raise InputError(f"proxy: found a {parts.scheme} proxy, expected one such as http://proxy.hospital.org:3128.")
    place = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    url = f"{parts.scheme}://{place}" + (f":{parts.port}" if parts.port else "")
    return Proxy(url, _login(unquote(parts.username), unquote(parts.password or "")) if parts.username else "")


def _login(user: str, password: str) -> str:
    """Return the header of RFC 7617."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _split(address: str, what: str, example: str) -> SplitResult:
    try:
        parts = urlsplit(address.strip())
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if not parts.hostname:
        raise InputError(f"{what}: this is no address; expected one such as {example}.")
    return parts
