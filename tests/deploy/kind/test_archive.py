"""Image archives that container engines and kind read."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from deploy.local.kind.archive import Image, Layer, sha256_of, write_archive


def members(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as archive:
        return archive.getmembers()


def text(path: Path, name: str) -> str:
    with tarfile.open(path) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read().decode()


def small_layer(path: Path) -> Path:
    layer = Layer()
    layer.text("etc/passwd", "root\n")
    layer.link("lib", "usr/lib")
    layer.folder("tmp", mode=0o1777)
    layer.write(path)
    return path


def test_folders_above_a_name_come_before_it(tmp_path: Path) -> None:
    source = tmp_path / "program"
    source.write_text("#!/bin/sh\n")
    layer = Layer()
    layer.file("usr/local/bin/program", source)
    layer.write(tmp_path / "layer.tar")
    assert [member.name for member in members(tmp_path / "layer.tar")] == [
        "usr",
        "usr/local",
        "usr/local/bin",
        "usr/local/bin/program",
    ]


def test_equal_files_give_equal_bytes_whenever_they_were_written(tmp_path: Path) -> None:
    source = tmp_path / "program"
    digests = set()
    for number in range(2):
        source.unlink(missing_ok=True)
        source.write_text("same")
        layer = Layer()
        layer.file("bin/program", source)
        layer.write(tmp_path / f"{number}.tar")
        digests.add(sha256_of(tmp_path / f"{number}.tar"))
    assert len(digests) == 1
    (member,) = [member for member in members(tmp_path / "0.tar") if member.isreg()]
    assert (member.uid, member.gid, member.mtime, member.mode) == (0, 0, 0, 0o755)


def test_kind_reads_the_tags_of_all_images_from_the_first_member(tmp_path: Path) -> None:
    """kind takes whichever of `repositories` and `manifest.json` comes first, of the latter only the first image."""
    layer = small_layer(tmp_path / "layer.tar")
    images = [
        Image(("registry.k8s.io/pause:3.10", "docker.io/kindest/kindnetd:v1"), layer),
        Image(("127.0.0.1:1/base:1",), layer),
    ]
    write_archive(tmp_path / "images.tar", images, architecture="amd64")
    assert members(tmp_path / "images.tar")[0].name == "repositories"
    repositories = json.loads(text(tmp_path / "images.tar", "repositories"))
    assert {name: list(tags) for name, tags in repositories.items()} == {
        "registry.k8s.io/pause": ["3.10"],
        "docker.io/kindest/kindnetd": ["v1"],
        "127.0.0.1:1/base": ["1"],
    }


def test_an_image_names_its_layer_by_the_hash_of_its_content(tmp_path: Path) -> None:
    layer = small_layer(tmp_path / "layer.tar")
    image = Image(("a.example/b:1",), layer, {"Entrypoint": ["/bin/b"], "StopSignal": "SIGRTMIN+3"})
    write_archive(tmp_path / "image.tar", [image], architecture="arm64")
    (entry,) = json.loads(text(tmp_path / "image.tar", "manifest.json"))
    config = json.loads(text(tmp_path / "image.tar", entry["Config"]))
    assert entry["Layers"] == [f"{sha256_of(layer)}/layer.tar"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{sha256_of(layer)}"]
    assert config["architecture"] == "arm64"
    assert config["config"] == {"Entrypoint": ["/bin/b"], "StopSignal": "SIGRTMIN+3"}


def test_a_layer_that_two_images_share_is_stored_once(tmp_path: Path) -> None:
    layer = small_layer(tmp_path / "layer.tar")
    write_archive(
        tmp_path / "images.tar", [Image(("a:1",), layer), Image(("b:1",), layer, {"Cmd": ["b"]})], architecture="amd64"
    )
    names = [member.name for member in members(tmp_path / "images.tar")]
    assert len([name for name in names if name.endswith("/layer.tar")]) == 1
    assert len(set(names)) == len(names)
