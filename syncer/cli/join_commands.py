"""The commands of joining, their options and their help; what they do lies in `join` and `registrations`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from syncer.cli import options
from syncer.cli.options import Access

Registration = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which ClusterRegistration, if several clusters ask for one name."),
]


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def token_create(
    target: options.TargetName,
    ttl: Annotated[str, typer.Option(metavar="TIME", help="How long it may be used, at most an hour.")] = "1h",
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Label of the target, for selectors; repeatable.")
    ] = None,
    cluster_uid: Annotated[
        str, typer.Option(metavar="UID", help="Only for the cluster whose kube-system namespace has this UID.")
    ] = "",
    output: options.OutputFormat = None,
    hub: options.HubUrl = None,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Create a token that lets one cluster ask, once, to be the target NAME, and print the command to run there.

    Upstream keeps only a hash of the token. Whoever has the token can ask; a person still has to approve.

    \b
    Example:
      syncline token create east --label region=eu
    """
    from syncer.cli.registrations import TokenRequest, create_token

    request = TokenRequest(target, ttl, tuple(label or ()), cluster_uid)
    _run(create_token(request, output, Access(kubeconfig, context, hub)))


def join(
    hub: Annotated[str, typer.Option(metavar="URL", help="https:// URL of the hub.")],
    token: Annotated[str, typer.Option(metavar="TOKEN", help="From syncline token create; - reads it from stdin.")],
    ca_hash: Annotated[
        str, typer.Option(metavar="sha256:…", help="Hash of the hub's authority; checked before the token is sent.")
    ],
    target: Annotated[str, typer.Option(metavar="NAME", help="Name of the target that this cluster becomes.")],
    credentials: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the agent's key and certificate go; for its owner alone.")
    ],
    proxy: Annotated[
        str | None, typer.Option(metavar="URL", help="http:// proxy to the hub; default: HTTPS_PROXY and NO_PROXY.")
    ] = None,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for the approval.", min=0)] = 3600.0,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Kubeconfig of this cluster; default: $KUBECONFIG, in a Pod its own cluster."
        ),
    ] = None,
    context: options.Context = None,
) -> None:
    """Make this cluster a target that its agent reaches out from: no address, and no credential of it, goes upstream.

    Sends a certificate request (the key stays here), waits for the approval and leaves the certificate in DIR. Running
    it again is safe: it goes on where it was.

    \b
    Example:
      # syncline token create east prints the whole line; $T, $H: token and hash
      syncline join --hub https://hub.example:8443 --token $T --ca-hash $H --target east --credentials /var/lib/syncline
    """
    from syncer.cli.join import JoinCommand, join_cluster

    _run(
        join_cluster(
            JoinCommand(
                hub=hub,
                token=token,
                ca_hash=ca_hash,
                target=target,
                credentials=credentials,
                kubeconfig=kubeconfig,
                context=context,
                proxy=proxy,
                wait_seconds=wait,
            )
        )
    )


def approve(
    target: options.TargetName,
    registration: Registration = None,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Let the cluster that asked to be the target NAME be it. Compare the UID that it prints with the one shown here.

    \b
    Examples:
      # who asks?
      kubectl get clusterregistrations
      syncline approve east
    """
    from syncer.cli.registrations import approve as run

    _run(run(target, registration, Access(kubeconfig, context)))


def deny(
    target: options.TargetName,
    registration: Registration = None,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Refuse the cluster that asks to be the target NAME; of one that was approved the links are cut at once.

    \b
    Example:
      # its machine was stolen
      syncline deny east
    """
    from syncer.cli.registrations import deny as run

    _run(run(target, registration, Access(kubeconfig, context)))
