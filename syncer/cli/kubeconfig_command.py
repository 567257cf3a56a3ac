"""The command `syncline kubeconfig`."""

from __future__ import annotations

from typing import Annotated

import typer

from syncer.api.names import SYSTEM_NAMESPACE
from syncer.cli import options
from syncer.cli.errors import WrongUse
from syncer.cli.options import Access


def kubeconfig_(
    target: Annotated[
        str | None, typer.Argument(metavar="TARGET", help="Name of the target.", show_default=False)
    ] = None,
    upstream: Annotated[
        bool, typer.Option("--upstream", help="Of the hosted upstream of the cluster that your context names.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With --upstream: where you reach it, if not by its Service."),
    ] = None,
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", metavar="NS", help="With --upstream: where the chart is installed.")
    ] = SYSTEM_NAMESPACE,
    hub: options.HubUrl = None,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Print a kubeconfig: of a target behind the tunnel, or with --upstream of the upstream that the chart hosts.

    That of a target leads through the hub and holds what your kubeconfig holds of you: treat it like that one. That of
    the upstream is its administrator's, from a Secret in the cluster where the operator runs; who may read that Secret
    may do everything upstream.

    \b
    Examples:
      # a target
      syncline kubeconfig west > west.kubeconfig
      kubectl --kubeconfig west.kubeconfig get pods
      # the hosted upstream, from your desk
      kubectl -n syncline-system port-forward service/syncline-upstream 6443 &
      syncline kubeconfig --upstream --server https://127.0.0.1:6443 > upstream.yaml
    """
    import asyncio

    access = Access(kubeconfig, context, hub)
    if upstream == (target is not None):
        raise WrongUse("say either TARGET or --upstream", "syncline kubeconfig --help shows examples of both.")
    if target is not None and (server is not None or namespace != SYSTEM_NAMESPACE):
        raise WrongUse("--server and --namespace go with --upstream", "A target is reached through the hub: --hub.")
    if upstream and hub is not None:
        raise WrongUse("--hub goes with a TARGET", "Where you reach a hosted upstream, --server says.")
    if target is not None:
        from syncer.cli.through import write_kubeconfig

        asyncio.run(write_kubeconfig(target, access))
    else:
        from syncer.cli.upstream import write_upstream_kubeconfig

        asyncio.run(write_upstream_kubeconfig(namespace, server, access))
