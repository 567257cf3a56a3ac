"""Equal content gives an equal image, whoever built it and when."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from deploy.image.archive import ImageArchive, normalise
from deploy.local.errors import GroundError
from tests.deploy.image.archives import entry, write

FILES = [entry("usr", None, mode=0o755), entry("usr/a", b"a"), entry("usr/b", b"b" * 5000)]


def test_times_order_and_builders_do_not_change_the_image(tmp_path: Path) -> None:
    """Two builds of one commit are one image."""
    later = [entry(info.name, content if info.isreg() else None, mode=info.mode) for info, content in FILES]
    for info, _ in later:
        info.mtime += 7
    write(tmp_path / "a.tar", FILES, when="monday")
    write(tmp_path / "b.tar", later[::-1], when="tuesday", config={"Image": "sha256:2"})
    first = normalise(tmp_path / "a.tar", tmp_path / "a", reference="r/x:1", seconds=1_000)
    second = normalise(tmp_path / "b.tar", tmp_path / "b", reference="r/x:1", seconds=1_000)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert first.identity == second.identity
    assert first.references == ("r/x:1",)
    assert first.config["created"] == "1970-01-01T00:16:40Z"
    assert {file.info.mtime for file in first.files()} == {1_000}


def test_other_content_is_another_image(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", FILES)
    write(tmp_path / "b.tar", [*FILES[:-1], entry("usr/b", b"c" * 5000)])
    made = [normalise(tmp_path / f"{n}.tar", tmp_path / n, reference="x:1", seconds=0).identity for n in "ab"]
    assert made[0] != made[1]


def test_modes_links_and_content_stay_and_second_names_become_files(tmp_path: Path) -> None:
    files = [
        *FILES,
        entry("usr/again", type=tarfile.LNKTYPE, linkname="usr/a"),
        entry("usr/link", type=tarfile.SYMTYPE, linkname="a"),
        entry("usr/run", b"x", mode=0o755),
    ]
    write(tmp_path / "a.tar", files, [entry("usr/a", b"other")])
    image = normalise(tmp_path / "a.tar", tmp_path / "a", reference="x:1", seconds=0)
    held = {(file.layer, file.info.name): (file.info, file.read()) for file in image.files()}
    assert held[0, "usr/again"][1] == b"a"
    assert held[0, "usr/again"][0].isreg()
    assert held[0, "usr/link"][0].linkname == "a"
    assert held[0, "usr/run"][0].mode == 0o755
    assert held[1, "usr/a"][1] == b"other"


def test_extended_attributes_and_names_of_owners_stay_behind(tmp_path: Path) -> None:
    odd = entry("usr/a", b"a", uname="builder", pax_headers={"SCHILY.xattr.security.capability": "x"})
    write(tmp_path / "a.tar", [odd])
    image = normalise(tmp_path / "a.tar", tmp_path / "a", reference="x:1", seconds=0)
    (info,) = [file.info for file in image.files()]
    assert (info.uname, info.pax_headers) == ("", {})


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.tar"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GroundError, match="is no archive of one image"):
        ImageArchive(path)


def test_sizes_are_those_that_a_registry_holds(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [entry("a", b"a" * 1_000_000)], [entry("b", b"b")])
    large, small = ImageArchive(tmp_path / "a.tar").compressed_sizes()
    assert 500 < large < 5_000
    assert small < 500
