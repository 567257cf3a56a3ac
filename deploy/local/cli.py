"""`python -m deploy.local`: the fleet from the command line; the Makefile is a thin layer over it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deploy.local.build import ensure
from deploy.local.errors import GroundError
from deploy.local.fleet import Cluster, Fleet
from deploy.local.kind.provider import MARK
from deploy.local.plan import DEFAULT_TARGETS, UPSTREAM, FleetRequest
from deploy.local.providers import provider

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Folder = Annotated[Path, typer.Option("--dir", help="Folder of the fleet's state.")]
ProviderName = Annotated[str, typer.Option("--provider", help="local, existing or kind.")]
DEFAULT_FOLDER = Path(".local")


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    provider_name: ProviderName = "local",
    targets: Annotated[
        str, typer.Option(help="Names, with commas: east,west. With --provider existing: east=FILE,west=FILE.")
    ] = ",".join(DEFAULT_TARGETS),
    upstream: Annotated[Path | None, typer.Option(help="With --provider existing: upstream's kubeconfig.")] = None,
    light: Annotated[bool, typer.Option(help="Targets are API servers only, for many of them.")] = False,
    nodes: Annotated[int, typer.Option(min=0, help="Fake nodes on each target.")] = 3,
) -> None:
    """Start a fleet, or find that it runs already."""
    with errors_are_lines():
        request = parse_request(targets, upstream, light=light, nodes=nodes)
        fleet = provider(provider_name, folder).up(request, say)
        say(f"the fleet is up: {fleet.folder}/fleet.json")


@app.command()
def down(folder: Folder = DEFAULT_FOLDER) -> None:
    """End the fleet of a folder, and the operators and agents that were started on it."""
    with errors_are_lines():
        provider(_provider_of(folder), folder).down(say)


@app.command()
def status(folder: Folder = DEFAULT_FOLDER) -> None:
    """Print how each part of the fleet is; fails when one does not run."""
    with errors_are_lines():
        rows = provider(_provider_of(folder), folder).status()
        typer.echo(f"{'CLUSTER':<20} {'COMPONENT':<20} {'PID':>8} STATE")
        for row in rows:
            typer.echo(f"{row.cluster:<20} {row.component:<20} {row.pid or '-':>8} {row.state}")
    if any(row.state not in ("running", "ready") for row in rows):
        raise typer.Exit(1)


@app.command()
def env(folder: Folder = DEFAULT_FOLDER) -> None:
    """Print shell lines for `eval`: KUBECONFIG with a context for each cluster, PATH with kubectl and syncline."""
    with errors_are_lines():
        fleet = Fleet.load(folder)
        path = os.pathsep.join([str(fleet.assets), str(Path(sys.executable).parent)])
        typer.echo(f"export KUBECONFIG={shlex.quote(str(fleet.kubeconfig))}")
        typer.echo(f'export PATH={shlex.quote(path)}:"$PATH"')
        if fleet.inside:
            say("they are reached from inside their own network only: python -m deploy.local.kind exec -- bash")


@app.command()
def assets() -> None:
    """Find or build the control-plane binaries, and print their folder."""
    with errors_are_lines():
        found = ensure(os.environ, say)
        typer.echo(str(found.folder))


@app.command()
def user(
    name: str,
    folder: Folder = DEFAULT_FOLDER,
    cluster: Annotated[str, typer.Option(help="Which cluster.")] = UPSTREAM,
    group: Annotated[list[str] | None, typer.Option(help="Groups of the user.")] = None,
) -> None:
    """Print the path of a plain user's kubeconfig, made on first use; RBAC decides what the user may do."""
    with errors_are_lines():
        typer.echo(str(_cluster(folder, cluster).user(name, groups=group or ())))


class Action(StrEnum):
    """What can be done to a process."""

    STOP = "stop"
    CONT = "cont"
    KILL = "kill"
    START = "start"
    RESTART = "restart"


@app.command()
def process(
    action: Action,
    cluster: Annotated[str, typer.Argument(help="upstream, or a target's name.")],
    component: Annotated[
        str, typer.Argument(help="apiserver, controller-manager, scheduler, kwok, or etcd, which all clusters share.")
    ] = "apiserver",
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Break a process and mend it: stop and cont (it hangs), kill and start (it is gone), restart."""
    with errors_are_lines():
        getattr(_cluster(folder, cluster), action.value)(component)


def _cluster(folder: Path, name: str) -> Cluster:
    clusters = Fleet.load(folder).clusters
    if name not in clusters:
        raise GroundError(f"there is no cluster {name}", hint=f"clusters: {', '.join(clusters)}")
    return clusters[name]


def parse_request(targets: str, upstream: Path | None, *, light: bool, nodes: int) -> FleetRequest:
    """Read what the command line says of the fleet.

    Args:
        targets: `east,west`, or `east=FILE,west=FILE` for clusters that exist.
    """
    pairs = [item.strip().partition("=") for item in targets.split(",") if item.strip()]
    files = {name: Path(file) for name, sign, file in pairs if sign}
    if upstream:
        files[UPSTREAM] = upstream
    return FleetRequest(targets=tuple(name for name, _, _ in pairs), light=light, nodes=nodes, kubeconfigs=files)


def _provider_of(folder: Path) -> str:
    """Which provider made what is in the folder; those of a killed `up` clean up after it too."""
    try:
        return Fleet.load(folder).provider
    except GroundError:
        return "kind" if (folder / MARK).is_dir() else "local"


def say(line: str) -> None:
    """Tell a person, apart from what the command prints."""
    typer.echo(line, err=True)


@contextmanager
def errors_are_lines() -> Iterator[None]:
    """Turn an error into one cause line and one hint line, exit status 1."""
    try:
        yield
    except GroundError as error:
        say(f"error: {error}")
        if error.hint:
            say(f"hint: {error.hint}")
        raise typer.Exit(1) from error
