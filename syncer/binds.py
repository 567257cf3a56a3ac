"""Where listeners listen, as settings and flags say it. Words: what agents need of settings without loading them."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple


class Bind(NamedTuple):
    """Where a listener listens; port 0 asks the kernel for a free one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_bind(value: object) -> Bind:
    """`HOST:PORT`, `[IPv6]:PORT` or `:PORT` (all addresses).

    Raises:
        ValueError: anything else, or a port outside 0..65535.
    """
    if isinstance(value, Bind):
        return value
    match = (
        re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/\s]*)):(\d{1,5})", value) if isinstance(value, str) else None
    )
    if match is None or int(match[3]) > 65535:
        raise ValueError("must be HOST:PORT with a port from 0 to 65535, like 127.0.0.1:8080 or [::1]:8080")
    return Bind(match[1] or match[2] or "0.0.0.0", int(match[3]))  # noqa: S104 - `:PORT` asks for all addresses


def flag_name(field: str) -> str:
    """`http_bind` as it is spelled on the command line and in YAML: `http-bind`."""
    return field.replace("_", "-")
