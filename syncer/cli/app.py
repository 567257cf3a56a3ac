"""Every command, its options and its help. What a command does lies in the modules that it imports when it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from syncer.agent.settings import AgentSettings
from syncer.cli import options
from syncer.cli.agent import agent
from syncer.cli.errors import WrongUse, complain, program
from syncer.cli.join_commands import approve, deny, join, token_create
from syncer.cli.kubeconfig_command import kubeconfig_
from syncer.cli.launch import start
from syncer.cli.operator import operator
from syncer.cli.options import Access
from syncer.cli.output import Output
from syncer.cli.upstream_commands import certificates, install, wait

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="\b\n"
    "Start here:\n"
    "  syncline crds | kubectl apply --server-side -f -\n"
    "  syncline operator\n"
    "  syncline target add east --target-kubeconfig east.yaml\n",
)
target_app = typer.Typer(no_args_is_help=True, help="Add and remove targets, the clusters that run things.")
get_app = typer.Typer(no_args_is_help=True, help="List targets or placements.")
upstream_app = typer.Typer(no_args_is_help=True, help="Keep an upstream that the chart hosts; its Jobs run these.")
token_app = typer.Typer(no_args_is_help=True, help="Create the tokens that clusters join with.")
app.add_typer(target_app, name="target")
app.add_typer(get_app, name="get")
app.add_typer(token_app, name="token")
app.add_typer(upstream_app, name="upstream")
upstream_app.command("certificates", short_help="Make and renew its certificates.")(certificates)
upstream_app.command("install", short_help="Apply the CRDs and the operator's rights to it.")(install)
upstream_app.command("wait", short_help="Return as soon as it has them.")(wait)
app.command("operator", short_help="Run the operator.")(operator)
app.command("agent", short_help="Run the agent of a target behind a tunnel.")(agent)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"syncline {version('syncline')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Write Kubernetes objects once upstream, run them on many clusters, read the truth upstream.

    Objects are plain Kubernetes; a Placement says which of them go to which targets, and what differs there.
    """


def _run(work: Coroutine[Any, Any, int | None]) -> None:
    """Run a command to its end; its result is the exit code."""
    import asyncio

    code = asyncio.run(work)
    if code:
        raise typer.Exit(code)


@app.command(short_help="Print the CRDs, for kubectl apply.")
def crds() -> None:
    """Print the CRDs: SyncTarget, Placement, ClusterPlacement, ClusterRegistration.

    \b
    Example:
      # install or upgrade them upstream
      syncline crds | kubectl apply --server-side -f -
    """
    from syncer.api.crds import render_crds
    from syncer.cli.output import emit

    emit("---\n".join(render_crds().values()))


@target_app.command("add")
def target_add(
    name: options.TargetName,
    target_kubeconfig: Annotated[
        Path, typer.Option(metavar="FILE", help="Your own kubeconfig of the target; used here and now, never stored.")
    ],
    target_context: Annotated[
        str | None, typer.Option(metavar="NAME", help="Context in that file; default: its current context.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Label of the target, for selectors; repeatable.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RESOURCE", help="Kind to accept beyond the usual workloads: offers.shop.example; repeatable."
        ),
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of the target as the operator reaches it, if another.")
    ] = None,
    tls_server_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name in the target's certificate, if not that of the URL.")
    ] = None,
    use_kubeconfig_as_is: Annotated[
        bool, typer.Option("--use-kubeconfig-as-is", help="Store the given kubeconfig; create nothing on the target.")
    ] = False,
    adopt_hub: Annotated[
        str | None, typer.Option(metavar="OLD_ID", help="Take over objects that this former hub marked.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the operator reports it Ready.")] = True,
    timeout: options.Timeout = 60.0,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Make a cluster a target, and wait until it is Ready.

    With your own credentials of the target it creates there: namespace syncline-system, a ServiceAccount, a role with
    only the rights that syncing needs, and a token. Only that token is stored upstream. Running it again is safe.

    \b
    Examples:
      # two regions
      syncline target add east --target-kubeconfig east.yaml --label region=eu
      # the operator runs in another network than you
      syncline target add west --target-kubeconfig west.yaml --server https://west.example:6443
    """
    from syncer.cli.registration import AddRequest, add

    request = AddRequest(
        name=name,
        kubeconfig=target_kubeconfig,
        context=target_context,
        labels=tuple(label or ()),
        allow=tuple(allow or ()),
        server=server,
        tls_server_name=tls_server_name,
        as_is=use_kubeconfig_as_is,
        adopt_hub=adopt_hub,
        wait_seconds=timeout if wait else None,
    )
    _run(add(request, Access(kubeconfig, context)))


@target_app.command("remove")
def target_remove(
    name: options.MaybeTargetName = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, instead of one by name.")] = False,
    orphan: Annotated[bool, typer.Option("--orphan", help="Leave what runs there running.")] = False,
    target_kubeconfig: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your kubeconfig of the target: removes Syncline's identity there too."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the target is clean.")] = True,
    timeout: options.Timeout = 120.0,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Remove a target. What Syncline put there is deleted first; with --orphan it stays and keeps running.

    \b
    Example:
      # stop syncing to west, leave its workloads alone
      syncline target remove west --orphan
    """
    from syncer.cli.removal import RemoveRequest, remove, remove_all

    if everything:
        if name is not None or target_kubeconfig is not None or not wait:
            raise WrongUse("--all takes no name, --target-kubeconfig or --no-wait", "Remove one target, or all.")
        _run(remove_all(orphan, timeout, Access(kubeconfig, context)))
        return
    if name is None:
        raise WrongUse("which target?", "Name it, or give --all: syncline get targets lists them.")
    if target_kubeconfig is not None and not wait:
        why = "the operator needs its identity there until the target is clean"
        raise WrongUse(f"--target-kubeconfig and --no-wait: {why}", "Leave out one of them.")
    request = RemoveRequest(name, orphan, target_kubeconfig, timeout if wait else None)
    _run(remove(request, Access(kubeconfig, context)))


@get_app.command("targets")
def get_targets(
    output: options.OutputFormat = None, kubeconfig: options.Kubeconfig = None, context: options.Context = None
) -> None:
    """List the targets: are they Ready, and if not, why.

    \b
    Example:
      # with labels and heartbeat
      syncline get targets -o wide
    """
    from syncer.cli.targets import list_targets

    _run(list_targets(output, Access(kubeconfig, context)))


@get_app.command("placements")
def get_placements(
    namespace: options.Namespace = None,
    all_namespaces: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="Placements of all namespaces.")
    ] = False,
    output: options.OutputFormat = None,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """List placements and cluster placements: how many objects, on how many targets, in sync or why not.

    \b
    Example:
      # everywhere
      syncline get placements -A
    """
    if namespace and all_namespaces:
        raise WrongUse("-n and -A exclude each other", "Leave one of them out.")
    from syncer.cli.targets import list_placements

    _run(list_placements(namespace, all_namespaces, output, Access(kubeconfig, context)))


@app.command(short_help="Let nothing new onto a target.")
def cordon(name: options.TargetName, kubeconfig: options.Kubeconfig = None, context: options.Context = None) -> None:
    """Let nothing new onto a target; what is there stays and is kept in sync.

    \b
    Example:
      syncline cordon east
    """
    from syncer.cli.targets import set_unschedulable

    _run(set_unschedulable(name, True, Access(kubeconfig, context)))


@app.command(short_help="Let new placements onto a target again.")
def uncordon(name: options.TargetName, kubeconfig: options.Kubeconfig = None, context: options.Context = None) -> None:
    """Let new placements onto a target again.

    \b
    Example:
      syncline uncordon east
    """
    from syncer.cli.targets import set_unschedulable

    _run(set_unschedulable(name, False, Access(kubeconfig, context)))


@app.command(short_help="Let a Frozen target go on.")
def ack(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Name of the frozen target.", show_default=False)],
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Let a Frozen target go on: the deletions that it holds back are meant.

    A target freezes when more objects would be deleted there at once than anybody plausibly meant.

    \b
    Examples:
      # look first, then let it go on
      syncline status
      syncline ack east
    """
    from syncer.cli.targets import acknowledge

    _run(acknowledge(target, Access(kubeconfig, context)))


@app.command(short_help="What is not in sync, or one object on every target.")
def status(
    object_: Annotated[
        str | None,
        typer.Argument(metavar="[KIND/NAME]", help="An upstream object, like deploy/web.", show_default=False),
    ] = None,
    namespace: options.Namespace = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again whenever it changes, until Ctrl-C.")
    ] = False,
    output: options.OutputFormat = None,
    hub: options.HubUrl = None,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Without arguments: everything that is not in sync, and what to do. With an object: its state on every target.

    Without an object it looks at all namespaces unless -n names one, and exits with 1 if anything is not in sync.

    \b
    Examples:
      # is everything fine?
      syncline status
      # one Deployment on all clusters
      syncline status deploy/web -n shop
    """
    from syncer.cli.insight import show_status

    _run(show_status(object_, namespace, watch, output, Access(kubeconfig, context, hub)))


Show = Callable[[str, str | None, Output | None, Access], Coroutine[Any, Any, int]]


def _about_object(load: Callable[[], Show]) -> Callable[..., None]:
    """A command about one object of the hub; `load` imports what shows it, and its docstring is the help."""

    def command(
        object_: options.ObjectArgument,
        namespace: options.Namespace = None,
        output: options.OutputFormat = None,
        hub: options.HubUrl = None,
        kubeconfig: options.Kubeconfig = None,
        context: options.Context = None,
    ) -> None:
        _run(load()(object_, namespace, output, Access(kubeconfig, context, hub)))

    command.__doc__ = load.__doc__
    return command


@app.command("explain", short_help="Why an object is where it is, and what blocks.")
@_about_object
def explain() -> Show:
    """Tell why an object is where it is.

    Which placement matched (or came nearest and what failed), what each target gets or why not, who owns which field,
    what blocks, and what to do.

    \b
    Example:
      # why is nothing on west?
      syncline explain deploy/web -n shop
    """
    from syncer.cli.insight import show_explanation

    return show_explanation


@app.command("pods", short_help="Pods of a workload on all targets.")
@_about_object
def pods() -> Show:
    """List the Pods of a workload on all targets, with the reason why one does not run.

    \b
    Example:
      syncline pods deploy/web -n shop
    """
    from syncer.cli.insight import show_pods

    return show_pods


app.command("join", short_help="Make this cluster a target, through the tunnel.")(join)
app.command("approve", short_help="Let a cluster that asked to join be a target.")(approve)
app.command("deny", short_help="Refuse a cluster, or end what was approved.")(deny)
token_app.command("create", short_help="Create a token for one cluster.")(token_create)


@app.command("logs", short_help="Logs of a workload's Pods on all targets.")
def logs(
    object_: options.ObjectArgument,
    target: Annotated[str | None, typer.Option(metavar="NAME", help="Pods on this target only.")] = None,
    container: Annotated[
        str | None, typer.Option("-c", "--container", metavar="NAME", help="Container; needed where a Pod has several.")
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C, with Pods that come.")] = False,
    tail: Annotated[int | None, typer.Option(metavar="N", min=0, help="Only the last lines of each Pod.")] = None,
    namespace: options.Namespace = None,
    hub: options.HubUrl = None,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Show the logs of a workload's Pods on all targets behind the tunnel, each line with its target and Pod.

    It goes through the hub with your own upstream credential; your rights on the target decide there.

    \b
    Examples:
      # everywhere, as it comes
      syncline logs deploy/web -n shop -f
      # one target
      syncline logs deploy/web -n shop --target west --tail 20
    """
    from syncer.cli.through import show_logs

    _run(show_logs(object_, target, container, follow, tail, namespace, Access(kubeconfig, context, hub)))


app.command("kubeconfig", short_help="A kubeconfig for kubectl on a target, or on the hosted upstream.")(kubeconfig_)


@app.command(short_help="Check an installation: what is wrong, and how it is mended.")
def doctor(
    output: options.OutputFormat = None,
    hub: options.HubUrl = None,
    kubeconfig: options.Kubeconfig = None,
    context: options.Context = None,
) -> None:
    """Check an installation from the outside, and say of each fault its cause and what to do.

    It looks at the CRDs, the hub, versions, who leads, the admission webhooks (by a dry run, nothing is changed) and
    the targets, and tells when your context names a cluster that is no upstream. Exit code 1 when something is wrong.

    \b
    Examples:
      syncline doctor
      # for programs
      syncline doctor -o json
    """
    from syncer.cli.doctor import examine

    _run(examine(output, Access(kubeconfig, context, hub)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code: 0 ok, 1 failed, 2 wrong use, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given, prog_name=program(), standalone_mode=False)
        if isinstance(code, AgentSettings):
            return start(code, anew=arguments is None)
    except TyperException as error:
        return complain(_usage_error(error))
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return 130
    except BrokenPipeError:
        # The reader of our output has seen enough; nothing more may be written while Python shuts down.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # every way to fail is two lines; a bug says so without its text
        return complain(error)
    return code if isinstance(code, int) else 0


def _usage_error(error: TyperException) -> Exception:
    """A wrong command line in our own two lines."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else program()
    cause = error.format_message().rstrip(".")
    return WrongUse(cause, f"{path} --help shows what it takes, with examples.")
