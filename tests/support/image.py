"""The container image of this checkout, where one can be built, and containers of it."""

from __future__ import annotations

import os
import socket

import pytest

from deploy.image import base, build
from deploy.image.docker import docker, why_unusable
from deploy.local.errors import GroundError

# As a Pod of the profile "restricted" with a root file system that cannot be written to.
BARE = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")


def image_base() -> str:
    """What to build from; skips the test, and says why, where nothing can be built."""
    if why := why_unusable():
        pytest.skip(f"no docker here: {why}")
    try:
        return base.choose("", os.environ, print)
    except GroundError as error:
        pytest.skip(f"no base to build an image from: {error}")


def image() -> build.Made:
    """The image, built if it is not there yet; skips as `image_base`."""
    return build.make(image_base(), os.environ, print)


def shares_loopback(made: build.Made) -> bool:
    """Whether a container in docker's own network reaches what listens on our 127.0.0.1."""
    program = next(file.read() for file in made.image.files() if file.info.name == "usr/local/bin/syncline")
    interpreter = program.decode().removeprefix("#!").split()[0]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        # The kernel takes the connection whether or not anybody accepts it.
        code = f"import socket; socket.create_connection(('127.0.0.1', {listening.getsockname()[1]}), 3)"
        try:
            docker("run", "--rm", "--network=host", f"--entrypoint={interpreter}", made.source.reference, "-c", code)
        except GroundError:
            return False
    return True
