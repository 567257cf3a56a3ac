"""Options that several commands share, each spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from syncer.cli.output import Output

Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="Kubeconfig of the upstream cluster; default: $KUBECONFIG, then ~/.kube/config.",
    ),
]
Context = Annotated[
    str | None,
    typer.Option("--context", metavar="NAME", help="Context in it; default: its current context."),
]
HubUrl = Annotated[
    str | None,
    typer.Option(
        "--hub",
        metavar="URL",
        help="https:// URL of the hub; default: what the operator wrote into ConfigMap syncline-system/syncline-hub.",
    ),
]
Namespace = Annotated[
    str | None, typer.Option("-n", "--namespace", metavar="NS", help="Namespace; default: that of the context.")
]
OutputFormat = Annotated[
    Output | None, typer.Option("-o", "--output", help="For programs: json or yaml. For more columns: wide.")
]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait.", min=0)]
TargetName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the target.", show_default=False)]
MaybeTargetName = Annotated[str | None, typer.Argument(metavar="NAME", help="Name of the target.", show_default=False)]
ObjectArgument = Annotated[
    str,
    typer.Argument(metavar="KIND/NAME", help="An upstream object, like deploy/web or offers.shop.example/croissants."),
]


class Access(NamedTuple):
    """Where the upstream cluster is, as the user said it."""

    kubeconfig: Path | None = None
    context: str | None = None
    hub: str | None = None
