"""`syncline agent`: its flags; `launch` starts the process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syncer.agent.settings import AgentSettings, JoinSettings
from syncer.binds import parse_bind
from syncer.cli.errors import WrongUse


def agent(
    credentials: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder that syncline join filled; it is kept up to date.")
    ],
    credentials_secret: Annotated[
        str | None,
        typer.Option(
            metavar="NAMESPACE/NAME", help="Secret on this cluster that keeps the folder's content: for Pods."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Join by itself, with this bootstrap token; takes --hub, --ca-hash, --target."
        ),
    ] = None,
    ca_hash: Annotated[str, typer.Option(metavar="sha256:…", help="The hub's authority, as for syncline join.")] = "",
    target: Annotated[
        str, typer.Option(metavar="NAME", help="What this cluster is called, as for syncline join.")
    ] = "",
    hub: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL[,URL…]",
            help="Replicas of the hub, or a balancer before them; two get a link. Default: the one that was joined.",
        ),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Kubeconfig of this cluster; default: the Pod's ServiceAccount, else $KUBECONFIG."
        ),
    ] = None,
    context: Annotated[
        str | None, typer.Option(metavar="NAME", help="Context in it; default: its current context.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What the hub may ask of this cluster: docs/agent-policy.md.")
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help='http://[user:password@]host[:port]; "" for none; default: HTTPS_PROXY, NO_PROXY.'
        ),
    ] = None,
    http_bind: Annotated[str, typer.Option(metavar="HOST:PORT", help="/healthz and /readyz.")] = "127.0.0.1:8081",
    drain_seconds: Annotated[
        float, typer.Option(metavar="S", min=0, max=300, help="What SIGTERM leaves to open streams.")
    ] = 10.0,
    log_level: Annotated[str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = "info",
    log_format: Annotated[
        str, typer.Option(metavar="FORMAT", help="json, console or auto: console on a terminal.")
    ] = "auto",
) -> AgentSettings:
    """Run the agent of a target behind a tunnel: it dials the hub, and the hub reaches this cluster through it.

    Nothing listens on the cluster's side and no credential of it leaves; what the hub may ask, the policy says.
    Ctrl-C or SIGTERM stops it cleanly.

    \b
    Examples:
      # on the cluster's side, after syncline join
      syncline agent --credentials /var/lib/syncline --kubeconfig west.yaml
      # through a proxy, with a policy of your own
      syncline agent --credentials /var/lib/syncline --proxy http://proxy.example:3128 --policy policy.yaml
      # in a Pod: joins by itself, and finds its credentials again in a Secret
      syncline agent --credentials /run/syncline/agent --credentials-secret syncline-system/syncline-agent \
        --token-file /etc/syncline/token --hub https://hub:8443 --ca-hash sha256:… --target west
    """
    if log_level not in ("debug", "info", "warning", "error"):
        raise WrongUse("--log-level is none of debug, info, warning, error", "Choose one of them.")
    if log_format not in ("auto", "json", "console"):
        raise WrongUse("--log-format is none of auto, json, console", "Choose one of them.")
    try:
        bind = parse_bind(http_bind)
    except ValueError as error:
        raise WrongUse(f"--http-bind {error}", "Write it like 127.0.0.1:8081") from error
    hubs = tuple(url.rstrip("/") for given in hub or () for url in given.split(",") if url)
    if bool(token_file) != bool(ca_hash) or bool(token_file) != bool(target) or (token_file and not hubs):
        raise WrongUse("--token-file, --ca-hash and --target go together, with --hub", "Give all of them, or none.")
    namespace, slash, name = (credentials_secret or "").partition("/")
    if credentials_secret is not None and not (namespace and slash and name and "/" not in name):
        raise WrongUse("--credentials-secret must be NAMESPACE/NAME", "Write it like syncline-system/syncline-agent")
    return AgentSettings(
        hubs=hubs,
        credentials=credentials,
        secret=(namespace, name) if credentials_secret else None,
        join=JoinSettings(token_file, ca_hash, target) if token_file else None,
        kubeconfig=kubeconfig,
        context=context,
        policy=policy,
        proxy=proxy,
        http_bind=bind,
        drain_seconds=drain_seconds,
        log_level=log_level,
        log_format=log_format,  # type: ignore[arg-type]  # checked above
    )
