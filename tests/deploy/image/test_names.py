"""The tag says what is inside, and says it again for the same content."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy.image.names import Source, of_checkout
from deploy.local.errors import GroundError

COMMIT = "1a2b3c4d5e6f" + "0" * 28


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example", *arguments]
    environment = {"GIT_COMMITTER_DATE": "1700000000 +0000", "PATH": "/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("x")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    return tmp_path


def test_the_tag_is_version_and_commit() -> None:
    assert Source("0.1.0", COMMIT, 0).reference == "syncline:0.1.0-1a2b3c4d5e6f"
    assert Source("0.1.0rc1+local", COMMIT, 0).tag == "0.1.0rc1-local-1a2b3c4d5e6f"
    assert Source("0.1.0", COMMIT, 0).revision == COMMIT


def test_a_clean_checkout_gives_the_commit_and_its_time(checkout: Path) -> None:
    found = of_checkout(("a",), checkout)
    assert found == Source("1.2.3", git(checkout, "rev-parse", "HEAD"), 1_700_000_000)
    assert "dirty" not in found.tag


def test_changes_are_in_the_tag_and_equal_changes_give_an_equal_one(checkout: Path) -> None:
    tags = []
    for content in ("y", "z", "y"):
        (checkout / "a" / "x").write_text(content)
        tags.append(of_checkout(("a",), checkout).tag)
    assert all("-dirty-" in tag for tag in tags)
    assert tags[0] == tags[2] != tags[1]
    assert of_checkout(("a",), checkout).revision.endswith("-dirty")


def test_new_files_count_and_files_elsewhere_do_not(checkout: Path) -> None:
    (checkout / "notes").write_text("x")
    assert "dirty" not in of_checkout(("a",), checkout).tag
    (checkout / "a" / "new").write_text("x")
    assert "dirty" in of_checkout(("a",), checkout).tag


def test_without_a_commit_there_is_no_tag(tmp_path: Path) -> None:
    with pytest.raises(GroundError, match="no git checkout") as raised:
        of_checkout((), tmp_path)
    assert "docker build ." in raised.value.hint
