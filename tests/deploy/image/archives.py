"""Archives of small images, as `docker save` writes them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "User": "65532:65532",
    "Entrypoint": ["syncline"],
    "Env": ["PATH=/usr/bin"],
    "Image": "sha256:1",
}


def entry(name: str, content: bytes | None = b"", *, mode: int = 0o644, uid: int = 0, **more: Any) -> tuple[Any, bytes]:
    """A file; without content a directory."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.REGTYPE if content is not None else tarfile.DIRTYPE
    info.size, info.mode, info.uid, info.mtime = len(content or b""), mode, uid, 1_700_000_001
    for key, value in more.items():
        setattr(info, key, value)
    return info, content or b""


def dist(name: str, version: str, *lines: str) -> tuple[Any, bytes]:
    """The metadata of an installed Python package."""
    text = "\n".join(("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines, "", ""))
    return entry(f"opt/syncline/wheels/{name}-{version}.dist-info/METADATA", text.encode())


def write(
    path: Path, *layers: list[tuple[Any, bytes]], config: dict[str, Any] | None = None, when: str = "now"
) -> Path:
    """An image; `when` goes where builders note their time."""
    contents = []
    for layer in layers:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for info, content in layer:
                tar.addfile(info, io.BytesIO(content))
        contents.append(stream.getvalue())
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": when,
        "container": when,
        "config": CONFIG | (config or {}),
        "rootfs": {"type": "layers", "diff_ids": [hashlib.sha256(content).hexdigest() for content in contents]},
    }
    manifest = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": [f"{n}/layer.tar" for n in range(len(contents))]}]
    parts = {f"{number}/layer.tar": content for number, content in enumerate(contents)}
    parts |= {"c.json": json.dumps(document).encode(), "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(path, "w") as archive:
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
