"""Hospitals behind a proxy: one that tunnels, one that wants a login, one that refuses, one that inspects TLS."""

from pathlib import Path

import pytest

from dpsynth.errors import InputError
from dpsynth.federated.proxies import endpoint, proxy_for
from dpsynth.federated.signing import MessageRefused, TransportError
from federated.network import SECONDS, Serving, enter, question, relay, until
from federated.proxy import Proxy

VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Give an environment without proxies."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def _served(server: object, proxy: str | None, **options: object) -> Serving:
    hospital = Serving(server.port, "north", proxy=proxy, **options)
    assert server.ask(question(1), seconds=SECONDS) == {"north": b"north" + question(1)}
    return hospital


def test_a_hospital_is_served_through_a_proxy() -> None:
    """Through a proxy that tunnels, TLS is still that of lead and hospital, with both certificates."""
    with Proxy() as proxy:
        with relay(("north",)) as server:
            hospital = _served(server, proxy.url)
        hospital.join(SECONDS)
        assert hospital.error is None
        assert proxy.tunnels >= 2


def test_the_proxy_of_the_environment_is_used(bare: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY is obeyed where no proxy is named, and NO_PROXY too; an empty name means none."""
    with Proxy() as proxy, relay(("north",)) as server:
        bare.setenv("HTTPS_PROXY", proxy.url)
        bare.setenv("NO_PROXY", "127.0.0.1")
        enter(server.port, proxy=None)
        bare.delenv("NO_PROXY")
        enter(server.port, proxy="")
        assert proxy.tunnels == 0
        enter(server.port, proxy=None)
        assert proxy.tunnels > 0


def test_a_login_is_sent_and_never_shown() -> None:
    """User and password go to the proxy; without them, or with wrong ones, the words say so and show none."""
    with Proxy(login="me:se cret") as proxy, relay(("north",)) as server:
        enter(server.port, proxy=proxy.url.replace("//", "//me:se%20cret@"))
        with pytest.raises(TransportError, match="wants a user and password"):
            enter(server.port, proxy=proxy.url)
        with pytest.raises(TransportError, match="refuses the user and password") as refused:
            enter(server.port, proxy=proxy.url.replace("//", "//me:wrong@"))
    assert "wrong" not in str(refused.value)
    assert "wrong" not in repr(proxy_for("https://lead", "http://me:wrong@proxy:1"))


def test_a_proxy_that_refuses_is_named() -> None:
    """A proxy that does not let through to the lead is named, with its reply, at once."""
    with Proxy(status=403) as proxy, relay(("north",)) as server, pytest.raises(TransportError, match="403") as refused:
        enter(server.port, proxy=proxy.url)
    assert "proxy http://127.0.0.1:" in str(refused.value)


def test_a_proxy_that_is_not_there_is_named() -> None:
    """A proxy that cannot be reached is named after patience."""
    with Proxy() as proxy:
        url = proxy.url
    with pytest.raises(TransportError, match=f"proxy {url}: cannot be reached"):
        enter(1, proxy=url, patience=0.2)


def test_an_inspecting_proxy_is_noticed(tmp_path: Path) -> None:
    """A proxy that ends TLS shows a certificate of its own: the hospital sends nothing, and says what to do."""
    with Proxy(inspects=tmp_path) as proxy, relay(("north",)) as server:
        with pytest.raises(TransportError, match="another certificate than the lead's") as refused:
            enter(server.port, proxy=proxy.url)
        assert server.states == {"north": "awaited"}
    assert "--inspected-by" in str(refused.value)


def test_a_lead_has_to_know_of_an_inspecting_proxy(tmp_path: Path) -> None:
    """The hospital trusts its house's authority, but the lead was not told: refused, with what the lead can do."""
    refused = pytest.raises(MessageRefused, match="--inspected north")
    with Proxy(inspects=tmp_path) as proxy, relay(("north",)) as server, refused:
        enter(server.port, proxy=proxy.url, authority=proxy.authority)


def test_a_hospital_is_served_through_an_inspecting_proxy(tmp_path: Path) -> None:
    """Where both sides know of it, messages go through: they are signed both ways."""
    with Proxy(inspects=tmp_path) as proxy, relay(("north",), inspected=["north"]) as server:
        _served(server, proxy.url, authority=proxy.authority)


def test_an_inspecting_proxy_cannot_change_an_answer(tmp_path: Path) -> None:
    """A proxy that changes an answer on the way is found by the signature's digest, and the answer is sent again."""
    changed = []

    def change(sent: bytes) -> bytes:
        if b"masked" in sent and not changed:
            changed.append(sent)
            return sent.replace(b"masked", b"MASKED")
        return sent

    with Proxy(inspects=tmp_path, change=change) as proxy, relay(("north",), inspected=["north"]) as server:
        Serving(server.port, "north", lambda _asked: b"masked", proxy=proxy.url, authority=proxy.authority)
        assert server.ask(question(1), seconds=SECONDS) == {"north": b"masked"}
    assert changed


def test_another_authority_is_not_trusted(tmp_path: Path) -> None:
    """A proxy whose authority is not the named one is refused; so is a file that holds no certificate."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "text.pem").write_text("no certificate")
    with Proxy(inspects=tmp_path / "a") as proxy, Proxy(inspects=tmp_path / "b") as other, relay(("north",)) as server:
        with pytest.raises(TransportError, match="another certificate"):
            enter(server.port, proxy=proxy.url, authority=other.authority)
        for path in (tmp_path / "text.pem", tmp_path / "none.pem"):
            with pytest.raises(InputError, match=path.name):
                enter(server.port, proxy=proxy.url, authority=path)
        until(lambda: server.states["north"] == "awaited")


@pytest.mark.parametrize(
    "address", ["", "lead.example.org", "http://lead.example.org", "https://", "https://lead:port", "https://a@lead"]
)
def test_an_address_is_https(address: str) -> None:
    """The lead's address is one of https, with a host; what is none is refused with an example."""
    with pytest.raises(InputError, match=r"such as https://lead\.example\.org"):
        endpoint(address)


@pytest.mark.parametrize("proxy", ["socks5://proxy:1080", "http://", "http://proxy:port"])
def test_a_proxy_is_http(proxy: str) -> None:
    """Another kind of proxy is refused with an example."""
    with pytest.raises(InputError, match=r"proxy: .* such as http://proxy.hospital.org:3128"):
        proxy_for("https://lead", proxy)


def test_a_proxy_needs_no_scheme() -> None:
    """``host:port`` is an HTTP proxy."""
    assert proxy_for("https://lead", "proxy.hospital.org:3128").url == "http://proxy.hospital.org:3128"
