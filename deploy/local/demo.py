"""`python -m deploy.local.demo`: from nothing to a small shop that runs on two clusters; `make demo` calls it.

The east is reached directly. The west is behind a tunnel: its agent dials out, and no credential of it goes upstream.
Every step is the command that a person would type, and is shown as such. Running it again brings what is there up to
date. It leaves everything running; `make down` ends it.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from deploy.local import ports
from deploy.local.cli import DEFAULT_FOLDER
from deploy.local.errors import GroundError
from deploy.local.files import write_json
from deploy.local.fleet import Fleet
from deploy.local.plan import DEFAULT_TARGETS, UPSTREAM, FleetRequest
from deploy.local.processes import end
from deploy.local.providers import provider

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = "examples/shop"
TUNNELLED = "examples/behind-nat"
DIRECT_TARGET, TUNNELLED_TARGET = DEFAULT_TARGETS
OPERATOR, AGENT = "operator", "agent-west"  # their names in the fleet's process table, and of their logs
IDENTITY = "syncline-operator"  # the operator's user upstream, as deploy/rbac binds it
ROLE_SECONDS = 30
OPERATOR_SECONDS = 60.0  # until it is ready; 2 s on an idle machine
JOIN_SECONDS = 60  # until an agent that is approved has its certificate, and until its target is Ready
SHOP_SECONDS = 120  # until the shop is Available; a few seconds on an idle machine
POD_COLUMNS = (
    "'POD:.metadata.name,STATUS:.status.phase,IMAGE:.spec.containers[0].image,"
    'REGION:.spec.containers[0].env[?(@.name=="REGION")].value\''
)
_LOG_LINES = 8


class Demo:
    """One run: the fleet, and the seconds since it began."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """One line of progress with the time."""
        typer.echo(f"[{time.monotonic() - self._started:6.1f} s] {text}")

    def run(self) -> None:
        """All steps in order."""
        self.say("control planes: one upstream, " + " and ".join(DEFAULT_TARGETS))
        fleet = provider("local", self.folder).up(FleetRequest(targets=DEFAULT_TARGETS), self.say)
        shell = Shell(fleet)
        self.say("Syncline's kinds upstream, and the shop's own kind on every cluster")
        shell.show("syncline crds | kubectl apply --server-side -f -")
        for name in (UPSTREAM, *DEFAULT_TARGETS):
            shell.show(f"kubectl --context {name} apply --server-side -f {EXAMPLE}/crd")
        self.say("the operator's rights, the shop's kind included; then the operator itself, in the background")
        shell.show(f"kubectl apply -f deploy/rbac -f {EXAMPLE}/rbac")
        # Made of the others by a controller; until then it holds nothing.
        shell.show(f"kubectl wait clusterrole/{IDENTITY} --for=jsonpath={{.rules[0].verbs}} --timeout={ROLE_SECONDS}s")
        self.start_operator(fleet)
        self.say("east: the operator reaches it, with rights of its own")
        shell.show(
            f"syncline target add {DIRECT_TARGET} --label region=eu --allow '*.shop.example'"
            f" --target-kubeconfig {_quoted(fleet.targets[DIRECT_TARGET].kubeconfig)}"
        )
        self.say("west: nobody reaches it; its agent dials the hub")
        self.join(fleet, shell)
        self.start_agent(fleet)
        shell.show(f"kubectl wait --for=condition=Ready synctarget/{TUNNELLED_TARGET} --timeout={JOIN_SECONDS}s")
        self.say("the shop: applied once, upstream")
        shell.show(f"kubectl apply -f {EXAMPLE}")
        shell.show(f"kubectl -n shop wait --for=condition=Synced placement/shop --timeout={SHOP_SECONDS}s")
        shell.show(f"kubectl -n shop wait --for=condition=Available deployment/web --timeout={SHOP_SECONDS}s")
        self.say("it runs: upstream shows the sum over the targets")
        self.look_around(shell)
        self.say(f"done. Everything keeps running; the operator's log is {fleet.table.log_path(OPERATOR)}")
        directory = "" if self.folder == DEFAULT_FOLDER else f" DIR={shlex.quote(str(self.folder))}"
        typer.echo(
            f'\nLook around:   eval "$(make -s env{directory})"   # kubectl (upstream, east, west) and syncline'
            "\n               kubectl -n shop scale deployment web --replicas 9"
            "\n               kubectl --context west -n shop get pods"
            "\n               syncline explain deploy/web -n shop"
            f"\nEnd it:        make down{directory}"
        )

    def look_around(self, shell: Shell) -> None:
        """What kubectl says, upstream and on each target."""
        shell.show("kubectl -n shop get placement,deployment,service,cronjob,offer")
        for name in DEFAULT_TARGETS:
            shell.show(f"kubectl --context {name} -n shop get deployment,service,cronjob,offer")
            shell.show(f"kubectl --context {name} -n shop get pods -l app=web -o custom-columns={POD_COLUMNS}")
        shell.show("syncline status deploy/web -n shop")
        shell.show("syncline status")
        shell.show("syncline get targets")

    def start_operator(self, fleet: Fleet) -> None:
        """Start it, a running one anew, and wait until it is ready. Its ports stay: the agent knows the hub by them.

        Raises:
            GroundError: it ended, or is not ready in time; with the last lines of its log.
        """
        record = fleet.table.read(OPERATOR)
        if record:
            end([record])
        kept = fleet.folder / "run" / "operator.ports"
        if not kept.exists():
            chosen = ports.choose(2, rng=random.Random())  # noqa: S311 - spreads fleets over ports, guards nothing
            write_json(kept, chosen)
        http, hub = json.loads(kept.read_text())
        command = ["operator", "--http-bind", f"127.0.0.1:{http}", "--hub-bind", f"127.0.0.1:{hub}"]
        self._start(fleet, OPERATOR, [*command, "--kubeconfig", str(fleet.upstream.user(IDENTITY))], http)

    def join(self, fleet: Fleet, shell: Shell) -> None:
        """The west asks to be a target, and is approved; nothing is asked again in a second run."""
        shell.show(f"kubectl apply -f {TUNNELLED}/target.yaml")
        folder = self.credentials(fleet)
        if (folder / "agent.pem").exists():
            self.say(f"it has joined already; its credentials are in {folder}")
            return
        token = json.loads(shell.ask(f"syncline token create {TUNNELLED_TARGET} -o json"))
        joining = shell.start(
            f"syncline join --hub {token['hub']} --token - --ca-hash {token['caHash']} --target {TUNNELLED_TARGET}"
            f" --credentials {_quoted(folder)} --kubeconfig {_quoted(fleet.targets[TUNNELLED_TARGET].kubeconfig)}"
            f" --wait {JOIN_SECONDS}",
            given=token["token"],
        )
        registration = f"{TUNNELLED_TARGET}-{token['token'].partition('.')[0]}"
        try:
            shell.show(f"kubectl wait --for=create clusterregistration/{registration} --timeout={JOIN_SECONDS}s")
            # By name: an earlier run may have been interrupted between its question and the answer.
            shell.show(f"syncline approve {TUNNELLED_TARGET} --registration {registration}")
            if joining.wait():
                raise GroundError("`syncline join` failed", hint="what it said is above")
        finally:
            joining.kill()
            joining.wait()

    def start_agent(self, fleet: Fleet) -> None:
        """Start the agent of the west, a running one anew, and wait until it has its link.

        Raises:
            GroundError: it ended, or has no link in time; with the last lines of its log.
        """
        record = fleet.table.read(AGENT)
        if record:
            end([record])
        command = [
            *("agent", "--credentials", str(self.credentials(fleet)), "--policy", f"{TUNNELLED}/agent-policy.yaml"),
            *("--kubeconfig", str(fleet.targets[TUNNELLED_TARGET].kubeconfig)),
        ]
        typer.echo(f"$ {shlex.join(['syncline', *command])} &")
        [http] = ports.choose(1, rng=random.Random())  # noqa: S311 - as above
        self._start(fleet, AGENT, [*command, "--http-bind", f"127.0.0.1:{http}"], http)

    def credentials(self, fleet: Fleet) -> Path:
        """The agent's folder; `make down` removes it."""
        return fleet.folder / "agents" / TUNNELLED_TARGET

    def _start(self, fleet: Fleet, name: str, command: list[str], http: int) -> None:
        """`syncline COMMAND` in the background, until its `/readyz` says yes."""
        record = fleet.table.start(name, [sys.executable, "-m", "syncer.cli", *command], cwd=REPOSITORY)
        deadline = time.monotonic() + OPERATOR_SECONDS
        while not _ready(f"http://127.0.0.1:{http}/readyz"):
            if not record.alive or time.monotonic() > deadline:
                what = "is not ready" if record.alive else "ended"
                log = fleet.table.log_path(name)
                raise GroundError(f"{name} {what}: {_last_lines(log)}", hint=f"read {log}")
            time.sleep(0.1)


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n  ".join(["its last lines:", *lines[-_LOG_LINES:]]) if lines else "it wrote nothing"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _ready(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy leads to this machine
    try:
        with direct.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class Shell:
    """Runs command lines as a person would after `eval "$(make -s env)"`, and shows them with what they say."""

    def __init__(self, fleet: Fleet) -> None:
        folders = [str(fleet.assets), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        self._environment = os.environ | {"KUBECONFIG": str(fleet.kubeconfig), "PATH": os.pathsep.join(folders)}
        self._environment.pop("SYNCLINE_DEBUG", None)

    def show(self, command: str) -> None:
        """Run one line: words and quotes as in a shell, commands joined by ` | `, nothing else of a shell.

        Raises:
            GroundError: it failed; what it said is on the screen already.
        """
        self._run(command, keep=False)

    def ask(self, command: str) -> bytes:
        """`show`, but the last output is returned and not shown: it holds a secret."""
        return self._run(command, keep=True)

    def start(self, command: str, *, given: str) -> subprocess.Popen[bytes]:
        """Run a line of one command in the background, with a line of standard input that is not shown."""
        typer.echo(f"$ {command} &")
        process = subprocess.Popen(  # noqa: S603 - lines of this module, no shell
            shlex.split(command), stdin=subprocess.PIPE, cwd=REPOSITORY, env=self._environment
        )
        assert process.stdin is not None
        process.stdin.write(f"{given}\n".encode())
        process.stdin.close()
        return process

    def _run(self, command: str, *, keep: bool) -> bytes:
        typer.echo(f"$ {command}")
        said: bytes | None = None
        for argv, last in pipeline(command):
            done = subprocess.run(  # noqa: S603 - lines of this module, no shell
                argv,
                input=said,
                stdout=subprocess.PIPE if keep or not last else None,
                cwd=REPOSITORY,
                env=self._environment,
                check=False,
            )
            if done.returncode:
                raise GroundError(
                    f"`{command}` failed", hint="`make status` tells what runs; logs are in the folder's logs/"
                )
            said = done.stdout
        return said or b""


def pipeline(command: str) -> list[tuple[list[str], bool]]:
    """[(argv, whether it is the last)] of a line; each command's output is the next one's input."""
    commands: list[list[str]] = [[]]
    for word in shlex.split(command):
        if word == "|":
            commands.append([])
        else:
            commands[-1].append(word)
    return [(argv, argv is commands[-1]) for argv in commands]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    app(arguments)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def demo(folder: Annotated[Path, typer.Option("--dir", help="Folder of the fleet's state.")] = DEFAULT_FOLDER) -> None:
    """Run the demo; exit code 1 and two lines if a step fails."""
    run = Demo(folder)
    try:
        run.run()
    except GroundError as error:
        typer.echo(f"error: {error}", err=True)
        typer.echo(f"hint: {error.hint or f'read the logs in {folder}/logs'}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; `make demo` goes on from here, `make down` ends what runs", err=True)
        raise typer.Exit(130) from None


if __name__ == "__main__":
    main()
