"""What an image must not hold is found."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from deploy.image.archive import ImageArchive
from deploy.image.audit import audit, read
from deploy.image.lock import Pin
from deploy.image.scan import findings
from deploy.local.errors import GroundError
from tests.deploy.image.archives import dist, entry, write

PINS = [Pin("a-b", "1.0", frozenset({"0" * 64}), ("",))]
GOOD = [dist("A_B", "1.0"), entry("usr/bin/python3.11", b"\x7fELF", mode=0o755), entry("tmp", None, mode=0o1777)]
KEY = b"-----BEGIN EC PRIVATE KEY-----\n" + b"A" * 64 + b"\n"


def scan(folder: Path, *more: Any, config: dict[str, Any] | None = None) -> list[str]:
    return findings(ImageArchive(write(folder / "image.tar", [*GOOD, *more], config=config)), PINS)


def test_a_good_image_has_no_findings(tmp_path: Path) -> None:
    """S70."""
    assert scan(tmp_path) == []


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (entry("usr/bin/sudo", b"x", mode=0o4755), "/usr/bin/sudo is setuid"),
        (entry("etc/x", b"x", mode=0o666), "/etc/x can be written by everybody"),
        (entry("srv", None, mode=0o777), "/srv can be written by everybody"),
        (entry("opt/x", b"x", uid=65532), "/opt/x belongs to 65532:0"),
        (entry("dev/null", b"", type=tarfile.CHRTYPE), "/dev/null is a device"),
        (entry("bin/sh", b"x", mode=0o755), "/bin/sh is a shell"),
        (entry("usr/local/bin/pip3", b"x", mode=0o755), "/usr/local/bin/pip3 installs packages"),
        (entry("etc/x.pem", KEY), "/etc/x.pem holds what looks like a secret"),
        (entry("root/.kube", None, mode=0o755), "/root/.kube is where credentials are kept"),
        (dist("c", "2.0"), "Python package c: image 2.0, lock none"),
    ],
)
def test_each_kind_of_bad_file_is_named(tmp_path: Path, bad: Any, told: str) -> None:
    """S70: a finding says where and what."""
    assert any(line.startswith(told) for line in scan(tmp_path, bad))


def test_the_secret_itself_is_not_told(tmp_path: Path) -> None:
    assert "AAAA" not in "".join(scan(tmp_path, entry("x", KEY)))


def test_words_about_keys_are_no_keys(tmp_path: Path) -> None:
    assert scan(tmp_path, entry("doc", b"begins with -----BEGIN PRIVATE KEY----- and ends")) == []


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"User": ""}, "the user is ''"),
        ({"User": "0:0"}, "the user is '0'"),
        ({"User": "nobody"}, "the user is 'nobody'"),
        ({"Entrypoint": ["sh", "-c", "syncline"]}, "the entrypoint is"),
        ({"Env": ["API_TOKEN=x"]}, "variable API_TOKEN looks like a secret"),
    ],
)
def test_the_configuration_is_looked_at(tmp_path: Path, config: dict[str, Any], told: str) -> None:
    """S71: a numeric user, for `runAsNonRoot` cannot judge a name."""
    (line,) = scan(tmp_path, config=config)
    assert line.startswith(told)


def test_a_missing_or_other_package_is_found(tmp_path: Path) -> None:
    """S70: the image holds what the lock says."""
    image = ImageArchive(write(tmp_path / "image.tar", [dist("a-b", "2.0")]))
    assert findings(image, [*PINS, Pin("z", "1", frozenset({"0" * 64}), ())]) == [
        "Python package a-b: image 2.0, lock 1.0",
        "Python package z: image none, lock 1",
    ]


def test_vulnerabilities_are_told_with_the_way_out() -> None:
    """S70."""
    known = {"id": "CVE-1", "fix_versions": ["1.1"], "aliases": [], "description": "x"}
    told = {"dependencies": [{"name": "a", "version": "1.0", "vulns": [known]}], "fixes": []}
    assert read(json.dumps(told)) == (("a 1.0: CVE-1, fixed in 1.1",), "")


def test_what_could_not_be_looked_up_is_not_called_safe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """S70."""
    told = {"dependencies": [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}]}
    assert read(json.dumps(told)).skipped == "the index tells nothing of 1 of 2 packages"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert audit(tmp_path / "lock").skipped == "pip-audit is not installed"
    with pytest.raises(GroundError, match="no network"):
        read("", "no network")
