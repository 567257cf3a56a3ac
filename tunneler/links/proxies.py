"""Which proxy to dial through: ``--proxy``, else HTTPS_PROXY unless NO_PROXY names the host. Pure."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tunneler.errors import TunnelError


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that takes CONNECT. ``authorization`` is the header's value, or empty; it is never logged."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)


def parse_proxy(text: str) -> Proxy:
    """``http://[user:password@]host[:port]``, the scheme may be missing.

    Raises:
        TunnelError: something else. The message does not repeat the text, which may hold a password.
    """
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port or 3128
    except ValueError as error:
        raise TunnelError("the proxy is no URL") from error
    if parts.scheme != "http" or not parts.hostname:
        raise TunnelError("the proxy must be http://[user:password@]host[:port]; TLS goes through it, to the hub")
    authorization = ""
    if parts.username is not None:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(words.encode()).decode("ascii")
    return Proxy(parts.hostname, port, authorization)


def choose_proxy(url: str, environment: Mapping[str, str], explicit: str | None = None) -> Proxy | None:
    """The proxy for a hub's URL, or None to dial it directly. Names of variables in either case."""
    if explicit is not None:
        return parse_proxy(explicit) if explicit else None
    parts = urlsplit(url)
    text = environment.get("HTTPS_PROXY") or environment.get("https_proxy") or ""
    excluded = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    if parts.scheme != "https" or not text or _excluded(parts.hostname or "", parts.port or 443, excluded):
        return None
    return parse_proxy(text)


def _excluded(host: str, port: int, excluded: str) -> bool:
    """NO_PROXY as curl and Go read it: names with their subdomains, addresses, networks, ``*``; maybe a port."""
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in (word.strip().lower() for word in excluded.split(",")):
        if not entry:
            continue
        if entry == "*":
            return True
        if address is not None:
            try:
                if address in ipaddress.ip_network(entry.strip("[]"), strict=False):
                    return True
            except ValueError:
                pass
        name, _, wanted = entry.rpartition(":")
        if name and wanted.isdigit() and "/" not in entry and _address(entry) is None:
            if int(wanted) != port:
                continue
            entry = name.strip("[]")
        entry = entry.removeprefix("*").removeprefix(".")
        if host == entry or host.endswith("." + entry):
            return True
    return False


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
