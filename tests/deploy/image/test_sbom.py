"""The bill of materials says what is locked, and what is in an image."""

from __future__ import annotations

import hashlib
import json
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from deploy.image import build, sbom
from deploy.image.archive import ImageArchive
from deploy.image.lock import Pin, canonical, read_lock
from deploy.image.names import Source
from deploy.local.errors import GroundError
from tests.deploy.image.archives import dist, entry, write

ROOT = Path(__file__).parents[3]
SOURCE = Source("0.1.0", "1a2b3c4d5e6f" + "0" * 28, 1_700_000_000)
LOCK = f"""#
# made by
#
a-b==1.0 \\
    --hash=sha256:{"1" * 64} \\
    --hash=sha256:{"2" * 64}
    # via
    #   -c requirements-dev.txt
    #   syncline (pyproject.toml)
c.d[extra]==2.0 ; sys_platform != "win32" \\
    --hash=sha256:{"3" * 64}
    # via a-b
"""


def test_a_lock_is_read_with_hashes_and_reasons() -> None:
    assert read_lock(LOCK.replace("[extra]", "")) == (
        Pin("a-b", "1.0", frozenset({"1" * 64, "2" * 64}), ("",)),
        Pin("c-d", "2.0", frozenset({"3" * 64}), ("a-b",)),
    )
    assert canonical("Typing_Extensions") == "typing-extensions"


@pytest.mark.parametrize("text", ["a>=1 --hash=sha256:" + "0" * 64, "a==1", "a==1 --hash=md5:0"])
def test_what_is_not_locked_is_refused(text: str) -> None:
    """S70: a version and a hash, or nothing."""
    with pytest.raises(ValueError, match="not pinned"):
        read_lock(text)


@pytest.mark.parametrize("name", ["requirements.txt", "deploy/image/build-requirements.txt"])
def test_every_package_of_our_locks_is_pinned(name: str) -> None:
    """S70."""
    text = (ROOT / name).read_text()
    assert len(read_lock(text)) == text.count("==")


def test_the_lock_s_bill_names_every_package_with_its_licence_and_is_the_same_again() -> None:
    """S70: nothing in it depends on when or where it was made."""
    text = build.bill_of_lock(SOURCE)
    assert text == build.bill_of_lock(SOURCE)
    made = json.loads(text)
    pins = build.pins()
    assert {part["purl"] for part in made["components"]} == {f"pkg:pypi/{pin.name}@{pin.version}" for pin in pins}
    assert all(part["licenses"][0]["license"]["name"] for part in made["components"])
    assert made["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    references = {part["bom-ref"] for part in made["components"]} | {"pkg:pypi/syncline@0.1.0"}
    edges = {edge["ref"]: edge["dependsOn"] for edge in made["dependencies"]}
    assert edges.keys() == references
    assert references.issuperset(one for needs in edges.values() for one in needs)
    reached, new = set(), {"pkg:pypi/syncline@0.1.0"}
    while new:
        reached |= new
        new = {one for ref in new for one in edges[ref]} - reached
    assert reached == references  # nothing is in it that nothing needs


def test_an_environment_that_is_not_the_lock_is_told() -> None:
    with pytest.raises(GroundError, match=r"the lock says 0\.0\.1") as raised:
        sbom.of_environment([Pin("pydantic", "0.0.1", frozenset(), ())])
    assert raised.value.hint == "run make again"


def test_the_image_s_bill_holds_what_is_found_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S70: Python's and Debian's packages, with the hash of the wheel that was used."""
    status = "Package: libc6\nVersion: 2.36-9+deb12u1\nArchitecture: amd64\n\n"
    layer = [
        dist("a-b", "1.0", "License-Expression: MIT"),
        dist("syncline", "0.1.0"),
        entry("var/lib/dpkg/status.d/libc6", status.encode()),
        entry("opt/syncline/python-version", b"3.11.2\n"),
    ]
    wheel = tmp_path / "a_b-1.0.whl"
    wheel.write_bytes(b"wheel")
    digest = hashlib.sha256(b"wheel").hexdigest()
    monkeypatch.setattr(build, "pins", lambda: [Pin("a-b", "1.0", frozenset({digest, "1" * 64}), ("",))])
    image = ImageArchive(write(tmp_path / "image.tar", layer))
    made = json.loads(build.bill_of_image(SOURCE, image, [wheel]))
    parts: dict[str, Any] = {part["name"]: part for part in made["components"]}
    assert parts["libc6"]["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64"
    assert parts["python"]["version"] == "3.11.2"
    assert parts["a-b"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert parts["a-b"]["licenses"] == [{"license": {"name": "MIT"}}]
    assert made["metadata"]["component"]["hashes"][0]["content"] == image.identity.removeprefix("sha256:")


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        ({"License-Expression": "MIT", "License": "x"}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: BSD License", "License": "x"}, "BSD License"),
        ({"License": "Apache 2\nthe whole text"}, "Apache 2"),
        ({}, ""),
    ],
)
def test_licences_are_told_as_the_package_tells_them(lines: dict[str, str], licence: str) -> None:
    told = Message()
    for key, value in lines.items():
        told[key] = value
    assert sbom.licence_of(told) == licence
