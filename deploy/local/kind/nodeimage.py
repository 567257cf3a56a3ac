"""The node image of the self-built way, kept in the data root of an engine: a fleet starts with it in place.

The folder in the user's cache is named by a hash of what the image is made of; Debian's packages are those of the day
of the build, listed in `packages.txt` beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.assets import BUILD_MODULES, KUBERNETES_VERSION, cache_root, digest_of
from deploy.local.build import duration, ensure, find_go, module_folder, one_at_a_time
from deploy.local.errors import GroundError
from deploy.local.files import write_json
from deploy.local.kind import engine
from deploy.local.kind.commands import run
from deploy.local.kind.images import Sources, write_node_base, write_server_tar
from deploy.local.kind.rootfs import build_rootfs
from deploy.local.kind.tools import KIND, TOOL_MODULES, ensure_tools
from deploy.local.processes import ProcessTable
from deploy.local.provider import Report

NODE_IMAGE = f"syncline.test/node:{KUBERNETES_VERSION}"
_BASE_IMAGE = "127.0.0.1:1/syncline/node-base:1"  # kind tries to pull it first: that fails on loopback, at once
_RECIPE = ("archive.py", "images.py", "nodeimage.py", "rootfs.py")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class NodeImage:
    """A node image that is built.

    Attributes:
        folder: in the cache; `image.json` in it is written last.
        tools: folder with kind and the other tools of the self-built way.
    """

    folder: Path
    tools: Path

    @property
    def data_root(self) -> Path:
        """Where the engine that holds the image keeps its data."""
        return self.folder / "engine"

    @property
    def complete(self) -> bool:
        """Whether the build came to its end."""
        return (self.folder / "image.json").exists()


def image_folder(environ: Mapping[str, str]) -> Path:
    """Folder of the image that today's recipe gives on this kind of machine, built or not."""
    digest = hashlib.sha256(digest_of((*BUILD_MODULES, *TOOL_MODULES)).encode())
    for name in _RECIPE:
        digest.update((Path(__file__).parent / name).read_bytes())
    return cache_root(environ) / f"kind-{digest.hexdigest()[:16]}"


def ensure_image(environ: Mapping[str, str], report: Report) -> NodeImage:
    """Return the node image, building it first when it is not in the cache; nothing runs afterwards.

    Raises:
        GroundError: it cannot be built, or another engine of ours runs on this machine.
    """
    tools = ensure_tools(environ, report)
    image = NodeImage(image_folder(environ), tools)
    image.folder.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(image.folder.with_suffix(".lock"), report):
        if not image.complete:
            _build(image, environ, report)
    return image


def _build(image: NodeImage, environ: Mapping[str, str], report: Report) -> None:
    began = time.monotonic()
    control_plane = ensure(environ, report).paths
    go = find_go(environ, report)
    kind_source = module_folder(go, KIND, "sigs.k8s.io/kind", environ)
    if image.folder.exists():
        shutil.rmtree(image.folder)  # of a build that was ended in the middle
    image.folder.mkdir(mode=0o711)
    log = image.folder / "build.log"
    architecture = _ARCHITECTURES[platform.machine()]
    with tempfile.TemporaryDirectory(dir=image.folder, prefix="scratch-") as name:
        scratch = Path(name)
        root = scratch / "root"
        build_rootfs(root, tools=image.tools, kind_source=kind_source, report=report, log=log)
        listed = run(["chroot", root, "dpkg-query", "--show"], timeout_seconds=30).stdout
        (image.folder / "packages.txt").write_text(listed)
        report(f"writing the images of the control plane, {duration(time.monotonic() - began)} so far")
        sources = Sources(image.tools, control_plane, root, kind_source, architecture)
        (scratch / "images").mkdir()
        write_server_tar(scratch / "server.tar.gz", sources, scratch / "images")
        shutil.rmtree(scratch / "images")
        write_node_base(scratch / "base.tar", _BASE_IMAGE, root, scratch, architecture=architecture)
        shutil.rmtree(root)
        report(f"building the node image with kind, {duration(time.monotonic() - began)} so far")
        _build_with_kind(image, scratch, log, report)
    write_json(image.folder / "image.json", {"image": NODE_IMAGE, "kubernetes": KUBERNETES_VERSION}, mode=0o644)
    report(f"the node image is built, {duration(time.monotonic() - began)} in all")


def _build_with_kind(image: NodeImage, scratch: Path, log: Path, report: Report) -> None:
    table = ProcessTable(scratch / "run")
    table.folder.mkdir()
    try:
        engine.start(table, image.data_root, image.tools, report, owner_pid=os.getpid())
        engine.docker("load", f"--input={scratch / 'base.tar'}", timeout_seconds=300)
        (scratch / "base.tar").unlink()
        command = [str(image.tools / "kind"), "build", "node-image", "--type=file", str(scratch / "server.tar.gz")]
        run(
            [*engine.INSIDE, *command, f"--base-image={_BASE_IMAGE}", f"--image={NODE_IMAGE}"],
            timeout_seconds=900,
            environ={**os.environ, **engine.environment(), "TMPDIR": str(scratch)},
            log=log,
        )
        _check_image(log)
    finally:
        engine.stop(table.folder, report)


def _check_image(log: Path) -> None:
    inspected = json.loads(engine.docker("image", "inspect", NODE_IMAGE))
    if not inspected:
        raise GroundError("kind built no node image", hint=f"see {log}")
