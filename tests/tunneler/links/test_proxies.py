"""Which proxy is used, as curl and Go read the same variables."""

from __future__ import annotations

import pytest

from tunneler.errors import TunnelError
from tunneler.links.proxies import Proxy, choose_proxy, parse_proxy


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://p:8080", Proxy("p", 8080)),
        ("p:8080", Proxy("p", 8080)),
        ("http://p", Proxy("p", 3128)),
        ("http://me:s%40cret@p:1", Proxy("p", 1, "Basic bWU6c0BjcmV0")),
        ("http://[::1]:8080", Proxy("::1", 8080)),
    ],
)
def test_a_proxy_is_read(text: str, proxy: Proxy) -> None:
    assert parse_proxy(text) == proxy
    assert "Basic" not in repr(parse_proxy(text))


@pytest.mark.parametrize("text", ["socks5://p", "https://p", "http://", "http://p:70000", "http://u:topsecret@:x"])
def test_what_is_no_proxy_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(TunnelError) as caught:
        parse_proxy(text)
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("https://hub.example.com", "", False),
        ("https://hub.example.com", "other.com,example.com", True),
        ("https://hub.example.com", ".example.com", True),
        ("https://hub.example.com", "*.example.com", True),
        ("https://hub.example.com", "ample.com", False),
        ("https://hub.example.com:8443", "example.com:8443", True),
        ("https://hub.example.com:8443", "example.com:443", False),
        ("https://hub.example.com", "*", True),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://[fd00::1]", "fd00::/8", True),
        ("https://127.0.0.1:1", "", True),
        ("https://localhost", "", True),
        ("http://hub.example.com", "", True),
    ],
)
def test_no_proxy_names_who_is_dialled_directly(url: str, no_proxy: str, direct: bool) -> None:
    environment = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": no_proxy}
    assert choose_proxy(url, environment) == (None if direct else Proxy("p", 1))
    assert choose_proxy(url, {name.lower(): value for name, value in environment.items()}) == (
        None if direct else Proxy("p", 1)
    )


def test_the_flag_wins_over_the_environment() -> None:
    environment = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}
    assert choose_proxy("https://hub", environment, "http://q:2") == Proxy("q", 2)
    assert choose_proxy("https://hub", {"HTTPS_PROXY": "http://p:1"}, "") is None
    assert choose_proxy("https://hub", {}) is None
