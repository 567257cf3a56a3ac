"""What is inside, as CycloneDX 1.6 JSON: of the lock alone, or of a built image. Pure but for `of_environment`.

Equal input gives equal bytes: the serial number is made from the content and the time is that of the commit.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from deploy.image.archive import ImageArchive
from deploy.image.lock import Pin, canonical
from deploy.image.names import Source
from deploy.local.errors import GroundError

_DIST_INFO: Final = re.compile(r"^opt/syncline/(?:app|wheels)/[^/]+\.dist-info/METADATA$")
_PACKAGE: Final = re.compile(r"^var/lib/dpkg/status\.d/[^/]+$")
_SERIALS: Final = uuid.UUID("8c0b3ad2-6a1f-5d0e-9c61-4c2f6f1f2c11")  # of our documents
OURSELVES: Final = "syncline"


class Part(NamedTuple):
    """One component.

    Attributes:
        purl: package URL, also its reference in the document.
        licence: as the package says it, an SPDX expression or a name; "" where it says nothing.
        needs: purls.
    """

    name: str
    version: str
    purl: str
    licence: str = ""
    hashes: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()


def pypi(name: str, version: str) -> str:
    """The package URL of a Python package."""
    return f"pkg:pypi/{canonical(name)}@{quote(version)}"


def of_environment(pins: Iterable[Pin]) -> dict[str, Message]:
    """{name: metadata} of locked packages as they are installed beside us.

    Raises:
        GroundError: one is missing or of another version.
    """
    found: dict[str, Message] = {}
    for pin in pins:
        try:
            told: Any = metadata(pin.name)
        except PackageNotFoundError:
            told = {"Version": "none"}
        if told["Version"] != pin.version:
            raise GroundError(
                f"{pin.name} {told['Version']} is installed, the lock says {pin.version}", hint="run make again"
            )
        found[pin.name] = told
    return found


def of_image(image: ImageArchive) -> tuple[dict[str, Message], list[Message], str]:
    """Python packages, Debian packages, and the version of Python in an image."""
    python: dict[str, Message] = {}
    debian: list[Message] = []
    version = ""
    for file in image.files():
        if _DIST_INFO.match(file.info.name):
            told = BytesParser().parsebytes(file.read())
            python[canonical(told["Name"])] = told
        elif _PACKAGE.match(file.info.name):
            debian.append(BytesParser().parsebytes(file.read()))
        elif file.info.name == "opt/syncline/python-version":
            version = file.read().decode().strip()
    return python, debian, version


def python_parts(pins: Iterable[Pin], known: Mapping[str, Message]) -> list[Part]:
    """The locked packages, with the licences that their metadata names."""
    pins = list(pins)
    return [
        Part(
            pin.name,
            pin.version,
            pypi(pin.name, pin.version),
            licence_of(known[pin.name]),
            pin.hashes,
            tuple(sorted(pypi(other.name, other.version) for other in pins if pin.name in other.via)),
        )
        for pin in pins
    ]


def debian_parts(packages: Iterable[Message], machine: str) -> list[Part]:
    """Debian's packages whose files are in the image; their licences lie beside them in the image."""
    return [
        Part(
            told["Package"],
            told["Version"],
            f"pkg:deb/debian/{told['Package']}@{quote(told['Version'])}?arch={told['Architecture'] or machine}",
        )
        for told in packages
    ]


def licence_of(told: Message) -> str:
    """The SPDX expression if there is one, else the licence's name by its classifier or its first line."""
    if expression := told["License-Expression"]:
        return str(expression)
    names = [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or () if line.startswith("License :: ")]
    return names[0] if names else str(told["License"] or "").strip().partition("\n")[0][:100]


def document(source: Source, parts: Iterable[Part], *, direct: Iterable[str], image: str = "") -> str:
    """The bill of materials, JSON.

    Args:
        direct: purls of what the project itself needs.
        image: identity of the image that was looked into; "" for the lock alone.
    """
    own = pypi(OURSELVES, source.version)
    root: dict[str, Any] = {
        "type": "container" if image else "application",
        "bom-ref": own,
        "name": OURSELVES,
        "version": source.tag,
        "purl": own,
        "licenses": [{"expression": "Apache-2.0"}],
    }
    if image:
        root["hashes"] = [{"alg": "SHA-256", "content": image.removeprefix("sha256:")}]
    parts = sorted(parts, key=lambda part: part.purl)
    body: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(source.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": root,
        },
        "components": [_component(part) for part in parts],
        "dependencies": [
            {"ref": own, "dependsOn": sorted(direct)},
            *({"ref": part.purl, "dependsOn": list(part.needs)} for part in parts),
        ],
    }
    content = json.dumps(body, sort_keys=True)
    return json.dumps({"serialNumber": f"urn:uuid:{uuid.uuid5(_SERIALS, content)}"} | body, indent=2) + "\n"


def _component(part: Part) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "library",
        "bom-ref": part.purl,
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
    }
    if part.licence:
        made["licenses"] = [{"license": {"name": part.licence}}]
    if len(part.hashes) == 1:
        made["hashes"] = [{"alg": "SHA-256", "content": next(iter(part.hashes))}]
    return made
