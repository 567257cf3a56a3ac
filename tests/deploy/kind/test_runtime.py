"""The engine's runtime asks for no capability that root lacks, and touches nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.kind import runtime

SPEC = {
    "ociVersion": "1.0.2",
    "process": {"args": ["init"], "capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"], "effective": []}},
}


def status(held: int) -> str:
    return f"Name:\tpython\nCapPrm:\t0000000000000000\nCapEff:\t{held:016x}\nCapBnd:\t0000000000000000\n"


def test_root_with_everything_lacks_nothing() -> None:
    assert runtime.missing(status((1 << 41) - 1)) == set()


def test_what_is_not_held_is_named() -> None:
    assert runtime.missing("CapEff:\t000001fffeffffff") == {"CAP_SYS_RESOURCE"}


def test_only_what_is_lacking_is_taken_from_a_bundle() -> None:
    changed = runtime.without(json.loads(json.dumps(SPEC)), {"CAP_SYS_RESOURCE"})
    assert changed["process"]["capabilities"] == {"bounding": ["CAP_CHOWN"], "effective": []}
    assert changed["process"]["args"] == ["init"]


def test_a_process_without_capabilities_stays_as_it_is() -> None:
    assert runtime.without({"args": ["sh"]}, {"CAP_SYS_RESOURCE"}) == {"args": ["sh"]}


@pytest.mark.parametrize(
    ("arguments", "spec"),
    [
        (["--root", "/r", "create", "--bundle", "/b", "id"], "/b/config.json"),
        (["create", "--bundle=/b", "id"], "/b/config.json"),
        (["run", "id"], "config.json"),
        (["--log", "/l", "exec", "--process", "/p.json", "--detach", "id"], "/p.json"),
        (["exec", "-p", "/p.json", "id"], "/p.json"),
        (["exec", "id", "ls"], None),
        (["kill", "id", "9"], None),
        (["delete", "--force", "id"], None),
        ([], None),
    ],
)
def test_the_spec_of_a_call_is_found(arguments: list[str], spec: str | None) -> None:
    assert runtime.spec_of(arguments) == (Path(spec) if spec else None)


def test_it_becomes_runc_with_the_arguments_that_it_got(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(SPEC))
    runc = tmp_path / "bin" / "runc"
    runc.parent.mkdir()
    runc.write_text('#!/bin/sh\necho "$@"\n')
    runc.chmod(0o755)
    called = subprocess.run(
        [sys.executable, "-I", str(Path(runtime.__file__)), "create", "--bundle", str(bundle), "a b"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        env={**os.environ, "PATH": f"{runc.parent}:{os.environ['PATH']}"},
    )
    assert called.stdout == f"create --bundle {bundle} a b\n"
    assert json.loads((bundle / "config.json").read_text())["process"]["args"] == ["init"]
