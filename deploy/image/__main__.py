"""`python -m deploy.image`: the image from the command line; the Makefile is a thin layer over it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from deploy.image import build as building
from deploy.image import scan, wheels
from deploy.image.archive import ImageArchive
from deploy.image.audit import audit
from deploy.image.names import ROOT
from deploy.local.errors import GroundError

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def build(
    base: Annotated[
        str,
        typer.Option(help="Image to take Python from; debian: make it of Debian's packages. Default: the pinned one."),
    ] = "",
    anew: Annotated[bool, typer.Option(help="Use nothing that earlier builds left in the container engine.")] = False,
) -> None:
    """Build the image of this checkout and check it."""
    with _errors_are_lines():
        typer.echo(building.summary(building.make(base, os.environ, _say, anew=anew)))


@app.command()
def tag() -> None:
    """Print what the image of this checkout is called."""
    with _errors_are_lines():
        typer.echo(building.source().reference)


@app.command()
def sbom(output: Annotated[Path, typer.Option(help="File to write.")] = ROOT / "build" / "sbom.cdx.json") -> None:
    """Write what the lock holds, as CycloneDX. That of an image, with its Debian packages, lies beside the image."""
    with _errors_are_lines():
        text = building.bill_of_lock(building.source())
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text)
        typer.echo(str(output))


@app.command()
def check(
    image: Annotated[Path | None, typer.Option(help="Archive of an image; default: that of this checkout.")] = None,
) -> None:
    """Check the lock, the wheels and the image; fails when something is wrong. It says what it could not look up."""
    with _errors_are_lines():
        pins = building.pins()
        _say(f"lock: {len(pins)} packages, each pinned to one version with hashes")
        path = image or building.archive_of(building.source())
        if not path.exists():
            raise GroundError(f"{path} does not exist", hint="make image builds it")
        archive = ImageArchive(path)
        held = wheels.fill(archive.config["architecture"])
        _say(f"wheels: {len(held)}, each with a hash of the lock")
        if wrong := scan.findings(archive, pins):
            raise GroundError(f"{path}:\n" + "\n".join(wrong[:50]))
        _say(f"image: {archive.identity}: not root, no shell, no installer, no setuid, no secret, packages as locked")
        known = audit(ROOT / "requirements.txt")
        if known.found:
            raise GroundError("known vulnerabilities:\n" + "\n".join(known.found), hint="make lock, then test")
        _say(f"vulnerabilities: {f'NOT LOOKED UP: {known.skipped}' if known.skipped else 'none known'}")


def _say(line: str) -> None:
    typer.echo(line, err=True)


@contextmanager
def _errors_are_lines() -> Iterator[None]:
    try:
        yield
    except GroundError as error:
        typer.echo(f"error: {error}", err=True)
        if error.hint:
            typer.echo(f"hint: {error.hint}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    app(prog_name="python -m deploy.image")
