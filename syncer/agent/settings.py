"""What an agent is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from syncer.binds import Bind

DEFAULT_BIND: Final = Bind("127.0.0.1", 8081)


@dataclass(frozen=True)
class JoinSettings:
    """How an agent joins by itself where its folder holds no credentials, at the first of its hubs.

    Attributes:
        token_file: may be gone once it has joined.
    """

    token_file: Path
    ca_hash: str
    target: str


@dataclass(frozen=True)
class AgentSettings:
    """What the command line says.

    Attributes:
        hubs: https URLs, of replicas or of a balancer before them; empty: the one that was joined.
        kubeconfig: of this cluster; None: the Pod's ServiceAccount.
        secret: (namespace, name) on this cluster of what keeps the folder's content too; None: nothing does.
        join: None where `syncline join` is run before.
        policy: file; None: the default.
        proxy: None: HTTPS_PROXY and NO_PROXY; "": none.
        drain_seconds: what SIGTERM leaves to streams that are open.
    """

    hubs: tuple[str, ...]
    credentials: Path
    secret: tuple[str, str] | None = None
    join: JoinSettings | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    policy: Path | None = None
    proxy: str | None = None
    http_bind: Bind = DEFAULT_BIND
    log_level: str = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    drain_seconds: float = 10.0
