"""What `make image` does: wheels, base, build, the same bytes for the same content, bill of materials, checks."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from deploy.image import base, sbom, scan, wheels
from deploy.image.archive import ImageArchive, normalise
from deploy.image.docker import docker, why_unusable
from deploy.image.lock import Pin, read_lock
from deploy.image.names import ROOT, Source, of_checkout
from deploy.local.build import Report, one_at_a_time
from deploy.local.errors import GroundError

FOLDER: Final = ROOT / "build" / "image"
# What the image is made from; a change elsewhere in the checkout does not make it another image.
INPUTS: Final = (
    *("Dockerfile", ".dockerignore", "LICENSE", "README.md", "pyproject.toml", "requirements.txt"),
    *("deploy/image", "status", "syncer", "tunneler"),
)


class Made(NamedTuple):
    """An image that was built, and what lies beside it."""

    source: Source
    image: ImageArchive
    sbom: Path


def source() -> Source:
    """What an image of this checkout would be made from. Raises GroundError."""
    return of_checkout(INPUTS)


def pins() -> list[Pin]:
    """What the image's lock says."""
    return list(read_lock((ROOT / "requirements.txt").read_text()))


def archive_of(what: Source) -> Path:
    """Where the image is put."""
    return FOLDER / f"syncline-{what.tag}.tar"


def make(wanted_base: str, environ: Mapping[str, str], report: Report, *, anew: bool = False) -> Made:
    """Build the image of this checkout, check it, and leave it in the container engine and in `build/image`.

    Two at once are safe: the second waits for the first.

    Args:
        wanted_base: see `base.choose`.
        anew: use nothing that an earlier build left in the engine.
    Raises:
        GroundError: it cannot be built here, or what came out is not fit to be used.
    """
    if why := why_unusable():
        raise GroundError(f"no image can be built here: {why}", hint="start docker, or set DOCKER_HOST to where it is")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(FOLDER / "lock", report):
        return _make(wanted_base, environ, report, anew=anew)


def _make(wanted_base: str, environ: Mapping[str, str], report: Report, *, anew: bool) -> Made:
    what = source()
    machine = docker("version", "--format", "{{.Server.Arch}}")
    if machine not in wheels.MACHINES:
        raise GroundError(f"no wheels are known for {machine}", hint=f"build on {', '.join(wheels.MACHINES)}")
    report(f"wheels of the lock for {machine}")
    held = wheels.fill(machine)
    used = base.choose(wanted_base, environ, report)
    report(f"building {what.reference} from {used}")
    arguments = {"BASE": used, "VERSION": what.version, "REVISION": what.revision}
    docker(
        "build",
        "--quiet",
        *(["--no-cache"] if anew else []),
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        f"--tag={what.reference}",
        str(ROOT),
    )
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        raw = Path(folder, "raw.tar")
        docker("save", f"--output={raw}", what.reference)
        image = normalise(raw, archive_of(what), reference=what.reference, seconds=what.seconds)
    docker("load", "--quiet", f"--input={image.path}")
    for earlier in FOLDER.glob("syncline-*"):
        if not earlier.name.startswith(image.path.stem + "."):
            earlier.unlink()
    listed = image.path.with_suffix(".cdx.json")
    listed.write_text(bill_of_image(what, image, held))
    if wrong := scan.findings(image, pins()):
        raise GroundError(f"{what.reference} is not fit to be used:\n" + "\n".join(wrong[:20]))
    return Made(what, image, listed)


def bill_of_lock(what: Source) -> str:
    """The bill of materials of the lock, on any machine the same. Raises GroundError."""
    locked = pins()
    parts = sbom.python_parts(locked, sbom.of_environment(locked))
    return sbom.document(what, parts, direct=[part.purl for part in _direct(parts, locked)])


def bill_of_image(what: Source, image: ImageArchive, held: list[Path]) -> str:
    """The bill of materials of an image: what is found in it, with the hashes of the wheels that it was made from."""
    python, debian, version = sbom.of_image(image)
    digests = {hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in held}
    locked = [pin._replace(hashes=pin.hashes & digests) for pin in pins() if pin.name in python]
    parts = sbom.python_parts(locked, python)
    parts += sbom.debian_parts(debian, image.config["architecture"])
    direct = [part.purl for part in _direct(parts, locked)]
    parts.append(sbom.Part("python", version, f"pkg:generic/python@{version}", "PSF-2.0"))
    return sbom.document(what, parts, direct=[*direct, parts[-1].purl], image=image.identity)


def _direct(parts: list[sbom.Part], locked: list[Pin]) -> list[sbom.Part]:
    names = {pin.name for pin in locked if "" in pin.via}
    return [part for part in parts if part.name in names and part.purl.startswith("pkg:pypi/")]


def summary(made: Made) -> str:
    """What a person wants to know of it."""
    sizes = [size / (1 << 20) for size in made.image.compressed_sizes()]
    components = len(json.loads(made.sbom.read_text())["components"])
    return "\n".join(
        (
            f"{made.source.reference}",
            f"  image ID    {made.image.identity}",
            f"  compressed  {sum(sizes):.1f} MiB ({' + '.join(f'{size:.1f}' for size in sizes)})",
            f"  archive     {made.image.path.relative_to(ROOT)}",
            f"  contents    {made.sbom.relative_to(ROOT)} ({components} components)",
        )
    )
