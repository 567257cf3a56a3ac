"""The commands of `syncline upstream`: certificates of a hosted upstream, and what is installed there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syncer.api.names import SYSTEM_NAMESPACE
from syncer.cli import options
from syncer.cli.options import Access


def certificates(
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", metavar="NS", help="Namespace of the chart's release.")
    ] = SYSTEM_NAMESPACE,
    name: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Another name or address of the API server; repeatable.")
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of the chart's cluster; default: that of this Pod."),
    ] = None,
    context: options.Context = None,
) -> None:
    """Make and renew the authority, certificates and kubeconfigs of a hosted upstream, in Secrets syncline-upstream-*.

    What is still good stays as it is: running it again changes nothing until a certificate is at two thirds of its 90
    days. The authority is never replaced.

    \b
    Example:
      syncline upstream certificates -n syncline-system --name upstream.example
    """
    import asyncio

    from syncer.cli.hosted import write_certificates

    asyncio.run(write_certificates(namespace, tuple(name or ()), Access(kubeconfig, context)))


def install(
    manifests: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Folder of YAML files to apply after the CRDs; repeatable.")
    ] = None,
    timeout: options.Timeout = 120.0,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Apply the CRDs and the operator's rights to an upstream, as soon as it answers. Running it again is safe.

    \b
    Example:
      syncline upstream install --kubeconfig admin.yaml --manifests deploy/rbac
    """
    import asyncio

    from syncer.cli.hosted import install as apply_all

    asyncio.run(apply_all(tuple(manifests or ()), timeout, Access(kubeconfig, context)))


def wait(
    manifests: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="As `install` was told: wait until the same version of all is there."),
    ] = None,
    timeout: options.Timeout = 120.0,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Return as soon as an upstream has the CRDs, and the operator's rights are in force for this kubeconfig.

    \b
    Example:
      syncline upstream wait --kubeconfig operator.yaml --timeout 240
    """
    import asyncio

    from syncer.cli.hosted import wait as until_ready

    asyncio.run(until_ready(tuple(manifests or ()), timeout, Access(kubeconfig, context)))
