"""`syncline operator`: its flags. What a value means, and which one wins, is in `syncer.settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from syncer.cli import options


def _flag(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text)


# Values stay text here: `syncer.settings` judges flags, variables and file by the same rules, in the same words.
Text = str | None


def operator(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file with the same names, `http-bind: 127.0.0.1:8080`.")
    ] = None,
    http_bind: Annotated[Text, _flag("HOST:PORT", "/healthz, /readyz, /metrics (127.0.0.1:8080).")] = None,
    hub_bind: Annotated[Text, _flag("HOST:PORT", "The hub, which status and explain ask (127.0.0.1:8443).")] = None,
    hub_url: Annotated[
        Text, _flag("URL", "https:// URL under which people reach the hub; default: from hub-bind.")
    ] = None,
    hub_names: Annotated[Text, _flag("NAME,…", "Further names and addresses for the hub's certificate.")] = None,
    replica_url: Annotated[
        Text, _flag("URL", "https:// URL of this one replica, for the other replicas; default: from hub-bind.")
    ] = None,
    agent_url: Annotated[
        Text, _flag("URL", "The same for agents; the hub-url where they come by a balancer; default: replica-url.")
    ] = None,
    webhooks: Annotated[
        Text, _flag("auto|off", "Admission webhooks; off: the same rules when reconciling (auto).")
    ] = None,
    webhook_bind: Annotated[Text, _flag("HOST:PORT", "Admission webhooks; port 0: a free one (127.0.0.1:0).")] = None,
    webhook_url: Annotated[
        Text,
        _flag("URL", "How the API server reaches the webhooks: https://…, or service://NAME.NAMESPACE.svc:PORT."),
    ] = None,
    leader_elect: Annotated[
        bool | None,
        typer.Option("--leader-elect/--no-leader-elect", help="Several replicas elect one that works (on)."),
    ] = None,
    lease_seconds: Annotated[Text, _flag("S", "A silent leader is replaced after this (15).")] = None,
    lease_renew_seconds: Annotated[
        Text, _flag("S", "A leader that cannot renew stops writing after this (10).")
    ] = None,
    lease_retry_seconds: Annotated[Text, _flag("S", "Between two looks at the lease (2).")] = None,
    drain_seconds: Annotated[Text, _flag("S", "What SIGTERM leaves to writes in flight (10).")] = None,
    probe_seconds: Annotated[Text, _flag("S", "Between two probes of a target (10).")] = None,
    probe_timeout_seconds: Annotated[Text, _flag("S", "Patience of a probe (5).")] = None,
    probe_failures: Annotated[Text, _flag("N", "Failed probes in a row that make a target not Ready (3).")] = None,
    approve_registrations: Annotated[
        Text, _flag("GLOB,…", "Clusters that join without approval: globs of names, KEY=GLOB of labels (none).")
    ] = None,
    log_level: Annotated[Text, _flag("LEVEL", "debug, info, warning or error (info).")] = None,
    log_format: Annotated[Text, _flag("FORMAT", "json, console or auto: console on a terminal.")] = None,
    feature_gates: Annotated[Text, _flag("A=true,…", "Switch unfinished parts on or off.")] = None,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Run the operator: it watches upstream, writes to the targets, and reports back.

    Ctrl-C or SIGTERM stops it cleanly. Every flag is also a variable (SYNCLINE_HTTP_BIND) and a line of the YAML file
    (http-bind: …); a flag wins over a variable, a variable over the file.

    \b
    Examples:
      # on your own machine, against the upstream of your kubeconfig
      syncline operator --kubeconfig upstream.yaml
      # another port, settings from the environment
      SYNCLINE_HUB_BIND=0.0.0.0:9443 syncline operator --hub-url https://hub.example:9443
    """
    flags = {name: value for name, value in locals().items() if name != "config"}
    from syncer.settings import load_settings

    settings = load_settings(flags, config)
    from syncer.operator import run  # after the settings: it is heavy, and wrong use should be told at once

    code = run(settings)
    if code:
        raise typer.Exit(code)
