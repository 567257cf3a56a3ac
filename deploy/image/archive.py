"""The archive of an image, as `docker save` writes it: reading it, and writing it so that equal content is equal bytes.

Builders record when they ran, in which container, and the times of files. `normalise` sets all times to that of the
commit, sorts, and keeps of the configuration what running needs. What comes out can be loaded by docker, kind,
containerd and skopeo, and its image ID depends on nothing but content.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from deploy.local.errors import GroundError

KEPT: Final = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal")
_REGISTRY_LEVEL: Final = 6  # how hard docker push and buildkit compress
_CHUNK: Final = 1 << 20


class File(NamedTuple):
    """One entry of a layer; `read` gives the content of a regular file."""

    layer: int
    info: tarfile.TarInfo
    read: Callable[[], bytes]


class ImageArchive:
    """An image in a file.

    Raises:
        GroundError: the file is no archive of exactly one image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with tarfile.open(path) as archive:
                (self._manifest,) = json.loads(_member(archive, "manifest.json"))
                text = _member(archive, self._manifest["Config"])
        except (OSError, KeyError, ValueError, tarfile.TarError) as error:
            raise GroundError(f"{path} is no archive of one image", hint="make image writes one") from error
        self.config: dict[str, Any] = json.loads(text)
        self.identity = "sha256:" + hashlib.sha256(text).hexdigest()

    @property
    def references(self) -> tuple[str, ...]:
        """Repositories and tags."""
        return tuple(self._manifest.get("RepoTags") or ())

    def files(self) -> Iterator[File]:
        """Every entry of every layer, lowest layer first. Read what you need before you go on."""
        with tarfile.open(self.path) as archive:
            for number, name in enumerate(self._manifest["Layers"]):
                with tarfile.open(fileobj=archive.extractfile(name), mode="r:*") as layer:
                    for info in layer:
                        yield File(number, info, partial(_content, layer, info))

    def compressed_sizes(self) -> list[int]:
        """Bytes of each layer as a registry holds them."""
        sizes = []
        with tarfile.open(self.path) as archive:
            for name in self._manifest["Layers"]:
                stream, size, press = archive.extractfile(name), 0, zlib.compressobj(_REGISTRY_LEVEL, wbits=31)
                assert stream is not None
                while chunk := stream.read(_CHUNK):
                    size += len(press.compress(chunk))
                sizes.append(size + len(press.flush()))
        return sizes


def normalise(source: Path, destination: Path, *, reference: str, seconds: int) -> ImageArchive:
    """Write an image anew, so that its bytes follow from its content.

    Args:
        reference: repository and tag, the only one that the result has.
        seconds: time of all its files and of itself, since 1970.
    Raises:
        GroundError: the source is no archive of one image.
    """
    old = ImageArchive(source)
    layers = _rewritten_layers(old, seconds)
    created = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = {
        "created": created,
        "architecture": old.config["architecture"],
        "os": old.config["os"],
        "config": {key: value for key in KEPT if (value := old.config["config"].get(key))},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": created, "created_by": "Dockerfile"} for _ in layers],
    }
    text = _json(config)
    name, _, tag = reference.rpartition(":")
    parts = {
        "repositories": _json({name: {tag: digests[-1]}}),  # first: some readers look no further
        "manifest.json": _json(
            [
                {
                    "Config": f"{hashlib.sha256(text).hexdigest()}.json",
                    "RepoTags": [reference],
                    "Layers": [f"{digest}/layer.tar" for digest in digests],
                }
            ]
        ),
        f"{hashlib.sha256(text).hexdigest()}.json": text,
    }
    parts |= {f"{digest}/layer.tar": layer for digest, layer in zip(digests, layers, strict=True)}
    part = destination.with_suffix(".part")
    with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(content), seconds, 0o644
            archive.addfile(info, io.BytesIO(content))
    part.replace(destination)
    return ImageArchive(destination)


def _rewritten_layers(image: ImageArchive, seconds: int) -> list[bytes]:
    layers: list[dict[str, tuple[tarfile.TarInfo, bytes]]] = [{} for _ in image.config["rootfs"]["diff_ids"]]
    for file in image.files():
        old = file.info
        info = tarfile.TarInfo(old.name.removeprefix("./").rstrip("/"))
        if not info.name:
            continue
        # Names of owners and extended attributes stay behind: the numbers decide, and no file has capabilities.
        info.type, info.mode, info.uid, info.gid, info.mtime = old.type, old.mode, old.uid, old.gid, seconds
        info.linkname = old.linkname if old.issym() else ""
        content = b""
        if old.isreg() or old.islnk():  # a second name of a file becomes a file: order would matter otherwise
            content, info.type = file.read(), tarfile.REGTYPE
            info.size = len(content)
        layers[file.layer][info.name] = info, content
    return [_tar(layer) for layer in layers if layer]


def _tar(entries: dict[str, tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for _, (info, content) in sorted(entries.items()):
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream.read()


def _content(layer: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    stream = layer.extractfile(info)
    return b"" if stream is None else stream.read()


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
