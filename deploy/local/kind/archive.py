"""Image archives in the form of `docker save`, written without a container engine."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

_EPOCH = "1970-01-01T00:00:00Z"


class Layer:
    """Files of an image, all owned by root and without times, so that equal files give equal bytes.

    Names are relative to the root of the image; folders above a name come by themselves.
    """

    def __init__(self) -> None:
        self._members: dict[str, tuple[tarfile.TarInfo, Path | bytes | None]] = {}

    def file(self, name: str, source: Path, *, mode: int = 0o755) -> None:
        """Add a file of this machine; links are followed."""
        member = self._member(name, mode)
        member.size = source.stat().st_size
        self._members[name] = (member, source)

    def text(self, name: str, content: str) -> None:
        """Add a file with this content."""
        member = self._member(name, 0o644)
        member.size = len(content.encode())
        self._members[name] = (member, content.encode())

    def folder(self, name: str, *, mode: int = 0o755) -> None:
        """Add an empty folder."""
        member = self._member(name, mode)
        member.type = tarfile.DIRTYPE
        self._members[name] = (member, None)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        member = self._member(name, 0o777)
        member.type = tarfile.SYMTYPE
        member.linkname = target
        self._members[name] = (member, None)

    def write(self, path: Path) -> None:
        """Write the layer as an uncompressed tar."""
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
            for _, (member, content) in sorted(self._members.items()):
                if isinstance(content, Path):
                    with content.open("rb") as file:
                        out.addfile(member, file)
                else:
                    out.addfile(member, io.BytesIO(content) if content is not None else None)

    def _member(self, name: str, mode: int) -> tarfile.TarInfo:
        for above in PurePosixPath(name).parents:
            if above.name and str(above) not in self._members:
                self.folder(str(above))
        member = tarfile.TarInfo(name)
        member.mode = mode
        return member


@dataclass(frozen=True)
class Image:
    """One image of an archive.

    Attributes:
        tags: full names, `registry.k8s.io/pause:3.10`.
        layer: its only layer, an uncompressed tar.
        config: what a container of it runs, in Docker's words: `Entrypoint`, `Env`, `StopSignal`.
    """

    tags: tuple[str, ...]
    layer: Path
    config: Mapping[str, Any] = field(default_factory=dict)


def write_archive(path: Path, images: Sequence[Image], *, architecture: str) -> None:
    """Write images into one archive that `docker load`, `ctr images import` and kind read.

    kind takes the tags from whichever of `repositories` and `manifest.json` comes first, and only the former gives it
    those of all images.
    """
    repositories: dict[str, dict[str, str]] = {}
    manifest: list[dict[str, Any]] = []
    configs: dict[str, bytes] = {}
    layers: dict[str, Path] = {}
    for image in images:
        digest = sha256_of(image.layer)
        layers[digest] = image.layer
        config = {
            "architecture": architecture,
            "os": "linux",
            "created": _EPOCH,
            "config": dict(image.config),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": _EPOCH}],
        }
        data = json.dumps(config, sort_keys=True).encode()
        name = f"{hashlib.sha256(data).hexdigest()}.json"
        configs[name] = data
        manifest.append({"Config": name, "RepoTags": list(image.tags), "Layers": [f"{digest}/layer.tar"]})
        for tag in image.tags:
            repository, _, version = tag.rpartition(":")
            repositories.setdefault(repository, {})[version] = digest
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        texts = {"repositories": json.dumps(repositories).encode(), "manifest.json": json.dumps(manifest).encode()}
        for name, data in {**texts, **configs}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o644
            out.addfile(member, io.BytesIO(data))
        for digest, layer in layers.items():
            member = tarfile.TarInfo(f"{digest}/layer.tar")
            member.size = layer.stat().st_size
            member.mode = 0o644
            with layer.open("rb") as file:
                out.addfile(member, file)


def sha256_of(path: Path) -> str:
    """Hash of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
