"""`python -m deploy.local.demo`: from nothing to a small shop that runs on two clusters; `make demo` calls it.

Every step is the command that a person would type, and is shown as such. Running it again brings what is there up to
date. It leaves everything running; `make down` ends it.
"""

from __future__ import annotations

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
from deploy.local.fleet import Fleet
from deploy.local.plan import DEFAULT_TARGETS, UPSTREAM, FleetRequest
from deploy.local.processes import end
from deploy.local.providers import provider

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = "examples/shop"
REGIONS = {"east": "eu", "west": "us"}
OPERATOR = "operator"  # its name in the fleet's process table, and of its log
OPERATOR_SECONDS = 60.0  # until it is ready; 2 s on an idle machine
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
        self.say("the operator, in the background")
        self.start_operator(fleet)
        self.say("the targets")
        for name in DEFAULT_TARGETS:
            kubeconfig = fleet.targets[name].kubeconfig
            shell.show(
                f"syncline target add {name} --target-kubeconfig {shlex.quote(str(kubeconfig))}"
                f" --label region={REGIONS[name]} --allow '*.shop.example'"
            )
        self.say("the shop: applied once, upstream")
        shell.show(f"kubectl apply -f {EXAMPLE}")
        shell.show(f"kubectl -n shop wait --for=condition=Synced placement/shop --timeout={SHOP_SECONDS}s")
        shell.show(f"kubectl -n shop wait --for=condition=Available deployment/web --timeout={SHOP_SECONDS}s")
        self.say("it runs: upstream shows the sum over the targets")
        self.look_around(shell)
        self.say(f"done. Everything keeps running; the operator's log is {self.log(fleet)}")
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

    def log(self, fleet: Fleet) -> Path:
        """The operator's log."""
        return fleet.folder / "logs" / f"{OPERATOR}.log"

    def start_operator(self, fleet: Fleet) -> None:
        """Start it, a running one anew, and wait until it is ready.

        Raises:
            GroundError: it ended, or is not ready in time; with the last lines of its log.
        """
        record = fleet.table.read(OPERATOR)
        if record and record.alive:
            end([record])
        http, hub = ports.choose(2, rng=random.Random())  # noqa: S311 - spreads fleets over ports, guards nothing
        command = ["operator", "--http-bind", f"127.0.0.1:{http}", "--hub-bind", f"127.0.0.1:{hub}"]
        argv = [sys.executable, "-m", "syncer.cli", *command, "--kubeconfig", str(fleet.upstream.kubeconfig)]
        record = fleet.table.start(OPERATOR, argv, cwd=REPOSITORY)
        deadline = time.monotonic() + OPERATOR_SECONDS
        while not _ready(f"http://127.0.0.1:{http}/readyz"):
            if not record.alive or time.monotonic() > deadline:
                what = "is not ready" if record.alive else "ended"
                raise GroundError(f"the operator {what}: {self._last_lines(fleet)}", hint=f"read {self.log(fleet)}")
            time.sleep(0.1)

    def _last_lines(self, fleet: Fleet) -> str:
        path = self.log(fleet)
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n  ".join(["its last lines:", *lines[-_LOG_LINES:]]) if lines else "it wrote nothing"


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own loopback URL
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
        typer.echo(f"$ {command}")
        said: bytes | None = None
        for argv, last in pipeline(command):
            output = None if last else subprocess.PIPE
            done = subprocess.run(  # noqa: S603 - lines of this module, no shell
                argv, input=said, stdout=output, cwd=REPOSITORY, env=self._environment, check=False
            )
            if done.returncode:
                raise GroundError(
                    f"`{command}` failed", hint="`make status` tells what runs; logs are in the folder's logs/"
                )
            said = done.stdout


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
