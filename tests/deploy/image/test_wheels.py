"""The wheelhouse holds what the lock says and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from deploy.image import wheels
from deploy.local.errors import GroundError

HASH = frozenset({hashlib.sha256(b"x").hexdigest()})
LOCKED = {("a-b", "1.0"): HASH, ("c", "2.0"): HASH}


def files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_bytes(b"x")
    return sorted(folder.iterdir())


def test_wheels_of_other_versions_packages_and_machines_are_removed(tmp_path: Path) -> None:
    good = {"a_b-1.0-py3-none-any.whl", "c-2.0-cp311-cp311-manylinux_2_17_x86_64.whl"}
    bad = (
        "a_b-0.9-py3-none-any.whl",
        "z-1-py3-none-any.whl",
        "c-2.0-cp311-cp311-manylinux_2_17_aarch64.whl",
        "c-2.0.tar.gz",
    )
    found = wheels.check(files(tmp_path, *good, *bad), LOCKED, "x86_64")
    assert {file.name for file in found.values()} == good == {file.name for file in tmp_path.iterdir()}


def test_a_wheel_with_another_content_is_refused(tmp_path: Path) -> None:
    """S70: what lies in the folder is not trusted."""
    (tmp_path / "c-2.0-py3-none-any.whl").write_bytes(b"evil")
    with pytest.raises(GroundError, match="is not what the lock allows"):
        wheels.check(sorted(tmp_path.iterdir()), LOCKED, "x86_64")


def test_what_is_there_needs_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"c==2.0 --hash=sha256:{next(iter(HASH))}\n")
    house = tmp_path / "house"
    monkeypatch.setattr(wheels, "LOCKS", (lock,))
    monkeypatch.setattr(wheels, "FOLDER", house)
    asked: list[str] = []
    monkeypatch.setattr(wheels, "_download", asked.append)
    with pytest.raises(GroundError, match=r"no wheel of c==2\.0"):
        wheels.fill("amd64")
    assert asked == ["x86_64"]
    files(house, "c-2.0-py3-none-any.whl")
    assert [file.name for file in wheels.fill("arm64")] == ["c-2.0-py3-none-any.whl"]
    assert asked == ["x86_64"]
