"""What the Dockerfile promises, and one build of it where that is possible."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path

import pytest

from deploy.image import base, build, wheels
from deploy.image.archive import ImageArchive
from deploy.image.docker import docker
from tests.support.image import BARE, image_base

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
STAGES = re.split(r"(?m)^(?=FROM )", TEXT)[1:]


def test_the_base_is_pinned_by_digest_and_is_of_the_wheels_python() -> None:
    """S70: a tag may be moved, a digest not."""
    name, _, digest = base.pinned().partition("@sha256:")
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
    assert f"/python:{wheels.PYTHON}-slim-{base.SUITE}" in name
    assert re.findall(r"(?m)^FROM (\S+)", TEXT) == ["${BASE}", "scratch"]


def test_what_runs_is_a_numbered_user_and_no_shell() -> None:
    """S71: and nothing is run in the last stage, for nothing is there to run it with."""
    last = STAGES[-1]
    assert re.findall(r"(?m)^USER (.+)$", last) == ["65532:65532"]
    assert re.findall(r"(?m)^ENTRYPOINT (.+)$", last) == ['["syncline"]']
    assert not re.search(r"(?m)^(RUN|ADD|CMD|SHELL|VOLUME)\b", last)
    assert "TMPDIR=/dev/shm" in last


def test_only_hashed_wheels_are_installed() -> None:
    """S70: also with a network."""
    (install,) = [line for line in TEXT.splitlines() if "pip install" in line]
    assert "PIP_REQUIRE_HASHES=1" in install
    assert "PIP_ONLY_BINARY=:all:" in install
    (own,) = [line for line in TEXT.splitlines() if "pip wheel" in line]
    assert "--no-index" in own
    assert "--no-build-isolation" in own


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source.rstrip("*")
        for line in TEXT.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert allowed == copied
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    inputs = set(build.INPUTS)
    assert all(
        source in inputs or any(source.startswith(f"{one}/") for one in inputs)
        for source in copied - {"build/wheelhouse"}
    )


def test_the_stage_s_program_needs_the_standard_library_alone() -> None:
    tree = ast.parse((ROOT / "deploy" / "image" / "gather.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.real
@pytest.mark.timeout(900)
def test_the_image_builds_is_the_same_again_and_runs_read_only_without_rights() -> None:
    """S70, S71: as a numbered user, without capabilities, with a root file system that cannot be written to."""
    used = image_base()
    made = build.make(used, os.environ, print)
    again = build.make(used, os.environ, print, anew=True)
    assert again.image.identity == made.image.identity
    assert docker("image", "inspect", "--format", "{{.Id}}", made.source.reference) == made.image.identity
    assert ImageArchive(made.image.path).references == (made.source.reference,)
    bare = ("run", "--rm", "--network=none", *BARE)
    assert docker(*bare, made.source.reference, "--version") == f"syncline {made.source.version}"
    assert docker(*bare, made.source.reference, "crds").count("kind: CustomResourceDefinition") == 4
    assert "operator" in docker(*bare, "--user=1000770000:0", made.source.reference, "--help")
