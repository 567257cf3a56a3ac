"""Which helm is used, and that drift is found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.helm import __main__ as command
from deploy.helm import tool
from deploy.local.assets import Module
from deploy.local.errors import GroundError


def fake(folder: Path, said: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "helm"
    path.write_text(f"#!/bin/sh\necho {said}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders that were built instead of found."""
    folders: list[Path] = []

    def build_once(target: Path, modules: Sequence[Module], *_: object, **__: object) -> None:
        assert modules == [tool.MODULE]
        folders.append(target)
        fake(target, tool.VERSION)

    monkeypatch.setattr(tool, "build_once", build_once)
    return folders


@pytest.mark.parametrize("version", ["v4.3.1+g0123456", "v4.0.0"])
def test_the_helm_on_path_is_taken(tmp_path: Path, built: list[Path], version: str) -> None:
    helm = fake(tmp_path / "bin", version)
    assert tool.find_helm({"PATH": f"{tmp_path / 'bin'}:/bin", "HOME": str(tmp_path)}, print) == helm
    assert built == []


@pytest.mark.parametrize("version", ["v3.22.0", "v5.0.0", "nothing"])
def test_another_major_or_none_is_built_into_the_cache(tmp_path: Path, built: list[Path], version: str) -> None:
    fake(tmp_path / "bin", version)
    helm = tool.find_helm({"PATH": f"{tmp_path / 'bin'}:/bin", "HOME": str(tmp_path)}, print)
    assert [helm.parent] == built
    assert helm.parent.parent == tmp_path / ".cache" / "syncline"


def test_what_helm_says_is_the_cause(tmp_path: Path) -> None:
    path = fake(tmp_path, "no")
    path.write_text("#!/bin/sh\necho broken chart >&2\nexit 1\n")
    with pytest.raises(GroundError, match="helm template: broken chart"):
        tool.run(path, ["template", "x"])


def test_drift_is_found_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy that was edited, a manifest that is missing, and one that nothing renders any more."""
    monkeypatch.setattr(command, "REPOSITORY", tmp_path)
    monkeypatch.setattr(command, "MANIFESTS", tmp_path / "manifests")
    monkeypatch.setattr(command, "find_helm", lambda *_: tmp_path / "helm")
    monkeypatch.setattr(command, "copies", lambda: {tmp_path / "copy.yaml": "a\n"})
    monkeypatch.setattr(command, "manifests", lambda _: {tmp_path / "manifests" / "one.yaml": "b\n"})
    assert command.main(["--check"]) == 1
    assert "copy.yaml; run python -m deploy.helm" in capsys.readouterr().err
    assert command.main([]) == 0
    assert command.main(["--check"]) == 0
    (tmp_path / "manifests" / "old.yaml").write_text("c\n")
    assert command.main(["--check"]) == 1
    assert "manifests/old.yaml" in capsys.readouterr().err
    assert command.main([]) == 0
    assert not (tmp_path / "manifests" / "old.yaml").exists()
