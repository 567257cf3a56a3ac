"""Requests of an agent to its hub outside the tunnel: joining and renewing."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple

import aiohttp
from yarl import URL

from syncer.errors import SyncError
from syncer.kube.connector import TcpConnector
from tunneler.errors import TunnelError
from tunneler.links.proxies import Proxy, choose_proxy

TIMEOUT_SECONDS: Final = 15.0
MAX_ANSWER: Final = 65_536  # bytes


class HubNotReached(SyncError):
    """No answer of the hub; a later try may have one.

    Attributes:
        cause, hint: for people.
    """

    def __init__(self, hub: str, why: str) -> None:
        self.cause = f"the hub {hub} cannot be reached: {why}"
        self.hint = "Does the operator run, and may this machine connect to it? --proxy URL names a proxy."
        super().__init__(self.cause)


class Route(NamedTuple):
    """How the hub is reached."""

    hub: str  # https URL without a slash at its end
    proxy: Proxy | None = None


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def route_to(hub: str, proxy: str | None = None) -> Route:
    """The way to a hub.

    Args:
        proxy: None takes HTTPS_PROXY and NO_PROXY, "" none.
    Raises:
        HubNotReached: the address is not https, or the proxy is none.
    """
    try:
        url = URL(hub)
        usable = url.scheme == "https" and bool(url.host) and not url.user and not url.query_string
    except ValueError:
        usable = False
    if not usable:
        raise HubNotReached(hub[:200], "its address must begin with https://")
    try:
        return Route(hub.rstrip("/"), choose_proxy(hub, os.environ, proxy))
    except TunnelError as error:
        raise HubNotReached(hub, str(error)) from None


async def send(
    route: Route,
    method: str,
    path: str,
    *,
    tls: ssl.SSLContext,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own.

    Raises:
        HubNotReached.
    """
    proxy = f"http://{_host(route.proxy.host)}:{route.proxy.port}" if route.proxy is not None else None
    authorization = route.proxy.authorization if route.proxy is not None else ""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(
                connector=TcpConnector(ssl=tls),
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            ) as session,
            session.request(
                method,
                URL(f"{route.hub}{path}"),
                data=body,
                headers={"Content-Type": "application/json", **(headers or {})} if body is not None else headers,
                proxy=proxy,
                proxy_headers={"Proxy-Authorization": authorization} if authorization else None,
                allow_redirects=False,
            ) as answer,
        ):
            content = b""
            async for piece in answer.content.iter_any():
                content += piece
                if len(content) > MAX_ANSWER:
                    raise HubNotReached(route.hub, "its answer is too long")
            return Answer(answer.status, dict(answer.headers), content)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise HubNotReached(route.hub, str(error) or type(error).__name__) from None


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
