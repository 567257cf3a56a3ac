"""`python -m deploy.local.kind`: the node image, commands inside the fleet's network, and what is left of it.

The fleet itself is started and ended by `python -m deploy.local up --provider kind` and `down`; `make` has both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from deploy.local.cli import DEFAULT_FOLDER, Folder, errors_are_lines, say
from deploy.local.errors import GroundError
from deploy.local.kind import traces, ways
from deploy.local.kind.nodeimage import NODE_IMAGE, ensure_image
from deploy.local.kind.provider import command_environment
from deploy.local.kind.provider import load as load_image

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
picture = typer.Typer(help="Show that a fleet left nothing on this machine.", no_args_is_help=True)
app.add_typer(picture, name="traces")


@app.command()
def image() -> None:
    """Build the node image of the self-built way, unless it is in the cache, and print its folder.

    Needs root, Debian packages, Go modules and no registry; `check` says what is missing.
    """
    with errors_are_lines():
        ways.require(ways.checks(os.environ))
        built = ensure_image(os.environ, say)
        say(f"{NODE_IMAGE} is in the cache")
        typer.echo(str(built.folder))


@app.command()
def check() -> None:
    """Print each precondition of the self-built way and whether this machine has it; exit 1 when one is missing."""
    found = ways.checks(os.environ)
    for item in found:
        typer.echo(f"{item.name:<28} {item.problem or 'ok'}")
        if not item.holds:
            typer.echo(f"{'':<28} hint: {item.hint}")
    if not all(item.holds for item in found):
        raise typer.Exit(1)


@app.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(
    command: Annotated[list[str], typer.Argument(help="The command, after `--`.")], folder: Folder = DEFAULT_FOLDER
) -> None:
    """Run a command where it reaches the clusters, with KUBECONFIG, kubectl, kind and docker set for them.

    Tests find the fleet too: `python -m deploy.local.kind exec -- make test ARGS='-k name'`.
    """
    with errors_are_lines():
        inside, environ = command_environment(folder)
        words = [*inside, *command]
        try:
            os.execvpe(words[0], words, environ)  # noqa: S606  what the caller typed
        except OSError as error:
            raise GroundError(f"{words[0]} cannot be run: {error.strerror}") from error


@app.command()
def load(
    image: Annotated[str, typer.Argument(help="An archive of `docker save`, or an image that the engine has.")],
    cluster: Annotated[list[str] | None, typer.Option(help="Which clusters; all when not given.")] = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Put an image on the nodes of the fleet."""
    with errors_are_lines():
        load_image(folder, image, cluster or [])


@picture.command(name="save")
def save_picture(file: Annotated[Path, typer.Argument(help="Where to keep it.")]) -> None:
    """Keep a picture of the machine before a fleet is started."""
    with errors_are_lines():
        traces.save(file)


@picture.command(name="compare")
def compare_picture(file: Annotated[Path, typer.Argument(help="What `traces save` wrote.")]) -> None:
    """Print what differs now from a picture that was saved; exit 1 when anything does."""
    with errors_are_lines():
        try:
            lines = traces.compare(file)
        except OSError as error:
            raise GroundError(f"{file} cannot be read: {error.strerror}", hint="save one before `make up`") from error
    for line in lines:
        typer.echo(line)
    if lines:
        raise typer.Exit(1)
    say("nothing differs")
